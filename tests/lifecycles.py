"""Random lives of a copy against a small model of what the documentation promises: ``make lifecycles LIVES=10000 SEED=…``.

    python tests/lifecycles.py [--lives 10000] [--seed SEED] [--no-ledger]

Two processes play them with the real client and service. Appends its line to docs/campaigns.md; exits 1 if client and model
disagree once.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from solid import ledger
from solid.lifecycles import Stage

PROCESSES = 2
SHARE = 250  # Lives with one publisher: its database stays small.


def play(folder: str, seed: str, first: int, count: int) -> tuple[int, list[str]]:
    """Play ``count`` lives; the result is how many steps they had, and where client and model disagree."""
    stage = Stage(Path(folder) / f"{first}", seed)
    problems = [problem for number in range(first, first + count) for problem in stage.live(f"{seed}-{number}")]
    stage.world.close()
    return stage.steps, problems


def campaign(lives: int, seed: str) -> tuple[int, list[str]]:
    """All of it, side by side; as :func:`play`."""
    shared = Path("/dev/shm")  # Nothing here is about disks.
    with ledger.scratch(shared if shared.is_dir() else None) as folder, ProcessPoolExecutor(PROCESSES) as pool:
        shares = [
            pool.submit(play, str(folder), seed, first, min(SHARE, lives - first)) for first in range(0, lives, SHARE)
        ]
        played = [share.result() for share in shares]
    return sum(steps for steps, _ in played), [problem for _, problems in played for problem in problems]


def main() -> int:
    parser = ledger.options(__doc__)
    parser.add_argument("--lives", default=10_000, type=int, help="how many (default: 10,000)")
    arguments = parser.parse_args()
    run = ledger.Campaign("lifecycles", arguments)
    begun = time.monotonic()
    steps, problems = campaign(arguments.lives, run.seed)
    run.say(f"{arguments.lives} lives", f"{steps} steps in {time.monotonic() - begun:.0f} s", problems)
    return run.end(f"{arguments.lives} lives, {steps} steps, {len(problems)} disagreements")


if __name__ == "__main__":
    sys.exit(main())
