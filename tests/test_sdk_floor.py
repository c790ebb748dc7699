"""The application pins how far the publisher's history must come: a retired root deceives nobody, and nobody is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import ceremonies
from keyturn import Client, KeyturnError, NotLicensed
from keyturn.client import actions
from keyturn.core import trust
from keyturn.core.trust import Floor
from keyturn.edge import keystore
from keyturn.edge.vault import Shelf, Vault
from keyturn.service import ceremony
from keyturn.service import home as homes
from keyturn.testing import World


@pytest.fixture
def handed(world: World) -> World:
    """The publisher has handed over from its one root to three of five; the thief has the old root and a product file."""
    chain, now = world.publisher.home.chain, world.clock()
    old = keystore.load(world.publisher.folder / "root" / "root-1.key")
    assert old is not None
    several = ceremonies.roots("bcdef")
    draft = ceremony.draft(chain, now=now, roots=[root.public for root in several], threshold=3)
    draft = ceremonies.signed(ceremony.sign(draft, old.public, old.sign), "bcd")
    homes.adopt(world.publisher.folder, ceremony.finished(draft))
    assert world.publisher.home.refresh()
    return world


def forged(world: World) -> bytes:
    """What the thief of the retired root offers to somebody who comes new."""
    old = keystore.load(world.publisher.folder / "root" / "root-1.key")
    assert old is not None
    texts, thief = ceremonies.fork(world.publisher.home.chain.texts[:1], [old], test=False)
    return ceremonies.forged(json.loads(world.product), texts, thief)


def add(world: World, store: Path, data: bytes) -> None:
    """What `keyturn product add FILE` does on a computer that has nothing."""
    actions.add_product(Vault(str(store), "user").shelf, data, world.machine())


def floor_of(world: World) -> str:
    floor = world.publisher.home.chain.floor
    return f"{floor.number}:{floor.digest}"


def bundles(shelf: Shelf) -> list[str]:
    return list((shelf.product() or {})["bundles"])


def refused(client: Client) -> str:
    with pytest.raises(NotLicensed) as caught:
        client.require()
    return f"{caught.value.reason}: {caught.value.detail}"


def test_a_retired_root_cannot_fork_a_first_contact(handed: World, tmp_path: Path) -> None:
    """Without a floor the name alone is pinned, and the fork begins with the true bundle 1; with it the fork is no history."""
    add(handed, tmp_path / "new", forged(handed))
    name = ceremonies.product_name(json.loads(handed.product))
    without = Client(name, home=tmp_path / "new", machine=handed.machine())
    assert without.status().state == "initial_grace"
    assert without.status().details["name"] == "Forged"
    pinned = Client(name, floor=floor_of(handed), home=tmp_path / "new", machine=handed.machine())
    assert "another history" in refused(pinned)
    with pytest.raises(KeyturnError) as caught:
        pinned.activate("x", consent=True)
    assert caught.value.code == "key_malformed"
    with pytest.raises(KeyturnError) as caught:
        pinned.activate(handed.publisher.mint(), consent=True)
    assert caught.value.code == "trust_invalid"


def test_the_file_that_ships_pins_the_floor_by_itself(handed: World, tmp_path: Path) -> None:
    """`from_file` is never deceived by what lies in the store; the true file in an empty store begins as ever."""
    (tmp_path / "app.ktproduct").write_bytes(handed.publisher.export("sample"))
    fresh = Client.from_file(tmp_path / "app.ktproduct", home=tmp_path / "fresh", machine=handed.machine())
    assert fresh.status().state == "initial_grace"
    add(handed, tmp_path / "deceived", forged(handed))
    client = Client.from_file(tmp_path / "app.ktproduct", home=tmp_path / "deceived", machine=handed.machine())
    assert "trust_invalid" in refused(client)


def test_a_floor_above_the_store_is_reached_by_the_file_at_hand(world: World, request: pytest.FixtureRequest) -> None:
    """An update of the application raises the floor: who is licensed stays so, without any contact."""
    old = world.product
    client = world.client(product=old)
    client.activate(world.publisher.mint(), consent=True)
    request.getfixturevalue("handed")
    newer = world.publisher.export("sample")
    updated = Client(
        client.product, floor=floor_of(world), product_file=newer, home=client._home, machine=client._machine,
        connect=world.publisher.connect,
    )  # fmt: skip
    assert updated.require().state == "licensed"
    assert updated._load().opened.chain.newest.number == 2
    assert client.require().state == "licensed"  # The application before the update goes on.


def test_without_the_file_one_contact_reaches_the_floor(world: World, request: pytest.FixtureRequest) -> None:
    """Not before it: the remedy is said. The seat is the same, and a return is possible in between."""
    client = world.client(product=world.product)
    client.activate(world.publisher.mint(), consent=True)
    request.getfixturevalue("handed")
    updated = Client(
        client.product, floor=floor_of(world), home=client._home, machine=client._machine, connect=world.publisher.connect
    )
    assert "end before the one" in refused(updated)
    before = client.status().details["activation_id"]
    assert updated.activate(consent=True).state == "licensed"
    assert updated.require().details["activation_id"] == before
    assert updated._load().opened.chain.newest.number == 2
    assert updated.deactivate().reason == "released"


def test_a_floor_that_never_was_is_not_reached(handed: World) -> None:
    """Neither another digest of a number that there is, nor a number that there is not."""
    client = handed.client(product=handed.publisher.export("sample"))
    client.status()
    for floor, told in ((Floor(2, "A" * 43), "another history"), (Floor(3, "A" * 43), "end before")):
        assert told in refused(Client(client.product, floor=floor, home=client._home, machine=client._machine))


@pytest.mark.parametrize(("number", "length"), [("", 0), ("2", 42), ("2", 44), ("0", 43), ("x", 43), ("²", 43), ("-1", 43)])
def test_what_is_no_floor_is_refused_at_once(number: str, length: int, world: World) -> None:
    """A slip in the application's source does not wait for a customer."""
    text = f"{number}:{'A' * length}"
    with pytest.raises(KeyturnError) as caught:
        Client(f"{world.publisher.home.chain.thumbprint}/sample", floor=text)
    assert caught.value.code == "usage"


def test_bundles_only_go_up_on_a_client(handed: World) -> None:
    """An older product file, a forked one, one under a bundle by one root too few: the bundles stay as they were."""
    client = handed.client(product=handed.publisher.export("sample"))
    client.activate(handed.publisher.mint(), consent=True)
    shelf = client._homes().find(client.product)
    before = bundles(shelf)
    chain = handed.publisher.home.chain
    few, thief = ceremonies.fork(chain.texts, ceremonies.roots("bc"), test=False, threshold=1)
    offered = {
        "older": (handed.product, None),
        "forked": (forged(handed), "trust_invalid"),
        "one root too few": (ceremonies.forged(json.loads(handed.product), few, thief), "trust_invalid"),
    }
    for story, (data, code) in offered.items():
        try:
            actions.add_product(client._homes().find, data, client._machine)
            found = None
        except KeyturnError as error:
            found = error.code
        assert found == code, story
        assert bundles(shelf) == before
    assert client.status().state == "licensed"
    assert trust.verify_chain(before, chain.thumbprint) == chain
