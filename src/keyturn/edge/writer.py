"""The one that writes: what waits becomes one transaction, and nobody is answered before it is on the disk.

Keeps: groups and their commit, savepoints, checkpoints, and what a failed disk means. Leaves to others: connections and their
settings (``database``), groups of an event loop (``together``).

- Everything that waits (up to 64 items) is one transaction; each item has a savepoint of its own. After the commit, and only
  then, those who wait are answered: a future that is done holds what is on the disk.
- An item that raises is rolled back alone, and its exception is its answer.
- Neighbours that are :class:`Alike` are done at once, in one savepoint. If that raises, each is done alone after all.
- A full disk fails the group with ``storage_failed`` and the writer lives on. After an input/output error at the commit
  nothing is known any more (a failed ``fsync`` may have dropped the pages, and a second one would "succeed"), so the
  process ends. Checkpoints are made here and not by SQLite, which would pass over their errors in silence.
- Items of a group see each other's effects in order. They must not begin or end transactions themselves.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import queue
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from keyturn.core.errors import KeyturnError

GROUP = 64  # Items per commit: 50 to 64 is where the cost per item stops falling (an fsync is shared by all of them).
BUSY_MS = 5_000
PATIENCE = 30.0  # Seconds a transaction waits for other processes before its items fail.
CHECKPOINT_ROWS = 1_000  # Changed rows after which the log is copied into the database: some megabytes of log.
FATAL_EXIT = 70  # EX_SOFTWARE of sysexits.h.

WAITING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)  # Errors that are over when somebody else is done.
_IOERR = sqlite3.SQLITE_IOERR
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_OURS = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_MISMATCH)


class Waiting(Protocol):
    """Who waits for an item: what the writer needs of a :class:`concurrent.futures.Future`."""

    def set_running_or_notify_cancel(self) -> bool: ...
    def set_result(self, value: Any) -> None: ...
    def set_exception(self, failure: BaseException) -> None: ...


Item = tuple[Callable[[sqlite3.Connection], Any], Waiting]
Answer = tuple[Waiting, Any, BaseException | None]
Rest = Callable[[sqlite3.Connection], object]


@dataclass(frozen=True, slots=True)
class Alike:
    """An item of a kind of which many are done at once: ``do`` takes what each is to be done with.

    It returns as many results, and the rest of the work: what nothing before the commit looks at, so that the writer can do it
    while others go on. ``do`` and rest must lead to the same whether they are called once or for each alone, in this order.
    """

    do: Callable[[sqlite3.Connection, Sequence[Any]], tuple[Sequence[Any], Rest]]
    argument: Any

    def __call__(self, connection: sqlite3.Connection) -> Any:
        (result,), rest = self.do(connection, [self.argument])
        rest(connection)
        return result


class _Done(NamedTuple):
    """Items that were run and are to be committed: who waits, for which value or failure.

    ``rest`` is what is left to do. Should it fail, ``group`` is done again, each item alone.
    """

    answers: list[Answer]
    group: Sequence[Item] = ()
    rest: Rest | None = None


def die(message: str) -> None:
    """End the process at once, saying why: the default of ``on_fatal``."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"keyturn: {message}\n")
        sys.stderr.flush()
    os._exit(FATAL_EXIT)


class Writer:
    """A thread with the connection that writes. Its methods may be called from any other thread.

    ``commits`` counts the transactions that were committed for items, ``items`` the items in them. ``refuses`` is why nothing is
    taken at all.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, *, on_fatal: Callable[[str], None], refuses: str | None = None
    ) -> None:
        self.path = path
        self.commits = 0
        self.items = 0
        connection.row_factory = sqlite3.Row
        self._connection = connection
        self._on_fatal = on_fatal
        self._queue: queue.SimpleQueue[Item | _Done | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        # Whose the connection is. Another thread than the writer's that took it gives it on with what it has done.
        self._turn = threading.Lock()
        self._closed = False
        self._failed = refuses
        self._checkpointed = connection.total_changes
        self._thread = threading.Thread(target=self._write_until_closed, name="keyturn-writer", daemon=True)
        self._thread.start()

    @property
    def here(self) -> bool:
        """Whether this is the writer's own thread, which must not wait for itself."""
        return threading.current_thread() is self._thread

    def accept(self, items: Sequence[Item]) -> None:
        """Let the writer do ``items`` in this order, and tell those who wait. Raises: KeyturnError ``storage_failed``."""
        with self._gate:
            if self._closed or self._failed:
                raise KeyturnError("storage_failed", f"{self.path}: {self._failed or 'is closed'}")
            for item in items:
                self._queue.put(item)

    def do_here(self, items: Sequence[Item]) -> bool:
        """Do ``items`` in the calling thread, now, and let the writer commit them and tell those who wait.

        ``False`` if this would mean to wait, or is refused: nothing was done then, and :meth:`accept` is the way.
        """
        with self._gate:
            if self._closed or self._failed or not self._turn.acquire(blocking=False):
                return False
        done: _Done | None = None
        try:
            self._connection.execute("PRAGMA busy_timeout=0")
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error:
                return False
            finally:
                self._connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            done = self._do([item for item in items if item[1].set_running_or_notify_cancel()])
            return True
        finally:
            if done is None:  # Busy, or cut short by something that is no answer.
                self._connection.rollback()
            self._queue.put(done or _Done([]))

    def close(self) -> None:
        """Write what waits, then end. Calling it twice does nothing."""
        with self._gate:
            closed, self._closed = self._closed, True
            if not closed:
                self._queue.put(None)
        self._thread.join()
        self._connection.close()

    # --- in the writer's thread, and from _do on in that of do_here too ---

    def _write_until_closed(self) -> None:
        waiting: collections.deque[Item] = collections.deque()
        closing = False
        while not closing or waiting:
            # 1. Wait for something to do; then take all there is, and what another thread has done first of all.
            entries = [] if waiting else [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    entries.append(self._queue.get_nowait())
            # 2. The turn is somebody's who is at it: what it has done comes, and its turn with it.
            while not self._turn.acquire(blocking=False) and not any(isinstance(entry, _Done) for entry in entries):
                entries.append(self._queue.get())
            for entry in entries:
                if isinstance(entry, _Done):
                    self._finish(entry)
                elif entry is None:
                    closing = True
                else:
                    waiting.append(entry)
            # 3. A future that was cancelled while it waited drops out here; from now on it cannot be cancelled.
            items = [waiting.popleft() for _ in range(min(GROUP, len(waiting)))]
            group = [item for item in items if item[1].set_running_or_notify_cancel()]
            try:
                if self._failed:
                    self._fail(group, KeyturnError("storage_failed", f"{self.path}: {self._failed}"))
                elif group:
                    self._write_group(group)
            finally:
                self._turn.release()

    def _write_group(self, group: Sequence[Item], *, alone: bool = False) -> None:
        """Begin, do, finish: all in the writer's thread."""
        try:
            self._begin()
        except sqlite3.Error as error:
            self._fail(group, storage_error(error, self.path))
        else:
            self._finish(self._do(group, alone=alone))

    def _do(self, group: Sequence[Item], *, alone: bool = False) -> _Done:
        """Run items in savepoints, inside of a transaction that was begun. If all is lost, the group is told."""
        answers: list[Answer] = []
        rest: Rest | None = None
        try:
            for _, alike in itertools.groupby(group, id if alone else _kind):
                items = list(alike)
                done, rest = self._run_at_once(items, last=items[-1] is group[-1]) if len(items) > 1 else ([], None)
                answers += done or [(waiting, *self._run(fn)) for fn, waiting in items]
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._connection.rollback()
            self._fail(group, storage_error(error, self.path))
            return _Done([])
        return _Done(answers, group, rest)

    def _finish(self, done: _Done) -> None:
        """Commit, answer, checkpoint now and then. In the writer's thread, and never in one that serves."""
        connection = self._connection
        if not connection.in_transaction:
            return
        if done.rest is not None:
            try:
                done.rest(connection)
            except Exception:  # noqa: BLE001 - whatever it is, it is found again by the item whose it is
                connection.rollback()
                self._write_group(done.group, alone=True)
                return
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if code_of(error) == _IOERR:
                self._die(f"{self.path}: the disk failed while a commit was made durable ({_name(error)})")
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            for waiting, _, _ in done.answers:
                waiting.set_exception(storage_error(error, self.path))
            return
        self.commits += 1
        self.items += len(done.answers)
        for waiting, value, failure in done.answers:
            if failure is None:
                waiting.set_result(value)
            else:
                waiting.set_exception(failure)
        if connection.total_changes - self._checkpointed >= CHECKPOINT_ROWS:
            self._checkpoint()

    def _begin(self) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if code_of(error) not in WAITING or time.monotonic() > until:
                    raise
            else:
                return

    def _run_at_once(self, items: list[Item], *, last: bool) -> tuple[list[Answer], Rest | None]:
        """Do several items that are alike: nothing was done, and there is no answer, if that fails. Raises: as :meth:`_run`.

        The rest is left for later if these items are the ``last``: what comes after them must see all that they do.
        """
        arguments, do = [fn.argument for fn, _ in items if isinstance(fn, Alike)], _kind(items[0])

        def at_once(connection: sqlite3.Connection) -> tuple[Sequence[Any], Rest | None]:
            values, rest = do(connection, arguments)
            if last:
                return values, rest
            rest(connection)
            return values, None

        found, failure = self._run(at_once)
        if failure is not None:
            return [], None
        values, rest = found
        return [(waiting, value, None) for (_, waiting), value in zip(items, values, strict=True)], rest

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
            if code_of(error) == _IOERR:
                self._die(f"{self.path}: the disk failed while the log was copied ({_name(error)})")
            # A full disk or a busy file costs nothing: the log holds everything, and the next checkpoint copies it.

    def _die(self, message: str) -> None:
        with self._gate:
            self._failed = message
        self._on_fatal(message)

    @staticmethod
    def _fail(group: Sequence[Item], error: KeyturnError) -> None:
        for _, waiting in group:
            # One exception object for each: every waiting thread adds its own traceback.
            waiting.set_exception(KeyturnError(error.code, error.detail, remedy=error.remedy))


def _kind(item: Item) -> Any:
    """What neighbours of an item must have in common to be done with it: what does them, if they are :class:`Alike`."""
    return item[0].do if isinstance(item[0], Alike) else item


def storage_error(error: sqlite3.Error, path: Path) -> KeyturnError:
    """What an error of SQLite is called here; its text names tables and columns, never their contents."""
    code = code_of(error)
    if code in _DAMAGED:
        return KeyturnError("store_damaged", f"{path}: {error}", remedy="Restore the database from a backup.")
    if isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError)) or code in _OURS:
        return KeyturnError("internal", f"{path}: {error}")
    return KeyturnError("storage_failed", f"{path}: {error}")


def code_of(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF  # The rest of an extended code says where, not what.


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", None) or str(error)
