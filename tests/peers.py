"""Real peers on loopback for tests: scripted servers, an authority that vouches for them, a CONNECT proxy."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Self

import pytest
import trustme

from keyturn.core.errors import KeyturnError

Script = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Peer:
    """A server on loopback that runs ``script`` for each connection and remembers what came."""

    def __init__(self, script: Script, context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.context = context
        self.received: list[bytes] = []
        self.connections = 0
        self.ended = threading.Event()  # Set when a script has returned: the other side has seen the end.
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    def _accept(self) -> None:
        workers = []
        while True:
            with contextlib.suppress(OSError):
                connection, _ = self.listener.accept()
                if self.listener.fileno() == -1 or self.connections == -1:
                    connection.close()
                    break
                self.connections += 1
                workers.append(threading.Thread(target=self._serve, args=(connection,)))
                workers[-1].start()
                continue
            break
        for worker in workers:
            worker.join()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        with contextlib.ExitStack() as stack:
            stack.callback(self.ended.set)
            stack.enter_context(connection)
            stack.enter_context(contextlib.suppress(OSError))
            if self.context is not None:
                connection = stack.enter_context(self.context.wrap_socket(connection, server_side=True))
            self.script(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connections = -1
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 5).close()  # Wakes accept().
        self.thread.join()
        self.listener.close()


def read_request(connection: socket.socket) -> bytes:
    """One request, header and body; empty if the peer is gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65_536)
        if not chunk:
            return data
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    wanted = int(lengths[0].split(b":")[1]) if lengths else 0
    while len(body) < wanted:
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def answering(answer: bytes, seen: list[bytes] | None = None) -> Script:
    """A script that gives ``answer`` to every request of a connection."""

    def script(connection: socket.socket) -> None:
        while request := read_request(connection):
            if seen is not None:
                seen.append(request)
            connection.sendall(answer)

    return script


def until_gone(connection: socket.socket) -> None:
    while connection.recv(65_536):
        pass


def html(status: int) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Type: text/html\r\nRetry-After: 7\r\nContent-Length: 6\r\n\r\n<html>" % status


def wait(event: threading.Event) -> None:
    event.wait(20)


class Authority:
    """A certificate authority and the contexts of servers it vouches for."""

    def __init__(self) -> None:
        self.ca = trustme.CA()
        self.pem = self.ca.cert_pem.bytes().decode()

    def context(self, name: str = "127.0.0.1", **options: object) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(name, **options).configure_cert(context)  # type: ignore[arg-type]
        return context


class ConnectProxy(Peer):
    """A real CONNECT proxy: it joins the two sides, asks for credentials if told to, and remembers each request."""

    def __init__(self, authorization: str | None = None) -> None:
        self.authorization = authorization
        self.requests: list[bytes] = []
        super().__init__(self._join)

    def _join(self, client: socket.socket) -> None:
        request = read_request(client)
        self.requests.append(request)
        if self.authorization is not None and f"Proxy-Authorization: {self.authorization}\r\n".encode() not in request:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        method, place, _ = request.split(b" ", 2)
        if method != b"CONNECT":
            client.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            return
        host, _, port = place.decode().rpartition(":")
        try:
            # Every name leads to loopback here, so that a test can see whether the proxy or the client looked it up.
            server = socket.create_connection(("127.0.0.1", int(port)), 5) if host != "gone.example" else None
        except OSError:
            server = None
        if server is None:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        with server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=self._pump, args=(server, client))
            back.start()
            self._pump(client, server)
            back.join()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def refused(call: Callable[[], object]) -> KeyturnError:
    with pytest.raises(KeyturnError) as caught:
        call()
    return caught.value
