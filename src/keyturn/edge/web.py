"""What every Keyturn server says over HTTP: problem documents, a table of routes with their access, health.

Keeps: how an error of the catalogue looks on the wire (RFC 9457), and that no path exists without a decision on who may
use it. Leaves to others: limits on requests (``keyturn.edge.limits``), sockets and TLS (``keyturn.edge.listen``), and what
the handlers do.

- A handler takes a Starlette request and returns a response, or a :class:`Refused`, or raises; it never makes an error
  response by hand.
- Every problem carries a reference (``KT-7Q2F-91XM``) that a person can read out over the telephone.
"""

from __future__ import annotations

import inspect
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from keyturn.core.errors import KeyturnError, Refused

PROBLEM = "application/problem+json"
PUBLIC = "public"
JOSE = "application/jose"
JSON = "application/json"
NOTES = "keyturn.notes"  # Where in the scope handlers leave what is worth a line in the log; never a secret.
MAX_BODY = 16_384  # The design's limit for one request document.
_SIGNS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: nothing in it is mistaken for something else.

Handler = Callable[[Request], Awaitable["Response | Refused"]]
Guard = Callable[[Request], Awaitable[None]]


class Route(NamedTuple):
    """One line of the authorization table. ``access`` has no default: who may call it is decided where it is written.

    ``max_body`` (bytes) and ``content_types`` hold for requests that have a body.
    """

    path: str
    method: str
    handler: Handler
    access: str
    max_body: int = MAX_BODY
    content_types: tuple[str, ...] = (JOSE,)


def new_reference() -> str:
    """A reference number for one answer: 40 random bits, ``KT-`` and two groups of four."""
    signs = "".join(secrets.choice(_SIGNS) for _ in range(8))
    return f"KT-{signs[:4]}-{signs[4:]}"


def problem(
    error: KeyturnError | Refused,
    *,
    reference: Callable[[], str] = new_reference,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return ``error`` as a problem document (RFC 9457) with ``Retry-After`` when it says when to come back.

    An error without a reference gets one from ``reference``, so that what is logged afterwards carries the same.
    ``status`` is for what HTTP tells apart and the catalogue does not (405, 408, 415, 431).
    """
    told = error.as_error() if isinstance(error, Refused) else error
    told.reference = told.reference or reference()
    members = {
        "type": f"urn:keyturn:error:{told.code}",
        "title": told.entry.title,
        "status": status or told.entry.status,
        "detail": told.detail,
        "code": told.code,
        "remedy": told.remedy,
        "reference": told.reference,
        "retry_after": told.retry_after,
    }
    # Figures for programs (RFC 9457, section 3.2): numbers only, because texts of other layers are for the log.
    members |= {name: value for name, value in told.data.items() if type(value) is int and name not in members}
    waiting = {} if told.retry_after is None else {"Retry-After": str(told.retry_after)}
    if (status or told.entry.status) == 401:
        waiting["WWW-Authenticate"] = 'Bearer realm="keyturn"'
    return Response(
        json.dumps(members, ensure_ascii=False),
        status_code=status or told.entry.status,
        media_type=PROBLEM,
        headers={**waiting, **(headers or {})},
    )


def application(
    routes: Sequence[Route], *, guards: Mapping[str, Guard] | None = None, reference: Callable[[], str] = new_reference
) -> ASGIApp:
    """Build the app of a table of routes; wrap it in :class:`keyturn.edge.limits.Limits` before it is served.

    ``guards`` says for each word of access how it is checked: a guard raises KeyturnError ``permission_denied`` (or
    another), and its handler does not run then. The word ``public`` needs none. Errors leave the app as exceptions.

    HEAD is answered like GET, OPTIONS with the methods of the path; other methods and paths are problems 405 and 404.

    Raises: ValueError if a route's access is not a word of ``guards``, or two routes share path and method.
    """
    checks: dict[str, Guard | None] = {PUBLIC: None, **(guards or {})}
    table: dict[str, dict[str, Handler]] = {}
    for route in routes:
        if route.access not in checks:
            raise ValueError(f"{route.method} {route.path}: nobody checks the access {route.access!r}")
        methods = table.setdefault(route.path, {})
        if route.method in methods:
            raise ValueError(f"{route.method} {route.path} is there twice")
        methods[route.method] = _guarded(route.handler, checks[route.access])
        if route.method == "GET":
            methods.setdefault("HEAD", methods["GET"])
    dispatchers = {path: _dispatcher(methods, reference) for path, methods in table.items()}
    paths = [StarletteRoute(path, dispatch, methods=None) for path, dispatch in dispatchers.items() if "{" in path]
    for built in paths:
        built.methods = None  # The dispatcher decides: Starlette's own 405 is plain text.
    patterns = Router(paths, redirect_slashes=False, default=_nothing_here)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        dispatch = dispatchers.get(scope["path"])
        if dispatch is None or "{" in scope["path"]:
            await patterns(scope, receive, send)
            return
        answer = await dispatch(Request(scope, receive, send))
        await answer(scope, receive, send)

    return app


def health(ready: Callable[[], bool | Awaitable[bool]]) -> list[Route]:
    """The routes ``/healthz`` (200 while the process answers) and ``/readyz`` (200 if ``ready()``, else 503)."""

    async def healthz(request: Request) -> Response:
        return json_response({"status": "ok"})

    async def readyz(request: Request) -> Response | Refused:
        said = ready()
        if await said if inspect.isawaitable(said) else said:
            return json_response({"status": "ready"})
        return Refused("service_unready", "The service is starting or stopping, or its database or signer is away.", 5)

    return [Route("/healthz", "GET", healthz, PUBLIC), Route("/readyz", "GET", readyz, PUBLIC)]


def json_response(
    value: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON answer, compact and in UTF-8."""
    return Response(msgspec.json.encode(value), status_code=status, media_type=JSON, headers=headers)


def unsupported(detail: str) -> KeyturnError:
    """What is no request of the protocol; the caller adds HTTP's own status."""
    return KeyturnError("request_unsupported", detail)


def _guarded(handler: Handler, guard: Guard | None) -> Handler:
    if guard is None:
        return handler

    async def guarded(request: Request) -> Response | Refused:
        await guard(request)
        return await handler(request)

    return guarded


def _dispatcher(
    methods: Mapping[str, Handler], reference: Callable[[], str]
) -> Callable[[Request], Awaitable[Response]]:
    allow = {"Allow": ", ".join(sorted({*methods, "OPTIONS"}))}

    async def dispatch(request: Request) -> Response:
        handler = methods.get(request.method)
        if handler is None and request.method == "OPTIONS":
            return Response(status_code=204, headers=allow)
        if handler is None:
            error = unsupported(f"This address does not take {request.method[:20]}.")
            return problem(error, reference=reference, status=405, headers=allow)
        answer = await handler(request)
        return problem(answer, reference=reference) if isinstance(answer, Refused) else answer

    return dispatch


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    raise KeyturnError("not_found", "There is nothing at this address.", remedy="Look into /.well-known/keyturn.")
