"""An impostor that speaks the whole protocol of activation hosts, and lies: every answer must be refused.

He knows everything that ever travelled. Class by class he also has what his lie needs: an expired host's key, another
organization's, another publisher's, and where a class says so the honest host's own key, to sign the wrong thing. What holds
then is the check of that thing alone. Judge: the client's own ``accepting`` over a real store, and over TLS ``flows.hosting``.
"""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyturn.client import accepting, actions
from keyturn.core import jws, trust
from keyturn.core.documents import read_request
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.hosting import Endorsement, Identity
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, b64u
from keyturn.edge import keystore
from keyturn.service import catalog
from solid.forgeries import flipped
from solid.site import Host, Site

Answer = Mapping[str, Any]
Sign = Callable[[bytes], bytes]
STRANGE = b64u(bytes(32))


class Scene:
    """A computer whose request waits, the honest answer to it, and every host's key that an impostor could have."""

    def __init__(self, folder: Path) -> None:
        self.site = site = Site(folder / "ours", threshold=1)
        publisher, clock = site.world.publisher, site.clock
        (self.honest,) = site.hosts
        second = publisher.product("second", editions={"standard": ["layers"]})
        publisher.mint("second", channel="client", organization="testers")
        self.second = site.host(product=second, key=publisher.mint("second", channel="host", organization="testers"))
        publisher.database.write_now(
            lambda db: catalog.create_organization(db, "others", "Others", publisher.service.ids, clock())
        )
        publisher.mint(channel="client", organization="others")
        self.stranger = site.host(key=publisher.mint(channel="host", organization="others"))
        self.expired = site.host()
        clock.advance(days=95)  # By more than the day that clocks may differ.
        publisher.rotate()
        for host in (self.honest, self.second, self.stranger):
            host.certify()
        self.theirs = Site(folder / "theirs", threshold=1, clock=clock, seed="theirs")
        self.pc = site.pc()
        self.neighbour = site.pc().licensed()
        self.request_token, _ = actions.make_request(self.pc.shelf, self.pc.machine)
        self.request, _ = read_request(self.request_token)
        answer = self.honest.ask(self.request_token)
        assert not isinstance(answer, Refused)
        self.answer: dict[str, Any] = answer
        self.claims = jws.loads(jws.payload_of(answer["lease"]))
        self.certificate = self.honest.permit.tokens[0][1]
        (self.issuer, *_) = (
            signer for kid, signer in keystore.load_all(publisher.folder / "keys").items()
            if kid == jws.read_header(self.certificate, Kind.HOST).kid
        )  # fmt: skip

    def close(self) -> None:
        self.site.close()
        self.theirs.close()

    @property
    def theirs_texts(self) -> tuple[str, ...]:
        """The trust bundles of another publisher."""
        return self.theirs.world.publisher.home.chain.texts

    def identity(self, **changes: Any) -> dict[str, Any]:
        told = Identity(self.request.product, jws.digest(self.request_token), self.request.nonce,
                        "99999999-0000-4000-8000-000000000000", "copied_store", self.site.clock())  # fmt: skip
        return told._replace(**changes).claims()

    def accepts(self, answer: Answer) -> bool:
        """Whether the client takes it, and keeps it in its store. Raises: whatever is no KeyturnError."""
        try:
            if "identity" in answer:
                accepting.take_identity(self.pc.shelf, self.pc.machine, answer)
            else:
                accepting.accept_answer(self.pc.shelf, self.pc.machine, answer, via="host")
        except KeyturnError:
            return False
        return True


def token_of(host: Host) -> str:
    return host.permit.tokens[0][1]


def signed(host: Host, claims: Mapping[str, Any], kind: Kind = Kind.LEASE) -> str:
    """What this host's own key signs."""
    return jws.sign(kind, claims, host.home.signer.public, host.home.signer.sign)


def anybody(chance: random.Random) -> tuple[bytes, Sign]:
    own = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
    return own.public_key().public_bytes_raw(), own.sign


def under(kid: str, kind: Kind, claims: Mapping[str, Any], sign: Sign) -> str:
    """Signed by one key, in the name of another."""
    data = jws.signing_input(kind, kid, jws.dumps(claims))
    return jws.assemble(data, sign(data))


def lie(scene: Scene, lease: str, host: str | None, **more: Any) -> Answer:
    return {**scene.answer, "lease": lease, "host": host, **more}


# --- the classes: each yields answers without end ---


def no_certificate(scene: Scene, chance: random.Random) -> Iterator[Answer]:
    """Anybody's key, certified by nobody, by itself, or by anybody under the issuer's name; or no certificate at all."""
    ours = jws.loads(jws.payload_of(scene.certificate))
    while True:
        public, sign = anybody(chance)
        mine = {**ours, "cnf": {"jkt": jws.thumbprint(public), "jwk": jws.jwk(public)}}
        kid = chance.choice([jws.thumbprint(public), scene.issuer.kid, scene.honest.home.signer.kid])
        lease = under(jws.thumbprint(public), Kind.LEASE, {**scene.claims, "seat": chance.randrange(10**6)}, sign)
        yield lie(scene, lease, under(kid, Kind.HOST, mine, sign))
        yield lie(scene, lease, chance.choice(["", "x", lease, scene.request_token]))
        claims = {name: value for name, value in scene.claims.items() if name not in ("previous", "host")}
        naked = under(kid, Kind.CERTIFICATE, claims, sign)
        yield {"v": 1, "certificate": chance.choice([naked, lease]), "bundles": []}


def another_product(scene: Scene, chance: random.Random) -> Iterator[Answer]:
    """A host that the same publisher certified for another product."""
    theirs = jws.loads(jws.payload_of(token_of(scene.second)))
    serial = int(next(iter(theirs["serves"])))
    while True:
        claims = {**scene.claims, "serial": chance.choice([serial, scene.request.serial]), "seat": chance.randrange(10**6)}
        claims["product"] = chance.choice([scene.claims["product"], theirs["product"]])
        yield lie(scene, signed(scene.second, claims), token_of(scene.second))
        yield lie(scene, signed(scene.second, claims), scene.certificate)


def another_organization(scene: Scene, chance: random.Random) -> Iterator[Answer]:
    """A host that the publisher certified for another organization, with that organization's keys or with ours."""
    serial = int(next(iter(jws.loads(jws.payload_of(token_of(scene.stranger)))["serves"])))
    while True:
        claims = {**scene.claims, "seat": chance.randrange(10**6)}
        yield lie(scene, signed(scene.stranger, claims), token_of(scene.stranger))
        yield lie(scene, signed(scene.stranger, {**claims, "serial": serial}), scene.certificate)
        yield lie(scene, "", token_of(scene.stranger), identity=signed(scene.stranger, scene.identity(), Kind.IDENTITY))


def expired(scene: Scene, chance: random.Random) -> Iterator[Answer]:
    """A host whose certificate has ended, with today's date, or with one at which it was in force."""
    was = scene.expired.permit.tokens[0][0]
    while True:
        now = scene.site.clock()
        at = chance.choice([now, now - chance.randrange(DAY), was.expires_at, was.issued_at,
                            chance.randrange(was.issued_at, now)])  # fmt: skip
        claims = {**scene.claims, "iat": at, "exp": at + 190 * DAY, "seat": chance.randrange(10**6)}
        yield lie(scene, signed(scene.expired, claims), token_of(scene.expired))
        told = signed(scene.expired, scene.identity(issued_at=at), Kind.IDENTITY)
        yield lie(scene, "", token_of(scene.expired), identity=told)


def copied(scene: Scene, chance: random.Random) -> Iterator[Answer]:
    """The honest host's certificate, copied without its key."""
    kid = scene.honest.home.signer.kid
    while True:
        public, sign = anybody(chance)
        sign = chance.choice([sign, scene.stranger.home.signer.sign, scene.second.home.signer.sign])
        claims = {**scene.claims, "seat": chance.randrange(10**6)}
        name = chance.choice([kid, jws.thumbprint(public)])
        yield lie(scene, under(name, Kind.LEASE, claims, sign), scene.certificate)
        yield lie(scene, "", scene.certificate, identity=under(name, Kind.IDENTITY, scene.identity(), sign))


def another_kind(scene: Scene, chance: random.Random) -> Iterator[Answer]:
    """The honest host's key, or the issuer's, really signed it: as any other kind of document."""
    endorsement = Endorsement(STRANGE, scene.site.clock(), scene.site.clock() + DAY).claims()
    others = [kind for kind in Kind if kind is not Kind.LEASE]
    for kind in itertools.cycle(others):
        own = kind in (Kind.REQUEST, Kind.RELEASE, Kind.CAPABILITY, Kind.POSSESSION, Kind.SIGHTINGS) and chance.random() < 0.5
        signer = chance.choice([scene.honest.home.signer, scene.issuer])
        claims = chance.choice([scene.claims, scene.claims, endorsement, scene.identity()])
        token = jws.sign(kind, {**claims, "seat": chance.randrange(10**6)}, signer.public, signer.sign, own=own)
        yield lie(scene, token, scene.certificate)
        yield lie(scene, scene.answer["lease"], token)
        as_issuer = jws.sign(Kind.LEASE, scene.claims, scene.issuer.public, scene.issuer.sign)
        yield lie(scene, as_issuer, scene.certificate)
        as_host = signed(scene.honest, scene.claims, chance.choice([Kind.CERTIFICATE, Kind.LEASE]))
        yield {"v": 1, "certificate": as_host, "bundles": []}
        if kind is not Kind.IDENTITY:
            yield lie(scene, "", scene.certificate, identity=signed(scene.honest, scene.identity(), kind))


def more_than_allowed(scene: Scene, chance: random.Random) -> Iterator[Answer]:
    """The honest host's key gives more than its certificate lets it: features, edition, keys, time."""
    host = scene.honest.permit.tokens[0][0]
    while True:
        at, length = scene.claims["iat"], host.lease_days * DAY
        wrong: list[dict[str, Any]] = [
            {"features": [*scene.claims["features"], "export"]}, {"features": []}, {"features": None}, {"edition": "ultimate"},
            {"serial": scene.request.serial + chance.randrange(1, 99)}, {"serial": scene.honest.permit.tokens[0][0].serial},
            {"term": chance.choice(["permanent", "until", "", None, 7])}, {"exp": at + length + 1 + chance.randrange(900 * DAY)},
            {"exp": None}, {"exp": at - chance.randrange(DAY)}, {"exp": 2**53}, {"exp": True}, {"v": 2},
            {"iat": host.issued_at - 1 - chance.randrange(DAY)}, {"iat": host.expires_at + 1 + chance.randrange(900 * DAY)},
            {"iat": at + DAY + 60 + chance.randrange(9 * DAY)}, {"iat": None}, {"iat": str(at)}, {"iat": True},
        ]  # fmt: skip
        change = chance.choice(wrong)
        claims = {**scene.claims, **change}
        if "iat" in change and isinstance(change["iat"], int):
            claims["exp"] = change["iat"] + length
        yield lie(scene, signed(scene.honest, claims), scene.certificate)


def for_somebody_else(scene: Scene, chance: random.Random) -> Iterator[Answer]:
    """The honest host's key, for another request, installation, hardware or product; and what it really gave a neighbour."""
    held = scene.neighbour.held
    assert held is not None
    floor = {"number": 999, "digest": STRANGE}
    wrong: list[dict[str, Any]] = [
        {"request": STRANGE}, {"nonce": b64u(bytes(16))}, {"cnf": {"jkt": STRANGE}}, {"cnf": {}}, {"cnf": None},
        {"commitment": STRANGE}, {"product": f"{STRANGE}/sample"}, {"product": scene.claims["product"] + "+test", "test": True},
        {"bundle_floor": floor},
    ]  # fmt: skip
    told: list[dict[str, Any]] = [{"request": STRANGE}, {"nonce": b64u(bytes(16))}, {"issued_at": scene.site.clock() + 9 * DAY}]
    while True:
        claims = {**scene.claims, **chance.choice(wrong), "seat": chance.randrange(10**6)}
        yield lie(scene, signed(scene.honest, claims), scene.certificate)
        yield lie(scene, held.certificate, chance.choice([held.host, scene.certificate]))
        identity = signed(scene.honest, scene.identity(**chance.choice(told)), Kind.IDENTITY)
        yield lie(scene, "", scene.certificate, identity=identity)


def another_publisher(scene: Scene, chance: random.Random) -> Iterator[Answer]:
    """A host of another publisher, or of a fork of ours, with the trust bundles to go with it."""
    other = scene.theirs.hosts[0]
    known = scene.site.world.publisher.home.chain
    while True:
        public, sign = anybody(chance)
        key = trust.IssuingKey(jws.thumbprint(public), public, trust.ROLE_ISSUE, 0, 2**40)
        number, previous = chance.choice([(known.newest.number + 1, known.newest.digest), (known.newest.number, None), (1, None)])
        fork = trust.sign_bundle(
            trust.bundle_claims(publisher=known.newest.publisher, number=number, previous=previous, threshold=1,
                                issued_at=scene.site.clock(), roots=[public], keys=[key]), [(public, sign)],
        )  # fmt: skip
        claims = {**scene.claims, "seat": chance.randrange(10**6)}
        bundles = chance.choice([[], list(other.permit.opened.chain.texts), [*known.texts[:-1], fork], [fork]])
        yield lie(scene, signed(other, claims), token_of(other), bundles=bundles)
        mine = {**jws.loads(jws.payload_of(scene.certificate)), "cnf": {"jkt": key.kid, "jwk": jws.jwk(public)}}
        lease = under(key.kid, Kind.LEASE, claims, sign)
        yield lie(scene, lease, under(key.kid, Kind.HOST, mine, sign), bundles=bundles)


def changed(scene: Scene, chance: random.Random) -> Iterator[Answer]:
    """Bytes changed: single bits of lease and certificate, claims under the old signature, tokens cut and joined."""
    lease, host = scene.answer["lease"], scene.certificate
    head, _, tail = lease.split(".")
    bits = itertools.cycle(itertools.chain.from_iterable(zip(flipped(lease), flipped(host), strict=False)))
    for number, token in enumerate(bits):
        yield lie(scene, token, host) if number % 2 == 0 else lie(scene, lease, token)
        claims = {**scene.claims, chance.choice(sorted(scene.claims)): chance.choice([None, 1, "x", [], {}, 2**53])}
        if claims != scene.claims:
            yield lie(scene, f"{head}.{b64u(jws.dumps(claims))}.{tail}", host)
        cut = chance.randrange(1, len(lease))
        yield lie(scene, chance.choice([lease[:cut], lease[cut:], lease + lease[cut:], f"{lease}.", f"{lease}="]), host)


CLASSES: dict[str, Callable[[Scene, random.Random], Iterator[Answer]]] = {
    "no certificate": no_certificate, "another product": another_product, "another organization": another_organization,
    "expired": expired, "copied certificate": copied, "another kind": another_kind, "more than allowed": more_than_allowed,
    "for somebody else": for_somebody_else, "another publisher": another_publisher, "changed bytes": changed,
}  # fmt: skip


def attempt(scene: Scene, name: str, seed: str, count: int) -> tuple[int, list[str]]:
    """Try ``count`` answers of a class; how many were refused, and the first that was not."""
    refused, problems = 0, []
    for answer in itertools.islice(CLASSES[name](scene, random.Random(f"{seed} {name}")), count):
        try:
            accepted = scene.accepts(answer)
        except Exception as error:  # noqa: BLE001 (a crash of the verifier is a finding too)
            problems.append(f"{name}: {type(error).__name__}: {error}")
            continue
        if accepted:
            return refused, [*problems, f"{name}: accepted {_short(answer)}"]  # The store is another one now.
        refused += 1
    return refused, problems


def run(folder: Path, seed: str, count: int) -> tuple[Counter[str], list[str]]:
    """Try ``count`` answers, as many of each class; how many of each were refused, and which were not.

    After everything the honest answer is accepted: the scene is one in which something could be.
    """
    scene = Scene(folder)
    refused: Counter[str] = Counter()
    problems: list[str] = []
    try:
        for name in CLASSES:
            refused[name], found = attempt(scene, name, seed, -(-count // len(CLASSES)))
            problems += found
        if not problems and not scene.accepts(scene.answer):
            problems.append("the honest answer is refused")
    finally:
        scene.close()
    return refused, problems


def campaign(folder: Path, seed: str, count: int, processes: int = 2) -> tuple[Counter[str], list[str]]:
    """Share ``count`` answers among processes, each with a scene of its own."""
    refused: Counter[str] = Counter()
    problems: list[str] = []
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        shares = [pool.submit(run, folder / str(n), f"{seed} {n}", -(-count // processes)) for n in range(processes)]
        for share in shares:
            counted, found = share.result()
            refused += counted
            problems += found
    return refused, problems


def _short(answer: Answer) -> str:
    token = str(answer.get("identity") or answer.get("lease") or answer.get("certificate"))
    return f"{hashlib.sha256(token.encode()).hexdigest()[:8]} {jws.payload_of(token)[:300]!r}"
