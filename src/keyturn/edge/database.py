"""SQLite with one writer: nothing is acknowledged before it is durable, and one refused item spoils no other.

Keeps: connections and their settings, migrations, the writer thread with its group commit, and what a failed disk means.
Leaves to others: tables, SQL and every rule (the programs' own modules).

- One thread writes. It takes everything that waits (up to 64 items) into one transaction, gives each item a savepoint of
  its own, commits, and only then answers: a future that is done holds what is on the disk.
- An item that raises is rolled back alone, and its exception is its answer.
- A full disk fails the group with ``storage_failed`` and the writer lives on. After an input/output error at the commit
  nothing is known any more (a failed ``fsync`` may have dropped the pages, and a second one would "succeed"), so the
  process ends. Checkpoints are made here and not by SQLite, which would pass over their errors in silence.
- Several processes may share the file: a transaction begins ``IMMEDIATE`` and waits for the others.
- Items of a group see each other's effects in order. They must not begin or end transactions themselves.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import os
import queue
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from keyturn.core.errors import KeyturnError
from keyturn.edge import files

T = TypeVar("T")
Item = tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]

GROUP = 64  # Items per commit: 50 to 64 is where the cost per item stops falling (an fsync is shared by all of them).
BUSY_MS = 5_000
PATIENCE = 30.0  # Seconds a transaction waits for other processes before its items fail.
CHECKPOINT_ROWS = 1_000  # Changed rows after which the log is copied into the database: some megabytes of log.
CACHE_KIB = 32_768
FATAL_EXIT = 70  # EX_SOFTWARE of sysexits.h.

# What is set, to what, and what must be read back then: of every connection, and of those that may write.
_SETTINGS = (
    ("busy_timeout", str(BUSY_MS), BUSY_MS), ("foreign_keys", "ON", 1), ("trusted_schema", "OFF", 0),
    ("temp_store", "MEMORY", 2),
)  # fmt: skip
_WRITING = (
    ("journal_mode", "WAL", "wal"), ("synchronous", "FULL", 2), ("wal_autocheckpoint", "0", 0),
    ("cache_size", f"-{CACHE_KIB}", -CACHE_KIB),  # A group's pages must fit, or they are written more than once.
)  # fmt: skip

_IOERR = sqlite3.SQLITE_IOERR
_WAITING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_OURS = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_MISMATCH)


def die(message: str) -> None:
    """End the process at once, saying why: the default of ``on_fatal``."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"keyturn: {message}\n")
        sys.stderr.flush()
    os._exit(FATAL_EXIT)


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
    """An open database. Made by :func:`open_database`; every method may be called from any thread.

    ``commits`` counts the transactions that were committed for items, ``items`` the items in them.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, *, readonly: bool, on_fatal: Callable[[str], None]
    ) -> None:
        self.path = path
        self.commits = 0
        self.items = 0
        self._connection = connection
        self._readonly = readonly
        self._on_fatal = on_fatal
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._failed: str | None = None
        self._checkpointed = connection.total_changes
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_until_closed, name="keyturn-writer", daemon=True)
        self._writer.start()

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
        with self._gate:
            if self._closed or self._readonly or self._failed:
                why = self._failed or ("is closed" if self._closed else "was opened for reading only")
                raise KeyturnError("storage_failed", f"{self.path}: {why}")
            self._queue.put((fn, future))
        return future

    def write_now(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Like :meth:`write`, and wait for the result. Never call it from inside an item."""
        if threading.current_thread() is self._writer:
            raise RuntimeError("write_now() inside an item would wait for itself")
        return self.write(fn).result()

    def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Call ``fn`` with a connection that can only read, in one snapshot, and return its result.

        Rows are :class:`sqlite3.Row`. Calls of several threads run side by side, each on a connection of its own; nobody
        waits for the writer.

        Raises: KeyturnError ``storage_failed``, and whatever ``fn`` raises.
        """
        try:
            connection = self._readers.get_nowait()
        except queue.Empty:
            connection = self._reader()
        try:
            connection.execute("BEGIN")
            return fn(connection)
        except sqlite3.Error as error:
            raise storage_error(error, self.path) from error
        finally:
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            with self._gate:
                if self._closed:
                    connection.close()
                else:
                    self._readers.put(connection)

    def close(self) -> None:
        """Write what waits, then close. Calling it twice does nothing."""
        with self._gate:
            closed, self._closed = self._closed, True
            if not closed:
                self._queue.put(None)
        self._writer.join()
        with contextlib.suppress(queue.Empty):
            while True:
                self._readers.get_nowait().close()
        self._connection.close()

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

    # --- the writer's thread ---

    def _write_until_closed(self) -> None:
        self._connection.row_factory = sqlite3.Row
        last = False
        while not last:
            items = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(items) < GROUP and items[-1] is not None:
                    items.append(self._queue.get_nowait())
            last = items[-1] is None
            # A future that was cancelled while it waited drops out here; from now on it cannot be cancelled.
            group = [item for item in items if item is not None and item[1].set_running_or_notify_cancel()]
            if self._failed:
                self._fail(group, KeyturnError("storage_failed", f"{self.path}: {self._failed}"))
            elif group:
                self._write_group(group)

    def _write_group(self, group: list[Item]) -> None:
        """Write ``group`` and answer it.

        1. Begin; 2. run each item in its savepoint; 3. commit; 4. answer; 5. checkpoint now and then.
        """
        connection = self._connection
        committing = False
        answers: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            self._begin()
            for fn, future in group:
                answers.append((future, *self._run(fn)))
            committing = True
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if _code(error) == _IOERR and committing:
                self._die(f"{self.path}: the disk failed while a commit was made durable ({_name(error)})")
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            self._fail([item for item in group if not item[1].done()], storage_error(error, self.path))
            return
        self.commits += 1
        self.items += len(group)
        for future, value, failure in answers:
            if failure is None:
                future.set_result(value)
            else:
                future.set_exception(failure)
        if connection.total_changes - self._checkpointed >= CHECKPOINT_ROWS:
            self._checkpoint()

    def _begin(self) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if _code(error) not in _WAITING or time.monotonic() > until:
                    raise
            else:
                return

    def _run(self, fn: Callable[[sqlite3.Connection], Any]) -> tuple[Any, BaseException | None]:
        """Call one item in its savepoint. Raises: sqlite3.Error if the whole transaction is lost."""
        connection = self._connection
        connection.execute("SAVEPOINT item")
        value, failure = None, None
        try:
            value = fn(connection)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is this item's answer and nobody else's
            failure = error
        if not connection.in_transaction:
            # SQLite rolled everything back (a full disk does that), or the item did what it must not.
            raise failure if isinstance(failure, sqlite3.Error) else sqlite3.ProgrammingError("an item ended its group")
        if failure is not None:
            connection.execute("ROLLBACK TO item")
        connection.execute("RELEASE item")
        return value, storage_error(failure, self.path) if isinstance(failure, sqlite3.Error) else failure

    def _checkpoint(self) -> None:
        self._checkpointed = self._connection.total_changes
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            if _code(error) == _IOERR:
                self._die(f"{self.path}: the disk failed while the log was copied ({_name(error)})")
            # A full disk or a busy file costs nothing: the log holds everything, and the next checkpoint copies it.

    def _die(self, message: str) -> None:
        with self._gate:
            self._failed = message
        self._on_fatal(message)

    @staticmethod
    def _fail(group: list[Item], error: KeyturnError) -> None:
        for _, future in group:
            # One exception object for each: every waiting thread adds its own traceback.
            future.set_exception(KeyturnError(error.code, error.detail, remedy=error.remedy))


class Together:
    """Writes of one event loop: what is asked for in one turn of the loop is one group for the writer, and one wake-up back.

    A writer that wakes for every item commits each of them alone as long as it is faster than the loop, and the two threads
    spend their time giving way to each other. Used from inside of one running loop at a time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked: list[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]] = []
        self._done: collections.deque[tuple[asyncio.Future[Any], Future[Any]]] = collections.deque()

    def write(self, fn: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Like :meth:`Database.write`, with a future to await. Raises nothing; a closed database fails the future."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._asked.append((fn, future))
        if len(self._asked) == 1:
            loop.call_soon(self._hand_over)
        return future

    def _hand_over(self) -> None:
        asked, self._asked = self._asked, []
        for fn, future in asked:
            try:
                self._database.write(fn).add_done_callback(functools.partial(self._written, future))
            except KeyturnError as error:
                future.set_exception(error)

    def _written(self, future: asyncio.Future[Any], written: Future[Any]) -> None:
        """In the writer's thread."""
        self._done.append((future, written))
        if len(self._done) == 1:  # Otherwise the loop was woken already and has not emptied this yet.
            try:
                future.get_loop().call_soon_threadsafe(self._deliver)
            except RuntimeError:  # The loop has ended, and nobody waits any more.
                self._done.clear()

    def _deliver(self) -> None:
        while self._done:
            future, written = self._done.popleft()
            if future.cancelled():
                continue
            failure = written.exception()
            if failure is None:
                future.set_result(written.result())
            else:
                future.set_exception(failure)


def storage_error(error: sqlite3.Error, path: Path) -> KeyturnError:
    """What an error of SQLite is called here; its text names tables and columns, never their contents."""
    code = _code(error)
    if code in _DAMAGED:
        return KeyturnError("store_damaged", f"{path}: {error}", remedy="Restore the database from a backup.")
    if isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError)) or code in _OURS:
        return KeyturnError("internal", f"{path}: {error}")
    return KeyturnError("storage_failed", f"{path}: {error}")


def _code(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF  # The rest of an extended code says where, not what.


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or str(error)


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
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
    )
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
            if _code(error) not in _WAITING or time.monotonic() > until:
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
