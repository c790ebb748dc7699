"""The same tests on other days: the calendar moved for them and for every program they start."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import in_time
from show.stage import Stage, item

# What rests on dates most; `make in-time` runs all of the suite, and docs/campaigns.md keeps what came of it.
CHOSEN = [f"tests/test_{name}.py" for name in ("theft", "license", "activation", "transport", "sdk")]


@item("The tests at +90 days, +1 year, +10 years, on a leap day, across 2038 and 2100")
def other_days(stage: Stage) -> str:
    library = in_time.build(Path(stage.place("days")))
    figures = []
    for name in in_time.MOMENTS:
        passed, failed, lines = in_time.run(library, in_time.moment(name, datetime.now(UTC)), CHOSEN)
        assert passed, f"{name}: nothing ran: {lines}"
        assert not failed, f"{name}: {lines}"
        figures.append(f"{name}: {passed}")
    return "tests passed, by day: " + ", ".join(figures)
