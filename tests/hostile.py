"""Hostile requests against the real service over TLS: ``make hostile``.

    python tests/hostile.py [--only WORD]… [--seed SEED] [--no-ledger]

Every case is answered 4xx or closed within 100 ms of its last byte (those that never end: closed by a time-out), without a
5xx, 50 MB of memory or an honest client left waiting. Appends its line to docs/campaigns.md.
"""

from __future__ import annotations

import sys

from solid import hostile, ledger


def main() -> int:
    parser = ledger.options(__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="only cases whose name holds WORD")
    arguments = parser.parse_args()
    campaign = ledger.Campaign("hostile", arguments)
    with ledger.scratch() as folder:
        outcome = hostile.run(folder, campaign.seed, only=arguments.only)
    campaign.say("hostile requests", outcome.text, outcome.problems)
    return campaign.end(outcome.text)


if __name__ == "__main__":
    sys.exit(main())
