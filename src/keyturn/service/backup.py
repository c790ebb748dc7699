"""Backups, made while the service runs.

Keeps: what goes into which file, making and opening them. Leaves to others: the files' form (``edge.archive``), copying a
database in use (``edge.snapshot``), putting one back (``restore``), what must be right inside (``checks``).

- A *backup* holds database, settings, trust bundles and public certificates, and no secret: whoever steals it can prove no
  product key and sign nothing.
- The *secrets* are a file of their own: pepper, issuing keys in use, TLS keys. They change only when keys are rotated.
- ``root/`` is in neither, and is never opened. It gives issuing keys again; nothing gives a pepper again.

docs/decisions/0005-backup.md says why.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from keyturn import __version__
from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.core.model import parse_rfc3339, rfc3339
from keyturn.core.trust import Chain
from keyturn.edge import archive, files, signer_files
from keyturn.edge.archive import Progress, Reader, faults, nowhere
from keyturn.edge.database import open_database
from keyturn.edge.snapshot import open_as_it_is, snapshot
from keyturn.flows.checking import Check, insist, integrity
from keyturn.service import checks, confirming, signing
from keyturn.service import home as homes
from keyturn.service.home import ServiceHome

VERSION = 1
BACKUP, SECRETS = "backup", "secrets"
DATABASE, SETTINGS, BUNDLES = "service.db", "service.toml", "bundles.json"
PUBLIC = (DATABASE, SETTINGS, BUNDLES, "tls/ca.pem", "tls/cert.pem", signing.PUBLIC)
_PEPPER = re.compile(r"pepper/([1-9][0-9]{0,3})", re.ASCII)
_KEY = re.compile(r"keys/[a-z]{1,20}-[0-9]{2,4}\.key", re.ASCII)
_TLS = ("tls/ca.key", "tls/key.pem")


def is_public(name: str) -> bool:
    return name in PUBLIC


def is_secret(name: str) -> bool:
    return name in _TLS or is_pepper(name) or any(shape.fullmatch(name) for shape in (_KEY, confirming.NAME))


def is_pepper(name: str) -> bool:
    return _PEPPER.fullmatch(name) is not None


def secrets_of(path: Path) -> dict[str, bytes]:
    """The secret files of a home by their names, without those of ``root/``."""
    found = [*_TLS]
    for folder in ("keys", "pepper"):
        found += sorted(f"{folder}/{place.name}" for place in (path / folder).glob("*"))
    read = {name: files.read(path / name, archive.MAX_SMALL) for name in found if is_secret(name)}
    return {name: data for name, data in read.items() if data is not None}


def back_up(home: ServiceHome, to: Path, *, now: int, progress: Progress = nowhere) -> dict[str, Any]:
    """Write a backup of ``home`` to ``to``; the result is its manifest.

    1. The database as it is now and in the version it has, while others read and write it. What was acknowledged before
       is inside.
    2. A damaged database makes no backup: the last good one is worth more.
    3. What is inside, in figures. 4. One file, durable before it has its name.

    Raises: KeyturnError ``store_damaged``, ``storage_failed``, ``permission_denied``.
    """
    texts = {name: files.read(home.path / name, archive.MAX_SMALL) for name in PUBLIC if name != DATABASE}
    with archive.staging(to) as folder:
        # 1.
        copy = folder / DATABASE
        database, schema = open_as_it_is(homes.database_path(home.path, home.settings), homes.migrations())
        with database:
            snapshot(database, copy, progress)
        with open_database(copy, migrations=homes.migrations()[:schema], readonly=True) as database:
            # 2.
            progress("looking whether it is whole", 0, 0)
            insist(Check("integrity", *database.read(integrity)))
            # 3.
            counts = database.read(checks.counts)
        manifest = {**_manifest(BACKUP, home, now), "schema": schema, "counts": counts}
        # 4.
        parts: dict[str, bytes | Path] = {DATABASE: copy, **{n: data for n, data in texts.items() if data is not None}}
        return archive.write(to, manifest, parts, now=now, progress=progress)


def write_secrets(home: ServiceHome, to: Path, *, now: int) -> dict[str, Any]:
    """Write pepper, issuing keys and TLS keys of ``home`` to ``to``; the result is the manifest. Raises as :func:`back_up`."""
    return archive.write(to, _manifest(SECRETS, home, now), secrets_of(home.path), now=now)


def _manifest(kind: str, home: ServiceHome, now: int) -> dict[str, Any]:
    return {
        "keyturn": kind, "v": VERSION, "program": __version__, "publisher": home.chain.newest.publisher,
        "thumbprint": home.chain.thumbprint, "bundle": home.chain.newest.number, "made_at": rfc3339(now),
    }  # fmt: skip


class Opened(NamedTuple):
    """A backup or secrets file that was opened: its reader and what its manifest says."""

    reader: Reader
    thumbprint: str
    publisher: str
    made_at: int
    schema: int
    counts: Mapping[str, Any]


def opened(path: Path, kind: str) -> Opened:
    """Open a backup or a secrets file; close its reader afterwards.

    Raises: KeyturnError ``file_malformed``, ``store_newer``, ``permission_denied``.
    """
    reader = Reader(path, is_public if kind == BACKUP else is_secret)
    try:
        return _told(reader, kind)
    except BaseException:
        reader.close()
        raise


def _told(reader: Reader, kind: str) -> Opened:
    told, path = reader.manifest, reader.path
    if told.get("keyturn") != kind:
        raise KeyturnError("file_malformed", f"{path} is no {kind} file, it says {str(told.get('keyturn'))[:20]!r}")
    schema, figures = told.get("schema", 0), told.get("counts", {})
    if not isinstance(told.get("v"), int) or not isinstance(schema, int) or not isinstance(figures, dict):
        raise KeyturnError("file_malformed", f"{path}: its manifest lacks a part")
    if told["v"] > VERSION or schema > len(homes.migrations()):
        raise KeyturnError("store_newer", f"{path} was made by Keyturn {str(told.get('program'))[:20]}")
    if kind == BACKUP and {DATABASE, SETTINGS, BUNDLES} - set(reader.names):
        raise KeyturnError("file_malformed", f"{path} lacks the database, the settings or the trust bundles")
    made = _time(told.get("made_at"), path)
    return Opened(reader, str(told.get("thumbprint")), str(told.get("publisher")), made, schema, figures)


def _time(text: object, path: Path) -> int:
    try:
        return parse_rfc3339(str(text))
    except KeyturnError as error:
        raise KeyturnError("file_malformed", f"{path}: its manifest has no time") from error


def kids(given: Reader, chain: Chain) -> set[str]:
    """The issuing keys in a secrets file, encrypted or not; each by the public key that is in its file.

    Raises: KeyturnError ``publisher_mismatch`` for one that no bundle names, ``store_damaged``.
    """
    publics = (signer_files.public_of(given.read(name), name) for name in given.names if _KEY.fullmatch(name))
    found = {jws.thumbprint(public) for public in publics}
    stray = sorted(kid for kid in found if not any(kid in bundle.keys for bundle in chain.bundles))
    if stray:
        raise KeyturnError("publisher_mismatch", f"{given.path}: the issuing key {stray[0]} is in no trust bundle")
    return found


def peppers(given: Reader) -> Callable[[int], bytes | None]:
    """The peppers in a secrets file, by version."""

    def find(version: int) -> bytes | None:
        name = f"pepper/{version}"
        return pepper(given.read(name), name) if name in given.names else None

    return find


def pepper(data: bytes, name: str) -> bytes:
    """The pepper in the bytes of its file. Raises: KeyturnError ``store_damaged``."""
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise KeyturnError("store_damaged", f"{name} holds no pepper") from error


def unpack(reader: Reader, staged: Path, progress: Progress = nowhere) -> None:
    """Lay a backup out as a home without secrets. Raises: KeyturnError ``file_malformed``, ``storage_failed``."""
    with faults(staged):
        for folder in (staged, staged / "tls", staged / "keys", staged / "pepper"):
            folder.mkdir(mode=0o700)
    for name in reader.names:
        if name == DATABASE:
            reader.copy(name, staged / name, progress)
        else:
            public = name.endswith((".pem", ".json"))
            files.write(staged / name, reader.read(name), files.PUBLIC if public else files.PRIVATE)


def verified_chain(found: Opened, staged: Path) -> Chain:
    """The trust bundles of an unpacked backup, if they are of the publisher whom settings and manifest name.

    Raises: KeyturnError ``publisher_mismatch``, and those of ``trust.verify_chain``.
    """
    chain = homes.chain_of(files.read_json(staged / BUNDLES) or {})
    settings, _ = homes.read_settings(staged, {})
    if chain.thumbprint != found.thumbprint or not {chain.newest.publisher} == {settings.publisher, found.publisher}:
        raise KeyturnError(
            "publisher_mismatch", f"{found.reader.path}: settings, trust bundles and manifest are not of one publisher"
        )
    return chain
