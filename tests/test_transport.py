"""The client's HTTP against real sockets and real TLS: what it accepts, what it refuses, and what it says then."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keyturn.edge.transport import ProbeResult, Proxies, Reply, Transport, probe, trust_store
from peers import CHUNKED, OK, Authority, Peer, answering, html, read_request, refused, until_gone, wait

# --- the probe --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "go"),
        (204, "go"),
        (302, "go"),
        (404, "go"),
        (499, "go"),
        (500, "unready"),
        (503, "unready"),
        (599, "unready"),
    ],
)
def test_probe_reads_only_the_status(status: int, outcome: str) -> None:
    """Any status under 500 goes on, redirects and client errors too; 500 and above means not ready."""
    seen: list[bytes] = []
    answer = f"HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".encode()
    with Peer(answering(answer, seen)) as peer:
        result = probe(f"http://127.0.0.1:{peer.port}/probe", proxies=Proxies())
    assert (result.outcome, result.status) == (outcome, status)
    assert str(peer.port) in result.detail
    assert len(seen) == 1


def test_probe_identifies_nobody() -> None:
    """The probe is exactly four lines: nothing in it differs from computer to computer."""
    seen: list[bytes] = []
    kept: list[tuple[str, bytes, bytes]] = []
    with Peer(answering(OK, seen)) as peer:
        url = f"http://127.0.0.1:{peer.port}/probe"
        probe(url, proxies={}, recorder=lambda *record: kept.append(record))
        wanted = (
            f"GET /probe HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\nUser-Agent: keyturn\r\nConnection: close\r\n\r\n"
        )
    assert seen == [wanted.encode()]
    assert [(what, sent) for what, sent, _ in kept] == [(f"GET {url}", wanted.encode())]
    assert kept[0][2] == OK


def test_probe_of_a_closed_port_is_silent() -> None:
    """A refused connection is silence with its step, not an exception."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = probe(f"http://127.0.0.1:{port}/probe", proxies=Proxies())
    assert result == ProbeResult("silent", None, f"127.0.0.1:{port}: connect: Connection refused")


def test_probe_of_an_unknown_name_is_silent() -> None:
    """A name that does not exist is silence with the step ``name``."""
    result = probe("http://nobody.invalid/probe", proxies=Proxies())
    assert (result.outcome, result.status) == ("silent", None)
    assert result.detail.startswith("nobody.invalid:80: name: ")


def test_probe_does_not_wait_longer_than_it_may() -> None:
    """A server that accepts and says nothing, or drips, is silence after the timeout."""

    def drip(connection: socket.socket) -> None:
        read_request(connection)
        for sign in b"HTTP/1.1 200 OK" + b" " * 200:
            connection.send(bytes([sign]))
            if stop.wait(0.05):
                break

    for script in (until_gone, drip):
        stop = threading.Event()
        with Peer(script) as peer:
            started = time.monotonic()
            result = probe(f"http://127.0.0.1:{peer.port}/", timeout=0.4, proxies=Proxies())
            took = time.monotonic() - started
            stop.set()
        assert result.outcome == "silent"
        assert "answer: no whole answer in time" in result.detail
        assert 0.35 < took < 3


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\x00\x00", b"", b"HTTP/1.1 abc\r\n\r\n"])
def test_probe_of_something_else_is_silent(answer: bytes) -> None:
    """What does not speak HTTP has not answered."""

    def script(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answer)

    with Peer(script) as peer:
        result = probe(f"http://127.0.0.1:{peer.port}/", proxies=Proxies())
    assert (result.outcome, result.status) == ("silent", None)
    assert ": answer: " in result.detail


@pytest.mark.parametrize(
    "url", ["https://a.example/", "ftp://a.example/", "nonsense", "http://u:secret@a.example/", ""]
)
def test_probe_address_must_be_plain_http(url: str) -> None:
    """Another kind of address is silence with the reason; a password in it is not repeated."""
    result = probe(url, proxies=Proxies())
    assert result.outcome == "silent"
    assert "http://" in result.detail
    assert "secret" not in result.detail


# --- what is sent and what comes back ---------------------------------------------------------------------------------


def test_post_sends_exactly_what_the_record_says(authority: Authority) -> None:
    """The recorder holds every byte of request and answer, as they passed inside TLS."""
    seen: list[bytes] = []
    kept: list[tuple[str, bytes, bytes]] = []
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nX-A: 1\r\nContent-Length: 7\r\n\r\n"
    answer = head + b'{"a":1}'
    with (
        Peer(answering(answer, seen), authority.context()) as peer,
        Transport(ca_pem=authority.pem, environ={}, recorder=lambda *record: kept.append(record)) as transport,
    ):
        url = f"https://127.0.0.1:{peer.port}/v1/exchange"
        reply = transport.post(url, b"aaa.bbb.ccc", "application/jose")
    assert reply.status == 200
    assert reply.media_type == "application/json"
    assert reply.headers["x-a"] == "1"
    assert reply.json() == {"a": 1}
    assert kept == [(f"POST {url}", seen[0], answer)]
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert body == b"aaa.bbb.ccc"
    assert head.split(b"\r\n") == [
        b"POST /v1/exchange HTTP/1.1",
        f"Host: 127.0.0.1:{peer.port}".encode(),
        b"User-Agent: keyturn",
        b"Accept: application/json, application/problem+json",
        b"Accept-Encoding: identity",
        b"Content-Type: application/jose",
        b"Content-Length: 11",
    ]


def test_one_connection_carries_several_posts(authority: Authority, transport: Transport) -> None:
    """The connection is kept between posts to one service, and closed by close()."""
    seen: list[bytes] = []
    with Peer(answering(OK, seen), authority.context()) as peer:
        for _ in range(5):
            transport.post(f"https://127.0.0.1:{peer.port}/a", b"x", "application/jose")
        assert (peer.connections, len(seen)) == (1, 5)
        transport.close()
        assert peer.ended.wait(10)
        transport.post(f"https://127.0.0.1:{peer.port}/a", b"x", "application/jose")
        assert peer.connections == 2
        transport.close()


def test_a_kept_connection_that_the_server_closed_is_replaced(authority: Authority, transport: Transport) -> None:
    """A server may close an idle connection at any time; the next post opens another."""
    seen: list[bytes] = []

    def once(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(OK)

    with Peer(once, authority.context()) as peer:
        for number in range(3):
            peer.ended.clear()
            assert transport.post(f"https://127.0.0.1:{peer.port}/", b"x", "application/jose").status == 200
            assert peer.ended.wait(10)
            assert len(seen) == peer.connections == number + 1


def test_a_post_that_dies_on_a_fresh_connection_is_not_repeated(authority: Authority, transport: Transport) -> None:
    """Only a kept connection is replaced: what was lost on a new one is the caller's to decide."""
    seen: list[bytes] = []
    with Peer(lambda connection: seen.append(read_request(connection)), authority.context()) as peer:
        error = refused(lambda: transport.post(f"https://127.0.0.1:{peer.port}/", b"x", "application/jose"))
    assert (error.code, error.data["step"]) == ("service_unreachable", "answer")
    assert len(seen) == 1


@pytest.mark.parametrize("second", [b"HTTP/1.1 200 OK\r\nContent-Le", None])
def test_a_post_that_may_have_been_read_is_not_repeated(authority: Authority, second: bytes | None) -> None:
    """On a kept connection too: after a part of an answer, or silence, the request may have been carried out."""
    seen: list[bytes] = []
    done = threading.Event()

    def script(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(OK)
        seen.append(read_request(connection))
        if second is None:
            wait(done)
        else:
            connection.sendall(second)

    with (
        Peer(script, authority.context()) as peer,
        Transport(ca_pem=authority.pem, environ={}, read_timeout=0.5) as transport,
    ):
        url = f"https://127.0.0.1:{peer.port}/"
        assert transport.post(url, b"1", "application/jose").status == 200
        error = refused(lambda: transport.post(url, b"2", "application/jose"))
        done.set()
        assert (error.code, peer.connections, len(seen)) == ("service_unreachable", 1, 2)


def test_problem_documents_are_answers_whatever_their_status(authority: Authority, transport: Transport) -> None:
    """A problem document is the service's word, with its code, remedy, reference and time to wait."""
    body = (
        b'{"type":"urn:keyturn:error:limit_reached","title":"t","status":409,"code":"limit_reached",'
        b'"detail":"5 of 5\\u001b[31m","remedy":"r","reference":"KT-7Q2F-91XM","retry_after":60}'
    )
    for status in (409, 503):
        answer = (
            b"HTTP/1.1 %d X\r\nContent-Type: application/problem+json\r\nRetry-After: 60\r\nContent-Length: %d\r\n\r\n"
        )
        with Peer(answering(answer % (status, len(body)) + body), authority.context()) as peer:
            reply = transport.post(f"https://127.0.0.1:{peer.port}/", b"x", "application/jose")
            transport.close()
        problem = reply.problem()
        assert reply.status == status
        assert problem is not None
        assert (problem.code, problem.remedy, problem.reference) == ("limit_reached", "r", "KT-7Q2F-91XM")
        assert problem.retry_after == 60
        assert "\x1b" not in problem.detail


def test_get_json_reads_an_object(authority: Authority, transport: Transport) -> None:
    """The directory is a JSON object, whether its length is given or it comes in chunks."""
    shapes = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n" + b'{"a":1}',
        CHUNKED + b"3\r\n" + b'{"a\r\n4\r\n":1}\r\n0\r\n\r\n',
    ]
    for shape in shapes:

        def script(connection: socket.socket, shape: bytes = shape) -> None:
            read_request(connection)
            connection.sendall(shape)

        with Peer(script, authority.context()) as peer:
            assert transport.get_json(f"https://127.0.0.1:{peer.port}/.well-known/keyturn") == {"a": 1}
            transport.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b"\xff{}",
        b"[" * 100_000,
        b'{"a":' + b"9" * 100_000 + b"}",
    ],
)
def test_json_that_is_not_ours_is_refused(body: bytes) -> None:
    """Broken, repeated, deep and huge JSON ends in one typed error."""
    assert refused(Reply(200, {}, body).json).code == "answer_unexpected"


def test_get_json_says_unready(authority: Authority, transport: Transport) -> None:
    """A directory that answers 503 is a service that is not ready: nothing was sent yet."""
    with Peer(answering(html(503)), authority.context()) as peer:
        error = refused(lambda: transport.get_json(f"https://127.0.0.1:{peer.port}/"))
        transport.close()
    assert (error.code, error.retry_after) == ("service_unready", 7)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("99999999999999999999", 30 * 86_400),
        ("Sun, 22 Nov 2026 19:01:00 GMT", 60),
        ("Sun, 22 Nov 2026 18:00:00 GMT", 0),
        ("-5", None),
        ("²", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after(text: str, seconds: int | None) -> None:
    """Seconds or a date, within bounds; anything else is as if it were not there."""
    assert Reply(503, {"retry-after": text, "date": "Sun, 22 Nov 2026 19:00:00 GMT"}, b"").retry_after == seconds


# --- trust ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "ftp://a/", "//a", "https://", "https://u:secret@a/", "https://a:99999/"]
)
def test_only_https_addresses_are_used(transport: Transport, url: str) -> None:
    """Data never leaves over anything but HTTPS, and a password in an address is not repeated."""
    error = refused(lambda: transport.post(url, b"x", "application/jose"))
    assert error.code == "usage"
    assert "secret" not in error.detail


def test_an_unknown_authority_is_refused_before_anything_is_sent(authority: Authority) -> None:
    """A certificate of somebody else's authority ends the connection; no byte of the request left."""
    seen: list[bytes] = []
    stranger = Authority()
    with (
        Peer(answering(OK, seen), stranger.context()) as peer,
        Transport(ca_pem=authority.pem, environ={}) as transport,
    ):
        error = refused(lambda: transport.post(f"https://127.0.0.1:{peer.port}/", b"x", "application/jose"))
    assert (error.code, error.data["step"]) == ("tls_untrusted", "tls")
    assert seen == []


def test_another_name_is_refused(authority: Authority, transport: Transport) -> None:
    """A good certificate for another host is no certificate for this one."""
    with Peer(answering(OK), authority.context("elsewhere.example")) as peer:
        error = refused(lambda: transport.post(f"https://127.0.0.1:{peer.port}/", b"x", "application/jose"))
    assert error.code == "tls_untrusted"
    assert "127.0.0.1" in error.detail


def test_an_expired_certificate_is_refused(authority: Authority, transport: Transport) -> None:
    """An expired certificate is named as such."""
    past = datetime(2020, 1, 1, tzinfo=UTC)
    with Peer(answering(OK), authority.context(not_after=past)) as peer:
        error = refused(lambda: transport.post(f"https://127.0.0.1:{peer.port}/", b"x", "application/jose"))
    assert error.code == "tls_untrusted"
    assert "expired" in error.detail


def test_old_tls_is_refused(authority: Authority, transport: Transport) -> None:
    """TLS 1.1 is not spoken; TLS 1.2 is."""
    context = authority.context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Peer(answering(OK), context) as peer:
        assert transport.post(f"https://127.0.0.1:{peer.port}/", b"x", "application/jose").status == 200
        transport.close()
    assert trust_store(None, None).minimum_version == ssl.TLSVersion.TLSv1_2

    old = authority.context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with Peer(answering(OK), old) as peer:
        error = refused(lambda: transport.post(f"https://127.0.0.1:{peer.port}/", b"x", "application/jose"))
    assert (error.code, error.data["step"]) == ("service_unreachable", "tls")
    assert "TLS 1.2" in error.detail


def test_plain_http_on_the_port_is_said(transport: Transport) -> None:
    """A server that speaks no TLS fails at the step ``tls``."""

    def script(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(html(400))

    with Peer(script) as peer:
        error = refused(lambda: transport.post(f"https://127.0.0.1:{peer.port}/", b"x", "application/jose"))
    assert (error.code, error.data["step"]) == ("service_unreachable", "tls")


def test_silence_instead_of_tls_is_bounded_in_time(authority: Authority) -> None:
    """A port that accepts and says nothing costs the connect timeout and no more."""
    with Peer(until_gone) as peer, Transport(environ={}, connect_timeout=0.4) as transport:
        started = time.monotonic()
        error = refused(lambda: transport.post(f"https://127.0.0.1:{peer.port}/", b"x", "application/jose"))
        assert time.monotonic() - started < 3
    assert (error.code, error.data["step"]) == ("service_unreachable", "tls")


@pytest.mark.parametrize(("host", "step"), [("127.0.0.1", "connect"), ("nobody.invalid", "name")])
def test_nobody_there(transport: Transport, host: str, step: str) -> None:
    """A closed port and an unknown name are told apart."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = refused(lambda: transport.post(f"https://{host}:{port}/", b"x", "application/jose"))
    assert (error.code, error.data) == ("service_unreachable", {"host": host, "port": port, "step": step})
    assert error.detail.startswith(f"{host}:{port}: {step}: ")


def test_ca_bundle_replaces_and_ca_pem_adds(authority: Authority, tmp_path: Path) -> None:
    """A CA bundle is the whole trust; the product file's CA stands beside the system's store."""
    bundle = str(tmp_path / "ca.pem")
    stranger = Authority()
    stranger.ca.cert_pem.write_to_path(bundle)
    with Peer(answering(OK), stranger.context()) as peer, Transport(ca_bundle=bundle, environ={}) as transport:
        assert transport.post(f"https://127.0.0.1:{peer.port}/", b"x", "application/jose").status == 200
        transport.close()
    with Peer(answering(OK), authority.context()) as peer:
        with Transport(ca_pem=authority.pem, ca_bundle=bundle, environ={}) as transport:
            error = refused(lambda: transport.post(f"https://127.0.0.1:{peer.port}/", b"x", "application/jose"))
        assert error.code == "tls_untrusted"


def test_the_systems_store_stands_beside_the_product_files_ca(authority: Authority, tmp_path: Path) -> None:
    """A publisher who moves from a private to a public certificate strands nobody: both are believed."""
    public = Authority()
    bundle = str(tmp_path / "system.pem")
    public.ca.cert_pem.write_to_path(bundle)
    code = (
        "import sys; from keyturn.edge.transport import Transport\n"
        "pem = sys.stdin.read()\n"
        "for url in sys.argv[1:]:\n"
        "    with Transport(ca_pem=pem, environ={}) as t: print(t.post(url, b'x', 'application/jose').status)\n"
    )
    with Peer(answering(OK), authority.context()) as private, Peer(answering(OK), public.context()) as moved:
        # SSL_CERT_FILE is where OpenSSL takes "the system's store" from; it is read by the process itself.
        result = subprocess.run(
            [sys.executable, "-c", code, *(f"https://127.0.0.1:{peer.port}/" for peer in (private, moved))],
            input=authority.pem,
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "SSL_CERT_FILE": bundle},
        )
    assert (result.stdout, result.stderr) == ("200\n200\n", "")


@pytest.mark.parametrize(
    "options", [{"ca_bundle": "/nowhere/ca.pem"}, {"ca_bundle": __file__}, {"ca_pem": "no certificate"}]
)
def test_an_unreadable_ca_is_a_file_error(options: dict[str, str]) -> None:
    """A CA that cannot be read is said before anything is connected."""
    with Transport(environ={}, **options) as transport:  # type: ignore[arg-type]
        assert refused(lambda: transport.post("https://127.0.0.1:1/", b"", "a/b")).code == "file_malformed"
