"""A real agent as a program: started, asked, watched and ended by its own process id."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keyturn.core.capability import Question
from keyturn.core.model import ProductName, b64u
from keyturn.edge import agent_socket, eventlog
from programs import KEYTURN, PATIENCE, environment


class Agent:
    """The agent of one store. ``folder`` is where it works, and what its environment calls HOME."""

    def __init__(self, home: Path, *, env: Mapping[str, str] | None = None, socket: Path | None = None) -> None:
        self.home = home
        self.socket = socket or home.parent / "agent.sock"
        self._env = environment(home.parent, env)
        self._log = home.parent / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, Any] = {}
        self._heard = b""

    def start(self, *options: str, wrapper: tuple[str, ...] = ()) -> Agent:
        """Start it and wait until programs can ask."""
        command = [
            *wrapper, str(KEYTURN), "--json", "agent", "run", "--home", str(self.home), "--socket", str(self.socket), *options,
        ]  # fmt: skip
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.home.parent, env=self._env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                bufsize=0,
            )  # fmt: skip
        self._heard = b""
        line = self._line()
        assert line.startswith('{"event"'), f"the agent did not become ready: {line} {self._heard!r} {self.log()}"
        self.ready = json.loads(line)
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        status = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def log(self) -> str:
        return self._log.read_text()

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    @contextlib.contextmanager
    def running(self, *options: str) -> Iterator[Agent]:
        """The agent, running inside the block; SIGTERM must end it with 0."""
        self.start(*options)
        try:
            yield self
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        status = self.stop()
        assert status == 0, (status, self.log())

    def ask(self, product: ProductName, *, ask: str = "license", feature: str | None = None) -> tuple[Question, dict[str, Any]]:
        question = Question(ask, product, b64u(os.urandom(16)), feature)
        return question, agent_socket.ask(str(self.socket), question)

    def events(self) -> list[dict[str, Any]]:
        return eventlog.read(str(self.home), None)

    def told(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["name"] == name]

    def turn(self) -> dict[str, Any]:
        """What the next turn reports, as soon as it has ended."""
        line = self._line()
        assert line.startswith('{"event": "turn"'), (line, self.log())
        found: dict[str, Any] = json.loads(line)
        return found

    def _line(self) -> str:
        """The next line that it says; nothing once it has ended, or its patience has."""
        assert self.process is not None and self.process.stdout is not None
        while b"\n" not in self._heard:
            there, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
            part = os.read(self.process.stdout.fileno(), 65_536) if there else b""
            if not part:
                return ""
            self._heard += part
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()
