"""The verb that answers what came as a file, or by telephone. It needs the signers, so it works in the service's home only."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from keyturn.core import containers
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.model import Channel, product_id, rfc3339
from keyturn.core.phone import installation, spelling
from keyturn.edge import files
from keyturn.edge.terminal import Call, pass_call, refuse
from keyturn.edge.words import english
from keyturn.service import telephone, validating
from keyturn.service.context import ServiceVerb, home_path, opened
from keyturn.service.telephone import Answer

_LEAST = 12  # Digits: no file is called so, and no slip makes a whole installation ID shorter.


@click.command(cls=ServiceVerb)
@click.argument("what", nargs=-1, required=True, metavar="FILE|INSTALLATION-ID")
@click.option(
    "--serves", type=int, metavar="SERIAL", help="For an activation host: which client key it is for (default: the newest)."
)
@pass_call
def answer(call: Call, what: tuple[str, ...], serves: int | None) -> None:
    """Answer the requests in a .ktx file, into the same file; or an installation ID that somebody reads out.

    The ID is digits, words, or what its QR code says, in any grouping; - reads it from stdin. The answer is read out in turn.
    """
    home_path(call)  # Is this the place, before the file is looked at?
    text = sys.stdin.read(spelling.MAX_INPUT + 1) if what == ("-",) else " ".join(what)
    if what == ("-",) or _is_code(what):
        _answer_call(call, text, serves)
    elif serves is not None:
        raise KeyturnError("usage", "--serves goes with an installation ID, not with a file")
    else:
        _answer_file(call, text)


def _is_code(what: Sequence[str]) -> bool:
    """Several words and long numbers are no file's name."""
    if Path(what[0]).exists() or what[-1].endswith(".ktx"):
        return False
    return len(what) > 1 or len(what[0].split()) > 1 or sum(character.isdecimal() for character in what[0]) >= _LEAST


def _answer_call(call: Call, text: str, serves: int | None) -> None:
    """1. Read it, whole: an installation ID, or a validation ID, which is shorter. 2. Answer it; a person says yes to a
    seat of a very large key. 3. Show it, to be read out.
    """
    # 1.
    if _is_question(text):
        _answer_question(call, text)
        return
    given = installation.read(text, english() if spelling.in_words(text) else None)
    with opened(call) as service:
        # 2.
        outcome = telephone.answer(service, given, actor="staff", alone=False, serves=serves)
        if isinstance(outcome, Refused) and outcome.code == "staff_required":
            call.confirm(f"{outcome.why}. A new seat is taken unless it is found.")
            outcome = telephone.answer(service, given, actor="staff", alone=False, sure=True, serves=serves)
    if isinstance(outcome, Refused):
        refuse(outcome)
    # 3.
    found = outcome.as_json()
    call.emit({**found, "valid_until": rfc3339(outcome.until)}, _read_out(outcome))


def _is_question(text: str) -> bool:
    """Whether this is a validation ID, or one with a slip or two: as many parts of an installation ID fit in none of them."""
    found = validating.typed(text)
    whole = not found.extra and len(found.parts) == found.of
    return whole and (found.number is not None or 0 < len(found.wrong) < found.of)


def _answer_question(call: Call, text: str) -> None:
    with opened(call) as service:
        outcome = validating.answer(service, validating.given(text), actor="staff", alone=False)
    if isinstance(outcome, Refused):
        refuse(outcome)
    call.emit(outcome.as_json(), "\n".join([
        f"{outcome.title}, {outcome.product_id}: {outcome.finding.name.lower()}.", "",
        f"Verdict code: {' '.join(outcome.words)}", f"or in digits: {outcome.text}",
    ]))  # fmt: skip


def _read_out(found: Answer) -> str:
    cost = "one seat was taken" if found.how == "new" else "this computer is known, it cost nothing"
    ends = "" if found.until is None else f"; the right ends on {str(rfc3339(found.until))[:10]}"
    if found.serves is not None:
        ends += f"; this host is for the client key {product_id(found.product.slug, Channel.CLIENT, found.serves)}"
    return "\n".join([
        f"{found.title}, {found.product_id}: {cost} ({found.used} of {found.limit} in use){ends}.",
            "",
            "Confirmation ID, in words:",
        *spelling.numbered(found.code.words(english()), 4), "", "or in digits:", *spelling.numbered(found.code.text.split(), 4),
    ])  # fmt: skip


def _answer_file(call: Call, file: str) -> None:
    data = files.read(Path(file), containers.MAX_FILE)
    if data is None:
        raise KeyturnError("file_malformed", f"{file} does not exist")
    value = containers.expect(data, "exchange")
    opened_product = containers.open_product(value)
    items = containers.items_of(value)
    with opened(call) as s:
        for index, item in enumerate(items):
            if item.open:
                outcome = s.exchange(item.document, by_file=True)
                if isinstance(outcome, Refused):
                    items[index] = item._replace(refused=outcome.as_error().as_json())
                else:
                    items[index] = item._replace(answer=outcome)
                files.write_json(Path(file), containers.exchange(opened_product, items))
    found = {
        "file": file,
        "answered": sum(i.answer is not None for i in items),
        "refused": sum(i.refused is not None for i in items),
    }
    call.emit(found, f"{found['answered']} answered, {found['refused']} refused; {file} holds the answers.")
