"""A host's backup: what is inside, and what is done when it is put back, whole or not at all.

Leaves to others: making and opening it (``flows.backups``), what must be right inside (``checks``).

- One file holds everything, the host's key too: a ledger without the key that signed its leases would take honest computers for
  copies. Whoever has the file can give leases in the organization's name until the host certificate ends.
- A restore goes back in time: a computer may hold a newer lease than the ledger knows of. So what each of them shows next is
  believed once, and nobody is called a copy for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keyturn.edge import archive
from keyturn.edge.archive import Progress, nowhere
from keyturn.flows import backups
from keyturn.flows.backups import Form, Opened
from keyturn.flows.checking import Check, insist
from keyturn.flows.restoring import nothing_at, put_in_place
from keyturn.host import checks, ledger
from keyturn.host import home as homes
from keyturn.host.home import DATABASE, HostHome

_FIXED = (DATABASE, "host.toml", "host.key", "installation.json", "tls/cert.pem", "tls/key.pem")
_PRODUCT = re.compile(r"products/[a-z0-9][A-Za-z0-9_+-]{1,120}/(product|key|certificate|pending|telephone)\.json", re.ASCII)
_PUBLIC = re.compile(r"tls/cert\.pem|installation\.json|products/[^/]+/(product|certificate|pending|telephone)\.json", re.ASCII)


def is_member(name: str) -> bool:
    return name in _FIXED or _PRODUCT.fullmatch(name) is not None


FORM = Form(
    homes.PROGRAM, "a host", DATABASE, _FIXED, is_member, lambda name: _PUBLIC.fullmatch(name) is not None, ledger.migrations,
    checks.counts,
)  # fmt: skip


def back_up(home: HostHome, to: Path, *, now: int, progress: Progress = nowhere) -> dict[str, Any]:
    """Write a backup of ``home`` to ``to``, mode 0600; the result is its manifest. Raises: as ``flows.backups.back_up``."""
    names = [*_FIXED[1:], *(str(place.relative_to(home.path)) for place in sorted(home.path.glob("products/*/*.json")))]
    return backups.back_up(FORM, home.path, names, to, key=home.signer.kid, now=now, progress=progress)


def opened(path: Path) -> Opened:
    """Open a backup; close its reader afterwards. Raises: as ``flows.backups.opened``."""
    return backups.opened(FORM, path)


def unpack(found: Opened, staged: Path, progress: Progress = nowhere) -> HostHome:
    """Lay a backup out as a home, and open it: its documents verify, and its key is the one that its manifest names.

    Raises: KeyturnError ``file_malformed``, ``storage_failed``, and why a document does not verify.
    """
    backups.lay_out(FORM, found, staged, progress)
    homes.note_change(staged)
    home = HostHome(staged, {})
    backups.insist_on_key(found, home.signer.kid)
    return home


def examine(found: Opened, home: HostHome, now: int, progress: Progress = nowhere) -> Iterator[Check]:
    """Look at an unpacked backup: all that is looked at in a home, and that it is the one its manifest describes."""
    yield from checks.examine(home, now, progress)
    yield backups.figures(FORM, found, home.path)


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
