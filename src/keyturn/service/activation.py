"""What the activation service does with a document: record first, sign second, answer last.

Keeps: the order of steps for requests and releases, the same for HTTPS, for files and for tests.
Leaves to others: rules (``core.issuance``), rows (``seats``), HTTP (``app``).

- Before possession of the key is proven, unknown and foreign keys get one and the same answer.
- The writer commits many decisions at once; each is signed only after its commit, and answered only after that.
- ``recover`` finishes at start what a crash left unsigned. A recorded decision is never voided.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import json
from collections.abc import Callable, Sequence
from sqlite3 import Connection, Row
from typing import Any, NamedTuple, TypeVar

from keyturn.core import issuance, jws, trust
from keyturn.core.documents import ProductFile, Release, Request
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.ids import Ids
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, Channel, ProductName
from keyturn.core.terms import Terms
from keyturn.edge import sodium
from keyturn.edge.database import Database
from keyturn.edge.writer import Alike
from keyturn.service import catalog, recording, revoking, seats
from keyturn.service.home import ServiceHome
from keyturn.service.recording import Asked
from keyturn.service.sealing import Sealer
from keyturn.service.seats import Intent, Issuer
from keyturn.service.signing import IssuingSigner, Listing, Sheet

F = TypeVar("F")
MAX_REQUEST = 16_384  # Bytes of one document (design: commands).
RENEW_AFTER = 7 * DAY
Outcome = Intent | int | Refused


class Proven(NamedTuple):
    """A request whose signature and key proof hold."""

    token: str
    request: Request
    thumbprint: str
    terms: Terms


class Returned(NamedTuple):
    """A release whose signature holds."""

    token: str
    release: Release
    thumbprint: str
    terms: Terms


class _Chosen(NamedTuple):
    """Who signs, and for which moment and which state of the home that was found out."""

    at: int
    chain: object
    signers: object
    issuer: Issuer


class ActivationService:
    """The service over one opened home and database."""

    def __init__(
        self, home: ServiceHome, database: Database, *, clock: Callable[[], int], chance: Callable[[int], bytes]
    ) -> None:
        self.home = home
        self.database = database
        self.clock = clock
        self.ids = Ids(chance)
        self._looked = 0
        self._chosen: dict[bool, _Chosen] = {}
        self._signed: collections.deque[tuple[bytes, int, str, str]] = collections.deque()
        self.sealer = Sealer(home.pepper())
        # Somebody else's key is opened in the same time as nobody's: against this one.
        self._nobody = self.sealer.seal(bytes(32), 0, bytes(12))

    def prove(self, token: str, look: seats.Look | None = None) -> Proven | Returned | Refused:
        """Check everything about a document that needs no seat. ``look`` looks rows up, if the database's own is not to.

        1. It is a request or a release, of at most 16 KiB, signed with the key it carries.
        2. It is for a product of this service.
        3. A request proves possession of the product key; until then every "no" is the same.

        Raises: KeyturnError ``document_malformed``, ``signature_invalid``, ``input_too_large``.
        """
        # 1.
        if len(token) > MAX_REQUEST:
            raise KeyturnError("input_too_large", f"a request has at most {MAX_REQUEST} bytes")
        verified = jws.verify_own(token, Kind.REQUEST, Kind.RELEASE, holds=sodium.holds)
        if verified.kind is Kind.RELEASE:
            release = Release.read(verified.claims())
            terms, _, _ = self._look_up(release.product, release.serial, look)
            return _unknown(release.product) if terms is None else Returned(token, release, verified.kid, terms)
        request = Request.read(verified.claims())
        # 2.
        terms, serial, sealed = self._look_up(request.product, request.serial, look)
        if terms is None:
            return _unknown(request.product)
        # 3.
        proven = issuance.proof_holds(self.sealer.open(sealed, serial or 0), request, verified.kid)
        if serial is None or not proven:
            return Refused("key_unknown", f"product key {request.product_id[:80]} is not known for this product")
        return Proven(token, request, verified.kid, terms)

    def exchange(self, token: str, *, by_file: bool = False) -> dict[str, Any] | Refused:
        """Answer one document, waiting until the record is durable; ``by_file``: it was carried here. Raises as :meth:`prove`."""
        proven = self.prove(token)
        if isinstance(proven, Refused):
            return proven
        outcome = self.record(proven, self.database.write, by_file=by_file).result()
        return outcome if isinstance(outcome, Refused) else self.answer(proven, outcome, self.database.write)

    def record(self, proven: Proven | Returned, write: Callable[..., F], *, by_file: bool = False) -> F:
        """Write the decision down through ``write`` (of a Database, or of one's Together).

        Its future ends when the decision is durable, with an Intent, a time or a Refused.
        """
        now = self.clock()
        if isinstance(proven, Returned):
            token, release, thumbprint, terms = proven
            return write(lambda db: seats.release(db, token, release, thumbprint, terms, self.ids, now))
        issuer = self.issuer(test=proven.request.product.test)
        return write(Alike(recording.record, Asked(*proven, issuer, self.ids, now, by_file)))

    def issuer(self, *, test: bool) -> Issuer:
        """Who signs now, by what is on the disk now. Raises: KeyturnError ``trust_invalid`` without an issuing key in force."""
        now, home = self.clock(), self.home
        if now != self._looked:  # At most once a second: a replaced key must not go on signing until somebody restarts this.
            self._looked = now
            home.refresh()
        chosen = self._chosen.get(test)
        if chosen is None or chosen.at != now or chosen.chain is not home.chain or chosen.signers is not home.signers:
            key, _ = home.signer(trust.role_for(test), now)
            issuer = Issuer(home.settings.publisher, key.kid, home.chain.floor, home.chain.revoked)
            chosen = self._chosen[test] = _Chosen(now, home.chain, home.signers, issuer)
        return chosen.issuer

    def answer(self, proven: Proven | Returned, outcome: Intent | int, write: Callable[..., object]) -> dict[str, Any]:
        """The answer to a recorded decision: the certificate, and what travels beside it. ``write`` as in :meth:`record`."""
        now = self.clock()
        if isinstance(outcome, int):
            return {"v": 1, "released_at": outcome, "server_time": now}
        assert isinstance(proven, Proven)
        certificate = self.sign(outcome, write)
        bundles = list(self.home.chain.texts[proven.request.bundle :])
        product = None
        if self.sends_product(proven):
            product = self._product_of_the_day(proven.request.product.slug, now // DAY, self.home.chain.newest.number)
        return {
            "v": 1,
            "host" if outcome.host else "certificate": certificate,
            "bundles": bundles,
            **({"product": product} if product else {}),
            "server_time": now,
            "renew_after": RENEW_AFTER,
            "seat": {"how": outcome.how, "number": outcome.seat, "used": outcome.used, "limit": outcome.limit},
        }

    def sends_product(self, proven: Proven) -> bool:
        """Whether a product file of today goes with the answer: a bundle that is new there may revoke its file's signer."""
        return bool(self.home.chain.texts[proven.request.bundle :] or self.home.chain.revoked)

    def sign(self, intent: Intent, write: Callable[..., object]) -> str:
        """Sign a recorded intent; the signature is kept with it, so that the same request gets the same bytes."""
        if intent.signature is not None:
            return jws.assemble(jws.signing_input(intent.kind, intent.kid, intent.payload), intent.signature)
        if intent.kid in self.home.chain.revoked:  # Between record and signature its key was stolen and replaced.
            (intent,) = self.reissue([intent])
        signed = self._signer(intent).sign(intent)
        self._keep(intent, signed.signature, write)
        return signed.token

    async def signed(self, intent: Intent, write: Callable[..., object]) -> Intent:
        """A recorded intent, and its signature with it if that takes long: an event loop goes on meanwhile. As :meth:`sign`."""
        if intent.signature is not None:
            return intent
        if intent.kid in self.home.chain.revoked:
            (intent,) = await self._again([intent], write)
        signer = self._signer(intent)
        if not signer.waits:
            return intent
        made = await asyncio.wrap_future(signer.submit(intent))
        self._keep(intent, made.signature, write)
        return intent._replace(signature=made.signature)

    def recover(self) -> int:
        """Finish every decision that was recorded and not signed; the result is how many.

        What can be signed is, and is durable, before the first failure is raised. Raises: as :meth:`sign`.
        """
        count = 0
        while intents := self.database.read(seats.open_intents):
            revoked = self.home.chain.revoked
            stolen = [intent for intent in intents if intent.kid in revoked]
            intents = [intent for intent in intents if intent.kid not in revoked] + self.reissue(stolen)
            begun = [(intent, self._signer(intent).submit(intent)) for intent in intents]
            failures = [failure for _, future in begun if (failure := future.exception()) is not None]
            made = [(f.result().signature, i.serial, i.request, i.kid) for i, f in begun if f.exception() is None]
            self.database.write_now(lambda db, made=made: seats.keep_signatures(db, made))  # type: ignore[misc]
            count += len(made)
            if failures:
                raise failures[0]
        return count

    def _signer(self, intent: Intent) -> IssuingSigner:
        signer = self.home.signers.get(intent.kid)
        if signer is None:
            raise KeyturnError("internal", f"the issuing key {intent.kid} of a recorded decision is not here")
        return signer

    def _keep(self, intent: Intent, signature: bytes, write: Callable[..., object]) -> None:
        # Ed25519 is deterministic: a crash before this write costs nothing, the same bytes are made again.
        self._signed.append((signature, intent.serial, intent.request, intent.kid))
        if len(self._signed) == 1:  # Otherwise an item of the writer's will take it along.
            write(self._keep_signatures)

    def reissue(self, intents: Sequence[Intent]) -> list[Intent]:
        """Record decisions of a stolen key again, to be signed by the key of now; durable when it returns."""
        found: list[Intent] = self._again(intents, self.database.write).result()
        return found

    def _again(self, intents: Sequence[Intent], write: Callable[..., Any]) -> Any:
        now = self.clock()
        tests = {kid: self.home.chain.key(kid).role == trust.ROLE_TEST for kid in {intent.kid for intent in intents}}
        issuers = {kid: self.issuer(test=test) for kid, test in tests.items()}
        return write(lambda db: [recording.reissue(db, intent, issuers[intent.kid], now) for intent in intents])

    def ask(self, token: str) -> dict[str, Any] | Refused:
        """What a request would get, without taking a seat. Raises as :meth:`prove`."""
        proven = self.prove(token)
        if isinstance(proven, Returned):
            raise KeyturnError("document_malformed", "a release cannot be asked about")
        if isinstance(proven, Refused):
            return proven
        now = self.clock()
        new = self.ids.uuid7(now)

        def look(db: Connection) -> dict[str, Any] | Refused:
            decision, around = seats.consider(
                db, proven.request, proven.thumbprint, proven.terms, new_activation=new, now=now
            )
            if isinstance(decision, Refused):
                return decision
            return {
                "v": 1, "how": decision.how, "evidence": decision.evidence, "seats_used": around.used,
                "seats_limit": around.limit, "server_time": now,
            }  # fmt: skip

        return self.database.read(look)

    def mint(self, product: str, channel: Channel, count: int, limit: int, **values: Any) -> list[dict[str, Any]]:
        """Make product keys; see ``catalog.mint``. The keys themselves are in the result and nowhere else."""
        return catalog.mint(
            self.database, self.sealer, self.ids, product, channel, count, limit, now=self.clock(), **values
        )

    def product_file(self, slug: str) -> dict[str, Any]:
        """The signed product file of ``slug`` as it ships: trust bundles and document. Raises: ``not_found``."""
        now = self.clock()
        row = self.database.read(lambda db: catalog.find_product(db, slug))
        name = ProductName.parse(row["name"])
        editions = self.database.read(lambda db: catalog.editions(db, slug))
        numbers = self.database.read(lambda db: catalog.edition_numbers(db, slug))
        product = ProductFile(
            name, row["title"], self.home.settings.publisher, row["version"], editions, self.home.settings.url,
            self.home.settings.probe_url, row["terms_url"], self.home.ca or None, row["mode"], json.loads(row["terms"]),
            self.home.chain.floor, now, numbers,
        )  # fmt: skip
        key, signer = self.home.signer(trust.role_for(name.test), now)
        return {
            "keyturn": "product",
            "v": 1,
            "bundles": list(self.home.chain.texts),
            "product": signer.sign(Sheet(key.kid, jws.dumps(product.claims()))).token,
        }

    def revocations(self, slug: str) -> dict[str, Any]:
        """The revocation list of a product, and the trust bundles that its signer is in. Raises: KeyturnError ``not_found``."""
        number = self.database.read(lambda db: revoking.number(db, slug))
        now = self.clock()
        signed = self._list_of_the_day(slug, number, now // DAY, self.home.chain.newest.number)
        return {"v": 1, "number": number, "revocations": signed, "bundles": list(self.home.chain.texts), "server_time": now}

    def directory(self) -> dict[str, Any]:
        """``GET /.well-known/keyturn``: every other address, and the trust bundles."""
        url = self.home.settings.url
        return {
            "v": 1,
            "publisher": self.home.settings.publisher,
            "thumbprint": self.home.chain.thumbprint,
            "exchange": f"{url}/v1/exchange",
            "ask": f"{url}/v1/ask",
            "bundles": list(self.home.chain.texts),
            "server_time": self.clock(),
        }

    @functools.lru_cache(maxsize=64)  # noqa: B019 (a service lives as long as its process)
    def _product_of_the_day(self, slug: str, _day: int, _bundle: int) -> str:
        """Signed once a day, and anew under each bundle: the one before may be signed by the key that this one revokes."""
        return str(self.product_file(slug)["product"])

    @functools.lru_cache(maxsize=64)  # noqa: B019 (a service lives as long as its process)
    def _list_of_the_day(self, slug: str, _number: int, _day: int, _bundle: int) -> str:
        """Signed once for each number, and anew each day and under each bundle, as a product file beside an answer is."""
        now = self.clock()
        name = ProductName.parse(self.database.read(lambda db: catalog.find_product(db, slug))["name"])
        content = self.database.read(lambda db: revoking.listed(db, name, now))
        key, signer = self.home.signer(trust.role_for(name.test), now)
        return signer.sign(Listing(key.kid, jws.dumps(content.claims()))).token

    def opened_key(self, product: ProductName, serial: int) -> tuple[Terms | None, int | None, bytes]:
        """A product's terms and a key's K. Without the product no terms, without the key no serial, and nobody's K
        in the same time.
        """
        terms, found, sealed = self._look_up(product, serial)
        return terms, found, self.sealer.open(sealed, found or 0)

    def key_of(self, serial: int) -> tuple[Row | None, bytes]:
        """A key with its product's name, title and terms, and its K: nobody's, in the same time, where there is no such key."""
        row = self.database.look(
            "SELECT k.*, p.name, p.title, p.terms FROM product_key k JOIN product p ON p.slug = k.product WHERE k.serial = ?",
            (serial,),
        )
        return row, self.sealer.open(self._nobody if row is None else row["sealed"], 0 if row is None else serial)

    def _look_up(
        self, product: ProductName, serial: int, look: seats.Look | None = None
    ) -> tuple[Terms | None, int | None, bytes]:
        terms, found, sealed = seats.look_up(look or self.database.look, str(product), serial, self._nobody)
        return None if terms is None else terms_of(terms), found, sealed

    def _keep_signatures(self, db: Connection) -> None:
        """Keep what was signed since the last time: one item of the writer for many signatures."""
        made = []
        with contextlib.suppress(IndexError):
            while True:
                made.append(self._signed.popleft())
        seats.keep_signatures(db, made)


def _unknown(product: ProductName) -> Refused:
    return Refused("product_unknown", f"this service does not know the product {product.slug!r} of that publisher")


@functools.lru_cache(maxsize=256)
def terms_of(text: str) -> Terms:
    """Read a product's terms once per version of them: every request asks for them."""
    return Terms.read(json.loads(text))
