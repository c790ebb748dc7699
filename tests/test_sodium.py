"""libsodium and OpenSSL agree on every signature of Keyturn's documents, and differ only where this says so."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyturn.core import jws
from keyturn.core.jws import Kind
from keyturn.edge import keystore, sodium

VECTORS = Path(__file__).parent / "vectors"
ORDER = 2**252 + 27742317777372353535851937790883648493  # Of the base point (RFC 8032, section 5.1).
SMALL_ORDER = (  # Public keys under which a signature of anything is easily made.
    bytes(32),
    (1).to_bytes(32, "little"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
)


def tokens() -> list[str]:
    found = json.loads((VECTORS / "documents.json").read_text())
    texts: list[str] = []

    def walk(value: object) -> None:
        if isinstance(value, str) and value.count(".") == 2 and len(value) > 300:
            texts.append(value)
        elif isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(found)
    return texts


def test_the_same_seed_signs_the_same_bytes(tmp_path: Path) -> None:
    """Ed25519 is deterministic, so both signers must agree to the byte."""
    kept = keystore.create(tmp_path / "a.key")
    fast = keystore.load(tmp_path / "a.key", sodium.signer)
    assert fast is not None
    assert fast.public == kept.public
    chance = random.Random(1)
    for size in (0, 1, 64, 1_000, 16_384):
        message = chance.randbytes(size)
        assert fast.sign(message) == kept.sign(message)
        assert sodium.holds(fast.public, fast.sign(message), message)


def test_golden_documents_verify_by_both() -> None:
    own = [token for token in tokens() if jws.kind_of(token) in (Kind.REQUEST, Kind.RELEASE)]
    assert own
    for token in own:
        kinds = (Kind.REQUEST, Kind.RELEASE)
        assert jws.verify_own(token, *kinds, holds=sodium.holds) == jws.verify_own(token, *kinds)


@pytest.mark.parametrize("seed", range(20))
def test_changed_signatures_are_refused_by_both(seed: int) -> None:
    """Every bit of a signature, of the key and of the message counts; so does the number S, modulo nothing."""
    chance = random.Random(seed)
    key = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
    public, message = key.public_key().public_bytes_raw(), chance.randbytes(100)
    signature = key.sign(message)
    changed = [bytes(b ^ (1 << bit if i == place else 0) for i, b in enumerate(signature))
               for place in range(64) for bit in (0, 3, 7)]  # fmt: skip
    s = int.from_bytes(signature[32:], "little")
    if s + ORDER < 2**256:
        changed.append(signature[:32] + (s + ORDER).to_bytes(32, "little"))
    for forged in (*changed, b"", signature[:63], signature + b"\0", signature + message[:1]):
        assert not jws.holds(public, forged, message)
        assert not sodium.holds(public, forged, message)
    other = bytes([public[0] ^ 1]) + public[1:]
    assert not sodium.holds(other, signature, message)
    assert not sodium.holds(public, signature, message + b"x")


def test_a_signature_cannot_borrow_from_the_message() -> None:
    """Libsodium reads signature and message as one: moving the border between them must not be possible."""
    key = Ed25519PrivateKey.generate()
    public, message = key.public_key().public_bytes_raw(), b"abc" * 30
    signature = key.sign(message)
    assert not sodium.holds(public, signature + message[:10], message[10:])
    assert not sodium.holds(public, signature[:54], signature[54:] + message)


@pytest.mark.parametrize("public", SMALL_ORDER)
def test_keys_of_small_order_are_where_they_differ(public: bytes) -> None:
    """Libsodium refuses them. Whoever signs with one only gives its own installation away, so either answer is safe."""
    forged = (1).to_bytes(32, "little") + bytes(32)
    assert not sodium.holds(public, forged, b"anything")
