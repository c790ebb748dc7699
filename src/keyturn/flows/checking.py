"""Looking whether a server's data is right: one check after the other, each with a name, a figure and a remedy.

Keeps: what a check is, those that hold for every database and folder, and how a person is told. Leaves to others: what must be
right in one program's data.

- Nothing is changed, and nobody waits: every look at a database is a snapshot of its own.
- A check that finds nothing to look at is neither good nor bad: ``ok`` is None.
- A part that is missing or broken is the finding of the check that needs it, and stops no other check.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from sqlite3 import Connection
from typing import Any, NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.edge.archive import Progress
from keyturn.edge.snapshot import shape, shape_of
from keyturn.edge.terminal import Call
from keyturn.edge.voice import reference

SHOWN = 3  # Rows named in a figure.
OLDER = "Restore the newest backup that verifies."


class Check(NamedTuple):
    """What was found. ``remedy`` beside ``ok`` is advice."""

    name: str
    ok: bool | None
    figure: str
    remedy: str | None = None


def look(name: str, check: Callable[[], tuple[Any, ...]]) -> Check:
    """The finding of ``check``, which gives (ok, figure[, remedy]), or raises KeyturnError for what is not good."""
    try:
        return Check(name, *check())
    except KeyturnError as error:
        return Check(name, False, error.detail, error.remedy)


def insist(check: Check) -> None:
    """Raises: KeyturnError ``store_damaged`` unless ``check`` is good."""
    if check.ok is False:
        raise KeyturnError("store_damaged", f"{check.name.replace('_', ' ')}: {check.figure}", remedy=check.remedy)


def integrity(db: Connection) -> tuple[Any, ...]:
    """SQLite's own examination of every page, index and constraint; but CHECKs are unknown to what opens for reading only."""
    said = [str(row[0]) for row in db.execute("PRAGMA integrity_check(20)")]
    if said == ["ok"]:
        return True, f"{db.execute('PRAGMA page_count').fetchone()[0]} pages are whole"
    return False, f"{len(said)} faults: {'; '.join(said[:SHOWN])}", OLDER


def schema(db: Connection, migrations: Sequence[str]) -> tuple[Any, ...]:
    """Every table and index is as this program makes them: none is missing, and nothing acts behind the program's back."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    found, wanted = shape(db), shape_of(migrations[:version])
    other = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    if other:
        told = f"version {version} has other definitions: {', '.join(other[:SHOWN])}"
        return False, told, "Restore the newest backup that verifies; never change the database by hand."
    return True, f"version {version}, {len(found)} tables and indexes as defined"


def references(db: Connection) -> tuple[Any, ...]:
    rows = db.execute("PRAGMA foreign_key_check").fetchall()
    tables = ", ".join(sorted({f"{row[0]} -> {row[2]}" for row in rows}))
    if rows:
        return False, f"{len(rows)} rows refer to nothing: {tables}", OLDER
    return True, "every reference leads somewhere"


def permissions(secret: Mapping[Path, int]) -> tuple[Any, ...]:
    """``secret``: the mode of every file that only its owner may read."""
    wide = [str(path) for path, mode in secret.items() if mode & 0o077]
    if wide:
        return False, f"others may read {', '.join(wide[:SHOWN])}", f"chmod go= {' '.join(wide)}"
    return True, f"{len(secret)} files are closed to others"


def progress_of(call: Call, ticks: Callable[[], float] = time.monotonic) -> Progress:
    """Tell a person on a terminal, at most once a second, how far long work is. ``ticks``: seconds that only go forward."""
    told = ticks()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal told
        if call.json or not sys.stderr.isatty() or ticks() < told + 1:
            return
        told = ticks()
        call.say(f"  {what} … {100 * done // total} %" if total else f"  {what} …")

    return tell


def report(call: Call, found: Sequence[Check]) -> int:
    """Tell what was found; the result is the exit status. Raises: KeyturnError ``check_failed``, unless JSON was asked for."""
    failed = [check.name for check in found if check.ok is False]
    error = (
        KeyturnError("check_failed", f"{len(failed)} of {len(found)} checks: {', '.join(failed)}") if failed else None
    )
    data: dict[str, Any] = {"checks": [check._asdict() for check in found], "ok": not failed}
    if error is not None:
        error.reference = reference()
        data["error"] = error.as_json()
    width = max((len(check.name) for check in found), default=0)
    call.emit(data, "\n".join(_line(check, width) for check in found))
    if error is None:
        return 0
    if not call.json:
        raise error
    return error.exit


def _line(check: Check, width: int) -> str:
    word = {True: "ok", False: "FAIL", None: "-"}[check.ok]
    line = f"  {word:<5} {check.name.replace('_', ' '):<{width}}  {check.figure}"
    return line if check.remedy is None else f"{line}\n        {check.remedy}"
