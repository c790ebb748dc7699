"""A server's word for its TLS certificate: whoever connects checks it before anything is sent."""

from __future__ import annotations

from keyturn.core import jws
from keyturn.core.hosting import Endorsement
from keyturn.core.jws import Kind
from keyturn.core.model import DAY
from keyturn.edge import files, tls
from keyturn.edge.keystore import Signer

LASTS = 7 * DAY
AGAIN = 3_600  # Seconds after which it is made anew.


class Endorser:
    """Makes the endorsement of the certificate that this process serves, and makes it anew every hour."""

    def __init__(self, signer: Signer, certificate: str) -> None:
        """``certificate`` is the file of the TLS certificate. Raises: KeyturnError ``store_damaged`` if there is none."""
        self._signer = signer
        self._tls = tls.fingerprint(files.read(certificate) or b"")
        self._made: tuple[int, str] | None = None

    def token(self, now: int) -> str:
        """The endorsement, in force now."""
        if self._made is None or not 0 <= now - self._made[0] < AGAIN:
            claims = Endorsement(self._tls, now, now + LASTS).claims()
            self._made = now, jws.sign(Kind.ENDORSEMENT, claims, self._signer.public, self._signer.sign)
        return self._made[1]
