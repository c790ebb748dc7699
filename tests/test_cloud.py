"""A cloud's metadata service, played by a real server on this computer: what is asked, what is believed, how long it may take."""

from __future__ import annotations

import contextlib
import functools
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyturn.edge.probes import cloud, read
from keyturn.testing.computers import load

UUID = "9a8b7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c77"
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def says(text: str, status: int = 200, **headers: str) -> Answer:
    """An answer that is the same whatever was asked."""

    def answer(asked: http.server.BaseHTTPRequestHandler) -> None:
        body = text.encode()
        asked.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            asked.send_header(name.replace("_", "-"), value)
        asked.end_headers()
        asked.wfile.write(body)

    return answer


class Service:
    """The metadata service: what it was asked, and where it is."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _answer(self) -> None:
                service.asked.append(
                    (self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
                )
                with contextlib.suppress(ConnectionError):
                    answer(self)

            do_GET = do_PUT = _answer  # noqa: N815 - http.server calls them so

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def ask(self, kind: str) -> str | None:
        return cloud.instance(kind, "127.0.0.1", self.port)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Service]]:
    made: list[Service] = []

    def start(answer: Answer) -> Service:
        made.append(Service(answer))
        return made[-1]

    yield start
    for service in made:
        service.close()


Serve = Callable[[Answer], Service]


def ec2(token: str = "AQAEA-token==") -> Answer:
    """IMDSv2: without the token that it gave out it answers nothing."""

    def answer(asked: http.server.BaseHTTPRequestHandler) -> None:
        if (
            asked.command == "PUT"
            and asked.path == "/latest/api/token"
            and asked.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        ):
            says(token)(asked)
        elif asked.headers["X-aws-ec2-metadata-token"] == token and asked.path == "/latest/meta-data/instance-id":
            says("i-0f3e5a7c9b1d2e4f6")(asked)
        else:
            says("", 401)(asked)

    return answer


def test_ec2_is_asked_with_a_token(serve: Serve) -> None:
    """First the token, by PUT; then the instance, with it; each on a connection of its own."""
    service = serve(ec2())
    assert service.ask("aws") == "i-0f3e5a7c9b1d2e4f6"
    assert [(method, path) for method, path, _ in service.asked] == [
        ("PUT", "/latest/api/token"), ("GET", "/latest/meta-data/instance-id"),
    ]  # fmt: skip


def test_azure_and_google_are_asked_with_their_headers(serve: Serve) -> None:
    """Azure's `Metadata: true`; Google's header both ways."""
    azure, google = serve(says(UUID)), serve(says("4820934802934820934", Metadata_Flavor="Google"))
    assert azure.ask("azure") == UUID
    assert google.ask("gce") == "4820934802934820934"
    assert azure.asked[0][2]["metadata"] == "true"
    assert google.asked[0][2]["metadata-flavor"] == "Google"
    assert serve(says("4820934802934820934")).ask("gce") is None, "somebody else answered"


@pytest.mark.parametrize(
    "answer",
    [says("<html>Sign in to the hotel's network</html>"), says(""), says("x" * 300),
     says(UUID, 404), says(UUID, 302, Location="/elsewhere"),
     says(UUID + "\r\nX: y"), says("ünï")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["aws", "azure", "gce"])
def test_what_is_no_answer_is_no_value(kind: str, answer: Answer, serve: Serve) -> None:
    """A portal, a redirect, a refusal, a long text: nothing is believed and nothing is followed."""
    service = serve(answer)
    assert service.ask(kind) is None
    assert "/elsewhere" not in [path for _, path, _ in service.asked]


def test_a_token_that_would_break_the_next_question_is_not_used(serve: Serve) -> None:
    """Bytes of an answer never become lines of a request."""
    service = serve(ec2("token\r\nX-Other: 1"))
    assert service.ask("aws") is None
    assert len(service.asked) == 1


def test_another_kind_of_computer_asks_nobody(serve: Serve) -> None:
    """Only the three clouds whose service is known."""
    service = serve(says(UUID))
    assert [service.ask(kind) for kind in ("kvm", "vmware", "unknown", "")] == [None] * 4
    assert service.asked == []


@pytest.mark.parametrize("address", ["93.184.216.34", "10.0.0.1", "2001:db8::1", "0.0.0.0"])
def test_nothing_beyond_the_link_is_asked(address: str) -> None:
    """A public or private address is a mistake of the program."""
    with pytest.raises(ValueError, match="not on the link"):
        cloud.instance("aws", address)


def test_proxies_are_not_used(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question never goes to whoever the environment names."""
    proxy, service = serve(says(UUID)), serve(says(UUID))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    assert service.ask("azure") == UUID
    assert proxy.asked == []


def test_a_service_that_keeps_silent_costs_a_second(serve: Serve) -> None:
    """Silence, one byte at a time, a closed port: no value, in time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert cloud.instance("aws", "127.0.0.1", silent.getsockname()[1]) is None
        assert time.monotonic() - began < cloud.PATIENCE + 1
    assert cloud.instance("aws", "127.0.0.1", 1) is None
    enough = threading.Event()

    def drip(asked: http.server.BaseHTTPRequestHandler) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n" + UUID.encode():
            if enough.wait(0.2):
                return
            asked.wfile.write(bytes([byte]))

    service = serve(drip)
    began = time.monotonic()
    assert service.ask("azure") is None
    assert time.monotonic() - began < cloud.PATIENCE + 1
    enough.set()


# What the probe makes of it.


def test_by_default_nobody_is_asked_and_with_leave_a_user_is_told(serve: Serve, tmp_path: Path) -> None:
    """In Azure only root may read the UUID; with leave a user and root get one answer, before the UUID."""
    service = serve(says(UUID))
    ask = functools.partial(cloud.instance, address="127.0.0.1", port=service.port)
    user, root = str(load("azure-a").write(tmp_path / "u", as_user=True)), str(load("azure-a").write(tmp_path / "r"))
    assert "vm" not in read(user).reading.anchors
    assert service.asked == []
    assert read(user, ask=ask).reading.anchors == read(root, ask=ask).reading.anchors == {"vm": UUID.replace("-", "")}


def test_what_a_file_says_already_is_not_asked_for(serve: Serve, tmp_path: Path) -> None:
    """EC2's instance ID can be read by everybody; a physical computer has no cloud."""
    service = serve(ec2())
    ask = functools.partial(cloud.instance, address="127.0.0.1", port=service.port)
    for name in ("ec2-a", "office-pc-a"):
        assert read(str(load(name).write(tmp_path / name)), ask=ask).reading.anchors
    assert service.asked == []


def test_without_an_answer_the_reason_is_said(tmp_path: Path) -> None:
    """The UUID still counts for root; a user learns what was tried."""
    nobody = functools.partial(cloud.instance, address="127.0.0.1", port=1)
    root = read(str(load("azure-a").write(tmp_path / "r")), ask=nobody)
    assert set(root.reading.anchors) == {"vm"}
    user = read(str(load("azure-a").write(tmp_path / "u", as_user=True)), ask=nobody)
    assert user.unreadable["vm"] == "not readable without root"
