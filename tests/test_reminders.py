"""When a reminder is due: exact times, and the rule as properties."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core import reminders
from keyturn.core.license import Standing
from keyturn.core.model import DAY, State
from keyturn.core.reminders import HOUR
from keyturn.core.terms import Terms

T0 = 1_800_000_000
GRACES = (State.INITIAL_GRACE, State.OUT_OF_TOLERANCE_GRACE, State.NON_GENUINE_GRACE, State.EXTENDED_GRACE)


def standing(state: State, until: int | None) -> Standing:
    licensed = state is State.LICENSED
    return Standing(state, True, None, None, None, until if licensed else None, None if licensed else until, None)


def at(state: State, until: int | None, begin: int, end: int, *, remind_days: int = 30) -> list[int]:
    return list(reminders.times(standing(state, until), Terms(remind_days=remind_days), begin, end))


@pytest.mark.parametrize("state", GRACES)
@pytest.mark.parametrize("days", [30, 10])
def test_a_grace_reminds_daily_then_every_four_hours_then_hourly(state: State, days: int) -> None:
    """Thirty days and ten: the exact times, to the second, and hourly after the end."""
    end = T0 + days * DAY
    found = at(state, end, T0, end + 3 * HOUR)
    daily = [T0 + day * DAY for day in range(days - 3)]
    four_hourly = [end - 3 * DAY + n * 4 * HOUR for n in range(12)]
    hourly = [end - DAY + n * HOUR for n in range(24 + 3)]
    assert found == [*daily, *four_hourly, *hourly]


def test_the_beginning_of_the_last_days_is_not_waited_past() -> None:
    """Said half a day before the last three days, it is said again when they begin, not a day later."""
    end = T0 + 30 * DAY
    begin = end - 3 * DAY - 12 * HOUR
    assert at(State.INITIAL_GRACE, end, begin, begin + DAY)[:3] == [begin, end - 3 * DAY, end - 3 * DAY + 4 * HOUR]


def test_a_license_for_ever_is_silent() -> None:
    """At a logon, too."""
    assert at(State.LICENSED, None, 0, T0 * 2) == []
    assert reminders.due(standing(State.LICENSED, None), Terms(), T0, None, logon=True) is None


@pytest.mark.parametrize("remind", [30, 7, 0])
def test_a_license_that_ends_reminds_daily_before_its_end_then_as_a_grace(remind: int) -> None:
    """From `remind_days` before the end, never earlier; after the end, the grace's rhythm follows by itself."""
    ends, grace_ends = T0 + 190 * DAY, T0 + 220 * DAY
    found = at(State.LICENSED, ends, T0, grace_ends, remind_days=remind)
    before = [ends - day * DAY for day in range(remind, 0, -1)]
    after = [ends + day * DAY for day in range(27)]
    assert found[: len(before) + 27] == [*before, *after]
    assert found[-24:] == [grace_ends - DAY + n * HOUR for n in range(24)]
    early = reminders.due(standing(State.LICENSED, ends), Terms(remind_days=remind), ends - remind * DAY - 1, None, logon=True)
    assert early is None


@pytest.mark.parametrize("state", [State.NOTIFICATION, State.UNLICENSED])
def test_after_the_end_it_is_hourly_and_urgent(state: State) -> None:
    assert at(state, T0 - DAY, T0, T0 + 3 * HOUR) == [T0, T0 + HOUR, T0 + 2 * HOUR]
    found = reminders.due(standing(state, None), Terms(), T0, T0 - HOUR + 1)
    assert found == reminders.Due(None, HOUR, True, now=False, next=T0 + 1)


def test_a_logon_speaks_whatever_was_shown() -> None:
    """A second after the last time, at a logon, it is due; otherwise it waits for its time."""
    grace = standing(State.INITIAL_GRACE, T0 + 30 * DAY)
    for logon in (True, False):
        found = reminders.due(grace, Terms(), T0 + 1, T0, logon=logon)
        assert found == reminders.Due(T0 + 30 * DAY, DAY, False, now=logon, next=T0 + DAY)


def test_a_time_in_the_future_silences_nobody() -> None:
    """Whoever writes a later time than now into the note of the last one is reminded at once."""
    found = reminders.due(standing(State.INITIAL_GRACE, T0 + 30 * DAY), Terms(), T0, T0 + 29 * DAY)
    assert found is not None
    assert found.now


@pytest.mark.parametrize(("left", "urgent"), [(3 * DAY + 1, False), (3 * DAY, True), (1, True)])
def test_the_last_three_days_are_urgent(left: int, urgent: bool) -> None:
    found = reminders.due(standing(State.INITIAL_GRACE, T0 + left), Terms(), T0, None)
    assert found is not None
    assert found.urgent is urgent


# The rule, for any computer.

states = st.sampled_from([*GRACES, State.LICENSED, State.NOTIFICATION, State.UNLICENSED])
ends = st.integers(T0, T0 + 400 * DAY)
terms = st.builds(Terms, grace_days=st.integers(0, 90), remind_days=st.integers(0, 90))


def every(state: State, until: int | None, terms: Terms, now: int) -> int | None:
    """The rule of the design, written down a second time and otherwise: the interval in force, or ``None``."""
    if state in (State.NOTIFICATION, State.UNLICENSED):
        return HOUR
    assert until is not None
    if state is State.LICENSED:
        if now < until:
            return DAY if until - now <= terms.remind_days * DAY else None
        until += terms.grace_days * DAY
    left = until - now
    return DAY if left > 3 * DAY else 4 * HOUR if left > DAY else HOUR


@given(states, ends, terms, st.integers(0, 500 * DAY), st.integers(0, 40 * DAY), st.integers(0, 3 * DAY))
def test_never_nearer_than_the_interval_and_no_gap_longer(
    state: State, until: int, terms: Terms, begin: int, length: int, ago: int
) -> None:
    """For any state, end, terms, period and time of the last one."""
    begin += T0
    shown = begin - ago
    found = list(reminders.times(standing(state, until), terms, begin, begin + length, shown))
    for earlier, later in pairwise([shown, *found]):
        here = every(state, until, terms, later)
        assert here is not None, "reminded although there is nothing to say"
        late = earlier == shown and later == begin  # It was overdue when the period began.
        assert late or later - earlier >= here
        before = every(state, until, terms, earlier)
        began = until - terms.remind_days * DAY if terms.remind_days else until
        assert late or later - earlier <= (before or max(here, began - earlier))
    last = max([shown, *found])
    following = every(state, until, terms, begin + length - 1) if length else None
    assert following is None or begin + length - last <= DAY or not found


@given(states, ends, terms, st.integers(0, 500 * DAY), st.integers(-DAY, 3 * DAY))
def test_the_list_and_the_question_agree(state: State, until: int, terms: Terms, after: int, ago: int) -> None:
    """A time is in the list exactly if it is due when one asks then."""
    now, where = T0 + after, standing(state, until)
    if state is State.LICENSED and now >= until:
        return  # By then it is asked of another standing: the grace that followed.
    shown = now - ago
    found = reminders.due(where, terms, now, shown)
    listed = now in reminders.times(where, terms, now, now + 1, None if shown > now else shown)
    assert listed is (found is not None and found.now)


@given(ends, terms, st.integers(0, 500 * DAY))
def test_licensed_for_ever_never(until: int, terms: Terms, after: int) -> None:
    for logon in (True, False):
        assert reminders.due(standing(State.LICENSED, None), terms, until + after, None, logon=logon) is None
