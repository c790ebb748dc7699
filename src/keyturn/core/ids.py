"""Names out of random bytes: UUIDs (RFC 9562), as ``uuid.UUID`` writes them, without one being made."""

from __future__ import annotations


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
