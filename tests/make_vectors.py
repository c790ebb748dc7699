"""Make the golden vectors: ``python tests/make_vectors.py DIRECTORY`` (``make vectors``, ``make vectors-check``).

Everything is deterministic: seeds are digests of names, Ed25519 has no chance in it, times are fixed. What is refused
is put together here from raw bytes, because the code under test would not make it; the expected codes are written down
by hand. ``tests/test_vectors.py`` holds the code to the result.

Not everything is our own word: the JWK thumbprint of RFC 8037 A.3 is among the thumbprints, and other libraries verify
the tokens.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyturn.core import hardware, jws, merkle, productkey, trust
from keyturn.core.documents import Certificate, ProductFile, Record, Release, Request
from keyturn.core.hardware import Reading
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, Channel, ProductName, b64u, product_id
from keyturn.core.terms import Terms
from keyturn.core.trust import Floor, IssuingKey
from vectors_agent import agent
from vectors_phone import phone
from vectors_refused import refused

T0 = 1_767_225_600  # 2026-01-01T00:00:00Z
PROVENANCE = "made by tests/make_vectors.py: seeds are SHA-256('keyturn vector ' + name), times are fixed"


class Key(NamedTuple):
    """A test key pair, made from its name."""

    name: str
    private: Ed25519PrivateKey
    public: bytes

    @property
    def kid(self) -> str:
        return jws.thumbprint(self.public)

    def sign(self, data: bytes) -> bytes:
        return self.private.sign(data)

    @property
    def pair(self) -> tuple[bytes, Any]:
        return self.public, self.sign

    def raw(self, header: bytes, payload: bytes) -> str:
        """A token of any header and payload, truly signed."""
        signed = f"{b64u(header)}.{b64u(payload)}"
        return f"{signed}.{b64u(self.sign(signed.encode()))}"


def seed(name: str) -> bytes:
    return hashlib.sha256(f"keyturn vector {name}".encode()).digest()


def key(name: str) -> Key:
    private = Ed25519PrivateKey.from_private_bytes(seed(name))
    return Key(name, private, private.public_key().public_bytes_raw())


class World:
    """One publisher with three bundles, a product and an installation; the same in every run."""

    def __init__(self) -> None:
        self.roots = [key(f"root {number}") for number in range(1, 5)]
        self.issuer, self.next, self.tester = key("issuing 1"), key("issuing 2"), key("testing 1")
        self.installation = key("installation")
        keys = [self._issuing(self.issuer, "issue", T0), self._issuing(self.tester, "test", T0)]
        one, *several = self.roots
        self.first = self.bundle(1, None, 1, [one], keys, signers=[one])
        keys = [*keys, self._issuing(self.next, "issue", T0 + 75 * DAY)]
        self.second = self.bundle(2, self.first, 2, several, keys, signers=[one, several[0], several[1]])
        self.third = self.bundle(3, self.second, 2, several, keys, signers=[several[0], several[2]])
        self.chain = trust.verify_chain([self.first, self.second, self.third], trust.pin_of(self.first))
        self.product = ProductName(self.chain.thumbprint, "paintbox")
        self.test_product = ProductName(self.chain.thumbprint, "paintbox", True)

    @staticmethod
    def _issuing(who: Key, role: str, start: int) -> IssuingKey:
        return IssuingKey(who.kid, who.public, role, start, start + 90 * DAY)

    @staticmethod
    def bundle(
        number: int, before: str | None, threshold: int, roots: list[Key], keys: list[IssuingKey], *, signers: list[Key]
    ) -> str:
        claims = trust.bundle_claims(
            publisher="Vector Ink", number=number, previous=None if before is None else trust.pin_of(before),
            issued_at=T0 + number * DAY, threshold=threshold, roots=[root.public for root in roots], keys=keys,
        )  # fmt: skip
        return trust.sign_bundle(claims, [signer.pair for signer in signers])

    def product_file(self, name: ProductName, floor: Floor | None = None) -> ProductFile:
        return ProductFile(
            name, "Paintbox", "Vector Ink", 3, {"pro": ("layers", "print"), "lite": ()}, "https://activate.example",
            "http://activate.example/probe", "https://activate.example/terms", None, "warn", Terms().claims(),
            floor or self.chain.floor, T0 + 5 * DAY,
        )  # fmt: skip

    def own(self, kind: Kind, claims: Mapping[str, Any], who: Key | None = None) -> str:
        signer = who or self.installation
        return jws.sign(kind, claims, signer.public, signer.sign, own=True)


READING = Reading(
    anchors={"uuid": "4c4c4544004d1234800a112233445566", "board": "/7F3K2M1/CNWS2000A1B2C3/", "disk": "S4EVNF0MA1B2C3K",
             "nic": "a4bb6da1b2c3"},
    components={"disk": "example ssd 500", "firmware": "example computers 1.14.2", "processor": "genuineintel 6 165 5",
                "network_adapter": "8086:0d4c", "memory": "16", "volume": "6a1f0d52-7f5c-4b7e-9b7e-2d1c0a9f8e77"},
)  # fmt: skip
SALT = seed("salt")[:16]


def keys_vectors(world: World) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    for channel, serial in ((Channel.RETAIL, 0), (Channel.RETAIL, 82_026_407), (Channel.MAK, 1), (Channel.HOST, 2**27),
                            (Channel.CLIENT, 123_456_789), (Channel.OEM, 2**28 - 1)):  # fmt: skip
        made = productkey.make(channel, serial, seed(f"secret {serial}")[:10])
        k = productkey.derive(made, world.product)
        nonce = b64u(seed(f"nonce {serial}")[:16])
        found.append({
            "story": f"a {channel.value} key with serial {serial}", "channel": channel.value, "serial": serial,
            "secret": made.secret.hex(), "text": made.text, "partial": made.partial,
            "product_id": product_id(world.product.slug, channel, serial), "product": str(world.product), "k": k.hex(),
            "k_test_product": productkey.derive(made, world.test_product).hex(), "jkt": world.installation.kid,
            "nonce": nonce, "proof": productkey.proof(k, world.product, serial, world.installation.kid, nonce),
        })  # fmt: skip
    text = found[1]["text"]
    typed = {
        "in small letters": text.lower(), "without dashes": text.replace("-", ""),
        "with typographic dashes": text.replace("-", "–"), "with spaces around": f"  {text} \n",
        "groups apart by spaces": text.replace("-", " "), "dashes in the wrong places": f"{text[:3]}-{text[3:].replace('-', '')}",
        "with a byte-order mark": f"\ufeff{text}", "in full-width letters": "".join(
            chr(ord(c) + 0xFEE0) if c != "-" else c for c in text),
    }  # fmt: skip
    return {"provenance": PROVENANCE, "keys": found,
            "typed": [{"story": story, "typed": value, "text": text} for story, value in typed.items()]}  # fmt: skip


def thumbprints(world: World) -> dict[str, Any]:
    rfc = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    found = [
        {"story": "RFC 8037, appendix A.3", "public": rfc, "thumbprint": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"}
    ]
    owners = (*world.roots, world.issuer, world.next, world.tester, world.installation)
    found += [{"story": who.name, "public": who.public.hex(), "thumbprint": who.kid} for who in owners]
    return {"provenance": PROVENANCE, "thumbprints": found}


def hardware_vectors(world: World) -> dict[str, Any]:
    cases = [
        ("an office PC, all four slots", READING), ("disk and network adapter alone", READING._replace(
            anchors={slot: READING.anchors[slot] for slot in ("disk", "nic")})),
        ("a virtual machine by its instance ID", Reading({"vm": "i-0a1b2c3d4e5f60718"}, {"processor": "authenticamd 25 1 1"})),
        ("a UUID made from the adapter's address: their pair is left out", Reading(
            {"uuid": "0000000000001000a000a4bb6da1b2c3", "nic": "a4bb6da1b2c3"}, {})),
        ("nothing individual", Reading({}, {"processor": "genuineintel 6 165 5"})),
    ]  # fmt: skip
    found = []
    for story, reading in cases:
        vector = hardware.vector(reading, world.product)
        found.append({
            "story": story, "product": str(world.product), "anchors": dict(reading.anchors),
            "components": dict(reading.components), "pairs": hardware.pairs(reading.anchors, world.product),
            "tags": hardware.component_tags(reading, world.product), "vector": vector, "salt": SALT.hex(),
            "commitment": hardware.commitment(vector, SALT),
            "evidence": hardware.evidence(hardware.pairs(reading.anchors, world.product)),
        })  # fmt: skip
    return {"provenance": PROVENANCE, "scheme": hardware.SCHEME, "computers": found}


def request_of(world: World, product: ProductName, nonce: str = "one") -> Request:
    made = productkey.make(Channel.RETAIL, 82_026_407, seed("secret 82026407")[:10])
    text = b64u(seed(f"nonce {nonce}")[:16])
    vector = hardware.vector(READING, product)
    facts = {"computer_make": "Example Computers", "os_name": "Debian GNU/Linux", "client_version": "0.1.0",
             "region": {"unavailable": "no locale is set"}}  # fmt: skip
    return Request(
        product=product, product_id=product_id(product.slug, Channel.RETAIL, made.serial), serial=made.serial,
        key_proof=productkey.proof(productkey.derive(made, product), product, made.serial, world.installation.kid, text),
        installation="6f1c2a9e-3b4d-4c5e-8f60-718293a4b5c6", nonce=text, made_at=T0 + 10 * DAY, scheme=hardware.SCHEME,
        pairs=hardware.pairs(READING.anchors, product), tags=hardware.component_tags(READING, product),
        commitment=hardware.commitment(vector, SALT), facts=facts, state=2, previous=None, activation=None, vm=None,
        container=None, ephemeral=False, allow_ephemeral=False, bundle=3,
    )  # fmt: skip


def certificate_of(world: World, request: Request, token: str, at: int) -> Certificate:
    return Certificate(
        product=request.product, publisher="Vector Ink", activation="019b8a3c-0000-7000-8000-000000000001",
        installation=request.installation, issued_at=at, expires_at=None, product_id=request.product_id,
        serial=request.serial, channel=Channel.RETAIL, edition="pro", features=("layers", "print"), seat=1,
        scheme=hardware.SCHEME, evidence="strong", ephemeral=False, commitment=request.commitment,
        request=jws.digest(token), nonce=request.nonce, holder=world.installation.kid, activated_at=at,
        term="permanent", floor=world.chain.floor,
    )  # fmt: skip


def documents(world: World) -> dict[str, Any]:
    request, test_request = request_of(world, world.product), request_of(world, world.test_product)
    token, test_token = world.own(Kind.REQUEST, request.claims()), world.own(Kind.REQUEST, test_request.claims())

    def issued(kind: Kind, claims: Mapping[str, Any], who: Key) -> str:
        return jws.sign(kind, claims, who.public, who.sign)

    certificate = certificate_of(world, request, token, T0 + 11 * DAY)
    later = certificate_of(world, request, token, T0 + 80 * DAY)
    tested = certificate_of(world, test_request, test_token, T0 + 11 * DAY)
    signed = issued(Kind.CERTIFICATE, certificate.claims(), world.issuer)
    release = Release(
        world.product, request.serial, certificate.activation, request.installation, jws.digest(signed), T0 + 20 * DAY
    )
    record = Record(world.product, request.installation, T0 + 9 * DAY, T0 + 20 * DAY, None, 1, "succeeded")
    rows = [
        ("product", "the product file as it ships", "issue",
         issued(Kind.PRODUCT, world.product_file(world.product).claims(), world.issuer)),
        ("test-product", "a test product's file, by the key with role test", "test",
         issued(Kind.PRODUCT, world.product_file(world.test_product).claims(), world.tester)),
        ("request", "a request for an activation, signed by the installation", "own", token),
        ("test-request", "the same for the test product: other tags, other proof", "own", test_token),
        ("certificate", "the certificate that answers the request", "issue", signed),
        ("certificate-next-key", "the same, issued 80 days later by the next issuing key", "issue",
         issued(Kind.CERTIFICATE, later.claims(), world.next)),
        ("test-certificate", "the test product's certificate", "test", issued(Kind.CERTIFICATE, tested.claims(), world.tester)),
        ("release", "the seat is given back", "own", world.own(Kind.RELEASE, release.claims())),
        ("record", "what the computer remembers, signed by the installation", "installation",
         issued(Kind.RECORD, record.claims(), world.installation)),
    ]  # fmt: skip
    found = [
        {"name": name, "story": story, "kind": jws.kind_of(text).value, "role": role, "token": text,
         "claims": json.loads(jws.payload_of(text))}
        for name, story, role, text in rows
    ]  # fmt: skip
    texts = list(world.chain.texts)
    return {
        "provenance": PROVENANCE,
        "installation": {"public": world.installation.public.hex(), "kid": world.installation.kid},
        "chain": {
            "story": "bundle 1 by one root; bundle 2 hands over to three roots, two of which must sign; bundle 3 by two of them",
            "thumbprint": world.chain.thumbprint, "bundles": texts,
            "claims": [json.loads(jws.payload_of(text.partition("~")[0])) for text in texts],
        },
        "held": {"vector": hardware.vector(READING, world.product), "salt": SALT.hex()},
        "documents": found,
    }  # fmt: skip


def revocation(world: World) -> dict[str, Any]:
    """Bundle 4 revokes the first issuing key: five honest certificates with their proofs, and one that is a thief's."""
    request = request_of(world, world.product)
    token = world.own(Kind.REQUEST, request.claims())

    def certified(day: int, edition: str = "pro") -> str:
        claims = certificate_of(world, request, token, T0 + day * DAY)._replace(edition=edition).claims()
        return jws.sign(Kind.CERTIFICATE, claims, world.issuer.public, world.issuer.sign)

    honest = [certified(day) for day in range(11, 16)]
    tree = merkle.tree([trust.leaf(text) for text in honest])
    keys = [world._issuing(world.next, "issue", T0 + 75 * DAY), world._issuing(world.tester, "test", T0)]
    several = world.roots[1:]
    claims = trust.bundle_claims(
        publisher="Vector Ink", number=4, previous=world.chain.newest.digest, issued_at=T0 + 80 * DAY, threshold=2,
        roots=[root.public for root in several], keys=keys,
        revoked=[trust.Revocation(world.issuer.kid, tree.size, tree.root)],
    )  # fmt: skip
    return {
        "provenance": PROVENANCE,
        "story": "bundle 4 revokes the first issuing key, and names its next; a certificate is believed with its proof",
        "thumbprint": world.chain.thumbprint, "revoked": world.issuer.kid,
        "bundles": [*world.chain.texts, trust.sign_bundle(claims, [root.pair for root in several[:2]])],
        "tree": {"size": tree.size, "root": b64u(tree.root), "leaves": [b64u(leaf) for leaf in tree.levels[0]]},
        "honest": [
            {"token": text, "proof": trust.Inclusion(place, tree.path(place)).as_json()} for place, text in enumerate(honest)
        ],
        "forged": certified(12, "everything"),
    }  # fmt: skip


def make(folder: Path) -> None:
    world = World()
    made = documents(world)
    tokens = {item["name"]: item["token"] for item in made["documents"]}
    content = {
        "product-keys": keys_vectors(world), "thumbprints": thumbprints(world), "hardware": hardware_vectors(world),
        "documents": made, "revocation": revocation(world), "agent": agent(world, tokens), "phone": phone(world),
        "refused": {"provenance": PROVENANCE, "refused": refused(world, tokens)},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in content.items():
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1, ensure_ascii=True, sort_keys=True) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/make_vectors.py DIRECTORY")
    make(Path(sys.argv[1]))
