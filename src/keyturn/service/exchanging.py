"""One document over HTTP: proven, recorded, signed, answered. By the application's way, or by the short one.

Keeps: the order of these steps, the same for both ways, and what is noted of them. Leaves to others: what a document does
(``activation``), limits (``edge.limits``, ``shedding``), connections (``edge.shortcut``), the log (``observing``).

- Both ways prove, record and answer by the same steps (:class:`Exchange`).
- The short way (:class:`ShortWay`) ends only in an answer: whatever else was found goes on through the application.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.model import Channel, product_id
from keyturn.edge.limits import Limits
from keyturn.edge.shedding import Admission, Shedding, admission
from keyturn.edge.shortcut import FOUND, Short
from keyturn.edge.together import Together
from keyturn.edge.web import NOTES, PUBLIC, Route, json_response
from keyturn.service.activation import ActivationService, Outcome, Proven, Returned
from keyturn.service.observing import Observed
from keyturn.service.seats import Intent
from keyturn.service.shedding import EXCHANGE, pass_on

_CHANNELS = frozenset(channel.value for channel in Channel)


class Begun(NamedTuple):
    """A document whose proofs hold, and the record that is being made: done when it is durable."""

    proven: Proven | Returned
    recorded: asyncio.Future[Outcome]


class Exchange:
    """The steps of an exchange in a running loop. ``together`` is where records are made."""

    def __init__(self, service: ActivationService, together: Together) -> None:
        self.service = service
        self.together = together

    def route(self) -> Route:
        return Route(EXCHANGE, "POST", self._exchange, PUBLIC)

    def begin(self, body: bytes, admitted: Admission, *, carried: bool = False) -> Begun | Refused:
        """Prove a document and let its record be made. ``carried``: `relay` says so; it lengthens what nobody can renew online.

        Raises: as ``ActivationService.prove``, and KeyturnError ``too_many_requests``.
        """
        text = token(body)
        admitted.look(text)
        proven = self.service.prove(text, self.together.look)
        pass_on(admitted, self.service, proven)
        if isinstance(proven, Refused):
            return proven
        return Begun(proven, self.service.record(proven, self.together.write, by_file=carried))

    def at_once(self, outcome: Outcome) -> bool:
        """Whether nothing is left but to answer, which no signer delays."""
        if isinstance(outcome, Intent):
            home = self.service.home
            return not home.holder.waits and (outcome.signature is not None or outcome.kid not in home.chain.revoked)
        return isinstance(outcome, int)

    async def answer(self, proven: Proven | Returned, outcome: Intent | int) -> Mapping[str, object]:
        """The answer to a recorded decision. While a slow signer works, everybody else is served.

        Raises: KeyturnError ``signer_unavailable``, without the reason: strangers read it.
        """
        service, write = self.service, self.together.write
        try:
            if isinstance(outcome, Intent) and isinstance(proven, Proven):
                outcome = await service.signed(outcome, write)
                if service.home.holder.waits and service.sends_product(proven):
                    return await asyncio.to_thread(service.answer, proven, outcome, service.database.write)
            return service.answer(proven, outcome, self.together.write_first)
        except KeyturnError as error:
            if error.code not in ("signer_unavailable", "signer_locked"):
                raise
            raise KeyturnError("signer_unavailable", retry_after=error.retry_after or 1) from error

    async def _exchange(self, request: Request) -> Response | Refused:
        found = request.scope.get(FOUND)  # By the short way, which did not end there.
        if isinstance(found, Exception):
            raise found
        if found is None:
            body = await request.body()
            found = self.begin(body, admission(request), carried=request.scope["query_string"] == b"by=file")
        if isinstance(found, Refused):
            return found
        assert isinstance(found, Begun)
        proven, notes = found.proven, request.scope.get(NOTES, {})
        notes |= noted(proven)
        outcome = await found.recorded  # Durable from here on.
        notes |= became(outcome)
        return outcome if isinstance(outcome, Refused) else json_response(await self.answer(proven, outcome))


class ShortWay:
    """What ``edge.shortcut`` takes an exchange to."""

    def __init__(self, exchange: Exchange, limits: Limits, shedding: Shedding, observed: Observed) -> None:
        self._exchange, self._limits, self._shedding, self._observed = exchange, limits, shedding, observed
        self.route = exchange.route()

    def begin(self, request: Short, ticks: Callable[[], float] = time.perf_counter) -> None:
        """1. Count it. 2. Prove it, and let it be recorded. 3. Once that is durable: sign, note it in the log, and answer."""
        # 1.
        began = ticks()
        if not self._limits.enter():
            request.go_on()
            return
        try:
            # 2.
            begun = self._exchange.begin(request.body, self._shedding.arrive(request.scope))
        except Exception as error:  # noqa: BLE001 - whatever it is, the application says it
            self._go_on(request, error)
            return
        if isinstance(begun, Refused):
            self._go_on(request, begun)
            return
        # 3.
        begun.recorded.add_done_callback(functools.partial(self._end, request, begun, lambda: ticks() - began))

    def _end(
        self, request: Short, begun: Begun, taken: Callable[[], float], recorded: asyncio.Future[Outcome]
    ) -> None:
        try:
            outcome = recorded.result()
            if isinstance(outcome, Refused) or not self._exchange.at_once(outcome):
                self._go_on(request, begun)
                return
            write = self._exchange.together.write_first
            body = msgspec.json.encode(self._exchange.service.answer(begun.proven, outcome, write))
        except Exception:  # noqa: BLE001 - the application meets it again, and says it
            self._go_on(request, begun)
            return
        self._limits.leave()
        self._observed.answered(self.route, taken(), noted(begun.proven) | became(outcome))
        request.answer(body)

    def _go_on(self, request: Short, found: object) -> None:
        self._limits.leave()
        request.go_on(found)


def token(body: bytes) -> str:
    """Raises: KeyturnError ``document_malformed``."""
    try:
        return body.decode("ascii")
    except UnicodeDecodeError as error:
        raise KeyturnError("document_malformed", "a document is ASCII text") from error


def noted(proven: Proven | Returned) -> dict[str, str]:
    """What a document's proofs let the log say: the key's public part, made anew.

    What a request says beside its serial is the sender's text.
    """
    if isinstance(proven, Returned):
        return {}
    return {"product_id": _known_id(proven.request.product.slug, proven.request.serial, proven.request.product_id)}


@functools.lru_cache(maxsize=1_024)
def _known_id(slug: str, serial: int, said: str) -> str:
    word = said[:-10].rpartition("-")[2]  # Before the serial with its dash.
    true = word in _CHANNELS and said == product_id(slug, Channel(word), serial)
    return said if true else f"serial-{serial:09d}"


def became(outcome: Outcome) -> dict[str, str]:
    """What the log and the figures say of a decision."""
    if isinstance(outcome, Refused):
        return {"outcome": "refused"}
    return {"outcome": "released" if isinstance(outcome, int) else outcome.how}
