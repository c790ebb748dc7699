"""Which computers are meant: ``--all``, named ones, a group, or a filter such as ``state=initial_grace product=paintbox``.

Keeps: the one language of filters, for commands, saved views and the console alike. Leaves to others: what is done to them.
"""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Sequence
from sqlite3 import Connection, Row
from typing import NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.model import ProductName

# What a filter may name, and the column it is about; of a product's license, or of the computer.
LICENSE_FIELDS = (
    "state",
    "edition",
    "channel",
    "via",
    "reason",
    "evidence",
    "partial_key",
    "product_id",
    "activation_id",
)
FIELDS = ("product", *LICENSE_FIELDS, "name", "group", "vm", "last")
_TERM = re.compile(r"([a-z_]+)(!?=)(.*)", re.DOTALL)


class Term(NamedTuple):
    """One condition. ``equal`` is false for ``!=``; the value may have ``*`` and ``?``."""

    field: str
    equal: bool
    value: str


class Selector(NamedTuple):
    """Computers by name or id, by group, by conditions that must all hold, or ``everything``."""

    everything: bool = False
    computers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    where: tuple[Term, ...] = ()

    @property
    def given(self) -> bool:
        return self.everything or bool(self.computers or self.groups or self.where)


def conditions(text: str) -> tuple[Term, ...]:
    """Read a filter. Raises: KeyturnError ``usage``."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise KeyturnError("usage", f"the filter {text[:80]!r} is not understood: {error}") from error
    found = []
    for word in words:
        match = _TERM.fullmatch(word)
        if match is None or match[1] not in FIELDS:
            raise KeyturnError(
                "usage", f"{word[:80]!r} is not a condition such as state=licensed; there are {', '.join(FIELDS)}"
            )
        found.append(Term(match[1], match[2] == "=", match[3]))
    return tuple(found)


def choose(db: Connection, selector: Selector) -> list[str]:
    """The ids of the computers that are meant, in order of their names.

    Raises: KeyturnError ``not_found`` for a computer or group that nobody knows.
    """
    meant: set[str] | None = None
    if selector.computers or selector.groups:
        meant = {one for text in selector.computers for one in _named(db, text)}
        meant |= {one for group in selector.groups for one in _members(db, group)}
    for term in selector.where:
        holding = _holding(db, term)
        meant = holding if meant is None else meant & holding
    rows = db.execute("SELECT id FROM computer ORDER BY name, id")
    return [row["id"] for row in rows if meant is None or row["id"] in meant]


def _named(db: Connection, text: str) -> list[str]:
    rows = db.execute("SELECT id FROM computer WHERE id = ? OR name = ?", (text, text)).fetchall()
    if not rows:
        raise KeyturnError(
            "not_found", f"no computer here is called {text[:80]!r}", remedy="List them: `keyturn fleet list`."
        )
    if len(rows) > 1:
        raise KeyturnError(
            "usage", f"{len(rows)} computers are called {text[:80]!r}", remedy="Name the id: `keyturn fleet list`."
        )
    return [row["id"] for row in rows]


def _members(db: Connection, group: str) -> list[str]:
    rows = db.execute("SELECT computer FROM member WHERE grp = ?", (group,)).fetchall()
    if not rows:
        raise KeyturnError(
            "not_found", f"there is no group {group[:80]!r}", remedy="List them: `keyturn fleet group list`."
        )
    return [row["computer"] for row in rows]


def _holding(db: Connection, term: Term) -> set[str]:
    """The computers for which one condition holds; of a license: one of their products' licenses."""
    rows: Sequence[Row]
    if term.field == "product":
        rows = db.execute("SELECT computer AS id, product AS value FROM license").fetchall()
        found = {
            row["id"] for row in rows if _fits(ProductName.parse(row["value"]).slug, term) or row["value"] == term.value
        }
    elif term.field in LICENSE_FIELDS:
        rows = db.execute(f"SELECT computer AS id, {term.field} AS value FROM license").fetchall()  # noqa: S608 (a name of FIELDS)
        found = _fitting(rows, term)
    elif term.field == "group":
        rows = db.execute("SELECT computer AS id, grp AS value FROM member").fetchall()
        found = _fitting(rows, term)
    elif term.field == "last":
        rows = db.execute(_LAST).fetchall()
        found = _fitting(rows, term)
    else:
        rows = db.execute(f"SELECT id, {term.field} AS value FROM computer").fetchall()  # noqa: S608 (a name of FIELDS)
        found = _fitting(rows, term)
    if term.equal:
        return found
    return {row["id"] for row in db.execute("SELECT id FROM computer")} - found


def _fitting(rows: Sequence[Row], term: Term) -> set[str]:
    """The ids of the rows whose value fits; each value is compared once, however many have it."""
    fits = {value: _fits(value, term) for value in {row["value"] for row in rows}}
    return {row["id"] for row in rows if fits[row["value"]]}


def _fits(value: str | None, term: Term) -> bool:
    return fnmatch.fnmatchcase((value or "none").casefold(), term.value.casefold() or "none")


# The outcome of the newest item of each computer: done, failed, a step that is under way, or its code.
_LAST = (
    "SELECT computer AS id, coalesce(code, step) AS value FROM"
    " (SELECT computer, code, step, row_number() OVER (PARTITION BY computer ORDER BY changed_at DESC) AS n FROM item)"
    " WHERE n = 1"
)
