"""Hostile requests against a real server over TLS: always a 4xx or a closed connection, soon, and nothing is told."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from keyturn.core.errors import KeyturnError
from keyturn.edge import listen
from keyturn.edge.limits import Limits
from keyturn.edge.listen import background
from keyturn.edge.transport import Transport
from keyturn.edge.web import PUBLIC, Route, application, json_response
from peers import Authority

SECRET = "ABCDE-SECRET-PRODUCT-KEY"


async def echo(request: Request) -> Response:
    return json_response({"length": len(await request.body())})


async def crash(request: Request) -> Response:
    raise RuntimeError(f"could not handle {(await request.body()).decode()}")


async def full_disk(request: Request) -> Response:
    raise KeyturnError("storage_failed", "the disk is full", retry_after=30) from OSError(SECRET)


async def crash_late(request: Request) -> Response:
    async def parts() -> object:
        yield b"begun"
        raise RuntimeError(SECRET)

    return StreamingResponse(parts())  # type: ignore[arg-type]


class Gate:
    """Handlers that wait here hold their request in work."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()

    async def wait(self, request: Request) -> Response:
        self.entered.release()
        await asyncio.get_running_loop().run_in_executor(None, self.release.wait, 10)
        return json_response({})


ROUTES = [
    Route("/echo", "POST", echo, PUBLIC),
    Route("/batch/{name}", "POST", echo, PUBLIC, max_body=1_000_000, content_types=("application/json",)),
    Route("/crash", "POST", crash, PUBLIC),
    Route("/late", "GET", crash_late, PUBLIC),
    Route("/full", "GET", full_disk, PUBLIC),
]


class Site:
    """A server over TLS and raw connections to it."""

    def __init__(self, port: int, pem: str, log: list[tuple[str, Mapping[str, object]]]) -> None:
        self.port = port
        self.pem = pem
        self.context = ssl.create_default_context(cadata=pem)
        self.log = log

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), 10)
        return self.context.wrap_socket(plain, server_hostname="127.0.0.1")

    def send(self, *pieces: bytes) -> bytes:
        """What the server answers until it closes; the empty string if it closes at once."""
        with self.connect() as connection:
            answer = b""
            with contextlib.suppress(OSError):
                for piece in pieces:
                    connection.sendall(piece)
            with contextlib.suppress(OSError):
                while data := connection.recv(65_536):
                    answer += data
        return answer

    def status(self, *pieces: bytes) -> int | None:
        answer = self.send(*pieces)
        return int(answer.split(b" ", 2)[1]) if answer else None


SiteMaker = Callable[..., contextlib.AbstractContextManager[Site]]


def post(path: str = "/echo", *headers: str, body: bytes = b"", kind: str = "application/jose") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Type: {kind}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def sized(body: bytes, *headers: str, path: str = "/echo", kind: str = "application/jose") -> bytes:
    return post(path, f"Content-Length: {len(body)}", *headers, body=body, kind=kind)


@pytest.fixture(scope="module")
def make_site(tmp_path_factory: pytest.TempPathFactory) -> SiteMaker:
    authority = Authority()
    folder: Path = tmp_path_factory.mktemp("tls")
    certificate = authority.ca.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "tls.pem"))

    @contextlib.contextmanager
    def make(routes: list[Route] = ROUTES, **options: object) -> Iterator[Site]:
        log: list[tuple[str, Mapping[str, object]]] = []
        app = Limits(
            application(routes),
            routes=routes,
            log=lambda event, fields: log.append((event, fields)),
            **options,  # type: ignore[arg-type]
        )
        with background(app, tls_cert=str(folder / "tls.pem")) as ready:
            yield Site(ready.port, authority.pem, log)

    return make


@pytest.fixture(scope="module")
def site(make_site: SiteMaker) -> Iterator[Site]:
    with make_site() as value:
        yield value


def members(answer: bytes) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    return dict(json.loads(body))


def whole(connection: socket.socket) -> bytes:
    """One answer with a Content-Length, from a connection that stays open."""
    answer = b""
    while True:
        head, _, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if length is not None and len(body) >= int(length[1]):
            return answer
        data = connection.recv(65_536)
        assert data
        answer += data


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


def test_a_body_within_its_bounds_arrives_whole(site: Site) -> None:
    """16 KiB pass, by length and in chunks; a route may have its own bound and type."""
    body = b"x" * 16_384
    assert site.send(sized(body)).endswith(b'{"length":16384}')
    pieces = chunked(*[body[:4096]] * 4, b"")
    assert site.send(post("/echo", "Transfer-Encoding: chunked"), pieces).endswith(b'{"length":16384}')
    large = sized(b"x" * 1_000_000, path="/batch/one", kind="application/json; charset=utf-8")
    assert site.send(large).endswith(b'{"length":1000000}')
    assert site.status(sized(b"x", path="/batch/one")) == 415


def test_an_oversized_body_is_refused_by_its_length(site: Site) -> None:
    """The announced length is enough: nothing of the body is waited for."""
    for length in ("16385", "1000001", "9" * 15):
        answer = site.send(post("/echo", f"Content-Length: {length}"))
        assert members(answer)["code"] == "input_too_large"
        assert answer.startswith(b"HTTP/1.1 413")
    assert site.status(post("/batch/one", "Content-Length: 1000001", kind="application/json")) == 413


def test_an_oversized_body_is_refused_while_it_streams(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks without end are cut at the bound, and soon after the connection too, whoever goes on sending."""
    monkeypatch.setattr(listen, "LINGER", 0.3)
    answer = site.send(post("/echo", "Transfer-Encoding: chunked"), chunked(b"x" * 8_000), chunked(b"x" * 8_385))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()
    with site.connect() as connection:
        connection.sendall(post("/echo", "Transfer-Encoding: chunked").replace(b"Connection: close\r\n", b""))
        started = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT012 - how it is told depends on the moment
            while time.monotonic() - started < 10:
                connection.sendall(chunked(b"x" * 65_536))
        assert time.monotonic() - started < 5


def test_encoded_bodies_are_not_read(site: Site) -> None:
    """A gzip bomb stays a bomb: Content-Encoding other than identity is 415."""
    bomb = gzip.compress(b"0" * 10_000_000)
    assert len(bomb) < 16_384
    for encoding in ("gzip", "br", "identity, gzip", "x"):
        assert site.status(sized(bomb, f"Content-Encoding: {encoding}")) == 415
    assert site.status(sized(b"x", "Content-Encoding: identity")) == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "", "application/jose/x", "multipart/form-data"])
def test_other_content_types_are_not_read(site: Site, kind: str) -> None:
    """Only the types of the route are taken."""
    assert site.status(sized(b"x", kind=kind)) == 415


def test_a_slow_body_times_out(make_site: SiteMaker) -> None:
    """A body that does not come in time is 408; others are served meanwhile."""
    with make_site(body_timeout=0.3) as site:
        started = time.monotonic()
        with site.connect() as slow:
            slow.sendall(post("/echo", "Content-Length: 10", body=b"x"))
            assert site.status(sized(b"x")) == 200
            answer = whole(slow)
        assert answer.startswith(b"HTTP/1.1 408")
        assert members(answer)["code"] == "request_unsupported"
        assert time.monotonic() - started < 3


def test_too_many_requests_at_once(make_site: SiteMaker) -> None:
    """Above the bound a request is told when to come back; those in work are not disturbed."""
    gate = Gate()
    with make_site([Route("/wait", "GET", gate.wait, PUBLIC)], max_requests=2) as site, contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(site.connect()) for _ in range(2)]
        for connection in waiting:
            connection.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            assert gate.entered.acquire(timeout=10)
        answer = site.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503")
        assert members(answer)["retry_after"] == 2
        gate.release.set()
        assert all(whole(connection).startswith(b"HTTP/1.1 200") for connection in waiting)
        waiting[0].sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert whole(waiting[0]).startswith(b"HTTP/1.1 200")


GET = b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (GET + b"X: " + b"a" * 20_000 + b"\r\n\r\n", {431}),
        (GET + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n", {431, 400}),
        (GET + b"X: 1\r\n" * 100 + b"\r\n", {431}),
        (GET + b"X: 1\r\n" * 100_000 + b"\r\n", {431, 400}),
        (b"GET /" + b"a" * 3_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", {414}),
        (b"GET /" + b"a" * 1_000_000, {431, 414, 400}),
        (b"BREW /echo HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
        (b"PROPFIND /echo HTTP/1.1\r\nHost: a\r\n\r\n", {405}),
        (b"TRACE /echo HTTP/1.1\r\nHost: a\r\n\r\n", {405}),
        (b"GET /echo\r\n\r\n", {400}),
        (b"POST /echo HTTP/0.9\r\n\r\n", {400}),
        (b"GET /echo HTTP/9.9\r\n\r\n", {400}),
        (b"GET  HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
        (b"\x00\x01\x02\x03\r\n\r\n", {400}),
        (b"\xff" * 5_000, {400}),
        (b"\r\n" * 50_000 + b"x", {400, 431}),
        (b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
        (b"GET /\xc0\xaf%00%ff HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", {400, 404}),
        (GET + b"Bad Header\r\n\r\n", {400}),
        (GET + b"X\x00Y: 1\r\n\r\n", {400}),
        (GET + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", {400}),
        (GET + b"Content-Length: -1\r\n\r\n", {400}),
        (GET + b"Content-Length: 99999999999999999999999\r\n\r\n", {400, 413}),
        (GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n", {400}),
        (GET + b"Transfer-Encoding: chunked, identity\r\n\r\nx", {400, 415}),
        (post("/echo", "Transfer-Encoding: chunked", body=b"zz\r\n"), {400}),
        (post("/echo", "Transfer-Encoding: chunked", body=b"fffffffffffffffff\r\n"), {400}),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", {400, 405}),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", {400, 404}),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    ],
)
def test_hostile_requests_end_in_4xx_or_a_closed_connection(
    site: Site, request_bytes: bytes, statuses: set[int]
) -> None:
    """Each ends soon in one of its statuses, or the connection is closed; honest requests go on."""
    started = time.monotonic()
    status = site.status(request_bytes)
    assert status is None or status in statuses
    assert time.monotonic() - started < 2
    assert site.status(sized(b"x")) == 200
    assert site.log == []


def test_slow_headers_do_not_stop_honest_requests(site: Site) -> None:
    """Two hundred connections with half a header cost nobody else anything."""
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(site.connect()).sendall(b"GET /echo HTTP/1.1\r\nHost: ")
        with Transport(ca_pem=site.pem, environ={}) as transport:
            times = []
            for _ in range(20):
                started = time.monotonic()
                assert transport.post(f"https://127.0.0.1:{site.port}/echo", b"x", "application/jose").status == 200
                times.append(time.monotonic() - started)
    print(f"slowest of 20 beside 200 slow headers: {max(times) * 1000:.1f} ms")
    assert max(times) < 1


def test_a_crash_is_told_with_a_reference_and_logged_once(make_site: SiteMaker) -> None:
    """Nothing of the request or of the exception's text leaves the handler; the reference joins answer and log."""
    with make_site(reference=lambda: "KT-7Q2F-91XM") as site:
        answer = site.send(sized(SECRET.encode(), path="/crash"))
        assert answer.startswith(b"HTTP/1.1 500")
        told = members(answer)
        assert (told["code"], told["reference"]) == ("internal", "KT-7Q2F-91XM")
        assert SECRET.encode() not in answer
        assert [event for event, _ in site.log] == ["request_failed"]
        event = site.log[0][1]
        assert (event["reference"], event["error"], event["method"]) == ("KT-7Q2F-91XM", "RuntimeError", "POST")
        assert "crash" in str(event["places"])
        assert SECRET not in str(site.log)


def test_a_fault_of_ours_is_logged_with_its_cause(make_site: SiteMaker) -> None:
    """A full disk answers 503 with the time to wait; the log names the cause's type, not its text."""
    with make_site() as site:
        answer = site.send(b"GET /full HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (members(answer)["code"], members(answer)["retry_after"]) == ("storage_failed", 30)
        assert answer.startswith(b"HTTP/1.1 503")
        assert [fields["error"] for _, fields in site.log] == ["OSError"]
        assert SECRET not in str(site.log)


def test_an_answer_that_breaks_off_is_seen_as_broken(make_site: SiteMaker, capfd: pytest.CaptureFixture[str]) -> None:
    """A crash after the first byte cuts the connection without the final chunk, and prints nothing."""
    with make_site() as site:
        answer = site.send(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"begun" in answer
        assert not answer.endswith(b"0\r\n\r\n")
        assert [event for event, _ in site.log] == ["request_failed"]
    assert capfd.readouterr() == ("", "")
