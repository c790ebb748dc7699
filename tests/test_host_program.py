"""``keyturn host`` as a process: over TLS, with its files, its signals, and what a kill leaves."""

from __future__ import annotations

import concurrent.futures
import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hosts import Computer, Organization, Program
from keyturn.core import hosting, jws, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.model import sha256_b64u
from keyturn.edge import files, tls
from keyturn.edge.transport import Transport
from keyturn.testing import Clock, World
from programs import PATIENCE, run

pytestmark = pytest.mark.system


@pytest.fixture
def organization(tmp_path: Path) -> Iterator[Organization]:
    world = World(tmp_path / "world", threshold=2, clock=Clock(int(time.time())))
    yield Organization(world)
    world.close()


@pytest.fixture
def program(organization: Organization, tmp_path: Path) -> Iterator[Program]:
    (tmp_path / "host").mkdir()
    made = Program(organization, tmp_path / "host")
    yield made
    if made.process is not None:
        made.stop(signal.SIGKILL)


def licensed(organization: Organization, program: Program, count: int) -> list[Computer]:
    computers = [organization.computer(number) for number in range(count)]
    with program.line() as line:
        for computer in computers * 2:
            token = computer.request()
            answer = program.post(line, token)
            if not isinstance(answer, KeyturnError):
                computer.take(token, answer)
    assert all(computer.held for computer in computers)
    return computers


def test_the_whole_way_of_a_host(tmp_path: Path, organization: Organization) -> None:
    """init, export, the service's answer, import, run, five computers, status, report, SIGTERM: with the real program."""
    world = organization.world
    (tmp_path / "sample.ktproduct").write_bytes(world.product)

    def host(*arguments: str, **options: Any) -> Any:
        return run(["host", "--home", str(tmp_path / "h"), "--json", *arguments], cwd=tmp_path, **options)

    assert host("status").code == "not_initialised"
    assert host("init", "sample.ktproduct").ok().json["changed"] is True
    assert host("init", "sample.ktproduct").ok().json["changed"] is False
    known = host("init", "--if-needed", "sample.ktproduct").ok().json
    assert known == {"home": str(tmp_path / "h"), "changed": False, "products": []}
    assert host("activate").code == "key_missing"
    assert host("activate", "-", input="AAAAA-AAAAA-AAAAA-AAAAA-AAAAA\n").exit == 4
    assert host("activate", "-", "--dry-run", input=organization.host_key["key"] + "\n").ok().json["sent"] is False
    host("export", "request", "-o", "f.ktx").ok()
    assert host("import", "f.ktx").code == "document_foreign"  # Nobody has answered it yet.
    value = json.loads((tmp_path / "f.ktx").read_text())
    value["items"][0]["answer"] = world.publisher.service.exchange(value["items"][0]["document"])
    (tmp_path / "f.ktx").write_text(json.dumps(value))
    assert host("import", "f.ktx").ok().json["organization"] == "acme"
    assert host("import", "f.ktx").exit == 0
    found = host("status").ok().json
    assert found.keys() >= {"products", "hosts", "certificate"}
    (entry,) = found["products"]
    assert {name: entry[name] for name in ("threshold", "counted", "licensed", "needed", "forks")} == {
        "threshold": 2, "counted": 0, "licensed": 0, "needed": 2, "forks": 0,
    }  # fmt: skip
    assert found["hosts"] == [] and found["certificate"]["expires"].endswith("Z")


def test_a_client_believes_before_it_sends(organization: Organization, program: Program) -> None:
    """The directory has the host certificate, the bundles, and an endorsement of the very TLS certificate of the connection."""
    seen: list[bytes] = []
    with program, Transport(environ={}, judge=seen.append) as line:
        directory = line.get_json(f"{program.url}/.well-known/keyturn-host")
        computer = organization.computer(1)
        host = computer.believes(directory["hosts"][0])  # type: ignore[index]
        der = tls.fingerprint(files.read(program.home / "tls" / "cert.pem") or b"")
        assert sha256_b64u(seen[0]) == der
        now = organization.world.clock()
        hosting.verify_endorsement(str(directory["endorsement"]), host.public, der, now)
        with pytest.raises(KeyturnError, match="does not vouch"):
            hosting.verify_endorsement(str(directory["endorsement"]), host.public, "x" * 43, now)
        texts = directory["bundles"][computer.product.name.thumbprint]  # type: ignore[index]
        assert trust.verify_chain(texts, computer.product.name.thumbprint).newest.number == 1
        assert abs(int(str(directory["server_time"])) - now) < 60
    assert (program.folder / "host.log").read_text().count('"event":"answered"') == 1


def test_leases_over_tls_and_an_orderly_end(organization: Organization, program: Program) -> None:
    """Computers are licensed, status and report say so while it runs, SIGTERM ends it with 0, and it starts again as it was."""
    with program:
        computers = licensed(organization, program, 3)
        entry = program("status").ok().json["products"][0]
        assert (entry["counted"], entry["licensed"], entry["needed"], entry["waiting"]) == (3, 3, 0, 0)
        rows = program("report").ok().json["computers"]
        assert [row["state"] for row in rows] == ["licensed"] * 3
        text = program("report", "--csv").out
        assert json.loads(text)["forks"] == []  # With --json it stays JSON.
        assert program.stop() == 0
        program.start()
        with program.line() as line:
            token = computers[0].request()
            computers[0].take(token, program.post(line, token))  # type: ignore[arg-type]
    table = run(["host", "--home", str(program.home), "report", "--csv"], cwd=program.folder).out.splitlines()
    assert table[0].startswith("product,number,state") and len(table) == 4


@pytest.mark.needs("curl")
def test_what_is_not_met_is_a_problem_with_figures(organization: Organization, program: Program) -> None:
    """Status, code, Retry-After, and the numbers as members of the problem document (RFC 9457, section 3.2)."""
    with program:
        token = organization.computer(1).request()
        done = subprocess.run(
            ["curl", "-sk", "-D", "-", "-H", "content-type: application/jose", "--data-binary", token, f"{program.url}/v1/lease"],
            capture_output=True, text=True, check=True, timeout=PATIENCE,
        )  # fmt: skip
    head, _, body = done.stdout.partition("\n\n")
    assert head.startswith("HTTP/1.1 409") and "retry-after: 7200" in head.lower()
    problem = json.loads(body)
    assert {name: problem[name] for name in ("code", "counted", "threshold", "needed", "retry_after")} == {
        "code": "threshold_not_met", "counted": 1, "threshold": 2, "needed": 1, "retry_after": 7200,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/lease", b"", 400), ("/v1/lease", b"no token", 400), ("/v1/lease", b"\xff\xfe", 400),
        ("/v1/lease", b"a" * 20_000, 413), ("/v1/nothing", b"x", 404), ("/v1/sightings", b"{}", 415),
    ],
)  # fmt: skip
def test_what_is_no_request_gets_a_problem(program: Program, path: str, body: bytes, status: int) -> None:
    with program, program.line() as line:
        error = line.post(f"{program.url}{path}", body, "application/jose").problem()
    assert error is not None and error.entry.status in (status, 400)


@pytest.mark.needs("curl")
def test_page_and_figures_show_what_the_ledger_holds(organization: Organization, program: Program) -> None:
    """The page has no script and fetches nothing; the figures have outcomes and the certificate's end."""

    def get(path: str) -> tuple[str, str]:
        done = subprocess.run(
            ["curl", "-sk", "-D", "-", f"{program.url}{path}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        head, _, body = done.stdout.partition("\n\n")
        return head, body

    with program:
        licensed(organization, program, 2)
        head, text = get("/")
        assert head.startswith("HTTP/1.1 200") and "default-src 'none'" in head
        assert "2 of 2: enough" in text
        assert not any(word in text for word in ("<script", "src=", "href=", "://"))
        head, text = get("/metrics")
    figures = dict(line.rpartition(" ")[::2] for line in text.splitlines() if not line.startswith("#"))
    product = organization.computer(0).product.name
    assert figures['keyturn_exchanges_total{outcome="new"}'] == "1.0"
    assert figures['keyturn_exchanges_total{outcome="waiting"}'] == "1.0"
    assert (
        figures[f'keyturn_host_counted{{of="{product}"}}'] == figures[f'keyturn_host_seats{{of="{product}"}}'] == "2.0"
    )
    assert 89 * 86_400 < float(figures[f'keyturn_host_certificate_seconds_left{{of="{product}"}}']) <= 90 * 86_400


@pytest.mark.slow
def test_a_kill_loses_no_acknowledged_lease_and_drifts_no_count(organization: Organization, program: Program) -> None:
    """Killed under load again and again: whoever was answered gets the same bytes again, and nobody is counted twice."""
    chance, kept = random.Random(6), {}
    asked: set[int] = set()

    def storm(numbers: list[int]) -> None:
        with program.line() as line:
            for number in numbers:
                computer = organization.computer(number)
                token = tokens.setdefault(number, computer.request())
                asked.add(number)
                try:
                    answer = program.post(line, token)
                except KeyturnError:
                    return  # It was killed.
                if isinstance(answer, dict):
                    kept[number] = (token, answer["lease"])

    tokens: dict[int, str] = {}
    for round_ in range(8):
        program.start()
        first = round_ * 4_000
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(storm, list(range(first + part, first + 4_000, 4))) for part in range(4)]
            wanted = len(kept) + chance.randrange(20, 120)
            while len(kept) < wanted and not all(future.done() for future in waiting):
                concurrent.futures.wait(waiting, timeout=0.005)
            program.stop(signal.SIGKILL)
        for future in waiting:
            future.result()
    with program:
        with program.line() as line:
            for token, lease in kept.values():
                answer = program.post(line, token)
                assert isinstance(answer, dict) and answer["lease"] == lease
        entry = program("status").ok().json["products"][0]
    assert len(kept) > 150
    assert len(kept) <= entry["licensed"] <= entry["computers"] <= len(asked)
    numbers = [row["number"] for row in program("report").ok().json["computers"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert entry["counted"] == entry["computers"]


def test_the_log_names_nobody(organization: Organization, program: Program) -> None:
    """Neither an address nor a GUID, a key or a token is in it."""
    with program:
        (computer, *_) = licensed(organization, program, 2)
    text = (program.folder / "host.log").read_text()
    for secret in (
        computer.guid,
        computer.signer.kid,
        organization.client_key["key"],
        "127.0.0.1",
        jws.digest(computer.lease or ""),
    ):
        assert secret not in text
    events = {json.loads(line)["event"] for line in text.splitlines()}
    assert events == {"answered"}


def test_another_time_is_for_test_products_only(program: Program) -> None:
    program.env = {"KEYTURN_NOW": "+86400"}
    assert program("status").code == "test_only"


def test_publishing_prints_lines_and_refuses_a_name_that_nobody_finds(program: Program) -> None:
    program("config", "set", "name", "host.example.test").ok()
    program("config", "set", "domains", "example.test").ok()
    line = program("publish", "--print", "bind").ok().json["line"]
    assert line == "_keyturn._tcp.example.test. 3600 IN SRV 0 0 8444 host.example.test."
    assert program("publish").code == "usage"
    assert program("config", "set", "renew_after", "5").code == "usage"
    assert program("config", "set", "colour", "red").code == "usage"
