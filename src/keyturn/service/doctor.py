"""``keyturn service doctor``: every step between the publisher's keys and the computers that ask, and what mends it.

Keeps: the steps and their words. Leaves to others: the data, row by row (``verify``), what ends soon (``alarms``), the name
(``flows.reaching``).

- It asks this service from here by the address that clients have: what it sends is what everybody may, and nothing is changed.
- What is advice, and no fault, is neither good nor bad.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import click

from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, rfc3339
from keyturn.edge import clock
from keyturn.edge.terminal import Call, pass_call
from keyturn.edge.transport import Transport, probe
from keyturn.flows import reaching
from keyturn.flows.checking import Check, look, report
from keyturn.flows.installing import LOOPBACK
from keyturn.service import alarms, checks, confirming
from keyturn.service.alarms import Alarm
from keyturn.service.context import ServiceVerb, home_path
from keyturn.service.home import ServiceHome
from keyturn.service.verify import signer

RUN = "`systemctl start keyturn-service`, or `keyturn service run`; `keyturn service config set url URL` if clients use another."
AT_ONCE = 30  # Days before an end from which on it is a fault, and no advice.


@click.command(cls=ServiceVerb)
@pass_call
def doctor(call: Call) -> int:
    """Look at every step from the publisher's keys to the computers that ask, and say what is wrong. Exits 1 if something is."""
    return report(call, list(walk(call)))


def walk(call: Call) -> Iterator[Check]:
    """The steps, in order.

    1. The home, its trust bundles, the signer. 2. What ends soon. 3. The database: as this program makes it, and no decision left
    unsigned. 4. The clock, against the newest line of the audit. 5. The address that clients have: its name, and that this
    service answers there, with a certificate that they believe. 6. The probe. 7. The telephone. 8. The root folder.
    """
    now = clock.now()
    # 1.
    try:
        home = ServiceHome(home_path(call), call.environ)
    except KeyturnError as error:
        yield Check("home", False, error.detail, error.remedy)
        return
    home.close()
    yield look("trust", lambda: checks.trusted(home.chain, home.settings.publisher))
    yield look("signer", lambda: signer(home.path, call.environ))
    # 2.
    ending = list(alarms.alarms(home, now))
    yield from map(_ending, ending)
    if not ending:
        yield Check("keys and certificates", True, "nothing ends within 90 days")
    # 3.
    yield from _database(home, now)
    # 5.
    url = urlsplit(home.settings.url)
    alone = (url.hostname or "") in LOOPBACK
    if alone:
        yield Check(
            "url",
            None,
            f"{home.settings.url} is this computer only",
            "`keyturn service config set url https://NAME.DOMAIN`",
        )
    else:
        yield look(
            "name", lambda: reaching.name(url.hostname or "", "`keyturn service config set url https://NAME.DOMAIN`")
        )
    yield look("answers", lambda: _answers(home, call, now))
    # 6.
    yield look("probe", lambda: _probe(home, call))
    # 7.
    yield _telephone(home, now)
    # 8.
    if (home.path / "root").exists():
        yield Check(
            "root", None, "the root folder is on this computer", f"Carry {home.path / 'root'} away, to a safe place."
        )


def _ending(alarm: Alarm) -> Check:
    told = f"{alarm.of}: {max(0, alarm.days_left)} days left"
    return Check(alarm.alarm, False if alarm.level <= AT_ONCE else None, told, alarm.remedy)


def _database(home: ServiceHome, now: int) -> Iterator[Check]:
    try:
        database = home.open_database()
    except KeyturnError as error:
        yield Check("database", False, error.detail, error.remedy)
        return
    with database:
        yield look("database", lambda: database.read(lambda db: checks.figures(db, None)))
        yield look("decisions", lambda: database.read(lambda db: checks.decisions(db, now)))
        newest = database.look("SELECT at FROM audit ORDER BY id DESC LIMIT 1", ())
        # 4.
        yield look("clock", lambda: _clock(now, None if newest is None else newest["at"]))


def _clock(now: int, newest: int | None) -> tuple[Any, ...]:
    if newest is not None and newest > now + DAY:
        return False, f"it says {rfc3339(now)}, and something was written down at {rfc3339(newest)}", reaching.SET_CLOCK
    return True, str(rfc3339(now))


def _answers(home: ServiceHome, call: Call, now: int) -> tuple[Any, ...]:
    """As a client sees it: by the address in product files, and the authorities that they name."""
    try:
        with Transport(ca_pem=home.ca or None, environ=call.environ) as transport:
            directory = transport.get_json(f"{home.settings.url}/.well-known/keyturn")
    except KeyturnError as error:
        return False, error.detail, RUN
    if directory.get("thumbprint") != home.chain.thumbprint:
        return False, f"{home.settings.url} is another publisher's service", RUN
    there, ready = directory.get("server_time"), home.chain.newest.number
    if isinstance(there, int) and abs(there - now) > DAY:
        return False, f"its clock says {rfc3339(there)}, this one {rfc3339(now)}", reaching.SET_CLOCK
    bundles = directory.get("bundles")
    if not isinstance(bundles, list) or len(bundles) < ready:
        return False, f"it does not hand out trust bundle {ready} yet", "Start it again."
    return True, f"{home.settings.url} answers over TLS, with trust bundle {ready}"


def _probe(home: ServiceHome, call: Call) -> tuple[Any, ...]:
    url = home.settings.probe_url
    if url in (None, "none"):
        return None, "clients do not probe"
    found = probe(url, proxies=call.environ)
    if found.outcome == "go":
        return True, found.detail
    return (
        False,
        found.detail,
        "Clients go on by HTTPS after a pause. Let port and path through, or `config set probe_url none`.",
    )


def _telephone(home: ServiceHome, now: int) -> Check:
    found = confirming.here_until(home.path, home.chain)
    if not confirming.available() or not found:
        return Check("telephone", None, "no call is answered here", confirming.REMEDY)
    return Check("telephone", True, f"answered, {(min(found.values()) - now) // DAY} days left")
