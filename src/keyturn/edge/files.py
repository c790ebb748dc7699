"""Files that are either wholly there or not at all: bounded reads, atomic and durable writes, a lock.

Leaves to others: what is in a file. Foreign faults become ``storage_failed``, ``permission_denied`` or
``file_malformed``; a missing file is ``None``, because that is an ordinary answer.

Modes are those of POSIX. On Windows ``PRIVATE`` is an access list (``sddl``), and any other mode what the folder says.

Paths are texts with ``os.path`` here and in the client's store: ``pathlib`` costs a tenth of ``keyturn status``.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from _thread import get_ident
from collections.abc import Iterator
from typing import Any

from keyturn.core.errors import KeyturnError

AnyPath = str | os.PathLike[str]
MAX_FILE = 64 * 1024 * 1024
PUBLIC = 0o644
PRIVATE = 0o600


def read(path: AnyPath, limit: int = MAX_FILE) -> bytes | None:
    """The file's bytes, or ``None`` if it does not exist.

    Raises: KeyturnError ``input_too_large``, ``permission_denied``, ``storage_failed``.
    """
    try:
        with open(path, "rb", opener=_opener) as stream:
            expected = min(os.fstat(stream.fileno()).st_size, limit)
            data = stream.read(expected + 1)
            if len(data) > expected:  # Longer than its size said: a file of /proc, or one that grows.
                data += stream.read(limit + 1 - len(data))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise KeyturnError("permission_denied", f"{path} may not be read by this account") from error
    except OSError as error:
        raise KeyturnError("storage_failed", f"{path} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise KeyturnError("input_too_large", f"{path} is larger than {limit} bytes")
    return data


def read_json(path: AnyPath, limit: int = MAX_FILE) -> dict[str, Any] | None:
    """The JSON object in a file of our own, or ``None``. Raises: KeyturnError ``file_malformed``."""
    data = read(path, limit)
    if data is None:
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise KeyturnError("file_malformed", f"{path} is not JSON") from error
    if not isinstance(value, dict):
        raise KeyturnError("file_malformed", f"{path} does not hold an object")
    return value


def write(path: AnyPath, data: bytes, mode: int = PUBLIC) -> None:
    """Replace a file durably: a crash at any moment leaves the old content or the new, never a part.

    Raises: KeyturnError ``storage_failed``, ``permission_denied``.
    """
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.{get_ident()}.tmp")
    try:
        os.makedirs(folder, exist_ok=True)
        try:
            descriptor = _create(temporary, mode)
            with os.fdopen(descriptor, "wb") as stream:
                if sys.platform != "win32":
                    os.fchmod(descriptor, mode)  # Whatever the umask is.
                stream.write(data)
                stream.flush()
                _sync(descriptor)
            _replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        sync_directory(folder)
    except PermissionError as error:
        raise KeyturnError("permission_denied", f"{path} may not be written by this account") from error
    except OSError as error:
        raise KeyturnError("storage_failed", f"{path} cannot be written: {error.strerror}") from error


def write_json(path: AnyPath, value: dict[str, Any], mode: int = PUBLIC) -> None:
    write(path, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode(), mode)


def remove(path: AnyPath) -> None:
    """Delete a file durably; one that is not there is deleted already."""
    try:
        os.unlink(path)
        sync_directory(os.path.dirname(os.path.abspath(path)))
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError as error:
        raise KeyturnError("permission_denied", f"{path} may not be deleted by this account") from error
    except OSError as error:
        raise KeyturnError("storage_failed", f"{path} cannot be deleted: {error.strerror}") from error


def open_folders(home: AnyPath, folder: AnyPath) -> None:
    """Make ``folder`` within ``home`` and let everybody look into both, whatever the umask says.

    Raises: KeyturnError ``storage_failed``, ``permission_denied``.
    """
    place = os.path.abspath(folder)
    try:
        os.makedirs(place, exist_ok=True)
        while True:
            _open_folder(place)
            if place in (os.path.abspath(home), os.path.dirname(place)):
                return
            place = os.path.dirname(place)
    except PermissionError as error:
        raise KeyturnError("permission_denied", f"{place} may not be changed by this account") from error
    except OSError as error:
        raise KeyturnError("storage_failed", f"{place} cannot be made: {error.strerror}") from error


def _open_folder(place: str) -> None:
    if sys.platform == "win32":
        from keyturn.edge import windows

        windows.open_to_everybody(place)
    elif (os.stat(place).st_mode & 0o055) != 0o055:
        os.chmod(place, 0o755)  # noqa: S103 - it is the point: every program must be able to check its license


def sync_directory(path: AnyPath) -> None:
    """Make names in a directory durable (a rename is not, until its directory is). On Windows the file system does it."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    """Wait until the disk has it. On macOS ``fsync`` only hands it to the disk, whose cache forgets (fsync(2) there)."""
    if sys.platform == "darwin":
        import fcntl

        with contextlib.suppress(OSError):  # Not every file system can.
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _opener(path: str, flags: int) -> int:
    if sys.platform == "win32":
        from keyturn.edge import windows

        return windows.open_for_reading(path)
    return os.open(path, flags)


def _create(path: str, mode: int) -> int:
    """A new file for writing that has ``mode`` from its first moment."""
    if sys.platform == "win32":
        from keyturn.edge import windows

        return windows.create(path, private=mode == PRIVATE)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)


def _replace(source: str, target: AnyPath) -> None:
    if sys.platform == "win32":
        from keyturn.edge import windows

        windows.replace(source, os.fspath(target))
    else:
        os.replace(source, target)


def open_to_others(path: AnyPath) -> bool:
    """Whether an account that is neither the file's owner nor the computer's administrator may do anything with it.

    A file that is not there is open to nobody. Raises: KeyturnError ``storage_failed``.
    """
    try:
        if sys.platform == "win32":
            from keyturn.edge import sddl, windows

            return sddl.lets_others_in(windows.access_list(os.fspath(path)))
        return bool(os.stat(path).st_mode & 0o077)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise KeyturnError("storage_failed", f"who may read {path} cannot be told: {error.strerror}") from error


def stamp(path: AnyPath) -> tuple[int, int, int] | None:
    """What is different once a file was replaced, or a name in a folder was written; ``None`` if nothing is there.

    Raises: KeyturnError ``storage_failed``.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise KeyturnError("storage_failed", f"{path} cannot be looked at: {error.strerror}") from error
    return found.st_mtime_ns, found.st_ino, found.st_size


def of_another(path: AnyPath) -> bool:
    """Whether the file is there and belongs to another account. On Windows: is there and cannot be read by this one."""
    try:
        if sys.platform == "win32":
            with open(path, "rb", opener=_opener):
                return False
        return os.stat(path).st_uid != os.geteuid()
    except PermissionError:
        return sys.platform == "win32"
    except OSError:
        return False


def privileged() -> bool:
    """Whether this process has the rights of root; on Windows, those of an administrator."""
    if sys.platform == "win32":
        from keyturn.edge import windows

        return windows.is_administrator()
    return os.geteuid() == 0


def writable(path: AnyPath) -> bool:
    """Whether this account could write below ``path``, which need not exist yet."""
    place = os.path.abspath(path)
    while not os.path.exists(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    if sys.platform == "win32":  # There ``os.access`` does not look at access lists, so it is tried.
        with contextlib.suppress(OSError):
            trial = os.path.join(place, f".{os.getpid()}.{get_ident()}.try")
            os.close(os.open(trial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_TEMPORARY))
            return True
        return False
    return os.access(place, os.W_OK)


@contextlib.contextmanager
def lock(path: AnyPath) -> Iterator[None]:
    """Hold a file's lock, so that two processes do not change one thing at once; it ends with the process."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PUBLIC)
    except PermissionError as error:
        raise KeyturnError("permission_denied", f"{os.path.dirname(path)} may not be changed by this account") from error
    except OSError as error:
        raise KeyturnError("storage_failed", f"{path} cannot be opened: {error.strerror}") from error
    try:
        if sys.platform == "win32":
            from keyturn.edge import windows

            windows.lock(descriptor)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


MARKER = "keyturn-home.json"


def claim_home(home: AnyPath, program: str) -> None:
    """Mark ``home`` as belonging to ``program`` (client, service …), or refuse if it is another's.

    Raises: KeyturnError ``home_foreign`` with the command line that would fit.
    """
    check_home(home, program)
    if _marker(home) is None:
        write_json(os.path.join(home, MARKER), {"program": program, "v": 1})


def check_home(home: AnyPath, program: str) -> None:
    """Raises: KeyturnError ``home_foreign`` if ``home`` belongs to another program."""
    marker = _marker(home)
    if marker is not None and marker.get("program") != program:
        owner = str(marker.get("program"))
        line = "keyturn" if owner == "client" else f"keyturn {owner}"
        raise KeyturnError("home_foreign", f"{home} belongs to the {owner}: use `{line} --home {home} status`")


def _marker(home: AnyPath) -> dict[str, Any] | None:
    """What marks a home; a damaged mark is none: it keeps nobody from a store whose every document is verified."""
    try:
        marker = read_json(os.path.join(home, MARKER), 4096)
        return marker if marker is not None and isinstance(marker.get("program"), str) else None
    except KeyturnError as error:
        if error.code not in ("file_malformed", "input_too_large"):
            raise
        return None


def filesystem(path: AnyPath) -> str | None:
    """The type of the file system below which ``path`` lies (``ext4``, ``tmpfs`` …); ``None`` where it cannot be told."""
    data = read("/proc/self/mounts", 1024 * 1024)
    best, found = "", None
    wanted = f"{os.path.realpath(path)}/"
    for line in (data or b"").decode("utf-8", "replace").splitlines():
        fields = line.split(" ")
        mount = f"{fields[1].rstrip('/')}/" if len(fields) > 2 else "//"
        if wanted.startswith(mount) and len(mount) >= len(best):
            best, found = mount, fields[2]
    return found
