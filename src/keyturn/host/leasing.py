"""What an activation host does with a request: record first, answer last.

Keeps: the order of steps, the same for HTTPS and for tests. Leaves to others: rules (``core.leasing``), what is recorded
(``recording``), which products and certificates there are (``home``), HTTP (``app``).

- Many requests are decided in one commit, and each is answered only after it.
- A signature is made from the recorded bytes whenever it is needed: Ed25519 gives the same one, so a crash between record and
  answer leaves nothing to be finished, and the same request gets the same bytes.
- Whose certificate has ended issues nothing; what it issued before goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from keyturn.core import jws, leasing
from keyturn.core.documents import Request
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.jws import Kind
from keyturn.core.leasing import Waiting
from keyturn.core.model import rfc3339
from keyturn.edge import sodium
from keyturn.edge.database import Database
from keyturn.edge.writer import Alike
from keyturn.host import ledger
from keyturn.host.home import HostHome, Permit
from keyturn.host.recording import MAX_OPEN, Asked, Proven, Recorded, Recorder

__all__ = ["MAX_OPEN", "LeasingHost", "Proven", "Recorded"]

F = TypeVar("F")
MAX_REQUEST = 16_384  # Bytes of one document, with what it shows beside it (design: commands).
FRESH = 10  # Seconds for which a count that only informs is good: looking it up takes as long as the ledger is large.


class LeasingHost:
    """An activation host over one opened home and database."""

    def __init__(
        self, home: HostHome, database: Database, *, clock: Callable[[], int], chance: Callable[[int], bytes]
    ) -> None:
        self.home = home
        self.database = database
        self.clock = clock
        self.chance = chance
        self._recorder = Recorder(database, self.sign, chance)
        self._looked = 0
        self._counts: dict[str, tuple[int, int]] = {}

    def prove(self, body: str) -> Proven:
        """Check everything about a request that needs no ledger.

        1. It is a request of at most 16 KiB, signed with the key it carries; on two lines more, if they are there, the lease that
           it names and that host's certificate.
        2. It is for a product that this host is certified for, now.

        Raises: KeyturnError ``document_malformed``, ``signature_invalid``, ``input_too_large``, ``product_unknown``,
        ``host_lapsed``.
        """
        # 1.
        if len(body) > MAX_REQUEST:
            raise KeyturnError("input_too_large", f"a request has at most {MAX_REQUEST} bytes")
        token, *more = body.split("\n")
        if len(more) not in (0, 2):
            raise KeyturnError("document_malformed", "a request is one line, or three with a lease and its host's certificate")
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
        beside = (more[0], more[1]) if more else None
        return Proven(token, jws.digest(token), request, verified.kid, permit, permit.certificate, beside)

    def record(self, proven: Proven, write: Callable[..., F]) -> F:
        """Write the decision down through ``write`` (of a Database, or of one's Together).

        Its future ends when the decision is durable, with a Recorded, a Waiting or a Refused.
        """
        return write(Alike(self._recorder.record, Asked(proven, self.clock())))

    def answer(self, proven: Proven, recorded: Recorded) -> dict[str, Any]:
        """What was recorded, and beside it what travels along: the host's certificate, newer trust bundles."""
        now, permit = self.clock(), proven.permit
        if recorded.kind is Kind.IDENTITY:
            return {"v": 1, "identity": recorded.token, "server_time": now}
        return {
            "v": 1, "lease": recorded.token, "host": permit.token_of(recorded.issued_at),
            "bundles": list(permit.opened.chain.texts[proven.request.bundle :]), "server_time": now,
            "renew_after": self.home.settings.renew_after, "counted": self.counted(permit),
            "threshold": proven.host.threshold, "number": recorded.number,
        }  # fmt: skip

    def exchange(self, body: str) -> dict[str, Any] | Refused:
        """Answer one request, waiting for the record to be durable. Raises as :meth:`prove`, and ``threshold_not_met``."""
        proven = self.prove(body)
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

    def counted(self, permit: Permit) -> int:
        """How many computers were seen within 30 days, as of the last ten seconds."""
        assert permit.certificate is not None
        now, group = self.clock(), leasing.counts_with(permit.certificate)
        at, count = self._counts.get(group, (-FRESH, 0))
        if abs(now - at) >= FRESH:
            count = self.database.read(lambda db: ledger.counted(db, group, now))
            self._counts[group] = now, count
        return count
