"""What `keyturn.testing` promises to the developers of products, and that their pages are true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keyturn import Client, KeyturnError, NotLicensed
from keyturn.client import sdk
from keyturn.core.errors import CATALOGUE
from keyturn.core.model import State
from keyturn.edge.words import english
from keyturn.service import calls, telephone
from keyturn.testing import Clock, World
from keyturn.testing.computers import load, names, synthetic

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page: str) -> list[str]:
    """The blocks of Python on a page, in order."""
    found = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return found


# The pages.


def test_the_sdk_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """docs/sdk.md from top to bottom is a program that works, against a publisher's service."""
    world = World(tmp_path / "world", features=["layers"])
    path = tmp_path / "sample.ktproduct"
    path.write_bytes(world.product)
    options: dict[str, Any] = {"home": tmp_path / "home", "machine": world.machine(), "connect": world.publisher.connect}
    from_file = Client.from_file
    monkeypatch.setattr(Client, "from_file", lambda path: from_file(path, **options))

    def by_telephone(shown: str) -> str:
        found = telephone.answer(world.publisher.service, calls.given(shown), actor="staff", alone=False)
        assert isinstance(found, telephone.Answer)
        return " ".join(found.code.words(english()))

    space: dict[str, Any] = {"PRODUCT_FILE": path, "KEY": world.publisher.mint(), "by_telephone": by_telephone}
    for number, code in enumerate(blocks("sdk.md")):
        exec(compile(code, f"docs/sdk.md block {number + 1}", "exec"), space)
    world.close()
    said = capsys.readouterr().out
    assert "30 days left: Activate it" in said
    assert "computer_model" in said


@pytest.mark.system
def test_the_testing_page_runs(tmp_path: Path) -> None:
    """The tests on docs/testing.md are collected by pytest as somebody would paste them, and pass."""
    conftest, *tests = blocks("testing.md")
    (tmp_path / "conftest.py").write_text(conftest)
    imports = (
        "import pytest\nfrom keyturn import KeyturnError, NotLicensed\nfrom keyturn.testing import World\n"
        "from keyturn.testing.computers import synthetic\n"
    )
    (tmp_path / "test_page.py").write_text(imports + "\n".join(tests))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
    wanted = sum(code.count("\ndef test_") + code.startswith("def test_") for code in tests)
    assert f"{wanted} passed" in done.stdout


def test_the_sdk_page_names_real_codes_and_all_its_states() -> None:
    """Every code of the error table is in the catalogue; the table of states has them and the modes as they are."""
    page = (DOCS / "sdk.md").read_text("utf-8")
    errors = page[page.index("| code | from |") : page.index("from keyturn import KeyturnError")]
    rows = [line.split("|")[1] for line in errors.splitlines()[2:] if line.startswith("|")]
    codes = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    assert len(codes) >= 15
    assert codes <= set(CATALOGUE)
    states = dict(re.findall(r"^\| `(\w+)` \| (\d) \|", page, re.MULTILINE))
    assert states == {state.word: str(int(state)) for state in State if state is not State.UNLICENSED}
    for name in sdk.Status._fields:
        assert f"`{name}`" in page


@pytest.mark.parametrize("mode", ["enforce", "warn", "advise"])
def test_the_pages_table_of_modes_is_what_happens(tmp_path: Path, mode: str) -> None:
    """What the table says of `notification` in each mode is what `require` does."""
    page = (DOCS / "sdk.md").read_text("utf-8")
    (header,) = re.findall(r"^\| state .*$", page, re.MULTILINE)
    (row,) = re.findall(r"^\| `notification` .*$", page, re.MULTILINE)
    said = dict(zip(*([cell.strip(" `") for cell in line.split("|")] for line in (header, row)), strict=True))[mode]
    world = World(tmp_path)
    client = world.expired(mode=mode)
    try:
        status = client.require()
        happened = "runs, `warning" if status.warning else "runs"
    except NotLicensed:
        happened = "raises"
    world.close()
    assert happened == said


def test_the_fixtures_on_the_page_are_all_there_are() -> None:
    """The page's table and the plug-in name the same fixtures."""
    from keyturn.testing import fixtures

    page = set(re.findall(r"^\| `(keyturn_\w+)` \|", (DOCS / "testing.md").read_text("utf-8"), re.MULTILINE))
    assert page == {name for name in vars(fixtures) if name.startswith("keyturn_")}


# What is promised.


def test_a_world_is_the_same_every_time(tmp_path: Path) -> None:
    """Time and the computers' chance repeat, so that a test which fails once fails again."""
    first, second = World(tmp_path / "1"), World(tmp_path / "2")
    guids = [world.client().status().details["installation_guid"] for world in (first, second)]
    assert guids[0] == guids[1]
    assert first.clock() == second.clock()
    assert first.client().status().details["installation_guid"] not in guids
    first.close()
    second.close()


def test_the_clock_stands_still_until_it_is_moved() -> None:
    """Days may be halves, seconds are whole."""
    clock = Clock(1000)
    assert (clock(), clock()) == (1000, 1000)
    clock.advance(days=0.5, seconds=7)
    assert clock() == 1000 + 43_200 + 7


@pytest.mark.parametrize("days", [30, 3, 1])
def test_grace_has_the_days_that_were_asked_for(world: World, days: int) -> None:
    """`grace(days_left=N)` has N days left, and time passes from there."""
    client = world.grace(days_left=days)
    assert (client.status().state, client.status().days_left) == ("initial_grace", days)
    world.clock.advance(days=days)
    assert client.status().state == "notification"


def test_licensed_has_the_features_that_were_asked_for(world: World) -> None:
    """Those of the product's edition, and those given to the key."""
    assert world.licensed().status().features == ("layers",)
    assert set(world.licensed(features=["export"]).status().features) == {"layers", "export"}


def test_refused_says_any_code_of_the_catalogue(world: World) -> None:
    """A refusal and a fault alike come out of `activate` as that code; `licensed` clients beside it are not touched."""
    licensed = world.licensed()
    key = world.publisher.mint()
    for code in CATALOGUE:
        if code in ("request_superseded",):
            continue  # The client answers this one by itself, with a new request.
        with pytest.raises(KeyturnError) as error:
            world.refused(code).activate(key, consent=True)
        assert error.value.code == code
    assert licensed.status().state == "licensed"


def test_two_worlds_are_two_publishers(world: World, tmp_path: Path) -> None:
    """The same slug in another world is another product, and the other's keys are unknown."""
    other = World(tmp_path / "other")
    try:
        assert other.client().product != world.client().product
        with pytest.raises(KeyturnError) as error:
            world.client().activate(other.publisher.mint(), consent=True)
        assert error.value.code == "key_unknown"
    finally:
        other.close()


def test_every_recorded_computer_can_ask(world: World) -> None:
    """Each computer of the corpus makes a client that answers; none needs root or this computer's own hardware."""
    assert len(names()) >= 24
    for name in names():
        assert world.client(load(name)).status().state == "initial_grace", name


def test_a_test_leaves_nothing_outside_its_folder(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the home directory, not in the system's store: everything is below the folder that was given."""
    home = tmp_path / "nobody"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    world.licensed().deactivate()
    world.client(synthetic(9)).status()
    assert not home.exists()
