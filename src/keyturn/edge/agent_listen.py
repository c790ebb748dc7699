"""The agent's side of its socket: who is there, one line in, one line out, and nobody takes more than their share.

Keeps: the listening socket's file, credentials, sizes, times and counts, for a loop that owns a selector.
Leaves to others: what is answered (a function of line and account), the loop (``client.agent_loop``).

- Whoever may not ask is told so, and nothing of theirs is read.
- A connection has ten seconds for a question, and again after each answer; a line has at most ``MAX_QUESTION`` bytes.
- 64 connections at most, 16 of one account; an account has 100 questions at once and ten more each second. What is above
  that gets ``too_many_requests``.
- Nothing blocks: an asker who does not read keeps only its own answer waiting.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import stat
import sys
from collections.abc import Callable
from typing import NamedTuple

from keyturn.core.capability import MAX_QUESTION
from keyturn.core.errors import KeyturnError
from keyturn.edge.agent_socket import peer

if sys.platform != "linux":  # Signals, descriptors and credentials as Linux has them.
    raise ImportError("the agent is there on Linux only")

PATIENCE = 10.0  # Seconds.
MOST_CONNECTIONS, MOST_OF_ONE = 64, 16
BURST, PER_SECOND = 100.0, 10.0
_CHUNK = 4096

Answer = Callable[[bytes, int], bytes]  # A line and the account that wrote it; the line that answers.
Refuse = Callable[[KeyturnError], bytes]


class _Bucket(NamedTuple):
    """What an account may still ask: a token a question, filled again with time."""

    left: float = BURST
    at: float = 0.0

    def taken(self, now: float) -> _Bucket:
        left = min(BURST, self.left + (now - self.at) * PER_SECOND)
        return _Bucket(left - 1, now)


class _Connection:
    """One asker: what came and what is still to be written."""

    def __init__(self, sock: socket.socket, uid: int, deadline: float) -> None:
        self.sock, self.uid, self.deadline = sock, uid, deadline
        self.read = bytearray()
        self.written = bytearray()
        self.closing = False


class Listener:
    """The socket and its connections, registered with ``selector`` under callbacks that take the events and the time."""

    def __init__(
        self, path: str, selector: selectors.BaseSelector, *, allowed: Callable[[int], bool], answer: Answer, refuse: Refuse
    ) -> None:
        """Listen at ``path``. Raises: KeyturnError ``listen_failed``."""
        self.path = path
        self._selector = selector
        self._allowed, self._answer, self._refuse = allowed, answer, refuse
        self._open: dict[int, _Connection] = {}
        self._buckets: dict[int, _Bucket] = {}
        self._sock = _bound(path)
        selector.register(self._sock, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Close everything; the socket's file goes too."""
        for descriptor in list(self._open):
            self._end(descriptor)
        self._selector.unregister(self._sock)
        self._sock.close()
        with contextlib.suppress(OSError):  # Gone already, or the folder went first: nothing is left to do.
            os.unlink(self.path)

    def forget(self) -> None:
        """Close the descriptors in a child process, which must not hold askers open; the file stays."""
        for connection in self._open.values():
            connection.sock.close()
        self._sock.close()

    @property
    def deadline(self) -> float | None:
        """When the first connection's patience ends (monotonic seconds)."""
        return min((connection.deadline for connection in self._open.values()), default=None)

    def expire(self, now: float) -> None:
        """Close the connections whose time is over."""
        for descriptor, connection in list(self._open.items()):
            if connection.deadline <= now:
                self._end(descriptor)

    def _accept(self, _events: int, now: float) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._end_oldest()  # A place must come free, or the loop would turn without rest.
            return  # The asker is gone already, or comes again.
        sock.setblocking(False)
        connection = _Connection(sock, peer(sock), now + PATIENCE)
        self._open[sock.fileno()] = connection
        self._selector.register(sock, selectors.EVENT_READ, lambda events, at: self._serve(connection, events, at))
        of_one = sum(other.uid == connection.uid for other in self._open.values())
        if not self._allowed(connection.uid):
            self._turn_away(connection, KeyturnError(
                "permission_denied", f"this store is another account's than {connection.uid}",
                remedy="Use a license of your own, or let the agent run for the whole system.",
            ))  # fmt: skip
        elif len(self._open) > MOST_CONNECTIONS or of_one > MOST_OF_ONE:
            self._turn_away(connection, KeyturnError("too_many_requests", "Too many connections at once.", retry_after=1))

    def _turn_away(self, connection: _Connection, error: KeyturnError) -> None:
        connection.written += self._refuse(error)
        connection.closing = True
        self._write(connection)

    def _serve(self, connection: _Connection, events: int, now: float) -> None:
        if events & selectors.EVENT_WRITE:
            self._write(connection)
        if events & selectors.EVENT_READ and not connection.closing:
            self._read(connection, now)

    def _read(self, connection: _Connection, now: float) -> None:
        try:
            part = connection.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        connection.read += part
        line, end, rest = bytes(connection.read).partition(b"\n")
        if end and len(line) <= MAX_QUESTION:
            connection.read = bytearray(rest)
            connection.deadline = now + PATIENCE
            connection.written += self._answered(line, connection.uid, now)
            connection.closing = bool(rest)  # One question at a time: what came before its answer is not one.
            self._write(connection)
        elif end or len(connection.read) > MAX_QUESTION:
            self._turn_away(connection, KeyturnError("input_too_large", f"a question has at most {MAX_QUESTION} bytes"))
        elif not part:
            self._end(connection.sock.fileno())

    def _answered(self, line: bytes, uid: int, now: float) -> bytes:
        if len(self._buckets) > 256:  # Accounts that asked long ago have a full bucket again anyway.
            self._buckets.clear()
        bucket = self._buckets.get(uid, _Bucket(at=now)).taken(now)
        if bucket.left < 0:
            return self._refuse(KeyturnError("too_many_requests", "This account asks too often.", retry_after=1))
        self._buckets[uid] = bucket
        return self._answer(line, uid)

    def _write(self, connection: _Connection) -> None:
        try:
            sent = connection.sock.send(connection.written)
        except BlockingIOError:
            sent = 0
        except OSError:  # The asker is gone.
            self._end(connection.sock.fileno())
            return
        del connection.written[:sent]
        if not connection.written and connection.closing:
            self._end(connection.sock.fileno())
            return
        # Nothing more is read while an answer waits: who does not read is not served.
        wanted = selectors.EVENT_WRITE if connection.written else selectors.EVENT_READ
        if self._selector.get_key(connection.sock).events != wanted:
            self._selector.modify(connection.sock, wanted, self._selector.get_key(connection.sock).data)

    def _end(self, descriptor: int) -> None:
        connection = self._open.pop(descriptor, None)
        if connection is not None:
            self._selector.unregister(connection.sock)
            connection.sock.close()

    def _end_oldest(self) -> None:
        for descriptor in list(self._open)[:1]:
            self._end(descriptor)


def _bound(path: str) -> socket.socket:
    """A listening socket at ``path`` that every account may connect to: who may ask is decided by who asks."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        _clear(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.bind(path)
            os.chmod(path, 0o666)  # noqa: S103 - connecting is open to all, asking is not (``allowed``)
            sock.listen(MOST_CONNECTIONS)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise KeyturnError("listen_failed", f"{path}: {error.strerror or error}") from error
    return sock


def _clear(path: str) -> None:
    """Remove a socket that nobody listens at any more. Raises: OSError, KeyturnError ``agent_running``."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise KeyturnError("listen_failed", f"{path} is there and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        try:
            trial.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise KeyturnError("agent_running", f"an agent listens at {path}")
