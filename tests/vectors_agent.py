"""The agent's answers: what a program on the same computer must believe, and what it must refuse (part of ``make_vectors``).

Each refused case is true but for one thing. Python and the C++ example (``examples/cpp``) are held to the same codes.
"""

# ruff: noqa: E501 (a table: a case may be as long as its line)
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from keyturn.core import jws, merkle, trust
from keyturn.core.capability import Capability, Possession, Question
from keyturn.core.documents import Certificate
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, ProductName, b64u

if TYPE_CHECKING:
    from make_vectors import Key, World

Case = dict[str, Any]
UID = 1000
NOW = 1_768_176_000 + 30 * DAY  # 2026-02-11T00:00:00Z


class Answers:
    """Answers of one installation, and ways to spoil them."""

    def __init__(self, world: World, tokens: dict[str, str]) -> None:
        from make_vectors import key, seed

        self.world = world
        self.certificate = tokens["certificate"]
        self.tokens = tokens
        self.question = Question("license", world.product, b64u(seed("agent nonce")[:16]))
        self.stranger = key("stranger")
        claims = json.loads(jws.payload_of(self.certificate))
        self.plain = Certificate.read(claims)

    def issued(self, who: Key | None = None, **changes: Any) -> str:
        signer = who or self.world.issuer
        return jws.sign(Kind.CERTIFICATE, self.plain._replace(**changes).claims(), signer.public, signer.sign)

    def capability(self, certificate: str | None = None, **changes: Any) -> Capability:
        made = Capability(
            product=self.question.product, nonce=self.question.nonce, feature=None, uid=UID, installation=self.plain.installation,
            activation=self.plain.activation, certificate=jws.digest(certificate or self.certificate), state="licensed",
            usable=True, reason=None, edition="pro", features=("layers", "print"), valid_until=None, grace_until=None,
            issued_at=NOW, expires_at=NOW + 60,
        )  # fmt: skip
        return made._replace(**changes)

    def signed(self, capability: Capability, who: Key | None = None, kind: Kind = Kind.CAPABILITY) -> str:
        return self.world.own(kind, capability.claims(), who)

    def line(self, **changes: Any) -> str:
        """The line as it travels; ``None`` takes a member away."""
        answer = {
            "v": 1, "capability": self.signed(self.capability(changes.get("certificate"))), "certificate": self.certificate, "proof": None,
            "product": self.tokens["product"], "bundles": list(self.world.chain.texts), **changes,
        }  # fmt: skip
        return jws.dumps({name: value for name, value in answer.items() if value is not ...}).decode()


def agent(world: World, tokens: dict[str, str]) -> dict[str, Any]:
    """Everything about the agent's protocol: a question, answers that hold, and answers that do not."""
    from make_vectors import PROVENANCE

    a = Answers(world, tokens)
    possession = Possession(world.product, a.question.nonce, UID, NOW, NOW + 60)
    return {
        "provenance": PROVENANCE, "product": str(world.product), "uid": UID, "now": NOW, "nonce": a.question.nonce,
        "question": json.dumps(a.question.as_json()),
        "possession": {
            "public": world.installation.public.hex(), "token": world.own(Kind.POSSESSION, possession.claims()),
            "refused": {
                "by a stranger": world.own(Kind.POSSESSION, possession.claims(), a.stranger),
                "a capability": a.signed(a.capability()),
                "another nonce": world.own(Kind.POSSESSION, possession._replace(nonce="A" * 22).claims()),
            },
        },
        "accepted": _accepted(a), "refused": [*_capabilities(a), *_certificates(a), *_bundles(a), *_lines(a)],
    }  # fmt: skip


def _case(name: str, story: str, line: str, code: str | None = None, **more: Any) -> Case:
    """``more``: another ``feature``, ``now``, ``uid`` or ``floor`` than the ordinary question's."""
    return {"name": name, "story": story, "line": line, **({} if code is None else {"code": code}), **more}


def _accepted(a: Answers) -> list[Case]:
    revoked, proof = _revoked(a)
    header = {"alg": "Ed25519", "kid": a.world.installation.kid, "typ": Kind.CAPABILITY.typ, "jwk": jws.jwk(a.world.installation.public)}
    newer = a.world.installation.raw(jws.dumps(header), jws.dumps(a.capability().claims()))
    return [
        _case("plain", "licensed, for ever", a.line()),
        _case("feature", "licensed, with the feature that is asked for", a.line(capability=a.signed(a.capability(feature="layers"))), feature="layers"),
        _case("algorithm-9864", "the algorithm's newer name", a.line(capability=newer)),
        _case("floor", "a bundle floor that is reached", a.line(), floor=[2, a.world.chain.bundles[1].digest]),
        _case("unknown-names", "names that a later version brings", a.line(colour={"sky": "blue"})),
        _case("reissue-due", "the signer was revoked less than 190 days ago", a.line(bundles=revoked), now=NOW),
        _case("proven", "the signer was revoked long ago, and the certificate is proven to be older", _at(a, NOW + 400 * DAY, bundles=revoked, proof=proof), now=NOW + 400 * DAY),
    ]


def _at(a: Answers, now: int, **changes: Any) -> str:
    return a.line(capability=a.signed(a.capability(issued_at=now, expires_at=now + 60)), **changes)


def _revoked(a: Answers) -> tuple[list[str], dict[str, Any]]:
    """The chain with a fourth bundle that revokes the certificate's signer, and the proof of the certificate."""
    world = a.world
    tree = merkle.tree([trust.leaf(text) for text in ("one", a.certificate, "three")])
    several = world.roots[1:]
    keys = [world._issuing(world.next, "issue", NOW), world._issuing(world.tester, "test", NOW)]
    claims = trust.bundle_claims(
        publisher="Vector Ink", number=4, previous=world.chain.newest.digest, issued_at=NOW - 100 * DAY, threshold=2,
        roots=[root.public for root in several], keys=keys, revoked=[trust.Revocation(world.issuer.kid, tree.size, tree.root)],
    )  # fmt: skip
    bundles = [*world.chain.texts, trust.sign_bundle(claims, [root.pair for root in several[:2]])]
    return bundles, trust.Inclusion(1, tree.path(1)).as_json()


def _capabilities(a: Answers) -> list[Case]:
    good = a.signed(a.capability())
    head, body, tail = good.split(".")
    flipped = f"{head}.{body}.{tail[:-2]}{'A' if tail[-2] != 'A' else 'B'}{tail[-1]}"
    header = json.loads(jws.payload_of(f".{head}."))

    def with_header(**changes: Any) -> str:
        made = {name: value for name, value in {**header, **changes}.items() if value is not None}
        return a.world.installation.raw(jws.dumps(made), jws.dumps(a.capability().claims()))

    def says(name: str, story: str, code: str, *, who: Key | None = None, kind: Kind = Kind.CAPABILITY, more: Case | None = None, **changes: Any) -> Case:
        return _case(name, story, a.line(capability=a.signed(a.capability(**changes), who, kind)), code, **(more or {}))

    return [
        says("other-nonce", "a recorded answer to another question", "document_foreign", nonce="A" * 22),
        says("other-uid", "an answer to another account's question", "document_foreign", uid=UID + 1),
        says("other-feature", "an answer to a question about another feature", "document_foreign", feature="print"),
        says("other-product", "an answer about another product", "document_foreign", product=ProductName(a.world.product.thumbprint, "other")),
        says("other-key", "signed by a key that is not the certificate's holder", "document_foreign", who=a.stranger),
        _case("other-certificate", "it rests on another certificate than the one beside it", a.line(capability=a.signed(a.capability(a.tokens["certificate-next-key"]))), "document_foreign"),
        says("other-kind", "a signed record in its place", "document_malformed", kind=Kind.RECORD),
        says("expired", "of an hour ago", "document_expired", issued_at=NOW - 3600, expires_at=NOW - 3540),
        says("just-expired", "its last second is over", "document_expired", issued_at=NOW - 60, expires_at=NOW),
        says("future", "of a minute that has not come", "document_expired", issued_at=NOW + 30, expires_at=NOW + 90),
        says("endless", "made to last for a day", "document_expired", expires_at=NOW + DAY),
        says("backwards", "it ends before it begins", "document_expired", issued_at=NOW + 5, expires_at=NOW + 5),
        says("grace", "in grace: nobody proves that but this computer", "not_licensed", state="initial_grace", reason="not_activated"),
        says("notification", "grace is over", "not_licensed", state="notification", usable=False),
        says("not-usable", "licensed, and not usable", "not_licensed", usable=False),
        says("feature-of-no-edition", "a feature that only the capability claims", "feature_not_licensed", feature="everything", features=("layers", "print", "everything"), more={"feature": "everything"}),
        _case("flipped", "one bit of the signature", a.line(capability=flipped), "signature_invalid"),
        _case("unsigned", "algorithm none", a.line(capability=with_header(alg="none")), "document_malformed"),
        _case("critical", "an extension that nobody knows", a.line(capability=with_header(crit=["x"])), "document_malformed"),
        _case("no-key", "it does not carry its key", a.line(capability=with_header(jwk=None)), "document_malformed"),
        _case("lent-key", "it carries another key than it names", a.line(capability=with_header(jwk=jws.jwk(a.stranger.public))), "document_malformed"),
        _case("two-parts", "not three parts", a.line(capability=f"{head}.{body}"), "document_malformed"),
        _case("padded", "base64 with padding", a.line(capability=f"{head}.{body}.{tail}=="), "document_malformed"),
    ]


def _certificates(a: Answers) -> list[Case]:
    def beside(name: str, story: str, code: str, token: Any, **more: Any) -> Case:
        found = token if isinstance(token, str) else None
        return _case(name, story, a.line(capability=a.signed(a.capability(found)), certificate=token), code, **more)

    head, _, tail = a.certificate.split(".")
    claims = json.loads(jws.payload_of(a.certificate))
    richer = b64u(jws.dumps({**claims, "edition": "everything"}))
    return [
        beside("certificate-of-another-product", "the same publisher's other product", "document_foreign", a.issued(product=ProductName(a.world.product.thumbprint, "other"))),
        beside("certificate-of-another-installation", "somebody else's certificate", "document_foreign", a.issued(holder=a.stranger.kid)),
        beside("certificate-by-a-stranger", "signed by a key in no bundle", "trust_invalid", a.issued(a.stranger)),
        beside("certificate-by-the-installation", "signed by the installation itself", "trust_invalid", a.issued(a.world.installation)),
        beside("certificate-by-the-test-key", "a test key for an ordinary product", "trust_invalid", a.issued(a.world.tester)),
        beside("certificate-changed", "another edition under the old signature", "signature_invalid", f"{head}.{richer}.{tail}"),
        beside("certificate-out-of-time", "made after its key's time", "document_expired", a.issued(issued_at=a.plain.issued_at + 200 * DAY)),
        beside("certificate-ended", "a dated license whose end has come", "not_licensed", a.issued(expires_at=NOW)),
        beside("certificate-missing", "no certificate", "not_licensed", None),
        beside("certificate-is-a-product", "the product file in its place", "document_malformed", a.tokens["product"]),
    ]  # fmt: skip


def _bundles(a: Answers) -> list[Case]:
    from make_vectors import World as Made
    from make_vectors import key

    world, texts = a.world, list(a.world.chain.texts)
    keys = [world._issuing(world.issuer, "issue", NOW - 30 * DAY)]
    other = Made.bundle(1, None, 1, [key("another root")], keys, signers=[key("another root")])
    lone = Made.bundle(3, texts[1], 2, world.roots[1:], keys, signers=[world.roots[1]])
    late = NOW + 400 * DAY
    revoked, proof = _revoked(a)
    wrong = {**proof, "index": 2}
    return [
        _case("bundles-of-another-publisher", "another publisher's bundle 1", a.line(bundles=[other]), "publisher_mismatch"),
        _case("bundles-missing", "none", a.line(bundles=[]), "trust_invalid"),
        _case("bundles-gap", "bundle 2 left out", a.line(bundles=[texts[0], texts[2]]), "trust_invalid"),
        _case("bundles-one-root", "a third bundle that one root signed where two must", a.line(bundles=[*texts[:2], lone]), "trust_invalid"),
        _case("bundles-below-the-floor", "they end before the floor", a.line(bundles=texts[:1]), "trust_invalid", floor=[2, world.chain.bundles[1].digest]),
        _case("bundles-other-floor", "another history than the floor's", a.line(), "trust_invalid", floor=[2, "A" * 43]),
        _case("revoked", "the signer was revoked 190 days ago, and nothing proves the certificate older", _at(a, late, bundles=revoked), "issuer_revoked", now=late),
        _case("revoked-other-proof", "with the proof of another certificate", _at(a, late, bundles=revoked, proof=wrong), "issuer_revoked", now=late),
    ]


def _lines(a: Answers) -> list[Case]:
    good = a.line()
    said = {"v": 1, "error": {"code": "permission_denied", "title": "", "detail": "this store is another account's than 1000", "remedy": "", "reference": None, "retry_after": None}}
    rows = [
        ("duplicate", "a name twice", good[:-1] + ',"v":1}', "document_malformed"),
        ("float", "a number with a fraction", good.replace('"v":1', '"v":1.0'), "document_malformed"),
        ("large", "a number above 2^53", good[:-1] + ',"x":9007199254740994}', "document_malformed"),
        ("deep", "twenty objects inside one another", good[:-1] + ',"x":' + '{"x":' * 20 + "1" + "}" * 21, "document_malformed"),
        ("trailing", "something behind the object", good + "{}", "document_malformed"),
        ("list", "a list", f"[{good}]", "document_malformed"),
        ("half", "cut in the middle", good[: len(good) // 2], "document_malformed"),
        ("surrogate", "half a character", good[:-1] + ',"x":"\\ud800"}', "document_malformed"),
        ("control", "a raw line break in a text", good[:-1] + ',"x":"a\nb"}', "document_malformed"),
        ("leading-zero", "a number that begins with zero", good[:-1] + ',"x":01}', "document_malformed"),
        ("no-capability", "an answer to another kind of question", a.line(capability=...), "answer_unexpected"),
        ("bundles-no-list", "bundles that are no list", a.line(bundles="one"), "answer_unexpected"),
        ("error", "the agent refuses: a foreign user's store", jws.dumps(said).decode(), "permission_denied"),
    ]  # fmt: skip
    return [_case(f"line-{name}", story, line, code) for name, story, line, code in rows]
