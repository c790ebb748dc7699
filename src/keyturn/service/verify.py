"""Verifying a service's data: its home, in use or not, or a backup of it.

Keeps: where each part lies. Leaves to others: what must be right (``checks``), what a backup is (``backup``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keyturn.core.errors import KeyturnError
from keyturn.core.model import rfc3339
from keyturn.edge import files
from keyturn.edge.archive import Progress, faults, nowhere
from keyturn.edge.database import open_database
from keyturn.edge.snapshot import open_as_it_is
from keyturn.flows.checking import Check, look, permissions
from keyturn.service import backup, checks, signing
from keyturn.service import home as homes
from keyturn.service.checks import Parts
from keyturn.service.home import ServiceHome


def verify_home(path: Path, environ: Mapping[str, str], now: int, progress: Progress = nowhere) -> list[Check]:
    """Verify a home, in use or not, and whether its files are closed to others and the root folder is away."""
    files.check_home(path, homes.PROGRAM)
    settings, _ = homes.read_settings(path, environ)
    place = homes.database_path(path, settings)

    def pair() -> tuple[bytes, bytes]:
        return files.read(path / "tls" / "cert.pem") or b"", files.read(path / "tls" / "key.pem") or b""

    def kids() -> set[str]:
        return signing.here(path)

    def find(version: int) -> bytes | None:
        data = files.read(path / "pepper" / str(version), 200)
        return None if data is None else backup.pepper(data, f"pepper/{version}")

    def closed() -> tuple[Any, ...]:
        root = [place for place in (path / "root").rglob("*") if place.is_file()]
        names = [path / name for name in (backup.SETTINGS, *backup.secrets_of(path))]
        beside = [place.with_name(f"{place.name}{suffix}") for suffix in ("", "-wal", "-shm")]
        return permissions({p: p.stat().st_mode for p in (*names, *beside, *root) if p.exists()})

    parts = Parts(
        publisher=lambda: settings.publisher,
        chain=lambda: homes.chain_of(files.read_json(path / backup.BUNDLES) or {}),
        database=lambda: open_as_it_is(place, homes.migrations())[0],
        kids=kids, pepper=find, tls=pair,
    )  # fmt: skip
    with faults(path):
        found = [*checks.examine(parts, now, progress), look("files", closed)]
        found.append(look("signer", lambda: signer(path, environ)))
    if (path / "root").exists():
        found.append(
            Check("root", True, "the root folder is on this computer", f"Carry {path / 'root'} away, to a safe place.")
        )
    else:
        found.append(Check("root", True, "the root folder is not on this computer"))
    return found


def signer(path: Path, environ: Mapping[str, str]) -> tuple[Any, ...]:
    """The signer opens, and holds the keys that are said to be here. Without PIN or passphrase it is not asked."""
    with contextlib.closing(ServiceHome(path, environ)) as home:
        kind = home.settings.signer
        try:
            held = set(home.holder.keys())
        except KeyturnError as error:
            if error.code == "signer_locked" and not home.secrets.known:
                return None, f"{kind}: not asked, {error.detail}"
            raise
        if gone := set(home.signers) - held:
            told = f"{kind}: {len(gone)} of {len(home.signers)} keys are not held any more"
            return False, told, "Put them back, or start the service: it takes those that are there."
        return True, f"{kind}: holds {len(held)} keys"


def verify_backup(
    source: Path, secrets: Path | None, folder: Path, progress: Progress = nowhere
) -> list[Check]:
    """Verify a backup, with its secrets if they are at hand. ``folder`` is empty and takes the database for a while.

    Decisions, keys and certificates are judged at the time of the backup: it is as good as the service was then.
    Raises: KeyturnError as ``backup.opened``: what cannot be opened has nothing to be verified.
    """
    found = backup.opened(source, backup.BACKUP)
    staged = folder / "home"
    with found.reader as reader:
        backup.unpack(reader, staged, progress)
        told = f"{len(reader.names)} members as written, of {rfc3339(found.made_at)}"
        mode = source.stat().st_mode
    parts = Parts(
        publisher=lambda: homes.read_settings(staged, {})[0].publisher,
        chain=lambda: backup.verified_chain(found, staged),
        database=lambda: open_database(staged / backup.DATABASE, migrations=homes.migrations()[: found.schema], readonly=True),
        kids=None, pepper=None, tls=None, counts=found.counts,
    )  # fmt: skip
    first = [Check("archive", True, told), look("files", lambda: permissions({source: mode}))]
    if secrets is None:
        return [*first, *checks.examine(parts, found.made_at, progress)]
    given = backup.opened(secrets, backup.SECRETS)
    with given.reader as reader:
        first.append(look("secrets", lambda: _same(found, given)))
        whole = parts._replace(
            kids=lambda: backup.kids(reader, parts.chain()) | set(signing.elsewhere(staged)), pepper=backup.peppers(reader),
            tls=lambda: (files.read(staged / "tls" / "cert.pem") or b"", reader.read("tls/key.pem")),
        )  # fmt: skip
        return [*first, *checks.examine(whole, found.made_at, progress)]


def _same(found: backup.Opened, given: backup.Opened) -> tuple[Any, ...]:
    if found.thumbprint != given.thumbprint:
        return False, f"they belong to the publisher {given.thumbprint}", "Name the secrets of this service."
    return True, f"{len(given.reader.names)} files as written, of {rfc3339(given.made_at)}"
