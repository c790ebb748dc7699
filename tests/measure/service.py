"""Durable online activations per second: one service process over HTTPS keep-alive, against what the machine can do.

Keeps: the real program with its default settings but the rate limits' size (one address makes all the load here; the
limits themselves stay on), real signed requests of new computers, and a check of every answer. References of the same
run: ``openssl speed ed25519`` on one core, and single-row durable commits to the same disk.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import programs
from keyturn.client import actions
from keyturn.client.machine import Machine
from keyturn.core import containers, jws, trust
from keyturn.core.documents import Certificate, Request
from keyturn.core.jws import Kind
from keyturn.edge import probes
from keyturn.edge.vault import Vault
from keyturn.testing.computers import synthetic
from measure.rows import Row
from solid.asking import Asker

LOADGEN = Path(__file__).with_name("loadgen.py")
LIMIT = 1_000  # Seats of each key; as many keys as the load needs.
MANY = "1000000/1000000"  # A rate that no load here reaches: the limits count, and stop nothing.


class Served(NamedTuple):
    """What a load found. Times in seconds, memory in bytes, ``cpu`` of the service and of the generator.

    ``written`` are the bytes that the service wrote: into files and sockets, whether they were on the disk already or not.
    """

    answers: int
    seconds: float
    p50: float
    p99: float
    cpu: float
    load_cpu: float
    memory_before: int
    memory_peak: int
    written: int

    @property
    def rate(self) -> float:
        return self.answers / self.seconds


class Ceiling(NamedTuple):
    """``openssl speed`` on one core: operations per second."""

    sign: float
    verify: float

    @property
    def pair(self) -> float:
        """Verify one signature and make one, per second."""
        return 1 / (1 / self.sign + 1 / self.verify)


def ceiling(seconds: int = 2) -> Ceiling:
    """One core's Ed25519. Raises: RuntimeError without the program ``openssl``."""
    if shutil.which("openssl") is None:
        raise RuntimeError("`openssl speed` is the reference: install the program openssl")
    done = subprocess.run(
        ["openssl", "speed", "-seconds", str(seconds), "ed25519"], capture_output=True, text=True, check=True
    )
    found = re.search(r"Ed25519\)\s+\S+\s+\S+\s+([0-9.]+)\s+([0-9.]+)", done.stdout)
    if found is None:
        raise RuntimeError(f"openssl speed said something else: {done.stdout[-200:]!r}")
    return Ceiling(float(found[1]), float(found[2]))


def commits(folder: Path, seconds: float = 2.0) -> float:
    """Single-row durable commits per second: SQLite, WAL, ``synchronous=FULL``, one row each."""
    with sqlite3.connect(folder / "commits.db", isolation_level=None) as db:
        db.execute("PRAGMA journal_mode=WAL").fetchone()
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE IF NOT EXISTS row (id INTEGER PRIMARY KEY, text TEXT)")
        count, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds:
            db.execute("INSERT INTO row (text) VALUES (?)", ("x" * 100,))
            count += 1
        found = count / (time.perf_counter() - began)
    db.close()
    return found


class Bench:
    """A publisher's service with a product and keys, and loads of new computers against it."""

    def __init__(self, folder: Path, seed: str) -> None:
        self.folder = folder
        self.publisher = programs.Publisher(folder / "publisher")
        self.product = self.publisher.product("writer").read_bytes()
        self.publisher.service("org", "create", "initech").ok()
        for name in ("rate_address", "rate_prefix", "rate_key"):
            self.publisher.service("config", "set", name, MANY).ok()
        self._opened = containers.open_product(containers.expect(self.product, "product"))
        self._chance = random.Random(seed)
        self._loads = 0

    def tokens(self, count: int) -> list[str]:
        """Requests of ``count`` new computers, spread over keys of 1,000 seats."""
        keys = self.publisher.mint(
            "writer", "--channel", "mak", "--org", "initech", "--limit", str(LIMIT), "--count", str(-(-count // LIMIT))
        )
        askers = [Asker(self.product, key["key"], self._chance) for key in keys]
        facts = self._facts(keys[0]["key"])
        return [askers[number % len(askers)].request(facts=facts).token for number in range(count)]

    def _facts(self, key: str) -> Mapping[str, Any]:
        """What a recorded computer says of itself in a request."""
        place = str(synthetic(1).write(self.folder / f"computer-{self._loads}"))
        machine = Machine({"HOME": place}, read=lambda _sysroot=None, *, facts=True: probes.read(place, facts=facts))
        shelf = actions.add_product(Vault(str(self.folder / f"home-{self._loads}"), "user").shelf, self.product, machine)
        actions.install_key(shelf, key, machine)
        return Request.read(jws.loads(jws.payload_of(actions.make_request(shelf, machine)[0]))).facts

    def load(self, count: int, *, connections: int = 64) -> Served:
        """Send the requests of ``count`` new computers, and check each answer.

        Raises: AssertionError if an answer is not a certificate for its own request.
        """
        self._loads += 1
        tokens = self.tokens(count)
        asked, answered = (self.folder / f"{name}-{self._loads}" for name in ("asked", "answered"))
        asked.write_text("\n".join(tokens))
        pid = int(self.publisher.ready["pid"])
        certificate = self.publisher.home / "tls" / "ca.pem"
        command = [
            sys.executable, str(LOADGEN), "localhost", str(self.publisher.port), str(certificate), str(asked),
            str(answered), "--connections", str(connections),
        ]  # fmt: skip
        served = sent(command, pid, count)
        self._check(tokens, answered.read_bytes().split(b"\n"))
        return served

    def _check(self, tokens: list[str], answers: list[bytes]) -> None:
        waiting = {jws.digest(token) for token in tokens}
        chain = self._opened.chain
        for body in answers:
            answer = json.loads(body)
            if answer["bundles"]:
                chain = trust.longer(chain.texts, answer["bundles"], chain.thumbprint)
            claims = chain.verify(answer["certificate"], Kind.CERTIFICATE, trust.role_for(test=False))
            certificate = Certificate.read(claims)
            waiting.remove(certificate.request)
        assert not waiting


def sent(command: list[str], pid: int, count: int) -> Served:
    """Let the load generator of ``command`` send ``count`` requests to the process ``pid``.

    Raises: AssertionError if not everything was answered with 200.
    """
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as generator:
        assert generator.stdin is not None
        assert generator.stdout is not None
        assert generator.stdout.readline() == "ready\n"
        before, cpu, wrote = memory(pid, "VmRSS"), processor(pid), written(pid)
        generator.stdin.write("go\n")
        generator.stdin.flush()
        found = json.loads(generator.stdout.read())
        cpu, wrote = processor(pid) - cpu, written(pid) - wrote
    assert found["statuses"] == {"200": count}, f"not everything was answered with 200: {found['statuses']}"
    latencies = found["latencies"]
    return Served(
        count, found["seconds"], latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)], cpu, found["cpu"],
        before, memory(pid, "VmHWM"), wrote,
    )  # fmt: skip


def memory(pid: int, field: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (peak) of a process, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0]) * 1024


def written(pid: int) -> int:
    """Bytes that a process has written."""
    return int(Path(f"/proc/{pid}/io").read_text().split("wchar:")[1].split()[0])


def processor(pid: int) -> float:
    """Processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def activations(folder: Path, count: int = 12_000, rounds: int = 3) -> list[Row]:
    """Durable online activations against one core's Ed25519 and against single durable commits; the median round counts."""
    bench = Bench(folder, "bench")
    ratios, against_disk, served = [], [], []
    with bench.publisher.running():
        bench.load(count // 4)  # Warm: every statement is prepared, every page of code is in memory.
        for _ in range(rounds):
            limit, disk = ceiling(), commits(folder)
            found = bench.load(count)
            served.append(found)
            ratios.append(found.rate / limit.pair)
            against_disk.append(found.rate / disk)
    middle = sorted(range(rounds), key=ratios.__getitem__)[rounds // 2]
    one = served[middle]
    grown = max(found.memory_peak for found in served) - served[0].memory_before
    part = "Online activations"
    rate = f"{one.rate:,.0f}/s; p50 {one.p50 * 1e3:.0f} ms, p99 {one.p99 * 1e3:.0f} ms"
    spent, load = one.cpu / one.answers, one.load_cpu / one.answers
    return [
        Row(part, "durable activations over HTTPS (one process, 64 connections, logging, metrics and limits on), "
            "against one core's verify + sign by OpenSSL", ratios[middle], rate, least=0.5),
        Row(part, "the same against single-row durable commits to the same disk", against_disk[middle],
            f"{one.rate / against_disk[middle]:,.0f} commits/s"),
        Row(part, "processor time of the service for each, in verify + sign", spent * one.rate / ratios[middle],
            f"{spent * 1e6:.0f} µs in two threads; the load generator used {load * 1e6:.0f} µs"),
        Row(part, "written for each, in kB", one.written / one.answers / 1e3,
            "the database, its log, the service's log, and the answer"),
        Row(part, "memory: growth over the whole load, in MB", grown / 1e6,
            f"{served[-1].memory_peak / 1e6:.0f} MB at the peak"),
    ]  # fmt: skip


def minting(folder: Path, count: int = 1_000_000) -> list[Row]:
    """One million product keys by the real program, into a file."""
    publisher = programs.Publisher(folder / "publisher")
    publisher.product("writer")
    target = folder / "keys.csv"
    began = time.perf_counter()
    publisher.service("key", "mint", "--product", "writer", "--count", str(count), "-o", str(target), patience=600).ok()
    seconds = time.perf_counter() - began
    with target.open() as lines:
        assert sum(1 for _ in lines) == count + 1, "a line for each key, and one for the names"
    return [
        Row("Product keys", f"{count:,} keys minted into a file, in seconds", seconds, f"{count / seconds:,.0f} keys/s", most=60)
    ]
