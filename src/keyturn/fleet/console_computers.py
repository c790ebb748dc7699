"""The console's pages about computers: the table, one computer, orders and their tasks, groups and saved filters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from sqlite3 import Connection
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from keyturn.core import fleet as words
from keyturn.core.errors import KeyturnError
from keyturn.core.model import ProductName
from keyturn.fleet import console_figures, console_telephone, keys, manager, selecting, store, tasks
from keyturn.fleet.console_figures import PAGE
from keyturn.fleet.manager import Consequence, Order
from keyturn.fleet.pages import Visit, go, show
from keyturn.fleet.selecting import Selector, conditions

STOP_POLLING = 286  # What tells htmx that nothing more is to come.
MAX_NAME = 60
MAX_VIEWS = 200


def computers(visit: Visit) -> Response:
    """One page of the table. A filter that is not understood is answered on the page, in the words of the command line."""
    where, sort, number = visit.asked("where"), visit.asked("sort", "name"), max(1, visit.number("page", 1))
    error = None

    def look(db: Connection) -> dict[str, Any]:
        nonlocal error
        try:
            chosen = selecting.choose(db, Selector(where=conditions(where))) if where else None
        except KeyturnError as caught:
            error, chosen = caught, []
        ids, total = console_figures.rows(db, chosen, sort, number)
        found = {one["id"]: one for one in store.listed(db, ids)}
        views = db.execute("SELECT name, selector, made_by FROM view ORDER BY name").fetchall()
        return {"computers": [found[one] for one in ids], "total": total, "groups": store.groups(db), "views": views}

    found = visit.fleet.database.read(look)
    return show(
        visit, "computers.html", where=where, sort=sort, page=number,
        pages=max(1, -(-found["total"] // PAGE)), error=error, sorts=console_figures.SORTS,
        fields=selecting.FIELDS, query=urlencode({"where": where, "sort": sort}), **found,
    )  # fmt: skip


def computer(visit: Visit) -> Response:
    """One computer's story, and what of it waits for a telephone. Raises: KeyturnError ``not_found``."""

    def look(db: Connection) -> dict[str, Any]:
        (one,) = store.listed(db, selecting.choose(db, Selector(computers=(visit.path["computer"],))))
        return {**one, "story": store.story(db, one["id"])}

    one = visit.fleet.database.read(look)
    return show(visit, "computer.html", one=one, calls=console_telephone.entries(visit, one["id"]))


def forget(visit: Visit) -> Response:
    """Forget one computer: its agent is answered no more. Raises: KeyturnError ``not_found``."""

    def write(db: Connection) -> None:
        meant = selecting.choose(db, Selector(computers=(visit.path["computer"],)))
        store.forget(db, meant, who=visit.who, now=visit.now)

    visit.fleet.database.write_now(write)
    return go("/computers")


def put_in_group(visit: Visit) -> Response:
    """Put the ticked computers into a group, or take them out of it. Raises: KeyturnError ``usage``."""
    name, meant = visit.given("group")[:MAX_NAME], _meant(visit)
    if not name:
        raise KeyturnError("usage", "no group is named", remedy="Go back, and give it a name.")
    change = store.take_out_of_group if visit.given("out") else store.put_in_group
    visit.fleet.database.write_now(lambda db: change(db, name, selecting.choose(db, meant)))
    return go("/computers?" + urlencode({"where": f"group='{name}'" if "'" not in name else ""}))


def save_view(visit: Visit) -> Response:
    """Give a filter a name, or forget it. Raises: KeyturnError ``usage``."""
    name, where = visit.given("name")[:MAX_NAME], visit.given("where")
    if not name:
        raise KeyturnError("usage", "a saved filter has a name")

    def write(db: Connection) -> None:
        if visit.given("remove"):
            db.execute("DELETE FROM view WHERE name = ?", (name,))
            return
        conditions(where)
        if db.execute("SELECT count(*) FROM view").fetchone()[0] >= MAX_VIEWS:
            raise KeyturnError("usage", f"at most {MAX_VIEWS} filters are kept")
        db.execute("INSERT OR REPLACE INTO view (name, selector, made_by) VALUES (?, ?, ?)", (name, where, visit.who))

    visit.fleet.database.write_now(write)
    return go("/computers?" + urlencode({"where": where}))


def order(visit: Visit) -> Response:
    """What is to be done to the computers that were ticked, or that a filter means. Raises: KeyturnError ``usage``."""
    return _order(visit, None)


def consequence(visit: Visit) -> Response:
    """What an order would do, in figures. What is wrong with it is said beside its form."""
    return _consequence(visit, changed=False)


def carry_out(visit: Visit) -> Response:
    """Make the task of an order, if it still means the computers that were shown; else the consequence is shown anew."""
    wanted = _wanted(visit)
    meant = visit.fleet.database.read(lambda db: visit.fleet.consequence(db, wanted))
    if visit.given("shown") != _digest(meant.computers):
        return _consequence(visit, changed=True)
    return go(f"/tasks/{visit.fleet.order(wanted, visit.who, meant.computers)}")


def task_list(visit: Visit) -> Response:
    number = max(1, visit.number("page", 1))

    def look(db: Connection) -> dict[str, Any]:
        rows = db.execute(
            "SELECT * FROM task ORDER BY made_at DESC, id DESC LIMIT ? OFFSET ?", (PAGE, (number - 1) * PAGE)
        )
        total = db.execute("SELECT count(*) FROM task").fetchone()[0]
        return {"tasks": [tasks.summary(db, row) for row in rows.fetchall()], "pages": max(1, -(-total // PAGE))}

    return show(visit, "tasks.html", page=number, query="", **visit.fleet.database.read(look))


def task(visit: Visit) -> Response:
    """A task with each computer's outcome. Raises: KeyturnError ``not_found``."""
    return show(visit, "task.html", **_task(visit))


def progress(visit: Visit) -> Response:
    """The part of a task's page that changes, until it does no more. Raises: KeyturnError ``not_found``."""
    found = _task(visit)
    return show(visit, "progress.html", status=200 if found["task"]["open"] else STOP_POLLING, **found)


def cancel(visit: Visit) -> Response:
    """End what has not ended of a task. Raises: KeyturnError ``not_found``."""
    name = visit.path["task"]
    visit.fleet.database.write_now(lambda db: tasks.cancel(db, name, who=visit.who, now=visit.now))
    return go(f"/tasks/{name}")


def _task(visit: Visit) -> dict[str, Any]:
    name, outcome, number = visit.path["task"], visit.asked("outcome"), max(1, visit.number("page", 1))

    def look(db: Connection) -> dict[str, Any]:
        found = tasks.summary(db, tasks.find(db, name))
        shown = tasks.items(db, name, outcome or None, limit=PAGE, offset=(number - 1) * PAGE)
        of = found.get(outcome, found["computers"]) if outcome else found["computers"]
        return {"task": found, "items": shown, "pages": max(1, -(-of // PAGE))}

    query = urlencode({"outcome": outcome}) if outcome else ""
    return {**visit.fleet.database.read(look), "page": number, "outcome": outcome, "query": query}


def _order(visit: Visit, error: KeyturnError | None) -> Response:
    meant = _meant(visit)

    def look(db: Connection) -> dict[str, Any]:
        return {
            "count": len(selecting.choose(db, meant)), "groups": store.groups(db),
            "keys": [{**one, "slug": ProductName.parse(one["product"]).slug} for one in keys.listed(db)],
            "products": manager.products(db),
        }  # fmt: skip

    return show(
        visit, "order.html", error=error,
        kept=_kept(visit), actions=words.ACTIONS, ways=words.WAYS, form=_wanted(visit), **visit.fleet.database.read(look),
    )  # fmt: skip


def _consequence(visit: Visit, *, changed: bool) -> Response:
    wanted = _wanted(visit)
    try:
        meant = visit.fleet.database.read(lambda db: visit.fleet.consequence(db, wanted))
    except KeyturnError as error:
        return _order(visit, error)
    if not meant.computers:
        return _order(visit, KeyturnError("not_found", "no computer fits", remedy="Choose others in the table."))
    return show(
        visit, "consequence.html", order=wanted, meant=meant, changed=changed, slug=ProductName.parse(meant.product).slug,
        kept=[*_kept(visit), *_chosen(wanted), ("shown", _digest(meant.computers))], short=_short(meant),
    )  # fmt: skip


def _meant(visit: Visit) -> Selector:
    """Whom a form or an address means: ticked computers, a filter, or everybody.

    Raises: KeyturnError ``usage`` without any of them.
    """
    values = visit.form or visit.query
    ids, where = tuple(values.get("computer", ())), values.get("where", [""])[0]
    if ids:
        return Selector(computers=ids)
    if where.strip():
        return Selector(where=conditions(where))
    if values.get("all"):
        return Selector(everything=True)
    raise KeyturnError("usage", "no computer is ticked", remedy="Go back, and tick the computers that are meant.")


def _kept(visit: Visit) -> list[tuple[str, str]]:
    """The fields that carry whom is meant from form to form."""
    values = visit.form or visit.query
    return [(name, one) for name in ("computer", "where", "all") for one in values.get(name, ()) if one]


def _wanted(visit: Visit) -> Order:
    action = visit.given("action")
    way = visit.given("way") or None
    if action == "deactivate":
        way = way if way == "file" else "proxy"
    return Order(
        action, _meant(visit), visit.given("product") or None, visit.given("key") or None,
        way if action in ("activate", "deactivate") else None,
        (visit.given("host") or None) if action == "activate" and way == "host" else None,
    )  # fmt: skip


def _chosen(order: Order) -> list[tuple[str, str]]:
    values = {"action": order.action, "product": order.product, "key": order.key, "way": order.way, "host": order.host}
    return [(name, value) for name, value in values.items() if value]


def _short(meant: Consequence) -> int:
    """How many computers are left without a seat, by what is known."""
    return 0 if meant.remaining is None else max(0, meant.new - meant.remaining)


def _digest(ids: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(ids).encode()).hexdigest()[:32]
