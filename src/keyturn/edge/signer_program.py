"""Signing by programs beside this one: a token's (``token_program``), or a publisher's own for a cloud's key service.

Keeps: starting programs, asking them in JSON lines, and what happens when one dies, hangs, or answers nonsense.
Leaves to others: what a program does with a key, and the two pipes (``program_line``). docs/signers.md is the protocol.

- The program gets kind, key name and content, and makes the bytes to sign itself. Each signature is verified before it is
  anybody's: a faulty device ships nothing.
- A program has one thread here, which writes what waits at once and reads the answers in the same order.
- What was asked of a program that broke is asked again, once, of a new one: the same document has the same signature.
- After that the signer is away. Whoever asks is told at once when to come back; the time to the next try doubles.
- A wrong PIN is told once and never tried again: tokens lock themselves after a few.
"""

from __future__ import annotations

import collections
import contextlib
import json
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.core.model import b64u
from keyturn.edge import sodium
from keyturn.edge.program_line import Broken, Line
from keyturn.edge.signers import Document, Holder, Signed, demand

BATCH = 32  # Documents that are written to a program before its first answer is read.
PATIENCE = 10.0  # Seconds for one answer.
FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0  # Seconds from a failure to the next try.

Answer = Mapping[str, Any]


class _Refusal(Exception):
    """The program says no: to this document; ``away``: to all of them now; ``locked``: until its PIN is another."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer["error"])[:200])
        self.locked = answer.get("locked") is True
        self.away = self.locked or answer.get("away") is True


class _Job(NamedTuple):
    """One question: the line that asks it, how its answer is read, and who waits."""

    line: bytes
    read: Callable[[Answer], Any]
    future: Future[Any]


class Programs(Holder):
    """Asks ``count`` programs started by ``command``, each when it is needed for the first time.

    ``greeting`` makes what a new program is told beside the first question, which keys it holds; it is called once, by
    whoever asks first. ``held``: public keys by ``kid`` as far as they are known. ``patience`` in seconds.
    """

    waits = True
    sealed = True

    def __init__(
        self, command: Sequence[str], held: Mapping[str, bytes], *, greeting: Callable[[], Mapping[str, Any]] = dict,
        count: int = 1, patience: float = PATIENCE, ticks: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        super().__init__()
        self._command, self._count = list(command), count
        self._held = dict(held)
        self._greet, self._greeting = greeting, b""
        self._patience, self._ticks = patience, ticks
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._gate = threading.Lock()
        self._door = threading.Lock()  # One program is opened at a time: of many wrong PINs only one is tried.
        self._locked = False
        self._delay, self._next = 0.0, -math.inf

    @property
    def pause(self) -> float:
        return max(0.0, self._next - self._ticks())

    def keys(self) -> dict[str, bytes]:
        self._held = self._ask({"v": 1, "list": True}, _keys).result()
        return dict(self._held)

    def sign(self, document: Document) -> Signed:
        return self.submit(document).result()

    def submit(self, document: Document) -> Future[Signed]:
        future: Future[Signed]
        try:
            message = demand(document, self._held)
            asked = {"v": 1, "kid": document.kid, "kind": document.kind.value, "payload": b64u(document.payload)}
            future = self._ask(asked, self._reader(message, self._held[document.kid]))
        except KeyturnError as error:
            future = Future()
            future.set_exception(error)
        return future

    def close(self) -> None:
        with self._gate:
            self._closed = True
            threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join()

    def _reader(self, message: bytes, public: bytes) -> Callable[[Answer], Signed]:
        began = self._ticks()

        def read(answer: Answer) -> Signed:
            try:
                signature = jws.decoded(answer.get("signature"), sodium.SIGNATURE)
            except KeyturnError as error:
                raise Broken("it answered without a signature") from error
            if not sodium.holds(public, signature, message):
                raise Broken("it made a signature that does not verify")
            self.told(self._ticks() - began)
            return Signed(message, signature)

        return read

    def _ask(self, message: Mapping[str, Any], read: Callable[[Answer], Any]) -> Future[Any]:
        with self._gate:
            if self._closed:
                raise KeyturnError("signer_unavailable", "the signer was closed")
            if len(self._threads) < self._count:
                # A person may be asked for the PIN: by whoever asks first, and not in a thread of ours.
                self._greeting = self._greeting or _line({"v": 1, "list": True, **self._greet()})
                name = f"keyturn-signer-{len(self._threads) + 1}"
                self._threads.append(threading.Thread(target=self._serve, name=name, daemon=True))
                self._threads[-1].start()
            job = _Job(_line(message), read, Future())
            self._jobs.put(job)
        return job.future

    # --- in the thread of one program ---

    def _serve(self) -> None:
        line: Line | None = None
        while (jobs := self._take()) is not None:
            line = self._answer(line, jobs)
        if line is not None:
            line.close()

    def _take(self) -> collections.deque[_Job] | None:
        """What this program is to answer next, its share of what waits; ``None``: it is to end."""
        first = self._jobs.get()
        if first is None:
            return None
        jobs = [first]
        share = min(BATCH, 1 + self._jobs.qsize() // self._count)
        with contextlib.suppress(queue.Empty):
            while len(jobs) < share:
                job = self._jobs.get_nowait()
                if job is None:
                    self._jobs.put(None)  # For the next look, or for another thread.
                    break
                jobs.append(job)
        return collections.deque(job for job in jobs if job.future.set_running_or_notify_cancel())

    def _answer(self, line: Line | None, jobs: collections.deque[_Job]) -> Line | None:
        """Have ``jobs`` answered; the result is the program for the next ones, if it is still good.

        1. While the signer is away nobody waits for it.
        2. A program that breaks is replaced, and what it left open is asked again, once.
        3. If that breaks too, or none can be started, the signer is away.
        """
        # 1.
        if self._locked or self._ticks() < self._next:
            self._fail(jobs)
            return line
        why = ""
        for _ in range(2):
            try:
                line = line or self._open()
                for data in line.ask([job.line for job in jobs]):
                    self._settle(jobs, data)
                return line
            except Broken as broken:
                why = str(broken)
            if line is None:
                break
            # 2.
            line.kill()
            line = None
            if not jobs:  # All were answered, and then it went wrong.
                return None
        # 3.
        self._lost(why)
        self._fail(jobs)
        return None

    def _open(self) -> Line:
        """Start a program and hear which keys it holds. Raises: Broken."""
        with self._door:
            if self._locked:
                raise Broken(self.away or "")
            line = Line(self._command, self._patience, self._ticks)
            try:
                for data in line.ask([self._greeting]):
                    _keys(_members(data))
            except _Refusal as refusal:
                line.close()
                self._locked = refusal.locked
                raise Broken(str(refusal)) from refusal
            except Broken:
                line.kill()
                raise
            return line

    def _settle(self, jobs: collections.deque[_Job], data: bytes) -> None:
        """Give the oldest of ``jobs`` its answer. Raises: Broken, and then it still waits."""
        try:
            result = jobs[0].read(_members(data))
        except _Refusal as refusal:
            self._locked = self._locked or refusal.locked
            if refusal.away:
                self._lost(str(refusal))
            self._fail([jobs.popleft()], str(refusal))
            return
        self._delay, self._next, self.away = 0.0, -math.inf, None
        jobs.popleft().future.set_result(result)

    def _lost(self, why: str) -> None:
        now = self._ticks()
        if now >= self._next:  # Otherwise another thread has seen it before.
            self._delay = min(LONGEST_DELAY, max(FIRST_DELAY, 2 * self._delay))
            self._next = now + self._delay
        self.away = why

    def _fail(self, jobs: Sequence[_Job] | collections.deque[_Job], why: str | None = None) -> None:
        code = "signer_locked" if self._locked else "signer_unavailable"
        wait = None if self._locked else max(1, math.ceil(self.pause))
        for job in jobs:
            self.told(None)
            job.future.set_exception(KeyturnError(code, f"the signer says: {why or self.away}", retry_after=wait))


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _members(data: bytes) -> Answer:
    """The object in an answer. Raises: Broken for what is none, _Refusal for an error."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise Broken("it answered what is not JSON") from error
    if not isinstance(value, dict):
        raise Broken("it answered what is not an object")
    if "error" in value:
        raise _Refusal(value)
    return value


def _keys(answer: Answer) -> dict[str, bytes]:
    """The answer to the question which keys there are. Raises: Broken."""
    try:
        found = [jws.public_from_jwk(value) for value in answer["keys"]]
    except (KeyError, TypeError, KeyturnError) as error:
        raise Broken("it answered without keys") from error
    return {jws.thumbprint(public): public for public in found}
