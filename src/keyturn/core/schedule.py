"""When a computer acts next by itself, and over which link it may.

Keeps: the times of renewal, retry, link-up and the daily look, and what a link and a policy mean together.
Leaves to others: clock and chance (arguments here), sleeping and doing (``client.agent_loop``), seeing links (``edge.links``).

- Times are NumericDate, lengths are seconds. ``chance`` is a number from 0 up to, but not, 1; the same chance gives the
  same time, so that a time can be worked out again and does not wander.
- Jitter spreads a fleet; it never makes anybody earlier than the other side asked for (``Retry-After``).
- Nothing here is about rights: a license holds or ends whether or not anybody was reached (``license``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from keyturn.core.model import DAY

MINUTE, HOUR = 60, 3600
RENEW = 7 * DAY  # Of a dated right, unless the answer says otherwise (design: section 6).
RETRY = 2 * HOUR  # After the first failure; doubled with each further one.
LONGEST_RETRY = DAY
PATIENCE = 16  # A right that still runs may wait for the next try so many-th part of what is left, at most RENEW.
LEAST, MOST = 15 * MINUTE, 30 * DAY  # What an answer may set.
LOOK = DAY  # Between two looks at the hardware and the organization's files.
SPREAD = 0.1  # Part of an interval by which computers drift apart.
LINK_SPREAD = 15  # Seconds: a building whose power returns must not ask in one second.
LINK_LEAST = 15  # Seconds between attempts on a link that comes and goes; doubled with each failure.


class Tried(NamedTuple):
    """What is remembered of the attempts for one product: how many failed in a row, when, and what the other side asked."""

    failures: int = 0
    at: int = 0
    not_before: int = 0

    def failed(self, now: int, retry_after: int | None = None) -> Tried:
        """One more failure. ``retry_after`` seconds are obeyed, up to 30 days."""
        asked = 0 if retry_after is None else now + min(max(retry_after, 0), MOST)
        return Tried(self.failures + 1, now, asked)


def bounded(seconds: int | None, default: int) -> int:
    """An interval that an answer set, within 15 minutes and 30 days; ``default`` if it set none."""
    return default if seconds is None else min(max(seconds, LEAST), MOST)


def renewal(issued_at: int, expires_at: int | None, renew_after: int | None, chance: float) -> int | None:
    """When to renew; ``None`` for what does not end.

    A short lease is renewed at the half of its life, whatever the interval is, so that a second try is left.
    """
    if expires_at is None:
        return None
    length = min(bounded(renew_after, RENEW), max((expires_at - issued_at) // 2, LEAST))
    return issued_at + length - int(length * SPREAD * chance)


def retry(tried: Tried, chance: float, left: int | None = None) -> int:
    """When to try again after a failure: two hours, then twice as long each time, up to a day; never before ``not_before``.

    A renewal of a right that still runs for ``left`` seconds is in no hurry: it may wait longer, up to the interval of renewals.
    So computers that found nobody for days come back over as many days, not all within one.
    """
    longest = LONGEST_RETRY if left is None else min(max(left // PATIENCE, LONGEST_RETRY), RENEW)
    length = min(RETRY << min(max(tried.failures - 1, 0), 8), longest)
    asked = tried.not_before + int(LINK_SPREAD * chance) if tried.not_before else 0
    return max(tried.at + length + int(length * SPREAD * (2 * chance - 1)), asked)


def on_link(tried: Tried, now: int, chance: float) -> int:
    """When to try because a link came up: at once but for some seconds, and not before the other side asked.

    A link that comes and goes gets an attempt after 15 seconds, then after 30, after 60 …
    """
    soon = now + int(LINK_SPREAD * chance)
    if not tried.failures:
        return soon
    patience = min(LINK_LEAST << min(tried.failures - 1, 9), RETRY)
    return max(soon, tried.at + patience, tried.not_before)


def allowed_from(at: int, minute_of: Callable[[int], int], open_at: Callable[[int], bool], chance: float) -> int | None:
    """The first time from ``at`` on that the policy's hours allow; ``None`` if they never do.

    ``minute_of`` gives the minute (0 to 1439) of the local day of a time. A computer that waits for the hours to begin
    comes within their first quarter, as its chance says, if they last that long.
    """
    if open_at(minute_of(at)):
        return at
    start = at - at % MINUTE
    first = next((start + MINUTE * count for count in range(1, 1441) if open_at(minute_of(start + MINUTE * count))), None)
    if first is None:
        return None
    later = first + int(LEAST * chance)
    return later if open_at(minute_of(later)) else first


def soonest(times: Iterable[int | None]) -> int | None:
    """The first of several times, of which some may never come."""
    return min((time for time in times if time is not None), default=None)


def link_refusal(link: str, *, metered: str, dial: str) -> str | None:
    """Why this link may not be used now, as a code of the catalogue, or ``None`` if it may.

    ``link`` is ``up``, ``metered``, ``on_demand`` (it would have to be dialled), ``none`` or ``unknown``; ``metered`` and
    ``dial`` are the policy's. What is unknown is tried, as on every computer that manages its links otherwise.
    """
    if link == "none" or (link == "on_demand" and dial != "allow"):
        return "link_down"
    return "link_metered" if link == "metered" and metered != "allow" else None
