"""Leases per second of an activation host: one process, durable and signed, with few and with many computers in its ledger.

Keeps: a real host with its real ledger and a real certificate, real signed requests, a check of every answer. A ledger's other
computers are written into it as rows. References of the same run as for the service (``measure.service``).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from hosts import Organization, Program
from keyturn.core import containers, hardware, hosting, ids, jws, leasing
from keyturn.core.documents import FACTS, Request, read_request
from keyturn.core.errors import Refused
from keyturn.core.jws import Kind
from keyturn.core.leasing import Granted, Waiting
from keyturn.core.model import DAY, Channel, b64u, product_id
from keyturn.edge import sodium
from keyturn.edge.database import Database
from keyturn.edge.statements import write_rows
from keyturn.edge.together import Together
from keyturn.host import ledger
from keyturn.host.home import HostHome
from keyturn.host.leasing import LeasingHost
from keyturn.testing import Clock, World
from measure.rows import Row
from measure.service import LOADGEN, Served, ceiling, commits, sent

PART = "Leases of an activation host"
SIZES = (1_000, 200_000)
ROUND = 1_000  # Requests of one measurement.
ROUNDS = 3
CONNECTIONS = 64
_SLOTS = ("uuid", "board", "disk", "nic")
_FACTS = {name: f"some {name.replace('_', ' ')}" for name in FACTS}


class Box:
    """A computer: its key, its hardware, and the lease that it holds."""

    def __init__(self, fleet: Fleet) -> None:
        chance, self._fleet = fleet.chance, fleet
        self.signer = sodium.signer(chance.randbytes(32))
        self.guid = f"{chance.randbytes(4).hex()}-0000-4000-8000-{chance.randbytes(6).hex()}"
        self.pairs = hardware.pairs({slot: chance.randbytes(8).hex() for slot in _SLOTS}, fleet.product)
        self.lease: str | None = None
        self.activation: str | None = None

    def request(self) -> str:
        """Its next request, signed."""
        fleet = self._fleet
        request = Request(
            product=fleet.product, product_id=fleet.product_id, serial=fleet.serial, key_proof="x" * 43, installation=self.guid,
            nonce=b64u(fleet.chance.randbytes(16)), made_at=int(time.time()), scheme=hardware.SCHEME, pairs=self.pairs, tags={},
            commitment="c" * 43, facts=_FACTS, state=2, previous=self.lease, activation=self.activation, vm=None, container=None,
            ephemeral=False, allow_ephemeral=False, bundle=fleet.bundle,
        )  # fmt: skip
        return jws.sign(Kind.REQUEST, request.claims(), self.signer.public, self.signer.sign, own=True)

    def take(self, token: str, answer: dict[str, Any]) -> None:
        """Check and keep an answer. Raises: AssertionError, KeyturnError if it is no lease for this request."""
        lease = hosting.verify_lease(answer["lease"], self._fleet.host_certificate)
        assert lease.certificate.request == jws.digest(token)
        assert lease.certificate.holder == self.signer.kid
        self.lease, self.activation = jws.digest(answer["lease"]), lease.certificate.activation


class Fleet:
    """A certified host whose ledger holds ``size`` computers, some of which are here and can ask."""

    def __init__(self, folder: Path, size: int, *, here: int) -> None:
        self.size, self.folder = size, folder
        folder.mkdir()
        self.chance = random.Random(f"fleet of {size}")
        self.world = World(folder / "world", clock=Clock(int(time.time())))
        organization = Organization(self.world)
        opened = containers.open_product(json.loads(self.world.product))
        self.product, self.bundle = opened.product.name, opened.chain.newest.number
        self.serial = int(organization.client_key["serial"])
        self.product_id = product_id(self.product.slug, Channel.CLIENT, self.serial)
        self.program = Program(organization, folder, env={"KEYTURN_HOST_RATE_ADDRESS": "off", "KEYTURN_HOST_RATE_PREFIX": "off"})
        with self.opened() as host:
            (permit,) = host.home.permits.values()
            assert permit.certificate is not None
            self.host_certificate = permit.certificate
            self.known = [Box(self) for _ in range(min(here, size))]
            host.database.write_now(lambda db: self._fill(db, host))

    def opened(self) -> _Opened:
        return _Opened(self.program.home)

    def _fill(self, db: Any, host: LeasingHost) -> None:
        """Write the computers' rows: leased over half a year, renewed over the last week, in no order."""
        now, chance, size = int(time.time()), self.chance, self.size
        product = ledger.product(db, str(self.product), leasing.counts_with(self.host_certificate))
        places = list(range(size))
        chance.shuffle(places)
        boxes: dict[int, Box] = dict(zip(places, self.known, strict=False))
        tables: dict[str, list[tuple[object, ...]]] = {name: [] for name in _INSERTS}
        digest, payload = "", b""
        for number in range(size):
            box = boxes.get(number)
            since, seen = now - 183 * DAY + number * 180 * DAY // size, now - chance.randrange(7 * DAY)
            computer = ids.uuid7(since, chance.randbytes(12))
            pairs = box.pairs if box else {pair: chance.randbytes(8).hex() for pair in self.known[0].pairs}
            thumbprint = box.signer.kid if box else b64u(chance.randbytes(32))
            name = b64u(chance.randbytes(32))
            if box or not payload:
                found, _ = read_request((box or self.known[0]).request())
                granted = Granted("renewed", computer, number + 1, since, {}, "p" * 43, rolled_back=False, ends=seen + 190 * DAY)
                given = self.host_certificate
                lease = leasing.lease(found, name, thumbprint, given, granted, now=given.issued_at)
                payload = jws.dumps(lease.claims())
            digest = b64u(chance.randbytes(32))
            if box:
                box.activation, box.lease = computer, jws.digest(host.sign(Kind.LEASE, payload))
                digest = box.lease
            row = (product, computer, number + 1, since, seen, since, seen + 190 * DAY, 1, json.dumps(pairs))
            tables["computer"].append(row)
            tables["pair"] += [(product, hardware.SCHEME, pair, tag, computer) for pair, tag in pairs.items()]
            tables["installation"].append((product, thumbprint, f"guid-{number}", computer, None, seen))
            tables["lease"].append((product, thumbprint, 0, name, digest, seen, 0, payload))
        for name, rows in tables.items():
            write_rows(db, _INSERTS[name], rows)
        ledger.keep_number(db, product, size)


class _Opened:
    """The host of a home, in this process, under the real clock."""

    def __init__(self, home: Path) -> None:
        self._home = HostHome(home, {})

    def __enter__(self) -> LeasingHost:
        self._database: Database = self._home.open_database()
        return LeasingHost(self._home, self._database, clock=lambda: int(time.time()), chance=os.urandom)

    def __exit__(self, *_: object) -> None:
        self._database.close()


_INSERTS = {
    "computer": "INSERT INTO computer (product, id, number, since, seen_at, leased_at, ends_at, counts, pairs) VALUES ?",
    "pair": "INSERT INTO pair (product, scheme, pair, tag, computer) VALUES ?",
    "installation": "INSERT INTO installation (product, thumbprint, guid, computer, presented, asked) VALUES ?",
    "lease": "INSERT INTO lease (product, thumbprint, slot, request, digest, issued_at, bare, payload) VALUES ?",
}


class Timed(NamedTuple):
    rate: float
    p50: float
    p99: float


def near(host: LeasingHost, boxes: Sequence[Box]) -> Timed:
    """A request of each of ``boxes``, 64 at a time, in this process: everything but the network."""
    tokens = [box.request() for box in boxes]
    answers: list[Any] = [None] * len(tokens)
    latencies: list[float] = []

    async def run() -> float:
        together = Together(host.database)
        left = iter(range(len(tokens)))

        async def line() -> None:
            for number in left:
                began = time.perf_counter()
                proven = host.prove(tokens[number])
                outcome = await host.record(proven, together.write)
                assert not isinstance(outcome, Waiting | Refused), outcome
                answers[number] = host.answer(proven, outcome)
                latencies.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(line() for _ in range(CONNECTIONS)))
        return time.perf_counter() - began

    seconds = asyncio.run(run())
    for box, token, answer in zip(boxes, tokens, answers, strict=True):
        box.take(token, answer)
    latencies.sort()
    return Timed(len(tokens) / seconds, latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)])


def over_https(fleet: Fleet, boxes: Sequence[Box], *, connections: int = CONNECTIONS) -> Served:
    """A request of each of ``boxes`` to the running program, by the load generator."""
    process, port = fleet.program.process, fleet.program.url.rpartition(":")[2]
    assert process is not None
    tokens = [box.request() for box in boxes]
    asked, answered = (fleet.folder / name for name in ("asked", "answered"))
    asked.write_text("\n".join(tokens))
    command = [
        sys.executable, str(LOADGEN), "127.0.0.1", port, str(fleet.program.home / "tls" / "cert.pem"), str(asked), str(answered),
        "--connections", str(connections), "--path", "/v1/lease", "--pinned",
    ]  # fmt: skip
    served = sent(command, process.pid, len(tokens))
    asking = {jws.digest(token): (box, token) for box, token in zip(boxes, tokens, strict=True)}
    for body in answered.read_bytes().split(b"\n"):
        answer = json.loads(body)
        box, token = asking.pop(str(jws.loads(jws.payload_of(answer["lease"]))["request"]))
        box.take(token, answer)
    assert not asking
    return served


class _Found(NamedTuple):
    """One kind of request on one size of ledger: rates and latencies of the rounds, each with its ceiling and its disk."""

    near: list[float]
    ratios: list[float]
    against_disk: list[float]
    p99: list[float]
    served: list[Served]


def leases(folder: Path, sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> list[Row]:
    """Renewals and first leases, durable and signed, over HTTPS and without the network, with few and with many computers.

    Every round has its own references; the median round counts. The fleets take turns, so that an hour's drift meets both.
    """
    fleets = [Fleet(folder / f"fleet-{size}", size, here=3 * rounds * ROUND) for size in sizes]
    found = {(fleet.size, kind): _Found([], [], [], [], []) for fleet in fleets for kind in ("renewals", "first leases")}
    asking = {(fleet.size, kind): _asking(fleet, kind) for fleet in fleets for kind in ("renewals", "first leases")}
    for fleet in fleets:
        with fleet.opened() as host:
            for _ in range(rounds):
                for kind in ("renewals", "first leases"):
                    found[fleet.size, kind].near.append(near(host, next(asking[fleet.size, kind])).rate / ceiling(1).pair)
    for _ in range(rounds):
        for fleet in fleets:
            with fleet.program:
                over_https(fleet, next(asking[fleet.size, "renewals"])[: ROUND // 4])  # Warm: every statement is prepared.
                alone = over_https(fleet, [Box(fleet) for _ in range(ROUND // 10)], connections=1).p50
                for kind in ("renewals", "first leases"):
                    limit, disk, one = ceiling(1).pair, commits(folder, 1.0), found[fleet.size, kind]
                    one.served.append(over_https(fleet, next(asking[fleet.size, kind])))
                    one.ratios.append(one.served[-1].rate / limit)
                    one.against_disk.append(one.served[-1].rate / disk)
                    one.p99.append(one.served[-1].p99 / alone)
    return [row for key, one in found.items() for row in _rows(*key, one)] + _growth(sizes, found)


def _asking(fleet: Fleet, kind: str) -> Iterator[Sequence[Box]]:
    """Who asks next: every computer that is known, one after another; or new ones without end."""
    at = 0
    while True:
        if kind == "first leases":
            yield [Box(fleet) for _ in range(ROUND)]
        else:
            yield fleet.known[at : at + ROUND]
            at = (at + ROUND) % len(fleet.known)


def _rows(size: int, kind: str, one: _Found) -> Iterator[Row]:
    middle = sorted(range(len(one.ratios)), key=one.ratios.__getitem__)[len(one.ratios) // 2]
    served, what = one.served[middle], f"{kind}, {size:,} computers in the ledger"
    rate = f"{served.rate:,.0f}/s; p50 {served.p50 * 1e3:.0f} ms, p99 {served.p99 * 1e3:.0f} ms"
    yield Row(PART, f"{what}: over HTTPS (one process, {CONNECTIONS} connections), against one core's verify + sign by OpenSSL",
              one.ratios[middle], rate, least=0.45)  # fmt: skip
    yield Row(PART, f"{what}: without the network", median(one.near), "the same, in one process with who asks")
    yield Row(PART, f"{what}: against single-row durable commits to the same disk", one.against_disk[middle],
              f"{served.rate / one.against_disk[middle]:,.0f} commits/s")  # fmt: skip
    yield Row(PART, f"{what}: p99 against the median of one request at a time", median(one.p99),
              f"{served.p99 * 1e3:.0f} ms", most=20)  # fmt: skip


def _growth(sizes: Sequence[int], found: Mapping[tuple[int, str], _Found]) -> list[Row]:
    few, many = min(sizes), max(sizes)
    rows = []
    for kind in ("renewals", "first leases"):
        ratio = median(found[many, kind].ratios) / median(found[few, kind].ratios)
        rows.append(Row(PART, f"{kind}: {many:,} computers against {few:,}", ratio, "medians, over HTTPS", least=0.9))
    return rows
