"""Rebinding: an organization's fleet manager lets the same hardware's new installation use the activation it has.

Keeps: the document and its verification. Leaves to others: which computer is the same (``hardware``), where a copy stands
(``license``), who may ask for it (``fleet``).

- A certificate may name one key in ``rebind``: that of the fleet manager through which it was asked for. Only that key may.
- The document binds a certificate to a new installation key. It changes nothing else: hardware baseline, dates, edition and
  revocation are the certificate's. So other hardware is refused by the computer itself, and nobody else has to be asked.
- Weak evidence is never rebound: there the seat *is* the installation's key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keyturn.core import jws
from keyturn.core.documents import VERSION, Certificate, Claims
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import ProductName


class Rebind(NamedTuple):
    """The fleet manager's word that ``installation``, whose key is ``holder``, continues the activation of
    ``certificate`` (digest).
    """

    product: ProductName
    activation: str
    certificate: str
    installation: str
    holder: str
    issued_at: int

    def claims(self) -> dict[str, Any]:
        return {
            "v": VERSION, "product": str(self.product), "test": self.product.test, "activation": self.activation,
            "certificate": self.certificate, "installation": self.installation, "holder": self.holder, "iat": self.issued_at,
        }  # fmt: skip

    @classmethod
    def read(cls, claims: Mapping[str, Any]) -> Rebind:
        """Raises: KeyturnError ``document_malformed``."""
        c = Claims(Kind.REBIND, claims)
        return cls(
            ProductName.parse(c.text("product")), c.text("activation", 64), c.text("certificate", 64),
            c.text("installation", 40), c.text("holder", 64), c.number("iat"),
        )  # fmt: skip


def verify(token: str, certificate: Certificate, certificate_digest: str, installation_key: str) -> Rebind:
    """Verify that an activation may be used by the installation whose key is ``installation_key`` (thumbprint).

    1. It is signed with the key that it carries, and that key is the one which the certificate names.
    2. It is about this certificate, and for this installation's key.
    3. The certificate is bound to hardware.

    Raises: KeyturnError ``signature_invalid``, ``document_malformed``, ``document_foreign``.
    """
    # 1.
    verified = jws.verify_own(token, Kind.REBIND)
    if certificate.rebind is None or verified.kid != certificate.rebind:
        raise KeyturnError("document_foreign", "the certificate does not let this fleet manager rebind it")
    # 2.
    said = Rebind.read(verified.claims())
    about = (said.product, said.activation, said.certificate)
    if about != (certificate.product, certificate.activation, certificate_digest):
        raise KeyturnError("document_foreign", "the rebinding is for another certificate")
    if said.holder != installation_key:
        raise KeyturnError("document_foreign", "the rebinding is for another installation")
    # 3.
    if certificate.evidence != "strong":
        raise KeyturnError("document_foreign", "an activation without hardware identity cannot be rebound")
    return said
