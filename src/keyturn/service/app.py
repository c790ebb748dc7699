"""The service over HTTP: the directory, addresses for documents and questions, the admin API, health, figures, its description.

Keeps: the table of routes with their access, and the rings around them. Leaves to others: what a document does
(``activation``), what staff does (``admin``), limits, problem documents and sockets (``edge.limits``, ``edge.web``,
``edge.listen``), what is written of a request (``observing``).
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Mapping
from sqlite3 import Connection

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp

from keyturn.core.errors import Refused
from keyturn.core.model import DAY
from keyturn.edge.limits import Limits
from keyturn.edge.metrics import MEDIA_TYPE, Metrics
from keyturn.edge.ratelimit import Limiter, Rates
from keyturn.edge.serverlog import Log
from keyturn.edge.shedding import Shedding, admission
from keyturn.edge.together import Together
from keyturn.edge.web import JSON, PUBLIC, Route, application, health, json_response
from keyturn.service import admin, alarms, batching, call_web, docpage, inquiring, openapi, rotation, voice
from keyturn.service.activation import ActivationService
from keyturn.service.admin import Gatekeeper
from keyturn.service.exchanging import Exchange, ShortWay, token
from keyturn.service.observing import Observed
from keyturn.service.shedding import EXCHANGE, pass_on

__all__ = ["Log", "build", "routes"]


def routes(
    service: ActivationService, gate: Gatekeeper, metrics: Metrics, certificate: str | None = None, *,
    exchange: Exchange | None = None,
) -> list[Route]:  # fmt: skip
    """The authorization table. Everything a client needs is public: the documents prove who speaks."""

    exchange = Exchange(service, Together(service.database)) if exchange is None else exchange

    async def directory(_request: Request) -> Response:
        return json_response(service.directory())

    async def ask(request: Request) -> Response | Refused:
        text = token(await request.body())
        pass_on(admission(request), service, service.prove(text))
        answer = service.ask(text)
        return answer if isinstance(answer, Refused) else json_response(answer)

    async def revocations(request: Request) -> Response:
        return json_response(await asyncio.to_thread(service.revocations, request.path_params["slug"]))

    async def figures(_request: Request) -> Response:
        return Response(metrics.render(_gauges(service, certificate)), media_type=MEDIA_TYPE)

    return [
        Route("/.well-known/keyturn", "GET", directory, PUBLIC),
        exchange.route(),
        batching.route(service, exchange.together.write, exchange.answer),
        inquiring.route(service),
        Route("/v1/ask", "POST", ask, PUBLIC),
        Route("/v1/products/{slug}/revocations", "GET", revocations, PUBLIC),
        *_description(service),
        *call_web.routes(service),
        voice.route(service),
        *admin.routes(service, gate),
        Route("/metrics", "GET", figures, "metrics.read"),
        *health(lambda: service.home.holder.away is None and service.database.read(_answers)),
    ]


def build(
    service: ActivationService, log: Log, *, rates: Rates | None = None, certificate: str | None = None
) -> ASGIApp:
    """The application with its limits, ready to be served.

    ``rates`` are the settings' unless given, ``certificate`` is the TLS certificate's file, if not the home's.
    """
    gate, metrics = Gatekeeper(service), Metrics()
    service.home.watchers.append(metrics.signature)
    exchange = Exchange(service, Together(service.database))
    table = routes(service, gate, metrics, certificate, exchange=exchange)
    limiter = Limiter(service.home.settings.rates() if rates is None else rates)
    shedding = Shedding(application(table, guards=gate.guards), limiter, exchange=EXCHANGE)
    limited = Limits(shedding, routes=table, log=log)
    observed = Observed(limited, service, routes=table, log=log, metrics=metrics)
    observed.shortcut = ShortWay(exchange, limited, shedding, observed)
    return observed


def _answers(db: Connection) -> bool:
    return bool(db.execute("SELECT 1").fetchone()[0] == 1)


def _description(service: ActivationService) -> list[Route]:
    """The interface's description, for programs and for people: the same for everybody, so it is public and made once."""
    described = openapi.document(service.home.settings.publisher, service.home.settings.url)
    text, data = docpage.page(described), json_response(described).body

    async def document(_request: Request) -> Response:
        return Response(data, media_type=JSON)

    async def page(_request: Request) -> Response:
        return HTMLResponse(text, headers={"Content-Security-Policy": docpage.POLICY})

    return [Route("/v1/openapi.json", "GET", document, PUBLIC), Route("/docs", "GET", page, PUBLIC)]


def _gauges(service: ActivationService, certificate: str | None = None) -> Mapping[tuple[str, str], Mapping[str, float]]:
    """Figures that are looked up when they are asked for."""
    now, home = service.clock(), service.home
    tls = alarms.tls_until(certificate or home.tls_files[0])
    levels = collections.Counter(str(alarm.level) for alarm in alarms.alarms(home, now, certificate=certificate))
    intents = service.database.read(
        lambda db: db.execute("SELECT count(*) FROM intent WHERE signature IS NULL").fetchone()[0]
    )
    return {
        ("keyturn_open_intents", "Decisions that are recorded and not yet signed."): {"": intents},
        ("keyturn_issuing_key_days_left", "Days until the last issuing key that is here ends, by role."): {
            role: max(0, end - now) / DAY for role, end in alarms.here_until(home).items()
        },
        ("keyturn_signer_ready", "Whether the signer answers, by its kind: 0 while it is away."): {
            home.settings.signer: float(home.holder.away is None)
        },
        ("keyturn_authorised_key_days_left", "Days until the last authorised issuing key ends, by role."): {
            role: max(0, end - now) / DAY for role, end in rotation.authorised_until(home.chain).items()
        },
        ("keyturn_tls_days_left", "Days until the TLS certificate ends."): {
            "": max(0, (tls or 0) - now) / DAY
        },
        ("keyturn_alarms", "What ends within 90, 60 or 30 days."): {str(level): levels[str(level)] for level in alarms.LEVELS},
    }
