"""``keyturn agent``: the program that keeps a computer's licenses by itself, and answers programs that ask.

Keeps: which store and which socket an agent has, and its start. Leaves to others: the loop (``agent_loop``), what a turn
does (``agent_turn``), the unit (``agent_install``).

- Root's agent keeps the system's store, a user's agent that user's. With ``--home`` there is a socket only if it is named.
- At its start root's agent leaves what only root can read of the hardware, blinded, where every account finds it; so a
  copy that root activated is the same copy for everybody.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from keyturn.client import agent_turn
from keyturn.client.agent_turn import Report
from keyturn.client.context import machine_of
from keyturn.client.homes import SYSTEM_AGENT, open_homes
from keyturn.core.errors import KeyturnError
from keyturn.edge import agent_socket, files, probes
from keyturn.edge.probes import Computer, agentfile
from keyturn.edge.terminal import Call, Verbs, pass_call
from keyturn.edge.vault import Vault


@click.group(
    cls=Verbs,
    lazy={
        "install": "keyturn.client.agent_install:install",
        "enroll": "keyturn.client.managed_cli:enroll",
        "check-in": "keyturn.client.managed_cli:check_in",
    },
)
def agent() -> None:
    """The agent: it activates and renews by itself, notices changed hardware, and answers programs that ask."""


@agent.command("run")
@click.option("--socket", "at", metavar="PATH", help="Answer programs at this Unix socket.")
@click.option("--once", is_flag=True, help="Take one turn and end: for a timer of your own.")
@pass_call
def run(call: Call, at: str | None, once: bool) -> None:
    """Keep the licenses of this computer (as root), or of this user, until SIGTERM.

    It sends nothing that was not agreed to, and works on without a network.
    """
    if sys.platform != "linux":
        raise KeyturnError("platform_unsupported", f"there is no agent for {sys.platform} yet")
    from keyturn.client.agent_loop import Agent, only_one

    vault = store(call)
    with only_one(vault):
        if once:
            _once(call, vault)
            return
        at = at or default_socket(call)
        if vault.agent is not None and files.privileged():
            leave_anchors(call.say, read=machine_of(call).read)

        def ready() -> None:
            asked = f"programs ask at {at}" if at else "no program can ask, because no socket was named"
            said = {"event": "ready", "socket": at, "home": vault.home, "pid": os.getpid()}
            _print(call, said, f"The agent keeps {vault.home}; {asked}.")

        def turned(reports: Mapping[str, Report], seconds: int) -> None:
            if call.json:
                _print(call, {"event": "turn", "products": _rows(reports), "next_in": seconds}, "")

        Agent(vault, lambda: machine_of(call), at=at, say=call.say, turned=turned).run(ready)


def store(call: Call) -> Vault:
    """The one store that this account's agent keeps."""
    return open_homes(call.home, None, call.environ).write


def default_socket(call: Call) -> str | None:
    """Where the agent listens if no path is named. Raises: KeyturnError ``usage`` for a user without a run-time folder."""
    if call.home or "KEYTURN_HOME" in call.environ:
        return None
    if files.privileged():
        return SYSTEM_AGENT
    found = agent_socket.user_socket(call.environ)
    if found is None:
        raise KeyturnError("usage", "there is no XDG_RUNTIME_DIR to listen in", remedy="Name a socket: --socket PATH.")
    return found


def leave_anchors(
    say: Callable[[str], None], path: str = f"/{agentfile.PATH}", read: Callable[..., Computer] = probes.read
) -> None:
    """Leave the blinded anchors for unprivileged runs. A run-time folder that cannot be written is said, and no more."""
    try:
        text = agentfile.agent_text(read(facts=False).reading)
        files.open_folders(os.path.dirname(path), os.path.dirname(path))
        files.write(path, text.encode())
    except KeyturnError as error:
        say(f"What only root can read of the hardware could not be left for others: {error.detail}")


def _once(call: Call, vault: Vault) -> None:
    found = _rows(agent_turn.turn(vault, machine_of(call)))
    agent_turn.check_in(vault, machine_of(call))
    words = {True: "contacted", False: "nothing to ask"}
    lines = [f"{row['shelf']}: {row['code'] or words[bool(row['tried'])]}" for row in found]
    call.emit({"products": found}, "\n".join(lines) or "No product is added on this computer.")


def _rows(reports: Mapping[str, Report]) -> list[dict[str, Any]]:
    return [
        {"shelf": name, "wants": one.wants, "tried": one.tried, "code": one.code, "retry_after": one.retry_after}
        for name, one in sorted(reports.items())
    ]


def _print(call: Call, data: Mapping[str, Any], text: str) -> None:
    """One line at once: whoever started the agent waits for it."""
    print(json.dumps(data) if call.json else text, flush=True)
