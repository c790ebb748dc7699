"""A client's store on one computer for tests, and what may happen to it: a process that is killed, a disk that is full."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keyturn import Client
from keyturn.service import catalog
from keyturn.testing import World
from keyturn.testing.computers import synthetic


class DiedError(BaseException):
    """The process is gone: nothing after this runs, not even what tidies up."""


@contextlib.contextmanager
def failing_at(number: int, fault: Callable[[], BaseException], *, dead: bool) -> Iterator[list[str]]:
    """Let the ``number``-th operation that changes files fail before it happens; yields what was done until then.

    ``dead``: every later one fails too, as for a process that was killed.
    """
    done: list[str] = []
    saved = {name: getattr(os, name) for name in ("open", "replace", "unlink", "rename", "fsync", "mkdir")}

    def watched(name: str) -> Callable[..., Any]:
        def operation(*args: Any, **options: Any) -> Any:
            if name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR):
                return saved[name](*args, **options)
            done.append(f"{name} {os.path.basename(str(args[0]))}")
            if len(done) == number or dead and len(done) > number:
                raise fault()
            return saved[name](*args, **options)

        return operation

    for name in saved:
        setattr(os, name, watched(name))
    try:
        yield done
    finally:
        for name, original in saved.items():
            setattr(os, name, original)


def killed_at(number: int) -> contextlib.AbstractContextManager[list[str]]:
    return failing_at(number, DiedError, dead=True)


def full_at(number: int) -> contextlib.AbstractContextManager[list[str]]:
    return failing_at(number, lambda: OSError(errno.ENOSPC, "No space left on device"), dead=False)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write below ``folder``, root neither: it is mounted so inside the block."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def used(world: World, serial: int) -> int:
    return int(world.publisher.database.read(lambda db: catalog.key(db, serial))["used"])


def shelf_of(home: Path) -> Path:
    (folder,) = (home / "products").iterdir()
    return folder


def rights(client: Client) -> tuple[object, ...]:
    """What a copy may do, as far as it is licensed."""
    status = client.status()
    return (status.state, status.edition, status.features, status.details["valid_until"], status.details["channel"])


def every_ten_days(client: Client, world: World) -> list[int | None]:
    """The days left now and after ten, twenty and thirty days; forty have passed then."""
    left = []
    for _ in range(4):
        left.append(client.status().days_left)
        world.clock.advance(days=10)
    return left


class Scene:
    """A computer with a store, in the state before a procedure."""

    def __init__(self, world: World, home: Path) -> None:
        self.world = world
        self.home = home
        self.minted = world.publisher.mint_all(term_days=100)[0]
        self.other = world.publisher.mint_all()[0]
        self.machine = world.machine(synthetic(1))

    def prepare(self, *steps: str) -> None:
        """Go through ``activate``, ``activate other``, ``deactivate`` and ``wait``, which is 80 of the term's 100 days."""
        for step in steps:
            if step == "wait":
                self.world.clock.advance(days=80)
            elif step == "deactivate":
                self.client().deactivate()
            else:
                self.activate(self.other if step == "activate other" else None)

    def client(self) -> Client:
        """The application started anew."""
        return self.world.client(home=self.home, machine=self.machine)

    def activate(self, which: dict[str, Any] | None = None) -> None:
        self.client().activate((which or self.minted)["key"], consent=True)
