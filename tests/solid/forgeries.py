"""Forged answers by the class, for the client's own verifier: every one must be refused, and none may crash it.

The forger knows the protocol and everything that ever travelled. In the classes that say so he even gets the publisher's
real keys to sign the wrong thing: what holds then is the check of that thing alone.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyturn.client import accepting, actions
from keyturn.client.sdk import Client
from keyturn.core import containers, documents, jws, license, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.license import Held
from keyturn.core.model import DAY, b64u
from keyturn.edge import keystore
from keyturn.edge.keystore import Signer
from keyturn.edge.vault import Vault
from keyturn.testing import World

ORDER = 2**252 + 27742317777372353535851937790883648493  # Of Ed25519's group (RFC 8032).
WRONG_ALGORITHMS = (
    "none", "None", "nOnE", "", "HS256", "HS512", "RS256", "PS256", "ES256", "ES256K", "Ed448", "ED25519", "eddsa", "EdDSA ",
    None, 0, True, ["EdDSA"], {"alg": "EdDSA"},
)  # fmt: skip
WRONG_TYPES = (
    "JWT", "jwt", "JOSE", "", None, 7, ["keyturn-certificate+jwt"], "keyturn-certificate", "keyturn-certificate+JWT",
    "Keyturn-Certificate+jwt", "application/keyturn-certificate+jwt", "keyturn-certificate+jwt ", "keyturn-lease+jwt",
    *(kind.typ for kind in Kind if kind is not Kind.CERTIFICATE),
)  # fmt: skip


class Forgery(NamedTuple):
    """One attempt: the certificate, and what else of the answer and the store is not what it was."""

    token: str
    bundles: list[str] | None = None
    request: str | None = None
    product: str | None = None


class Scene:
    """A client whose request waits, the honest answer to it, and everything a forger could have collected."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder / "ours", features=["layers"])
        self.other = World(folder / "theirs", publisher="Another Publisher")
        publisher = self.world.publisher
        key = publisher.mint(channel="mak", limit=100)
        self.machine = self.world.machine()
        self.shelf = actions.add_product(Vault(str(folder / "home"), "user").shelf, self.world.product, self.machine)
        self.pending_token, self.held, self.answer = self._exchange(key, self.shelf, self.machine)
        opened = containers.open_product(containers.expect(self.world.product, "product"))
        self.opened = opened
        self.installation = jws.read_header(self.held.request, Kind.REQUEST).kid
        self.claims = jws.loads(jws.payload_of(self.held.certificate))
        self.kid = jws.read_header(self.held.certificate, Kind.CERTIFICATE).kid
        here = keystore.load_all(publisher.folder / "keys")
        self.signer: Signer = here[self.kid]
        role = trust.ROLE_ISSUE
        keys = opened.chain.newest.keys
        self.tests = [s for kid, s in here.items() if keys[kid].role != role]
        sealed = [keystore.load(path) for path in sorted((publisher.folder / "root" / "issuing").glob("issue-*.key"))]
        self.later = [signer for signer in sealed if signer is not None and signer.kid not in publisher.home.signers]
        self.window = {kid: (found.not_before, found.not_after) for kid, found in keys.items()}
        # What really travelled: other computers' certificates, another product's, a release, a record.
        self.foreign = []
        for number in range(3):
            machine = self.world.machine()
            shelf = actions.add_product(Vault(str(folder / f"f{number}"), "user").shelf, self.world.product, machine)
            self.foreign.append(self._exchange(key, shelf, machine)[1].certificate)
        second = publisher.product("second")
        shelf = actions.add_product(Vault(str(folder / "second"), "user").shelf, second, self.machine)
        self.foreign.append(self._exchange(publisher.mint("second"), shelf, self.machine)[1].certificate)
        client: Client = self.world.licensed()
        self.release = actions.make_release(client._homes().find(client.product), client._machine)
        product = json.loads(self.world.product)
        self.documents = [product["product"], *product["bundles"], self.held.request, self.release, *self.foreign]
        self.other_signer = next(iter(keystore.load_all(self.other.publisher.folder / "keys").values()))
        self.other_bundles = list(self.other.publisher.home.chain.texts)

    def close(self) -> None:
        self.world.close()
        self.other.close()

    def _exchange(self, key: str, shelf: Any, machine: Any) -> tuple[str, Held, dict[str, Any]]:
        actions.install_key(shelf, key, machine)
        token, _ = actions.make_request(shelf, machine)
        answer = self.world.publisher.service.exchange(token)
        assert isinstance(answer, dict)
        pending = shelf.pending()
        return token, Held(answer["certificate"], token, pending.vector, pending.salt), answer

    def accepts(self, forgery: Forgery) -> bool:
        """Ask the client's verifier, as ``accept_answer`` does. Raises: whatever is no KeyturnError."""
        chain, name = self.opened.chain, self.opened.product.name
        try:
            if forgery.product is not None:
                documents.read_product(forgery.product, chain, role=trust.role_for(name.test))
                return True
            if forgery.bundles:
                chain = trust.longer(chain.texts, forgery.bundles, name.thumbprint)
                if forgery.token == self.held.certificate and chain.texts == self.opened.chain.texts:
                    return False  # A known bundle came again: nothing of it is kept.
            held = self.held._replace(certificate=forgery.token, request=forgery.request or self.held.request)
            license.check_certificate(held, self.opened.product, chain, self.installation)
        except KeyturnError:
            return False
        return True

    def store_accepts(self, forgery: Forgery) -> bool:
        """The same through the real store: whether the computer is licensed by it."""
        try:
            accepting.accept_answer(
                self.shelf, self.machine, {"certificate": forgery.token, "bundles": forgery.bundles or []}
            )
        except KeyturnError:
            return False
        return True


def sign(scene: Scene, header: dict[str, Any], payload: bytes, signer: Callable[[bytes], bytes]) -> str:
    """A token with any header, honestly signed."""
    signed = f"{b64u(json.dumps(header).encode())}.{b64u(payload)}".encode()
    return jws.assemble(signed, signer(signed))


def header(scene: Scene, **changes: Any) -> dict[str, Any]:
    return {"alg": "EdDSA", "kid": scene.kid, "typ": Kind.CERTIFICATE.typ, **changes}


# --- the classes: each yields forgeries without end ---


def other_roots(scene: Scene, chance: random.Random) -> Iterator[Forgery]:
    """Certificates of another publisher, or of anybody's key, under any name; with the other's bundles or a forged next one."""
    payload = jws.dumps(scene.claims)
    while True:
        own = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        public = own.public_key().public_bytes_raw()
        kid = chance.choice([scene.kid, jws.thumbprint(public), scene.other_signer.kid, *scene.window])
        extra: dict[str, Any] = chance.choice(
            [{}, {"jwk": jws.jwk(public)}, {"jku": "https://x.invalid"}, {"x5c": ["AA"]}]
        )
        token = sign(
            scene, header(scene, kid=kid, **extra), payload, chance.choice([own.sign, scene.other_signer.sign])
        )
        bundles = None
        if chance.random() < 0.1:  # Ten times as slow: the whole chain is verified with them.
            bundles = chance.choice([scene.other_bundles, [_next_bundle(scene, own, public)]])
        yield Forgery(token, bundles)


def _next_bundle(scene: Scene, own: Ed25519PrivateKey, public: bytes) -> str:
    newest = scene.opened.chain.newest
    key = trust.IssuingKey(jws.thumbprint(public), public, trust.ROLE_ISSUE, 0, 2**40)
    claims = trust.bundle_claims(
        publisher=newest.publisher, number=newest.number + 1, previous=newest.digest, issued_at=scene.claims["iat"],
        threshold=1, roots=[public], keys=[key],
    )  # fmt: skip
    return trust.sign_bundle(claims, [(public, own.sign)])


def algorithms(scene: Scene, chance: random.Random) -> Iterator[Forgery]:
    """``none``, HMAC keyed by what is public, other names; and the real key's signature under a wrong name."""
    public = scene.opened.chain.newest.keys[scene.kid].public
    known = [public, public.hex().encode(), scene.kid.encode(), json.dumps(jws.jwk(public)).encode(), b""]
    for algorithm in itertools.cycle(WRONG_ALGORITHMS):
        payload = jws.dumps({**scene.claims, "seat": chance.randrange(10**6)})
        key = chance.choice(known)
        macs = functools.partial(hmac.digest, key, digest=hashlib.sha256)
        signers: list[Callable[[bytes], bytes]] = [scene.signer.sign, lambda _data: b"", macs]
        yield Forgery(sign(scene, header(scene, alg=algorithm), payload, chance.choice(signers)))


def types(scene: Scene, chance: random.Random) -> Iterator[Forgery]:
    """The issuing key really signed it, as something else; or with an extension that is not known."""
    for wrong in itertools.cycle(WRONG_TYPES):
        payload = jws.dumps({**scene.claims, "seat": chance.randrange(10**6)})
        yield Forgery(sign(scene, header(scene, typ=wrong), payload, scene.signer.sign))
        critical = chance.choice([["exp"], ["b64"], [], None, "b64"])
        yield Forgery(sign(scene, header(scene, crit=critical, b64=False), payload, scene.signer.sign))


def kinds(scene: Scene, chance: random.Random) -> Iterator[Forgery]:
    """One document used as another: everything that travelled, and a certificate's content signed as every other kind."""
    for document in itertools.cycle(scene.documents):
        yield Forgery(document)
        kind = chance.choice([kind for kind in Kind if kind is not Kind.CERTIFICATE])
        yield Forgery(jws.sign(kind, scene.claims, scene.signer.public, scene.signer.sign, own=chance.random() < 0.5))
        yield Forgery(
            scene.held.certificate, product=chance.choice([d for d in scene.documents if d != scene.documents[0]])
        )


def times(scene: Scene, chance: random.Random) -> Iterator[Forgery]:
    """A real issuing key of another time: expired, not yet valid, or a time that is no time."""
    signers = [scene.signer, *scene.later]
    while True:
        signer = chance.choice(signers)
        begins, ends = scene.window[signer.kid]
        wrong: list[Any] = [
            begins - 1, ends + 1, begins - chance.randrange(1, 900 * DAY), ends + chance.randrange(1, 900 * DAY), -1,
            None, True, str(begins), [begins], 2**53,
        ]  # fmt: skip
        claims = {**scene.claims, "iat": chance.choice(wrong)}
        yield Forgery(jws.sign(Kind.CERTIFICATE, claims, signer.public, signer.sign))


def roles(scene: Scene, chance: random.Random) -> Iterator[Forgery]:
    """A key that may sign for test products only, or a root, signs for an ordinary one."""
    root = keystore.load(scene.world.publisher.folder / "root" / "root-1.key")
    assert root is not None
    while True:
        signer = chance.choice([*scene.tests, root])
        claims = {**scene.claims, "seat": chance.randrange(10**6), "test": chance.random() < 0.5}
        yield Forgery(jws.sign(Kind.CERTIFICATE, claims, signer.public, signer.sign))


def foreign(scene: Scene, chance: random.Random) -> Iterator[Forgery]:
    """Really issued, but for another product, installation, request or hardware; or asking for a bundle to come."""
    strange = b64u(bytes(32))
    floor = {"number": scene.opened.chain.newest.number + 1, "digest": strange}
    changes: list[dict[str, Any]] = [
        {"product": f"{strange}/sample"}, {"product": scene.claims["product"] + "+test", "test": True},
        {"product": scene.claims["product"][:-6] + "second"}, {"cnf": {"jkt": strange}}, {"cnf": {}}, {"request": strange},
        {"nonce": b64u(bytes(16))}, {"commitment": strange}, {"bundle_floor": floor}, {"v": 2}, {"v": None}, {"cnf": None},
    ]  # fmt: skip
    while True:
        yield Forgery(chance.choice(scene.foreign))
        claims = {**scene.claims, **chance.choice(changes), "seat": chance.randrange(10**6)}
        yield Forgery(jws.sign(Kind.CERTIFICATE, claims, scene.signer.public, scene.signer.sign))
        asked = chance.choice([document for document in scene.documents if document != scene.held.request])
        yield Forgery(scene.held.certificate, request=asked)


def changed(scene: Scene, chance: random.Random) -> Iterator[Forgery]:
    """A claim changed under the old signature; a signature with the group's order added; a token cut, joined or padded."""
    head, body, tail = scene.held.certificate.split(".")
    signature = bytearray(jws._decode(tail))
    scalar = int.from_bytes(signature[32:], "little")
    while True:
        name = chance.choice(sorted(scene.claims))
        value: Any = chance.choice(
            [None, True, 0, 2**53, "x", [], {}, chance.randrange(10**9), b64u(chance.randbytes(32))]
        )
        if scene.claims[name] != value:
            yield Forgery(f"{head}.{b64u(jws.dumps({**scene.claims, name: value}))}.{tail}")
        added = scalar + ORDER * chance.randrange(1, 15)
        yield Forgery(f"{head}.{body}.{b64u(bytes(signature[:32]) + added.to_bytes(32, 'little'))}")
        cut = chance.randrange(len(scene.held.certificate))
        token = scene.held.certificate
        joined = chance.choice(
            [token[:cut], token[cut:], token + token[cut:], f"{token[:cut]}={token[cut:]}", f"{token}.", token + "="]
        )
        if joined != token:
            yield Forgery(joined)


def flips(scene: Scene, chance: random.Random) -> Iterator[Forgery]:
    """Every single-bit flip of the next trust bundle, the certificate, the request and the product file; over and over."""
    newest = scene.opened.chain.newest
    root = keystore.load(scene.world.publisher.folder / "root" / "root-1.key")
    assert root is not None
    coming = trust.bundle_claims(
        publisher=newest.publisher, number=2, previous=newest.digest, issued_at=scene.claims["iat"], threshold=1,
        roots=[root.public], keys=[newest.keys[scene.kid]],
    )  # fmt: skip
    bundle = trust.sign_bundle(coming, [(root.public, root.sign)])
    trust.longer(scene.opened.chain.texts, [bundle], scene.opened.chain.thumbprint)  # As it is, it is honest.
    for token in flipped(bundle):
        yield Forgery(scene.held.certificate, [token])
    while True:
        for token in flipped(scene.held.certificate):
            yield Forgery(token)
        for token in flipped(scene.held.request):
            yield Forgery(scene.held.certificate, request=token)
        for token in flipped(scene.documents[0]):
            yield Forgery(scene.held.certificate, product=token)


def flipped(text: str) -> Iterator[str]:
    data = bytearray(text.encode())
    for place in range(len(data)):
        for bit in range(8):
            data[place] ^= 1 << bit
            yield data.decode("latin-1")
            data[place] ^= 1 << bit


CLASSES: dict[str, Callable[[Scene, random.Random], Iterator[Forgery]]] = {
    "other roots": other_roots, "algorithm confusion": algorithms, "wrong typ": types, "another kind": kinds,
    "issuer's time": times, "issuer's role": roles, "for somebody else": foreign, "changed": changed, "one bit flipped": flips,
}  # fmt: skip
STORE_EACH = 997  # Every so many-th forgery also goes the whole way, through the store.


def run(folder: Path, seed: str, count: int) -> tuple[Counter[str], list[str]]:
    """Try ``count`` forgeries, as many of each class; how many of each were refused, and which were not."""
    scene = Scene(folder)
    refused: Counter[str] = Counter()
    problems: list[str] = []
    try:
        assert scene.accepts(Forgery(scene.held.certificate)), "the honest answer is refused"
        for name, make in CLASSES.items():
            share = -(-count // len(CLASSES))
            for number, forgery in enumerate(itertools.islice(make(scene, random.Random(f"{seed} {name}")), share)):
                try:
                    accepted = scene.accepts(forgery)
                    if number % STORE_EACH == 0 and not forgery.request and not forgery.product:
                        accepted |= forgery.token != scene.held.certificate and scene.store_accepts(forgery)
                except Exception as error:  # noqa: BLE001 (a crash of the verifier is a finding too)
                    problems.append(f"{name}: {type(error).__name__} at {forgery.token[:60]}")
                    continue
                if accepted:
                    problems.append(f"{name}: accepted {forgery.token[:60]}")
                else:
                    refused[name] += 1
        assert scene.store_accepts(Forgery(scene.held.certificate)), "the honest answer is refused at the end"
    finally:
        scene.close()
    return refused, problems
