"""The client: what a license check and a cold start cost, against one verification and the imports nobody can avoid."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyturn.testing import World
from measure.rows import Row

ROUNDS = 15
COLD = "import cryptography.hazmat.primitives.asymmetric.ed25519, ssl, json"
DOOR = "import sys; from keyturn.cli import main; sys.exit(main())"


def seconds(action: Callable[[], object], times: int) -> float:
    """Of one call, over ``times`` calls."""
    started = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - started) / times


def license_check(folder: Path) -> list[Row]:
    """The warm check of a running program against one Ed25519 verification."""
    world = World(folder / "world", features=["layers"])
    licensed = world.licensed()
    key = Ed25519PrivateKey.generate()
    message, public = b"x" * 800, key.public_key()
    signature = key.sign(message)
    checks, verifications = [], []
    for _ in range(ROUNDS):
        verifications.append(seconds(lambda: public.verify(signature, message), 200))
        checks.append(seconds(lambda: licensed.require("layers"), 20))
    world.close()
    check, verify = statistics.median(checks), statistics.median(verifications)
    what = "`require()`, warm: the whole chain and the hardware, in Ed25519 verifications"
    return [Row("License check", what, check / verify, f"{check * 1e3:.2f} ms", most=4)]


def cold_start(folder: Path) -> list[Row]:
    """`keyturn status` as a process, against a process that only imports what it cannot do without."""
    world = World(folder / "world")
    world.licensed()
    world.close()
    home = next(path for path in (folder / "world").iterdir() if path.name.startswith("home-"))
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    commands = [[sys.executable, "-c", COLD], [sys.executable, "-c", DOOR, "--home", str(home), "status", "--json"]]
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS + 1):
        for command, found in zip(commands, times, strict=True):
            started = time.perf_counter()
            subprocess.run(command, capture_output=True, env=clean, check=True)
            found.append(time.perf_counter() - started)
    base, status = (statistics.median(found[1:]) for found in times)
    what = "`keyturn status`, cold, against importing cryptography, ssl and json"
    return [Row("License check", what, status / base, f"{status * 1e3:.0f} ms", most=1.5)]
