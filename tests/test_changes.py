"""The changes of configuration that docs/lifecycle.md lists, each played: what stands in the table is what happens."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from docs_facts import rows, section
from keyturn.client.sdk import Client
from keyturn.testing import World
from keyturn.testing.computers import load, synthetic


def licensed(world: World, *, mak: bool = False) -> tuple[Client, str]:
    key = world.publisher.mint(channel="mak", limit=5) if mak else world.publisher.mint()
    client = world.client(synthetic(41), home=world.folder / "changed")
    client.activate(key, consent=True)
    return client, key


def seats(world: World) -> int:
    return int(world.publisher.database.read(lambda db: db.execute("SELECT sum(seats_used) FROM product_key").fetchone()[0]))


def another_key(world: World) -> str:
    client, _ = licensed(world)
    assert client.activate(world.publisher.mint(), consent=True).state == "licensed"
    assert seats(world) == 2
    return "install the key and activate: the new key's seat is taken, the old one is kept until it is returned"


def reinstalled(world: World) -> str:
    _, key = licensed(world)
    shutil.rmtree(world.folder / "changed")
    again = world.client(synthetic(41).reinstalled(), home=world.folder / "changed")
    assert again.activate(key, consent=True).state == "licensed"
    assert seats(world) == 1
    return "the same seat; nothing is counted"


def cloned(world: World) -> str:
    _, key = licensed(world, mak=True)
    shutil.copytree(world.folder / "changed", world.folder / "clone")
    clone = world.client(synthetic(42), home=world.folder / "clone")
    assert clone.status().state == "out_of_tolerance_grace"
    shutil.rmtree(world.folder / "clone")
    assert world.client(synthetic(42), home=world.folder / "clone").activate(key, consent=True).state == "licensed"
    assert seats(world) == 2
    return "grace on the copy: it activates as a computer of its own"


def moved_vm(world: World) -> str:
    client = world.client(load("vm-template-a"), home=world.folder / "changed")
    client.activate(world.publisher.mint(), consent=True)
    assert world.client(load("vm-template-a-moved"), home=world.folder / "changed").status().state == "licensed"
    return "nothing"


def firmware_mode(world: World) -> str:
    """What Linux shows of the mode: the folder of EFI, and another firmware date and revision at worst."""
    licensed(world)
    here = synthetic(41)
    other = {path: "9.9.9\n" for path in here.files if path.endswith(("/bios_version", "/bios_date"))}
    assert other
    legacy = here.variant("legacy", files=other, without=["sys/firmware/efi"])
    assert world.client(legacy, home=world.folder / "changed").status().state == "licensed"
    return "a component changes at most; alone it does not count"


PLAYED: dict[str, Callable[[World], str]] = {
    "another edition, or another key": another_key, "reinstalled, same hardware": reinstalled,
    "cloned to other hardware, or a virtual machine copied": cloned, "a virtual machine moves to another server": moved_vm,
    "firmware switched between legacy and UEFI": firmware_mode,
}  # fmt: skip


@pytest.mark.parametrize("change", PLAYED)
def test_the_table_says_what_happens(world: World, change: str) -> None:
    told = {cells[0]: cells[1] for cells in rows(section("lifecycle.md", "Changes of hardware")) if cells[0] != "change"}
    assert set(told) == set(PLAYED)
    assert PLAYED[change](world) == told[change]
