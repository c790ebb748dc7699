"""The revocation list of a product as the service keeps it: changes in order, and the list that follows from them."""

from __future__ import annotations

from sqlite3 import Connection

from keyturn.core.model import ProductName
from keyturn.core.revocations import Entry, Revocations

RESTORED = "restored"  # The reason of a change that takes an earlier one back.


def change(db: Connection, serial: int, activation: str | None, reason: str, now: int) -> None:
    """Put a line on the list of the key's product, or with ``restored`` take it off; what changes nothing is no change."""
    product = str(db.execute("SELECT product FROM product_key WHERE serial = ?", (serial,)).fetchone()["product"])
    row = db.execute(
        "SELECT reason FROM revocation WHERE product = ? AND serial = ? AND activation IS ? ORDER BY number DESC LIMIT 1",
        (product, serial, activation),
    ).fetchone()
    if (RESTORED if row is None else row["reason"]) == reason:
        return
    db.execute(
        "INSERT INTO revocation (product, number, serial, activation, reason, at)"
        " SELECT ?1, coalesce(max(number), 0) + 1, ?2, ?3, ?4, ?5 FROM revocation WHERE product = ?1",
        (product, serial, activation, reason, now),
    )


def number(db: Connection, slug: str) -> int:
    """The number of a product's list; 0 for one that never changed."""
    row = db.execute("SELECT coalesce(max(number), 0) AS n FROM revocation WHERE product = ?", (slug,)).fetchone()
    return int(row["n"])


def listed(db: Connection, name: ProductName, now: int) -> Revocations:
    """A product's list as it stands."""
    standing: dict[tuple[int, str | None], Entry] = {}
    for row in db.execute("SELECT * FROM revocation WHERE product = ? ORDER BY number", (name.slug,)):
        place = row["serial"], row["activation"]
        standing.pop(place, None)
        if row["reason"] != RESTORED:
            standing[place] = Entry(*place, row["at"], row["reason"])
    return Revocations(name, number(db, name.slug), now, tuple(standing.values()))
