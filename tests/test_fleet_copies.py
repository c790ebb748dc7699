"""Two computers with one agent's key: an image that was enrolled before it was copied. And one computer that stays one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleets import Managed, Site
from keyturn.client import managed
from keyturn.core import fleet, hardware
from keyturn.core.model import ProductName
from keyturn.testing import World
from keyturn.testing.computers import RecordedComputer, synthetic
from peers import refused


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    with Site(world, tmp_path / "site").running() as made:
        yield made


def copied(one: Managed, name: str, computer: RecordedComputer) -> Managed:
    """The same store, on this hardware."""
    folder = one.site.folder / f"store-{name}"
    shutil.copytree(one.vault.home, folder)
    return Managed(one.site, name, one.site.world.machine(computer), folder)


@pytest.mark.parametrize("activated", [True, False], ids=["licensed", "empty"])
@pytest.mark.parametrize("first", ["the copy", "the original"])
def test_a_copy_is_refused_and_enrolls_as_itself(site: Site, activated: bool, first: str) -> None:
    """Whoever comes second with a used number must enroll; then there are two computers, each with its own numbers and name."""
    original = site.join("original", synthetic(1))
    if activated:
        site.order("activate", key=site.key())
        site.work([original])
    copy = copied(original, "copy", synthetic(2))
    winner, loser = (copy, original) if first == "the copy" else (original, copy)
    winner.check_in()
    error = refused(loser.check_in)
    assert (error.code, "was copied" in error.detail) == ("computer_unknown", True)
    assert loser.check_in() is None  # It says nothing any more, so it never takes the other one's numbers.
    winner.check_in()
    loser.enroll(site.token())
    for _ in range(2):
        assert [one.check_in() for one in (winner, loser)] == [site.home.settings.check_in] * 2
    assert [row["name"] for row in site.computers()] in (["copy", "original"], ["original", loser.name])
    assert len({row["agent"] for row in site.computers()}) == 2


def test_one_computer_stays_one_whatever_is_changed_in_it(site: Site) -> None:
    """Other hardware, and hardware that comes back, are the same computer: its numbers only grow."""
    one = site.join("pc", synthetic(1))
    for number in (2, 1, 3, 1):
        one.machine = site.world.machine(synthetic(number))
        one.check_in()
    assert len(site.computers()) == 1


def test_an_older_copy_of_the_store_put_back_goes_on(site: Site) -> None:
    """A snapshot of the same computer has used numbers: it passes over them at once, and is not asked to enroll."""
    one = site.join("pc", synthetic(1))
    older = copied(one, "older", synthetic(1))
    for _ in range(5):
        one.check_in()
    assert older.check_in() == site.home.settings.check_in
    assert managed.manager_of(older.vault) is not None
    assert len(site.computers()) == 1


def test_a_computer_that_was_removed_leaves_and_can_come_back(site: Site) -> None:
    one = site.join("pc", synthetic(1))
    site.database.write_now(lambda db: db.execute("DELETE FROM computer").rowcount)
    assert refused(one.check_in).code == "computer_unknown"
    assert not (Path(one.vault.home) / "fleet" / "agent.key").exists()
    one.enroll(site.token())
    assert one.check_in() == site.home.settings.check_in


def test_what_is_told_of_hardware_fits_nobody_elses_table() -> None:
    """The same computer has other tags for its fleet than for a product, and others again for another fleet."""
    anchors = {"uuid": "a", "board": "b", "disk": "c"}
    told = fleet.identity(anchors, "A" * 43)
    others = (fleet.identity(anchors, "B" * 43), hardware.pairs(anchors, ProductName("A" * 43, "writer", False)))
    for other in others:
        assert told.keys() == other.keys() and not set(told.values()) & set(other.values())


def test_computers_are_two_only_beyond_doubt() -> None:
    """Nothing in common to be seen is no difference; one part of two is one; an instance's name alone is enough."""
    whole = fleet.identity({"uuid": "a", "board": "b", "disk": "c"}, "A" * 43)
    parts = fleet.identity({"disk": "c", "nic": "d"}, "A" * 43)
    other = fleet.identity({"uuid": "x", "board": "y", "disk": "z"}, "A" * 43)
    one, two = (fleet.identity({"vm": name}, "A" * 43) for name in "ab")
    same: list[tuple[dict[str, str], dict[str, str]]] = [(whole, {}), ({}, whole), (whole, parts), (whole, whole), (one, one)]
    assert [fleet.is_other(a, b) for a, b in same] == [False] * 5
    assert [fleet.is_other(a, b) for a, b in ((whole, other), (one, two))] == [True] * 2
