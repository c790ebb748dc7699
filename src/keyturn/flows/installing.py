"""A server of Keyturn as a service of its computer: an account, a home and a systemd unit, so that it starts with the computer.

Keeps: what such a service consists of, and what its administrator does beside it. Leaves to others: accounts
(``edge.accounts``), the unit's text (``units/``), the programs themselves; which server it is, each says of itself.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from keyturn.core.errors import KeyturnError
from keyturn.edge import accounts, files
from keyturn.edge.terminal import Call, address

RUNS = Path("/run/systemd/system")  # It is there while systemd runs this computer (sd_booted(3)).
# What the unit's sandbox hides or replaces: nothing that a server needs can lie below these.
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev", "/proc", "/sys")  # noqa: S108 - names, not used
LOOPBACK = ("127.0.0.1", "::1", "localhost")
# Both families where the kernel has them: `::` takes IPv4 too.
EVERYWHERE = "[::]" if os.path.exists("/proc/net/if_inet6") else "0.0.0.0"  # noqa: S104 - a service of the system
_UNIT = "keyturn-server.service"
_PLAIN = re.compile(r"/[A-Za-z0-9._/+-]*", re.ASCII)  # Paths that a unit file takes as they are.

Step = tuple[str, Callable[[], None]]  # What is done, as an administrator would write it; and doing it.
F = TypeVar("F", bound=Callable[..., Any])


class Server(NamedTuple):
    """Which server: ``keyturn NAME``, with ``NAME.toml`` in its home. ``kept`` are folders of the home that stay root's, and that
    the running server never sees.
    """

    name: str
    kept: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        return f"keyturn-{self.name}.service"

    @property
    def settings(self) -> str:
        return f"{self.name}.toml"

    @property
    def system_home(self) -> Path:
        return Path(f"/var/lib/keyturn-{self.name}")


class Plan(NamedTuple):
    """What is to be there. ``home`` and ``program`` are as the running server sees them, below ``root``; ``listen`` are the
    options of ``run`` that take HOST:PORT (or none).
    """

    server: Server
    root: Path
    user: str
    home: Path
    program: Path
    listen: Mapping[str, str]

    @property
    def place(self) -> Path:
        """Where the home lies as this command sees it."""
        return self.root / self.home.relative_to("/")

    @property
    def unit_file(self) -> Path:
        return self.root / "etc" / "systemd" / "system" / self.server.unit

    def ports(self, *, reachable: bool = False) -> list[int]:
        """The ports listened on; ``reachable``: those that other computers can reach."""
        pairs = [address(text) for text in self.listen.values() if text != "none"]
        return [port for host, port in pairs if not (reachable and host in LOOPBACK)]

    def unit(self) -> str:
        """The unit's text."""
        text = (resources.files("keyturn.flows") / "units" / _UNIT).read_text("utf-8")
        low = any(port < 1024 for port in self.ports())
        values = {
            "NAME": self.server.name, "HOME": str(self.home), "PROGRAM": str(self.program), "USER": self.user,
            "LISTEN": " ".join(f"{option} {place}" for option, place in self.listen.items()),
            "KEPT": " ".join(f"-{self.home}/{name}" for name in self.server.kept),
            "CAPABILITIES": "CAP_NET_BIND_SERVICE" if low else "",
        }  # fmt: skip
        for name, value in values.items():
            text = text.replace(f"@{name}@", value)
        return text


def options(listen: str) -> Callable[[F], F]:
    """The options that every ``install`` has; ``listen`` is the help of that one."""
    told: Sequence[tuple[str, Mapping[str, Any]]] = (
        ("--user-name", {"default": "keyturn", "show_default": True, "metavar": "NAME", "help": "The account it runs as."}),
        ("--listen", {"metavar": "HOST:PORT", "help": listen}),
        ("--program", {"metavar": "FILE", "help": "The program as the unit calls it (default: this one)."}),
        ("--root", {"metavar": "DIR", "help": "Install into the system below this folder, not into the running one."}),
        ("--dry-run", {"is_flag": True, "help": "Show everything that would be done and written; change nothing."}),
    )

    def add(verb: F) -> F:
        for name, values in reversed(told):
            verb = click.option(name, **values)(verb)
        return verb

    return add


def planned(
    call: Call, server: Server, home: Path, *, user: str, program: str | None, root: str | None, listen: Mapping[str, str]
) -> Plan:
    """The plan of a command line. ``home`` is where the server's verbs would work. Raises: as :func:`check`."""
    if not (os.geteuid() == 0 or call.home or "KEYTURN_HOME" in call.environ):
        home = server.system_home  # A dry run by somebody else shows what root would do.
    named = Path(program) if program else Path(sysconfig.get_path("scripts")) / "keyturn"
    plan = Plan(server, Path(root or "/").resolve(), user, home, named, listen)
    check(plan)
    return plan


def carry_out(call: Call, plan: Plan, remaining: Callable[[Plan], Iterator[str]], *, dry_run: bool) -> None:
    """Do what is missing, after a yes for what would be lost, and say what is left (``remaining``).

    Raises: KeyturnError ``permission_denied`` for who is not root, ``confirmation_required``, and those of :func:`steps`.
    """
    todo = list(steps(plan))
    if not dry_run and todo:
        if os.geteuid() != 0:
            raise KeyturnError(
                "permission_denied", "accounts and units are made by root",
                remedy=f"sudo {plan.program} {plan.server.name} install",
            )  # fmt: skip
        for sentence, shown in consequences(plan):
            if shown:
                call.say(shown)
            call.confirm(sentence)
        for _, do in todo:
            do()
    _report(call, plan, [text for text, _ in todo], [*remaining(plan), _start(plan)], dry_run=dry_run)


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
        but = "".join(f" (but its {name}/)" for name in plan.server.kept)
        yield f"chown -R {plan.user}:{plan.user} {plan.place}{but}", lambda: _give_home(plan)
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
    accounts.hand_over(plan.place, account.uid, account.gid, but=plan.server.kept)
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


def firewall(ports: Sequence[int]) -> list[str]:
    """The lines that let others in, for nftables, ufw and firewalld."""
    if not ports:
        return []
    listed = [str(port) for port in ports]
    return [
        f"nft add rule inet filter input tcp dport '{{ {', '.join(listed)} }}' accept",
        f"ufw allow {','.join(listed)}/tcp",
        f"firewall-cmd --permanent {' '.join(f'--add-port={port}/tcp' for port in listed)} && firewall-cmd --reload",
    ]


def at_home(plan: Plan) -> str:
    """The option that names the home, if its verbs would not find it by themselves."""
    return "" if plan.home == plan.server.system_home else f" --home {plan.home}"


def is_new(plan: Plan) -> bool:
    """Whether nothing was initialised in the home yet."""
    return not os.path.exists(plan.place / plan.server.settings)


def _start(plan: Plan) -> str:
    return f"systemctl enable --now {plan.server.unit.removesuffix('.service')}"


def _report(call: Call, plan: Plan, done: list[str], left: list[str], *, dry_run: bool) -> None:
    lines = firewall(plan.ports(reachable=True))
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
