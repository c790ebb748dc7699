"""The client's store in other hands: files lost, changed, swapped and copied.

Whatever is done: an answer instead of a traceback, never a license that was not granted, and a reason that is said.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyturn import Client, KeyturnError, NotLicensed
from keyturn.client import actions
from keyturn.client.machine import Machine
from keyturn.core import jws, trust
from keyturn.core.jws import Kind
from keyturn.edge import keystore
from keyturn.edge.vault import Vault
from keyturn.testing import World
from keyturn.testing.computers import synthetic
from stores import Scene, every_ten_days, read_only, rights, shelf_of, used

# Files lost, changed, swapped.

DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "deleted": lambda _data: None,
    "empty": lambda _data: b"",
    "half": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "an empty object": lambda _data: b"{}",
    "a list": lambda _data: b"[1]",
    "not text": lambda _data: b"\xff\xfe\x00",
    "deep": lambda _data: b"[" * 100_000,
    "huge": lambda _data: b'{"a": "' + b"x" * 5_000_000 + b'"}',
    "numbers for texts": lambda data: (
        data.replace(b': "', b': 7, "').replace(b'",', b'": 7,') if data[:1] == b"{" else b"7"
    ),
    "null for texts": lambda data: (
        json.dumps(dict.fromkeys(json.loads(data.splitlines()[0]))).encode() if data[:2] == b'{"' else b"null"
    ),
}
# Without these the copy is not licensed; the product file is healed by the one that the application ships.
NEEDED = {"license.json"}


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_file_damaged_in_every_way(world: World, kind: str) -> None:
    """No traceback, no right that was not there, a reason where the license is gone; `activate` makes it whole again."""
    scene = Scene(world, world.folder / "home")
    scene.activate()
    before = rights(scene.client())
    whole = world.folder / "whole"
    shutil.copytree(scene.home, whole)
    names = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]
    assert {"license.json", "product.json", "installation.json", "installation.key", "record.jws"} <= {
        n.name for n in names
    }
    for name in names:
        shutil.rmtree(scene.home)
        shutil.copytree(whole, scene.home)
        damaged = DAMAGE[kind]((whole / name).read_bytes())
        (scene.home / name).unlink() if damaged is None else (scene.home / name).write_bytes(damaged)
        status = scene.client().status()
        if name.name in NEEDED:
            assert status.state == "initial_grace", name
            assert status.reason, name
        else:
            assert (status.state == "licensed") or status.reason, name
        if status.state == "licensed":
            assert rights(scene.client()) == before, name
        else:
            assert not status.features
        # A program that compiled the name in, and has no product file to heal anything with.
        pinned = Client(scene.client().product, home=scene.home, machine=scene.machine)
        with contextlib.suppress(NotLicensed):
            assert pinned.require().state in ("licensed", "initial_grace")
        scene.activate()
        assert rights(scene.client()) == before, name
        assert used(world, scene.minted["serial"]) == 1, name


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_waits_may_be_damaged(world: World, kind: str) -> None:
    """A damaged request or release licenses nothing and stops nobody: `activate` makes another and ends well."""
    scene = Scene(world, world.folder / "home")
    scene.prepare("activate", "deactivate")
    shelf = Vault(str(scene.home), "user").shelf(scene.client().product)
    actions.make_request(shelf, scene.machine)
    whole = world.folder / "whole"
    shutil.copytree(scene.home, whole)
    for name in ("pending.json", "release.json", "key.json", "consent.json"):
        shutil.rmtree(scene.home)
        shutil.copytree(whole, scene.home)
        path = shelf_of(scene.home) / name
        damaged = DAMAGE[kind](path.read_bytes())
        path.unlink() if damaged is None else path.write_bytes(damaged)
        status = scene.client().status()
        assert (status.state, bool(status.reason)) == ("initial_grace", True)
        scene.activate()
        assert used(world, scene.minted["serial"]) == 1
        assert scene.client().deactivate().reason == "released"
        assert used(world, scene.minted["serial"]) == 0


def test_every_file_swapped_with_anothers(world: World) -> None:
    """Files of another product, another publisher and another computer in their place license nothing anew."""
    scene = Scene(world, world.folder / "home")
    scene.client().status()
    before = scene.client().status()
    assert before.state == "initial_grace"
    false = World(world.folder / "false", clock=world.clock)
    try:
        better = world.publisher.product("better", editions={"all": ["layers", "everything"]})
        others = [
            world.client(product=better, home=world.folder / "o1", machine=scene.machine),
            false.client(home=world.folder / "o2", machine=scene.machine),
            world.client(synthetic(2), home=world.folder / "o3"),
        ]
        keys = [world.publisher.mint("better"), false.publisher.mint(), world.publisher.mint()]
        for client, key in zip(others, keys, strict=True):
            client.activate(key, consent=True)
        mine = shelf_of(scene.home)
        for theirs in map(shelf_of, (world.folder / "o1", world.folder / "o2", world.folder / "o3")):
            names = [path.name for path in theirs.iterdir() if path.is_file()]
            assert "license.json" in names
            whole = world.folder / f"whole-{theirs.parent.parent.name}"
            shutil.copytree(mine, whole)
            for taken in [
                *([name] for name in names),
                names,
                ["license.json", "installation.json", "installation.key"],
            ]:
                for name in taken:
                    shutil.copy2(theirs / name, mine / name)
                status = scene.client().status()
                # All of another computer's files are a copied store, which has its own grace and reason.
                assert status.state in ("initial_grace", "out_of_tolerance_grace"), (theirs, taken)
                assert status.reason
                shutil.rmtree(mine)
                shutil.copytree(whole, mine)
    finally:
        false.close()


def test_no_flipped_bit_gives_more(world: World) -> None:
    """A bit flipped anywhere in the stored license takes the license away with a reason, or changes nothing at all."""
    scene = Scene(world, world.folder / "home")
    scene.activate()
    client, before = scene.client(), rights(scene.client())
    path = shelf_of(scene.home) / "license.json"
    data = path.read_bytes()
    chance = random.Random(7)
    lost = 0
    positions = chance.sample(range(len(data)), 300)
    for position in positions:
        changed = bytearray(data)
        changed[position] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        status = client.status()
        if status.state == "licensed":
            assert rights(client) == before
        else:
            lost += 1
            assert (status.state, status.features, bool(status.reason), bool(status.remedy)) == (
                "initial_grace",
                (),
                True,
                True,
            )
    assert lost > 280, "a flip that is not noticed lies in white space or in how the certificate came"
    path.write_bytes(data)
    assert rights(client) == before


FOREIGN: dict[str, tuple[dict[str, Any], str]] = {
    "holder": ({"cnf": {"jkt": "A" * 43}}, "document_foreign"),
    "request": ({"request": "A" * 43}, "document_foreign"),
    "nonce": ({"nonce": "A" * 22}, "document_foreign"),
    "baseline": ({"commitment": "A" * 43}, "document_foreign"),
    "product": ({"product": "A" * 43 + "/sample"}, "document_foreign"),
    "bundle floor": ({"bundle_floor": {"number": 9, "digest": "A" * 43}}, "trust_invalid"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_each_binding_of_a_certificate_counts_by_itself(world: World, what: str) -> None:
    """A certificate the publisher really signed, wrong in one binding alone, licenses nothing and says why."""
    scene = Scene(world, world.folder / "home")
    scene.activate()
    path = shelf_of(scene.home) / "license.json"
    stored = json.loads(path.read_text())
    claims = jws.loads(jws.payload_of(stored["certificate"]))
    key, _ = world.publisher.home.signer(trust.ROLE_ISSUE, world.clock())
    signer = keystore.load_all(world.publisher.folder / "keys")[key.kid]
    other, reason = FOREIGN[what]
    for changed, wanted in (({}, None), (other, reason)):
        token = jws.sign(Kind.CERTIFICATE, {**claims, **changed}, signer.public, signer.sign)
        path.write_text(json.dumps({**stored, "certificate": token}))
        status = scene.client().status()
        assert (status.state, status.reason) == ("initial_grace" if wanted else "licensed", wanted)


@pytest.mark.parametrize("also", ["nothing else", "installation.json", "installation.key", "product.json"])
def test_a_deleted_record_is_a_fresh_grace_that_ends(world: World, also: str) -> None:
    """Whoever deletes the record has what a fresh installation has: never a license, and thirty days that pass."""
    product = world.publisher.product("strict", mode="enforce")
    client = world.client(product=product)
    client.status()
    world.clock.advance(days=31)
    with pytest.raises(NotLicensed):
        client.require()
    home = next(world.folder.glob("home-*"))
    for path in (shelf_of(home) / "record.jws", next((home / "mirror").iterdir()), shelf_of(home) / also):
        path.unlink(missing_ok=also == "nothing else")
    assert every_ten_days(client, world) == [30, 20, 10, 0]
    with pytest.raises(NotLicensed):
        client.require()


@pytest.mark.system
@pytest.mark.needs("root", "mount", "umount")
@pytest.mark.parametrize("carried", [False, True])
def test_a_store_that_cannot_be_written_has_no_first_day_for_ever(world: World, carried: bool) -> None:
    """Records deleted, or the store carried elsewhere, and then mounted read-only: no more than where it can be written."""
    product = world.publisher.product("strict", mode="enforce")
    home = world.folder / "home"
    client = world.client(synthetic(1), product=product, home=home)
    client.status()
    if carried:
        client.activate(world.publisher.mint("strict"), consent=True)
        client = world.client(synthetic(2), product=product, home=home)
    else:
        for path in (shelf_of(home) / "record.jws", next((home / "mirror").iterdir())):
            path.unlink()
    with read_only(home):
        if carried:
            assert every_ten_days(client, world) == [30, 20, 10, 0]
        with pytest.raises(NotLicensed) as no:
            client.require()
        assert no.value.reason == ("hardware_changed" if carried else "store_unwritable")


@pytest.mark.parametrize("way", ["readable", "nonsense"])
def test_a_key_that_cannot_sign_has_no_first_day_for_ever(world: World, way: str) -> None:
    """Without a record, and with a key that is not used, a grace either begins anew once and passes, or is over."""
    product = world.publisher.product("strict", mode="enforce")
    home = world.folder / "home"
    client = world.client(product=product, home=home)
    client.status()
    for path in (shelf_of(home) / "record.jws", next((home / "mirror").iterdir())):
        path.unlink()
    key = shelf_of(home) / "installation.key"
    key.chmod(0o644) if way == "readable" else key.write_bytes(b"nonsense")
    for _ in range(5):
        client.status()
        world.clock.advance(days=10)
    with pytest.raises(NotLicensed):
        client.require()


@pytest.mark.parametrize("copy", [0, 1])
def test_one_of_two_records_is_enough(world: World, copy: int) -> None:
    """The mirror serves where the record is lost, and the other way round: the grace goes on from its first day."""
    client = world.client()
    client.status()
    world.clock.advance(days=12)
    home = next(world.folder.glob("home-*"))
    [shelf_of(home) / "record.jws", next((home / "mirror").iterdir())][copy].unlink()
    assert client.status().days_left == 18


def test_a_lost_installation_key_is_another_installation(world: World) -> None:
    """Without the private key the license holds, unproven; activating again takes no second seat."""
    scene = Scene(world, world.folder / "home")
    scene.activate()
    (shelf_of(scene.home) / "installation.key").unlink()
    status = scene.client().status()
    assert (status.state, status.details["possession"]) == ("licensed", "unproven")
    with pytest.raises(KeyturnError) as error:
        scene.client().deactivate()
    assert error.value.code == "permission_denied"
    scene.activate(scene.other)
    assert scene.client().status().details["possession"] == "proven"
    assert used(world, scene.other["serial"]) == 1


@pytest.mark.parametrize(
    "damage", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_installation_key_heals(world: World, damage: bytes) -> None:
    """The license holds until the next activation, which makes another installation on the same seat."""
    scene = Scene(world, world.folder / "home")
    scene.activate()
    (shelf_of(scene.home) / "installation.key").write_bytes(damage)
    assert scene.client().status().details["possession"] == "unproven"
    scene.activate(scene.other)
    assert scene.client().status().details["possession"] == "proven"
    world.clock.advance(days=80)
    scene.activate()
    assert used(world, scene.minted["serial"]) == 1


def test_a_private_key_that_others_can_read_is_not_used(world: World) -> None:
    """It proves nothing and signs nothing, and the remedy is said; the license itself needs only documents."""
    scene = Scene(world, world.folder / "home")
    scene.activate()
    key = shelf_of(scene.home) / "installation.key"
    key.chmod(0o644)
    status = scene.client().status()
    assert (status.state, status.details["possession"]) == ("licensed", "unproven")
    for act in (scene.client().deactivate, lambda: scene.activate(scene.other)):
        with pytest.raises(KeyturnError) as error:
            act()
        assert (error.value.code, error.value.exit) == ("permission_denied", 5)
        assert error.value.remedy
    key.chmod(0o600)
    assert scene.client().status().details["possession"] == "proven"


# Copies.


def copies(world: World, home: Path) -> dict[str, Machine]:
    """Computers that somebody might carry a store to: the same model, and with the hardware hidden."""
    return {
        "same model": world.machine(synthetic(2)),
        "same model, /sys hidden": world.machine(synthetic(2).hidden()),
        "the same computer, /sys hidden": world.machine(synthetic(1).hidden()),
        "another user of another computer": world.machine(synthetic(3), as_user=True),
        "a virtual machine": world.machine(synthetic(1, "cloud-vm")),
    }


def test_a_copied_store_is_not_licensed(world: World) -> None:
    """On another computer the copy, keys and all, is a grace that ends and has its reason."""
    product = world.publisher.product("strict", mode="enforce")
    home = world.folder / "home"
    world.client(synthetic(1), product=product, home=home).activate(world.publisher.mint("strict"), consent=True)
    start = world.clock.time
    for name, machine in copies(world, home).items():
        world.clock.time = start
        copy = world.folder / name.replace("/", "")
        shutil.copytree(home, copy)
        client = world.client(product=product, home=copy, machine=machine)
        status = client.status()
        assert status.state == "out_of_tolerance_grace", name
        assert status.reason in ("hardware_changed", "hardware_unreadable"), name
        world.clock.advance(days=30)
        with pytest.raises(NotLicensed):
            client.require()
    world.clock.time = start
    assert world.client(synthetic(1), product=product, home=home).status().state == "licensed"


@pytest.mark.parametrize("lost", [("installation.key",), ("installation.key", "record.jws", "mirror"), ("readable",)])
def test_a_copy_that_can_note_nothing_ends_all_the_same(world: World, lost: tuple[str, ...]) -> None:
    """Without a usable private key nobody can sign since when the hardware differs; the grace ends even so."""
    product = world.publisher.product("strict", mode="enforce")
    home = world.folder / "home"
    world.client(synthetic(1), product=product, home=home).activate(world.publisher.mint("strict"), consent=True)
    folder = shelf_of(home)
    for name in lost:
        if name == "mirror":
            shutil.rmtree(home / name)
        elif name == "readable":
            (folder / "installation.key").chmod(0o644)
        else:
            (folder / name).unlink()
    copy = world.client(synthetic(2), product=product, home=home)
    assert copy.status().state == "out_of_tolerance_grace"
    world.clock.advance(days=31)
    with pytest.raises(NotLicensed):
        copy.require()
