"""The agent's loop: it sleeps in one call until something happens or is due, answers at once, and does the rest in a child.

Keeps: the selector, signals, the child process of a turn, and the start and end of an agent.
Leaves to others: what is due (``client.agent_diary``), what a turn does (``client.agent_turn``), answers
(``client.agent_answers``), the socket (``edge.agent_listen``).

- One thread. A turn runs in a forked child that ends: it reads the hardware anew, loads the network's libraries and gives
  all of its memory back; a service that hangs keeps no asker waiting.
- It sleeps for an hour at most: poll(2) does not count the time of a suspend.
- SIGTERM and SIGINT end it at once: a turn is ended with it, and whatever it was doing is finished by the next (a request
  is durable before it is sent). SIGHUP looks now, and tries again now.
- A child that does not end is killed after 15 minutes.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

from keyturn.client import agent_turn
from keyturn.client.agent_answers import Answers, refusal
from keyturn.client.agent_diary import Diary
from keyturn.client.agent_turn import Report, Visit
from keyturn.client.machine import Machine
from keyturn.client.policies import minute_of_day, policy_of
from keyturn.client.telling import Teller
from keyturn.core import schedule
from keyturn.core.errors import KeyturnError
from keyturn.edge import files, netlink
from keyturn.edge.agent_listen import Listener
from keyturn.edge.vault import Vault

if sys.platform != "linux":  # Signals, descriptors and credentials as Linux has them.
    raise ImportError("the agent is there on Linux only")

LONGEST_SLEEP = schedule.HOUR
TURN_LIMIT = 15 * schedule.MINUTE
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def elapsed() -> int:
    """Seconds of a clock that nobody sets and that goes on in suspend."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


class Turn:
    """The child process of one turn: what it has written so far, and until when it may run."""

    def __init__(self, process: int, reading: int, contact: frozenset[str] | None) -> None:
        self.process, self.reading, self.contact = process, reading, contact
        self.written = bytearray()
        self.deadline = time.monotonic() + TURN_LIMIT


class Agent:
    """The agent of one store. ``machine`` makes the computer anew, for each look."""

    def __init__(
        self,
        vault: Vault,
        machine: Callable[[], Machine],
        *,
        at: str | None,
        say: Callable[[str], None],
        turned: Callable[[Mapping[str, Report], int], None] = lambda _reports, _seconds: None,
    ) -> None:
        """``at`` is the socket, if programs may ask. ``turned`` hears what each turn reports, and the seconds to the next."""
        self._vault, self._machine, self._say, self._turned_to = vault, machine, say, turned
        self._here = machine()
        self._teller = Teller(vault, self._here, agent_turn.PROGRAM)
        self._answers = Answers(vault, self._here)
        self._selector = selectors.PollSelector()  # Not epoll: a child would share it with its parent.
        self._diary = Diary(elapsed(), self._chance)
        self._turn: Turn | None = None
        self._stopping = False
        self._at = at
        self._listener: Listener | None = None
        self._watch: netlink.Watch | None = None

    def run(self, ready: Callable[[], None]) -> None:
        """Work until a signal ends it. ``ready`` is called once programs can ask.

        Raises: KeyturnError ``listen_failed``, ``agent_running``.
        """
        with self._signals(), contextlib.closing(self._selector):
            if self._at is not None:
                self._listener = Listener(
                    self._at, self._selector, allowed=self._answers.allowed, answer=self._answers.answer, refuse=refusal
                )
            self._watch = self._watched()
            self._teller.tell("agent_started", socket=self._at)
            try:
                ready()
                self._begin(agent_turn.EVERY)
                while not self._stopping:
                    self._step()
            finally:
                self._end()
            self._teller.tell("agent_stopped")

    def _step(self) -> None:
        """Sleep until something happens or is due, and do it."""
        for key, events in self._selector.select(self._pause()):
            key.data(events, time.monotonic())
        now = time.monotonic()
        if self._listener is not None:
            self._listener.expire(now)
        if self._turn is not None and self._turn.deadline <= now:
            os.kill(self._turn.process, signal.SIGKILL)  # Its end is seen as that of any turn.
            self._turn.deadline = now + TURN_LIMIT
        if self._turn is None and not self._stopping and self._diary.next <= elapsed():
            self._begin(self._diary.due(elapsed()))

    def _pause(self) -> float:
        """Seconds until the next thing is due."""
        now = time.monotonic()
        due = self._turn.deadline - now if self._turn is not None else float(self._diary.next - elapsed())
        if self._listener is not None and self._listener.deadline is not None:
            due = min(due, self._listener.deadline - now)
        return max(0.0, min(due, LONGEST_SLEEP))

    # A turn, in a child.

    def _begin(self, contact: frozenset[str] | None) -> None:
        reading, writing = os.pipe()
        checks_in = self._diary.fleet_due(elapsed())
        process = os.fork()
        if process == 0:
            self._child(writing, contact, checks_in)
        os.close(writing)
        self._turn = Turn(process, reading, contact)
        self._selector.register(reading, selectors.EVENT_READ, self._read_turn)

    def _child(self, writing: int, contact: frozenset[str] | None, checks_in: bool) -> NoReturn:
        """Take the turn and write the report; nothing of the parent's is touched, and nothing returns from here."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            if self._listener is not None:
                self._listener.forget()
            reports = agent_turn.turn(
                self._vault, self._machine(), contact=contact, chance=self._diary.chances
            )
            visit = agent_turn.check_in(self._vault, self._machine()) if checks_in else None
            with os.fdopen(writing, "w") as stream:
                json.dump({"products": {name: list(report) for name, report in reports.items()}, "fleet": visit}, stream)
            status = 0
        except Exception as error:  # noqa: BLE001 (a child must not come back into its parent's code; said, and tried again)
            place = error.__traceback__
            while place is not None and place.tb_next is not None:
                place = place.tb_next
            where = f"{place.tb_frame.f_globals.get('__name__')}:{place.tb_lineno}" if place is not None else "?"
            self._say(f"A turn failed: {type(error).__name__} in {where}")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _read_turn(self, _events: int, _now: float) -> None:
        turn = self._turn
        assert turn is not None
        part = os.read(turn.reading, 65_536)
        if part:
            turn.written += part
            return
        self._selector.unregister(turn.reading)
        os.close(turn.reading)
        _, status = os.waitpid(turn.process, 0)
        self._turn = None
        self._turned(_reports(bytes(turn.written)) if status == 0 else None)

    def _turned(self, told: tuple[dict[str, Report], Visit | None] | None) -> None:
        """Write the diary, and look at everything anew with the next question."""
        now = elapsed()
        self._here = self._machine()
        self._answers.renew(self._here)
        if told is None:
            self._say("A turn ended without a report; it is tried again later.")
            self._diary.failed_turn(now)
            return
        reports, visit = told
        open_at: Callable[[int], bool] = _always
        with contextlib.suppress(KeyturnError):  # Nothing is sent under a policy that is not understood; the turn says so.
            open_at = policy_of(self._vault.home, self._here).open_at
        wall = self._here.clock()
        self._diary.turned(reports, now, minute_of=lambda at: minute_of_day(wall + at - now), open_at=open_at)
        if visit is not None:
            self._diary.checked_in(now, visit)
        self._turned_to(reports, max(self._diary.next - now, 0))

    # Links and signals.

    def _watched(self) -> netlink.Watch | None:
        try:
            watch = netlink.Watch()
        except OSError as error:
            self._say(f"Links are not watched ({error.strerror}): a failed contact is repeated in its own time.")
            return None
        self._selector.register(watch, selectors.EVENT_READ, self._link_news)
        return watch

    def _link_news(self, _events: int, _now: float) -> None:
        assert self._watch is not None
        if self._watch.came_up() and self._diary.link_up(elapsed()):
            self._teller.tell("link_up")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Have signals wake the loop, and put everything back afterwards."""
        receive, send = socket.socketpair()
        receive.setblocking(False)
        send.setblocking(False)
        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        wakeup = signal.set_wakeup_fd(send.fileno(), warn_on_full_buffer=False)

        def signalled(_events: int, _now: float) -> None:
            for number in receive.recv(64):
                if number == signal.SIGHUP:
                    self._diary.hurry(elapsed())
                else:
                    self._stopping = True

        self._selector.register(receive, selectors.EVENT_READ, signalled)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            receive.close()
            send.close()

    def _end(self) -> None:
        if self._turn is not None:
            os.kill(self._turn.process, signal.SIGTERM)
            os.waitpid(self._turn.process, 0)
            os.close(self._turn.reading)
        if self._watch is not None:
            self._watch.close()
        if self._listener is not None:
            self._listener.close()

    def _chance(self) -> float:
        return int.from_bytes(self._here.chance(4), "big") / 2**32


def _reports(data: bytes) -> tuple[dict[str, Report], Visit | None] | None:
    """What a turn reports of its products, and what came of a check-in with a fleet manager."""
    try:
        told = json.loads(data)
        visit = None if told["fleet"] is None else Visit(*told["fleet"])
        return {name: Report(*values) for name, values in told["products"].items()}, visit
    except ValueError:
        return None  # It was ended in the middle of a word.


def _always(_minute: int) -> bool:
    return True


@contextlib.contextmanager
def only_one(vault: Vault) -> Iterator[None]:
    """Hold the store for one agent: a lock on the folder itself, so that a store that cannot be written has one too.

    Raises: KeyturnError ``agent_running``, ``storage_failed``, ``permission_denied``.
    """
    import fcntl

    if not os.path.isdir(vault.home):
        files.claim_home(vault.home, "client")
    try:
        descriptor = os.open(vault.home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KeyturnError("storage_failed", f"{vault.home} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise KeyturnError("agent_running", f"an agent keeps {vault.home} already") from error
        yield
    finally:
        os.close(descriptor)
