"""What staff can do, as one list of things: at the service's own home, or far away through its admin API.

:class:`Desk` is the seam: the verbs (``staff``) and the API (``admin``) know nothing else. :class:`LocalDesk` does it,
:class:`keyturn.service.remote.RemoteDesk` asks for it. Every value that goes in or comes out is what JSON can hold, times
as RFC 3339; lists come in pages, with ``next`` to be given as ``after``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from sqlite3 import Connection
from typing import Any, NamedTuple, Protocol, TypeVar

from keyturn.core.errors import KeyturnError
from keyturn.core.model import Channel, ProductName, check_slug, parse_rfc3339, rfc3339
from keyturn.core.terms import MODES, Terms
from keyturn.service import catalog, finding, replays
from keyturn.service.activation import ActivationService
from keyturn.service.replays import Once
from keyturn.service.sealing import Vault

T = TypeVar("T")
Item = dict[str, Any]
PAGE = 100
MAX_PAGE = 500
MAX_COUNT = 1000  # Keys in one request.
_AFTER_KEY = re.compile(r"(\d{1,12})-(\d{1,9})", re.ASCII)


class Order(NamedTuple):
    """Product keys that are wanted. ``until`` is a date, RFC 3339."""

    product: str
    channel: str = "retail"
    number: int = 1  # How many keys.
    limit: int = 1
    organization: str | None = None
    edition: str | None = None
    features: Sequence[str] = ()
    term_days: int | None = None
    until: str | None = None
    note: str = ""


class Desk(Protocol):
    """Everything that staff can do here or far away. Raises: KeyturnError with the catalogue's codes."""

    def organizations(self, *, after: str | None = None, limit: int = PAGE) -> Item: ...
    def organization(self, name: str) -> Item: ...
    def create_organization(self, name: str, title: str) -> Item: ...
    def products(self, *, after: str | None = None, limit: int = PAGE) -> Item: ...
    def product(self, slug: str) -> Item: ...
    def create_product(
        self, slug: str, *, name: str, test: bool, editions: Mapping[str, Sequence[str]], terms: Mapping[str, Any],
        mode: str, terms_url: str | None,
    ) -> Item: ...  # fmt: skip
    def change_product(self, slug: str, changes: Mapping[str, Any]) -> Item: ...
    def product_file(self, slug: str) -> Item: ...
    def mint(self, order: Order, progress: Callable[[int], None] | None = None) -> Item: ...
    def keys(
        self,
        *,
        product: str | None = None,
        organization: str | None = None,
        after: str | None = None,
        limit: int = PAGE,
    ) -> Item: ...
    def key(self, serial: int) -> Item: ...
    def change_key(self, serial: int, changes: Mapping[str, Any]) -> Item: ...
    def block_key(self, serial: int, blocked: bool, *, withdraw: bool = False) -> Item: ...
    def activations(self, *, serial: int | None = None, after: str | None = None, limit: int = PAGE) -> Item: ...
    def activation(self, identifier: str) -> Item: ...
    def reclaim(self, identifier: str, *, withdraw: bool = False) -> Item: ...
    def find(self, text: str) -> Item: ...


def every(page: Callable[..., Item], name: str, **filters: Any) -> list[Item]:
    """All pages of a list, one after the other."""
    return list(_every(page, name, filters))


def _every(page: Callable[..., Item], name: str, filters: Mapping[str, Any]) -> Iterator[Item]:
    after: str | None = None
    while True:
        found = page(**filters, after=after, limit=MAX_PAGE)
        yield from found[name]
        after = found["next"]
        if after is None:
            return


class LocalDesk:
    """The desk at the service's own database. ``actor`` goes into the audit.

    With ``once`` a change is made once however often it is asked for; ``replayed`` says whether it had been made.
    """

    def __init__(self, service: ActivationService, *, actor: str = "staff", once: Once | None = None) -> None:
        self._service = service
        self._actor = actor
        self._once = once
        self._vault = Vault(service.home.pepper()) if once else None
        self.replayed = False

    def organizations(self, *, after: str | None = None, limit: int = PAGE) -> Item:
        return self._page("organizations", limit, lambda db, n: catalog.organizations(db, after or "", n), "name")

    def organization(self, name: str) -> Item:
        return dated(self._read(lambda db: catalog.find_organization(db, name)))

    def create_organization(self, name: str, title: str) -> Item:
        check_slug(name)

        def create(db: Connection) -> Item:
            catalog.create_organization(db, name, title, self._service.ids, self._now(), self._actor)
            return dated(catalog.find_organization(db, name))

        return self._write(create)

    def products(self, *, after: str | None = None, limit: int = PAGE) -> Item:
        return self._page("products", limit, lambda db, n: catalog.products(db, after or "", n), "slug")

    def product(self, slug: str) -> Item:
        return dated(self._read(lambda db: catalog.product(db, slug)))

    def create_product(
        self, slug: str, *, name: str, test: bool, editions: Mapping[str, Sequence[str]], terms: Mapping[str, Any],
        mode: str, terms_url: str | None,
    ) -> Item:  # fmt: skip
        check_slug(slug)
        for word in [*editions, *(feature for features in editions.values() for feature in features)]:
            check_slug(word)
        full = ProductName(self._service.home.chain.thumbprint, slug, test)
        checked, known_mode = Terms.read(terms), _mode(mode)

        def create(db: Connection) -> Item:
            catalog.create_product(
                db, full, name, editions or {"standard": ()}, checked, mode=known_mode, terms_url=terms_url,
                ids=self._service.ids, now=self._now(), actor=self._actor,
            )  # fmt: skip
            return dated(catalog.product(db, slug))

        return self._write(create)

    def change_product(self, slug: str, changes: Mapping[str, Any]) -> Item:
        """``changes``: name, mode, terms_url, and any of the terms."""
        flat = {"title" if name == "name" else name: value for name, value in _something(changes).items()}
        if "mode" in flat:
            _mode(flat["mode"])

        def change(db: Connection) -> Item:
            catalog.change_product(db, slug, flat, self._service.ids, self._now(), self._actor)
            return dated(catalog.product(db, slug))

        return self._write(change)

    def product_file(self, slug: str) -> Item:
        return self._service.product_file(slug)

    def mint(self, order: Order, progress: Callable[[int], None] | None = None) -> Item:
        """Keys are made before the transaction begins, so that it is short; with ``once`` all of them are in one."""
        service, now = self._service, self._now()
        values: dict[str, Any] = {
            "organization": order.organization, "edition": order.edition, "features": order.features,
            "term_days": order.term_days, "until": None if order.until is None else parse_rfc3339(order.until),
            "note": order.note,
        }  # fmt: skip
        if order.term_days is not None and order.until is not None:
            raise KeyturnError("usage", "a term in days and a date on which it ends exclude each other")
        channel = Channel(order.channel)
        if self._once is None:
            return {
                "keys": service.mint(
                    order.product, channel, order.number, order.limit, progress=progress, actor=self._actor, **values
                )
            }
        before = self._before()
        if before is not None:
            return before
        planned = self._read(
            lambda db: catalog.plan(db, order.product, channel, order.number, order.limit, now=now, **values)
        )
        made = planned.make(service.sealer, service.ids, order.number)

        def insert(db: Connection) -> Item:
            return {"keys": catalog.insert_keys(db, planned, made, service.sealer, service.ids, self._actor)}

        return self._write(insert)

    def keys(
        self,
        *,
        product: str | None = None,
        organization: str | None = None,
        after: str | None = None,
        limit: int = PAGE,
    ) -> Item:
        begin = (-1, -1)
        if after is not None:
            shape = _AFTER_KEY.fullmatch(after)
            if shape is None:
                raise KeyturnError("usage", "`after` is what `next` said")
            begin = (int(shape[1]), int(shape[2]))
        rows = self._read(lambda db: catalog.keys(db, product, limit + 1, organization=organization, after=begin))
        last = rows[limit - 1] if len(rows) > limit else None
        following = None if last is None else f"{last['created_at']}-{last['serial']}"
        return {"keys": [dated(row) for row in rows[:limit]], "next": following}

    def key(self, serial: int) -> Item:
        return dated(self._read(lambda db: catalog.key(db, serial)))

    def change_key(self, serial: int, changes: Mapping[str, Any]) -> Item:
        """``changes``: limit, note."""
        renamed = {"seat_limit" if name == "limit" else name: value for name, value in _something(changes).items()}
        return self._change_key(serial, renamed)

    def block_key(self, serial: int, blocked: bool, *, withdraw: bool = False) -> Item:
        return self._change_key(serial, {"blocked": blocked, **({"withdraw": True} if withdraw else {})})

    def _change_key(self, serial: int, changes: Mapping[str, Any]) -> Item:
        def change(db: Connection) -> Item:
            catalog.set_key(db, serial, changes, self._service.ids, self._now(), self._actor)
            return dated(catalog.key(db, serial))

        return self._write(change)

    def activations(self, *, serial: int | None = None, after: str | None = None, limit: int = PAGE) -> Item:
        return self._page(
            "activations", limit, lambda db, n: catalog.activations(db, serial, n, after=after or ""), "activation_id"
        )

    def activation(self, identifier: str) -> Item:
        return dated(self._read(lambda db: catalog.activation(db, identifier)))

    def reclaim(self, identifier: str, *, withdraw: bool = False) -> Item:
        return self._write(
            lambda db: dated(
                catalog.reclaim(db, identifier, self._service.ids, self._now(), self._actor, withdraw=withdraw)
            )
        )

    def find(self, text: str) -> Item:
        # In the writer, so that the audit line is durable before the answer; and behind every problem that waits there.
        found = self._service.database.write_now(
            lambda db: finding.find(db, text, self._service.ids, self._now(), self._actor)
        )
        return {"found": [{"kind": i["kind"], i["kind"]: dated(i[i["kind"]])} for i in found["found"]]}

    def _now(self) -> int:
        return self._service.clock()

    def _read(self, fn: Callable[[Connection], T]) -> T:
        return self._service.database.read(fn)

    def _page(self, name: str, limit: int, rows: Callable[[Connection, int], list[Item]], key: str) -> Item:
        found = self._read(lambda db: rows(db, limit + 1))
        following = found[limit - 1][key] if len(found) > limit else None
        return {name: [dated(row) for row in found[:limit]], "next": following}

    def _before(self) -> Item | None:
        if self._once is None or self._vault is None:
            return None
        wanted, vault = self._once, self._vault
        found = self._read(lambda db: replays.kept(db, vault, wanted, self._now()))
        self.replayed = found is not None
        return found

    def _write(self, effect: Callable[[Connection], Item]) -> Item:
        if self._once is None or self._vault is None:
            return self._service.database.write_now(effect)
        wanted, vault = self._once, self._vault
        answer, self.replayed = self._service.database.write_now(
            lambda db: replays.carry_out(db, vault, self._service.ids, wanted, self._now(), effect)
        )
        return answer


def dated(row: Mapping[str, Any]) -> Item:
    """Times as people and JSON read them."""
    return {
        name: rfc3339(value) if name.endswith("_at") or name in ("until", "at") else value
        for name, value in row.items()
    }


def _something(changes: Mapping[str, Any]) -> Mapping[str, Any]:
    if not changes:
        raise KeyturnError("usage", "nothing to change was given")
    return changes


def _mode(mode: str) -> str:
    if mode not in MODES:
        raise KeyturnError("usage", f"the mode is one of {', '.join(MODES)}")
    return mode
