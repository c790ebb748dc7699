"""The database when processes die and disks fail: nothing that was acknowledged is ever lost."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keyturn.edge.database import Database, open_database
from peers import refused
from test_database import TABLE, database, numbers, path, put

__all__ = ["database", "path"]  # Fixtures.

PROGRAM = f"""
import os, sys, threading
from keyturn.core.errors import KeyturnError
from keyturn.edge.database import open_database

def put(number, text=""):
    def item(connection):
        connection.execute("INSERT INTO entry (number, text) VALUES (?, ?)", (number, text))
        return number
    return item

def say(text):
    os.write(1, (str(text) + "\\n").encode())

TABLE = {TABLE!r}
database = open_database(sys.argv[1], migrations=[TABLE])
"""


def program(code: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM + code]


@pytest.mark.system
def test_two_processes_write_one_file(database: Database, path: Path) -> None:
    """Writers of two processes wait for each other; nothing is lost and nothing fails."""
    code = "for number in range(10_000, 10_400): database.write_now(put(number))\ndatabase.close()"
    with subprocess.Popen([*program(code), str(path)]) as other:
        for number in range(400):
            database.write_now(put(number))
        assert other.wait(60) == 0
    assert numbers(database) == [*range(400), *range(10_000, 10_400)]


@pytest.mark.system
def test_kill_loses_nothing_acknowledged(path: Path) -> None:
    """A kill -9 in the middle of load: every number that was acknowledged is there, three times over."""
    code = """
start = int(sys.argv[2])
def load(first):
    for number in range(first, first + 100_000):
        database.write_now(put(number))
        say(number)
for first in range(start, start + 800_000, 100_000):
    threading.Thread(target=load, args=(first,)).start()
"""
    acknowledged: set[int] = set()
    for start in (0, 1_000_000, 2_000_000):
        with subprocess.Popen([*program(code), str(path), str(start)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(400):
                acknowledged.add(int(process.stdout.readline()))
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read()
        acknowledged.update(int(line) for line in rest.split(b"\n")[:-1])
        with open_database(path, migrations=[TABLE]) as database:
            missing = acknowledged - set(numbers(database))
            assert not missing
            assert database.read(lambda c: c.execute("PRAGMA integrity_check").fetchone()[0]) == "ok"
    print(f"{len(acknowledged)} acknowledged, 0 lost")
    assert len(acknowledged) >= 1_200


def test_a_full_database_fails_the_item_and_lives_on(database: Database) -> None:
    """SQLITE_FULL is storage_failed for what did not fit; when there is room again, writing goes on."""
    database.write_now(put(1))
    pages = database.write_now(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    database.write_now(lambda c: c.execute(f"PRAGMA max_page_count={pages + 2}").fetchone()[0])
    error = refused(lambda: database.write_now(put(2, "x" * 100_000)))
    assert (error.code, error.exit) == ("storage_failed", 6)
    database.write_now(lambda c: c.execute("PRAGMA max_page_count=1000000").fetchone()[0])
    assert database.write_now(put(3, "x" * 100_000)) == 3
    assert numbers(database) == [1, 3]


@pytest.mark.needs("root", "unshare")
@pytest.mark.system
def test_a_full_disk_fails_the_group_and_lives_on(tmp_path: Path) -> None:
    """A real full file system: storage_failed while it lasts, no process dies, nothing acknowledged is lost."""
    code = """
folder = os.path.dirname(sys.argv[1])
acknowledged, failed = [], []
def fill():
    ballast = os.open(os.path.join(folder, "ballast"), os.O_WRONLY | os.O_CREAT)
    try:
        while True: os.write(ballast, b"x" * 4096)
    except OSError: os.close(ballast)
for number in range(100):
    if number == 30: fill()
    if number == 70: os.unlink(os.path.join(folder, "ballast"))
    futures = [(number * 10 + k, database.write(put(number * 10 + k, "x" * 2000))) for k in range(10)]
    for key, future in futures:
        try: acknowledged.append(future.result(30))
        except KeyturnError as error: failed.append((key, error.code))
database.close()
with open_database(sys.argv[1], migrations=[TABLE]) as database:
    there = {row[0] for row in database.read(lambda c: c.execute("SELECT number FROM entry").fetchall())}
say([len(acknowledged), len(failed), {code for _, code in failed}, sorted(set(acknowledged) - there),
     max(acknowledged), min(key for key, _ in failed) >= 300, max(key for key, _ in failed) < 700,
     sorted(there & {key for key, _ in failed})])
"""
    script = 'mount -t tmpfs -o size=8m none "$0" && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, str(tmp_path), *program(code), str(tmp_path / "k.db")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.stderr == ""
    good, bad, codes, lost, newest, after, before, false_failures = eval(result.stdout)
    print(f"{good} acknowledged, {bad} refused while the disk was full, {len(lost)} lost")
    assert good + bad == 1000
    assert bad > 100
    assert (codes, lost, newest, after, before, false_failures) == ({"storage_failed"}, [], 999, True, True, [])


@pytest.mark.system
def test_an_io_error_at_the_commit_ends_the_process(path: Path) -> None:
    """When a commit cannot be written (here: a file size limit) the process ends with 70, and what it said stands."""
    code = """
for number in range(100_000):
    database.write_now(put(number, "x" * 2000))
    say(number)
"""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    result = subprocess.run(
        [*program(code), str(path)], capture_output=True, timeout=60, check=False, preexec_fn=limit
    )
    assert result.returncode == 70
    assert b"the disk failed" in result.stderr
    acknowledged = [int(line) for line in result.stdout.split()]
    with open_database(path, migrations=[TABLE]) as database:
        assert set(acknowledged) <= set(numbers(database))
    assert len(acknowledged) > 10


@pytest.mark.needs("strace")
@pytest.mark.system
@pytest.mark.parametrize("nth", [1, 5])
def test_a_failed_fsync_ends_the_process(path: Path, nth: int) -> None:
    """The n-th fsync of a commit fails once: the process ends at once instead of trying a second one."""
    open_database(path, migrations=[TABLE]).close()
    ready = path.with_name("ready")
    code = f"""
import ctypes
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER: strace may attach without root.
say(database.write_now(put(0)))
open({str(ready)!r}, "w").close()
input()
for number in range(1, 100):
    database.write_now(put(number))
    say(number)
"""
    with subprocess.Popen(
        [*program(code), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"0\n"
        inject = f"inject=fsync,fdatasync:error=EIO:when={nth}"
        log = path.with_name("strace.log")
        command = ["strace", "-f", "-o", str(log), "-e", "trace=fsync,fdatasync", "-e", inject, "-p", str(process.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as strace:
            assert strace.stderr is not None
            assert b"attached" in strace.stderr.readline()
            process.stdin.write(b"\n")
            process.stdin.flush()
            rest = process.stdout.read().split()
            error = process.stderr.read()
            assert process.wait(30) == 70
            strace.wait(30)
    assert b"the disk failed while a commit was made durable" in error
    assert [int(number) for number in rest] == list(range(1, nth))
    assert sum("fdatasync" in line or "fsync" in line for line in log.read_text().splitlines()) == nth
    with open_database(path, migrations=[TABLE]) as database:
        assert set(range(nth)) <= set(numbers(database))


def test_after_a_failed_disk_nothing_more_is_accepted(path: Path) -> None:
    """If ``on_fatal`` returns, the database refuses everything: it never acknowledges again."""
    said: list[str] = []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    database = open_database(path, migrations=[TABLE], on_fatal=said.append)
    database.write_now(put(0))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, limits[1]))
        error = refused(lambda: [database.write_now(put(n, "x" * 5000)) for n in range(1, 1000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert error.code == "storage_failed"
    assert len(said) == 1
    again = refused(lambda: database.write_now(put(5000)))
    assert (again.code, "the disk failed" in again.detail) == ("storage_failed", True)
    database.close()
