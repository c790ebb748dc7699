"""The client's decision: what state follows from certificate, record, hardware and clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core import license
from keyturn.core.documents import Certificate, ProductFile, Record
from keyturn.core.hardware import Tolerance
from keyturn.core.model import DAY, Channel, ProductName, State
from keyturn.core.terms import Terms
from keyturn.core.trust import Floor

NAME = ProductName("x" * 43, "paintbox")
FLOOR = Floor(1, "d")
NOW = 1_800_000_000
FITS = Tolerance(True, None, (), 4, 4, 0, 35)
DIFFERS = Tolerance(False, "hardware_changed", ("component.disk",), 4, 1, 30, 35)


def product(mode: str = "warn") -> ProductFile:
    return ProductFile(
        NAME, "Paintbox", "Acme", 1, {}, "https://x", None, None, None, mode, Terms().claims(), FLOOR, NOW
    )  # fmt: skip


def certificate(expires: int | None = None) -> Certificate:
    return Certificate(
        NAME, "Acme", "a", "guid", NOW, expires, "id", 1, Channel.RETAIL, "pro", (), 1, 1, "strong", False, "c", "r", "n",
        "holder", NOW, "permanent", FLOOR,
    )  # fmt: skip


def record(**values: object) -> Record:
    return Record(NAME, "guid", NOW, NOW)._replace(**values)  # type: ignore[arg-type]


def decide(clock: int = NOW, **values: object) -> license.Standing:
    given: dict[str, object] = {
        "product": product(), "record": record(), "certificate": certificate(), "why_not": None,
        "tolerance": FITS, "clock": clock,
    }  # fmt: skip
    return license.decide(**{**given, **values})  # type: ignore[arg-type]


def test_a_certificate_that_holds_licenses_for_ever() -> None:
    """A permanent certificate on its own hardware is licensed, with nothing to do."""
    standing = decide(NOW + 10_000 * DAY)
    assert standing == license.Standing(State.LICENSED, True, None, None, None, None, None, None)


@pytest.mark.parametrize(("day", "state"), [(0, 2), (29, 2), (30, 5), (400, 5)])
def test_without_a_certificate_the_grace_runs_out(day: int, state: int) -> None:
    """Thirty days of initial grace from the record's first day, then notification."""
    assert decide(NOW + day * DAY, certificate=None).state == state


@pytest.mark.parametrize(("mode", "usable"), [("enforce", False), ("warn", True), ("advise", True)])
def test_the_publishers_mode_decides_in_notification(mode: str, usable: bool) -> None:
    """Only `enforce` takes the function away, and only when the grace is over."""
    assert decide(NOW + 31 * DAY, certificate=None, product=product(mode)).usable is usable
    assert decide(NOW + 29 * DAY, certificate=None, product=product(mode)).usable


@pytest.mark.parametrize(("day", "state"), [(99, 1), (100, 3), (129, 3), (130, 5)])
def test_a_dated_right_ends_in_grace(day: int, state: int) -> None:
    """A term's end starts thirty days of grace at that end, whenever it is noticed."""
    assert decide(NOW + day * DAY, certificate=certificate(NOW + 100 * DAY)).state == state


def test_renewal_is_due_before_the_end() -> None:
    """Thirty days before a term ends the next step is named; before that there is none."""
    early, late = (
        decide(NOW + 69 * DAY, certificate=certificate(NOW + 100 * DAY)),
        decide(NOW + 70 * DAY, certificate=certificate(NOW + 100 * DAY)),
    )
    assert (early.next_command, late.next_command) == (None, "keyturn activate")
    assert late.state is State.LICENSED


def test_other_hardware_starts_a_grace_from_when_it_was_first_seen() -> None:
    """Out of tolerance is grace, names what changed, and its days run from the record's note."""
    first = decide(NOW + 5 * DAY, tolerance=DIFFERS)
    assert (first.state, first.reason, first.changed) == (
        State.OUT_OF_TOLERANCE_GRACE,
        "hardware_changed",
        ("component.disk",),
    )
    noted = record(changed_at=NOW + 5 * DAY)
    assert decide(NOW + 34 * DAY, tolerance=DIFFERS, record=noted).state is State.OUT_OF_TOLERANCE_GRACE
    assert decide(NOW + 35 * DAY, tolerance=DIFFERS, record=noted).state is State.NOTIFICATION


def test_where_nobody_can_note_it_the_grace_began_at_the_newest_time_seen() -> None:
    """A store without its key (a copy whose key was thrown away) has no first day for ever."""
    seen = record(high_water=NOW + 3 * DAY)
    assert decide(NOW + 32 * DAY, tolerance=DIFFERS, record=seen, noted=False).state is State.OUT_OF_TOLERANCE_GRACE
    assert decide(NOW + 33 * DAY, tolerance=DIFFERS, record=seen, noted=False).state is State.NOTIFICATION
    assert decide(NOW + 30 * DAY, tolerance=DIFFERS, record=None, noted=False).state is State.NOTIFICATION


def test_a_grace_that_nobody_can_note_is_over() -> None:
    """Without a record, and where none can be written, there is no first day; with one it goes on from there."""
    assert decide(NOW, certificate=None, record=None).state is State.INITIAL_GRACE
    nowhere = decide(NOW, certificate=None, record=None, noted=False)
    assert (nowhere.state, nowhere.reason, nowhere.days_left(NOW)) == (State.NOTIFICATION, "store_unwritable", 0)
    assert decide(NOW, certificate=None, record=record(), noted=False).state is State.INITIAL_GRACE


def test_a_clock_set_back_touches_dated_rights_only() -> None:
    """Behind the newest time seen, a term goes to grace; a permanent activation only reports it."""
    seen = record(high_water=NOW + 50 * DAY)
    dated = decide(NOW, record=seen, certificate=certificate(NOW + 100 * DAY))
    assert (dated.state, dated.reason, dated.usable) == (State.OUT_OF_TOLERANCE_GRACE, "clock_behind", True)
    lasting = decide(NOW, record=seen)
    assert (lasting.state, lasting.reason) == (State.LICENSED, "clock_behind")
    assert decide(NOW + 49 * DAY + 1, record=seen, certificate=certificate(NOW + 100 * DAY)).state is State.LICENSED


def test_a_record_from_the_future_gains_nothing() -> None:
    """A grace that begins later than now is cut to what a fresh installation has."""
    assert decide(NOW, certificate=None, record=record(grace_from=NOW + 900 * DAY)).grace_until == NOW + 30 * DAY


def test_without_a_record_there_is_a_fresh_grace_and_never_a_license() -> None:
    """A deleted record leaves what a fresh installation has."""
    standing = decide(NOW, certificate=None, record=None)
    assert (standing.state, standing.grace_until) == (State.INITIAL_GRACE, NOW + 30 * DAY)


@given(
    days=st.lists(st.integers(0, 500), min_size=2, max_size=6),
    expires=st.one_of(st.none(), st.integers(1, 400)),
    fits=st.booleans(),
    has=st.booleans(),
)
def test_time_moving_forward_never_improves_a_state(
    days: list[int], expires: int | None, fits: bool, has: bool
) -> None:
    """With everything else unchanged, a later moment is never better: function is only ever lost."""
    rank = {State.LICENSED: 0, State.INITIAL_GRACE: 1, State.OUT_OF_TOLERANCE_GRACE: 1, State.NOTIFICATION: 2}
    found = [
        decide(
            NOW + day * DAY, certificate=certificate(None if expires is None else NOW + expires * DAY) if has else None,
            tolerance=FITS if fits else DIFFERS, record=record(changed_at=None if fits else NOW), product=product("enforce"),
        )
        for day in sorted(days)
    ]  # fmt: skip
    ranks = [rank[standing.state] for standing in found]
    assert ranks == sorted(ranks)
    assert all(standing.remedy for standing in found if standing.state is not State.LICENSED)


def test_days_left_are_rounded_up() -> None:
    """One second before the end is one day left; at the end it is none."""
    standing = decide(NOW, certificate=None)
    assert [standing.days_left(NOW + 30 * DAY - 1), standing.days_left(NOW + 30 * DAY)] == [1, 0]
