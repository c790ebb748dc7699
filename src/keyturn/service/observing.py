"""The outermost ring around the service: every request counted, logged and, where it ends in a problem, kept for ``find``.

Keeps: a request's identifier, and what is written of it. Leaves to others: how (``edge.serverlog``, ``edge.metrics``,
``incidents``).

- Written are route, method, status, time taken, the code of a problem and its reference; the product ID only once possession
  of the key is proven. Never an address, a header, a body or a detail.
- A problem is put into the writer's queue before its answer leaves, so whoever quotes the reference finds it.
- The identifier is made here; none is taken from outside, and none goes out: no thread runs from one product to another.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence

from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keyturn.core.errors import KeyturnError
from keyturn.edge import serverlog
from keyturn.edge.metrics import Metrics
from keyturn.edge.serverlog import Log, ServerLog
from keyturn.edge.shortcut import Shortcut
from keyturn.edge.web import NOTES, PROBLEM, Route
from keyturn.service import incidents
from keyturn.service.activation import ActivationService
from keyturn.service.incidents import Gate, Incident

_QUIET = frozenset(
    {"/healthz", "/readyz", "/metrics"}
)  # Asked every few seconds: counted, and logged only if not well.
_MAX_PROBLEM = 16_384


class Observed:
    """Pure ASGI middleware. ``ticks`` is a clock that only goes forward, in seconds, ``shortcut`` a way past it."""

    def __init__(
        self, app: ASGIApp, service: ActivationService, *, routes: Sequence[Route], log: Log, metrics: Metrics,
        ticks: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self._app = app
        self._service = service
        self._log = log
        self._metrics = metrics
        self._ticks = ticks
        self._gate = Gate()
        self._fixed = {route.path for route in routes if "{" not in route.path}
        self.shortcut: Shortcut | None = None
        self._patterns = {route.path: compile_path(route.path)[0] for route in routes if "{" in route.path}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen(self, scope, send, self._route(scope["path"]), self._name())
        scope[NOTES] = seen.notes
        began = self._ticks()
        with serverlog.bind(request=seen.request):
            try:
                await self._app(scope, receive, seen.send)
            finally:
                self._written(seen, scope["method"], self._ticks() - began)

    def answered(self, route: Route, seconds: float, notes: dict[str, str]) -> None:
        """Note a request that was answered with 200 by the short way: as :meth:`_written` does."""
        self._metrics.request(route.path, route.method, 200, seconds)
        self._metrics.exchange(notes["outcome"])
        line = {"request": self._name(), "route": route.path, "method": route.method, "status": 200}
        # Many are answered in one turn of the loop: their lines are one call, and before the answers.
        log = self._log.soon if isinstance(self._log, ServerLog) else self._log
        log("answered", {**line, "ms": round(seconds * 1000, 1), **notes})

    def _name(self) -> str:
        return self._service.ids.chance(8).hex()

    def _route(self, path: str) -> str:
        """The template of a path; all unknown ones are one."""
        if path in self._fixed:
            return path
        return next((template for template, pattern in self._patterns.items() if pattern.match(path)), "other")

    def _written(self, seen: _Seen, method: str, seconds: float) -> None:
        known = method if method in ("GET", "HEAD", "POST", "PATCH", "OPTIONS", "PUT", "DELETE") else "other"
        self._metrics.request(seen.route, known, seen.status, seconds)
        if "outcome" in seen.notes:
            self._metrics.exchange(seen.notes["outcome"])
        if seen.route in _QUIET and seen.status < 400:
            return
        self._log(
            "answered",
            {"route": seen.route, "method": known, "status": seen.status, "ms": round(seconds * 1000, 1), **seen.notes},
        )

    def problem(self, seen: _Seen, body: bytes) -> None:
        """Take note of a problem that is about to be answered."""
        try:
            members = json.loads(body)
            code, reference = str(members["code"]), str(members["reference"])
        except (ValueError, KeyError, TypeError):
            return
        seen.notes |= {"code": code, "reference": reference}
        self._metrics.problem(seen.route, code)
        ours = seen.status >= 500 or "product_id" in seen.notes
        if not ours and not self._gate.admits(self._ticks()):
            self._metrics.unkept()
            return
        incident = Incident(
            reference, self._service.clock(), code, seen.status, seen.route, seen.request, seen.notes.get("product_id")
        )
        with contextlib.suppress(KeyturnError):  # A database that takes nothing any more is told of elsewhere.
            self._service.database.write(lambda db: incidents.keep(db, incident)).add_done_callback(
                lambda done: self._metrics.unkept() if done.exception() else None
            )


class _Seen:
    """One request on its way through."""

    def __init__(self, ring: Observed, scope: Scope, send: Send, route: str, request: str) -> None:
        self._ring = ring
        self._send = send
        self.route = route
        self.request = request
        self.status = 499  # As nginx calls it: gone before there was an answer.
        self.notes: dict[str, str] = {}
        self._problem: bytearray | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            kinds = [value for name, value in message.get("headers", ()) if name == b"content-type"]
            self._problem = bytearray() if kinds and kinds[0].startswith(PROBLEM.encode()) else None
        elif self._problem is not None and len(self._problem) < _MAX_PROBLEM:
            self._problem += message.get("body", b"")
            if not message.get("more_body"):
                self._ring.problem(self, bytes(self._problem))
                self._problem = None
        await self._send(message)
