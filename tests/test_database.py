"""The database: durable before acknowledged, one refused item spoils no other, and what a failing disk does."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from keyturn.core.errors import KeyturnError, Refused
from keyturn.edge.database import Database, open_database
from keyturn.edge.together import Together
from keyturn.edge.writer import GROUP, Alike
from peers import refused

TABLE = "CREATE TABLE entry (number INTEGER PRIMARY KEY, text TEXT NOT NULL DEFAULT '');"
COUNTER = """
CREATE TABLE counter (name TEXT PRIMARY KEY, used INTEGER NOT NULL, most INTEGER NOT NULL, CHECK (used <= most));
-- a trigger has statements inside; the next line's string holds a semicolon
CREATE TRIGGER note AFTER UPDATE ON counter BEGIN INSERT INTO entry (text) VALUES ('a;b'); SELECT 1; END;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyturn.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with open_database(path, migrations=[TABLE]) as value:
        yield value


def put(number: int, text: str = "") -> Callable[[sqlite3.Connection], int]:
    def item(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO entry (number, text) VALUES (?, ?)", (number, text))
        return number

    return item


def numbers(database: Database) -> list[int]:
    return database.read(lambda c: [row["number"] for row in c.execute("SELECT number FROM entry ORDER BY number")])


class Held:
    """Keeps the writer busy inside an item, so that what is queued meanwhile becomes one group."""

    def __init__(self, database: Database) -> None:
        self.entered, self.release = threading.Event(), threading.Event()
        self.future = database.write(self._wait)
        assert self.entered.wait(10)

    def _wait(self, connection: sqlite3.Connection) -> None:
        self.entered.set()
        assert self.release.wait(10)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self.future.result(10)


# --- opening ----------------------------------------------------------------------------------------------------------


def test_settings_hold(database: Database, path: Path) -> None:
    """The writer is WAL, synchronous FULL, with foreign keys; readers can only read; the files are private."""

    def pragmas(connection: sqlite3.Connection) -> dict[str, object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "query_only", "busy_timeout", "wal_autocheckpoint")
        return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000, "wal_autocheckpoint": 0}
    assert database.write_now(pragmas) == {**wanted, "query_only": 0}
    assert database.read(pragmas) == {**wanted, "query_only": 1}
    database.write_now(put(1))
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["keyturn.db", "keyturn.db-shm", "keyturn.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_setting_that_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """In-memory databases have no WAL: the setting is read back, so it is noticed."""
    from keyturn.edge import database

    connection = sqlite3.connect(":memory:")
    error = refused(lambda: database._set(connection, "journal_mode", "WAL", "wal"))
    connection.close()
    assert error.code == "storage_failed"
    assert "journal_mode" in error.detail


def test_migrations_run_once_and_in_order(path: Path) -> None:
    """A database is brought up to date from wherever it stands, and nothing runs twice."""
    with open_database(path, migrations=[TABLE]) as database:
        database.write_now(put(7))
    for _ in range(2):
        with open_database(path, migrations=[TABLE, COUNTER]) as database:
            assert database.read(lambda c: c.execute("PRAGMA user_version").fetchone()[0]) == 2
            assert numbers(database) == [7]
    with open_database(path, migrations=[TABLE, COUNTER]) as database:
        database.write_now(lambda c: c.execute("INSERT INTO counter VALUES ('a', 0, 5)").rowcount)
        database.write_now(lambda c: c.execute("UPDATE counter SET used = 1").rowcount)
        assert database.read(lambda c: c.execute("SELECT text FROM entry WHERE number = 8").fetchone()["text"]) == "a;b"


def test_a_failing_migration_leaves_the_version_before_it(path: Path) -> None:
    """Each migration is whole or not there."""
    broken = "CREATE TABLE half (a); CREATE TABLE half (a);"
    error = refused(lambda: open_database(path, migrations=[TABLE, broken]))
    assert error.code == "internal"
    with open_database(path, migrations=[TABLE]) as database:
        assert database.read(lambda c: c.execute("PRAGMA user_version").fetchone()[0]) == 1
        tables = database.read(lambda c: [row[0] for row in c.execute("SELECT name FROM sqlite_master")])
        assert "half" not in tables


def test_a_newer_database_is_refused_untouched(path: Path) -> None:
    """An older program does not open what a newer one wrote."""
    open_database(path, migrations=[TABLE, COUNTER]).close()
    before = path.read_bytes()
    error = refused(lambda: open_database(path, migrations=[TABLE]))
    assert (error.code, path.read_bytes()) == ("store_newer", before)
    assert "version 2" in error.detail


def test_opening_what_is_no_database(tmp_path: Path) -> None:
    """Garbage is damage, a missing folder is a storage error: never a traceback."""
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"this is not a database, however long it may be" * 100)
    assert refused(lambda: open_database(garbage, migrations=[TABLE])).code == "store_damaged"
    assert refused(lambda: open_database(tmp_path / "no" / "x.db", migrations=[TABLE])).code == "storage_failed"
    missing = tmp_path / "missing.db"
    assert refused(lambda: open_database(missing, migrations=[], readonly=True)).code == "storage_failed"
    assert not missing.exists()


def test_readonly_reads_and_refuses_to_write(database: Database, path: Path) -> None:
    """A second opening for reading sees what is committed and cannot change it."""
    database.write_now(put(1))
    with open_database(path, migrations=[TABLE], readonly=True) as reader:
        assert numbers(reader) == [1]
        assert refused(lambda: reader.write_now(put(2))).code == "storage_failed"
        assert refused(lambda: reader.read(put(3))).code == "storage_failed"
    assert refused(lambda: open_database(path, migrations=[TABLE, COUNTER], readonly=True)).code == "storage_failed"


def test_an_open_file_mode_is_narrowed(path: Path) -> None:
    """A database that others could read is closed to them when it is opened."""
    open_database(path, migrations=[TABLE]).close()
    path.chmod(0o644)
    open_database(path, migrations=[TABLE]).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# --- writing ----------------------------------------------------------------------------------------------------------


def test_many_writes_share_commits(database: Database) -> None:
    """What waits together is committed together, at most 64 at a time, and all of it is there."""
    with Held(database):
        before = database.writer.commits
        futures = [database.write(put(number)) for number in range(200)]
    assert [future.result(10) for future in futures] == list(range(200))
    assert database.writer.commits - before == 1 + -(-200 // GROUP)  # The held item's own, and 64 + 64 + 64 + 8.
    assert database.writer.items == 201
    assert numbers(database) == list(range(200))


def test_nothing_is_answered_before_it_is_committed(database: Database, path: Path) -> None:
    """While a group is open no future of it is done, and another connection sees nothing of it."""
    inside, release = threading.Event(), threading.Event()

    def last(connection: sqlite3.Connection) -> None:
        inside.set()
        assert release.wait(10)

    with Held(database):
        first = database.write(put(1))
        held = database.write(last)
    assert inside.wait(10)
    assert not first.done()
    assert numbers(database) == []
    release.set()
    held.result(10)
    assert first.result(10) == 1
    assert numbers(database) == [1]


def test_a_refused_item_spoils_nothing(database: Database) -> None:
    """In one group: values are kept, a returned refusal is kept, an exception undoes its own item only."""

    def half_and_raise(connection: sqlite3.Connection) -> None:
        put(100)(connection)
        raise KeyturnError("limit_reached", "no seat")

    def bug(connection: sqlite3.Connection) -> None:
        put(101)(connection)
        raise ZeroDivisionError

    def refuse(connection: sqlite3.Connection) -> Refused:
        put(102)(connection)
        return Refused("limit_reached", "kept")

    with Held(database):
        before = database.writer.commits
        futures = [database.write(item) for item in (put(1), half_and_raise, put(2), bug, refuse, put(1), put(3))]
    outcomes = [future.exception(10) or future.result() for future in futures]
    assert database.writer.commits - before == 2
    assert outcomes[0] == 1
    assert isinstance(outcomes[1], KeyturnError)
    assert outcomes[1].code == "limit_reached"
    assert outcomes[2] == 2
    assert isinstance(outcomes[3], ZeroDivisionError)
    assert outcomes[4] == Refused("limit_reached", "kept")
    assert isinstance(outcomes[5], KeyturnError)  # The second 1 breaks the primary key.
    assert outcomes[5].code == "internal"
    assert outcomes[6] == 3
    assert numbers(database) == [1, 2, 3, 102]


def test_items_of_a_group_see_each_other(path: Path) -> None:
    """A limit holds inside a group: of ten items on five seats five find zero rows to update."""
    with open_database(path, migrations=[TABLE, COUNTER]) as database:
        database.write_now(lambda c: c.execute("INSERT INTO counter VALUES ('key', 0, 5)").rowcount)

        def take(connection: sqlite3.Connection) -> int | Refused:
            sql = "UPDATE counter SET used = used + 1 WHERE name = 'key' AND used < most RETURNING used"
            row = connection.execute(sql).fetchone()
            return row["used"] if row else Refused("limit_reached", "5 of 5")

        with Held(database):
            futures = [database.write(take) for _ in range(10)]
        assert [future.result(10) for future in futures] == [1, 2, 3, 4, 5] + [Refused("limit_reached", "5 of 5")] * 5


def test_an_item_that_ends_the_transaction_fails_its_group(database: Database) -> None:
    """Committing inside an item is a fault of ours that cannot pass unnoticed; the writer lives on."""
    with Held(database):
        futures = [database.write(put(1)), database.write(lambda c: c.execute("ROLLBACK").rowcount)]
    errors = [future.exception(10) for future in futures]
    assert [isinstance(error, KeyturnError) and error.code for error in errors] == ["internal", "internal"]
    assert database.write_now(put(2)) == 2
    assert numbers(database) == [2]


def test_a_cancelled_item_does_not_run(database: Database) -> None:
    """What was cancelled while it waited is never written."""
    with Held(database):
        future = database.write(put(1))
        assert future.cancel()
        database.write(put(2))
    database.write_now(put(3))
    assert numbers(database) == [2, 3]


def test_waiting_for_oneself_is_an_error(database: Database) -> None:
    """write_now() inside an item says so instead of hanging for ever."""
    with pytest.raises(RuntimeError, match="wait for itself"):
        database.write_now(lambda _: database.write_now(put(1)))


def test_close_drains(path: Path) -> None:
    """Everything accepted before close() is written; afterwards nothing is accepted."""
    database = open_database(path, migrations=[TABLE])
    futures = [database.write(put(number)) for number in range(500)]
    database.close()
    database.close()
    assert all(future.done() for future in futures)
    assert refused(lambda: database.write(put(501))).code == "storage_failed"
    assert refused(lambda: numbers(database)).code == "storage_failed"
    with open_database(path, migrations=[TABLE]) as again:
        assert numbers(again) == list(range(500))


def test_asyncio_waits_without_blocking(database: Database) -> None:
    """A hundred tasks share commits through asyncio.wrap_future."""

    async def main() -> list[int]:
        return await asyncio.gather(*(asyncio.wrap_future(database.write(put(number))) for number in range(100)))

    assert asyncio.run(main()) == list(range(100))
    assert database.writer.commits < 100


def test_reads_run_beside_a_writer_and_keep_their_snapshot(database: Database) -> None:
    """A read sees one moment, whatever is committed meanwhile, and does not hold the writer up."""
    database.write_now(put(1))

    def twice(connection: sqlite3.Connection) -> tuple[int, int]:
        def count() -> int:
            return int(connection.execute("SELECT count(*) FROM entry").fetchone()[0])

        first = count()
        database.write_now(put(2))
        return first, count()

    assert database.read(twice) == (1, 1)
    assert numbers(database) == [1, 2]


def test_the_log_is_copied_and_does_not_grow_for_ever(database: Database, path: Path) -> None:
    """Checkpoints happen: the log stays small under a long run of writes."""
    for number in range(300):
        database.write_now(lambda c, n=number: [put(n * 100 + k, "x" * 500)(c) for k in range(100)])  # type: ignore[misc]
    wal = path.with_name("keyturn.db-wal").stat().st_size
    print(f"log {wal >> 10} KiB for {path.stat().st_size >> 10} KiB of data")
    assert wal < 4 << 20 < 12 << 20 < path.stat().st_size


def test_what_one_turn_of_a_loop_asks_for_is_one_commit(path: Path) -> None:
    """Together hands over all that was asked for at once, and each caller gets its own result or failure."""
    with open_database(path, migrations=[TABLE]) as database:
        together = Together(database)

        def item(number: int) -> Callable[[sqlite3.Connection], int]:
            def write(db: sqlite3.Connection) -> int:
                if number == 3:
                    raise ValueError(number)
                db.execute("INSERT INTO entry (text) VALUES (?)", (f"n{number}",))
                return number

            return write

        async def ask() -> list[int | BaseException]:
            return await asyncio.gather(*(together.write(item(n)) for n in range(40)), return_exceptions=True)

        for again in range(2):  # In a new loop, too.
            before = database.writer.commits
            found = asyncio.run(ask())
            assert [n for n in found if isinstance(n, int)] == [n for n in range(40) if n != 3], again
            assert isinstance(found[3], ValueError)
            assert database.writer.commits - before <= 2  # One, unless the writer woke between two hand-overs.


def test_a_closed_database_fails_what_is_asked_together(path: Path) -> None:
    database = open_database(path, migrations=[TABLE])
    database.close()

    async def ask() -> None:
        await Together(database).write(lambda db: None)

    with pytest.raises(KeyturnError, match="is closed"):
        asyncio.run(ask())


# --- items that are alike ---------------------------------------------------------------------------------------------


class Batches:
    """Puts numbers, many at once, and remembers how many it was asked for each time; ``bad`` ones raise, at once or later."""

    def __init__(self, *bad: int, later: bool = False) -> None:
        self.sizes: list[int] = []
        self._bad = bad
        self._later = later

    def __call__(
        self, connection: sqlite3.Connection, asked: Sequence[int]
    ) -> tuple[list[int], Callable[[sqlite3.Connection], None]]:
        self.sizes.append(len(asked))

        def write(connection: sqlite3.Connection) -> None:
            for number in asked:
                put(number)(connection)
                if number in self._bad:
                    raise ZeroDivisionError(number)

        if not self._later:
            write(connection)
        return [number * 2 for number in asked], write if self._later else lambda connection: None


def told(future: Future[int]) -> int | type[BaseException]:
    failure = future.exception(10)
    return future.result() if failure is None else type(failure)


def test_neighbours_that_are_alike_are_done_at_once(database: Database) -> None:
    """Each gets its own result; another item between them is done between them, and sees what those before it did."""
    batches = Batches(later=True)
    with Held(database):
        futures = [database.write(Alike(batches, number)) for number in (1, 2, 3)]
        seen = database.write(lambda c: [row["number"] for row in c.execute("SELECT number FROM entry ORDER BY number")])
        futures += [database.write(Alike(batches, number)) for number in (4, 5)]
    assert [future.result(10) for future in futures] == [2, 4, 6, 8, 10]
    assert seen.result(10) == [1, 2, 3]
    assert batches.sizes == [3, 2]
    assert numbers(database) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_one_that_fails_spoils_none_that_are_alike(database: Database, later: bool, last: bool) -> None:
    """The batch is undone and each of it is done alone: one failure, and everything else is on the disk."""
    batches = Batches(2, later=later)
    with Held(database):
        futures = [database.write(Alike(batches, number)) for number in (1, 2, 3)]
        if not last:
            futures.append(database.write(put(7)))
    assert [told(future) for future in futures] == [2, ZeroDivisionError, 6, *([] if last else [7])]
    assert batches.sizes == [3, 1, 1, 1]
    assert numbers(database) == [1, 3, *([] if last else [7])]


# --- what a loop does itself ------------------------------------------------------------------------------------------


def test_a_loop_does_its_items_and_the_writer_commits_them(database: Database) -> None:
    """Nothing is answered before the commit, which is the writer's; what fails alone, fails alone here too."""
    threads: list[str] = []

    def item(connection: sqlite3.Connection) -> int:
        threads.append(threading.current_thread().name)
        return put(1)(connection)

    async def ask() -> list[int | BaseException]:
        together = Together(database)
        asked = [together.write(item), together.write(put(1)), together.write(put(2))]
        assert not any(future.done() for future in asked)
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second, third = asyncio.run(ask())
    assert (first, third) == (1, 2)
    assert isinstance(second, KeyturnError) and second.code == "internal"
    assert threads == [threading.current_thread().name]
    assert database.writer.commits == 1
    assert numbers(database) == [1, 2]


def test_a_loop_does_not_wait_for_a_writer(database: Database, path: Path) -> None:
    """While another item or another process writes, the loop goes on, and the writer does what it asked for."""

    async def ask(release: Callable[[], None]) -> int:
        future = Together(database).write(put(1))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not future.done()
        release()
        return await future

    with Held(database) as held:
        assert asyncio.run(ask(held.release.set)) == 1
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO entry (number) VALUES (5)")
    with contextlib.closing(other):

        async def again() -> int:
            future = Together(database).write(put(2))
            await asyncio.sleep(0.05)
            assert not future.done()
            other.execute("COMMIT")
            return await future

        assert asyncio.run(again()) == 2
    assert numbers(database) == [1, 2, 5]


def test_what_a_loop_no_longer_waits_for(database: Database) -> None:
    """A cancelled item is not done if it has not begun, and keeps nobody else from being answered."""

    async def ask() -> int:
        together = Together(database)
        gone, kept = together.write(put(1)), together.write(put(2))
        gone.cancel()
        await kept
        return await together.write(put(3))

    assert asyncio.run(ask()) == 3
    assert numbers(database) == [2, 3]


def test_many_threads_and_a_loop_share_the_writer(database: Database) -> None:
    """Nobody is forgotten, whoever has the connection just now."""

    async def ask() -> list[int]:
        together = Together(database)
        found: list[int] = []
        for begin in range(1_000, 1_400, 8):
            found += await asyncio.gather(*(together.write(put(begin + k)) for k in range(8)))
        return found

    def write(begin: int) -> None:
        for number in range(begin, begin + 100):
            database.write_now(put(number))

    threads = [threading.Thread(target=write, args=(k * 100,)) for k in range(4)]
    for thread in threads:
        thread.start()
    assert asyncio.run(ask()) == list(range(1_000, 1_400))
    for thread in threads:
        thread.join(30)
    assert numbers(database) == [*range(400), *range(1_000, 1_400)]
