"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.testing import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A publisher with the product ``sample`` (edition ``standard``, feature ``layers``) and computers to ask it."""
    made = World(tmp_path / "world", features=["layers"])
    yield made
    made.close()
