"""From a command line to an opened fleet manager."""

from __future__ import annotations

import getpass
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from keyturn.core.errors import KeyturnError
from keyturn.core.model import ProductName, parse_rfc3339
from keyturn.edge import accounts, clock
from keyturn.edge.database import Database
from keyturn.edge.terminal import Call, program_home
from keyturn.fleet.home import FleetHome
from keyturn.fleet.manager import FleetManager
from keyturn.fleet.selecting import Selector, conditions

NOW = "KEYTURN_NOW"


def home_path(call: Call) -> Path:
    """The fleet manager's folder."""
    return program_home(call, "keyturn-fleet")


def opened_home(call: Call) -> FleetHome:
    """Raises: KeyturnError ``not_initialised``, ``home_foreign``."""
    return FleetHome(home_path(call), call.environ)


@contextmanager
def opened(call: Call) -> Iterator[FleetManager]:
    """The fleet manager of this command line; what root writes is made the home's owner's.

    Works while ``run`` runs: the database has one writer at a time.

    Raises: KeyturnError ``not_initialised``, ``home_foreign``, ``test_only``.
    """
    home = opened_home(call)
    with accounts.kept_whose_it_is(home.path):
        database = home.open_database()
        try:
            yield FleetManager(home, database, clock=now_of(call.environ, database), chance=secrets.token_bytes)
        finally:
            database.close()


def who(call: Call) -> str:
    """Who gives this command, for the audit: the account of this computer."""
    return call.environ.get("SUDO_USER") or getpass.getuser()


def now_of(environ: Mapping[str, str], database: Database) -> Callable[[], int]:
    """The clock; with test products alone the one that ``KEYTURN_NOW`` sets. Raises: KeyturnError ``test_only``."""
    wanted = environ.get(NOW)
    if wanted is None:
        return clock.now
    names = database.read(lambda db: [row["name"] for row in db.execute("SELECT name FROM product")])
    real = next((name for name in names if not ProductName.parse(name).test), None)
    if real is not None:
        raise KeyturnError("test_only", f"{NOW} is set, and {ProductName.parse(real).slug} is not a test product")
    if wanted[:1] in "+-" and wanted[1:].isdigit():
        ahead = int(wanted)
        return lambda: clock.now() + ahead
    fixed = parse_rfc3339(wanted)
    return lambda: fixed


def selecting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which computers are meant, given to a verb as ``selector``."""
    options = (
        click.option("--all", "everything", is_flag=True, help="Every computer."),
        click.option(
            "--computer",
            "computers",
            multiple=True,
            metavar="ID",
            help="This computer, by its id or name; repeat it for more.",
        ),
        click.option(
            "--group", "groups", multiple=True, metavar="G", help="The computers of this group; repeat it for more."
        ),
        click.option(
            "--where", metavar="FILTER", help="Conditions that all hold: 'state=initial_grace product=paintbox'."
        ),
    )

    def wrapped(
        *args: Any,
        everything: bool,
        computers: tuple[str, ...],
        groups: tuple[str, ...],
        where: str | None,
        **values: Any,
    ) -> Any:
        terms = () if where is None else conditions(where)
        return function(*args, selector=Selector(everything, computers, groups, terms), **values)

    wrapped.__name__, wrapped.__doc__ = function.__name__, function.__doc__
    found: Callable[..., Any] = wrapped
    for option in reversed(options):
        found = option(found)
    return found


def readable(path: str) -> bytes:
    """The content of a file that a person named. Raises: KeyturnError ``usage``."""
    from keyturn.edge import files

    data = files.read(os.path.expanduser(path))
    if data is None:
        raise KeyturnError("usage", f"the file {path} does not exist")
    return data
