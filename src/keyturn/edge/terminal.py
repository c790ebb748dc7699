"""The person's side of a command: options that stand anywhere, output, questions, and how an error ends.

- Data goes to stdout, everything else to stderr. ``--json`` makes data and errors one JSON object each.
- ``--home``, ``--json``, ``--product`` and ``--yes`` stand before or after the verb.
- A question is asked on a terminal only; elsewhere the answer must have been given (``--yes``).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import click

from keyturn.core.errors import EXIT_INTERNAL, EXIT_USAGE, KeyturnError, Refused

_REFERENCE = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"


class Call:
    """What one command line was called with, and its voice."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.environ = os.environ if environ is None else environ
        self.home: str | None = None
        self.json = False
        self.product: str | None = None
        self.yes = False

    @property
    def interactive(self) -> bool:
        return sys.stdin.isatty() and sys.stderr.isatty()

    def emit(self, data: Any, text: str | None = None) -> None:
        """Print the result: ``data`` with ``--json``, else ``text``."""
        click.echo(json.dumps(data, ensure_ascii=False, indent=2) if self.json or text is None else text)

    def say(self, text: str) -> None:
        """Tell a person what is going on (stderr)."""
        click.echo(text, err=True)

    def next(self, command: str) -> None:
        """End a success with the next step, on a terminal."""
        if not self.json and sys.stdout.isatty():
            click.echo(f"Next: {command}", err=True)

    def confirm(self, consequence: str) -> None:
        """Ask before something that cannot be undone. Raises: KeyturnError ``confirmation_required``."""
        if self.yes:
            return
        if not self.interactive or self.json:
            raise KeyturnError("confirmation_required", f"{consequence} Nothing was changed.")
        if not click.confirm(f"{consequence} Go on?", default=False, err=True):
            raise KeyturnError("confirmation_required", "Nothing was changed.", remedy="Repeat it when you are sure.")

    def key(self, argument: str | None, key_file: str | None, *, needed: bool) -> str | None:
        """Read a product key: ``-`` for stdin, a file, ``KEYTURN_KEY_FILE``, or a prompt. In argv it warns."""
        path = key_file or self.environ.get("KEYTURN_KEY_FILE")
        if argument == "-":
            return sys.stdin.readline(200)
        if argument is not None:
            return argument
        if path is not None:
            from pathlib import Path

            from keyturn.edge import files

            data = files.read(Path(path), 4096)
            if data is None:
                raise KeyturnError("usage", f"the key file {path} does not exist")
            lines = data.decode("utf-8", "replace").split("\n")
            return next((line for line in lines if line.strip()), "")
        if needed and self.interactive and not self.json:
            return str(click.prompt("Product key", hide_input=False, err=True))
        return None


def warn_about_argv(call: Call) -> None:
    call.say("Warning: a key on the command line can be read by others and stays in the shell's history; use - or --key-file.")


def refuse(outcome: Refused) -> NoReturn:
    raise outcome.as_error()


def style(text: str, **attributes: Any) -> str:
    """Colour on a terminal that wants it (``NO_COLOR``)."""
    return text if "NO_COLOR" in os.environ or not sys.stdout.isatty() else click.style(text, **attributes)


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


def reference() -> str:
    """A number to quote, ``KT-7Q2F-91XM``: random, without look-alikes."""
    symbols = [_REFERENCE[byte % 32] for byte in os.urandom(8)]
    return f"KT-{''.join(symbols[:4])}-{''.join(symbols[4:])}"


def run(root: click.Group, arguments: list[str] | None) -> int:
    """Run a command line to its exit status; every way to fail ends in one clear message."""
    call = Call()
    arguments = sys.argv[1:] if arguments is None else arguments
    call.json = "--json" in arguments  # Also for mistakes found before the options are read.
    try:
        status = root.main(args=arguments, prog_name="keyturn", standalone_mode=False, obj=call)
        return status if isinstance(status, int) else 0
    except KeyturnError as error:
        return _fail(call, error)
    except click.UsageError as error:
        hint = f" (see `{error.ctx.command_path} --help`)" if error.ctx is not None else ""
        return _fail(call, KeyturnError("usage", error.format_message() + hint))
    except click.ClickException as error:
        return _fail(call, KeyturnError("usage", error.format_message()))
    except (click.Abort, KeyboardInterrupt):
        call.say("Stopped; nothing more was done.")
        return EXIT_USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # The last door: a fault of ours becomes a reference, not a traceback.
        return _internal(call, error)


def _internal(call: Call, error: Exception) -> int:
    failure = KeyturnError("internal", f"{type(error).__name__} in {_place(error)}")
    if call.environ.get("KEYTURN_DEBUG"):
        import traceback

        traceback.print_exception(error)
    _fail(call, failure)
    return EXIT_INTERNAL


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "an unknown place" if trace is None else f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"


def _fail(call: Call, error: KeyturnError) -> int:
    error.reference = error.reference or reference()
    if call.json:
        click.echo(json.dumps({"error": error.as_json()}, ensure_ascii=False, indent=2))
        return error.exit
    call.say(f"{style('Error', fg='red', bold=True)} ({error.code}): {error.detail}")
    call.say(f"  {error.remedy}")
    if error.retry_after:
        call.say(f"  Not before {error.retry_after} seconds from now.")
    call.say(f"  Reference {error.reference}; more: keyturn explain {error.code}")
    return error.exit
