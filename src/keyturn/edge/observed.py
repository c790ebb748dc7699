"""The outermost ring around a server of an organization: every request counted and logged, with its outcome and
without who asked.

Written are route, method, status, time taken, outcome, the code of a problem and its reference. Never an address, a header, a
body or a detail.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keyturn.edge import serverlog
from keyturn.edge.metrics import Metrics
from keyturn.edge.serverlog import Log
from keyturn.edge.web import NOTES, PROBLEM

_QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/"})  # Asked every few seconds: logged only if not well.
_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})


class Observed:
    """Pure ASGI middleware. ``ticks`` is a clock that only goes forward, in seconds; ``chance`` gives random bytes."""

    def __init__(
        self, app: ASGIApp, *, routes: frozenset[str], log: Log, metrics: Metrics, chance: Callable[[int], bytes],
        ticks: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self._app, self._routes, self._log, self._metrics = app, routes, log, metrics
        self._chance, self._ticks = chance, ticks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        notes: dict[str, object] = {}
        scope[NOTES] = notes
        route = scope["path"] if scope["path"] in self._routes else "other"
        seen = {"status": 499}  # As nginx calls it: gone before there was an answer.
        began = self._ticks()

        async def observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                kinds = [value for name, value in message.get("headers", ()) if name == b"content-type"]
                seen["problem"] = bool(kinds and kinds[0].startswith(PROBLEM.encode()))
            elif seen.get("problem") and message.get("body"):
                seen["problem"] = False
                self._problem(route, message["body"], notes)
            await send(message)

        request = self._chance(8).hex()
        with serverlog.bind(request=request):
            try:
                await self._app(scope, receive, observed)
            finally:
                self._written(route, scope["method"], seen["status"], self._ticks() - began, notes)

    def _written(self, route: str, method: str, status: int, seconds: float, notes: dict[str, object]) -> None:
        known = method if method in _METHODS else "other"
        self._metrics.request(route, known, status, seconds)
        if "outcome" in notes:
            self._metrics.exchange(str(notes["outcome"]))
        if route in _QUIET and status < 400:
            return
        fields = {"route": route, "method": known, "status": status, "ms": round(seconds * 1000, 1), **notes}
        self._log("answered", fields)

    def _problem(self, route: str, body: bytes, notes: dict[str, object]) -> None:
        try:
            members = json.loads(body)
            code, reference = str(members["code"]), str(members["reference"])
        except (ValueError, KeyError, TypeError):
            return
        notes |= {"code": code, "reference": reference}
        self._metrics.problem(route, code)
