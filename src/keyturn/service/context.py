"""From a command line to an opened service: its home, its database, its clock; or to a desk, here or far away.

Verbs that ask for :func:`desk` work in both places; those that ask for :func:`opened` or :func:`home_path` need the home.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from keyturn.core.errors import KeyturnError
from keyturn.core.ids import Ids
from keyturn.edge import accounts, clock, files
from keyturn.edge.terminal import Call, Verb, Verbs, program_home
from keyturn.service.activation import ActivationService
from keyturn.service.desk import Desk, LocalDesk
from keyturn.service.home import ServiceHome

_FAR = "keyturn.service.far"  # Where --at, --token-file and --ca-bundle are kept for the length of a command.


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        context.meta.setdefault(_FAR, {})[parameter.name] = value


def _far_options() -> list[click.Parameter]:
    told = {
        "--at": ("URL", "Work through the admin API of a service elsewhere (KEYTURN_AT)."),
        "--token-file": ("F", "The file with the token for it (KEYTURN_TOKEN_FILE, KEYTURN_TOKEN)."),
        "--ca-bundle": ("F", "Whom to trust for its TLS certificate, if not this system's authorities."),
    }
    return [
        click.Option([name], metavar=metavar, help=text, expose_value=False, callback=_keep)
        for name, (metavar, text) in told.items()
    ]


class ServiceVerb(Verb):
    """A verb of the service: it can be told where the service is."""

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self.params.extend(_far_options())


class ServiceVerbs(Verbs):
    """A group of the service's verbs."""

    command_class = ServiceVerb

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self.params.extend(_far_options())


ServiceVerbs.group_class = ServiceVerbs


def home_path(call: Call) -> Path:
    """``--home``, ``KEYTURN_HOME``, or the default: the system's state directory for root, else XDG's."""
    context = click.get_current_context(silent=True)
    if context is not None and "at" in context.meta.get(_FAR, {}):
        raise KeyturnError(
            "usage", f"`{context.command_path}` works in the service's own home only",
            remedy="Run it on the service's computer, without --at.",
        )  # fmt: skip
    return program_home(call, "keyturn-service")


@contextmanager
def changed_home(call: Call) -> Iterator[Path]:
    """The home, for a verb that writes files into it: what root writes there is made the home's owner's at the end.

    The service runs as an account of its own and must be able to read it. ``root/`` stays as it is: no service reads it.
    """
    path = home_path(call)
    with accounts.kept_whose_it_is(path, but=("root",)):
        yield path


@contextmanager
def opened(call: Call) -> Iterator[ActivationService]:
    """The service of this command line. Works while ``run`` runs: the database file has one writer at a time.

    Raises: KeyturnError ``not_initialised``, ``home_foreign``.
    """
    home = ServiceHome(home_path(call), call.environ, call.secret)
    database = home.open_database()
    try:
        yield ActivationService(home, database, clock=clock.now, chance=secrets.token_bytes)
    finally:
        database.close()
        home.close()


@contextmanager
def desk(call: Call) -> Iterator[Desk]:
    """Where this command line works: at the service ``--at`` names (or ``KEYTURN_AT``), else in the home.

    Raises: KeyturnError ``usage`` without a token, and those of :func:`opened`.
    """
    far = click.get_current_context().meta.get(_FAR, {})
    at = far.get("at") or (None if call.home else call.environ.get("KEYTURN_AT"))
    if at is None:
        with opened(call) as service:
            yield LocalDesk(service)
        return
    from keyturn.service.remote import RemoteDesk

    with RemoteDesk(at, _token(call, far.get("token_file")), call.environ, ca_bundle=far.get("ca_bundle")) as remote:
        yield remote


def _token(call: Call, named: str | None) -> str:
    path = named or call.environ.get("KEYTURN_TOKEN_FILE")
    if path is None:
        text = call.environ.get("KEYTURN_TOKEN", "")
    else:
        data = files.read(Path(path), 4096)
        if data is None:
            raise KeyturnError("usage", f"the token file {path} does not exist")
        text = data.decode("utf-8", "replace")
    if not text.strip():
        raise KeyturnError("usage", "a service elsewhere asks for a token: add --token-file F")
    return text.strip()


def ids() -> Ids:
    return Ids(secrets.token_bytes)
