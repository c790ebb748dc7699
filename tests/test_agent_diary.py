"""The agent's diary over months in a moment: nothing is forgotten, nobody is asked in a loop, links and hours count."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.client.agent_diary import Diary
from keyturn.client.agent_turn import Report, Visit
from keyturn.core.model import DAY
from keyturn.core.schedule import LEAST, LOOK

NOTHING = Report(None, None, False, None, None)
WAITS = Report("activation", None, False, None, None)
FAILED = Report("activation", None, True, "service_unreachable", None)
RENEWS = Report("renewal", 5 * DAY, True, None, None)


def always(_minute: int) -> bool:
    return True


def utc(time: int) -> int:
    return time % DAY // 60


def diary(now: int = 0) -> Diary:
    return Diary(now, lambda: 0.5)


def turned(found: Diary, report: Report, now: int, open_at: Callable[[int], bool] = always) -> None:
    found.turned({"ink": report}, now, minute_of=utc, open_at=open_at)


def test_an_idle_agent_looks_once_a_day() -> None:
    """Nothing to ask: the next turn is the daily look."""
    found = diary()
    turned(found, NOTHING, 10)
    assert (found.next, found.due(10 + LOOK)) == (10 + LOOK, frozenset())


def test_a_new_wish_is_due_at_once_and_a_failed_one_later() -> None:
    """A key that was installed is tried with the next turn; after a failure it takes its time, also over the daily look."""
    found = diary()
    turned(found, WAITS, 0)
    assert found.due(0) == {"ink"}
    turned(found, FAILED, 0)
    assert (found.due(0), found.next) == (frozenset(), 7200)
    turned(found, WAITS, 3600)  # A look in between forgets nothing.
    assert found.next == 7200
    turned(found, FAILED, 7200)
    assert found.next == 7200 + 4 * 3600


def test_success_ends_the_row_of_failures() -> None:
    found = diary()
    for now in (0, 7200, 21_600):
        turned(found, FAILED, now)
    turned(found, RENEWS, 30_000)
    turned(found, RENEWS._replace(tried=True, code="service_unready", renew_in=-1), 30_000 + 5 * DAY)
    assert found.next == 30_000 + 5 * DAY + 7200


def test_a_contact_that_changes_nothing_is_no_loop() -> None:
    """Neither a success that leaves the wish, nor a renewal that is due again at once, is repeated without rest."""
    for report in (WAITS._replace(tried=True), RENEWS._replace(renew_in=-100)):
        found = diary()
        turned(found, report, 0)
        assert found.due(LEAST - 1) == frozenset(), report


def test_a_link_wakes_what_failed_and_nothing_else() -> None:
    """With nothing to ask a link is no event; after failures it is, and `Retry-After` still counts."""
    found = diary()
    turned(found, NOTHING, 0)
    assert found.link_up(100) is False
    turned(found, FAILED, 0)
    assert found.link_up(5000) is True
    assert found.next == 5007
    turned(found, FAILED._replace(retry_after=DAY // 2), 6000)
    found.link_up(7000)
    assert found.next == 6000 + DAY // 2


def test_whoever_asks_for_a_turn_gets_one() -> None:
    """The look and what failed are due at once; `Retry-After` still counts, and a renewal that is not due is not hurried."""
    found = diary()
    turned(found, FAILED, 0)
    found.hurry(10)
    assert (found.next, set(found.due(10))) == (10, {"ink"})
    turned(found, FAILED._replace(retry_after=500), 10)
    found.hurry(20)
    assert (set(found.due(20)), set(found.due(510))) == (set(), {"ink"})
    found = diary()
    turned(found, RENEWS, 0)
    found.hurry(10)
    assert (found.next, found.due(10)) == (10, frozenset())


def test_hours_move_a_contact_and_never_the_look() -> None:
    found = diary()
    turned(found, WAITS, 12 * 3600, lambda minute: minute < 60)
    assert found.due(12 * 3600 + 60) == frozenset()
    assert found.due(DAY + LEAST) == {"ink"}
    assert found.look_at == 12 * 3600 + LOOK


def test_a_turn_that_ends_without_a_report_is_repeated() -> None:
    found = diary()
    turned(found, WAITS, 0)
    found.failed_turn(0)
    assert (found.next, found.look_at) == (7200, 7200)


REPORTS = st.builds(
    Report,
    st.sampled_from([None, "activation", "release", "renewal"]), st.none() | st.integers(-DAY, 40 * DAY), st.booleans(),
    st.sampled_from([None, "service_unreachable", "limit_reached", "policy_forbids"]), st.none() | st.integers(-5, DAY),
)  # fmt: skip


@given(st.lists(st.tuples(REPORTS, st.integers(0, 120), st.booleans()), min_size=1, max_size=60))
def test_whatever_happens_a_turn_comes_and_turns_do_not_run_away(story: list[tuple[Report, int, bool]]) -> None:
    """The next turn is never more than a day away, and a product that was tried rests for a while."""
    found, now = diary(), 0
    for report, late, link in story:
        turned(found, report, now)
        if link:
            found.link_up(now)
        assert found.next <= now + LOOK
        if report.tried and report.wants is not None:
            assert found.contacts.get("ink", now + LOOK) >= now + 15
        now = max(now, found.next) + late


def test_a_year_with_a_dead_service() -> None:
    """365 days, a service that never answers, a link every hour: the agent asks, and does not besiege."""
    found, now, turns = diary(), 0, 0
    turned(found, WAITS, 0)
    while now < 365 * DAY:
        turned(found, FAILED if found.due(now) else WAITS, now)
        turns += 1
        if now // 3600 % 2:
            found.link_up(now)
        assert found.next > now
        now = found.next
    assert 365 <= turns < 365 * 26


def test_the_next_turn_of_several_products_is_the_first() -> None:
    found = diary()
    found.turned({"a": FAILED, "b": WAITS, "c": NOTHING}, 0, minute_of=utc, open_at=always)
    assert found.due(0) == {"b"}
    found.turned({"a": FAILED}, 10, minute_of=utc, open_at=always)
    assert set(found.contacts) == {"a"}
    assert found.next == pytest.approx(10 + 4 * 3600)


def test_a_fleet_manager_that_is_away_is_asked_again_soon_and_less_and_less_often() -> None:
    """The first failures come within seconds, the later ones a quarter of an hour apart; an answer begins anew."""
    diary = Diary(0, lambda: 0.5)
    assert diary.fleet_due(0)
    diary.look_at = 10**9  # The daily look is another matter.
    waits, now = [], 0
    for _ in range(12):
        diary.checked_in(now, Visit(0, failed=True))
        waits.append(diary.next - now)
        now = diary.next
    assert waits[:3] == [12, 24, 48] and waits[-1] == 675 and waits == sorted(waits)
    diary.checked_in(now, Visit(120))
    assert (diary.fleet_due(now + 119), diary.fleet_due(now + 120)) == (False, True)
    diary.checked_in(now, Visit(0, failed=True))
    assert diary.next - now == 12
    diary.checked_in(now, Visit(None))
    assert diary.next != now
