"""An activation host with its real ledger, certified by a real publisher: who gets a lease, and what is kept of it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from hosts import Organization, filled, forks, product, refusal, renew
from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import DAY
from keyturn.host import ledger
from keyturn.host.home import HostHome
from keyturn.host.leasing import LeasingHost
from keyturn.testing import World
from keyturn.testing.world import Chance


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world", threshold=3)
    yield made
    made.close()


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
        # Who counts reads the index alone: with it every row of the ledger would be read, once in ten seconds.
        counting = [detail for _, detail in plans if "computer_counted" in detail]
        assert counting and all("COVERING INDEX" in detail for detail in counting)
        # What a statement brings itself may be read whole: the request's own pairs, and no more of the recent than are needed.
        own = re.compile(r"SCAN (w\b|\(subquery|CONSTANT ROW|\d+ CONSTANT)")
        return [f"{detail}: {line}" for line, detail in plans if detail.startswith("SCAN") and not own.match(detail)]

    assert host.database.write_now(scans) == []


def test_a_host_that_forgets_to_look_for_hardware_would_be_noticed(
    organization: Organization, host: LeasingHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were pairs not looked up, a computer that is installed anew would count twice."""
    computer = filled(organization, host)[0]
    monkeypatch.setattr(ledger, "_shared", lambda *_: {})
    computer.reinstall()
    computer.ask(host)
    assert product(host)["computers"] == 4
