"""Is this copy genuine? Answered by telephone: a validation ID comes, a verdict code goes.

Keeps: the order of steps, the same for the verb, the desk and the page. Leaves to others: codes (``core.phone.validation``),
which seat is meant (``hearing``), wrong proofs and their limits (``telephone``), the revocation list (``revoking``).

- It takes no seat, and changes nothing but the audit. A key that is blocked, and no more, un-licenses nobody: genuine.
"""

from __future__ import annotations

from sqlite3 import Connection, Row
from typing import Any, NamedTuple

from keyturn.core.errors import Refused
from keyturn.core.model import DAY, Channel, ProductName, product_id
from keyturn.core.phone import spelling, validation
from keyturn.core.phone.spelling import VALIDATION, VERDICT, Typed
from keyturn.core.phone.validation import Finding, ValidationID
from keyturn.edge.words import english
from keyturn.service import hearing, revoking, seats, telephone
from keyturn.service.activation import ActivationService


class Verdict(NamedTuple):
    """What is read out, and of which key."""

    to: ValidationID
    finding: Finding
    number: int
    title: str
    product_id: str

    @property
    def text(self) -> str:
        """The 12 digits, in two groups."""
        return spelling.spell(self.number, VERDICT)

    @property
    def words(self) -> tuple[str, ...]:
        """The five words."""
        return spelling.spell_words(self.number, VERDICT, english())

    def as_json(self) -> dict[str, Any]:
        return {
            "validation_id": self.to.text, "verdict_code": self.text, "words": list(self.words),
            "finding": self.finding.name.lower(), "product_id": self.product_id,
        }  # fmt: skip


def given(text: str) -> ValidationID:
    """A whole validation ID. Raises: KeyturnError as ``validation.read``."""
    return validation.read(text, english() if spelling.in_words(text) else None)


def typed(text: str) -> Typed:
    """Judge what was typed so far of one. Raises: KeyturnError ``input_too_large``."""
    return spelling.typed(text, VALIDATION, english() if spelling.in_words(text) else None)


def answer(service: ActivationService, asked: ValidationID, *, actor: str, alone: bool) -> Verdict | Refused:
    """Answer a validation ID that was read whole. ``alone``: no person of the staff listens.

    1. The key, and whether the ID is proven by it; where there is no such key, in the same time.
    2. Where nobody listens: too many wrong proofs today. Before the proof holds there is one answer.
    3. What is known of the seat, and the audit line. 4. The code.
    """
    now = service.clock()
    # 1.
    row, secret = service.key_of(asked.serial)
    name = None if row is None else ProductName.parse(row["name"])
    right = row is not None and name is not None and row["channel"] == asked.channel.value
    holds = right and name is not None and validation.proof_holds(asked, secret, name)
    # 2. and 3.
    found = service.database.write_now(lambda db: _found(db, service, asked, row, name, holds, now, actor, alone))
    if isinstance(found, Refused):
        return found
    # 4.
    assert row is not None and name is not None
    code = validation.verdict(asked, found, secret, name)
    return Verdict(asked, found, code, row["title"], _product_id(row))


def _found(
    db: Connection, service: ActivationService, asked: ValidationID, row: Row | None, name: ProductName | None, holds: bool,
    now: int, actor: str, alone: bool,
) -> Finding | Refused:  # fmt: skip
    activation, today = hearing.activation_of(db, asked), now // DAY
    if alone and telephone.too_many_wrong(db, asked.serial, today, 1 if activation is None else telephone.KNOWN):
        return Refused("staff_required", "too many IDs were wrong today, so a person listens to this one")
    if row is None or name is None or not holds:
        if alone:
            telephone.count(db, asked.serial, today, "wrong")
        return Refused("not_accepted", "this validation ID is not accepted")
    withdrawn = any(
        entry.serial == asked.serial and entry.activation in (None, activation)
        for entry in revoking.listed(db, name, now).entries
    )
    finding = Finding.WITHDRAWN if withdrawn else Finding.UNKNOWN if activation is None else Finding.GENUINE
    detail = {"via": "telephone", "activation": activation, "finding": finding.name.lower()}
    seats.write_audit(db, service.ids, now, actor, "validation", _product_id(row), detail)
    return finding


def _product_id(row: Row) -> str:
    return product_id(row["product"], Channel(row["channel"]), row["serial"])
