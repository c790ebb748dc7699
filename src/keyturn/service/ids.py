"""Names for rows: UUIDv7 (RFC 9562, section 5.7), so that they sort by time without a sequence."""

from __future__ import annotations

from collections.abc import Callable

from keyturn.core import ids


class Ids:
    """Makes names from a source of randomness (``secrets.token_bytes`` outside of tests)."""

    def __init__(self, chance: Callable[[int], bytes]) -> None:
        self.chance = chance

    def uuid7(self, now: int) -> str:
        """``now`` in seconds; the milliseconds are random, which keeps the order between seconds."""
        return ids.uuid7(now, self.chance(12))
