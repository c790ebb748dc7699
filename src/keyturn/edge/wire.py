"""One exchange over one socket: addresses, bounded connections, and faults that name the step that failed.

Keeps: deadlines, bounds and the memory of every byte sent and received. The HTTP grammar is ``http.client``'s.
Leaves to others: which host, which proxy and which trust store (``keyturn.edge.transport``).
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Mapping
from typing import Literal, NamedTuple, cast

from keyturn.core.errors import KeyturnError

MAX_ANSWER = 1 << 20
MAX_HEAD = 64 << 10
_PORTS = {"https": 443, "http": 80}

Step = Literal["name", "connect", "proxy", "tls", "answer"]


class Target(NamedTuple):
    """An address taken apart. ``host`` is in its ASCII form, without brackets; ``path`` holds the query too."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str, scheme: str) -> Target:
        """Raises: KeyturnError ``usage`` if ``url`` is no address of this scheme, or names a user."""
        shown = "".join(sign for sign in url.rpartition("@")[2][:200] if sign.isprintable())  # Never a password.
        try:
            parts = urllib.parse.urlsplit(url)
            host = parts.hostname or ""
            host = host if ":" in host else host.encode("idna").decode("ascii")
            port = parts.port or _PORTS[scheme]
        except ValueError as error:
            raise KeyturnError("usage", f"{shown!r} is not an address.") from error
        if parts.scheme != scheme or not host or "@" in parts.netloc:
            why = "data is sent over https:// only" if scheme == "https" else "the probe goes to a plain http:// place"
            raise KeyturnError("usage", f"{shown!r} cannot be used: {why}, with a host and without a user name.")
        path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
        if parts.query:
            path += "?" + urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~?")
        return cls(scheme, host, port, path)

    @property
    def place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def authority(self) -> str:
        """The ``Host`` header: the port only if it is not the usual one."""
        return self.place.rpartition(":")[0] if self.port == _PORTS[self.scheme] else self.place

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    def fault(self, code: str, step: Step, text: str, retry_after: int | None = None) -> KeyturnError:
        """The error ``code`` with host, port and step in its detail and its data."""
        data = {"host": self.host, "port": self.port, "step": step}
        return KeyturnError(code, f"{self.place}: {step}: {text}", retry_after=retry_after, data=data)

    def answer_fault(self, error: Exception) -> KeyturnError:
        """The error for whatever went wrong after the request began to leave."""
        if isinstance(error, KeyturnError):
            return error
        if isinstance(error, TooLargeError):
            return self.fault("answer_unexpected", "answer", f"it is larger than {MAX_ANSWER} bytes")
        if isinstance(error, TimeoutError):
            return self.fault("service_unreachable", "answer", "no whole answer in time")
        if isinstance(error, (OSError, http.client.IncompleteRead)):
            return self.fault("service_unreachable", "answer", "the connection was closed before the answer was whole")
        return self.fault("answer_unexpected", "answer", "it is not HTTP")


class Connection:
    """A socket with a deadline, a bound, and a memory of what passed in the current exchange."""

    def __init__(self, sock: socket.socket, place: str) -> None:
        self.sock = sock
        self.place = place
        self.sent = bytearray()
        self.received = bytearray()
        self._deadline = 0.0

    def begin(self, deadline: float) -> None:
        """Begin an exchange that must be over by ``deadline`` (monotonic seconds)."""
        self._deadline = deadline
        self.sent.clear()
        self.received.clear()

    def close(self) -> None:
        self.sock.close()

    def stale(self) -> bool:
        """Whether the idle connection has something to read: the server closed it, or speaks unasked."""
        return bool(select.select([self.sock], [], [], 0)[0])

    def head(self, method: str, request: bytes) -> http.client.HTTPResponse:
        """Send ``request`` and return the answer up to the end of its header."""
        try:
            view = memoryview(request)
            while view:
                self.sock.settimeout(remaining(self._deadline))
                count = self.sock.send(view[:65_536])
                self.sent += view[:count]
                view = view[count:]
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
            pass  # A server that refuses a body may answer and close before it has read it all: read that answer.
        response = http.client.HTTPResponse(cast(socket.socket, self), method=method)
        response.begin()
        return response

    def whole(self, method: str, request: bytes) -> tuple[int, Mapping[str, str], bytes, bool]:
        """Send ``request``; return status, headers (names in lower case), body, and whether it stays open."""
        response = self.head(method, request)
        if response.length is not None and response.length > MAX_ANSWER:
            raise TooLargeError
        # Without a length it is chunked, and the bound is on what comes.
        body = response.read() if response.length is not None else response.read(MAX_ANSWER + 1)
        if len(body) > MAX_ANSWER:
            raise TooLargeError
        headers = {name.lower(): value.strip() for name, value in response.getheaders()}
        return response.status, headers, body, not response.will_close

    def makefile(self, mode: str) -> io.BufferedReader:
        """What ``http.client.HTTPResponse`` asks of a socket."""
        return io.BufferedReader(_Reader(self))

    def receive_into(self, buffer: memoryview) -> int:
        self.sock.settimeout(remaining(self._deadline))
        count = self.sock.recv_into(buffer)
        if count == 0:
            # An answer says where it ends, so the connection's end is never the answer's: not every Python tells a
            # TLS connection that was closed from one that was cut.
            raise ConnectionResetError("closed before the answer was whole")
        self.received += buffer[:count]
        if len(self.received) > MAX_ANSWER + MAX_HEAD:
            raise TooLargeError
        return count


class TooLargeError(Exception):
    """More bytes came than any answer of the protocol has."""


FAULTS = (OSError, http.client.HTTPException, ValueError, TooLargeError)  # What an exchange may end with.


class _Reader(io.RawIOBase):
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        return self._connection.receive_into(memoryview(cast(bytearray, buffer)))


def remaining(deadline: float) -> float:
    """Seconds until ``deadline``. Raises: TimeoutError once it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def words(error: Exception) -> str:
    """What an operating system's error says, without its number."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__


def open_socket(target: Target, host: str, port: int, deadline: float) -> socket.socket:
    """Connect to ``host``, which is the target's or its proxy's, trying every address of its name.

    Raises: KeyturnError ``service_unreachable`` with the step name or connect (proxy, if it is the proxy's).
    """
    through = (host, port) != (target.host, target.port)
    prefix = f"{host}:{port}: " if through else ""
    try:
        addresses = _resolve(host, port, deadline)
    except OSError as error:
        raise target.fault("service_unreachable", "proxy" if through else "name", prefix + words(error)) from error
    problem: Exception = OSError("the name has no address")
    for count, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            # An address that swallows packets may use only its share, so that the next one is tried too.
            sock.settimeout(remaining(deadline) / (len(addresses) - count))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            problem = error
    raise target.fault("service_unreachable", "proxy" if through else "connect", prefix + words(problem)) from problem


class _Address(NamedTuple):
    family: int
    kind: int
    protocol: int
    name: str
    address: tuple[object, ...]


def _resolve(host: str, port: int, deadline: float) -> list[_Address]:
    """Look a name up within the deadline; the system's resolver knows none, so its thread may be left behind."""
    found: list[_Address] = []
    failed: list[OSError] = []

    def look() -> None:
        try:
            found.extend(_Address(*info) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            failed.append(error)
        except UnicodeError:
            failed.append(OSError("the name is not valid"))

    thread = threading.Thread(target=look, daemon=True, name="keyturn-resolve")
    thread.start()
    thread.join(remaining(deadline))
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError("timed out")
    return found
