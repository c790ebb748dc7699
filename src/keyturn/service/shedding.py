"""What is turned away when too much comes: new load first, renewals last.

Keeps: where a request is counted, and what counts as a renewal. Leaves to others: the arithmetic (``ratelimit``), the
answer 429 with its ``Retry-After`` (``edge.limits``).

1. Every request is counted at its address, before anything is computed for it; health is not.
2. Where that is used up, an exchange may still be a renewal: one that names an activation is proven out of a reserved
   share, and served if this very installation holds a seat. Everything else waits.
3. After the proof it is counted at its key, in the same manner. A request that proves nothing costs its address more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from sqlite3 import Connection

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from keyturn.core import jws
from keyturn.core.errors import KeyturnError, Refused
from keyturn.service.activation import ActivationService, Proven, Returned
from keyturn.service.ratelimit import Limiter, whole_seconds

EXCHANGE = "/v1/exchange"
FREE = frozenset({"/healthz", "/readyz"})
_ADMISSION = "keyturn.admission"


class Admission:
    """One request's way past the limits. ``wait`` is what its address must wait, unless it renews; 0.0 is nothing."""

    def __init__(self, limiter: Limiter, address: str, ticks: Callable[[], float], wait: float) -> None:
        self._limiter = limiter
        self._address = address
        self._ticks = ticks
        self._wait = wait

    def look(self, token: str) -> None:
        """Before the proof: with nothing left at this address, only what names an activation goes on.

        Raises: KeyturnError ``too_many_requests``.
        """
        if self._wait and not _names_activation(token):
            raise _too_many(self._wait, "from this address")
        if self._wait:
            self._stop(self._limiter.renew(self._address, self._ticks()), "from this address")

    def pass_on(self, service: ActivationService, proven: Proven | Returned | Refused) -> None:
        """After the proof. Raises: KeyturnError ``too_many_requests``."""
        if isinstance(proven, Refused):
            self._limiter.guess(self._address, self._ticks())
            return
        held: bool | None = None
        if self._wait:
            held = _holds_seat(service, proven)
            if not held:
                self._limiter.guess(self._address, self._ticks())
                raise _too_many(self._wait, "from this address")
        if isinstance(proven, Returned):
            return  # Proves an installation, not a key; a seat that comes back is welcome.
        wait = self._limiter.key(proven.request.serial, self._ticks())
        if not wait:
            return
        if held is None:
            held = _holds_seat(service, proven)
        self._stop(
            self._limiter.key_renew(proven.request.serial, self._ticks()) if held else wait, "for this product key"
        )

    @staticmethod
    def _stop(wait: float, where: str) -> None:
        if wait:
            raise _too_many(wait, where)


class Shedding:
    """ASGI middleware inside of ``edge.limits.Limits``. ``ticks`` is a clock that only goes forward, in seconds."""

    def __init__(self, app: ASGIApp, limiter: Limiter, *, ticks: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._limiter = limiter
        self._ticks = ticks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in FREE:
            client = scope.get("client")
            address = client[0] if client else ""
            wait = self._limiter.arrive(address, self._ticks())
            if wait and (scope["path"], scope["method"]) != (EXCHANGE, "POST"):
                raise _too_many(wait, "from this address")
            scope[_ADMISSION] = Admission(self._limiter, address, self._ticks, wait)
        await self._app(scope, receive, send)


def admission(request: Request) -> Admission:
    """The way past the limits that :class:`Shedding` gave to this request."""
    found = request.scope[_ADMISSION]
    assert isinstance(found, Admission)
    return found


def _too_many(wait: float, where: str) -> KeyturnError:
    return KeyturnError("too_many_requests", f"Too many requests {where}.", retry_after=whole_seconds(wait))


def _names_activation(token: str) -> bool:
    """What the document says, unverified: it decides only whether it is worth verifying."""
    try:
        return isinstance(jws.loads(jws.payload_of(token)).get("activation"), str)
    except KeyturnError:
        return False


def _holds_seat(service: ActivationService, proven: Proven | Returned) -> bool:
    serial = proven.request.serial if isinstance(proven, Proven) else proven.release.serial

    def look(db: Connection) -> bool:
        found = db.execute(
            "SELECT 1 FROM installation WHERE serial = ? AND thumbprint = ?", (serial, proven.thumbprint)
        ).fetchone()
        return found is not None

    return service.database.read(look)
