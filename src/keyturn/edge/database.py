"""SQLite with one writer: nothing is acknowledged before it is durable, and one refused item spoils no other.

Keeps: connections and their settings, reading, migrations. Leaves to others: groups, commits and what a failed disk means
(``writer``), tables, SQL and every rule (the programs' own modules).

- Every setting is read back after it was made: a database without ``synchronous=FULL`` is refused.
- Readers have connections of their own, which cannot write, and never wait for the writer.
- Several processes may share the file: a transaction begins ``IMMEDIATE`` and waits for the others.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from keyturn.core.errors import KeyturnError
from keyturn.edge import files
from keyturn.edge.writer import BUSY_MS, WAITING, Writer, code_of, die, storage_error

__all__ = ["Database", "open_database", "storage_error"]

T = TypeVar("T")

CACHE_KIB = 32_768
STATEMENTS = 1_024  # That stay prepared: those for many rows at once are another one for each number of rows.

# What is set, to what, and what must be read back then: of every connection, and of those that may write.
_SETTINGS = (
    ("busy_timeout", str(BUSY_MS), BUSY_MS), ("foreign_keys", "ON", 1), ("trusted_schema", "OFF", 0),
    ("temp_store", "MEMORY", 2),
)  # fmt: skip
_WRITING = (
    ("journal_mode", "WAL", "wal"), ("synchronous", "FULL", 2), ("wal_autocheckpoint", "0", 0),
    ("cache_size", f"-{CACHE_KIB}", -CACHE_KIB),  # A group's pages must fit, or they are written more than once.
)  # fmt: skip


def open_database(
    path: str | os.PathLike[str],
    *,
    migrations: Sequence[str],
    readonly: bool = False,
    on_fatal: Callable[[str], None] = die,
) -> Database:
    """Open the database at ``path``, making it (mode 0600) and bringing it up to date if need be.

    1. Make the file with its mode, durable in its directory.
    2. Set WAL, ``synchronous=FULL`` and foreign keys, and check that they hold. Make the log's name durable: SQLite does
       that too, but passes over a failure in silence.
    3. Refuse a database of a newer program; run the missing migrations, each in a transaction of its own.

    ``migrations`` are SQL scripts in order; the database's ``user_version`` counts those that are done, and a script is
    never changed once it was published. ``readonly`` does none of this but the refusal.

    Raises: KeyturnError ``storage_failed``, ``store_damaged``, or ``store_newer``.
    """
    place = Path(path)
    try:
        if not readonly:
            _make_file(place)
        connection = _connect(place, readonly=readonly)
        if not readonly:
            files.sync_directory(place.parent)
    except sqlite3.Error as error:
        raise storage_error(error, place) from error
    except OSError as error:
        raise KeyturnError("storage_failed", f"{place}: {error.strerror or error}") from error
    try:
        _migrate(connection, migrations, readonly=readonly)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise storage_error(error, place) from error
        raise
    return Database(place, connection, readonly=readonly, on_fatal=on_fatal)


class Database:
    """An open database. Made by :func:`open_database`; every method may be called from any thread."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, *, readonly: bool, on_fatal: Callable[[str], None]
    ) -> None:
        self.path = path
        self.writer = Writer(path, connection, on_fatal=on_fatal, refuses="was opened for reading only" if readonly else None)
        self._readonly = readonly
        self._gate = threading.Lock()
        self._closed = False
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, fn: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Let the writer call ``fn`` with its connection; the future is done when the result is durable.

        A returned value is kept, also a :class:`~keyturn.core.errors.Refused`. An exception rolls back what this ``fn``
        did and nothing else; one of SQLite's comes as KeyturnError ``storage_failed`` or ``internal``.
        With asyncio: ``await asyncio.wrap_future(database.write(fn))``.

        Raises: KeyturnError ``storage_failed`` if the database is closed or read-only.
        """
        future: Future[T] = Future()
        self.writer.accept([(fn, future)])
        return future

    def write_now(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Like :meth:`write`, and wait for the result. Never call it from inside an item."""
        if self.writer.here:
            raise RuntimeError("write_now() inside an item would wait for itself")
        return self.write(fn).result()

    def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Call ``fn`` with a connection that can only read, in one snapshot, and return its result.

        Rows are :class:`sqlite3.Row`. Calls of several threads run side by side, each on a connection of its own; nobody
        waits for the writer.

        Raises: KeyturnError ``storage_failed``, and whatever ``fn`` raises.
        """
        with self.snapshot() as connection:
            return fn(connection)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection that can only read, and finds the same as long as the block lasts. Raises: as :meth:`read`."""
        with self._reading() as connection:
            connection.execute("BEGIN")
            yield connection

    def look(self, statement: str, parameters: Sequence[object]) -> Any:
        """The first row that one statement finds, or ``None``: a statement is a snapshot by itself.

        Raises: KeyturnError ``storage_failed``.
        """
        with self._reading() as connection:
            return connection.execute(statement, parameters).fetchone()

    def close(self) -> None:
        """Write what waits, then close. Calling it twice does nothing."""
        self.writer.close()
        with self._gate:
            self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._readers.get_nowait().close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._readers.get_nowait()
        except queue.Empty:
            connection = self._reader()
        try:
            yield connection
        except sqlite3.Error as error:
            raise storage_error(error, self.path) from error
        finally:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.rollback()
            with self._gate:
                if self._closed:
                    connection.close()
                else:
                    self._readers.put(connection)

    def _reader(self) -> sqlite3.Connection:
        with self._gate:
            if self._closed:
                raise KeyturnError("storage_failed", f"{self.path}: is closed")
        try:
            connection = _connect(self.path, readonly=self._readonly)
            connection.execute("PRAGMA query_only=ON")
        except sqlite3.Error as error:
            raise storage_error(error, self.path) from error
        connection.row_factory = sqlite3.Row
        return connection


def _make_file(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)  # SQLite gives its -wal and -shm files the mode of the database.
        return
    files.sync_directory(path.parent)


def _connect(path: Path, *, readonly: bool) -> sqlite3.Connection:
    """A connection in autocommit mode with the settings of this module, each checked after it was made."""
    mode = "ro" if readonly else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False,
        cached_statements=STATEMENTS,
    )  # fmt: skip
    try:
        for name, value, wanted in _SETTINGS + (() if readonly else _WRITING):
            _set(connection, name, value, wanted)
    except BaseException:
        connection.close()
        raise
    return connection


def _set(connection: sqlite3.Connection, name: str, value: str, wanted: object) -> None:
    until = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute(f"PRAGMA {name}={value}").fetchall()
            break
        except sqlite3.OperationalError as error:
            # The change to WAL does not wait for other processes by itself.
            if code_of(error) not in WAITING or time.monotonic() > until:
                raise
            time.sleep(0.01)
    found = connection.execute(f"PRAGMA {name}").fetchone()
    if found is None or found[0] != wanted:
        raise KeyturnError("storage_failed", f"The setting {name} of the database does not become {value}.")


def _migrate(connection: sqlite3.Connection, migrations: Sequence[str], *, readonly: bool) -> None:
    while True:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(migrations):
            raise KeyturnError("store_newer", f"The database has version {version}, this program knows {len(migrations)}.")
        if version == len(migrations):
            return
        if readonly:
            raise KeyturnError("storage_failed", f"The database has version {version}, {len(migrations)} is needed.")
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have been faster: only the version inside the transaction counts.
            if connection.execute("PRAGMA user_version").fetchone()[0] == version:
                for statement in _statements(migrations[version]):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise


def _statements(script: str) -> Iterator[str]:
    """The statements of ``script``: ``executescript()`` would commit the transaction that they belong to."""
    pending = ""
    for piece in script.split(";"):
        pending += piece + ";"
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip(" \t\r\n;"):
        yield pending
