"""Accounts that services run as, and whose files a folder's are.

Keeps: looking an account up, making one with the system's own ``useradd``, handing a folder over. Leaves to others: which
account, and which folder; running a program (``system_program.call``, which has its name here too).

- ``root`` names the tree whose accounts are meant: ``/``, or a folder in which a system is being put together.
- Files are handed over without following links, and a file with several names stays whose it is: an account that may
  write in a folder must not be given a file of the system by linking it there.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.edge import files
from keyturn.edge.system_program import call as call

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}", re.ASCII)  # What useradd takes on every distribution.


class Account(NamedTuple):
    """An account by name and numbers."""

    name: str
    uid: int
    gid: int


def find(name: str, root: Path) -> Account | None:
    """The account of that name in the system at ``root``. Raises: KeyturnError ``usage`` for what can be no name."""
    if not _NAME.fullmatch(name):
        raise KeyturnError("usage", f"{name!r} cannot be the name of an account: small letters, digits, - and _")
    if root == Path("/"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            return None
        return Account(name, entry.pw_uid, entry.pw_gid)
    for line in (files.read(root / "etc" / "passwd") or b"").decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) == 7:
            return Account(name, int(fields[2]), int(fields[3]))
    return None


def creation(name: str, home: Path, root: Path) -> list[str]:
    """The command that makes a system account with a group of its own, without a password or a shell."""
    within = [] if root == Path("/") else ["--prefix", str(root)]
    return [
        "useradd", *within, "--system", "--user-group", "--no-create-home", "--home-dir", str(home),
        "--shell", "/usr/sbin/nologin", name,
    ]  # fmt: skip


def owner(path: Path) -> int | None:
    """Whose ``path`` is, by number; ``None`` if it does not exist."""
    try:
        return os.stat(path, follow_symlinks=False).st_uid
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def kept_whose_it_is(folder: Path, *, but: Collection[str] = ()) -> Iterator[None]:
    """What root writes into ``folder`` during the block is made its owner's at the end: a server that runs as an account of its
    own must be able to read it. Raises: as :func:`hand_over`.
    """
    try:
        yield
    finally:
        whose = owner(folder)
        if os.geteuid() == 0 and whose:
            hand_over(folder, whose, folder.stat().st_gid, but=but)


def hand_over(folder: Path, uid: int, gid: int, *, but: Collection[str] = ()) -> None:
    """Give ``folder`` and everything below it to an account, but what has a name in ``but`` directly below it.

    Raises: KeyturnError ``storage_failed``, ``permission_denied``.
    """

    def stop(error: OSError) -> None:
        raise error

    try:
        for place, names, others, descriptor in os.fwalk(folder, onerror=stop):
            if place == str(folder):
                names[:] = [name for name in names if name not in but]
                others = [name for name in others if name not in but]
                os.chown(descriptor, uid, gid)
            for name in (*names, *others):
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if (found.st_uid, found.st_gid) != (uid, gid) and (found.st_nlink == 1 or stat.S_ISDIR(found.st_mode)):
                    os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)
    except PermissionError as error:
        raise KeyturnError("permission_denied", f"{folder} may not be given to another account by this one") from error
    except OSError as error:
        raise KeyturnError("storage_failed", f"{folder}: {error.strerror}") from error
