"""The servers' verbs, if their parts are installed; otherwise the line that installs them.

The client ships alone. Each server needs an extra, and says so instead of failing with a traceback.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import click

from keyturn.core.errors import KeyturnError
from keyturn.edge.terminal import Verb

_SERVICE = ("starlette", "uvicorn", "msgspec", "prometheus_client", "mnemonic", "segno")
_HOST = ("starlette", "uvicorn", "msgspec", "prometheus_client", "nacl")
_FLEET = (*_HOST, "argon2", "jinja2")
_NEEDS = {"service": _SERVICE, "host": _HOST, "fleet": _FLEET, "demo": (*_SERVICE, "joserfc")}


def _command(name: str, place: str) -> click.Command:
    missing = [part for part in _NEEDS[name] if importlib.util.find_spec(part) is None]
    if missing:
        return _Missing(name, missing)
    module, _, attribute = place.partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    return command


class _Missing(Verb):
    """Stands for a verb whose extra is not installed."""

    def __init__(self, name: str, missing: list[str]) -> None:
        super().__init__(
            name, help=f"(not installed: pip install 'keyturn[{name}]')", context_settings={"ignore_unknown_options": True},
            params=[click.Argument(["rest"], nargs=-1, type=click.UNPROCESSED)], callback=self._explain, add_help_option=False,
        )  # fmt: skip
        self._missing = missing

    def _explain(self, **_: Any) -> None:
        line = f"pip install 'keyturn[{self.name}]'"
        raise KeyturnError(
            "extra_missing",
            f"`keyturn {self.name}` needs {', '.join(self._missing)}: {line}",
            remedy=f"Install it: {line}",
        )


def __getattr__(name: str) -> click.Command:
    """Build the verb when it is called, not when the door is opened (PEP 562)."""
    if name == "service":
        return _command("service", "keyturn.service.cli:service")
    if name == "host":
        return _command("host", "keyturn.host.cli:host")
    if name == "fleet":
        return _command("fleet", "keyturn.fleet.cli:fleet")
    if name == "demo":
        return _command("demo", "keyturn.demo:demo")
    raise AttributeError(name)
