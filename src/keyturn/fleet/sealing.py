"""Product keys at rest: sealed, shown by their last five characters, opened only for the computer that is to install one."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyturn.core.errors import KeyturnError


class Sealer:
    """Seals and opens product keys (AES-256-GCM) under one key of 32 bytes; a row opens in its own place only."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, text: str, place: str, nonce: bytes) -> bytes:
        """``nonce``: 12 random bytes, never used twice."""
        return nonce + self._cipher.encrypt(nonce, text.encode(), place.encode())

    def open(self, sealed: bytes, place: str) -> str:
        """Raises: KeyturnError ``store_damaged`` if the row was changed, moved, or sealed under another key."""
        try:
            return self._cipher.decrypt(sealed[:12], sealed[12:], place.encode()).decode()
        except InvalidTag as error:
            remedy = "Restore the seal.key that belongs to this database, or add the key again."
            raise KeyturnError("store_damaged", "a sealed product key does not open", remedy=remedy) from error
