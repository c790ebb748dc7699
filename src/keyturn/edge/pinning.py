"""A server whose TLS certificate no authority signed: the same one on every connection, and its digest for whoever judges it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from keyturn.core.errors import KeyturnError
from keyturn.core.model import b64u


class Pin:
    """Given to a ``Transport`` as its ``judge``. ``digest`` is the base64url SHA-256 of the certificate that was shown."""

    def __init__(self, place: str) -> None:
        self._place = place
        self.digest = ""

    @property
    def judge(self) -> Callable[[bytes], None]:
        return self._judge

    def _judge(self, der: bytes) -> None:
        """Raises: KeyturnError ``host_untrusted`` for another certificate than a moment ago."""
        shown = b64u(hashlib.sha256(der).digest())
        if self.digest not in ("", shown):
            raise KeyturnError("host_untrusted", f"{self._place} shows another TLS certificate than a moment ago")
        self.digest = shown
