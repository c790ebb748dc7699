"""The verbs of telephone activation: ``installation-id`` and ``confirm``."""

from __future__ import annotations

import click

from keyturn.client import telephone
from keyturn.client.cli import scope_option
from keyturn.client.context import choose, homes_of, machine_of
from keyturn.client.loading import load, needs_activation, status_of
from keyturn.client.machine import Machine
from keyturn.client.telling import Teller
from keyturn.client.views import status_text
from keyturn.core.phone.spelling import CONFIRMATION
from keyturn.edge import spoken
from keyturn.edge.terminal import Call, Verb, pass_call
from keyturn.edge.vault import Shelf


@click.command("installation-id", cls=Verb)
@click.option("--words", is_flag=True, help="In 16 words instead of 54 digits.")
@click.option("--qr", "draw", is_flag=True, help="As a QR code that opens the publisher's page on a telephone.")
@scope_option
@pass_call
def installation_id(call: Call, words: bool, draw: bool, scope: str | None) -> None:
    """Show what this computer says by telephone, to be activated without sending anything.

    The publisher's page, menu or staff answer it with a confirmation ID: `keyturn confirm`.
    """
    show_id(call, choose(call, homes_of(call, scope)), machine_of(call), words=words, draw=draw)


def show_id(call: Call, shelf: Shelf, machine: Machine, *, words: bool = False, draw: bool = False) -> None:
    """Print the installation ID, and what to do with it."""
    made, loaded = telephone.make_id(shelf, machine)
    product = loaded.opened.product
    spoken.show(call, made, product.title, f"{product.service_url}/phone", "keyturn confirm", words=words, draw=draw)


@click.command(cls=Verb)
@click.argument("code", nargs=-1, metavar="[CODE|-]")
@click.option("--dry-run", is_flag=True, help="Verify the code; change nothing.")
@scope_option
@pass_call
def confirm(call: Call, code: tuple[str, ...], dry_run: bool, scope: str | None) -> None:
    """Take the confirmation ID that answers this computer's installation ID.

    CODE is digits or words, in any grouping; four letters of a word are enough. - reads it from stdin; without CODE it is asked
    for, group by group, and a wrong one is named at once.
    """
    machine = machine_of(call)
    shelf = choose(call, homes_of(call, scope))
    loaded = load(shelf, machine)
    if not needs_activation(loaded):
        call.emit({"products": [status_of(loaded)]}, status_text([status_of(loaded)]))
        call.say("Nothing to do: this product is licensed already.")
        return
    with Teller(shelf.vault, machine).faults(loaded.name):
        found = telephone.confirm(shelf, machine, spoken.given(call, code, CONFIRMATION), dry=dry_run)
    entry = status_of(found)
    if dry_run:
        call.emit(
            {"holds": True, "products": [entry]}, "The confirmation ID holds for this computer. Nothing was changed."
        )
        return
    call.emit({"products": [entry]}, status_text([entry]))
    call.next("keyturn status")
