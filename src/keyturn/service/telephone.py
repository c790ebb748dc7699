"""Telephone activation: an installation ID comes, a confirmation ID goes.

Keeps: the order of steps, the same for the verb, the desk, the page and the voice menu; what is counted. Leaves to others: codes
(``core.phone``), the rules of terms (``core.issuance``), rows of seats (``seats``), keys (``confirming``), what is another
matter for activation hosts (``telephone_hosts``).

- Record first, sign second, answer last. The key's counter takes a seat in the same transaction as the row, as for every request.
- Nobody keeps who called: what is stored is the seat's first digits, the activation, and counts by day.
- An answer is not stored either: the same ID, or another one of the same computer, finds the same seat and is signed again.
"""

from __future__ import annotations

from sqlite3 import Connection, Row
from typing import Any, NamedTuple

from keyturn.core import issuance
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.model import DAY, Channel, ProductName, product_id
from keyturn.core.phone import confirmation, installation
from keyturn.core.phone.confirmation import MAX_TERM, QUARTER, ConfirmationID
from keyturn.core.phone.hosted import HostConfirmation
from keyturn.core.phone.installation import InstallationID
from keyturn.core.trust import ConfirmationKey
from keyturn.edge.words import english
from keyturn.service import catalog, confirming, hearing, recording, seats, telephone_hosts
from keyturn.service.activation import ActivationService, terms_of
from keyturn.service.telephone_hosts import Served

WRONG_KEY = 5  # Wrong proofs of a serial on a day, where no person listens.
WRONG_ALL = 1000  # And of all serials.
KNOWN = 10  # So many times as many for seats that are known: a proof of thirty bits must not be tried for ever.
ALONE = 5  # New seats of a key within a year that nobody of the staff decided about.
MANY = 100_000  # Seats of a key, beyond which first digits may meet by chance often enough for a person to look.


class Answer(NamedTuple):
    """What is read out. ``how``: ``new`` took a seat, ``same`` cost nothing. ``until``: when the right ends, NumericDate.

    ``serves``: of an activation host, the serial of the ``client`` key that it is for.
    """

    to: InstallationID
    code: ConfirmationID | HostConfirmation
    product: ProductName
    title: str
    product_id: str
    edition: str
    how: str
    activation: str
    used: int
    limit: int
    until: int | None
    serves: int | None = None

    @property
    def verb(self) -> str:
        """What the answer is typed into."""
        return "keyturn confirm" if self.serves is None else "keyturn host confirm"

    def as_json(self) -> dict[str, Any]:
        return {
            "installation_id": self.to.text, "confirmation_id": self.code.text, "words": list(self.code.words(english())),
            "product": str(self.product), "product_id": self.product_id, "edition": self.edition, "how": self.how,
            "activation_id": self.activation, "seats_used": self.used, "seats_limit": self.limit, "valid_until": self.until,
            **({} if self.serves is None else {"serves": self.serves}),
        }  # fmt: skip


class _Recorded(NamedTuple):
    """A seat that is held for a call."""

    how: str
    activation: str
    since: int
    used: int
    served: Served | None = None


def answer(
    service: ActivationService, given: InstallationID, *, actor: str, alone: bool, sure: bool = False, serves: int | None = None
) -> Answer | Refused:
    """Answer an installation ID that was read whole.

    ``alone``: no person of the staff listens. ``sure``: a person saw that the key has very many seats. ``serves``: which
    ``client`` key an activation host is for, if it is not the newest.

    1. The key, and whether the ID is proven by it; where there is no such key, in the same time.
    2. The record, durable. 3. The signature, by the key of now, for as long as the right lasts.

    Raises: KeyturnError ``trust_invalid`` without a key that signs, ``extra_missing``, ``storage_failed``,
    ``signer_unavailable``; ``usage`` for ``serves`` beside an ID of no host.
    """
    now, host = service.clock(), given.channel is Channel.HOST
    if serves is not None and not host:
        raise KeyturnError("usage", "which client key is served is a question for an activation host's installation ID")
    # 1.
    row, secret = service.key_of(given.serial)
    name = None if row is None else ProductName.parse(row["name"])
    right = row is not None and name is not None and row["channel"] == given.channel.value
    holds = right and name is not None and installation.proof_holds(given, secret, name)
    test = name is not None and name.test
    issuing = telephone_hosts.signer(service, test=test, now=now) if host else None
    confirms = None if host else confirming.signer(service.home.path, service.home.chain, test=test, now=now)

    def record(db: Connection) -> _Recorded | Refused:
        offers = None if issuing is None or row is None else telephone_hosts.served(db, row, issuing[0], now, serves)
        return _record(db, service, given, row, now, actor, holds, alone, sure, offers)

    # 2.
    found = service.database.write_now(record)
    if isinstance(found, Refused):
        return found
    # 3.
    assert row is not None and name is not None
    counted, _, limit = seats.counted(row)
    assert counted is not None
    if issuing is not None:
        assert found.served is not None
        head = found.served.head
        return Answer(
            given, telephone_hosts.issue(name, given, found.served, *issuing), name, row["title"], _product_id(row),
            found.served.edition, found.how, found.activation, found.used, limit, telephone_hosts.ends_at(head, issuing[0]),
            head.serial,
        )  # fmt: skip
    assert confirms is not None
    key, signer = confirms
    until, _ = issuance.end(counted, terms_of(row["terms"]), weak=given.weak, activated_at=found.since, now=now)
    number = service.database.read(lambda db: catalog.edition_numbers(db, row["product"]))[counted.edition]
    code = confirmation.issue(name, given, number, _term(key, until), key.key_index, signer.sign)
    return Answer(
        given, code, name, row["title"], _product_id(row), counted.edition, found.how, found.activation, found.used, limit,
        confirmation.ends_at(code, key),
    )  # fmt: skip


def _record(
    db: Connection, service: ActivationService, given: InstallationID, row: Row | None, now: int, actor: str, holds: bool,
    alone: bool, sure: bool, offers: Served | Refused | None = None,
) -> _Recorded | Refused:  # fmt: skip
    """Write the decision down, in one transaction.

    1. Where nobody listens: too many wrong proofs today, and only seats that are known are answered.
    2. The proof. Before it holds there is one answer.
    3. A known seat costs nothing; a host is activated ten times at most.
    4. A new one: what a person decides about; then the key's counter takes it, or the limit is reached.
    5. The activation, what was heard of it, and the audit line.
    """
    known, today = hearing.activation_of(db, given), now // DAY
    # 1.
    if alone and too_many_wrong(db, given.serial, today, 1 if known is None else KNOWN):
        return Refused("staff_required", "too many installation IDs were wrong today, so a person listens to this one")
    # 2.
    if row is None or not holds:
        if alone:
            count(db, given.serial, today, "wrong")
        return Refused("not_accepted", "this installation ID is not accepted")
    fresh = db.execute("SELECT * FROM product_key WHERE serial = ?", (given.serial,)).fetchone()
    refused = refusal(db, row, fresh, weak=given.weak)
    if refused is not None:
        return refused
    if isinstance(offers, Refused):
        return offers
    # 3.
    detail = {"via": "telephone", "activation": known, **({} if offers is None else {"serves": offers.head.serial})}
    if known is not None:
        if offers is not None:
            often = telephone_hosts.activated_too_often(db, given, known)
            if often is not None:
                return often
            telephone_hosts.note(db, given, known, now)
        since = db.execute(
            "SELECT activated_at FROM activation WHERE serial = ? AND id = ?", (given.serial, known)
        ).fetchone()
        seats.write_audit(db, service.ids, now, actor, "activation.same", _product_id(row), detail)
        return _Recorded("same", known, since[0], fresh["seats_used"], offers)
    # 4.
    if alone and _alone(db, given.serial, today) >= ALONE:
        return Refused(
            "staff_required", f"{ALONE} computers were activated this way within a year: a person decides about more"
        )
    if fresh["seats_used"] > MANY and not sure:
        return Refused(
            "staff_required", f"this key has more than {MANY} seats: a person looks whether it is one of them"
        )
    taken = next(recording.take(db, given.serial, 1), None)
    if taken is None:
        return seats.limit_reached(_product_id(row), fresh["seat_limit"])
    # 5.
    activation = service.ids.uuid7(now)
    db.execute(
        "INSERT INTO activation (serial, id, seat, evidence, activated_at) VALUES (?, ?, ?, ?, ?)",
        (given.serial, activation, taken.number, "weak" if given.weak else "strong", now),
    )
    db.execute(
        "INSERT INTO heard (serial, weak, prefix, activation) VALUES (?, ?, ?, ?)",
        (given.serial, int(given.weak), hearing.kept_as(given), activation),
    )
    if offers is not None:
        telephone_hosts.note(db, given, activation, now)
    if alone:
        count(db, given.serial, today, "alone")
    seats.write_audit(
        db, service.ids, now, actor, "activation.new", _product_id(row), {**detail, "activation": activation}
    )
    return _Recorded("new", activation, now, taken.used, offers)


def refusal(db: Connection, row: Row, key: Row, *, weak: bool) -> Refused | None:
    """Why a key is not answered by telephone at all, whatever the seat. ``row`` is the key with its product."""
    named, terms = _product_id(row), terms_of(row["terms"])
    if key["blocked"]:
        return Refused("key_blocked", f"product key {named} was blocked by its publisher")
    if key["channel"] == Channel.CLIENT.value:
        return Refused("host_required", "a client key is not activated by the publisher's service")
    if key["channel"] not in (Channel.RETAIL.value, Channel.MAK.value, Channel.HOST.value):
        return Refused("not_by_telephone", f"a {key['channel']} key is not activated by telephone")
    host = key["channel"] == Channel.HOST.value
    if host and (nothing := telephone_hosts.nothing_to_serve(db, row)) is not None:
        return nothing
    if not host and key["edition"] not in catalog.edition_numbers(db, row["product"]):
        return Refused("not_by_telephone", f"a code has no room for the edition {key['edition']!r}")
    if weak and terms.weak_evidence == "refuse":
        return Refused("weak_evidence_refused", "this product is not activated on computers without hardware identity")
    return None


def _term(key: ConfirmationKey, until: int | None) -> int:
    """The term of a right that ends at ``until``; one that a code cannot name ends earlier, and is asked for again."""
    furthest = key.not_before + MAX_TERM * QUARTER
    return confirmation.term_for(key, None if until is None else min(until, furthest))


def _product_id(row: Row) -> str:
    return product_id(row["product"], Channel(row["channel"]), row["serial"])


def too_many_wrong(db: Connection, serial: int, today: int, times: int) -> bool:
    """Whether as many wrong proofs came today as may, ``times`` the limits."""
    row = db.execute(
        "SELECT coalesce(sum(wrong), 0), coalesce(sum(CASE WHEN serial = ? THEN wrong END), 0) FROM call_day WHERE day = ?",
        (serial, today),
    ).fetchone()
    return bool(row[0] >= times * WRONG_ALL or row[1] >= times * WRONG_KEY)


def _alone(db: Connection, serial: int, today: int) -> int:
    row = db.execute("SELECT coalesce(sum(alone), 0) FROM call_day WHERE serial = ? AND day > ?", (serial, today - 365))
    return int(row.fetchone()[0])


def count(db: Connection, serial: int, today: int, what: str) -> None:
    """Count one ``wrong`` proof of a serial today, or one new seat that nobody of the staff decided about (``alone``)."""
    db.execute(_COUNT[what], (serial, today))
    db.execute("DELETE FROM call_day WHERE day < ? AND (alone = 0 OR day < ?)", (today - 1, today - 366))


_COUNT = {
    "wrong": "INSERT INTO call_day (serial, day, wrong) VALUES (?, ?, 1)"
    " ON CONFLICT (serial, day) DO UPDATE SET wrong = wrong + 1",
    "alone": "INSERT INTO call_day (serial, day, alone) VALUES (?, ?, 1)"
    " ON CONFLICT (serial, day) DO UPDATE SET alone = alone + 1",
}
