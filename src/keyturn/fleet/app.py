"""The fleet manager over HTTPS: its directory, enrollment, check-ins, health, figures; and the console beside them.

Keeps: the table of routes for agents, and the rings around all routes. Leaves to others: what an agent is told
(``manager``), what people see (``console``), limits, problem documents and sockets (``edge``).
"""

from __future__ import annotations

from collections.abc import Mapping
from sqlite3 import Connection

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from keyturn.core import jws
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.fleet import read_check_in
from keyturn.edge import sodium
from keyturn.edge.endorsing import Endorser
from keyturn.edge.limits import Limits
from keyturn.edge.metrics import MEDIA_TYPE, Metrics
from keyturn.edge.observed import Observed
from keyturn.edge.ratelimit import Limiter
from keyturn.edge.serverlog import Log
from keyturn.edge.shedding import Shedding, admission
from keyturn.edge.together import Together
from keyturn.edge.web import PUBLIC, Route, application, health, json_response
from keyturn.fleet import console, pages
from keyturn.fleet.manager import FleetManager
from keyturn.fleet.pages import ForPeople
from keyturn.fleet.proxying import Connect
from keyturn.fleet.shedding import CHECK_IN, DIRECTORY, FREE, admit
from keyturn.flows.exchange import Line

LOCAL = "local"


def routes(fleet: FleetManager, metrics: Metrics) -> list[Route]:
    """The authorization table for agents: the documents prove who speaks."""
    together = Together(fleet.database)
    endorser = Endorser(fleet.home.signer, fleet.home.tls_files[0])

    async def directory(_request: Request) -> Response:
        now = fleet.clock()
        return json_response({
            "v": 1, "jwk": jws.jwk(fleet.home.signer.public), "endorsement": endorser.token(now), "server_time": now,
        })  # fmt: skip

    async def enroll(request: Request) -> Response:
        token, now = _token(await request.body()), fleet.clock()
        return json_response(await together.write(lambda db: fleet.enroll(db, token, now)))

    async def check_in(request: Request) -> Response | Refused:
        token, now = _token(await request.body()), fleet.clock()
        admit(fleet, admission(request), token)
        heard, verified = read_check_in(token, holds=sodium.holds)
        said = await together.write(lambda db: fleet.check_in(db, heard, verified.kid, now))
        return said if isinstance(said, Refused) else json_response(said)

    async def gauges(request: Request) -> Response:
        found = fleet.database.read(lambda db: _gauges(db, fleet.clock()))
        return Response(metrics.render(found), media_type=MEDIA_TYPE)

    return [
        Route(DIRECTORY, "GET", directory, PUBLIC),
        Route("/v1/enroll", "POST", enroll, PUBLIC),
        Route(CHECK_IN, "POST", check_in, PUBLIC, jws.MAX_TOKEN),
        Route("/metrics", "GET", gauges, LOCAL),
        *health(lambda: fleet.database.read(lambda db: bool(db.execute("SELECT 1").fetchone()[0] == 1))),
    ]


def build(fleet: FleetManager, log: Log, *, environ: Mapping[str, str] | None = None, connect: Connect = Line) -> ASGIApp:
    """The application with its limits, ready to be served. ``environ`` and ``connect`` are for lines to a publisher's service."""
    metrics = Metrics()
    table = [*routes(fleet, metrics), *console.routes(fleet, environ or {}, connect)]

    async def local(request: Request) -> None:
        if request.client is None or request.client.host not in ("127.0.0.1", "::1"):
            raise KeyturnError("permission_denied", "Figures are shown on the fleet manager itself.")

    app = application(table, guards={LOCAL: local, **pages.guards(fleet)})
    shedding = Shedding(app, Limiter(fleet.home.settings.rates()), exchange=CHECK_IN, free=FREE)
    limited = Limits(shedding, routes=table, log=log)
    paths = frozenset(route.path for route in table)
    observed = Observed(limited, routes=paths, log=log, metrics=metrics, chance=fleet.chance)
    return ForPeople(observed, fleet, table)


def _gauges(db: Connection, now: int) -> Mapping[tuple[str, str], Mapping[str, float]]:
    states = {
        row["state"]: float(row["n"]) for row in db.execute("SELECT state, count(*) AS n FROM license GROUP BY state")
    }
    items = {
        row["step"]: float(row["n"])
        for row in db.execute("SELECT step, count(*) AS n FROM item WHERE open = 1 GROUP BY step")
    }
    computers, seen = db.execute(
        "SELECT count(*), count(*) FILTER (WHERE seen_at > ?) FROM computer", (now - 86_400,)
    ).fetchone()
    return {
        ("keyturn_fleet_computers", "Computers that enrolled."): {"": float(computers)},
        ("keyturn_fleet_seen", "Computers that checked in within a day."): {"": float(seen)},
        ("keyturn_fleet_licenses", "Products on computers, by state."): states,
        ("keyturn_fleet_items", "What is under way, by step."): items,
    }


def _token(body: bytes) -> str:
    try:
        return body.decode("ascii")
    except UnicodeDecodeError as error:
        raise KeyturnError("document_malformed", "a document is ASCII text") from error
