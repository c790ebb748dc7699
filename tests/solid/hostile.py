"""The hostile cases against the real service over TLS, honest clients beside them, and its memory."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from keyturn.core.errors import Refused
from keyturn.flows.exchange import Line
from programs import Publisher
from solid import hostile_cases
from solid.asking import Asker
from solid.hostile_cases import Case
from solid.storm import Outcome

QUICKLY = 0.1  # Seconds from the last byte to the answer or the end.
PATIENCE = 2.0
NEVER = 16.0  # A time-out is 10 seconds, and closing may linger for 5.
TRIES = 3  # The quickest counts: a busy machine is not what is looked for.
MEMORY = 50 * 1024  # KiB of growth
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


class Seen(NamedTuple):
    """What came back: statuses, whether the connection ended, and seconds from the last byte to the first sign of it."""

    statuses: tuple[int, ...]
    closed: bool
    seconds: float


def trusting() -> ssl.SSLContext:
    """A hostile client does not ask whom it talks to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def attack(case: Case, port: int, context: ssl.SSLContext) -> Seen:
    """Send one case and see what happens."""
    patience = NEVER if case.never else PATIENCE
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = plain if case.plain else context.wrap_socket(plain)
        with connection:
            got, closed, sent = bytearray(), False, threading.Event()

            def send() -> None:
                with contextlib.suppress(OSError):
                    connection.sendall(case.data)
                sent.set()

            sender = threading.Thread(target=send)
            connection.settimeout(patience)
            sender.start()
            if len(case.data) < 100_000:
                sender.join()  # Short ones are read after they are sent: the time begins with the last byte.
            began, first = time.monotonic(), None
            try:
                while True:
                    data = connection.recv(65_536)
                    first = first or time.monotonic()
                    if not data:
                        closed = True
                        break
                    got += data
                    if not case.never:
                        connection.settimeout(0.05)
            except TimeoutError:
                pass
            except OSError:
                closed, first = True, first or time.monotonic()
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            sender.join()
    if not got:
        statuses: tuple[int, ...] = ()
    else:
        statuses = tuple(int(found) for found in _STATUS.findall(bytes(got))) or (0,)
    return Seen(statuses, closed, (first or time.monotonic()) - began)


def judge(case: Case, seen: Seen) -> str | None:
    """What is wrong with it, or None."""
    statuses = [status for status in seen.statuses if status != 100]
    if any(not 400 <= status < 500 for status in statuses) and not (case.plain and statuses == [0]):
        return f"{case.name}: answered {statuses}"
    if case.never:
        return None if seen.closed else f"{case.name}: open after {NEVER:g} s"
    if not statuses and not seen.closed:
        return f"{case.name}: neither answered nor closed"
    if seen.seconds > QUICKLY:
        return f"{case.name}: {seen.seconds * 1000:.0f} ms"
    return None


class Honest(threading.Thread):
    """A client that activates one computer after the other, and notes how long each took."""

    def __init__(self, asker: Asker) -> None:
        super().__init__()
        self.asker, self.times, self.refused = asker, list[float](), 0
        self.ending = threading.Event()

    def run(self) -> None:
        with Line(self.asker.product, {}) as line:
            while not self.ending.wait(0.02):
                token = self.asker.request().token
                began = time.monotonic()
                answer = line.send(token)
                self.times.append(time.monotonic() - began)
                self.refused += isinstance(answer, Refused)


def memory(pid: int, name: str = "VmRSS") -> int:
    """KiB of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+)", text)[1])  # type: ignore[index]


def run(folder: Path, seed: str, *, only: Sequence[str] = (), endless: bool = True) -> Outcome:
    """Every case (or those whose name holds a word of ``only``), one after the other, honest clients all the while."""
    publisher = Publisher(folder / "publisher", probe=False)
    publisher.service("org", "create", "globex").ok()
    product = publisher.product("paintbox").read_bytes()
    options = ("--channel", "mak", "--org", "globex", "--limit", "100000")
    (key,) = publisher.mint("paintbox", *options)
    asker = Asker(product, key["key"], random.Random(seed))
    cases = hostile_cases.every(asker.request(key_proof="x").request, seed)
    cases = [case for case in cases if (endless or not case.never) and (not only or any(w in case.name for w in only))]
    context = trusting()
    publisher.service("config", "set", "rate_address", "off").ok()  # One address plays everybody here.
    publisher.service("config", "set", "rate_prefix", "off").ok()
    pid = int(publisher.start("--probe-listen", "none")["pid"])
    honest = Honest(asker)
    try:
        with Line(asker.product, {}) as line:
            for _ in range(50):
                line.send(asker.request().token)  # Warm: what an hour of honest use takes is not growth.
        before = memory(pid)
        honest.start()
        problems, slowest = [], 0.0
        with ThreadPoolExecutor(8) as pool:
            waiting = [(case, pool.submit(attack, case, publisher.port, context)) for case in cases if case.never]
            for case in cases:
                if case.never:
                    continue
                best = attack(case, publisher.port, context)
                for _ in range(TRIES - 1):
                    if best.seconds > QUICKLY:
                        best = min(best, attack(case, publisher.port, context), key=lambda seen: seen.seconds)
                slowest = max(slowest, best.seconds)
                problem = judge(case, best)
                problems += [problem] if problem else []
            for case, future in waiting:
                problem = judge(case, future.result())
                problems += [problem] if problem else []
        peak, after = memory(pid, "VmHWM"), memory(pid)
    finally:
        honest.ending.set()
        if honest.ident is not None:
            honest.join()
        status = publisher.stop()
    log = publisher.log()
    if peak - before > MEMORY:
        problems.append(f"memory grew by {(peak - before) // 1024} MB")
    if status or "Traceback" in log or '"status":5' in log.replace(" ", "") or "request_failed" in log:
        problems.append(f"the service ended with {status}, or logged a fault")
    if honest.refused or not honest.times:
        problems.append(f"{honest.refused} of {len(honest.times)} honest requests were refused")
    times = sorted(honest.times) or [0.0]
    figures = {
        "cases": len(cases), "ms_at_the_slowest": round(slowest * 1000),
        "MB_more_memory_at_the_peak": round((peak - before) / 1024, 1), "MB_after": round((after - before) / 1024, 1),
        "honest_activations_meanwhile": len(times), "ms_p99": round(times[int(len(times) * 0.99)] * 1000, 1),
    }  # fmt: skip
    return Outcome(figures, problems)
