"""One exchange with hostile and broken servers: bounded in size and time, and always a typed error."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest

from keyturn.edge.transport import Transport
from peers import CHUNKED, Authority, Peer, html, read_request, refused, until_gone, wait


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (
            b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
            "answer_unexpected",
        ),
        (html(404), "answer_unexpected"),
        (html(503), "service_unreachable"),
        (html(429), "service_unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "answer_unexpected"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000, "answer_unexpected"),
        (CHUNKED + b"10000\r\n" + b"x" * 65_536 + b"\r\n", "service_unreachable"),
        (CHUNKED + b"zz\r\n", "service_unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "service_unreachable"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "service_unreachable"),  # Whole or cut off: nobody knows.
        (b"HTTP/1.0 200 OK\r\n\r\n{}", "service_unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2", "service_unreachable"),
        (b"HTTP/1.1 200 OK\r\nX: 1\r\n", "service_unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", "answer_unexpected"),
        (b"HTTP/1.1 200 OK\r\n" + b"X-A: 1\r\n" * 200 + b"\r\n", "answer_unexpected"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", "answer_unexpected"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 60_000, "answer_unexpected"),
        (b"garbage\r\n\r\n", "answer_unexpected"),
        (b"\x00" * 70_000, "answer_unexpected"),
        (b"", "service_unreachable"),
    ],
)
def test_hostile_answers_end_in_a_typed_error(
    authority: Authority, transport: Transport, answer: bytes, code: str
) -> None:
    """Whatever a server says, the client ends with one of its own errors that names host, port and step."""

    def script(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answer)

    with Peer(script, authority.context()) as peer:
        error = refused(lambda: transport.post(f"https://127.0.0.1:{peer.port}/", b"x", "application/jose"))
        transport.close()
    assert error.code == code
    assert error.detail.startswith(f"127.0.0.1:{peer.port}: answer: ")
    assert error.data == {"host": "127.0.0.1", "port": peer.port, "step": "answer"}
    assert (b" 302 " in answer) == ("redirects are not followed" in error.detail)
    if b"Retry-After: 7" in answer and code == "service_unreachable":
        assert error.retry_after == 7


def test_an_endless_answer_is_cut(authority: Authority, transport: Transport) -> None:
    """A body without end is refused after one MiB, not read until memory ends."""
    sent = [0]

    def script(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent[0] += connection.send(b"x" * 65_536)

    with Peer(script, authority.context()) as peer:
        error = refused(lambda: transport.get_json(f"https://127.0.0.1:{peer.port}/"))
    assert error.code == "answer_unexpected"
    assert sent[0] < 16 << 20


def test_a_dripping_answer_is_bounded_in_time(authority: Authority) -> None:
    """One byte now and then keeps a socket's time-out happy, but not ours."""
    stop = threading.Event()

    def script(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(200):
            if stop.wait(0.05):
                break
            connection.send(b"x")

    with (
        Peer(script, authority.context()) as peer,
        Transport(ca_pem=authority.pem, environ={}, read_timeout=0.5) as transport,
    ):
        started = time.monotonic()
        error = refused(lambda: transport.post(f"https://127.0.0.1:{peer.port}/", b"x", "application/jose"))
        stop.set()
        assert 0.4 < time.monotonic() - started < 3
    assert (error.code, error.data["step"]) == ("service_unreachable", "answer")


def test_a_server_that_does_not_read_is_bounded_in_time(authority: Authority) -> None:
    """A body that nobody takes ends at the same limit."""
    done = threading.Event()
    with (
        Peer(lambda _: wait(done), authority.context()) as peer,
        Transport(ca_pem=authority.pem, environ={}, read_timeout=0.5) as transport,
    ):
        error = refused(
            lambda: transport.post(f"https://127.0.0.1:{peer.port}/", b"x" * 30_000_000, "application/jose")
        )
        done.set()
    assert (error.code, error.data["step"]) == ("service_unreachable", "answer")


def test_an_answer_given_before_the_body_was_read_is_heard(authority: Authority, transport: Transport) -> None:
    """A server that refuses a large body at once and closes is understood all the same."""
    answer = (
        b"HTTP/1.1 413 X\r\nContent-Type: application/problem+json\r\nContent-Length: 26\r\nConnection: close\r\n\r\n"
    )

    def script(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(answer + b'{"code":"input_too_large"}')
        assert isinstance(connection, ssl.SSLSocket)
        until_gone(connection)

    with Peer(script, authority.context()) as peer:
        reply = transport.post(f"https://127.0.0.1:{peer.port}/", b"x" * 100_000, "application/jose")
        problem = reply.problem()
        transport.close()
    assert problem is not None
    assert (reply.status, problem.code) == (413, "input_too_large")
