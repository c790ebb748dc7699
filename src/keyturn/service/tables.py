"""How rows look on a terminal."""

from __future__ import annotations

from typing import Any


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
