"""Pytest fixtures: ``pytest_plugins = ["keyturn.testing.fixtures"]`` in your ``conftest.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.client.sdk import Client
from keyturn.testing.world import World


@pytest.fixture
def keyturn_world(tmp_path: Path) -> Iterator[World]:
    """A publisher with one product, and computers to ask it."""
    world = World(tmp_path / "keyturn")
    yield world
    world.close()


@pytest.fixture
def keyturn_licensed(keyturn_world: World) -> Client:
    """A client that is licensed."""
    return keyturn_world.licensed()


@pytest.fixture
def keyturn_grace(keyturn_world: World) -> Client:
    """A client with three days of grace left."""
    return keyturn_world.grace(days_left=3)


@pytest.fixture
def keyturn_refused(keyturn_world: World) -> Client:
    """A client whose activation is refused: every seat of the key is taken."""
    return keyturn_world.refused("limit_reached")
