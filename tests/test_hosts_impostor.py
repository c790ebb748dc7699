"""Impostors of activation hosts: no answer is taken, in process and over TLS; and each check is what stops one of them."""

from __future__ import annotations

import inspect
import itertools
import json
import random
import shutil
import ssl
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from keyturn.core import hosting, jws, license, trust
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.hosting import Endorsement
from keyturn.core.jws import Kind
from keyturn.core.model import DAY
from keyturn.core.srv import Place
from keyturn.edge import files, tls
from keyturn.flows.hosting import HostLine
from peers import Peer, read_request
from solid import impostor
from solid.impostor import CLASSES, STRANGE, Scene, signed, token_of
from solid.site import Host


@pytest.mark.slow
def test_no_answer_of_an_impostor_is_taken(tmp_path: Path) -> None:
    refused, problems = impostor.run(tmp_path, "pytest", 500)
    assert problems == []
    assert set(refused) == set(CLASSES)
    assert refused.total() == 500


# --- each check bites ---

Cut = tuple[ModuleType, str, str, str]
_FOREIGN: Cut = (hosting, "verify_lease", "certificate.product != host.product or", "")
# What is taken out (function, its words, what stands in their place), and the class of answers that comes through then.
CHECKS: list[tuple[str, list[Cut]]] = [
    ("copied certificate", [(jws, "_verify", 'not holds(key, signature, token[: token.rindex(".")].encode("ascii"))', "False")]),
    ("another kind", [(jws, "_read_header", 'if kind.typ == header.get("typ")', "if True")]),
    ("another product", [(hosting, "read_host", "host.product != product.name", "False"), _FOREIGN]),
    ("more than allowed", [(hosting, "verify_lease", "or not fits", "")]),
    ("another organization", [(hosting, "verify_lease", "or not fits", "")]),
    ("more than allowed", [(hosting, "verify_lease", "or certificate.term != LEASED", "")]),
    ("expired", [(hosting, "verify_lease", "not host.issued_at <= certificate.issued_at <= host.expires_at", "False")]),
    ("more than allowed", [(hosting, "verify_lease", "<= host.lease_days * DAY", "")]),
    ("expired", [(hosting, "verify_identity", "not host.issued_at <= found.issued_at <= host.expires_at", "False")]),
    ("another organization", [(hosting, "verify_identity", "or request.serial not in host.serves", "")]),
    ("for somebody else", [(hosting, "verify_identity", "(found.product, found.request, found.nonce) !=",
                            "(found.product, digest, request.nonce) !=")]),
    ("expired", [(hosting, "check_moment", "min(request.made_at, now) - DAY <=", "")]),
    ("more than allowed", [(hosting, "check_moment", "<= now + DAY", "")]),
    ("for somebody else", [(license, "check_certificate", "certificate.holder != installation_key", "False")]),
    ("for somebody else", [(license, "check_certificate", "or certificate.request != jws.digest(held.request)", "")]),
    ("for somebody else", [(license, "check_certificate", "or request.nonce != certificate.nonce", "")]),
    ("for somebody else", [(license, "check_certificate", "hardware.commitment(held.vector, held.salt) != certificate.commitment",
                            "False")]),
    ("for somebody else", [(license, "check_certificate", "certificate.floor.number > chain.newest.number", "False")]),
    ("another publisher", [(trust, "_verify_bundle", "_require_signatures(tokens, before.roots, before.threshold)", "pass")]),
]  # fmt: skip


def without(module: ModuleType, name: str, old: str, new: str) -> Callable[..., Any]:
    """A copy of a function, with a part of it replaced."""
    source = textwrap.dedent(inspect.getsource(getattr(module, name)))
    assert source.count(old) == 1, f"{name} has changed: {old!r} is there {source.count(old)} times"
    made: dict[str, Any] = {}
    exec(compile(source.replace(old, new), f"<{name} without>", "exec"), module.__dict__, made)
    function: Callable[..., Any] = made[name]
    return function


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("scene"))
    yield made
    made.close()


@pytest.mark.parametrize("number", range(len(CHECKS)))
def test_each_check_is_what_stops_one_of_them(
    number: int, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it an answer is taken, of the very class it is there for."""
    name, cuts = CHECKS[number]
    for module, function, old, new in cuts:
        monkeypatch.setattr(module, function, without(module, function, old, new))
    store = shutil.copytree(scene.pc.store, tmp_path / "store")
    try:
        _, problems = impostor.attempt(scene, name, "pytest", 300)
    finally:
        shutil.rmtree(scene.pc.store)
        shutil.copytree(store, scene.pc.store)
    assert problems, f"nothing came through without {cuts}"
    assert problems[0].startswith(f"{name}: accepted"), problems


# --- over TLS ---


class Liar:
    """A server that answers as a host does, with any directory and any answer. ``asked`` are the documents it was sent."""

    def __init__(self, folder: Path, now: int) -> None:
        tls.create_own(folder, name="Keyturn activation host", now=now)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.fingerprint = tls.fingerprint(files.read(str(folder / "cert.pem")) or b"")
        self.directory: dict[str, Any] = {}
        self.answer: dict[str, Any] = {}
        self.asked: list[bytes] = []

    def script(self, connection: Any) -> None:
        while request := read_request(connection):
            if request.startswith(b"POST"):
                self.asked.append(request)
            body = json.dumps(self.answer if request.startswith(b"POST") else self.directory).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body)


@pytest.fixture(scope="module")
def liar(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Liar, Place]]:
    made = Liar(tmp_path_factory.mktemp("tls"), scene.site.clock())
    with Peer(made.script, made.context) as peer:
        yield made, Place("127.0.0.1", peer.port)


def line(scene: Scene, place: Place) -> HostLine:
    loaded = scene.pc.load()
    return HostLine(
        loaded.opened.product, loaded.opened.chain, lambda: [place], {}, now=scene.site.clock, serial=scene.request.serial
    )


def honest(scene: Scene, liar: Liar, host: Host | None = None) -> dict[str, Any]:
    """The directory of a host that endorses this server's TLS certificate."""
    host, now = host or scene.honest, scene.site.clock()
    endorsement = signed(host, Endorsement(liar.fingerprint, now, now + 7 * DAY).claims(), Kind.ENDORSEMENT)
    return {**host.directory(), "hosts": [token_of(host)], "endorsement": endorsement}


def directories(scene: Scene, liar: Liar) -> Iterator[tuple[str, dict[str, Any]]]:
    """Directories that lie."""
    good, now = honest(scene, liar), scene.site.clock()
    yield "says nothing", {}
    yield "no certificate", {**good, "hosts": []}
    yield "no list", {**good, "hosts": {"a": 1}}
    yield "another product's", honest(scene, liar, scene.second)
    yield "another organization's", honest(scene, liar, scene.stranger)
    yield "expired", honest(scene, liar, scene.expired)
    yield "another publisher's", honest(scene, liar, scene.theirs.hosts[0])
    yield "another publisher's bundles", {**good, "bundles": scene.theirs.hosts[0].directory()["bundles"]}
    yield "other bundles under our name", {**good, "bundles": {name: list(scene.theirs_texts) for name in good["bundles"]}}
    yield "copied certificate, endorsed by another key", {**honest(scene, liar, scene.stranger), "hosts": good["hosts"]}
    yield "the honest host's own endorsement, of its own TLS certificate", scene.honest.directory()
    for name, claims in {
        "of yesterday": Endorsement(liar.fingerprint, now - 9 * DAY, now - 2 * DAY), "of tomorrow": Endorsement(
            liar.fingerprint, now + 2 * DAY, now + 9 * DAY), "for another TLS certificate": Endorsement(STRANGE, now, now + DAY),
    }.items():  # fmt: skip
        yield f"endorsement {name}", {**good, "endorsement": signed(scene.honest, claims.claims(), Kind.ENDORSEMENT)}
    yield "endorsement of another kind", {
        **good, "endorsement": signed(scene.honest, Endorsement(liar.fingerprint, now, now + DAY).claims(), Kind.LEASE)
    }
    yield "no endorsement", {**good, "endorsement": None}
    for there in (now + 2 * DAY, now - 2 * DAY, None, "now", True, 2**70, -1):
        yield f"clock {there}", {**good, "server_time": there}
    body, _, signature = good["hosts"][0].rpartition(".")
    other = "B" if signature[0] == "A" else "A"  # At its beginning: the end of an Ed25519 signature often is zeros already.
    yield "certificate with a bit changed", {**good, "hosts": [f"{body}.{other}{signature[1:]}"]}


@pytest.mark.system
def test_nothing_is_sent_to_a_host_whose_directory_lies(scene: Scene, liar: tuple[Liar, Place]) -> None:
    server, place = liar
    tried = 0
    for name, directory in directories(scene, server):
        server.directory = directory
        with line(scene, place) as asked, pytest.raises(KeyturnError) as caught:
            asked.send(scene.request_token)
        assert caught.value.code == "host_not_found", name
        assert server.asked == [], f"{name}: a request was sent"
        tried += 1
    assert tried > 20
    # And to one that does not lie it is.
    server.directory, server.answer = honest(scene, server), scene.answer
    with line(scene, place) as asked:
        assert asked.send(scene.request_token) == scene.answer
    assert len(server.asked) == 1
    server.asked.clear()


@pytest.mark.system
def test_no_answer_over_tls_is_taken(scene: Scene, liar: tuple[Liar, Place]) -> None:
    """From the very server that the honest host vouches for: four answers of each class."""
    server, place = liar
    server.directory = honest(scene, server)
    tried = 0
    for name, answers in CLASSES.items():
        for answer in itertools.islice(answers(scene, random.Random(name)), 4):
            server.answer = dict(answer)
            with line(scene, place) as asked:
                outcome = asked.send(scene.request_token)
            assert not isinstance(outcome, Refused)
            assert not scene.accepts(outcome), (name, answer)
            tried += 1
    assert tried == 4 * len(CLASSES) == len(server.asked)
    server.asked.clear()
