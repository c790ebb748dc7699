"""Calls: the installation IDs that computers gave to be read out, each until it is answered, and the answers on their way.

Keeps: their rows. Leaves to others: when one comes and goes (``tasks``), whose an answer is (``telephoning``), the codes
(``core.phone``).

- Both codes are here only while they wait: whatever ends an item forgets them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from sqlite3 import Connection, Row

from keyturn.core import fleet


def keep(db: Connection, item: Row, installation_id: str, now: int) -> None:
    """Keep a computer's installation ID (digits); an answer to an older one is no answer to this."""
    db.execute(
        "INSERT OR REPLACE INTO call (task, computer, installation_id, confirmation_id, asked_at) VALUES (?, ?, ?, NULL, ?)",
        (item["task"], item["computer"], installation_id, now),
    )


def answer(db: Connection, item: Row, confirmation_id: str | None) -> None:
    """Keep what answers an item's installation ID (digits); ``None``: it was not the right one."""
    db.execute(
        "UPDATE call SET confirmation_id = ? WHERE task = ? AND computer = ?",
        (confirmation_id, item["task"], item["computer"]),
    )


def code_of(db: Connection, item: Row) -> str | None:
    """The confirmation ID that waits for an item's computer."""
    row = db.execute(
        "SELECT confirmation_id FROM call WHERE task = ? AND computer = ?", (item["task"], item["computer"])
    ).fetchone()
    return None if row is None else row["confirmation_id"]


def waiting(db: Connection, computers: Sequence[str] | None = None) -> list[Row]:
    """What waits for an answer, or for its computer to take it: items with their calls, by name of computer; all, or of these."""
    wanted = None if computers is None else json.dumps(list(computers))
    return db.execute(_WAITING, (fleet.CALL, "confirm", wanted)).fetchall()


def forget(db: Connection, item: Row) -> None:
    db.execute("DELETE FROM call WHERE task = ? AND computer = ?", (item["task"], item["computer"]))


def forget_all(db: Connection, task: str) -> None:
    """Forget the calls of a task."""
    db.execute("DELETE FROM call WHERE task = ?", (task,))


def forget_of(db: Connection, computer: str, product: str) -> None:
    """Forget the calls of a product on a computer: a newer task takes the place of what was under way."""
    db.execute(
        "DELETE FROM call WHERE computer = ?1 AND task IN (SELECT task FROM item WHERE computer = ?1 AND product = ?2)",
        (computer, product),
    )


_WAITING = (
    "SELECT i.*, t.action, k.installation_id, k.confirmation_id, k.asked_at, c.name, c.seen_at FROM call k"
    " JOIN item i ON i.task = k.task AND i.computer = k.computer JOIN task t ON t.id = k.task"
    " JOIN computer c ON c.id = k.computer WHERE i.step IN (?1, ?2) AND i.open = 1"
    " AND (?3 IS NULL OR k.computer IN (SELECT value FROM json_each(?3))) ORDER BY c.name, c.id, i.product"
)
