"""All that a stranger writes by hand to sign a request, after docs/protocol.md and docs/product-keys.md."""

from base64 import urlsafe_b64encode
from hashlib import sha256
from hmac import digest
from json import dumps

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def b64u(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def framed(*parts: object) -> bytes:
    return b"".join(len(str(part).encode()).to_bytes(4, "big") + str(part).encode() for part in parts)


def signed(claims: dict[str, object], key: str, mine: Ed25519PrivateKey) -> str:
    # K: HKDF-SHA256 (RFC 5869) of the 14 bytes behind the two check symbols.
    number = sum("0123456789ACDEFGHJKMNPQRTVWXY".index(s) * 29**i for i, s in enumerate(key.replace("-", "")[2:]))
    first = digest(bytes(32), number.to_bytes(14, "big"), "sha256")
    k = digest(first, framed("keyturn key v1", claims["product"]) + b"\1", "sha256")
    # Its proof, bound to the installation's key by the thumbprint (RFC 7638).
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": b64u(mine.public_key().public_bytes_raw())}
    kid = b64u(sha256(dumps(jwk, separators=(",", ":")).encode()).digest())
    parts = ("keyturn proof v1", claims["product"], claims["serial"], kid, claims["nonce"])
    claims["key_proof"] = b64u(digest(k, framed(*parts), "sha256"))
    # A compact JWS (RFC 7515, RFC 8037).
    header = {"alg": "EdDSA", "jwk": jwk, "kid": kid, "typ": "keyturn-request+jwt"}
    text = ".".join(b64u(dumps(part).encode()) for part in (header, claims))
    return f"{text}.{b64u(mine.sign(text.encode()))}"
