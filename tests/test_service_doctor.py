"""`keyturn service doctor` against a real service with real faults: what is wrong is named, with its remedy, and nothing else."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from programs import Publisher

pytestmark = pytest.mark.system


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    made = Publisher(tmp_path / "acme")
    made.product("paint", "--test")
    yield made
    made.close()


def looked(publisher: Publisher, **env: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status, and the checks by name."""
    done = publisher.service("doctor", env=env or None)
    return done.exit, {check["name"]: check for check in done.json["checks"]}


def faults(found: dict[str, dict[str, Any]]) -> set[str]:
    assert all(check["remedy"] for check in found.values() if check["ok"] is False), found
    return {name for name, check in found.items() if check["ok"] is False}


def test_a_service_that_runs_is_well(publisher: Publisher) -> None:
    publisher.start()
    status, found = looked(publisher)
    assert (status, faults(found)) == (0, set()), found
    advice = {name for name, check in found.items() if check["ok"] is None}
    assert advice == {"url", "root"}, "it is this computer only, and the root folder lies here"
    assert "answers over TLS" in found["answers"]["figure"] and found["telephone"]["ok"]
    assert "1 products" in found["database"]["figure"]


def test_one_that_does_not_run(publisher: Publisher) -> None:
    status, found = looked(publisher)
    assert (status, faults(found)) == (1, {"answers", "probe"})
    assert "keyturn service run" in found["answers"]["remedy"]


def test_another_publisher_at_the_address(publisher: Publisher, tmp_path: Path) -> None:
    """TLS is not believed; and if it were, the directory says whose it is."""
    other = Publisher(tmp_path / "other", "Other Ink")
    other.start()
    publisher.start()
    publisher.service("config", "set", "url", other.url).ok()
    assert faults(looked(publisher)[1]) == {"answers"}
    (publisher.home / "tls" / "ca.pem").write_bytes((other.home / "tls" / "ca.pem").read_bytes())
    _, found = looked(publisher)
    assert found["answers"]["figure"].endswith("is another publisher's service")
    other.close()


def test_what_is_missing_or_damaged_is_named(publisher: Publisher, tmp_path: Path) -> None:
    publisher.start()
    (publisher.home / "bundles.json").rename(tmp_path / "bundles.json")
    status, found = looked(publisher)
    assert (status, set(found)) == (1, {"home"})
    os.rename(tmp_path / "bundles.json", publisher.home / "bundles.json")
    for key in (publisher.home / "keys").glob("*.key"):
        key.unlink()
    _, found = looked(publisher)
    assert "issuing_keys_end" in faults(found)


def test_a_clock_set_back(publisher: Publisher) -> None:
    """Something was written down in the future: two days of it are more than clocks differ."""
    publisher.start()
    with sqlite3.connect(publisher.home / "service.db") as db:
        db.execute("INSERT INTO audit VALUES ('ffffffff-0000-7000-8000-000000000000', 4102444800, 'x', 'x', 'x', '{}')")
    _, found = looked(publisher)
    assert faults(found) == {"clock"} and "2100-01-01" in found["clock"]["figure"]
