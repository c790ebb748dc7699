"""The grace period begun anew: as often as the terms allow, and never for a copy that is licensed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keyturn import Client, KeyturnError
from keyturn.client import actions
from keyturn.core.errors import Refused
from keyturn.testing import World
from keyturn.testing.computers import synthetic
from programs import Home, Publisher, computer


def rearm(client: Client) -> Any:
    client.status()
    return actions.rearm(client._homes().find(client.product), client._machine)


def test_three_times_and_no_more(world: World) -> None:
    client = world.client()
    client.status()
    for _ in range(3):
        world.clock.advance(days=31)
        assert client.status().state == "notification"
        rearm(client)
        assert (client.status().state, client.status().days_left) == ("initial_grace", 30)
    world.clock.advance(days=31)
    outcome = rearm(client)
    assert isinstance(outcome, Refused)
    assert outcome.code == "rearm_limit_reached"
    assert client.status().state == "notification"


def test_a_licensed_copy_has_nothing_to_rearm(world: World) -> None:
    client = world.licensed()
    with pytest.raises(KeyturnError) as refused:
        rearm(client)
    assert refused.value.code == "usage"


def test_a_grace_after_a_change_of_hardware(world: World) -> None:
    """It begins anew too, and says the same reason."""
    minted = world.publisher.mint_all()[0]
    home = world.folder / "changed"
    world.client(synthetic(1), home=home).activate(minted["key"], consent=True)
    other = world.client(synthetic(2), home=home)
    assert other.status().reason == "hardware_changed"
    world.clock.advance(days=31)
    assert other.status().state == "notification"
    rearm(other)
    assert (other.status().reason, other.status().days_left) == ("hardware_changed", 30)
    assert other.activate(consent=True).state == "licensed"


def test_deleting_the_record_gains_nothing(world: World) -> None:
    """What a fresh installation has, and a record that was changed counts as deleted."""
    client = world.client()
    client.status()
    rearm(client)
    shelf = client._homes().find(client.product)
    for text in shelf.records():
        assert text.count(".") == 2
    world.clock.advance(days=10)
    assert client.status().days_left == 20


@pytest.mark.system
def test_the_verb(tmp_path: Path) -> None:
    """`keyturn rearm`, exit codes and JSON of the real program."""
    publisher = Publisher(tmp_path / "publisher")
    product = publisher.product("paintest", "--test")
    home = Home(tmp_path / "home", sysroot=computer(tmp_path / "pc", synthetic(1)))
    home("product", "add", str(product)).ok()
    late = {"KEYTURN_NOW": f"+{40 * 86_400}"}
    assert home("status", env=late).ok().product["state"] == "notification"
    done = home("rearm", env=late).ok().json
    assert (done["rearms_left"], done["products"][0]["state"], done["products"][0]["days_left"]) == (2, "initial_grace", 30)
    for left in (1, 0):
        assert home("rearm", env=late).ok().json["rearms_left"] == left
    refused = home("rearm", env=late)
    assert (refused.exit, refused.code) == (1, "rearm_limit_reached")
