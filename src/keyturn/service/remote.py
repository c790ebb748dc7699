"""The desk of a service elsewhere, through its admin API. Nothing is decided here: every method is one request.

A POST carries an Idempotency-Key of its own, so that repeating it on a connection that broke has no second effect.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from keyturn.core.errors import KeyturnError
from keyturn.core.terms import Terms
from keyturn.edge.transport import Transport
from keyturn.edge.web import JSON
from keyturn.service.desk import MAX_COUNT, PAGE, Item, Order

PREFIX = "/v1/admin"


class RemoteDesk:
    """Staff's requests to the service at ``url``; use it in a ``with`` block."""

    def __init__(self, url: str, token: str, environ: Mapping[str, str], *, ca_bundle: str | None = None) -> None:
        if urlsplit(url).scheme != "https":
            raise KeyturnError("usage", f"{url!r} is not an https:// address")
        self._url = url.rstrip("/")
        self._token = token
        self._transport = Transport(ca_bundle=ca_bundle, environ=environ)

    def __enter__(self) -> RemoteDesk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def organizations(self, *, after: str | None = None, limit: int = PAGE) -> Item:
        return self._get("organizations", after=after, limit=limit)

    def organization(self, name: str) -> Item:
        return self._get("organizations", name)

    def create_organization(self, name: str, title: str) -> Item:
        return self._post("organizations", body={"name": name, "title": title})

    def products(self, *, after: str | None = None, limit: int = PAGE) -> Item:
        return self._get("products", after=after, limit=limit)

    def product(self, slug: str) -> Item:
        return self._get("products", slug)

    def create_product(
        self, slug: str, *, name: str, test: bool, editions: Mapping[str, Sequence[str]], terms: Mapping[str, Any],
        mode: str, terms_url: str | None,
    ) -> Item:  # fmt: skip
        told = {"slug": slug, "name": name, "test": test, "editions": editions, "terms": terms, "mode": mode}
        return self._post("products", body={**told, "terms_url": terms_url})

    def change_product(self, slug: str, changes: Mapping[str, Any]) -> Item:
        terms = {name: value for name, value in changes.items() if name in Terms._fields}
        rest = {name: value for name, value in changes.items() if name not in Terms._fields}
        return self._call("PATCH", "products", slug, body={**rest, **({"terms": terms} if terms else {})})

    def product_file(self, slug: str) -> Item:
        return self._get("products", slug, "file")

    def mint(self, order: Order, progress: Callable[[int], None] | None = None) -> Item:
        told = order._asdict()
        keys: list[Item] = []
        while len(keys) < order.number:
            body = {**told, "features": list(order.features), "count": min(MAX_COUNT, order.number - len(keys))}
            del body["number"]
            keys += self._post("keys", body=body)["keys"]
            if progress is not None:
                progress(len(keys))
        return {"keys": keys}

    def keys(
        self,
        *,
        product: str | None = None,
        organization: str | None = None,
        after: str | None = None,
        limit: int = PAGE,
    ) -> Item:
        return self._get("keys", product=product, organization=organization, after=after, limit=limit)

    def key(self, serial: int) -> Item:
        return self._get("keys", str(serial))

    def change_key(self, serial: int, changes: Mapping[str, Any]) -> Item:
        return self._call("PATCH", "keys", str(serial), body=changes)

    def block_key(self, serial: int, blocked: bool, *, withdraw: bool = False) -> Item:
        return self._post("keys", str(serial), "block" if blocked else "unblock", query="?withdraw=1" if withdraw else "")

    def activations(self, *, serial: int | None = None, after: str | None = None, limit: int = PAGE) -> Item:
        return self._get("activations", serial=serial, after=after, limit=limit)

    def activation(self, identifier: str) -> Item:
        return self._get("activations", identifier)

    def reclaim(self, identifier: str, *, withdraw: bool = False) -> Item:
        return self._post("activations", identifier, "reclaim", query="?withdraw=1" if withdraw else "")

    def find(self, text: str) -> Item:
        return self._post("find", body={"text": text})

    def _get(self, *path: str, **query: object) -> Item:
        wanted = urlencode({name: value for name, value in query.items() if value is not None})
        return self._call("GET", *path, query=f"?{wanted}" if wanted else "")

    def _post(self, *path: str, body: Mapping[str, Any] | None = None, query: str = "") -> Item:
        return self._call("POST", *path, body=body, query=query)

    def _call(self, method: str, *path: str, body: Mapping[str, Any] | None = None, query: str = "") -> Item:
        """One request. Raises: KeyturnError as the service says, or as ``Transport.call``."""
        url = f"{self._url}{PREFIX}/{'/'.join(quote(part, safe='') for part in path)}{query}"
        headers = {"Authorization": f"Bearer {self._token}"}
        if method == "POST":
            headers["Idempotency-Key"] = secrets.token_hex(16)
        content = b"" if body is None else json.dumps(body).encode()
        reply = self._transport.call(
            method, url, content, JSON if body is not None or method == "POST" else None, headers
        )
        problem = reply.problem()
        if problem is not None:
            raise problem
        return reply.json()
