"""While the service runs: a signer that went away is looked for until it is back, and what was recorded meanwhile is signed.

Leaves to others: what "away" is, and how soon another try makes sense (``edge.signers``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from keyturn.core.errors import KeyturnError
from keyturn.edge.serverlog import Log
from keyturn.service.activation import ActivationService

FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0  # Seconds.


def begin(service: ActivationService) -> int:
    """Open the signer, and sign what a crash left unsigned; the result is how many.

    A signer that is away at the start, of which is known what it holds, keeps nobody from being served what needs none.
    Raises: KeyturnError ``signer_locked``; ``signer_unavailable`` for one that was never here.
    """
    home = service.home
    try:
        home.open_signer()
        return service.recover()
    except KeyturnError as error:
        if error.code != "signer_unavailable" or not home.signers or home.holder.away is None:
            raise
    return 0


@contextlib.asynccontextmanager
async def minded(service: ActivationService, log: Log) -> AsyncIterator[None]:
    """Mind the signer of ``service`` for as long as the block lasts."""
    loop, lost, holder = asyncio.get_running_loop(), asyncio.Event(), service.home.holder
    if holder.away is not None:
        lost.set()

    def watch(seconds: float | None) -> None:
        if seconds is None:
            loop.call_soon_threadsafe(lost.set)

    service.home.watchers.append(watch)
    task = asyncio.create_task(_mind(service, log, lost))
    try:
        yield
    finally:
        service.home.watchers.remove(watch)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _mind(service: ActivationService, log: Log, lost: asyncio.Event) -> None:
    holder, kind = service.home.holder, service.home.settings.signer
    while True:
        await lost.wait()
        log("signer_lost", {"signer": kind, "why": holder.away or "a signature failed"})
        delay, signed = FIRST_DELAY, None
        while signed is None:
            await asyncio.sleep(max(delay, holder.pause))
            delay = min(LONGEST_DELAY, 2 * delay)
            try:
                signed = await asyncio.to_thread(_try, service)
            except KeyturnError as error:
                if error.code == "signer_locked":  # Time does not mend a wrong PIN.
                    log("signer_lost", {"signer": kind, "why": error.detail})
                    return
        lost.clear()
        log("signer_back", {"signer": kind, "intents": signed})


def _try(service: ActivationService) -> int:
    service.home.open_signer()
    return service.recover()
