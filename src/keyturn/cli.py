"""The door: ``keyturn``. Each verb's module is imported when the verb is called, and not before.

What runs at every logon does not even import Click (docs/decisions/0003): :func:`main` knows the few words of the plain
``keyturn status`` and ``keyturn remind --logon`` itself, and gives every other command line to ``keyturn.verbs``.
"""

from __future__ import annotations

import sys

from keyturn.edge.voice import Call, guarded


def main(arguments: list[str] | None = None) -> int:
    """The console script; the result is the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    call = plain(words, "status")
    if call is not None:
        from keyturn.client.status import show_status

        return guarded(call, lambda: show_status(call))
    reminded = plain(words, "remind", "--logon")
    if reminded is not None:
        from keyturn.client.reminding import remind_at_logon

        return guarded(reminded, lambda: remind_at_logon(reminded))
    from keyturn.verbs import run_verbs

    return run_verbs(words)


def plain(words: list[str], *wanted: str) -> Call | None:
    """The call if the command line is nothing but ``wanted`` and ``[--home DIR] [--json]``, in any order; else ``None``.

    A lone ``status`` may be left out.
    """
    call, rest, found = Call(), list(words), set[str]()
    while rest:
        word = rest.pop(0)
        if word == "--json":
            call.json = True
        elif word == "--home" and rest and not rest[0].startswith("-"):
            call.home = rest.pop(0)
        elif word in wanted and word not in found:
            found.add(word)
        else:
            return None
    whole = len(found) == len(wanted) or wanted == ("status",)
    return call if whole and "_KEYTURN_COMPLETE" not in call.environ else None
