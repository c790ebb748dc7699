"""The host's ledger: rows of computers, installations, leases and copies.

Keeps: every statement of SQL that a request needs. Leaves to others: rules (``core.leasing``), the order of steps (``leasing``),
what people are shown (``figures``), transactions and the disk (``edge.database``).

- A computer is one row per product for ever, whatever installation it comes with: nothing saturates, nothing is counted twice.
- Nobody's count is stored: it is looked up, so it cannot drift.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from sqlite3 import Connection
from typing import NamedTuple

from keyturn.core.documents import Request
from keyturn.core.leasing import SEEN_DAYS, Member
from keyturn.core.model import DAY

FORGET_DAYS = 400  # A computer that has not asked for so long, and holds no lease, is forgotten.


class Fork(NamedTuple):
    """A copy that was found before: the identity it was told to take, and the answer to its newest request."""

    guid: str
    request: str
    payload: bytes


def migrations() -> list[str]:
    """The scripts that make the database, in order; their number is the version of the schema."""
    schema = resources.files("keyturn.host") / "schema"
    scripts = sorted((item for item in schema.iterdir() if item.name.endswith(".sql")), key=lambda item: item.name)
    return [item.read_text("utf-8") for item in scripts]


def find(db: Connection, name: str) -> int:
    """The number of a product here; 0 if nobody asked for it yet."""
    row = db.execute("SELECT id FROM product WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


def product(db: Connection, name: str) -> int:
    """The number of a product here; a new one gets the next."""
    return find(db, name) or int(
        db.execute("INSERT INTO product (name) VALUES (?) RETURNING id", (name,)).fetchone()[0]
    )


def leases(db: Connection, product: int, thumbprint: str) -> dict[str, bytes]:
    """What was issued to an installation and not shown yet: the lease's content by its request's digest."""
    rows = db.execute("SELECT request, payload FROM lease WHERE product = ? AND thumbprint = ?", (product, thumbprint))
    return {row["request"]: row["payload"] for row in rows}


def own(db: Connection, product: int, thumbprint: str, outstanding: frozenset[str], now: int) -> Member | None:
    """The computer that an installation is known on. ``outstanding`` as in ``Member``."""
    row = db.execute(_OWN, (product, thumbprint)).fetchone()
    return None if row is None else _member(row, now, row["presented"], outstanding, row["asked"])


def alike(db: Connection, product: int, pairs: Mapping[str, str], scheme: int, now: int) -> list[Member]:
    """The computers that share a pair of hardware with these."""
    if not pairs:
        return []
    wanted = ", ".join(["(?, ?)"] * len(pairs))
    values = [value for pair in pairs.items() for value in pair]
    rows = db.execute(_ALIKE.format(wanted), (*values, product, scheme))
    return [_member(row, now, None, frozenset(), 0) for row in rows]


def counted(db: Connection, product: int, now: int, limit: int = -1) -> int:
    """How many distinct computers were seen within 30 days; with ``limit``, no more than that are looked at."""
    return int(db.execute(_COUNTED, (product, now - SEEN_DAYS * DAY, limit)).fetchone()[0])


def held(db: Connection, product: int, now: int) -> int:
    """How many computers have a lease that runs."""
    return int(
        db.execute("SELECT count(*) FROM computer WHERE product = ? AND ends_at > ?", (product, now)).fetchone()[0]
    )


def next_number(db: Connection, product: int) -> int:
    """The number that the next new computer gets."""
    return int(db.execute("SELECT numbers + 1 FROM product WHERE id = ?", (product,)).fetchone()[0])


class Step(NamedTuple):
    """What a request leaves in the ledger: which computer asked, what is known of its hardware from now on, and since when."""

    product: int
    thumbprint: str
    request: Request
    computer: str
    add: Mapping[str, str]
    now: int
    new: bool  # A computer that was not here before.
    known: bool  # An installation that was.


def note(db: Connection, step: Step, *, ends: int | None = None, presented: str | None = None) -> None:
    """Note that a computer asked: its row, its hardware, its installation and when; the end of its lease, if it gets one, and the
    newest lease that it presented.
    """
    product, thumbprint, request, computer, add, now, new, known = step
    asked = min(request.made_at, now + DAY)
    if new:
        insert(db, product, computer, add, now, counts=not request.ephemeral, told_by=None)
    if not new or ends is not None:
        counts = int(not request.ephemeral)
        db.execute(_SEEN, {"now": now, "ends": ends, "counts": counts, "product": product, "computer": computer})
    add_pairs(db, product, request.scheme, computer, add, new=new)
    if known:
        db.execute(_ASKED, (asked, presented, product, thumbprint))
    else:
        keep_installation(db, product, thumbprint, request.installation, computer, asked)


def insert(
    db: Connection,
    product: int,
    computer: str,
    pairs: Mapping[str, str],
    now: int,
    *,
    counts: bool,
    told_by: str | None,
) -> None:
    """A new computer, with the next number."""
    number = db.execute(
        "UPDATE product SET numbers = numbers + 1 WHERE id = ? RETURNING numbers", (product,)
    ).fetchone()[0]
    db.execute(_COMPUTER, (product, computer, number, now, now, int(counts), json.dumps(dict(pairs)), told_by))


def keep_installation(db: Connection, product: int, thumbprint: str, guid: str, computer: str, asked: int) -> None:
    """An installation on a computer, and the newest time that one of its requests bears."""
    db.execute(_INSTALLATION, (product, thumbprint, guid, computer, asked))


def add_pairs(db: Connection, product: int, scheme: int, computer: str, add: Mapping[str, str], *, new: bool) -> None:
    """Give a computer hardware that nobody else owns."""
    if not add:
        return
    db.executemany(_PAIR, [(product, scheme, pair, tag, computer) for pair, tag in add.items()])
    if not new:
        rows = db.execute("SELECT pair, tag FROM pair WHERE product = ? AND computer = ?", (product, computer))
        pairs = json.dumps({row["pair"]: row["tag"] for row in rows})
        db.execute("UPDATE computer SET pairs = ? WHERE product = ? AND id = ?", (pairs, product, computer))


def keep_lease(db: Connection, product: int, thumbprint: str, request: str, payload: bytes, *, shown: bool) -> None:
    """Keep a lease that is to be signed. ``shown``: the installation presented another one than before, which ends its rivals."""
    if shown:
        db.execute("DELETE FROM lease WHERE product = ? AND thumbprint = ?", (product, thumbprint))
    db.execute(
        "INSERT INTO lease (product, thumbprint, request, payload) VALUES (?, ?, ?, ?)",
        (product, thumbprint, request, payload),
    )


def drop_lease(db: Connection, product: int, thumbprint: str, request: str) -> None:
    """Forget the lease that answered a request: it was never shown, and newer ones were issued since."""
    db.execute("DELETE FROM lease WHERE product = ? AND thumbprint = ? AND request = ?", (product, thumbprint, request))


def fork(db: Connection, product: int, thumbprint: str, copy: str) -> Fork | None:
    """What is known of a copy."""
    row = db.execute(
        "SELECT guid, request, payload FROM fork WHERE product = ? AND thumbprint = ? AND copy = ?",
        (product, thumbprint, copy),
    ).fetchone()
    return None if row is None else Fork(row["guid"], row["request"], row["payload"])


def keep_fork(
    db: Connection, product: int, thumbprint: str, copy: str, computer: str, reason: str, found: Fork, now: int
) -> None:
    """Keep what a copy is told. It is one copy, however often it asks."""
    db.execute(_FORK, (product, thumbprint, copy, computer, reason, found.guid, found.request, found.payload, now, now))


def forget(db: Connection, now: int) -> int:
    """Forget computers that did not ask for 400 days (a day, if they keep nothing) and hold no lease; the result is how many."""
    rows: Sequence[tuple[int, str]] = [
        (row["product"], row["id"]) for row in db.execute(_OLD, (now, now - FORGET_DAYS * DAY, now - DAY))
    ]
    for place in rows:
        for statement in _FORGET:
            db.execute(statement, place)
    return len(rows)


def _member(
    row: Mapping[str, object], now: int, presented: str | None, outstanding: frozenset[str], asked: int
) -> Member:
    seen, since, number, leased = row["seen_at"], row["since"], row["number"], row["leased_at"]
    assert isinstance(seen, int) and isinstance(since, int) and isinstance(number, int)
    recent = bool(row["counts"]) and seen > now - SEEN_DAYS * DAY
    return Member(
        str(row["id"]), number, leased if isinstance(leased, int) else since, json.loads(str(row["pairs"])), leased is not None,
        recent, presented, outstanding, asked,
    )  # fmt: skip


_MEMBER = "c.id, c.number, c.since, c.seen_at, c.leased_at, c.counts, c.pairs"
_OWN = (
    f"SELECT {_MEMBER}, i.presented, i.asked FROM installation i"  # noqa: S608 - a list of columns
    " JOIN computer c ON c.product = i.product AND c.id = i.computer WHERE i.product = ? AND i.thumbprint = ?"
)
_ALIKE = (  # Each pair is looked up by itself, whatever the ledger's size: a CROSS JOIN is not turned round.
    "WITH wanted (pair, tag) AS (VALUES {})"  # noqa: S608 - a list of columns
    f" SELECT DISTINCT {_MEMBER} FROM wanted w CROSS JOIN pair p ON p.product = ? AND p.scheme = ? AND p.pair = w.pair"
    " AND p.tag = w.tag CROSS JOIN computer c ON c.product = p.product AND c.id = p.computer"
)
_COUNTED = "SELECT count(*) FROM (SELECT 1 FROM computer WHERE product = ? AND counts = 1 AND seen_at > ? LIMIT ?)"
_COMPUTER = (
    "INSERT INTO computer (product, id, number, since, seen_at, counts, pairs, told_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_PAIR = "INSERT INTO pair (product, scheme, pair, tag, computer) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_INSTALLATION = (
    "INSERT INTO installation (product, thumbprint, guid, computer, asked) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (product, thumbprint) DO UPDATE SET asked = max(asked, excluded.asked)"
)
_SEEN = (
    "UPDATE computer SET seen_at = :now, told_by = NULL, counts = max(counts, :counts), ends_at = coalesce(:ends, ends_at),"
    " leased_at = coalesce(leased_at, iif(:ends IS NULL, NULL, :now)) WHERE product = :product AND id = :computer"
)
_ASKED = "UPDATE installation SET asked = max(asked, ?), presented = ? WHERE product = ? AND thumbprint = ?"
_FORK = (
    "INSERT INTO fork (product, thumbprint, copy, computer, reason, guid, request, payload, since, seen_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (product, thumbprint, copy)"
    " DO UPDATE SET guid = excluded.guid, request = excluded.request, payload = excluded.payload, seen_at = excluded.seen_at"
)
_OLD = (
    "SELECT product, id FROM computer WHERE coalesce(ends_at, 0) < ?"
    " AND (seen_at < ? OR (counts = 0 AND seen_at < ?)) LIMIT 1000"
)
_FORGET = (
    "DELETE FROM lease WHERE (product, thumbprint) IN"
    " (SELECT product, thumbprint FROM installation WHERE product = ? AND computer = ?)",
    "DELETE FROM installation WHERE product = ? AND computer = ?",
    "DELETE FROM pair WHERE product = ? AND computer = ?",
    "DELETE FROM computer WHERE product = ? AND id = ?",
)
