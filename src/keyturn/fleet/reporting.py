"""Reports: who has what, and whether the organization owns as much as it has installed. As data, as CSV, and as a page to print.

Keeps: the figures and their forms. Leaves to others: rows of single computers (``store``), asking for them (verbs, console).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from sqlite3 import Connection
from typing import Any

from keyturn.core.model import DAY, ProductName, State, parse_rfc3339, rfc3339
from keyturn.fleet import store

SOON = 90 * DAY  # What ends within this time is listed.
STATES = tuple(state.word for state in State)
COLUMNS = (
    "computer", "product", "name", "edition", "product_id", "partial_key", "channel", "via", "state", "reason", "activated_at",
    "valid_until", "grace_until", "last_seen", "groups",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # What spreadsheets take for a formula, or for its beginning.


def report(db: Connection, now: int, computers: Sequence[str] | None = None) -> dict[str, Any]:
    """The whole report, of all computers or of these.

    ``true_up``: ``owned`` is what an administrator says is owned (``key set --owned``), else the seats that the
    publisher says the
    keys have; ``None`` if neither is known. ``installed`` are computers with the product, whatever its state.
    """
    rows = [
        {**product, "computer": one["name"], "id": one["id"], "groups": one["groups"], "last_seen": one["last_seen"]}
        for one in store.listed(db, computers)
        for product in one["products"]
    ]
    names = sorted({row["product"] for row in rows})
    return {
        "at": rfc3339(now),
        "products": [_counted(name, [row for row in rows if row["product"] == name]) for name in names],
        "groups": _by_group(rows),
        "true_up": [_true_up(db, name, sum(row["product"] == name for row in rows)) for name in names],
        "ending": _ending(rows, now),
        "computers": rows,
    }


def as_csv(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Rows as comma-separated values (RFC 4180); a cell that a spreadsheet would compute is made a text by an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in names])
    return text.getvalue()


def _cell(value: Any) -> str:
    text = "" if value is None else " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _counted(product: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    states = {state: count for state in STATES if (count := sum(row["state"] == state for row in rows))}
    return {
        "product": product, "slug": ProductName.parse(product).slug, "name": rows[0]["name"], "computers": len(rows),
        "states": states, "licensed": states.get("licensed", 0),
    }  # fmt: skip


def _by_group(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    groups = sorted({group for row in rows for group in row["groups"]})
    found = []
    for group in groups:
        inside = [row for row in rows if group in row["groups"]]
        licensed = sum(row["state"] == "licensed" for row in inside)
        found.append({"group": group, "installed": len(inside), "licensed": licensed})
    return found


def _true_up(db: Connection, product: str, installed: int) -> dict[str, Any]:
    keys = db.execute(
        "SELECT owned, seats FROM key WHERE product = ? AND channel IN ('mak', 'retail')", (product,)
    ).fetchall()
    known = [row["owned"] if row["owned"] is not None else row["seats"] for row in keys]
    owned = sum(one for one in known if one is not None) if any(one is not None for one in known) else None
    return {
        "product": product, "slug": ProductName.parse(product).slug, "owned": owned, "installed": installed,
        "over": None if owned is None else max(0, installed - owned),
    }  # fmt: skip


def _ending(rows: Sequence[Mapping[str, Any]], now: int) -> list[dict[str, Any]]:
    """What ends within 90 days, the soonest first: licenses with an end, and graces."""
    found = []
    for row in rows:
        until = row["valid_until"] or row["grace_until"]
        if until is not None and parse_rfc3339(until) <= now + SOON:
            found.append({name: row[name] for name in ("id", "computer", "product", "state")} | {"until": until})
    return sorted(found, key=lambda one: (one["until"], one["computer"]))
