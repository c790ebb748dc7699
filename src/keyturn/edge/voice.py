"""What a command was called with, and its voice: output, questions, and how an error ends.

Data goes to stdout, everything else to stderr. ``--json`` makes data and errors one JSON object each. A question is asked
on a terminal only; elsewhere the answer must have been given (``--yes``).

Nothing here imports Click: ``keyturn status`` runs at every logon, and Click takes longer than all the rest of it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from keyturn.core.errors import EXIT_USAGE, KeyturnError

_REFERENCE = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: nothing in it is mistaken for something else.


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
        print(json.dumps(data, ensure_ascii=False, indent=2) if self.json or text is None else text)  # noqa: T201 (the voice)

    def say(self, text: str) -> None:
        """Tell a person what is going on (stderr)."""
        print(text, file=sys.stderr, flush=True)  # noqa: T201 (the voice)

    def next(self, command: str) -> None:
        """End a success with the next step, on a terminal."""
        if not self.json and sys.stdout.isatty():
            self.say(f"Next: {command}")

    def confirm(self, consequence: str) -> None:
        """Ask before something that cannot be undone. Raises: KeyturnError ``confirmation_required``."""
        if self.yes:
            return
        if not self.interactive or self.json:
            raise KeyturnError("confirmation_required", f"{consequence} Nothing was changed.")
        import click

        if not click.confirm(f"{consequence} Go on?", default=False, err=True):
            raise KeyturnError("confirmation_required", "Nothing was changed.", remedy="Repeat it when you are sure.")

    def secret(self, question: str) -> str | None:
        """Ask for what nobody should see on the screen; ``None`` off a terminal."""
        if not self.interactive or self.json:
            return None
        import click

        return str(click.prompt(question, hide_input=True, err=True))

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
            import click

            return str(click.prompt("Product key", hide_input=False, err=True))
        return None


_COLOURS = {"red": 31, "green": 32, "yellow": 33}


def style(text: str, *, fg: str | None = None, bold: bool = False) -> str:
    """Colour on a terminal that wants it (``NO_COLOR``). Not on Windows, whose older consoles would show the codes."""
    if "NO_COLOR" in os.environ or sys.platform == "win32" or not sys.stdout.isatty():
        return text
    codes = ";".join(["1"] * bold + ([str(_COLOURS[fg])] if fg else []))
    return f"\033[{codes}m{text}\033[0m"


def reference() -> str:
    """A number to quote, ``KT-7Q2F-91XM``: 40 random bits."""
    symbols = "".join(_REFERENCE[byte % 32] for byte in os.urandom(8))
    return f"KT-{symbols[:4]}-{symbols[4:]}"


def fail(call: Call, error: KeyturnError) -> int:
    """End with an error: one object on stdout with ``--json``, else words on stderr. The result is the exit status."""
    error.reference = error.reference or reference()
    if call.json:
        call.emit({"error": error.as_json()})
        return error.exit
    call.say(f"{style('Error', fg='red', bold=True)} ({error.code}): {error.detail}")
    call.say(f"  {error.remedy}")
    if error.retry_after:
        call.say(f"  Not before {error.retry_after} seconds from now.")
    call.say(f"  Reference {error.reference}; more: keyturn explain {error.code}")
    return error.exit


def guarded(call: Call, action: Callable[[], object]) -> int:
    """Run ``action()`` to an exit status; a fault of ours becomes a reference, not a traceback."""
    try:
        status = action()
        return status if isinstance(status, int) else 0
    except KeyturnError as error:
        return fail(call, error)
    except KeyboardInterrupt:
        call.say("Stopped; nothing more was done.")
        return EXIT_USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 (the last door: told with a reference, exit 6)
        if call.environ.get("KEYTURN_DEBUG"):
            call.say(_trace(error))
        return fail(call, KeyturnError("internal", f"{type(error).__name__} in {_place(error)}"))


def _trace(error: BaseException) -> str:
    """Where it happened, call by call, with the exceptions' kinds but not their texts: those may hold a key."""
    import traceback

    causes = [error]
    while (cause := causes[0].__cause__ or causes[0].__context__) is not None:
        causes.insert(0, cause)
    return "\n".join("".join(traceback.format_tb(one.__traceback__)) + type(one).__name__ for one in causes)


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "an unknown place" if trace is None else f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"
