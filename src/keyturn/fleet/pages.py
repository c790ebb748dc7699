"""From a request to a page and back: what a person sent, and how the console's answers look.

Keeps: forms, who asks and whether that person meant to, pages and their headers, files beside them, errors as pages. Leaves
to others: which pages there are (``console``), limits and problem documents (``edge``).

- A page is a plain function of a :class:`Visit`; it runs in a thread and may read, write and wait.
- Whatever changes something is a POST that comes from this manager's own page (``Origin``) and carries the session's text.
- A page loads nothing from elsewhere, and holds no script or style of its own: the policy of :data:`HEADERS` refuses them.
- A body that is larger than a form is read for nobody who is not signed in.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import hashlib
import json
import mimetypes
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keyturn.core.errors import KeyturnError
from keyturn.edge.web import NOTES, PROBLEM, Handler, Route, new_reference
from keyturn.fleet import sessions, templates
from keyturn.fleet.accounts import ROLES
from keyturn.fleet.manager import FleetManager
from keyturn.fleet.sessions import Session

FORM, BYTES = "application/x-www-form-urlencoded", "application/octet-stream"
MAX_FORM = 65_536  # A page of the table with every box ticked is about 5 KB; keys are pasted by the hundred.
MAX_FIELDS = 1_000
WAITING = 16  # People who sign in at one address, or wait for it; more are told to come back.
CSRF = "x-keyturn-csrf"  # The header that carries the session's text where there is no form.
SESSION = "keyturn.session"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    # `no-referrer` would make the browser hide the origin of our own forms too (Fetch, section 3.2).
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
# What `make console` brings, and what is missing in the browser without it.
VENDOR = {
    "htmx.min.js": "live progress", "pico.min.css": "the console's looks", "uPlot.iife.min.js": "pictures over time",
    "uPlot.min.css": "pictures over time",
}  # fmt: skip

PASSWORDS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="password")  # 64 MiB each.
PAIRINGS = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pairing")  # Half a second each, of one core.
PROVIDER = ThreadPoolExecutor(max_workers=2, thread_name_prefix="provider")  # They wait for a server that is not ours.


class Visit(NamedTuple):
    """One request of a person. ``session`` is ``None`` on the pages for everybody; ``body`` is there when it is no form.

    ``notes`` are what the log says of it.
    """

    fleet: FleetManager
    session: Session | None
    here: str
    path: Mapping[str, str]
    query: Mapping[str, list[str]]
    form: Mapping[str, list[str]]
    body: bytes
    now: int
    notes: dict[str, object]
    cookies: Mapping[str, str]

    @property
    def who(self) -> str:
        """The account, for the audit."""
        assert self.session is not None
        return self.session.account.name

    @property
    def signed_in(self) -> Session:
        assert self.session is not None
        return self.session

    def asked(self, name: str, default: str = "") -> str:
        """One value out of the address."""
        return self.query.get(name, [default])[0].strip()

    def given(self, name: str, default: str = "") -> str:
        """One value of the form."""
        return self.form.get(name, [default])[0].strip()

    def number(self, name: str, default: int, most: int = 1_000_000) -> int:
        """A number out of the address; ``default`` for what is none."""
        text = self.asked(name)
        return min(int(text), most) if text.isdecimal() and len(text) < 8 else default


Page = Callable[[Visit], Response]


def handler(fleet: FleetManager, page: Page, *, pool: ThreadPoolExecutor | None = None) -> Handler:
    """The handler of a page. ``pool``: it takes long, so it has threads of its own, and an end to its queue."""
    waiting = 0

    async def handle(request: Request) -> Response:
        nonlocal waiting
        visit = _visit(fleet, request, await request.body())
        if request.method == "POST":
            check_meant(request, visit)
        if pool is None:
            return await asyncio.to_thread(page, visit)
        if waiting >= WAITING:
            raise KeyturnError("too_many_requests", "too many people wait for this just now", retry_after=2)
        waiting += 1
        try:
            context = contextvars.copy_context()
            return await asyncio.get_running_loop().run_in_executor(pool, context.run, page, visit)
        finally:
            waiting -= 1

    return handle


def check_meant(request: Request, visit: Visit) -> None:
    """Whether the person who is signed in here meant this POST.

    1. The browser says that a page of this very address sent it.
    2. It carries the text of the session, if there is one.

    Raises: KeyturnError ``permission_denied``.
    """
    # 1.
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if origin != f"https://{host}":
        raise KeyturnError(
            "permission_denied", "this form was not sent by a page of this manager",
            remedy="Open the manager's own address, and do it there.",
        )  # fmt: skip
    # 2.
    if visit.session is not None and not visit.session.carries(request.headers.get(CSRF) or visit.given("csrf")):
        raise KeyturnError(
            "permission_denied", "this form is not one of your session", remedy="Load the page again, and repeat it."
        )


def guards(fleet: FleetManager) -> dict[str, Callable[[Request], Any]]:
    """For each role as a word of access: who is signed in, with that role or a higher one."""

    def at_least(role: str) -> Callable[[Request], Any]:
        async def guard(request: Request) -> None:
            session = sessions.find(fleet.database, request.cookies.get(sessions.COOKIE), fleet.clock())
            if session is None:
                raise KeyturnError("sign_in_needed")
            if ROLES.index(session.account.role) < ROLES.index(role):
                raise KeyturnError(
                    "permission_denied", f"{session.account.name} is {session.account.role} here; this needs {role}",
                    remedy="Ask an administrator: `keyturn fleet user set NAME --role ROLE`.",
                )  # fmt: skip
            request.scope[SESSION] = session

        return guard

    return {role: at_least(role) for role in ROLES}


def show(
    visit: Visit, name: str, /, *, status: int = 200, error: KeyturnError | None = None, **values: Any
) -> Response:
    """A page of this name in the console's frame. An ``error`` is told on the page, and gives the status."""
    frame = {"me": visit.session, "here": visit.here, "file": _address, "vendor": there()}
    text = templates.page(name, **frame, error=None if error is None else _told(visit, error), **values)
    return HTMLResponse(text, status_code=status if error is None else error.entry.status, headers=HEADERS)


def go(where: str) -> Response:
    """On to another page, by GET."""
    return RedirectResponse(where, status_code=303, headers=HEADERS)


def download(content: str | bytes, name: str, kind: str) -> Response:
    """A file to keep."""
    return Response(
        content, media_type=kind, headers={**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    )


@functools.cache
def _files() -> Mapping[str, tuple[bytes, str]]:
    """Every file beside the pages: its bytes, and the mark of its version."""
    folder = resources.files("keyturn.fleet") / "static"
    found = {item.name: item for item in folder.iterdir() if item.is_file()}
    vendor = folder / "vendor"
    found |= {name: vendor / name for name in VENDOR if (vendor / name).is_file()}
    read = {name: item.read_bytes() for name, item in found.items()}
    return {name: (data, hashlib.sha256(data).hexdigest()[:12]) for name, data in read.items()}


def there() -> frozenset[str]:
    """The names of the files that are there."""
    return frozenset(_files())


def missing() -> dict[str, str]:
    """What `make console` would bring: each file, and what is missing without it."""
    return {name: what for name, what in VENDOR.items() if name not in there()}


def _address(name: str) -> str:
    return f"/static/{name}?v={_files()[name][1]}"


async def static(request: Request) -> Response:
    """A file beside the pages. Raises: KeyturnError ``not_found``."""
    found = _files().get(request.path_params["name"])
    if found is None:
        raise KeyturnError("not_found", "There is no such file.")
    kind = mimetypes.guess_type(request.url.path)[0] or "application/octet-stream"
    return Response(found[0], media_type=kind, headers={"Cache-Control": "public, max-age=31536000, immutable"})


class ForPeople:
    """The outermost ring of the console: what goes wrong is a page for a person, and a problem document for a program."""

    def __init__(self, app: ASGIApp, fleet: FleetManager, routes: list[Route]) -> None:
        self._app, self._fleet = app, fleet
        self._large = {
            (route.method, route.path) for route in routes if route.access in ROLES and route.max_body > MAX_FORM
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if (scope["method"], scope["path"]) in self._large and self._session(request) is None:
            await RedirectResponse("/sign-in", 303, {**HEADERS, "Connection": "close"})(scope, receive, send)
            return
        if "text/html" not in request.headers.get("accept", "") and "hx-request" not in request.headers:
            await self._app(scope, receive, send)
            return
        held: list[Message] = []

        async def seen(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_problem(message):
                held.append(message)
            elif held:
                held.append(message)
                if not message.get("more_body", False):
                    await self._page(request, held)(scope, receive, send)
            else:
                await send(message)

        await self._app(scope, receive, seen)

    def _session(self, request: Request) -> Session | None:
        return sessions.find(self._fleet.database, request.cookies.get(sessions.COOKIE), self._fleet.clock())

    def _page(self, request: Request, held: list[Message]) -> Response:
        """The page that says what a problem document says."""
        start, *parts = held
        problem = json.loads(b"".join(part.get("body", b"") for part in parts))
        headers = dict(HEADERS)
        headers |= {
            name: value for name, value in _texts(start).items() if name in ("retry-after", "allow", "connection")
        }
        if problem["code"] == "sign_in_needed":
            return _to_sign_in(request)
        name = "error_part.html" if "hx-request" in request.headers else "error.html"
        text = templates.page(name, me=self._session(request), here="", file=_address, vendor=there(), error=problem)
        return HTMLResponse(text, status_code=start["status"], headers=headers)


def _told(visit: Visit, error: KeyturnError) -> dict[str, object]:
    """An error for a page, where it is part of one; the log has its code and reference, as of any other."""
    error.reference = error.reference or new_reference()
    visit.notes.update({"code": error.code, "reference": error.reference})
    return error.as_json()


def _to_sign_in(request: Request) -> Response:
    if "hx-request" in request.headers:  # It would put the page that it is sent to into the middle of this one.
        return Response(status_code=204, headers={**HEADERS, "HX-Redirect": "/sign-in"})
    query = f"?{request.url.query}" if request.url.query else ""
    then = quote(request.url.path + query) if request.method == "GET" and request.url.path != "/" else ""
    return RedirectResponse(f"/sign-in?then={then}" if then else "/sign-in", 303, HEADERS)


def _is_problem(message: Message) -> bool:
    return _texts(message).get("content-type", "").startswith(PROBLEM)


def _texts(message: Message) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message.get("headers", ())}


def _visit(fleet: FleetManager, request: Request, body: bytes) -> Visit:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    form = _values(body.decode("utf-8", "replace")) if kind == FORM else {}
    return Visit(
        fleet, request.scope.get(SESSION), request.url.path, request.path_params, _values(request.url.query), form,
        b"" if kind == FORM else body, fleet.clock(), request.scope.get(NOTES, {}), request.cookies,
    )  # fmt: skip


def _values(text: str) -> dict[str, list[str]]:
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="replace")
    except ValueError as error:
        raise KeyturnError("input_too_large", f"a form has at most {MAX_FIELDS} fields") from error
