"""Rooms: what a killed run leaves of them is found and ended, and nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from programs import PATIENCE
from rooms import Room, sweep

MAKER = """
import sys
from pathlib import Path
from rooms import Room
room = Room(Path(sys.argv[1]), network=True)
import subprocess
inside = subprocess.Popen([*room._enter, "sleep", "infinity"])
print(room._holder.pid, inside.pid, flush=True)
sys.stdin.read()
"""


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.system
@pytest.mark.needs("root", "unshare", "ip")
def test_rooms_of_a_killed_run_are_swept_and_no_others(tmp_path: Path) -> None:
    """Its holder and what ran inside end; a room whose maker lives stays."""
    here = str(Path(__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", MAKER, str(tmp_path / "left")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": here},
    ) as maker:  # fmt: skip
        assert maker.stdout is not None
        holder, inside = (int(word) for word in maker.stdout.readline().split())
        with Room(tmp_path / "mine") as mine:
            sweep()
            assert alive(holder) and alive(inside)
            maker.send_signal(signal.SIGKILL)
            maker.wait(PATIENCE)
            assert alive(holder) and alive(inside)
            assert sweep() >= 2
            assert not alive(holder) and not alive(inside)
            assert mine.sh("echo here") == "here\n"
            assert sweep() == 0
