"""Which stores a command reads, and which one it writes.

The system's store wins over a user's. ``--home`` or ``KEYTURN_HOME`` names one store and leaves the others alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from keyturn.client.machine import SYSTEM_HOME
from keyturn.core.errors import KeyturnError
from keyturn.core.model import ProductName
from keyturn.edge.vault import Shelf, Vault

SCOPES = ("system", "user")


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
    root = os.geteuid() == 0
    home = home or environ.get("KEYTURN_HOME")
    if home:
        vault = Vault(os.path.expanduser(home), scope or ("system" if root else "user"))
        return Homes((vault,), vault)
    system = Vault(SYSTEM_HOME, "system")
    state = environ.get("XDG_STATE_HOME") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".local", "state")
    user = Vault(os.path.join(state, "keyturn"), "user")
    if scope is not None:
        chosen = system if scope == "system" else user
        return Homes((chosen,), chosen)
    return Homes((system,), system) if root else Homes((system, user), user)
