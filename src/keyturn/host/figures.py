"""What a host has to show, read from its ledger: for ``status``, ``report``, the page and the metrics alike.

Nothing here decides anything, and nothing writes. No name of a person, a user or a computer is in a ledger, so none is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from sqlite3 import Connection
from typing import Any

from keyturn.core import leasing
from keyturn.core.leasing import SEEN_DAYS
from keyturn.core.model import DAY, rfc3339
from keyturn.host import ledger
from keyturn.host.enrolling import warning
from keyturn.host.home import Permit

ENDING_DAYS = 30
STATES = ("licensed", "ended", "elsewhere", "waiting")


def product(db: Connection, permit: Permit, now: int) -> dict[str, Any]:
    """The figures of one product: the contract's members first."""
    number = ledger.find(db, str(permit.name))
    host = permit.certificate
    row = db.execute(_SUMS, {"product": number, "now": now, "ending": now + ENDING_DAYS * DAY}).fetchone()
    counted = ledger.counted(db, str(permit.name) if host is None else leasing.counts_with(host), now)
    threshold = None if host is None else host.threshold
    return {
        "product": str(permit.name), "threshold": threshold, "counted": counted, "licensed": row["licensed"] or 0,
        "needed": None if threshold is None else max(0, threshold - counted),
        "forks": db.execute("SELECT count(*) FROM fork WHERE product = ?", (number,)).fetchone()[0],
        "name": permit.opened.product.title, "computers": row["computers"], "waiting": row["waiting"] or 0,
        "elsewhere": row["elsewhere"] or 0, "ended": row["ended"] or 0, "ending": row["ending"] or 0,
        "capacity": None if host is None else host.capacity,
        "organization": None if host is None else host.organization, "product_id": permit.product_id,
        "expires": None if host is None else rfc3339(host.expires_at), "warning": warning(permit, now),
    }  # fmt: skip


def ending(db: Connection, permit: Permit, now: int, limit: int = 20) -> list[dict[str, Any]]:
    """The computers whose lease ends within 30 days, the first to end first."""
    values = {
        "product": ledger.find(db, str(permit.name)),
        "now": now,
        "until": now + ENDING_DAYS * DAY,
        "limit": limit,
    }
    return [
        {
            "product": str(permit.name), "number": row["number"], "lease_ends": rfc3339(row["ends_at"]),
            "days_left": (row["ends_at"] - now) // DAY, "seen_at": rfc3339(row["seen_at"]),
        }
        for row in db.execute(_ENDING, values)
    ]  # fmt: skip


def computers(db: Connection, permit: Permit, now: int) -> Iterator[dict[str, Any]]:
    """Every computer: its number, state, since when, when it was last seen, when its lease ends, its installations."""
    number = ledger.find(db, str(permit.name))
    for row in db.execute(_COMPUTERS, (number,)):
        ends = row["ends_at"]
        yield {
            "product": str(permit.name), "number": row["number"], "activation_id": row["id"],
            "state": _state(row["leased_at"], ends, now),
            "since": rfc3339(row["since"]), "seen_at": rfc3339(row["seen_at"]), "lease_ends": rfc3339(ends),
            "counted": bool(row["counts"]) and row["seen_at"] > now - SEEN_DAYS * DAY,
            "evidence": "strong" if row["pairs"] != "{}" else "weak", "installations": (row["guids"] or "").split(),
            "told_by": row["told_by"],
        }  # fmt: skip


def forks(db: Connection, permit: Permit) -> list[dict[str, Any]]:
    """Every copy that was found, both sides named: the original's number, and the copy's once it came back."""
    rows = db.execute(_FORKS, (ledger.find(db, str(permit.name)),))
    return [
        {
            "product": str(permit.name), "computer": row["original"], "copy": row["became"], "installation_guid": row["guid"],
            "reason": row["reason"], "since": rfc3339(row["since"]), "seen_at": rfc3339(row["seen_at"]),
            "resolved": row["became"] is not None,
        }
        for row in rows
    ]  # fmt: skip


def others(db: Connection) -> list[dict[str, Any]]:
    """The other hosts of the organization that told what they saw."""
    rows = db.execute("SELECT p.name, o.* FROM other o JOIN product p ON p.id = o.product ORDER BY o.place, p.name")
    return [
        {
            "host": row["place"], "product": row["name"], "thumbprint": row["host"], "told_at": rfc3339(row["told_at"]),
            "computers": row["computers"],
        }
        for row in rows
    ]  # fmt: skip


def _state(leased_at: int | None, ends_at: int | None, now: int) -> str:
    if ends_at is None:
        return "waiting" if leased_at is None else "elsewhere"  # Another host told that it has had a lease.
    return "licensed" if ends_at > now else "ended"


_SUMS = (
    "SELECT count(*) AS computers, sum(ends_at > :now) AS licensed, sum(ends_at IS NULL AND leased_at IS NULL) AS waiting,"
    " sum(ends_at IS NULL AND leased_at IS NOT NULL) AS elsewhere,"
    " sum(ends_at <= :now) AS ended, sum(ends_at > :now AND ends_at <= :ending) AS ending FROM computer WHERE product = :product"
)
_ENDING = (
    "SELECT number, ends_at, seen_at FROM computer WHERE product = :product AND ends_at > :now AND ends_at <= :until"
    " ORDER BY ends_at LIMIT :limit"
)
_COMPUTERS = (
    "SELECT c.*, (SELECT group_concat(i.guid, ' ') FROM installation i WHERE i.product = c.product"
    " AND i.computer = c.id) AS guids"
    " FROM computer c WHERE c.product = ? ORDER BY c.number"
)
_FORKS = (
    "SELECT f.*, o.number AS original, (SELECT c.number FROM installation i JOIN computer c ON c.product = i.product"
    " AND c.id = i.computer WHERE i.product = f.product AND i.guid = f.guid LIMIT 1) AS became"
    " FROM fork f LEFT JOIN computer o ON o.product = f.product AND o.id = f.computer"
    " WHERE f.product = ? ORDER BY f.since, original, f.guid"
)
