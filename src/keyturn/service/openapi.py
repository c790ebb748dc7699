"""The description of the HTTP interface (OpenAPI 3.1), made from the types and the table that the service works with.

Nothing is written twice: parameters and contents are the types of ``shapes``, addresses and rights the table of ``admin``.
Only the public addresses, whose contents are signed documents, are described here by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from keyturn import __version__
from keyturn.edge.web import JOSE, JSON, MAX_BODY, PROBLEM
from keyturn.service import shapes, shapes_fleet
from keyturn.service.admin import ENDPOINTS, Endpoint, Shape
from keyturn.service.tokens import RIGHTS, ROLES

_REF = "#/components/schemas/{name}"
_INTRODUCTION = (
    "The activation service of a publisher. What clients use is public: signed documents prove who speaks. What staff and"
    " shops use lies below /v1/admin and takes a token: `Authorization: Bearer ktt_…`"
    " (`keyturn service token create --role mint|support|read|admin`).\n\n"
    "Every error is a problem document with a stable `code` and a `reference` that `keyturn service find` understands. A POST"
    " with an `Idempotency-Key` has one effect however often it is sent within a day, and gets the same answer; the same"
    " key with other content is `idempotency_mismatch`. Lists come in pages: give `next` as `after`."
)


class Public(NamedTuple):
    """An address that needs no token."""

    method: str
    path: str
    name: str
    summary: str
    answers: tuple[Shape, ...]
    document: str | None = None
    claims: tuple[Shape, ...] = ()
    body: Shape | None = None


PUBLIC = (
    Public("GET", "/.well-known/keyturn", "directory", "The directory: every other address, and the trust bundles",
           (shapes.Directory,)),
    Public("POST", "/v1/exchange", "exchange", "Activate, renew or return: one signed document in, its answer out",
           (shapes.Certified, shapes.HostCertified, shapes.Released),
           "A request or a release: one compact JWS, signed with the installation's key.",
           (shapes.RequestClaims, shapes.ReleaseClaims)),
    Public("POST", "/v1/ask", "ask", "What a request would get; takes no seat", (shapes.Considered,),
           "A request: one compact JWS.", (shapes.RequestClaims,)),
    Public("POST", "/v1/batch", "batch", "Up to 500 documents at once, each with its own answer", (shapes_fleet.BatchAnswer,),
           body=shapes_fleet.Batch),
    Public("POST", "/v1/inquire", "inquire", "What is left of a product key; takes no seat", (shapes_fleet.KeyStanding,),
           "An inquiry: one compact JWS, signed with any key.", (shapes_fleet.InquiryClaims,)),
    Public("GET", "/v1/products/{slug}/revocations", "revocations", "The product's signed revocation list",
           (shapes.RevocationList,)),
    Public("GET", "/healthz", "healthz", "Whether the process answers", (shapes.Health,)),
    Public("GET", "/readyz", "readyz", "Whether the service can do its work", (shapes.Health,)),
)  # fmt: skip


def document(publisher: str, url: str) -> dict[str, Any]:
    """The whole description, as JSON can hold it."""
    everything: list[Any] = [shapes.Problem, *_all_shapes()]
    _, components = msgspec.json.schema_components(everything, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for public in PUBLIC:
        paths.setdefault(public.path, {})[public.method.lower()] = _public(public)
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _endpoint(endpoint, components)
    parameters = {e.__name__ for point in ENDPOINTS for e in (point.at, point.query)}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Activation service of {publisher}", "version": __version__, "description": _INTRODUCTION},
        "servers": [{"url": url}],
        "tags": [
            {"name": "clients", "description": "What a computer with the product uses. Public."},
            {"name": "staff", "description": "What shops and the publisher's staff use. With a token."},
        ],
        "paths": paths,
        "components": {
            "schemas": {name: value for name, value in components.items() if name not in parameters},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "ktt_…"}},
        },
    }


def _all_shapes() -> Iterator[Shape]:
    for public in PUBLIC:
        yield from (*public.answers, *public.claims, *([] if public.body is None else [public.body]))
    for endpoint in ENDPOINTS:
        yield from (
            shape for shape in (endpoint.at, endpoint.query, endpoint.body, endpoint.answer) if shape is not None
        )


def _public(public: Public) -> dict[str, Any]:
    schemas = [_ref(answer) for answer in public.answers]
    answer = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    found: dict[str, Any] = {
        "operationId": public.name, "summary": public.summary, "tags": ["clients"], "security": [],
        "responses": {
            "200": {"description": "Done.", "content": {JSON: {"schema": answer}}},
            **_problems(),
        },
    }  # fmt: skip
    if "{slug}" in public.path:
        schema = {"type": "string", "pattern": "^[a-z][a-z0-9-]{0,39}$"}
        found["parameters"] = [{"name": "slug", "in": "path", "required": True, "schema": schema}]
    if public.body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(public.body)}}}
    if public.document is not None:
        # `binary` is for generators of clients: the body is these bytes, and no JSON text.
        content = {JOSE: {"schema": {"type": "string", "format": "binary", "pattern": r"^[\w-]+\.[\w-]+\.[\w-]+$"}}}
        claims = " or ".join(f"`{shape.__name__}`" for shape in public.claims)
        told = f"{public.document} Its claims are {claims}. At most {MAX_BODY} bytes."
        found["requestBody"] = {"required": True, "description": told, "content": content}
    return found


def _endpoint(endpoint: Endpoint, components: dict[str, Any]) -> dict[str, Any]:
    roles = [role for role in ROLES if role in RIGHTS[endpoint.right]]
    parameters = [*_parameters("path", endpoint.at, components), *_parameters("query", endpoint.query, components)]
    answer: dict[str, Any] = {"description": "Done.", "content": {JSON: {"schema": _ref(endpoint.answer)}}}
    if endpoint.method == "POST":
        parameters.append({
            "name": "Idempotency-Key", "in": "header", "required": False,
            "description": "One effect, however often it is sent within a day.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        })  # fmt: skip
        told = "`true` if this is the answer to an earlier request."
        answer["headers"] = {"Idempotency-Replayed": {"description": told, "schema": {"type": "string"}}}
    found: dict[str, Any] = {
        "operationId": endpoint.name, "summary": endpoint.summary, "tags": ["staff"], "security": [{"token": []}],
        "description": f"Roles: {', '.join(roles)}.", "x-keyturn-roles": roles, "parameters": parameters,
        "responses": {
            str(endpoint.status): answer,
            **_problems(),
        },
    }  # fmt: skip
    if endpoint.body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(endpoint.body)}}}
    return found


def _parameters(place: str, shape: Shape, components: dict[str, Any]) -> Iterator[dict[str, Any]]:
    described = components.get(shape.__name__, {})
    for name, schema in described.get("properties", {}).items():
        # A parameter that may be null is one that may be left out.
        choices = [choice for choice in schema.get("anyOf", [schema]) if choice != {"type": "null"}]
        plain = {key: value for key, value in choices[0].items() if key != "description"}
        if schema.get("default") is not None:
            plain["default"] = schema["default"]
        told = choices[0].get("description") or schema.get("description")
        required = place == "path" or name in described.get("required", [])
        yield {
            "name": name,
            "in": place,
            "required": required,
            "schema": plain,
            **({"description": told} if told else {}),
        }


def _problems() -> dict[str, Any]:
    content = {PROBLEM: {"schema": _ref(shapes.Problem)}}
    return {
        "4XX": {"description": "Refused, or not understood; the code says why.", "content": content},
        "5XX": {"description": "A fault of the service; trying again is safe.", "content": content},
    }


def _ref(shape: Shape) -> dict[str, str]:
    return {"$ref": _REF.format(name=shape.__name__)}
