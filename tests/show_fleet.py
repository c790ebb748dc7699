"""Walk the list "fleet manager" against the real programs: ``make show-fleet`` (root: it makes networks of its own).

A line per item: ``ok`` or ``FAIL``, the item, its figure. Exits 1 on any FAIL. The items are in ``show/``, by theme.

    python tests/show_fleet.py [--only WORD]
"""

from __future__ import annotations

import sys

import show_online

THEMES = ("fleets", "console")

if __name__ == "__main__":
    sys.exit(show_online.main(THEMES))
