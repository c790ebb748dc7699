"""A host's backup: made while it runs, whole, and put back whole or not at all.

Keeps: what is inside, making, opening, verifying and restoring. Leaves to others: the file's form (``edge.archive``), copying a
database in use (``edge.snapshot``), what must be right inside (``checks``).

- One file holds everything, the host's key too: a ledger without the key that signed its leases would take honest computers for
  copies. Whoever has the file can give leases in the organization's name until the host certificate ends.
- A restore goes back in time: a computer may hold a newer lease than the ledger knows of. So what each of them shows next is
  believed once, and nobody is called a copy for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from keyturn import __version__
from keyturn.core.errors import KeyturnError
from keyturn.core.model import parse_rfc3339, rfc3339
from keyturn.edge import archive, files
from keyturn.edge.archive import Progress, Reader, faults, nowhere
from keyturn.edge.database import open_database
from keyturn.edge.snapshot import open_as_it_is, snapshot
from keyturn.flows.checking import Check, insist, integrity
from keyturn.flows.restoring import nothing_at, put_in_place
from keyturn.host import checks, ledger
from keyturn.host import home as homes
from keyturn.host.home import DATABASE, HostHome

KIND, VERSION = "host-backup", 1
SETTINGS, KEY, INSTALLATION = "host.toml", "host.key", "installation.json"
_FIXED = (DATABASE, SETTINGS, KEY, INSTALLATION, "tls/cert.pem", "tls/key.pem")
_PRODUCT = re.compile(r"products/[a-z0-9][A-Za-z0-9_+-]{1,120}/(product|key|certificate|pending)\.json", re.ASCII)
_PUBLIC = re.compile(r"tls/cert\.pem|installation\.json|products/[^/]+/(product|certificate|pending)\.json", re.ASCII)


def is_member(name: str) -> bool:
    return name in _FIXED or _PRODUCT.fullmatch(name) is not None


class Opened(NamedTuple):
    """A backup that was opened: its reader, and what its manifest says."""

    reader: Reader
    key: str
    made_at: int
    schema: int
    counts: Mapping[str, Any]


def back_up(home: HostHome, to: Path, *, now: int, progress: Progress = nowhere) -> dict[str, Any]:
    """Write a backup of ``home`` to ``to``, mode 0600; the result is its manifest.

    1. The ledger as it is now and in the version it has, while the host writes it. What was acknowledged before is inside.
    2. A damaged ledger makes no backup: the last good one is worth more.
    3. One file, durable before it has its name.

    Raises: KeyturnError ``store_damaged``, ``storage_failed``, ``permission_denied``.
    """
    names = [*_FIXED[1:], *(str(place.relative_to(home.path)) for place in sorted(home.path.glob("products/*/*.json")))]
    texts = {name: files.read(home.path / name, archive.MAX_SMALL) for name in names if is_member(name)}
    with archive.staging(to) as folder:
        # 1.
        copy = folder / DATABASE
        database, schema = open_as_it_is(home.path / DATABASE, ledger.migrations())
        with database:
            snapshot(database, copy, progress)
        # 2.
        with open_database(copy, migrations=ledger.migrations()[:schema], readonly=True) as database:
            insist(Check("integrity", *database.read(integrity)))
            counts = database.read(checks.counts)
        # 3.
        manifest = {
            "keyturn": KIND, "v": VERSION, "program": __version__, "key": home.signer.kid, "schema": schema, "counts": counts,
            "made_at": rfc3339(now),
        }  # fmt: skip
        parts: dict[str, bytes | Path] = {DATABASE: copy, **{n: data for n, data in texts.items() if data is not None}}
        return archive.write(to, manifest, parts, now=now, progress=progress)


def opened(path: Path) -> Opened:
    """Open a backup; close its reader afterwards.

    Raises: KeyturnError ``file_malformed``, ``store_newer``, ``permission_denied``.
    """
    reader = Reader(path, is_member)
    try:
        return _told(reader)
    except BaseException:
        reader.close()
        raise


def unpack(found: Opened, staged: Path, progress: Progress = nowhere) -> HostHome:
    """Lay a backup out as a home, and open it: its documents verify, and its key is the one that its manifest names.

    Raises: KeyturnError ``file_malformed``, ``storage_failed``, and why a document does not verify.
    """
    reader = found.reader
    with faults(staged):
        staged.mkdir(mode=0o700)
    for name in reader.names:
        if name == DATABASE:
            reader.copy(name, staged / name, progress)
        else:
            public = _PUBLIC.fullmatch(name) is not None
            files.write(staged / name, reader.read(name), files.PUBLIC if public else files.PRIVATE)
    homes.note_change(staged)
    files.claim_home(staged, homes.PROGRAM)
    home = HostHome(staged, {})
    if home.signer.kid != found.key:
        raise KeyturnError("file_malformed", f"{reader.path}: the key is not the one that its manifest names")
    return home


def examine(found: Opened, home: HostHome, now: int, progress: Progress = nowhere) -> Iterator[Check]:
    """Look at an unpacked backup: all that is looked at in a home, and that it is the one its manifest describes."""
    yield from checks.examine(home, now, progress)
    database, _ = open_as_it_is(home.path / DATABASE, ledger.migrations())
    with database:
        told = database.read(checks.counts)
    figures = ", ".join(f"{number} of {name}" for name, number in told.items())
    yield Check("figures", told == found.counts, figures if told == found.counts else f"it holds {figures}, not what was said")


def restore(source: Path, path: Path, *, now: int, progress: Progress = nowhere) -> Opened:
    """Make the home ``path`` from a backup. A crash at any moment leaves nothing, or all.

    1. Nothing is there yet, at least nothing but an empty folder.
    2. Open the backup and unpack it beside ``path``; its documents verify.
    3. Everything that must be right is right; but a certificate that has ended is no damage: it can be renewed.
    4. What computers show next is believed, once: leases that were given since are unknown here.
    5. Make all of it durable, give it to the owner of the folder that was there, and only then its name.

    Raises: KeyturnError ``usage``, ``file_malformed``, ``store_damaged``, ``store_newer``, ``storage_failed``,
    ``permission_denied``, and why a document does not verify.
    """
    # 1.
    nothing_at(path)
    # 2.
    found = opened(source)
    with found.reader, archive.staging(path) as folder:
        home = unpack(found, folder / "home", progress)
        # 3.
        for check in examine(found, home, now, progress):
            if not check.name.startswith(("certificate of", "tls")):
                insist(check)
        # 4.
        with home.open_database() as database:
            database.write_now(lambda db: db.execute("UPDATE installation SET presented = NULL").rowcount)
        # 5.
        put_in_place(home.path, path)
    return found


def _told(reader: Reader) -> Opened:
    told, path = reader.manifest, reader.path
    if told.get("keyturn") != KIND:
        raise KeyturnError("file_malformed", f"{path} is no backup of a host, it says {str(told.get('keyturn'))[:20]!r}")
    schema, counts = told.get("schema"), told.get("counts")
    if not isinstance(told.get("v"), int) or not isinstance(schema, int) or not isinstance(counts, dict):
        raise KeyturnError("file_malformed", f"{path}: its manifest lacks a part")
    if told["v"] > VERSION or schema > len(ledger.migrations()):
        raise KeyturnError("store_newer", f"{path} was made by Keyturn {str(told.get('program'))[:20]}")
    if lacks := set(_FIXED) - set(reader.names):
        raise KeyturnError("file_malformed", f"{path} lacks {', '.join(sorted(lacks))}")
    try:
        made = parse_rfc3339(str(told.get("made_at")))
    except KeyturnError as error:
        raise KeyturnError("file_malformed", f"{path}: its manifest has no time") from error
    return Opened(reader, str(told.get("key")), made, schema, counts)
