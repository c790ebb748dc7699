"""The fleet manager over one opened home and database: what it answers to agents, and what administrators ask of it.

Keeps: the order of steps when a computer joins or checks in, and how an action becomes a task. Leaves to others: rows (``store``,
``tasks``, ``keys``, ``binding``), sending (``proxying``), HTTP (``app``), words (the verbs, the console).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from sqlite3 import Connection, Row
from typing import Any, NamedTuple

from keyturn.core import containers, fleet, ids, jws
from keyturn.core.containers import Opened
from keyturn.core.documents import read_request
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.fleet import CheckIn
from keyturn.core.jws import Kind
from keyturn.core.model import ProductName
from keyturn.core.rebinding import Rebind
from keyturn.edge.database import Database
from keyturn.fleet import binding, calls, keys, selecting, store, tasks, tokens
from keyturn.fleet.home import FleetHome
from keyturn.fleet.sealing import Sealer
from keyturn.fleet.selecting import Selector


class Order(NamedTuple):
    """What an administrator asks for, and for whom.

    ``action`` and ``way`` as in ``core.fleet``; ``key`` names one of the keys that are kept here; ``product`` is a
    slug or a name.
    """

    action: str
    selector: Selector
    product: str | None = None
    key: str | None = None
    way: str | None = None
    host: str | None = None


class Consequence(NamedTuple):
    """What an order would do, in figures. ``new`` seats at most; ``same`` are known to hold one of this key, or can be rebound.

    ``asleep`` have not checked in lately: they do their part when they come.
    """

    computers: tuple[str, ...]
    product: str
    serial: int | None
    new: int
    same: int
    asleep: int
    remaining: int | None

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "computers": len(self.computers)}


class FleetManager:
    """The manager. ``clock`` gives NumericDate, ``chance`` random bytes."""

    def __init__(
        self, home: FleetHome, database: Database, *, clock: Callable[[], int], chance: Callable[[int], bytes]
    ) -> None:
        self.home, self.database, self.clock, self.chance = home, database, clock, chance
        self.sealer = Sealer(home.seal)

    # What agents ask.

    def enroll(self, db: Connection, token: str, now: int) -> dict[str, Any]:
        """Take a computer in. Raises: KeyturnError ``token_invalid``, ``signature_invalid``, ``document_malformed``."""
        asked, verified = fleet.read_enrollment(token)
        computer = tokens.enroll(db, asked, verified.kid, now=now, chance=self.chance)
        return {"v": 1, "computer": computer, "check_in": self.home.settings.again, "server_time": now}

    def check_in(self, db: Connection, said: CheckIn, agent: str, now: int) -> dict[str, Any] | Refused:
        """Hear how a computer is, take in what it did, and say what is next. ``agent`` is the key (thumbprint) that signed it.

        1. That key enrolled, and this is newer than what that computer said before. A number that was used already,
           from other hardware than used it, is that of a copy: one computer's numbers only grow, whatever is changed in it. It is
           refused, and enrolls as the computer that it is.
        2. Its outcomes come first: its report is of the time after them.
        3. The steps that are due, each with all that it needs.

        Raises: KeyturnError ``computer_unknown``, ``request_superseded``.
        """
        # 1.
        computer = store.computer_of(db, agent)
        if computer is None:
            raise KeyturnError("computer_unknown")
        if said.number <= computer["number"]:
            if fleet.is_other(json.loads(computer["hardware"]), said.hardware):
                store.note(db, computer["id"], now, "copy refused")
                return Refused("computer_unknown", "another computer has this key too: one was copied from the other")
            raise KeyturnError("request_superseded", "a newer check-in of this computer was heard already")
        # 2.
        for outcome in said.outcomes:
            tasks.take(db, computer["id"], outcome, now)
        lacking = tasks.lacking(db, computer["id"])
        store.take_report(db, computer, said, now)
        tasks.overtaken(db, lacking, now)
        # 3.
        work = [step for item in tasks.work(db, computer["id"], now) if (step := self._step(db, item, now)) is not None]
        settings = self.home.settings
        return {
            "v": 1, "work": work, "server_time": now,
            "check_in": settings.again if tasks.busy(db, computer["id"]) else settings.check_in,
        }  # fmt: skip

    def _step(self, db: Connection, item: Row, now: int) -> dict[str, Any] | None:
        """A step with what it needs; what cannot be put together fails the item."""
        try:
            needs = self._needs(db, item, now)
        except KeyturnError as error:
            tasks.take(
                db,
                item["computer"],
                fleet.Outcome(
                    item["task"], item["product"], item["step"], error.code, error.detail, error.remedy, None, {}
                ),
                now,
            )
            return None
        return {"task": item["task"], "product": item["product"], "step": item["step"], **needs}

    def _needs(self, db: Connection, item: Row, now: int) -> Mapping[str, Any]:
        name = ProductName.parse(item["product"])
        answer = json.loads(item["answer"]) if item["answer"] else {}
        match item["step"]:
            case "install":
                key = keys.by_serial(db, item["product"], item["serial"])
                return {"container": self.opened(db, item["product"]).container(), "key": keys.opened(self.sealer, key)}
            case "request":
                return {"rebind": self.home.rebinder(name).kid}
            case "accept":
                return {"answer": {**answer, **self._beside(db, item["product"])}}
            case "rebind":
                return {"rebinding": self.rebinding(db, name, item["document"], item["computer"], now)}
            case "released":
                return answer
            case "host":
                return {"host": item["host"]}
            case "confirm":
                return {
                    "confirmation_id": calls.code_of(db, item), "container": self.opened(db, item["product"]).container(),
                }  # fmt: skip
            case "refresh":
                row = product_row(db, item["product"])
                return {
                    "revocations": row["revocations"],
                    "bundles": list(self.opened(db, item["product"]).chain.texts),
                }
            case _:
                return {}

    def rebinding(self, db: Connection, name: ProductName, document: str, computer: str, now: int) -> dict[str, Any]:
        """Sign that the installation which made the request ``document`` continues the activation of its hardware; it is logged.

        1. The request is signed by the installation's key, and its hardware is that of an activation that is kept here.
        2. The product's own key of this fleet, which the certificate names, binds the one to the other.

        Raises: KeyturnError ``rebind_unknown``, ``signature_invalid``.
        """
        # 1.
        request, verified = read_request(document)
        kept = binding.find(db, request)
        if kept is None:
            raise KeyturnError("rebind_unknown", f"no activation of this hardware is kept for {name.slug}")
        # 2.
        signer = self.home.rebinder(name)
        claims = Rebind(
            name, kept["activation"], jws.digest(kept["certificate"]), request.installation, verified.kid, now
        ).claims()
        store.audit(
            db,
            now,
            "manager",
            "rebound",
            {"activation": kept["activation"], "computer": computer, "before": kept["computer"]},
        )
        return {
            "certificate": kept["certificate"], "request": kept["request"], "vector": json.loads(kept["vector"]),
            "salt": kept["salt"],
            "rebind": jws.sign(Kind.REBIND, claims, signer.public, signer.sign, own=True), **self._beside(db, str(name)),
        }  # fmt: skip

    def _beside(self, db: Connection, product: str) -> dict[str, Any]:
        opened = self.opened(db, product)
        return {"bundles": list(opened.chain.texts), "product": opened.document}

    # What administrators ask.

    def opened(self, db: Connection, product: str) -> Opened:
        """A product's file and trust bundles, verified. Raises: KeyturnError ``product_missing``."""
        return containers.open_product(
            json.loads(product_row(db, product)["container"]), ProductName.parse(product).thumbprint
        )

    def add_product(self, data: bytes, who: str) -> tuple[Opened, bool]:
        """Verify a product file and keep it; whether it is new or newer. Raises: KeyturnError why it does not verify."""
        opened = containers.open_product(containers.expect(data, "product"))
        if opened.chain.doubt(opened.document, Kind.PRODUCT) is not None:
            raise KeyturnError("issuer_revoked", "the product file is signed by a key that its publisher revoked")
        return self.database.write_now(lambda db: keep_product(db, opened, who, self.clock()))

    def consequence(self, db: Connection, order: Order) -> Consequence:
        """What an order would do, by what is known here; nothing is asked of anybody.

        Raises: KeyturnError ``usage`` (nobody is meant, a key is missing), ``not_found``, ``product_missing``,
        ``product_ambiguous``.
        """
        if not order.selector.given:
            remedy = "Say who is meant: --all, --computer ID, --group G or --where 'state=initial_grace'."
            raise KeyturnError("usage", "no computer is named", remedy=remedy)
        if order.action not in fleet.ACTIONS or order.way not in (None, *fleet.WAYS):
            raise KeyturnError("usage", f"{order.action!r} is not an action")
        key = None if order.key is None else keys.find(db, order.key)
        product = (
            key["product"] if key is not None and order.product is None else named_product(db, order.product)["name"]
        )
        if key is not None and key["product"] != product:
            raise KeyturnError("usage", f"the key {key['product_id']} is not one for {ProductName.parse(product).slug}")
        if key is None and order.action == "install-key":
            raise KeyturnError("usage", "say which key: --key LAST-FIVE", remedy="List them: `keyturn fleet key list`.")
        if key is not None and (key["channel"] == "client") != (order.way == "host") and order.action == "activate":
            raise KeyturnError(
                "usage",
                f"a {key['channel']} key is not activated that way",
                remedy="A client key goes with --via host, others without.",
            )
        if key is not None and keys.foreign(db, key["product"], key["serial"]):
            raise KeyturnError("key_foreign", f"{key['product_id']} was issued to {key['organization']}")
        chosen = selecting.choose(db, order.selector)
        serial = None if key is None else key["serial"]
        held = (
            _holding(db, product, key["product_id"] if key is not None else None)
            if order.action == "activate"
            else set(chosen)
        )
        same = sum(one in held for one in chosen)
        lately = self.clock() - 3 * self.home.settings.check_in
        awake = {row["id"] for row in db.execute("SELECT id FROM computer WHERE seen_at >= ?", (lately,))}
        remaining = None if key is None or key["seats"] is None else max(0, key["seats"] - key["used"])
        costs = order.action == "activate" and order.way != "host"
        return Consequence(
            tuple(chosen), product, serial, len(chosen) - same if costs else 0, same if costs else len(chosen),
            sum(one not in awake for one in chosen), remaining,
        )  # fmt: skip

    def order(self, order: Order, who: str, computers: Sequence[str] | None = None) -> str:
        """Make a task of an order; its id. ``computers`` are those that were shown, if they were.

        Raises: as :meth:`consequence`.
        """
        task = ids.uuid7(self.clock(), self.chance(12))

        def write(db: Connection) -> str:
            meant = self.consequence(db, order)
            chosen = meant.computers if computers is None else [one for one in meant.computers if one in set(computers)]
            way = (order.way or "proxy") if order.action in ("activate", "deactivate") else None
            tasks.create(
                db,
                task,
                order.action,
                meant.product,
                chosen,
                who=who,
                now=self.clock(),
                way=way,
                serial=meant.serial,
                host=order.host,
            )
            return task

        return self.database.write_now(write)


def product_row(db: Connection, product: str) -> Row:
    """Raises: KeyturnError ``product_missing``."""
    row = db.execute("SELECT * FROM product WHERE name = ?", (product,)).fetchone()
    if row is None:
        remedy = "Add it: `keyturn fleet init FILE.ktproduct`."
        raise KeyturnError(
            "product_missing", f"{ProductName.parse(product).slug} is not known to this fleet manager", remedy=remedy
        )
    assert isinstance(row, Row)
    return row


def products(db: Connection) -> list[dict[str, str]]:
    """The products that are kept here, by name: ``name``, ``slug`` and ``title``."""
    rows = db.execute("SELECT name, title FROM product ORDER BY name")
    return [{"name": row["name"], "slug": ProductName.parse(row["name"]).slug, "title": row["title"]} for row in rows]


def named_product(db: Connection, text: str | None) -> Row:
    """The product that a slug (or THUMBPRINT/SLUG) names, or the only one. Raises: ``product_missing``, ``product_ambiguous``."""
    rows = db.execute("SELECT * FROM product ORDER BY name").fetchall()
    found = [row for row in rows if text is None or text in (row["name"], ProductName.parse(row["name"]).slug)]
    if not found:
        raise KeyturnError(
            "product_missing",
            f"there is no product {text or ''} here",
            remedy="Add it: `keyturn fleet init FILE.ktproduct`.",
        )
    if len(found) > 1:
        raise KeyturnError("product_ambiguous", f"this fleet manager has {', '.join(row['name'] for row in found)}")
    row: Row = found[0]
    return row


def keep_product(db: Connection, opened: Opened, who: str, now: int) -> tuple[Opened, bool]:
    """Keep a product file with all bundles that are known; whether anything is new."""
    from keyturn.core import trust

    name = opened.product.name
    row = db.execute("SELECT container FROM product WHERE name = ?", (str(name),)).fetchone()
    if row is not None:
        known = containers.open_product(json.loads(row["container"]), name.thumbprint)
        chain = trust.longer(known.chain.texts, opened.chain.texts, name.thumbprint)
        newer = opened if opened.product.version >= known.product.version else known
        opened = Opened(newer.product, chain, newer.document)
    text = json.dumps(opened.container())
    new = row is None or row["container"] != text
    if new:
        db.execute(
            "INSERT INTO product (name, title, container, added_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET title = excluded.title, container = excluded.container",
            (str(name), opened.product.title, text, now),
        )
    if row is None:
        store.audit(db, now, who, "product_added", {"product": str(name)})
    return opened, new


def _holding(db: Connection, product: str, key: str | None) -> set[str]:
    """The computers that hold an activation of a product: of this key (product ID), or of any."""
    # By telephone an activation has no name on its computer, and a seat all the same.
    rows = db.execute(
        "SELECT computer, product_id FROM license WHERE product = ?"
        " AND (activation_id IS NOT NULL OR (via = 'telephone' AND state = 'licensed'))",
        (product,),
    )
    return {row["computer"] for row in rows if key in (None, row["product_id"])}
