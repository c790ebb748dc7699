"""Kill storms: the real service, killed with -9 while client processes ask it, and then the books are checked.

Keeps: the two scenarios and their figures. Leaves to others: clients (``load``), the check (``books``), planted bugs
(``planted``).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from programs import Publisher, environment
from solid import books
from solid.load import Spec

HERE = Path(__file__).parent
PATIENCE = 120.0


class Outcome(NamedTuple):
    """What a scenario came to. ``problems`` is empty if it held."""

    figures: dict[str, Any]
    problems: list[str]

    @property
    def text(self) -> str:
        return ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in self.figures.items())


class Clients:
    """The processes of the load, and every answer they got."""

    def __init__(self, folder: Path, specs: list[Spec]) -> None:
        self.acks: list[books.Ack] = []
        self.done = 0
        self.ready = 0
        self.changed = threading.Condition()
        self._processes = []
        self._readers = []
        for number, spec in enumerate(specs):
            place = folder / f"spec-{number}.json"
            place.write_text(json.dumps(spec._asdict()))
            process = subprocess.Popen(
                [sys.executable, str(HERE / "load.py"), str(place)], cwd=folder, env=environment(folder),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            self._processes.append(process)
            self._readers.append(threading.Thread(target=self._read, args=(process,)))
            self._readers[-1].start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            with self.changed:
                if said["op"] == "ready":
                    self.ready += 1
                elif said["op"] == "done":
                    self.done += 1
                else:
                    self.acks.append(said)
                self.changed.notify_all()

    def go(self) -> None:
        """Let every process begin its next part (the last one: end)."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

    def wait(self, enough: Callable[[], bool], patience: float = PATIENCE) -> bool:
        """Wait until ``enough()``; ``False`` if that did not come."""
        until = time.monotonic() + patience
        with self.changed:
            while not enough():
                if time.monotonic() > until or any(process.poll() for process in self._processes):
                    return False
                self.changed.wait(0.5)
            return True

    def close(self) -> list[int]:
        """Wait for the end of every process; the exit statuses."""
        for process in self._processes:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        statuses = []
        for process in self._processes:
            try:
                statuses.append(process.wait(PATIENCE))
            except subprocess.TimeoutExpired:
                process.kill()
                statuses.append(process.wait())
        for reader in self._readers:
            reader.join()
        for process in self._processes:
            assert process.stdout is not None
            process.stdout.close()
        return statuses


class Storm:
    """One publisher with one product, its service to be killed, and its clients."""

    def __init__(self, folder: Path, *, bug: str | None = None) -> None:
        self.folder = folder
        self.publisher = Publisher(folder / "publisher", probe=False)
        self.publisher.service("org", "create", "globex").ok()
        self.product = self.publisher.product("paintbox")
        self.wrapper = () if bug is None else (sys.executable, str(HERE / "planted.py"), bug)
        self.kills = 0

    def mint(self, limit: int, count: int = 1) -> list[str]:
        options = ("--channel", "mak", "--org", "globex", "--limit", str(limit), "--count", str(count))
        return [str(key["key"]) for key in self.publisher.mint("paintbox", *options)]

    def specs(self, plan: str, computers: int, processes: int, keys: list[str], seed: str) -> list[Spec]:
        numbers = range(1, computers + 1)
        return [
            Spec(plan, str(self.folder), str(self.product), list(numbers[n::processes]), keys, seed)
            for n in range(processes)
        ]

    def start(self) -> None:
        self.publisher.start("--probe-listen", "none", wrapper=self.wrapper)

    def kill(self) -> None:
        """SIGKILL, and nothing else: no goodbye, no flush."""
        process = self.publisher.process
        assert process is not None and process.stdout is not None
        os.kill(int(self.publisher.ready["pid"]), signal.SIGKILL)
        process.wait()
        process.stdout.close()
        self.publisher.process = None
        self.kills += 1

    def check(self, acks: list[books.Ack]) -> list[str]:
        return books.check(self.publisher.home / "service.db", acks)

    @contextlib.contextmanager
    def clients(self, specs: list[Spec]) -> Iterator[Clients]:
        made = Clients(self.folder, specs)
        try:
            yield made
        finally:
            if self.publisher.process is None and made.done < len(specs):
                self.start()  # Whoever still asks gets an answer, so that it can end.
            statuses = made.close()
            self.publisher.close()
        if any(statuses):
            raise AssertionError(f"processes of the load ended with {statuses}")


def last_seats(
    folder: Path, *, seed: str, limit: int = 50, computers: int = 400, processes: int = 8, kills: int = 10,
    bug: str | None = None,
) -> Outcome:  # fmt: skip
    """All computers ask at once for a key with fewer seats, while the service is killed; then all of them ask again.

    1. Every computer makes its request; then the service starts and everybody asks.
    2. At chosen numbers of answers the service is killed and started again: most of them before the seats are gone.
    3. Everybody asks again with the same bytes, the service being killed all the while.
    4. The books; exactly ``limit`` granted, all others refused with ``limit_reached``.
    """
    chance = random.Random(seed)
    storm = Storm(folder, bug=bug)
    began, again = time.monotonic(), False
    # 1.
    specs = storm.specs("once", computers, processes, storm.mint(limit), seed)
    early, late = kills * 6 // 10, kills * 2 // 10
    points = sorted(
        chance.sample(range(1, limit), early)
        + chance.sample(range(limit, computers), kills - early - late)
        + chance.sample(range(computers, 2 * computers - 20), late)
    )
    with storm.clients(specs) as clients:
        assert clients.wait(lambda: clients.ready == processes), "the clients did not get ready"
        prepared = time.monotonic()
        storm.start()
        clients.go()
        # 2. and 3.
        for point in [*points, None]:
            if not again and (point is None or point > computers):
                assert clients.wait(lambda: clients.done == processes), "not everybody got an answer"
                clients.go()
                again = True
            if point is not None:
                assert clients.wait(lambda point=point: len(clients.acks) >= point), f"no answer number {point}"  # type: ignore[misc]
                storm.kill()
                storm.start()
        assert clients.wait(lambda: clients.done == 2 * processes), "not everybody got an answer again"
    # 4.
    answered = [ack for ack in clients.acks if ack["op"] == "activate"]
    granted = sum(ack["certificate"] is not None for ack in answered)
    refused = sum(ack["code"] == "limit_reached" for ack in answered)
    problems = storm.check(clients.acks)
    if (granted, refused) != (limit, computers - limit):
        problems.append(f"{granted} were granted and {refused} refused, of {computers} for {limit} seats")
    figures = {
        "granted": granted, "refused": refused, "repeated": len(clients.acks) - len(answered), "kills": storm.kills,
        "seconds": round(time.monotonic() - prepared, 1), "seconds_of_preparation": round(prepared - began, 1),
    }  # fmt: skip
    return Outcome(figures, problems)


def kill_cycles(
    folder: Path, *, seed: str, cycles: int = 200, budget: float = 1e9, processes: int = 8, computers: int = 24,
    bug: str | None = None,
) -> Outcome:  # fmt: skip
    """Start, answer, kill -9: again and again under load, until ``cycles`` or ``budget`` (seconds) are used up.

    A cycle ends at a chosen moment after its first answer, so that kills meet requests in every stage.
    """
    chance = random.Random(seed)
    storm = Storm(folder, bug=bug)
    keys = storm.mint(computers // 2, count=cycles * 2 + 200)
    specs = storm.specs("churn", computers, processes, keys, seed)
    with storm.clients(specs) as clients:
        assert clients.wait(lambda: clients.ready == processes), "the clients did not get ready"
        clients.go()
        began = time.monotonic()
        while storm.kills < cycles and time.monotonic() < began + budget:
            storm.start()
            before = len(clients.acks)
            assert clients.wait(lambda before=before: len(clients.acks) > before), "no answer after a start"  # type: ignore[misc]
            assert clients.done == 0, "the load ran out of keys"
            time.sleep(chance.random() ** 2 * 0.2)
            storm.kill()
        ended = time.monotonic()
        storm.start()
        clients.go()
        assert clients.wait(lambda: clients.done == processes), "not everybody got an answer"
    problems = storm.check(clients.acks)
    kinds = [ack["op"] if ack["code"] is None else "refused" for ack in clients.acks]
    figures = {
        "kills": storm.kills, "answers": len(clients.acks), "activated": kinds.count("activate"),
        "repeated": kinds.count("repeat"), "returned": kinds.count("release"), "refused": kinds.count("refused"),
        "seconds_a_cycle": round((ended - began) / max(1, storm.kills), 2),
    }  # fmt: skip
    return Outcome(figures, problems)
