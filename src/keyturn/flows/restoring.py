"""Putting a home into its place out of a backup: whole, or not at all.

Keeps: where a home may be put, and the one step that puts it there. Leaves to others: what is in a home, and what must be right
before it is put there.
"""

from __future__ import annotations

import os
from pathlib import Path

from keyturn.core.errors import KeyturnError
from keyturn.edge import accounts, archive, files
from keyturn.edge.archive import faults


def nothing_at(path: Path) -> None:
    """Nothing is at ``path``, at least nothing but an empty folder. Raises: KeyturnError ``usage``, ``permission_denied``."""
    with faults(path):
        there = sorted(p.name for p in path.iterdir()) if path.is_dir() else [path.name] if path.exists() else []
    if there:
        names = ", ".join(there[:5]) + (", …" if len(there) > 5 else "")
        raise KeyturnError(
            "usage", f"{path} is not empty ({names})", remedy="Name another folder with --home; nothing was changed."
        )
    if path.is_symlink() or path.is_mount():
        raise KeyturnError(
            "usage", f"{path} is a link or a mounted disk, so nothing can be put into its place at once",
            remedy="Name a folder that lies on that disk with --home.",
        )  # fmt: skip


def put_in_place(staged: Path, path: Path) -> None:
    """Make all of ``staged`` durable, give it to the owner of the folder that was at ``path``, and only then its name.

    Raises: KeyturnError ``storage_failed``, ``permission_denied``.
    """
    with faults(path):
        archive.sync_tree(staged)
        owner = accounts.owner(path)
        if owner and os.geteuid() == 0:
            accounts.hand_over(staged, owner, path.stat().st_gid)
        staged.replace(path)
        files.sync_directory(path.absolute().parent)
