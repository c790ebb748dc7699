"""An activation host with its real ledger, certified by a real publisher: leases, copies, its own certificate, other hosts."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hosts import Computer, Organization
from keyturn.core import containers, documents, hosting, jws
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.jws import Kind
from keyturn.core.model import DAY
from keyturn.edge import files, keystore, sodium
from keyturn.edge.together import Together
from keyturn.host import enrolling, figures, home, ledger, sightings
from keyturn.host.app import build
from keyturn.host.home import HostHome
from keyturn.host.leasing import LeasingHost
from keyturn.testing import World
from keyturn.testing.computers import synthetic
from keyturn.testing.world import Chance, DirectLine


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world", threshold=3)
    yield made
    made.close()


@pytest.fixture
def organization(world: World) -> Organization:
    return Organization(world)


@pytest.fixture
def host(organization: Organization) -> Iterator[LeasingHost]:
    made = organization.host()
    yield made
    made.database.close()


def filled(organization: Organization, host: LeasingHost, count: int = 3) -> list[Computer]:
    """So many computers, all licensed."""
    computers = [organization.computer(number) for number in range(count)]
    for computer in computers * 2:
        try:
            computer.ask(host)
        except KeyturnError as error:
            assert error.code == "threshold_not_met"  # noqa: PT017 - the others are licensed
    assert all(computer.held for computer in computers)
    return computers


def renew(organization: Organization, host: LeasingHost) -> None:
    """A new certificate from the publisher, at the clock's time."""
    publisher = organization.world.publisher
    publisher.rotate()
    (permit,) = host.home.permits.values()
    machine = organization.machine(synthetic(901), Chance(str(organization.world.clock())))
    line = DirectLine(publisher.service, permit.opened.product, None)
    assert not isinstance(enrolling.exchange(host.home, permit, machine, line.send), Refused)


def product(host: LeasingHost) -> dict[str, Any]:
    (permit,) = host.home.permits.values()
    return host.database.read(lambda db: figures.product(db, permit, host.clock()))


def forks(host: LeasingHost) -> list[dict[str, Any]]:
    (permit,) = host.home.permits.values()
    return host.database.read(lambda db: figures.forks(db, permit))


def refusal(act: Callable[..., object], *arguments: Any, **named: Any) -> str:
    try:
        found = act(*arguments, **named)
    except KeyturnError as error:
        return error.code
    return found.code if isinstance(found, Refused) else "taken"


# --- leases ---


def test_below_the_threshold_it_says_how_many_more_and_when_to_come_back(
    organization: Organization, host: LeasingHost
) -> None:
    """The problem has the figures for programs; the answer that tips it has the lease with its host certificate."""
    told = []
    for number in range(2):
        with pytest.raises(KeyturnError) as raised:
            organization.computer(number).ask(host)
        told.append((raised.value.code, raised.value.retry_after, dict(raised.value.data)))
    assert told == [
        ("threshold_not_met", 7200, {"counted": 1, "threshold": 3, "needed": 2}),
        ("threshold_not_met", 7200, {"counted": 2, "threshold": 3, "needed": 1}),
    ]
    answer = organization.computer(2).ask(host)
    assert isinstance(answer, dict)
    assert answer.keys() == {
        "v",
        "lease",
        "host",
        "bundles",
        "server_time",
        "renew_after",
        "counted",
        "threshold",
        "number",
    }
    assert (answer["number"], answer["threshold"], answer["counted"], answer["renew_after"]) == (3, 3, 3, 7 * DAY)
    assert {name: product(host)[name] for name in ("counted", "licensed", "needed", "forks", "waiting")} == {
        "counted": 3, "licensed": 1, "needed": 0, "forks": 0, "waiting": 2,
    }  # fmt: skip


def test_the_same_request_gets_the_same_bytes(organization: Organization, host: LeasingHost, world: World) -> None:
    """Also from another process later, on the same home; a repetition after its lease was shown is told that it is late."""
    computer = filled(organization, host)[0]
    token = computer.request()
    answer = host.exchange(token)
    assert isinstance(answer, dict)
    world.clock.advance(days=1)
    again = LeasingHost(HostHome(host.home.path, {}), host.database, clock=world.clock, chance=Chance("another"))
    repeated = again.exchange(token)
    assert isinstance(repeated, dict) and repeated["lease"] == answer["lease"]
    computer.take(token, answer)
    world.clock.advance(days=7)
    computer.ask(host)
    assert refusal(lambda: host.exchange(token)) == "request_superseded"
    assert forks(host) == []


def test_the_ledger_keeps_no_lease_that_was_shown(organization: Organization, host: LeasingHost, world: World) -> None:
    """A year of renewals leaves as many rows as the first day: nothing grows but by computers."""
    computers = filled(organization, host)
    for week in range(52):
        world.clock.advance(days=7)
        if week % 5 == 4:
            renew(organization, host)
        for computer in computers:
            computer.ask(host)
    rows = host.database.read(
        lambda db: {
            t: db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("computer", "installation", "lease")
        }
    )
    assert rows == {"computer": 3, "installation": 3, "lease": 3}
    assert [c.held.certificate.seat for c in computers if c.held] == [1, 2, 3]


def test_nobody_makes_the_ledger_grow_by_asking(organization: Organization, host: LeasingHost, world: World) -> None:
    """Fifty requests, every answer lost: sixteen rows at most; the next answer that arrives is good, and nobody is a copy."""
    computer = filled(organization, host)[0]
    for _ in range(50):
        world.clock.advance(seconds=60)
        computer.ask(host, lost=True)
    rows = host.database.read(
        lambda db: [row[0] for row in db.execute("SELECT count(*) FROM lease GROUP BY thumbprint")]
    )
    assert max(rows) == 16
    for _ in range(3):
        world.clock.advance(days=7)
        assert "lease" in computer.ask(host)
    assert forks(host) == []


def test_half_the_year_between_two_contacts_is_enough(
    organization: Organization, host: LeasingHost, world: World
) -> None:
    """Asked on 1 January and 1 July only, a computer has a running lease on every day between."""
    computers = filled(organization, host)
    for _ in range(3):
        world.clock.advance(days=184)
        renew(organization, host)
        for computer in computers:
            assert computer.held is not None and (computer.held.certificate.expires_at or 0) > world.clock()
            computer.ask(host)


def test_reinstallations_stay_one_computer(organization: Organization, host: LeasingHost) -> None:
    """Same hardware, new key: the same number, no second count."""
    computer = filled(organization, host)[1]
    computer.reinstall()
    computer.ask(host)
    assert computer.held is not None and computer.held.certificate.seat == 2
    assert product(host)["counted"] == 3


def test_a_lapsed_host_gives_no_lease_and_an_unknown_product_is_told(
    organization: Organization, host: LeasingHost, world: World
) -> None:
    computer = filled(organization, host)[0]
    world.clock.advance(days=91)
    assert refusal(lambda: computer.ask(host)) == "host_lapsed"
    host.home.permits.clear()
    assert refusal(lambda: computer.ask(host)) == "product_unknown"


def test_newer_trust_bundles_travel_with_leases(organization: Organization, host: LeasingHost) -> None:
    """A computer that says it knows fewer gets the rest."""
    computer = filled(organization, host)[0]
    answer = host.exchange(computer.request(bundle=0))
    assert isinstance(answer, dict)
    assert answer["bundles"] == list(computer.chain.texts)


@pytest.mark.parametrize("what", ["signature", "kind", "size", "everybody's key"])
def test_a_request_that_does_not_verify_is_no_request(organization: Organization, host: LeasingHost, what: str) -> None:
    computer = organization.computer(1)
    token = computer.request()
    if what == "signature":
        token = token[:-8] + ("A" * 8 if not token.endswith("A" * 8) else "B" * 8)
    elif what == "kind":
        claims = jws.loads(jws.payload_of(token))
        token = jws.sign(Kind.RELEASE, claims, computer.signer.public, computer.signer.sign, own=True)
    elif what == "size":
        token = "a" * 20_000
    else:  # A key of small order: a signature of zeros holds for any message, in a library that does not look.
        token = jws.sign(
            Kind.REQUEST,
            jws.loads(jws.payload_of(token)),
            bytes([1] + [0] * 31),
            lambda _m: bytes([1] + [0] * 63),
            own=True,
        )
    assert refusal(lambda: host.exchange(token)) in ("signature_invalid", "document_malformed", "input_too_large")
    assert product(host)["computers"] == 0


def test_what_is_long_gone_is_forgotten(organization: Organization, host: LeasingHost, world: World) -> None:
    """400 days after it was last seen, a computer without a running lease leaves the ledger with all its rows."""
    filled(organization, host)
    world.clock.advance(days=300)
    assert host.database.write_now(lambda db: ledger.forget(db, world.clock())) == 0
    world.clock.advance(days=101)
    assert host.database.write_now(lambda db: ledger.forget(db, world.clock())) == 3
    left = host.database.read(
        lambda db: [
            db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("computer", "installation", "lease", "pair")
        ]
    )
    assert left == [0, 0, 0, 0]


def test_no_request_reads_the_whole_ledger(organization: Organization, host: LeasingHost) -> None:
    """Every statement of a lease finds its rows by an index: the plan of none scans a table of computers."""
    said: list[str] = []
    host.database.write_now(lambda db: db.set_trace_callback(said.append))
    filled(organization, host)[0].ask(host)
    host.database.write_now(lambda db: db.set_trace_callback(None))

    def scans(db: sqlite3.Connection) -> list[str]:
        plans = [
            (line, row["detail"])
            for line in said
            if line.startswith(("SELECT", "WITH", "UPDATE", "DELETE", "INSERT"))
            for row in db.execute(f"EXPLAIN QUERY PLAN {line}")
        ]
        assert len(plans) > 20
        # What a statement brings itself may be read whole: the request's own pairs, and no more of the recent than are needed.
        own = re.compile(r"SCAN (w\b|\(subquery|\d+ CONSTANT)")
        return [f"{detail}: {line}" for line, detail in plans if detail.startswith("SCAN") and not own.match(detail)]

    assert host.database.write_now(scans) == []


# --- copies ---


def test_an_image_on_ten_computers_is_ten_computers_and_nine_forks(
    organization: Organization, host: LeasingHost
) -> None:
    """Each copy is told to become itself, both are named, and it is a computer of its own when it asks next."""
    original = filled(organization, host)[0]
    copies = [original.copy(hardware_of=number) for number in range(10, 19)]
    for copy in copies:
        token = copy.request()
        answer = host.exchange(token)
        assert isinstance(answer, dict) and answer.keys() == {"v", "identity", "server_time"}
        (permit,) = host.home.permits.values()
        assert permit.certificate is not None
        told = hosting.verify_identity(
            answer["identity"], permit.certificate, documents.read_request(token)[0], jws.digest(token)
        )
        assert told.reason == "other_hardware"
        assert host.exchange(token) == answer
        copy.take(token, answer)
    assert [fork["resolved"] for fork in forks(host)] == [False] * 9
    for copy in copies:
        copy.ask(host)
    found = forks(host)
    assert [(fork["computer"], fork["resolved"]) for fork in found] == [(1, True)] * 9
    assert sorted(fork["copy"] for fork in found) == list(range(4, 13))
    assert product(host) | {"counted": 12, "licensed": 12, "forks": 9} == product(host)


def test_a_copy_that_asks_often_is_one_copy(organization: Organization, host: LeasingHost, world: World) -> None:
    """Its answer may be lost as often as it likes: the identity stays the same."""
    original = filled(organization, host)[0]
    copy = original.copy(hardware_of=20)
    told = set()
    for _ in range(5):
        world.clock.advance(seconds=60)
        answer = host.exchange(copy.request())
        assert isinstance(answer, dict)
        told.add(jws.loads(jws.payload_of(answer["identity"]))["installation"])
    assert len(told) == len(forks(host)) == 1


def test_an_identity_is_for_one_request_only(organization: Organization, host: LeasingHost) -> None:
    original = filled(organization, host)[0]
    copy = original.copy(hardware_of=20)
    token = copy.request()
    answer = host.exchange(token)
    (permit,) = host.home.permits.values()
    assert isinstance(answer, dict) and permit.certificate is not None
    another = copy.request()
    with pytest.raises(KeyturnError) as raised:
        hosting.verify_identity(
            answer["identity"], permit.certificate, documents.read_request(another)[0], jws.digest(another)
        )
    assert raised.value.code == "document_foreign"


# --- its own certificate ---


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


# --- several hosts ---


def told(one: LeasingHost, other: LeasingHost, since: int = 0) -> int:
    """``one`` tells ``other`` what it saw; the result is how many were new there."""
    (permit,) = one.home.permits.values()
    now = one.clock()
    found = one.database.read(lambda db: sightings.seen(db, permit, since, now))

    async def tell() -> int:
        together = Together(other.database)
        answers = [
            await sightings.take(other, body.decode(), together.write)
            for body in sightings.documents(one.home, permit, "one.example:8444", found, now)
        ]
        return sum(answer["new"] for answer in answers)

    return asyncio.run(tell())


def test_the_count_does_not_split_between_hosts(organization: Organization) -> None:
    """Two computers ask one host and one the other: below three each, and three together."""
    first, second = organization.host(), organization.host()
    a, b, c = (organization.computer(number) for number in range(3))
    asked = [refusal(x.ask, at) for x, at in ((a, first), (b, first), (c, second))]
    assert asked == ["threshold_not_met"] * 3
    assert told(first, second) == 2
    assert told(first, second) == 0  # Told twice, counted once.
    assert product(second)["counted"] == 3
    c.ask(second)
    assert told(second, first) == 1  # What it was told itself, it does not pass on.
    assert product(first)["counted"] == product(second)["counted"] == 3
    assert [type(x.ask(h)) for x, h in ((a, first), (b, second), (a, second))] == [dict] * 3
    assert product(second)["computers"] == 3
    assert forks(first) == forks(second) == []
    assert second.database.read(figures.others)[0]["host"] == "one.example:8444"
    for each in (first, second):
        each.database.close()


def test_sightings_are_taken_from_hosts_of_the_organization_only(organization: Organization, world: World) -> None:
    """Another organization's host, a certificate that was copied from another host, another time: nothing is counted."""
    ours, fellow = organization.host(), organization.host()
    foreign = Organization(world, "globex").host()
    (permit,), (theirs,) = ours.home.permits.values(), foreign.home.permits.values()
    found = [sightings.Sighting(f"c{n}", f"thumb-{n}", "guid", {}, world.clock()) for n in range(5)]

    def take(bodies: Iterator[bytes]) -> str:
        return refusal(lambda: asyncio.run(sightings.take(ours, next(bodies).decode(), Together(ours.database).write)))

    now = world.clock()
    assert take(sightings.documents(foreign.home, theirs, "x", found, now)) == "host_untrusted"
    assert (
        take(sightings.documents(foreign.home, permit, "x", found, now)) == "host_untrusted"
    )  # Our certificate, their key.
    assert take(sightings.documents(fellow.home, permit, "x", found, now)) == "host_untrusted"
    (own,) = fellow.home.permits.values()
    assert take(sightings.documents(fellow.home, own, "x", found, now - 2 * DAY)) == "document_expired"
    assert product(ours)["counted"] == 0
    assert take(sightings.documents(fellow.home, own, "x", found, now)) == "taken"
    assert product(ours)["counted"] == 5
    for each in (ours, fellow, foreign):
        each.database.close()


# --- planted bugs ---


def test_a_ledger_that_keeps_rivals_would_be_noticed(
    organization: Organization, host: LeasingHost, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were a lease that was never shown kept beside the one that was, a restored snapshot would be renewed for ever."""

    def plays() -> bool:
        original = organization.computer(40 + len(forks(host)))
        original.ask(host)
        original.ask(host)
        twin = original.copy()
        original.ask(host)
        twin.ask(host)
        world.clock.advance(seconds=1)
        original.ask(host)
        world.clock.advance(seconds=1)
        return "identity" in twin.ask(host)

    filled(organization, host)
    assert plays()
    real = ledger.keep_lease
    monkeypatch.setattr(ledger, "keep_lease", lambda *args, shown: real(*args, shown=False))
    assert not plays()


def test_a_host_that_forgets_to_look_for_hardware_would_be_noticed(
    organization: Organization, host: LeasingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were pairs not looked up, a computer that is installed anew would count twice."""
    computer = filled(organization, host)[0]
    monkeypatch.setattr(ledger, "alike", lambda *_: [])
    computer.reinstall()
    computer.ask(host)
    assert product(host)["computers"] == 4


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
