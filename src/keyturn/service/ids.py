"""Names for rows: UUIDv7 (RFC 9562, section 5.7), so that they sort by time without a sequence."""

from __future__ import annotations

from collections.abc import Callable


class Ids:
    """Makes names from a source of randomness (``secrets.token_bytes`` outside of tests)."""

    def __init__(self, chance: Callable[[int], bytes]) -> None:
        self.chance = chance

    def uuid7(self, now: int) -> str:
        """``now`` in seconds; the milliseconds are random, which keeps the order between seconds."""
        random = int.from_bytes(self.chance(12), "big")
        milliseconds = (now * 1000 + random % 1000) & ((1 << 48) - 1)
        random >>= 10
        value = milliseconds << 80 | 0x7 << 76 | (random >> 62 & 0xFFF) << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
        text = f"{value:032x}"  # As uuid.UUID writes it, without one being made.
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
