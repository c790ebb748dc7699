"""What an activation host does with a request: record first, sign second, answer last.

Keeps: the order of steps, the same for HTTPS and for tests. Leaves to others: rules (``core.leasing``), rows (``ledger``), which
products and certificates there are (``home``), HTTP (``app``).

- Many requests are decided in one commit; each is signed only after it, and answered only after that.
- A signature is made from the recorded bytes whenever it is needed: Ed25519 gives the same one, so a crash between record and
  answer leaves nothing to be finished, and the same request gets the same bytes.
- Whose certificate has ended issues nothing; what it issued before goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from sqlite3 import Connection
from typing import Any, NamedTuple, TypeVar

from keyturn.core import ids, jws, leasing
from keyturn.core.documents import Request
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.hosting import HostCertificate, Identity
from keyturn.core.jws import Kind
from keyturn.core.leasing import Forked, Granted, Waiting
from keyturn.core.model import rfc3339, sha256_b64u
from keyturn.edge import sodium
from keyturn.edge.database import Database
from keyturn.host import ledger
from keyturn.host.home import HostHome, Permit
from keyturn.host.ledger import Fork, Step

F = TypeVar("F")
MAX_REQUEST = 16_384  # Bytes of one document (design: commands).
# Leases of one installation that were issued and not shown. An honest computer has one request on its way, and shows what it got
# in the next: of many that were lost, it holds the newest if any. So the oldest may go, and nobody makes the ledger grow.
MAX_OPEN = 16
FRESH = 10  # Seconds for which a count that only informs is good: looking it up takes as long as the ledger is large.


class Proven(NamedTuple):
    """A request whose signature holds, of a product that this host may lease."""

    token: str
    digest: str
    request: Request
    thumbprint: str
    permit: Permit


class Recorded(NamedTuple):
    """A decision that is durable: the content of a lease or of an identity, to be signed.

    ``how``: ``new``, ``renewed``, ``rejoined``, ``same`` (asked before) or ``forked``. ``number`` is the computer's.
    ``issued_at`` is the lease's own time.
    """

    kind: Kind
    payload: bytes
    how: str
    issued_at: int
    number: int | None = None
    rolled_back: bool = False


class LeasingHost:
    """An activation host over one opened home and database."""

    def __init__(
        self, home: HostHome, database: Database, *, clock: Callable[[], int], chance: Callable[[int], bytes]
    ) -> None:
        self.home = home
        self.database = database
        self.clock = clock
        self.chance = chance
        self._looked = 0
        self._numbers: dict[str, int] = {}
        self._counts: dict[str, tuple[int, int]] = {}

    def prove(self, token: str) -> Proven:
        """Check everything about a request that needs no ledger.

        1. It is a request of at most 16 KiB, signed with the key it carries.
        2. It is for a product that this host is certified for, now.

        Raises: KeyturnError ``document_malformed``, ``signature_invalid``, ``input_too_large``, ``product_unknown``,
        ``host_lapsed``.
        """
        # 1.
        if len(token) > MAX_REQUEST:
            raise KeyturnError("input_too_large", f"a request has at most {MAX_REQUEST} bytes")
        verified = jws.verify_own(token, Kind.REQUEST, holds=sodium.holds)
        request = Request.read(verified.claims())
        # 2.
        self.look()
        permit = self.home.permits.get(request.product)
        if permit is None or permit.certificate is None:
            raise KeyturnError("product_unknown", f"this host leases no {request.product.slug}")
        if self.clock() > permit.certificate.expires_at:
            until = rfc3339(permit.certificate.expires_at)
            raise KeyturnError("host_lapsed", f"this host's certificate was in force until {until}")
        return Proven(token, jws.digest(token), request, verified.kid, permit)

    def record(self, proven: Proven, write: Callable[..., F]) -> F:
        """Write the decision down through ``write`` (of a Database, or of one's Together).

        Its future ends when the decision is durable, with a Recorded, a Waiting or a Refused.
        """
        now = self.clock()
        return write(lambda db: self._decide(db, proven, now))

    def answer(self, proven: Proven, recorded: Recorded) -> dict[str, Any]:
        """Sign what was recorded, and put beside it what travels along: the host's certificate, newer trust bundles."""
        now, permit = self.clock(), proven.permit
        token = self.sign(recorded.kind, recorded.payload)
        if recorded.kind is Kind.IDENTITY:
            return {"v": 1, "identity": token, "server_time": now}
        return {
            "v": 1, "lease": token, "host": permit.token_of(recorded.issued_at),
            "bundles": list(permit.opened.chain.texts[proven.request.bundle :]), "server_time": now,
            "renew_after": self.home.settings.renew_after, "counted": self.counted(str(proven.request.product)),
            "threshold": permit.certificate.threshold if permit.certificate else 1, "number": recorded.number,
        }  # fmt: skip

    def exchange(self, token: str) -> dict[str, Any] | Refused:
        """Answer one request, waiting for the record to be durable. Raises as :meth:`prove`, and ``threshold_not_met``."""
        proven = self.prove(token)
        outcome = self.record(proven, self.database.write).result()
        if isinstance(outcome, Waiting):
            raise self.waits(proven, outcome)
        return outcome if isinstance(outcome, Refused) else self.answer(proven, outcome)

    def waits(self, proven: Proven, waiting: Waiting) -> KeyturnError:
        """The problem that tells a computer how many more are needed, and when to come back."""
        refused = waiting.refused()
        threshold = waiting.counted + waiting.needed
        figures = {"counted": waiting.counted, "threshold": threshold, "needed": waiting.needed}
        return KeyturnError(refused.code, refused.why, retry_after=self.home.settings.retry_after, data=figures)

    def sign(self, kind: Kind, payload: bytes) -> str:
        """Sign with the host's key. The same bytes give the same token."""
        signed = jws.signing_input(kind, self.home.signer.kid, payload)
        return jws.assemble(signed, self.home.signer.sign(signed))

    def look(self) -> None:
        """Take what commands changed in the home into use; at most once a second."""
        now = self.clock()
        if now != self._looked:
            self._looked = now
            self.home.refresh()

    def counted(self, product: str) -> int:
        """How many computers were seen within 30 days, as of the last ten seconds."""
        now = self.clock()
        at, count = self._counts.get(product, (-FRESH, 0))
        if abs(now - at) >= FRESH:
            count = self.database.read(lambda db: ledger.counted(db, ledger.find(db, product), now))
            self._counts[product] = now, count
        return count

    def _decide(self, db: Connection, proven: Proven, now: int) -> Recorded | Waiting | Refused:
        """Decide and record, in the one writer.

        1. The same request again: the same lease.
        2. The decision (``core.leasing.decide``) on what the ledger knows.
        3. A copy: the identity that this copy was told to take before, or a new one.
        4. Otherwise computer, hardware, installation and time; and the lease, if there is one.
        """
        _, digest, request, thumbprint, permit = proven
        host = permit.certificate
        assert host is not None
        product = self._product(str(request.product)) or ledger.product(db, str(request.product))
        # 1.
        open_leases = ledger.leases(db, product, thumbprint)
        if digest in open_leases:
            payload = open_leases[digest]
            said = jws.loads(payload)
            return Recorded(Kind.LEASE, payload, "same", said["iat"], said["seat"])
        # 2.
        outstanding = frozenset(jws.digest(self.sign(Kind.LEASE, payload)) for payload in open_leases.values())
        if len(open_leases) >= MAX_OPEN:
            oldest = min(open_leases, key=lambda name: (jws.loads(open_leases[name])["iat"], name))
            ledger.drop_lease(db, product, thumbprint, oldest)
        own = ledger.own(db, product, thumbprint, outstanding, now)
        alike = ledger.alike(db, product, request.pairs, request.scheme, now) if own is None else []
        known = own is not None and own.leased  # Whoever was leased is renewed: nobody needs to count.
        decision = leasing.decide(
            request, host, own=own, alike=alike, counted=0 if known else ledger.counted(db, product, now, host.threshold),
            held=0 if known or host.capacity is None else ledger.held(db, product, now),
            new_computer=ids.uuid7(now, self.chance(12)), new_number=0 if known else ledger.next_number(db, product), now=now,
        )  # fmt: skip
        if isinstance(decision, Refused):
            return decision
        # 3.
        if isinstance(decision, Forked):
            return self._forked(db, product, proven, decision, host, now)
        # 4.
        new = own is None and decision.computer not in {member.computer for member in alike}
        step = Step(product, thumbprint, request, decision.computer, decision.add, now, new, own is not None)
        if isinstance(decision, Waiting):
            ledger.note(db, step, presented=None if own is None else own.presented)
            return decision
        return self._granted(
            db, step, proven, decision, host, shown=own is not None and own.presented != decision.presented
        )

    def _product(self, name: str) -> int:
        """A product's number, if it is durable: one that was made within a group may be gone with it."""
        if name not in self._numbers:
            row = self.database.look("SELECT id FROM product WHERE name = ?", (name,))
            if row is None:
                return 0
            self._numbers[name] = int(row["id"])
        return self._numbers[name]

    def _granted(
        self, db: Connection, step: Step, proven: Proven, granted: Granted, host: HostCertificate, *, shown: bool
    ) -> Recorded:
        at = max(step.now, host.issued_at)  # A lease holds only if it was issued while the certificate was in force.
        lease = leasing.lease(proven.request, proven.digest, proven.thumbprint, host, granted, now=at)
        payload = jws.dumps(lease.claims())
        ledger.note(db, step, ends=granted.ends, presented=granted.presented)
        ledger.keep_lease(db, step.product, step.thumbprint, proven.digest, payload, shown=shown)
        return Recorded(Kind.LEASE, payload, granted.how, at, granted.number, granted.rolled_back)

    def _forked(
        self, db: Connection, product: int, proven: Proven, forked: Forked, host: HostCertificate, now: int
    ) -> Recorded:
        _, digest, request, thumbprint, _ = proven
        copy = sha256_b64u(jws.dumps({"pairs": dict(request.pairs), "previous": request.previous}))
        found = ledger.fork(db, product, thumbprint, copy)
        # A computer believes the answer under the certificate of now only: after a renewal it is made anew.
        if found is None or found.request != digest or jws.loads(found.payload)["iat"] < host.issued_at:
            guid = ids.uuid4(self.chance(16)) if found is None else found.guid
            told = Identity(host.product, digest, request.nonce, guid, forked.reason, max(now, host.issued_at))
            found = Fork(guid, digest, jws.dumps(told.claims()))
            ledger.keep_fork(db, product, thumbprint, copy, forked.computer, forked.reason, found, now)
        return Recorded(Kind.IDENTITY, found.payload, "forked", now)
