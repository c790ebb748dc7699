"""A virtual year of one computer: the real client, service and reminders under a clock that is moved.

What happens is fixed below (``STORY``); when reminders come is not: they are asked for as ``keyturn remind --watch`` asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from keyturn.client.machine import Machine
from keyturn.client.reminding import Shown, look
from keyturn.client.sdk import Client
from keyturn.core.model import DAY
from keyturn.edge import probes
from keyturn.edge.voice import Call
from keyturn.testing import World
from keyturn.testing.computers import synthetic

HOUR = 3600
TERM = 330  # Days of the license: its end comes into the year's last month.


class Told(NamedTuple):
    """A reminder that was shown (``every`` is the seconds since the one before it), or something that happened."""

    time: int
    what: str
    state: str
    every: int | None = None


class Year:
    """One computer, and everything that was shown on it."""

    def __init__(self, folder: Path, *, grace: int) -> None:
        self.grace = grace
        self.world = World(folder / "world", grace_days=grace)
        self.begin = self.world.clock.time
        place = folder / "computer"
        self._here = probes.read(str(synthetic(1).write(place / "a")), facts=True)
        self._other = probes.read(str(synthetic(2).write(place / "b")), facts=True)
        self._now, self.skew = self._here, 0
        self._home = folder / "home"
        self._call = Call({"HOME": str(folder)})
        self._call.home = str(self._home)
        self.told: list[Told] = []

    def machine(self) -> Machine:
        return Machine(
            self._call.environ, now=lambda: self.world.clock.time + self.skew, read=lambda *_, **__: self._now,
            rules=str(self._home / "no-rules"),
        )  # fmt: skip

    def client(self) -> Client:
        return self.world.client(home=self._home, machine=self.machine())

    def happens(self, what: str) -> None:
        status = self.client().status()
        reason = f" ({status.reason})" if status.reason else ""
        self.told.append(Told(self.world.clock.time, what, f"{status.state}{reason}"))

    def until(self, day: float) -> None:
        """Let time pass; whenever a reminder is due it is shown, and not otherwise."""
        end, shown = self.begin + int(day * DAY), Shown(self._call.environ)
        last: int | None = None
        state = self.client().status().state
        while True:
            notices = look(self._call, shown, machine=self.machine())
            clock = self.world.clock
            for notice in notices:
                if notice.due.now:
                    self.told.append(
                        Told(clock.time, "reminder", notice.entry["state"], None if last is None else clock.time - last)
                    )
                    last = clock.time
            shown.note([notice for notice in notices if notice.due.now])
            waits = [notice.due.next - notice.now for notice in look(self._call, shown, machine=self.machine())]
            # Silence is looked into once a day, as the agent does.
            clock.time = min(end, clock.time + max(1, min([*waits, DAY])))
            now = self.client().status().state
            if now != state:
                self.happens(f"{state} is over")
                state = now
            if clock.time >= end:
                return

    def play(self) -> list[Told]:
        """1. Installed, and nobody does anything. 2. Activated. 3. Other hardware. 4. Activated again. 5. The clock is set
        back, and right again. 6. The license's term comes to its end.
        """
        key = self.world.publisher.mint_all(term_days=TERM)[0]["key"]
        # 1.
        self.happens("installed")
        self.until(self.grace + 2)
        # 2.
        self.client().activate(key, consent=True)
        self.happens("activated")
        self.until(120)
        # 3.
        self._now = self._other
        self.happens("moved to another computer")
        self.until(120 + self.grace - 2)
        # 4.
        self.client().activate(consent=True)
        self.happens("activated again")
        self.until(200)
        # 5.
        self.skew = -100 * DAY
        self.happens("clock set back by 100 days")
        self.until(201)
        self.skew = 0
        self.happens("clock right again")
        # 6.
        self.until(365)
        self.happens("the year is over")
        return self.told


def lines(told: list[Told]) -> Iterator[str]:
    """The timeline for people: what happened, and reminders summed up by their rhythm."""
    run: list[Told] = []
    for entry in [*told, None]:
        if run and (entry is None or (entry.what, entry.state, entry.every) != (run[-1].what, run[-1].state, run[-1].every)):
            yield f"{_day(run[0].time)}    {_rhythm(run)}"
            run = []
        if entry is None:
            return
        if entry.what == "reminder":
            run.append(entry)
        else:
            yield f"{_day(entry.time)}  {entry.what}: {entry.state}"


def _rhythm(run: list[Told]) -> str:
    if run[0].every is None:
        return f"reminder ({run[0].state})"
    often = f"every {run[0].every // HOUR} h" if run[0].every % HOUR == 0 else f"after {run[0].every} s"
    return f"{len(run)} reminder(s) {often}, the last {_day(run[-1].time)} ({run[-1].state})"


def _day(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M")
