"""Decisions written down, to be signed after the commit: many requests at once, as if one after another.

Keeps: the order of steps of a record, and the rows it leaves. Leaves to others: the rules (``core.issuance``), looking seats
up and giving them back (``seats``), the transaction (``edge.writer``).

- Requests that have something in common (the request itself, installation, hardware, a seat) are never in one turn: each
  sees what the one before it left. All others are looked up together and written a table at a time.
- Seats are given in the order in which requests came. The key's counter, and nothing before it, holds the limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from sqlite3 import Connection
from typing import NamedTuple

import msgspec

from keyturn.core import issuance, jws
from keyturn.core.documents import Certificate, Request
from keyturn.core.errors import Refused
from keyturn.core.hosting import HostCertificate
from keyturn.core.ids import Ids
from keyturn.core.issuance import Grant
from keyturn.core.jws import Kind
from keyturn.core.model import Channel
from keyturn.core.terms import Terms
from keyturn.edge.statements import write_rows
from keyturn.service import seats
from keyturn.service.seats import Answered, Around, Intent, Issuer


class Asked(NamedTuple):
    """A request whose proofs hold, who would sign its certificate, and the moment at which it is decided."""

    token: str
    request: Request
    thumbprint: str
    terms: Terms
    issuer: Issuer
    ids: Ids
    now: int
    by_file: bool = False


HOST_ACTIVATIONS = 10  # How often one host may be activated with its key: by so many installations.


class Taken(NamedTuple):
    """A seat that the key's counter gave away, and how many are used with it."""

    number: int
    used: int


def record(db: Connection, asked: Sequence[Asked]) -> tuple[list[Intent | Refused], Callable[[Connection], None]]:
    """Decide requests and write the decisions down. The results are in their order, and what is left to write is with them.

    As many of them as have nothing in common are one turn, and in each turn:

    1. The same request again: the same answer, while its activation stands and the key that answered is not revoked.
    2. The decision (``core.issuance.decide``).
    3. A new seat: the key's counter takes it, or the limit is reached; nothing else can take the last seat twice.
    4. The seat's pairs; a pair that is owned stays with its owner.
    5. The installation, the intent and the audit line, in the same transaction.
    """
    outcomes: list[Intent | Refused] = []
    rows = _Rows()
    while len(outcomes) < len(asked):
        rows.write(db)
        rows = _Rows()
        outcomes += _turn(db, _strangers(asked[len(outcomes) :]), rows)
    return outcomes, rows.write


def reissue(db: Connection, intent: Intent, issuer: Issuer, now: int) -> Intent:
    """Record a decision again, for the same request and with the same rights, to be signed by the key of now."""
    claims = jws.loads(intent.payload)
    floor = {"number": issuer.floor.number, "digest": issuer.floor.digest}
    payload = jws.dumps({**claims, "iat": now, "jti": f"{intent.activation}.{now}", "bundle_floor": floor})
    db.execute(
        "UPDATE intent SET kid = ?, payload = ?, signature = NULL WHERE serial = ? AND request = ?",
        (issuer.kid, payload, intent.serial, intent.request),
    )
    return intent._replace(kid=issuer.kid, payload=payload, signature=None)


def _strangers(asked: Sequence[Asked]) -> Sequence[Asked]:
    """The longest beginning in which no two say the same request, installation or hardware."""
    met: set[object] = set()
    for count, one in enumerate(asked):
        said = {one.token, one.thumbprint, *one.request.pairs.items()}
        if not met.isdisjoint(said):
            return asked[:count]
        met |= said
    return asked


def _apart(around: Sequence[Around]) -> int:
    """How many of the first look at no seat that one before them looks at."""
    met: set[str] = set()
    for count, one in enumerate(around):
        if not met.isdisjoint(one.held):
            return count
        met.update(one.held)
    return len(around)


def _turn(db: Connection, asked: Sequence[Asked], rows: _Rows) -> list[Intent | Refused]:
    """Record the first of ``asked`` that look at different seats: at least one. The steps are those of :func:`record`."""
    around = seats.look_around(db, [(one.request, one.thumbprint) for one in asked])
    names = [jws.digest(one.token) for one in asked[: _apart(around)]]
    turn = list(zip(asked, names, around, strict=False))  # The shortest says how many.
    # 1.
    before = seats.answered(db, [(one.request.serial, name) for one, name, _ in turn])
    # 2.
    decided = [_decide(db, one, place, before.get((one.request.serial, name))) for one, name, place in turn]
    # 3.
    new = Counter(one.request.serial for (one, _, _), found in zip(turn, decided, strict=True) if _is_new(found))
    taken = {serial: take(db, serial, count) for serial, count in new.items()}
    used = {place.key.serial: place.used for _, _, place in turn if place.key is not None}
    # 4. and 5.
    outcomes: list[Intent | Refused] = []
    for (one, name, place), found in zip(turn, decided, strict=True):
        serial = one.request.serial
        if isinstance(found, Refused):
            outcomes.append(found)
        elif isinstance(found, Intent):
            outcomes.append(found._replace(used=used[serial]))
        elif not _is_new(found):
            number = place.held[found.activation].number
            outcomes.append(rows.add(db, one, name, place, found, Taken(number, used[serial])))
        elif (seat := next(taken[serial], None)) is None:
            outcomes.append(seats.limit_reached(one.request.product_id, place.limit))
        else:
            used[serial] = seat.used
            outcomes.append(rows.add(db, one, name, place, found, seat))
    return outcomes


def _decide(db: Connection, one: Asked, place: Around, before: Answered | None) -> Intent | Grant | Refused:
    if before is not None:
        intent, ended_at = before
        if ended_at is not None:
            return Refused("request_superseded", "the activation this request led to has ended")
        return reissue(db, intent, one.issuer, one.now) if intent.kid in one.issuer.revoked else intent
    found = seats.decide(place, one.request, one.terms, new_activation=one.ids.uuid7(one.now), now=one.now)
    if place.key is None or place.key.channel is not Channel.HOST or isinstance(found, Refused):
        return found
    if seats.installed(db, one.request.serial, found.activation, one.thumbprint) >= HOST_ACTIVATIONS:
        return Refused("limit_reached", f"this host was activated {HOST_ACTIVATIONS} times with its key")
    return found


def _is_new(found: object) -> bool:
    return isinstance(found, Grant) and found.how == "new"


def take(db: Connection, serial: int, count: int) -> Iterator[Taken]:
    """The next ``count`` seats of a key, or as many of them as it has left."""
    taken = db.execute(_TAKE, {"serial": serial, "count": count}).fetchone()
    if taken is not None:
        for back in range(count - 1, -1, -1):
            yield Taken(taken["seats_ever"] - back, taken["seats_used"] - back)
    elif count > 1:
        for _ in range(count):
            yield from take(db, serial, 1)


_TAKE = (
    "UPDATE product_key SET seats_used = seats_used + :count, seats_ever = seats_ever + :count"
    " WHERE serial = :serial AND seats_used + :count <= seat_limit RETURNING seats_ever, seats_used"
)


class _Rows:
    """What a turn writes, table by table."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[object, ...]]] = {statement: [] for statement in _STATEMENTS}

    def add(self, db: Connection, one: Asked, name: str, place: Around, grant: Grant, seat: Taken) -> Intent:
        """Carry out a grant, and write its certificate's content."""
        request, issuer, now = one.request, one.issuer, one.now
        serial, activation = request.serial, grant.activation
        assert place.key is not None
        if grant.how == "new":
            self._put(_ACTIVATION, serial, activation, seat.number, grant.evidence, now)
        elif place.held[activation].evidence not in ("strong", grant.evidence):
            self._put(_EVIDENCE, grant.evidence, serial, activation)
        if grant.replace:
            self._put(_LEAVE, serial, activation)
            self._put(_UNHEARD, serial, activation)
            self._put(_MOVE, serial, activation, now, one.ids.uuid7(now))
        for pair, tag in {**place.heard.get(activation, {}), **grant.add}.items():
            self._put(_PAIR, serial, request.scheme, pair, tag, activation)
        self._put(_INSTALLATION, serial, one.thumbprint, request.installation, activation, now)
        host = place.key.channel is Channel.HOST
        if host:
            organization, serves = seats.served(db, serial)
            public = jws.read_header(one.token, Kind.REQUEST).jwk or b""
            content: HostCertificate | Certificate = issuance.host_certificate(
                request, name, public, place.key, grant, one.terms, publisher=issuer.publisher, organization=organization,
                serves=serves, by_file=one.by_file, floor=issuer.floor, now=now,
            )  # fmt: skip
        else:
            content = issuance.certificate(
                request, name, one.thumbprint, place.key, grant, one.terms,
                publisher=issuer.publisher, seat=seat.number, floor=issuer.floor, now=now,
            )  # fmt: skip
        payload, facts = jws.dumps(content.claims()), msgspec.json.encode(request.facts, order="sorted").decode()
        self._put(_INTENT, serial, name, activation, grant.how, issuer.kid, payload, facts, now)
        self._put(_AUDIT, *seats.audit_row(
            one.ids, now, "installation", f"activation.{grant.how}", request.product_id, {"activation": activation}
        ))  # fmt: skip
        return Intent(
            serial, name, activation, grant.how, issuer.kid, payload, None, seat.used, place.limit, seat.number, int(host)
        )

    def write(self, db: Connection) -> None:
        """Write them all."""
        for statement, rows in self._rows.items():
            write_rows(db, statement, rows)

    def _put(self, statement: str, *row: object) -> None:
        self._rows[statement].append(row)


_ACTIVATION = "INSERT INTO activation (serial, id, seat, evidence, activated_at) VALUES ?"
_EVIDENCE = "UPDATE activation SET evidence = ? WHERE serial = ? AND id = ?"
_LEAVE = "DELETE FROM seat_pair WHERE serial = ? AND activation = ?"
_UNHEARD = "DELETE FROM heard WHERE serial = ? AND activation = ?"
_MOVE = "INSERT INTO move (serial, activation, moved_at, id) VALUES ?"
_PAIR = "INSERT INTO seat_pair (serial, scheme, pair, tag, activation) VALUES ? ON CONFLICT DO NOTHING"
_INSTALLATION = (
    "INSERT INTO installation (serial, thumbprint, guid, activation, seen_at) VALUES ?"
    " ON CONFLICT (serial, thumbprint) DO UPDATE SET activation = excluded.activation, seen_at = excluded.seen_at"
)
_INTENT = "INSERT INTO intent (serial, request, activation, how, kid, payload, facts, recorded_at) VALUES ?"
_AUDIT = "INSERT INTO audit (id, at, actor, action, subject, detail) VALUES ?"
# In this order: a row comes after those that it refers to.
_STATEMENTS = (_ACTIVATION, _EVIDENCE, _LEAVE, _UNHEARD, _MOVE, _PAIR, _INSTALLATION, _INTENT, _AUDIT)
