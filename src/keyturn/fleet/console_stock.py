"""The console's pages about what the organization has: its keys, enrollment tokens, files that are carried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from sqlite3 import Connection
from typing import Any

import msgspec
from starlette.responses import Response

from keyturn.core import containers
from keyturn.core.errors import KeyturnError
from keyturn.core.fleet import CARRY, SEND
from keyturn.core.model import ProductName, rfc3339
from keyturn.fleet import carrying, keys, manager, proxying, store, tokens
from keyturn.fleet.pages import BYTES, Visit, download, go, show
from keyturn.fleet.proxying import Connect

LASTING = {"1h": (3_600, "an hour"), "1d": (86_400, "a day"), "7d": (604_800, "7 days"), "30d": (2_592_000, "30 days")}
SHOWN = 100  # Files and found computers on a page.


def key_list(visit: Visit) -> Response:
    """Keys by their last five characters, and what is left of them."""
    return _keys(visit)


def add_keys(visit: Visit) -> Response:
    """Check keys offline and keep them: one, or a line for each; all of them or none. What was typed is never shown again."""
    fleet = visit.fleet

    def write(db: Connection) -> int:
        product = ProductName.parse(manager.named_product(db, visit.given("product") or None)["name"])
        new = 0
        for number, one in enumerate(keys.read(visit.given("keys")), 1):
            try:
                new += keys.add(db, fleet.sealer, product, one, who=visit.who, now=visit.now, chance=fleet.chance)[1]
            except KeyturnError as error:
                error.detail = f"line {number}: {error.detail}"
                raise
        return new

    try:
        new = fleet.database.write_now(write)
    except KeyturnError as error:
        return _keys(visit, error)
    return _keys(visit, done=f"{new} key{'s were' if new != 1 else ' was'} added.")


def change_key(visit: Visit) -> Response:
    """Change what is remembered about a key, or forget it. Raises: KeyturnError ``not_found``, ``usage``."""
    owned, remark, name = visit.given("owned"), visit.given("remark"), visit.given("key")
    if owned and not (owned.isdecimal() and len(owned) < 10):
        raise KeyturnError("usage", f"{owned[:20]!r} is not a number of seats")

    def write(db: Connection) -> None:
        row = keys.find(db, name)
        if visit.given("remove"):
            keys.remove(db, row, who=visit.who, now=visit.now)
        else:
            keys.change(db, row, remark=remark[:200] or None, owned=int(owned) if owned else None)

    visit.fleet.database.write_now(write)
    return go("/keys")


def check_key(environ: Mapping[str, str], connect: Connect) -> Callable[[Visit], Response]:
    """The page that asks the publisher what is left of one key; nothing about a computer is sent."""

    def check(visit: Visit) -> Response:
        fleet = visit.fleet
        row = fleet.database.read(lambda db: keys.find(db, visit.given("key")))
        try:
            with connect(fleet.database.read(lambda db: fleet.opened(db, row["product"])).product, environ) as line:
                proxying.ask_about(fleet, row, line)
        except KeyturnError as error:
            return _keys(visit, error)
        return _keys(visit, done=f"The publisher was asked about …{row['partial']}.")

    return check


def token_list(visit: Visit) -> Response:
    """Enrollment tokens, and the computers that were found and have not joined."""
    return _tokens(visit, None)


def create_token(visit: Visit) -> Response:
    """Make a token, which is shown once with the lines that enroll a computer. Raises: KeyturnError ``usage``."""
    fleet, uses = visit.fleet, visit.given("uses")
    lasts = LASTING.get(visit.given("expires"))
    if lasts is None or (uses and not (uses.isdecimal() and 0 < int(uses[:9]) <= 1_000_000)):
        raise KeyturnError("usage", "uses is a number from 1 to 1,000,000, and the time one of those in the list")
    until = visit.now + lasts[0]
    _, made = fleet.database.write_now(
        lambda db: tokens.create(
            db, fleet.home.url, fleet.home.signer.kid, group=visit.given("group")[:60] or None,
            uses=int(uses) if uses else None, expires_at=until, who=visit.who, now=visit.now, chance=fleet.chance,
        )
    )  # fmt: skip
    shown = {"text": made.text, "url": made.url, "until": rfc3339(until), "lines": tokens.ready_lines(made.text)}
    return _tokens(visit, shown)


def revoke_token(visit: Visit) -> Response:
    """Raises: KeyturnError ``not_found``."""
    visit.fleet.database.write_now(lambda db: tokens.revoke(db, visit.given("token"), who=visit.who, now=visit.now))
    return go("/enrollment")


def files(visit: Visit) -> Response:
    """What waits to be carried, product by product, and the files that were."""

    def look(db: Connection) -> dict[str, Any]:
        waiting = {
            row["product"]: row["n"]
            for row in db.execute(
                "SELECT product, count(*) AS n FROM item WHERE step IN (?, ?) AND open = 1 GROUP BY product",
                (SEND, CARRY),
            )
        }
        exports = db.execute("SELECT * FROM export ORDER BY made_at DESC, id DESC LIMIT ?", (SHOWN,)).fetchall()
        return {
            "products": [{**one, "waiting": waiting.get(one["name"], 0)} for one in manager.products(db)],
            "exports": [
                {**dict(row), "made_at": rfc3339(row["made_at"]), "imported_at": rfc3339(row["imported_at"])}
                for row in exports
            ],
        }

    return show(visit, "files.html", **visit.fleet.database.read(look))


def export(visit: Visit) -> Response:
    """A file with the requests that wait, to keep and carry. Raises: KeyturnError ``not_found``, ``product_missing``."""
    product = visit.fleet.database.read(lambda db: manager.named_product(db, visit.given("product") or None))["name"]
    content, name, _ = carrying.export(visit.fleet, product, visit.who)
    return download(msgspec.json.encode(content), f"{ProductName.parse(product).slug}-{name[-6:]}.ktx", BYTES)


def import_(visit: Visit) -> Response:
    """Take the answers out of a file that was carried back; the body is the file. Raises: KeyturnError as ``carrying.take``."""
    taken = carrying.take(visit.fleet, containers.expect(visit.body, "exchange"), visit.who)
    return show(visit, "imported.html", taken=taken)


def _keys(visit: Visit, error: KeyturnError | None = None, done: str | None = None) -> Response:
    found, products = visit.fleet.database.read(lambda db: (list(keys.listed(db)), manager.products(db)))
    return show(
        visit, "keys.html", error=error,
        done=done, keys=found, products=products,
    )  # fmt: skip


def _tokens(visit: Visit, made: dict[str, Any] | None) -> Response:
    def look(db: Connection) -> dict[str, Any]:
        found = db.execute(
            "SELECT name, address, source, found_at FROM found ORDER BY name LIMIT ?", (SHOWN,)
        ).fetchall()
        return {
            "tokens": tokens.listed(db, visit.now), "groups": store.groups(db),
            "found": [{**dict(row), "found_at": rfc3339(row["found_at"])} for row in found],
            "found_count": db.execute("SELECT count(*) FROM found").fetchone()[0],
        }  # fmt: skip

    return show(visit, "enrollment.html", made=made, lasting=LASTING, **visit.fleet.database.read(look))
