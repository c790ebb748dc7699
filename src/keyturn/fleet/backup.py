"""A fleet manager's backup: what is inside, and what is done when it is put back, whole or not at all.

Leaves to others: making and opening it (``flows.backups``), what must be right inside (``checks``).

- One file holds everything, the keys too: without ``fleet.key`` no computer would believe the manager, without ``seal.key`` no
  product key opens, without ``rebind.seed`` no re-imaged computer gets its activation back.
- What was under way goes on by the very same bytes, so the publisher gives the same answers, and no seat is taken twice.
- A check-in of a later number than the one that is kept is as good as ever: the computers of the backup find their manager again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from keyturn.edge import archive
from keyturn.edge.archive import Progress, nowhere
from keyturn.fleet import checks
from keyturn.fleet import home as homes
from keyturn.fleet.home import DATABASE, FleetHome
from keyturn.flows import backups
from keyturn.flows.backups import Form, Opened
from keyturn.flows.checking import Check, insist
from keyturn.flows.restoring import nothing_at, put_in_place

MEMBERS = (DATABASE, homes.SETTINGS_FILE, homes.KEY, homes.SEED, homes.SEAL, "tls/cert.pem", "tls/key.pem")


def is_member(name: str) -> bool:
    return name in MEMBERS


FORM = Form(
    homes.PROGRAM, "a fleet manager", DATABASE, MEMBERS, is_member, lambda name: name == "tls/cert.pem", homes.migrations,
    checks.counts,
)  # fmt: skip


def back_up(home: FleetHome, to: Path, *, now: int, progress: Progress = nowhere) -> dict[str, Any]:
    """Write a backup of ``home`` to ``to``, mode 0600; the result is its manifest. Raises: as ``flows.backups.back_up``."""
    return backups.back_up(FORM, home.path, MEMBERS[1:], to, key=home.signer.kid, now=now, progress=progress)


def opened(path: Path) -> Opened:
    """Open a backup; close its reader afterwards. Raises: as ``flows.backups.opened``."""
    return backups.opened(FORM, path)


def unpack(found: Opened, staged: Path, progress: Progress = nowhere) -> FleetHome:
    """Lay a backup out as a home, and open it; its key is the one that its manifest names.

    Raises: KeyturnError ``file_malformed``, ``storage_failed``.
    """
    backups.lay_out(FORM, found, staged, progress)
    home = FleetHome(staged, {})
    backups.insist_on_key(found, home.signer.kid)
    return home


def examine(found: Opened, home: FleetHome, now: int, progress: Progress = nowhere) -> Iterator[Check]:
    """Look at an unpacked backup: all that is looked at in a home, and that it is the one its manifest describes."""
    yield from checks.examine(home, now, progress)
    yield backups.figures(FORM, found, home.path)


def restore(source: Path, path: Path, *, now: int, progress: Progress = nowhere) -> Opened:
    """Make the home ``path`` from a backup. A crash at any moment leaves nothing, or all.

    1. Nothing is there yet, at least nothing but an empty folder.
    2. Open the backup and unpack it beside ``path``.
    3. Everything that must be right is right; but a TLS certificate that has ended is no damage.
    4. Nobody is signed in any more, and no one-time link serves: what was ended or used since would be open again.
    5. Make all of it durable, give it to the owner of the folder that was there, and only then its name.

    Raises: KeyturnError ``usage``, ``file_malformed``, ``store_damaged``, ``store_newer``, ``storage_failed``,
    ``permission_denied``.
    """
    # 1.
    nothing_at(path)
    # 2.
    found = opened(source)
    with found.reader, archive.staging(path) as folder:
        home = unpack(found, folder / "home", progress)
        # 3.
        for check in examine(found, home, now, progress):
            if check.name != "tls":
                insist(check)
        # 4.
        with home.open_database() as database:
            database.write_now(_close_doors)
        # 5.
        put_in_place(home.path, path)
    return found


def _close_doors(db: Connection) -> None:
    for table in ("session", "invitation"):
        db.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
