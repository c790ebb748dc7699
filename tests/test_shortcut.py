"""The short way of the request that comes most: who takes it, in which order, and that nobody can tell it from the long one."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import queue
import re
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from admin_world import ADMIN, Served, served
from keyturn.edge import listen, serverlog, shortcut
from keyturn.edge.limits import Limits
from keyturn.edge.ratelimit import Rate, Rates
from keyturn.edge.shortcut import FOUND, Short, ShortProtocol
from keyturn.edge.together import Together
from keyturn.edge.web import PUBLIC, Route, application
from keyturn.service import app as service_app
from test_activation import request_of

LONG = "application/jose; way=long"  # The same type, said so that somebody has to look.


class Site:
    """An application with a short way whose requests wait until the test says what becomes of them."""

    def __init__(self) -> None:
        self.route = Route("/echo", "POST", self._echo, PUBLIC)
        self.shorts: queue.SimpleQueue[Short] = queue.SimpleQueue()
        self.found: list[object] = []
        self.limits: ASGIApp = Limits(application([self.route]), routes=[self.route], log=lambda _event, _fields: None)
        self.shortcut = self
        self.port = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.limits(scope, receive, send)

    def begin(self, request: Short) -> None:
        self.shorts.put(request)

    async def _echo(self, request: Request) -> Response:
        self.found.append(request.scope.get(FOUND))
        return Response(b"long " + await request.body())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def next(self) -> Short:
        return self.shorts.get(timeout=10)

    @staticmethod
    def tell(short: Short, found: object = None) -> None:
        """Answer it, or let it go on with what was found."""
        act = (lambda: short.answer(b"short " + short.body)) if found is None else (lambda: short.go_on(found))
        short.protocol.loop.call_soon_threadsafe(act)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    with listen.background(made) as ready:
        made.port = ready.port
        yield made


def post(body: bytes, *headers: str, kind: str = "application/jose", path: str = "/echo") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def answers(connection: socket.socket, count: int) -> list[bytes]:
    """The bodies of the next answers."""
    data = b""
    found: list[bytes] = []
    while len(found) < count:
        head, there, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if there and length is not None and len(body) >= int(length[1]):
            found.append(body[: int(length[1])])
            data = body[int(length[1]) :]
            continue
        more = connection.recv(65_536)
        assert more, data
        data += more
    assert data == b""
    return found


def test_a_plain_request_takes_it_and_the_connection_is_kept(site: Site) -> None:
    """Twice on one connection: the second one begins where the first one ended."""
    with site.connect() as connection:
        for body in (b"one", b"two"):
            connection.sendall(post(body))
            site.tell(site.next())
            assert answers(connection, 1) == [b"short " + body]


@pytest.mark.parametrize(
    "request_",
    [
        post(b"x", kind=LONG), post(b"x", "Content-Encoding: identity"), post(b"x", path="/echo?a=b"),
        post(b"x", "Expect: 100-continue"), post(b"x").replace(b"HTTP/1.1", b"HTTP/1.0"), post(b"x", "Connection: close"),
        post(b"x", *(f"X-{n}: y" for n in range(62))), post(b"x", "X-A: b", "X-A: b"),
        post(b"1\r\nx\r\n0\r\n\r\n", "Transfer-Encoding: chunked").replace(b"Content-Length: 11\r\n", b""),
    ],
)  # fmt: skip
def test_whatever_has_to_be_looked_at_takes_the_long_way(site: Site, request_: bytes) -> None:
    with site.connect() as connection:
        connection.sendall(request_)
        data = b""
        while b"long x" not in data and b" 431 " not in data:
            data += connection.recv(65_536)
    assert site.shorts.empty()


def test_a_body_may_come_after_its_header(site: Site) -> None:
    """As most clients send it."""
    whole = post(b"in two")
    with site.connect() as connection:
        connection.sendall(whole[:-6])
        with site.connect() as other:  # What it is answered, the server was given after the first piece.
            other.sendall(post(b"x", kind=LONG))
            assert answers(other, 1) == [b"long x"]
        connection.sendall(whole[-6:])
        site.tell(site.next())
        assert answers(connection, 1) == [b"short in two"]


def test_a_body_that_comes_late_takes_the_long_way(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application waits for it, as it does for every body."""
    monkeypatch.setattr(shortcut, "PATIENCE", 0)
    whole = post(b"late")
    with site.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(whole[:-2])
        with site.connect() as other:  # What it is answered, the server was given after the first piece.
            other.sendall(post(b"x", kind=LONG))
            assert answers(other, 1) == [b"long x"]
        connection.sendall(whole[-2:])
        assert answers(connection, 1) == [b"long late"]
    assert site.shorts.empty()


def test_answers_come_in_the_order_of_their_requests(site: Site) -> None:
    """Three at once, by both ways: nobody overtakes."""
    with site.connect() as connection:
        connection.sendall(post(b"1") + post(b"2", kind=LONG) + post(b"3"))
        site.tell(site.next())
        assert answers(connection, 3) == [b"short 1", b"long 2", b"long 3"]
    assert site.shorts.empty()


def test_what_does_not_end_here_goes_on_with_what_was_found(site: Site) -> None:
    with site.connect() as connection:
        connection.sendall(post(b"1") + post(b"2"))
        site.tell(site.next(), found := KeyError("so far"))
        assert answers(connection, 2) == [b"long 1", b"long 2"]
    assert site.found == [found, None]


def test_who_has_gone_is_told_nothing(site: Site) -> None:
    """The connection is closed while its request is in work: no answer, no fault, and others are served."""
    connection = site.connect()
    connection.sendall(post(b"gone"))
    short = site.next()
    connection.close()
    loop, seen = short.protocol.loop, threading.Event()

    def gone() -> None:
        seen.set() if short.disconnected else loop.call_soon(gone)

    loop.call_soon_threadsafe(gone)
    assert seen.wait(10)
    site.tell(short)
    with site.connect() as other:
        other.sendall(post(b"x"))
        site.tell(site.next())
        assert answers(other, 1) == [b"short x"]


def test_a_drain_answers_what_is_in_work_and_closes() -> None:
    made, told = Site(), []
    with listen.background(made) as ready:
        made.port = ready.port
        connection = made.connect()
        connection.sendall(post(b"last"))
        short = made.next()

        def ask() -> None:
            with connection:
                told.append(b"".join(iter(lambda: connection.recv(65_536), b"")))

        def draining() -> None:
            made.tell(short) if not short.keep_alive else short.protocol.loop.call_soon(draining)

        short.protocol.loop.call_soon_threadsafe(draining)
        asking = threading.Thread(target=ask)
        asking.start()
    asking.join()
    assert told[0].endswith(b"short last")
    assert b"\r\nconnection: close\r\n" in told[0]


@pytest.mark.parametrize("change", [{"access": "admin"}, {"method": "GET"}])
def test_only_what_everybody_may_post_has_a_short_way(change: dict[str, str]) -> None:
    """A route that a guard stands before is not served by it at all: no connection is."""
    made = Site()
    made.route = made.route._replace(**change)  # type: ignore[arg-type]

    async def connected() -> None:
        ShortProtocol(listen._config(made, None), ServerState(), {})

    with pytest.raises(ValueError, match="what everybody may post"):
        asyncio.run(connected())


# The service's own.


class Counted:
    """A short way, and how often it was begun."""

    def __init__(self, way: Any) -> None:
        self.route, self._way, self.begun = way.route, way, 0

    def begin(self, request: Short) -> None:
        self.begun += 1
        self._way.begin(request)


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as made:
        yield made


def ask(there: Served, token: str, kind: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers but those that are another each time, and body."""
    answer = there.client().post("/v1/exchange", content=token.encode(), headers={"Content-Type": kind})
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "content-length")}
    return answer.status_code, headers, answer.json()


def lines_of(there: Served) -> list[dict[str, Any]]:
    """The log's lines so far. By the application's way a line follows its answer in the same turn of the loop: ask once more."""
    assert there.client().get("/healthz").status_code == 200
    return there.lines


def test_nobody_can_tell_the_ways_apart(there: Served) -> None:
    """New, again, no seat left, unknown key, no document: the same answers but for names, lines of the log and figures."""
    way = there.app.shortcut = Counted(there.app.shortcut)  # type: ignore[attr-defined]
    minted = there.client("mint").post(f"{ADMIN}/keys", json={"product": "sample", "count": 2}).json()["keys"]
    seen: list[list[Any]] = []
    for kind, key in zip(("application/jose", LONG), minted, strict=True):
        before, begun = len(lines_of(there)), way.begun
        first, second = (request_of(there.world, key["key"], home=f"{kind[-4:]}{n}") for n in range(2))
        unknown = first[: first.rindex(".")] + "." + second[second.rindex(".") + 1 :]
        found = [ask(there, token, kind) for token in (first, first, second, unknown, "x.y.z", "\xe9")]
        assert found[0][2]["certificate"] == found[1][2]["certificate"]
        lines = lines_of(there)[before:]
        for line in lines:
            line |= {name: len(str(line[name])) for name in ("at", "request", "reference") if name in line}
            assert line.pop("ms") >= 0
        assert [line.pop("product_id", None) for line in lines] == [key["product_id"]] * 3 + [None] * 3
        seen.append([[(status, headers, sorted(body), body.get("code")) for status, headers, body in found], lines])
        assert way.begun - begun == (6 if kind == "application/jose" else 0)
    assert [status for status, *_ in seen[0][0]] == [200, 200, 409, 400, 400, 400]
    assert seen[0] == seen[1]


def test_a_request_that_goes_on_is_counted_once(there: Served) -> None:
    """Four requests at once are allowed here: four get their "no" from the key, and the fifth from the limit."""
    log = serverlog.open_log(there.world.clock, there.log)
    built = service_app.build(there.service, log, rates=Rates(address=Rate(0.001, 4)))
    minted = there.client("mint").post(f"{ADMIN}/keys", json={"product": "sample"}).json()["keys"][0]
    taken, other = (request_of(there.world, minted["key"], home=f"home{n}") for n in range(2))
    there.service.exchange(taken)
    statuses = []
    with listen.background(built) as ready:
        connection = http.client.HTTPConnection("127.0.0.1", ready.port, timeout=10)
        for _ in range(5):
            connection.request("POST", "/v1/exchange", other.encode(), {"Content-Type": "application/jose"})
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()
    assert statuses == [409, 409, 409, 409, 429]


def test_a_decision_is_on_the_disk_before_it_is_signed(there: Served) -> None:
    """Whenever a signature is made, another connection finds the decision that it is for: by both ways."""
    minted = there.client("mint").post(f"{ADMIN}/keys", json={"product": "sample", "count": 2}).json()["keys"]
    decided: list[int] = []

    def signed(_seconds: float | None) -> None:
        with contextlib.closing(sqlite3.connect(there.service.database.path)) as db:
            decided.append(db.execute("SELECT count(*) FROM intent").fetchone()[0])

    there.service.home.watchers.append(signed)
    for kind, key in zip(("application/jose", LONG), minted, strict=True):
        assert ask(there, request_of(there.world, key["key"], home=kind[-4:]), kind)[0] == 200
    assert decided == [1, 2]


def test_a_signature_is_kept_with_its_decision(there: Served) -> None:
    """After the answer nothing is left for the next start to sign."""
    minted = there.client("mint").post(f"{ADMIN}/keys", json={"product": "sample"}).json()["keys"][0]
    assert ask(there, request_of(there.world, minted["key"]), "application/jose")[0] == 200
    there.service.database.write_now(lambda _db: None)  # Whatever was asked before it is written by now.
    assert there.service.recover() == 0


# What the loop does once for a turn.


def test_look_ups_of_one_turn_are_of_one_snapshot(there: Served) -> None:
    """What is written meanwhile is found in the next turn, and no snapshot is left open."""
    database = there.service.database
    together = Together(database)

    def count() -> int:
        return int(together.look("SELECT count(*) FROM organization WHERE ?", (1,))[0])

    async def turns() -> list[int]:
        found = [count()]
        database.write_now(lambda db: db.execute("INSERT INTO organization VALUES ('o', 'o', 0)").rowcount)
        found.append(count())
        await asyncio.sleep(0)
        return [*found, count()]

    assert asyncio.run(turns()) == [0, 0, 1]
    assert asyncio.run(turns_of(count)) == 1
    with contextlib.closing(sqlite3.connect(database.path)) as db:
        assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0  # Nobody reads.


async def turns_of(count: Any) -> int:
    """One look-up in another loop: what the last one left open is not found in it."""
    return int(count())


class Chunks(io.BytesIO):
    """A stream that knows how often it was written to."""

    calls = 0

    def write(self, data: Any, /) -> int:
        self.calls += 1
        return super().write(data)


def test_lines_of_one_turn_are_written_by_one_call_before_what_follows() -> None:
    """And whoever logs at once meanwhile, from a thread too, overtakes none of them; none is lost with its loop."""
    out = Chunks()
    log = serverlog.open_log(lambda: 0, out)
    seen: list[int] = []

    async def turn() -> None:
        for number in range(3):
            log.soon("line", {"number": number})
        asyncio.get_running_loop().call_soon(lambda: seen.append(out.getvalue().count(b"\n")))
        assert out.calls == 0
        await asyncio.sleep(0)
        assert (out.calls, seen) == (1, [3])
        log.soon("line", {"number": 3})
        thread = threading.Thread(target=log, args=("line", {"number": 4}))
        thread.start()
        thread.join()
        assert out.calls == 2
        log.soon("line", {"number": 5})

    for _ in range(2):
        asyncio.run(turn())
        assert [json.loads(line)["number"] for line in out.getvalue().splitlines()] == [0, 1, 2, 3, 4, 5]
        out.seek(0)
        out.truncate()
        out.calls = 0
        seen.clear()
