"""The rows of seats: looking them up, giving them back, and the decisions that were recorded.

Functions that write run inside one of the writer's savepoints (``edge.writer``): they return and are kept, or raise and
leave nothing. The rules themselves are in ``core.issuance``; decisions are written down in ``recording``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from sqlite3 import Connection, Row
from typing import Any, NamedTuple

from keyturn.core import issuance
from keyturn.core.documents import Release, Request
from keyturn.core.errors import Refused
from keyturn.core.hardware import Seat
from keyturn.core.hosting import MAX_SERVED, Served
from keyturn.core.ids import Ids
from keyturn.core.issuance import Grant, Key
from keyturn.core.jws import Kind
from keyturn.core.model import Channel
from keyturn.core.terms import Terms
from keyturn.core.trust import Floor


class Intent(NamedTuple):
    """A recorded decision. ``signature`` is made after the record is durable."""

    serial: int
    request: str
    activation: str
    how: str
    kid: str
    payload: bytes
    signature: bytes | None
    used: int
    limit: int
    seat: int
    host: int = 0  # 1: it makes an activation host.

    @property
    def kind(self) -> Kind:
        """What a decision is signed as, and never anything else."""
        return Kind.HOST if self.host else Kind.CERTIFICATE


class Issuer(NamedTuple):
    """Who signs: the publisher's name, the key chosen for now, the floor certificates ask for, and whose keys were stolen."""

    publisher: str
    kid: str
    floor: Floor
    revoked: frozenset[str] = frozenset()


def find_key(db: Connection, product: str, serial: int) -> Row | None:
    row: Row | None = db.execute(
        "SELECT k.* FROM product_key k JOIN product p ON p.slug = k.product WHERE k.serial = ? AND p.name = ?",
        (serial, product),
    ).fetchone()
    return row


Look = Callable[[str, Sequence[object]], Any]  # `Database.look`, or that of one's Together.


def look_up(look: Look, product: str, serial: int, nobody: bytes) -> tuple[str | None, int | None, bytes]:
    """What a request is proven against: the product's terms (JSON), the key's serial and its sealed part.

    For a product that is not there the terms are ``None``; for a key that is not there the serial is ``None`` and the sealed
    part ``nobody``, by the same steps: the nearest key below is read in its place, because reading a row takes time, too.
    """
    row = look(
        "SELECT p.terms, k.serial = ?1 AND k.product = p.slug, coalesce(k.sealed, ?2) FROM product p LEFT JOIN product_key k"
        " ON k.serial = (SELECT max(serial) FROM product_key WHERE serial <= ?1) WHERE p.name = ?3",
        (serial, nobody, product),
    )
    if row is None:
        return None, None, nobody
    terms, found, sealed = row  # Of the nearest key, where there is none: a row is read in any case.
    return terms, *((serial, sealed) if found else (None, nobody))


class Held(NamedTuple):
    """A taken seat: its hardware, its number, and the strength of its evidence."""

    seat: Seat
    number: int
    evidence: str


class Around(NamedTuple):
    """What a request finds: its key with the counts, the seats that own one of its pairs, and its installation's own.

    Without a key it finds nothing. ``held`` are the seats by activation, ``owners`` and ``own`` name some of them, ``moves`` are
    the times at which the own one was moved. ``heard`` are pairs of the request whose first digits a call said, by the activation
    of that call: they are the seat's, and not in its rows yet.
    """

    key: Key | None
    used: int
    limit: int
    held: Mapping[str, Held]
    owners: Sequence[str]
    own: str | None
    moves: Sequence[int]
    heard: Mapping[str, Mapping[str, str]] = {}


def look_around(db: Connection, asked: Sequence[tuple[Request, str]]) -> list[Around]:
    """Look up what requests (each with its installation's thumbprint) find: a statement for each table, for all of them."""
    named = sorted({(str(request.product), request.serial) for request, _ in asked})
    keys = {(row["named"], row["serial"]): counted(row) for row in _among(db, "product, serial", named, _KEYS)}
    owners: dict[int, list[str]] = {}
    pairs = [(n, r.serial, r.scheme, pair, tag) for n, (r, _) in enumerate(asked) for pair, tag in r.pairs.items()]
    heard: dict[int, dict[str, dict[str, str]]] = {}
    for n, activation, pair, tag in _among(db, "n, serial, scheme, pair, tag", pairs, OWNERS):
        owners.setdefault(n, []).append(activation)
        if pair is not None:
            heard.setdefault(n, {}).setdefault(activation, {})[pair] = tag
    own: dict[int, str] = {}
    holders = [(n, r.serial, key) for n, (r, key) in enumerate(asked)]
    for n, activation, said in _among(db, "n, serial, thumbprint", holders, _OWN):
        own[n] = own.get(n, activation) if said else activation
    seen = {(asked[n][0].serial, asked[n][0].scheme, name) for n, names in owners.items() for name in names}
    mine = {(asked[n][0].serial, asked[n][0].scheme, name) for n, name in own.items()}
    held = _held(db, list(seen | mine))
    moves: dict[tuple[int, str], list[int]] = {}
    for serial, name, moved_at in _among(db, "serial, activation", [(s, name) for s, _, name in mine], _MOVES):
        moves.setdefault((serial, name), []).append(moved_at)
    found = []
    for n, (request, _) in enumerate(asked):
        key, used, limit = keys.get((str(request.product), request.serial), (None, 0, 0))
        names, mine_is = sorted(set(owners.get(n, ()))), own.get(n)
        near = {name: held[request.serial, name] for name in (*names, mine_is) if name is not None}
        for name, said in heard.get(n, {}).items():
            seat = near[name].seat
            near[name] = near[name]._replace(seat=seat._replace(pairs={**seat.pairs, **said}))
        moved = () if mine_is is None else moves.get((request.serial, mine_is), ())
        found.append(Around(key, used, limit, near, names, mine_is, moved, heard.get(n, {})))
    return found


def decide(around: Around, request: Request, terms: Terms, *, new_activation: str, now: int) -> Grant | Refused:
    """Decide a request by what it found. Whether a seat is left for it, only the key's counter knows."""
    if around.key is None:
        return Refused("key_unknown", f"product key {request.product_id} is not known for this product")
    return issuance.decide(
        request, around.key, terms,
        seats=[around.held[name].seat for name in around.owners],
        own=None if around.own is None else around.held[around.own].seat,
        moves=around.moves, new_activation=new_activation, now=now,
    )  # fmt: skip


def consider(
    db: Connection, request: Request, thumbprint: str, terms: Terms, *, new_activation: str, now: int
) -> tuple[Grant | Refused, Around]:
    """Look up what a request finds, and decide. Changes nothing."""
    (around,) = look_around(db, [(request, thumbprint)])
    decision = decide(around, request, terms, new_activation=new_activation, now=now)
    if isinstance(decision, Grant) and decision.how == "new" and around.used >= around.limit:
        return limit_reached(request.product_id, around.limit), around
    return decision, around


class Answered(NamedTuple):
    """What was decided for a request before, and when its activation ended, if it did."""

    intent: Intent
    ended_at: int | None


def answered(db: Connection, requests: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Answered]:
    """Which of these requests (serial and digest) were decided before."""
    found = _among(db, "serial, request", requests, _ANSWERED)
    return {(row[0], row[1]): Answered(Intent(*row[:-1]), row[-1]) for row in map(tuple, found)}


def release(
    db: Connection, token: str, document: Release, thumbprint: str, terms: Terms, ids: Ids, now: int
) -> int | Refused:
    """Give a seat back; the result is when it was given back. Said twice, it is done once.

    1. A release that was carried out already is answered as the first time.
    2. The installation that signs it holds that very activation.
    3. The key's yearly allowance is not used up.
    4. Pairs and installations go, the counter falls, the release itself is kept.
    """
    # 1.
    done = db.execute(
        "SELECT released_at FROM release WHERE serial = ? AND activation = ?", (document.serial, document.activation)
    ).fetchone()
    if done is not None:
        return int(done["released_at"])
    # 2.
    row = find_key(db, str(document.product), document.serial)
    held = db.execute(
        "SELECT activation FROM installation WHERE serial = ? AND thumbprint = ?", (document.serial, thumbprint)
    ).fetchone()
    if row is None or held is None or held["activation"] != document.activation:
        return Refused("release_unknown", "this installation holds no such activation")
    # 3.
    recent = db.execute(
        "SELECT count(*) AS n, min(released_at) AS first FROM release WHERE serial = ? AND released_at > ?",
        (document.serial, now - issuance.YEAR),
    ).fetchone()
    allowed = issuance.returns_allowed(row["seat_limit"], terms)
    if recent["n"] >= allowed:
        return Refused(
            "return_limit_reached", f"{allowed} seats of this key were returned within a year",
            retry_after=max(1, recent["first"] + issuance.YEAR - now),
        )  # fmt: skip
    # 4.
    end_activation(db, document.serial, document.activation, "released", now)
    db.execute(
        "INSERT INTO release (serial, activation, document, released_at) VALUES (?, ?, ?, ?)",
        (document.serial, document.activation, token, now),
    )
    write_audit(
        db, ids, now, "installation", "activation.released", str(document.serial), {"activation": document.activation}
    )
    return now


def end_activation(db: Connection, serial: int, activation: str, by: str, now: int) -> bool:
    """Free a seat; ``False`` if the activation does not stand."""
    ended = db.execute(
        "UPDATE activation SET ended_at = ?, ended_by = ? WHERE serial = ? AND id = ? AND ended_at IS NULL RETURNING id",
        (now, by, serial, activation),
    ).fetchone()
    if ended is None:
        return False
    db.execute("DELETE FROM seat_pair WHERE serial = ? AND activation = ?", (serial, activation))
    db.execute("DELETE FROM installation WHERE serial = ? AND activation = ?", (serial, activation))
    db.execute("DELETE FROM heard WHERE serial = ? AND activation = ?", (serial, activation))
    db.execute("UPDATE product_key SET seats_used = seats_used - 1 WHERE serial = ?", (serial,))
    return True


def keep_signatures(db: Connection, made: Sequence[tuple[bytes, int, str, str]]) -> None:
    """Keep signatures with their decisions: signature, serial, request and ``kid`` of each.

    A decision that was recorded again for another key meanwhile does not take the old key's signature.
    """
    db.executemany("UPDATE intent SET signature = ? WHERE serial = ? AND request = ? AND kid = ?", made)


def open_intents(db: Connection, limit: int = 1000) -> list[Intent]:
    rows = db.execute(_INTENT + " WHERE i.signature IS NULL LIMIT ?", (limit,)).fetchall()
    return [_as_intent(row) for row in rows]


def signed_by(db: Connection, kid: str, after: tuple[int, str] = (-1, ""), limit: int = 1000) -> list[Intent]:
    """Decisions that ``kid`` signed, in the order of their keys and requests, those after a (serial, request)."""
    rows = db.execute(
        _INTENT + " WHERE i.kid = ? AND i.signature IS NOT NULL AND (i.serial, i.request) > (?, ?)"
        " ORDER BY i.serial, i.request LIMIT ?",
        (kid, *after, limit),
    ).fetchall()
    return [_as_intent(row) for row in rows]


def standing_of(db: Connection, kids: Collection[str], after: tuple[int, str], limit: int = 1000) -> list[Intent]:
    """Decisions of these keys whose activations stand, as :func:`signed_by`."""
    rows = db.execute(
        _INTENT + f" WHERE i.kid IN ({', '.join('?' * len(kids))}) AND a.ended_at IS NULL"
        " AND (i.serial, i.request) > (?, ?) ORDER BY i.serial, i.request LIMIT ?",
        (*kids, *after, limit),
    ).fetchall()
    return [_as_intent(row) for row in rows]


def served(db: Connection, serial: int) -> tuple[str | None, dict[int, Served]]:
    """Whose activation host a ``host`` key makes, and which ``client`` keys it serves: the organization's, of its product."""
    row = db.execute("SELECT organization, product FROM product_key WHERE serial = ?", (serial,)).fetchone()
    keys = db.execute(
        "SELECT serial, edition, features FROM product_key WHERE product = ? AND organization IS ? AND channel = 'client'"
        " AND blocked = 0 ORDER BY serial LIMIT ?",
        (row["product"], row["organization"], MAX_SERVED),
    ).fetchall()
    return row["organization"], {key["serial"]: Served(key["edition"], _features(key["features"])) for key in keys}


def installed(db: Connection, serial: int, activation: str, thumbprint: str) -> int:
    """How many installations other than this one a seat has had."""
    row = db.execute(
        "SELECT count(*) AS n FROM installation WHERE serial = ? AND activation = ? AND thumbprint <> ?",
        (serial, activation, thumbprint),
    ).fetchone()
    return int(row["n"])


def write_audit(
    db: Connection, ids: Ids, now: int, actor: str, action: str, subject: str, detail: dict[str, Any]
) -> None:
    db.execute(AUDIT, audit_row(ids, now, actor, action, subject, detail))


def audit_row(ids: Ids, now: int, actor: str, action: str, subject: str, detail: dict[str, Any]) -> tuple[object, ...]:
    return ids.uuid7(now), now, actor, action, subject, _DETAIL.encode(detail)


_DETAIL = json.JSONEncoder(sort_keys=True)  # As `json.dumps`, which makes one for each call.
AUDIT = "INSERT INTO audit (id, at, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?, ?)"
_FOUND = (
    "SELECT i.serial, i.request, i.activation, i.how, i.kid, i.payload, i.signature, k.seats_used, k.seat_limit, a.seat,"
    " k.channel = 'host'{}"
    " FROM {} JOIN product_key k ON k.serial = i.serial"
    " JOIN activation a ON a.serial = i.serial AND a.id = i.activation"
)
_INTENT = _FOUND.format("", "intent i")
# A look-up by primary key for each row of `asked`, whatever the planner thinks: CROSS JOIN is its order.
_ANSWERED = _FOUND.format(
    ", a.ended_at", "asked CROSS JOIN intent i ON i.serial = asked.serial AND i.request = asked.request"
)
_KEYS = (
    "SELECT asked.product AS named, k.* FROM asked CROSS JOIN product p ON p.name = asked.product"
    " CROSS JOIN product_key k ON k.serial = asked.serial AND k.product = p.slug"
)
# Who owns a pair; and whose first digits a call said, with the pair: one that has an owner is the owner's.
OWNERS = (
    "SELECT n, s.activation, NULL, NULL FROM asked CROSS JOIN seat_pair s"
    " ON s.serial = asked.serial AND s.scheme = asked.scheme AND s.pair = asked.pair AND s.tag = asked.tag"
    " UNION ALL SELECT n, h.activation, asked.pair, asked.tag FROM asked CROSS JOIN heard h"
    " ON h.serial = asked.serial AND h.weak = 0 AND h.prefix = substr(asked.tag, 1, 11)"
    " WHERE NOT EXISTS (SELECT 1 FROM seat_pair o WHERE o.serial = asked.serial AND o.scheme = asked.scheme"
    " AND o.pair = asked.pair AND o.tag = asked.tag)"
)
# Which seat an installation holds, and which one a call named by its key.
_OWN = (
    "SELECT n, i.activation, 0 FROM asked CROSS JOIN installation i"
    " ON i.serial = asked.serial AND i.thumbprint = asked.thumbprint"
    " UNION ALL SELECT n, h.activation, 1 FROM asked CROSS JOIN heard h"
    " ON h.serial = asked.serial AND h.weak = 1 AND h.prefix = substr(asked.thumbprint, 1, 7)"
)
_HELD = (
    "SELECT a.serial, a.id, a.seat, a.evidence, a.activated_at, s.pair, s.tag FROM asked"
    " CROSS JOIN activation a ON a.serial = asked.serial AND a.id = asked.activation"
    " LEFT JOIN seat_pair s ON s.serial = a.serial AND s.activation = a.id AND s.scheme = asked.scheme"
)
_MOVES = (
    "SELECT m.serial, m.activation, m.moved_at FROM asked"
    " CROSS JOIN move m ON m.serial = asked.serial AND m.activation = asked.activation"
)


def counted(row: Row) -> tuple[Key | None, int, int]:
    """A key, how many of its seats are used, and how many it has."""
    key = Key(
        row["serial"], Channel(row["channel"]), row["edition"], _features(row["features"]), bool(row["blocked"]),
        row["term_days"], row["until"],
    )  # fmt: skip
    return key, row["seats_used"], row["seat_limit"]


@functools.lru_cache(maxsize=256)
def _features(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _as_intent(row: Row) -> Intent:
    return Intent(*tuple(row))


def _held(db: Connection, wanted: Sequence[tuple[int, int, str]]) -> dict[tuple[int, str], Held]:
    """The seats of these activations (serial, scheme of the pairs, name), with their hardware."""
    found: dict[tuple[int, str], Held] = {}
    for serial, name, number, evidence, since, pair, tag in _among(db, "serial, scheme, activation", wanted, _HELD):
        pairs: dict[str, str] = {}
        held = found.setdefault((serial, name), Held(Seat(name, pairs, since), number, evidence))
        if pair is not None:
            held.seat.pairs[pair] = tag  # type: ignore[index]
    return found


def _among(db: Connection, columns: str, rows: Sequence[tuple[object, ...]], query: str) -> Iterator[Any]:
    """What ``query`` finds beside a table ``asked`` of these columns and rows."""
    for begin in range(0, len(rows), _AT_ONCE):
        part = rows[begin : begin + _AT_ONCE]
        yield from db.execute(beside(columns, len(part), query), [value for row in part for value in row])


@functools.lru_cache(maxsize=1_024)
def beside(columns: str, count: int, query: str) -> str:
    """``query`` with its table ``asked`` in front: ``count`` rows of parameters."""
    marks = ", ".join("?" * (columns.count(",") + 1))
    return f"WITH asked ({columns}) AS (VALUES {', '.join([f'({marks})'] * count)}) {query}"


_AT_ONCE = 64  # Rows of one look-up.


def limit_reached(product_id: str, limit: int) -> Refused:
    """The "no" to a new seat."""
    seats = "its only seat is" if limit == 1 else f"all {limit} seats are"
    return Refused(
        "limit_reached", f"product key {product_id}: {seats} taken by another computer" + ("s" if limit > 1 else "")
    )
