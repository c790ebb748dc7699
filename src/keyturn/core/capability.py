"""What a program on this computer is told by the agent: a short-lived, signed "this copy is licensed, says its key".

Keeps: question, capability and possession proof as values, and the check of an answer from the pinned product name down.
Leaves to others: the socket (``edge.agent_socket``), where a copy stands (``license``), making an answer (``client``).

- An answer is worth nothing without the certificate beside it: that binds the installation's key, which signs the
  capability, to a product, edition and activation. The publisher signed it, not this computer.
- It is for one nonce, one asking account and a minute.
- It says what the agent saw of the hardware. Whoever holds the key can let another program say it: docs/protocol-agent.md
  tells what that means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keyturn.core import jws, trust
from keyturn.core.documents import VERSION, Certificate, Claims
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.license import REISSUE_DAYS
from keyturn.core.model import DAY, ProductName, State
from keyturn.core.trust import Floor, Inclusion

LIFETIME = 60  # Seconds.
SKEW = 5  # Seconds between two programs' views of one clock: it may be set between question and answer.
MAX_QUESTION = 4096  # Bytes of one line.
MAX_ANSWER = 4 * 1024 * 1024
ASKS = ("license", "prove")
_NONCE = (22, 86)  # Characters of base64url: 16 to 64 bytes.


class Question(NamedTuple):
    """What a program asks: ``license`` of a product (and perhaps a feature of it), or ``prove`` that the key is held."""

    ask: str
    product: ProductName
    nonce: str
    feature: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {"v": VERSION, "ask": self.ask, "product": str(self.product), "nonce": self.nonce, "feature": self.feature}

    @classmethod
    def read(cls, line: bytes) -> Question:
        """Read one line of the socket. Raises: KeyturnError ``request_unsupported``, ``document_malformed``."""
        values = jws.loads(line)
        ask, product, nonce, feature = (values.get(name) for name in ("ask", "product", "nonce", "feature"))
        if values.get("v") != VERSION or ask not in ASKS:
            raise KeyturnError("request_unsupported", f"v is {VERSION}, and ask is one of {', '.join(ASKS)}")
        if not isinstance(product, str) or not (feature is None or isinstance(feature, str) and len(feature) <= 60):
            raise KeyturnError("request_unsupported", "product is THUMBPRINT/SLUG, feature a short name or null")
        if not isinstance(nonce, str) or not _NONCE[0] <= len(nonce) <= _NONCE[1]:
            raise KeyturnError("request_unsupported", "nonce is 16 to 64 bytes in base64url")
        jws.decoded(nonce, len(nonce) * 3 // 4)
        return cls(str(ask), ProductName.parse(product), nonce, feature)


class Capability(NamedTuple):
    """Where a copy stands, for one question. Times are NumericDate; ``certificate`` is the digest of the one beside it."""

    product: ProductName
    nonce: str
    feature: str | None
    uid: int
    installation: str
    activation: str | None
    certificate: str | None
    state: str
    usable: bool
    reason: str | None
    edition: str | None
    features: tuple[str, ...]
    valid_until: int | None
    grace_until: int | None
    issued_at: int
    expires_at: int

    def claims(self) -> dict[str, Any]:
        return {
            "v": VERSION, "product": str(self.product), "test": self.product.test, "nonce": self.nonce, "feature": self.feature,
            "uid": self.uid, "installation": self.installation, "activation": self.activation, "certificate": self.certificate,
            "state": self.state, "usable": self.usable, "reason": self.reason, "edition": self.edition,
            "features": list(self.features), "valid_until": self.valid_until, "grace_until": self.grace_until,
            "iat": self.issued_at, "exp": self.expires_at,
        }  # fmt: skip

    @classmethod
    def read(cls, claims: Mapping[str, Any]) -> Capability:
        """Raises: KeyturnError ``document_malformed``."""
        c = Claims(Kind.CAPABILITY, claims)
        return cls(
            ProductName.parse(c.text("product")), c.text("nonce", _NONCE[1]), c.text_or_none("feature", 60), c.number("uid"),
            c.text("installation", 40), c.text_or_none("activation", 64), c.text_or_none("certificate", 64),
            c.text("state", 40), c.flag("usable"), c.text_or_none("reason", 40), c.text_or_none("edition", 60),
            c.names("features"), c.number_or_none("valid_until"), c.number_or_none("grace_until"), c.number("iat"),
            c.number("exp"),
        )  # fmt: skip


class Possession(NamedTuple):
    """Proof that whoever answers holds the installation's key, for one nonce and one asking account."""

    product: ProductName
    nonce: str
    uid: int
    issued_at: int
    expires_at: int

    def claims(self) -> dict[str, Any]:
        return {
            "v": VERSION, "product": str(self.product), "test": self.product.test, "nonce": self.nonce, "uid": self.uid,
            "iat": self.issued_at, "exp": self.expires_at,
        }  # fmt: skip


def check_possession(token: str, question: Question, uid: int, public: bytes) -> None:
    """Verify that ``token`` answers ``question`` of account ``uid`` with the key ``public``; its nonce makes it fresh.

    1. The installation's own key signed it, as a proof of possession and nothing else.
    2. It is for this product, nonce and account.

    Raises: KeyturnError ``trust_invalid``, ``signature_invalid`` (1), ``document_foreign`` (2).
    """
    # 1.
    claims = jws.verify(token, Kind.POSSESSION, {jws.thumbprint(public): public}.get).claims()
    # 2.
    if (claims.get("product"), claims.get("nonce"), claims.get("uid")) != (str(question.product), question.nonce, uid):
        raise KeyturnError("document_foreign", "the proof answers another question")


def check_answer(
    answer: Mapping[str, Any], question: Question, *, uid: int, now: int, floor: Floor | None = None
) -> tuple[Capability, Certificate]:
    """Verify the agent's answer to ``question`` of account ``uid``: this copy is licensed now, and the publisher says for whom.

    1. The bundles are the pinned publisher's, and reach the floor that the program was built with.
    2. An issuing key of them signed the certificate, for this product, in its time. If that key was stolen since: with a
       proof that the certificate is older, or within 190 days of the publisher's word.
    3. The certificate's holder signed the capability, and it names this certificate.
    4. The capability is for this product, nonce, feature and account.
    5. It is of this minute.
    6. It says licensed, and the certificate's own end has not come. The feature is one of the certificate's.

    Grace is not proven by a publisher; a program that lets people work in grace reads ``state`` of the capability after
    step 5 and knows that it is this computer's own word.
    Raises: KeyturnError ``answer_unexpected``, ``publisher_mismatch``, ``trust_invalid``, ``signature_invalid``,
    ``document_malformed``, ``document_expired``, ``document_foreign``, ``issuer_revoked``, ``not_licensed``,
    ``feature_not_licensed``.
    """
    token, signed, bundles = answer.get("certificate"), answer.get("capability"), answer.get("bundles")
    if not isinstance(signed, str) or not isinstance(bundles, list) or not all(isinstance(text, str) for text in bundles):
        raise KeyturnError("answer_unexpected", "the answer holds no capability")
    if not isinstance(token, str):
        raise KeyturnError("not_licensed", "no certificate stands beside the answer")
    name = question.product
    # 1.
    chain = trust.verify_chain(bundles, name.thumbprint, floor)
    # 2.
    certificate = Certificate.read(chain.verify(token, Kind.CERTIFICATE, trust.role_for(name.test)))
    if certificate.product != name:
        raise KeyturnError("document_foreign", f"the certificate is for {certificate.product}")
    proof = answer.get("proof")
    doubt = chain.doubt(token, Kind.CERTIFICATE, None if proof is None else Inclusion.read(proof))
    if doubt is not None and now >= doubt.at + REISSUE_DAYS * DAY:
        raise KeyturnError("issuer_revoked", "the certificate's signer was revoked")
    # 3.
    verified = jws.verify_own(signed, Kind.CAPABILITY)
    if verified.kid != certificate.holder:
        raise KeyturnError("document_foreign", "the capability is signed by another installation than the certificate's")
    capability = Capability.read(verified.claims())
    if capability.certificate != jws.digest(token):
        raise KeyturnError("document_foreign", "the capability rests on another certificate")
    # 4.
    asked = (name, question.nonce, question.feature, uid)
    if (capability.product, capability.nonce, capability.feature, capability.uid) != asked:
        raise KeyturnError("document_foreign", "the capability answers another question")
    # 5.
    lasts = capability.expires_at - capability.issued_at
    if not (0 < lasts <= LIFETIME and capability.issued_at - SKEW <= now < capability.expires_at):
        raise KeyturnError("document_expired", "the capability is not of this minute")
    # 6.
    ended = certificate.expires_at is not None and now >= certificate.expires_at
    if capability.state != State.LICENSED.word or not capability.usable or ended:
        raise KeyturnError("not_licensed", f"this copy is not licensed: {capability.reason or capability.state}")
    if question.feature is not None and question.feature not in certificate.features:
        raise KeyturnError("feature_not_licensed", f"edition {certificate.edition} does not include {question.feature!r}")
    return capability, certificate
