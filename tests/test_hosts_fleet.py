"""Fleets under a virtual clock, in small forms (``make show-host`` plays the large ones); and that each story can end badly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keyturn.core import leasing, schedule
from keyturn.core.errors import Refused
from keyturn.core.leasing import Granted
from keyturn.core.model import DAY
from keyturn.core.schedule import LONGEST_RETRY, RENEW, RETRY, Tried
from keyturn.host import ledger
from keyturn.testing.computers import load as recorded
from solid import crowd, fleet
from solid.site import Site


@pytest.mark.slow
def test_two_contacts_a_year_never_lapse(tmp_path: Path) -> None:
    assert "365 looks" in fleet.twice_a_year(tmp_path, years=1, computers=1)


def test_a_shorter_lease_would_lapse_between_two_contacts(tmp_path: Path) -> None:
    """The looks bite: with leases of 150 days there is a day without a license."""
    with pytest.raises(AssertionError, match="term_ended"):
        fleet.twice_a_year(tmp_path, years=1, computers=1, lease_days=150)


def test_one_host_dead_then_both(tmp_path: Path) -> None:
    fleet.both_dead(tmp_path, step=10)


@pytest.mark.parametrize("activated", [True, False])
def test_ten_copies_of_one_image_are_ten_computers(tmp_path: Path, activated: bool) -> None:
    assert "10 computers, 9 forks" in fleet.copied_image(tmp_path, activated=activated, rounds=2)


@pytest.mark.parametrize("images", [("office-pc-a", "ec2-a", "ec2-b"), ("ec2-a", "office-pc-a", "office-pc-b", "ec2-b")])
def test_an_image_that_moves_between_real_and_virtual_computers(tmp_path: Path, images: tuple[str, ...]) -> None:
    """Their hardware has no slot in common, so the chain of leases tells them apart; a copy never owns the original's seat."""
    fleet.copied_image(tmp_path, images=images, rounds=8)


def test_a_host_that_takes_over_unknown_hardware_loses_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count bites: what shares nothing with a computer is given to it."""
    decide = leasing.decide

    def careless(request: Any, *args: Any, own: Any, **more: Any) -> Any:
        decision = decide(request, *args, own=own, **more)
        return decision._replace(add=request.pairs) if isinstance(decision, Granted) else decision

    monkeypatch.setattr(leasing, "decide", careless)
    with pytest.raises(AssertionError):
        fleet.copied_image(tmp_path, images=("office-pc-a", "ec2-a", "ec2-b"), rounds=8)


def test_copies_on_hardware_that_shows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keyturn.client.actions.store_lasts", lambda _path: True)  # Wherever this test's folder is.
    assert "3 forks" in fleet.same_hardware_copies(tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_lost_and_repeated_replies_never_look_like_copies(tmp_path: Path, seed: int) -> None:
    fleet.lost_and_repeated(tmp_path, f"pytest {seed}", steps=50)


def test_a_host_that_forgets_lost_replies_sees_false_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The property bites: leases that were not presented yet are not remembered."""
    member = ledger._member
    monkeypatch.setattr(ledger, "_member", lambda *around: member(*around)._replace(outstanding=frozenset()))
    with pytest.raises(AssertionError, match="false fork"):
        fleet.lost_and_repeated(tmp_path, "pytest", steps=200)


@pytest.mark.parametrize(("wanted", "servers"), [(5, 2), (25, 0)])
def test_the_last_but_one_is_told_one_more(tmp_path: Path, wanted: int, servers: int) -> None:
    assert "“1 more computer needed" in fleet.threshold(tmp_path, wanted=wanted, servers=servers)


def test_a_threshold_of_one_is_none(tmp_path: Path) -> None:
    """Also for a computer that keeps nothing, which is not counted."""
    site = Site(tmp_path, threshold=1)
    pc = site.pc(recorded("sandbox"))
    pc.licensed()
    assert site.hosts[0].figures()["counted"] <= 1
    site.close()


def test_a_copy_whose_host_dies_in_between_has_a_grace_of_its_own(tmp_path: Path) -> None:
    """It took its identity, and the lease did not come any more: full function for 30 days, whatever the image had used up."""
    site = Site(tmp_path, threshold=1)
    first = site.pc()
    first.licensed()
    site.clock.advance(days=60)
    copy = site.pc(store=first.store)
    (host,) = site.hosts
    ask = host.ask

    def once(token: str) -> dict[str, Any] | Refused:
        answer = ask(token)
        host.alive = False
        return answer

    host.ask = once  # type: ignore[method-assign]
    assert copy.attempt() == "host_not_found"
    standing = copy.load().standing
    assert (standing.state.word, standing.usable) == ("initial_grace", True)
    site.clock.advance(days=29)
    assert copy.state == "initial_grace"
    site.clock.advance(days=2)
    assert copy.state == "notification"
    site.close()


# --- who comes back after an outage ---


@pytest.mark.slow
def test_a_fleet_comes_back_as_slowly_as_it_was_lost(tmp_path: Path) -> None:
    found = crowd.run(tmp_path, computers=240, days=66, outage=(28, 49), hours=24, processes=1)
    print(found.text)
    assert found.after <= 2
    assert found.locked_out == 0
    assert found.verified > 10


@pytest.mark.slow
def test_a_fleet_that_tries_daily_comes_back_within_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak bites: without patience all ask on the first day."""
    retry = schedule.retry
    monkeypatch.setattr(schedule, "retry", lambda tried, chance, _left=None: retry(tried, chance))
    found = crowd.run(tmp_path, computers=240, days=60, outage=(28, 49), hours=24, processes=1)
    assert found.after > 3


def test_patience_lasts_as_long_as_the_lease_allows() -> None:
    """Sixteen more tries are always left; what is not licensed, or ends soon, tries daily as before."""
    late = Tried(12, 0)
    assert schedule.retry(late, 0.5) == schedule.retry(late, 0.5, 10 * DAY) == LONGEST_RETRY
    assert schedule.retry(late, 0.5, 32 * DAY) == 2 * DAY
    assert schedule.retry(late, 0.5, 160 * DAY) == RENEW
    assert schedule.retry(Tried(1, 0), 0.5, 160 * DAY) == RETRY
