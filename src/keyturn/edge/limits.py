"""The gate in front of every server's routes: bounded requests in, no surprise out.

Keeps: bounds on bodies, headers, time and number; problem documents for everything that goes wrong behind it; the
headers that every answer has. Leaves to others: routes and access (``keyturn.edge.web``), connections that never
become a request (``keyturn.edge.listen``).

- A body is read whole, within its bounds, before a handler runs: a handler never waits for a slow sender.
- Only ``identity`` bodies: nothing is ever decompressed.
- An exception nobody expected is logged once, as type and places in the code. Neither its message nor anything of the
  request is logged: both may hold a product key.
- After a refusal that leaves a body unread the connection is closed.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Mapping, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keyturn.core.errors import KeyturnError
from keyturn.edge.web import JOSE, MAX_BODY, Route, new_reference, problem, unsupported

BODY_TIMEOUT = 10.0
MAX_HEAD = 16_384  # Bytes of all header names and values; uvicorn itself has no such bound with httptools.
MAX_FIELDS = 64
MAX_PATH = 2_048
MAX_REQUESTS = 512  # Requests in work at once; more are told to come back.

Log = Callable[[str, Mapping[str, object]], None]

ALWAYS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}


# What is looked at more closely than by its name.
_NOT_PLAIN = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"})


class _RefusalError(Exception):
    """A request that is refused before its handler runs."""

    def __init__(self, status: int, error: KeyturnError, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error.detail)
        self.status = status
        self.error = error
        self.headers = headers or {}


class Limits:
    """Pure ASGI middleware around an app: every request passes it, every answer leaves through it.

    ``max_body`` and ``content_types`` are for paths without a route in ``routes``, which carry their own.
    ``log`` gets an event name and its fields; ``reference`` makes reference numbers.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body: int = MAX_BODY,
        body_timeout: float = BODY_TIMEOUT,
        content_types: Sequence[str] = (JOSE,),
        routes: Sequence[Route] = (),
        max_requests: int = MAX_REQUESTS,
        log: Log,
        reference: Callable[[], str] = new_reference,
    ) -> None:
        self._app = app
        self._routes = routes
        self._usual = (max_body, frozenset(content_types))
        self._fixed = {(r.method, r.path): (r.max_body, frozenset(r.content_types)) for r in routes if "{" not in r.path}
        self._bodies = [
            (r.method, compile_path(r.path)[0], (r.max_body, frozenset(r.content_types))) for r in routes if "{" in r.path
        ]
        self._body_timeout = body_timeout
        self._max_requests = max_requests
        self._working = 0
        self._log = log
        self._reference = reference

    def enter(self) -> bool:
        """Count a request that comes by the short way; ``False``, and not counted, if there are too many. Then :meth:`leave`."""
        free = self._working < self._max_requests
        self._working += free
        return free

    def leave(self) -> None:
        self._working -= 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        answer = _Answer(send)
        self._working += 1
        try:
            self._check_head(scope)
            await self._app(scope, await self._whole_body(scope, receive), answer.send)
        except ClientDisconnect:
            return  # Nobody is there to be told.
        except _RefusalError as refusal:
            closing = {**refusal.headers, "Connection": "close"}
            await problem(refusal.error, reference=self._reference, status=refusal.status, headers=closing)(
                scope, receive, answer.send
            )
        except Exception as error:
            told, status = self._told(scope, error)
            if answer.started:
                raise  # Too late for a problem document: the server cuts the connection, so nobody takes it for whole.
            await problem(told, reference=self._reference, status=status)(scope, receive, answer.send)
        finally:
            self._working -= 1

    def _told(self, scope: Scope, error: Exception) -> tuple[KeyturnError, int | None]:
        """What the other side is told of an exception; faults of ours are logged on the way."""
        if isinstance(error, HTTPException):
            return unsupported(f"HTTP {error.status_code}"), error.status_code
        told = error if isinstance(error, KeyturnError) else KeyturnError("internal")
        told.reference = told.reference or self._reference()
        if told.entry.status >= 500:
            cause = error.__cause__ or error
            frames = traceback.extract_tb(cause.__traceback__)[-8:]
            fields = {
                "reference": told.reference,
                "code": told.code,
                "detail": told.detail,  # Ours, so safe to show; the text of a foreign exception is not.
                "method": scope["method"],
                "error": type(cause).__name__,
                "places": [f"{frame.name} {frame.filename}:{frame.lineno}" for frame in frames],
            }
            self._log("request_failed", fields)
        return told, None

    def _check_head(self, scope: Scope) -> None:
        if self._working > self._max_requests:
            raise _RefusalError(503, KeyturnError("service_unready", "Too many requests at once.", retry_after=2))
        if scope["http_version"] not in (
            "1.0",
            "1.1",
        ):  # llhttp lets HTTP/0.9 through, which has no status to answer with.
            raise _RefusalError(400, unsupported("Only HTTP/1.0 and HTTP/1.1 are spoken."))
        headers = scope["headers"]
        hosts = sum(name == b"host" for name, _ in headers)
        if hosts > 1 or (not hosts and scope["http_version"] == "1.1"):  # RFC 9112, section 3.2.
            raise _RefusalError(400, unsupported("A request names one host."))
        if len(headers) > MAX_FIELDS or sum(len(name) + len(value) for name, value in headers) > MAX_HEAD:
            raise _RefusalError(431, unsupported(f"The header is larger than {MAX_HEAD} bytes or {MAX_FIELDS} fields."))
        if len(scope["raw_path"] or b"") + len(scope["query_string"]) > MAX_PATH:
            raise _RefusalError(414, unsupported(f"The address is longer than {MAX_PATH} bytes."))
        if scope["method"] not in _METHODS:
            refusal = unsupported(f"The method {scope['method'][:20]} is not used here.")
            raise _RefusalError(405, refusal, {"Allow": self._allowed(scope["path"])})

    def _allowed(self, path: str) -> str:
        """The methods of a path, for the header that a 405 must have; none where there is nothing."""
        found = {route.method for route in self._routes if compile_path(route.path)[0].match(path)}
        return ", ".join(sorted(found | ({"HEAD"} if "GET" in found else set()) | ({"OPTIONS"} if found else set())))

    def _bounds(self, method: str, path: str) -> tuple[int, frozenset[str]]:
        if (method, path) in self._fixed:
            return self._fixed[method, path]
        for wanted, pattern, bounds in self._bodies:
            if wanted == method and pattern.match(path):
                return bounds
        return self._usual

    async def _whole_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body within its bounds and return a ``receive`` that gives it at once."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        values = {name: value.strip().lower() for name, value in headers}
        length = values.get(b"content-length", b"")
        if length in (b"", b"0") and b"transfer-encoding" not in values:
            return receive
        if values.get(b"transfer-encoding", b"chunked") != b"chunked":
            raise _RefusalError(400, unsupported("The body is sent in a way that is not read here: only chunked is."))
        most, types = self._bounds(scope["method"], scope["path"])
        too_large = _RefusalError(413, KeyturnError("input_too_large", f"The body is larger than {most} bytes."))
        # llhttp and h11 have refused whatever is not a number; the comparison of lengths keeps int() cheap.
        if len(length) > 18 or int(length or b"0") > most:
            raise too_large
        if values.get(b"content-encoding", b"identity") != b"identity":
            raise _RefusalError(415, unsupported("The body is encoded: only identity is read."))
        media_type = values.get(b"content-type", b"").partition(b";")[0].strip().decode("latin-1")
        if media_type not in types:
            allowed = self._allowed(scope["path"])
            if allowed and scope["method"] not in allowed.split(", "):
                raise _RefusalError(405, unsupported("This address does not take that method."), {"Allow": allowed})
            raise _RefusalError(415, unsupported(f"The body must be of type {' or '.join(sorted(types))}."))
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_timeout):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            late = unsupported(f"The body did not arrive within {self._body_timeout:g} s.")
            raise _RefusalError(408, late) from None
        return _replay(bytes(body), receive)


def plain_body(headers: Sequence[tuple[bytes, bytes]], route: Route) -> bool:
    """Whether a request for ``route`` passes every check of its header and body, and says how long its body is."""
    values = dict(headers)
    length = values.get(b"content-length", b"")
    return (
        len(values) == len(headers) <= MAX_FIELDS
        and b"host" in values
        and 0 < len(length) < 8
        and 0 < int(length) <= route.max_body
        and values.get(b"content-type", b"").decode("latin-1") in route.content_types
        and values.keys().isdisjoint(_NOT_PLAIN)
        and sum(map(len, values)) + sum(map(len, values.values())) <= MAX_HEAD
    )


class _Answer:
    """The way out: adds what every answer has, and remembers whether it has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = list(message.get("headers", ()))
            there = {name.lower() for name, _ in headers}
            message = {**message, "headers": headers + [pair for pair in ALWAYS if pair[0] not in there]}
        await self._send(message)


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
