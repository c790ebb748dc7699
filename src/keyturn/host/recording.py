"""Leases decided and recorded: many requests at once, as if one after another.

Keeps: the order of steps of a record. Leaves to others: the rules (``core.leasing``), rows (``ledger``), the transaction
(``edge.writer``), what is checked before and told after (``leasing``).

- Requests that have something in common (the request itself, installation, hardware, a computer) are never in one turn: each
  sees what the one before it left. All others are looked up together and written a table at a time.
- What a turn counts, it counts on by itself: the fifth computer tips the threshold, whether the four are rows or in its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from sqlite3 import Connection
from typing import NamedTuple

from keyturn.core import ids, jws, leasing
from keyturn.core.documents import Request
from keyturn.core.errors import Refused
from keyturn.core.hosting import HostCertificate, Identity
from keyturn.core.ids import Ids
from keyturn.core.jws import Kind
from keyturn.core.leasing import Forked, Granted, Waiting
from keyturn.core.model import ProductName, sha256_b64u
from keyturn.edge.database import Database
from keyturn.host import ledger
from keyturn.host.home import Permit
from keyturn.host.ledger import Around, Asker, Fork, Open, Rows

# Leases of one installation that were issued and not shown. An honest computer has one request on its way, and shows what it got
# in the next: of many that were lost, it holds the newest if any. So the oldest may go, and nobody makes the ledger grow.
MAX_OPEN = 16


class Proven(NamedTuple):
    """A request whose signature holds, of a product that this host may lease.

    ``beside`` are the lease that it names and the certificate of the host that gave it, if they came with it: not verified yet.
    """

    token: str
    digest: str
    request: Request
    thumbprint: str
    permit: Permit
    host: HostCertificate
    beside: tuple[str, str] | None = None


class Asked(NamedTuple):
    """A request to be decided, and the moment at which it is."""

    proven: Proven
    now: int


class Recorded(NamedTuple):
    """A decision that is durable, and the signed lease or identity that tells it.

    ``how``: ``new``, ``renewed``, ``rejoined``, ``same`` (asked before) or ``forked``. ``number`` is the computer's.
    ``issued_at`` is the lease's own time.
    """

    kind: Kind
    token: str
    how: str
    issued_at: int
    number: int | None = None
    rolled_back: bool = False


Outcome = Recorded | Waiting | Refused


class Recorder:
    """Decides and records, in the transaction of a writer's items. ``sign`` makes tokens with the host's key."""

    def __init__(
        self, database: Database, sign: Callable[[Kind, bytes], str], chance: Callable[[int], bytes]
    ) -> None:
        self._database, self._sign, self._ids = database, sign, Ids(chance)
        self._products: dict[ProductName, tuple[str, int]] = {}

    def record(self, db: Connection, asked: Sequence[Asked]) -> tuple[list[Outcome], Callable[[Connection], None]]:
        """Decide requests and write the decisions down. The results are in their order; what is left to write is with them.

        As many of them as have nothing in common are one turn, and in each turn:

        1. The same request again: the same lease.
        2. The decision (``core.leasing.decide``) on what the ledger knows.
        3. A copy: the identity that this copy was told to take before, or a new one.
        4. Otherwise computer, hardware, installation and time; and the lease, if there is one. It is signed here, and told to
           nobody before all of this is durable: its digest is part of the record, for the next request will name it.
        """
        outcomes: list[Outcome] = []
        rows = Rows()
        while len(outcomes) < len(asked):
            rows.write(db)
            rows = Rows()
            outcomes += self._turn(db, _strangers(asked[len(outcomes) :]), rows)
        return outcomes, rows.write

    def _turn(self, db: Connection, asked: Sequence[Asked], rows: Rows) -> list[Outcome]:
        """Record the first of ``asked`` that look at different computers: at least one."""
        askers = [
            Asker(self._product(db, one.proven.host), one.proven.thumbprint, one.proven.request, one.now) for one in asked
        ]
        around = ledger.look_around(db, askers)
        counts = _Counts(db)
        turn = list(zip(asked, askers, around, strict=True))[: _apart(askers, around)]
        outcomes = [self._one(db, one.proven, asker, place, counts, rows) for one, asker, place in turn]
        counts.keep()
        return outcomes

    def _one(self, db: Connection, proven: Proven, asker: Asker, around: Around, counts: _Counts, rows: Rows) -> Outcome:
        """The steps of :meth:`record` for one request."""
        host, request, now, own = proven.host, proven.request, asker.now, around.own
        # 1.
        if proven.digest in around.open:
            payload = ledger.payload(db, asker.product, asker.thumbprint, around.open[proven.digest].slot)
            said = jws.loads(payload)
            return Recorded(Kind.LEASE, self._sign(Kind.LEASE, payload), "same", said["iat"], said["seat"])
        # 2.
        known = own is not None and own.leased  # Whoever was leased is renewed: nobody needs to count.
        decision = leasing.decide(
            request, host, own=own, alike=around.alike, counted=0 if known else counts.counted(host, now),
            held=0 if known or host.capacity is None else ledger.held(db, asker.product, now),
            new_computer="" if known else self._ids.uuid7(now),
            new_number=0 if known else counts.last_number(asker.product) + 1, now=now, leased=lambda: _leased(proven, now),
        )  # fmt: skip
        if isinstance(decision, Refused):
            return decision
        # 3.
        if isinstance(decision, Forked):
            return self._forked(db, asker.product, proven, decision, now)
        # 4.
        member = own or next((one for one in around.alike if one.computer == decision.computer), None)
        if not request.ephemeral and (member is None or not member.recent):
            counts.one_more(host)
        number = counts.next_number(asker.product) if member is None else member.number
        granted = decision if isinstance(decision, Granted) else None
        rows.computer(
            asker, decision.computer, number, decision.add, new=member is None,
            since=granted and granted.since, ends=granted and granted.ends,
        )  # fmt: skip
        before = None if own is None else own.presented
        rows.installation(asker, decision.computer, before if granted is None else granted.presented)
        if isinstance(decision, Waiting):
            return decision
        slot = _free(around.open)
        if before != decision.presented:  # It showed another one than before, which ends the rivals of that.
            slot = 0
            for one in around.open.values():
                if one.slot != slot:
                    rows.drop_lease(asker, one.slot)
        return self._granted(proven, asker, decision, slot, rows)

    def _granted(self, proven: Proven, asker: Asker, granted: Granted, slot: int, rows: Rows) -> Recorded:
        at = max(asker.now, proven.host.issued_at)  # A lease holds only if it was issued while the certificate was in force.
        lease = leasing.lease(proven.request, proven.digest, proven.thumbprint, proven.host, granted, now=at)
        payload = jws.dumps(lease.claims())
        token = self._sign(Kind.LEASE, payload)
        made = Open(slot, jws.digest(token), at, not proven.request.pairs)
        rows.lease(asker, proven.digest, made, payload)
        return Recorded(Kind.LEASE, token, granted.how, at, granted.number, granted.rolled_back)

    def _forked(self, db: Connection, product: int, proven: Proven, forked: Forked, now: int) -> Recorded:
        digest, request, thumbprint, host = proven.digest, proven.request, proven.thumbprint, proven.host
        copy = sha256_b64u(jws.dumps({"pairs": dict(request.pairs), "previous": request.previous}))
        found = ledger.fork(db, product, thumbprint, copy)
        # A computer believes the answer under the certificate of now only: after a renewal it is made anew.
        if found is None or found.request != digest or jws.loads(found.payload)["iat"] < host.issued_at:
            guid = ids.uuid4(self._ids.chance(16)) if found is None else found.guid
            told = Identity(host.product, digest, request.nonce, guid, forked.reason, max(now, host.issued_at))
            found = Fork(guid, digest, jws.dumps(told.claims()))
            ledger.keep_fork(db, product, thumbprint, copy, forked.computer, forked.reason, found, now)
        if forked.takes:
            ledger.bare(db, product, forked.computer)
        return Recorded(Kind.IDENTITY, self._sign(Kind.IDENTITY, found.payload), "forked", now)

    def _product(self, db: Connection, host: HostCertificate) -> int:
        """A product's number. It is kept only once it is durable: one that was made within a group may be gone with it."""
        group, number = self._products.get(host.product, ("", 0))
        if group == host.count_group:
            return number
        name, counts_with = str(host.product), leasing.counts_with(host)
        row = self._database.look("SELECT id FROM product WHERE name = ? AND counts_with = ?", (name, counts_with))
        if row is None:
            return ledger.product(db, name, counts_with)
        self._products[host.product] = host.count_group, int(row["id"])
        return int(row["id"])


class _Counts:
    """What a turn needs to count, looked up when somebody needs it, and counted on with everyone who comes."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        self._counted: dict[tuple[str, int], int] = {}
        self._more: dict[str, int] = {}
        self._numbers: dict[int, int] = {}
        self._given: set[int] = set()

    def counted(self, host: HostCertificate, now: int) -> int:
        """The distinct computers seen within 30 days, or as many of them as the threshold asks for."""
        group = leasing.counts_with(host)
        key = (group, host.threshold)
        if key not in self._counted:
            self._counted[key] = ledger.counted(self._db, group, now, host.threshold)
        return self._counted[key] + self._more.get(group, 0)

    def one_more(self, host: HostCertificate) -> None:
        group = leasing.counts_with(host)
        self._more[group] = self._more.get(group, 0) + 1

    def last_number(self, product: int) -> int:
        if product not in self._numbers:
            self._numbers[product] = ledger.last_number(self._db, product)
        return self._numbers[product]

    def next_number(self, product: int) -> int:
        self._numbers[product] = self.last_number(product) + 1
        self._given.add(product)
        return self._numbers[product]

    def keep(self) -> None:
        """Write down the numbers that were given."""
        for product in self._given:
            ledger.keep_number(self._db, product, self._numbers[product])


def _strangers(asked: Sequence[Asked]) -> Sequence[Asked]:
    """The longest beginning in which no two say the same request, installation or hardware.

    Where a capacity is to be kept, each must see what the one before it left.
    """
    met: set[object] = set()
    for count, (proven, _) in enumerate(asked):
        if proven.host.capacity is not None:
            return asked[: max(count, 1)]
        said = {proven.thumbprint, *proven.request.pairs.items()}
        if not met.isdisjoint(said):
            return asked[:count]
        met |= said
    return asked


def _apart(askers: Sequence[Asker], around: Sequence[Around]) -> int:
    """How many of the first look at no computer that one before them looks at."""
    met: set[tuple[int, str]] = set()
    for count, (asker, place) in enumerate(zip(askers, around, strict=True)):
        members = place.alike if place.own is None else (place.own,)
        looked = {(asker.product, member.computer) for member in members}
        if not met.isdisjoint(looked):
            return count
        met |= looked
    return len(around)


def _free(opened: Mapping[str, Open]) -> int:
    """Where the next lease of an installation is kept: a free place, or that of the oldest."""
    taken = {one.slot for one in opened.values()}
    free = next((slot for slot in range(MAX_OPEN) if slot not in taken), None)
    return min(opened.values(), key=lambda one: (one.issued_at, one.slot)).slot if free is None else free


def _leased(proven: Proven, now: int) -> int | None:
    if proven.beside is None:
        return None
    return leasing.shown(*proven.beside, proven.request, proven.thumbprint, proven.host, proven.permit.opened, now=now)
