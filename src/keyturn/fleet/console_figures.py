"""What the console's pages show, as rows: one page of the table, the overview, hosts that were used.

Keeps: statements whose cost does not grow with what is not shown. Leaves to others: single computers (``store``), tasks
(``tasks``), which computers a filter means (``selecting``), how it looks (the templates).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any

from keyturn.core.model import DAY, ProductName, rfc3339
from keyturn.fleet import keys, tasks
from keyturn.fleet.reporting import SOON

PAGE = 100  # Rows of a page.
DAYS = 400  # Of the picture over time.
SHOWN = 20  # Rows of a list on the overview.
LOW = 0.1  # A key is low when at most this part of its seats is left.
# What the picture shows, and which states that is.
LINES = {
    "licensed": ("licensed",),
    "grace": ("initial_grace", "out_of_tolerance_grace", "non_genuine_grace", "extended_grace"),
    "notification": ("notification",),
}
_UNTIL = "coalesce(valid_until, grace_until)"
# How the table is sorted; what a license says is that of the product which is worst off by that order.
SORTS = {
    "name": "c.name, c.id",
    "seen": "c.seen_at DESC NULLS LAST, c.name, c.id",
    "state": "(SELECT max(state) FROM license WHERE computer = c.id) DESC, c.name, c.id",
    "until": f"(SELECT min({_UNTIL}) FROM license WHERE computer = c.id) NULLS LAST, c.name, c.id",  # noqa: S608 (ours)
}


def rows(db: Connection, chosen: Sequence[str] | None, sort: str, number: int) -> tuple[list[str], int]:
    """The ids on page ``number`` (from 1) of all computers, or of those that were chosen, and how many there are in all.

    ``chosen`` are in order of their names (``selecting.choose``).
    """
    order, first = SORTS.get(sort, SORTS["name"]), (number - 1) * PAGE
    if chosen is not None and order == SORTS["name"]:
        return list(chosen[first : first + PAGE]), len(chosen)
    if chosen is None:
        where, parameters, total = "", [], db.execute("SELECT count(*) FROM computer").fetchone()[0]
    else:
        where, parameters, total = "WHERE id IN (SELECT value FROM json_each(?))", [json.dumps(chosen)], len(chosen)
    found = db.execute(
        f"SELECT id FROM computer c {where} ORDER BY {order} LIMIT ? OFFSET ?",  # noqa: S608 (a value of SORTS)
        (*parameters, PAGE, first),
    )
    return [row["id"] for row in found], total


def overview(db: Connection, now: int) -> dict[str, Any]:
    """Everything on the first page."""
    count, seen = db.execute(
        "SELECT count(*), count(*) FILTER (WHERE seen_at > ?) FROM computer", (now - DAY,)
    ).fetchone()
    return {
        "computers": count, "seen": seen, "products": _products(db), "days": days(db, now), "ending": _ending(db, now),
        "under_way": under_way(db), "low": [one for one in keys.listed(db) if _is_low(one)], "hosts": hosts(db),
    }  # fmt: skip


def days(db: Connection, now: int) -> list[dict[str, Any]]:
    """Each day that was counted: its date and time, and how many licenses stood on each of ``LINES``."""
    found: dict[int, dict[str, Any]] = {}
    line = {state: name for name, states in LINES.items() for state in states}
    for row in db.execute(
        "SELECT day, state, sum(computers) AS n FROM day WHERE day > ? GROUP BY day, state ORDER BY day",
        (now // DAY - DAYS,),
    ):
        at = row["day"] * DAY
        one = found.setdefault(row["day"], {"at": at, "day": str(rfc3339(at))[:10], **dict.fromkeys(LINES, 0)})
        if row["state"] in line:
            one[line[row["state"]]] += row["n"]
    return list(found.values())


def under_way(db: Connection) -> list[dict[str, Any]]:
    """The tasks that have not ended, the newest first."""
    open_ones = db.execute(
        "SELECT * FROM task WHERE id IN (SELECT DISTINCT task FROM item WHERE open = 1) ORDER BY made_at DESC LIMIT ?",
        (SHOWN,),
    ).fetchall()
    return [tasks.summary(db, row) for row in open_ones]


def hosts(db: Connection) -> list[dict[str, Any]]:
    """What computers said of activation hosts: by product, how many got their lease at one, and when the first one ends."""
    return [
        {"slug": ProductName.parse(row["product"]).slug, "computers": row["n"], "first_end": row["first_end"]}
        for row in db.execute(
            "SELECT product, count(*) AS n, min(valid_until) AS first_end FROM license WHERE via = 'host'"
            " GROUP BY product ORDER BY product"
        )
    ]


def hosts_named(db: Connection) -> list[dict[str, Any]]:
    """The hosts that were named in orders, with when that was last."""
    found = db.execute(
        "SELECT host, count(*) AS n, max(made_at) AS at FROM task WHERE host IS NOT NULL GROUP BY host ORDER BY host LIMIT ?",
        (PAGE,),
    )
    return [{"host": row["host"], "orders": row["n"], "at": rfc3339(row["at"])} for row in found]


def _products(db: Connection) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in db.execute(
        "SELECT product, state, count(*) AS n FROM license GROUP BY product, state ORDER BY product, state"
    ):
        slug = ProductName.parse(row["product"]).slug
        found.setdefault(row["product"], {"slug": slug, "states": {}})["states"][row["state"]] = row["n"]
    return list(found.values())


def _ending(db: Connection, now: int) -> dict[str, Any]:
    """What ends within ``SOON``: how much, and the first of it."""
    until = rfc3339(now + SOON)
    count = db.execute(f"SELECT count(*) FROM license WHERE {_UNTIL} <= ?", (until,)).fetchone()[0]  # noqa: S608 (ours)
    found = db.execute(
        f"SELECT c.id, c.name, l.product, l.state, {_UNTIL} AS until FROM license l JOIN computer c ON c.id = l.computer"  # noqa: S608
        f" WHERE {_UNTIL} <= ? ORDER BY until, c.name LIMIT ?",
        (until, SHOWN),
    )
    return {"count": count, "first": [{**dict(row), "slug": ProductName.parse(row["product"]).slug} for row in found]}


def _is_low(key: dict[str, Any]) -> bool:
    return key["remaining"] is not None and key["remaining"] <= key["seats"] * LOW
