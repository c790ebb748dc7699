"""The installation ID: what a computer that sends nothing has read out, in 149 bits.

Keeps: its fields, how they are made and what each of them proves. Leaves to others: how it is spelled (``spelling``), the
salt's chance and where it is kept, which seat it is and what the service answers.

=========== ==== ===========================================================================================================
field       bits holds
=========== ==== ===========================================================================================================
version        4 1: ``seat`` is of the hardware; 2: of the installation key (weak evidence). Scheme 1 of the hardware
key           31 serial, then the channel's three bits
seat          44 the top of the first known pair's tag, in the order of ``PAIRS``; weak evidence: of the key's thumbprint
commitment    40 scrypt (N 2**14, r 8, p 1) of salt, hardware vector and installation key
proof         30 the top of HMAC-SHA256 by K, of all fields before and the product's name
=========== ==== ===========================================================================================================

- It is no secret: who hears it can ask for a confirmation ID of *this* installation, and of no other.
- Salt, vector and installation key stay on the computer. Their 40 bits are what makes a confirmation ID worthless on another one:
  to fit, it would have to find another computer's values by 2**40 runs of scrypt.
- A new salt makes another installation ID of the same computer, which means the same: the seat is found by its prefix.
- Thirty bits of proof are for a service that counts wrong ones; they stop guessing serials, not somebody who holds the key.

The page ``docs/protocol-telephone.md`` has the same in words, with vectors in ``tests/vectors/phone.json``.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final, NamedTuple

from keyturn.core import hardware
from keyturn.core.errors import KeyturnError
from keyturn.core.model import Channel, ProductName
from keyturn.core.phone import spelling
from keyturn.core.phone.spelling import INSTALLATION, Typed
from keyturn.core.phone.words import Book
from keyturn.core.productkey import framed

# The pair whose tag leads to the seat: what changes least stands first. A service compares it with every pair of a seat.
PAIRS: Final = ("vm", "board+uuid", "board+disk", "disk+uuid", "board+nic", "nic+uuid", "disk+nic")
SEAT_DIGITS: Final = 11  # Hexadecimal: 44 bits.
SALT_BYTES: Final = 16

_STRONG, _WEAK = 1, 2
_KEY_BITS, _SEAT_BITS, _COMMITMENT_BITS, _PROOF_BITS = 31, 44, 40, 30


class InstallationID(NamedTuple):
    """One installation ID. ``seat`` is 11 hexadecimal digits, as tags and thumbprints begin."""

    weak: bool
    channel: Channel
    serial: int
    seat: str
    commitment: int
    proof: int

    @property
    def number(self) -> int:
        """The 149 bits."""
        return _before(self) << _PROOF_BITS | self.proof

    @property
    def text(self) -> str:
        """The 54 digits, in nine groups."""
        return spelling.spell(self.number, INSTALLATION)

    def words(self, book: Book) -> tuple[str, ...]:
        """The 16 words, the last two of which check the others."""
        return spelling.spell_words(self.number, INSTALLATION, book)

    def address(self, page: str) -> str:
        """What the QR code says: the publisher's ``page``, and the digits behind ``#``, which a browser sends to nobody."""
        return f"{page}#{spelling.spell(self.number, INSTALLATION, '')}"


def make(
    product: ProductName, channel: Channel, serial: int, k: bytes, pairs: Mapping[str, str], jkt: str,
    vector: Mapping[str, str], salt: bytes,
) -> InstallationID:  # fmt: skip
    """The installation ID of this computer, key and installation.

    ``k`` is the key's derived secret, ``pairs`` and ``vector`` what ``core.hardware`` makes of the reading, ``jkt`` the
    thumbprint of the installation key, ``salt`` 16 fresh bytes of chance, to be kept with what is answered.

    1. The seat: the first known pair, or the installation key. 2. The commitment. 3. The proof, of all that.

    Raises: ValueError if the salt is too short.
    """
    # 1.
    weak, seat = seat_prefix(pairs, jkt)
    # 2.
    committed = hardware.commitment(vector, salt)
    unproven = InstallationID(weak, channel, serial, seat, commitment(product, committed, jkt, salt), 0)
    # 3.
    return unproven._replace(proof=_proof(unproven, k, product))


def read(text: str, book: Book | None = None) -> InstallationID:
    """The installation ID that a person typed or read out, in digits or words.

    Raises: KeyturnError as :func:`spelling.read`, and ``code_malformed`` if no ID of this kind exists.
    """
    return of(spelling.read(text, INSTALLATION, book))


def of(number: int) -> InstallationID:
    """The installation ID of 149 bits. Raises: KeyturnError ``code_malformed``."""
    rest, proof = divmod(number, 1 << _PROOF_BITS)
    rest, commitment = divmod(rest, 1 << _COMMITMENT_BITS)
    rest, seat = divmod(rest, 1 << _SEAT_BITS)
    version, key = divmod(rest, 1 << _KEY_BITS)
    if version not in (_STRONG, _WEAK):
        raise KeyturnError("code_malformed", "no installation ID of this kind exists; a newer Keyturn may know it")
    channel, serial = key_of(key)
    return InstallationID(version == _WEAK, channel, serial, f"{seat:0{SEAT_DIGITS}x}", commitment, proof)


def key_so_far(typed: Typed) -> tuple[Channel, int] | None:
    """Channel and serial, as soon as what was typed leaves no other (after the third group or the fourth word, as a rule).

    Raises: KeyturnError ``code_malformed`` if there is no such channel.
    """
    found = spelling.bounds(typed, INSTALLATION)
    shift = _SEAT_BITS + _COMMITMENT_BITS + _PROOF_BITS
    if found is None or found[0] >> shift != found[1] >> shift:
        return None
    return key_of(found[0] >> shift & (1 << _KEY_BITS) - 1)


def seat_prefix(pairs: Mapping[str, str], jkt: str) -> tuple[bool, str]:
    """Whether evidence is weak, and the 11 hexadecimal digits by which the service finds the seat.

    They begin one of the seat's tags, whichever pair it is of; for weak evidence the installation key's thumbprint.
    """
    first = next((pairs[name] for name in PAIRS if name in pairs), None)
    return (True, prefix_of(jkt)) if first is None else (False, first[:SEAT_DIGITS])


def prefix_of(jkt: str) -> str:
    """The 11 hexadecimal digits with which a thumbprint (base64url) begins."""
    return base64.urlsafe_b64decode(f"{jkt}=").hex()[:SEAT_DIGITS]


def proof_holds(given: InstallationID, k: bytes, product: ProductName) -> bool:
    """Say in constant time whether whoever made this ID holds the key whose K this is."""
    return hmac.compare_digest(given.proof.to_bytes(4, "big"), _proof(given, k, product).to_bytes(4, "big"))


def is_of(
    given: InstallationID, product: ProductName, channel: Channel, serial: int, k: bytes | None, jkt: str,
    vector: Mapping[str, str], salt: bytes,
) -> bool:  # fmt: skip
    """Whether this ID was made here: of this key and installation, and of the hardware that ``vector`` records.

    For every load, with what is stored (about 50 ms and 16 MiB, for scrypt): whether the computer still is the one that the
    vector records is the next question (``hardware.same``). The seat is not asked for: it is the service's, under the proof.
    ``k`` is ``None`` for an account that must not read it: whoever signed the answer had seen the proof.
    """
    return (
        (given.channel, given.serial) == (channel, serial)
        and (k is None or proof_holds(given, k, product))
        and given.commitment == commitment(product, hardware.commitment(vector, salt), jkt, salt)
    )


def key_of(bits: int) -> tuple[Channel, int]:
    """The channel and serial in 31 bits. Raises: KeyturnError ``code_malformed`` if there is no such channel."""
    try:
        return Channel.from_number(bits & 7), bits >> 3
    except KeyError as error:
        raise KeyturnError(
            "code_malformed", "no product key of this kind exists; a newer Keyturn may know it"
        ) from error


def _before(given: InstallationID) -> int:
    """The 119 bits that the proof covers."""
    head = (_WEAK if given.weak else _STRONG) << _KEY_BITS | given.serial << 3 | given.channel.number
    return (head << _SEAT_BITS | int(given.seat, 16)) << _COMMITMENT_BITS | given.commitment


def _proof(given: InstallationID, k: bytes, product: ProductName) -> int:
    message = framed("keyturn installation-id v1", str(product)) + _before(given).to_bytes(15, "big")
    return int.from_bytes(hmac.digest(k, message, hashlib.sha256)[:4], "big") >> 32 - _PROOF_BITS


@functools.lru_cache(maxsize=64)
def commitment(product: ProductName, committed: str, jkt: str, salt: bytes) -> int:
    """The 40 bits for C, which is ``hardware.commitment`` of the vector under the same salt, and the installation key.

    About 50 ms and 16 MiB; this process remembers what it found, nothing on the disk does.
    """
    password = framed("keyturn installation-id v1", str(product), committed, jkt)
    return int.from_bytes(hashlib.scrypt(password, salt=salt, n=1 << 14, r=8, p=1, dklen=5), "big")
