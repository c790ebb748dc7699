"""The host's ledger: rows of computers, installations, leases and copies.

Keeps: every statement of SQL that a request needs. Leaves to others: rules (``core.leasing``), the order of steps
(``recording``), what people are shown (``figures``), transactions and the disk (``edge.database``).

- A computer is one row per product for ever, whatever installation it comes with: nothing saturates, nothing is counted twice.
- Nobody's count is stored: it is looked up, so it cannot drift.
- What many requests need is looked up together, and what they leave is written a table at a time.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from sqlite3 import Connection
from typing import NamedTuple

from keyturn.core.documents import Request
from keyturn.core.leasing import KNOWN_DAYS, SEEN_DAYS, Member
from keyturn.core.model import DAY
from keyturn.edge.statements import many, write_rows


class Fork(NamedTuple):
    """A copy that was found before: the identity it was told to take, and the answer to its newest request."""

    guid: str
    request: str
    payload: bytes


class Asker(NamedTuple):
    """Who is looked up: an installation of a product (by its number here), what it says of its hardware, and when."""

    product: int
    thumbprint: str
    request: Request
    now: int


class Open(NamedTuple):
    """A lease that was issued and not shown yet, and where it is kept. ``digest`` is the signed lease's."""

    slot: int
    digest: str
    issued_at: int
    bare: bool


class Around(NamedTuple):
    """What is known around a request: the installation's own computer, else all that share a hardware pair; its open leases
    by the digest of the request that each answers.
    """

    own: Member | None
    open: Mapping[str, Open]
    alike: Sequence[Member]


def migrations() -> list[str]:
    """The scripts that make the database, in order; their number is the version of the schema."""
    schema = resources.files("keyturn.host") / "schema"
    scripts = sorted((item for item in schema.iterdir() if item.name.endswith(".sql")), key=lambda item: item.name)
    return [item.read_text("utf-8") for item in scripts]


def find(db: Connection, name: str) -> int:
    """The number of a product here; 0 if nobody asked for it yet."""
    row = db.execute("SELECT id FROM product WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


def product(db: Connection, name: str, counts_with: str) -> int:
    """The number of a product here; a new one gets the next. ``counts_with`` as in ``core.leasing``."""
    return int(db.execute(_PRODUCT, (name, counts_with)).fetchone()[0])


def look_around(db: Connection, askers: Sequence[Asker]) -> list[Around]:
    """What is known around each of some requests, in their order."""
    owners: dict[int, tuple[Sequence[object], str | None, int]] = {}
    opened: list[dict[str, Open]] = [{} for _ in askers]
    wanted = [value for number, one in enumerate(askers) for value in (number, one.product, one.thumbprint)]
    for row in db.execute(many(_OWN, len(askers), 3), wanted):
        number, presented, asked, request, slot, digest, issued_at, bare, *member = row
        owners[number] = member, presented, asked
        if request is not None:
            opened[number][request] = Open(slot, digest, issued_at, bool(bare))
    strangers = [(number, one) for number, one in enumerate(askers) if number not in owners]
    others = _alike(db, strangers)
    found = []
    for number, one in enumerate(askers):
        own = None
        if number in owners:
            row, presented, asked = owners[number]
            own = _member(row, one.now, presented, opened[number].values(), asked)
        found.append(Around(own, opened[number], others.get(number, [])))
    return found


def alike(db: Connection, product: int, pairs: Mapping[str, str], scheme: int, now: int) -> list[Member]:
    """The computers that share a pair of hardware with these."""
    return _shared(db, [(0, product, scheme, pair, tag) for pair, tag in pairs.items()], {0: now}).get(0, [])


def _alike(db: Connection, strangers: Sequence[tuple[int, Asker]]) -> dict[int, list[Member]]:
    wanted = [
        (number, one.product, one.request.scheme, pair, tag)
        for number, one in strangers
        for pair, tag in one.request.pairs.items()
    ]
    return _shared(db, wanted, {number: one.now for number, one in strangers})


def _shared(
    db: Connection, wanted: Sequence[tuple[int, int, int, str, str]], now: Mapping[int, int]
) -> dict[int, list[Member]]:
    found: dict[int, dict[object, Member]] = {}
    if wanted:
        values = [value for row in wanted for value in row]
        for number, *row in db.execute(many(_ALIKE, len(wanted), 5), values):
            found.setdefault(number, {})[row[0]] = _member(row, now[number], None, (), 0)
    return {number: list(members.values()) for number, members in found.items()}


def counted(db: Connection, counts_with: str, now: int, limit: int = -1) -> int:
    """How many distinct computers were seen within 30 days, of all products that count together (``core.leasing.counts_with``).

    With ``limit``, no more than that are looked at.
    """
    return int(db.execute(_COUNTED, (now - SEEN_DAYS * DAY, counts_with, limit)).fetchone()[0])


def held(db: Connection, product: int, now: int) -> int:
    """How many computers have a lease that runs."""
    return int(
        db.execute("SELECT count(*) FROM computer WHERE product = ? AND ends_at > ?", (product, now)).fetchone()[0]
    )


def last_number(db: Connection, product: int) -> int:
    """The number that the newest computer got."""
    return int(db.execute("SELECT numbers FROM product WHERE id = ?", (product,)).fetchone()[0])


def keep_number(db: Connection, product: int, number: int) -> None:
    """The newest computer's number from now on."""
    db.execute("UPDATE product SET numbers = ? WHERE id = ?", (number, product))


def payload(db: Connection, product: int, thumbprint: str, slot: int) -> bytes:
    """The content of an open lease."""
    found: bytes = db.execute(_PAYLOAD, (product, thumbprint, slot)).fetchone()[0]
    return found


class Rows:
    """What requests leave in the ledger, to be written a table at a time."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[object, ...]]] = {statement: [] for statement in _STATEMENTS}

    def computer(
        self, asker: Asker, computer: str, number: int, add: Mapping[str, str], *, new: bool, since: int | None, ends: int | None
    ) -> None:  # fmt: skip
        """A computer asked: when, what is known of its hardware from now on, and its lease's end, if it gets one."""
        product, _, request, now = asker
        self._put(
            _COMPUTER, product, computer, number, now, now, since, ends, int(not request.ephemeral), json.dumps(dict(add)), None
        )
        for pair, tag in add.items():
            self._put(_PAIR, product, request.scheme, pair, tag, computer)
        if add and not new:
            self._put(_MORE, product, computer)

    def installation(self, asker: Asker, computer: str, presented: str | None) -> None:
        """Its installation asked, and when by its own clock; the newest lease that it showed."""
        product, thumbprint, request, now = asker
        self._put(
            _INSTALLATION, product, thumbprint, request.installation, computer, presented, min(request.made_at, now + DAY)
        )

    def lease(self, asker: Asker, request: str, made: Open, payload: bytes) -> None:
        """A lease that answers ``request``, instead of what was kept in its place."""
        row = (made.slot, request, made.digest, made.issued_at, int(made.bare), payload)
        self._put(_LEASE, asker.product, asker.thumbprint, *row)

    def drop_lease(self, asker: Asker, slot: int) -> None:
        """Forget a lease: a rival of it was shown."""
        self._put(_DROP, asker.product, asker.thumbprint, slot)

    def write(self, db: Connection) -> None:
        """Write them all."""
        for statement, rows in self._rows.items():
            write_rows(db, statement, rows)

    def _put(self, statement: str, *row: object) -> None:
        self._rows[statement].append(row)


def tell_of(
    db: Connection, product: int, computer: str, add: Mapping[str, str], scheme: int, *, seen_at: int, leased_at: int | None,
    told_by: str, thumbprint: str, guid: str,
) -> None:  # fmt: skip
    """A computer that another host told of: it gets the next number here."""
    number = last_number(db, product) + 1
    keep_number(db, product, number)
    pairs = json.dumps(dict(add))
    row = (product, computer, number, seen_at, seen_at, leased_at, None, 1, pairs, told_by)
    write_rows(db, _COMPUTER, [row])
    write_rows(db, _PAIR, [(product, scheme, pair, tag, computer) for pair, tag in add.items()])
    write_rows(db, _INSTALLATION, [(product, thumbprint, guid, computer, None, 0)])


def told_again(db: Connection, product: int, computer: str, seen_at: int, leased_at: int | None) -> None:
    """Another host told of a computer that is known here."""
    db.execute(_TOLD_AGAIN, (seen_at, leased_at, product, computer))


def bare(db: Connection, product: int, computer: str) -> None:
    """Forget a computer's hardware: it was another's."""
    db.execute("DELETE FROM pair WHERE product = ? AND computer = ?", (product, computer))
    db.execute("UPDATE computer SET pairs = '{}' WHERE product = ? AND id = ?", (product, computer))


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
        (row["product"], row["id"]) for row in db.execute(_OLD, (now, now - KNOWN_DAYS * DAY, now - DAY))
    ]
    for place in rows:
        for statement in _FORGET:
            db.execute(statement, place)
    return len(rows)


def _member(row: Sequence[object], now: int, presented: str | None, opened: Collection[Open], asked: int) -> Member:
    computer, number, since, seen, leased, counts, pairs = row
    assert isinstance(seen, int) and isinstance(since, int) and isinstance(number, int)
    recent = bool(counts) and seen > now - SEEN_DAYS * DAY
    return Member(
        str(computer), number, leased if isinstance(leased, int) else since, json.loads(str(pairs)), leased is not None, recent,
        presented, frozenset(one.digest for one in opened), asked, bool(opened) and all(one.bare for one in opened),
    )  # fmt: skip


_MEMBER = "c.id, c.number, c.since, c.seen_at, c.leased_at, c.counts, c.pairs"
_OWN = (  # A CROSS JOIN is not turned round: each installation is looked up by itself, whatever the ledger's size.
    "WITH wanted (number, product, thumbprint) AS (VALUES ?)"  # noqa: S608 - a list of columns
    f" SELECT w.number, i.presented, i.asked, l.request, l.slot, l.digest, l.issued_at, l.bare, {_MEMBER} FROM wanted w"
    " CROSS JOIN installation i ON i.product = w.product AND i.thumbprint = w.thumbprint"
    " CROSS JOIN computer c ON c.product = i.product AND c.id = i.computer"
    " LEFT JOIN lease l ON l.product = i.product AND l.thumbprint = i.thumbprint"
)
_ALIKE = (
    "WITH wanted (number, product, scheme, pair, tag) AS (VALUES ?)"  # noqa: S608 - a list of columns
    f" SELECT w.number, {_MEMBER} FROM wanted w CROSS JOIN pair p ON p.product = w.product AND p.scheme = w.scheme"
    " AND p.pair = w.pair AND p.tag = w.tag CROSS JOIN computer c ON c.product = p.product AND c.id = p.computer"
)
_PAYLOAD = "SELECT payload FROM lease WHERE product = ? AND thumbprint = ? AND slot = ?"
_COUNTED = (
    "SELECT count(*) FROM (SELECT 1 FROM product p CROSS JOIN computer c ON c.product = p.id AND c.counts = 1 AND c.seen_at > ?"
    " WHERE p.counts_with = ? LIMIT ?)"
)
_PRODUCT = (
    "INSERT INTO product (name, counts_with) VALUES (?, ?)"
    " ON CONFLICT (name) DO UPDATE SET counts_with = excluded.counts_with RETURNING id"
)
_COMPUTER = (
    "INSERT INTO computer (product, id, number, since, seen_at, leased_at, ends_at, counts, pairs, told_by) VALUES ?"
    " ON CONFLICT (product, id) DO UPDATE SET seen_at = excluded.seen_at, told_by = NULL, counts = max(counts, excluded.counts),"
    " ends_at = coalesce(excluded.ends_at, ends_at), leased_at = coalesce(leased_at, excluded.leased_at)"
)
_PAIR = "INSERT INTO pair (product, scheme, pair, tag, computer) VALUES ? ON CONFLICT DO NOTHING"
_MORE = (  # What it owns: a pair may have been another's before.
    "UPDATE computer AS c SET pairs = (SELECT json_group_object(p.pair, p.tag) FROM pair p"
    " WHERE p.product = c.product AND p.computer = c.id) WHERE c.product = ? AND c.id = ?"
)
_INSTALLATION = (
    "INSERT INTO installation (product, thumbprint, guid, computer, presented, asked) VALUES ?"
    " ON CONFLICT (product, thumbprint) DO UPDATE SET asked = max(asked, excluded.asked), presented = excluded.presented"
)
_DROP = "DELETE FROM lease WHERE product = ? AND thumbprint = ? AND slot = ?"
_LEASE = (
    "INSERT INTO lease (product, thumbprint, slot, request, digest, issued_at, bare, payload) VALUES ?"
    " ON CONFLICT (product, thumbprint, slot) DO UPDATE SET request = excluded.request, digest = excluded.digest,"
    " issued_at = excluded.issued_at, bare = excluded.bare, payload = excluded.payload"
)
# In this order: a row comes after those that it refers to.
_STATEMENTS = (_COMPUTER, _PAIR, _MORE, _INSTALLATION, _DROP, _LEASE)
_TOLD_AGAIN = (
    "UPDATE computer SET seen_at = max(seen_at, ?), leased_at = coalesce(leased_at, ?) WHERE product = ? AND id = ?"
)
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
