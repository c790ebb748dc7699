"""One failing system call: the service under strace, its n-th write or fsync fails, and nothing was falsely acknowledged.

- A full disk (ENOSPC at a write) is answered 503 ``storage_failed``, and the service lives on.
- A failed fsync ends the process (70; at its start also 6), which says why; so does a write that fails at a commit. One that
  fails before it (SQLite's scratch files) is answered 503.
- After the end, power loss is simulated: every write that no fsync had made durable is overwritten with zeros. What was
  acknowledged must be there all the same after the next start.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from keyturn.core import jws
from keyturn.core.errors import KeyturnError, Refused
from keyturn.flows.exchange import Line
from programs import Publisher
from solid import books
from solid.asking import Asked, Asker
from solid.storm import HERE

WRITE, FSYNC = "pwrite64", "fsync,fdatasync"
AFTER = 3  # Requests that a service which lived on must still answer.
_WRITTEN = re.compile(r"pwrite64\(\d+<([^>]+)>, .*, (\d+), (\d+)\) += (\d+)")
_RESUMED = re.compile(r" *<\.\.\. \w+ resumed>(.*)")
_SYNCED = re.compile(r"f(?:data)?sync\(\d+<([^>]+)> *\) += 0")


class Case(NamedTuple):
    """Which call fails, how, and which time."""

    calls: str
    error: str
    nth: int

    def __str__(self) -> str:
        return f"{'write' if self.calls == WRITE else 'fsync'} {self.nth} {self.error}"


class Found(NamedTuple):
    """What one case came to: whether the fault struck, whether the service lived, answers, and what is wrong."""

    struck: bool
    lived: bool
    acknowledged: int
    problems: list[str]


class Bench:
    """One publisher whose service meets one fault after another; its books are checked over all of them at the end."""

    def __init__(self, folder: Path, seed: str, *, bug: str | None = None) -> None:
        self.folder = folder
        self.publisher = Publisher(folder / "publisher", probe=False)
        self.publisher.service("org", "create", "globex").ok()
        product = self.publisher.product("paintbox").read_bytes()
        options = ("--channel", "mak", "--org", "globex", "--limit", "1000000")
        (key,) = self.publisher.mint("paintbox", *options)
        self.asker = Asker(product, key["key"], random.Random(seed))
        self.acks: list[books.Ack] = []
        self.lost = 0  # Bytes.
        self.open: list[Asked] = []  # Asked, and never answered: whoever asked asks again.
        self.wrapper = () if bug is None else (sys.executable, str(HERE / "planted.py"), bug)
        (self.publisher.folder / "service.log").touch()

    @property
    def database(self) -> Path:
        return self.publisher.home / "service.db"

    def run(self, case: Case) -> Found:
        """One case: start, ask until the fault has struck, end, lose power, and compare what is there."""
        trace, problems = self.folder / "strace.log", list[str]()
        before, said = len(self.acks), len(self.publisher.log())
        strace = (
            "strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "0", "-o", str(trace), "-e", f"trace={WRITE},{FSYNC}",
            "-e", f"inject={case.calls}:error={case.error}:when={case.nth}",
        )  # fmt: skip
        lived, told = False, ""
        try:
            self.publisher.start("--probe-listen", "none", wrapper=(*strace, *self.wrapper))
        except (AssertionError, ValueError):
            status, told = self._never_ready()
        else:
            lived = self._ask(case, trace, problems)
            status = self._end(lived)
        log = self.publisher.log()[said:] + told
        text = trace.read_text()
        struck = "INJECTED" in text
        if "Traceback" in log:
            problems.append("the log holds a traceback")
        if lived and status != 0:
            problems.append(f"it lived on, but SIGTERM ended it with {status}")
        if not lived and status not in (70, 6):
            problems.append(f"it ended with {status}")
        if not lived and "keyturn: " not in log and '"storage_failed"' not in log:
            problems.append(f"it ended without saying why: {log[-200:]!r}")
        if struck and lived and case.calls == FSYNC and not _harmless(text, self.publisher.home):
            problems.append("an fsync failed, and the process went on")
        self.lost += lose_power(text, self.publisher.home)
        return Found(struck, lived, len(self.acks) - before, [f"{case}: {problem}" for problem in problems])

    def finish(self) -> list[str]:
        """Start once more without faults, ask what is still open, and check the books over all cases."""
        self.publisher.start("--probe-listen", "none")
        with Line(self.asker.product, {}) as line:
            for asked in self.open:
                self._keep(asked, line.send(asked.token), time.monotonic())
            for _ in range(AFTER):
                asked = self.asker.request()
                self._keep(asked, line.send(asked.token), time.monotonic())
        self.open = []
        self.publisher.stop()
        return books.check(self.database, self.acks)

    def _ask(self, case: Case, trace: Path, problems: list[str]) -> bool:
        """Ask until the fault has struck and a little longer; whether the service lives."""
        again, self.open = self.open, []
        left = case.nth + 10 if case.calls == FSYNC else case.nth // 8 + 10
        full = 0
        with Line(self.asker.product, {}) as line:
            while left > 0:
                asked = again.pop() if again else self.asker.request()
                began = time.monotonic()
                try:
                    self._keep(asked, line.send(asked.token), began)
                    left -= 1
                except KeyturnError as error:
                    self.open += [asked]
                    if error.code == "service_unready":
                        full += 1
                        if "storage_failed" not in error.detail or case.calls == FSYNC:
                            problems.append(f"it answered {error.detail}")
                        left = min(left, AFTER)
                    elif error.code == "service_unreachable":
                        self.open += again
                        return False
                    else:
                        problems.append(f"it answered {error.code}: {error.detail}")
                if left > AFTER and case.calls == WRITE and left % 4 == 0 and "INJECTED" in trace.read_text():
                    left = AFTER
        self.open += again
        if full > 1:
            problems.append(f"one failed write made {full} refusals")
        return True

    def _keep(self, asked: Asked, answer: dict[str, Any] | Refused, began: float) -> None:
        assert not isinstance(answer, Refused), f"an honest request was refused: {answer}"
        name = jws.loads(jws.payload_of(answer["certificate"]))["activation"]
        self.acks.append(
            {
                "pc": asked.request.installation, "op": "activate", "serial": asked.request.serial,
                "digest": jws.digest(asked.token), "began": began, "ended": time.monotonic(), "code": None,
                "certificate": answer["certificate"], "activation": name,
            }
        )  # fmt: skip

    def _never_ready(self) -> tuple[int, str]:
        """The end of a service that failed before its ready line: nothing can have been acknowledged."""
        process, self.publisher.process = self.publisher.process, None
        if process is None:
            return 70, ""  # It said nothing at all on stdout; why, is in the log.
        assert process.stdout is not None
        with process.stdout as out:
            rest = out.read()
        return process.wait(20), rest

    def _end(self, lived: bool) -> int:
        process = self.publisher.process
        assert process is not None and process.stdout is not None
        if lived:
            return self.publisher.stop()
        try:
            status = process.wait(20)
        except subprocess.TimeoutExpired:
            os.kill(int(self.publisher.ready["pid"]), 9)
            status = process.wait()
        process.stdout.close()
        self.publisher.process = None
        return status


def _harmless(trace: str, home: Path) -> bool:
    """Whether what failed was only SQLite's second sync of the folder, after the service's own had made it durable."""
    lines = list(whole_lines(trace))
    at = next(number for number, line in enumerate(lines) if "INJECTED" in line)
    before = [found[1] for line in lines[:at] if (found := _SYNCED.search(line))]
    return f"<{home}>" in lines[at] and str(home) in before


def whole_lines(trace: str) -> Iterator[str]:
    """The lines of a trace; a call that another thread's call interrupted is put together again where it ended."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        thread, _, call = line.partition(" ")
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>")
        elif resumed := _RESUMED.match(call):
            yield f"{thread} {begun.pop(thread, '')}{resumed[1]}"
        else:
            yield line


def lose_power(trace: str, home: Path) -> int:
    """Overwrite with zeros what was written below ``home`` and never made durable; the result is how many bytes.

    The service's process is gone. A database page that is lost so is in the log still: that is what the log is for.
    """
    unsynced: dict[str, list[tuple[int, int]]] = {}
    for line in whole_lines(trace):
        if "INJECTED" in line:
            continue
        if written := _WRITTEN.search(line):
            unsynced.setdefault(written[1], []).append((int(written[3]), int(written[4])))
        elif synced := _SYNCED.search(line):
            unsynced.pop(synced[1], None)
    lost = 0
    for name, ranges in unsynced.items():
        path = Path(name)
        if not path.is_relative_to(home) or not path.exists() or name.endswith("-shm"):
            continue
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            for offset, length in ranges:
                file.seek(offset)
                lost += file.write(bytes(max(0, min(length, size - offset))))
    return lost
