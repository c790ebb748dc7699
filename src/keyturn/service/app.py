"""The service over HTTP: the directory, one address for documents, one for questions, health.

Keeps: the table of routes with their access. Leaves to others: what a document does (``activation``), limits, problem
documents and sockets (``edge.limits``, ``edge.web``, ``edge.listen``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from keyturn.core.errors import KeyturnError, Refused
from keyturn.edge.limits import Limits
from keyturn.edge.web import PUBLIC, Route, application, health, json_response
from keyturn.service.activation import ActivationService

Log = Callable[[str, Mapping[str, Any]], None]


def routes(service: ActivationService) -> list[Route]:
    """The authorization table. Everything a client needs is public: the documents prove who speaks."""

    async def directory(_request: Request) -> Response:
        return json_response(service.directory())

    async def exchange(request: Request) -> Response | Refused:
        proven = service.prove(_token(await request.body()))
        if isinstance(proven, Refused):
            return proven
        outcome = await asyncio.wrap_future(service.record(proven))  # Durable from here on.
        return outcome if isinstance(outcome, Refused) else json_response(service.answer(proven, outcome))

    async def ask(request: Request) -> Response | Refused:
        answer = service.ask(_token(await request.body()))
        return answer if isinstance(answer, Refused) else json_response(answer)

    return [
        Route("/.well-known/keyturn", "GET", directory, PUBLIC),
        Route("/v1/exchange", "POST", exchange, PUBLIC),
        Route("/v1/ask", "POST", ask, PUBLIC),
        *health(lambda: service.database.read(lambda db: db.execute("SELECT 1").fetchone()[0] == 1)),
    ]


def build(service: ActivationService, log: Log) -> ASGIApp:
    """The application with its limits, ready to be served."""
    table = routes(service)
    return Limits(application(table), routes=table, log=log)


def _token(body: bytes) -> str:
    try:
        return body.decode("ascii")
    except UnicodeDecodeError as error:
        raise KeyturnError("document_malformed", "a document is ASCII text") from error
