"""Many requests recorded at once leave the same answers and the same rows as one after another."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hosts import Computer, Organization
from keyturn.core.errors import KeyturnError
from keyturn.core.leasing import Waiting
from keyturn.edge.database import open_database
from keyturn.host import ledger, recording
from keyturn.host.leasing import LeasingHost
from keyturn.host.recording import Asked, Recorded
from keyturn.testing import World
from keyturn.testing.world import Chance

TABLES = ("product", "computer", "pair", "installation", "lease", "fork")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world", threshold=4)
    yield made
    made.close()


class Twins:
    """Two ledgers of one host: one is asked one by one, the other in groups."""

    def __init__(self, host: LeasingHost, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.clock = host.clock
        made = [open_database(folder / f"{name}-{seed}.db", migrations=ledger.migrations()) for name in ("alone", "group")]
        self.alone, self.group = [
            LeasingHost(host.home, database, clock=host.clock, chance=Chance(f"twins {seed}")) for database in made
        ]

    def ask(self, tokens: list[str]) -> list[Any]:
        """Ask both; the outcomes of the one that was asked in groups. Raises: AssertionError if they differ."""
        proven = [self.group.prove(token) for token in tokens]
        single = [self.alone.record(one, self.alone.database.write).result() for one in proven]
        record = self.group._recorder.record

        def at_once(db: Any) -> list[Any]:
            outcomes, rest = record(db, [Asked(one, self.clock()) for one in proven])
            rest(db)
            return outcomes

        group = self.group.database.write_now(at_once)
        assert group == single
        assert self.rows(self.group) == self.rows(self.alone)
        return group

    @staticmethod
    def rows(host: LeasingHost) -> dict[str, list[tuple[Any, ...]]]:
        return host.database.read(
            lambda db: {name: sorted(map(tuple, db.execute(f"SELECT * FROM {name}"))) for name in TABLES}
        )

    def close(self) -> None:
        self.alone.database.close()
        self.group.database.close()


def weather(organization: Organization, twins: Twins, rounds: int) -> list[str]:
    """Groups of requests of a few computers, in bad weather; how each was answered."""
    chance, clock, said = twins.chance, organization.world.clock, []
    computers = [organization.computer(number, anchors={} if number % 5 == 4 else None) for number in range(8)]
    computers.append(organization.computer(20, ephemeral=True, anchors={}))
    for _ in range(rounds):
        clock.advance(seconds=chance.choice([1, 60, 86_400]))
        asking: list[tuple[Computer, str]] = []
        for _ in range(chance.randrange(1, 14)):
            computer = chance.choice(computers)
            if chance.random() < 0.1:
                computer.reinstall()
            if chance.random() < 0.1:
                computer = computer.copy(hardware_of=chance.choice([None, 30 + chance.randrange(3)]))
                computers.append(computer)
            token = chance.choice(asking)[1] if asking and chance.random() < 0.1 else computer.request()
            asking.append((computer, token))
        outcomes = twins.ask([token for _, token in asking])
        for (computer, token), outcome in zip(asking, outcomes, strict=True):
            said.append(outcome.how if isinstance(outcome, Recorded) else type(outcome).__name__)
            proven = twins.group.prove(token)
            if isinstance(outcome, Recorded) and proven.thumbprint == computer.signer.kid and chance.random() < 0.8:
                computer.take(token, twins.group.answer(proven, outcome))
    return said


@pytest.mark.parametrize("seed", range(8))
def test_a_group_is_as_one_after_another(organization: Organization, host: LeasingHost, tmp_path: Path, seed: int) -> None:
    twins = Twins(host, tmp_path, seed)
    said = weather(organization, twins, 25)
    assert {"new", "renewed", "rejoined", "forked", "same", "Waiting"} <= set(said)
    twins.close()


def test_the_fourth_of_a_group_tips_the_threshold(organization: Organization, host: LeasingHost, tmp_path: Path) -> None:
    """The three before it in the same transaction are counted."""
    twins = Twins(host, tmp_path, 0)
    outcomes = twins.ask([organization.computer(number).request() for number in range(6)])
    assert [isinstance(outcome, Waiting) for outcome in outcomes] == [True] * 3 + [False] * 3
    twins.close()


def halves(organization: Organization, twins: Twins) -> list[bool]:
    """One computer in two installations that read different halves of its hardware, and two more; who of them waits."""
    whole = organization.computer(1)
    twins.ask([whole.request()])
    organization.world.clock.advance(days=31)
    parts = [{slot: whole.anchors[slot] for slot in slots} for slots in (("uuid", "board"), ("disk", "nic"))]
    asking = [organization.computer(50 + number, anchors=part) for number, part in enumerate(parts)]
    asking += [organization.computer(number) for number in (2, 3)]
    return [isinstance(outcome, Waiting) for outcome in twins.ask([computer.request() for computer in asking])]


def test_halves_of_one_computer_are_one(organization: Organization, host: LeasingHost, tmp_path: Path) -> None:
    """Their requests have nothing in common but the computer that both are found to be."""
    twins = Twins(host, tmp_path, 0)
    assert halves(organization, twins) == [True] * 4
    twins.close()


@pytest.mark.parametrize("careless", ["_strangers", "_apart"])
def test_a_turn_that_does_not_end_in_time_would_be_noticed(
    organization: Organization, host: LeasingHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, careless: str
) -> None:
    """Were requests that have something in common decided together, they would not see what the other left."""
    whole = (lambda asked: asked) if careless == "_strangers" else (lambda askers, _around: len(askers))
    monkeypatch.setattr(recording, careless, whole)
    twins = Twins(host, tmp_path, 1)

    def plays() -> None:
        assert halves(organization, twins) == [True] * 4
        weather(organization, twins, 100)

    with pytest.raises((AssertionError, sqlite3.Error, KeyturnError)):
        plays()
    twins.close()
