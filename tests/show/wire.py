"""Listeners of our own on a publisher's two ports: they write down in which order what arrived, byte for byte."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from peers import read_request


class Event(NamedTuple):
    """Something that reached a port: ``what`` is ``connected``, ``tls`` (with the version) or ``request`` (with all bytes)."""

    port: str
    what: str
    data: bytes


class Ear:
    """A listener on loopback. ``answer`` maps a request's bytes to the answer's; None: it never answers."""

    def __init__(
        self, name: str, port: int, events: list[Event], answer: Callable[[bytes], bytes] | None,
        context: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self.name, self.port, self.events, self.answer, self.context = name, port, events, answer, context
        self.closing = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", port))
        self.thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 5).close()  # Wakes accept().
        self.thread.join()
        self.listener.close()

    def _accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            if self.closing.is_set():
                connection.close()
                return
            self.events.append(Event(self.name, "connected", b""))
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(30)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            connection = stack.enter_context(plain)
            if self.context is not None:
                secured = stack.enter_context(self.context.wrap_socket(connection, server_side=True))
                self.events.append(Event(self.name, "tls", (secured.version() or "").encode()))
                connection = secured
            while request := read_request(connection):
                self.events.append(Event(self.name, "request", request))
                if self.answer is None:
                    self.closing.wait(30)
                    return
                connection.sendall(self.answer(request))


def status(code: int) -> Callable[[bytes], bytes]:
    """A probe's answer of this status; a redirect points where nobody must go."""
    location = b"Location: http://127.0.0.1:9/elsewhere\r\n" if 300 <= code < 400 else b""
    return lambda _request: (
        b"HTTP/1.1 %d Scripted\r\n%sContent-Length: 0\r\nConnection: close\r\n\r\n" % (code, location)
    )


def forwarding(port: int) -> Callable[[bytes], bytes]:
    """Pass a request on to the real service on ``port``, and its answer back, without looking into either."""

    def forward(request: bytes) -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", port), 30) as plain, context.wrap_socket(plain) as secured:
            secured.sendall(request)
            return read_request(secured)  # An answer is read like a request: header, then as many bytes as it says.

    return forward


def tls(folder: Path) -> ssl.SSLContext:
    """The service's own certificate and key: we stand where it stands."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls" / "cert.pem", folder / "tls" / "key.pem")
    return context


@contextlib.contextmanager
def ears(*listeners: Ear) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        yield


def body_of(event: Event) -> bytes:
    return event.data.partition(b"\r\n\r\n")[2]
