"""The SDK's contract: what `require` and `status` do in every state, for which product, and what they never do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from keyturn import Client, KeyturnError, NotLicensed
from keyturn.client.machine import Machine
from keyturn.core import containers
from keyturn.core.model import ProductName
from keyturn.testing import World
from keyturn.testing.computers import synthetic
from stores import every_ten_days, read_only

FEATURES = ["layers"]
MODES = ("enforce", "warn", "advise")


# What asking costs: nothing.

WATCHED = """
import json, os, sys
files, others = [], []
def watch(event, args):
    if event == "open" and args and isinstance(args[0], (str, bytes)) and not str(args[0]).endswith((".py", ".pyc", ".so")):
        files.append(str(args[0]))
    elif event.split(".")[0] in ("socket", "subprocess", "urllib", "http", "ssl") or event in ("os.system", "os.exec", "os.fork"):
        others.append(event)
import keyturn
sys.addaudithook(watch)
from keyturn import Client, NotLicensed
client = Client("%(product)s", home="%(home)s")
made = list(files)
status = client.status()
try:
    client.require("layers")
    required = None
except NotLicensed as no:
    required = no.reason
print(json.dumps({"made": made, "asked": files[len(made):], "others": others, "state": status.state, "required": required,
                  "modules": sorted(sys.modules)}))
"""
NETWORK = {
    "ssl",
    "_ssl",
    "socket",
    "_socket",
    "http",
    "urllib.request",
    "asyncio",
    "email",
    "click",
    "subprocess",
    "sqlite3",
}


@pytest.mark.system
def test_import_and_client_open_nothing_and_questions_open_no_connection(world: World, tmp_path: Path) -> None:
    """Making a client opens no file; asking reads the store and this computer, writes nothing and loads no network."""
    machine = Machine({"HOME": str(tmp_path)})  # This very computer, and its own clock.
    home = tmp_path / "store"
    client = Client(
        containers.open_product(json.loads(world.product)).product.name,
        home=home, machine=machine, product_file=world.product, connect=world.publisher.connect,
    )  # fmt: skip
    client.status()
    script = WATCHED % {"product": client.product, "home": home}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    seen = json.loads(done.stdout)
    assert seen["made"] == []
    assert seen["others"] == []
    assert (seen["state"], seen["required"]) == ("initial_grace", None)
    assert not NETWORK & set(seen["modules"])
    ours = [path for path in seen["asked"] if path.startswith(str(home))]
    assert any(path.endswith("product.json") for path in ours)
    assert not [path for path in seen["asked"] if ".tmp" in path]


def test_the_watch_would_see_a_connection() -> None:
    """The same watch reports a program that does open a socket: the test above is able to fail."""
    connects = "import socket; socket.socket().close(); raise SystemExit(len(others))"
    script = WATCHED.replace("from keyturn import Client, NotLicensed", connects) % {"product": "", "home": ""}
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert done.returncode > 0


# require() in every state and mode.


class Case(NamedTuple):
    """A client in a state, and what `require()` says there."""

    state: str
    code: int
    reason: str | None
    days_left: int | None


def arrange(world: World, case: str, mode: str) -> Client:
    """A client in the state ``case`` of a product with this mode; time and hardware are moved as needed."""
    product = world.publisher.product(f"p-{mode}", editions={"standard": FEATURES, "basic": []}, mode=mode)
    slug = f"p-{mode}"
    machine, home = world.machine(synthetic(1)), world.folder / f"{case}-{mode}"
    client = world.client(product=product, machine=machine, home=home)

    def elsewhere() -> Client:
        return world.client(product=product, machine=world.machine(synthetic(2)), home=home)

    if case == "licensed":
        client.activate(world.publisher.mint(slug, edition="standard"), consent=True)
    elif case == "licensed without the feature":
        client.activate(world.publisher.mint(slug, edition="basic"), consent=True)
    elif case == "in initial grace":
        client.status()
        world.clock.advance(days=20)
    elif case == "grace over":
        client.status()
        world.clock.advance(days=30)
    elif case == "term ended":
        client.activate(world.publisher.mint(slug, edition="standard", term_days=60), consent=True)
        world.clock.advance(days=65)
    elif case == "term and grace over":
        client.activate(world.publisher.mint(slug, edition="standard", term_days=60), consent=True)
        world.clock.advance(days=90)
    elif case == "other hardware":
        client.activate(world.publisher.mint(slug, edition="standard"), consent=True)
        world.clock.advance(days=200)
        client = elsewhere()
        client.status()
        world.clock.advance(days=10)
    elif case == "other hardware, grace over":
        client.activate(world.publisher.mint(slug, edition="standard"), consent=True)
        world.clock.advance(days=200)
        client = elsewhere()
        client.status()
        world.clock.advance(days=30)
    elif case == "released":
        client.activate(world.publisher.mint(slug, edition="standard"), consent=True)
        world.clock.advance(days=10)
        client.deactivate()
    else:
        raise AssertionError(case)
    return client


CASES = {
    "licensed": Case("licensed", 1, None, None),
    "licensed without the feature": Case("licensed", 1, None, None),
    "in initial grace": Case("initial_grace", 2, "not_activated", 10),
    "released": Case("initial_grace", 2, "released", 20),
    "term ended": Case("out_of_tolerance_grace", 3, "term_ended", 25),
    "other hardware": Case("out_of_tolerance_grace", 3, "hardware_changed", 20),
    "grace over": Case("notification", 5, "not_activated", 0),
    "term and grace over": Case("notification", 5, "term_ended", 0),
    "other hardware, grace over": Case("notification", 5, "hardware_changed", 0),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_require_in_every_state_and_mode(world: World, case: str, mode: str) -> None:
    """Full function in license and grace; in notification the publisher's mode decides; the reason is always said."""
    client, wanted = arrange(world, case, mode), CASES[case]
    status = client.status()
    assert Case(status.state, status.details["state_code"], status.reason, status.days_left) == wanted
    stops = wanted.code == 5 and mode == "enforce"
    assert status.usable is not stops
    assert (status.warning is not None) is (wanted.code == 5 and mode == "warn")
    if wanted.code != 1:
        assert status.remedy
    for feature in (None, "layers"):
        lacks = feature is not None and case == "licensed without the feature"
        if not stops and not lacks:
            assert client.require(feature) == status
            continue
        with pytest.raises(NotLicensed) as caught:
            client.require(feature)
        no = caught.value
        assert no.code == ("feature_not_licensed" if lacks else "not_licensed")
        assert no.reason == ("feature_not_licensed" if lacks else wanted.reason)
        assert (no.days_left, bool(no.remedy), no.exit) == (wanted.days_left, True, 1)


def test_a_feature_may_come_with_the_key(world: World) -> None:
    """A feature minted into the key is licensed beside those of the edition; an invented one is not."""
    client = world.licensed(features=["export"])
    assert set(client.require("export").features) == {"layers", "export"}
    with pytest.raises(NotLicensed):
        client.require("Layers")


def test_a_product_that_was_never_added(world: World, tmp_path: Path) -> None:
    """Without a product file at hand and none in the store, nothing is licensed and the remedy is said."""
    name = containers.open_product(json.loads(world.product)).product.name
    client = Client(name, home=tmp_path / "empty", machine=world.machine())
    with pytest.raises(KeyturnError) as error:
        client.status()
    assert error.value.code == "product_missing"
    with pytest.raises(NotLicensed) as no:
        client.require()
    assert (no.value.reason, no.value.days_left, bool(no.value.remedy)) == ("product_missing", None, True)
    assert not (tmp_path / "empty").exists()


@pytest.mark.system
@pytest.mark.needs("root", "mount", "umount")
@pytest.mark.parametrize("mode", MODES)
def test_a_store_that_cannot_be_written_has_no_grace(world: World, tmp_path: Path, mode: str) -> None:
    """Where no first day can be noted the publisher's mode decides at once; once it can be written, grace begins."""
    product = world.publisher.product("strict", mode=mode)
    (tmp_path / "closed").mkdir()
    client = world.client(product=product, home=tmp_path / "closed" / "home")
    with read_only(tmp_path / "closed"):
        for _ in range(2):
            status = client.status()
            assert (status.state, status.reason, status.days_left) == ("notification", "store_unwritable", 0)
            assert "write" in (status.remedy or "")
            assert (status.usable, status.warning is not None) == (mode != "enforce", mode == "warn")
            if mode == "enforce":
                with pytest.raises(NotLicensed) as no:
                    client.require()
                assert no.value.reason == "store_unwritable"
            else:
                assert client.require("layers") == status
        with pytest.raises(KeyturnError) as error:
            client.activate(world.publisher.mint("strict"), consent=True)
        assert error.value.code in ("permission_denied", "storage_failed")
    assert (client.status().state, client.status().days_left) == ("initial_grace", 30)


# The pin.


@pytest.fixture
def false(world: World, tmp_path: Path) -> Iterator[World]:
    """Another publisher with a product of the same slug."""
    made = World(tmp_path / "false", clock=world.clock, features=FEATURES)
    yield made
    made.close()


def test_another_publishers_product_file_is_not_the_pinned_product(world: World, false: World, tmp_path: Path) -> None:
    """A file with the right slug and a false publisher is refused when it is given for the pinned product."""
    pinned = containers.open_product(json.loads(world.product)).product.name
    client = Client(pinned, home=tmp_path / "home", machine=world.machine(), product_file=false.product)
    for ask in (client.status, client.activate):
        with pytest.raises(KeyturnError) as error:
            ask()
        assert error.value.code == "publisher_mismatch"
    with pytest.raises(NotLicensed) as no:
        client.require()
    assert no.value.reason == "publisher_mismatch"


def test_another_publishers_license_in_the_same_store_is_another_products(
    world: World, false: World, tmp_path: Path
) -> None:
    """A store that licenses the false publisher's `sample` leaves the real one unlicensed, also when put in its place."""
    home, machine = tmp_path / "home", world.machine()
    theirs = world.client(product=false.product, home=home, machine=machine, connect=false.publisher.connect)
    assert theirs.activate(false.publisher.mint(), consent=True).state == "licensed"
    ours = world.client(home=home, machine=machine)
    assert ours.status().reason == "not_activated"
    pinned_only = Client(ours.product, home=home, machine=machine)  # Compiled in, with no file to heal the store.
    shelves = {
        client: next((home / "products").glob(f"*{client.product.thumbprint[:12]}")) for client in (ours, theirs)
    }
    for file in shelves[theirs].iterdir():
        if file.is_file():
            (shelves[ours] / file.name).write_bytes(file.read_bytes())
    with pytest.raises(NotLicensed) as no:
        pinned_only.require()
    assert no.value.reason == "publisher_mismatch"
    assert ours.status().state != "licensed"
    assert theirs.status().state == "licensed"


def test_a_test_products_file_needs_test(world: World, tmp_path: Path) -> None:
    """A test product's licenses are worth nothing, so the application must say that it wants them."""
    path = tmp_path / "sample.ktproduct"
    path.write_bytes(world.publisher.product("mock", test=True))
    with pytest.raises(KeyturnError) as error:
        Client.from_file(path)
    assert error.value.code == "test_only"
    client = Client.from_file(
        path, test=True, home=tmp_path / "home", machine=world.machine(), connect=world.publisher.connect
    )
    assert client.product.test
    assert client.activate(world.publisher.mint("mock"), consent=True).state == "licensed"
    assert Client(str(client.product).removesuffix("+test"), test=True).product == client.product


def test_the_real_product_is_not_licensed_by_its_test_twin(world: World, tmp_path: Path) -> None:
    """The name `sample+test` is another product than `sample`, in the same store too."""
    name = ProductName.parse(str(world.client().product))
    client = Client(
        name._replace(test=True), home=tmp_path / "home", machine=world.machine(), product_file=world.product
    )
    with pytest.raises(KeyturnError) as error:
        client.status()
    assert error.value.code == "publisher_mismatch"


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe", b'{"keyturn":"product","v":1}', b"[" * 100_000])
def test_a_broken_product_file_is_said_at_once(tmp_path: Path, content: bytes | None) -> None:
    """`from_file` answers every broken file with `file_malformed`."""
    path = tmp_path / "broken.ktproduct"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyturnError) as error:
        Client.from_file(path)
    assert error.value.code == "file_malformed"


# A grace ends, whoever asks.


def test_the_grace_of_other_hardware_ends_for_an_application_that_asks_alone(world: World) -> None:
    """Nobody ever runs `keyturn status`; a copied store's thirty days pass all the same."""
    product = world.publisher.product("strict", mode="enforce")
    home = world.folder / "copied"
    world.client(synthetic(1), product=product, home=home).activate(world.publisher.mint("strict"), consent=True)
    copy = world.client(synthetic(2), product=product, home=home)
    assert every_ten_days(copy, world) == [30, 20, 10, 0]
    with pytest.raises(NotLicensed):
        copy.require()
