"""Servers that start on any port, speak TLS 1.2 or newer, answer the probe, and end in order."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from keyturn.core.errors import KeyturnError
from keyturn.edge import listen
from keyturn.edge.listen import background, server_context
from keyturn.edge.transport import Proxies, Transport, probe
from peers import Authority
from programs import Publisher


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture(scope="module")
def pem(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "tls.pem"
    authority.ca.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


def exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    return answer


def test_ports_are_known_when_it_is_ready(authority: Authority, pem: str) -> None:
    """Port 0 gives two real ports; data is served under TLS on one, the probe in plain HTTP on the other."""
    with background(hello, tls_cert=pem, probe_port=0) as ready:
        assert ready.pid == os.getpid()
        assert ready.probe_port
        assert ready.port != ready.probe_port
        with Transport(ca_pem=authority.pem, environ={}) as transport:
            assert transport.get_json(f"https://127.0.0.1:{ready.port}/") == {}
        assert probe(f"http://127.0.0.1:{ready.probe_port}/probe", proxies=Proxies()).status == 204
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", ready.port), 5)


def test_the_probe_listener_serves_nothing_else() -> None:
    """Everything but GET and HEAD of /probe is 404 without a body, even a POST with one, and the connection ends."""
    with background(hello, probe_port=0) as ready:
        assert ready.probe_port
        for request in (b"GET /probe", b"HEAD /probe"):
            answer = exchange(ready.probe_port, request + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 204 ")
            assert answer.endswith(b"\r\n\r\n")
        for request in (b"GET /", b"GET /probe/", b"GET /.well-known/keyturn", b"OPTIONS /probe", b"DELETE /probe"):
            answer = exchange(ready.probe_port, request + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 404 ")
            assert answer.endswith(b"\r\n\r\n")
            assert b"server:" not in answer.lower()
        body = b"POST /probe HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
        assert exchange(ready.probe_port, body).startswith(b"HTTP/1.1 404 ")


def test_the_probe_says_when_the_service_is_not_ready() -> None:
    """A service that is not ready answers its probe with 503."""
    state = {"ready": False}
    with background(hello, probe_port=0, probe_ready=lambda: state["ready"]) as ready:
        url = f"http://127.0.0.1:{ready.probe_port}/probe"
        assert probe(url, proxies=Proxies())[:2] == ("unready", 503)
        state["ready"] = True
        assert probe(url, proxies=Proxies())[:2] == ("go", 204)


def test_only_tls_1_2_and_newer(pem: str, authority: Authority) -> None:
    """TLS 1.2 and 1.3 are spoken, 1.1 is not, and nothing is said in plain HTTP."""
    with background(hello, tls_cert=pem) as ready:
        for version, spoken in (("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)):
            context = ssl.create_default_context(cadata=authority.pem)
            with contextlib.ExitStack() as stack:
                if version == "TLSv1_1":
                    context.set_ciphers("ALL:@SECLEVEL=0")
                    stack.enter_context(pytest.warns(DeprecationWarning, match="TLSv1_1"))
                context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
            with socket.create_connection(("127.0.0.1", ready.port), 10) as plain:
                if not spoken:
                    with pytest.raises((ssl.SSLError, ConnectionError)):
                        context.wrap_socket(plain, server_hostname="127.0.0.1")
                    continue
                with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
                    assert connection.version() == version.replace("_", ".")
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in exchange(ready.port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


def test_every_address_is_of_both_families() -> None:
    """Listening on `::` takes IPv4 too, whatever the system's default."""
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("needs IPv6 in the kernel")
    with background(hello, host="::") as ready:
        assert exchange(ready.port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").endswith(b"{}")
        socket.create_connection(("::1", ready.port), 10).close()


@pytest.mark.system
@pytest.mark.needs("prlimit")
def test_a_low_soft_limit_on_open_files_is_raised(tmp_path: Path) -> None:
    """Started with room for 256 files of 4096 allowed, the service holds 600 connections and answers the next request."""
    publisher = Publisher(tmp_path / "publisher")
    publisher.start(wrapper=("prlimit", "--nofile=256:4096"))
    try:
        limits = Path(f"/proc/{publisher.ready['pid']}/limits").read_text()
        assert "Max open files            4096                 4096" in limits
        with contextlib.ExitStack() as stack:
            for _ in range(600):
                stack.enter_context(socket.create_connection(("127.0.0.1", publisher.port), 10))
            context = ssl.create_default_context(cafile=str(publisher.home / "tls" / "ca.pem"))
            connection = http.client.HTTPSConnection("localhost", publisher.port, context=context, timeout=20)
            connection.request("GET", "/readyz")
            assert connection.getresponse().status == 200
            connection.close()
            held = len(list(Path(f"/proc/{publisher.ready['pid']}/fd").iterdir()))
            assert held > 600
    finally:
        publisher.close()


def test_an_address_that_is_taken_is_said() -> None:
    """A port in use and an address that is not ours are one typed error each, raised where the server is started."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(KeyturnError) as caught, background(hello, port=port):
            pytest.fail("it must not start")
        assert caught.value.code == "listen_failed"
        assert f"127.0.0.1:{port}: Address already in use" in caught.value.detail
        with pytest.raises(KeyturnError) as caught, background(hello, probe_port=port):
            pytest.fail("it must not start")
        assert caught.value.code == "listen_failed"
    with pytest.raises(KeyturnError) as caught, background(hello, host="nobody.invalid"):
        pytest.fail("it must not start")
    assert caught.value.code == "listen_failed"


def test_an_unusable_certificate_is_said(pem: str, tmp_path: Path) -> None:
    """A missing file, no PEM, and a key that does not fit are told before anything listens."""
    other = tmp_path / "other.pem"
    Authority().ca.issue_cert("a.example").private_key_pem.write_to_path(str(other))
    for certificate, key in ((str(tmp_path / "none.pem"), None), (__file__, None), (pem, str(other))):
        with pytest.raises(KeyturnError) as caught:
            server_context(certificate, key)
        assert caught.value.code == "file_malformed"
        assert certificate in caught.value.detail


def test_connections_are_kept(authority: Authority, pem: str) -> None:
    """Several requests travel over one connection."""
    with background(hello, tls_cert=pem) as ready:
        context = ssl.create_default_context(cadata=authority.pem)
        connection = http.client.HTTPSConnection("127.0.0.1", ready.port, context=context, timeout=10)
        for _ in range(3):
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"{}"
            first = connection.sock
            assert first is not None
        connection.close()


def test_half_a_header_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that says nothing, or never ends its header, is closed after a while; an honest one lives on."""
    monkeypatch.setattr(listen, "HEAD_TIMEOUT", 0.3)
    with background(hello) as ready:
        honest = http.client.HTTPConnection("127.0.0.1", ready.port, timeout=10)
        honest.request("GET", "/")
        assert honest.getresponse().read() == b"{}"
        for beginning in (b"", b"GET / HTTP/1.1\r\nHost: "):
            with socket.create_connection(("127.0.0.1", ready.port), 10) as connection:
                started = time.monotonic()
                connection.sendall(beginning)
                with contextlib.suppress(ConnectionError):
                    assert connection.recv(100) == b""
                assert time.monotonic() - started < 5
        kept = honest.sock
        honest.request("GET", "/")
        assert honest.getresponse().read() == b"{}"
        assert honest.sock is kept  # The keep-alive's time is another: it outlived three header times.
        honest.request("GET", "/")
        assert honest.getresponse().read() == b"{}"
        assert honest.sock is not None
        honest.sock.sendall(b"GET / HTTP/1.1\r\nHost: ")  # Half a header after whole ones is cut off just the same.
        started = time.monotonic()
        with contextlib.suppress(ConnectionError):
            assert honest.sock.recv(100) == b""
        assert time.monotonic() - started < 5
        honest.close()


PROGRAM = """
import asyncio, json, sys
from keyturn.edge.listen import run, serve

async def app(scope, receive, send):
    if scope["path"] == "/slow":
        print("working", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})

async def main():
    def on_ready(ready):
        print(json.dumps(ready._asdict()), flush=True)
    await serve(app, host="127.0.0.1", port=0, tls_cert=sys.argv[1], probe_port=0, on_ready=on_ready, stop=asyncio.Event())
    print("returned", flush=True)

run(main())
"""


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(authority: Authority, pem: str, number: signal.Signals) -> None:
    """After the signal nobody new gets in, the request in work is answered whole, and the process ends with 0."""
    command = [sys.executable, "-c", PROGRAM, pem]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        ready = json.loads(process.stdout.readline())
        assert ready["pid"] == process.pid
        context = ssl.create_default_context(cadata=authority.pem)
        connection = http.client.HTTPSConnection("127.0.0.1", ready["port"], context=context, timeout=20)
        connection.request("GET", "/slow")
        assert process.stdout.readline() == "working\n"

        process.send_signal(number)
        deadline = time.monotonic() + 10
        while not _refuses(ready["port"]):  # A condition, not a pause: the listener closes within a tick.
            assert time.monotonic() < deadline
        assert process.poll() is None
        process.stdin.write("\n")
        process.stdin.flush()
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"done")
        connection.close()
        assert process.wait(20) == 0
        assert process.stdout.read() == "returned\n"
        assert process.stderr.read() == ""


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionError:
        return True
    return False


def test_stop_from_another_thread_drains() -> None:
    """Embedded in a thread it ends the same way, and touches no signal handler."""
    before = signal.getsignal(signal.SIGTERM)
    entered, release = threading.Event(), threading.Event()
    answers: list[bytes] = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        import asyncio

        entered.set()
        await asyncio.get_running_loop().run_in_executor(None, release.wait, 10)
        await hello(scope, receive, send)

    def ask(port: int) -> None:
        answers.append(exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))

    with background(slow) as ready:
        asking = threading.Thread(target=ask, args=(ready.port,))
        asking.start()
        assert entered.wait(10)
        threading.Timer(0.2, release.set).start()
    asking.join()
    assert answers[0].startswith(b"HTTP/1.1 200")
    assert answers[0].endswith(b"{}")
    assert signal.getsignal(signal.SIGTERM) is before
