"""Names for rows: UUIDv7 (RFC 9562, section 5.7), so that they sort by time without a sequence."""

from __future__ import annotations

from collections.abc import Callable

from keyturn.core import ids


class Ids:
    """Makes names from a source of randomness (``secrets.token_bytes`` outside of tests).

    Those of one second come one after another, from a random place on (section 6.2, method 1): rows that are written together lie
    together. Threads may share it: two names in one place still differ by 62 random bits.
    """

    def __init__(self, chance: Callable[[int], bytes]) -> None:
        self.chance = chance
        self._second, self._place = 0, 0

    def uuid7(self, now: int) -> str:
        """``now`` in seconds."""
        random = self.chance(12)
        if now != self._second:
            self._second, self._place = now, int.from_bytes(random[:3], "big") % (ids.PLACES // 2)
        self._place = min(self._place + 1, ids.PLACES - 1)
        return ids.uuid7(now, random, self._place)
