"""The client as one folder: how long ``keyturn status`` takes to start from it, against the same verb under plain Python."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import make_bundle
from keyturn.testing import World
from measure.client import DOOR, ROUNDS
from measure.rows import Row


def bundle_start(folder: Path) -> list[Row]:
    """Build the folder; then both programs in turn, on one licensed store. Raises: RuntimeError if they say different things."""
    program = make_bundle.build(folder / "bundle")
    world = World(folder / "world")
    world.licensed()
    world.close()
    home = next(path for path in (folder / "world").iterdir() if path.name.startswith("home-"))
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    words = ["--home", str(home), "status", "--json"]
    commands = [[sys.executable, "-c", DOOR, *words], [str(program), *words]]
    times: list[list[float]] = [[], []]
    said: set[bytes] = set()
    for turn in range(ROUNDS + 1):
        for command, found in zip(commands, times, strict=True):
            started = time.perf_counter()
            done = subprocess.run(command, capture_output=True, env=clean, check=True)
            found.append(time.perf_counter() - started)
            if turn:  # The first one notes that this is not the computer that the store was made on.
                said.add(done.stdout)
    if len(said) != 1:
        raise RuntimeError(f"Python and the bundle say different things: {said}")
    plain, bundled = (statistics.median(found[1:]) for found in times)
    size = make_bundle.size(program) / 2**20
    what = "`keyturn status` from the one-folder bundle, cold, against the same under plain Python"
    return [Row("License check", what, bundled / plain, f"{bundled * 1e3:.0f} ms, {size:.0f} MiB", most=1.5)]
