"""Rows of computers: who enrolled, how each product stands there, what happened.

Keeps: the statements about computers, groups and their history. Leaves to others: tasks (``tasks``), keys (``keys``), rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from sqlite3 import Connection, Row
from typing import Any

from keyturn.core import fleet
from keyturn.core.fleet import CheckIn
from keyturn.core.model import DAY, rfc3339

HISTORY = 200  # Entries that are kept of one computer.
_COLUMNS = tuple(name for name in fleet.TOLD if name != "product")
# What makes an entry in a computer's story when it changes.
_TELLING = ("state", "activation_id", "edition", "partial_key", "via")


def audit(db: Connection, now: int, who: str, what: str, detail: Mapping[str, Any] | None = None) -> None:
    """Write down what somebody did; never a secret."""
    db.execute(
        "INSERT INTO audit (at, who, what, detail) VALUES (?, ?, ?, ?)",
        (now, who, what, None if detail is None else json.dumps(detail, ensure_ascii=False)),
    )


def note(
    db: Connection, computer: str, now: int, what: str, *, product: str | None = None, detail: str | None = None
) -> None:
    """Add to a computer's story; the oldest beyond ``HISTORY`` entries go."""
    db.execute(
        "INSERT INTO history (computer, at, product, what, detail) VALUES (?, ?, ?, ?, ?)",
        (computer, now, product, what, detail),
    )
    db.execute(
        "DELETE FROM history WHERE computer = ? AND rowid <="
        " (SELECT rowid FROM history WHERE computer = ? ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
        (computer, computer, HISTORY),
    )


def computer_of(db: Connection, agent: str) -> Row | None:
    """The computer whose agent has this key (thumbprint)."""
    row: Row | None = db.execute("SELECT * FROM computer WHERE agent = ?", (agent,)).fetchone()
    return row


def take_report(db: Connection, computer: Row, said: CheckIn, now: int) -> None:
    """Keep what a computer said of itself and its products; a product that it no longer has is forgotten here too."""
    db.execute(
        "UPDATE computer SET name = ?, number = ?, vm = ?, hardware = ?, seen_at = ? WHERE id = ?",
        (said.name, said.number, said.vm, json.dumps(dict(said.hardware)), now, computer["id"]),
    )
    known = {row["product"]: row for row in db.execute("SELECT * FROM license WHERE computer = ?", (computer["id"],))}
    for told in said.products:
        before = known.pop(told["product"], None)
        if before is not None and all(before[name] == told[name] for name in _COLUMNS):
            continue
        db.execute(_PUT, (computer["id"], told["product"], *(told[name] for name in _COLUMNS)))
        if before is None or any(before[name] != told[name] for name in _TELLING):
            note(db, computer["id"], now, told["state"], product=told["product"], detail=told["reason"])
    for product in known:
        db.execute("DELETE FROM license WHERE computer = ? AND product = ?", (computer["id"], product))
        note(db, computer["id"], now, "removed", product=product)


def forget(db: Connection, computers: Sequence[str], *, who: str, now: int) -> None:
    """Forget computers: their agents are answered no more. What is licensed there stays as it is."""
    db.executemany("DELETE FROM computer WHERE id = ?", [(one,) for one in computers])
    audit(db, now, who, "computers_removed", {"computers": len(computers)})


def put_in_group(db: Connection, group: str, computers: Sequence[str]) -> None:
    db.executemany("INSERT OR IGNORE INTO member (grp, computer) VALUES (?, ?)", [(group, one) for one in computers])


def take_out_of_group(db: Connection, group: str, computers: Sequence[str]) -> None:
    db.executemany("DELETE FROM member WHERE grp = ? AND computer = ?", [(group, one) for one in computers])


def groups(db: Connection) -> dict[str, int]:
    """How many computers each group has."""
    rows = db.execute("SELECT grp, count(*) AS n FROM member GROUP BY grp ORDER BY grp")
    return {row["grp"]: row["n"] for row in rows}


def listed(db: Connection, computers: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Computers as ``fleet list --json`` shows them: all, or these, in order of their names.

    ``last_action`` is the newest thing that was to be done there: ``outcome`` is ``done``, ``failed``, ``cancelled`` or the step.
    """
    wanted = None if computers is None else json.dumps(list(computers))

    def those(statement: str, column: str) -> list[Row]:
        if wanted is None:
            return db.execute(statement.format("")).fetchall()
        return db.execute(statement.format(f"WHERE {column} IN (SELECT value FROM json_each(?))"), (wanted,)).fetchall()  # noqa: S608 (ours)

    chosen = those("SELECT * FROM computer {} ORDER BY name, id", "id")
    licenses: dict[str, list[dict[str, Any]]] = {}
    for row in those("SELECT * FROM license {} ORDER BY product", "computer"):
        one = {**dict(row), "usable": bool(row["usable"])}
        licenses.setdefault(one.pop("computer"), []).append(one)
    members: dict[str, list[str]] = {}
    for row in those("SELECT computer, grp FROM member {} ORDER BY grp", "computer"):
        members.setdefault(row["computer"], []).append(row["grp"])
    last = {row["computer"]: row for row in those(_LAST_ACTION, "i.computer")}
    return [
        {
            "id": row["id"], "name": row["name"], "groups": members.get(row["id"], []), "vm": row["vm"],
            "enrolled_at": rfc3339(row["enrolled_at"]), "last_seen": rfc3339(row["seen_at"]),
            "products": licenses.get(row["id"], []), "last_action": _action(last.get(row["id"])),
        }
        for row in chosen
    ]  # fmt: skip


def story(db: Connection, computer: str) -> list[dict[str, Any]]:
    """What happened to a computer, newest first."""
    rows = db.execute("SELECT * FROM history WHERE computer = ? ORDER BY rowid DESC", (computer,))
    return [
        {"at": rfc3339(row["at"]), "product": row["product"], "what": row["what"], "detail": row["detail"]}
        for row in rows
    ]


def count_day(db: Connection, now: int) -> None:
    """Keep how many computers are in which state today, for the picture over time."""
    day = now // DAY
    db.execute("DELETE FROM day WHERE day = ?", (day,))
    db.execute(
        "INSERT INTO day (day, product, state, computers)"
        " SELECT ?, product, state, count(*) FROM license GROUP BY product, state",
        (day,),
    )


def _action(row: Row | None) -> dict[str, Any] | None:
    return None if row is None else {"action": row["action"], "outcome": row["step"], "code": row["code"]}


_PUT = (
    f"INSERT OR REPLACE INTO license (computer, product, {', '.join(_COLUMNS)})"  # noqa: S608 (names of TOLD)
    f" VALUES (?, ?, {', '.join('?' * len(_COLUMNS))})"
)
_LAST_ACTION = (
    "SELECT computer, action, step, code FROM (SELECT i.computer, t.action, i.step, i.code,"
    " row_number() OVER (PARTITION BY i.computer ORDER BY t.made_at DESC, t.id DESC) AS n"
    " FROM item i JOIN task t ON t.id = i.task {}) WHERE n = 1"
)
