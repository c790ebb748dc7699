"""``keyturn agent install``: the agent as a service of this computer, by a sandboxed systemd unit.

Keeps: the unit's file and what an administrator does beside it. Leaves to others: the unit's text (``units/``), the agent.

- What is right already is left alone: a second run changes nothing and says so.
- A unit that reads otherwise may be somebody's work: it is replaced after a yes.
- Starting is the administrator's: the line is printed and never run. ``--remove`` stops and forgets what this command wrote.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator
from importlib import resources

import click

from keyturn.core.errors import KeyturnError
from keyturn.edge import files, system_program
from keyturn.edge.terminal import Call, Verb, pass_call

UNIT = "keyturn-agent.service"
FOLDER = "etc/systemd/system"
RUNS = "/run/systemd/system"  # It is there while systemd runs this computer (sd_booted(3)).
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev")  # noqa: S108 - names of what the unit cannot see
_PLAIN = re.compile(r"/[A-Za-z0-9._/+-]*", re.ASCII)  # Paths that a unit file takes as they are.

Step = tuple[str, Callable[[], None]]  # What is done, as an administrator would write it; and doing it.


def unit(program: str) -> str:
    """The unit's text for a program. Raises: KeyturnError ``usage`` for a path that a unit does not take."""
    if not _PLAIN.fullmatch(program) or ".." in program.split("/"):
        raise KeyturnError("usage", f"{program} cannot stand in a unit: an absolute path without spaces or signs")
    return (resources.files("keyturn.client") / "units" / UNIT).read_text("utf-8").replace("@PROGRAM@", program)


def writing(path: str, text: str, *, running: bool) -> Iterator[Step]:
    """What is missing. None: all is there."""
    if files.read(path) != text.encode():
        yield f"write {path}", lambda: files.write(path, text.encode())
        if running:
            yield "systemctl daemon-reload", lambda: system_program.call(["systemctl", "daemon-reload"])


def removing(path: str, *, running: bool) -> Iterator[Step]:
    """What is there and goes. The store, its licenses and its keys stay."""
    if files.read(path) is None:
        return
    if running:
        yield f"systemctl disable --now {UNIT}", lambda: system_program.call(["systemctl", "disable", "--now", UNIT])
    yield f"remove {path}", lambda: files.remove(path)
    if running:
        yield "systemctl daemon-reload", lambda: system_program.call(["systemctl", "daemon-reload"])


@click.command("install", cls=Verb)
@click.option("--program", metavar="FILE", help="The program as the unit calls it (default: this one).")
@click.option("--root", metavar="DIR", default="/", help="Install into the system below this folder, not the running one.")
@click.option("--print", "only_print", is_flag=True, help="Print the unit and change nothing.")
@click.option("--remove", is_flag=True, help="Stop the agent and remove its unit; licenses and keys stay.")
@pass_call
def install(call: Call, program: str | None, root: str, only_print: bool, remove: bool) -> None:
    """Make the agent a service of this computer: a systemd unit with a sandbox. Starting it is yours."""
    text = unit(program or _this_program())
    path = os.path.join(root, FOLDER, UNIT)
    if only_print:
        call.emit({"changed": False, "files": [{"path": path, "mode": "0644", "content": text}]}, text.rstrip("\n"))
        return
    running = os.path.abspath(root) == "/" and os.path.isdir(RUNS)
    if os.path.abspath(root) == "/" and not remove:
        _check(text.partition("ExecStart=")[2].split(" ")[0])
    todo = list(removing(path, running=running) if remove else writing(path, text, running=running))
    if todo and not files.writable(path):
        raise KeyturnError("permission_denied", f"{path} is root's", remedy="Repeat it as root: sudo keyturn agent install.")
    there = files.read(path)
    if todo and not remove and there is not None:
        call.confirm(f"{path} reads otherwise, and would be replaced (--print shows the new one).")
    for _, do in todo:
        do()
    done = [step for step, _ in todo]
    then = [] if remove else [f"systemctl enable --now {UNIT.removesuffix('.service')}"]
    lines = ["Done:", *(f"  {step}" for step in done)] if done else ["Nothing had to be changed."]
    call.emit({"changed": bool(done), "steps": done, "next": then}, "\n".join([*lines, *(f"Then: {line}" for line in then)]))


def _this_program() -> str:
    """The program that runs: the script beside this Python, or the one file of a bundle that needs none."""
    return sys.executable if getattr(sys, "frozen", False) else os.path.join(sysconfig.get_path("scripts"), "keyturn")


def _check(program: str) -> None:
    """Refuse a program that the unit's sandbox hides. Raises: KeyturnError ``usage``."""
    for path in (program, os.path.realpath(program)):
        if any(path == place or path.startswith(f"{place}/") for place in HIDDEN) or not os.path.exists(path):
            raise KeyturnError(
                "usage", f"the agent could not be started from {path}",
                remedy="Install Keyturn where a service of the system finds it, for example: python3 -m venv /opt/keyturn.",
            )  # fmt: skip
