"""Which store is read and which is written, whose it is, and who may read what is in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from keyturn import Client, KeyturnError
from keyturn.client import homes
from keyturn.client.machine import Machine
from keyturn.core.model import ProductName
from keyturn.testing import World
from stores import Scene, shelf_of

PRIVATE = {"key.secret", "installation.key"}


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
    assert [(shelf.name.split("-")[0], shelf.vault.scope) for shelf in found.shelves()] == [
        ("both", "system"),
        ("mine", "user"),
    ]


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


@pytest.mark.parametrize(
    ("platform", "environ", "homes_there"),
    [
        ("linux", {}, ("/var/lib/keyturn", "/home/ada/.local/state/keyturn")),
        ("linux", {"XDG_STATE_HOME": "/state", "HOME": "/h"}, ("/var/lib/keyturn", "/state/keyturn")),
        ("darwin", {"HOME": "/Users/ada"},
         ("/Library/Application Support/Keyturn", "/Users/ada/Library/Application Support/Keyturn")),
        ("win32", {"PROGRAMDATA": "D:\\Data", "LOCALAPPDATA": "C:\\Users\\ada\\AppData\\Local"},
         ("D:\\Data\\Keyturn", "C:\\Users\\ada\\AppData\\Local\\Keyturn")),
        ("win32", {"HOME": "C:\\Users\\ada"}, ("C:\\ProgramData\\Keyturn", "C:\\Users\\ada\\AppData\\Local\\Keyturn")),
    ],
)  # fmt: skip
def test_each_system_has_its_own_places(platform: str, environ: dict[str, str], homes_there: tuple[str, str]) -> None:
    """The system's store and a user's where that system keeps such things."""
    assert homes.default_homes(platform, environ, "/home/ada") == homes_there


def test_another_programs_home_is_refused(world: World, tmp_path: Path) -> None:
    """A service's home holds no client's store, and the line that fits is said."""
    client = world.client(home=world.folder / "publisher")
    with pytest.raises(KeyturnError) as error:
        client.status()
    assert (error.value.code, error.value.exit) == ("home_foreign", 2)


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
