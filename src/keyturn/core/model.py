"""The words of the product as types: channels, states, product names and times.

Leaves to others: what a document looks like (``documents``), what hardware is (``hardware``).
All times in core are whole seconds since 1970 (UTC), RFC 7519 *NumericDate*; people see RFC 3339.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from datetime import UTC, datetime
from enum import Enum, IntEnum
from typing import NamedTuple

from keyturn.core.errors import KeyturnError

DAY = 86_400
MAX_TIME = 253_402_300_799  # 9999-12-31T23:59:59Z, the last second RFC 3339 can write.
_SLUG = re.compile(r"[a-z][a-z0-9-]{0,39}")
_NAME = re.compile(r"([A-Za-z0-9_-]{43})/([a-z][a-z0-9-]{0,39})(\+test)?")


class Channel(Enum):
    """What a product key is for. The number is the key's three channel bits, for ever."""

    RETAIL = "retail"
    MAK = "mak"
    HOST = "host"
    CLIENT = "client"
    OEM = "oem"

    @property
    def number(self) -> int:
        return _CHANNEL_NUMBERS[self]

    @classmethod
    def from_number(cls, number: int) -> Channel:
        """Raises: KeyError for the three numbers that are kept for later."""
        return {value: key for key, value in _CHANNEL_NUMBERS.items()}[number]


_CHANNEL_NUMBERS = {Channel.RETAIL: 0, Channel.MAK: 1, Channel.HOST: 2, Channel.CLIENT: 3, Channel.OEM: 4}


class State(IntEnum):
    """The seven license states; the value is the ``state_code`` of ``status --json``."""

    UNLICENSED = 0
    LICENSED = 1
    INITIAL_GRACE = 2
    OUT_OF_TOLERANCE_GRACE = 3
    NON_GENUINE_GRACE = 4
    NOTIFICATION = 5
    EXTENDED_GRACE = 6

    @property
    def word(self) -> str:
        return self.name.lower()


class ProductName(NamedTuple):
    """What a product is called for ever: who publishes it, its slug, and whether it is a test product.

    ``thumbprint`` is the base64url SHA-256 of the payload of the publisher's trust bundle 1, so a false
    publisher's "writer" is another product.
    """

    thumbprint: str
    slug: str
    test: bool = False

    def __str__(self) -> str:
        return f"{self.thumbprint}/{self.slug}{'+test' if self.test else ''}"

    @classmethod
    def parse(cls, text: str) -> ProductName:
        """Raises: KeyturnError ``document_malformed`` if ``text`` is not ``THUMBPRINT/SLUG`` with an optional ``+test``."""
        match = _NAME.fullmatch(text)
        if match is None:
            raise KeyturnError("document_malformed", f"{text[:80]!r} is not a product name (THUMBPRINT/SLUG)")
        return cls(match[1], match[2], match[3] is not None)


def check_slug(slug: str) -> str:
    """Return ``slug`` if it is one: a letter, then up to 39 letters, digits and dashes, in lower case."""
    if _SLUG.fullmatch(slug) is None:
        raise KeyturnError("usage", f"{slug[:60]!r} is not a slug: a letter, then up to 39 of a-z, 0-9 and -")
    return slug


def b64u(data: bytes) -> str:
    """Base64url without padding (RFC 7515, section 2)."""
    # `base64.urlsafe_b64encode` does the same by a table: ten times as long for a document.
    text = binascii.b2a_base64(data, newline=False).rstrip(b"=").decode("ascii")
    return text.replace("+", "-").replace("/", "_")


def sha256_b64u(data: bytes) -> str:
    return b64u(hashlib.sha256(data).digest())


def rfc3339(seconds: int | None) -> str | None:
    """A time for people and JSON: ``2026-11-22T19:00:00Z``; ``None`` stays ``None``."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(min(max(seconds, 0), MAX_TIME), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> int:
    """Seconds of an RFC 3339 time. Raises: KeyturnError ``usage``."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise KeyturnError("usage", f"{text[:40]!r} is not an RFC 3339 time such as 2026-11-22T19:00:00Z") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp())


def product_id(slug: str, channel: Channel, serial: int) -> str:
    """A key's public part: readable, quotable to support, of no use to a thief."""
    return f"{slug}-{channel.value}-{serial:09d}"
