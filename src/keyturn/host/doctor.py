"""``keyturn host doctor``: every step between this host and the computers that it serves, and what mends it.

Keeps: the steps and their words. Leaves to others: the home and the ledger (``checks``), who may be believed (``flows.hosting``),
name, clock and the publisher's service (``flows.reaching``), DNS (``edge.discovery``).

Nothing is sent that identifies anybody: other hosts and the service are asked for their directories, which are public.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from keyturn.core.errors import KeyturnError
from keyturn.core.srv import Place
from keyturn.edge import discovery
from keyturn.edge.terminal import Call, Verb, address, pass_call
from keyturn.flows import reaching
from keyturn.flows.checking import Check, look, report
from keyturn.flows.hosting import HostLine
from keyturn.flows.installing import LOOPBACK
from keyturn.host import checks, peers, publishing
from keyturn.host.context import home_path, now_of
from keyturn.host.home import HostHome, Permit

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
    yield look("clock", lambda: reaching.clock(moment(), _seen(home)))
    # 5.
    at, port = address(home.listening)
    alone = at in LOOPBACK
    told = f"{home.listening}, this computer only" if alone else home.listening
    open_it = "`keyturn host config set listen 0.0.0.0:8444` lets other computers in." if alone else None
    yield Check("listens at", None if alone else True, told, open_it)
    certified = [permit for permit in home.permits.values() if permit.certificate is not None]
    asked = Asked(call.environ, moment)
    if certified:
        own = Place(reaching.from_here(at), port)
        yield look("answers", lambda: asked(own, certified[0], RUN))
    # 6.
    yield look("name", lambda: reaching.name(home.settings.name, "`keyturn host config set name NAME.DOMAIN`"))
    yield from _published(home, port)
    # 7.
    for place in peers.places(home.settings, publishing.own_place(home.settings, port)):
        if certified:
            yield look(f"host {place}", lambda place=place: asked(place, certified[0], GONE))  # type: ignore[misc]
    # 8.
    for permit in home.permits.values():
        product = permit.opened.product
        yield look(
            "service",
            lambda product=product: reaching.publisher(  # type: ignore[misc]
                product, call.environ, moment(), then="the certificate is renewed by itself",
                otherwise="Without it the certificate is renewed by file: `keyturn host export request -o F.ktx`, once a year,"
                " or by telephone: `keyturn host installation-id`.",
            ),
        )  # fmt: skip


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


def _seen(home: HostHome) -> int | None:
    with home.open_database() as database:
        row = database.look("SELECT max(seen_at) AS seen FROM computer", ())
    return None if row is None else row["seen"]


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
