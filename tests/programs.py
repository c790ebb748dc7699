"""The real programs, as a person or a script starts them: a publisher's service, clients, recorded computers.

Keeps: an environment with nothing in it that was not asked for, readiness by the service's own ready line, and an end
by SIGTERM. Leaves to others: what is asked of the programs.

- Nothing is imported of the programs under test: they are processes, here as in real life.
- No clock is waited for: a process is ready when it says so, and gone when it was waited for.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keyturn.testing.computers import RecordedComputer, load

KEYTURN = Path(sys.executable).parent / "keyturn"
_PASSED_ON = ("TMPDIR", "LD_PRELOAD", "CLOCK_SHIFT")  # The last two are another day's: see in_time.py.
PATIENCE = 60  # Seconds after which a program that should have answered is called hung.


class Result(NamedTuple):
    """How a program ended, and what it said."""

    command: str
    exit: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What ``--json`` printed: one JSON value and nothing else."""
        return json.loads(self.out)

    @property
    def code(self) -> str | None:
        """The code of the error object, or None."""
        with contextlib.suppress(ValueError):
            found = self.json
            if isinstance(found, dict) and isinstance(found.get("error"), dict):
                return str(found["error"]["code"])
        return None

    @property
    def product(self) -> dict[str, Any]:
        """The one product of a status."""
        (entry,) = self.json["products"]
        assert isinstance(entry, dict)
        return entry

    def ok(self) -> Result:
        """The same, if the program succeeded. Raises: AssertionError with everything it said."""
        assert self.exit == 0, f"{self.command}: exit {self.exit}\n{self.out}\n{self.err}"
        return self


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a fresh login has: no proxies, no settings of ours, nothing of the caller's."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LANG": "de_DE.UTF-8",
        "LANGUAGE": "en",  # What is said is compared in English; what a request tells of the language is LANG.
        "NO_COLOR": "1",
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        **(extra or {}),
    }


def run(
    arguments: list[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    input: str | None = None,  # noqa: A002 (subprocess calls it so)
    keyturn: Path = KEYTURN,
    patience: float = PATIENCE,
) -> Result:
    """Run ``keyturn`` off a terminal; ``env`` is added to :func:`environment`, ``patience`` in seconds."""
    done = subprocess.run(
        [str(keyturn), *arguments],
        cwd=cwd,
        env=environment(cwd, env),
        input=input if input is not None else "",
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    return Result("keyturn " + " ".join(arguments), done.returncode, done.stdout, done.stderr)


def free_port() -> int:
    """A port that nobody listens on, below those that outgoing connections take by themselves."""
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def typed(
    command: Sequence[str], lines: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, keyturn: Path = KEYTURN
) -> str:
    """What ``keyturn COMMAND``, which asks part by part, says on a terminal to somebody who types these lines."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(keyturn), *command], cwd=cwd, start_new_session=True, stdin=theirs, stdout=theirs, stderr=theirs,
        env=environment(cwd, env),
    )  # fmt: skip
    os.close(theirs)
    waiting, said = list(lines), ""
    # By an OSError Linux says that the other side is closed.
    with os.fdopen(ours, "r+b", buffering=0) as terminal, contextlib.suppress(OSError):
        while more := terminal.read(4096):
            said += more.decode()
            if waiting and re.search(r"(group|word) \d+ of \d+: $", said):
                terminal.write(f"{waiting.pop(0)}\n".encode())
                said += "\n"
    assert process.wait(PATIENCE) == 0, said
    return said


class Publisher:
    """One publisher's service in a folder of its own: initialised at once, started and stopped at will."""

    def __init__(
        self, folder: Path, name: str = "Acme Ink", *, keyturn: Path = KEYTURN, probe: bool = True, host: str = "localhost"
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.home = folder / "svc"
        self.keyturn = keyturn
        self.port, self.probe_port = free_port(), free_port()
        self.url = f"https://{host}:{self.port}"
        self.probe_url = f"http://{host}:{self.probe_port}/probe" if probe else "none"
        self.process: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}
        self.service("init", "--publisher", name, "--url", self.url, "--probe-url", self.probe_url).ok()

    def service(
        self, *arguments: str, env: Mapping[str, str] | None = None, patience: float = PATIENCE
    ) -> Result:
        """``keyturn service --home … --json …``."""
        return run(
            ["service", "--home", str(self.home), "--json", *arguments],
            cwd=self.folder, env=env, keyturn=self.keyturn, patience=patience,
        )  # fmt: skip

    def product(self, slug: str, *options: str) -> Path:
        """Create a product and export its file."""
        self.service("product", "create", slug, *options).ok()
        return self.export(slug)

    def export(self, slug: str) -> Path:
        path = self.folder / f"{slug}.ktproduct"
        self.service("product", "export", slug, "-o", str(path)).ok()
        return path

    def mint(self, slug: str, *options: str) -> list[dict[str, Any]]:
        """Mint keys; each is ``key``, ``product_id``, ``serial``, ``channel``, ``limit``."""
        keys = self.service("key", "mint", "--product", slug, *options).ok().json["keys"]
        assert isinstance(keys, list)
        return keys

    def seats(self, serial: int) -> int:
        """How many seats of a key are taken, in the service's own books."""
        return int(self.service("key", "show", str(serial)).ok().json["used"])

    def start(self, *options: str, wrapper: tuple[str, ...] = ()) -> dict[str, Any]:
        """Start the service and wait for its ready line, which is returned."""
        assert self.process is None, "it runs already"
        command = [
            *wrapper, str(self.keyturn), "service", "run", "--home", str(self.home), "--json",
            "--listen", f"127.0.0.1:{self.port}", "--probe-listen", f"127.0.0.1:{self.probe_port}", *options,
        ]  # fmt: skip
        with (self.folder / "service.log").open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment(self.folder), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        there, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if there else ""
        if not line:
            self.process.kill()
            self.process.wait()
            self.process = None
            raise AssertionError(f"the service did not become ready: {self.log()[-2000:]}")
        self.ready = json.loads(line)
        return self.ready

    def stop(self) -> int:
        """End the service by SIGTERM to its own process id; return its exit status."""
        assert self.process is not None, "it does not run"
        os.kill(int(self.ready["pid"]), signal.SIGTERM)
        status = self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def log(self) -> str:
        return (self.folder / "service.log").read_text()

    @contextlib.contextmanager
    def running(self, *options: str) -> Iterator[dict[str, Any]]:
        """The service, running inside the block."""
        try:
            yield self.start(*options)
        except BaseException:
            self.close()
            raise
        status = self.stop()
        assert status == 0, f"SIGTERM ended the service with {status}"

    def close(self) -> None:
        """End the service if it still runs, whatever happened before."""
        if self.process is not None:
            self.stop()


class Home:
    """One client's store, and optionally the recorded computer it is on."""

    def __init__(self, path: Path, *, sysroot: Path | None = None, keyturn: Path = KEYTURN) -> None:
        self.path = path
        self.keyturn = keyturn
        self.env = {} if sysroot is None else {"KEYTURN_SYSROOT": str(sysroot)}
        path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """``keyturn --home … --json …``."""
        return run(
            ["--home", str(self.path), "--json", *arguments],
            cwd=self.path.parent, env={**self.env, **(env or {})}, input=input, keyturn=self.keyturn,
        )  # fmt: skip

    def activate(self, product: Path, key: str, *options: str) -> Result:
        """All of it in one command: add the product, install the key from stdin, agree, activate."""
        return self("activate", "-", "--product-file", str(product), "--yes", *options, input=key + "\n")

    def status(self) -> dict[str, Any]:
        return self("status").ok().product

    @property
    def shelf(self) -> Path:
        """The folder of the one product in this store."""
        (folder,) = (self.path / "products").iterdir()
        return folder


def computer(folder: Path, recorded: RecordedComputer | str, *, as_user: bool = False) -> Path:
    """Write a recorded computer (or the corpus's of that name) for ``KEYTURN_SYSROOT``."""
    found = load(recorded) if isinstance(recorded, str) else recorded
    return found.write(folder, as_user=as_user)


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, by relative path: to compare a store before and after."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
