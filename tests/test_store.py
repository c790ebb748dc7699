"""The client's store under mishap: a crash at any moment, a full disk, several at once.

Whatever happens: an answer instead of a traceback, never a license that was not granted, and the same command again
finishes what was begun.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import programs
from keyturn import KeyturnError
from keyturn.client import accepting, actions
from keyturn.edge.vault import Vault
from keyturn.testing import World
from keyturn.testing.world import START
from stores import DiedError, Scene, full_at, killed_at, shelf_of, used

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
                accepting.accept_answer(shelf, scene.machine, answer, via="file")
            except DiedError:
                died = True
        loaded = accepting.accept_answer(shelf, scene.machine, answer, via="file")
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
