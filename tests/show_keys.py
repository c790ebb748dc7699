"""Walk the list "keys and platforms for the long run" against the real programs: ``make show-keys``.

A line per item: ``ok`` or ``FAIL``, the item, its figure. Exits 1 on any FAIL. The items are in ``show/``, by theme.

    python tests/show_keys.py [--only WORD]
"""

from __future__ import annotations

import sys

import show_online

THEMES = ("ceremony", "theft", "days", "signers", "platforms")

if __name__ == "__main__":
    sys.exit(show_online.main(THEMES))
