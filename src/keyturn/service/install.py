"""``keyturn service install``: an account, a home and a systemd unit, so that the service starts with its computer.

Keeps: what a service of the system consists of, and what its administrator does beside it. Leaves to others: accounts
(``edge.accounts``), the unit's text (``units/``), the service itself (``home``, ``cli``).

- What is right already is left alone: a second run changes nothing and says so.
- A unit that is there and reads otherwise may be somebody's work: the difference is shown, and it is replaced after a yes.
- Firewall, names and starting are the administrator's: their lines are printed and never run.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
import sysconfig
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import click

from keyturn.core.errors import KeyturnError
from keyturn.edge import accounts, files
from keyturn.edge.terminal import Call, pass_call
from keyturn.service import home as homes
from keyturn.service.context import SYSTEM_HOME, ServiceVerb, address, home_path

UNIT = "keyturn-service.service"
RUNS = Path("/run/systemd/system")  # It is there while systemd runs this computer (sd_booted(3)).
# What the unit's sandbox hides or replaces: nothing that the service needs can lie below these.
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev", "/proc", "/sys")  # noqa: S108 - names, not used
LOOPBACK = ("127.0.0.1", "::1", "localhost")
# Both families where the kernel has them: `::` takes IPv4 too.
EVERYWHERE = "[::]" if os.path.exists("/proc/net/if_inet6") else "0.0.0.0"  # noqa: S104 - a service of the system
_PLAIN = re.compile(r"/[A-Za-z0-9._/+-]*", re.ASCII)  # Paths that a unit file takes as they are.

Step = tuple[str, Callable[[], None]]  # What is done, as an administrator would write it; and doing it.


class Plan(NamedTuple):
    """What is to be there. ``home`` and ``program`` are as the running service sees them, below ``root``."""

    root: Path
    user: str
    home: Path
    program: Path
    listen: str
    probe_listen: str

    @property
    def place(self) -> Path:
        """Where the home lies as this command sees it."""
        return self.root / self.home.relative_to("/")

    @property
    def unit_file(self) -> Path:
        return self.root / "etc" / "systemd" / "system" / UNIT

    def ports(self, *, reachable: bool = False) -> list[int]:
        """The ports listened on; ``reachable``: those that other computers can reach."""
        pairs = [address(text) for text in (self.listen, self.probe_listen) if text != "none"]
        return [port for host, port in pairs if not (reachable and host in LOOPBACK)]

    def unit(self) -> str:
        """The unit's text."""
        text = (resources.files("keyturn.service") / "units" / UNIT).read_text("utf-8")
        low = any(port < 1024 for port in self.ports())
        values = {
            "HOME": str(self.home), "PROGRAM": str(self.program), "USER": self.user, "LISTEN": self.listen,
            "PROBE": self.probe_listen, "CAPABILITIES": "CAP_NET_BIND_SERVICE" if low else "",
        }  # fmt: skip
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        return text


def steps(plan: Plan) -> Iterator[Step]:
    """What is missing, in order: the account, its home, the unit, and systemd's knowledge of it. None: all is there.

    Raises: KeyturnError ``usage`` for an account that may not run it, ``permission_denied``.
    """
    account = accounts.find(plan.user, plan.root)
    if account is not None and account.uid == 0:
        raise KeyturnError("usage", f"the service is not run as {plan.user}: that is root")
    if account is None:
        create = accounts.creation(plan.user, plan.home, plan.root)
        yield shlex.join(create), lambda: accounts.call(create)
    owner = accounts.owner(plan.place)
    if owner is None:
        yield f"install -d -m 0700 -o {plan.user} -g {plan.user} {plan.place}", lambda: _make_home(plan)
    elif account is None or owner != account.uid:
        yield f"chown -R {plan.user}:{plan.user} {plan.place} (but its root/)", lambda: _give_home(plan)
    if files.read(plan.unit_file) != plan.unit().encode():
        yield f"write {plan.unit_file}", lambda: files.write(plan.unit_file, plan.unit().encode())
        if plan.root == Path("/") and RUNS.is_dir():
            reload = ["systemctl", "daemon-reload"]
            yield shlex.join(reload), lambda: accounts.call(reload)


def _make_home(plan: Plan) -> None:
    plan.place.mkdir(parents=True, mode=0o755, exist_ok=True)
    _give_home(plan)


def _give_home(plan: Plan) -> None:
    account = accounts.find(plan.user, plan.root)
    if account is None:
        raise KeyturnError("program_failed", f"useradd made no account {plan.user}")
    accounts.hand_over(plan.place, account.uid, account.gid, but=("root",))
    plan.place.chmod(0o700)


def consequences(plan: Plan) -> Iterator[tuple[str, str]]:
    """What would be lost, each as a sentence and what is shown before it."""
    there = files.read(plan.unit_file)
    if there is not None and there != plan.unit().encode():
        old, new = there.decode("utf-8", "replace").splitlines(), plan.unit().splitlines()
        shown = [*difflib.unified_diff(old, new, "as it is", "as it would be", lineterm="", n=0)]
        lost = sum(line.startswith("-") for line in shown[2:])
        yield f"{plan.unit_file} reads otherwise: {lost} lines of it would be replaced.", "\n".join(shown)
    owner, account = accounts.owner(plan.place), accounts.find(plan.user, plan.root)
    if owner and (account is None or owner != account.uid):
        yield f"{plan.place} belongs to the account {owner} and would belong to {plan.user}.", ""


def firewall(ports: list[int]) -> list[str]:
    """The lines that let others in, for nftables, ufw and firewalld."""
    if not ports:
        return []
    listed = [str(port) for port in ports]
    return [
        f"nft add rule inet filter input tcp dport '{{ {', '.join(listed)} }}' accept",
        f"ufw allow {','.join(listed)}/tcp",
        f"firewall-cmd --permanent {' '.join(f'--add-port={port}/tcp' for port in listed)} && firewall-cmd --reload",
    ]


def remaining(plan: Plan) -> list[str]:
    """What is left for the administrator, in order: commands and, where there is none, a sentence."""
    lines = []
    if plan.ports(reachable=True):
        lines.append("Let the service's name point to this computer (A and AAAA records).")
    if not os.path.exists(homes.settings_file(plan.place)):
        named = "" if plan.home == SYSTEM_HOME else f" --home {plan.home}"
        port = plan.ports()[0]
        url = "https://NAME" + ("" if port == 443 else f":{port}")
        probe = "none"
        if plan.probe_listen != "none":
            port = plan.ports()[1]
            probe = "http://NAME" + ("" if port == 80 else f":{port}") + "/probe"
        lines.append(f"keyturn service init{named} --publisher PUBLISHER --url {url} --probe-url {probe}")
    lines.append(f"systemctl enable --now {UNIT.removesuffix('.service')}")
    return lines


def check(plan: Plan) -> None:
    """Refuse what could not run. Raises: KeyturnError ``usage`` for paths that a unit does not take or its sandbox hides.

    Of a system that is being put together below another root, the program's place cannot be judged.
    """
    for path in (plan.home, plan.program):
        if not _PLAIN.fullmatch(str(path)) or ".." in path.parts:
            raise KeyturnError("usage", f"{path} cannot stand in a unit: an absolute path without spaces or signs")
    if 0 in plan.ports():
        raise KeyturnError("usage", "a service of the system listens on a port that is known: 0 is any that is free")
    if any(plan.home.is_relative_to(place) for place in HIDDEN):
        raise KeyturnError(
            "usage", f"the service may not see {plan.home}: choose a --home outside of {', '.join(HIDDEN)}"
        )
    if plan.root != Path("/"):
        return
    for path in (plan.program, plan.program.resolve(), Path(sys.executable).resolve(), Path(__file__).resolve()):
        hidden = any(path.is_relative_to(place) for place in HIDDEN)
        if hidden or not all(os.stat(place).st_mode & 0o001 for place in path.parents):
            raise KeyturnError(
                "usage", f"the service's account could not reach {path}",
                remedy="Install Keyturn where every account may look, for example: python3 -m venv /opt/keyturn.",
            )  # fmt: skip


@click.command(cls=ServiceVerb)
@click.option("--user-name", default="keyturn", show_default=True, metavar="NAME", help="The account it runs as.")
@click.option("--listen", metavar="HOST:PORT", help="HTTPS (default: port 443 of every address).")
@click.option("--probe-listen", metavar="HOST:PORT", help="The probe, or none (default: port 80 of every address).")
@click.option("--program", metavar="FILE", help="The program as the unit calls it (default: this one).")
@click.option("--root", metavar="DIR", help="Install into the system below this folder, not into the running one.")
@click.option("--dry-run", is_flag=True, help="Show everything that would be done and written; change nothing.")
@pass_call
def install(
    call: Call,
    user_name: str,
    listen: str | None,
    probe_listen: str | None,
    program: str | None,
    root: str | None,
    dry_run: bool,
) -> None:
    """Make it a service of this computer: an account, a home, a systemd unit with a sandbox. The firewall is yours."""
    at_root = os.geteuid() == 0
    home = home_path(call)
    if not (at_root or call.home or "KEYTURN_HOME" in call.environ):
        home = SYSTEM_HOME  # A dry run by somebody else shows what root would do.
    named = Path(program) if program else Path(sysconfig.get_path("scripts")) / "keyturn"
    plan = Plan(
        Path(root or "/").resolve(), user_name, home, named,
        listen or f"{EVERYWHERE}:443", probe_listen or f"{EVERYWHERE}:80",
    )  # fmt: skip
    check(plan)
    todo = list(steps(plan))
    if not dry_run and todo:
        if not at_root:
            raise KeyturnError(
                "permission_denied",
                "accounts and units are made by root",
                remedy=f"sudo {plan.program} service install",
            )
        for sentence, shown in consequences(plan):
            if shown:
                call.say(shown)
            call.confirm(sentence)
        for _, do in todo:
            do()
    _report(call, plan, [text for text, _ in todo], dry_run=dry_run)


def _report(call: Call, plan: Plan, done: list[str], *, dry_run: bool) -> None:
    lines, left = firewall(plan.ports(reachable=True)), remaining(plan)
    data = {
        "changed": bool(done) and not dry_run, "dry_run": dry_run, "steps": done, "user": plan.user,
        "home": str(plan.home), "ports": plan.ports(), "firewall": lines, "next": left,
        "files": [{"path": str(plan.unit_file), "mode": "0644", "content": plan.unit()}],
    }  # fmt: skip
    head = "Would do:" if dry_run else "Done:"
    text = [head, *(f"  {step}" for step in done)] if done else ["Everything is there already; nothing was changed."]
    if dry_run:
        text += ["", f"{plan.unit_file} would read:", *(f"  {line}".rstrip() for line in plan.unit().splitlines())]
    if lines:
        text += ["", "Let others in, by the line for your firewall:", *(f"  {line}" for line in lines)]
    call.emit(data, "\n".join([*text, "", "Then:", *(f"  {line}" for line in left)]))
