"""From a command line to an opened service: its home, its database, its clock."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keyturn.edge import clock
from keyturn.edge.terminal import Call
from keyturn.service.activation import ActivationService
from keyturn.service.home import ServiceHome
from keyturn.service.ids import Ids

SYSTEM_HOME = Path("/var/lib/keyturn-service")


def home_path(call: Call) -> Path:
    """``--home``, ``KEYTURN_HOME``, or the default: the system's state directory for root, else XDG's."""
    named = call.home or call.environ.get("KEYTURN_HOME")
    if named:
        return Path(named).expanduser()
    if os.geteuid() == 0:
        return SYSTEM_HOME
    state = call.environ.get("XDG_STATE_HOME") or str(
        Path(call.environ.get("HOME") or "~").expanduser() / ".local" / "state"
    )
    return Path(state) / "keyturn-service"


@contextmanager
def opened(call: Call) -> Iterator[ActivationService]:
    """The service of this command line. Works while ``run`` runs: the database file has one writer at a time.

    Raises: KeyturnError ``not_initialised``, ``home_foreign``.
    """
    home = ServiceHome(home_path(call), call.environ)
    database = home.open_database()
    try:
        yield ActivationService(home, database, clock=clock.now, chance=secrets.token_bytes)
    finally:
        database.close()


def ids() -> Ids:
    return Ids(secrets.token_bytes)
