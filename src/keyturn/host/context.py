"""From a command line to an opened host: its home, its ledger, its clock, the computer that it runs on."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from keyturn.core.errors import KeyturnError
from keyturn.core.model import ProductName, parse_rfc3339
from keyturn.edge import accounts, clock, probes
from keyturn.edge.probes import Computer
from keyturn.edge.terminal import Call, program_home
from keyturn.host.enrolling import Machine
from keyturn.host.home import HostHome
from keyturn.host.leasing import LeasingHost


def home_path(call: Call) -> Path:
    """The host's folder."""
    return program_home(call, "keyturn-host")


@contextmanager
def changed_home(call: Call) -> Iterator[Path]:
    """The home, for a verb that writes files into it: what root writes there is made the home's owner's at the end."""
    path = home_path(call)
    with accounts.kept_whose_it_is(path):
        yield path


def opened_home(call: Call) -> HostHome:
    """Raises: KeyturnError ``not_initialised``, ``home_foreign``."""
    return HostHome(home_path(call), call.environ)


@contextmanager
def opened(call: Call) -> Iterator[LeasingHost]:
    """The host of this command line. Works while ``run`` runs: the ledger has one writer at a time.

    Raises: KeyturnError ``not_initialised``, ``home_foreign``, ``test_only``.
    """
    home = opened_home(call)
    moment = now_of(call.environ, home.permits)
    database = home.open_database()
    try:
        yield LeasingHost(home, database, clock=moment, chance=secrets.token_bytes)
    finally:
        database.close()


def machine_of(environ: Mapping[str, str], products: Iterable[ProductName]) -> Machine:
    """This computer; for test products the recorded one that ``KEYTURN_SYSROOT`` names. Raises: KeyturnError ``test_only``."""
    sysroot = _test_only(environ, "KEYTURN_SYSROOT", environ.get("KEYTURN_SYSROOT"), products)

    def computer() -> Computer:
        return probes.read(sysroot, facts=True)

    return Machine(now_of(environ, products), secrets.token_bytes, computer)


def now_of(environ: Mapping[str, str], products: Iterable[ProductName]) -> Callable[[], int]:
    """The clock; for test products the one that ``KEYTURN_NOW`` sets. Raises: KeyturnError ``test_only``."""
    wanted = _test_only(environ, "KEYTURN_NOW", environ.get("KEYTURN_NOW"), products)
    if wanted is None:
        return clock.now
    if wanted[:1] in "+-" and wanted[1:].isdigit():
        ahead = int(wanted)
        return lambda: clock.now() + ahead
    fixed = parse_rfc3339(wanted)
    return lambda: fixed


def _test_only(environ: Mapping[str, str], name: str, value: str | None, products: Iterable[ProductName]) -> str | None:
    """A host has one clock and one hardware for all its products, so each of them must be a test product."""
    real = next((product for product in products if not product.test), None)
    if value is not None and real is not None:
        raise KeyturnError("test_only", f"{name} is set, and {real.slug} is not a test product")
    return value
