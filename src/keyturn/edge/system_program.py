"""Running a program of the system, such as ``systemctl``, to its end.

Keeps: where such programs are looked for, and what their failing means. Leaves to others: which program, and why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from keyturn.core.errors import KeyturnError

# Programs of administrators, also for a root without their path.
_WHERE = f"{os.defpath}:/usr/local/sbin:/usr/sbin:/sbin"
PATIENCE = 60  # Seconds.


def call(command: Sequence[str]) -> None:
    """Run a program of the system. Raises: KeyturnError ``program_failed`` with what it said."""
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:{_WHERE}")
    if program is None:
        raise KeyturnError("program_failed", f"{command[0]} is not on this computer: {' '.join(command)}")
    try:
        done = subprocess.run(
            [program, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KeyturnError("program_failed", f"{' '.join(command)}: {error}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise KeyturnError("program_failed", f"{' '.join(command)}: exit {done.returncode}: {said}")
