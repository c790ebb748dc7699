"""The client's store under mishap: a crash at any moment, files lost, changed, swapped and copied, a full disk.

Whatever happens: an answer instead of a traceback, never a license that was not granted, and the same command again
finishes what was begun.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import programs
from keyturn import Client, KeyturnError, NotLicensed
from keyturn.client import actions, homes
from keyturn.client.machine import Machine
from keyturn.core import jws, trust
from keyturn.core.jws import Kind
from keyturn.core.model import ProductName
from keyturn.edge.vault import Vault
from keyturn.service import catalog
from keyturn.testing import World
from keyturn.testing.computers import synthetic
from keyturn.testing.world import START

PRIVATE = {"key.secret", "installation.key"}


class DiedError(BaseException):
    """The process is gone: nothing after this runs, not even what tidies up."""


@contextlib.contextmanager
def failing_at(number: int, fault: Callable[[], BaseException], *, dead: bool) -> Iterator[list[str]]:
    """Let the ``number``-th operation that changes files fail before it happens; yields what was done until then.

    ``dead``: every later one fails too, as for a process that was killed.
    """
    done: list[str] = []
    saved = {name: getattr(os, name) for name in ("open", "replace", "unlink", "rename", "fsync", "mkdir")}

    def watched(name: str) -> Callable[..., Any]:
        def operation(*args: Any, **options: Any) -> Any:
            if name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR):
                return saved[name](*args, **options)
            done.append(f"{name} {os.path.basename(str(args[0]))}")
            if len(done) == number or dead and len(done) > number:
                raise fault()
            return saved[name](*args, **options)

        return operation

    for name in saved:
        setattr(os, name, watched(name))
    try:
        yield done
    finally:
        for name, original in saved.items():
            setattr(os, name, original)


def killed_at(number: int) -> contextlib.AbstractContextManager[list[str]]:
    return failing_at(number, DiedError, dead=True)


def full_at(number: int) -> contextlib.AbstractContextManager[list[str]]:
    return failing_at(number, lambda: OSError(errno.ENOSPC, "No space left on device"), dead=False)


def used(world: World, serial: int) -> int:
    return int(world.publisher.database.read(lambda db: catalog.key(db, serial))["used"])


def shelf_of(home: Path) -> Path:
    (folder,) = (home / "products").iterdir()
    return folder


def rights(client: Client) -> tuple[object, ...]:
    """What a copy may do, as far as it is licensed."""
    status = client.status()
    return (status.state, status.edition, status.features, status.details["valid_until"], status.details["channel"])


class Scene:
    """A computer with a store, in the state before a procedure."""

    def __init__(self, world: World, home: Path) -> None:
        self.world = world
        self.home = home
        self.minted = world.publisher.mint_all(term_days=100)[0]
        self.other = world.publisher.mint_all()[0]
        self.machine = world.machine(synthetic(1))

    def prepare(self, *steps: str) -> None:
        """Go through ``activate``, ``activate other``, ``deactivate`` and ``wait``, which is 80 of the term's 100 days."""
        for step in steps:
            if step == "wait":
                self.world.clock.advance(days=80)
            elif step == "deactivate":
                self.client().deactivate()
            else:
                self.activate(self.other if step == "activate other" else None)

    def client(self) -> Client:
        """The application started anew."""
        return self.world.client(home=self.home, machine=self.machine)

    def activate(self, which: dict[str, Any] | None = None) -> None:
        self.client().activate((which or self.minted)["key"], consent=True)


# What is prepared, what is then done (and killed), and the state it ends in.
PROCEDURES: dict[str, tuple[tuple[str, ...], Callable[[Scene], object], str]] = {
    "activate": ((), lambda s: s.client().activate(s.minted["key"], consent=True), "licensed"),
    "renew": (("activate", "wait"), lambda s: s.client().activate(consent=True), "licensed"),
    "another key": (("activate other",), lambda s: s.client().activate(s.minted["key"], consent=True), "licensed"),
    "deactivate": (("activate",), lambda s: s.client().deactivate(), "initial_grace"),
    "activate again": (("activate", "deactivate"), lambda s: s.client().activate(consent=True), "licensed"),
    "report": ((), lambda s: s.client().report_installation(ok=True), "initial_grace"),
}


@pytest.mark.parametrize("name", PROCEDURES)
def test_killed_at_any_moment_the_same_command_finishes(world: World, name: str) -> None:
    """Killed before each change of a file in turn: status answers, claims nothing untrue, and a repetition ends well."""
    prepare, procedure, end = PROCEDURES[name]
    for number in range(1, 200):
        scene = Scene(world, world.folder / f"killed-{name}-{number}")
        scene.prepare(*prepare)
        died = False
        with killed_at(number) as done:
            try:
                procedure(scene)
            except DiedError:
                died = True
        status = scene.client().status()
        seats = used(world, scene.minted["serial"]) + used(world, scene.other["serial"])
        if status.state == "licensed":
            assert (shelf_of(scene.home) / "license.json").exists(), done
            assert seats >= 1, f"licensed without a seat after {done[-1]}"
        procedure(scene)
        assert scene.client().status().state == end, f"killed before {done[-1]}"
        assert used(world, scene.minted["serial"]) == (1 if end == "licensed" else 0)
        if end == "licensed":
            scene.client().deactivate()  # The seat that is given back is the one that was taken.
            assert used(world, scene.minted["serial"]) == 0, f"killed before {done[-1]}, the seat was lost"
        world.clock.time = START
        if not died:
            assert number > 5, "the procedure changed next to nothing: the test watches the wrong operations"
            return
    raise AssertionError("it never ended by itself")


def test_an_answer_by_file_can_be_taken_again_after_any_crash(world: World) -> None:
    """Killed while an answer is taken in, the same answer is taken again: nobody has to make the trip twice."""
    for number in range(1, 100):
        scene = Scene(world, world.folder / f"imported-{number}")
        client = scene.client()
        client.status()
        shelf = Vault(str(scene.home), "user").shelf(client.product)
        actions.install_key(shelf, scene.minted["key"], scene.machine)
        token, _ = actions.make_request(shelf, scene.machine)
        answer = world.publisher.service.exchange(token)
        assert isinstance(answer, dict)
        died = False
        with killed_at(number) as done:
            try:
                actions.accept_answer(shelf, scene.machine, answer, via="file")
            except DiedError:
                died = True
        loaded = actions.accept_answer(shelf, scene.machine, answer, via="file")
        assert loaded.standing.state.word == "licensed", f"killed before {done[-1]}"
        assert scene.client().status().state == "licensed"
        if not died:
            assert number > 5
            return
    raise AssertionError("it never ended by itself")


@pytest.mark.parametrize("name", ["activate", "deactivate", "activate again"])
def test_a_disk_full_at_any_moment_changes_nothing_for_the_worse(world: World, name: str) -> None:
    """Every single write failing in turn is `storage_failed`, never a license nor a seat lost, and space heals it."""
    prepare, procedure, end = PROCEDURES[name]
    for number in range(1, 200):
        scene = Scene(world, world.folder / f"full-{name}-{number}")
        scene.prepare(*prepare)
        before = scene.home.exists() and scene.client().status().state
        failure: KeyturnError | None = None
        with full_at(number) as done:
            try:
                procedure(scene)
            except KeyturnError as error:
                failure = error
        assert failure is None or (failure.code, "No space" in failure.detail) == ("storage_failed", True), done[-1]
        status = scene.client().status()
        if status.state == "licensed":
            assert used(world, scene.minted["serial"]) == 1
        elif before == "licensed":
            assert status.reason == "released", done[-1]
        procedure(scene)
        assert scene.client().status().state == end
        assert used(world, scene.minted["serial"]) == (1 if end == "licensed" else 0)
        world.clock.time = START
        if len(done) < number:
            return
    raise AssertionError("it never ended by itself")


@pytest.mark.system
@pytest.mark.needs("root", "mount", "umount")
def test_a_real_full_disk(world: World, tmp_path: Path) -> None:
    """On a file system without space an activation is `storage_failed`, and the license that was there still holds."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=True)
    try:
        scene = Scene(world, disk / "home")
        scene.client().activate(scene.minted["key"], consent=True, allow_ephemeral=True)
        before = programs.files_below(scene.home)
        with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(b"x" * 512)
        with pytest.raises(KeyturnError) as error:
            scene.client().activate(scene.other["key"], consent=True, allow_ephemeral=True)
        assert error.value.code == "storage_failed"
        assert programs.files_below(scene.home) == before
        assert scene.client().status().state == "licensed"
        (disk / "ballast").unlink()
        scene.client().activate(scene.other["key"], consent=True, allow_ephemeral=True)
        assert used(world, scene.other["serial"]) == 1
    finally:
        subprocess.run(["umount", str(disk)], check=True)


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
    "numbers for texts": lambda data: data.replace(b': "', b': 7, "').replace(b'",', b'": 7,') if data[:1] == b"{" else b"7",
    "null for texts": lambda data: json.dumps(dict.fromkeys(json.loads(data))).encode() if data[:1] == b"{" else b"null",
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
    assert {"license.json", "product.json", "installation.json", "installation.key", "record.jws"} <= {n.name for n in names}
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
            for taken in [*([name] for name in names), names, ["license.json", "installation.json", "installation.key"]]:
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
            assert (status.state, status.features, bool(status.reason), bool(status.remedy)) == ("initial_grace", (), True, True)
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
    _, signer = world.publisher.home.signer(trust.ROLE_ISSUE, world.clock())
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
    left = []
    for _ in range(4):
        left.append(client.status().days_left)
        world.clock.advance(days=10)
    assert left == [30, 20, 10, 0]
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


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
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


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o000])
def test_modes_do_not_depend_on_the_umask(world: World, mask: int) -> None:
    """Secrets are for the owner alone; documents of the system's store are for every program of the computer."""
    scene = Scene(world, world.folder / "home")
    client = world.client(home=scene.home, machine=scene.machine)
    client._scope = "system"
    saved = os.umask(mask)
    try:
        client.activate(scene.minted["key"], consent=True)
    finally:
        os.umask(saved)
    folder = shelf_of(scene.home)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.is_file()}
    assert {name for name, mode in modes.items() if mode == 0o600} == PRIVATE
    assert {mode for name, mode in modes.items() if name not in PRIVATE} == {0o644}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder / "sent").iterdir()} == {0o600}
    for place in (scene.home, scene.home / "products", folder):
        assert stat.S_IMODE(place.stat().st_mode) & 0o055 == 0o055, place
        assert not stat.S_IMODE(place.stat().st_mode) & 0o022 or mask == 0o000


def test_removing_a_product_killed_at_any_moment(world: World) -> None:
    """A product is there or it is not: never half a folder that no command can remove."""
    for number in range(1, 100):
        home = world.folder / f"removed-{number}"
        client = world.client(home=home)
        client.status()
        vault = Vault(str(home), "user")
        died = False
        with killed_at(number) as done:
            try:
                vault.shelf(client.product).remove()
            except DiedError:
                died = True
        left = vault.shelves()
        assert not left or left[0].product() is not None, done
        for shelf in left:
            shelf.remove()
        assert vault.shelves() == []
        if not died:
            return
    raise AssertionError("it never ended by itself")


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


# Several at once.


@pytest.mark.system
def test_two_processes_activating_at_once(tmp_path: Path) -> None:
    """Both end well, one seat is taken, the store is whole and everything that was sent is noted."""
    publisher = programs.Publisher(tmp_path / "publisher", probe=False)
    try:
        product = publisher.product("paintbox", "--test")
        key = publisher.mint("paintbox")[0]
        sysroot = programs.computer(tmp_path / "computer", "office-pc-a")
        with publisher.running():
            for turn in range(3):
                home = programs.Home(tmp_path / f"home-{turn}", sysroot=sysroot)

                def activate(_: int, home: programs.Home = home) -> programs.Result:
                    return home.activate(product, key["key"])

                with ThreadPoolExecutor(3) as pool:
                    for result in pool.map(activate, range(3)):
                        assert result.ok().product["state"] == "licensed"
                assert home.status()["possession"] == "proven"
                assert not (home.shelf / "pending.json").exists()
                sent = home("disclose", "--sent").ok().json["exchanges"]
                assert len(sent) >= 1
            assert publisher.seats(key["serial"]) == 1
    finally:
        publisher.close()


def test_many_threads_of_one_program_activating_at_once(world: World) -> None:
    """One store, eight clients: eight licensed answers, one seat, every exchange noted under its own number."""
    scene = Scene(world, world.folder / "home")

    def activate(_: int) -> str:
        client = world.client(home=scene.home, machine=scene.machine)
        return client.activate(scene.minted["key"], consent=True).state

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(activate, range(8))) == {"licensed"}
    assert used(world, scene.minted["serial"]) == 1
    assert scene.client().status().details["possession"] == "proven"
    assert not list(scene.home.rglob("*.tmp"))


# Whose store.


@pytest.fixture
def two_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A system's store and a user's, for a user that is not root."""
    monkeypatch.setattr(homes, "SYSTEM_HOME", str(tmp_path / "system"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.delenv("KEYTURN_HOME", raising=False)
    return {"XDG_STATE_HOME": str(tmp_path / "state"), "HOME": str(tmp_path)}


def test_the_systems_store_wins_over_a_users(two_homes: dict[str, str], tmp_path: Path) -> None:
    """A product that is in both is the system's; one that only the user has is found too; new ones go to the user."""
    found = homes.open_homes(None, None, two_homes)
    assert [vault.scope for vault in found.read] == ["system", "user"]
    assert (found.write.scope, found.write.home) == ("user", str(tmp_path / "state" / "keyturn"))
    both, mine, new = (ProductName("t" * 43, slug) for slug in ("both", "mine", "new"))
    for vault, name in ((found.read[0], both), (found.read[1], both), (found.read[1], mine)):
        os.makedirs(vault.shelf(name).path)
    assert [found.find(name).vault.scope for name in (both, mine, new)] == ["system", "user", "user"]
    assert [(shelf.name.split("-")[0], shelf.vault.scope) for shelf in found.shelves()] == [("both", "system"), ("mine", "user")]


@pytest.mark.parametrize("scope", ["system", "user"])
def test_a_scope_names_one_store(two_homes: dict[str, str], scope: str) -> None:
    """With `--scope` only that store is read and written."""
    found = homes.open_homes(None, scope, two_homes)
    assert [vault.scope for vault in found.read] == [found.write.scope] == [scope]
    with pytest.raises(KeyturnError) as error:
        homes.open_homes(None, "everybody", two_homes)
    assert error.value.code == "usage"


def test_root_reads_the_systems_store_alone(two_homes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Root adds for everybody, and is not licensed by what lies in its own home directory."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert [vault.scope for vault in homes.open_homes(None, None, two_homes).read] == ["system"]


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_named_home_leaves_the_others_alone(two_homes: dict[str, str], tmp_path: Path, way: str) -> None:
    """`--home` and `KEYTURN_HOME` name one store; the option wins."""
    environ = two_homes if way == "option" else {**two_homes, "KEYTURN_HOME": str(tmp_path / "named")}
    found = homes.open_homes(str(tmp_path / "named") if way == "option" else None, None, environ)
    assert [vault.home for vault in found.read] == [found.write.home] == [str(tmp_path / "named")]
    assert homes.open_homes("/x", None, {**environ, "KEYTURN_HOME": "/y"}).write.home == "/x"


def test_a_user_is_licensed_by_the_systems_store(world: World, two_homes: dict[str, str], tmp_path: Path) -> None:
    """What root activated licenses every user, who needs no right to write and leaves nothing behind."""
    scene = Scene(world, tmp_path / "system")
    scene.activate()
    machine = Machine(two_homes, now=world.clock, read=scene.machine._read)
    user = Client(scene.client().product, machine=machine)
    assert user.status().state == "licensed"
    assert user.status().details["scope"] == "system"
    assert not (tmp_path / "state").exists()


def test_another_programs_home_is_refused(world: World, tmp_path: Path) -> None:
    """A service's home holds no client's store, and the line that fits is said."""
    client = world.client(home=world.folder / "publisher")
    with pytest.raises(KeyturnError) as error:
        client.status()
    assert (error.value.code, error.value.exit) == ("home_foreign", 2)
