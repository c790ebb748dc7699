"""The agent's diary: which product is to be contacted when, and when the next look is due.

Keeps: what was tried, and the times that follow (``core.schedule``). Leaves to others: the clock and chance (arguments),
sleeping (``client.agent_loop``), what a turn does (``client.agent_turn``).

- Times are whole seconds of a clock that nobody sets and that goes on in suspend: the wall clock may jump to 1970 or 2099
  without the agent falling silent. Only the policy's hours are asked of the wall clock, through ``minute_of``.
- Whatever a turn reports, a product is not contacted again within 15 minutes, unless a link comes up: a mistake
  elsewhere must not become a loop.
- It lives as long as the agent. After a restart the first turn looks and asks anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from keyturn.client.agent_turn import Report, Visit
from keyturn.core import schedule
from keyturn.core.schedule import Tried

FLEET_RETRY = 8  # Seconds after which a fleet manager that is away is asked again; doubled with each failure, up to 15 minutes.


class Diary:
    """What is due when, for the products of one store, by their shelves' names."""

    def __init__(self, now: int, chance: Callable[[], float]) -> None:
        self._chance = chance
        self.look_at = now
        self.chances: dict[str, float] = {}
        self._tried: dict[str, Tried] = {}
        self._wants: dict[str, str] = {}
        self.contacts: dict[str, int] = {}
        self._fleet_at: int | None = None
        self._fleet_failures = 0

    @property
    def next(self) -> int:
        """When the next turn is due."""
        fleet = [] if self._fleet_at is None else [self._fleet_at]
        return schedule.soonest([self.look_at, *fleet, *self.contacts.values()]) or self.look_at

    def fleet_due(self, now: int) -> bool:
        """Whether a turn that begins now checks in with the fleet manager; without one it looks at each daily turn."""
        return self._fleet_at is None or self._fleet_at <= now

    def checked_in(self, now: int, visit: Visit) -> None:
        """A turn checked in, or tried to: a manager that is away is asked again soon, and less and less often."""
        self._fleet_failures = self._fleet_failures + 1 if visit.failed else 0
        wait = visit.next_in
        if visit.failed:
            longest = min(FLEET_RETRY << min(self._fleet_failures, 10), schedule.LEAST)
            wait = max(wait or 0, longest // 2 + int(self._chance() * longest / 2))
        self._fleet_at = None if wait is None else now + wait

    def due(self, now: int) -> frozenset[str]:
        """The products to be contacted now."""
        return frozenset(name for name, at in self.contacts.items() if at <= now)

    def turned(
        self,
        reports: Mapping[str, Report],
        now: int,
        *,
        minute_of: Callable[[int], int],
        open_at: Callable[[int], bool],
    ) -> None:
        """Write down what a turn reported, and when each product is next. ``open_at`` are the policy's hours.

        1. A product that is gone is forgotten.
        2. A contact that did what was wanted ends the row of failures; one that did not, though nothing failed, is a failure.
        3. A retry backs off, a renewal has its time, a new wish is due at once; all within the hours.
        """
        # 1.
        self.look_at = now + schedule.LOOK
        self.chances = {name: self.chances.get(name, self._chance()) for name in reports}
        self._tried = {name: tried for name, tried in self._tried.items() if name in reports}
        self._wants = {name: report.wants for name, report in reports.items() if report.wants is not None}
        contacts: dict[str, int] = {}
        for name, report in reports.items():
            # 2.
            tried = self._tried.get(name, Tried())
            if report.tried:
                unchanged = report.wants is not None and report.wants != "renewal"
                tried = tried.failed(now, report.retry_after) if report.code or unchanged else Tried()
                self._tried[name] = tried
            # 3.
            at = self._next_contact(name, report, tried, now)
            if at is not None:
                at = max(at, now + schedule.LEAST) if report.tried else at
                allowed = schedule.allowed_from(at, minute_of, open_at, self.chances[name])
                if allowed is not None:
                    contacts[name] = allowed
        self.contacts = contacts

    def _next_contact(self, name: str, report: Report, tried: Tried, now: int) -> int | None:
        if report.wants is None:
            return None
        if tried.failures:
            return schedule.retry(tried, self._chance(), report.left) if report.tried else self.contacts.get(name, now)
        if report.renew_in is not None:
            return now + max(report.renew_in, 0)
        return now

    def failed_turn(self, now: int) -> None:
        """A turn ended without a report: everything that was due is tried again later."""
        self.look_at = now + schedule.RETRY
        if self._fleet_at is not None:
            self._fleet_at = max(self._fleet_at, now + schedule.LEAST)
        for name in self.due(now):
            self._tried[name] = self._tried.get(name, Tried()).failed(now)
            self.contacts[name] = schedule.retry(self._tried[name], self._chance())

    def hurry(self, now: int) -> None:
        """Somebody asks for a turn now: the look, and every contact that is wanted, but for what the other side forbade."""
        self.look_at = now
        self._fleet_at = None if self._fleet_at is None else now
        for name, wants in self._wants.items():
            if wants != "renewal" or self._tried.get(name, Tried()).failures:
                self.contacts[name] = max(now, self._tried.get(name, Tried()).not_before)

    def link_up(self, now: int) -> bool:
        """A link came up: what failed, or waits for its turn, is tried soon. Whether anything is."""
        waiting = [name for name in self._wants if self._tried.get(name, Tried()).failures and name in self.contacts]
        for name in waiting:
            self.contacts[name] = min(self.contacts[name], schedule.on_link(self._tried[name], now, self._chance()))
        return bool(waiting)
