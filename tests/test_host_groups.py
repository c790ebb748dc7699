"""Products whose computers count together: the profile of 25 clients and 5 servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hosts import Computer, Organization, refusal
from keyturn.core.model import ProductName
from keyturn.host import figures
from keyturn.host.leasing import LeasingHost
from keyturn.testing import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world", threshold=3)
    yield made
    made.close()


def counts(host: LeasingHost) -> dict[str, tuple[int, int]]:
    """By the product's slug: how many are counted, and how many are still needed."""
    permits, now = list(host.home.permits.values()), host.clock()
    found = [host.database.read(lambda db, p=permit: figures.product(db, p, now)) for permit in permits]  # type: ignore[misc]
    return {ProductName.parse(one["product"]).slug: (one["counted"], one["needed"]) for one in found}


def asked(computers: list[Computer], host: LeasingHost) -> list[str]:
    """What each of them gets: ``taken`` is a lease."""
    return [refusal(computer.ask, host) for computer in computers]


def test_25_clients_or_5_servers(organization: Organization, host: LeasingHost) -> None:
    """Two products in one group: five servers are enough for servers, and count for the clients too: the 20th tips it."""
    clients = organization.also("desk", host, threshold=25, count_group="office")
    servers = organization.also("rack", host, threshold=5, count_group="office")
    first = [servers.computer(100 + number) for number in range(5)]
    assert asked(first, host) == ["threshold_not_met"] * 4 + ["taken"]
    assert asked(first, host) == ["taken"] * 5
    desks = [clients.computer(200 + number) for number in range(20)]
    assert asked(desks, host) == ["threshold_not_met"] * 19 + ["taken"]
    assert asked(desks, host) == ["taken"] * 20
    assert counts(host) == {"sample": (0, 3), "desk": (25, 0), "rack": (25, 0)}


def test_without_a_group_every_product_counts_alone(organization: Organization, host: LeasingHost) -> None:
    other = organization.also("desk", host, threshold=3)
    alone = organization.also("lab", host, threshold=3, count_group="lab")
    mixed = [organization.computer(1), other.computer(2), alone.computer(3), organization.computer(4), other.computer(5)]
    assert asked(mixed, host) == ["threshold_not_met"] * 5
    assert counts(host) == {"sample": (2, 1), "desk": (2, 1), "lab": (1, 2)}


def test_products_that_count_apart_would_be_noticed(
    organization: Organization, host: LeasingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the group not looked at, five servers would be nothing to the clients."""
    monkeypatch.setattr("keyturn.core.leasing.counts_with", lambda host: str(host.product))
    clients = organization.also("desk", host, threshold=6, count_group="office")
    servers = organization.also("rack", host, threshold=5, count_group="office")
    asked([servers.computer(100 + number) for number in range(5)], host)
    assert asked([clients.computer(200)], host) == ["threshold_not_met"]
