"""Walk the list "the license lifecycle on the computer" against the real programs: ``make show-lifecycle``.

A line per item: ``ok`` or ``FAIL``, the item, its figure. Exits 1 on any FAIL. The items are in ``show/``, by theme.

    python tests/show_lifecycle.py [--only WORD]
"""

from __future__ import annotations

import sys

import show_online

THEMES = ("lifecycle", "reminding")

if __name__ == "__main__":
    sys.exit(show_online.main(THEMES))
