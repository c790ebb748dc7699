"""Which stores a command reads, which one it writes, and where they are on each system.

The system's store wins over a user's. ``--home`` or ``KEYTURN_HOME`` names one store and leaves the others alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

from keyturn.client.machine import SYSTEM_HOME
from keyturn.core.errors import KeyturnError
from keyturn.core.model import ProductName
from keyturn.edge import files
from keyturn.edge.vault import Shelf, Vault

SCOPES = ("system", "user")
SYSTEM_AGENT = "/run/keyturn/agent.sock"  # Its store's keys are root's, and every account may ask whether they are held.


class Homes(NamedTuple):
    """The stores in the order in which they are believed, and the one that changes are made in."""

    read: tuple[Vault, ...]
    write: Vault

    def shelves(self) -> list[Shelf]:
        """Every product once: the system's, then those only the user has."""
        found: dict[str, Shelf] = {}
        for vault in self.read:
            for shelf in vault.shelves():
                found.setdefault(shelf.name, shelf)
        return list(found.values())

    def find(self, name: ProductName) -> Shelf:
        """The shelf of a product: where it is already, else where it would be added."""
        for vault in self.read:
            shelf = vault.shelf(name)
            if os.path.isdir(shelf.path):
                return shelf
        return self.write.shelf(name)


def open_homes(home: str | None, scope: str | None, environ: Mapping[str, str]) -> Homes:
    """Raises: KeyturnError ``home_foreign``, ``usage``."""
    if scope not in (None, *SCOPES):
        raise KeyturnError("usage", f"--scope is one of {', '.join(SCOPES)}")
    root = files.privileged()
    home = home or environ.get("KEYTURN_HOME")
    if home:
        vault = Vault(os.path.expanduser(home), scope or ("system" if root else "user"))
        return Homes((vault,), vault)
    places = default_homes(sys.platform, environ, os.path.expanduser("~"))

    def opened(which: str) -> Vault:
        """Only what is asked for is looked into: root's agent sees nobody's home, its own neither."""
        if which == "user":
            return Vault(places[1], "user")
        return Vault(places[0], "system", SYSTEM_AGENT if sys.platform == "linux" else None)

    if scope is not None or root:
        chosen = opened(scope or "system")
        return Homes((chosen,), chosen)
    user = opened("user")
    return Homes((opened("system"), user), user)


def default_homes(platform: str, environ: Mapping[str, str], person: str) -> tuple[str, str]:
    """Where the system's and a user's store are if nobody says otherwise; ``person`` is the user's own folder.

    Linux: the state directory (FHS, XDG). macOS: Application Support. Windows: program data, and the user's local data,
    which does not roam: a store belongs to one computer.
    """
    person = environ.get("HOME") or person
    if platform == "darwin":
        support = "Library/Application Support/Keyturn"
        return f"/{support}", os.path.join(person, support)
    if platform == "win32":
        import ntpath

        data = environ.get("PROGRAMDATA") or "C:\\ProgramData"
        local = environ.get("LOCALAPPDATA") or ntpath.join(person, "AppData", "Local")
        return ntpath.join(data, "Keyturn"), ntpath.join(local, "Keyturn")
    state = environ.get("XDG_STATE_HOME") or os.path.join(person, ".local", "state")
    return SYSTEM_HOME, os.path.join(state, "keyturn")
