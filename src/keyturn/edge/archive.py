"""Archives: several files in one, written whole or not at all, and read only in the very form that is written.

Keeps: the form, and where work in progress lies. Leaves to others: what is inside and what it means.

- The form is POSIX tar without compression, so that ``tar`` lists and unpacks it: first ``manifest.json``, which names every
  other member with its size and SHA-256, then the manifest's own SHA-256, then the members.
- Headers, padding and end must be, byte for byte, what :func:`write` makes: no links, folders, extensions or second
  spellings. A member whose name the reader did not ask for is refused, and so is a missing one.
- Nothing of a member is handed out or left in place before its SHA-256 holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.edge import files

MANIFEST, DIGEST = "manifest.json", "manifest.json.sha256"
MAX_MEMBERS = 256
MAX_SMALL = 1024 * 1024  # Bytes of what is read into memory.
_BLOCK = 512
_END = bytes(2 * _BLOCK)
_CHUNK = 1024 * 1024
_STAGING = ".staging"

Progress = Callable[[str, int, int], None]  # What is worked on, how much of it is done, of how much.


def nowhere(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody looks at."""


class Member(NamedTuple):
    """Where a member lies in its archive (bytes)."""

    offset: int
    size: int


class Reader:
    """An archive, opened. Its manifest is verified; every other member is, when it is read or copied."""

    def __init__(self, path: Path, allowed: Callable[[str], bool]) -> None:
        """Open an archive.

        1. Every block that is not content has the form of :func:`write`, and every name is ``allowed``.
        2. The manifest has the SHA-256 that stands beside it.
        3. The members are those of the manifest, with their sizes.

        Raises: KeyturnError ``file_malformed``, ``permission_denied``, ``storage_failed``.
        """
        self.path = path
        with faults(path):
            try:
                self._stream: BinaryIO = path.open("rb")
            except (FileNotFoundError, IsADirectoryError) as error:
                raise KeyturnError("file_malformed", f"{path} is no file") from error
        try:
            with faults(path):
                # 1.
                self._members = self._index(allowed)
                # 2. and 3.
                self.manifest = self._manifest()
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()

    @property
    def names(self) -> list[str]:
        """The members beside the manifest, in their order."""
        return list(self._sums)

    def read(self, name: str) -> bytes:
        """A small member. Raises: KeyturnError ``file_malformed``, also for one that is not there."""
        if name not in self._sums:
            raise self._malformed(f"{name} is not in it")
        with faults(self.path):
            data = self._bytes(name)
        if hashlib.sha256(data).hexdigest() != self._sums[name]:
            raise self._malformed(f"{name} is not as it was written")
        return data

    def copy(self, name: str, to: Path, progress: Progress = nowhere) -> None:
        """Write a member of any size to a new file, durably, mode 0600. Raises as :meth:`read`, and ``storage_failed``."""
        if name not in self._sums:
            raise self._malformed(f"{name} is not in it")
        place, hashed = self._members[name], hashlib.sha256()
        with faults(to), _new(to) as out:
            for part in self._parts(place):
                hashed.update(part)
                out.write(part)
                progress(name, out.tell(), place.size)
        if hashed.hexdigest() != self._sums[name]:
            to.unlink()
            raise self._malformed(f"{name} is not as it was written")

    def _index(self, allowed: Callable[[str], bool]) -> dict[str, Member]:
        found: dict[str, Member] = {}
        end = os.fstat(self._stream.fileno()).st_size
        while (block := self._stream.read(_BLOCK)) != bytes(_BLOCK):
            try:
                info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
            except (tarfile.HeaderError, ValueError) as error:
                raise self._malformed("it is cut off, or no backup of Keyturn") from error
            if _header(info.name, info.size, int(info.mtime)) != block:
                raise self._malformed("it holds something that no backup holds")
            if info.name in found or info.name not in (MANIFEST, DIGEST) and not allowed(info.name):
                raise self._malformed(f"{info.name!r} does not belong into it")
            at = self._stream.tell()
            if at + info.size > end or len(found) == MAX_MEMBERS:
                raise self._malformed("it is cut off, or holds too much")
            self._stream.seek(info.size, os.SEEK_CUR)
            if self._stream.read(-info.size % _BLOCK).strip(b"\0"):
                raise self._malformed(f"something follows {info.name}")
            found[info.name] = Member(at, info.size)
        if self._stream.read(_BLOCK + 1) != bytes(_BLOCK):
            raise self._malformed("something follows its end")
        if list(found)[:2] != [MANIFEST, DIGEST]:
            raise self._malformed("it does not begin with its manifest")
        return found

    def _manifest(self) -> dict[str, Any]:
        data = self._bytes(MANIFEST)
        if self._bytes(DIGEST) != _digest_line(data):
            raise self._malformed(f"{MANIFEST} is not as it was written")
        try:
            manifest: dict[str, Any] = json.loads(data)
            self._sums = {str(file["name"]): str(file["sha256"]) for file in manifest["files"]}
            sizes = {str(file["name"]): file["size"] for file in manifest["files"]}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._malformed(f"{MANIFEST} is not a manifest") from error
        there = {name: member.size for name, member in self._members.items() if name not in (MANIFEST, DIGEST)}
        if there != sizes:
            raise self._malformed("its members are not those of its manifest")
        return manifest

    def _bytes(self, name: str) -> bytes:
        place = self._members[name]
        if place.size > MAX_SMALL:
            raise self._malformed(f"{name} is larger than {MAX_SMALL} bytes")
        return b"".join(self._parts(place))

    def _parts(self, place: Member) -> Iterator[bytes]:
        self._stream.seek(place.offset)
        left = place.size
        while left:
            part = self._stream.read(min(left, _CHUNK))
            if not part:
                raise self._malformed("it was cut off while it was read")
            left -= len(part)
            yield part

    def _malformed(self, why: str) -> KeyturnError:
        return KeyturnError(
            "file_malformed", f"{self.path}: {why}", remedy="Take another copy of this file, or an older one."
        )


def write(
    path: Path, manifest: Mapping[str, Any], parts: Mapping[str, bytes | Path], *, now: int, progress: Progress = nowhere
) -> dict[str, Any]:  # fmt: skip
    """Write an archive, durably, mode 0600; the result is its manifest, which names every part. ``now`` is its time.

    1. Hash every part. 2. Write manifest, its hash and the parts into a file beside ``path``. 3. Make that durable, and
    only then give it its name: a crash at any moment leaves what was at ``path`` before, or all of the new.

    Raises: KeyturnError ``storage_failed``, ``permission_denied``.
    """
    with staging(path) as folder, faults(path):
        # 1.
        named = [
            {"name": name, "size": _size(part), "sha256": _hashed(name, part, progress)} for name, part in parts.items()
        ]
        complete = {**manifest, "files": named}
        data = (json.dumps(complete, ensure_ascii=False, indent=1) + "\n").encode()
        # 2.
        made = folder / path.name
        with _new(made) as out:
            for name, part in {MANIFEST: data, DIGEST: _digest_line(data), **parts}.items():
                out.write(_header(name, _size(part), now))
                begin = out.tell()
                for piece in _pieces(part):
                    out.write(piece)
                    progress(f"writing {name}", out.tell() - begin, _size(part))
                out.write(bytes((begin - out.tell()) % _BLOCK))
            out.write(_END)
        # 3.
        made.replace(path)
        files.sync_directory(path.parent)
    return complete


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A private folder beside ``target``, on the same file system; it is gone at the end, whatever happened.

    What a killed process left of one for the same target is removed first; a living process holds the lock of its own.
    Raises: KeyturnError ``storage_failed``, ``permission_denied``.
    """
    target = target.absolute()
    begin, parent = f".{target.name}.", target.parent
    with contextlib.ExitStack() as stack:
        with faults(target):
            parent.mkdir(parents=True, exist_ok=True)
            # Between making a folder and locking it nobody else must take it for a leftover.
            with _locked(parent):
                for left in list(parent.iterdir()):
                    if left.name.startswith(begin) and left.name.endswith(_STAGING):
                        with contextlib.suppress(BlockingIOError), _locked(left, fcntl.LOCK_NB):
                            shutil.rmtree(left)
                folder = Path(tempfile.mkdtemp(_STAGING, begin, parent))
                stack.enter_context(_locked(folder))
        # What cannot be removed now is removed by the next one.
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


@contextlib.contextmanager
def faults(path: Path) -> Iterator[None]:
    """Foreign faults around ``path`` become KeyturnError ``permission_denied`` or ``storage_failed``."""
    try:
        yield
    except PermissionError as error:
        raise KeyturnError("permission_denied", f"{error.filename or path} is closed to this account") from error
    except OSError as error:
        raise KeyturnError("storage_failed", f"{path}: {error.strerror or error}") from error


def sync_tree(folder: Path) -> None:
    """Make every file and every name below ``folder`` durable. Raises: OSError."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                os.fsync(file.fileno())
        files.sync_directory(place)


@contextlib.contextmanager
def _locked(folder: Path, how: int = 0) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _new(path: Path) -> Iterator[BinaryIO]:
    """A new file of mode 0600, durable at the end of the block."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, files.PRIVATE), "wb") as out:
        yield out
        out.flush()
        os.fsync(out.fileno())


def _header(name: str, size: int, at: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, files.PRIVATE, at
    return info.tobuf(tarfile.GNU_FORMAT, "ascii", "replace")


def _digest_line(data: bytes) -> bytes:
    """As ``sha256sum`` writes it."""
    return f"{hashlib.sha256(data).hexdigest()}  {MANIFEST}\n".encode()


def _size(part: bytes | Path) -> int:
    return len(part) if isinstance(part, bytes) else part.stat().st_size


def _hashed(name: str, part: bytes | Path, progress: Progress) -> str:
    hashed, done = hashlib.sha256(), 0
    for piece in _pieces(part):
        hashed.update(piece)
        done += len(piece)
        progress(f"hashing {name}", done, _size(part))
    return hashed.hexdigest()


def _pieces(part: bytes | Path) -> Iterable[bytes]:
    if isinstance(part, bytes):
        yield part
        return
    with part.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            yield piece
