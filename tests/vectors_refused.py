"""What must be refused, and with which code: the second half of ``make_vectors``.

Each case is true but for one thing: the signature holds (where the fault is not the signature itself), so that only the
check named in the story can refuse it.
"""

# ruff: noqa: E501 (a table: a case may be as long as its line)
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from keyturn.core import jws, trust
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, b64u
from keyturn.core.trust import IssuingKey

if TYPE_CHECKING:
    from make_vectors import World

Case = dict[str, Any]


def refused(world: World, tokens: dict[str, str]) -> list[Case]:
    """Every case: ``name``, ``story``, ``check`` (the reader to ask), ``input`` and the expected ``code``."""
    cases = [*_spelling(world, tokens), *_claims(world, tokens), *_trusted(world, tokens), *_bundles(world),
             *_foreign(world, tokens), *_typed()]  # fmt: skip
    known = {text: f"@{name}" for name, text in tokens.items()}
    known |= {text: f"@bundle {number}" for number, text in enumerate(world.chain.texts, 1)}
    return [{**case, "input": {name: _named(value, known) for name, value in case["input"].items()}} for case in cases]


def _named(value: Any, known: dict[str, str]) -> Any:
    """A document of ``documents.json`` is written as its name, so that a case shows only what is wrong in it."""
    if isinstance(value, list):
        return [_named(item, known) for item in value]
    return known.get(value, value) if isinstance(value, str) else value


def _case(name: str, story: str, check: str, code: str, **given: Any) -> Case:
    return {"name": name, "story": story, "check": check, "code": code, "input": given}


def _parts(token: str) -> tuple[dict[str, Any], bytes]:
    header: dict[str, Any] = json.loads(jws.payload_of(f".{token.partition('.')[0]}."))
    return header, jws.payload_of(token)


def _spelling(world: World, tokens: dict[str, str]) -> list[Case]:
    """Faults of the compact form and its header; the certificate is the victim."""
    good = tokens["certificate"]
    header, payload = _parts(good)
    head, body, tail = good.split(".")
    issuer = world.issuer

    def signed(**changes: Any) -> str:
        changed = {name: value for name, value in {**header, **changes}.items() if value is not None}
        return issuer.raw(jws.dumps(changed), payload)

    none = b64u(jws.dumps({**header, "alg": "none"}))
    rows = [
        ("typ-of-request", "a certificate's content under the type of a request", signed(typ=Kind.REQUEST.typ)),
        ("typ-plain", "the type every JWT has", signed(typ="JWT")),
        ("typ-missing", "no type", signed(typ=None)),
        ("alg-none", "algorithm none, without a signature", f"{none}.{body}."),
        ("alg-hs256", "algorithm HS256, as if the public key were a shared secret", signed(alg="HS256")),
        ("alg-es256", "another algorithm", signed(alg="ES256")),
        ("kid-missing", "no key named", signed(kid=None)),
        ("kid-number", "the key named by a number", signed(kid=7)),
        ("crit", "a critical extension", signed(crit=["exp"], exp=1)),
        ("crit-empty", "an empty list of critical extensions", signed(crit=[])),
        (
            "header-duplicate",
            "the algorithm twice in the header",
            issuer.raw(b'{"alg":"none",' + jws.dumps(header)[1:], payload),
        ),
        ("header-array", "a header that is a list", issuer.raw(b"[]", payload)),
        ("four-parts", "four parts", f"{good}.{tail}"),
        ("two-parts", "two parts", f"{head}.{body}"),
        ("padding", "a padded signature", f"{good}=="),
        ("standard-alphabet", "the alphabet of plain base64", f"{head}.{body}.{tail[:-4]}+/+/"),
        ("line-end", "a line end behind the token", f"{good}\n"),
        ("spare-bits", "spare bits of the last symbol set", f"{head}.{body}.{tail[:-1]}{_spare(tail[-1])}"),
    ]
    cases = [_case(name, story, "certificate", "document_malformed", token=token) for name, story, token in rows]
    flipped = jws._decode(tail)
    flipped = flipped[:5] + bytes([flipped[5] ^ 1]) + flipped[6:]
    other = {**json.loads(payload), "edition": "lite"}
    return [
        *cases,
        _case("signature-bit", "one bit of the signature flipped", "certificate", "signature_invalid", token=f"{head}.{body}.{b64u(flipped)}"),
        _case("signature-empty", "an empty signature", "certificate", "signature_invalid", token=f"{head}.{body}."),
        _case("signature-long", "one byte behind the signature", "certificate", "signature_invalid",
              token=f"{head}.{body}.{b64u(jws._decode(tail) + b'0')}"),
        _case("payload-changed", "another edition under the old signature", "certificate", "signature_invalid",
              token=f"{head}.{b64u(jws.dumps(other))}.{tail}"),
    ]  # fmt: skip


def _spare(symbol: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(symbol) | 1]  # 64 bytes end in two symbols, the last with four spare bits.


def _claims(world: World, tokens: dict[str, str]) -> list[Case]:
    """Faults of the content, truly signed."""
    header, payload = _parts(tokens["certificate"])
    text = payload.decode()

    def signed(changed: str) -> str:
        assert changed != text
        return world.issuer.raw(jws.dumps(header), changed.encode("utf-8", "surrogatepass"))

    rows = [
        ("duplicate-name", "the seat twice", text[:-1] + ',"seat":2}'),
        ("duplicate-nested", "a name twice inside an object", text.replace('"cnf":{', '"cnf":{"jkt":"x",')),
        ("float", "a seat of 1.0", text.replace('"seat":1', '"seat":1.0')),
        ("exponent", "a seat of 1e0", text.replace('"seat":1', '"seat":1e0')),
        ("nan", "a seat that is not a number", text.replace('"seat":1', '"seat":NaN')),
        ("infinity", "an infinite seat", text.replace('"seat":1', '"seat":Infinity')),
        ("float-unknown", "a broken number in a claim nobody reads", text[:-1] + ',"x":1.5}'),
        ("nan-unknown", "no number in a claim nobody reads", text[:-1] + ',"x":[NaN]}'),
        ("large-number", "a number above 2^53", text.replace('"seat":1', '"seat":9007199254740994')),
        ("surrogate", "half a character", text.replace('"edition":"pro"', '"edition":"\\ud800"')),
        ("deep", "twenty objects inside one another", text[:-1] + ',"x":' + '{"x":' * 20 + "1" + "}" * 21),
        ("not-object", "a list", "[" + text + "]"),
        ("trailing", "something behind the object", text + "{}"),
        ("byte-order-mark", "a byte-order mark", "\ufeff" + text),
        ("version", "a version that is not known", text.replace('"v":1', '"v":2')),
        ("version-missing", "no version", text.replace(',"v":1', "")),
        ("negative", "a negative seat", text.replace('"seat":1', '"seat":-1')),
        ("boolean", "true instead of a number", text.replace('"seat":1', '"seat":true')),
        ("no-holder", "no holder", text.replace('"jkt"', '"jkx"')),
        ("channel", "a channel that does not exist", text.replace('"channel":"retail"', '"channel":"vip"')),
        (
            "test-contradiction",
            "marked as a test, for a product that is none",
            text.replace('"test":false', '"test":true'),
        ),
    ]
    return [
        _case(name, story, "certificate", "document_malformed", token=signed(changed)) for name, story, changed in rows
    ]


def _trusted(world: World, tokens: dict[str, str]) -> list[Case]:
    """Truly signed, by somebody who may not."""
    _, payload = _parts(tokens["certificate"])
    claims = json.loads(payload)
    stranger, installation = _stranger(), world.installation

    def by(who: Any, **changes: Any) -> str:
        return jws.sign(Kind.CERTIFICATE, {**claims, **changes}, who.public, who.sign)

    false_key = _parts(tokens["certificate"])[0]
    product = world.product_file(world.product)
    test_file = world.product_file(world.test_product)
    request_header, request_payload = _parts(tokens["request"])

    def product_by(who: Any, changed: Any) -> str:
        return jws.sign(Kind.PRODUCT, changed.claims(), who.public, who.sign)

    return [
        _case("unknown-signer", "signed by a key of nobody", "certificate", "trust_invalid", token=by(stranger)),
        _case("own-signer", "the installation certifies itself", "certificate", "trust_invalid", token=by(installation)),
        _case("root-signer", "signed by a root, which signs bundles only", "certificate", "trust_invalid", token=by(world.roots[0])),
        _case("wrong-role", "the test key signs for an ordinary product", "certificate", "trust_invalid", token=by(world.tester)),
        _case("false-kid", "a stranger's signature under the issuing key's name", "certificate", "signature_invalid",
              token=stranger.raw(jws.dumps(false_key), payload)),
        _case("jwk-ignored", "a stranger brings the key along in the header", "certificate", "signature_invalid",
              token=stranger.raw(jws.dumps({**false_key, "jwk": jws.jwk(stranger.public)}), payload)),
        _case("before-its-time", "issued before the issuing key was authorised", "certificate", "document_expired",
              token=by(world.issuer, iat=claims["iat"] - 60 * DAY)),
        _case("after-its-time", "issued after the issuing key's last day", "certificate", "document_expired",
              token=by(world.issuer, iat=claims["iat"] + 90 * DAY)),
        _case("no-time", "no time of issue", "certificate", "document_expired",
              token=by(world.issuer, iat=None)),
        _case("product-other-publisher", "a product file that names another publisher", "product", "publisher_mismatch",
              token=product_by(world.issuer, product._replace(name=product.name._replace(thumbprint="A" * 43))), role="issue"),
        _case("product-test-key", "the test key signs an ordinary product's file", "product", "trust_invalid",
              token=product_by(world.tester, product), role="test"),
        _case("product-issue-key", "an ordinary key signs a test product's file", "product", "trust_invalid",
              token=product_by(world.issuer, test_file), role="issue"),
        _case("product-floor", "a product file whose floor the chain does not reach", "product", "trust_invalid",
              token=product_by(world.issuer, product._replace(floor=product.floor._replace(number=9))), role="issue"),
        _case("product-floor-digest", "a product file whose floor is another bundle of that number", "product", "trust_invalid",
              token=product_by(world.issuer, product._replace(floor=product.floor._replace(digest="A" * 43))), role="issue"),
        _case("request-no-jwk", "a request without its key", "request", "document_malformed",
              token=installation.raw(jws.dumps({n: v for n, v in request_header.items() if n != "jwk"}), request_payload)),
        _case("request-other-jwk", "a request with another key than it names", "request", "document_malformed",
              token=stranger.raw(jws.dumps({**request_header, "jwk": jws.jwk(stranger.public)}), request_payload)),
        _case("request-private-jwk", "a request that gives its private key away", "request", "document_malformed",
              token=installation.raw(jws.dumps({**request_header, "jwk": {**request_header["jwk"], "d": "A" * 43}}), request_payload)),
        _case("request-short-jwk", "a key of 31 bytes", "request", "document_malformed",
              token=installation.raw(jws.dumps({**request_header, "jwk": {**request_header["jwk"], "x": b64u(bytes(31))}}), request_payload)),
        _case("request-as-release", "a request where a release is read", "release", "document_malformed", token=tokens["request"]),
        _case("release-as-request", "a release where a request is read", "request", "document_malformed", token=tokens["release"]),
        _case("request-own-tag", "a request that carries an anchor's own tag", "request", "document_malformed",
              token=_with_pair(world, request_payload, "disk")),
        _case("request-raw-value", "a request whose pair is a raw value", "request", "document_malformed",
              token=_with_pair(world, request_payload, "disk+nic", "a4:bb:6d:a1:b2:c3")),
    ]  # fmt: skip


def _stranger() -> Any:
    from make_vectors import key

    return key("stranger")


def _with_pair(world: World, payload: bytes, name: str, tag: str = "0123456789abcdef") -> str:
    claims = json.loads(payload)
    claims["pairs"]["1"][name] = tag
    return world.own(Kind.REQUEST, claims)


def _bundles(world: World) -> list[Case]:
    """Chains of trust that do not hold."""
    first, second, third = world.chain.texts
    one, *several = world.roots
    pin, stranger = world.chain.thumbprint, _stranger()
    keys = list(world.chain.newest.keys.values())

    def chain(name: str, story: str, code: str, bundles: list[str], **more: Any) -> Case:
        return _case(name, story, "chain", code, bundles=bundles, thumbprint=pin, **more)

    def made(
        number: int,
        before: str | None,
        threshold: int,
        roots: list[Any],
        signers: list[Any],
        more: list[IssuingKey] | None = None,
    ) -> str:
        return world.bundle(number, before, threshold, roots, keys if more is None else more, signers=signers)

    false_first = made(1, None, 1, [stranger], [stranger])
    forked = made(2, first, 2, several, [one, several[1], several[2]], keys[:1])
    claims = json.loads(jws.payload_of(third.partition("~")[0]))
    header = jws.dumps({"alg": "EdDSA", "kid": several[0].kid, "typ": Kind.BUNDLE.typ})
    tokens = third.split("~")
    return [
        chain("other-publisher", "another publisher's bundle 1", "publisher_mismatch", [false_first]),
        chain("self-signed-only", "bundle 1 with the right content, not signed by its root", "trust_invalid",
              [stranger.raw(jws.dumps({"alg": "EdDSA", "kid": stranger.kid, "typ": Kind.BUNDLE.typ}), jws.payload_of(first))]),
        chain("empty", "no bundle at all", "trust_invalid", []),
        chain("gap", "bundle 2 is missing", "trust_invalid", [first, third]),
        chain("order", "the bundles in the wrong order", "trust_invalid", [first, third, second]),
        chain("repeated", "bundle 2 twice", "trust_invalid", [first, second, second]),
        chain("old-root-missing", "bundle 2 signed by its own roots only: whoever makes keys could take over", "trust_invalid",
              [first, made(2, first, 2, several, several[:2])]),
        chain("own-roots-missing", "bundle 2 signed by the old root only", "trust_invalid", [first, made(2, first, 2, several, [one])]),
        chain("one-too-few", "bundle 3 signed by one of the two roots it needs", "trust_invalid",
              [first, second, made(3, second, 2, several, several[:1])]),
        chain("root-twice", "the same root signed bundle 3 twice", "trust_invalid",
              [first, second, made(3, second, 2, several, [several[0], several[0]])]),
        chain("root-listed-twice", "a root listed twice, so that one signature would count for two", "trust_invalid",
              [first, second, made(3, second, 2, [several[0], several[0]], [several[0], several[0], several[1]])]),
        chain("stranger-second", "the second signature of bundle 3 is a stranger's", "trust_invalid",
              [first, second, made(3, second, 2, several, [several[0], stranger])]),
        chain("retired-root", "bundle 3 signed by the root that bundle 2 retired, and one of its own", "trust_invalid",
              [first, second, made(3, second, 2, several, [one, several[0]])]),
        chain("threshold-zero", "a bundle that needs no signature", "trust_invalid",
              [first, second, made(3, second, 0, several, several[:2])]),
        chain("threshold-above", "a bundle that needs more roots than it has", "trust_invalid",
              [first, second, made(3, second, 4, several, several)]),
        chain("threshold-true", "a threshold of true instead of a number", "trust_invalid",
              [first, second, trust.sign_bundle({**claims, "roots": {**claims["roots"], "threshold": True}}, [r.pair for r in several[:2]])]),
        chain("previous-other", "bundle 3 names another bundle before it", "trust_invalid",
              [first, second, trust.sign_bundle({**claims, "previous": "A" * 43}, [r.pair for r in several[:2]])]),
        chain("contents-differ", "two signatures over different contents", "trust_invalid",
              [first, second, f"{tokens[0]}~{several[2].raw(header, jws.dumps({**claims, 'iat': 1}))}"]),
        chain("bundle-signature", "one bit of a root's signature flipped", "signature_invalid",
              [first, second, f"{tokens[0]}~{tokens[1][:-3]}{'A' if tokens[1][-3] != 'A' else 'B'}{tokens[1][-2:]}"]),
        chain("floor-above", "the chain ends below the floor", "trust_invalid", [first, second], floor=[3, world.chain.newest.digest]),
        chain("floor-other", "the floor is another bundle of that number", "trust_invalid", [first, second, third], floor=[3, "A" * 43]),
        _case("fork-longer", "a longer chain that forked at bundle 2", "longer", "trust_invalid", thumbprint=pin,
              known=[first, second], offered=[first, forked, made(3, forked, 2, several, several[:2])]),
        _case("fork-equal", "a chain of the same length that forked at bundle 2", "longer", "trust_invalid", thumbprint=pin,
              known=[first, second], offered=[first, forked]),
    ]  # fmt: skip


def _foreign(world: World, tokens: dict[str, str]) -> list[Case]:
    """True documents in the wrong place."""
    from keyturn.core import hardware
    from make_vectors import READING, SALT, certificate_of, request_of

    vector = hardware.vector(READING, world.product)
    other_request = world.own(Kind.REQUEST, request_of(world, world.product, "two").claims())
    other_product = hardware.vector(READING, world.test_product)
    moved = {**vector, "anchor.disk": "0" * 32}
    stranger = _stranger()
    lifted = world.own(Kind.REQUEST, request_of(world, world.product).claims(), stranger)

    def license(name: str, story: str, code: str, **changes: Any) -> Case:
        given = {"certificate": tokens["certificate"], "request": tokens["request"], "vector": vector, "salt": SALT.hex(),
                 "product": tokens["product"], "installation": world.installation.kid}  # fmt: skip
        return _case(name, story, "license", code, **{**given, **changes})

    at = json.loads(_parts(tokens["certificate"])[1])["iat"]
    plain = certificate_of(world, request_of(world, world.product), tokens["request"], at)
    floor = plain._replace(floor=world.chain.floor._replace(number=4))
    return [
        license("other-request", "a recorded answer beside another request", "document_foreign", request=other_request),
        license("other-installation", "a store copied to another installation", "document_foreign", installation=stranger.kid),
        license(
            "other-holder", "a certificate bound to another installation's key", "document_foreign",
            certificate=jws.sign(Kind.CERTIFICATE, plain._replace(holder=stranger.kid).claims(), world.issuer.public, world.issuer.sign),
        ),
        license(
            "other-nonce", "a certificate with another nonce than its request", "document_foreign",
            certificate=jws.sign(Kind.CERTIFICATE, plain._replace(nonce="A" * 22).claims(), world.issuer.public, world.issuer.sign),
        ),
        license(
            "other-digest", "a certificate that names another request", "document_foreign",
            certificate=jws.sign(Kind.CERTIFICATE, plain._replace(request="A" * 43).claims(), world.issuer.public, world.issuer.sign),
        ),
        license(
            "lifted-certificate", "a request of another installation, and a certificate that names it", "document_foreign", request=lifted,
            certificate=jws.sign(
                Kind.CERTIFICATE, plain._replace(request=jws.digest(lifted)).claims(), world.issuer.public, world.issuer.sign
            ),
        ),
        license("lifted-request", "the request signed again by another installation", "document_foreign", request=lifted),
        license("other-product", "the test product's certificate in the ordinary product's place", "trust_invalid",
                certificate=tokens["test-certificate"]),
        license("other-baseline", "a baseline edited to fit another computer", "document_foreign", vector=moved),
        license("baseline-of-test", "another product's baseline", "document_foreign", vector=other_product),
        license("other-salt", "another salt", "document_foreign", salt="00" * 16),
        license("later-floor", "a certificate that asks for a bundle this store does not have", "trust_invalid",
                certificate=jws.sign(Kind.CERTIFICATE, floor.claims(), world.issuer.public, world.issuer.sign)),
    ]


def _typed() -> list[Case]:
    """Product keys that are none. The key that is mistyped is the second of ``product-keys.json``."""
    from keyturn.core import productkey
    from keyturn.core.model import Channel
    from make_vectors import seed

    text = productkey.make(Channel.RETAIL, 82_026_407, seed("secret 82026407")[:10]).text
    swapped = text[:6] + text[7] + text[6] + text[8:]
    wrong = text[:12] + ("A" if text[12] != "A" else "C") + text[13:]
    rows = [
        ("key-short", "one symbol is missing", text[:-1], "key_malformed", [5]),
        ("key-long", "one symbol too many", text + "7", "key_malformed", [5]),
        ("key-empty", "nothing", "", "key_malformed", []),
        ("key-foreign", "a sign that no key has", text[:-1] + "!", "key_malformed", None),
        ("key-endless", "a whole book", "A" * 300, "key_malformed", None),
        ("key-zeros", "a key of zeros alone", "-".join(["00000"] * 5), "key_malformed", None),
        ("key-wrong-symbol", "one wrong symbol in group 3", wrong, "key_mistyped", [3]),
        (
            "key-swapped",
            "two neighbours of group 2 changed places (a pair in group 3 would explain it too)",
            swapped,
            "key_mistyped",
            [2, 3],
        ),
    ]
    return [_case(name, story, "key", code, text=value, groups=groups) for name, story, value, code, groups in rows]
