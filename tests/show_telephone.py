"""Walk the list "activation by telephone" against the real programs: ``make show-telephone``.

A line per item: ``ok`` or ``FAIL``, the item, its figure. Exits 1 on any FAIL. The items are in ``show/telephone.py`` and
``show/telephone_hosts.py``.

    python tests/show_telephone.py [--only WORD]
"""

from __future__ import annotations

import sys

import show_online

THEMES = ("telephone", "telephone_hosts")

if __name__ == "__main__":
    sys.exit(show_online.main(THEMES))
