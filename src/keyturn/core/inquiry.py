"""A question about a product key, by somebody who proves to hold it: how many of its seats are taken, and whose it is.

Keeps: the document and what proves it. Leaves to others: the answer (the service), who asks (a fleet manager).
Nothing about a computer is in it, and asking takes no seat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keyturn.core import jws, productkey
from keyturn.core.documents import VERSION, Claims
from keyturn.core.jws import Kind, Verified
from keyturn.core.model import ProductName


class Inquiry(NamedTuple):
    """``key_proof`` is as in a request: made with K, the asking key's thumbprint and ``nonce``."""

    product: ProductName
    serial: int
    key_proof: str
    nonce: str
    made_at: int

    def claims(self) -> dict[str, Any]:
        return {
            "v": VERSION, "product": str(self.product), "test": self.product.test, "serial": self.serial,
            "key_proof": self.key_proof, "nonce": self.nonce, "iat": self.made_at,
        }  # fmt: skip

    @classmethod
    def read(cls, claims: Mapping[str, Any]) -> Inquiry:
        """Raises: KeyturnError ``document_malformed``."""
        c = Claims(Kind.INQUIRY, claims)
        return cls(
            ProductName.parse(c.text("product")),
            c.number("serial"),
            c.text("key_proof"),
            c.text("nonce", 64),
            c.number("iat"),
        )

    def proven(self, secret: bytes, jkt: str) -> bool:
        """Whether the sender, whose key has the thumbprint ``jkt``, knows the product key whose K is ``secret``
        (constant time).
        """
        return productkey.proof_holds(self.key_proof, secret, self.product, self.serial, jkt, self.nonce)


def read_inquiry(token: str, **options: Any) -> tuple[Inquiry, Verified]:
    """Verify with the key that it carries, then read. Raises: KeyturnError (see ``jws.verify_own``)."""
    verified = jws.verify_own(token, Kind.INQUIRY, **options)
    return Inquiry.read(verified.claims()), verified
