"""Copies of an installation at an activation host: found, named, and given an identity of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hosts import Computer, Organization, filled, forks, product
from keyturn.core import documents, hosting, jws, leasing
from keyturn.core.errors import KeyturnError
from keyturn.core.leasing import Forked, Granted
from keyturn.host.leasing import LeasingHost
from keyturn.testing import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world", threshold=3)
    yield made
    made.close()


def test_an_image_on_ten_computers_is_ten_computers_and_nine_forks(
    organization: Organization, host: LeasingHost
) -> None:
    """Each copy is told to become itself, both are named, and it is a computer of its own when it asks next."""
    original = filled(organization, host)[0]
    copies = [original.copy(hardware_of=number) for number in range(10, 19)]
    for copy in copies:
        token = copy.request()
        answer = host.exchange(token)
        assert isinstance(answer, dict) and answer.keys() == {"v", "identity", "server_time"}
        (permit,) = host.home.permits.values()
        assert permit.certificate is not None
        told = hosting.verify_identity(
            answer["identity"], permit.certificate, documents.read_request(token)[0], jws.digest(token)
        )
        assert told.reason == "other_hardware"
        assert host.exchange(token) == answer
        copy.take(token, answer)
    assert [fork["resolved"] for fork in forks(host)] == [False] * 9
    for copy in copies:
        copy.ask(host)
    found = forks(host)
    assert [(fork["computer"], fork["resolved"]) for fork in found] == [(1, True)] * 9
    assert sorted(fork["copy"] for fork in found) == list(range(4, 13))
    assert product(host) | {"counted": 12, "licensed": 12, "forks": 9} == product(host)


def test_a_copy_that_asks_often_is_one_copy(organization: Organization, host: LeasingHost, world: World) -> None:
    """Its answer may be lost as often as it likes: the identity stays the same."""
    original = filled(organization, host)[0]
    copy = original.copy(hardware_of=20)
    told = set()
    for _ in range(5):
        world.clock.advance(seconds=60)
        answer = host.exchange(copy.request())
        assert isinstance(answer, dict)
        told.add(jws.loads(jws.payload_of(answer["identity"]))["installation"])
    assert len(told) == len(forks(host)) == 1


def test_an_identity_is_for_one_request_only(organization: Organization, host: LeasingHost) -> None:
    original = filled(organization, host)[0]
    copy = original.copy(hardware_of=20)
    token = copy.request()
    answer = host.exchange(token)
    (permit,) = host.home.permits.values()
    assert isinstance(answer, dict) and permit.certificate is not None
    another = copy.request()
    with pytest.raises(KeyturnError) as raised:
        hosting.verify_identity(
            answer["identity"], permit.certificate, documents.read_request(another)[0], jws.digest(another)
        )
    assert raised.value.code == "document_foreign"


def test_a_ledger_that_keeps_rivals_would_be_noticed(
    organization: Organization, host: LeasingHost, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were a lease that was never shown kept beside the one that was, a restored snapshot would be renewed for ever."""

    def plays() -> bool:
        original = organization.computer(40 + len(forks(host)))
        original.ask(host)
        original.ask(host)
        twin = original.copy()
        original.ask(host)
        twin.ask(host)
        world.clock.advance(seconds=1)
        original.ask(host)
        world.clock.advance(seconds=1)
        return "identity" in twin.ask(host)

    def keeps(decision: Any, own: Any) -> Any:
        return decision._replace(presented=own.presented) if own and isinstance(decision, Granted) else decision

    filled(organization, host)
    assert plays()
    real = leasing.decide
    monkeypatch.setattr(leasing, "decide", lambda *args, **around: keeps(real(*args, **around), around["own"]))
    assert not plays()


def weak_fork(organization: Organization, host: LeasingHost, number: int) -> tuple[Computer, Computer]:
    """An original that shows no hardware, and its copy on one that does and was taken for it: told, and back with its own key."""
    clock = organization.world.clock
    original = organization.computer(number, anchors={})
    original.ask(host)
    copy = original.copy(hardware_of=number + 1)
    for computer in (copy, original, original):  # The copy's hardware is noted; then the original shows its own branch.
        clock.advance(days=1)
        assert "lease" in computer.ask(host)
    clock.advance(days=1)
    assert "identity" in copy.ask(host)
    copy.ask(host)
    return original, copy


def test_a_copy_takes_its_hardware_along(organization: Organization, host: LeasingHost) -> None:
    """What a seat without hardware was given by its copy is the copy's: they are two computers, and stay so."""
    filled(organization, host)
    original, copy = weak_fork(organization, host, 80)
    for computer in (original, copy):
        organization.world.clock.advance(days=7)
        computer.ask(host)
    copy.reinstall()
    copy.ask(host)
    assert original.held is not None and copy.held is not None
    assert (original.held.certificate.seat, copy.held.certificate.seat) == (4, 5)
    assert [(fork["computer"], fork["copy"]) for fork in forks(host)] == [(4, 5)]


def test_a_seat_that_keeps_its_copys_hardware_would_be_noticed(
    organization: Organization, host: LeasingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the hardware left where it was noted, the copy would be found by it as its original, and the two be one computer."""
    filled(organization, host)
    real = leasing.decide

    def keeps(*args: Any, **around: Any) -> Any:
        found = real(*args, **around)
        return found._replace(takes=False) if isinstance(found, Forked) else found

    monkeypatch.setattr(leasing, "decide", keeps)
    original, copy = weak_fork(organization, host, 80)
    assert original.held is not None and copy.held is not None
    assert original.held.certificate.seat == copy.held.certificate.seat


def test_a_restored_snapshot_does_not_become_a_second_computer(organization: Organization, host: LeasingHost) -> None:
    """The same hardware under another identity: however often it is restored, it is counted once."""
    filled(organization, host)
    computer = organization.computer(90)
    computer.ask(host)
    for _ in range(3):
        snapshot = computer.copy()
        for _ in range(2):
            organization.world.clock.advance(seconds=60)
            computer.ask(host)
        organization.world.clock.advance(seconds=60)
        assert "identity" in snapshot.ask(host)
        snapshot.ask(host)
        computer = snapshot
    assert product(host)["computers"] == 4
