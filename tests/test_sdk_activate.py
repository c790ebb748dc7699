"""The SDK's `activate` and `deactivate`: consent, what is sent, refusals, faults, and the real service over TLS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import programs
from keyturn import Client, KeyturnError
from keyturn.client.machine import Machine
from keyturn.core import documents
from keyturn.core.documents import ProductFile
from keyturn.core.errors import CATALOGUE
from keyturn.flows.exchange import Line
from keyturn.testing import World


class Spy(NamedTuple):
    """A way to the service that counts what passes."""

    sent: list[str]
    connect: Callable[..., Line]


def spy(world: World) -> Spy:
    sent: list[str] = []

    def connect(product: ProductFile, environ: Mapping[str, str], **options: Any) -> Line:
        line = world.publisher.connect(product, environ, **options)
        inner = line.send

        def send(document: str, *, ask: bool = False, by_file: bool = False) -> Any:
            sent.append(document)
            return inner(document, ask=ask, by_file=by_file)

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
    ("outcome", "told"),
    [((True, None), "succeeded"), ((False, "E1603"), "failed E1603"), ((True, "3010"), "succeeded 3010")],
)
def test_a_reported_installation_is_in_the_next_request(
    world: World, outcome: tuple[bool, str | None], told: str
) -> None:
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


# Over the real network.


@pytest.mark.system
def test_over_https_with_the_real_service(tmp_path: Path) -> None:
    """From the exported file to the returned seat: the SDK talks TLS to the real program, and needs it only then."""
    publisher = programs.Publisher(tmp_path / "publisher")
    try:
        path = publisher.product(
            "paintbox", "--test", "--edition", "pro", "--feature", "layers:pro", "--mode", "enforce"
        )
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
