"""What the manager sends for its computers: many requests, one connection, and for each its own answer.

Keeps: which items are sent when, and what becomes of the answers. Leaves to others: the line (``flows.exchange``),
items (``tasks``).

- A line is kept while there is work, so the publisher's service sees one connection from the whole organization.
- The answers to one batch are kept in one commit. If the manager dies before it, the same bytes are sent again, and the service
  gives the same answers: no seat is taken twice.
- Nothing of the organization travels: a request has no name, user or address in it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from sqlite3 import Connection, Row
from typing import Any

from keyturn.core import containers, jws, trust
from keyturn.core.containers import Opened
from keyturn.core.documents import Release, Request
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.fleet import CARRY, SEND
from keyturn.core.jws import Kind
from keyturn.core.model import ProductName
from keyturn.edge.serverlog import Log
from keyturn.fleet import binding, keys, manager, tasks
from keyturn.fleet.manager import FleetManager
from keyturn.flows.exchange import BATCH, Batch, Line

IDLE = 50  # Seconds that a line is kept without work; the service closes after 65.
Connect = Callable[..., Line]


class Forwarder:
    """Sends what waits. ``connect`` makes a line to a product's service."""

    def __init__(self, fleet: FleetManager, log: Log, environ: Mapping[str, str], connect: Connect = Line) -> None:
        self._fleet, self._log, self._environ, self._connect = fleet, log, environ, connect
        self._lines: dict[str, tuple[Line, int]] = {}

    def close(self) -> None:
        """Close every line."""
        for line, _ in self._lines.values():
            line.__exit__(None, None, None)
        self._lines.clear()

    def turn(self) -> int:
        """Send what is due, product by product; how many requests that were. Raises nothing: what fails is logged
        and tried again.
        """
        sent = sum(self._all_of(product) for product in self._fleet.database.read(_waiting))
        now = self._fleet.clock()
        for product in [name for name, (_, used) in self._lines.items() if not 0 <= now - used < IDLE]:
            self._lines.pop(product)[0].__exit__(None, None, None)
        return sent

    def _all_of(self, product: str) -> int:
        """Send what is due of one product, batch by batch; the answers to one are kept while the next is on its way."""
        sent, kept = 0, None
        flying: frozenset[tuple[str, str]] = frozenset()
        while items := self._fleet.database.read(lambda db, f=flying: self._due(db, product, f)):  # type: ignore[misc]
            batch = self._send(product, items)
            if kept is not None:
                kept.result()
            if batch is None:
                return sent
            kept = self._keep(product, items, batch)
            flying = frozenset((item["task"], item["computer"]) for item in items)
            sent += len(items)
        if kept is not None:
            kept.result()
        return sent

    def _due(self, db: Connection, product: str, flying: frozenset[tuple[str, str]]) -> list[Row]:
        """The next batch: full, or nobody has added to it for a moment. ``flying`` are those whose answers are being kept."""
        now = self._fleet.clock()
        rows = db.execute(
            "SELECT i.*, t.action, t.serial FROM item i JOIN task t ON t.id = i.task"
            " WHERE i.product = ? AND i.step = ? AND i.open = 1 AND i.not_before <= ?"
            " ORDER BY i.changed_at, i.task, i.computer LIMIT ?",
            (product, SEND, now, BATCH + len(flying)),
        ).fetchall()
        rows = [row for row in rows if (row["task"], row["computer"]) not in flying][:BATCH]
        newest = max((row["changed_at"] for row in rows), default=0)
        return rows if len(rows) == BATCH or newest <= now - self._fleet.home.settings.gather else []

    def _send(self, product: str, items: Sequence[Row]) -> Batch | None:
        """Send one batch; ``None`` if nothing came back, which is noted."""
        try:
            line = self._line(product)
            batch = line.send_all([item["document"] for item in items])
        except KeyturnError as error:
            self._log("forward_failed", {"code": error.code, "detail": error.detail})
            refused, remedy = Refused(error.code, error.detail, error.retry_after or tasks.RETRY), error.remedy
            now = self._fleet.clock()
            self._fleet.database.write_now(lambda db: _all_failed(db, items, refused, now, remedy))
            with contextlib.suppress(KeyError):
                self._lines.pop(product)[0].__exit__(None, None, None)
            return None
        self._lines[product] = line, self._fleet.clock()
        return batch

    def _keep(self, product: str, items: Sequence[Row], batch: Batch) -> Future[None]:
        now, refused = self._fleet.clock(), sum(isinstance(one, Refused) for one in batch.outcomes)
        self._log("forwarded", {"requests": len(items), "refused": refused})
        return self._fleet.database.write(lambda db: take(db, product, items, batch, now))

    def _line(self, product: str) -> Line:
        if product not in self._lines:
            opened = self._fleet.database.read(lambda db: self._fleet.opened(db, product))
            line = self._connect(opened.product, self._environ)
            line.__enter__()
            self._lines[product] = line, self._fleet.clock()
        return self._lines[product][0]


def _all_failed(db: Connection, items: Sequence[Row], refused: Refused, now: int, remedy: str) -> None:
    for item in items:
        tasks.failed(db, item, refused, now, remedy=remedy)


def take(db: Connection, product: str, items: Sequence[Row], batch: Batch, now: int) -> None:
    """Keep the answers to a batch: each item goes on or fails by itself, and what travelled beside them is kept once."""
    keep_beside(db, product, batch.bundles, batch.products.get(product), now)
    for item, outcome in zip(items, batch.outcomes, strict=True):
        take_one(db, item, outcome, now)


def take_one(db: Connection, item: Row, outcome: Mapping[str, Any] | Refused, now: int) -> bool:
    """Keep one answer, or say why there is none; whether the item was still waiting for it."""
    where = (item["task"], item["computer"])
    there = db.execute("SELECT step, document FROM item WHERE task = ? AND computer = ?", where).fetchone()
    if there is None or there["step"] not in (SEND, CARRY) or there["document"] != item["document"]:
        return False
    releasing = jws.kind_of(item["document"]) is Kind.RELEASE
    if not isinstance(outcome, Refused) and not releasing:
        # Its signature was verified when the computer gave it.
        _activated(db, item, Request.read(jws.loads(jws.payload_of(item["document"]))), outcome, now)
    elif not isinstance(outcome, Refused):
        binding.drop(db, item["product"], _release(item)[0].activation)
        _go_on_with(db, item, {"answer": dict(outcome)}, now)
    elif releasing and outcome.code == "release_unknown" and _continued(db, item):
        # The publisher has not heard of the installation that continued the activation: it asks once, which costs nothing.
        tasks.go_on(db, item, now, steps=("request", there["step"], "accept", "release", there["step"], "released"))
    elif releasing and outcome.code == "release_unknown":
        _go_on_with(db, item, {"refused": outcome.code}, now)
    elif outcome.code == "request_superseded" and not releasing:  # It has had its day: the computer makes another.
        tasks.go_on(db, item, now, steps=("request", there["step"], "accept"))
    else:
        tasks.failed(db, item, outcome, now)
    return True


def _release(item: Row) -> tuple[Release, str]:
    verified = jws.verify_own(item["document"], Kind.RELEASE)
    return Release.read(verified.claims()), verified.kid


def _continued(db: Connection, item: Row) -> bool:
    release, key = _release(item)
    return binding.continued(db, item["product"], release.activation, key)


def _activated(db: Connection, item: Row, request: Request, answer: Mapping[str, Any], now: int) -> None:
    certificate, seat = answer.get("certificate"), answer.get("seat")
    if not isinstance(certificate, str):
        tasks.failed(db, item, Refused("answer_unexpected", "the service's answer holds no certificate"), now)
        return
    binding.keep(db, item["computer"], request, item["document"], certificate, json.loads(item["vector"]), now)
    if isinstance(seat, dict) and type(seat.get("used")) is int and type(seat.get("limit")) is int:
        keys.used(db, item["product"], request.serial, seat["used"], seat["limit"], now)
    _go_on_with(db, item, dict(answer), now)


def _go_on_with(db: Connection, item: Row, answer: Mapping[str, Any], now: int) -> None:
    """Give an item what the service said, for its computer to take."""
    db.execute(
        "UPDATE item SET answer = ? WHERE task = ? AND computer = ?",
        (json.dumps(answer), item["task"], item["computer"]),
    )
    tasks.go_on(db, item, now)


def keep_beside(db: Connection, product: str, bundles: Sequence[str], document: str | None, now: int) -> None:
    """Keep newer trust bundles and a newer product file.

    Raises: KeyturnError ``trust_invalid`` for another history than is known.
    """
    name = ProductName.parse(product)
    known = containers.open_product(json.loads(manager.product_row(db, product)["container"]), name.thumbprint)
    chain = trust.longer(known.chain.texts, bundles, name.thumbprint)
    opened: Opened = containers.renewed(known, chain, document)
    if opened != known:
        manager.keep_product(db, opened, "manager", now)


def ask_about(fleet: FleetManager, row: Row, line: Line) -> None:
    """Ask the publisher how one key stands, and keep the answer.

    Raises: KeyturnError ``key_foreign``, and as ``keys.take_answer`` and ``Line.inquire``.
    """
    product, now = ProductName.parse(row["product"]), fleet.clock()
    document = keys.question(fleet.sealer, row, fleet.home.rebinder(product), fleet.chance(16), now)
    answer = line.inquire(document)
    wrong = fleet.database.write_now(lambda db: keys.take_answer(db, row, answer, now))
    if wrong is not None:
        raise wrong


def refresh_lists(fleet: FleetManager, environ: Mapping[str, str], log: Log, connect: Connect = Line) -> None:
    """Fetch each product's revocation list, so that computers which reach nothing hear of it here. What fails is logged."""
    for row in fleet.database.read(lambda db: db.execute("SELECT name FROM product").fetchall()):
        name = row["name"]
        try:
            opened = fleet.database.read(lambda db, n=name: fleet.opened(db, n))  # type: ignore[misc]
            with connect(opened.product, environ) as line:
                said = line.revocations()
            keep_list(fleet, name, said)
        except KeyturnError as error:
            log("lists_failed", {"code": error.code, "detail": error.detail})


def keep_list(fleet: FleetManager, product: str, said: Mapping[str, object]) -> None:
    """Keep a revocation list that verifies. Raises: KeyturnError why it does not."""
    from keyturn.core.revocations import read_revocations

    token, bundles = said.get("revocations"), said.get("bundles")
    texts = [str(text) for text in bundles] if isinstance(bundles, list) else []

    def write(db: Connection) -> None:
        keep_beside(db, product, texts, None, fleet.clock())
        read_revocations(str(token), ProductName.parse(product), fleet.opened(db, product).chain)
        db.execute("UPDATE product SET revocations = ? WHERE name = ?", (str(token), product))

    fleet.database.write_now(write)


def _waiting(db: Connection) -> list[str]:
    rows = db.execute("SELECT DISTINCT product FROM item WHERE step = ? AND open = 1", (SEND,))
    return [row["product"] for row in rows]
