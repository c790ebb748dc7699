"""The voice menu: what a caller with a keypad hears and presses, as a state and the next one.

Keeps: the dialogue in two languages: group by group, repeat, correct, hand over with the ticket. Leaves to others: voices and
telephone lines, the answer itself (a ``Want``), tickets.

- Pure: :func:`step` takes a state and the keys that were pressed, and gives the next state and what is said.
- Where the menu needs something from outside it says so (``want``), and is told by :func:`told`: an answer, or a ticket.
- Star says it again; hash goes back one group. Three mistakes in a row, or nothing pressed as often: a person takes over.
- After its first group a call has a ticket, and says it: whoever hangs up goes on after the last group that held.

States: language, start, ticket, group, kind, read, done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from keyturn.core.phone import digits
from keyturn.core.phone.spelling import INSTALLATION

Language = Literal["en", "de"]
MISTAKES: Final = 3  # In a row.
TICKET: Final = 8  # Digits.


class Call(NamedTuple):
    """Where a call is. ``groups`` are those of the ID that hold; ``digits`` or ``words`` are read out, now part ``at``."""

    stage: str = "language"
    language: Language = "en"
    groups: tuple[str, ...] = ()
    mistakes: int = 0
    ticket: str = ""
    digits: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    kind: str = ""
    at: int = 0


class Turn(NamedTuple):
    """What happens next: sentences to say, how many keys are waited for (0: none, the call ends), what is wanted from outside.

    ``want``: ``answer`` (to ``call.groups``), ``ticket`` (keep ``call.groups``), ``resume`` (``call.ticket``), or nothing.
    """

    call: Call
    say: tuple[str, ...]
    keys: int
    want: str = ""


def begin() -> Turn:
    """The first thing a caller hears, in both languages."""
    return Turn(Call(), (_TEXTS["en"]["language"], _TEXTS["de"]["language"]), 1)


def step(call: Call, keys: str) -> Turn:
    """What follows when ``keys`` were pressed ("" for nothing). Everything that is no key of a telephone is ignored."""
    pressed = "".join(key for key in keys if key in "0123456789*#")[:16]
    if call.stage == "language":
        if pressed[:1] not in ("1", "2"):
            return _again(call, begin().say, 1)
        return _start(call._replace(language="en" if pressed[0] == "1" else "de", mistakes=0))
    if pressed[:1] == "0" and call.stage in ("start", "read", "kind"):
        return _hand_over(call)
    if call.stage == "start":
        if pressed[:1] == "1":
            return _group(call._replace(stage="group", mistakes=0))
        if pressed[:1] == "2":
            return Turn(call._replace(stage="ticket", mistakes=0), (_text(call, "which_ticket"),), TICKET)
        return _again(call, _start(call).say, 1)
    if call.stage == "ticket":
        if len(pressed) == TICKET and not digits.check(1, pressed):
            return Turn(call._replace(ticket=pressed), (), 0, "resume")
        return _again(call, (_text(call, "which_ticket"),), TICKET)
    if call.stage == "group":
        return _typed(call, pressed)
    if call.stage == "kind":
        if pressed[:1] not in ("1", "2"):
            return _again(call, (_kind(call),), 1)
        return _read(call._replace(stage="read", kind="digits" if pressed[0] == "1" else "words", at=0, mistakes=0))
    if call.stage == "read":
        return _reading(call, pressed)
    return Turn(call._replace(stage="done"), (_text(call, "bye"),), 0)


def told(
    call: Call, *, code: Sequence[str] = (), words: Sequence[str] = (), refused: str = "",
    groups: Sequence[str] | None = None, ticket: str = "",
) -> Turn:  # fmt: skip
    """Go on with what was wanted: the answer (``code`` and ``words``), the ``groups`` of a ticket, or a new ``ticket``.

    ``refused`` is the code of a "no": a person hears the rest.
    """
    if code:
        held = call._replace(stage="kind", digits=tuple(code), words=tuple(words), mistakes=0)
        return Turn(held, (_text(call, "accepted"), _kind(held)), 1)
    if refused in ("not_accepted",):
        return _with(_group(call._replace(stage="group", groups=(), mistakes=0)), _text(call, "not_accepted"))
    if refused:
        return _with(_hand_over(call), _text(call, "refused"))
    if ticket:
        said = _text(call, "ticket", ticket=" ".join(ticket), group=len(call.groups) + 1)
        held = call._replace(ticket=ticket)
        if call.stage == "done":
            return Turn(held, (said,), 0)
        return (
            _group(held)
            if call.ticket == ticket
            else _with(_group(held), _text(call, "new_ticket", ticket=" ".join(ticket)))
        )
    if groups is None:
        return _again(
            call._replace(stage="ticket", ticket=""), (_text(call, "no_ticket"), _text(call, "which_ticket")), TICKET
        )
    return _group(call._replace(stage="group", groups=tuple(groups), mistakes=0))


def _kind(call: Call) -> str:
    return _text(call, "kind", groups=len(call.digits), words=len(call.words))


def _start(call: Call) -> Turn:
    return Turn(call._replace(stage="start"), (_text(call, "start"),), 1)


def _typed(call: Call, pressed: str) -> Turn:
    """A group: star repeats the question, hash takes the last group back, 0 and star together call a person."""
    place = len(call.groups) + 1
    if pressed == "0*":
        return _hand_over(call)
    if pressed == "*":
        return _group(call)
    if pressed == "#" and call.groups:
        return _group(call._replace(groups=call.groups[:-1], mistakes=0))
    group = pressed.rstrip("#")
    if digits.holds(place, group):
        held = call._replace(groups=(*call.groups, group), mistakes=0)
        if len(held.groups) < INSTALLATION.groups:
            return Turn(held, (), 0, "ticket")
        return Turn(held, (_text(call, "moment"),), 0, "answer")
    heard = _text(call, "wrong", heard=" ".join(group), group=place) if group else _text(call, "nothing")
    return _again(call, (heard, *_group(call).say), digits.GROUP)


def _group(call: Call) -> Turn:
    place = len(call.groups) + 1
    said = (_text(call, "how"),) if place == 1 else ()
    if place > INSTALLATION.groups:
        return Turn(call, (_text(call, "moment"),), 0, "answer")
    return Turn(call, (*said, _text(call, "group", group=place)), digits.GROUP)


def _reading(call: Call, pressed: str) -> Turn:
    parts = call.digits if call.kind == "digits" else call.words
    key = pressed[:1]
    if key == "1" and call.at + 1 == len(parts):
        return Turn(call._replace(stage="done"), (_text(call, "bye"),), 0)
    step_ = {"1": 1, "*": 0, "2": 0, "3": -1}.get(key)
    if step_ is None:
        return _again(call, _read(call).say, 1)
    return _read(call._replace(at=max(0, call.at + step_), mistakes=0))


def _read(call: Call) -> Turn:
    parts = call.digits if call.kind == "digits" else call.words
    part = parts[call.at]
    spoken = " ".join(part) if call.kind == "digits" else f"{part}. {' '.join(part)}"
    name = "read_digits" if call.kind == "digits" else "read_word"
    help_ = (_text(call, "keys"),) if call.at == 0 else ()
    last = (_text(call, "last"),) if call.at + 1 == len(parts) else ()
    return Turn(call, (*help_, _text(call, name, number=call.at + 1, part=spoken), *last), 1)


def _again(call: Call, say: tuple[str, ...], keys: int) -> Turn:
    mistakes = call.mistakes + 1
    return _hand_over(call) if mistakes >= MISTAKES else Turn(call._replace(mistakes=mistakes), say, keys)


def _hand_over(call: Call) -> Turn:
    """A person goes on: with a ticket, if there is something to go on with."""
    if call.groups:
        return Turn(call._replace(stage="done"), (_text(call, "person"),), 0, "ticket")
    return Turn(call._replace(stage="done"), (_text(call, "person"),), 0)


def _with(turn: Turn, first: str) -> Turn:
    return turn._replace(say=(first, *turn.say))


def _text(call: Call, name: str, **values: object) -> str:
    return _TEXTS[call.language][name].format(**values)


_TEXTS: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "language": "For English, press 1.",
        "start": "To activate a computer, press 1. If you have a ticket of an earlier call, press 2. For a person, press 0.",
        "which_ticket": "Please type the eight digits of your ticket.",
        "no_ticket": "There is no such ticket. It is kept for a day.",
        "how": "The computer shows nine groups of six digits. Type one group after the other. Star says it again, hash takes a"
        " group back.",
        "group": "Group {group}.",
        "wrong": "I heard {heard}. That is not group {group}.",
        "nothing": "I heard nothing.",
        "moment": "One moment.",
        "accepted": "It is confirmed. Now the confirmation ID.",
        "not_accepted": "This installation ID is not accepted. Please compare it with the one that the computer shows.",
        "refused": "This has to be decided by a person.",
        "kind": "To hear it in {groups} groups of digits, press 1. In {words} English words, press 2.",
        "keys": "After each one: 1 for the next, 2 to hear it again, 3 for the one before.",
        "read_digits": "Group {number}: {part}.",
        "read_word": "Word {number}: {part}.",
        "last": "That was the last one. Press 1 to end the call.",
        "person": "A person of the staff goes on.",
        "ticket": "Your ticket is {ticket}. With it, the call goes on at group {group}.",
        "new_ticket": "If this call ends, it goes on with ticket {ticket}.",
        "bye": "Goodbye.",
    },
    "de": {
        "language": "Für Deutsch drücken Sie die 2.",
        "start": "Um einen Computer zu aktivieren, drücken Sie die 1. Mit der Nummer eines früheren Anrufs die 2. Für einen"
        " Menschen die 0.",
        "which_ticket": "Bitte tippen Sie die acht Ziffern Ihrer Vorgangsnummer.",
        "no_ticket": "Diese Nummer gibt es nicht. Sie gilt einen Tag lang.",
        "how": "Der Computer zeigt neun Gruppen mit je sechs Ziffern. Tippen Sie eine nach der anderen. Stern wiederholt, Raute"
        " nimmt eine Gruppe zurück.",
        "group": "Gruppe {group}.",
        "wrong": "Verstanden habe ich {heard}. Das ist nicht Gruppe {group}.",
        "nothing": "Ich habe nichts gehört.",
        "moment": "Einen Moment.",
        "accepted": "Sie ist bestätigt. Nun die Bestätigungsnummer.",
        "not_accepted": "Diese Installationsnummer wird nicht angenommen. Bitte vergleichen Sie sie mit der, die der Computer"
        " zeigt.",
        "refused": "Darüber entscheidet ein Mensch.",
        "kind": "In {groups} Gruppen von Ziffern: die 1. In {words} englischen Wörtern: die 2.",
        "keys": "Nach jeder: 1 für die nächste, 2 noch einmal, 3 für die vorige.",
        "read_digits": "Gruppe {number}: {part}.",
        "read_word": "Wort {number}: {part}.",
        "last": "Das war das letzte. Mit der 1 endet der Anruf.",
        "person": "Nun übernimmt ein Mensch.",
        "ticket": "Ihre Vorgangsnummer ist {ticket}. Damit geht es bei Gruppe {group} weiter.",
        "new_ticket": "Falls der Anruf endet, geht er mit der Vorgangsnummer {ticket} weiter.",
        "bye": "Auf Wiederhören.",
    },
}
