"""Several hosts of one organization: what they tell each other, and what a computer shows them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hosts import Computer, Organization, Program, filled, forks, product, refusal
from keyturn.core import documents, jws, leasing
from keyturn.core.containers import Opened
from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY
from keyturn.core.srv import Place
from keyturn.edge.together import Together
from keyturn.flows.hosting import HostLine
from keyturn.host import figures, sightings
from keyturn.host.leasing import LeasingHost
from keyturn.testing import Clock, World
from solid.site import Site


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world", threshold=3)
    yield made
    made.close()


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


# --- a host that is gone ---


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Organization]:
    """An organization with a product whose threshold is five."""
    made = World(tmp_path / "five", threshold=5)
    yield Organization(made)
    made.close()


@pytest.mark.parametrize(("before", "after"), [(0, 0), (60, 0), (0, 60)])
def test_who_was_leased_at_another_host_is_renewed_here_at_once(five: Organization, before: int, after: int) -> None:
    """Five were leased at a host that died, and four are left: this one heard of them, also of those seen two months ago."""
    first, second = five.host(), five.host()
    computers = filled(five, first, 5)
    five.world.clock.advance(days=before)
    assert told(first, second) == 5
    five.world.clock.advance(days=after)
    assert product(second)["counted"] == (5 if before + after == 0 else 0)
    assert [item["state"] for item in listed(second)] == ["elsewhere"] * 5
    for computer in computers[:4]:
        held = computer.held
        computer.ask(second)
        assert held is not None and computer.held is not None
        assert computer.held.certificate.activated_at == held.certificate.activated_at
    first.database.close()
    second.database.close()


def test_who_only_waited_elsewhere_waits_here_too(five: Organization) -> None:
    """What is told of a computer without a lease is a count of 30 days, and no more."""
    first, second = five.host(), five.host()
    waiting = five.computer(1)
    assert refusal(waiting.ask, first) == "threshold_not_met"
    assert told(first, second) == 1
    assert refusal(waiting.ask, second) == "threshold_not_met"
    five.world.clock.advance(days=31)
    assert told(first, five.host()) == 0
    first.database.close()
    second.database.close()


def test_a_host_that_tells_no_leases_is_understood(five: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host older than that member: its computers are counted, as before."""
    first, second = five.host(), five.host()
    computers = filled(five, first, 5)
    plain = sightings.Sighting._asdict
    monkeypatch.setattr(
        sightings.Sighting, "_asdict", lambda one: {name: value for name, value in plain(one).items() if name != "leased_at"}
    )
    assert told(first, second) == 5
    assert {item["state"] for item in listed(second)} == {"waiting"}
    assert "lease" in computers[0].ask(second)
    first.database.close()
    second.database.close()


def listed(host: LeasingHost) -> list[dict[str, Any]]:
    (permit,) = host.home.permits.values()
    return host.database.read(lambda db: list(figures.computers(db, permit, host.clock())))


def without_ledger(host: LeasingHost) -> LeasingHost:
    """The same host, restored from its key and its certificates alone."""
    host.database.close()
    for file in host.home.path.glob("host.db*"):
        file.unlink()
    return LeasingHost(host.home, host.home.open_database(), clock=host.clock, chance=host.chance)


@pytest.mark.parametrize("which", ["restored", "another"])
def test_a_lost_ledger_locks_nobody_out(five: Organization, which: str) -> None:
    """Two of five are left, and the ledger is gone: whoever shows its lease is renewed, by any host of the organization."""
    first = five.host()
    computers = filled(five, first, 5)
    five.world.clock.advance(days=60)
    host = without_ledger(first) if which == "restored" else five.host()
    for computer in computers[:2]:
        since = computer.held and computer.held.certificate.activated_at
        assert refusal(computer.ask, host) == "threshold_not_met"
        assert "lease" in computer.ask(host, shows=True)
        assert since == (computer.held and computer.held.certificate.activated_at)
        five.world.clock.advance(days=1)
        computer.ask(host)
    assert refusal(five.computer(70).ask, host) == "threshold_not_met"
    assert (product(host)["licensed"], forks(host)) == (2, [])
    host.database.close()


def test_what_is_shown_makes_nobody_known_but_its_holder(five: Organization, tmp_path: Path) -> None:
    """Another's lease, an older one, another organization's, one that is long over, a half: all of them wait."""
    first = five.host()
    holder, other = filled(five, first, 5)[:2]
    host, stranger = without_ledger(first), five.computer(70)
    globex = Organization(five.world, "globex")
    foreign = globex.host()
    theirs = filled(globex, foreign, 5)[0]

    def waits(computer: Computer, lease: str | None, certificate: str | None, **said: Any) -> bool:
        body = f"{computer.request(**said)}\n{lease}\n{certificate}"
        return refusal(host.exchange, body) == "threshold_not_met"

    assert holder.lease is not None and theirs.lease is not None
    assert waits(stranger, holder.lease, holder.host, previous=jws.digest(holder.lease))
    assert waits(holder, other.lease, other.host)
    assert waits(holder, holder.lease, theirs.host)
    assert waits(holder, theirs.lease, theirs.host, previous=jws.digest(theirs.lease))
    assert waits(holder, holder.lease, "")
    assert waits(holder, "x", "y", previous=jws.digest("x"))
    assert refusal(host.exchange, f"{holder.request()}\n{holder.lease}") == "document_malformed"
    assert refusal(host.exchange, holder.shown(holder.request()) + "\n" + "z" * 16_384) == "input_too_large"
    five.world.clock.advance(days=401)
    late = leasing.shown(
        holder.lease, str(holder.host), documents.read_request(holder.request())[0], holder.signer.kid,
        holder.believes(str(holder.host)), Opened(holder.product, holder.chain, ""), now=five.world.clock(),
    )  # fmt: skip
    assert late is None
    for each in (host, foreign):
        each.database.close()


def test_a_copy_gains_nothing_by_showing_its_originals_lease(five: Organization) -> None:
    """Both have one key: they are one installation, and the second of them is told to become itself."""
    first = five.host()
    original = filled(five, first, 5)[0]
    host = without_ledger(first)
    copy = original.copy(hardware_of=30)
    assert "lease" in original.ask(host, shows=True)
    five.world.clock.advance(days=1)
    assert "identity" in copy.ask(host, shows=True)
    assert refusal(copy.ask, host) == "threshold_not_met"
    assert product(host)["licensed"] == 1
    host.database.close()


def test_clients_show_their_lease_by_themselves(tmp_path: Path) -> None:
    """Real clients: the only host is lost and replaced, two of five computers are left, and both are renewed when they ask."""
    site = Site(tmp_path, threshold=5)
    pcs = [site.pc() for _ in range(5)]
    for pc in pcs * 2:
        pc.attempt()
    site.clock.advance(days=60)
    site.hosts[0].alive = False
    site.hosts.append(site.host())
    for pc in pcs[:2]:
        pc.licensed()
    assert site.pc().attempt() == "threshold_not_met"
    assert site.hosts[1].figures()["licensed"] == 2
    site.close()


@pytest.mark.system
def test_a_lease_is_shown_over_tls_when_it_is_wanted(tmp_path: Path) -> None:
    """The real program without its ledger: a client's line sends the request, is told to wait, and shows the lease."""
    world = World(tmp_path / "world", threshold=2, clock=Clock(int(time.time())))
    (tmp_path / "host").mkdir()
    program = Program(Organization(world), tmp_path / "host")
    with program, program.line() as line:
        organization = program.organization
        holder, other = organization.computer(1), organization.computer(2)
        for computer in (holder, other, holder):
            token = computer.request()
            answer = program.post(line, token)
            if not isinstance(answer, KeyturnError):
                computer.take(token, answer)
    for file in program.home.glob("host.db*"):
        file.unlink()

    def sent(held: tuple[str, str] | None) -> Any:
        place = Place("127.0.0.1", int(program.url.rpartition(":")[2]))
        with HostLine(holder.product, holder.chain, lambda: [place], {}, now=world.clock, held=lambda: held) as line:
            return line.send(token)

    token = holder.request()
    assert holder.lease is not None and holder.host is not None
    with program:
        assert sent(None).code == "threshold_not_met"
        holder.take(token, sent((holder.lease, holder.host)))
        assert program("status").ok().json["products"][0]["licensed"] == 1
    world.close()
