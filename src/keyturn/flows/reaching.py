"""What the doctor of a server that an organization runs asks of the network: its own name, and the publisher's service.

Leaves to others: what a check is (``checking``), what is asked beside these (each program). Nothing is sent that identifies
anybody: a directory is public.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from keyturn.core.documents import ProductFile
from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, rfc3339
from keyturn.edge.transport import Transport

SET_CLOCK = "Set this computer's clock."
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a server that listens everywhere is asked from here


def from_here(at: str) -> str:
    """Where a server that listens at the address ``at`` is asked from its own computer."""
    return _ANY.get(at, at)


def clock(now: int, seen: int | None) -> tuple[Any, ...]:
    """This computer's clock, against the newest time that the server wrote down for a computer."""
    if seen is not None and seen > now + DAY:
        return False, f"it says {rfc3339(now)}, and a computer was seen at {rfc3339(seen)}", SET_CLOCK
    return True, str(rfc3339(now))


def name(text: str, setting: str) -> tuple[Any, ...]:
    """Whether other computers can reach this one by a name; ``setting`` is the command that gives it another."""
    remedy = f"Give it an address record, or {setting}."
    try:
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(text, None, type=socket.SOCK_STREAM)})
    except OSError:
        return False, f"{text} has no address", remedy
    if all(place.startswith("127.") or place == "::1" for place in found):
        return None, f"{text} is {', '.join(found)}, which is no other computer's way here", remedy
    return True, f"{text} is {', '.join(found)}"


def publisher(
    product: ProductFile, environ: Mapping[str, str], now: int, *, then: str, otherwise: str
) -> tuple[Any, ...]:
    """Whether the publisher's service answers; ``then`` is what that is good for, ``otherwise`` how it goes without.

    A server may live for ever without reaching it, so that it does not is no fault.
    """
    try:
        with Transport(ca_pem=product.ca, environ=environ) as transport:
            directory = transport.get_json(f"{product.service_url}/.well-known/keyturn")
    except KeyturnError as error:
        return None, error.detail, otherwise
    there = directory.get("server_time")
    if isinstance(there, int) and abs(there - now) > DAY:
        return False, f"its clock says {rfc3339(there)}, this one {rfc3339(now)}", SET_CLOCK
    return True, f"{product.service_url} answers over TLS: {then}"
