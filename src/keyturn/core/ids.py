"""Names out of random bytes: UUIDs (RFC 9562), as ``uuid.UUID`` writes them, without one being made."""

from __future__ import annotations

from collections.abc import Callable


def uuid4(random: bytes) -> str:
    """A random UUID (section 5.4) of 16 random bytes."""
    value = int.from_bytes(random, "big")
    return _text(value & ~(0xF << 76 | 0b11 << 62) | 0x4 << 76 | 0b10 << 62)


PLACES = 1000 << 12  # In a second: 1,000 milliseconds, and the 12 bits after them.


def uuid7(now: int, random: bytes, place: int | None = None) -> str:
    """A UUID that sorts by time (section 5.7), of 12 random bytes. ``now`` in seconds.

    ``place`` (less than :data:`PLACES`) is its place in that second; without one the bytes say it.
    """
    value = int.from_bytes(random, "big")
    milliseconds, rest = divmod((value >> 62) % PLACES if place is None else place, 1 << 12)
    milliseconds = (now * 1000 + milliseconds) & ((1 << 48) - 1)
    return _text(milliseconds << 80 | 0x7 << 76 | rest << 64 | 0b10 << 62 | value & ((1 << 62) - 1))


def _text(value: int) -> str:
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Ids:
    """Makes names of rows from a source of randomness (``secrets.token_bytes`` outside of tests).

    Those of one second come one after another, from a random place on (RFC 9562, section 6.2, method 1): rows that are written
    together lie together. Threads may share it: two names in one place still differ by 62 random bits.
    """

    def __init__(self, chance: Callable[[int], bytes]) -> None:
        self.chance = chance
        self._second, self._place = 0, 0

    def uuid7(self, now: int) -> str:
        """``now`` in seconds."""
        random = self.chance(12)
        if now != self._second:
            self._second, self._place = now, int.from_bytes(random[:3], "big") % (PLACES // 2)
        self._place = min(self._place + 1, PLACES - 1)
        return uuid7(now, random, self._place)
