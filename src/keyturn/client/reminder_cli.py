"""The verb ``remind`` with all it can do, and the loop that keeps the rhythm between logons."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import click

from keyturn.client import reminding
from keyturn.client.homes import default_homes
from keyturn.client.reminder_page import page
from keyturn.client.reminding import Notice, Shown, look
from keyturn.core.errors import KeyturnError
from keyturn.core.model import rfc3339
from keyturn.edge import files
from keyturn.edge.desktop import Desktop, Notification
from keyturn.edge.language import text as _
from keyturn.edge.terminal import Call, Verb, pass_call

LOOK_AGAIN = 900  # Seconds: somebody may activate, set the clock, or wake the computer.
NOT_YET = 60  # Seconds until a desktop that was not there is tried again,
TRIES = 5  # and how often: a session that has ended needs no reminders.
PAGE = "reminder.html"


@click.command(cls=Verb)
@click.option("--logon", is_flag=True, help="Say everything there is to say, whatever was shown or snoozed; never fail.")
@click.option("--snooze", is_flag=True, help="Say nothing until the next one is due; a logon speaks all the same.")
@click.option("--desktop", is_flag=True, help="Show it as a notification of the desktop instead of here.")
@click.option("--watch", is_flag=True, help="Stay, and remind when it is due: at once, then daily or more often near the end.")
@click.option("--page", "page_file", metavar="F", help="Write a page with what there is to do (- for stdout), due or not.")
@pass_call
def remind(call: Call, logon: bool, snooze: bool, desktop: bool, watch: bool, page_file: str | None) -> int:
    """Say which product needs something, until when, and what to do. Silent if nothing is due, or all is licensed.

    Who runs it is reminded daily, every four hours in the last three days of a grace period, and hourly from its last day on.
    """
    if snooze and (logon or watch or desktop or page_file):
        raise KeyturnError("usage", "--snooze stands alone")
    if page_file is not None:
        return _write_page(call, page_file)
    if snooze:
        return _snooze(call)
    if watch:
        return keep_watch(call, desktop=desktop)
    if logon and not desktop:
        return reminding.remind_at_logon(call)
    shown = Shown(call.environ)
    found = [notice for notice in look(call, shown, logon=logon) if notice.due.now]
    if desktop:
        _notify(call, found, {})
    if call.json or not desktop:
        reminding.say(call, found)
    reminding.told(call, found, shown, where="desktop" if desktop else "terminal", logon=logon)
    return 0


def keep_watch(call: Call, *, desktop: bool, pause: Callable[[float], None] = time.sleep) -> int:
    """Remind at once, as at a logon, then whenever it is due, until the process is ended.

    The wait is never longer than a quarter of an hour: what is due depends on what others do meanwhile.
    Raises: KeyturnError ``desktop_unreachable`` if the desktop is not there several times in a row.
    """
    shown, numbers, first, missed = Shown(call.environ), dict[str, int](), True, 0
    while True:
        found = look(call, shown, logon=first)
        due = [notice for notice in found if notice.due.now]
        try:
            if desktop:
                _notify(call, due, numbers)
            else:
                reminding.say(call, due)
        except KeyturnError as error:
            missed += 1
            if missed >= TRIES:
                reminding.failed(call, error)
                raise
            pause(NOT_YET)
            continue
        reminding.told(call, due, shown, where="desktop" if desktop else "terminal", logon=first)
        first, missed = False, 0
        waits = [notice.due.next - notice.now for notice in (look(call, shown) if due else found)]
        pause(min(LOOK_AGAIN, max(1, min(waits, default=LOOK_AGAIN))))


def _notify(call: Call, notices: list[Notice], numbers: dict[str, int]) -> None:
    """One notification for each product, in the place of the one before."""
    desktop = Desktop(call.environ)
    for notice in notices:
        place = notice.shelf.path

        def chosen(notice: Notice = notice) -> None:
            desktop.show(_keep_page(call, [notice]))

        remedy = _("What to do: {remedy}").format(remedy=notice.remedy)
        text = " ".join([*notice.sentences, remedy])
        numbers[place] = desktop.notify(
            Notification(
                notice.headline, text, _("What to do"), critical=notice.due.urgent, replaces=numbers.get(place, 0)
            ),
            chosen,
        )  # fmt: skip


def _keep_page(call: Call, notices: list[Notice]) -> str:
    """Write the page where only this person reads it, and return its path."""
    path = os.path.join(default_homes(sys.platform, call.environ, os.path.expanduser("~"))[1], PAGE)
    files.write(path, page(notices).encode(), files.PRIVATE)
    return path


def _write_page(call: Call, place: str) -> int:
    text = page(look(call, Shown(call.environ)))
    if place == "-":
        call.emit({"page": text}, text.rstrip("\n"))
        return 0
    files.write(place, text.encode())
    call.emit({"page": os.path.abspath(place)}, _("The page is in {file}.").format(file=place))
    return 0


def _snooze(call: Call) -> int:
    shown = Shown(call.environ)
    found = look(call, shown)
    shown.note(found)
    again = [(notice, rfc3339(notice.due.next)) for notice in look(call, Shown(call.environ))]
    data = {"snoozed": [{"product": notice.entry["product"], "next_at": at} for notice, at in again]}
    line = _("{product}: the next reminder is due on {time}; a logon speaks all the same.")
    said = [line.format(product=notice.entry["name"], time=f"{(at or '')[:16].replace('T', ' ')} UTC") for notice, at in again]
    call.emit(data, "\n".join(said) or _("There is nothing to do."))
    return 0
