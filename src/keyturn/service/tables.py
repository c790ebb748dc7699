"""How rows look on a terminal, and what verbs do that only show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keyturn.edge.terminal import Call
from keyturn.service.context import desk
from keyturn.service.desk import Desk, Item, every


def show(call: Call, find: Callable[[Desk], Item]) -> None:
    """Print what ``find`` asks of the desk, which may change it first: one thing, a line for each of its fields."""
    with desk(call) as d:
        found = find(d)
    call.emit(found, lines(found))


def show_all(
    call: Call, name: str, page: Callable[[Desk], Callable[..., Item]], columns: tuple[str, ...], **filters: Any
) -> None:
    """Print a list of the desk's, all of its pages, with these columns on a terminal. ``name`` is its name in JSON."""
    with desk(call) as d:
        found = every(page(d), name, **filters)
    call.emit({name: found}, table(found, columns))


def lines(row: dict[str, Any]) -> str:
    return "\n".join(
        f"  {name.replace('_', ' '):<15} {'–' if value in (None, '') else value}" for name, value in row.items()
    )


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    if not rows:
        return "None yet."
    cells = [[str("–" if row[c] is None else row[c]) for c in columns] for row in rows]
    widths = [max(len(c), *(len(line[i]) for line in cells)) for i, c in enumerate(columns)]
    head = "  ".join(c.replace("_", " ").ljust(w) for c, w in zip(columns, widths, strict=True))
    return "\n".join([head, *("  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)) for line in cells)])
