"""Validation by telephone: is this copy genuine? A short number out, a shorter one back.

Keeps: both codes, what proves them and what they say. Leaves to others: how they are spelled (``spelling``), what is known of the
seat (the service), where the question waits (the client).

*Validation ID*, 110 bits, 12 words or 7 groups:

======= ==== ==========================================================================================================
field   bits holds
======= ==== ==========================================================================================================
version    4 1: ``seat`` is of the hardware; 2: of the installation key, as in an installation ID
key       31 serial, then the channel's three bits
seat      44 the top of the first known pair's tag, or of the installation key's thumbprint
nonce     11 chance: an answer that was heard before fits one question of two thousand
proof     20 the top of HMAC-SHA256 by K, of all fields before and the product's name
======= ==== ==========================================================================================================

*Verdict code*, 33 bits, 5 words or 2 groups: the finding (3 bits), then the top 30 bits of HMAC-SHA256 by K, of the validation ID
and the finding.

- A verdict code is a word between people: it changes no right. Whoever holds the product key has K and could make one, for
  himself. What withdraws a right is the publisher's signed list, and nothing else.
- Twenty bits of proof are for a service that counts wrong ones.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import IntEnum
from typing import Final, NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.model import Channel, ProductName
from keyturn.core.phone import installation, spelling
from keyturn.core.phone.installation import SEAT_DIGITS
from keyturn.core.phone.spelling import VALIDATION, VERDICT
from keyturn.core.phone.words import Book
from keyturn.core.productkey import framed

NONCE_BITS: Final = 11

_STRONG, _WEAK = 1, 2
_KEY_BITS, _SEAT_BITS, _PROOF_BITS, _TAG_BITS = 31, 4 * SEAT_DIGITS, 20, 30


class Finding(IntEnum):
    """What the publisher knows of a copy."""

    GENUINE = 0
    WITHDRAWN = 1  # Its key or its activation is on the revocation list.
    UNKNOWN = 2  # This computer holds no seat of the key: never taken, returned, or taken back.


class ValidationID(NamedTuple):
    """One question. ``seat`` is 11 hexadecimal digits, as tags and thumbprints begin."""

    weak: bool
    channel: Channel
    serial: int
    seat: str
    nonce: int
    proof: int

    @property
    def number(self) -> int:
        """The 110 bits."""
        return _before(self) << _PROOF_BITS | self.proof

    @property
    def text(self) -> str:
        """The 42 digits, in seven groups."""
        return spelling.spell(self.number, VALIDATION)

    def words(self, book: Book) -> tuple[str, ...]:
        """The 12 words, the last two of which check the others."""
        return spelling.spell_words(self.number, VALIDATION, book)


def ask(
    product: ProductName, channel: Channel, serial: int, k: bytes, weak: bool, seat: str, nonce: int
) -> ValidationID:
    """The question of one copy, with its proof.

    ``seat`` is what the copy was activated with, not what the computer is today: its parts may have changed within the tolerance.
    ``nonce`` is 11 bits of chance.
    """
    unproven = ValidationID(weak, channel, serial, seat, nonce & (1 << NONCE_BITS) - 1, 0)
    return unproven._replace(proof=_proof(unproven, k, product))


def read(text: str, book: Book | None = None) -> ValidationID:
    """The validation ID that a person typed or read out, in digits or words.

    Raises: KeyturnError as :func:`spelling.read`, and ``code_malformed`` if no ID of this kind exists.
    """
    rest, proof = divmod(spelling.read(text, VALIDATION, book), 1 << _PROOF_BITS)
    rest, nonce = divmod(rest, 1 << NONCE_BITS)
    rest, seat = divmod(rest, 1 << _SEAT_BITS)
    version, key = divmod(rest, 1 << _KEY_BITS)
    if version not in (_STRONG, _WEAK):
        raise KeyturnError("code_malformed", "no validation ID of this kind exists; a newer Keyturn may know it")
    channel, serial = installation.key_of(key)
    return ValidationID(version == _WEAK, channel, serial, f"{seat:0{SEAT_DIGITS}x}", nonce, proof)


def proof_holds(given: ValidationID, k: bytes, product: ProductName) -> bool:
    """Say in constant time whether whoever made this ID holds the key whose K this is."""
    return hmac.compare_digest(given.proof.to_bytes(3, "big"), _proof(given, k, product).to_bytes(3, "big"))


def verdict(to: ValidationID, finding: Finding, k: bytes, product: ProductName) -> int:
    """The 33 bits that answer ``to``."""
    return finding << _TAG_BITS | _tag(to, finding, k, product)


def judged(text: str, asked: ValidationID, k: bytes, product: ProductName, book: Book | None = None) -> Finding:
    """What the verdict code says that a person typed, in digits or words.

    1. Its groups or words hold. 2. It answers this question, with this finding, by somebody who knows K.

    Raises: KeyturnError as :func:`spelling.read`, and ``code_foreign``.
    """
    # 1.
    number = spelling.read(text, VERDICT, book)
    # 2.
    for finding in Finding:
        right = verdict(asked, finding, k, product)
        if hmac.compare_digest(number.to_bytes(5, "big"), right.to_bytes(5, "big")):
            return finding
    raise KeyturnError(
        "code_foreign", "this verdict code does not answer the validation ID that is shown here",
        remedy="Compare the validation ID that was read out with the one shown here: `keyturn validate --via telephone`.",
    )  # fmt: skip


def _before(given: ValidationID) -> int:
    """The 90 bits that the proof covers."""
    head = (_WEAK if given.weak else _STRONG) << _KEY_BITS | given.serial << 3 | given.channel.number
    return (head << _SEAT_BITS | int(given.seat, 16)) << NONCE_BITS | given.nonce


def _proof(given: ValidationID, k: bytes, product: ProductName) -> int:
    message = framed("keyturn validation-id v1", str(product)) + _before(given).to_bytes(12, "big")
    return int.from_bytes(hmac.digest(k, message, hashlib.sha256)[:4], "big") >> 32 - _PROOF_BITS


def _tag(to: ValidationID, finding: Finding, k: bytes, product: ProductName) -> int:
    message = framed("keyturn verdict-code v1", str(product)) + to.number.to_bytes(14, "big") + bytes([finding])
    return int.from_bytes(hmac.digest(k, message, hashlib.sha256)[:4], "big") >> 32 - _TAG_BITS
