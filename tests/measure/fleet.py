"""The fleet manager: 10,000 computers activated by proxy against as many that go by themselves, its table, its check-ins.

Keeps: the real service process, the manager's own code over real HTTPS and its real database, real signed requests;
single activations are
the load of ``measure.service`` at its best (64 kept connections), in the same run.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import ssl
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import consoles
from fleets import Site, silent
from keyturn.core import fleet, ids, jws
from keyturn.core.fleet import CheckIn
from keyturn.core.jws import Kind
from keyturn.edge import clock, keystore, sodium
from keyturn.edge.database import Database
from keyturn.fleet import home as homes
from keyturn.fleet import keys, tasks
from keyturn.fleet.home import FleetHome
from keyturn.fleet.keys import Given
from keyturn.fleet.manager import FleetManager
from keyturn.fleet.proxying import Forwarder
from keyturn.flows.exchange import Line
from keyturn.testing import World
from measure.rows import Row
from measure.service import Bench, memory
from solid.asking import Asker

PART = "Fleet manager"
MANY, FEW = 10_000, 100
SINGLY = 800  # Activations that go by themselves, from which 10,000 are reckoned.


class Manager:
    """A fleet manager with so many computers in its database; the computers themselves are rows, and their requests are real."""

    def __init__(self, folder: Path, product: bytes) -> None:
        homes.initialise(folder, clock.now(), None)
        homes.change_setting(folder, "gather", "0")
        self.home = FleetHome(folder, {})
        self.database = self.home.open_database()
        self.fleet = FleetManager(self.home, self.database, clock=clock.now, chance=secrets.token_bytes)
        self.opened, _ = self.fleet.add_product(product, "bench")
        self.name = self.opened.product.name

    def enroll(self, count: int) -> list[str]:
        return filled(self.database, str(self.name), count, clock.now())

    def wait_with(self, computers: Sequence[str], tokens: Sequence[str]) -> None:
        """Let each computer have made its request: what is left is sending them."""
        task, now = ids.uuid7(clock.now(), secrets.token_bytes(12)), clock.now() - 1
        baseline = json.dumps({"vector": {"anchor.disk": "0" * 32}, "salt": "AAAAAAAAAAAAAAAAAAAAAA=="})

        def write(db: Any) -> None:
            tasks.create(db, task, "activate", str(self.name), computers, who="bench", now=now, way="proxy")
            db.executemany(
                "UPDATE item SET step = 'send', steps = 'accept', document = ?, vector = ? WHERE task = ? AND computer = ?",
                [(token, baseline, task, one) for one, token in zip(computers, tokens, strict=True)],
            )

        self.database.write_now(write)


def filled(database: Database, product: str, count: int, now: int) -> list[str]:
    """Put so many computers into a fleet manager's database, each with the product in its grace."""
    rows = [(ids.uuid7(now, secrets.token_bytes(12)), f"pc-{n:05d}", secrets.token_urlsafe(32)) for n in range(count)]
    told = dict.fromkeys(fleet.TOLD, "text") | {"usable": True, "state": "initial_grace"}
    told |= {"activated_at": None, "valid_until": None, "grace_until": "2027-01-01T00:00:00Z"}
    columns = [name for name in fleet.TOLD if name != "product"]
    put = (
        f"INSERT INTO license (computer, product, {', '.join(columns)}) VALUES (?, ?, {', '.join('?' * len(columns))})"
    )
    new = (
        "INSERT INTO computer (id, name, agent, number, enrolled_at, enrolled_by, seen_at)"
        " VALUES (?, ?, ?, 0, ?, 'bench', ?)"
    )

    def write(db: Any) -> None:
        for one, name, agent in rows:
            db.execute(new, (one, name, agent, now, now))
            db.execute(put, (one, product, *(told[column] for column in columns)))

    database.write_now(write)
    return [one for one, _, _ in rows]


def requests(bench: Bench, manager: Manager, count: int) -> list[str]:
    """Requests as managed computers make them: they name the manager's key."""
    minted = bench.publisher.mint(
        "writer", "--channel", "mak", "--org", "initech", "--limit", "1000", "--count", str(-(-count // 1000))
    )
    for key in minted:
        given = Given(key["key"], None, None)
        manager.database.write_now(
            lambda db, given=given: keys.add(  # type: ignore[misc]
                db, manager.fleet.sealer, manager.name, given, who="bench", now=clock.now(), chance=secrets.token_bytes
            )
        )
    askers = [Asker(bench.product, key["key"], bench._chance) for key in minted]
    rebind = manager.home.rebinder(manager.name).kid
    bench._loads += 1
    facts = bench._facts(minted[0]["key"])
    return [askers[n % len(askers)].request(facts=facts, rebind=rebind).token for n in range(count)]


def by_proxy(folder: Path, count: int = MANY) -> list[Row]:
    """Wall time, bytes and memory of ``count`` activations through one connection, against as many single ones."""
    bench = Bench(folder / "service", "fleet")
    manager = Manager(folder / "fleet", bench.product)
    computers = manager.enroll(count)
    carried = {"sent": 0, "received": 0}

    def keep(_what: str, sent: bytes, received: bytes) -> None:
        carried["sent"] += len(sent)
        carried["received"] += len(received)

    def connect(product: Any, environ: Any) -> Line:
        return Line(product, environ, recorder=keep)

    with bench.publisher.running():
        bench.load(count // 4)
        kept = bench.load(count)
        single = by_themselves(bench, SINGLY) * count
        manager.wait_with(computers, requests(bench, manager, count))
        pid = os.getpid()
        before = memory(pid, "VmRSS")
        forwarder = Forwarder(manager.fleet, silent, {}, connect=connect)
        began = time.perf_counter()
        sent = forwarder.turn()
        seconds = time.perf_counter() - began
        forwarder.close()
    left = manager.database.read(
        lambda db: dict(db.execute("SELECT step, count(*) FROM item GROUP BY step").fetchall())
    )
    assert sent == count and left == {"accept": count}, (sent, left)
    grown = max(0, memory(pid, "VmHWM") - before)
    manager.database.close()
    each = (carried["sent"] + carried["received"]) / count / 1000
    told = f"{seconds:.1f} s by proxy, {single:.1f} s singly (from {SINGLY}); {each:.1f} kB each"
    return [
        Row(PART, f"{count:,} computers by proxy over one connection, against as many that go by themselves, 8 at a time",
            seconds / single, told, most=0.8),
        Row(PART, f"the same against the service's best: {count:,} requests over 64 kept connections", seconds / kept.seconds,
            f"{kept.seconds:.1f} s"),
        Row(PART, "memory of the manager: growth while it sends them, in MB", grown / 1e6,
            f"{count / seconds:,.0f} activations/s"),
    ]  # fmt: skip


def by_themselves(bench: Bench, count: int) -> float:
    """Seconds for one activation as a computer makes it: the probe, a connection of its own, one request; 8 go at once."""
    product = bench._opened.product
    bench._loads += 1

    def one(token: str) -> None:
        with Line(product, {}) as line:
            assert isinstance(line.send(token), dict)

    tokens = bench.tokens(count)
    began = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, tokens))
    return (time.perf_counter() - began) / count


def table(folder: Path) -> list[Row]:
    """The console's table over HTTPS: from asking to the first row, of 10,000 computers against 100, asked in turns."""
    rows, names = (
        [],
        {"/computers": "the fleet's table", "/computers?where=state%3Dinitial_grace": "the same, filtered"},
    )
    with contextlib.ExitStack() as stack:
        lines = {}
        for count in (FEW, MANY):
            place = folder / str(count)
            world = World(place / "world")
            stack.callback(world.close)
            site = stack.enter_context(Site(world, place / "site").running())
            product = site.database.read(lambda db: db.execute("SELECT name FROM product").fetchone()["name"])
            filled(site.database, product, count, world.clock())
            session = consoles.signed_in(site, "operator").session
            assert session is not None
            context = ssl._create_unverified_context()  # The manager's own certificate, on loopback.
            line = http.client.HTTPSConnection(urlsplit(site.url).netloc, context=context)
            stack.callback(line.close)
            lines[count] = line, {"Accept": "text/html", "Cookie": f"__Host-keyturn={session.secret}"}
        for path, what in names.items():
            times: dict[int, list[float]] = {FEW: [], MANY: []}
            for _ in range(21):
                for count, (line, headers) in lines.items():
                    times[count].append(_first_row(line, path, headers))
            few, many = (statistics.median(times[count]) for count in (FEW, MANY))
            told = f"{many * 1e3:.0f} ms against {few * 1e3:.0f} ms"
            rows.append(
                Row(PART, f"{what}: time to the first row of 10,000 computers against 100", many / few, told, most=3)
            )
    return rows


def _first_row(line: http.client.HTTPSConnection, path: str, headers: dict[str, str]) -> float:
    began = time.perf_counter()
    line.request("GET", path, headers=headers)
    answer, seen, seconds = line.getresponse(), b"", 0.0
    assert answer.status == 200, path
    while part := answer.read1(8192):
        seen += part
        if not seconds and b"pc-0" in seen:
            seconds = time.perf_counter() - began
    answer.read()  # Its end, so that the line is free again.
    assert seconds, "no row came"
    return seconds


def check_ins(folder: Path, count: int = 2_000) -> list[Row]:
    """Check-ins per second on one process: verified, kept durably, answered; what HTTPS costs is measured with activations."""
    bench = Bench(folder / "service", "check-in")
    manager = Manager(folder / "fleet", bench.product)
    manager.enroll(MANY)
    signer = keystore.create(folder / "agent.key")
    (computer, *_) = manager.database.read(lambda db: db.execute("SELECT id FROM computer").fetchall())
    manager.database.write_now(
        lambda db: db.execute("UPDATE computer SET agent = ? WHERE id = ?", (signer.kid, computer["id"])).rowcount
    )
    row = manager.database.read(
        lambda db: dict(db.execute("SELECT * FROM license WHERE computer = ?", (computer["id"],)).fetchone())
    )
    product = {name: bool(row[name]) if name == "usable" else row[name] for name in fleet.TOLD}
    tokens = [
        jws.sign(
            Kind.CHECK_IN,
            CheckIn(n + 1, "pc", clock.now(), None, [product], []).claims(),
            signer.public,
            signer.sign,
            own=True,
        )
        for n in range(count)
    ]
    began = time.perf_counter()

    def heard(token: str) -> Any:
        said, verified = fleet.read_check_in(token, holds=sodium.holds)
        return manager.database.write(lambda db: manager.fleet.check_in(db, said, verified.kid, clock.now()))

    waiting = [heard(token) for token in tokens]
    for one in waiting:
        assert one.result()["work"] == []
    seconds = time.perf_counter() - began
    manager.database.close()
    return [
        Row(
            PART,
            "check-ins per second on one process, durable, without HTTP, of 10,000 computers",
            count / seconds,
            f"{seconds / count * 1e6:.0f} µs each",
        )
    ]


def everything(folder: Path) -> list[Row]:
    return [*by_proxy(folder / "proxy"), *table(folder / "table"), *check_ins(folder / "check-ins")]
