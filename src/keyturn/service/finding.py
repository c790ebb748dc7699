"""``find TEXT``: from whatever a caller can read out to what is known about it.

What is understood: the reference number of an error, a product ID, a serial, the last five symbols of a key, a whole
product key, the name of an activation, an organization, the GUID of an installation.

- Looking is written to the audit before the answer: who looked, for which kind of thing, how many were found.
- A whole product key is reduced to its serial at once; it is neither kept nor shown.
"""

from __future__ import annotations

import re
from sqlite3 import Connection
from typing import Any

from keyturn.core import productkey
from keyturn.core.errors import KeyturnError
from keyturn.core.ids import Ids
from keyturn.service import catalog, incidents, seats

MAX_FOUND = 50  # Of each kind.
MAX_TEXT = 200
_PRODUCT_ID = re.compile(r"[a-z0-9][a-z0-9-]*-[a-z]+-(\d{9})", re.ASCII)


def find(db: Connection, text: str, ids: Ids, now: int, actor: str = "staff") -> dict[str, Any]:
    """Everything that ``text`` names, by kind: ``{"found": [{"kind": …, kind: {…}}]}``; nothing is an empty list."""
    wanted = text.strip()
    if not 0 < len(wanted) <= MAX_TEXT:
        raise KeyturnError("usage", f"what to find has 1 to {MAX_TEXT} characters")
    found = [{"kind": kind, kind: row} for kind, row in _look(db, wanted)]
    counts: dict[str, int] = {}
    for item in found:
        counts[str(item["kind"])] = counts.get(str(item["kind"]), 0) + 1
    seats.write_audit(db, ids, now, actor, "staff.looked", "find", counts)
    return {"found": found}


def _look(db: Connection, text: str) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    reference = incidents.reference_in(text)
    if reference is not None:
        incident = incidents.find(db, reference)
        if incident is not None:
            found.append(("incident", incident))
            if incident["product_id"] is not None:
                found += _keys(db, "k.serial = ?", int(incident["product_id"].rpartition("-")[2]))
        return found
    whole = _product_key(text)
    if whole is not None:
        return _keys(db, "k.serial = ?", whole)
    named = _PRODUCT_ID.fullmatch(text.lower())
    if named is not None:
        found += _keys(db, "k.serial = ?", int(named[1]))
    elif text.isascii() and text.isdigit() and len(text) <= 9:
        found += _keys(db, "k.serial = ?", int(text))
    if len(text) == 5:
        found += _keys(db, "k.partial = ?", text.upper())
    found += [("organization", o) for o in _organizations(db, text)]
    rows = db.execute("SELECT id FROM activation WHERE id = ?", (text.lower(),)).fetchall()
    rows += db.execute(
        "SELECT DISTINCT activation AS id FROM installation WHERE guid = ? LIMIT ?", (text.lower(), MAX_FOUND)
    ).fetchall()
    return found + [("activation", catalog.activation(db, row["id"])) for row in rows]


def _product_key(text: str) -> int | None:
    try:
        return productkey.parse(text).serial
    except KeyturnError:
        return None


def _keys(db: Connection, where: str, value: object) -> list[tuple[str, dict[str, Any]]]:
    rows = db.execute(f"SELECT k.serial FROM product_key k WHERE {where} LIMIT ?", (value, MAX_FOUND)).fetchall()  # noqa: S608 (ours)
    return [("key", catalog.key(db, row["serial"])) for row in rows]


def _organizations(db: Connection, text: str) -> list[dict[str, Any]]:
    rows = db.execute(
        "SELECT name FROM organization WHERE name = ? OR title = ? ORDER BY name LIMIT ?",
        (text.lower(), text, MAX_FOUND),
    ).fetchall()
    return [catalog.find_organization(db, row["name"]) for row in rows]
