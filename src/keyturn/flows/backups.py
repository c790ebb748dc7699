"""A server's backup in one file: made while the server runs, opened, laid out as a home.

Keeps: its manifest, and the order in which it is made and believed. Leaves to others: the file's form (``edge.archive``),
copying a database in use (``edge.snapshot``), what is in a home and must be right there (each program), putting it into place
(``restoring``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from sqlite3 import Connection
from typing import Any, NamedTuple

from keyturn import __version__
from keyturn.core.errors import KeyturnError
from keyturn.core.model import parse_rfc3339, rfc3339
from keyturn.edge import archive, files
from keyturn.edge.archive import Progress, Reader, faults, nowhere
from keyturn.edge.database import open_database
from keyturn.edge.snapshot import open_as_it_is, snapshot
from keyturn.flows.checking import Check, insist, integrity


class Form(NamedTuple):
    """One program's backups.

    ``needed`` are the members that none lacks, the database among them; ``is_public`` are those that others may read. ``counts``
    are a database's figures, which the manifest says.
    """

    program: str
    called: str
    database: str
    needed: tuple[str, ...]
    is_member: Callable[[str], bool]
    is_public: Callable[[str], bool]
    migrations: Callable[[], Sequence[str]]
    counts: Callable[[Connection], dict[str, int]]
    version: int = 1

    @property
    def kind(self) -> str:
        return f"{self.program}-backup"


class Opened(NamedTuple):
    """A backup that was opened: its reader, and what its manifest says."""

    reader: Reader
    key: str
    made_at: int
    counts: Mapping[str, Any]


def back_up(
    form: Form, home: Path, names: Iterable[str], to: Path, *, key: str, now: int, progress: Progress = nowhere
) -> dict[str, Any]:
    """Write a backup of ``home`` to ``to``, mode 0600; the result is its manifest. ``key`` is the thumbprint of the server's key.

    1. The database as it is now and in the version it has, while the server writes it. What was acknowledged before is inside.
    2. A damaged database makes no backup: the last good one is worth more.
    3. One file with it and the files ``names``, durable before it has its name.

    Raises: KeyturnError ``store_damaged``, ``storage_failed``, ``permission_denied``.
    """
    texts = {name: files.read(home / name, archive.MAX_SMALL) for name in names if form.is_member(name)}
    with archive.staging(to) as folder:
        # 1.
        copy = folder / form.database
        database, schema = open_as_it_is(home / form.database, form.migrations())
        with database:
            snapshot(database, copy, progress)
        # 2.
        with open_database(copy, migrations=form.migrations()[:schema], readonly=True) as database:
            insist(Check("integrity", *database.read(integrity)))
            counts = database.read(form.counts)
        # 3.
        manifest = {
            "keyturn": form.kind, "v": form.version, "program": __version__, "key": key, "schema": schema, "counts": counts,
            "made_at": rfc3339(now),
        }  # fmt: skip
        parts: dict[str, bytes | Path] = {form.database: copy, **{n: data for n, data in texts.items() if data is not None}}
        return archive.write(to, manifest, parts, now=now, progress=progress)


def opened(form: Form, path: Path) -> Opened:
    """Open a backup; close its reader afterwards.

    Raises: KeyturnError ``file_malformed``, ``store_newer``, ``permission_denied``.
    """
    reader = Reader(path, form.is_member)
    try:
        return _told(form, reader)
    except BaseException:
        reader.close()
        raise


def lay_out(form: Form, found: Opened, staged: Path, progress: Progress = nowhere) -> None:
    """Write a backup's members to the new folder ``staged``, and claim it for the program.

    Raises: KeyturnError ``file_malformed``, ``storage_failed``.
    """
    reader = found.reader
    with faults(staged):
        staged.mkdir(mode=0o700)
    for name in reader.names:
        if name == form.database:
            reader.copy(name, staged / name, progress)
        else:
            files.write(staged / name, reader.read(name), files.PUBLIC if form.is_public(name) else files.PRIVATE)
    files.claim_home(staged, form.program)


def insist_on_key(found: Opened, key: str) -> None:
    """Raises: KeyturnError ``file_malformed`` unless the key inside is the one that the manifest names."""
    if key != found.key:
        raise KeyturnError("file_malformed", f"{found.reader.path}: the key is not the one that its manifest names")


def figures(form: Form, found: Opened, home: Path) -> Check:
    """Whether an unpacked backup is the one that its manifest describes."""
    database, _ = open_as_it_is(home / form.database, form.migrations())
    with database:
        told = database.read(form.counts)
    text = ", ".join(f"{number} of {name}" for name, number in told.items())
    return Check("figures", told == found.counts, text if told == found.counts else f"it holds {text}, not what was said")


def _told(form: Form, reader: Reader) -> Opened:
    told, path = reader.manifest, reader.path
    if told.get("keyturn") != form.kind:
        raise KeyturnError(
            "file_malformed", f"{path} is no backup of {form.called}, it says {str(told.get('keyturn'))[:20]!r}"
        )
    schema, counts = told.get("schema"), told.get("counts")
    if not isinstance(told.get("v"), int) or not isinstance(schema, int) or not isinstance(counts, dict):
        raise KeyturnError("file_malformed", f"{path}: its manifest lacks a part")
    if told["v"] > form.version or schema > len(form.migrations()):
        raise KeyturnError("store_newer", f"{path} was made by Keyturn {str(told.get('program'))[:20]}")
    if lacks := set(form.needed) - set(reader.names):
        raise KeyturnError("file_malformed", f"{path} lacks {', '.join(sorted(lacks))}")
    try:
        made = parse_rfc3339(str(told.get("made_at")))
    except KeyturnError as error:
        raise KeyturnError("file_malformed", f"{path}: its manifest has no time") from error
    return Opened(reader, str(told.get("key")), made, counts)
