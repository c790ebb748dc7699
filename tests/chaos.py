"""Kill storms against the real service, for as long as you give them: ``make chaos BUDGET=20m SEED=…``.

    python tests/chaos.py [--budget 3m] [--seed SEED] [--no-ledger]

First the last seats of a key under 400 computers in 8 processes and ten kills; then cycles of kill -9 under load until the
budget is used up, 100 to a storm, the books checked after each. Appends its line to docs/campaigns.md; exits 1 if
anything acknowledged was lost, or the limit was not exact.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

from solid import ledger, storm

STORM = 100  # Cycles after which the books are checked and a new publisher begins.


def main() -> int:
    parser = ledger.options(__doc__)
    parser.add_argument("--budget", default="3m", type=ledger.seconds, help="seconds, or with s, m, h (default: 3m)")
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.budget
    campaign = ledger.Campaign("chaos", arguments)
    total: Counter[str] = Counter()
    with ledger.scratch() as folder:
        outcome = storm.last_seats(folder, seed=campaign.seed)
    campaign.say("50 seats, 400 computers, 8 processes", outcome.text, outcome.problems)
    total["kills"] += outcome.figures["kills"]
    total["answers"] += outcome.figures["repeated"] * 2
    storms = 0
    while (left := until - time.monotonic()) > 15 or storms == 0:
        with ledger.scratch() as folder:
            outcome = storm.kill_cycles(folder, seed=f"{campaign.seed}-{storms}", cycles=STORM, budget=left - 10)
        campaign.say(f"storm {storms}", outcome.text, outcome.problems)
        storms += 1
        total.update({name: outcome.figures[name] for name in ("kills", "answers", "activated", "returned")})
    return campaign.end(", ".join(f"{value} {name}" for name, value in total.items()))


if __name__ == "__main__":
    sys.exit(main())
