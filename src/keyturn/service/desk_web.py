"""The desk: a page for the staff who answer the telephone, on this computer alone, behind a link that works once.

Keeps: who may use it, and what a form's request becomes. Leaves to others: pages (``call_pages``), what to say and tickets
(``calls``), the answer (``telephone``).

- It listens on loopback. The link that the verb prints gives one browser a cookie, and nobody after it.
- A page elsewhere cannot use that browser: the cookie is ``SameSite=Strict``, and another host's name is not answered.
- What is typed is kept under a ticket at once, so that a call may end at any time.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp

from keyturn.core.errors import KeyturnError
from keyturn.core.model import b64u
from keyturn.edge.limits import Limits
from keyturn.edge.serverlog import Log
from keyturn.edge.web import Route, application, json_response
from keyturn.service import call_pages, calls, telephone
from keyturn.service.activation import ActivationService
from keyturn.service.call_web import FORM, MAX_FORM, form, page, script, verdict_page
from keyturn.service.calls import Look

COOKIE = "keyturn-desk"
STAFF = "staff-desk"
BEGIN = "“Hello. Please read out the installation ID, group by group: `keyturn installation-id` shows it.”"


class Door:
    """Who may use the desk: whoever opened the link first."""

    def __init__(self, chance: Callable[[int], bytes]) -> None:
        self.link: str | None = b64u(chance(24))
        self._cookie = b64u(chance(24))

    async def guard(self, request: Request) -> None:
        """Raises: KeyturnError ``permission_denied``."""
        name = request.url.hostname
        given = request.cookies.get(COOKIE, "")
        if name not in ("127.0.0.1", "localhost", "::1") or not hmac.compare_digest(
            given.encode(), self._cookie.encode()
        ):
            raise KeyturnError(
                "permission_denied", "This browser did not open the desk's link.",
                remedy="Open the link that `keyturn service desk` prints; it works once.",
            )  # fmt: skip

    async def open(self, request: Request) -> Response:
        """The link: a cookie for the browser that comes first."""
        given = str(request.path_params["link"])
        if self.link is None or not hmac.compare_digest(given.encode(), self.link.encode()):
            raise KeyturnError(
                "permission_denied",
                "This link was used, or is another desk's.",
                remedy="Run `keyturn service desk` again.",
            )
        self.link = None
        answer = RedirectResponse("/", 303, {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"})
        answer.set_cookie(COOKIE, self._cookie, httponly=True, samesite="strict")
        return answer


def build(service: ActivationService, door: Door, log: Log) -> ASGIApp:
    """The application, ready to be served on loopback. ``log`` is told of faults alone: what staff does is in the audit."""
    table = _routes(service, door)
    return Limits(application(table, guards={STAFF: door.guard}), routes=table, log=log)


def _routes(service: ActivationService, door: Door) -> list[Route]:
    publisher = service.home.settings.publisher

    def shown(said: str, ticket: str, found: Look | None, note: str = "", *, ask: bool = False) -> Response:
        mood, say, typed = ("wait", BEGIN, None) if found is None else (found.mood, found.say, found.typed)
        return page(call_pages.desk(publisher, said, ticket, mood, say, typed, note, ask), connect=True)

    async def begin(_request: Request) -> Response:
        return shown("", "", None)

    async def look(request: Request) -> Response:
        fields = form(await request.body())
        ticket, found = await run_in_threadpool(_look, service, fields.get("id", ""), fields.get("ticket", ""))
        return json_response(call_pages.as_json(ticket, found.mood, found.say))

    async def work(request: Request) -> Response:
        fields = form(await request.body())
        said, ticket = fields.get("id", ""), fields.get("ticket", "")
        if fields.get("do") == "look":
            ticket, found = await run_in_threadpool(_look, service, said, ticket)
            return shown(said, ticket, found)
        try:
            outcome = await run_in_threadpool(_answer, service, said, ticket, fields.get("do") == "sure")
        except KeyturnError as error:
            if error.exit == 6:
                raise
            ticket, found = await run_in_threadpool(_look, service, said[:1024], ticket)
            ask = error.code == "staff_required"
            why = f"{error.detail[:1].upper()}{error.detail[1:]}."
            return shown(said, ticket, found, why if ask else f"{why} {error.remedy}", ask=ask)
        return page(call_pages.answered(outcome, "/"))

    async def resume(request: Request) -> Response:
        ticket = "".join(filter(str.isdecimal, form(await request.body()).get("ticket", "")))
        said = await run_in_threadpool(service.database.read, lambda db: calls.resume(db, ticket, service.clock()))
        if said is None:
            return shown("", "", None, "There is no such ticket: it was answered, or is older than a day. Begin anew.")
        _, found = await run_in_threadpool(_look, service, said, ticket)
        return shown(said, ticket, found)

    async def validate(_request: Request) -> Response:
        return page(call_pages.validating(publisher, back="/"))

    async def judge(request: Request) -> Response:
        said = form(await request.body()).get("id", "")
        text, status, *_ = await run_in_threadpool(verdict_page, service, said, actor="staff", alone=False, back="/")
        return page(text, status)

    return [
        Route("/validate", "GET", validate, STAFF), Route("/validate", "POST", judge, STAFF, MAX_FORM, (FORM,)),
        Route("/open/{link}", "GET", door.open, "public"), script(),
        Route("/", "GET", begin, STAFF), Route("/", "POST", work, STAFF, MAX_FORM, (FORM,)),
        Route("/look", "POST", look, STAFF, MAX_FORM, (FORM,)), Route("/resume", "POST", resume, STAFF, MAX_FORM, (FORM,)),
    ]  # fmt: skip


def _look(service: ActivationService, said: str, ticket: str) -> tuple[str, Look]:
    """Judge, and keep what holds so far under a ticket from the first whole part on."""
    found = calls.look(service, said)
    if any(part.state == "complete" for part in found.typed.parts):
        now, chance = service.clock(), service.ids.chance(8)
        ticket = service.database.write_now(lambda db: calls.keep(db, ticket, said, now, chance))
    return ticket, found


def _answer(service: ActivationService, said: str, ticket: str, sure: bool) -> telephone.Answer:
    """Raises: KeyturnError for a "no", too."""
    outcome = telephone.answer(service, calls.given(said), actor="staff", alone=False, sure=sure)
    if not isinstance(outcome, telephone.Answer):
        raise outcome.as_error()
    service.database.write_now(lambda db: calls.forget(db, ticket))
    return outcome
