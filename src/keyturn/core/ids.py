"""Names out of random bytes: UUIDs (RFC 9562), as ``uuid.UUID`` writes them, without one being made."""

from __future__ import annotations


def uuid4(random: bytes) -> str:
    """A random UUID (section 5.4) of 16 random bytes."""
    value = int.from_bytes(random, "big")
    return _text(value & ~(0xF << 76 | 0b11 << 62) | 0x4 << 76 | 0b10 << 62)


def uuid7(now: int, random: bytes) -> str:
    """A UUID that sorts by time (section 5.7), of 12 random bytes. ``now`` in seconds; the milliseconds are random."""
    value = int.from_bytes(random, "big")
    milliseconds = (now * 1000 + value % 1000) & ((1 << 48) - 1)
    value >>= 10
    return _text(milliseconds << 80 | 0x7 << 76 | (value >> 62 & 0xFFF) << 64 | 0b10 << 62 | value & ((1 << 62) - 1))


def _text(value: int) -> str:
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
