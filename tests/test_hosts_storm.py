"""The kill storm of activation hosts in a small form, and a client's line past hosts that cannot serve: over real TLS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.srv import Place
from keyturn.flows.hosting import HostLine
from peers import Peer, read_request
from solid import host_storm
from solid.impostor import Scene
from test_hosts_impostor import Liar, honest

pytestmark = pytest.mark.system


@pytest.mark.slow
def test_kills_lose_nothing(tmp_path: Path) -> None:
    outcome = host_storm.run(tmp_path / "storm", kills=4, computers=60, seed="pytest")
    print(outcome.text)
    assert outcome.problems == []
    assert outcome.leases > 60


@pytest.mark.slow
def test_the_storm_finds_a_ledger_that_went_back(tmp_path: Path) -> None:
    """After the second kill the host goes on with an older ledger: acknowledged leases are gone, and that is seen."""
    outcome = host_storm.run(tmp_path / "storm", kills=5, computers=60, seed="pytest", roll_back_at=1)
    assert outcome.problems, "nothing was noticed"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("scene"))
    yield made
    made.close()


def refusing(server: Liar, status: int, code: str) -> Callable[[Any], None]:
    """A host whose directory is honest, and that answers every request with a problem."""
    body = json.dumps({"code": code, "title": code, "detail": f"{code} here", "reference": "KT-0000-0000"}).encode()

    def script(connection: Any) -> None:
        while request := read_request(connection):
            post = request.startswith(b"POST")
            data = body if post else json.dumps(server.directory).encode()
            kind = b"application/problem+json" if post else b"application/json"
            head = b"HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (status if post else 200, kind, len(data))
            connection.sendall(head + data)

    return script


@pytest.mark.parametrize(
    ("status", "code", "last"),
    [(503, "storage_failed", "service_unready"), (409, "host_full", "host_full"), (404, "key_unknown", "key_unknown")],
)
def test_a_host_that_cannot_serve_now_is_passed_over(scene: Scene, tmp_path: Path, status: int, code: str, last: str) -> None:
    """Its directory is honest, its disk is full: the next one gets the request. If there is none, its word is the last."""
    with ExitStack() as stack:
        servers = [Liar(tmp_path / name, scene.site.clock()) for name in ("ill", "well")]
        for server in servers:
            server.directory, server.answer = honest(scene, server), scene.answer
        scripts = (refusing(servers[0], status, code), servers[1].script)
        peers = [stack.enter_context(Peer(script, server.context)) for script, server in zip(scripts, servers, strict=True)]
        ill, well = (Place("127.0.0.1", peer.port) for peer in peers)
        chosen: list[Place] = []
        assert _sent(scene, [ill, well], chosen) == scene.answer
        assert chosen == [ill, well]  # The one that answered is remembered last.
        assert _sent(scene, [ill], []) == last


def _sent(scene: Scene, places: list[Place], chosen: list[Place]) -> object:
    loaded = scene.pc.load()
    line = HostLine(loaded.opened.product, loaded.opened.chain, lambda: places, {}, now=scene.site.clock, chosen=chosen.append)
    with line:
        try:
            outcome = line.send(scene.request_token)
        except KeyturnError as error:
            return error.code
    return outcome.code if isinstance(outcome, Refused) else outcome
