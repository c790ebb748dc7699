"""``keyturn fleet doctor``: every step between this manager, its computers and the publisher, and what mends it.

Keeps: the steps and their words. Leaves to others: the home and the database (``checks``), clock, name and the publisher's
service (``flows.reaching``), how an agent believes a manager (``flows.fleet``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from sqlite3 import Connection
from typing import Any

import click

from keyturn.core.containers import Opened
from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, rfc3339
from keyturn.edge.terminal import Call, Verb, address, pass_call
from keyturn.edge.wire import Target
from keyturn.fleet import checks, keys
from keyturn.fleet.context import home_path, now_of
from keyturn.fleet.home import FleetHome
from keyturn.flows import reaching
from keyturn.flows.checking import SHOWN, Check, look, report
from keyturn.flows.fleet import FleetLine
from keyturn.flows.installing import LOOPBACK

LOST = 30 * DAY  # A computer that was not seen for so long is worth a look,
LONG = 7 * DAY  # and so is work that waits for so long,
FEW = 0.1  # and a key with this share of its seats left.
RUN = "`systemctl start keyturn-fleet`, or `keyturn fleet run`."
SET_URL = "`keyturn fleet config set url https://NAME.DOMAIN:8445`"


@click.command(cls=Verb)
@pass_call
def doctor(call: Call) -> int:
    """Look at every step between the computers, this manager and the publisher; say what is wrong. Exits 1 if something is."""
    return report(call, list(walk(call)))


def walk(call: Call) -> Iterator[Check]:
    """The steps, in order.

    1. The home and its key, the database, the products. 2. The clock. 3. It listens, and answers as an agent wants it.
    4. The address that enrollment tokens hold: its name, and that this manager answers there. 5. The publishers' services; a
    manager that never reaches one works by file, so that is no fault. 6. What wants attention: keys nearly used up, computers
    that were not seen for long, work that waits.
    """
    # 1.
    try:
        home = FleetHome(home_path(call), call.environ)
        database = home.open_database()
    except KeyturnError as error:
        yield Check("home", False, error.detail, error.remedy)
        return
    with database:
        yield Check("key", True, f"{home.signer.kid} in {home.path}")
        yield from checks.of_database(database)
        yield look("products", lambda: database.read(checks.products))
        known = database.read(_products)
        if not known:
            yield Check("product", False, "none is added", "`keyturn fleet init FILE.ktproduct`")
        # 2.
        moment = now_of(call.environ, database)
        now = moment()
        yield look("clock", lambda: reaching.clock(now, database.read(_seen)))
        # 3.
        at, port = address(home.listening)
        alone = at in LOOPBACK
        told = f"{home.listening}, this computer only" if alone else home.listening
        open_it = "`keyturn fleet config set listen 0.0.0.0:8445` lets computers in." if alone else None
        yield Check("listens at", None if alone else True, told, open_it)
        here = reaching.from_here(at)
        own = f"https://{f'[{here}]' if ':' in here else here}:{port}"
        yield look("answers", lambda: _answers(home, own, call.environ, moment, RUN))
        # 4.
        yield from _address(home, call.environ, moment)
        # 5.
        for opened in known:
            yield look("service", lambda opened=opened: _service(opened, call.environ, now))  # type: ignore[misc]
        # 6.
        for name, ask in (("seats", _seats), ("computers", _lost), ("work", _waiting)):
            yield look(name, lambda ask=ask: database.read(lambda db: ask(db, now)))  # type: ignore[misc]


def _answers(
    home: FleetHome, url: str, environ: Mapping[str, str], moment: Callable[[], int], remedy: str
) -> tuple[Any, ...]:
    """Whether this very manager is there, judged as an agent judges it: by its key, and never by DNS or authorities."""
    with FleetLine(url, home.signer.kid, environ, now=moment) as line:
        try:
            line.reach()
        except KeyturnError as error:
            return False, error.detail, remedy
    return True, f"{url} answers over TLS, with this manager's key"


def _address(home: FleetHome, environ: Mapping[str, str], moment: Callable[[], int]) -> Iterator[Check]:
    if home.settings.url is None:
        told = f"none is set, so tokens name {home.url}"
        yield Check("url", None, told, f"{SET_URL}, before you make tokens for other computers.")
        return
    name = Target.parse(home.settings.url, "https").host
    yield look("name", lambda: reaching.name(name, SET_URL))
    remedy = f"Look at the firewall and the name; or {SET_URL}, and enroll with a new token."
    yield look("url", lambda: _answers(home, str(home.settings.url), environ, moment, remedy))


def _service(opened: Opened, environ: Mapping[str, str], now: int) -> tuple[Any, ...]:
    return reaching.publisher(
        opened.product, environ, now, then="requests are sent through this connection",
        otherwise="Without it requests are carried: `keyturn fleet activate --via file`, `keyturn fleet export request`.",
    )  # fmt: skip


def _products(db: Connection) -> list[Opened]:
    found = []
    for row in db.execute("SELECT name, container FROM product ORDER BY name"):
        try:
            found.append(checks.opened(row))
        except KeyturnError:
            continue  # The check `products` has said why.
    return found


def _seen(db: Connection) -> int | None:
    seen: int | None = db.execute("SELECT max(seen_at) FROM computer").fetchone()[0]
    return seen


def _seats(db: Connection, _now: int) -> tuple[Any, ...]:
    known = [one for one in keys.listed(db) if one["remaining"] is not None]
    low = [f"…{one['partial_key']} has {one['remaining']} of {one['seats']} left" for one in known if _is_low(one)]
    if low:
        return None, "; ".join(low[:SHOWN]), "Ask your publisher for more, or give seats back: `keyturn fleet deactivate`."
    if not known:
        return None, "what is left of keys was not asked yet", "`keyturn fleet key check`"
    return True, f"{len(known)} keys have seats left"


def _is_low(one: Mapping[str, Any]) -> bool:
    return bool(one["seats"] > 1 and one["remaining"] <= FEW * one["seats"])


def _lost(db: Connection, now: int) -> tuple[Any, ...]:
    rows = db.execute(
        "SELECT name FROM computer WHERE coalesce(seen_at, enrolled_at) < ? ORDER BY seen_at, name", (now - LOST,)
    ).fetchall()
    total = db.execute("SELECT count(*) FROM computer").fetchone()[0]
    if rows:
        names = ", ".join(row["name"] for row in rows[:SHOWN])
        remedy = "Look whether their agent runs: `keyturn agent check-in`. Those that are gone: `keyturn fleet remove`."
        return None, f"{len(rows)} of {total} were not seen for 30 days: {names}", remedy
    return True, f"{total} were seen within 30 days"


def _waiting(db: Connection, now: int) -> tuple[Any, ...]:
    row = db.execute(
        "SELECT count(*) AS n, min(t.made_at) AS since FROM item i JOIN task t ON t.id = i.task"
        " WHERE i.open = 1 AND t.made_at < ?",
        (now - LONG,),
    ).fetchone()
    if row["n"]:
        told = f"{row['n']} computers have work that waits for over a week, the oldest since {rfc3339(row['since'])}"
        return None, told, "`keyturn fleet task list`; what is no longer wanted: `keyturn fleet task cancel`."
    return True, "nothing waits for over a week"
