"""A service as another account, in a network and a view of the file system of its own, as systemd and containers give it.

- The network is a loopback that nobody else is on, so that ports below 1024 are free.
- The whole system is read-only but for what is mounted for the service.
- What the program needs of folders that only root may enter (an interpreter, this tree) is laid open in there, and nowhere else.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from keyturn.edge.accounts import Account
from programs import PATIENCE, environment

NEEDED = (Path(sys.base_prefix), Path(sys.prefix), Path(__file__).parents[1] / "src")


def as_account(
    folder: Path,
    account: Account,
    command: str,
    *,
    mounts: Mapping[Path, str],
    hidden: Sequence[str] = (),
    rights: str = "",
    meanwhile: str,
    after: str = "",
    sysroot: Path,
) -> subprocess.CompletedProcess[str]:
    """Start ``command`` as ``account``, run the shell lines ``meanwhile`` once it is ready, end it by SIGTERM, run ``after``.

    ``mounts`` are folders and where the service finds them, ``hidden`` are places nobody may look into, ``rights`` are
    capabilities by setpriv's names. In ``meanwhile``, ``$service`` is its process. The last words of stdout are
    ``ended`` and its exit status.
    """
    kept = "-all" + "".join(f",+{name}" for name in rights.split())
    limits = f"--inh-caps={kept} --ambient-caps={kept} --bounding-set={kept} --no-new-privs"
    inner = [
        "mount -o remount,bind,ro /",
        *(f"mount -t tmpfs -o mode=000 none {place}" for place in hidden),
        f"exec setpriv --reuid {account.uid} --regid {account.gid} --clear-groups {limits} -- {command}",
    ]
    script = f"""
        set -eu
        ip link set lo up
        {laid_open(folder / "open")}
        {"".join(mounted(source, place) for source, place in mounts.items())}
        mkfifo {folder}/ready
        unshare --mount sh -c {shlex.quote(" && ".join(inner))} > {folder}/ready &
        service=$!
        exec 3< {folder}/ready
        read -r line <&3
        {meanwhile}
        kill -TERM $service
        status=0
        wait $service || status=$?
        {after}
        echo ended $status
    """
    return subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", script],
        cwd=folder, env=environment(folder, {"KEYTURN_SYSROOT": str(sysroot)}), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


def laid_open(folder: Path) -> str:
    """Shell lines that let every account reach what the program needs."""
    closed = {found for path in NEEDED for found in [first_closed(path)] if found is not None}
    behind = [path for path in NEEDED if first_closed(path) in closed]
    lines = []
    for number, path in enumerate(behind):
        lines.append(f"mkdir -p {folder}/{number}\nmount --bind {path} {folder}/{number}")
    lines += [f"mount -t tmpfs -o mode=755 none {place}" for place in sorted(closed)]
    for number, path in enumerate(behind):
        lines.append(f"mkdir -p {path}\nmount --bind {folder}/{number} {path}")
    return "\n".join(lines)


def first_closed(path: Path) -> Path | None:
    """The uppermost folder on the way to ``path`` that others may not enter."""
    return next((place for place in reversed(path.resolve().parents) if not os.stat(place).st_mode & 0o001), None)


def mounted(source: Path, place: str) -> str:
    """Shell lines that put ``source`` where the service expects it, whether or not that place is there."""
    above = str(Path(place).parent)
    return (
        f"mkdir -p {source}.at && mount --bind {source} {source}.at\nmount -t tmpfs -o mode=755 none {above}\n"
        f"mkdir {place}\nmount --bind {source}.at {place}\n"
    )
