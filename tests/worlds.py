"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keyturn.testing import World

if TYPE_CHECKING:
    from keyturn.edge.transport import Transport
    from peers import Authority
    from signer_world import Keep


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A publisher with the product ``sample`` (edition ``standard``, feature ``layers``) and computers to ask it."""
    made = World(tmp_path / "world", features=["layers"])
    yield made
    made.close()


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Who vouches for the servers on loopback (``peers``)."""
    from peers import Authority

    return Authority()


@pytest.fixture
def transport(authority: Authority) -> Iterator[Transport]:
    """The client's HTTP, which trusts that authority and knows no proxy."""
    from keyturn.edge.transport import Transport

    with Transport(ca_pem=authority.pem, environ={}, connect_timeout=5, read_timeout=5) as value:
        yield value


@pytest.fixture
def keep(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keep]:
    """Move the world's issuing keys to a signer of a kind (``signer_world``)."""
    from signer_world import Kept, mover

    made: list[Kept] = []
    yield mover(world, tmp_path, monkeypatch, made)
    for kept in made:
        kept.home.close()
