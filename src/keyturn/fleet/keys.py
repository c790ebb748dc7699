"""The organization's product keys: added, checked by themselves, sealed, shown by their last five characters.

Keeps: their rows. Leaves to others: what a key is (``core.productkey``), what is left of it (``proxying`` hears that
with answers).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from sqlite3 import Connection, Row
from typing import Any, NamedTuple

from keyturn.core import jws, productkey
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.inquiry import Inquiry
from keyturn.core.jws import Kind
from keyturn.core.model import Channel, ProductName, b64u, product_id, rfc3339
from keyturn.edge.keystore import Signer
from keyturn.fleet import store
from keyturn.fleet.sealing import Sealer

CHANNELS = (Channel.MAK, Channel.RETAIL, Channel.CLIENT, Channel.HOST)
MAX_LINES = 10_000


class Given(NamedTuple):
    """One key as somebody gave it: its text, with a remark and how many seats the organization says it owns, if it says so."""

    text: str
    remark: str | None
    owned: int | None


def read(text: str) -> list[Given]:
    """Keys out of lines or CSV (``key, remark, owned``; a first line with these names is one).

    Raises: KeyturnError ``file_malformed``.
    """
    found = []
    rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    if len(rows) > MAX_LINES:
        raise KeyturnError("input_too_large", f"at most {MAX_LINES} keys are added at once")
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if number == 1 and cells[0].casefold() == "key":
            continue
        remark, owned = (cells[1] if len(cells) > 1 else ""), (cells[2] if len(cells) > 2 else "")
        if owned and not owned.isdecimal():
            raise KeyturnError("file_malformed", f"line {number}: {owned[:20]!r} is not a number of seats")
        found.append(Given(cells[0], remark or None, int(owned) if owned else None))
    return found


def add(
    db: Connection,
    sealer: Sealer,
    product: ProductName,
    given: Given,
    *,
    who: str,
    now: int,
    chance: Callable[[int], bytes],
) -> tuple[Row, bool]:
    """Check a key offline and keep it sealed; whether it is new.

    Raises: KeyturnError ``key_malformed``, ``key_mistyped``, ``usage``.
    """
    key = productkey.parse(given.text)
    if key.channel not in CHANNELS:
        raise KeyturnError("usage", f"a {key.channel.value} key is not one for a fleet")
    name = str(product)
    known = db.execute("SELECT * FROM key WHERE product = ? AND serial = ?", (name, key.serial)).fetchone()
    if known is not None and sealer.open(known["sealed"], _place(name, key.serial)) != key.text:
        raise KeyturnError(
            "key_unknown",
            f"another key with the number {key.serial} is kept here: one of the two is not the publisher's",
        )
    sealed = sealer.seal(key.text, _place(name, key.serial), chance(12))
    db.execute(
        "INSERT INTO key (product, serial, channel, product_id, partial, sealed, remark, owned, added_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (product, serial)"
        " DO UPDATE SET remark = coalesce(excluded.remark, remark), owned = coalesce(excluded.owned, owned)",
        (
            name, key.serial, key.channel.value, product_id(product.slug, key.channel, key.serial), key.partial, sealed,
            given.remark, given.owned, now,
        ),
    )  # fmt: skip
    row: Row = db.execute("SELECT * FROM key WHERE product = ? AND serial = ?", (name, key.serial)).fetchone()
    if known is None:
        store.audit(db, now, who, "key_added", {"product_id": row["product_id"], "partial": key.partial})
    return row, known is None


def find(db: Connection, text: str, product: str | None = None) -> Row:
    """The key that a product ID, a serial or the last five characters name. Raises: KeyturnError ``not_found``, ``usage``."""
    rows = [
        row for row in db.execute("SELECT * FROM key")
        if text in (row["product_id"], str(row["serial"])) or text.upper() == row["partial"]
        if product in (None, row["product"])
    ]  # fmt: skip
    if not rows:
        raise KeyturnError(
            "not_found", f"no key here is called {text[:60]!r}", remedy="List them: `keyturn fleet key list`."
        )
    if len(rows) > 1:
        raise KeyturnError(
            "usage", f"{len(rows)} keys end in {text[:5]!r}", remedy="Name the product ID: `keyturn fleet key list`."
        )
    found: Row = rows[0]
    return found


def by_serial(db: Connection, product: str, serial: int) -> Row:
    """Raises: KeyturnError ``not_found``."""
    row = db.execute("SELECT * FROM key WHERE product = ? AND serial = ?", (product, serial)).fetchone()
    if row is None:
        raise KeyturnError("not_found", f"key {serial} is not kept here any more")
    assert isinstance(row, Row)
    return row


def opened(sealer: Sealer, row: Row) -> str:
    """The key itself, for the computer that is to install it."""
    return sealer.open(row["sealed"], _place(row["product"], row["serial"]))


def used(db: Connection, product: str, serial: int, used: int, seats: int, now: int) -> None:
    """Note what the service said of a key: how many of its seats are taken."""
    db.execute(
        "UPDATE key SET used = ?, seats = ?, checked_at = ? WHERE product = ? AND serial = ?",
        (used, seats, now, product, serial),
    )


def change(db: Connection, row: Row, *, remark: str | None, owned: int | None) -> None:
    """Keep another remark, and another number of seats that the organization says it owns."""
    db.execute(
        "UPDATE key SET remark = ?, owned = ? WHERE product = ? AND serial = ?", (remark, owned, row["product"], row["serial"])
    )


def remove(db: Connection, row: Row, *, who: str, now: int) -> None:
    """Forget a key here. Computers that have it keep it."""
    db.execute("DELETE FROM key WHERE product = ? AND serial = ?", (row["product"], row["serial"]))
    store.audit(db, now, who, "key_removed", {"product_id": row["product_id"]})


def question(sealer: Sealer, row: Row, signer: Signer, nonce: bytes, now: int) -> str:
    """Ask the publisher how a key stands: signed with the fleet's key for that product, and with the proof that the
    key is held.
    """
    product, text = ProductName.parse(row["product"]), b64u(nonce)
    secret = productkey.derive(productkey.parse(opened(sealer, row)), product)
    proof = productkey.proof(secret, product, row["serial"], signer.kid, text)
    return jws.sign(
        Kind.INQUIRY, Inquiry(product, row["serial"], proof, text, now).claims(), signer.public, signer.sign, own=True
    )


def take_answer(db: Connection, row: Row, answer: dict[str, Any] | Refused, now: int) -> KeyturnError | None:
    """Keep what the publisher said of a key; the result is what is wrong with it all the same.

    A key of another organization than the first one that was asked about is marked, and serves for nothing here.
    Raises: KeyturnError ``key_unknown`` and other refusals, ``answer_unexpected``.
    """
    if isinstance(answer, Refused):
        raise answer.as_error()
    used_, seats, organization = (answer.get(name) for name in ("used", "limit", "organization"))
    if type(used_) is not int or type(seats) is not int or not isinstance(organization, str | None):
        raise KeyturnError("answer_unexpected", "the publisher's answer about a key is not understood")
    db.execute(
        "UPDATE key SET used = ?, seats = ?, organization = ?, checked_at = ? WHERE product = ? AND serial = ?",
        (used_, seats, organization, now, row["product"], row["serial"]),
    )
    if foreign(db, row["product"], row["serial"]):
        return KeyturnError("key_foreign", f"{row['product_id']} was issued to {organization}")
    return None


def foreign(db: Connection, product: str, serial: int) -> bool:
    """Whether a key was issued to another organization than the first key of that publisher was."""
    row = by_serial(db, product, serial)
    first = db.execute(
        "SELECT organization FROM key WHERE substr(product, 1, 43) = substr(?, 1, 43) AND organization IS NOT NULL"
        " ORDER BY added_at, serial LIMIT 1",
        (product,),
    ).fetchone()
    return row["organization"] is not None and first is not None and row["organization"] != first["organization"]


def listed(db: Connection) -> Iterator[dict[str, Any]]:
    """Keys as people see them: never the key itself."""
    for row in db.execute("SELECT * FROM key ORDER BY product, channel, serial"):
        left = None if row["seats"] is None else max(0, row["seats"] - row["used"])
        yield {
            "product": row["product"], "product_id": row["product_id"], "channel": row["channel"], "partial_key": row["partial"],
            "remark": row["remark"], "owned": row["owned"], "organization": row["organization"], "used": row["used"],
            "seats": row["seats"], "remaining": left,
            "checked_at": rfc3339(row["checked_at"]), "added_at": rfc3339(row["added_at"]),
        }  # fmt: skip


def _place(product: str, serial: int) -> str:
    return f"{product} {serial}"
