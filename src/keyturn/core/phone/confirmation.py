"""The confirmation ID: the service's signature of one installation ID, in 264 bits that a person can carry.

Keeps: its fields, what is signed, which keys may have signed it. Leaves to others: the curve's mathematics (``curve``, and
``keyturn.edge.bls`` for the pairing), spelling (``spelling``), the decision (the service), hardware (``hardware.same``).

========= ==== =============================================================================================================
field     bits holds
========= ==== =============================================================================================================
key_index    2 which of the publisher's confirmation keys signed
edition      3 the number of the edition
term         4 0: for ever; else the right ends so many quarters (91 days) after that key's start
signature  255 a BLS signature on BN254 in its short form: x, then the parity of y
========= ==== =============================================================================================================

- A signature, not a MAC: no secret that is on the customer's computer, or behind the product key, makes one.
- There is one signature for one message and key, so a right code cannot be made into another right one.
- It names no time of issue. A key that has ended still confirms what it signed; one that was stolen is revoked in a trust bundle
  as every issuing key is (``Chain.revocation``), and what it signed has to be asked for anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, ProductName
from keyturn.core.phone import curve, spelling
from keyturn.core.phone.installation import InstallationID
from keyturn.core.phone.spelling import CONFIRMATION
from keyturn.core.phone.words import Book
from keyturn.core.productkey import framed
from keyturn.core.trust import ConfirmationKey

DST: Final = b"KEYTURN-CONFIRMATION-V01-CS01-with-BN254G1_XMD:SHA-256_SVDW_RO_"
QUARTER: Final = 91 * DAY
MAX_TERM: Final = 15  # Quarters: a key signs terms for as long as they end within 3.7 years of its start.
EDITIONS: Final = 8

_SIGNATURE_BYTES = 32
# public key (128 bytes), signature (32 bytes: the short form), message -> whether it holds
Holds = Callable[[bytes, bytes, bytes], bool]


class ConfirmationID(NamedTuple):
    """One confirmation ID. ``signature`` is a short form (``curve.short``) as 32 bytes."""

    key_index: int
    edition: int
    term: int
    signature: bytes

    @property
    def number(self) -> int:
        """The 264 bits."""
        return _head(self.key_index, self.edition, self.term) << curve.SHORT_BITS | int.from_bytes(
            self.signature, "big"
        )

    @property
    def text(self) -> str:
        """The 80 digits in 16 groups, each with its check digit."""
        return spelling.spell(self.number, CONFIRMATION)

    def words(self, book: Book) -> tuple[str, ...]:
        """The 26 words, the last two of which check the others."""
        return spelling.spell_words(self.number, CONFIRMATION, book)


def read(text: str, book: Book | None = None) -> ConfirmationID:
    """The confirmation ID that a person typed, in digits or words.

    Raises: KeyturnError as :func:`spelling.read`, and ``code_malformed`` as :func:`of`.
    """
    return of(spelling.read(text, CONFIRMATION, book))


def of(number: int) -> ConfirmationID:
    """The confirmation ID of 264 bits. Raises: KeyturnError ``code_malformed`` if its signature is no point of the curve."""
    head, signature = divmod(number, 1 << curve.SHORT_BITS)
    if curve.point(signature) is None:
        raise KeyturnError("code_malformed", "nobody signs like this: it is no confirmation ID, though its checks hold")
    key_index, rest = divmod(head, 1 << 7)
    return ConfirmationID(key_index, *divmod(rest, 1 << 4), signature.to_bytes(_SIGNATURE_BYTES, "big"))


def issue(
    product: ProductName, to: InstallationID, edition: int, term: int, key_index: int, sign: Callable[[bytes], bytes]
) -> ConfirmationID:
    """Sign the answer to an installation ID. ``sign`` is the key with this ``key_index``.

    Raises: ValueError if a number does not fit its bits (a caller's fault).
    """
    if not (0 <= key_index < 4 and 0 <= edition < EDITIONS and 0 <= term <= MAX_TERM):
        raise ValueError("index, edition and term have 2, 3 and 4 bits")
    return ConfirmationID(key_index, edition, term, sign(message(product, to, _head(key_index, edition, term))))


def confirmed(
    code: ConfirmationID, product: ProductName, to: InstallationID, keys: Iterable[ConfirmationKey], holds: Holds
) -> ConfirmationKey:
    """The key that signed this answer to this installation ID; ``keys`` are the chain's, for this product (``Chain.confirming``).

    The caller MUST also ask whether the ID is this computer's (``installation.is_of``) and still is (``hardware.same``), whether
    the term has ended (:func:`ends_at`), and whether the key was revoked since (``Chain.revocation``).

    1. Only keys with the code's index are asked, the newest first. 2. The signature holds for the whole installation ID and for
    what the code says beside it.

    Raises: KeyturnError ``code_foreign``: made for another installation ID, or by nobody.
    """
    signed = message(product, to, _head(code.key_index, code.edition, code.term))
    for key in keys:
        # 1. and 2.
        if key.key_index == code.key_index and holds(key.public, code.signature, signed):
            return key
    raise KeyturnError("code_foreign")


def message(product: ProductName, to: InstallationID, head: int) -> bytes:
    """What is signed: the product's name, all 149 bits of the installation ID, and the nine bits before the signature."""
    return framed("keyturn confirmation-id v1", str(product)) + to.number.to_bytes(19, "big") + head.to_bytes(2, "big")


def term_for(key: ConfirmationKey, until: int | None) -> int:
    """The term that ends at ``until`` or less than a quarter later; ``None``: never, 0.

    Raises: ValueError if the key is too old to say so: the next one is due.
    """
    if until is None:
        return 0
    term = max(1, -(-(until - key.not_before) // QUARTER))
    if term > MAX_TERM:
        raise ValueError("this confirmation key cannot name a time so far ahead")
    return term


def ends_at(code: ConfirmationID, key: ConfirmationKey) -> int | None:
    """When the right ends that ``key`` signed, in seconds since 1970; ``None``: never."""
    return key.not_before + code.term * QUARTER if code.term else None


def _head(key_index: int, edition: int, term: int) -> int:
    return key_index << 7 | edition << 4 | term
