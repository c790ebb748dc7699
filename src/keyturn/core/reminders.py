"""When a person is reminded that something is to be done (design: license states and numbers).

Keeps: the rhythm of reminders, for one standing of one product. Leaves to others: what is said and where
(``client.reminding``), and when it was last said.

- Licensed, and nothing ends soon: never.
- A license that ends: daily, from ``remind_days`` before its end. Then its grace begins, with the rhythm of a grace.
- A grace: daily; every four hours in its last three days; every hour on its last day, and from then on.
- A logon is always due where there is anything to say at all, whatever was shown or snoozed before.
- Two reminders are never nearer than the interval in force at the later one, and no gap is longer than the interval in
  force at the earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from keyturn.core.license import Standing
from keyturn.core.model import DAY, State
from keyturn.core.terms import Terms

HOUR = 3600
DAILY, FOUR_HOURLY, HOURLY = DAY, 4 * HOUR, HOUR
LAST_DAYS = 3 * DAY  # Seconds before the end of a grace from which it is urgent.
LAST_DAY = DAY


class Step(NamedTuple):
    """From ``start`` (NumericDate) on, a reminder every ``every`` seconds, until the next step."""

    start: int
    every: int


class Due(NamedTuple):
    """What there is to remind of. ``until`` is the end it counts down to, ``None`` if that is unknown; ``now`` whether it is
    time to say it; ``next`` when it is time (in the past if it is due), and ``urgent`` whether the end is near or over.
    """

    until: int | None
    every: int
    urgent: bool
    now: bool
    next: int


def steps(standing: Standing, terms: Terms) -> list[Step]:
    """The rhythm of a standing, and of what becomes of it if nobody does anything; empty: nothing to remind of, ever."""
    if standing.state is State.LICENSED:
        if standing.valid_until is None:
            return []
        ends = standing.valid_until
        first = Step(ends - terms.remind_days * DAY, DAILY)
        return [first, *_from(_grace(ends + terms.grace_days * DAY), ends)]
    if standing.grace_until is None or standing.state in (State.NOTIFICATION, State.UNLICENSED):
        return [Step(0, HOURLY)]
    return _grace(standing.grace_until)


def due(standing: Standing, terms: Terms, now: int, shown: int | None, *, logon: bool = False) -> Due | None:
    """What to remind of at ``now``, if ``shown`` is when this was last said (or snoozed); ``None``: silence.

    ``now`` is the effective time. A time of showing that lies in the future comes from a clock that was set back since, or
    from somebody who wrote it there: it counts as never.
    """
    rhythm = steps(standing, terms)
    begun = [step for step in rhythm if step.start <= now]
    if not begun:
        return None
    until = standing.valid_until if standing.state is State.LICENSED else standing.grace_until
    following = following_time(rhythm, None if shown is None or shown > now else shown)
    over = standing.state in (State.NOTIFICATION, State.UNLICENSED)
    return Due(until, begun[-1].every, over or begun[-1].every < DAILY, logon or following <= now, following)


def times(standing: Standing, terms: Terms, begin: int, end: int, shown: int | None = None) -> Iterator[int]:
    """Every time in ``begin`` ≤ t < ``end`` at which a computer that is always on reminds, if nobody does anything."""
    rhythm = steps(standing, terms)
    while rhythm:
        moment = max(begin, following_time(rhythm, shown))
        if moment >= end:
            return
        yield moment
        shown = moment


def following_time(rhythm: list[Step], shown: int | None) -> int:
    """When the reminder after ``shown`` is due: an interval later, or when a quicker rhythm begins that finds it overdue.

    ``rhythm`` is not empty and in order of time.
    """
    for step, after in zip(rhythm, [*rhythm[1:], None], strict=True):
        moment = step.start if shown is None else max(step.start, shown + step.every)
        if after is None or moment < after.start:
            return moment
    raise AssertionError("the last step has no end")


def _grace(until: int) -> list[Step]:
    return [Step(0, DAILY), Step(until - LAST_DAYS, FOUR_HOURLY), Step(until - LAST_DAY, HOURLY)]


def _from(rhythm: list[Step], start: int) -> list[Step]:
    """What is left of a rhythm from ``start`` on."""
    before = [step for step in rhythm if step.start <= start]
    return [Step(start, before[-1].every), *rhythm[len(before) :]]
