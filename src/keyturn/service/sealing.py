"""How product keys rest in the database: sealed, so that the database alone yields nothing usable.

K (see ``core.productkey``) is encrypted with AES-256-GCM under a key derived from the versioned *pepper*, which is
kept apart from the database; the key's serial is the associated data, so rows cannot be exchanged.
"""

from __future__ import annotations

import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keyturn.core.errors import KeyturnError

_LABEL = b"keyturn sealing v1"
_ANSWERS = b"keyturn kept answers v1"
_TAGS = b"keyturn tags v1"


class Sealer:
    """Seals and opens K for one version of the pepper."""

    def __init__(self, pepper: bytes) -> None:
        self._cipher = AESGCM(HKDF(SHA256(), 32, None, _LABEL).derive(pepper))

    def seal(self, secret: bytes, serial: int, nonce: bytes) -> bytes:
        """``nonce``: 12 random bytes, never used twice."""
        return nonce + self._cipher.encrypt(nonce, secret, _associated(serial))

    def open(self, sealed: bytes, serial: int) -> bytes:
        """Raises: KeyturnError ``store_damaged`` if the row was changed, or sealed under another pepper."""
        try:
            return self._cipher.decrypt(sealed[:12], sealed[12:], _associated(serial))
        except InvalidTag as error:
            raise KeyturnError(
                "store_damaged", f"the sealed part of key {serial} does not open",
                remedy="Restore the pepper that belongs to this database.",
            ) from error  # fmt: skip


class Vault:
    """The admin API's secrets under the pepper: keyed hashes of what need not be read again, and sealed answers."""

    def __init__(self, pepper: bytes) -> None:
        self._cipher = AESGCM(HKDF(SHA256(), 32, None, _ANSWERS).derive(pepper))
        self._tagging = HKDF(SHA256(), 32, None, _TAGS).derive(pepper)

    def tag(self, purpose: str, data: bytes) -> bytes:
        """A keyed hash (32 bytes), another for every purpose."""
        return hmac.digest(self._tagging, purpose.encode() + b"\0" + data, "sha256")

    def seal(self, data: bytes, place: bytes, nonce: bytes) -> bytes:
        """``place`` is where it will lie; it opens nowhere else. ``nonce``: 12 random bytes, never used twice."""
        return nonce + self._cipher.encrypt(nonce, data, place)

    def open(self, sealed: bytes, place: bytes) -> bytes:
        """Raises: KeyturnError ``store_damaged``."""
        try:
            return self._cipher.decrypt(sealed[:12], sealed[12:], place)
        except InvalidTag as error:
            raise KeyturnError("store_damaged", "a kept answer does not open under this pepper") from error


def _associated(serial: int) -> bytes:
    return _LABEL + serial.to_bytes(4, "big")
