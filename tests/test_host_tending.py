"""What a running host does by itself: its certificate, its name in DNS, other hosts; and that no failure of it stops a lease."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hosts import Organization, Program
from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY
from keyturn.core.srv import Place
from keyturn.edge import discovery, listen, tls
from keyturn.host import enrolling, peers, publishing, sightings, tending
from keyturn.host.app import build
from keyturn.host.leasing import LeasingHost
from keyturn.host.tending import Tender
from keyturn.testing import Clock, World
from keyturn.testing.computers import synthetic
from keyturn.testing.world import Chance, DirectLine


@pytest.fixture
def organization(tmp_path: Path) -> Iterator[Organization]:
    world = World(tmp_path / "world", threshold=2, clock=Clock(int(time.time())))
    yield Organization(world)
    world.close()


@pytest.fixture
def host(organization: Organization) -> Iterator[LeasingHost]:
    made = organization.host()
    yield made
    made.database.close()


class Log:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, object]]] = []

    def __call__(self, event: str, fields: Mapping[str, object]) -> None:
        self.events.append((event, fields))

    @property
    def names(self) -> list[str]:
        return [event for event, _ in self.events]


def tender(organization: Organization, host: LeasingHost, log: Log) -> Tender:
    machine = organization.machine(synthetic(901), Chance("tender"))
    return Tender(host, machine, log, port=8444, environ={})


# --- its certificate ---


def test_the_certificate_is_renewed_by_itself_after_a_third_of_its_time(
    organization: Organization, host: LeasingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before; then daily until it succeeds. Thirty days ahead of the end it is said that it ends."""
    world, log = organization.world, Log()
    tending_host = tender(organization, host, log)
    away = True

    def line(product: Any, _environ: Any) -> DirectLine:
        if away:
            raise KeyturnError("service_unreachable", "no way there")
        return DirectLine(world.publisher.service, product, None)

    monkeypatch.setattr(tending, "Line", line)
    (before,) = host.home.permits.values()
    assert before.certificate is not None
    for _ in range(29):
        tending_host.turn()
        world.clock.advance(days=1)
    assert log.names == []
    for _ in range(3):
        world.clock.advance(days=1)
        tending_host.turn()
        tending_host.turn()  # Once a day, however often it is looked.
    assert log.names == ["renewal_failed"] * 3
    world.clock.advance(days=30)
    tending_host.turn()
    assert log.names[3:] == ["renewal_failed", "certificate_ending"]
    away = False
    world.publisher.rotate()
    world.clock.advance(days=1)
    tending_host.turn()
    assert log.names[5] == "certificate_renewed"
    (after,) = host.home.permits.values()
    assert after.certificate is not None
    assert after.certificate.expires_at == world.clock() + 90 * DAY
    assert enrolling.warning(after, world.clock()) is None


def test_a_job_that_fails_stops_no_other(
    organization: Organization, host: LeasingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyturnError("dns_unreachable", "no name server")

    log = Log()
    monkeypatch.setattr(publishing, "update_of", fails)
    tending_host = tender(organization, host, log)
    tending_host.turn()
    assert log.events == [("job_failed", {"job": "publish", "code": "dns_unreachable", "detail": "no name server"})]
    assert isinstance(host.exchange(organization_ready(organization, host)), dict)


def organization_ready(organization: Organization, host: LeasingHost) -> str:
    """The request of a computer that will be licensed."""
    with pytest.raises(KeyturnError):
        organization.computer(1).ask(host)
    return organization.computer(2).request()


# --- its name in DNS ---


def test_a_record_is_published_once_a_day_and_withdrawn_at_the_end(
    organization: Organization, host: LeasingHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the key that `tsig-keygen` writes; by a name that others find."""
    key = tmp_path / "tsig.key"
    key.write_text('key "hosts.example" {\n\talgorithm hmac-sha512;\n\tsecret "c2VjcmV0";\n};\n')
    key.chmod(0o600)
    host.home.settings = host.home.settings._replace(
        name="Host.example.test",
        domains=("example.test",),
        update_server="127.0.0.1:5353",
        update_key_file=str(key),
        weight=7,
    )
    done: list[tuple[str, Any, Place]] = []
    monkeypatch.setattr(discovery, "look_up", lambda *_a, **_k: [])
    monkeypatch.setattr(discovery, "publish", lambda update, place: done.append(("publish", update, place)))
    monkeypatch.setattr(discovery, "withdraw", lambda update, place: done.append(("withdraw", update, place)))
    tending_host = tender(organization, host, Log())
    for _ in range(3):
        tending_host.turn()
        organization.world.clock.advance(seconds=DAY // 2)
    tending_host.close()
    assert [what for what, _, _ in done] == ["publish", "publish", "withdraw"]
    _, update, place = done[0]
    assert place == Place("host.example.test", 8444, 0, 7, "named")
    assert (update.server, update.port, update.zone) == ("127.0.0.1", 5353, "example.test")
    assert (update.key_name, update.secret, update.algorithm) == ("hosts.example", "c2VjcmV0", "hmac-sha512")
    key.chmod(0o644)
    with pytest.raises(KeyturnError, match="can be read by others"):
        publishing.update_of(host.home.settings)


@pytest.mark.parametrize("name", ["localhost", "host", "localhost.localdomain"])
def test_a_name_that_nobody_else_finds_is_not_published(name: str) -> None:
    with pytest.raises(KeyturnError, match="not a name by which others find"):
        publishing.publishable(Place(name, 8444))


@pytest.mark.parametrize(
    ("text", "place"),
    [("b.example", ("b.example", 8444)), ("b.example:9000", ("b.example", 9000)), ("[::1]:9000", ("::1", 9000)),
     ("10.0.0.2", ("10.0.0.2", 8444))],
)  # fmt: skip
def test_other_hosts_are_named_with_or_without_a_port(text: str, place: tuple[str, int]) -> None:
    assert peers.named(text)[:2] == place


# --- other hosts, over TLS ---


@pytest.mark.system
def test_hosts_tell_each_other_over_tls(organization: Organization, host: LeasingHost, tmp_path: Path) -> None:
    """What this one saw counts at the other, which is a program of its own."""
    (tmp_path / "other").mkdir()
    other = Program(organization, tmp_path / "other")
    (permit,) = host.home.permits.values()
    with pytest.raises(KeyturnError):
        organization.computer(1).ask(host)
    found = host.database.read(lambda db: sightings.seen(db, permit, 0, host.clock()))
    assert len(found) == 1

    def tell() -> None:
        place = peers.named(other.url.removeprefix("https://"))
        own = Place("one.example", 8444)
        peers.tell(host.home, permit, place, found, own=own, environ={}, clock=host.clock)

    with other:
        tell()
        tell()
        said = other("status").ok().json
        assert (said["products"][0]["counted"], said["products"][0]["needed"]) == (1, 1)
        assert [(one["host"], one["computers"]) for one in said["hosts"]] == [("one.example:8444", 1)]
        with other.line() as line:  # The second computer tips it, at a host that saw only that one itself.
            assert isinstance(other.post(line, organization.computer(2).request()), dict)


def test_an_impostor_with_a_copied_directory_is_told_nothing(
    organization: Organization, host: LeasingHost, tmp_path: Path
) -> None:
    """It has another host's certificate and endorsement, but not the key of the TLS certificate that is vouched for."""
    fellow = organization.host()
    (permit,) = host.home.permits.values()
    said: list[str] = []
    honest = build(fellow, lambda _event, _fields: None, place="fellow.example:8444")

    async def impostor(scope: Any, receive: Any, send: Any) -> None:
        said.append(f"{scope['method']} {scope['path']}")
        await honest(scope, receive, send)

    tls.create_own(tmp_path / "theirs", name="Keyturn activation host", now=host.clock())

    def tell(folder: Path) -> None:
        said.clear()
        with listen.background(impostor, tls_cert=str(folder / "cert.pem"), tls_key=str(folder / "key.pem")) as ready:
            place, own = Place("127.0.0.1", ready.port), Place("one.example", 8444)
            peers.tell(host.home, permit, place, [], own=own, environ={}, clock=host.clock)

    with pytest.raises(KeyturnError) as raised:
        tell(tmp_path / "theirs")
    assert raised.value.code == "host_untrusted"
    assert said == ["GET /.well-known/keyturn-host"]
    tell(fellow.home.path / "tls")
    assert said == ["GET /.well-known/keyturn-host", "POST /v1/sightings"]
    fellow.database.close()
