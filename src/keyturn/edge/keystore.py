"""Where private keys live, and the only thing done with them: signing.

Keeps: Ed25519 keys as PKCS#8 files (RFC 8410) of mode 0600, parsed once (parsing again would halve the signing rate).
Leaves to others: what is signed. Nothing here hands out a private key.

The one form of RFC 8410 without attributes is read and written here, and no other: the general reader of
``cryptography`` takes as long to import as all the rest of ``keyturn status``.
"""

from __future__ import annotations

import base64
import binascii
import os
import sys
from collections.abc import Callable
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.edge import files

_BEGIN, _END = b"-----BEGIN PRIVATE KEY-----\n", b"\n-----END PRIVATE KEY-----\n"
# RFC 8410, section 7: PrivateKeyInfo, version 0, id-Ed25519, and an octet string within an octet string.
_PREFIX = bytes.fromhex("302e020100300506032b657004220420")


class Signer(NamedTuple):
    """A key that can sign: its raw public half and the act."""

    public: bytes
    sign: Callable[[bytes], bytes]

    @property
    def kid(self) -> str:
        return jws.thumbprint(self.public)

    def __repr__(self) -> str:
        return f"Signer({self.kid})"


def create(path: files.AnyPath) -> Signer:
    """Make a key and store it before it is used. An existing key is never overwritten.

    Raises: KeyturnError ``already_exists``, ``storage_failed``, ``permission_denied``.
    """
    return _keep(path, Ed25519PrivateKey.generate())


def keep(path: files.AnyPath, seed: bytes) -> Signer:
    """Store the key made of 32 secret bytes, which somebody has elsewhere too (a root, on paper). Raises as :func:`create`."""
    return _keep(path, Ed25519PrivateKey.from_private_bytes(seed))


def _keep(path: files.AnyPath, key: Ed25519PrivateKey) -> Signer:
    if os.path.exists(path):
        raise KeyturnError("already_exists", f"{path} holds a key already")
    files.write(path, _BEGIN + base64.b64encode(_PREFIX + key.private_bytes_raw()) + _END, files.PRIVATE)
    return _signer(key)


def load(path: files.AnyPath, make: Callable[[bytes], Signer] | None = None) -> Signer | None:
    """The key at ``path``; ``None`` if there is none. ``make`` turns the 32 secret bytes into a signer of another kind.

    Raises: KeyturnError ``permission_denied`` (also if others may read it), ``store_damaged``.
    """
    data = files.read(path, 16_384)
    if data is None:
        return None
    if files.open_to_others(path):
        mend = "let only its owner in" if sys.platform == "win32" else "`chmod 600` it"
        raise KeyturnError("permission_denied", f"{path} can be read by others; {mend}, or remove it")
    return parse(data, str(path), make)


def parse(data: bytes, name: str, make: Callable[[bytes], Signer] | None = None) -> Signer:
    """The key in the bytes of its file, which errors call ``name``; ``make`` as in :func:`load`.

    Raises: KeyturnError ``store_damaged``.
    """
    try:
        der = base64.b64decode(data.removeprefix(_BEGIN).removesuffix(_END), validate=True)
    except binascii.Error as error:
        raise KeyturnError("store_damaged", f"{name} is not a private key") from error
    if len(der) != 48 or not der.startswith(_PREFIX):
        raise KeyturnError("store_damaged", f"{name} is not an Ed25519 key")
    return (make or _from_seed)(der[16:])


def of_another(path: files.AnyPath) -> bool:
    """Whether there is a key that belongs to another account, which can use it where this one cannot."""
    return files.of_another(path)


def load_all(folder: files.AnyPath, make: Callable[[bytes], Signer] | None = None) -> dict[str, Signer]:
    """Every key of a folder by its ``kid``; ``make`` as in :func:`load`."""
    signers = (load(os.path.join(folder, name), make) for name in sorted(os.listdir(folder)) if name.endswith(".key"))
    return {signer.kid: signer for signer in signers if signer is not None}


def _from_seed(seed: bytes) -> Signer:
    return _signer(Ed25519PrivateKey.from_private_bytes(seed))


def _signer(key: Ed25519PrivateKey) -> Signer:
    return Signer(key.public_key().public_bytes_raw(), key.sign)
