"""The revocation list: which rights of a product its publisher has taken back (design: trust).

Keeps: the one whole, numbered list of a product, and what it says about a certificate.
Leaves to others: where it comes from and where it is kept (``client``), who may put something on it (``service``).

- The highest number wins; taking a revocation back is the next number. A list that is older than the one known is ignored.
- It is the only "no" of a service that degrades a copy that is licensed: to a grace, which says why.
- Not to be mixed up with the revocation of an issuing key (``trust.Revocation``), which is in trust bundles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keyturn.core import trust
from keyturn.core.documents import VERSION, Certificate, Claims
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import ProductName
from keyturn.core.trust import Chain

KEY_BLOCKED, RECLAIMED = "key_blocked", "activation_reclaimed"
REASONS = (KEY_BLOCKED, RECLAIMED)


class Withdrawn(NamedTuple):
    """That the publisher took a right back: when (NumericDate), and why (one of ``REASONS``)."""

    at: int
    reason: str


class Entry(NamedTuple):
    """One line of a list: all of a key's activations (``activation`` is ``None``), or one of them."""

    serial: int
    activation: str | None
    at: int
    reason: str


class Revocations(NamedTuple):
    """A product's list. ``number`` grows with every change; 0 is the list of a product that never had one."""

    product: ProductName
    number: int
    issued_at: int
    entries: tuple[Entry, ...]

    def claims(self) -> dict[str, Any]:
        return {
            "v": VERSION, "product": str(self.product), "test": self.product.test, "number": self.number, "iat": self.issued_at,
            "revoked": [entry._asdict() for entry in self.entries],
        }  # fmt: skip

    @classmethod
    def read(cls, claims: Mapping[str, Any]) -> Revocations:
        """Raises: KeyturnError ``document_malformed``."""
        c = Claims(Kind.REVOCATIONS, claims)
        name, listed = ProductName.parse(c.text("product")), claims.get("revoked")
        if not isinstance(listed, list) or c.flag("test") != name.test:
            raise KeyturnError("document_malformed", "the revocation list contradicts itself, or holds no list")
        return cls(name, c.number("number"), c.number("iat"), tuple(_entry(item) for item in listed))

    def withdrawn(self, certificate: Certificate) -> Withdrawn | None:
        """What the list says about a certificate; the earliest, if several lines are about it."""
        found = [
            Withdrawn(entry.at, entry.reason)
            for entry in self.entries
            if entry.serial == certificate.serial and entry.activation in (None, certificate.activation)
        ]
        return min(found, default=None)


def read_revocations(token: str, product: ProductName, chain: Chain) -> Revocations:
    """Verify a list.

    1. An issuing key of the chain signed it, with the product's role, within its time, and was not revoked since.
    2. It is this product's.

    Raises: KeyturnError ``trust_invalid``, ``signature_invalid``, ``document_expired``, ``issuer_revoked``, ``document_foreign``,
    ``document_malformed``.
    """
    # 1.
    found = Revocations.read(chain.verify(token, Kind.REVOCATIONS, trust.role_for(product.test)))
    if chain.doubt(token, Kind.REVOCATIONS) is not None:
        raise KeyturnError("issuer_revoked", "the revocation list is signed by a key that its publisher revoked")
    # 2.
    if found.product != product:
        raise KeyturnError("document_foreign", f"the revocation list is for {found.product}, not for {product}")
    return found


def _entry(item: object) -> Entry:
    if not isinstance(item, dict):
        raise KeyturnError("document_malformed", "a line of the revocation list is not understood")
    c = Claims(Kind.REVOCATIONS, {"v": VERSION, **item})
    return Entry(c.number("serial"), c.text_or_none("activation", 64), c.number("at"), c.text("reason", 40))
