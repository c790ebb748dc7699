"""A host's own certificate, its home, and who sees its page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hosts import Organization, filled, refusal, renew
from keyturn.core import containers, jws
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import DAY
from keyturn.edge import files, keystore, sodium
from keyturn.host import enrolling, home
from keyturn.host.app import build
from keyturn.host.home import HostHome
from keyturn.host.leasing import LeasingHost
from keyturn.service import theft
from keyturn.testing import World
from keyturn.testing.computers import synthetic
from keyturn.testing.world import Chance


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world", threshold=3)
    yield made
    made.close()


def enrolled(organization: Organization, folder: Path) -> tuple[HostHome, Any, str, dict[str, Any]]:
    """A home with a key, its request, and the publisher's answer to it."""
    world = organization.world
    home.initialise(folder, "22222222-0000-4000-8000-000000000001", world.clock())
    home.add_product(folder, world.product)
    opened = HostHome(folder, {})
    (permit,) = opened.permits.values()
    enrolling.install_key(permit, organization.host_key["key"])
    machine = organization.machine(synthetic(950), Chance(str(folder)))
    token = enrolling.make_request(opened, permit, machine)
    answer = world.publisher.service.exchange(token)
    assert isinstance(answer, dict)
    return opened, machine, token, answer


def test_what_a_stolen_key_honestly_signed_for_a_host_is_proven(organization: Organization, tmp_path: Path) -> None:
    """Its leaf in the tree is of the certificate that the host holds."""
    _, _, _, answer = enrolled(organization, tmp_path / "one")
    service = organization.world.publisher.service
    kid = jws.read_header(answer["host"], Kind.HOST).kid
    theft.fix(service.database, kid)
    proven = service.database.read(lambda db: theft.proofs(db, kid))
    assert jws.digest(answer["host"]) in proven


def test_a_host_takes_the_answer_to_its_own_request_only(organization: Organization, tmp_path: Path) -> None:
    """Another host's certificate, one for an older request, another kind, another publisher's: refused, and nothing is kept."""
    opened, machine, token, answer = enrolled(organization, tmp_path / "one")
    _, _, _, others = enrolled(organization, tmp_path / "two")
    (permit,) = opened.permits.values()
    claims = jws.loads(jws.payload_of(answer["host"]))
    thief = sodium.signer(bytes(range(32)))
    stranger = World(tmp_path / "stranger", publisher="Stranger", threshold=3)
    theirs = enrolled(Organization(stranger), tmp_path / "three")[3]
    stranger.close()
    forged = {
        "another host's": others["host"],
        "self-made": jws.sign(Kind.HOST, claims, thief.public, thief.sign),
        "by the host itself": jws.sign(Kind.HOST, claims, opened.signer.public, opened.signer.sign),
        "another publisher's": theirs["host"],
        "a lease": jws.sign(Kind.LEASE, claims, opened.signer.public, opened.signer.sign),
    }
    for what, host_token in forged.items():
        code = refusal(enrolling.accept, opened, permit, {**answer, "host": host_token}, machine, via="online")
        assert code in ("document_foreign", "trust_invalid", "document_malformed", "signature_invalid"), what
    files.write_json(permit.folder / "pending.json", {"v": 1, "request": token})
    done = enrolling.accept(opened, permit, answer, machine, via="online")
    assert done.certificate is not None and done.certificate.public == opened.signer.public
    assert refusal(lambda: enrolling.accept(opened, done, answer, machine, via="online")) == "document_foreign"


def test_a_waiting_request_is_found_again(organization: Organization, tmp_path: Path) -> None:
    """The same bytes, however often it is asked for; another after the answer."""
    opened, machine, token, answer = enrolled(organization, tmp_path / "one")
    (permit,) = opened.permits.values()
    assert enrolling.make_request(opened, permit, machine) == token
    done = enrolling.accept(opened, permit, answer, machine, via="online")
    assert enrolling.make_request(opened, done, machine) != token


def test_renewal_is_due_after_a_third_and_the_end_is_told_thirty_days_ahead(
    organization: Organization, host: LeasingHost, world: World
) -> None:
    (permit,) = host.home.permits.values()
    assert permit.certificate is not None
    began = permit.certificate.issued_at
    assert enrolling.due_at(permit) == began + 30 * DAY
    assert enrolling.warning(permit, began + 59 * DAY) is None
    assert "ends in 30 days" in (enrolling.warning(permit, began + 60 * DAY) or "")
    assert "has ended" in (enrolling.warning(permit, began + 91 * DAY) or "")


def test_a_lease_is_sent_again_beside_the_certificate_of_its_time(
    organization: Organization, host: LeasingHost, world: World
) -> None:
    """The host renewed its certificate between the two: the repeated answer still verifies."""
    computer = filled(organization, host)[0]
    token = computer.request()
    first = host.exchange(token)
    world.clock.advance(days=31)
    renew(organization, host)
    again = host.exchange(token)
    assert isinstance(first, dict) and isinstance(again, dict)
    assert (again["lease"], again["host"]) == (first["lease"], first["host"])
    computer.take(token, again)
    renewed = computer.ask(host)
    assert isinstance(renewed, dict)
    assert renewed["host"] != first["host"]


def test_a_running_host_takes_a_certificate_that_a_command_brought(
    organization: Organization, host: LeasingHost
) -> None:
    """Another process's view of the same home."""
    running = HostHome(host.home.path, {})
    assert not running.refresh()
    organization.world.clock.advance(days=1)
    renew(organization, host)
    assert running.refresh()
    (seen,) = running.permits.values()
    assert len(seen.tokens) == 2


def test_a_key_of_another_channel_is_named(organization: Organization, host: LeasingHost) -> None:
    (permit,) = host.home.permits.values()
    with pytest.raises(KeyturnError, match="channel client"):
        enrolling.install_key(permit, organization.client_key["key"])


def test_the_host_key_is_its_owners_alone(host: LeasingHost) -> None:
    """Mode 0600 for the key, K and settings; a key that others can read is refused."""
    (permit,) = host.home.permits.values()
    for place in (
        host.home.path / "host.key",
        permit.folder / "key.json",
        host.home.path / "host.toml",
        host.home.path / "host.db",
    ):
        assert place.stat().st_mode & 0o077 == 0, place
    (host.home.path / "host.key").chmod(0o644)
    with pytest.raises(KeyturnError, match="can be read by others"):
        keystore.load(host.home.path / "host.key")


def test_another_programs_home_is_refused(world: World) -> None:
    with pytest.raises(KeyturnError) as raised:
        HostHome(world.folder / "publisher", {})
    assert raised.value.code == "home_foreign"


# --- who may look ---


@pytest.mark.parametrize(
    ("address", "setting", "status"),
    [("127.0.0.1", "loopback", 200), ("::ffff:127.0.0.1", "loopback", 200), ("::1", "loopback", 200),
     ("192.0.2.7", "loopback", 403), ("", "loopback", 403), ("192.0.2.7", "everyone", 200)],
)  # fmt: skip
def test_page_and_figures_are_for_this_computer_unless_the_setting_says_otherwise(
    host: LeasingHost, address: str, setting: str, status: int
) -> None:
    """By the address of the connection, which no header changes."""
    host.home.settings = host.home.settings._replace(observers=setting)
    served = build(host, lambda _event, _fields: None, place="host.example:8444")

    async def get(path: str) -> int:
        said: list[Any] = []
        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "http_version": "1.1",
            "headers": [(b"host", b"x"), (b"x-forwarded-for", b"127.0.0.1")], "client": (address, 1) if address else None,
        }  # fmt: skip

        async def send(message: Any) -> None:
            said.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        await served(scope, receive, send)
        return int(said[0]["status"])

    assert [asyncio.run(get(path)) for path in ("/", "/metrics", "/healthz", "/.well-known/keyturn-host")] == [
        status,
        status,
        200,
        200,
    ]


def test_product_files_continue_one_history(organization: Organization, host: LeasingHost, tmp_path: Path) -> None:
    """The same file again changes nothing; a false publisher's file of the same slug is another product."""
    _, new = home.add_product(host.home.path, organization.world.product)
    assert not new
    stranger = World(tmp_path / "stranger", publisher="Stranger")
    home.add_product(host.home.path, stranger.product)
    stranger.close()
    host.home.refresh()
    assert len(host.home.permits) == 2
    assert refusal(lambda: host.home.permit("sample")) == "product_ambiguous"
    assert containers.open_product(json.loads(organization.world.product)).product.name in host.home.permits
