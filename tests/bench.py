"""``make bench``: what things cost, as ratios measured in one run on one machine.

Absolute figures drift from machine to machine and from hour to hour; the ratios hold. Every pair that is compared is
measured alternately, and the median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyturn.client import actions
from keyturn.edge.vault import Vault
from keyturn.testing import World

COLD = "import cryptography.hazmat.primitives.asymmetric.ed25519, ssl, json"


def seconds(action: Callable[[], object], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - started) / times


def cold_start(world: World, rounds: int) -> tuple[float, float]:
    """A process that says the status, against one that only imports what it cannot do without (seconds)."""
    home = str(world.folder / "home-1")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    door = "import sys; from keyturn.cli import main; sys.exit(main())"
    commands = [[sys.executable, "-c", COLD], [sys.executable, "-c", door, "--home", home, "status", "--json"]]
    times: list[list[float]] = [[], []]
    for _ in range(rounds + 1):
        for command, found in zip(commands, times, strict=True):
            started = time.perf_counter()
            subprocess.run(command, capture_output=True, env=clean, check=True)
            found.append(time.perf_counter() - started)
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "world", features=["layers"])
        client = world.licensed()
        key = Ed25519PrivateKey.generate()
        message, public = b"x" * 800, key.public_key()
        signature = key.sign(message)
        rows = []

        verify = statistics.median(
            seconds(lambda: public.verify(signature, message), 200) for _ in range(arguments.rounds)
        )
        sign = statistics.median(seconds(lambda: key.sign(message), 200) for _ in range(arguments.rounds))
        check = statistics.median(seconds(lambda: client.require("layers"), 5) for _ in range(arguments.rounds))
        rows.append(
            (
                "license check, warm (whole chain, hardware read anew), in Ed25519 verifications",
                check / verify,
                f"{check * 1e3:.2f} ms",
            )
        )

        base, status = cold_start(world, arguments.rounds)
        rows.append(
            (
                "`keyturn status` as a process, against importing cryptography, ssl and json",
                status / base,
                f"{status * 1e3:.0f} ms",
            )
        )

        minted = world.publisher.mint_all(channel="mak", limit=1000, count=1)[0]
        minting = seconds(lambda: world.publisher.mint_all(channel="retail", count=2000), 1) / 2000
        rows.append(("one key minted, in Ed25519 signatures", minting / sign, f"{1 / minting:.0f} keys/s"))

        tokens = []
        for number in range(300):
            machine = world.machine()
            shelf = actions.add_product(
                Vault(str(world.folder / f"bench-{number}"), "user").shelf, world.product, machine
            )
            actions.install_key(shelf, minted["key"], machine)
            tokens.append(actions.make_request(shelf, machine)[0])
        with ThreadPoolExecutor(32) as pool:
            started = time.perf_counter()
            list(pool.map(world.publisher.service.exchange, tokens))
            each = (time.perf_counter() - started) / len(tokens)
        rows.append(
            (
                "one durable activation without HTTP, in Ed25519 verify + sign",
                each / (verify + sign),
                f"{1 / each:.0f} activations/s",
            )
        )
        world.close()
    if arguments.json:
        print(
            json.dumps(
                [{"what": what, "ratio": round(ratio, 2), "absolute": absolute} for what, ratio, absolute in rows],
                indent=1,
            )
        )
        return
    for what, ratio, absolute in rows:
        print(f"{ratio:8.2f}  {what}  ({absolute})")


if __name__ == "__main__":
    main()
