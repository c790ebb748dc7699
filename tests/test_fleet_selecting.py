"""Filters of computers: the database finds what comparing row by row finds."""

from __future__ import annotations

import fnmatch
import sqlite3
from collections.abc import Iterator, Mapping

import pytest

from keyturn.core.errors import KeyturnError
from keyturn.edge.database import open_database
from keyturn.fleet import home
from keyturn.fleet.selecting import FIELDS, MAX_TERMS, Selector, Term, choose, conditions

PRODUCTS = {"a": "A" * 43 + "/paintbox", "b": "A" * 43 + "/writer+test"}
# Of each computer: its name, its virtual machine, its groups, its licenses by product, and what its tasks ended with, in time.
COMPUTERS: Mapping[str, tuple[str, str | None, tuple[str, ...], Mapping[str, Mapping[str, str | None]], tuple[str, ...]]] = {
    "1": ("pc-01", None, ("lab",), {"a": {"state": "licensed", "edition": "Pro"}, "b": {"state": "unlicensed"}}, ("done",)),
    "2": ("pc-02", "kvm", ("lab", "room [1]"), {"a": {"state": "initial_grace", "edition": None}}, ("done", "limit_reached")),
    "3": ("PC-10", "kvm", (), {"b": {"state": "licensed", "edition": "none"}}, ()),
    "4": ("d'arc", "", ("x",), {}, ("send",)),
    "5": ("pc-01", None, (), {"a": {"state": "notification", "edition": "pro"}}, ()),
}
VALUES = (
    "licensed", "pro", "none", "", "lab", "room *", "kvm", "*", "pc-0?", "d'arc", "paintbox", PRODUCTS["b"], "done", "limit_*",
    "[!k]*",
)  # fmt: skip


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    database = open_database(tmp_path_factory.mktemp("fleet") / "fleet.db", migrations=home.migrations())
    database.write_now(_fill)
    with database.snapshot() as db:
        yield db
    database.close()


def _fill(db: sqlite3.Connection) -> None:
    for one, (name, vm, groups, licenses, ends) in COMPUTERS.items():
        db.execute(
            "INSERT INTO computer (id, name, agent, number, vm, enrolled_at, enrolled_by) VALUES (?, ?, ?, 0, ?, 0, 'x')",
            (one, name, one, vm),
        )
        db.executemany("INSERT INTO member (grp, computer) VALUES (?, ?)", [(group, one) for group in groups])
        for product, told in licenses.items():
            db.execute(
                "INSERT INTO license (computer, product, name, state, edition, usable) VALUES (?, ?, 'n', ?, ?, 1)",
                (one, PRODUCTS[product], told["state"], told.get("edition")),
            )
        for number, end in enumerate(ends):
            task = f"{one}-{number}"
            step, code = (end, None) if end in ("done", "send") else ("failed", end)
            db.execute("INSERT INTO task (id, action, product, made_by, made_at) VALUES (?, 'refresh', 'p', 'x', 0)", (task,))
            db.execute(
                "INSERT INTO item (task, computer, product, step, steps, open, code, changed_at)"
                " VALUES (?, ?, 'p', ?, '', 0, ?, ?)",
                (task, one, step, code, number),
            )


def by_hand(term: Term) -> list[str]:
    """Row by row."""

    def fits(value: str | None) -> bool:
        return fnmatch.fnmatchcase((value or "none").casefold(), term.value.casefold() or "none")

    found = []
    for one, (name, vm, groups, licenses, ends) in COMPUTERS.items():
        computers: dict[str, list[str | None]] = {"name": [name], "vm": [vm], "group": [*groups], "last": [*ends[-1:]]}
        values = computers.get(term.field, [told.get(term.field) for told in licenses.values()])
        if term.field == "product":
            names = [PRODUCTS[product] for product in licenses]
            holds = any(name == term.value or fits(name.partition("/")[2].partition("+")[0]) for name in names)
        else:
            holds = any(fits(value) for value in values)
        if holds == term.equal:
            found.append(one)
    return sorted(found, key=lambda one: (COMPUTERS[one][0], one))


@pytest.mark.parametrize("field", FIELDS)
def test_a_condition_finds_what_it_says(fleet: sqlite3.Connection, field: str) -> None:
    """Every value, by `=` and `!=`, with and without wildcards; what has no value is `none`."""
    some = 0
    for value in VALUES:
        for equal in (True, False):
            term = Term(field, equal, value)
            found = choose(fleet, Selector(where=(term,)))
            assert found == by_hand(term), term
            some += 0 < len(found) < len(COMPUTERS)
    assert some, "no value of these parts them"


def test_conditions_hold_together(fleet: sqlite3.Connection) -> None:
    """With each other, and with computers and groups that are named."""
    where = conditions("state=licensed vm!=kvm")
    assert choose(fleet, Selector(where=where)) == ["1"]
    assert choose(fleet, Selector(where=where, groups=("room [1]",))) == []
    assert choose(fleet, Selector(computers=("d'arc", "3"), groups=("lab",))) == ["3", "4", "1", "2"]
    assert choose(fleet, Selector(everything=True)) == ["3", "4", "1", "5", "2"]


def test_a_filter_has_a_length(fleet: sqlite3.Connection) -> None:
    """The longest is answered, one more condition is refused."""
    assert choose(fleet, Selector(where=conditions("name=* " * MAX_TERMS))) == ["3", "4", "1", "5", "2"]
    with pytest.raises(KeyturnError, match="at most"):
        conditions("name=* " * (MAX_TERMS + 1))
