"""A program beside this one, asked in lines: it is started, questions go to its input, answers come from its output.

Keeps: the process and its pipes, and bounds on time and size. Leaves to others: what the lines say, and what follows when
the program is of no more use. What it writes to stderr goes where ours goes.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable, Iterator, Sequence

FAREWELL = 2.0  # Seconds a program has to end after its input has ended.
MAX_ANSWER = 65_536  # Bytes of one line.


class Broken(Exception):
    """This program is of no more use: it ended, hangs, or says what it should not. Its text says which."""


class Line:
    """One program that was started. Used by one thread."""

    def __init__(self, command: Sequence[str], patience: float, ticks: Callable[[], float]) -> None:
        """Start ``command``. ``patience``: seconds for one answer; ``ticks``: a clock that only goes forward, in seconds.

        Raises: Broken.
        """
        self._patience, self._ticks = patience, ticks
        self._arrived = b""
        try:
            # A session of its own: Ctrl-C ends the service in order, and must not end its signer first.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
            )
        except OSError as error:
            raise Broken(f"{command[0]} cannot be started: {error.strerror}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)

    def ask(self, lines: Sequence[bytes]) -> Iterator[bytes]:
        """Write ``lines``, and give the answer of each in their order. Raises: Broken."""
        waiting, wanted = memoryview(b"".join(lines)), len(lines)
        poll = select.poll()
        poll.register(self._in, select.POLLOUT)
        poll.register(self._out, select.POLLIN)
        until = self._ticks() + self._patience
        while wanted:
            line, found, rest = self._arrived.partition(b"\n")
            if found:
                self._arrived, wanted, until = rest, wanted - 1, self._ticks() + self._patience
                yield line
                continue
            if len(self._arrived) > MAX_ANSWER:
                raise Broken("it gave an answer without an end")
            left = until - self._ticks()
            if left <= 0:
                raise Broken(f"it gave no answer within {self._patience:g} seconds")
            for number, event in poll.poll(left * 1000):
                if number == self._out:
                    self._receive()
                    continue
                if event & select.POLLOUT:
                    waiting = waiting[self._send(waiting) :]
                if not waiting or not event & select.POLLOUT:
                    poll.unregister(self._in)  # All is written; or it reads no more, and is heard out.
        if self._arrived:
            raise Broken("it spoke without being asked")

    def close(self) -> None:
        """End its input, and the program if it does not end by itself."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        with self._process:  # Closes the pipes and waits.
            pass

    def _send(self, data: memoryview) -> int:
        try:
            return os.write(self._in, data)
        except BrokenPipeError:
            return len(data)  # It has ended, which is seen where its answers would be.

    def _receive(self) -> None:
        arrived = os.read(self._out, MAX_ANSWER)
        if not arrived:
            raise Broken("it ended")
        self._arrived += arrived
