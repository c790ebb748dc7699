"""Ed25519 by libsodium, for servers that verify and sign all day: about half the time that the client's library takes.

Keeps: the two operations in the shapes that ``core.jws`` and ``edge.keystore`` ask for, and what a public key must be. Leaves
to others: everything else.
libsodium refuses a little more than OpenSSL does (public keys of small order); tests/test_sodium.py pins where they agree.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_sign, crypto_sign_open
from nacl.exceptions import BadSignatureError

from keyturn.edge.keystore import Signer

SIGNATURE = 64  # Bytes.


def holds(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` of ``message`` verifies under the raw key ``public`` (RFC 8032, section 5.1.7)."""
    # libsodium takes signature and message as one: without its length a signature could borrow from the message.
    if len(signature) != SIGNATURE:
        return False
    try:
        crypto_sign_open(signature + message, public)
    except BadSignatureError:
        return False
    return True


def signer(seed: bytes) -> Signer:
    """A signer for the private key ``seed`` (32 bytes, RFC 8032): the same signatures as from ``edge.keystore``."""
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    secret = seed + public
    return Signer(public, lambda message: crypto_sign(message, secret)[:SIGNATURE])


def is_key(public: bytes) -> bool:
    """Whether 32 bytes can be somebody's public key: a point of the curve's main group, and none that everybody can sign for."""
    return len(public) == 32 and bool(crypto_core_ed25519_is_valid_point(public))
