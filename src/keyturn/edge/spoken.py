"""Codes that people read out and type at a terminal: an ID shown with its parts numbered, an answer asked for part by part.

Keeps: the sentences and the order of questions, the same for every program. Leaves to others: what is right
(``core.phone.spelling``), what an answer does (the programs).
"""

from __future__ import annotations

import sys

import click

from keyturn.core.errors import KeyturnError
from keyturn.core.phone import spelling
from keyturn.core.phone.installation import InstallationID
from keyturn.core.phone.spelling import Form, Typed
from keyturn.edge import qr
from keyturn.edge.voice import Call
from keyturn.edge.words import english


def show(call: Call, made: InstallationID, title: str, page: str, answer: str, *, words: bool, draw: bool) -> None:
    """Print the installation ID of ``title``, where it is answered (``page``), and the verb that takes the ``answer``."""
    address = made.address(page)
    lines = [f"{title}: installation ID"]
    if draw:
        lines += ["", qr.drawn(address)]
    elif words:
        lines += ["", *spelling.numbered(made.words(english()), 4)]
    else:
        lines += ["", *spelling.numbered(made.text.split(), 3)]
    lines += ["", f"Say it to the publisher, or type it at {page} on another device; then type the answer: {answer}"]
    found = {"installation_id": made.text, "page": page, "address": address}
    call.emit({**found, "words": list(made.words(english()))} if words else found, "\n".join(lines))
    call.next(answer)


def given(call: Call, code: tuple[str, ...], form: Form) -> str:
    """What was typed of an answer: as arguments, on stdin (``-``), or asked for. Raises: KeyturnError ``usage``."""
    if code == ("-",):
        return sys.stdin.read(spelling.MAX_INPUT + 1)
    if code:
        return " ".join(code)
    if not call.interactive or call.json:
        raise KeyturnError("usage", f"no {form.name} was given", remedy="Give it as an argument, or with - on stdin.")
    return _asked(call, form)


def _asked(call: Call, form: Form) -> str:
    """Ask part by part. What is wrong is said at once and asked for again; several parts at a time are as good."""
    text = ""
    found = _judged(text, form)
    call.say(f"Type the {form.name}: {form.groups} groups of digits, or {form.words} words.")
    while found.next is not None:
        said = str(click.prompt(f"{found.unit} {found.next} of {found.of}", err=True))
        now = _judged(f"{text} {said} ", form)
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


def _judged(text: str, form: Form) -> Typed:
    return spelling.typed(text, form, english() if spelling.in_words(text) else None)
