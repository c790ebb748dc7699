"""Running a server of an organization: listen, say that it is ready, do what is due beside the requests, end in order.

Keeps: what host and fleet manager do alike. Leaves to others: what they serve, and what is due (their own ``tending``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from starlette.types import ASGIApp

from keyturn.core.errors import KeyturnError
from keyturn.edge import files
from keyturn.edge import listen as listening
from keyturn.edge.settings import LISTENING
from keyturn.edge.terminal import Call, address
from keyturn.flows.installing import LOOPBACK


class Tending(Protocol):
    """What a server does beside its requests: ``turn`` what is due, every ``look`` seconds, and ``close`` in the end."""

    look: int

    def turn(self) -> None: ...

    def close(self) -> None: ...


def serve(
    call: Call, listen: str, app: Callable[[int], ASGIApp], tend: Callable[[int], Tending], home: Path,
    tls: tuple[str, str], *, allow_root: bool,
) -> None:  # fmt: skip
    """Serve until SIGTERM or SIGINT; ``app`` is given the port that was asked for, ``tend`` the one that it listens on.

    1. Root listens beyond this computer only if it was allowed to.
    2. Once it listens: where, into the home, and said on stdout (one line of JSON with ``--json``).
    3. What is due is done in a thread, beside the requests, until the end.

    Raises: KeyturnError ``loopback_only``, ``usage``, ``listen_failed``, ``file_malformed``.
    """
    # 1.
    at, port = address(listen)
    if os.geteuid() == 0 and not allow_root and at not in LOOPBACK:
        raise KeyturnError("loopback_only", f"listening on {at} as root")
    listening.raise_file_limit()

    async def main() -> None:
        stop = asyncio.Event()
        bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        # 2.
        def ready(found: listening.Ready) -> None:
            place = f"{f'[{at}]' if ':' in at else at}:{found.port}"
            files.write_json(home / LISTENING, {"listen": place})
            bound.set_result(found.port)
            said = {"event": "ready", "url": f"https://{place}", "pid": found.pid}
            print(json.dumps(said) if call.json else f"Ready at https://{place}", flush=True)  # noqa: T201 (a line at once)

        # 3.
        async def tended() -> None:
            tending = tend(await bound)
            while not stop.is_set():
                await asyncio.to_thread(tending.turn)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), tending.look)
            await asyncio.to_thread(tending.close)

        beside = asyncio.create_task(tended())
        try:
            await listening.serve(app(port), host=at, port=port, tls_cert=tls[0], tls_key=tls[1], on_ready=ready, stop=stop)
        finally:
            stop.set()
            if not bound.done():
                beside.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beside

    listening.run(main())
