"""The addresses of telephone activation that are open to everybody: the page, its script, the voice menu.

Keeps: what a form's request becomes. Leaves to others: pages (``call_pages``), the answer (``telephone``), limits on requests
(``edge.limits``).

- What is typed comes in the body, never in an address: addresses end up in logs.
- Before a proof holds there is one answer. What is wrong with the typing is said at once: it was not looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.phone.spelling import MAX_INPUT
from keyturn.edge.web import NOTES, PUBLIC, Route
from keyturn.service import call_pages, calls, telephone, validating
from keyturn.service.activation import ActivationService

FORM = "application/x-www-form-urlencoded"
MAX_FORM = 8_192  # Bytes: an ID of 1,024 characters, each of them escaped, and the fields beside it.
ACTOR = "self-service"


def routes(service: ActivationService) -> list[Route]:
    """The lines of the authorization table: all of it is public, the proof says who asks."""
    publisher = service.home.settings.publisher

    async def ask(_request: Request) -> Response:
        return page(call_pages.asking(publisher))

    async def answer(request: Request) -> Response:
        said = form(await request.body()).get("id", "")
        found = await run_in_threadpool(_answered, service, said)
        notes = request.scope.get(NOTES, {})
        if isinstance(found, telephone.Answer):
            notes["product_id"], notes["outcome"] = found.product_id, found.how
            return page(call_pages.answered(found))
        notes["outcome"] = found.code
        if found.code.startswith("code_") or found.code in ("input_too_large", "usage"):
            typed = calls.typed(said) if len(said) <= 1024 else None
            return page(call_pages.asking(publisher, said, found.detail, typed), found.entry.status)
        return page(call_pages.refused(found.entry.title, found.detail, found.remedy), found.entry.status)

    async def validate(_request: Request) -> Response:
        return page(call_pages.validating(publisher))

    async def judge(request: Request) -> Response:
        text, status, code, named = await run_in_threadpool(
            verdict_page, service, form(await request.body()).get("id", ""), actor=ACTOR, alone=True
        )
        notes = request.scope.get(NOTES, {})
        notes["outcome"] = code
        if named is not None:
            notes["product_id"] = named
        return page(text, status)

    return [
        Route("/phone", "GET", ask, PUBLIC), Route("/phone", "POST", answer, PUBLIC, MAX_FORM, (FORM,)), script(),
        Route("/phone/validate", "GET", validate, PUBLIC), Route("/phone/validate", "POST", judge, PUBLIC, MAX_FORM, (FORM,)),
    ]  # fmt: skip


def verdict_page(
    service: ActivationService, said: str, *, actor: str, alone: bool, back: str = "/phone"
) -> tuple[str, int, str, str | None]:
    """The page that answers a validation ID; its status, what the log calls the outcome, and the product ID once it is proven."""
    publisher = service.home.settings.publisher
    try:
        found = validating.answer(service, validating.given(said), actor=actor, alone=alone)
    except KeyturnError as error:
        if error.exit == 6:
            raise
        typed = validating.typed(said) if len(said) <= MAX_INPUT else None
        return call_pages.validating(publisher, said, error.detail, typed, back), error.entry.status, error.code, None
    if isinstance(found, Refused):
        no = found.as_error()
        shown = call_pages.refused(no.entry.title, no.detail, no.remedy, f"{back.rstrip('/')}/validate")
        return shown, no.entry.status, no.code, None
    return call_pages.judged(found, back), 200, found.finding.name.lower(), found.product_id


def script() -> Route:
    """The pages' own script."""

    async def file(_request: Request) -> Response:
        return Response(call_pages.SCRIPT, media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    return Route("/phone.js", "GET", file, PUBLIC)


def page(text: str, status: int = 200, *, connect: bool = False) -> Response:
    """A page that nobody keeps."""
    headers = {
        "Content-Security-Policy": call_pages.policy(connect=connect), "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
    }  # fmt: skip
    return HTMLResponse(text, status, headers)


def form(body: bytes) -> Mapping[str, str]:
    """The fields of a form, each once. Raises: KeyturnError ``request_unsupported``."""
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=16, errors="strict")
    except ValueError as error:
        raise KeyturnError("request_unsupported", "This is no form.") from error
    return {name: values[0] for name, values in fields.items()}


def _answered(service: ActivationService, said: str) -> telephone.Answer | KeyturnError:
    try:
        found = telephone.answer(service, calls.given(said), actor=ACTOR, alone=True)
    except KeyturnError as error:
        if error.exit == 6:
            raise
        return error
    return found.as_error() if isinstance(found, Refused) else found
