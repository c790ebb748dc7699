"""A call while it lasts: what is known before the last group, and the ticket with which it goes on later.

Keeps: what staff is told to say, and tickets. Leaves to others: judging what was typed (``core.phone.spelling``), the answer
(``telephone``), pages (``call_pages``).

- What is known of a key before its proof is for the staff alone, who have seen stranger things; a page and the menu say nothing.
- A ticket holds what was said of an installation ID and nothing of who said it. It goes with the answer, or after a day.
"""

from __future__ import annotations

import re
from sqlite3 import Connection
from typing import NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, Channel, product_id
from keyturn.core.phone import digits, installation, spelling
from keyturn.core.phone.installation import InstallationID
from keyturn.core.phone.spelling import INSTALLATION, Typed
from keyturn.edge.words import english
from keyturn.service import telephone
from keyturn.service.activation import ActivationService

_TICKET = re.compile(r"[0-9]{8}", re.ASCII)


class Look(NamedTuple):
    """What staff sees of a call: ``mood`` is ``wait``, ``good`` or ``bad``, ``say`` what to tell the caller now."""

    typed: Typed
    mood: str
    say: str


def typed(text: str) -> Typed:
    """Judge what was typed so far, in digits or words. Raises: KeyturnError ``input_too_large``."""
    return spelling.typed(text, INSTALLATION, english() if spelling.in_words(text) else None)


def given(text: str) -> InstallationID:
    """A whole installation ID. Raises: KeyturnError as ``installation.read``."""
    return installation.read(text, english() if spelling.in_words(text) else None)


def look(service: ActivationService, text: str) -> Look:
    """What to say before the last group.

    1. A part that is wrong comes first. 2. Which key it is about, as soon as that is certain: unknown, blocked, at its limit.
    3. What comes next.

    Raises: KeyturnError ``input_too_large``.
    """
    found = typed(text)
    # 1.
    if found.foreign or found.extra:
        return Look(
            found,
            "bad",
            f"This has more than an installation ID: {INSTALLATION.groups} groups, or {INSTALLATION.words} words.",
        )
    if found.wrong:
        return Look(found, "bad", _wrong(found))
    # 2.
    try:
        key = installation.key_so_far(found)
    except KeyturnError as error:
        return Look(
            found, "bad", f"“{error.detail[:1].upper()}{error.detail[1:]}.” Ask which program shows the number."
        )
    ahead = (
        f"Now {found.unit} {found.next} of {found.of}."
        if found.next
        else f"All {found.of} {found.unit}s are right: answer it."
    )
    if key is None:
        return Look(found, "wait", ahead)
    mood, told = _key(service, *key)
    # 3.
    return Look(found, mood, f"{told} {ahead}" if mood != "bad" else told)


def _wrong(found: Typed) -> str:
    offers = [offer for part in found.parts if part.state == "wrong" for offer in part.offers]
    perhaps = f" Should it be “{'” or “'.join(offers[:4])}”?" if offers else ""
    if len(found.wrong) == found.of:
        return f"“More than one {found.unit} is wrong. Let us compare all of them.”"
    return f"“Please say {found.unit} {', '.join(map(str, found.wrong))} again.”{perhaps}"


def _key(service: ActivationService, channel: Channel, serial: int) -> tuple[str, str]:
    row, _ = service.key_of(serial)
    if row is None or row["channel"] != channel.value:
        return "bad", "No such key was issued. “I cannot find this key. Which program is it, and where was it bought?”"
    named = f"{row['title']}, {product_id(row['product'], channel, serial)}"
    refused = service.database.read(lambda db: telephone.refusal(db, row, row, weak=False))
    if refused is not None and refused.code == "key_blocked":
        return "bad", f"{named} is blocked. “This key was blocked. Please write to us, and quote its product ID.”"
    if refused is not None and refused.code == "nothing_to_serve":
        return "bad", f"{named}: {refused.why}. Make one, then answer it. “Please call again later; the number stays the same.”"
    if refused is not None:
        return "bad", f"{named}: {refused.why}. “This is not activated by telephone.”"
    seats = f"{row['seats_used']} of {row['seat_limit']} seats are in use."
    if row["seats_used"] >= row["seat_limit"]:
        return (
            "wait",
            f"{named} is at its limit: {seats} A computer that is known is answered all the same;"
            " “if not, a seat must be returned first.”",
        )
    return "good", f"{named}: {seats}"


def keep(db: Connection, ticket: str, said: str, now: int, chance: bytes) -> str:
    """Keep what was said so far under ``ticket``, or under a new one; the result is its number."""
    db.execute("DELETE FROM ticket WHERE at < ?", (now - DAY,))
    if (
        _TICKET.fullmatch(ticket)
        and db.execute("UPDATE ticket SET said = ?, at = ? WHERE id = ?", (said, now, ticket)).rowcount
    ):
        return ticket
    number = int.from_bytes(chance[:8], "big") % 10**7
    made = f"{number:07d}{digits.check(1, f'{number:07d}')}"
    db.execute(
        "INSERT INTO ticket (id, said, at) VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET said = excluded.said, at = excluded.at",
        (made, said, now),
    )
    return made


def resume(db: Connection, ticket: str, now: int) -> str | None:
    """What was said so far; ``None`` if there is no such ticket."""
    if not _TICKET.fullmatch(ticket) or digits.check(1, ticket):
        return None
    row = db.execute("SELECT said FROM ticket WHERE id = ? AND at >= ?", (ticket, now - DAY)).fetchone()
    return None if row is None else str(row["said"])


def forget(db: Connection, ticket: str) -> None:
    db.execute("DELETE FROM ticket WHERE id = ?", (ticket,))
