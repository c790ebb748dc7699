"""The admin API: a table of endpoints over the desk, the check of tokens, and what is once only.

Keeps: which right each address needs, how its parameters and content are read, the Idempotency-Key. Leaves to others:
what is done (``desk``), who may do what (``tokens``), the types (``shapes``), their description (``openapi``).

- Staff's requests are rare beside activations and may wait for the disk, so each is worked on in a thread.
- What is looked for travels in the body, not in the address: addresses end up in the logs of proxies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY
from keyturn.edge.web import JSON, NOTES, Guard, Route
from keyturn.service import replays, shapes, tokens
from keyturn.service.activation import ActivationService
from keyturn.service.desk import Desk, Item, LocalDesk, Order
from keyturn.service.sealing import Vault
from keyturn.service.tokens import RIGHTS, Token, Tokens

PREFIX = "/v1/admin"
_AUTHORIZATION = re.compile(r"Bearer +(\S{1,200})", re.IGNORECASE)
Shape = type[msgspec.Struct]


class Endpoint(NamedTuple):
    """One line of the table. ``action`` gets the desk, and parameters of the path, of the query, and the content."""

    method: str
    path: str
    right: str
    summary: str
    action: Callable[[Desk, Any, Any, Any], Item]
    answer: Shape
    at: Shape = shapes.Nothing
    query: Shape = shapes.Nothing
    body: Shape | None = None
    status: int = 200

    @property
    def name(self) -> str:
        """The operation's name in the description: ``get_keys_serial`` …"""
        return "_".join(re.findall(r"\w+", f"{self.method.lower()} {self.path.removeprefix(PREFIX)}"))


ENDPOINTS = (
    Endpoint("GET", f"{PREFIX}/organizations", "organization.read", "List organizations, by name",
             lambda d, at, q, b: d.organizations(**given(q)), shapes.Organizations, query=shapes.Page),
    Endpoint("POST", f"{PREFIX}/organizations", "organization.write", "Create an organization",
             lambda d, at, q, b: d.create_organization(b.name, b.title or b.name), shapes.Organization,
             body=shapes.NewOrganization, status=201),
    Endpoint("GET", f"{PREFIX}/organizations/{{name}}", "organization.read", "Show an organization",
             lambda d, at, q, b: d.organization(at.name), shapes.Organization, at=shapes.ByName),
    Endpoint("GET", f"{PREFIX}/products", "catalog.read", "List products, by slug",
             lambda d, at, q, b: d.products(**given(q)), shapes.Products, query=shapes.Page),
    Endpoint("POST", f"{PREFIX}/products", "product.write", "Create a product",
             lambda d, at, q, b: d.create_product(
                 b.slug, name=b.name or b.slug, test=b.test, editions=b.editions, terms=given(b.terms), mode=b.mode,
                 terms_url=b.terms_url), shapes.Product, body=shapes.NewProduct, status=201),
    Endpoint("GET", f"{PREFIX}/products/{{slug}}", "catalog.read", "Show a product",
             lambda d, at, q, b: d.product(at.slug), shapes.Product, at=shapes.BySlug),
    Endpoint("PATCH", f"{PREFIX}/products/{{slug}}", "product.write", "Change a product; export its file again then",
             lambda d, at, q, b: d.change_product(at.slug, flat(b)), shapes.Product, at=shapes.BySlug, body=shapes.ProductChange),
    Endpoint("GET", f"{PREFIX}/products/{{slug}}/file", "catalog.read", "The signed product file, as it ships",
             lambda d, at, q, b: d.product_file(at.slug), shapes.ProductFile, at=shapes.BySlug),
    Endpoint("POST", f"{PREFIX}/keys", "key.mint", "Mint product keys: they are in this answer and nowhere else",
             lambda d, at, q, b: d.mint(Order(
                 b.product, b.channel, b.count, b.limit, b.organization, b.edition, b.features, b.term_days, b.until, b.note,
             )), shapes.MintedKeys, body=shapes.NewKeys, status=201),
    Endpoint("GET", f"{PREFIX}/keys", "key.read", "List keys by their public part, oldest first",
             lambda d, at, q, b: d.keys(**given(q)),
             shapes.Keys, query=shapes.KeyPage),
    Endpoint("GET", f"{PREFIX}/keys/{{serial}}", "key.read", "Show a key",
             lambda d, at, q, b: d.key(at.serial), shapes.Key, at=shapes.BySerial),
    Endpoint("PATCH", f"{PREFIX}/keys/{{serial}}", "key.change", "Change a key's seats or note",
             lambda d, at, q, b: d.change_key(at.serial, given(b)), shapes.Key, at=shapes.BySerial, body=shapes.KeyChange),
    Endpoint("POST", f"{PREFIX}/keys/{{serial}}/block", "key.block", "Block a key: no new activation; who is licensed stays so",
             lambda d, at, q, b: d.block_key(at.serial, True, withdraw=bool(q.withdraw)), shapes.Key, at=shapes.BySerial,
             query=shapes.Withdraw),
    Endpoint("POST", f"{PREFIX}/keys/{{serial}}/unblock", "key.block", "Take a block back",
             lambda d, at, q, b: d.block_key(at.serial, False), shapes.Key, at=shapes.BySerial),
    Endpoint("GET", f"{PREFIX}/activations", "activation.read", "List activations, oldest first",
             lambda d, at, q, b: d.activations(**given(q)),
             shapes.Activations, query=shapes.ActivationPage),
    Endpoint("GET", f"{PREFIX}/activations/{{activation_id}}", "activation.read", "Show an activation",
             lambda d, at, q, b: d.activation(at.activation_id), shapes.Activation, at=shapes.ById),
    Endpoint("POST", f"{PREFIX}/activations/{{activation_id}}/reclaim", "activation.reclaim",
             "Take a seat back from a lost computer",
             lambda d, at, q, b: d.reclaim(at.activation_id, withdraw=bool(q.withdraw)), shapes.Activation, at=shapes.ById,
             query=shapes.Withdraw),
    Endpoint("POST", f"{PREFIX}/find", "find",
             "Find by reference number, product ID, serial, partial key, activation, organization, installation",
             lambda d, at, q, b: d.find(b.text), shapes.FoundAll, body=shapes.Text),
)  # fmt: skip


class Gatekeeper:
    """Checks tokens: a guard for every right of the table."""

    def __init__(self, service: ActivationService) -> None:
        self._service = service
        self.vault = Vault(service.home.pepper())
        self._tokens = Tokens(self.vault, service.ids.chance)

    @property
    def guards(self) -> dict[str, Guard]:
        return {right: self._guard(right) for right in RIGHTS}

    def caller(self, request: Request) -> Token:
        """Who calls, by the Authorization header. Raises: KeyturnError ``token_invalid``."""
        now, database = self._service.clock(), self._service.database
        shape = _AUTHORIZATION.fullmatch(request.headers.get("authorization", "").strip())
        token = self._tokens.check(
            lambda name: database.read(lambda db: tokens.find_row(db, name)), shape[1] if shape else "", now
        )
        if token.used_at is None or now - token.used_at >= DAY:
            database.write(lambda db: tokens.note_use(db, token.id, now))
        return token

    def _guard(self, right: str) -> Guard:
        async def guard(request: Request) -> None:
            token = await run_in_threadpool(self.caller, request)
            request.scope.get(NOTES, {})["token"] = token.id
            if not token.may(right):
                allowed = ", ".join(role for role in tokens.ROLES if role in RIGHTS[right])
                raise KeyturnError(
                    "permission_denied", f"A token of role {token.role} may not do this; it takes {allowed}.",
                    remedy="Use a token with such a role.",
                )  # fmt: skip
            request.scope["keyturn.token"] = token

        return guard


def routes(service: ActivationService, gate: Gatekeeper) -> list[Route]:
    """The lines of the authorization table for the admin API."""
    return [Route(e.path, e.method, _handler(service, gate, e), e.right, content_types=(JSON,)) for e in ENDPOINTS]


def _handler(service: ActivationService, gate: Gatekeeper, endpoint: Endpoint) -> Callable[[Request], Any]:
    def work(request: Request, content: bytes) -> Response:
        """1. Read what was asked. 2. Do it, once if so asked. 3. Answer what is declared, and no more."""
        token: Token = request.scope["keyturn.token"]
        # 1.
        at = read(endpoint.at, dict(request.path_params), strict=False)
        query = read(endpoint.query, _single(request.query_params.multi_items()), strict=False)
        body = None if endpoint.body is None else read(endpoint.body, jws.loads(content))
        if endpoint.body is None and content.strip() not in (b"", b"{}"):
            raise KeyturnError("request_unsupported", "This address takes no content.")
        # 2.
        named = request.headers.get("idempotency-key") if endpoint.method == "POST" else None
        asked = json.dumps([endpoint.method, endpoint.path, msgspec.to_builtins([at, query, body])], sort_keys=True)
        once = None if named is None else replays.once(gate.vault, token.id, named, asked.encode())
        desk = LocalDesk(service, actor=token.actor, once=once)
        done = endpoint.action(desk, at, query, body)
        # 3.
        answer = msgspec.json.encode(msgspec.convert(done, endpoint.answer))
        replayed = {"Idempotency-Replayed": "true"} if desk.replayed else {}
        return Response(answer, status_code=endpoint.status, media_type=JSON, headers=replayed)

    async def handler(request: Request) -> Response:
        return await run_in_threadpool(work, request, await request.body())

    return handler


def read(shape: Shape, value: Mapping[str, Any], *, strict: bool = True) -> Any:
    """``value`` as a ``shape``; not strict are texts of an address, in which numbers are digits and nothing else.

    Raises: KeyturnError ``request_unsupported`` saying which member is wrong, without its value.
    """
    try:
        found = msgspec.convert(value, shape, strict=strict)
    except msgspec.ValidationError as error:
        raise KeyturnError("request_unsupported", re.sub(r" '.*'", "", str(error), flags=re.DOTALL)[:300]) from error
    for name, text in value.items():
        if not strict and isinstance(getattr(found, name), int) and not re.fullmatch("[0-9]+", text):
            raise KeyturnError("request_unsupported", f"`{name}` is a number in digits.")
    return found


def given(value: msgspec.Struct) -> dict[str, Any]:
    """The members that were given."""
    return {name: getattr(value, name) for name in value.__struct_fields__ if getattr(value, name) is not UNSET}


def flat(change: shapes.ProductChange) -> dict[str, Any]:
    """A product's change with its terms beside the rest, as the desk takes it."""
    found = given(change)
    terms = found.pop("terms", None)
    return {**found, **(given(terms) if terms is not None else {})}


def _single(pairs: list[tuple[str, str]]) -> dict[str, str]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise KeyturnError("request_unsupported", "A parameter is given twice.")
    return found
