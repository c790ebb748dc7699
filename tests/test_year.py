"""A virtual year (``solid.year``), with ten days of grace: every reminder at its time, and none that was not foretold."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn.core.model import DAY
from show.lifecycle import foretold, reminders
from solid.year import HOUR, TERM, Year


@pytest.mark.slow
def test_a_year(tmp_path: Path) -> None:
    year = Year(tmp_path, grace=10)
    told = year.play()
    year.world.close()
    begin = year.begin
    # The first grace, then every hour until it was activated two days later.
    assert reminders(told, "initial_grace") == foretold(begin, 10)
    hourly = [time for time in reminders(told, "notification") if time < begin + 12 * DAY]
    assert hourly == [begin + 10 * DAY + hour * HOUR for hour in range(48)]
    # A second grace from the day on which the hardware was another, cut off by the activation.
    changed = begin + 120 * DAY
    grace = [time for time in reminders(told, "out_of_tolerance_grace") if changed <= time < changed + 9 * DAY]
    assert grace == [time for time in foretold(changed, 10) if time < changed + 8 * DAY]
    # Licensed: silence, until thirty days before the end.
    ends = begin + 12 * DAY + TERM * DAY
    assert reminders(told, "licensed") == [ends - day * DAY for day in range(30, 0, -1)]
    assert told[-1].state == "notification (term_ended)"


def test_a_reminder_that_comes_late_is_noticed() -> None:
    """The comparison bites: one reminder an hour later."""
    promised = foretold(0, 10)
    assert [*promised[:5], promised[5] + HOUR, *promised[6:]] != promised
    assert len(promised) == 8 + 12 + 23
