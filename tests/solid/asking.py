"""Real signed requests without stores: as many as needed, quickly, each from an installation and hardware of its own."""

from __future__ import annotations

import random
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyturn.core import containers, hardware, jws, productkey
from keyturn.core.documents import FACTS, UNAVAILABLE, ProductFile, Request
from keyturn.core.jws import Kind
from keyturn.core.model import b64u, product_id

_SLOTS = ("uuid", "board", "disk", "nic")
_FACTS = {name: {UNAVAILABLE: "not known"} for name in FACTS}


class Asked(NamedTuple):
    """A request and who made it."""

    token: str
    request: Request
    key: Ed25519PrivateKey


class Asker:
    """Makes requests for one product key. Everything follows from ``chance``."""

    def __init__(self, product: bytes, key: str, chance: random.Random) -> None:
        self.product: ProductFile = containers.open_product(containers.expect(product, "product")).product
        self._key = productkey.parse(key)
        self._secret = productkey.derive(self._key, self.product.name)
        self._chance = chance

    @property
    def serial(self) -> int:
        return self._key.serial

    def request(self, **changes: object) -> Asked:
        """A first activation of a new computer; ``changes`` are fields of the request, before it is signed."""
        chance, name = self._chance, self.product.name
        key = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        nonce = b64u(chance.randbytes(16))
        request = Request(
            product=name, product_id=product_id(name.slug, self._key.channel, self.serial), serial=self.serial,
            key_proof=productkey.proof(self._secret, name, self.serial, jws.thumbprint(public), nonce),
            installation=f"{chance.randbytes(4).hex()}-0000-4000-8000-{chance.randbytes(6).hex()}", nonce=nonce,
            made_at=1_800_000_000, scheme=hardware.SCHEME,
            pairs=hardware.pairs({slot: chance.randbytes(8).hex() for slot in _SLOTS}, name), tags={},
            commitment=b64u(chance.randbytes(32)), facts=_FACTS, state=2, previous=None, activation=None, vm=None,
            container=None, ephemeral=False, allow_ephemeral=False, bundle=1,
        )._replace(**changes)  # type: ignore[arg-type]  # fmt: skip
        return Asked(jws.sign(Kind.REQUEST, request.claims(), public, key.sign, own=True), request, key)
