"""A server's log: one JSON line per event, every line of a request with that request's identifier, and no secrets.

Keeps: the shape of a line, and what may never be in one. Leaves to others: what is worth a line.

- ``bind(request=…)`` ties fields to whatever is done on behalf of one request, also in threads it starts.
- Whoever logs leaves secrets out. Should one slip in all the same, what looks like a product key, a token or a signed
  document is replaced before the line is written.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import msgspec
import structlog

from keyturn.core.model import rfc3339

Log = Callable[[str, Mapping[str, object]], None]

HIDDEN = "(hidden)"
MAX_TEXT = 2_000  # Characters of one value.
_SECRETS = re.compile(
    r"ktt_[0-9A-Za-z]{4,}(_[0-9A-Za-z]+)?"  # A token.
    r"|\b[0-9A-Za-z]{5}(?:[-\s][0-9A-Za-z]{5}){4}\b"  # A product key in its groups.
    r"|\b(?=[0-9A-Z]*[0-9])(?=[0-9A-Z]*[A-Z])[0-9A-Z]{25}\b"  # The same written in one.
    r"|\b[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"  # A compact JWS.
)


def open_log(clock: Callable[[], int], stream: BinaryIO | None = None) -> Log:
    """A log that writes to ``stream`` (stderr, if none is given) at the time that ``clock`` says."""

    def stamp(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        name = event.pop("event", None)
        return {"at": rfc3339(clock()), "event": name, **{key: clean(value) for key, value in event.items()}}

    logger = structlog.wrap_logger(
        structlog.BytesLogger(stream or sys.stderr.buffer),
        processors=[
            structlog.contextvars.merge_contextvars,
            stamp,
            structlog.processors.JSONRenderer(serializer=_line),
        ],
        wrapper_class=structlog.BoundLoggerBase,
    )

    def log(event: str, fields: Mapping[str, object]) -> None:
        try:
            logger._proxy_to_logger("msg", event, **fields)
        except (OSError, ValueError):
            return  # Nobody reads the log any more (a closed pipe, a full disk): no reason to stop serving.

    return log


@contextmanager
def bind(**fields: object) -> Iterator[None]:
    """Put ``fields`` into every line that is written inside."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield


def clean(value: object) -> object:
    """A value fit for the log: bounded, and without what looks like a secret."""
    if isinstance(value, str):
        return _SECRETS.sub(HIDDEN, value[:MAX_TEXT])
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value[:50]]
    if isinstance(value, Mapping):
        return {str(key): clean(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return clean(str(value))


def _line(event: Any, **_: Any) -> bytes:
    return msgspec.json.encode(event)
