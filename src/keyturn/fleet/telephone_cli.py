"""``keyturn fleet telephone``: what is to be read out for computers that reach nothing, and the answers typed for them."""

from __future__ import annotations

import click

from keyturn.core.phone import spelling
from keyturn.core.phone.spelling import CONFIRMATION
from keyturn.edge import qr, spoken
from keyturn.edge.terminal import Call, Verbs, pass_call
from keyturn.edge.words import english
from keyturn.fleet import telephoning
from keyturn.fleet.context import opened, who
from keyturn.fleet.telephoning import Waiting


@click.group(cls=Verbs)
def telephone() -> None:
    """Activation by telephone: read out what computers show, type what answers them."""


@telephone.command("list")
@click.option("--words", is_flag=True, help="In 16 words instead of 54 digits.")
@pass_call
def telephone_list(call: Call, words: bool) -> None:
    """List the installation IDs that wait for an answer."""
    with opened(call) as manager:
        found = telephoning.waiting(manager, product=call.product)
    lines: list[str] = []
    for one in found:
        lines += [f"{one.name}: {one.title}{_how(one)}", *_spelled(one, words=words), ""]
    said = [{**one.as_json(), **({"words": list(one.id.words(english()))} if words else {})} for one in found]
    if found:
        pages = " or ".join(sorted({one.page for one in found}))
        lines.append(f"Say each to the publisher, or type it at {pages}; then type the answer here.")
    call.emit(
        {"waiting": said},
        "\n".join(lines)
        or "Nothing waits. Order it: keyturn fleet activate --via telephone; computers give theirs at check-in.",
    )
    if found:
        call.next(f"keyturn fleet telephone confirm {found[0].name}")


@telephone.command("qr")
@click.argument("computer")
@pass_call
def telephone_qr(call: Call, computer: str) -> None:
    """Show a computer's installation ID as a QR code: a telephone that scans it opens the publisher's page, filled in."""
    with opened(call) as manager:
        one = telephoning.one(manager, computer, call.product)
    call.emit(one.as_json(), f"{one.name}: {one.title}\n\n{qr.drawn(one.address)}\n{one.page}")
    call.next(f"keyturn fleet telephone confirm {one.name}")


@telephone.command("confirm")
@click.argument("computer", metavar="COMPUTER|-")
@click.argument("code", nargs=-1, metavar="[CODE|-]")
@pass_call
def telephone_confirm(call: Call, computer: str, code: tuple[str, ...]) -> None:
    """Type the confirmation ID that answers a computer's installation ID; its agent verifies it at the next check-in.

    COMPUTER is an id or a name; with - it is found whose the code is, where the extra `phone` is installed here. CODE is digits
    or words, in any grouping; - reads it from stdin, and without it it is asked for.
    """
    named = None if computer == "-" else computer
    with opened(call) as manager:
        if named is not None:
            telephoning.one(manager, named, call.product)  # Before anybody types 80 digits.
        found = telephoning.enter(manager, spoken.given(call, code, CONFIRMATION), who(call), named, call.product)
    said = {
        "computer": found.computer, "name": found.name, "product": str(found.product), "changed": found.changed,
        "verified": found.verified,
    }  # fmt: skip
    words = "Taken" if found.changed else "It was taken before"
    call.emit(said, f"{words}: {found.name} verifies and keeps it when it checks in.")
    call.next("keyturn fleet telephone list")


def _how(one: Waiting) -> str:
    if one.entered:
        return "  (answered; the computer takes it when it checks in)"
    return "" if one.code is None else f"  (the last answer was refused: {one.code}: {one.detail})"


def _spelled(one: Waiting, *, words: bool) -> list[str]:
    return spelling.numbered(one.id.words(english()), 4) if words else spelling.numbered(one.id.text.split(), 3)
