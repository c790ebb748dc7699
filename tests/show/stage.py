"""What the items of ``show_online`` stand on: one publisher whose service runs, recorded computers, and the list itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from keyturn.testing.computers import RecordedComputer
from programs import Home, Publisher, computer


class Item(NamedTuple):
    """One line of the list: what must be shown, and the function that shows it and returns its figure."""

    title: str
    show: Callable[[Stage], str]


ITEMS: list[Item] = []


def item(title: str) -> Callable[[Callable[[Stage], str]], Callable[[Stage], str]]:
    """Put a function on the list, in the order of the files."""

    def keep(show: Callable[[Stage], str]) -> Callable[[Stage], str]:
        ITEMS.append(Item(title, show))
        return show

    return keep


class Stage:
    """A publisher with a test product and an ordinary one, both with keys to spend. The service runs until ``close``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publisher = Publisher(folder / "acme")
        self.publisher.service("org", "create", "globex").ok()
        self.test = self.publisher.product("paintest", "--test", "--edition", "pro", "--feature", "layers")
        self.real = self.publisher.product("paintbox", "--edition", "pro", "--feature", "layers")
        self._keys = {slug: iter(self.publisher.mint(slug, "--count", "24")) for slug in ("paintest", "paintbox")}
        self._count = 0
        self.closing = contextlib.ExitStack()  # What items leave open.
        self.publisher.start()

    def close(self) -> None:
        self.closing.close()
        self.publisher.close()

    def place(self, name: str) -> Path:
        """A folder nobody has used."""
        self._count += 1
        path = self.folder / f"{self._count:03d}-{name}"
        path.mkdir()
        return path

    def key(self, slug: str = "paintest") -> dict[str, Any]:
        """A retail key nobody has used."""
        return next(self._keys[slug])

    def mak(self, limit: int) -> dict[str, Any]:
        (key,) = self.publisher.mint("paintest", "--channel", "mak", "--org", "globex", "--limit", str(limit))
        return key

    def pc(self, recorded: RecordedComputer | str, *, as_user: bool = False) -> Path:
        """A recorded computer, written for ``KEYTURN_SYSROOT``."""
        return computer(self.place("pc"), recorded, as_user=as_user)

    def home(self, sysroot: Path | None = None) -> Home:
        """A new client's store, on this computer or a recorded one."""
        return Home(self.place("client") / "home", sysroot=sysroot)
