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

from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.model import DAY, Channel, product_id
from keyturn.edge.limits import Limits
from keyturn.edge.metrics import MEDIA_TYPE, Metrics
from keyturn.edge.ratelimit import Limiter, Rates
from keyturn.edge.serverlog import Log
from keyturn.edge.shedding import Shedding, admission
from keyturn.edge.together import Together
from keyturn.edge.web import JSON, NOTES, PUBLIC, Route, application, health, json_response
from keyturn.service import admin, alarms, batching, call_web, docpage, inquiring, openapi, rotation, voice
from keyturn.service.activation import ActivationService, Proven, Returned
from keyturn.service.admin import Gatekeeper
from keyturn.service.observing import Observed
from keyturn.service.seats import Intent
from keyturn.service.shedding import EXCHANGE, pass_on

__all__ = ["Log", "build", "routes"]

_CHANNELS = frozenset(channel.value for channel in Channel)


def routes(
    service: ActivationService, gate: Gatekeeper, metrics: Metrics, certificate: str | None = None
) -> list[Route]:
    """The authorization table. Everything a client needs is public: the documents prove who speaks."""

    together = Together(service.database)

    async def directory(_request: Request) -> Response:
        return json_response(service.directory())

    async def exchange(request: Request) -> Response | Refused:
        token = _token(await request.body())
        admitted = admission(request)
        admitted.look(token)
        proven = service.prove(token)
        pass_on(admitted, service, proven)
        if isinstance(proven, Refused):
            return proven
        notes = request.scope.get(NOTES, {})
        if isinstance(proven, Proven):
            notes["product_id"] = _proven_id(proven)
        carried = request.scope["query_string"] == b"by=file"  # Said by `relay`; it lengthens what nobody can renew online.
        outcome = await service.record(proven, together.write, by_file=carried)  # Durable from here on.
        if isinstance(outcome, Refused):
            notes["outcome"] = "refused"
            return outcome
        notes["outcome"] = "released" if isinstance(outcome, int) else outcome.how
        return json_response(await answer(proven, outcome))

    async def answer(proven: Proven | Returned, outcome: Intent | int) -> Mapping[str, object]:
        return await _answer(service, proven, outcome, together)

    async def ask(request: Request) -> Response | Refused:
        token = _token(await request.body())
        pass_on(admission(request), service, service.prove(token))
        answer = service.ask(token)
        return answer if isinstance(answer, Refused) else json_response(answer)

    async def revocations(request: Request) -> Response:
        return json_response(await asyncio.to_thread(service.revocations, request.path_params["slug"]))

    async def figures(_request: Request) -> Response:
        return Response(metrics.render(_gauges(service, certificate)), media_type=MEDIA_TYPE)

    return [
        Route("/.well-known/keyturn", "GET", directory, PUBLIC),
        Route(EXCHANGE, "POST", exchange, PUBLIC),
        batching.route(service, together.write, answer),
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
    table = routes(service, gate, metrics, certificate)
    limiter = Limiter(service.home.settings.rates() if rates is None else rates)
    limited = Limits(
        Shedding(application(table, guards=gate.guards), limiter, exchange=EXCHANGE), routes=table, log=log
    )
    return Observed(limited, service, routes=table, log=log, metrics=metrics)


async def _answer(
    service: ActivationService, proven: Proven | Returned, outcome: Intent | int, together: Together
) -> Mapping[str, object]:
    """The answer to a recorded decision. While a slow signer works, everybody else is served.

    Raises: KeyturnError ``signer_unavailable``, without the reason: strangers read it.
    """
    try:
        if isinstance(outcome, Intent) and isinstance(proven, Proven):
            outcome = await service.signed(outcome, together.write)
            if service.home.holder.waits and service.sends_product(proven):
                return await asyncio.to_thread(service.answer, proven, outcome, service.database.write)
        return service.answer(proven, outcome, together.write)
    except KeyturnError as error:
        if error.code not in ("signer_unavailable", "signer_locked"):
            raise
        raise KeyturnError("signer_unavailable", retry_after=error.retry_after or 1) from error


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


def _proven_id(proven: Proven) -> str:
    """The product ID of a proven key, made anew: what a request says beside its serial is the sender's text."""
    said, serial = proven.request.product_id, proven.request.serial
    word = said[:-10].rpartition("-")[2]  # Before the serial with its dash.
    true = word in _CHANNELS and said == product_id(proven.request.product.slug, Channel(word), serial)
    return said if true else f"serial-{serial:09d}"


def _token(body: bytes) -> str:
    try:
        return body.decode("ascii")
    except UnicodeDecodeError as error:
        raise KeyturnError("document_malformed", "a document is ASCII text") from error
