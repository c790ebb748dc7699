"""When the agent acts: intervals, back-off, `Retry-After`, links, hours; properties over all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core import schedule
from keyturn.core.errors import CATALOGUE
from keyturn.core.model import DAY
from keyturn.core.policy import Policy
from keyturn.core.schedule import LEAST, LINK_SPREAD, LONGEST_RETRY, MOST, RENEW, RETRY, Tried

NOW = 1_800_000_000
times = st.integers(0, 2**33)
chances = st.floats(0, 1, exclude_max=True)
waits = st.none() | st.integers(-10, 10 * MOST)


def utc(time: int) -> int:
    return time % DAY // 60


# --- renewal ----------------------------------------------------------------------------------------------------------


def test_renewal_is_weekly_unless_the_answer_says_otherwise() -> None:
    """Seven days by default; what an answer sets is held between 15 minutes and 30 days; what does not end is not renewed."""
    end = NOW + 190 * DAY
    assert schedule.renewal(NOW, end, None, 0) == NOW + 7 * DAY
    assert schedule.renewal(NOW, end, 3 * DAY, 0) == NOW + 3 * DAY
    assert schedule.renewal(NOW, end, 1, 0) == NOW + LEAST
    assert schedule.renewal(NOW, end, 10 * MOST, 0) == NOW + MOST
    assert schedule.renewal(NOW, None, 3 * DAY, 0) is None


@given(times, st.integers(1, 400 * DAY), waits, chances)
def test_renewal_comes_after_the_issue_and_leaves_time_for_a_second_try(
    issued: int, length: int, wait: int | None, chance: float
) -> None:
    """Never at once, never later than the interval, and by the half of the right's life where that is long enough."""
    at = schedule.renewal(issued, issued + length, wait, chance)
    assert at is not None
    assert issued + LEAST * (1 - schedule.SPREAD) <= at <= issued + max(min(MOST, length // 2), LEAST)
    assert at <= issued + schedule.bounded(wait, RENEW)


# --- retry ------------------------------------------------------------------------------------------------------------


def test_retries_back_off_to_a_day() -> None:
    """2, 4, 8, 16, 24, 24 hours, without chance in it."""
    tried, found = Tried(), []
    for _ in range(6):
        tried = tried.failed(NOW)
        found.append((schedule.retry(tried, 0.5) - NOW) / 3600)
    assert found == [2, 4, 8, 16, 24, 24]


@given(st.lists(st.tuples(st.integers(0, DAY), waits, chances), min_size=1, max_size=40))
def test_a_retry_is_in_the_future_obeys_the_other_side_and_always_comes(story: list[tuple[int, int | None, float]]) -> None:
    """Whatever happened before: later than now, not before `Retry-After`, and within a day or what was asked."""
    tried, now = Tried(), NOW
    for pause, wait, chance in story:
        now += pause
        tried = tried.failed(now, wait)
        at = schedule.retry(tried, chance)
        asked = min(max(wait or 0, 0), MOST)
        assert at >= now + max(int(RETRY * 0.9) - 1, asked)
        assert at <= now + max(LONGEST_RETRY * 1.1, asked + LINK_SPREAD)


@given(chances, chances)
def test_computers_drift_apart(one: float, other: float) -> None:
    """Chance moves a retry by at most a tenth either way, and in order."""
    tried = Tried().failed(NOW)
    first, second = schedule.retry(tried, min(one, other)), schedule.retry(tried, max(one, other))
    assert first <= second <= first + RETRY * 0.2 + 1


# --- links ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 30), st.integers(0, 10 * DAY), waits, chances)
def test_a_link_that_comes_up_is_used_soon_but_not_against_the_other_sides_word(
    failures: int, ago: int, wait: int | None, chance: float
) -> None:
    """Within seconds if nothing failed; never later than the retry's own patience, never before `Retry-After`."""
    tried = Tried()
    for _ in range(failures):
        tried = tried.failed(NOW - ago, wait)
    at = schedule.on_link(tried, NOW, chance)
    assert at >= max(NOW, tried.not_before)
    assert at <= max(NOW + LINK_SPREAD, NOW - ago + RETRY, tried.not_before)


def test_a_link_that_comes_and_goes_is_no_storm() -> None:
    """A link that flaps every ten seconds for a day, with a dead service behind it, gets few attempts."""
    tried, attempts = Tried(), 0
    for now in range(NOW, NOW + DAY, 10):
        if schedule.on_link(tried, now, 0) <= now:
            tried, attempts = tried.failed(now), attempts + 1
    assert attempts < 25


@pytest.mark.parametrize(
    ("link", "metered", "dial", "code"),
    [
        ("up", "avoid", "never", None), ("unknown", "avoid", "never", None), ("none", "allow", "allow", "link_down"),
        ("metered", "avoid", "never", "link_metered"), ("metered", "allow", "never", None),
        ("on_demand", "avoid", "never", "link_down"), ("on_demand", "avoid", "allow", None),
    ],
)  # fmt: skip
def test_which_link_may_be_used(link: str, metered: str, dial: str, code: str | None) -> None:
    """Policy alone opens what costs; the code is one of the catalogue, with exit 3 and a remedy."""
    assert schedule.link_refusal(link, metered=metered, dial=dial) == code
    assert code is None or (CATALOGUE[code].exit == 3 and CATALOGUE[code].remedy)


# --- hours ------------------------------------------------------------------------------------------------------------


def test_hours_of_the_night() -> None:
    """22:00-06:00 reaches past midnight; outside it the next opening is taken, spread over its first quarter of an hour."""
    open_at = Policy(hours=((22 * 60, 6 * 60),)).open_at
    midnight = NOW - NOW % DAY
    assert schedule.allowed_from(midnight + 3600, utc, open_at, 0.9) == midnight + 3600
    assert schedule.allowed_from(midnight + 12 * 3600, utc, open_at, 0) == midnight + 22 * 3600
    assert schedule.allowed_from(midnight + 12 * 3600, utc, open_at, 0.5) == midnight + 22 * 3600 + 450
    assert schedule.allowed_from(NOW, utc, lambda _minute: False, 0) is None


@given(times, st.lists(st.tuples(st.integers(0, 1439), st.integers(1, 1440)), max_size=3), chances)
def test_what_is_allowed_is_within_the_hours_and_within_a_day(
    at: int, hours: list[tuple[int, int]], chance: float
) -> None:
    """The answer is open, not earlier than asked, and not more than a day away."""
    open_at = Policy(hours=tuple(pair for pair in hours if pair[0] != pair[1])).open_at
    found = schedule.allowed_from(at, utc, open_at, chance)
    assert found is not None
    assert open_at(utc(found))
    assert at <= found <= at + DAY + LEAST


def test_soonest() -> None:
    assert schedule.soonest([None, 5, 3]) == 3
    assert schedule.soonest([None]) is None
