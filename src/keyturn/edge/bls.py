"""BLS signatures on BN254 by the library py_ecc: what makes and proves confirmation IDs.

Keeps: the second group, the pairing, the secret scalar, and how keys are written. Leaves to others: messages onto the curve and
the short form of a signature (``core.phone.curve``), what is signed (``core.phone.confirmation``).

- A signature is the secret times the message's point, in the first group; a public key is the secret times the generator of the
  second (draft-irtf-cfrg-bls-signature-05, minimal signature size, on another curve). One pairing equation proves it.
- A public key is 128 bytes: x then y, of each the imaginary part first, big-endian, as EIP-197 writes them. It is believed only
  if its coordinates are below P, it is on the curve, of order R, and not infinity.
- A secret is 32 bytes, big-endian, from 1 to R - 1.
- Nothing here runs in constant time, as nothing in Python does: signing is for the service, on a computer of its own, and what is
  signed is counted. Whoever verifies has no secret.

The library is imported when it is first needed: a client without the extra ``phone`` never comes here.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any, Final

from keyturn.core.errors import KeyturnError
from keyturn.core.phone import curve
from keyturn.core.phone.confirmation import DST
from keyturn.edge.keystore import Signer

SECRET: Final = 32  # Bytes.
CHANCE: Final = 48  # Bytes: so many that their remainder by R - 1 is even to one in 2**128.
PUBLIC: Final = 128
_PART: Final = 32


def holds(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` (a short form, 32 bytes) of ``message`` verifies under ``public``. About half a second.

    1. The key is one (:func:`is_key`). 2. The signature is a point. 3. e(signature, G) = e(message's point, key), as one product.

    Raises: KeyturnError ``extra_missing``.
    """
    # 1.
    key = _key(public)
    # 2.
    point = curve.point(int.from_bytes(signature, "big"))
    if key is None or point is None:
        return False
    # 3.
    ecc = _library()
    left = ecc.pairing(ecc.G2, _first(point), final_exponentiate=False)
    right = ecc.pairing(ecc.neg(key), _first(curve.hash_to_curve(message, DST)), final_exponentiate=False)
    return bool(ecc.final_exponentiate(left * right) == ecc.FQ12.one())


def is_key(public: bytes) -> bool:
    """Whether these bytes can be somebody's public key. Raises: KeyturnError ``extra_missing``."""
    return _key(public) is not None


def secret_of(chance: bytes) -> bytes:
    """A secret of 48 bytes of chance, each secret as likely as every other. Raises: ValueError if there are fewer bytes."""
    if len(chance) != CHANCE:
        raise ValueError(f"a secret is made of {CHANCE} bytes of chance")
    return (int.from_bytes(chance, "big") % (curve.R - 1) + 1).to_bytes(SECRET, "big")


def signer(secret: bytes) -> Signer:
    """A signer for this secret. Its ``kid`` is not a JWK's: ``trust.ConfirmationKey`` has the right one.

    Raises: ValueError if this is no secret; KeyturnError ``extra_missing``.
    """
    scalar = int.from_bytes(secret, "big")
    if len(secret) != SECRET or not 0 < scalar < curve.R:
        raise ValueError("a secret is 32 bytes, from 1 to R - 1")
    ecc = _library()
    x, y = ecc.normalize(ecc.multiply(ecc.G2, scalar))
    parts = (part for value in (x, y) for part in reversed(value.coeffs))
    public = b"".join(int(part).to_bytes(_PART, "big") for part in parts)

    def sign(message: bytes) -> bytes:
        x, y = ecc.normalize(ecc.multiply(_first(curve.hash_to_curve(message, DST)), scalar))
        return curve.short(curve.Point(int(x), int(y))).to_bytes(SECRET, "big")

    return Signer(public, sign)


@functools.lru_cache(maxsize=8)
def _key(public: bytes) -> Any:
    """The point of the second group that these bytes are; ``None`` if they are none."""
    ecc = _library()
    numbers = [int.from_bytes(public[at : at + _PART], "big") for at in range(0, len(public), _PART)]
    if len(public) != PUBLIC or not all(number < curve.P for number in numbers):
        return None
    x1, x0, y1, y0 = numbers
    point = (ecc.FQ2([x0, x1]), ecc.FQ2([y0, y1]), ecc.FQ2.one())
    # (0, 0), which elsewhere means infinity, is not on the curve.
    if not ecc.is_on_curve(point, ecc.b2) or not ecc.is_inf(ecc.multiply(point, curve.R)):
        return None
    return point


def _first(point: curve.Point) -> Any:
    ecc = _library()
    return (ecc.FQ(point.x), ecc.FQ(point.y), ecc.FQ.one())


@functools.cache
def _library() -> ModuleType:
    limit = sys.getrecursionlimit()
    try:
        from py_ecc import optimized_bn128
    except ImportError as error:
        raise KeyturnError(
            "extra_missing", "telephone activation needs a part: pip install 'keyturn[phone]'"
        ) from error
    finally:
        # The library sets it to 100,000 for curves that are not used here; ours guards the reading of documents.
        sys.setrecursionlimit(limit)
    return optimized_bn128
