"""Writes of one event loop: run in the loop's own thread, and committed by the writer meanwhile. And its look-ups.

Leaves to others: transactions, savepoints and the commit (``writer``).

- Two threads that both run Python spend their time giving way to each other. One that waits for a disk costs the other nothing.
- What comes while a group is being committed is the next group. A turn of the loop that asks for much begins one before its end.
- What is looked up in one turn of the loop is looked up in one snapshot: to begin one costs more than to look.
- Where somebody else is writing (this process's staff, another process), nothing waits here: the writer does it all.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from keyturn.core.errors import KeyturnError
from keyturn.edge.database import Database, storage_error
from keyturn.edge.writer import GROUP

T = TypeVar("T")

EARLY = 8  # Items that are worth a commit while others still arrive.


class Together:
    """Groups of what is asked for inside of one running loop, one group on its way at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked: list[tuple[Callable[[sqlite3.Connection], Any], _Told]] = []
        self._done: collections.deque[_Told] = collections.deque()
        self._out = 0  # Items on their way.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._snapshot: contextlib.ExitStack | None = None

    def look(self, statement: str, parameters: Sequence[object]) -> Any:
        """Like :meth:`Database.look`. Raises: KeyturnError ``storage_failed``."""
        loop = self._here()
        if self._snapshot is None:
            with contextlib.ExitStack() as stack:
                self._reader = stack.enter_context(self._database.snapshot())
                self._snapshot = stack.pop_all()
            loop.call_soon(self._end_snapshot)
        try:
            return self._reader.execute(statement, parameters).fetchone()
        except sqlite3.Error as error:
            raise storage_error(error, self._database.path) from error

    def _end_snapshot(self) -> None:
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.close()

    def write(self, fn: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Like :meth:`Database.write`, with a future to await. Raises nothing; a closed database fails the future."""
        loop = self._here()
        future: asyncio.Future[T] = loop.create_future()
        self._asked.append((fn, _Told(self, future)))
        self._soon(loop)
        return future

    def write_first(self, fn: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Like :meth:`write`, before what waits: an item among others that are alike would part them."""
        loop = self._here()
        future: asyncio.Future[T] = loop.create_future()
        self._asked.insert(0, (fn, _Told(self, future)))
        self._soon(loop)
        return future

    def _soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if len(self._asked) == 1:
            loop.call_soon(self._hand_over)
        elif len(self._asked) == EARLY:
            self._hand_over()

    def _here(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # What an earlier one left undelivered, nobody waits for.
            self._end_snapshot()
            self._loop, self._asked, self._done, self._out = loop, [], collections.deque(), 0
        return loop

    def _hand_over(self) -> None:
        """Begin the next group, unless one is on its way: its end begins the next."""
        while self._asked and not self._out:
            group, self._asked = self._asked[:GROUP], self._asked[GROUP:]
            self._out = len(group)
            try:
                if not self._database.writer.do_here(group):
                    self._database.writer.accept(group)
            except KeyturnError as error:
                self._out = 0
                for _, told in group:
                    if not told.future.done():
                        told.future.set_exception(KeyturnError(error.code, error.detail))

    def written(self, told: _Told) -> None:
        """In the writer's thread."""
        self._done.append(told)
        if len(self._done) >= self._out:  # The loop is woken once, when its whole group is done.
            try:
                told.future.get_loop().call_soon_threadsafe(self._deliver)
            except RuntimeError:  # The loop has ended, and nobody waits any more.
                self._done.clear()

    def _deliver(self) -> None:
        while self._done:
            told = self._done.popleft()
            if told.future.get_loop() is not self._loop:
                continue
            self._out -= 1
            if told.future.cancelled():
                continue
            if told.failure is None:
                told.future.set_result(told.value)
            else:
                told.future.set_exception(told.failure)
        self._hand_over()


class _Told:
    """Who waits in an event loop. A future of ``concurrent`` in between would cost as much as the row that it waits for."""

    __slots__ = ("_together", "failure", "future", "value")

    def __init__(self, together: Together, future: asyncio.Future[Any]) -> None:
        self._together = together
        self.future = future
        self.value: Any = None
        self.failure: BaseException | None = None

    def set_running_or_notify_cancel(self) -> bool:
        going = not self.future.cancelled()
        if not going:
            self._together.written(self)
        return going

    def set_result(self, value: Any) -> None:
        self.value = value
        self._together.written(self)

    def set_exception(self, failure: BaseException) -> None:
        self.failure = failure
        self._together.written(self)
