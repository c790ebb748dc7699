"""``keyturn agent enroll`` and ``keyturn agent check-in``: this computer and its organization's fleet manager."""

from __future__ import annotations

import click

from keyturn.client import managed
from keyturn.client.agent import store
from keyturn.client.cli import read_file
from keyturn.client.context import machine_of
from keyturn.client.homes import Homes
from keyturn.core.errors import KeyturnError
from keyturn.edge.terminal import Call, Verb, pass_call


@click.command(cls=Verb)
@click.option(
    "--token-file", metavar="F", required=True, help="The enrollment token that `keyturn fleet token create` printed."
)
@click.option("--name", metavar="NAME", help="What the fleet manager calls this computer (default: its host name).")
@pass_call
def enroll(call: Call, token_file: str, name: str | None) -> None:
    """Join the organization's fleet: from now on the agent reports to its manager, and does what it asks for.

    The manager is told this computer's name and how its products stand; it never gets a password of this computer.
    """
    vault = store(call)
    if not vault.writable:
        raise KeyturnError(
            "permission_denied", f"{vault.home} is another account's", remedy="Repeat it as root (sudo)."
        )
    text = read_file(token_file).decode("utf-8", "replace")
    manager, new = managed.enroll(vault, machine_of(call), text, name)
    said = {"changed": new, "url": manager.url, "computer": manager.computer, "name": manager.name}
    call.emit(said, f"{'Enrolled' if new else 'Enrolled already'} with {manager.url} as {manager.name}.")
    call.next("keyturn agent check-in  (or let the agent run: sudo keyturn agent install)")


@click.command("check-in", cls=Verb)
@pass_call
def check_in(call: Call) -> None:
    """Report to the fleet manager now, and do what it asks for. The agent does this by itself."""
    vault = store(call)
    seconds = managed.check_in(vault, machine_of(call), Homes((vault,), vault))
    if seconds is None:
        remedy = "Enroll it: `keyturn agent enroll --token-file F`."
        raise KeyturnError("computer_unknown", "this computer is not enrolled with a fleet manager", remedy=remedy)
    call.emit({"checked_in": True, "next_in": seconds}, f"Checked in; next time in {seconds} seconds.")
