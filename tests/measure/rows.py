"""Lines of the bench: a ratio, what it may be, and the absolute figures beside it; and the page made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One figure. ``least`` and ``most`` are the goal, if there is one."""

    part: str
    what: str
    ratio: float
    absolute: str
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        return (self.least is None or self.ratio >= self.least) and (self.most is None or self.ratio <= self.most)

    @property
    def goal(self) -> str:
        if self.least is not None:
            return f"at least {self.least:g}"
        return "" if self.most is None else f"at most {self.most:g}"


def table(rows: Sequence[Row]) -> str:
    """For the terminal."""
    lines = []
    for row in rows:
        verdict = "" if not row.goal else f"  [{row.goal}: {'met' if row.met else 'MISSED'}]"
        lines.append(f"{row.ratio:10.3g}  {row.what}  ({row.absolute}){verdict}")
    return "\n".join(lines)


def page(rows: Sequence[Row], *, machine: str, day: str, commit: str) -> str:
    """The page ``docs/benchmarks.md``."""
    lines = [
        "# Benchmarks", "",
        "Written by `make bench WRITE=1`; run it to measure your own machine. Absolute figures drift from machine to machine",
        "and from hour to hour. The ratios hold: both sides of each are measured in the same run.", "",
        f"Measured on {day} at commit `{commit}`: {machine}.", "",
    ]  # fmt: skip
    for part in dict.fromkeys(row.part for row in rows):
        lines += [f"## {part}", "", "| figure | ratio | goal | absolute |", "|---|---|---|---|"]
        for row in rows:
            if row.part == part:
                goal = f"{row.goal}: {'met' if row.met else '**missed**'}" if row.goal else ""
                lines.append(f"| {row.what} | {row.ratio:.3g} | {goal} | {row.absolute} |")
        lines.append("")
    return "\n".join(lines)
