"""The curve of confirmation IDs, as far as arithmetic of whole numbers goes: messages onto it, its points as bytes.

Keeps: BN254 (also called alt_bn128, EIP-196) and its first group, hash-to-curve, the two encodings. Leaves to others: the
second group, the pairing and secret scalars (``keyturn.edge.bls``, by a library).

- G1 is y² = x³ + 3 over the field of P elements, whole: its order R is prime, so every point of the curve is of the group.
- A message becomes a point by RFC 9380: ``expand_message_xmd`` with SHA-256 (5.3.1), ``hash_to_field`` with L = 48 (5.2), the
  map of Shallue and van de Woestijne (6.6.1) with Z = 1, the first that appendix H.1 finds, twice, and the sum.
- A point's *short form* is 255 bits: x, then one bit, the parity of y (``sgn0``). There is none for infinity.
- Nothing here is secret, so nothing here needs constant time.

>>> found = hash_to_curve(b"abc", b"QUUX-V01-CS02-with-BN254G1_XMD:SHA-256_SVDW_RO_")
>>> f"{found.x:x}"[:16], point(short(found)) == found
('23f717bee89b1003', True)
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

P: Final = 0x30644E72E131A029B85045B68181585D97816A916871CA8D3C208C16D87CFD47
R: Final = 0x30644E72E131A029B85045B68181585D2833E84879B9709143E1F593F0000001
SHORT_BITS: Final = 255

_FIELD: Final = 48  # L of hash_to_field: ceil((254 + 128) / 8) bytes of chance for each element.
_BLOCK, _DIGEST = 64, 32  # Of SHA-256, in bytes.
_Z: Final = 1


class Point(NamedTuple):
    """A point of G1 that is not infinity, in affine coordinates."""

    x: int
    y: int


def point(number: int) -> Point | None:
    """The point of a short form; ``None`` if this is none: x must be below P and on the curve."""
    x, odd = number >> 1, number & 1
    if not 0 <= x < P:
        return None
    y = _root(_right(x))
    # No point of the group has y = 0: it would be of order two.
    return None if y is None else Point(x, y if y & 1 == odd else P - y)


def short(of: Point) -> int:
    """A point's short form, below 2**255."""
    return of.x << 1 | of.y & 1


def hash_to_curve(message: bytes, dst: bytes) -> Point:
    """The point that a message is mapped to: RFC 9380, section 3, ``hash_to_curve``; the cofactor of G1 is one.

    Raises: ValueError if the domain's name is longer than 255 bytes, or for the message (one in 2**250) that meets infinity.
    """
    uniform = expand_message(message, dst, 2 * _FIELD)
    first, second = (int.from_bytes(uniform[at : at + _FIELD], "big") % P for at in (0, _FIELD))
    found = _sum(map_to_curve(first), map_to_curve(second))
    if found is None:
        raise ValueError("the message is mapped to infinity")
    return found


def expand_message(message: bytes, dst: bytes, length: int) -> bytes:
    """``expand_message_xmd`` with SHA-256 (RFC 9380, section 5.3.1)."""
    blocks = -(-length // _DIGEST)
    if len(dst) > 255 or blocks > 255:
        raise ValueError("a domain's name has at most 255 bytes")
    domain = dst + bytes([len(dst)])
    first = hashlib.sha256(bytes(_BLOCK) + message + length.to_bytes(2, "big") + b"\0" + domain).digest()
    made = [hashlib.sha256(first + b"\1" + domain).digest()]
    for number in range(2, blocks + 1):
        mixed = bytes(a ^ b for a, b in zip(first, made[-1], strict=True))
        made.append(hashlib.sha256(mixed + bytes([number]) + domain).digest())
    return b"".join(made)[:length]


def map_to_curve(u: int) -> Point:
    """The straight-line form of Shallue and van de Woestijne's map (RFC 9380, appendix F.1), for this curve."""
    tv1 = u * u % P * _C1 % P
    tv2, tv1 = 1 + tv1, 1 - tv1
    tv3 = _inverse(tv1 * tv2 % P)
    tv4 = u * tv1 % P * tv3 % P * _C3 % P
    x3 = (_Z + _C4 * pow(tv2 * tv2 * tv3, 2, P)) % P
    for x in ((_C2 - tv4) % P, (_C2 + tv4) % P, x3):
        y = _root(_right(x))
        if y is not None:
            return Point(x, y if y & 1 == u & 1 else P - y)
    raise AssertionError("one of the three is always on the curve")


def _right(x: int) -> int:
    """The right side of the curve's equation."""
    return (x * x * x + 3) % P


def _root(square: int) -> int | None:
    """A square root, if there is one; P is 3 modulo 4."""
    root = pow(square, (P + 1) // 4, P)
    return root if root * root % P == square else None


def _inverse(value: int) -> int:
    """1 / value, and 0 for 0 (``inv0``)."""
    return pow(value, -1, P) if value % P else 0


def _sum(a: Point, b: Point) -> Point | None:
    """The sum of two points; ``None`` is infinity."""
    if a.x == b.x and a.y != b.y:
        return None
    slope = 3 * a.x * a.x * _inverse(2 * a.y) if a == b else (b.y - a.y) * _inverse(b.x - a.x)
    x = (slope * slope - a.x - b.x) % P
    return Point(x, (slope * (a.x - x) - a.y) % P)


def _constants() -> tuple[int, int, int, int]:
    """c1 to c4 of section 6.6.1, for A = 0 and B = 3; c3 is the root whose sgn0 is 0."""
    c1 = _right(_Z)
    c3 = _root(-c1 * 3 * _Z * _Z % P)
    assert c3 is not None
    return c1, -_Z * _inverse(2) % P, c3 if c3 & 1 == 0 else P - c3, -4 * c1 * _inverse(3 * _Z * _Z) % P


_C1, _C2, _C3, _C4 = _constants()
