"""What hosts of one organization tell each other: which computers they saw, so that a count does not split between them.

Keeps: the signed document, who is believed, and what is noted of it. Leaves to others: when and to whom it is sent (``tending``).

- A host is believed about computers if the publisher certified it for the same product and the same organization, and no longer.
- It tells installation keys (hashes), hardware pairs and times: what leases are made of, and nothing more.
- A computer that was leased is told of for as long as its lease may run: where it was heard of, it is renewed and not new.
- Told is what a host saw itself; what it was told, it does not pass on. So no sighting goes in a circle.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from sqlite3 import Connection
from typing import Any, NamedTuple

from keyturn.core import hardware, hosting, ids, jws, leasing, trust
from keyturn.core.documents import VERSION, Claims
from keyturn.core.errors import KeyturnError
from keyturn.core.hardware import Seat
from keyturn.core.jws import Kind
from keyturn.core.leasing import SEEN_DAYS
from keyturn.core.model import DAY, ProductName
from keyturn.host import ledger
from keyturn.host.home import HostHome, Permit
from keyturn.host.leasing import LeasingHost

AT_ONCE = 100  # Sightings of one document: it stays well below what a token may have.
MAX_BODY = 256 * 1024  # Bytes: the document, and the trust bundles beside it.


class Sighting(NamedTuple):
    """One computer that a host saw: its name there, its installation's key, its hardware, when, and since when it had leases."""

    computer: str
    thumbprint: str
    guid: str
    pairs: dict[str, str]
    seen_at: int
    leased_at: int | None = None  # No lease yet; or the host is older than this member.

    @classmethod
    def read(cls, value: object, now: int) -> Sighting:
        """Raises: KeyturnError ``document_malformed``."""
        if not isinstance(value, dict):
            raise KeyturnError("document_malformed", "a sighting is an object")
        c = Claims(Kind.SIGHTINGS, {"v": VERSION, **value})
        told: dict[object, object] = {**value["pairs"]} if isinstance(value.get("pairs"), dict) else {}
        pairs = c.texts("pairs", 10)
        if not hardware.well_formed(told):
            raise KeyturnError("document_malformed", "a sighting's pairs are not understood")
        leased_at = c.number_or_none("leased_at")
        return cls(
            c.text("computer", 64), c.text("thumbprint", 64), c.text("guid", 40), pairs, min(c.number("seen_at"), now),
            None if leased_at is None else min(leased_at, now),
        )  # fmt: skip


def seen(db: Connection, permit: Permit, since: int, now: int) -> list[Sighting]:
    """What this host saw itself since then, each computer by its newest installation.

    Not further back than what counts; of computers that were leased, than a lease lasts.
    """
    lasts = SEEN_DAYS if permit.certificate is None else permit.certificate.lease_days
    values = {
        "product": ledger.find(db, str(permit.name)),
        "since": max(since, now - lasts * DAY),
        "counted": now - SEEN_DAYS * DAY,
    }
    return [
        Sighting(row["id"], row["thumbprint"], row["guid"], json.loads(row["pairs"]), row["seen_at"], row["leased_at"])
        for row in db.execute(_SEEN, values)
    ]


def documents(home: HostHome, permit: Permit, place: str, found: Sequence[Sighting], now: int) -> Iterator[bytes]:
    """The bodies to send: signed with the host's key, its certificate inside, the trust bundles beside.

    There is always one, so that the other host knows of this one.
    """
    for begin in range(0, max(len(found), 1), AT_ONCE):
        claims = {
            "v": VERSION, "product": str(permit.name), "test": permit.name.test, "host": permit.tokens[0][1], "place": place,
            "scheme": hardware.SCHEME, "iat": now, "seen": [one._asdict() for one in found[begin : begin + AT_ONCE]],
            "computers": len(found),
        }  # fmt: skip
        token = jws.sign(Kind.SIGHTINGS, claims, home.signer.public, home.signer.sign, own=True)
        yield json.dumps({"v": 1, "sightings": token, "bundles": list(permit.opened.chain.texts)}).encode()


async def take(host: LeasingHost, body: str, write: Callable[..., Awaitable[int]]) -> dict[str, Any]:
    """Verify what another host tells, and note it.

    1. It is signed with the key that it carries.
    2. That key is a host's: certified for a product that this host leases too, for the same organization, in force now.
    3. It was made now, within a day.
    4. Each computer is found by its installation's key, else by its hardware, else it is a new one; the newest time counts.

    Raises: KeyturnError ``document_malformed``, ``signature_invalid``, ``host_untrusted``, ``document_expired``.
    """
    # 1.
    value = jws.loads(body.encode())
    token, bundles = value.get("sightings"), value.get("bundles")
    if (
        not isinstance(token, str)
        or not isinstance(bundles, list)
        or not all(isinstance(text, str) for text in bundles)
    ):
        raise KeyturnError("document_malformed", "sightings and bundles are expected here")
    verified = jws.verify_own(token, Kind.SIGHTINGS)
    claims, now = verified.claims(), host.clock()
    c = Claims(Kind.SIGHTINGS, claims)
    # 2.
    permit = host.home.permits.get(ProductName.parse(c.text("product")))
    if permit is None or permit.certificate is None:
        raise KeyturnError("product_unknown", "this host does not lease that product")
    chain = trust.longer(permit.opened.chain.texts, bundles, permit.name.thumbprint)
    other = hosting.read_host(c.text("host", 60_000), permit.opened.product, chain)
    if other.public != verified.key or not leasing.same_organization(other, permit.certificate):
        raise KeyturnError("host_untrusted", "sightings are taken from hosts of the same organization only")
    # 3.
    if not other.issued_at - DAY <= now <= other.expires_at or abs(c.number("iat") - now) > DAY:
        raise KeyturnError("document_expired", "the sightings, or the host's certificate, are not of this time")
    # 4.
    raw = claims.get("seen")
    if not isinstance(raw, list) or len(raw) > AT_ONCE:
        raise KeyturnError("document_malformed", f"at most {AT_ONCE} sightings are told at once")
    found = [Sighting.read(one, now) for one in raw]
    place, total, name = c.text("place", 300), c.number("computers"), str(permit.name)
    counts_with = leasing.counts_with(permit.certificate)

    def write_down(db: Connection) -> int:
        product = ledger.product(db, name, counts_with)
        db.execute(_OTHER, (product, verified.kid, place, now, total))
        return sum(_note(db, product, one, verified.kid, now, host.chance) for one in found)

    new = 0 if verified.kid == host.home.signer.kid else await write(write_down)
    return {"v": 1, "new": new, "server_time": now}


def _note(db: Connection, product: int, one: Sighting, by: str, now: int, chance: Callable[[int], bytes]) -> int:
    """Note one sighting; 1 if the computer is new here."""
    row = db.execute(
        "SELECT computer FROM installation WHERE product = ? AND thumbprint = ?", (product, one.thumbprint)
    ).fetchone()
    computer = row["computer"] if row else None
    add = one.pairs
    if computer is None:
        members = ledger.alike(db, product, one.pairs, hardware.SCHEME, now)
        found = hardware.find_seat(one.pairs, [Seat(member.computer, member.pairs, member.since) for member in members])
        computer, add = found.seat, found.add
    if computer is not None:
        ledger.told_again(db, product, computer, one.seen_at, one.leased_at)
        return 0
    ledger.tell_of(
        db, product, ids.uuid7(now, chance(12)), add, hardware.SCHEME, seen_at=one.seen_at, leased_at=one.leased_at,
        told_by=by, thumbprint=one.thumbprint, guid=one.guid,
    )  # fmt: skip
    return 1


_SEEN = (  # Beside max(), SQLite gives the other columns of the row that has the maximum.
    "SELECT c.id, c.pairs, c.seen_at, c.leased_at, i.thumbprint, i.guid, max(i.asked) FROM computer c JOIN installation i"
    " ON i.product = c.product AND i.computer = c.id WHERE c.product = :product AND c.counts = 1 AND c.seen_at > :since"
    " AND (c.seen_at > :counted OR c.leased_at IS NOT NULL) AND c.told_by IS NULL GROUP BY c.id ORDER BY c.seen_at"
)
_OTHER = (
    "INSERT INTO other (product, host, place, told_at, computers) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (product, host)"
    " DO UPDATE SET place = excluded.place, told_at = excluded.told_at, computers = excluded.computers"
)
