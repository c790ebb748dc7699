"""``keyturn remind``: what a person at this computer is to be told, product by product, and when it was last told.

Keeps: the words of a reminder, and the note of when this person last saw one. Leaves to others: the rhythm
(``core.reminders``), the page (``reminder_page``), the desktop (``edge.desktop``), the loop (``reminder_cli``).

- It works without an agent and without a network: stores are read and verified, as ``status`` does.
- A logon speaks whatever was snoozed. Nothing that anybody writes on this computer makes it silent for longer than the
  interval in force.
- It neither delays nor breaks a logon: after ``PATIENCE`` seconds it gives up, and whatever goes wrong is an event.
- ``--logon`` runs at every logon, so this module imports neither Click nor the network.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from keyturn.client.context import chosen, homes_of, machine_of
from keyturn.client.homes import default_homes
from keyturn.client.loading import damaged_status, load, status_of
from keyturn.client.machine import NOW, SYSROOT, Machine
from keyturn.client.record import remember
from keyturn.client.status import by_policy
from keyturn.client.views import days_left, title, why
from keyturn.core import license, reminders
from keyturn.core.errors import KeyturnError
from keyturn.core.license import Standing
from keyturn.core.model import DAY, State, rfc3339
from keyturn.core.reminders import HOUR, Due
from keyturn.core.terms import Terms
from keyturn.edge import files
from keyturn.edge.language import noted, plural
from keyturn.edge.language import text as _
from keyturn.edge.vault import Shelf
from keyturn.edge.voice import Call, style

PATIENCE = 5  # Seconds after which a logon goes on without a reminder.
NOTE = "reminders.json"
_HEADLINES = {
    State.UNLICENSED: noted("{product} is not licensed on this computer"),
    State.LICENSED: noted("The license of {product} ends soon"),
    State.INITIAL_GRACE: noted("{product} is not activated yet"),
    State.OUT_OF_TOLERANCE_GRACE: noted("The license of {product} does not hold just now"),
    State.NON_GENUINE_GRACE: noted("{product} does not count as genuine"),
    State.NOTIFICATION: noted("{product} is not activated, and its grace period is over"),
    State.EXTENDED_GRACE: noted("{product} is not activated; your organization has extended its grace period"),
}


class Notice(NamedTuple):
    """One product that there is something to say about. ``shelf`` is its store, ``now`` the time that counts."""

    shelf: Shelf
    entry: dict[str, Any]
    standing: Standing
    terms: Terms
    mode: str
    terms_url: str | None
    now: int
    due: Due

    @property
    def headline(self) -> str:
        return _(_HEADLINES[self.standing.state]).format(product=title(self.entry))

    @property
    def sentences(self) -> list[str]:
        """What the terms promise until when, what comes after, and why: whole sentences, that can be read aloud."""
        return [*self._promise(), *self._reason()]

    @property
    def remedy(self) -> str:
        """The one thing to do, of what the organization's policy leaves open."""
        return _(self.entry["remedy"] or "Activate it: `keyturn activate`.")

    def _promise(self) -> Iterator[str]:
        state, until, days = self.standing.state, self.due.until, self.terms.grace_days
        after = (
            _("After that, it does not run until it is activated.")
            if self.mode == "enforce"
            else _("After that, it goes on running, with a reminder every hour.")
        )
        if until is None or state in (State.NOTIFICATION, State.UNLICENSED):
            if until is not None:
                terms = plural("Its terms give {count} day of grace, which ended on {date}.",
                               "Its terms give {count} days of grace, which ended on {date}.", days)  # fmt: skip
                yield terms.format(count=days, date=moment(until, self.now))
            runs = _("It goes on running, with a reminder every hour until it is activated.")
            yield runs if self.standing.usable else _("It does not run until it is activated.")
            return
        when = {"date": moment(until, self.now), "left": left(until, self.now)}
        if state is State.LICENSED:
            yield _("It is licensed until {date}: {left}.").format(**when)
            grace = plural("After that, its terms give {count} day of grace with full function.",
                           "After that, its terms give {count} days of grace with full function.", days)  # fmt: skip
            yield grace.format(count=days)
            return
        if state is State.EXTENDED_GRACE:
            yield _("It has full function until {date}: {left}.").format(**when)
        else:
            terms = plural("Its terms give {count} day of grace: full function until {date}, {left}.",
                           "Its terms give {count} days of grace: full function until {date}, {left}.", days)  # fmt: skip
            yield terms.format(count=days, **when)
        yield after

    def _reason(self) -> Iterator[str]:
        reason = self.standing.reason
        if reason not in (None, "not_activated"):
            yield _("The reason: {why}.").format(why=why(reason, list(self.standing.changed)))

    def as_json(self) -> dict[str, Any]:
        return {
            **{name: self.entry[name] for name in ("product", "name", "state", "state_code", "usable", "reason", "test")},
            "due": self.due.now, "urgent": self.due.urgent, "until": rfc3339(self.due.until), "due_at": rfc3339(self.due.next),
            "headline": self.headline, "text": " ".join(self.sentences), "remedy": self.remedy,
            "next_command": self.entry["next_command"], "terms_url": self.terms_url,
        }  # fmt: skip


class Shown:
    """When this person last saw a reminder of each product: a file of their own, never one of the store's."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        folder = default_homes(sys.platform, environ, os.path.expanduser("~"))[1]
        self._path = os.path.join(folder, NOTE)
        self._times: dict[str, int] = {}
        with suppress(KeyturnError):  # A note that cannot be read was never written: at worst one reminder too many.
            stored = files.read_json(self._path, 65_536) or {}
            self._times = {str(name): time for name, time in stored.items() if isinstance(time, int)}

    def when(self, shelf: Shelf) -> int | None:
        return self._times.get(shelf.path)

    def note(self, notices: list[Notice]) -> None:
        """Raises: KeyturnError ``permission_denied``, ``storage_failed``; in this process it is noted all the same."""
        self._times.update({notice.shelf.path: notice.now for notice in notices})
        if notices:
            files.write_json(self._path, dict(self._times), files.PRIVATE)


def look(call: Call, shown: Shown, *, logon: bool = False, machine: Machine | None = None) -> list[Notice]:
    """Every product that there is something to say about now, due or not.

    Raises: KeyturnError ``test_only``, ``home_foreign``, ``product_missing``.
    """
    machine = machine or machine_of(call)
    found = []
    for shelf in chosen(call, homes_of(call)):
        notice = _look_at(shelf, machine, shown.when(shelf), logon=logon)
        if notice is not None:
            found.append(notice)
    return found


def _look_at(shelf: Shelf, machine: Machine, shown: int | None, *, logon: bool) -> Notice | None:
    try:
        loaded = remember(shelf, load(shelf, machine), machine)
    except KeyturnError as error:
        if error.code in ("test_only", "usage"):  # Somebody set another clock or computer, and wrongly.
            own = {name: value for name, value in machine.environ.items() if name not in (NOW, SYSROOT)}
            if not logon or len(own) == len(machine.environ):
                raise
            return _look_at(shelf, Machine(own), shown, logon=True)  # That silences no logon.
        now = machine.clock()
        nothing = Standing(State.UNLICENSED, False, error.code, error.remedy, "keyturn product add FILE", None, None, None)
        due = reminders.due(nothing, Terms(), now, shown, logon=logon)
        assert due is not None
        return Notice(shelf, damaged_status(shelf, error), nothing, Terms(), "enforce", None, now, due)
    product, standing = loaded.opened.product, loaded.standing
    now, terms = license.effective_time(loaded.now, loaded.record), Terms.read(product.terms)
    found = reminders.due(standing, terms, now, shown, logon=logon)
    if found is None:
        return None
    entry = by_policy(status_of(loaded), shelf, machine)
    return Notice(shelf, entry, standing, terms, product.mode, product.terms_url, now, found)


def reminder_text(notices: list[Notice]) -> str:
    """What is said in a terminal, within 80 columns: sentences, whose meaning does not hang on a colour."""
    return "\n".join(_paragraph(notice) for notice in notices)


def _paragraph(notice: Notice) -> str:
    import textwrap

    def wrapped(text: str) -> str:
        filled = textwrap.wrap(text, 78, break_on_hyphens=False, break_long_words=False)
        return "\n".join(f"  {line}" for line in filled)

    headline = textwrap.fill(_("Reminder: {headline}.").format(headline=notice.headline), 80)
    lines = [style(headline, fg="red" if notice.due.urgent else None, bold=True), wrapped(" ".join(notice.sentences))]
    if notice.terms_url:
        lines.append(wrapped(_("The terms: {url}").format(url=notice.terms_url)))
    return "\n".join([*lines, wrapped(_("What to do: {remedy}").format(remedy=notice.remedy))])


def moment(time: int, now: int) -> str:
    """A date; near it, also the time of day, in UTC as everywhere."""
    text = rfc3339(time) or ""
    return text[:10] if abs(time - now) > reminders.LAST_DAYS else f"{text[:10]} {text[11:16]} UTC"


def left(until: int, now: int) -> str:
    """How long there is: days, and on the last day hours, rounded up."""
    seconds = max(0, until - now)
    if seconds > DAY:
        return days_left(-(-seconds // DAY))
    hours = -(-seconds // HOUR)
    return plural("{count} hour left", "{count} hours left", hours).format(count=hours)


def remind_at_logon(call: Call) -> int:
    """Say what there is to say, within a bounded time; silent if that is nothing, or if it fails. Always exits with 0."""
    try:
        with _patience(), _unbreakable_output():
            shown = Shown(call.environ)
            found = look(call, shown, logon=True)
            say(call, found)
            told(call, found, shown, where="terminal", logon=True)
    except Exception as error:  # noqa: BLE001 (a logon goes on, whatever it is; an administrator finds it in the log)
        failed(call, error)
    return 0


def say(call: Call, notices: list[Notice]) -> None:
    """Print reminders; nothing at all if there are none and nobody asked for JSON."""
    if notices or call.json:
        call.emit({"reminders": [notice.as_json() for notice in notices]}, reminder_text(notices))


def told(call: Call, notices: list[Notice], shown: Shown, *, where: str, logon: bool = False) -> None:
    """Note that a person was told, for the schedule and in the log. A note that cannot be kept is in the log."""
    if not notices:
        return
    from keyturn.client.telling import Teller

    machine = machine_of(call)
    for notice in notices:
        Teller(notice.shelf.vault, machine).tell(
            "reminder_shown", product=notice.entry["product"], state=notice.entry["state"], until=rfc3339(notice.due.until),
            where=where, logon=logon,
        )  # fmt: skip
    try:
        shown.note(notices)
    except KeyturnError as error:
        failed(call, error)


def failed(call: Call, error: Exception) -> None:
    """Put into the log that nobody could be reminded, and why."""
    from keyturn.client.telling import Teller

    known = error if isinstance(error, KeyturnError) else KeyturnError("internal", f"{type(error).__name__} in a reminder")
    with suppress(KeyturnError):  # A store that cannot even be opened has no log of its own.
        Teller(homes_of(call).write, machine_of(call)).tell_error("reminder_failed", known)


@contextmanager
def _patience() -> Iterator[None]:
    """Give up after a while: a hanging disk may not hang a logon. Raises: KeyturnError ``storage_failed``."""
    if sys.platform == "win32":
        yield  # No alarms there; Windows shows no reminders at a logon of a terminal either.
        return
    import signal

    def give_up(*_: object) -> None:
        raise KeyturnError("storage_failed", f"the store was not read within {PATIENCE} seconds")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _unbreakable_output() -> Iterator[None]:
    """A terminal that cannot show a letter shows another sign: that is no reason to say nothing."""
    import io

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    yield
