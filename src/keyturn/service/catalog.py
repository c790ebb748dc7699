"""What the publisher's staff keeps: organizations, products, editions, product keys; and looking at activations.

Every function takes a connection (or the database, where it writes) and returns plain values. A missing thing
raises ``not_found``, a taken name ``already_exists``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from sqlite3 import Connection, Row
from typing import Any

from keyturn.core import productkey
from keyturn.core.errors import KeyturnError
from keyturn.core.model import Channel, ProductName, product_id
from keyturn.core.terms import Terms
from keyturn.edge.database import Database
from keyturn.service import seats
from keyturn.service.ids import Ids
from keyturn.service.sealing import Sealer

MINT_BATCH = 2000  # Keys per transaction.
MAX_LIMIT = 10_000_000


def create_organization(db: Connection, name: str, title: str, ids: Ids, now: int) -> None:
    if db.execute("SELECT 1 FROM organization WHERE name = ?", (name,)).fetchone():
        raise KeyturnError("already_exists", f"organization {name!r} exists")
    db.execute("INSERT INTO organization (name, title, created_at) VALUES (?, ?, ?)", (name, title, now))
    seats.write_audit(db, ids, now, "staff", "organization.created", name, {})


def organizations(db: Connection) -> list[dict[str, Any]]:
    rows = db.execute(
        "SELECT o.name, o.title, o.created_at, count(k.serial) AS keys, coalesce(sum(k.seats_used), 0) AS seats_used,"
        " coalesce(sum(k.seat_limit), 0) AS seats_limit FROM organization o"
        " LEFT JOIN product_key k ON k.organization = o.name GROUP BY o.name ORDER BY o.name"
    ).fetchall()
    return [dict(row) for row in rows]


def create_product(
    db: Connection, name: ProductName, title: str, editions: Mapping[str, Sequence[str]], terms: Terms,
    *, mode: str, terms_url: str | None, ids: Ids, now: int,
) -> None:  # fmt: skip
    """Raises: KeyturnError ``already_exists``."""
    if db.execute("SELECT 1 FROM product WHERE slug = ?", (name.slug,)).fetchone():
        raise KeyturnError("already_exists", f"product {name.slug!r} exists")
    db.execute(
        "INSERT INTO product (slug, name, title, test, mode, terms, terms_url, version, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)",
        (name.slug, str(name), title, name.test, mode, json.dumps(terms.claims(), sort_keys=True), terms_url, now),
    )
    for edition, features in editions.items():
        db.execute(
            "INSERT INTO edition (product, name, features) VALUES (?, ?, ?)",
            (name.slug, edition, json.dumps(list(features))),
        )
    seats.write_audit(db, ids, now, "staff", "product.created", name.slug, {"test": name.test, "mode": mode})


def change_product(db: Connection, slug: str, changes: Mapping[str, Any], ids: Ids, now: int) -> None:
    """Change title, mode, terms_url or any term; the product file's version grows."""
    row = find_product(db, slug)
    terms = json.loads(row["terms"])
    terms.update({name: value for name, value in changes.items() if name in Terms._fields})
    checked = Terms.read(terms)
    db.execute(
        "UPDATE product SET title = ?, mode = ?, terms_url = ?, terms = ?, version = version + 1 WHERE slug = ?",
        (changes.get("title", row["title"]), changes.get("mode", row["mode"]), changes.get("terms_url", row["terms_url"]),
         json.dumps(checked.claims(), sort_keys=True), slug),
    )  # fmt: skip
    seats.write_audit(db, ids, now, "staff", "product.changed", slug, dict(changes))


def find_product(db: Connection, slug: str) -> Row:
    row: Row | None = db.execute("SELECT * FROM product WHERE slug = ?", (slug,)).fetchone()
    if row is None:
        raise KeyturnError("not_found", f"there is no product {slug!r}")
    return row


def product_named(db: Connection, name: str) -> Row | None:
    row: Row | None = db.execute("SELECT * FROM product WHERE name = ?", (name,)).fetchone()
    return row


def products(db: Connection) -> list[dict[str, Any]]:
    return [_product(db, row) for row in db.execute("SELECT * FROM product ORDER BY slug").fetchall()]


def product(db: Connection, slug: str) -> dict[str, Any]:
    return _product(db, find_product(db, slug))


def _product(db: Connection, row: Row) -> dict[str, Any]:
    keys = db.execute(
        "SELECT count(*) AS n, coalesce(sum(seats_used), 0) AS used FROM product_key WHERE product = ?", (row["slug"],)
    ).fetchone()
    return {
        "slug": row["slug"], "product": row["name"], "name": row["title"], "test": bool(row["test"]), "mode": row["mode"],
        "version": row["version"], "terms_url": row["terms_url"], "terms": json.loads(row["terms"]),
        "editions": {name: list(features) for name, features in editions(db, row["slug"]).items()},
        "keys": keys["n"], "seats_used": keys["used"], "created_at": row["created_at"],
    }  # fmt: skip


def editions(db: Connection, slug: str) -> dict[str, tuple[str, ...]]:
    rows = db.execute("SELECT name, features FROM edition WHERE product = ? ORDER BY rowid", (slug,)).fetchall()
    return {row["name"]: tuple(json.loads(row["features"])) for row in rows}


def mint(
    database: Database, sealer: Sealer, ids: Ids, slug: str, channel: Channel, count: int, limit: int, *, now: int,
    organization: str | None = None, edition: str | None = None, features: Sequence[str] = (),
    term_days: int | None = None, until: int | None = None, note: str = "",
    progress: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Make ``count`` product keys with ``limit`` seats each and store them sealed, a batch per transaction.

    Serials are random, so that a product ID does not tell how many were sold. ``features`` are added to the
    edition's. Raises: KeyturnError ``not_found``, ``usage``.
    """
    row = database.read(lambda db: find_product(db, slug))
    name = ProductName.parse(row["name"])
    known = database.read(lambda db: editions(db, slug))
    chosen = edition or next(iter(known))
    if chosen not in known:
        raise KeyturnError("not_found", f"product {slug!r} has no edition {chosen!r}; it has {', '.join(known)}")
    if organization is not None and organization not in {o["name"] for o in database.read(organizations)}:
        raise KeyturnError("not_found", f"there is no organization {organization!r}")
    if channel is Channel.MAK and organization is None:
        raise KeyturnError("usage", "a multiple activation key belongs to an organization: add --org NAME")
    if channel is Channel.RETAIL and limit != 1:
        raise KeyturnError("usage", "a retail key has one seat; more computers need --channel mak")
    if not 1 <= limit <= MAX_LIMIT or not 1 <= count <= MAX_LIMIT:
        raise KeyturnError("usage", f"--limit and --count are numbers from 1 to {MAX_LIMIT}")
    granted = json.dumps(list(dict.fromkeys([*known[chosen], *features])))
    keys: list[dict[str, Any]] = []
    while len(keys) < count:
        batch = [
            productkey.make(channel, int.from_bytes(ids.chance(4), "big") >> 4, ids.chance(10))
            for _ in range(min(MINT_BATCH, count - len(keys)))
        ]
        rows = {
            key.serial: (
                key.serial, slug, channel.value, organization, chosen, granted, limit, term_days, until, key.partial, 1,
                sealer.seal(productkey.derive(key, name), key.serial, ids.chance(12)), note, now,
            )
            for key in batch
        }  # fmt: skip
        by_serial = {key.serial: key for key in batch}
        for serial in database.write(lambda db, rows=rows: _insert_keys(db, rows, ids, slug, now)).result():  # type: ignore[misc]
            key = by_serial[serial]
            keys.append({
                "key": key.text, "product_id": product_id(slug, channel, serial), "serial": serial,
                "channel": channel.value, "limit": limit,
            })  # fmt: skip
        if progress is not None:
            progress(len(keys))
    return keys


def _insert_keys(db: Connection, rows: Mapping[int, tuple[Any, ...]], ids: Ids, slug: str, now: int) -> list[int]:
    """Insert keys whose serial is free; one whose serial is taken is left out, and another is made for it."""
    kept = [
        row["serial"]
        for values in rows.values()
        for row in db.execute(
            "INSERT INTO product_key (serial, product, channel, organization, edition, features, seat_limit, term_days,"
            " until, partial, pepper, sealed, note, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING RETURNING serial",
            values,
        ).fetchall()
    ]
    seats.write_audit(db, ids, now, "staff", "key.minted", slug, {"count": len(kept)})
    return kept


_KEY = "SELECT k.*, p.name AS product_name FROM product_key k JOIN product p ON p.slug = k.product"


def keys(db: Connection, product: str | None = None, limit: int = 10_000) -> list[dict[str, Any]]:
    where, values = (" WHERE k.product = ?", (product,)) if product else ("", ())
    rows = db.execute(f"{_KEY}{where} ORDER BY k.created_at, k.serial LIMIT ?", (*values, limit)).fetchall()
    return [_key(row) for row in rows]


def key(db: Connection, serial: int) -> dict[str, Any]:
    row = db.execute(f"{_KEY} WHERE k.serial = ?", (serial,)).fetchone()
    if row is None:
        raise KeyturnError("not_found", f"there is no key with serial {serial}")
    return _key(row)


def _key(row: Row) -> dict[str, Any]:
    return {
        "serial": row["serial"], "product_id": product_id(row["product"], Channel(row["channel"]), row["serial"]),
        "product": row["product"], "channel": row["channel"], "organization": row["organization"],
        "edition": row["edition"], "features": json.loads(row["features"]), "partial_key": row["partial"],
        "limit": row["seat_limit"], "used": row["seats_used"], "blocked": bool(row["blocked"]),
        "term_days": row["term_days"], "until": row["until"], "note": row["note"], "created_at": row["created_at"],
    }  # fmt: skip


def set_key(db: Connection, serial: int, changes: Mapping[str, Any], ids: Ids, now: int) -> None:
    """Change blocked, seat_limit or note. A limit below the seats in use is refused: nobody loses a seat."""
    before = key(db, serial)
    limit = changes.get("seat_limit", before["limit"])
    if limit < before["used"]:
        raise KeyturnError("usage", f"{before['used']} seats of key {serial} are in use; reclaim some first")
    if before["channel"] == Channel.RETAIL.value and limit != 1:
        raise KeyturnError("usage", "a retail key has one seat")
    db.execute(
        "UPDATE product_key SET blocked = ?, seat_limit = ?, note = ? WHERE serial = ?",
        (changes.get("blocked", before["blocked"]), limit, changes.get("note", before["note"]), serial),
    )
    seats.write_audit(db, ids, now, "staff", "key.changed", str(serial), dict(changes))


_ACTIVATION = (
    "SELECT a.*, k.product, k.channel, (SELECT count(*) FROM installation i WHERE i.serial = a.serial"
    " AND i.activation = a.id) AS installations FROM activation a JOIN product_key k ON k.serial = a.serial"
)


def activations(db: Connection, serial: int | None = None, limit: int = 10_000) -> list[dict[str, Any]]:
    where, values = (" WHERE a.serial = ?", (serial,)) if serial is not None else ("", ())
    rows = db.execute(f"{_ACTIVATION}{where} ORDER BY a.activated_at, a.id LIMIT ?", (*values, limit)).fetchall()
    return [_activation(row) for row in rows]


def activation(db: Connection, identifier: str) -> dict[str, Any]:
    row = db.execute(f"{_ACTIVATION} WHERE a.id = ?", (identifier,)).fetchone()
    if row is None:
        raise KeyturnError("not_found", f"there is no activation {identifier!r}")
    return _activation(row)


def _activation(row: Row) -> dict[str, Any]:
    return {
        "activation_id": row["id"], "serial": row["serial"], "seat": row["seat"],
        "product_id": product_id(row["product"], Channel(row["channel"]), row["serial"]), "evidence": row["evidence"],
        "installations": row["installations"], "activated_at": row["activated_at"], "ended_at": row["ended_at"],
        "ended_by": row["ended_by"],
    }  # fmt: skip


def reclaim(db: Connection, identifier: str, ids: Ids, now: int) -> dict[str, Any]:
    """End an activation by decision of staff; its computer learns of it when it asks again."""
    found = activation(db, identifier)
    if not seats.end_activation(db, found["serial"], identifier, "reclaimed", now):
        raise KeyturnError("not_found", f"activation {identifier} has ended already")
    seats.write_audit(db, ids, now, "staff", "activation.reclaimed", str(found["serial"]), {"activation": identifier})
    return activation(db, identifier)
