"""Many documents in one request: what a fleet manager or a relay sends for others.

Keeps: the batch's shape and bounds. Leaves to others: what a document gets (``activation``), limits of a key (``shedding``).

- Each document is its own: it has its own answer or its own "no", in the order they came, and none spoils another.
- What would stand in every answer stands once, beside them: all trust bundles, and the product files that go along.
- All are recorded together, in one commit where they come to that, and each is signed and answered after it.
- Who sends what proves nothing is stopped early: a batch must not be a cheap way to let the service compute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from keyturn.core import jws
from keyturn.core.errors import KeyturnError, Refused
from keyturn.edge.shedding import admission
from keyturn.edge.web import JSON, NOTES, PUBLIC, Route, json_response, new_reference
from keyturn.service.activation import MAX_REQUEST, ActivationService, Proven, Returned
from keyturn.service.shedding import pass_on

BATCH = "/v1/batch"
MOST = 500  # Documents of one request (design: commands).
MISSES = 10  # Documents of one batch that may prove nothing, before the rest is not looked at.
BREATH = 8  # Documents that are proven before others get a turn.

Decided = Proven | Returned
Answer = Callable[[Decided, Any], Awaitable[Mapping[str, object]]]


def route(service: ActivationService, write: Callable[..., Any], answer: Answer) -> Route:
    """The address for batches. ``answer`` signs and answers what was recorded."""

    async def batch(request: Request) -> Response:
        tokens = _documents(await request.body())
        carried = request.scope["query_string"] == b"by=file"
        proven = await _proven(request, service, tokens)
        recorded = [
            one if isinstance(one, (Refused, KeyturnError)) else service.record(one, write, by_file=carried)
            for one in proven
        ]
        answers, products = [], {}
        for asked, outcome in zip(proven, recorded, strict=True):
            one = dict(await _answered(asked, outcome, answer))
            one.pop("bundles", None)
            file = one.pop("product", None)
            if file is not None and isinstance(asked, Proven):
                products[str(asked.request.product)] = file
            answers.append(one)
        said = request.scope.get(NOTES, {})
        said["outcome"] = f"{sum('refused' not in one for one in answers)} of {len(answers)}"
        beside = {"bundles": list(service.home.chain.texts), "products": products, "server_time": service.clock()}
        return json_response({"v": 1, "answers": answers, **beside})

    return Route(BATCH, "POST", batch, PUBLIC, MOST * MAX_REQUEST, (JSON,))


async def _answered(asked: Decided | Refused | KeyturnError, outcome: Any, answer: Answer) -> Mapping[str, object]:
    """One document's answer, or its ``refused``."""
    try:
        if not isinstance(outcome, (Refused, KeyturnError)):
            outcome = await outcome  # Durable from here on.
        if isinstance(outcome, KeyturnError):
            raise outcome
        if isinstance(outcome, Refused):
            raise outcome.as_error()
        assert isinstance(asked, (Proven, Returned))
        return await answer(asked, outcome)
    except KeyturnError as error:
        error.reference = error.reference or new_reference()
        return {"refused": error.as_json()}


async def _proven(
    request: Request, service: ActivationService, tokens: list[str]
) -> list[Decided | Refused | KeyturnError]:
    """Prove each document, within the limits of this address and of each key."""
    admitted = admission(request)
    found: list[Decided | Refused | KeyturnError] = []
    misses = 0
    for number, token in enumerate(tokens):
        if number % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        if misses >= MISSES:
            found.append(
                KeyturnError("too_many_requests", f"{MISSES} documents of this batch prove nothing", retry_after=60)
            )
            continue
        try:
            admitted.look(token)
            one = service.prove(token)
            pass_on(admitted, service, one)
        except KeyturnError as error:
            misses += error.code != "too_many_requests"
            found.append(error)
            continue
        misses += isinstance(one, Refused)
        found.append(one)
    return found


def _documents(body: bytes) -> list[str]:
    """Raises: KeyturnError ``document_malformed``."""
    tokens = jws.loads(body).get("documents")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) for token in tokens):
        raise KeyturnError("document_malformed", "a batch is an object with documents, a list of signed texts")
    if len(tokens) > MOST:
        raise KeyturnError("document_malformed", f"a batch has at most {MOST} documents")
    return tokens
