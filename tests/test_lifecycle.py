"""The states of a copy: random lives against a model, what waiting can never do, and clocks that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn import Client
from keyturn.client import record
from keyturn.client.loading import Loaded
from keyturn.client.machine import Machine
from keyturn.core import license
from keyturn.core.documents import Record
from keyturn.core.model import DAY, State
from keyturn.core.revocations import Withdrawn
from keyturn.core.terms import Terms
from keyturn.testing import World
from solid.lifecycles import Found, Model, Stage
from test_license import DIFFERS, FITS, NOW, certificate, decide, product
from test_license import record as a_record

# From better to worse; a step to the left without a deed is never right.
ORDER = (
    State.LICENSED, State.INITIAL_GRACE, State.OUT_OF_TOLERANCE_GRACE, State.NON_GENUINE_GRACE, State.EXTENDED_GRACE,
    State.NOTIFICATION,
)  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("stage"), "pytest")


def first_problem(stage: Stage, seed: str, lives: int, model: type[Model] = Model) -> str | None:
    """Where client and model disagree first; ``None`` if they never do."""
    found = (problem for number in range(lives) for problem in stage.live(f"{seed}-{number}", model=model))
    return next(found, None)


def test_random_lives_agree_with_the_model(stage: Stage) -> None:
    """`make lifecycles` plays ten thousand; a few of them here."""
    assert first_problem(stage, "pytest", 60) is None
    assert stage.steps > 300


def test_the_lives_find_a_clock_that_is_believed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check bites: a client whose time is just the clock."""
    monkeypatch.setattr(license, "effective_time", lambda clock, _record: clock)
    assert first_problem(stage, "clock", 60) is not None


def test_the_lives_find_a_change_that_is_dated_by_the_clock(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check bites: a new board brings an old clock along, and the grace of the change is over before it begins."""
    news = record._news

    def by_the_clock(loaded: Loaded) -> Record | None:
        wanted = news(loaded)
        if wanted is None or wanted.changed_at is None or (loaded.record is not None and loaded.record.changed_at):
            return wanted
        return wanted._replace(changed_at=loaded.now)

    monkeypatch.setattr(record, "_news", by_the_clock)
    assert first_problem(stage, "board", 200) is not None


def test_the_lives_find_a_wrong_promise(stage: Stage) -> None:
    """The check bites the other way too: a model in which nothing is ever taken away."""

    class Kind(Model):
        def _shown(self) -> Found:
            return super()._shown()._replace(usable=True)

    assert first_problem(stage, "kind", 200, Kind) is not None


@given(
    start=st.integers(-400, 400), step=st.integers(0, 5_000), fits=st.booleans(), licensed=st.booleans(),
    ends=st.none() | st.integers(1, 900), withdrawn=st.none() | st.integers(0, 300), extended=st.booleans(),
    rearms=st.integers(0, 3), changed=st.none() | st.integers(0, 300), mode=st.sampled_from(["enforce", "warn", "advise"]),
)  # fmt: skip
def test_waiting_never_improves_anything(
    *, start: int, step: int, fits: bool, licensed: bool, ends: int | None, withdrawn: int | None, extended: bool, rearms: int,
    changed: int | None, mode: str,
) -> None:  # fmt: skip
    """Time alone leads from better to worse; each state that is not all right names its next step."""
    made = product(mode)._replace(terms=Terms(extended_days=7).claims())
    values: dict[str, object] = {
        "product": made, "certificate": certificate(None if ends is None else NOW + ends * DAY) if licensed else None,
        "tolerance": FITS if fits else DIFFERS, "extended": extended,
        "record": a_record(rearms=rearms, changed_at=None if fits else NOW + (changed or 0) * DAY, seen=NOW),
        "withdrawn": None if withdrawn is None else Withdrawn(NOW + withdrawn * DAY, "key_blocked"),
    }  # fmt: skip
    first = NOW + max(0, start) * DAY
    before, after = decide(first, **values), decide(first + step * DAY, **values)
    assert ORDER.index(before.state) <= ORDER.index(after.state)
    assert before.usable >= after.usable
    for standing in (before, after):
        assert standing.state is State.LICENSED or (standing.remedy and standing.next_command)
        assert standing.usable or (mode == "enforce" and standing.state is State.NOTIFICATION)


@given(day=st.integers(0, 5_000), mode=st.sampled_from(["enforce", "warn", "advise"]))
def test_a_certificate_that_holds_always_licenses(day: int, mode: str) -> None:
    """Whatever the record says of graces, rearms and clocks."""
    for known in (None, a_record(), a_record(rearms=3, high_water=NOW + 10_000 * DAY)):
        assert decide(NOW + day * DAY, record=known, product=product(mode)).state is State.LICENSED


def test_the_extended_grace_needs_both_publisher_and_organization() -> None:
    """Terms allow it, the policy asks for it; then it follows a grace, has full function, and ends."""
    allowed = product("enforce")._replace(terms=Terms(extended_days=7).claims())
    states = [
        (decide(NOW + day * DAY, certificate=None, product=allowed, extended=extended).state, day)
        for extended, day in ((True, 29), (True, 30), (True, 36), (True, 37), (False, 30))
    ]
    assert [int(state) for state, _ in states] == [2, 6, 6, 5, 5]
    assert int(decide(NOW + 30 * DAY, certificate=None, product=product(), extended=True).state) == 5


def test_a_withdrawn_right_is_a_grace_that_says_why() -> None:
    taken = Withdrawn(NOW, "activation_reclaimed")
    standing = decide(NOW + 29 * DAY, withdrawn=taken)
    assert (standing.state, standing.usable, standing.reason) == (State.NON_GENUINE_GRACE, True, "activation_reclaimed")
    assert decide(NOW + 30 * DAY, withdrawn=taken).state is State.NOTIFICATION


# --- clocks ---


def test_an_empty_battery_at_installation_costs_no_grace(world: World) -> None:
    """1970 at the first start, the right day at the next: the grace begins with the right day."""
    here = Skewed(world, 1000 - world.clock.time)
    assert here.status("first")[:2] == ("initial_grace", 30)
    here.skew = 0
    assert here.status("right") == ("initial_grace", 30, None)
    world.clock.advance(days=29)
    assert here.status("later")[:2] == ("initial_grace", 1)
    here.skew = 1000 - world.clock.time  # Empty again: what was seen counts.
    assert here.status("again")[:2] == ("initial_grace", 1)


def test_a_grace_in_1970_ends_all_the_same(world: World) -> None:
    """Who never sets the clock has one grace, counted by the time that runs."""
    here = Skewed(world, 1000 - world.clock.time)
    here.status("first")
    world.clock.advance(days=31)
    assert here.status("later")[0] == "notification"


def test_a_new_board_with_an_old_clock_has_its_grace(world: World) -> None:
    """Hardware and clock change together: thirty days from now, not from the clock's 2019."""
    here = Skewed(world, 0)
    here.client().activate(world.publisher.mint("sample"), consent=True)
    here.skew, here.changed = -2900 * DAY, True
    assert here.status("new board") == ("out_of_tolerance_grace", 30, "hardware_changed")
    here.skew = 0
    assert here.status("clock set")[:2] == ("out_of_tolerance_grace", 30)


def test_2099_for_one_boot_heals_at_the_next_contact(world: World) -> None:
    here = Skewed(world, 0)
    minted = world.publisher.mint_all(term_days=90)[0]["key"]
    here.client().activate(minted, consent=True)
    here.skew = 26_000 * DAY
    assert here.status("2099")[0] == "notification"
    here.skew = 0
    assert here.status("right, but seen")[0] == "notification"
    here.client().activate(consent=True)
    assert here.status("after contact") == ("licensed", 90, None)


def test_a_clock_that_stays_ahead_is_licensed_by_contact(world: World) -> None:
    """The service's signed time counts, and what runs since: also where nobody mends the clock."""
    here = Skewed(world, 26_000 * DAY)
    here.client().activate(world.publisher.mint_all(term_days=90)[0]["key"], consent=True)
    assert here.status("2099") == ("licensed", 90, None)
    world.clock.advance(days=89)
    assert here.status("still") == ("licensed", 1, None)
    world.clock.advance(days=2)
    assert here.status("over")[0] == "out_of_tolerance_grace"


def test_a_clock_that_stays_behind_does_not_stop_a_term(world: World) -> None:
    """Set back once and left alone: time runs on from the newest time seen."""
    here = Skewed(world, 0)
    here.client().activate(world.publisher.mint_all(term_days=90)[0]["key"], consent=True)
    here.skew = -400 * DAY
    assert here.status("behind") == ("out_of_tolerance_grace", 30, "clock_behind")
    for _ in range(89):
        world.clock.advance(days=1)
        here.status("every day")
    assert here.status("last day")[2] == "clock_behind"
    world.clock.advance(days=2)
    assert here.status("over")[2] == "term_ended"
    world.clock.advance(days=30)
    assert here.status("long over")[0] == "notification"


@pytest.mark.parametrize("hours", [-11, -1, 1, 14])
def test_travel_and_a_second_system_change_nothing(world: World, hours: int) -> None:
    """Local time taken for UTC (two systems on one computer), or a day line crossed: within a day nothing is said."""
    here = Skewed(world, 0)
    here.client().activate(world.publisher.mint_all(term_days=90)[0]["key"], consent=True)
    here.skew = hours * 3600
    assert here.status("there")[::2] == ("licensed", None)
    here.skew = 0
    assert here.status("back")[::2] == ("licensed", None)


class Skewed:
    """A computer whose clock is wrong by so many seconds; each look is a new process."""

    def __init__(self, world: World, skew: int) -> None:
        self.world, self.skew, self.changed = world, skew, False
        self._here, self._other = world.machine(), world.machine()
        self._home: Path = world.folder / "skewed"

    def client(self) -> Client:
        source = self._other if self.changed else self._here
        machine = Machine(
            {"HOME": str(self._home)}, now=lambda: self.world.clock() + self.skew, chance=self._here.chance, read=source._read,
            rules=source.rules,
        )  # fmt: skip
        return self.world.client(home=self._home, machine=machine)

    def status(self, _moment: str) -> tuple[str, int | None, str | None]:
        status = self.client().status()
        return status.state, status.days_left, status.reason if status.state != "initial_grace" else None
