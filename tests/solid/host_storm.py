"""kill -9 of the real activation host, again and again, under the load of new computers and renewals.

What must hold then: the newest lease that reached a computer is known (the next request presents it, and is renewed as the same
computer, not called a copy); the same request gets the same bytes; every computer is counted once, numbers have no gap.
"""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from hosts import Computer, Organization, Program
from keyturn.core.errors import KeyturnError
from keyturn.testing import Clock, World

WORKERS = 4


class Outcome(NamedTuple):
    """How often it was killed, what was acknowledged, and what does not hold."""

    kills: int
    leases: int
    unanswered: int
    computers: int
    problems: list[str]

    @property
    def text(self) -> str:
        return (
            f"{self.kills} kills, {self.leases} leases acknowledged to {self.computers} computers, {self.unanswered} requests"
            f" unanswered; lost or drifted: {len(self.problems)}"
        )


class Storm:
    """Computers that ask one host, each from one thread at a time."""

    def __init__(self, folder: Path, *, computers: int, seed: str) -> None:
        self.world = World(folder / "world", threshold=2, clock=Clock(int(time.time())))
        self.organization = Organization(self.world)
        (folder / "host").mkdir()
        self.program = Program(self.organization, folder / "host")
        self.computers = [self.organization.computer(number) for number in range(computers)]
        self.newest: dict[int, tuple[str, str]] = {}  # Of each computer: the request that was answered last, and the lease.
        self.waiting: dict[int, str] = {}
        self.activations: dict[int, str] = {}
        self.chance = random.Random(seed)
        self.leases = self.unanswered = 0
        self.problems: list[str] = []
        self._gate = threading.Lock()
        self.enough = threading.Event()

    def ask(self, line: Any, computer: Computer, *, last: bool = False) -> bool:
        """One request; whether the host answered at all."""
        number = computer.number
        with self._gate:
            token = self.waiting.get(number) or computer.request()
            self.waiting[number] = token
        try:
            answer = self.program.post(line, token)
        except KeyturnError:
            self.unanswered += 1
            return False
        with self._gate:
            if isinstance(answer, KeyturnError):
                if answer.code != "threshold_not_met" or last:
                    self.problems.append(f"computer {number}: {answer.code}: {answer.detail}")
                return True
            if "identity" in answer:
                self.problems.append(f"computer {number} is called a copy: an acknowledged lease was lost")
                return True
            computer.take(token, answer)
            del self.waiting[number]
            assert computer.held is not None
            known = self.activations.setdefault(number, computer.held.certificate.activation)
            if known != computer.held.certificate.activation:
                self.problems.append(f"computer {number} is another one now")
            self.newest[number] = token, answer["lease"]
            self.leases += 1
        return True

    def work(self, part: int, seed: float) -> None:
        """One thread: its computers ask in any order until nobody answers, or it was enough."""
        chance = random.Random(seed)
        mine = self.computers[part::WORKERS]
        with self.program.line() as line:
            while not self.enough.is_set() and self.ask(line, chance.choice(mine)):
                if self.leases >= self.wanted:
                    self.enough.set()

    def cycle(self) -> None:
        """Start, load, kill in the middle of it."""
        self.program.start()
        self.enough.clear()
        self.wanted = self.leases + self.chance.randrange(1, 60)
        with ThreadPoolExecutor(WORKERS) as pool:
            parts = [pool.submit(self.work, part, self.chance.random()) for part in range(WORKERS)]
            self.enough.wait(30)
            self.enough.clear()  # They go on, so that it is killed at work.
            self.wanted = self.leases + 10**9
            self.program.stop(signal.SIGKILL)
        for one in parts:
            one.result()

    def judge(self) -> None:
        """After the last kill: repeat, present, count."""
        with self.program, self.program.line() as line:
            for number, (token, lease) in sorted(self.newest.items()):
                if number not in self.waiting and self.leases:
                    answer = self.program.post(line, token)
                    if not isinstance(answer, dict) or answer.get("lease") != lease:
                        self.problems.append(f"computer {number}: the same request, another answer: {str(answer)[:80]}")
            self.world.clock.advance(seconds=1)
            for _ in range(2):
                for computer in self.computers:
                    self.ask(line, computer, last=True)
            found = self.program("status").ok().json["products"][0]
            rows = self.program("report").ok().json["computers"]
        wanted = len(self.computers)
        figures = {name: found[name] for name in ("computers", "counted", "licensed", "forks", "waiting")}
        if figures != {"computers": wanted, "counted": wanted, "licensed": wanted, "forks": 0, "waiting": 0}:
            self.problems.append(f"the count drifted: {figures}, not {wanted}")
        if sorted(row["number"] for row in rows) != list(range(1, wanted + 1)):
            self.problems.append("the computers' numbers have gaps")


def run(folder: Path, *, kills: int, computers: int = 120, seed: str = "storm", roll_back_at: int | None = None) -> Outcome:
    """Kill the host so often. With ``roll_back_at`` its ledger is that of an earlier cycle once: then it must be noticed."""
    folder.mkdir(parents=True, exist_ok=True)
    storm = Storm(folder, computers=computers, seed=seed)
    kept = folder / "kept"
    try:
        for number in range(kills):
            storm.cycle()
            if roll_back_at is not None and number == roll_back_at:
                shutil.copytree(storm.program.home, kept)
            if roll_back_at is not None and number == roll_back_at + 2:
                for name in ("host.db", "host.db-wal"):
                    shutil.copy2(kept / name, storm.program.home / name)
                (storm.program.home / "host.db-shm").unlink(missing_ok=True)
        storm.judge()
    finally:
        if storm.program.process is not None:
            storm.program.stop(signal.SIGKILL)
        storm.world.close()
    return Outcome(kills, storm.leases, storm.unanswered, computers, storm.problems)


