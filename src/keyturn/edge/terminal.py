"""Commands with Click: verbs, groups of verbs, and the options that stand before or after any of them.

Leaves to others: output and errors (``edge.voice``), what verbs do (the programs).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from keyturn.core.errors import KeyturnError, Refused
from keyturn.edge import files
from keyturn.edge.voice import Call, guarded

__all__ = ["Call", "Verb", "Verbs", "pass_call", "program_home", "refuse", "run", "warn_about_argv"]


def warn_about_argv(call: Call) -> None:
    call.say(
        "Warning: a key on the command line can be read by others and stays in the shell's history; use - or --key-file."
    )


def program_home(call: Call, name: str) -> Path:
    """The home of a server: ``--home``, ``KEYTURN_HOME``, or ``name`` in the system's state directory for root, else XDG's."""
    named = call.home or call.environ.get("KEYTURN_HOME")
    if named:
        return Path(named).expanduser()
    if files.privileged():
        return Path("/var/lib") / name
    state = call.environ.get("XDG_STATE_HOME") or Path(call.environ.get("HOME") or "~").expanduser() / ".local" / "state"
    return Path(state) / name


def address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, with IPv6 in brackets. Raises: KeyturnError ``usage``."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise KeyturnError("usage", f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def refuse(outcome: Refused) -> NoReturn:
    raise outcome.as_error()


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        call = context.find_root().obj
        if value not in (None, False):
            setattr(call, name, value)

    return callback


def _common() -> list[click.Parameter]:
    options = (
        (("--home",), {"metavar": "DIR", "help": "The folder to work in (KEYTURN_HOME)."}, "home"),
        (("--json",), {"is_flag": True, "help": "Data and errors as JSON."}, "json"),
        (("--product",), {"metavar": "SLUG", "help": "Which product, if there are several."}, "product"),
        (("--yes",), {"is_flag": True, "help": "Answer every question with yes."}, "yes"),
    )
    return [
        click.Option(list(names), expose_value=False, callback=_keep(target), **values)
        for names, values, target in options
    ]


class Verb(click.Command):
    """A command that takes the common options too."""

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self.params.extend(_common())


class Verbs(click.Group):
    """A group of verbs that takes the common options too. ``lazy`` names verbs that live in other modules."""

    command_class = Verb

    def __init__(self, *args: Any, lazy: Mapping[str, str] | None = None, **values: Any) -> None:
        super().__init__(*args, **values)
        self.params.extend(_common())
        self._lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a lazy verb when it is called (``module:attribute``)."""
        place = self._lazy.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        import importlib

        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


Verbs.group_class = Verbs


def pass_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb its :class:`Call` as the first argument."""
    return click.pass_obj(function)


def run(root: click.Group, arguments: list[str] | None) -> int:
    """Run a command line to its exit status; every way to fail ends in one clear message."""
    call = Call()
    arguments = sys.argv[1:] if arguments is None else arguments
    call.json = "--json" in arguments  # Also for mistakes found before the options are read.

    def action() -> object:
        try:
            return root.main(args=arguments, prog_name="keyturn", standalone_mode=False, obj=call)
        except click.UsageError as error:
            hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx is not None else ""
            raise KeyturnError("usage", error.format_message() + hint) from error
        except click.ClickException as error:
            raise KeyturnError("usage", error.format_message()) from error
        except click.Abort as error:
            raise KeyboardInterrupt from error

    return guarded(call, action)
