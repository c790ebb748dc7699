"""`keyturn doctor` against a real service with real faults: the failed hop is named first, with its cause and remedy."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from keyturn.testing.computers import synthetic
from programs import Home, Publisher, computer, free_port

pytestmark = pytest.mark.system


class Scene:
    """A publisher whose service runs, and a licensed client on a recorded computer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publisher = Publisher(folder / "publisher")
        self.product = self.publisher.product("paintest", "--test")
        (self.key,) = self.publisher.mint("paintest")
        self.publisher.start()
        self.home = Home(folder / "client" / "home", sysroot=computer(folder / "pc", synthetic(1)))
        self.home.activate(self.product, self.key["key"]).ok()

    def look(self, exit: int, *options: str, **env: str) -> dict[str, Any]:  # noqa: A002
        done = self.home("doctor", *options, env=env)
        assert done.exit == exit, (done.out, done.err)
        found = done.json
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("doctor"))
    yield made
    made.publisher.close()


def hop(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [check for check in found["checks"] if check["name"] == name]
    assert isinstance(one, dict)
    return one


def failed(found: dict[str, Any]) -> list[str]:
    return [check["name"] for check in found["checks"] if check["ok"] is False]


def test_all_is_in_order(scene: Scene) -> None:
    found = scene.look(0)
    assert (found["ok"], failed(found)) == (True, [])
    names = [check["name"] for check in found["checks"]]
    assert names == [
        "Store", "License", "Product key", "Hardware", "Clock", "Proxy", "Probe", "Service", "Publisher", "Clocks",
    ]  # fmt: skip


def test_nothing_that_identifies_is_sent(scene: Scene) -> None:
    """The service's log has the two questions, and neither a product ID nor an installation."""
    before = len(scene.publisher.log())
    scene.look(0)
    said = scene.publisher.log()[before:]
    assert "/.well-known/keyturn" in said
    assert scene.key["product_id"] not in said


def test_no_product(tmp_path: Path) -> None:
    done = Home(tmp_path / "empty")("doctor")
    assert done.exit == 2
    assert done.json["sentence"].startswith("Store: ")


def test_a_computer_that_is_another(scene: Scene) -> None:
    found = scene.look(1, KEYTURN_SYSROOT=str(computer(scene.folder / "other-pc", synthetic(7))))
    assert failed(found) == ["Hardware"]
    assert "keyturn activate" in found["sentence"]


def test_a_clock_far_from_the_services(scene: Scene) -> None:
    found = scene.look(1, KEYTURN_NOW="2001-01-01T00:00:00Z")
    assert failed(found) == ["Clock", "Clocks"]


def test_a_dead_service(scene: Scene) -> None:
    """The license holds, the connection does not, and the port is named."""
    scene.publisher.stop()
    try:
        found = scene.look(3)
        assert failed(found) == ["Connection"]
        assert str(scene.publisher.port) in found["sentence"]
        assert hop(found, "License")["ok"] is True
    finally:
        scene.publisher.start()


def test_another_authority(scene: Scene, tmp_path: Path) -> None:
    """A TLS interception: who the client trusts did not sign what answers."""
    other = Publisher(tmp_path / "other")
    found = scene.look(3, "--ca-bundle", str(other.home / "tls" / "ca.pem"))
    assert failed(found) == ["TLS"]


def test_a_proxy_that_is_not_there(scene: Scene) -> None:
    found = scene.look(3, HTTPS_PROXY=f"http://127.0.0.1:{free_port()}")
    assert failed(found) == ["Proxy"]
    assert "HTTPS_PROXY" in found["sentence"]


@contextmanager
def portal(port: int) -> Iterator[None]:
    """What answers every question with its own page: the network of a hotel."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"login")

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_a_portal_in_between(scene: Scene) -> None:
    """The probe finds it, and HTTPS through it does not work."""
    scene.publisher.stop()
    try:
        with portal(scene.publisher.probe_port), socket.create_server(("127.0.0.1", scene.publisher.port)) as silent:
            silent.close()
            found = scene.look(3)
        assert hop(found, "Probe")["ok"] is None
        assert "portal" in hop(found, "Probe")["found"]
        assert failed(found) == ["Connection"]
    finally:
        scene.publisher.start()


def test_another_publishers_service(scene: Scene, tmp_path: Path) -> None:
    """At the right address the wrong one answers: the trust bundles are another history."""
    scene.publisher.stop()
    other = Publisher(tmp_path / "impostor")
    other.port, other.probe_port = scene.publisher.port, scene.publisher.probe_port
    other.start()
    try:
        found = scene.look(4, "--ca-bundle", str(other.home / "tls" / "ca.pem"))
        assert failed(found) == ["Publisher"]
    finally:
        other.close()
        scene.publisher.start()


def test_the_bundle_for_support_holds_no_secret(scene: Scene, tmp_path: Path) -> None:
    target = tmp_path / "doctor.json"
    scene.look(0, "--bundle", str(target))
    text = target.read_text()
    value = json.loads(text)
    assert (value["keyturn"], value["ok"]) == ("doctor", True)
    assert scene.key["key"] not in text
    for anchor in ("serial", "product_uuid", "address"):
        assert anchor not in text
