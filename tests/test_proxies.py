"""Proxies: what the environment means, and a real CONNECT proxy on the way."""

from __future__ import annotations

import base64
import socket

import pytest

from keyturn.edge.transport import Proxies, Transport, probe
from peers import OK, Authority, ConnectProxy, Peer, answering, refused

SECRET = "Basic " + base64.b64encode("user:päß:wörd@".encode()).decode()


def test_a_post_through_a_proxy_with_credentials(authority: Authority) -> None:
    """The proxy gets the name and the credentials, the service gets the request, and the record gets no secret."""
    kept: list[tuple[str, bytes, bytes]] = []
    seen: list[bytes] = []
    with ConnectProxy(SECRET) as proxy, Peer(answering(OK, seen), authority.context("service.example")) as peer:
        environ = {"HTTPS_PROXY": f"http://user:p%C3%A4%C3%9F%3Aw%C3%B6rd%40@127.0.0.1:{proxy.port}"}
        with Transport(
            ca_pem=authority.pem, environ=environ, recorder=lambda *record: kept.append(record)
        ) as transport:
            for _ in range(2):
                assert transport.post(f"https://service.example:{peer.port}/", b"x", "application/jose").status == 200
            assert "user" not in repr(transport.__dict__)
    assert len(proxy.requests) == 1
    assert proxy.requests[0].startswith(f"CONNECT service.example:{peer.port} HTTP/1.1\r\n".encode())
    assert len(seen) == 2
    assert [what.split(" ")[0] for what, _, _ in kept] == ["CONNECT", "POST", "POST"]
    assert b"Proxy-Authorization" not in seen[0]
    assert all(SECRET.encode() not in sent for _, sent, _ in kept)


@pytest.mark.parametrize(("host", "status"), [("gone.example", "502"), ("service.example", "407")])
def test_a_proxy_that_refuses_is_named(host: str, status: str) -> None:
    """What the proxy says is the proxy's fault, with its place and without our password."""
    with ConnectProxy(SECRET if status == "407" else None) as proxy:
        environ = {"https_proxy": f"http://user:secret@127.0.0.1:{proxy.port}"}
        with Transport(environ=environ) as transport:
            error = refused(lambda: transport.post(f"https://{host}/", b"x", "application/jose"))
    assert (error.code, error.data["step"]) == ("service_unreachable", "proxy")
    assert f"127.0.0.1:{proxy.port}" in error.detail
    assert status in error.detail
    assert "secret" not in error.detail


def test_a_proxy_that_is_not_there_is_named() -> None:
    """A dead proxy is not passed by."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Transport(environ={"ALL_PROXY": f"http://u:secret@127.0.0.1:{port}"}) as transport:
        error = refused(lambda: transport.post("https://service.example/", b"x", "application/jose"))
    assert (error.code, error.data["step"]) == ("service_unreachable", "proxy")
    assert f"127.0.0.1:{port}: Connection refused" in error.detail
    assert "secret" not in error.detail


def test_the_probe_takes_the_http_proxy() -> None:
    """Through a proxy the probe names the whole address; the credentials go to the proxy alone."""
    kept: list[tuple[str, bytes, bytes]] = []
    with ConnectProxy() as proxy:
        environ = {"http_proxy": f"http://user:secret@127.0.0.1:{proxy.port}/"}
        result = probe("http://service.example/probe", proxies=environ, recorder=lambda *record: kept.append(record))
    assert (result.outcome, result.status) == ("go", 204)
    assert f"through the proxy 127.0.0.1:{proxy.port}" in result.detail
    assert proxy.requests[0].startswith(b"GET http://service.example/probe HTTP/1.1\r\nHost: service.example\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n" in proxy.requests[0]
    assert b"dXNlcjpzZWNyZXQ=" not in kept[0][1]


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({}, "https://a.example:443", None),
        ({"HTTPS_PROXY": "p:1"}, "https://a.example:443", "p:1"),
        ({"HTTPS_PROXY": "p:1", "https_proxy": "http://q"}, "https://a.example:443", "q:80"),
        ({"HTTPS_PROXY": "p:1", "https_proxy": ""}, "https://a.example:443", "p:1"),
        ({"HTTP_PROXY": "p:1"}, "https://a.example:443", None),
        ({"HTTP_PROXY": "p:1"}, "http://a.example:80", "p:1"),
        ({"HTTP_PROXY": "p:1", "REQUEST_METHOD": "GET"}, "http://a.example:80", None),
        ({"ALL_PROXY": "p:1"}, "http://a.example:80", "p:1"),
        ({"ALL_PROXY": "p:1", "https_proxy": "[::1]:8"}, "https://a.example:443", "[::1]:8"),
        ({"ALL_PROXY": "p:1", "NO_PROXY": "*"}, "https://a.example:443", None),
        ({"ALL_PROXY": "p:1", "NO_PROXY": "b.example, example"}, "https://a.example:443", None),
        ({"ALL_PROXY": "p:1", "no_proxy": ".a.example"}, "https://A.example.:443", None),
        ({"ALL_PROXY": "p:1", "no_proxy": "*.example"}, "https://a.example:443", None),
        ({"ALL_PROXY": "p:1", "NO_PROXY": "le"}, "https://a.example:443", "p:1"),
        ({"ALL_PROXY": "p:1", "NO_PROXY": "xa.example"}, "https://a.example:443", "p:1"),
        ({"ALL_PROXY": "p:1", "NO_PROXY": "a.example:444"}, "https://a.example:443", "p:1"),
        ({"ALL_PROXY": "p:1", "NO_PROXY": "a.example:443"}, "https://a.example:443", None),
        ({"ALL_PROXY": "p:1", "NO_PROXY": "10.0.0.0/8"}, "https://10.1.2.3:443", None),
        ({"ALL_PROXY": "p:1", "NO_PROXY": "10.0.0.0/8"}, "https://11.1.2.3:443", "p:1"),
        ({"ALL_PROXY": "p:1", "NO_PROXY": "::1"}, "https://::1:443", None),
        ({"ALL_PROXY": "p:1", "NO_PROXY": "[::1]:444"}, "https://::1:443", "p:1"),
        ({"ALL_PROXY": "p:1"}, "https://127.0.0.1:443", "p:1"),
    ],
)
def test_proxy_of_the_environment(environ: dict[str, str], url: str, proxy: str | None) -> None:
    """The environment is read as curl reads it."""
    scheme, _, place = url.partition("://")
    host, _, port = place.rpartition(":")
    found = Proxies.from_environment(environ).find(scheme, host, int(port))
    assert (found.place if found else None) == proxy


@pytest.mark.parametrize(
    "text", ["socks5://u:secret@p:1", "https://u:secret@p", "http://", "http://u:secret@:x", "http://[secret"]
)
def test_unusable_proxies_are_refused_not_passed_by(text: str) -> None:
    """A proxy of a kind we cannot use is an error: the request does not go round it."""
    proxies = Proxies.from_environment({"https_proxy": text})
    error = refused(lambda: proxies.find("https", "a.example", 443))
    assert error.code == "service_unreachable"
    assert "secret" not in error.detail + repr(proxies)
