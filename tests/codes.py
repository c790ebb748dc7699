"""Slips and guesses against the codes of telephone activation: ``make codes IDS=10000 N=1000000``.

    python tests/codes.py [--ids 10000] [--count 1000000] [--judged 200] [--processes 2] [--seed SEED] [--no-ledger]

Prints what was caught and where; exits 1 if a slip was missed or a code taken. Appends its line to docs/campaigns.md.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from solid import ledger, phone

Part = Callable[..., tuple[Counter[str], list[str]]]


def spread(
    pool: ProcessPoolExecutor, part: Part, seed: str, processes: int, *counts: int
) -> tuple[Counter[str], list[str]]:
    """Share the counts of one part among processes, each with a seed of its own."""
    shares: list[Any] = [
        pool.submit(part, f"{seed} {number}", *(-(-count // processes) for count in counts))
        for number in range(processes)
    ]
    counted: Counter[str] = Counter()
    problems: list[str] = []
    for share in shares:
        more, found = share.result()
        counted += more
        problems += found
    return counted, problems


def main() -> int:
    parser = ledger.options(__doc__)
    parser.add_argument("--ids", type=int, default=10_000, help="random IDs of each form (default: 10000)")
    parser.add_argument("--count", type=int, default=1_000_000, help="random codes (default: 1000000)")
    parser.add_argument("--judged", type=int, default=200, help="how many of each kind by the pairing (default: 200)")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    campaign = ledger.Campaign("codes", arguments)
    with ProcessPoolExecutor(arguments.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for what, part, counts in (
            ("slips", phone.slips, (arguments.ids,)),
            ("answers for others", phone.foreign, (arguments.ids, arguments.judged)),
            ("guesses", phone.guesses, (arguments.count, arguments.judged)),
        ):
            counted, problems = spread(pool, part, f"{campaign.seed} {what}", arguments.processes, *counts)
            campaign.say(what, ", ".join(f"{count} {name}" for name, count in counted.items()), problems)
    return campaign.end(f"{arguments.ids} IDs of each form, {arguments.count} random codes")


if __name__ == "__main__":
    sys.exit(main())
