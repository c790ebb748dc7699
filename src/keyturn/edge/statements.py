"""Many rows by one statement: Python's lock is given away once for all of them, and not twice for each."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from sqlite3 import Connection

AT_ONCE = 64  # Rows of one statement.


def write_rows(db: Connection, statement: str, rows: Sequence[Sequence[object]]) -> None:
    """Carry out ``statement`` for all rows. One with ``VALUES ?`` takes many rows at once, any other one after another."""
    if "VALUES ?" not in statement:
        db.executemany(statement, rows)
        return
    for begin in range(0, len(rows), AT_ONCE):
        part = rows[begin : begin + AT_ONCE]
        db.execute(many(statement, len(part), len(part[0])), [value for row in part for value in row])


@functools.lru_cache(maxsize=1_024)
def many(statement: str, count: int, width: int) -> str:
    """``statement`` with room for ``count`` rows of ``width`` values where it says ``VALUES ?``."""
    row = f"({', '.join('?' * width)})"
    return statement.replace("VALUES ?", f"VALUES {', '.join([row] * count)}")
