"""Walk the list "activation host" against the real programs: ``make show-host`` (root; needs dnsmasq and BIND).

A line per item: ``ok`` or ``FAIL``, the item, its figure. Exits 1 on any FAIL. The items are in ``show/``, by theme.

    python tests/show_host.py [--only WORD]
"""

from __future__ import annotations

import sys

import show_online

THEMES = ("hosts",)

if __name__ == "__main__":
    sys.exit(show_online.main(THEMES))
