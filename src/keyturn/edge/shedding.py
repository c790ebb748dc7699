"""What a server turns away when too much comes: new load first, renewals last.

Keeps: where a request is counted, and in which order. Leaves to others: the arithmetic (``ratelimit``), the answer 429 with its
``Retry-After`` (``limits``), and who it is that renews, which each program looks up in its own rows.

1. Every request is counted at its address, before anything is computed for it; but not those that are free.
2. Where that is used up, an exchange may still be a renewal: one that says so (it names an activation, or is a check-in) is
   proven out of a reserved share, and served if it is one. Everything else waits.
3. After the proof it is counted at its key, if it proved one, in the same manner.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.edge.ratelimit import Limiter, whole_seconds

HEALTH = frozenset({"/healthz", "/readyz"})
_ADMISSION = "keyturn.admission"


def _names_activation(token: str) -> bool:
    """What the document says, unverified: it decides only whether it is worth verifying."""
    try:
        return isinstance(jws.loads(jws.payload_of(token)).get("activation"), str)
    except KeyturnError:
        return False


class Admission:
    """One request's way past the limits. ``wait`` is what its address must wait, unless it renews; 0.0 is nothing."""

    def __init__(self, limiter: Limiter, address: str, ticks: Callable[[], float], wait: float) -> None:
        self._limiter = limiter
        self._address = address
        self._ticks = ticks
        self.wait = wait

    def look(self, token: str, renews: Callable[[str], bool] = _names_activation) -> None:
        """Before the proof: with nothing left at this address, only what says that it renews goes on.

        Raises: KeyturnError ``too_many_requests``.
        """
        if self.wait and not renews(token):
            raise _too_many(self.wait, "from this address")
        if self.wait:
            _stop(self._limiter.renew(self._address, self._ticks()), "from this address")

    def guess(self) -> None:
        """The proof failed: that costs its address more."""
        self._limiter.guess(self._address, self._ticks())

    def pass_on(self, holds: Callable[[], bool], serial: int | None = None) -> None:
        """After the proof: ``holds`` says whether this installation holds an activation, ``serial`` is the key it proved.

        Raises: KeyturnError ``too_many_requests``.
        """
        held: bool | None = None
        if self.wait:
            held = holds()
            if not held:
                self.guess()
                raise _too_many(self.wait, "from this address")
        if serial is None:
            return
        wait = self._limiter.key(serial, self._ticks())
        if not wait:
            return
        if held is None:
            held = holds()
        _stop(self._limiter.key_renew(serial, self._ticks()) if held else wait, "for this product key")


class Shedding:
    """ASGI middleware inside of ``limits.Limits``. ``exchange`` is the path that renewals are posted to, ``free`` paths are not
    counted. ``ticks`` is a clock that only goes forward, in seconds.
    """

    def __init__(
        self, app: ASGIApp, limiter: Limiter, *, exchange: str, free: Collection[str] = HEALTH,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._app = app
        self._limiter = limiter
        self._exchange = exchange
        self._free = frozenset(free)
        self._ticks = ticks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._free:
            admitted = self.arrive(scope)
            if admitted.wait and (scope["path"], scope["method"]) != (self._exchange, "POST"):
                raise _too_many(admitted.wait, "from this address")
        await self._app(scope, receive, send)

    def arrive(self, scope: Scope) -> Admission:
        """Count a request at its address: once, by whichever way it comes."""
        if _ADMISSION not in scope:
            client = scope.get("client")
            address = client[0] if client else ""
            wait = self._limiter.arrive(address, self._ticks())
            scope[_ADMISSION] = Admission(self._limiter, address, self._ticks, wait)
        found: Admission = scope[_ADMISSION]
        return found


def admission(request: Request) -> Admission:
    """The way past the limits that :class:`Shedding` gave to this request."""
    found = request.scope[_ADMISSION]
    assert isinstance(found, Admission)
    return found


def _stop(wait: float, where: str) -> None:
    if wait:
        raise _too_many(wait, where)


def _too_many(wait: float, where: str) -> KeyturnError:
    return KeyturnError("too_many_requests", f"Too many requests {where}.", retry_after=whole_seconds(wait))
