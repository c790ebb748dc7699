"""A copy of a database while others work with it, by SQLite's online backup; and looking at one as it is.

Leaves to others: connections and their errors (``database``), where the copy goes (``archive``).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from keyturn.core.errors import KeyturnError
from keyturn.edge import files
from keyturn.edge.archive import Progress, faults, nowhere
from keyturn.edge.database import Database, open_database, storage_error

PAGES = 4_096  # Pages (16 MiB) between two reports of progress.


def snapshot(database: Database, to: Path, progress: Progress = nowhere) -> None:
    """Copy ``database`` as it is now into a new file ``to`` (mode 0600), which is one plain file and not yet durable.

    1. A read transaction holds the moment: what was committed before is inside, and nothing else. Without it SQLite would
       begin again whenever another process writes, which on a busy service is for ever.
    2. Copy page by page. Writers go on; only the log cannot shrink meanwhile.
    3. The copy needs no log: it opens from a read-only disk too.

    Raises: KeyturnError ``storage_failed``, ``store_damaged``.
    """

    def copy(source: sqlite3.Connection) -> None:
        try:
            # 1.
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            with contextlib.closing(sqlite3.connect(to, isolation_level=None)) as target:
                for line in ("PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF"):
                    target.execute(line).fetchone()
                # 2.
                source.backup(
                    target, pages=PAGES, progress=lambda _, left, total: progress("the database", total - left, total)
                )
                # 3.
                target.execute("PRAGMA journal_mode=DELETE").fetchone()
        except sqlite3.Error as error:  # Of either side.
            told = storage_error(error, database.path)
            raise KeyturnError(told.code, f"{database.path}, copied to {to}: {error}", remedy=told.remedy) from error

    with faults(to):
        os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, files.PRIVATE))
    database.read(copy)


def open_as_it_is(path: Path, migrations: Sequence[str]) -> tuple[Database, int]:
    """Open a database for reading, in the version it has: nothing is brought up to date. The number is that version.

    Raises: KeyturnError as ``open_database``; ``store_newer`` for a version beyond ``migrations``.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise storage_error(error, path) from error
    return open_database(path, migrations=migrations[:version], readonly=True), version


def shape(connection: sqlite3.Connection) -> dict[str, str]:
    """Every table, index, view and trigger of a database with its definition; those that SQLite keeps for itself are left out."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")
    return {f"{kind} {name}": sql for kind, name, sql in rows.fetchall()}


def shape_of(migrations: Sequence[str]) -> dict[str, str]:
    """What ``shape`` must be after these migrations."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for script in migrations:
            connection.executescript(script)
        return shape(connection)
