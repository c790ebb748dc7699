"""The SDK's contract: what `require`, `status` and `activate` do in every state, and what they never do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import programs
from keyturn import Client, KeyturnError, NotLicensed
from keyturn.client.machine import Machine
from keyturn.core import containers, documents
from keyturn.core.documents import ProductFile
from keyturn.core.errors import CATALOGUE
from keyturn.core.model import ProductName
from keyturn.flows.exchange import Line
from keyturn.testing import World
from keyturn.testing.computers import synthetic

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
NETWORK = {"ssl", "_ssl", "socket", "_socket", "http", "urllib.request", "asyncio", "email", "click", "subprocess", "sqlite3"}


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


# activate(): consent, refusals, faults.


class Spy(NamedTuple):
    """A way to the service that counts what passes."""

    sent: list[str]
    connect: Callable[..., Line]


def spy(world: World) -> Spy:
    sent: list[str] = []

    def connect(product: ProductFile, environ: Mapping[str, str], **options: Any) -> Line:
        line = world.publisher.connect(product, environ, **options)
        inner = line.send

        def send(document: str, *, ask: bool = False) -> Any:
            sent.append(document)
            return inner(document, ask=ask)

        line.send = send  # type: ignore[method-assign]
        return line

    return Spy(sent, connect)


@pytest.mark.parametrize("consent", [False, lambda _claims: False])
def test_without_consent_nothing_is_sent(world: World, consent: Any) -> None:
    """`consent_required`, no connection, no seat; the very request that was shown is sent once somebody agrees."""
    watch = spy(world)
    client = world.client(connect=watch.connect)
    minted = world.publisher.mint_all()[0]
    with pytest.raises(KeyturnError) as error:
        client.activate(minted["key"], consent=consent)
    assert (error.value.code, error.value.exit, watch.sent) == ("consent_required", 5, [])
    assert client.status().state == "initial_grace"
    assert client.activate(consent=True).state == "licensed"
    assert len(watch.sent) == 1


def test_consent_is_shown_the_claims_that_are_then_sent(world: World) -> None:
    """The function gets every claim of the request, and exactly that request travels; later nobody is asked again."""
    watch, shown = spy(world), []

    def agree(claims: Mapping[str, Any]) -> bool:
        shown.append(claims)
        return True

    client = world.client(connect=watch.connect)
    client.activate(world.publisher.mint(), consent=agree)
    assert [documents.read_request(token)[0].claims() for token in watch.sent] == shown
    assert set(shown[0]["facts"]) == set(documents.FACTS)
    client.deactivate()
    client.activate(consent=False)
    assert len(shown) == 1


def test_progress_is_told_and_done_steps_are_skipped(world: World) -> None:
    """`progress` hears sentences; an activated product sends nothing and says nothing the second time."""
    watch = spy(world)
    client = world.client(connect=watch.connect)
    heard: list[str] = []
    key = world.publisher.mint()
    client.activate(key, consent=True, progress=heard.append)
    assert heard
    assert client.activate(key, consent=True).state == "licensed"
    assert client.activate().state == "licensed"
    assert len(watch.sent) == 1


def test_the_applications_version_is_told(world: World) -> None:
    """`version` of the application appears among the facts."""
    watch = spy(world)
    client = world.client(connect=watch.connect)
    client._version = "7.4.1"
    client.activate(world.publisher.mint(), consent=True)
    assert documents.read_request(watch.sent[0])[0].facts["product_version"] == "7.4.1"


@pytest.mark.parametrize(
    ("outcome", "told"), [((True, None), "succeeded"), ((False, "E1603"), "failed E1603"), ((True, "3010"), "succeeded 3010")]
)
def test_a_reported_installation_is_in_the_next_request(world: World, outcome: tuple[bool, str | None], told: str) -> None:
    """`report_installation` is kept and told at the next activation; without one the fact says so."""
    watch = spy(world)
    client = world.client(connect=watch.connect)
    client.report_installation(*outcome)
    client.activate(world.publisher.mint(), consent=True)
    assert documents.read_request(watch.sent[0])[0].facts["installation_outcome"] == told
    other = world.client(connect=watch.connect)
    other.activate(world.publisher.mint(), consent=True)
    assert "unavailable" in documents.read_request(watch.sent[1])[0].facts["installation_outcome"]


REFUSALS = (
    "key_unknown", "key_blocked", "limit_reached", "hardware_ambiguous", "move_limit_reached", "weak_evidence_refused",
    "ephemeral_refused", "host_required", "service_unreachable", "service_unready", "tls_untrusted", "answer_unexpected",
)  # fmt: skip


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_has_its_code_and_remedy_and_changes_nothing(world: World, code: str) -> None:
    """Whatever the service says no to, the application gets the catalogue's code and remedy, and grace goes on."""
    client = world.refused(code)
    with pytest.raises(KeyturnError) as error:
        client.activate(world.publisher.mint(), consent=True)
    assert (error.value.code, error.value.remedy) == (code, CATALOGUE[code].remedy)
    assert client.status().state == "initial_grace"


def test_a_mistyped_key_changes_nothing(world: World) -> None:
    """An installed key and license stay as they are when another key is given with a typo."""
    client = world.licensed()
    before = client.status()
    key = world.publisher.mint()
    wrong = key[:-1] + ("3" if key[-1] != "3" else "4")
    with pytest.raises(KeyturnError) as error:
        client.activate(wrong, consent=True)
    assert (error.value.code, error.value.exit) == ("key_mistyped", 4)
    assert client.status() == before


def test_without_a_key_there_is_nothing_to_activate(world: World) -> None:
    """`activate()` without a key ever given says `key_missing`."""
    with pytest.raises(KeyturnError) as error:
        world.client().activate(consent=True)
    assert error.value.code == "key_missing"


def test_deactivate_returns_the_seat_once(world: World) -> None:
    """The seat is free for another computer; a second return is the same one, and who never had a seat is told so."""
    minted = world.publisher.mint_all()[0]
    client = world.client()
    client.activate(minted["key"], consent=True)
    status = client.deactivate()
    assert (status.state, status.reason, status.features) == ("initial_grace", "released", ())
    other = world.client()
    assert other.activate(minted["key"], consent=True).state == "licensed"
    assert client.deactivate() == status
    assert other.deactivate().reason == "released"
    never = world.client()
    never.status()
    with pytest.raises(KeyturnError) as error:
        never.deactivate()
    assert error.value.code == "release_unknown"


def test_deactivate_while_the_service_is_away_keeps_the_license(world: World) -> None:
    """A service that cannot be reached costs nobody the license."""

    class Away(Line):
        def reach(self) -> None:
            raise KeyturnError("service_unreachable")

    client = world.licensed()
    client._connect = lambda product, environ, **_: Away(product, environ)
    with pytest.raises(KeyturnError) as error:
        client.deactivate()
    assert error.value.code == "service_unreachable"
    assert client.status().state == "licensed"


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


def test_another_publishers_license_in_the_same_store_is_another_products(world: World, false: World, tmp_path: Path) -> None:
    """A store that licenses the false publisher's `sample` leaves the real one unlicensed, also when put in its place."""
    home, machine = tmp_path / "home", world.machine()
    theirs = world.client(product=false.product, home=home, machine=machine, connect=false.publisher.connect)
    assert theirs.activate(false.publisher.mint(), consent=True).state == "licensed"
    ours = world.client(home=home, machine=machine)
    assert ours.status().reason == "not_activated"
    pinned_only = Client(ours.product, home=home, machine=machine)  # Compiled in, with no file to heal the store.
    shelves = {client: next((home / "products").glob(f"*{client.product.thumbprint[:12]}")) for client in (ours, theirs)}
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
    client = Client.from_file(path, test=True, home=tmp_path / "home", machine=world.machine(), connect=world.publisher.connect)
    assert client.product.test
    assert client.activate(world.publisher.mint("mock"), consent=True).state == "licensed"
    assert Client(str(client.product).removesuffix("+test"), test=True).product == client.product


def test_the_real_product_is_not_licensed_by_its_test_twin(world: World, tmp_path: Path) -> None:
    """The name `sample+test` is another product than `sample`, in the same store too."""
    name = ProductName.parse(str(world.client().product))
    client = Client(name._replace(test=True), home=tmp_path / "home", machine=world.machine(), product_file=world.product)
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
    left = []
    for _ in range(4):
        left.append(copy.status().days_left)
        world.clock.advance(days=10)
    assert left == [30, 20, 10, 0]
    with pytest.raises(NotLicensed):
        copy.require()


# Over the real network.


@pytest.mark.system
def test_over_https_with_the_real_service(tmp_path: Path) -> None:
    """From the exported file to the returned seat: the SDK talks TLS to the real program, and needs it only then."""
    publisher = programs.Publisher(tmp_path / "publisher")
    try:
        path = publisher.product("paintbox", "--test", "--edition", "pro", "--feature", "layers:pro", "--mode", "enforce")
        key = publisher.mint("paintbox", "--edition", "pro")[0]
        sysroot = programs.computer(tmp_path / "computer", "office-pc-a")
        machine = Machine({"HOME": str(tmp_path), "KEYTURN_SYSROOT": str(sysroot)})
        client = Client.from_file(path, test=True, home=tmp_path / "home", machine=machine, version="2.0")
        assert client.require("layers").state == "initial_grace"
        with pytest.raises(KeyturnError) as error:
            client.activate(key["key"], consent=True)
        assert (error.value.code, error.value.exit) == ("service_unreachable", 3)
        heard: list[str] = []
        with publisher.running():
            assert client.activate(consent=True, progress=heard.append).state == "licensed"
            assert publisher.seats(key["serial"]) == 1
        assert any(publisher.url in line for line in heard)
        assert client.require("layers").edition == "pro"
        with pytest.raises(KeyturnError) as error:
            client.deactivate()
        assert error.value.code == "service_unreachable"
        assert client.require().state == "licensed"
        with publisher.running():
            assert client.deactivate().reason == "released"
            assert publisher.seats(key["serial"]) == 0
    finally:
        publisher.close()
