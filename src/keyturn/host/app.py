"""The host over HTTPS: its directory, leases, what other hosts tell, health, figures, the status page.

Keeps: the table of routes with their access, and the rings around them. Leaves to others: what a request gets (``leasing``), the
page (``page``), limits, problem documents and sockets (``edge.limits``, ``edge.shedding``, ``edge.web``, ``edge.listen``).

Everything that a computer needs is public: the documents prove who speaks. Page and figures are for this computer alone, unless
the setting ``observers`` says otherwise.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from sqlite3 import Connection

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp

from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.leasing import Waiting
from keyturn.edge.endorsing import Endorser
from keyturn.edge.limits import Limits
from keyturn.edge.metrics import MEDIA_TYPE, Metrics
from keyturn.edge.observed import Observed
from keyturn.edge.ratelimit import Limiter, Rates
from keyturn.edge.serverlog import Log
from keyturn.edge.shedding import Shedding, admission
from keyturn.edge.together import Together
from keyturn.edge.web import JSON, NOTES, PUBLIC, Route, application, health, json_response
from keyturn.host import figures, page, sightings
from keyturn.host.leasing import LeasingHost
from keyturn.host.shedding import DIRECTORY, FREE, LEASE, holds_lease

OBSERVER = "observer"
# Figures that are looked up when they are asked for, by product: the member of ``figures.product``, and what it means.
GAUGES: Mapping[str, tuple[str, str]] = {
    "keyturn_host_computers": ("computers", "Computers in the ledger."),
    "keyturn_host_counted": ("counted", "Distinct computers seen within 30 days."),
    "keyturn_host_threshold": ("threshold", "Computers needed before the first lease."),
    "keyturn_host_seats": ("licensed", "Computers with a lease that runs."),
    "keyturn_host_waiting": ("waiting", "Computers that wait for the threshold."),
    "keyturn_host_forks": ("forks", "Copies that were found."),
}
CERTIFICATE_LEFT = (
    "keyturn_host_certificate_seconds_left", "Seconds until the host certificate ends; below 0: it has ended.",
)  # fmt: skip


def routes(host: LeasingHost, metrics: Metrics, place: str) -> list[Route]:
    """The authorization table. ``place`` is what this host calls itself: NAME:PORT."""
    together = Together(host.database)
    endorser = Endorser(host.home.signer, host.home.tls_files[0])

    async def directory(_request: Request) -> Response:
        host.look()
        return json_response(_directory(host, endorser))

    async def lease(request: Request) -> Response | Refused:
        notes = request.scope.get(NOTES, {})
        token, admitted = _token(await request.body()), admission(request)
        admitted.look(token)
        proven = host.prove(token)
        admitted.pass_on(lambda: holds_lease(host, proven))
        outcome = await host.record(proven, together.write)  # Durable from here on.
        if isinstance(outcome, Waiting):
            notes["outcome"] = "waiting"
            raise host.waits(proven, outcome)
        if isinstance(outcome, Refused):
            notes["outcome"] = "refused"
            return outcome
        notes["outcome"] = outcome.how
        if outcome.rolled_back:
            notes["rolled_back"] = True
        return json_response(host.answer(proven, outcome))

    async def told(request: Request) -> Response:
        document = _token(await request.body())
        return json_response(await sightings.take(host, document, together.write))

    async def status(_request: Request) -> Response:
        text = await asyncio.to_thread(_page, host, place)
        return HTMLResponse(text, headers={"Content-Security-Policy": page.POLICY})

    async def gauges(_request: Request) -> Response:
        found = await asyncio.to_thread(_gauges, host)
        return Response(metrics.render(found), media_type=MEDIA_TYPE)

    return [
        Route(DIRECTORY, "GET", directory, PUBLIC),
        Route(LEASE, "POST", lease, PUBLIC),
        Route("/v1/sightings", "POST", told, PUBLIC, sightings.MAX_BODY, (JSON,)),
        Route("/", "GET", status, OBSERVER),
        Route("/metrics", "GET", gauges, OBSERVER),
        *health(lambda: host.database.read(_answers)),
    ]


def build(host: LeasingHost, log: Log, *, place: str, rates: Rates | None = None) -> ASGIApp:
    """The application with its limits, ready to be served. ``rates`` are the settings' unless given."""
    metrics = Metrics()
    table = routes(host, metrics, place)

    async def observer(request: Request) -> None:
        if host.home.settings.observers != "everyone" and not _is_local(request.client.host if request.client else ""):
            raise KeyturnError(
                "permission_denied", "Page and figures are shown on the host itself.",
                remedy="There: `keyturn host config set observers everyone`.",
            )  # fmt: skip

    limiter = Limiter(host.home.settings.rates() if rates is None else rates)
    shedding = Shedding(application(table, guards={OBSERVER: observer}), limiter, exchange=LEASE, free=FREE)
    limited = Limits(shedding, routes=table, log=log)
    paths = frozenset(route.path for route in table)
    return Observed(limited, routes=paths, log=log, metrics=metrics, chance=host.chance)


def _directory(host: LeasingHost, endorser: Endorser) -> Mapping[str, object]:
    permits = host.home.permits.values()
    now = host.clock()
    return {
        "v": 1,
        "hosts": [permit.tokens[0][1] for permit in permits if permit.tokens],
        "endorsement": endorser.token(now),
        "bundles": {permit.name.thumbprint: list(permit.opened.chain.texts) for permit in permits},
        "server_time": now,
    }


def _page(host: LeasingHost, place: str) -> str:
    now, permits = host.clock(), list(host.home.permits.values())

    def look(db: Connection) -> str:
        products = [figures.product(db, permit, now) for permit in permits]
        copies = [fork for permit in permits for fork in figures.forks(db, permit)]
        ending = [c for permit in permits for c in figures.ending(db, permit, now)]
        return page.page(place, now, products, ending, copies, figures.others(db))

    return host.database.read(look)


def _gauges(host: LeasingHost) -> Mapping[tuple[str, str], Mapping[str, float]]:
    now, permits = host.clock(), list(host.home.permits.values())
    found = host.database.read(lambda db: {str(permit.name): figures.product(db, permit, now) for permit in permits})
    ends = {str(p.name): float(p.certificate.expires_at - now) if p.certificate else 0.0 for p in permits}

    looked_up = {
        (name, told): {product: float(values[member] or 0) for product, values in found.items()}
        for name, (member, told) in GAUGES.items()
    }
    return {**looked_up, CERTIFICATE_LEFT: ends}


def _is_local(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def _answers(db: Connection) -> bool:
    return bool(db.execute("SELECT 1").fetchone()[0] == 1)


def _token(body: bytes) -> str:
    try:
        return body.decode("ascii")
    except UnicodeDecodeError as error:
        raise KeyturnError("document_malformed", "a document is ASCII text") from error
