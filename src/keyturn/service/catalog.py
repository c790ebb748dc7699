"""What the publisher's staff keeps: organizations, products, editions, product keys; and looking at activations.

Every function takes a connection (or the database, where it writes) and returns plain values. A missing thing
raises ``not_found``, a taken name ``already_exists``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from sqlite3 import Connection, Row
from typing import Any, NamedTuple

from keyturn.core import productkey, revocations
from keyturn.core.errors import KeyturnError
from keyturn.core.ids import Ids
from keyturn.core.model import Channel, ProductName, product_id
from keyturn.core.phone.confirmation import EDITIONS
from keyturn.core.terms import Terms
from keyturn.edge.database import Database
from keyturn.service import revoking, seats
from keyturn.service.sealing import Sealer

MINT_BATCH = 20_000  # Keys per transaction, in the order of their serials: the larger, the fewer pages are written twice.
MAX_LIMIT = 10_000_000


def create_organization(db: Connection, name: str, title: str, ids: Ids, now: int, actor: str = "staff") -> None:
    if db.execute("SELECT 1 FROM organization WHERE name = ?", (name,)).fetchone():
        raise KeyturnError("already_exists", f"organization {name!r} exists")
    db.execute("INSERT INTO organization (name, title, created_at) VALUES (?, ?, ?)", (name, title, now))
    seats.write_audit(db, ids, now, actor, "organization.created", name, {})


_ORGANIZATION = (
    "SELECT o.name, o.title, o.created_at, count(k.serial) AS keys, coalesce(sum(k.seats_used), 0) AS seats_used,"
    " coalesce(sum(k.seat_limit), 0) AS seats_limit FROM organization o LEFT JOIN product_key k ON k.organization = o.name"
)


def organizations(db: Connection, after: str = "", limit: int = -1) -> list[dict[str, Any]]:
    """Organizations by name, those after a name; ``limit`` -1 is all."""
    rows = db.execute(
        f"{_ORGANIZATION} WHERE o.name > ? GROUP BY o.name ORDER BY o.name LIMIT ?", (after, limit)
    ).fetchall()
    return [dict(row) for row in rows]


def find_organization(db: Connection, name: str) -> dict[str, Any]:
    return dict(_one(db, f"{_ORGANIZATION} WHERE o.name = ? GROUP BY o.name", name, "organization"))


def create_product(
    db: Connection, name: ProductName, title: str, editions: Mapping[str, Sequence[str]], terms: Terms,
    *, mode: str, terms_url: str | None, ids: Ids, now: int, actor: str = "staff",
) -> None:  # fmt: skip
    """Raises: KeyturnError ``already_exists``."""
    if db.execute("SELECT 1 FROM product WHERE slug = ?", (name.slug,)).fetchone():
        raise KeyturnError("already_exists", f"product {name.slug!r} exists")
    db.execute(
        "INSERT INTO product (slug, name, title, test, mode, terms, terms_url, version, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)",
        (name.slug, str(name), title, name.test, mode, json.dumps(terms.claims(), sort_keys=True), terms_url, now),
    )
    for number, (edition, features) in enumerate(editions.items()):
        db.execute(
            "INSERT INTO edition (product, name, features, number) VALUES (?, ?, ?, ?)",
            (name.slug, edition, json.dumps(list(features)), number),
        )
    seats.write_audit(db, ids, now, actor, "product.created", name.slug, {"test": name.test, "mode": mode})


def change_product(
    db: Connection, slug: str, changes: Mapping[str, Any], ids: Ids, now: int, actor: str = "staff"
) -> None:
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
    seats.write_audit(db, ids, now, actor, "product.changed", slug, dict(changes))


def find_product(db: Connection, slug: str) -> Row:
    return _one(db, "SELECT * FROM product WHERE slug = ?", slug, "product")


def products(db: Connection, after: str = "", limit: int = -1) -> list[dict[str, Any]]:
    """Products by slug, those after a slug; ``limit`` -1 is all."""
    rows = db.execute("SELECT * FROM product WHERE slug > ? ORDER BY slug LIMIT ?", (after, limit)).fetchall()
    return [_product(db, row) for row in rows]


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


def edition_numbers(db: Connection, slug: str) -> dict[str, int]:
    """The numbers of editions in confirmation IDs. They have three bits: later editions have none."""
    rows = db.execute(
        "SELECT name, number FROM edition WHERE product = ? AND number < ? ORDER BY number", (slug, EDITIONS)
    )
    return {row["name"]: row["number"] for row in rows}


class Plan(NamedTuple):
    """What keys to make, checked against the catalogue."""

    product: ProductName
    channel: Channel
    organization: str | None
    edition: str
    features: str  # JSON list: the edition's and those beyond.
    limit: int
    term_days: int | None
    until: int | None
    note: str
    now: int

    def make(self, sealer: Sealer, ids: Ids, count: int) -> list[Made]:
        """``count`` keys with their rows. Serials are random: a product ID does not tell how many were sold."""
        keys = [
            productkey.make(self.channel, int.from_bytes(ids.chance(4), "big") >> 4, ids.chance(10))
            for _ in range(count)
        ]
        texts = [key.text for key in keys]
        return [
            Made(key.serial, text, (
                key.serial, self.product.slug, self.channel.value, self.organization, self.edition, self.features, self.limit,
                self.term_days, self.until, productkey.partial(text), 1,
                sealer.seal(productkey.derive(key, self.product), key.serial, ids.chance(12)), self.note, self.now,
            ))
            for key, text in zip(keys, texts, strict=True)
        ]  # fmt: skip


class Made(NamedTuple):
    """A key that was made: its serial, its text (a secret), and the row that will be kept of it."""

    serial: int
    text: str
    row: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"Made(serial={self.serial})"


def plan(
    db: Connection, slug: str, channel: Channel, count: int, limit: int, *, now: int, organization: str | None = None,
    edition: str | None = None, features: Sequence[str] = (), term_days: int | None = None, until: int | None = None,
    note: str = "",
) -> Plan:  # fmt: skip
    """Check what is asked for; ``features`` are added to the edition's. Raises: KeyturnError ``not_found``, ``usage``."""
    name = ProductName.parse(find_product(db, slug)["name"])
    known = editions(db, slug)
    chosen = edition or next(iter(known))
    if chosen not in known:
        raise KeyturnError("not_found", f"product {slug!r} has no edition {chosen!r}; it has {', '.join(known)}")
    if organization is not None:
        find_organization(db, organization)
    if channel is Channel.MAK and organization is None:
        raise KeyturnError("usage", "a multiple activation key belongs to an organization: add --org NAME")
    if channel is Channel.RETAIL and limit != 1:
        raise KeyturnError("usage", "a retail key has one seat; more computers need --channel mak")
    if not 1 <= limit <= MAX_LIMIT or not 1 <= count <= MAX_LIMIT:
        raise KeyturnError("usage", f"--limit and --count are numbers from 1 to {MAX_LIMIT}")
    granted = json.dumps(list(dict.fromkeys([*known[chosen], *features])))
    return Plan(name, channel, organization, chosen, granted, limit, term_days, until, note, now)


def insert_keys(
    db: Connection, planned: Plan, made: Sequence[Made], sealer: Sealer, ids: Ids, actor: str = "staff"
) -> list[dict[str, Any]]:
    """Keep keys, making another for each whose serial is taken. The keys themselves are in the result and nowhere else."""
    kept: list[Made] = []
    waiting = list(made)
    while waiting:
        fresh = {item.serial: item for item in waiting}
        asked = json.dumps(list(fresh))
        for row in db.execute("SELECT serial FROM product_key WHERE serial IN (SELECT value FROM json_each(?))", (asked,)):
            del fresh[row["serial"]]
        db.executemany(
            "INSERT INTO product_key (serial, product, channel, organization, edition, features, seat_limit, term_days,"
            " until, partial, pepper, sealed, note, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (fresh[serial].row for serial in sorted(fresh)),
        )
        kept += fresh.values()
        waiting = planned.make(sealer, ids, len(waiting) - len(fresh))
    seats.write_audit(db, ids, planned.now, actor, "key.minted", planned.product.slug, {"count": len(kept)})
    return [
        {
            "key": item.text, "product_id": product_id(planned.product.slug, planned.channel, item.serial),
            "serial": item.serial, "channel": planned.channel.value, "limit": planned.limit,
        }
        for item in kept
    ]  # fmt: skip


def mint(
    database: Database, sealer: Sealer, ids: Ids, slug: str, channel: Channel, count: int, limit: int, *, now: int,
    progress: Callable[[int], None] | None = None, actor: str = "staff", **values: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Make ``count`` product keys with ``limit`` seats each and store them sealed, a batch per transaction; ``values`` as
    :func:`plan`. Raises: KeyturnError ``not_found``, ``usage``.
    """
    planned = database.read(lambda db: plan(db, slug, channel, count, limit, now=now, **values))
    keys: list[dict[str, Any]] = []
    while len(keys) < count:
        made = planned.make(sealer, ids, min(MINT_BATCH, count - len(keys)))
        keys += database.write(lambda db, made=made: insert_keys(db, planned, made, sealer, ids, actor)).result()  # type: ignore[misc]
        if progress is not None:
            progress(len(keys))
    return keys


_KEY = "SELECT k.*, p.name AS product_name FROM product_key k JOIN product p ON p.slug = k.product"


def keys(
    db: Connection, product: str | None = None, limit: int = 10_000, *, organization: str | None = None,
    after: tuple[int, int] = (-1, -1),
) -> list[dict[str, Any]]:  # fmt: skip
    """Keys by age, those after a (creation time, serial)."""
    filters = [
        (column, value) for column, value in (("product", product), ("organization", organization)) if value is not None
    ]
    where = "".join(f" AND k.{column} = ?" for column, _ in filters)
    rows = db.execute(
        f"{_KEY} WHERE (k.created_at, k.serial) > (?, ?){where} ORDER BY k.created_at, k.serial LIMIT ?",
        (*after, *(value for _, value in filters), limit),
    ).fetchall()
    return [_key(row) for row in rows]


def key(db: Connection, serial: int) -> dict[str, Any]:
    return _key(_one(db, f"{_KEY} WHERE k.serial = ?", serial, "key with serial"))


def _key(row: Row) -> dict[str, Any]:
    return {
        "serial": row["serial"], "product_id": product_id(row["product"], Channel(row["channel"]), row["serial"]),
        "product": row["product"], "channel": row["channel"], "organization": row["organization"],
        "edition": row["edition"], "features": json.loads(row["features"]), "partial_key": row["partial"],
        "limit": row["seat_limit"], "used": row["seats_used"], "blocked": bool(row["blocked"]),
        "term_days": row["term_days"], "until": row["until"], "note": row["note"], "created_at": row["created_at"],
    }  # fmt: skip


def set_key(db: Connection, serial: int, changes: Mapping[str, Any], ids: Ids, now: int, actor: str = "staff") -> None:
    """Change blocked, seat_limit or note. A limit below the seats in use is refused: nobody loses a seat.

    ``withdraw`` with a block puts the whole key on the revocation list; taking the block back takes it off.
    """
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
    if changes.get("withdraw") or changes.get("blocked") is False:
        revoking.change(db, serial, None, revocations.KEY_BLOCKED if changes["blocked"] else revoking.RESTORED, now)
    seats.write_audit(db, ids, now, actor, "key.changed", str(serial), dict(changes))


_ACTIVATION = (
    "SELECT a.*, k.product, k.channel, (SELECT count(*) FROM installation i WHERE i.serial = a.serial"
    " AND i.activation = a.id) AS installations FROM activation a JOIN product_key k ON k.serial = a.serial"
)


def activations(
    db: Connection, serial: int | None = None, limit: int = 10_000, *, after: str = ""
) -> list[dict[str, Any]]:
    """Activations by age, those after an activation's name (it begins with its time)."""
    where, values = (" AND a.serial = ?", (serial,)) if serial is not None else ("", ())
    rows = db.execute(f"{_ACTIVATION} WHERE a.id > ?{where} ORDER BY a.id LIMIT ?", (after, *values, limit)).fetchall()
    return [_activation(row) for row in rows]


def activation(db: Connection, identifier: str) -> dict[str, Any]:
    return _activation(_one(db, f"{_ACTIVATION} WHERE a.id = ?", identifier, "activation"))


def _activation(row: Row) -> dict[str, Any]:
    return {
        "activation_id": row["id"], "serial": row["serial"], "seat": row["seat"],
        "product_id": product_id(row["product"], Channel(row["channel"]), row["serial"]), "evidence": row["evidence"],
        "installations": row["installations"], "activated_at": row["activated_at"], "ended_at": row["ended_at"],
        "ended_by": row["ended_by"],
    }  # fmt: skip


def reclaim(
    db: Connection, identifier: str, ids: Ids, now: int, actor: str = "staff", *, withdraw: bool = False
) -> dict[str, Any]:
    """End an activation by decision of staff; its computer learns of it when it asks again.

    ``withdraw`` puts it on the revocation list too: then its certificate counts only for a grace, wherever the list comes.
    """
    found = activation(db, identifier)
    ended = seats.end_activation(db, found["serial"], identifier, "reclaimed", now)
    if not ended and not (withdraw and found["ended_by"] == "reclaimed"):
        raise KeyturnError("not_found", f"activation {identifier} has ended already")
    if withdraw:
        revoking.change(db, found["serial"], identifier, revocations.RECLAIMED, now)
    told = {"activation": identifier, "withdrawn": withdraw}
    seats.write_audit(db, ids, now, actor, "activation.reclaimed", str(found["serial"]), told)
    return activation(db, identifier)


def _one(db: Connection, query: str, name: str | int, kind: str) -> Row:
    """The row that ``query`` finds by ``name``. Raises: KeyturnError ``not_found``."""
    row: Row | None = db.execute(query, (name,)).fetchone()
    if row is None:
        raise KeyturnError("not_found", f"there is no {kind} {name!r}")
    return row
