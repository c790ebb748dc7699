"""The rows of seats: looking them up, recording what was decided, giving them back.

Every function runs inside one of the writer's savepoints (``edge.database``): it returns and is kept, or raises and
leaves nothing. The rules themselves are in ``core.issuance``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from sqlite3 import Connection, Row
from typing import Any, NamedTuple

from keyturn.core import issuance, jws
from keyturn.core.documents import Release, Request
from keyturn.core.errors import Refused
from keyturn.core.hardware import Seat
from keyturn.core.issuance import Grant, Key
from keyturn.core.jws import Kind
from keyturn.core.model import Channel
from keyturn.core.terms import Terms
from keyturn.core.trust import Floor
from keyturn.service.ids import Ids


class Intent(NamedTuple):
    """A recorded decision: made here, from rows that were written. ``signature`` is made after the record is durable."""

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

    @property
    def kind(self) -> Kind:
        """What a decision is signed as, and never anything else."""
        return Kind.CERTIFICATE


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


def look_up(db: Connection, product: str, serial: int, nobody: bytes) -> tuple[str | None, int | None, bytes]:
    """What a request is proven against: the product's terms (JSON), the key's serial and its sealed part.

    For a product that is not there the terms are ``None``; for a key that is not there the serial is ``None`` and the sealed
    part ``nobody``, by the same steps.
    """
    row = db.execute(
        "SELECT p.terms, k.serial, coalesce(k.sealed, ?) FROM product p"
        " LEFT JOIN product_key k ON k.serial = ? AND k.product = p.slug WHERE p.name = ?",
        (nobody, serial, product),
    ).fetchone()
    return (None, None, nobody) if row is None else tuple(row)


def key_of(row: Row) -> Key:
    return Key(
        row["serial"], Channel(row["channel"]), row["edition"], tuple(json.loads(row["features"])), bool(row["blocked"]),
        row["term_days"], row["until"],
    )  # fmt: skip


def consider(
    db: Connection, request: Request, thumbprint: str, terms: Terms, *, new_activation: str, now: int
) -> Grant | Refused:
    """Look up the seats that share hardware with the request, and decide. Changes nothing."""
    row = find_key(db, str(request.product), request.serial)
    if row is None:
        return Refused("key_unknown", f"product key {request.product_id} is not known for this product")
    return _consider(db, row, request, thumbprint, terms, new_activation=new_activation, now=now)


def _consider(
    db: Connection, row: Row, request: Request, thumbprint: str, terms: Terms, *, new_activation: str, now: int
) -> Grant | Refused:
    # A look-up in the primary key for each pair; a list of conditions would be answered by reading all the key's seats.
    wanted = list(request.pairs.items()) or [("", "")]
    owners = db.execute(
        " UNION ".join([_OWNER] * len(wanted)),
        (request.serial, request.scheme, *(text for pair in wanted for text in pair)),
    ).fetchall()
    mine = db.execute(
        "SELECT activation FROM installation WHERE serial = ? AND thumbprint = ?", (request.serial, thumbprint)
    ).fetchone()
    decision = issuance.decide(
        request, key_of(row), terms,
        seats=[_seat(db, request, owner["activation"]) for owner in owners],
        own=None if mine is None else _seat(db, request, mine["activation"]),
        moves=[] if mine is None else _moves(db, request.serial, mine["activation"]),
        new_activation=new_activation, now=now,
    )  # fmt: skip
    if isinstance(decision, Grant) and decision.how == "new" and row["seats_used"] >= row["seat_limit"]:
        return _limit(row, request)
    return decision


def record(
    db: Connection, token: str, request: Request, thumbprint: str, terms: Terms, issuer: Issuer, ids: Ids, now: int
) -> Intent | Refused:
    """Decide a request and write the decision down, to be signed after the commit.

    1. The same request again: the same answer, while its activation stands and the key that answered is not revoked.
    2. The decision (:func:`consider`).
    3. A new seat: the key's counter takes it, or the limit is reached; nothing else can take the last seat twice.
    4. The seat's pairs; a pair that is owned stays with its owner.
    5. The installation, the intent and the audit line, in the same transaction.
    """
    name = jws.digest(token)
    # 1.
    before = _intent(db, request.serial, name)
    if before is not None:
        ended = db.execute(
            "SELECT ended_at FROM activation WHERE serial = ? AND id = ?", (before.serial, before.activation)
        ).fetchone()["ended_at"]
        if ended is not None:
            return Refused("request_superseded", "the activation this request led to has ended")
        return reissue(db, before, issuer, now) if before.kid in issuer.revoked else before
    # 2.
    row = find_key(db, str(request.product), request.serial)
    if row is None:
        return Refused("key_unknown", f"product key {request.product_id} is not known for this product")
    decision = _consider(db, row, request, thumbprint, terms, new_activation=ids.uuid7(now), now=now)
    if isinstance(decision, Refused):
        return decision
    # 3.
    used = row["seats_used"]
    if decision.how == "new":
        taken = db.execute(
            "UPDATE product_key SET seats_used = seats_used + 1, seats_ever = seats_ever + 1"
            " WHERE serial = ? AND seats_used < seat_limit RETURNING seats_ever, seats_used",
            (request.serial,),
        ).fetchone()
        if taken is None:
            return _limit(row, request)
        seat, used = taken["seats_ever"], taken["seats_used"]
        db.execute(
            "INSERT INTO activation (serial, id, seat, evidence, activated_at) VALUES (?, ?, ?, ?, ?)",
            (request.serial, decision.activation, seat, decision.evidence, now),
        )
    else:
        seat = db.execute(
            "UPDATE activation SET evidence = CASE evidence WHEN 'strong' THEN evidence ELSE ? END"
            " WHERE serial = ? AND id = ? RETURNING seat",
            (decision.evidence, request.serial, decision.activation),
        ).fetchone()["seat"]
    # 4.
    if decision.replace:
        db.execute("DELETE FROM seat_pair WHERE serial = ? AND activation = ?", (request.serial, decision.activation))
        db.execute(
            "INSERT INTO move (serial, activation, moved_at, id) VALUES (?, ?, ?, ?)",
            (request.serial, decision.activation, now, ids.uuid7(now)),
        )
    db.executemany(
        "INSERT INTO seat_pair (serial, scheme, pair, tag, activation) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(request.serial, request.scheme, pair, tag, decision.activation) for pair, tag in decision.add.items()],
    )
    # 5.
    db.execute(
        "INSERT INTO installation (serial, thumbprint, guid, activation, seen_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (serial, thumbprint) DO UPDATE SET activation = excluded.activation, seen_at = excluded.seen_at",
        (request.serial, thumbprint, request.installation, decision.activation, now),
    )
    content = issuance.certificate(
        request, name, thumbprint, key_of(row), decision, terms,
        publisher=issuer.publisher, seat=seat, floor=issuer.floor, now=now,
    )  # fmt: skip
    payload = jws.dumps(content.claims())
    db.execute(
        "INSERT INTO intent (serial, request, activation, how, kid, payload, facts, recorded_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (request.serial, name, decision.activation, decision.how, issuer.kid, payload,
         json.dumps(dict(request.facts), sort_keys=True), now),
    )  # fmt: skip
    audited = {"activation": decision.activation}
    write_audit(db, ids, now, "installation", f"activation.{decision.how}", request.product_id, audited)
    return Intent(
        request.serial, name, decision.activation, decision.how, issuer.kid, payload, None, used, row["seat_limit"], seat
    )  # fmt: skip


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


def write_audit(
    db: Connection, ids: Ids, now: int, actor: str, action: str, subject: str, detail: dict[str, Any]
) -> None:
    db.execute(
        "INSERT INTO audit (id, at, actor, action, subject, detail) VALUES (?, ?, ?, ?, ?, ?)",
        (ids.uuid7(now), now, actor, action, subject, json.dumps(detail, sort_keys=True)),
    )


_OWNER = "SELECT activation FROM seat_pair WHERE serial = ?1 AND scheme = ?2 AND pair = ? AND tag = ?"
_INTENT = (
    "SELECT i.serial, i.request, i.activation, i.how, i.kid, i.payload, i.signature, k.seats_used, k.seat_limit, a.seat"
    " FROM intent i JOIN product_key k ON k.serial = i.serial"
    " JOIN activation a ON a.serial = i.serial AND a.id = i.activation"
)


def _intent(db: Connection, serial: int, request: str) -> Intent | None:
    row = db.execute(_INTENT + " WHERE i.serial = ? AND i.request = ?", (serial, request)).fetchone()
    return None if row is None else _as_intent(row)


def _as_intent(row: Row) -> Intent:
    return Intent(*tuple(row))


def _seat(db: Connection, request: Request, activation: str) -> Seat:
    pairs = db.execute(
        "SELECT pair, tag FROM seat_pair WHERE serial = ? AND activation = ? AND scheme = ?",
        (request.serial, activation, request.scheme),
    ).fetchall()
    row = db.execute(
        "SELECT activated_at FROM activation WHERE serial = ? AND id = ?", (request.serial, activation)
    ).fetchone()
    return Seat(activation, {p["pair"]: p["tag"] for p in pairs}, row["activated_at"])


def _moves(db: Connection, serial: int, activation: str) -> list[int]:
    rows = db.execute("SELECT moved_at FROM move WHERE serial = ? AND activation = ?", (serial, activation)).fetchall()
    return [row["moved_at"] for row in rows]


def _limit(row: Row, request: Request) -> Refused:
    seats = "its only seat is" if row["seat_limit"] == 1 else f"all {row['seat_limit']} seats are"
    return Refused(
        "limit_reached",
        f"product key {request.product_id}: {seats} taken by another computer" + ("s" if row["seat_limit"] > 1 else ""),
    )
