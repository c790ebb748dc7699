"""What is said about a product key to whoever proves to hold it; no seat is taken and nothing is written."""

from __future__ import annotations

from sqlite3 import Connection
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from keyturn.core.errors import Refused
from keyturn.core.inquiry import read_inquiry
from keyturn.core.model import Channel, product_id
from keyturn.edge import sodium
from keyturn.edge.shedding import admission
from keyturn.edge.web import PUBLIC, Route, json_response
from keyturn.service.activation import ActivationService
from keyturn.service.shedding import pass_on

INQUIRE = "/v1/inquire"


def route(service: ActivationService) -> Route:
    """The address for inquiries: guesses cost as everywhere."""

    async def inquire(request: Request) -> Response | Refused:
        found = answer(service, (await request.body()).decode("ascii", "replace"))
        if isinstance(found, Refused):
            pass_on(admission(request), service, found)
            return found
        return json_response(found)

    return Route(INQUIRE, "POST", inquire, PUBLIC)


def answer(service: ActivationService, token: str) -> dict[str, Any] | Refused:
    """Say how a key stands.

    1. The inquiry is signed with the key that it carries.
    2. Its sender knows the product key; until that is proven every "no" is the same, as for requests.
    3. The count, the limit, and the organization that the key was minted for.

    Raises: KeyturnError ``signature_invalid``, ``document_malformed``.
    """
    # 1.
    asked, verified = read_inquiry(token, holds=sodium.holds)
    # 2.
    terms, serial, secret = service.opened_key(asked.product, asked.serial)
    proven = asked.proven(secret, verified.kid)
    if terms is None:
        return Refused(
            "product_unknown", f"this service does not know the product {asked.product.slug!r} of that publisher"
        )
    if serial is None or not proven:
        return Refused("key_unknown", f"product key {asked.serial:09d} is not known for this product")

    # 3.
    def look(db: Connection) -> dict[str, Any]:
        row = db.execute(
            "SELECT k.*, o.title FROM product_key k LEFT JOIN organization o ON o.name = k.organization WHERE k.serial = ?",
            (serial,),
        ).fetchone()
        channel = Channel(row["channel"])
        return {
            "v": 1, "product_id": product_id(asked.product.slug, channel, serial), "channel": channel.value,
            "edition": row["edition"], "limit": row["seat_limit"], "used": row["seats_used"], "blocked": bool(row["blocked"]),
            "organization": row["title"], "server_time": service.clock(),
        }  # fmt: skip

    return service.database.read(look)
