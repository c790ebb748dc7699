"""A server's log: one JSON line per event, every line of a request with that request's identifier, and no secrets.

Keeps: the shape of a line, and what may never be in one. Leaves to others: what is worth a line.

- ``bind(request=…)`` ties fields to whatever is done on behalf of one request, also in threads it starts.
- Whoever logs leaves secrets out. Should one slip in all the same, what looks like a product key, a token or a signed
  document is replaced before the line is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import BinaryIO

import msgspec

from keyturn.core.model import rfc3339

Log = Callable[[str, Mapping[str, object]], None]

HIDDEN = "(hidden)"
MAX_TEXT = 2_000  # Characters of one value.
_SHORT = 25  # Nothing shorter is a secret, unless it begins like a token.
_PREFIX = "ktt_"
_SECRETS = re.compile(
    r"ktt_[0-9A-Za-z]{4,}(_[0-9A-Za-z]+)?"  # A token.
    r"|\b[0-9A-Za-z]{5}(?:[-\s][0-9A-Za-z]{5}){4}\b"  # A product key in its groups.
    r"|\b(?=[0-9A-Z]*[0-9])(?=[0-9A-Z]*[A-Z])[0-9A-Z]{25}\b"  # The same written in one.
    r"|\b[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"  # A compact JWS.
)

_moment = functools.lru_cache(maxsize=8)(rfc3339)  # Many lines are of one second.
_BOUND: ContextVar[Mapping[str, object]] = ContextVar("keyturn_log_fields")


def open_log(clock: Callable[[], int], stream: BinaryIO | None = None) -> ServerLog:
    """A log that writes to ``stream`` (stderr, if none is given) at the time that ``clock`` says."""
    return ServerLog(clock, stream or sys.stderr.buffer)


class ServerLog:
    """Lines to a stream: each at once (by calling it), or those of one turn of the event loop together (:meth:`soon`)."""

    def __init__(self, clock: Callable[[], int], stream: BinaryIO) -> None:
        self._clock, self._stream = clock, stream
        self._turn = threading.Lock()  # Lines of several threads stay whole, and in order.
        self._waiting: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # Which will write them.

    def __call__(self, event: str, fields: Mapping[str, object]) -> None:
        self._write(self._line(event, fields))

    def soon(self, event: str, fields: Mapping[str, object]) -> None:
        """In the running loop: write a line before whatever the loop is told to do from now on."""
        line, loop = self._line(event, fields), asyncio.get_running_loop()
        with self._turn:
            self._waiting.append(line)
            begun, self._loop = self._loop is loop, loop
        if not begun:
            loop.call_soon(self._write)

    def _line(self, event: str, fields: Mapping[str, object]) -> bytes:
        line: dict[str, object] = {"at": _moment(self._clock()), "event": event}
        for name, value in {**_BOUND.get({}), **fields}.items():
            line[name] = clean(value)
        return msgspec.json.encode(line) + b"\n"

    def _write(self, line: bytes = b"") -> None:
        with self._turn, contextlib.suppress(OSError, ValueError):
            # Nobody reads the log any more (a closed pipe, a full disk)? That is no reason to stop serving.
            waiting, self._waiting, self._loop = self._waiting, [], None
            self._stream.write(b"".join(waiting) + line)
            self._stream.flush()


@contextlib.contextmanager
def bind(**fields: object) -> Iterator[None]:
    """Put ``fields`` into every line that is written inside."""
    token = _BOUND.set({**_BOUND.get({}), **fields})
    try:
        yield
    finally:
        _BOUND.reset(token)


def clean(value: object) -> object:
    """A value fit for the log: bounded, and without what looks like a secret."""
    if isinstance(value, str):
        plain = len(value) < _SHORT and _PREFIX not in value
        return value if plain else _SECRETS.sub(HIDDEN, value[:MAX_TEXT])
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value[:50]]
    if isinstance(value, Mapping):
        return {str(key): clean(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return clean(str(value))

