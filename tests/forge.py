"""Forged answers against the client's verifier: ``make forge N=1000000``.

    python tests/forge.py [--count 1000000] [--processes 2] [--seed SEED] [--no-ledger]

Prints how many of each class were refused; exits 1 if one was accepted or crashed the verifier. Appends its line to
docs/campaigns.md.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from solid import forgeries, ledger


def spread(folder: Path, seed: str, count: int, processes: int) -> tuple[Counter[str], list[str]]:
    """Share ``count`` forgeries among processes, each with a scene of its own."""
    refused: Counter[str] = Counter()
    problems: list[str] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        shares = [
            pool.submit(forgeries.run, folder / str(number), f"{seed} {number}", -(-count // processes))
            for number in range(processes)
        ]
        for share in shares:
            counted, found = share.result()
            refused += counted
            problems += found
    return refused, problems


def main() -> int:
    parser = ledger.options(__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="how many (default: 1000000)")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    campaign = ledger.Campaign("forge", arguments)
    with ledger.scratch() as folder:
        refused, problems = spread(folder, campaign.seed, arguments.count, arguments.processes)
    for name, count in refused.items():
        campaign.say(name, f"{count} refused", [problem for problem in problems if problem.startswith(name)])
    return campaign.end(f"{refused.total()} refused, {len(problems)} accepted or crashed")


if __name__ == "__main__":
    sys.exit(main())
