"""Walk the list "activate this computer online" against the real programs: ``make show-online``.

A line per item: ``ok`` or ``FAIL``, the item, its figure. Exits 1 on any FAIL. The items are in ``show/``, by theme.

    python tests/show_online.py [--only WORD] [--fresh-clone]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
import tempfile
import textwrap
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from show import stage

THEMES = ("house", "evidence", "facts", "seats", "mistakes", "network", "wheel")


def main(themes: Sequence[str] = THEMES) -> int:
    """Show the items of ``themes``, modules below ``show/``."""
    parser = argparse.ArgumentParser(description="Walk the list against the real programs.")
    parser.add_argument("--only", default="", metavar="WORD", help="only items whose title holds WORD")
    parser.add_argument(
        "--fresh-clone", action="store_true", help="also make demo and make test in a fresh clone (slow)"
    )
    parser.add_argument("--traceback", action="store_true", help="show where an item failed")
    options = parser.parse_args()
    for theme in themes:
        importlib.import_module(f"show.{theme}")
    if options.fresh_clone:
        importlib.import_module("show.clone")
    chosen = [item for item in stage.ITEMS if options.only.lower() in item.title.lower()]
    began, failed = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="keyturn-show-") as folder:
        Path(folder).chmod(0o755)  # Items that become another account must get in.
        with contextlib.closing(stage.Stage(Path(folder))) as made:
            for item in chosen:
                failed += not shown(item, made, options.traceback)
    print(f"\n{len(chosen) - failed} of {len(chosen)} shown in {time.monotonic() - began:.0f} s")
    return 1 if failed or not chosen else 0


def shown(item: stage.Item, made: stage.Stage, trace: bool) -> bool:
    """Show one item and print its line."""
    began = time.monotonic()
    try:
        word, figure = "ok", item.show(made)
    except Exception as error:  # noqa: BLE001 (whatever goes wrong in an item is that item's FAIL)
        word, figure = "FAIL", f"{type(error).__name__}: {error}"
        if trace:
            traceback.print_exc()
    print(f"{word:<5} {item.title}  [{time.monotonic() - began:.1f} s]")
    print(textwrap.indent("\n".join(textwrap.wrap(figure, 110, break_on_hyphens=False)[:30]), " " * 8), flush=True)
    return word == "ok"


if __name__ == "__main__":
    sys.exit(main())
