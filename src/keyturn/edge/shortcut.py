"""A short way for the request that comes most: from the parser to its handler and back, without ASGI in between.

Keeps: which requests take it, and their place in the connection (order, keep-alive, drain, who has gone). Leaves to others:
what the request gets (a :class:`Shortcut`, which the application has), and every other request (ASGI, ``keyturn.edge.limits``).

- Only what nobody could find fault with goes this way: known address, one plain header, a body of its length
  that comes with it.
- Only what goes well ends this way. Anything else goes on through the application, with what was found so far in its scope
  (:data:`FOUND`): so there is one place that refuses, and one that says what went wrong.
- It is never answered before the parser is done with what arrived: the answer comes in a later turn of the loop.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from keyturn.edge.limits import ALWAYS, plain_body
from keyturn.edge.web import JSON, PUBLIC, Route

PATIENCE = 0.5  # Seconds that a body may come after its header.
FOUND = "keyturn.found"  # Where in the scope the short way leaves how far it got.
_HEAD = b"".join(b"\r\n%s: %s" % field for field in ((b"content-type", JSON.encode()), *ALWAYS)) + b"\r\n\r\n"
_LAST_HEAD = b"\r\nconnection: close" + _HEAD


class Shortcut(Protocol):
    """What an application has as its ``shortcut``: a public POST of its table, and what begins it."""

    route: Route

    def begin(self, request: Short) -> None:
        """Take a request whose body is there. It ends by :meth:`Short.answer` in a later turn, or by :meth:`Short.go_on`."""


class Short:
    """One request on the short way; for uvicorn's protocol it is the cycle in work."""

    __slots__ = ("body", "disconnected", "keep_alive", "protocol", "response_complete", "scope", "whole")
    message_event = asyncio.Event()  # Nobody waits for it: the body is there.

    def __init__(self, protocol: ShortProtocol, scope: Any) -> None:
        self.protocol, self.scope = protocol, scope
        self.body = b""
        self.whole = self.disconnected = self.response_complete = False
        self.keep_alive = True

    def answer(self, body: bytes) -> None:
        """Send 200 with a JSON body; nothing, if nobody is there any more."""
        self.response_complete = True
        protocol = self.protocol
        if not protocol.transport.is_closing():
            head = b"%s%d%s" % (protocol.head(), len(body), _HEAD if self.keep_alive else _LAST_HEAD)
            protocol.transport.write(head + body)
            if not self.keep_alive:
                protocol.transport.close()
        protocol.on_response_complete()

    def go_on(self, found: object = None) -> None:
        """Let the application have it, with what was ``found``."""
        protocol, path = self.protocol, self.scope["raw_path"].decode("ascii")
        self.scope |= {"method": "POST", "path": path, "query_string": b""}
        if found is not None:
            self.scope[FOUND] = found
        cycle = RequestResponseCycle(
            scope=self.scope, transport=protocol.transport, flow=protocol.flow, logger=protocol.logger,
            access_logger=protocol.access_logger, access_log=protocol.access_log,
            default_headers=protocol.server_state.default_headers, message_event=asyncio.Event(), expect_100_continue=False,
            keep_alive=self.keep_alive, on_response=protocol.on_response_complete,
        )  # fmt: skip
        cycle.body, cycle.more_body, cycle.disconnected = bytearray(self.body), not self.whole, self.disconnected
        cycle.message_event.set()
        if protocol.cycle is self:
            protocol.cycle = cycle
        protocol._start_asgi_task(cycle, protocol.app)


class ShortProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the short way of its application, if that has one."""

    cycle: Any  # uvicorn's, a Short, or None until the first request.
    limit_concurrency: int

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        shortcut: Shortcut | None = getattr(self.app, "shortcut", None)
        self._route = None if shortcut is None else shortcut.route
        self._shortcut = shortcut
        self._target = b"" if shortcut is None else shortcut.route.path.encode()
        self._short: Short | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._own: object = None
        self._head = b""
        if self._route is not None and (self._route.access != PUBLIC or self._route.method != "POST"):
            raise ValueError(f"{self._route.path}: the short way is for what everybody may post")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._short is None:
            return
        if not self._short.whole:  # Many send the header first.
            self._patience = self._patience or self.loop.call_later(PATIENCE, self._leave)
            return
        short = self._leave(begun=True)
        if self._shortcut is not None:
            self._shortcut.begin(short)

    def _leave(self, *, begun: bool = False) -> Short:
        """The request that was arriving, which begins now; or its body does not come, and the application waits for it."""
        short, self._short = self._short, None
        assert short is not None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if not begun:
            short.go_on()
        return short

    def on_headers_complete(self) -> None:
        if self.url != self._target or self._route is None or not self._is_plain(self._route):
            super().on_headers_complete()
            return
        self.scope["raw_path"] = self.url
        self._short = short = Short(self, self.scope)
        self.cycle = short

    def on_body(self, body: bytes) -> None:
        if self._short is None or self.cycle is not self._short:
            super().on_body(body)
        else:
            self._short.body += body

    def on_message_complete(self) -> None:
        if self._short is None or self.cycle is not self._short:
            super().on_message_complete()
        else:
            self._short.whole = True

    def head(self) -> bytes:
        """An answer's head up to its length. uvicorn makes its own part of it, the date, anew each second."""
        own = self.server_state.default_headers
        if self._own is not own:
            fields = b"".join(b"%s: %s\r\n" % field for field in own)
            self._own, self._head = own, b"HTTP/1.1 200 OK\r\n%scontent-length: " % fields
        return self._head

    def _is_plain(self, route: Route) -> bool:
        """Nothing of this connection is in work, or waits to be sent, and the header leaves nothing to look into."""
        parser, cycle = self.parser, self.cycle
        return (
            (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
            and len(self.connections) < self.limit_concurrency
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and plain_body(self.headers, route)
        )

