"""The verbs of telephone activation: ``installation-id`` and ``confirm``."""

from __future__ import annotations

import sys

import click

from keyturn.client import telephone
from keyturn.client.cli import scope_option
from keyturn.client.context import choose, homes_of, machine_of
from keyturn.client.loading import load, needs_activation, status_of
from keyturn.client.machine import Machine
from keyturn.client.telling import Teller
from keyturn.client.views import status_text
from keyturn.core.errors import KeyturnError
from keyturn.core.phone import spelling
from keyturn.core.phone.spelling import CONFIRMATION, Typed
from keyturn.edge import qr
from keyturn.edge.terminal import Call, Verb, pass_call
from keyturn.edge.vault import Shelf
from keyturn.edge.words import english


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
    page = f"{loaded.opened.product.service_url}/phone"
    address = made.address(page)
    lines = [f"{loaded.opened.product.title}: installation ID"]
    if draw:
        lines += ["", qr.drawn(address)]
    elif words:
        lines += ["", *spelling.numbered(made.words(english()), 4)]
    else:
        lines += ["", *spelling.numbered(made.text.split(), 3)]
    lines += [
        "",
        f"Say it to the publisher, or type it at {page} on another device; then type the answer: keyturn confirm",
    ]
    found = {"installation_id": made.text, "page": page, "address": address}
    call.emit({**found, "words": list(made.words(english()))} if words else found, "\n".join(lines))
    call.next("keyturn confirm")


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
        found = telephone.confirm(shelf, machine, _text(call, code), dry=dry_run)
    entry = status_of(found)
    if dry_run:
        call.emit(
            {"holds": True, "products": [entry]}, "The confirmation ID holds for this computer. Nothing was changed."
        )
        return
    call.emit({"products": [entry]}, status_text([entry]))
    call.next("keyturn status")


def _text(call: Call, code: tuple[str, ...]) -> str:
    if code == ("-",):
        return sys.stdin.read(spelling.MAX_INPUT + 1)
    if code:
        return " ".join(code)
    if not call.interactive or call.json:
        raise KeyturnError(
            "usage", "no confirmation ID was given", remedy="Give it as an argument, or with - on stdin."
        )
    return _asked(call)


def _asked(call: Call) -> str:
    """Ask part by part. What is wrong is said at once and asked for again; several parts at a time are as good."""
    text = ""
    found = _judged(text)
    call.say(f"Type the confirmation ID: {CONFIRMATION.groups} groups of digits, or {CONFIRMATION.words} words.")
    while found.next is not None:
        said = str(click.prompt(f"{found.unit} {found.next} of {found.of}", err=True))
        now = _judged(f"{text} {said} ")
        amiss = [part for part in now.parts if part.state != "complete"]
        # Where the checks of the whole point to something typed before, or to nothing, the error says it.
        typed_now = 0 < len(amiss) < now.of and all(part.number > len(found.parts) for part in amiss)
        if typed_now or now.foreign or now.extra:
            offers = amiss[0].offers if len(amiss) == 1 else ()
            which = ", ".join(str(part.number) for part in amiss) or "this"
            call.say(f"  {now.unit} {which} is wrong" + (f"; perhaps {' or '.join(offers)}" if offers else ""))
            continue
        text, found = f"{text} {said} ", now
        if amiss:
            break
    return text


def _judged(text: str) -> Typed:
    return spelling.typed(text, CONFIRMATION, english() if spelling.in_words(text) else None)
