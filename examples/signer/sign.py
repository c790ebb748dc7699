"""A signer of your own: asked in JSON lines on its input, it answers on its output, until its input ends.

    keyturn service config set signer_command 'python3 /opt/signer/sign.py /etc/keyturn-keys'

This one reads private keys from a folder. For a cloud's key service, replace ``keys`` and ``sign`` by its calls.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

KINDS = ("certificate", "host", "host-phone", "product", "revocations")


def b64u(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": b64u(key.public_key().public_bytes_raw())}


def keys(folder: Path) -> dict[str, Ed25519PrivateKey]:
    """Private keys by the thumbprint (RFC 7638) of their public half, which is the ``kid``."""
    found = [load_pem_private_key(path.read_bytes(), None) for path in sorted(folder.glob("*.key"))]
    own = [key for key in found if isinstance(key, Ed25519PrivateKey)]
    return {b64u(hashlib.sha256(compact(jwk(key))).digest()): key for key in own}


def sign(key: Ed25519PrivateKey, message: bytes) -> bytes:
    return key.sign(message)


def answer(held: dict[str, Ed25519PrivateKey], asked: dict[str, Any]) -> dict[str, Any]:
    if asked.get("list"):
        return {"keys": [jwk(key) for key in held.values()]}
    if asked["kind"] not in KINDS or asked["kid"] not in held:
        return {"error": f"no {asked['kind']} is signed here with {asked['kid']}"}
    header = {"alg": "EdDSA", "kid": asked["kid"], "typ": f"keyturn-{asked['kind']}+jwt"}
    message = f"{b64u(compact(header))}.{asked['payload']}"
    return {"signature": b64u(sign(held[asked["kid"]], message.encode()))}


def main() -> None:
    held = keys(Path(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(answer(held, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
