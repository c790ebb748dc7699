"""The agent's socket: who is let in, how much and how long, and that nobody can make the loop turn or wait."""

from __future__ import annotations

import json
import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyturn.client.agent_answers import refusal
from keyturn.core.capability import MAX_QUESTION
from keyturn.core.errors import KeyturnError
from keyturn.edge import agent_listen, netlink
from keyturn.edge.agent_listen import BURST, MOST_OF_ONE, PATIENCE, Listener

Made = Callable[..., "Loop"]


class Loop:
    """A listener and its selector, turned by hand, at a time of our choice."""

    def __init__(self, path: Path, *, allowed: bool = True) -> None:
        self.selector = selectors.PollSelector()
        self.now = 1000.0
        self.asked: list[bytes] = []
        self.listener = Listener(
            str(path), self.selector, allowed=lambda _uid: allowed, answer=self._answer, refuse=refusal
        )

    def _answer(self, line: bytes, uid: int) -> bytes:
        self.asked.append(line)
        assert uid == os.geteuid()
        return b'{"n":%d}\n' % len(self.asked) if line != b"much" else b"x" * 3_000_000 + b"\n"

    def turn(self, times: int = 6) -> int:
        """Let what is ready happen; how much that was."""
        done = 0
        for _ in range(times):
            events = self.selector.select(0)
            done += len(events)
            for key, mask in events:
                key.data(mask, self.now)
        return done

    def asker(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(5)
        made.connect(self.listener.path)
        self.turn()
        return made

    def ask(self, asker: socket.socket, line: bytes = b"{}\n") -> bytes:
        asker.sendall(line)
        self.turn()
        return asker.recv(65_536)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    loops: list[Loop] = []

    def make(**options: bool) -> Loop:
        loops.append(Loop(tmp_path / "run" / "agent.sock", **options))
        return loops[-1]

    yield make
    for loop in loops:
        loop.listener.close()
        loop.selector.close()


def code(answer: bytes) -> str:
    return str(json.loads(answer)["error"]["code"])


def test_questions_and_answers(made: Made) -> None:
    """Several on one connection, one after the other, in as many pieces as they come."""
    loop = made()
    with loop.asker() as asker:
        assert loop.ask(asker) == b'{"n":1}\n'
        asker.sendall(b"{")
        loop.turn()
        assert loop.ask(asker, b"}\n") == b'{"n":2}\n'
        assert loop.asked == [b"{}", b"{}"]


def test_a_stranger_is_told_so_and_nothing_is_read(made: Made) -> None:
    """The answer comes before a question; what was written is not looked at, and the connection ends."""
    loop = made(allowed=False)
    with loop.asker() as asker:
        assert code(asker.recv(4096)) == "permission_denied"
        assert asker.recv(1) == b""
    assert loop.asked == []


def test_a_line_has_an_end_and_a_size(made: Made) -> None:
    """4096 bytes pass, more do not, with or without the line's end; two questions at once are one too many."""
    loop = made()
    with loop.asker() as asker:
        assert loop.ask(asker, b"x" * MAX_QUESTION + b"\n") == b'{"n":1}\n'
    for much in (b"x" * (MAX_QUESTION + 1) + b"\n", b"x" * (MAX_QUESTION + 10)):
        with loop.asker() as asker:
            assert code(loop.ask(asker, much)) == "input_too_large"
            assert asker.recv(1) == b""
    with loop.asker() as asker:
        assert loop.ask(asker, b"{}\n{}\n") == b'{"n":2}\n'
        assert asker.recv(1) == b""


def test_whoever_is_silent_is_sent_away(made: Made) -> None:
    """Ten seconds for a question, told to the loop as its next deadline; an answered one has ten more."""
    loop = made()
    with loop.asker() as asker, loop.asker() as silent:
        assert loop.listener.deadline == loop.now + PATIENCE
        loop.now += PATIENCE - 1
        loop.ask(asker)
        loop.now += 2
        loop.listener.expire(loop.now)
        assert silent.recv(1) == b""
        assert loop.ask(asker) == b'{"n":2}\n'
    assert loop.turn() > 0
    assert loop.listener.deadline is None


def test_nobody_takes_all_places(made: Made) -> None:
    """One account has sixteen connections; the next is told to wait, and a closed one frees its place."""
    loop = made()
    askers = [loop.asker() for _ in range(MOST_OF_ONE)]
    with loop.asker() as late:
        assert code(late.recv(4096)) == "too_many_requests"
    askers.pop().close()
    loop.turn()
    with loop.asker() as late:
        assert loop.ask(late) == b'{"n":1}\n'
    for asker in askers:
        asker.close()
    loop.turn()


def test_nobody_asks_without_end(made: Made) -> None:
    """A burst of questions, then ten a second."""
    loop = made()
    with loop.asker() as asker:
        answers = [loop.ask(asker) for _ in range(int(BURST) + 1)]
        assert [answer for answer in answers if b"error" in answer] == answers[-1:]
        assert code(answers[-1]) == "too_many_requests"
        loop.now += 0.1
        assert b"error" not in loop.ask(asker)
        assert code(loop.ask(asker)) == "too_many_requests"


def test_who_does_not_read_waits_alone(made: Made) -> None:
    """A large answer to somebody who reads nothing: others are served, the loop rests, and the patience ends."""
    loop = made()
    with loop.asker() as lazy, loop.asker() as other:
        lazy.sendall(b"much\n")
        loop.turn()
        assert loop.ask(other) == b'{"n":2}\n'
        assert loop.turn() == 0  # Nothing is ready: the loop would sleep.
        received = bytearray()

        def read() -> None:
            while not received.endswith(b"\n"):
                received.extend(lazy.recv(65_536))

        reader = threading.Thread(target=read)
        reader.start()
        while reader.is_alive():
            for key, mask in loop.selector.select(1):
                key.data(mask, loop.now)
        reader.join()
        assert len(received) == 3_000_001


def test_the_sockets_file(tmp_path: Path, made: Made) -> None:
    """Everybody may connect; a dead socket is replaced, a living one and another file are not; the file goes at the end."""
    loop = made()
    path = Path(loop.listener.path)
    assert path.stat().st_mode & 0o777 == 0o666
    with pytest.raises(KeyturnError) as error:
        agent_listen._bound(str(path))
    assert error.value.code == "agent_running"
    plain = tmp_path / "plain"
    plain.write_text("mine")
    with pytest.raises(KeyturnError) as error:
        agent_listen._bound(str(plain))
    assert (error.value.code, plain.read_text()) == ("listen_failed", "mine")
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    agent_listen._bound(str(dead)).close()
    with pytest.raises(KeyturnError) as error:
        agent_listen._bound(str(tmp_path / ("long" * 40)))
    assert error.value.code == "listen_failed"


# --- the kernel's word that a link came up ----------------------------------------------------------------------------


def message(kind: int, address: bytes, *, scope: int = 0, flags: int = 0, index: int = 2) -> bytes:
    """An rtnetlink message as the kernel writes it, by hand from rtnetlink(7)."""
    attribute = (4 + len(address)).to_bytes(2, "little") + (1).to_bytes(2, "little") + address
    body = bytes([2, 24, flags, scope]) + index.to_bytes(4, "little") + attribute
    return (16 + len(body)).to_bytes(4, "little") + kind.to_bytes(2, "little") + bytes(10) + body


class TestNetlink:
    """What counts as a link that comes up."""

    ONE, OTHER = bytes([192, 0, 2, 7]), bytes([192, 0, 2, 8])

    def watch(self) -> netlink.Watch:
        return netlink.Watch()

    def test_only_a_new_global_address_is_news(self) -> None:
        """Announced again it is none; gone and there again it is; loopback, local scope and tentative ones are none."""
        watch = self.watch()
        heard = [
            watch.heard(message(20, self.ONE)), watch.heard(message(20, self.ONE)), watch.heard(message(20, self.OTHER)),
            watch.heard(message(21, self.ONE)), watch.heard(message(20, self.ONE)), watch.heard(message(20, self.ONE, index=3)),
            watch.heard(message(20, bytes([127, 0, 0, 1]), scope=254)),
            watch.heard(message(20, b"\xfe\x80" + bytes(14), scope=253)),
            watch.heard(message(20, bytes([198, 51, 100, 1]), flags=0x40)), watch.heard(message(16, self.OTHER)),
        ]  # fmt: skip
        assert heard == [True, False, True, False, True, True, False, False, False, False]
        watch.close()

    @pytest.mark.parametrize("data", [b"", b"\0" * 15, b"\xff" * 64, message(20, b"1234")[:-3], bytes(64)])
    def test_what_is_no_message_is_passed_over(self, data: bytes) -> None:
        assert list(netlink.addresses(data)) == []
