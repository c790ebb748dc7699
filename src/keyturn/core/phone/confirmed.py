"""The client decides: is what a telephone call left behind a license here?

Keeps: the check of a stored confirmation ID, and the rights that it grants, as a certificate says them. Leaves to others: reading
the store (``client``), the hardware of now and the dates (``license.decide``).

- Nothing stored says "activated": the signature is verified on every load.
- What a code has no room for follows from the product file: its features are the edition's. The activation has no name here
  until the first online request brings one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from keyturn.core import hardware
from keyturn.core.documents import Certificate, ProductFile
from keyturn.core.errors import KeyturnError
from keyturn.core.model import Channel, product_id
from keyturn.core.phone import confirmation, installation
from keyturn.core.phone.confirmation import Holds
from keyturn.core.trust import Chain, Revocation


class Kept(NamedTuple):
    """What the store holds: both IDs as they came (digits), and what the first one commits to. ``at`` is only shown."""

    installation_id: str
    confirmation_id: str
    vector: Mapping[str, str]
    salt: bytes
    at: int


class Here(NamedTuple):
    """The installation that asks: its key's channel and serial, K if this account can read it, number, and key's thumbprint."""

    channel: Channel
    serial: int
    secret: bytes | None
    guid: str
    holder: str


def check(
    kept: Kept, product: ProductFile, chain: Chain, here: Here, holds: Holds
) -> tuple[Certificate, Revocation | None]:
    """Verify a stored confirmation ID; the result is what it grants, and the revocation of its signer, if there is one.

    1. Both IDs are whole. 2. A confirmation key of the publisher signed the answer to this installation ID, for this product.
    3. The installation ID was made here: for this key, installation and stored vector. 4. The edition is one of the product's.

    The caller must still compare the vector with the computer, and the dates with the clock (``license.decide``).
    Raises: KeyturnError ``code_malformed``, ``code_mistyped``, ``code_foreign``, ``document_foreign``, ``extra_missing``.
    """
    # 1.
    asked, code = installation.read(kept.installation_id), confirmation.read(kept.confirmation_id)
    # 2.
    key = confirmation.confirmed(code, product.name, asked, chain.confirming(product.name.test), holds)
    # 3.
    if not installation.is_of(
        asked, product.name, here.channel, here.serial, here.secret, here.holder, kept.vector, kept.salt
    ):
        raise KeyturnError(
            "document_foreign", "the installation ID that was answered belongs to another key or installation"
        )
    # 4.
    edition = product.edition_of(code.edition)
    ends = confirmation.ends_at(code, key)
    return Certificate(
        product=product.name, publisher=product.publisher, activation="", installation=here.guid, issued_at=key.not_before,
        expires_at=ends, product_id=product_id(product.name.slug, here.channel, here.serial), serial=here.serial,
        channel=here.channel, edition=edition, features=product.editions[edition], seat=0, scheme=hardware.SCHEME,
        evidence="weak" if asked.weak else "strong", ephemeral=False, commitment=hardware.commitment(kept.vector, kept.salt),
        request="", nonce="", holder=here.holder, activated_at=max(kept.at, key.not_before),
        term="permanent" if ends is None else "weak" if asked.weak else "until", floor=product.floor,
    ), chain.revocation(key.kid)  # fmt: skip
