"""The door: ``keyturn``. Each verb's module is imported when the verb is called, and not before.

The plain ``keyturn status`` does not even import Click (docs/decisions/0003): :func:`main` knows its few words itself, and
gives every other command line to ``keyturn.verbs``.
"""

from __future__ import annotations

import sys

from keyturn.edge.voice import Call, guarded


def main(arguments: list[str] | None = None) -> int:
    """The console script; the result is the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    call = plain_status(words)
    if call is not None:
        from keyturn.client.status import show_status

        return guarded(call, lambda: show_status(call))
    from keyturn.verbs import run_verbs

    return run_verbs(words)


def plain_status(words: list[str]) -> Call | None:
    """The call if the command line is nothing but ``[status] [--home DIR] [--json]``, in any order; else ``None``."""
    call, rest = Call(), list(words)
    verbs = 0
    while rest:
        word = rest.pop(0)
        if word == "--json":
            call.json = True
        elif word == "--home" and rest and not rest[0].startswith("-"):
            call.home = rest.pop(0)
        elif word == "status":
            verbs += 1
        else:
            return None
    return call if verbs <= 1 and "_KEYTURN_COMPLETE" not in call.environ else None
