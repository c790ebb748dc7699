"""The golden vectors: what is right is read as recorded, what is wrong is refused with its code.

``make_vectors.py`` makes them; here the committed files are read. joserfc and PyJWT are the oracles.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws as jose_jws
from joserfc.jwk import OKPKey

from keyturn.core import documents, hardware, jws, license, productkey, trust
from keyturn.core.documents import Certificate, ProductFile, Record, Release, Request
from keyturn.core.errors import CATALOGUE, KeyturnError
from keyturn.core.hardware import Reading
from keyturn.core.jws import Kind
from keyturn.core.license import Held
from keyturn.core.model import Channel, ProductName, b64u, product_id
from keyturn.core.trust import Chain, Floor

VECTORS = Path(__file__).parent / "vectors"


def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


DOCUMENTS = vectors("documents")
TOKENS = {item["name"]: item["token"] for item in DOCUMENTS["documents"]}
BUNDLES = {f"bundle {number}": text for number, text in enumerate(DOCUMENTS["chain"]["bundles"], 1)}
REFUSED = vectors("refused")["refused"]
READERS: dict[Kind, Any] = {
    Kind.PRODUCT: ProductFile, Kind.REQUEST: Request, Kind.CERTIFICATE: Certificate, Kind.RELEASE: Release, Kind.RECORD: Record,
}  # fmt: skip


def by_name(rows: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", rows, ids=[row.get("name") or row["story"] for row in rows])


@pytest.fixture(scope="module")
def chain() -> Chain:
    return trust.verify_chain(DOCUMENTS["chain"]["bundles"], DOCUMENTS["chain"]["thumbprint"])


def read(case: dict[str, Any], chain: Chain) -> None:
    """Ask the reader that ``role`` names for the document."""
    kind = Kind(case["kind"])
    if case["role"] == "own":
        verified = jws.verify_own(case["token"], kind)
        claims = verified.claims()
    elif case["role"] == "installation":
        public = bytes.fromhex(DOCUMENTS["installation"]["public"])
        claims = jws.verify(case["token"], kind, {DOCUMENTS["installation"]["kid"]: public}.get).claims()
    else:
        claims = chain.verify(case["token"], kind, case["role"])
    assert claims == case["claims"]
    assert READERS[kind].read(claims).claims() == case["claims"]


# --- what is right ----------------------------------------------------------------------------------------------------


@by_name(vectors("product-keys")["keys"])
def test_a_product_key_is_read_derived_and_proven_as_recorded(case: dict[str, Any]) -> None:
    """Text, public part, K for the product and its test twin, and the proof are those recorded."""
    key = productkey.parse(case["text"])
    product = ProductName.parse(case["product"])
    assert (key.channel.value, key.serial, key.secret.hex()) == (case["channel"], case["serial"], case["secret"])
    assert productkey.make(Channel(case["channel"]), case["serial"], bytes.fromhex(case["secret"])).text == case["text"]
    assert key.partial == case["partial"]
    assert product_id(product.slug, key.channel, key.serial) == case["product_id"]
    k = productkey.derive(key, product)
    assert k.hex() == case["k"]
    assert productkey.derive(key, product._replace(test=True)).hex() == case["k_test_product"] != case["k"]
    assert productkey.proof(k, product, key.serial, case["jkt"], case["nonce"]) == case["proof"]


@by_name(vectors("product-keys")["typed"])
def test_a_key_is_read_however_it_is_typed(case: dict[str, Any]) -> None:
    """Case, dashes, spaces and full-width letters make no other key."""
    assert productkey.parse(case["typed"]).text == case["text"]


@by_name(vectors("thumbprints")["thumbprints"])
def test_thumbprints_are_those_of_rfc_7638(case: dict[str, Any]) -> None:
    """A key's name is its JWK thumbprint, as in RFC 8037 and as joserfc computes it."""
    public = bytes.fromhex(case["public"])
    assert jws.thumbprint(public) == case["thumbprint"]
    assert OKPKey.import_key({**jws.jwk(public)}).thumbprint() == case["thumbprint"]


@by_name(vectors("hardware")["computers"])
def test_hardware_tags_are_as_recorded(case: dict[str, Any]) -> None:
    """Pairs, component tags, the local vector and its commitment are those recorded."""
    reading, product = Reading(case["anchors"], case["components"]), ProductName.parse(case["product"])
    assert hardware.pairs(reading.anchors, product) == case["pairs"]
    assert hardware.component_tags(reading, product) == case["tags"]
    assert hardware.vector(reading, product) == case["vector"]
    assert hardware.commitment(case["vector"], bytes.fromhex(case["salt"])) == case["commitment"]
    assert hardware.evidence(case["pairs"]) == case["evidence"]


@by_name(DOCUMENTS["documents"])
def test_a_document_is_read_as_recorded(case: dict[str, Any], chain: Chain) -> None:
    """Each document verifies with its role and has the recorded claims, which write back to the same."""
    read(case, chain)


def test_the_chain_is_read_as_recorded(chain: Chain) -> None:
    """Three bundles verify, from one root to two of three, and each number is a floor the chain reaches."""
    recorded = DOCUMENTS["chain"]
    assert [bundle.number for bundle in chain.bundles] == [1, 2, 3]
    assert [(bundle.threshold, len(bundle.roots)) for bundle in chain.bundles] == [(1, 1), (2, 3), (2, 3)]
    assert [jws.loads(jws.payload_of(text.partition("~")[0])) for text in chain.texts] == recorded["claims"]
    for bundle in chain.bundles:
        assert trust.verify_chain(chain.texts, chain.thumbprint, Floor(bundle.number, bundle.digest)) == chain


def test_the_certificate_answers_its_request(chain: Chain) -> None:
    """Certificate, request, installation and baseline of the vectors belong together."""
    held = Held(
        TOKENS["certificate"], TOKENS["request"], DOCUMENTS["held"]["vector"], bytes.fromhex(DOCUMENTS["held"]["salt"])
    )
    product = documents.read_product(TOKENS["product"], chain, role="issue")
    certificate = license.check_certificate(held, product, chain, DOCUMENTS["installation"]["kid"])
    assert certificate.features == ("layers", "print")


# --- what is wrong ----------------------------------------------------------------------------------------------------


def _named(value: Any) -> Any:
    if isinstance(value, list):
        return [_named(item) for item in value]
    if isinstance(value, str) and value.startswith("@"):
        return {**TOKENS, **BUNDLES}[value[1:]]
    return value


def _check_license(chain: Chain, given: dict[str, Any]) -> None:
    held = Held(given["certificate"], given["request"], given["vector"], bytes.fromhex(given["salt"]))
    product = documents.read_product(given["product"], chain, role="issue")
    license.check_certificate(held, product, chain, given["installation"])


CHECKS: dict[str, Callable[[Chain, dict[str, Any]], object]] = {
    "certificate": lambda chain, given: Certificate.read(chain.verify(given["token"], Kind.CERTIFICATE, "issue")),
    "product": lambda chain, given: documents.read_product(given["token"], chain, role=given["role"]),
    "request": lambda chain, given: documents.read_request(given["token"]),
    "release": lambda chain, given: Release.read(jws.verify_own(given["token"], Kind.RELEASE).claims()),
    "chain": lambda chain, given: trust.verify_chain(
        given["bundles"], given["thumbprint"], Floor(*given["floor"]) if "floor" in given else None),
    "longer": lambda chain, given: trust.longer(given["known"], given["offered"], given["thumbprint"]),
    "license": _check_license,
    "key": lambda chain, given: productkey.parse(given["text"]),
}  # fmt: skip


@by_name(REFUSED)
def test_what_is_wrong_is_refused_with_its_code(case: dict[str, Any], chain: Chain) -> None:
    """Every negative case raises the recorded code, which the catalogue knows."""
    given = {name: _named(value) for name, value in case["input"].items()}
    with pytest.raises(KeyturnError) as caught:
        CHECKS[case["check"]](chain, given)
    assert caught.value.code == case["code"]
    assert case["code"] in CATALOGUE
    if case["input"].get("groups") is not None:
        assert caught.value.data["groups"] == case["input"]["groups"]


def test_a_document_larger_than_any_is_not_even_read() -> None:
    """More than 64 KiB is refused by its size."""
    with pytest.raises(KeyturnError) as caught:
        jws.verify(TOKENS["certificate"] + "A" * 65_536, Kind.CERTIFICATE, lambda _kid: None)
    assert caught.value.code == "input_too_large"


def flips(text: str) -> Iterator[str]:
    """``text`` with each single bit of its characters flipped, once each."""
    for place, character in enumerate(text):
        for bit in range(8):
            yield text[:place] + chr(ord(character) ^ 1 << bit) + text[place + 1 :]


@by_name(DOCUMENTS["documents"])
def test_every_flipped_bit_of_a_document_is_refused(case: dict[str, Any], chain: Chain) -> None:
    """No document survives the change of a single bit, wherever it is."""
    accepted = []
    for token in flips(case["token"]):
        try:
            read({**case, "token": token}, chain)
        except KeyturnError:
            continue
        accepted.append(token)
    assert not accepted


@pytest.mark.parametrize("number", [1, 2, 3])
def test_every_flipped_bit_of_a_bundle_is_refused(number: int) -> None:
    """No chain survives the change of a single bit in one of its bundles."""
    texts, pin = DOCUMENTS["chain"]["bundles"][:number], DOCUMENTS["chain"]["thumbprint"]
    before = trust.verify_chain(texts[:-1], pin).newest if number > 1 else None
    accepted = []
    for text in flips(texts[-1]):
        try:
            if before is None:
                trust.verify_chain([text], pin)
            else:
                trust._verify_bundle(text, before)
        except KeyturnError:
            continue
        accepted.append(text)
    assert not accepted


# --- judged by others -------------------------------------------------------------------------------------------------

# RFC 9864 deprecates the name EdDSA, and joserfc says so; older readers know no other.
warned = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
ISSUED = [item for item in DOCUMENTS["documents"] if item["role"] in ("issue", "test")]


def _keys_of_the_bundle() -> dict[str, dict[str, Any]]:
    keys = [entry["jwk"] for entry in DOCUMENTS["chain"]["claims"][-1]["keys"]]
    return {OKPKey.import_key(key).thumbprint(): key for key in keys}


@warned
@by_name(ISSUED)
def test_joserfc_verifies_what_we_issue(case: dict[str, Any]) -> None:
    """Joserfc finds the signer among the bundle's JWKs by ``kid`` and accepts the signature."""
    kid = jwt.get_unverified_header(case["token"])["kid"]
    found = jose_jws.deserialize_compact(
        case["token"], OKPKey.import_key(_keys_of_the_bundle()[kid]), algorithms=["EdDSA"]
    )
    assert json.loads(found.payload) == case["claims"]
    assert found.headers()["typ"] == f"keyturn-{case['kind']}+jwt"


@by_name(ISSUED)
def test_pyjwt_verifies_what_we_issue(case: dict[str, Any]) -> None:
    """PyJWT accepts it with the bundle's JWK, and refuses it with another key."""
    keys = _keys_of_the_bundle()
    kid = jwt.get_unverified_header(case["token"])["kid"]
    options: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    claims = jwt.decode(case["token"], jwt.PyJWK(keys[kid], "EdDSA"), algorithms=["EdDSA"], options=options)
    assert claims == case["claims"]
    other = next(key for name, key in keys.items() if name != kid)
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(case["token"], jwt.PyJWK(other, "EdDSA"), algorithms=["EdDSA"], options=options)


@warned
@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
def test_what_joserfc_signs_is_read(name: str) -> None:
    """A request made by joserfc, under either name of the algorithm, is accepted by our reader."""
    case = next(item for item in DOCUMENTS["documents"] if item["name"] == "request")
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = private.public_key().public_bytes_raw()
    key = OKPKey.import_key({**jws.jwk(public), "d": b64u(bytes(range(32)))})
    header = {"alg": name, "typ": Kind.REQUEST.typ, "kid": key.thumbprint(), "jwk": jws.jwk(public)}
    registry = jose_jws.JWSRegistry(algorithms=[name], strict_check_header=False)
    token = jose_jws.serialize_compact(header, json.dumps(case["claims"]).encode(), key, registry=registry)
    request, verified = documents.read_request(token)
    assert request.claims() == case["claims"]
    assert verified.kid == key.thumbprint()


def test_a_revoked_keys_certificates_are_proven_one_by_one() -> None:
    """Each honest one with its own proof and no other; the forged one with none; anybody can recompute the root."""
    found = vectors("revocation")
    chain = trust.verify_chain(found["bundles"], found["thumbprint"])
    assert chain.revoked == {found["revoked"]}
    proofs = [trust.Inclusion.read(row["proof"]) for row in found["honest"]]
    for place, row in enumerate(found["honest"]):
        chain.verify(row["token"], Kind.CERTIFICATE, "issue")
        assert chain.doubt(row["token"], Kind.CERTIFICATE) is not None
        believed = [chain.doubt(row["token"], Kind.CERTIFICATE, proof) is None for proof in proofs]
        assert believed == [other == place for other in range(len(proofs))]
        assert b64u(hashlib.sha256(b"\0" + row["token"].encode()).digest()) == found["tree"]["leaves"][place]
    chain.verify(found["forged"], Kind.CERTIFICATE, "issue")
    assert all(chain.doubt(found["forged"], Kind.CERTIFICATE, proof) for proof in (None, *proofs))
    before = trust.verify_chain(found["bundles"][:3], found["thumbprint"])
    assert before.doubt(found["forged"], Kind.CERTIFICATE) is None  # Whoever has not heard of it.
