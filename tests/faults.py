"""Every write and every fsync of the real service fails once, with EIO and with ENOSPC: ``make faults``.

    python tests/faults.py [--first 200] [--step 1] [--seed SEED] [--no-ledger]

Needs strace. After each case power loss is simulated; at the end the books are checked over all of them. Appends its
line to docs/campaigns.md; exits 1 on any false acknowledgement.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from solid import ledger
from solid.faults import FSYNC, WRITE, Bench, Case

__all__ = ["FSYNC", "WRITE", "Bench", "sweep"]


def sweep(folder: Path, seed: str, numbers: list[int], *, bug: str | None = None) -> tuple[Counter[str], list[str]]:
    """Run every case of ``numbers``; figures and problems."""
    bench = Bench(folder, seed, bug=bug)
    total: Counter[str] = Counter()
    problems: list[str] = []
    for calls in (WRITE, FSYNC):
        for error in ("EIO", "ENOSPC"):
            for nth in numbers:
                found = bench.run(Case(calls, error, nth))
                problems += found.problems
                if not found.struck:
                    problems.append(f"{Case(calls, error, nth)}: the call was never made")
                total["faults"] += found.struck
                total["ended the process"] += not found.lived
                total["answered and lived on"] += found.lived
                total["acknowledged"] += found.acknowledged
    problems += bench.finish()
    total["bytes lost with the power"] = bench.lost
    return total, problems


def main() -> int:
    parser = ledger.options(__doc__)
    parser.add_argument("--first", type=int, default=200, help="how many calls of each kind (default: 200)")
    parser.add_argument("--step", type=int, default=1, help="every how many-th of them (default: all)")
    arguments = parser.parse_args()
    campaign = ledger.Campaign("faults", arguments)
    with ledger.scratch() as folder:
        total, problems = sweep(folder, campaign.seed, list(range(1, arguments.first + 1, arguments.step)))
    figures = ", ".join(f"{value} {name}" for name, value in total.items())
    campaign.say("write and fsync, EIO and ENOSPC", figures, problems)
    return campaign.end(figures)


if __name__ == "__main__":
    sys.exit(main())
