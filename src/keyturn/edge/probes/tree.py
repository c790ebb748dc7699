"""Bounded, read-only access to a computer's files, live (``/``) or recorded (a directory).

Leaves to others: what the files mean (``linux``, ``facts``, ``virtual``).

Rules:

- A file gives at most ``LIMIT`` bytes; only regular files are read; any failure is "no value", with a reason.
- A recorded computer never leads outside its directory, whatever its links say.
- In a recorded computer a file without any read permission counts as root's, even when root runs the test.
"""

from __future__ import annotations

import os
import re
import stat

LIMIT = 64 * 1024
NOT_ROOT = "not readable without root"
# Not every system has each: Windows has neither of these, but files that are text unless told otherwise.
_FLAGS = os.O_RDONLY
for _flag in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY", "O_NOINHERIT"):
    _FLAGS |= getattr(os, _flag, 0)
_NUMBERS = re.compile(r"([0-9a-f]+)")


class Tree:
    """The files below one root, each read at most once."""

    def __init__(self, sysroot: str | None, live: str = "/") -> None:
        """``live`` is where this computer's own files begin: on Windows, on the drive that the system is on."""
        self.recorded = sysroot is not None
        self._root = os.path.realpath(sysroot) if sysroot is not None else live
        self._texts: dict[str, str | None] = {}
        self._denied: set[str] = set()

    def text(self, path: str) -> str | None:
        """Return a file's text without the white space around it, or ``None`` if it is absent, denied or empty."""
        if path not in self._texts:
            data = self.data(path)
            self._texts[path] = data.decode("utf-8", "replace").strip(" \t\r\n\0") or None if data is not None else None
        return self._texts[path]

    def data(self, path: str, limit: int = LIMIT) -> bytes | None:
        """Return a file's first ``limit`` bytes, or ``None``."""
        handle = self.open(path)
        if handle is None:
            return None
        parts: list[bytes] = []
        try:
            while limit > 0 and (part := os.read(handle, limit)):
                parts.append(part)
                limit -= len(part)
        except OSError:
            return None
        finally:
            os.close(handle)
        return b"".join(parts)

    def open(self, path: str) -> int | None:
        """Return a descriptor for reading a regular file, which the caller closes, or ``None``."""
        full = self._inside(path)
        if full is None:
            return None
        try:
            handle = os.open(full, _FLAGS)
        except PermissionError:
            self._denied.add(path)
            return None
        except OSError:
            return None
        mode = os.fstat(handle).st_mode
        root_only = self.recorded and not mode & 0o444
        if root_only:
            self._denied.add(path)
        if root_only or not stat.S_ISREG(mode):
            os.close(handle)
            return None
        return handle

    def why(self, path: str, absent: str) -> str:
        """Say why ``path`` gave nothing: the reason ``absent``, unless it was there and forbidden."""
        return NOT_ROOT if path in self._denied else absent

    def names(self, path: str) -> list[str]:
        """Return the names in a directory, in natural order; none if it cannot be listed."""
        full = self._inside(path)
        try:
            return sorted(os.listdir(full), key=natural) if full is not None else []
        except PermissionError:
            self._denied.add(path)
        except OSError:
            pass
        return []

    def exists(self, path: str) -> bool:
        full = self._inside(path)
        return full is not None and os.path.lexists(full)

    def status(self, path: str) -> os.stat_result | None:
        full = self._inside(path)
        try:
            return os.stat(full) if full is not None else None
        except OSError:
            return None

    def resolve(self, path: str) -> str:
        """Return where ``path`` really is, below the root and without a leading slash: a device's place on its bus.

        A recorded computer without links may say it in a file ``device_path`` beside the device's other files.
        """
        full = self._inside(path)
        if full is None:
            return ""
        real = os.path.realpath(full)
        place = os.path.relpath(real, self._root)
        if self.recorded and place == path and (said := self.text(f"{path}/device_path")):
            return said.strip("/")
        return place

    def _inside(self, path: str) -> str | None:
        if "\0" in path:
            return None
        full = os.path.join(self._root, path)
        if not self.recorded:
            return full
        real = os.path.realpath(full)
        return full if real == self._root or real.startswith(self._root + os.sep) else None


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key in which the numbers in names count as numbers (hexadecimal, as on the PCI bus)."""
    parts = (part for part in _NUMBERS.split(text.lower()) if part)
    return tuple((0, int(part, 16), part) if _NUMBERS.fullmatch(part) else (1, 0, part) for part in parts)
