"""A publisher with something to lose: keys, seats taken and given back, a token; its backup and its secrets."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from keyturn.service import backup
from keyturn.service.home import ServiceHome
from keyturn.testing import World
from keyturn.testing.computers import synthetic
from solid.asking import Asker

# What a process does to the disk, as the interpreter itself reports it (PEP 578); writes come between these.
STEPS = frozenset(
    {
        "open",
        "os.mkdir",
        "os.rename",
        "os.remove",
        "os.rmdir",
        "os.chmod",
        "os.scandir",
        "sqlite3.connect",
        "shutil.rmtree",
    }
)


class Stock(NamedTuple):
    """What there is, and what was acknowledged: tokens of requests and the certificates they got."""

    world: World
    home: Path
    backup: Path
    secrets: Path
    keys: list[dict[str, Any]]
    answers: Mapping[str, str]


def stock(folder: Path, *, publisher: str = "Test Publisher") -> Stock:
    """Six seats of two keys, one of them given back, and a third key that nobody used; then a backup."""
    world = World(folder / "world", publisher=publisher)
    keys = world.publisher.mint_all(channel="mak", limit=5, count=3)
    for number in range(2):
        client = world.client(synthetic(number))
        client.activate(str(keys[0]["key"]), consent=True)
    client.deactivate()
    asker = Asker(world.product, str(keys[1]["key"]), random.Random(publisher))
    answers = {}
    for _ in range(4):
        token = asker.request().token
        given = world.publisher.service.exchange(token)
        assert isinstance(given, dict)
        answers[token] = str(given["certificate"])
    made = Stock(world, world.publisher.folder, folder / "s.ktbackup", folder / "s.ktsecrets", keys, answers)
    back_up(made)
    return made


def back_up(made: Stock) -> dict[str, Any]:
    """Write both files (anew)."""
    home, now = ServiceHome(made.home, {}), made.world.clock()
    backup.write_secrets(home, made.secrets, now=now)
    return backup.back_up(home, made.backup, now=now)


def killed(step: int, work: Callable[[], object]) -> bool:
    """Do ``work`` in a process that is killed at its ``step``-th move on the disk; ``False`` if it ended before that."""
    child = os.fork()
    if child == 0:
        left = step

        def hook(event: str, _arguments: object) -> None:
            nonlocal left
            if event in STEPS:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        _end(work)
    status = _signal_of(child)
    assert status in (0, signal.SIGKILL), f"it failed by itself: {status}"
    return status == signal.SIGKILL


def limited(size: int, work: Callable[[], object], *, kill: bool = False) -> int:
    """Do ``work`` in a process whose files have at most ``size`` bytes: 0 if it succeeds, 1 if it raises, else the signal.

    A write beyond that fails (EFBIG), as on a full disk; with ``kill`` it ends the process in the middle of a file.
    """
    import resource

    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kill else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        _end(work)
    return _signal_of(child)


def _end(work: Callable[[], object]) -> None:
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def _signal_of(child: int) -> int:
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
