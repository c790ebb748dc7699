"""A server in this process: its sockets, TLS, the probe listener, and an orderly end.

Keeps: listening (port 0 too), TLS 1.2 or newer, the plain-HTTP probe on its own port, bounds on connections that do not
become requests, draining. Leaves to others: requests (``keyturn.edge.limits``), routes (``keyturn.edge.web``).

- The sockets are bound here, so the actual ports are known before anything is said to be ready.
- SIGTERM, SIGINT or ``stop``: no new connections, requests in work are finished, then :func:`serve` returns normally.
- The probe answers ``GET /probe`` with 204 and everything else with 404, never with a body.
- A header must arrive within 10 seconds and 64 KiB, or the connection is closed: a slow header costs a socket, no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple, TypeVar

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from keyturn.core.errors import KeyturnError

try:
    from keyturn.edge.shortcut import ShortProtocol as _Base
except ImportError:
    _Base = H11Protocol  # type: ignore[assignment,misc]

KEEP_ALIVE = 65  # Seconds: longer than the 60 of usual load balancers, so that they close first.
DRAIN = 30  # Seconds that requests in work get after a signal.
HEAD_TIMEOUT = 10.0
LINGER = 5.0  # Seconds that a closed TLS connection may go on sending before it is cut; the default would be 30.
MAX_HEAD = 65_536
MAX_CONNECTIONS = 4_096
BACKLOG = 2_048

T = TypeVar("T")


class Ready(NamedTuple):
    """Where the server listens now. ``probe_port`` is ``None`` without a probe listener."""

    port: int
    probe_port: int | None
    pid: int


class _Joined:
    """A transport that sends an answer's head and body together: one record of TLS and one system call instead of two."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        self.flush()  # Whatever else is asked of the transport (to close, to pause), comes after what was written.
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return bool(self._transport.is_closing())

    def write(self, data: bytes) -> None:
        if self._held:
            self._held += data
            self.flush()
        else:
            self._held = data
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)


class _Protocol(_Base):
    """uvicorn's protocol with a bound on the time and size of what comes before a request is in work."""

    _alarm: asyncio.TimerHandle | None = None
    _waiting_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.transport: Any = _Joined(transport, self.loop)
        self._alarm = self.loop.call_later(HEAD_TIMEOUT, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._waiting_bytes += len(data)
        super().data_received(data)
        if not self._idle():  # Never the end of an answer: that comes in a later turn.
            self._disarm()
            return
        if self._alarm is None:
            self._alarm = self.loop.call_later(HEAD_TIMEOUT, self.transport.abort)
        if self._waiting_bytes > MAX_HEAD and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n")
            self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self.loop.call_later(LINGER, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _idle(self) -> bool:
        cycle: Any = self.cycle  # None until the first request, whatever uvicorn's annotation says.
        return cycle is None or bool(cycle.response_complete)

    def _disarm(self) -> None:
        self._waiting_bytes = 0
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


class _Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers, and with an event for the moment it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would take the signals over, once per server, and give them back in whatever order the servers end.
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening.set()

    async def listening_or_ended(self, task: asyncio.Task[None]) -> None:
        """Wait until the server, which runs as ``task``, listens, or has failed to."""
        listening = asyncio.create_task(self._listening.wait())
        await asyncio.wait([listening, task], return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()


async def serve(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    probe_host: str | None = None,
    probe_port: int | None = None,
    probe_ready: Callable[[], bool] | None = None,
    on_ready: Callable[[Ready], None],
    stop: asyncio.Event,
) -> None:
    """Serve ``app`` until ``stop`` is set or a signal comes; return when the last request in work is answered.

    1. Bind the sockets. 2. Listen on both. 3. Say that it is ready. 4. Wait. 5. Drain.

    Without ``tls_cert`` (a file with the chain, and the key too if there is no ``tls_key``) it speaks plain HTTP, for use
    behind a proxy. The probe listener exists if ``probe_port`` is given; it answers 503 while ``probe_ready()`` is false.
    Signals are handled in the main thread only.

    Raises: KeyturnError ``listen_failed`` if an address is not free, ``file_malformed`` if certificate or key is unusable.
    """
    context = None if tls_cert is None else server_context(tls_cert, tls_key)
    with contextlib.ExitStack() as stack:
        main = stack.enter_context(_bind(host, port))
        servers = [(_Server(_config(app, context)), main)]
        probe = None
        if probe_port is not None:
            probe = stack.enter_context(_bind(probe_host or host, probe_port))
            servers.append((_Server(_config(_probe_app(probe_ready), None)), probe))
        ready = Ready(main.getsockname()[1], probe.getsockname()[1] if probe else None, os.getpid())

        stack.enter_context(_signals(stop, [server for server, _ in servers]))
        tasks = [asyncio.create_task(server.serve(sockets=[sock])) for server, sock in servers]
        stopping = asyncio.create_task(stop.wait())
        try:
            for (server, _), task in zip(servers, tasks, strict=True):
                await server.listening_or_ended(task)
            if not any(task.done() for task in tasks):
                on_ready(ready)
                await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            for server, _ in servers:
                server.should_exit = True
            await asyncio.gather(*tasks)


def raise_file_limit() -> int:
    """Let this process have as many files and connections open as its hard limit allows; the result is that number.

    Shells and systemd begin with a soft limit of 1024, for the sake of programs that use ``select``; this is none.
    """
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a program's coroutine, on uvloop where it is installed."""
    factory = None
    if importlib.util.find_spec("uvloop") is not None:
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


@contextlib.contextmanager
def background(app: ASGIApp, **options: Any) -> Iterator[Ready]:
    """Serve ``app`` in a thread for as long as the block lasts: for tests and demonstrations.

    ``options`` are those of :func:`serve` but ``on_ready`` and ``stop``. Raises: what :func:`serve` raises.
    """
    started = threading.Event()
    state: dict[str, Any] = {}

    async def main() -> None:
        state["loop"], state["stop"] = asyncio.get_running_loop(), asyncio.Event()

        def on_ready(ready: Ready) -> None:
            state["ready"] = ready
            started.set()

        await serve(app, **{"host": "127.0.0.1", "port": 0, **options}, on_ready=on_ready, stop=state["stop"])

    def thread_main() -> None:
        try:
            run(main())
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that waits for it
            state["error"] = error
        finally:
            started.set()

    thread = threading.Thread(target=thread_main, name="keyturn-server")
    thread.start()
    started.wait()
    try:
        if "ready" in state:
            yield state["ready"]
    finally:
        with contextlib.suppress(RuntimeError, KeyError):  # The loop has ended already, or never began.
            state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join()
    if "error" in state:
        raise state["error"]


def server_context(certificate: str, key: str | None) -> ssl.SSLContext:
    """TLS 1.2 with forward secrecy, or 1.3. Raises: KeyturnError ``file_malformed``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # Of TLS 1.2; those of 1.3 are all good.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A password would be asked for on the terminal of a service: an encrypted key is refused instead.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise KeyturnError("file_malformed", f"The certificate {certificate} with its key: {why}") from error
    return context


def _config(app: ASGIApp, context: ssl.SSLContext | None) -> uvicorn.Config:
    # Everything it would say is said by Limits with a reference, or is noise that strangers make.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        workers=1,
        backlog=BACKLOG,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=DRAIN,
        ssl_context_factory=None if context is None else lambda *_: context,
    )


@contextlib.contextmanager
def _bind(host: str, port: int) -> Iterator[socket.socket]:
    sock = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # `::` is every address, those of IPv4 too, whatever the system's default is.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise KeyturnError("listen_failed", f"{host}:{port}: {error.strerror or error}") from error
    with sock:
        yield sock


@contextlib.contextmanager
def _signals(stop: asyncio.Event, servers: list[_Server]) -> Iterator[None]:
    """Let the first SIGTERM or SIGINT set ``stop``, and a second one cut the drain short."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle() -> None:
        for server in servers:
            server.force_exit = stop.is_set()
        stop.set()

    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _probe_app(ready: Callable[[], bool] | None) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found = scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"] == "/probe"
        status = 404 if not found else 204 if ready is None or ready() else 503
        headers = [(b"cache-control", b"no-store"), (b"connection", b"close")]
        if status != 204:
            headers.append((b"content-length", b"0"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    return app
