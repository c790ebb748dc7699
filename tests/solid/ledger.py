"""The committed ledger of campaigns, ``docs/campaigns.md``: what was run, on which commit, with which seed, and what came of it.

A campaign appends a line by itself, failures too. A run can be repeated from its line.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

LEDGER = Path(__file__).parents[2] / "docs" / "campaigns.md"
HEAD = """# Campaigns

Long runs against the real service, in the order they were made; `make chaos`, `make faults`, `make forge`,
`make codes`, `make hostile`, `make lifecycles` and `make in-time` append a line each. A commit with `+` had changes that were not
committed. Repeat a run by its seed: `make chaos BUDGET=20m SEED=…`.

| day | commit | campaign | seed | figures | failures |
|---|---|---|---|---|---|
"""


def commit() -> str:
    """The commit of the working tree, ``+`` if it was changed; ``-`` outside of a repository."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        git = ["git", "-C", str(LEDGER.parent)]
        name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "--", "../src", "../tests"], capture_output=True, text=True, check=True
        )
        return name.strip() + ("+" if dirty.stdout.strip() else "")
    return "-"


def append(campaign: str, seed: str, figures: str, problems: Sequence[str]) -> None:
    if not LEDGER.exists():
        LEDGER.write_text(HEAD)
    failures = "0" if not problems else f"{len(problems)}: {'; '.join(problems[:3])}".replace("|", "/")
    day = time.strftime("%Y-%m-%d", time.gmtime())
    with LEDGER.open("a") as file:
        file.write(f"| {day} | {commit()} | {campaign} | {seed} | {figures} | {failures} |\n")


def seconds(text: str) -> float:
    """``90``, ``90s``, ``20m`` or ``2h``, in seconds."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    return float(text[:-1]) * unit if unit else float(text)


def options(description: str | None) -> argparse.ArgumentParser:
    """What every campaign takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", default="", help="repeat the run with this seed (default: a new one)")
    parser.add_argument("--no-ledger", action="store_true", help="do not append to docs/campaigns.md")
    return parser


class Campaign:
    """One run: prints as it goes, and is written into the ledger at its end."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        self.name = name
        self.seed: str = arguments.seed or secrets.token_hex(4)
        self.keep = not arguments.no_ledger
        self.problems: list[str] = []
        print(f"{name}, seed {self.seed}, commit {commit()}", flush=True)

    def say(self, what: str, figures: str, problems: Sequence[str]) -> None:
        self.problems += problems
        print(f"{'FAIL' if problems else 'ok':<5} {what}: {figures}", flush=True)
        for problem in problems[:20]:
            print(f"      {problem}", flush=True)

    def end(self, figures: str) -> int:
        if self.keep:
            append(self.name, self.seed, figures, self.problems)
        print(f"{figures}; {len(self.problems)} failures")
        return 1 if self.problems else 0


@contextlib.contextmanager
def scratch(top: Path | None = None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="keyturn-", dir=top) as folder:
        yield Path(folder)
