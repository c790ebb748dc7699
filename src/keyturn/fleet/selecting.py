"""Which computers are meant: ``--all``, named ones, a group, or a filter such as ``state=initial_grace product=paintbox``.

Keeps: the one language of filters, for commands, saved views and the console alike. Leaves to others: what is done to them.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from sqlite3 import Connection
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
MAX_TERMS = 50
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
    """Read a filter of at most :data:`MAX_TERMS` conditions. Raises: KeyturnError ``usage``."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise KeyturnError("usage", f"the filter {text[:80]!r} is not understood: {error}") from error
    if len(words) > MAX_TERMS:
        raise KeyturnError(
            "usage", f"a filter has at most {MAX_TERMS} conditions, and this one has {len(words)}",
            remedy="Put the computers into a group, and name that: `keyturn fleet group add`.",
        )  # fmt: skip
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
    clauses: list[str] = ["TRUE"]
    values: list[str] = []
    if selector.computers or selector.groups:
        named = [one for text in selector.computers for one in _named(db, text)]
        named += [one for group in selector.groups for one in _members(db, group)]
        clauses.append("id IN (SELECT value FROM json_each(?))")
        values.append(json.dumps(named))
    for term in selector.where:
        clause, fitting = _holding(db, term)
        clauses.append(clause)
        values.append(fitting)
    # S608: the clauses are of this module, and what somebody wrote is in `values`.
    rows = db.execute(f"SELECT id FROM computer WHERE {' AND '.join(clauses)} ORDER BY name, id", values)  # noqa: S608
    return [row["id"] for row in rows]


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


def _holding(db: Connection, term: Term) -> tuple[str, str]:
    """The computers for which one condition holds, as a clause with its value; of a license: one of their products' licenses.

    Each value that occurs is compared once, here, however many computers have it; which those are is the database's to find.
    """
    table, computer, column = _SOURCES.get(term.field, ("license", "computer", term.field))
    occur = [row[0] for row in db.execute(f"SELECT DISTINCT {column} FROM {table}")]  # noqa: S608 (names of this module)
    if term.field == "product":
        fits = [one for one in occur if one == term.value or _fits(ProductName.parse(one).slug, term)]
    else:
        fits = [one for one in occur if _fits(one, term)]
    # `+id`: in the order of the index of names, and not by ids that are sorted afterwards.
    none = f" OR {column} IS NULL" if None in fits else ""
    clause = (
        f"+id {'IN' if term.equal else 'NOT IN'} (SELECT {computer} FROM {table}"  # noqa: S608 (as above)
        f" WHERE {column} IN (SELECT value FROM json_each(?)){none})"
    )
    return clause, json.dumps([one for one in fits if one is not None])


def _fits(value: str | None, term: Term) -> bool:
    return fnmatch.fnmatchcase((value or "none").casefold(), term.value.casefold() or "none")


# The outcome of the newest item of each computer: done, failed, a step that is under way, or its code.
_LAST = (
    "(SELECT computer, coalesce(code, step) AS value FROM"
    " (SELECT computer, code, step, row_number() OVER (PARTITION BY computer ORDER BY changed_at DESC) AS n FROM item)"
    " WHERE n = 1)"
)
# Where the values of a field are that is not a license's: table, the column that names the computer, the value's own.
_SOURCES = {
    "name": ("computer", "id", "name"),
    "vm": ("computer", "id", "vm"),
    "group": ("member", "computer", "grp"),
    "last": (_LAST, "computer", "value"),
}
