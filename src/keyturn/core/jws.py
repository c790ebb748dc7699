"""Compact JWS (RFC 7515) with Ed25519 (RFC 8037), as strict as the two lines allow.

Keeps: the only codec of Keyturn's documents. The signature covers the bytes that travel.
Leaves to others: whose key may sign what (``trust``), and what claims mean (``documents``).

- The reader names the kind it wants: ``typ`` and algorithm are pinned, never chosen by the sender.
- ``kid`` is required. ``crit`` is refused, because no critical extension is understood here.
- Verify first, parse after: :class:`Verified` hands out claims only of verified bytes.
- Duplicate names, floats, NaN, lone surrogates, numbers above 2^53 and deep nesting are refused.
- A document that signs for itself (request, release, capability, possession, sightings, and a fleet's) carries its
  public key in ``jwk``
  (RFC 7515, 4.1.3).
"""

from __future__ import annotations

import binascii
import functools
import json
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keyturn.core.errors import KeyturnError
from keyturn.core.model import b64u, sha256_b64u

MAX_TOKEN = 65_536  # Characters. Requests are held to 16 KiB at the door; a bundle with many keys is larger.
MAX_DEPTH = 16
_MAX_NUMBER = 2**53
# Spare bits must be zero: what a text may end with, by how many characters are left after the last four.
_ENDS = ("", "", "AQgw", "AEIMQUYcgkosw048")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Kind(Enum):
    """What a document is. One kind is never read as another: the kind is in the signed header."""

    BUNDLE = "bundle"
    PRODUCT = "product"
    REQUEST = "request"
    CERTIFICATE = "certificate"
    RELEASE = "release"
    REVOCATIONS = "revocations"
    HOST = "host"
    HOST_PHONE = "host-phone"
    LEASE = "lease"
    ENDORSEMENT = "endorsement"
    IDENTITY = "identity"
    SIGHTINGS = "sightings"
    RECORD = "record"
    REBIND = "rebind"
    ENROLLMENT = "enrollment"
    CHECK_IN = "check-in"
    MANIFEST = "manifest"
    INQUIRY = "inquiry"
    CAPABILITY = "capability"
    POSSESSION = "possession"

    @property
    def typ(self) -> str:
        return f"keyturn-{self.value}+jwt"


class Header(NamedTuple):
    """The verified-later part of a token: whose key it says signed it. ``jwk`` only in self-signed kinds."""

    kind: Kind
    kid: str
    jwk: bytes | None


class Verified(NamedTuple):
    """A token whose signature holds. ``payload`` are the signed bytes."""

    kind: Kind
    kid: str
    key: bytes
    payload: bytes

    def claims(self) -> dict[str, Any]:
        """Parse the signed bytes. Raises: KeyturnError ``document_malformed``."""
        return loads(self.payload)


def jwk(public: bytes) -> dict[str, str]:
    """The JSON Web Key of a raw Ed25519 public key of 32 bytes (RFC 8037, section 2)."""
    return {"crv": "Ed25519", "kty": "OKP", "x": b64u(public)}


def thumbprint(public: bytes) -> str:
    """The JWK thumbprint (RFC 7638) of a raw Ed25519 public key: every ``kid`` is one."""
    # RFC 7638, section 3.3: the required members in lexicographic order, without white space.
    return sha256_b64u(b'{"crv":"Ed25519","kty":"OKP","x":"%s"}' % b64u(public).encode())


def dumps(claims: Mapping[str, Any]) -> bytes:
    """Compact UTF-8 JSON with sorted names, so that equal claims are equal bytes."""
    return _COMPACT.encode(claims).encode("utf-8")


def loads(data: bytes) -> dict[str, Any]:
    """Parse one strict JSON object. Raises: KeyturnError ``document_malformed``."""
    try:
        value = _STRICT.decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise KeyturnError("document_malformed", "the content is not UTF-8") from error
    except RecursionError as error:
        raise KeyturnError("document_malformed", "the content is nested too deeply") from error
    except ValueError as error:
        raise KeyturnError("document_malformed", "the content is not JSON") from error
    if not isinstance(value, dict):
        raise KeyturnError("document_malformed", "the content is not a JSON object")
    # Neither can be there without its mark: deep content without many brackets, half a character without an escape.
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH:
        _bounded(value)
    if b"\\u" in data and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise KeyturnError("document_malformed", "a text holds half a character")
    return value


def signing_input(kind: Kind, kid: str, payload: bytes, *, public: bytes | None = None) -> bytes:
    """The bytes to sign. ``public`` puts the signer's own key into the header of a self-signed document."""
    return f"{_written(kind, kid, public)}.{b64u(payload)}".encode("ascii")


@functools.lru_cache(maxsize=64)
def _written(kind: Kind, kid: str, public: bytes | None) -> str:
    """The header of all documents that one key signs of a kind."""
    header: dict[str, Any] = {"alg": "EdDSA", "kid": kid, "typ": kind.typ}
    if public is not None:
        header["jwk"] = jwk(public)
    return b64u(dumps(header))


def assemble(signed: bytes, signature: bytes) -> str:
    """Join signed bytes and signature into a token."""
    return f"{signed.decode('ascii')}.{b64u(signature)}"


def sign(
    kind: Kind, claims: Mapping[str, Any], public: bytes, signer: Callable[[bytes], bytes], *, own: bool = False
) -> str:
    """Make a token. ``own`` marks a self-signed document, which carries its key."""
    signed = signing_input(kind, thumbprint(public), dumps(claims), public=public if own else None)
    return assemble(signed, signer(signed))


def kind_of(token: str) -> Kind:
    """Say what kind a token claims to be, unverified: only for choosing which reader to ask."""
    typ = _header(token).get("typ")
    for kind in Kind:
        if kind.typ == typ:
            return kind
    raise KeyturnError("document_malformed", "this is no Keyturn document, or of a kind that is not known here")


def read_header(token: str, *kinds: Kind) -> Header:
    """Check a token's header against the ``kinds`` that are expected, without believing its content yet.

    Raises: KeyturnError ``document_malformed`` for another type, algorithm, a critical extension or a bad ``kid``.
    """
    return _read_header(_header(token), kinds)


def _read_header(header: Mapping[str, Any], kinds: tuple[Kind, ...]) -> Header:
    kind = next((kind for kind in kinds if kind.typ == header.get("typ")), None)
    if kind is None:
        raise KeyturnError("document_malformed", f"a document of type {kinds[0].typ} is expected here")
    if header.get("alg") not in ("EdDSA", "Ed25519"):  # RFC 8037 and RFC 9864 name the same algorithm.
        raise KeyturnError("document_malformed", "the signature algorithm is not Ed25519")
    if "crit" in header:
        raise KeyturnError("document_malformed", "the header asks for an extension that is not known here")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 1 <= len(kid) <= 128:
        raise KeyturnError("document_malformed", "the header names no key")
    own = header.get("jwk")
    return Header(kind, kid, None if own is None else public_from_jwk(own))


def _usual_header(head: bytes, kinds: tuple[Kind, ...]) -> Header | None:
    """What :func:`_read_header` reads in a header that is written as :func:`signing_input` writes it with a key of its own."""
    found = _USUAL.fullmatch(head)
    if found is None:
        return None
    own, kid, typ = (part.decode("ascii") for part in found.groups())
    kind = next((kind for kind in kinds if kind.typ == typ), None)
    return None if kind is None else Header(kind, kid, decoded(own, 32))


def public_from_jwk(value: object) -> bytes:
    """The raw key of an Ed25519 JWK. Raises: KeyturnError ``document_malformed``."""
    if not isinstance(value, dict) or value.get("kty") != "OKP" or value.get("crv") != "Ed25519" or "d" in value:
        raise KeyturnError("document_malformed", "this is not a public Ed25519 key")
    return decoded(value.get("x"), 32)


def verify(token: str, kind: Kind, find: Callable[[str], bytes | None]) -> Verified:
    """Verify a token of ``kind`` with the key that ``find`` returns for its ``kid``.

    1. The token has three parts of strict base64url, within the size limit.
    2. The header's type, algorithm and extensions are those of ``kind``.
    3. The key is the reader's choice for this ``kid``; none: the signer is not trusted.
    4. The Ed25519 signature holds over the bytes as they came.

    The caller must still check what the claims say. Raises: KeyturnError ``document_malformed`` (1, 2),
    ``trust_invalid`` (3), ``signature_invalid`` (4).
    """
    return _verify(token, (kind,), lambda header: find(header.kid), holds)


def holds(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether an Ed25519 ``signature`` of ``message`` verifies under the raw key ``public`` (RFC 8032, section 5.1.7)."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def verify_own(token: str, *kinds: Kind, holds: Callable[[bytes, bytes, bytes], bool] = holds) -> Verified:
    """Verify a self-signed document of one of these kinds with the key in its header, whose thumbprint is its ``kid``.

    The caller learns *whose* key signed, and must still decide whether that key means anything. Servers may give another
    implementation of :func:`holds`. Raises as :func:`verify`.
    """

    def own(header: Header) -> bytes:
        if header.jwk is None or thumbprint(header.jwk) != header.kid:
            raise KeyturnError("document_malformed", f"the {header.kind.value} does not carry the key it names")
        return header.jwk

    return _verify(token, kinds, own, holds)


def _verify(
    token: str,
    kinds: tuple[Kind, ...],
    find: Callable[[Header], bytes | None],
    holds: Callable[[bytes, bytes, bytes], bool],
) -> Verified:
    # 1.
    head, payload, signature = _split(token)
    # 2.
    header = _usual_header(head, kinds) or _read_header(loads(head), kinds)
    # 3.
    key = find(header)
    if key is None:
        raise KeyturnError("trust_invalid", f"the {header.kind.value} is signed by a key that is not trusted here")
    # 4.
    if not holds(key, signature, token[: token.rindex(".")].encode("ascii")):
        raise KeyturnError("signature_invalid", f"the signature of the {header.kind.value} does not verify")
    return Verified(header.kind, header.kid, key, payload)


def decoded(text: object, length: int) -> bytes:
    """``length`` bytes of strict base64url. Raises: KeyturnError ``document_malformed``."""
    data = _decode(text) if isinstance(text, str) else b""
    if len(data) != length:
        raise KeyturnError("document_malformed", f"{length} bytes are expected here")
    return data


def unspelled(text: str) -> bytes:
    """The bytes of strict base64url. Raises: KeyturnError ``document_malformed``, ``input_too_large``."""
    if len(text) > MAX_TOKEN:
        raise KeyturnError("input_too_large", f"a document has at most {MAX_TOKEN} characters")
    return _decode(text)


def digest(token: str) -> str:
    """The name of a token elsewhere: base64url SHA-256 of its bytes."""
    return sha256_b64u(token.encode("ascii"))


def payload_of(token: str) -> bytes:
    """The bytes a token carries, *unverified*: for a digest that is pinned elsewhere, never for its claims."""
    return _split(token)[1]


def _split(token: str) -> tuple[bytes, bytes, bytes]:
    """What the three parts hold: header, payload, signature."""
    if len(token) > MAX_TOKEN:
        raise KeyturnError("input_too_large", f"a document has at most {MAX_TOKEN} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise KeyturnError("document_malformed", "this is not a compact JWS of three parts")
    return _decode(parts[0]), _decode(parts[1]), _decode(parts[2])


def _header(token: str) -> dict[str, Any]:
    return loads(_split(token)[0])


def _decode(text: str) -> bytes:
    """One document has one spelling: no padding, no other alphabet, no spare bits."""
    left = len(text) % 4
    # As the base64 that `binascii` reads strictly, and nothing that is of that alphabet only. A table takes ten times as long.
    foreign = "+" in text or "/" in text or "=" in text
    try:
        plain = text.encode("ascii").replace(b"-", b"+").replace(b"_", b"/")
        data = binascii.a2b_base64(b"=" if foreign else plain + b"=" * (-left % 4), strict_mode=True)
    except ValueError as error:  # UnicodeEncodeError and binascii.Error are ones.
        raise KeyturnError("document_malformed", "a part is not base64url") from error
    if left and text[-1] not in _ENDS[left]:
        raise KeyturnError("document_malformed", "a part is not canonical base64url")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise KeyturnError("document_malformed", "a name appears twice in one object")
    return value


def _integer(text: str) -> int:
    if len(text) < 16:  # Of fifteen digits none is too large.
        return int(text)
    if len(text) > 17 or abs(int(text)) > _MAX_NUMBER:
        raise KeyturnError("document_malformed", "a number is too large")
    return int(text)


def _refuse_number(_text: str) -> NoReturn:
    raise KeyturnError("document_malformed", "numbers here are whole")


def _bounded(value: dict[str, Any]) -> None:
    """Go down level by level, to the containers only. Raises: KeyturnError ``document_malformed``."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        inner = (item for held in level for item in (held.values() if isinstance(held, dict) else held))
        level = [item for item in inner if isinstance(item, (dict, list))]
        if not level:
            return
    raise KeyturnError("document_malformed", "the content is nested too deeply")


_USUAL = re.compile(
    rb'\{"alg":"EdDSA","jwk":\{"crv":"Ed25519","kty":"OKP","x":"([\w-]{43})"\},"kid":"([\w-]{43})","typ":"(keyturn-[a-z-]+\+jwt)"\}'
)
_STRICT = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_refuse_number, parse_constant=_refuse_number
)
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
