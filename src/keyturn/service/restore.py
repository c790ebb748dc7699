"""Putting a backup back: into an empty home, whole or not at all.

Keeps: the order of steps. Leaves to others: what the files are (``backup``), what must be right inside (``checks``), what a
person is told (``backup_cli``).

- Nothing is put into place before everything was looked at, and what is put there gets its name in one step.
- A restore goes back in time: what was acknowledged after the backup is unknown to the restored service.
- The service runs with the secrets only; they can follow later (:func:`put_secrets`).
"""

from __future__ import annotations

import secrets as chance
from collections.abc import Mapping
from pathlib import Path
from sqlite3 import Connection, Row
from typing import Any, NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.ids import Ids
from keyturn.core.model import rfc3339
from keyturn.core.trust import Chain
from keyturn.edge import archive, files
from keyturn.edge.archive import Progress, Reader, nowhere
from keyturn.edge.database import Database, open_database
from keyturn.edge.snapshot import open_as_it_is
from keyturn.flows.checking import Check, insist, integrity, schema
from keyturn.flows.restoring import nothing_at, put_in_place
from keyturn.service import backup, checks, seats
from keyturn.service import home as homes
from keyturn.service.activation import ActivationService
from keyturn.service.home import ServiceHome


class Restored(NamedTuple):
    """What was put into place. ``signed``: decisions that were open in the backup and are finished now."""

    chain: Chain
    publisher: str
    made_at: int
    counts: Mapping[str, Any]
    secrets: bool
    signed: int


def restore(
    source: Path, path: Path, *, secrets: Path | None = None, thumbprint: str | None = None, now: int,
    progress: Progress = nowhere,
) -> Restored:  # fmt: skip
    """Make the home ``path`` from a backup, and from ``secrets`` if they are at hand. A crash leaves nothing, or all.

    1. Nothing is there yet, at least nothing but an empty folder.
    2. Open the backup; its publisher is the one with ``thumbprint``, if that was given. Unpack it beside ``path``.
    3. The trust bundles verify, and are those of the settings' publisher and of the manifest.
    4. The database is whole, of the version and with the figures of the manifest, with nothing in it that this program did not
       define, and its products are this publisher's.
    5. The secrets are this publisher's, and the pepper opens every product key.
    6. The database lies in the home from now on. The restore is in the audit. What was recorded and not signed is signed.
    7. Make all of it durable, give it to the owner of the folder that was there, and only then its name.

    Raises: KeyturnError ``usage``, ``file_malformed``, ``trust_invalid``, ``publisher_mismatch``, ``store_damaged``,
    ``store_newer``, ``storage_failed``, ``permission_denied``.
    """
    # 1.
    nothing_at(path)
    # 2.
    found = backup.opened(source, backup.BACKUP)
    with found.reader as reader, archive.staging(path) as folder:
        if thumbprint not in (None, found.thumbprint):
            raise KeyturnError("publisher_mismatch", f"{source} is of publisher {found.thumbprint}, {found.publisher}")
        staged = folder / "home"
        backup.unpack(reader, staged, progress)
        # 3.
        chain = backup.verified_chain(found, staged)
        # 4.
        with open_database(
            staged / backup.DATABASE, migrations=homes.migrations()[: found.schema], readonly=True
        ) as database:  # fmt: skip
            progress("looking whether it is whole", 0, 0)
            insist(Check("integrity", *database.read(integrity)))
            insist(Check("schema", *database.read(lambda db: schema(db, homes.migrations()))))
            insist(Check("products", *database.read(lambda db: checks.products(db, chain))))
            if database.read(checks.counts) != found.counts:
                raise KeyturnError(
                    "file_malformed", f"{source}: the database is not the one that its manifest describes"
                )
            # 5.
            if secrets is not None:
                with backup.opened(secrets, backup.SECRETS).reader as given:
                    _put(given, staged, chain, database, progress)
        # 6.
        homes.change_setting(staged, "database", backup.DATABASE)
        files.claim_home(staged, homes.PROGRAM)
        signed = _settle(staged, found, secrets is not None, now)
        # 7.
        put_in_place(staged, path)
    return Restored(chain, found.publisher, found.made_at, found.counts, secrets is not None, signed)


def put_secrets(source: Path, path: Path, environ: Mapping[str, str], progress: Progress = nowhere) -> list[str]:
    """Put secrets into a home that lacks them; the result names what was not there. Files that are there stay as they are.

    Raises: KeyturnError as :func:`restore`; ``already_exists`` if the home has another pepper or key of that name.
    """
    files.check_home(path, homes.PROGRAM)
    settings, _ = homes.read_settings(path, environ)
    chain = homes.chain_of(files.read_json(path / backup.BUNDLES) or {})
    database, _ = open_as_it_is(homes.database_path(path, settings), homes.migrations())
    with database, backup.opened(source, backup.SECRETS).reader as given:
        there = backup.secrets_of(path)
        other = [name for name in given.names if there.get(name, given.read(name)) != given.read(name)]
        if other:
            raise KeyturnError(
                "already_exists", f"{path} has other files {', '.join(other)}",
                remedy="Move them away first, if you are sure that those of the secrets file are right.",
            )  # fmt: skip
        _put(given, path, chain, database, progress)
        return [name for name in given.names if name not in there]


def _put(given: Reader, path: Path, chain: Chain, database: Database, progress: Progress) -> None:
    """Put secrets into ``path``, once they are found to fit. The pepper is last: without it no service starts."""
    if given.manifest.get("thumbprint") != chain.thumbprint:
        raise KeyturnError(
            "publisher_mismatch", f"{given.path} belongs to the publisher {given.manifest.get('thumbprint')}"
        )
    backup.kids(given, chain)
    insist(Check("pepper", *database.read(lambda db: checks.sealed(db, backup.peppers(given), progress))))
    for name in sorted(given.names, key=backup.is_pepper):
        files.write(path / name, given.read(name), files.PRIVATE)


def _waiting(db: Connection) -> list[Row]:
    return db.execute("SELECT DISTINCT kid FROM intent WHERE signature IS NULL").fetchall()


def _settle(staged: Path, found: backup.Opened, whole: bool, now: int) -> int:
    """Write the restore into the audit and, with the keys at hand, sign what a crash would have left unsigned."""
    home = ServiceHome(staged, {})
    ids = Ids(chance.token_bytes)
    with home.open_database() as database:
        told = {"as_of": rfc3339(found.made_at)}
        database.write_now(
            lambda db: seats.write_audit(db, ids, now, "staff", "service.restored", found.thumbprint, told)
        )
        missing = {row["kid"] for row in database.read(_waiting)} - set(home.signers)
        # They are signed at the service's start, once the keys are there and somebody opens them.
        if not whole or missing or home.holder.sealed:
            return 0
        return ActivationService(home, database, clock=lambda: now, chance=chance.token_bytes).recover()
