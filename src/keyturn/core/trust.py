"""Whom to believe: the publisher's numbered trust bundles and the issuing keys they name.

Keeps: the chain from the pinned product name to an issuing key, as values.
Leaves to others: fetching and storing bundles, and judging the documents the keys sign.

- Bundle 1 is pinned: the product name holds the digest of its payload. Nothing before that digest is believed.
- Bundle N+1 is signed by k roots of N *and* k of its own; numbers have no gaps, each names the one before.
- A bundle travels as one or more compact JWS over the same payload, joined by ``~``: one per root that signed.
- An issuing key is judged at the time of issue: an expired key un-licenses nobody.
- A *revoked* key is another matter: a thief writes any date. Its revocation carries the root of a Merkle tree over what it
  honestly signed; a document of such a key is believed only with a path to that root (:meth:`Chain.doubt`).
- *Confirmation keys* sign the answers of telephone activation and nothing else; they are on another curve and stand apart from
  the issuing keys. Four indexes go round: an answer names its key's.
- The *bundle floor* (number, digest) is the least the chain must reach; an older chain is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from keyturn.core import jws, merkle
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import b64u, sha256_b64u

MAX_BUNDLES = 256
MAX_ROOTS = 9
MAX_REVOKED = 256
ROLE_ISSUE = "issue"  # Product files, certificates, verdicts, lists of ordinary products.
ROLE_TEST = "test"  # The same for test products, and for nothing else.
ROLE_PHONE = "phone"  # Confirmation IDs, the answers of telephone activation, of ordinary products.
ROLE_PHONE_TEST = "phone-test"  # The same for test products.
MAX_PHONE = 8  # Four indexes for each role.
PHONE_BYTES = 128  # A point of BN254's second group: ``keyturn.edge.bls``.
# What an issuing key signs, and nothing else: a root signs trust bundles, and everybody else signs for themselves.
ISSUED = frozenset({Kind.PRODUCT, Kind.CERTIFICATE, Kind.REVOCATIONS, Kind.HOST, Kind.HOST_PHONE})


class Floor(NamedTuple):
    """The least a chain must reach."""

    number: int
    digest: str


class IssuingKey(NamedTuple):
    """A key the publisher's root authorised: raw public key, what it may sign, and when (NumericDate)."""

    kid: str
    public: bytes
    role: str
    not_before: int
    not_after: int


class ConfirmationKey(NamedTuple):
    """A key that signs confirmation IDs: its 128 bytes, the number in those IDs that says which key it is, and when.

    It signs no documents, and an issuing key signs no confirmation IDs. ``not_before`` is also the start from which terms count;
    ``not_after`` binds the service alone, because a confirmation ID has no date.
    """

    public: bytes
    key_index: int  # 0 to 3; a later key takes it over.
    role: str
    not_before: int
    not_after: int

    @property
    def kid(self) -> str:
        return sha256_b64u(self.public)


class Revocation(NamedTuple):
    """A stolen key, and what it signed before: the size and root of a Merkle tree. ``at`` is the bundle's time of issue."""

    kid: str
    size: int
    root: bytes
    at: int = 0


class Inclusion(NamedTuple):
    """Where a document stands in the tree of a revocation: proof that its signer was not yet a thief."""

    place: int  # The index of its leaf.
    path: tuple[bytes, ...]

    def as_json(self) -> dict[str, Any]:
        return {"index": self.place, "path": [b64u(step) for step in self.path]}

    @classmethod
    def read(cls, value: object) -> Inclusion:
        """Raises: KeyturnError ``document_malformed``."""
        path = value.get("path") if isinstance(value, dict) else None
        index = value.get("index") if isinstance(value, dict) else None
        if type(index) is not int or not isinstance(path, list) or len(path) > merkle.MAX_PATH:
            raise KeyturnError("document_malformed", "this is no proof of inclusion")
        return cls(index, tuple(jws.decoded(step, 32) for step in path))


class Bundle(NamedTuple):
    """One verified trust bundle."""

    number: int
    digest: str
    publisher: str
    issued_at: int
    threshold: int
    roots: Mapping[str, bytes]
    keys: Mapping[str, IssuingKey]
    revoked: Mapping[str, Revocation] = {}
    phone: tuple[ConfirmationKey, ...] = ()


class Chain(NamedTuple):
    """All bundles of one publisher, verified from number 1 upwards. ``texts`` are their travelling forms."""

    thumbprint: str
    bundles: tuple[Bundle, ...]
    texts: tuple[str, ...]

    @property
    def newest(self) -> Bundle:
        return self.bundles[-1]

    @property
    def floor(self) -> Floor:
        """The floor a product file made now would carry."""
        return Floor(self.newest.number, self.newest.digest)

    @property
    def revoked(self) -> frozenset[str]:
        """Every issuing key that was stolen, by its ``kid``."""
        return frozenset(kid for bundle in self.bundles for kid in bundle.revoked)

    def key(self, kid: str) -> IssuingKey:
        """The key ``kid`` as the newest bundle that names it says. Raises: KeyturnError ``trust_invalid``."""
        for bundle in reversed(self.bundles):
            if kid in bundle.keys:
                return bundle.keys[kid]
        raise KeyturnError("trust_invalid", "the signer is not in the publisher's trust bundle")

    def issuing_key(self, kid: str, role: str) -> IssuingKey:
        """The key ``kid`` if the newest bundle that names it gives it ``role``.

        Raises: KeyturnError ``trust_invalid``.
        """
        key = self.key(kid)
        if key.role != role:
            raise KeyturnError("trust_invalid", f"the key may sign as {key.role!r}, not as {role!r}")
        return key

    def confirming(self, test: bool) -> tuple[ConfirmationKey, ...]:
        """Every key that was ever authorised to sign confirmation IDs of such products, the newest first; ended ones too.

        What each of them says is what the newest bundle that names it says.
        """
        newest = {key.kid: key for bundle in self.bundles for key in bundle.phone}
        found = [key for key in newest.values() if key.role == (ROLE_PHONE_TEST if test else ROLE_PHONE)]
        return tuple(sorted(found, key=lambda key: key.not_before, reverse=True))

    def revocation(self, kid: str) -> Revocation | None:
        """The revocation of an issuing or confirmation key, the first one that was said: no later bundle takes it back."""
        return next((bundle.revoked[kid] for bundle in self.bundles if kid in bundle.revoked), None)

    def doubt(self, token: str, kind: Kind, proof: Inclusion | None = None) -> Revocation | None:
        """Why a verified document is doubtful, or ``None``.

        1. Its signer is not revoked: no doubt.
        2. ``proof`` leads from the document to the root of what the signer honestly signed: no doubt.
        3. Otherwise it may be a thief's, whatever date it bears.
        """
        revocation = self.revocation(jws.read_header(token, kind).kid)
        # 1. and 2.
        if revocation is None or (proof is not None and _included(token, revocation, proof)):
            return None
        # 3.
        return revocation

    def verify(self, token: str, kind: Kind, role: str) -> dict[str, Any]:
        """Verify a document of ``kind`` that an issuing key signed, and return its claims; revocations are :meth:`doubt`'s.

        1. Its ``kid`` is an issuing key of this chain, with the role.
        2. The signature holds.
        3. ``iat`` lies within the time the key was authorised for: an expired key un-licenses nobody.

        Raises: KeyturnError ``trust_invalid`` (1), ``signature_invalid`` (2), ``document_expired`` (3).
        """
        # 1. and 2.
        found: list[IssuingKey] = []

        def find(kid: str) -> bytes:
            found.append(self.issuing_key(kid, role))
            return found[0].public

        claims = jws.verify(token, kind, find).claims()
        # 3.
        issued = claims.get("iat")
        if not isinstance(issued, int) or not found[0].not_before <= issued <= found[0].not_after:
            raise KeyturnError("document_expired", f"the {kind.value} was not made within its issuing key's time")
        return claims


def role_for(test: bool) -> str:
    return ROLE_TEST if test else ROLE_ISSUE


def bundle_claims(
    *,
    publisher: str,
    number: int,
    previous: str | None,
    issued_at: int,
    threshold: int,
    roots: Sequence[bytes],
    keys: Sequence[IssuingKey],
    revoked: Sequence[Revocation] = (),
    phone: Sequence[ConfirmationKey] = (),
) -> dict[str, Any]:
    """The claims of a trust bundle, ready to be signed by ``threshold`` roots."""
    claims: dict[str, Any] = {
        "v": 1,
        "publisher": publisher,
        "number": number,
        "previous": previous,
        "iat": issued_at,
        "roots": {"threshold": threshold, "keys": [jws.jwk(root) for root in roots]},
        "keys": [
            {"jwk": jws.jwk(key.public), "role": key.role, "nbf": key.not_before, "exp": key.not_after} for key in keys
        ],
    }
    if revoked:
        claims["revoked"] = [{"kid": r.kid, "size": r.size, "root": b64u(r.root)} for r in revoked]
    if phone:
        # Beside the issuing keys, not among them: a reader from before telephone activation reads those and ignores these.
        claims["phone"] = [
            {
                "bls": b64u(key.public),
                "index": key.key_index,
                "role": key.role,
                "nbf": key.not_before,
                "exp": key.not_after,
            }
            for key in phone
        ]
    return claims


def confirmation_keys(claims: Mapping[str, Any]) -> tuple[ConfirmationKey, ...]:
    """The confirmation keys of a bundle's claims; there are none in a bundle from before telephone activation.

    Raises: KeyError, TypeError or ValueError for what is none; KeyturnError ``trust_invalid`` if two have one place.
    """
    found = tuple(
        ConfirmationKey(
            jws.decoded(item["bls"], PHONE_BYTES),
            int(item["index"]),
            str(item["role"]),
            int(item["nbf"]),
            int(item["exp"]),
        )
        for item in claims.get("phone", [])
    )
    places = {(key.role, key.key_index) for key in found if 0 <= key.key_index < 4}
    if not len(places) == len(found) <= MAX_PHONE:
        raise KeyturnError("trust_invalid", "a trust bundle's confirmation keys are not understood")
    return found


def leaf(token: str) -> bytes:
    """A document's leaf in the tree of what its signer signed."""
    return merkle.leaf(token.encode("ascii"))


def _included(token: str, revocation: Revocation, proof: Inclusion) -> bool:
    return merkle.holds(leaf(token), proof.place, proof.path, revocation.size, revocation.root)


def sign_bundle(claims: Mapping[str, Any], signers: Sequence[tuple[bytes, Callable[[bytes], bytes]]]) -> str:
    """Sign a bundle with each ``(public key, signer)``; the result is its travelling form."""
    return "~".join(jws.sign(Kind.BUNDLE, claims, public, signer) for public, signer in signers)


def pin_of(first_bundle: str) -> str:
    """The thumbprint that a publisher's bundle 1 gives its products, unverified: only for a first look at a file."""
    token = first_bundle.partition("~")[0]
    return sha256_b64u(jws.payload_of(token))


def verify_chain(texts: Sequence[str], thumbprint: str, floor: Floor | None = None) -> Chain:
    """Verify bundles 1 to N for the publisher pinned by ``thumbprint``.

    1. There is at least one bundle and not too many.
    2. Bundle 1's payload has the pinned digest, and k of its own roots signed it.
    3. Each next bundle is signed by k roots of the one before and k of its own, has the next number and names
       the digest of the one before.
    4. The chain reaches the floor, with the floor's very bundle.

    Raises: KeyturnError ``publisher_mismatch`` (2), ``trust_invalid`` (1, 3, 4), ``signature_invalid``.
    """
    # 1.
    if not 1 <= len(texts) <= MAX_BUNDLES:
        raise KeyturnError("trust_invalid", "there is no trust bundle, or there are too many")
    # 2.
    if pin_of(texts[0]) != thumbprint:
        raise KeyturnError("publisher_mismatch", f"trust bundle 1 is not that of publisher {thumbprint[:12]}…")
    bundles = [_verify_bundle(texts[0], None)]
    # 3.
    for text in texts[1:]:
        bundles.append(_verify_bundle(text, bundles[-1]))
    # 4.
    if floor is not None and not any(
        bundle.number == floor.number and bundle.digest == floor.digest for bundle in bundles
    ):
        raise KeyturnError("trust_invalid", f"the chain does not reach bundle {floor.number} of the floor")
    return Chain(thumbprint, tuple(bundles), tuple(texts))


def longer(known: Sequence[str], offered: Sequence[str], thumbprint: str, floor: Floor | None = None) -> Chain:
    """The longer of two chains of one publisher: bundles only go up, and a fork is refused.

    Raises: KeyturnError ``trust_invalid`` if ``offered`` is another history than ``known``.
    """
    chain = verify_chain(known, thumbprint, floor)
    newest = chain.newest.number
    for text in offered:
        # A fork of the same length too: what it signed would be stored beside bundles that do not know the signer.
        number = _number(text)
        if 1 <= number <= newest and pin_of(text) != chain.bundles[number - 1].digest:
            raise KeyturnError("trust_invalid", f"trust bundle {number} is another one than the one known here")
    extra = [text for text in offered if _number(text) > newest]
    if extra:
        chain = verify_chain([*known, *sorted(extra, key=_number)], thumbprint, floor)
    return chain


def _verify_bundle(text: str, before: Bundle | None) -> Bundle:
    tokens = text.split("~")
    if not 1 <= len(tokens) <= 2 * MAX_ROOTS:
        raise KeyturnError("trust_invalid", "a trust bundle carries too many signatures")
    payload = jws.payload_of(tokens[0])
    if any(jws.payload_of(token) != payload for token in tokens):
        raise KeyturnError("trust_invalid", "the signatures of a trust bundle are over different contents")
    # The roots before must have signed before anything inside is believed; bundle 1 is held by its digest.
    if before is not None:
        _require_signatures(tokens, before.roots, before.threshold)
    bundle = _parse(jws.loads(payload), sha256_b64u(payload))
    _require_signatures(tokens, bundle.roots, bundle.threshold)
    expected = 1 if before is None else before.number + 1
    previous = jws.loads(payload).get("previous")
    if bundle.number != expected or previous != (None if before is None else before.digest):
        raise KeyturnError("trust_invalid", f"trust bundle {expected} is expected, with the digest of the one before")
    return bundle


def _require_signatures(tokens: Sequence[str], roots: Mapping[str, bytes], threshold: int) -> None:
    signed: set[str] = set()
    for token in tokens:
        kid = jws.read_header(token, Kind.BUNDLE).kid
        if kid in roots:
            signed.add(jws.verify(token, Kind.BUNDLE, roots.get).kid)
    if len(signed) < threshold:
        raise KeyturnError(
            "trust_invalid", f"a trust bundle is signed by {len(signed)} of the {threshold} roots it needs"
        )


def _parse(claims: Mapping[str, Any], digest: str) -> Bundle:
    try:
        roots = [jws.public_from_jwk(value) for value in claims["roots"]["keys"]]
        threshold, number = claims["roots"]["threshold"], claims["number"]
        keys = []
        for item in claims["keys"]:
            public = jws.public_from_jwk(item["jwk"])
            keys.append(
                IssuingKey(jws.thumbprint(public), public, str(item["role"]), int(item["nbf"]), int(item["exp"]))
            )
        publisher, issued_at = str(claims["publisher"]), int(claims["iat"])
        stolen = claims.get("revoked", [])
        if not isinstance(stolen, list) or len(stolen) > MAX_REVOKED:
            raise KeyturnError("trust_invalid", "a trust bundle's revocations are not understood")
        revoked = [
            Revocation(str(item["kid"]), int(item["size"]), jws.decoded(item["root"], 32), issued_at) for item in stolen
        ]
        phone = confirmation_keys(claims)
    except (KeyError, TypeError, ValueError) as error:
        raise KeyturnError("trust_invalid", "a trust bundle lacks a part") from error
    if claims.get("v") != 1 or type(threshold) is not int or type(number) is not int:  # True is an int in Python.
        raise KeyturnError("trust_invalid", "a trust bundle is of a version that is not known here")
    if not 1 <= threshold <= len(roots) <= MAX_ROOTS:
        raise KeyturnError("trust_invalid", "a trust bundle's threshold does not fit its roots")
    return Bundle(
        number, digest, publisher, issued_at, threshold,
        {jws.thumbprint(root): root for root in roots}, {key.kid: key for key in keys},
        {item.kid: item for item in revoked}, phone,
    )  # fmt: skip


def _number(text: str) -> int:
    number = jws.loads(jws.payload_of(text.partition("~")[0])).get("number")
    return number if isinstance(number, int) else 0
