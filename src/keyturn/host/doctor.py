"""``keyturn host doctor``: every step between this host and the computers that it serves, and what mends it.

Keeps: the steps and their words. Leaves to others: the home and the ledger (``checks``), who may be believed (``flows.hosting``),
DNS (``edge.discovery``).

Nothing is sent that identifies anybody: other hosts and the service are asked for their directories, which are public.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, rfc3339
from keyturn.core.srv import Place
from keyturn.edge import discovery
from keyturn.edge.terminal import Call, Verb, address, pass_call
from keyturn.edge.transport import Transport
from keyturn.flows.checking import Check, look, report
from keyturn.flows.hosting import HostLine
from keyturn.flows.installing import LOOPBACK
from keyturn.host import checks, peers, publishing
from keyturn.host.context import home_path, now_of
from keyturn.host.home import HostHome, Permit

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a host that listens everywhere is asked from here
RUN = "`systemctl start keyturn-host`, or `keyturn host run`."
GONE = "Look whether it runs; if it is gone for good, remove its record."


@click.command(cls=Verb)
@pass_call
def doctor(call: Call) -> int:
    """Look at every step from this host's key to the computers that ask it, and say what is wrong. Exits 1 if something is."""
    return report(call, list(walk(call)))


def walk(call: Call) -> Iterator[Check]:
    """The steps, in order.

    1. The home and its key. 2. What it may do, and for how long. 3. The ledger. 4. The clock, against the ledger.
    5. It listens, where others reach it, and answers as a computer wants it. 6. Its name, and DNS. 7. The other hosts.
    8. The publisher's service; a host that never reaches it is renewed by file, so that is no fault.
    """
    # 1.
    try:
        home = HostHome(home_path(call), call.environ)
    except KeyturnError as error:
        yield Check("home", False, error.detail, error.remedy)
        return
    moment = now_of(call.environ, home.permits)
    yield Check("key", True, f"{home.signer.kid} in {home.path}")
    # 2.
    if not home.permits:
        yield Check("product", False, "none is added", "`keyturn host init FILE.ktproduct`")
    yield from checks.certificates(home, moment())
    # 3.
    yield next(iter(checks.ledger_of(home.path)))
    # 4.
    yield look("clock", lambda: _clock(home, moment()))
    # 5.
    at, port = address(home.listening)
    alone = at in LOOPBACK
    told = f"{home.listening}, this computer only" if alone else home.listening
    open_it = "`keyturn host config set listen 0.0.0.0:8444` lets other computers in." if alone else None
    yield Check("listens at", None if alone else True, told, open_it)
    certified = [permit for permit in home.permits.values() if permit.certificate is not None]
    asked = Asked(call.environ, moment)
    if certified:
        own = Place(_ANY.get(at, at), port)
        yield look("answers", lambda: asked(own, certified[0], RUN))
    # 6.
    yield look("name", lambda: _name(home.settings.name))
    yield from _published(home, port)
    # 7.
    for place in peers.places(home.settings, publishing.own_place(home.settings, port)):
        if certified:
            yield look(f"host {place}", lambda place=place: asked(place, certified[0], GONE))  # type: ignore[misc]
    # 8.
    for permit in home.permits.values():
        yield _service(permit, call.environ, moment())


class Asked:
    """Another host's answer, or this one's own, judged as a computer would judge it before it sends anything."""

    def __init__(self, environ: Mapping[str, str], moment: Callable[[], int]) -> None:
        self._environ, self._moment = environ, moment

    def __call__(self, place: Place, permit: Permit, remedy: str) -> tuple[Any, ...]:
        opened = permit.opened
        with HostLine(opened.product, opened.chain, lambda: [place], self._environ, now=self._moment) as line:
            try:
                line.reach()
            except KeyturnError as error:
                return False, error.detail, remedy
        return True, f"{place} answers over TLS, certified for {permit.name.slug}, its clock within a day"


def _clock(home: HostHome, now: int) -> tuple[Any, ...]:
    with home.open_database() as database:
        row = database.look("SELECT max(seen_at) AS seen FROM computer", ())
    seen = 0 if row is None or row["seen"] is None else int(row["seen"])
    if seen > now + DAY:
        return False, f"it says {rfc3339(now)}, and a computer was seen at {rfc3339(seen)}", "Set this computer's clock."
    return True, str(rfc3339(now))


def _name(name: str) -> tuple[Any, ...]:
    remedy = "Give it an address record, or `keyturn host config set name NAME.DOMAIN`."
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
    except OSError:
        return False, f"{name} has no address", remedy
    if all(place.startswith("127.") or place == "::1" for place in found):
        return None, f"{name} is {', '.join(found)}, which is no other computer's way here", remedy
    return True, f"{name} is {', '.join(found)}"


def _published(home: HostHome, port: int) -> Iterator[Check]:
    """Whether computers that search in a domain of this host find it there."""
    if not home.settings.domains:
        yield Check("dns", None, publishing.describe(home.settings))
        return
    own = publishing.own_place(home.settings, port)
    try:
        answers = discovery.look_up(home.settings.domains)
    except KeyturnError as error:
        yield Check("dns", False, error.detail, error.remedy)
        return
    for answer in answers:
        there = any((place.target.lower(), place.port) == (own.target, own.port) for place in answer.places)
        told = f"{answer.domain} names {own}" if there else answer.fault or f"{answer.domain} names other hosts, and not {own}"
        yield Check("dns", there, told, None if there else "`keyturn host publish`, or `keyturn host publish --print bind`.")


def _service(permit: Permit, environ: Mapping[str, str], now: int) -> Check:
    product = permit.opened.product
    try:
        with Transport(ca_pem=product.ca, environ=environ) as transport:
            directory = transport.get_json(f"{product.service_url}/.well-known/keyturn")
    except KeyturnError as error:
        return Check(
            "service", None, error.detail,
            "Without it the certificate is renewed by file: `keyturn host export request -o F.ktx`, once a year.",
        )  # fmt: skip
    there = directory.get("server_time")
    if isinstance(there, int) and abs(there - now) > DAY:
        return Check("service", False, f"its clock says {rfc3339(there)}, this one {rfc3339(now)}", "Set this computer's clock.")
    return Check("service", True, f"{product.service_url} answers over TLS: the certificate is renewed by itself")
