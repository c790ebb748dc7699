"""After an issuing key was stolen: what it honestly signed, proofs of that, and the same rights signed anew.

Keeps: the tree over a stolen key's honest certificates, kept so that each can be proven, and the re-issue of all that stand.
Leaves to others: the bundle that says so (``ceremony``), and what a client makes of it (``core.license``).

- The tree is made once, before the bundle with its root is signed. What the key signed after that is in no tree: it is
  issued again like everything else.
- A certificate is proven (a file for computers that reach nothing) or issued again (at the next contact); nobody is
  un-licensed by the theft.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from sqlite3 import Connection
from typing import Any

from keyturn.core import jws, merkle, trust
from keyturn.core.trust import Inclusion, Revocation
from keyturn.edge.database import Database
from keyturn.service import seats
from keyturn.service.activation import ActivationService
from keyturn.service.seats import Intent

PAGE = 1_000
Progress = Callable[[int], None]


def certificate_of(intent: Intent) -> str:
    """The certificate of a decision that is signed, byte for byte as it was answered."""
    assert intent.signature is not None
    return jws.assemble(jws.signing_input(intent.kind, intent.kid, intent.payload), intent.signature)


def fix(database: Database, kid: str) -> Revocation:
    """Fix what ``kid`` honestly signed: its tree's leaves are kept, and the result goes into the next trust bundle.

    1. A key that was fixed before keeps its tree: the root was published.
    2. One leaf for each certificate it signed, in the order of keys and requests.
    3. The leaves are durable before the root is known to anybody.
    """

    def keep(db: Connection) -> Revocation:
        # 1.
        found = [row["leaf"] for row in db.execute("SELECT leaf FROM honest WHERE kid = ? ORDER BY position", (kid,))]
        if not found:
            # 2.
            for intent in _signed_by(db, kid):
                token = certificate_of(intent)
                place = (intent.serial, kid, len(found), intent.activation, jws.digest(token), trust.leaf(token))
                # 3.
                db.execute(
                    "INSERT INTO honest (serial, kid, position, activation, certificate, leaf) VALUES (?, ?, ?, ?, ?, ?)",
                    place,
                )
                found.append(place[-1])
        tree = merkle.tree(found)
        return Revocation(kid, tree.size, tree.root)

    return database.write_now(keep)


def proofs(db: Connection, kid: str, *, serial: int | None = None) -> dict[str, dict[str, Any]]:
    """A proof for each certificate that ``kid`` honestly signed (for one key, or all), by the certificate's digest."""
    leaves: list[bytes] = []
    wanted: list[tuple[int, str]] = []
    for row in db.execute("SELECT serial, certificate, leaf FROM honest WHERE kid = ? ORDER BY position", (kid,)):
        if serial in (None, row["serial"]):
            wanted.append((len(leaves), row["certificate"]))
        leaves.append(row["leaf"])
    tree = merkle.tree(leaves)
    return {certificate: Inclusion(place, tree.path(place)).as_json() for place, certificate in wanted}


def reissue_all(service: ActivationService, progress: Progress | None = None) -> int:
    """Sign the rights of every standing activation of a revoked key anew; the result is how many.

    Each page is recorded for the key of now, durable, and then signed. Cut short, it goes on where it was: what was issued
    again is no longer the revoked key's, and what was recorded and not signed is signed at start.
    """
    done, after = 0, (-1, "")
    revoked = service.home.chain.revoked
    while revoked:
        page = service.database.read(lambda db, after=after: seats.standing_of(db, revoked, after, PAGE))  # type: ignore[misc]
        if not page:
            break
        for intent in service.reissue(page):
            service.sign(intent, service.database.write)
        after = (page[-1].serial, page[-1].request)
        done += len(page)
        if progress is not None:
            progress(done)
    service.database.write(lambda db: None).result()  # Behind the signatures in the queue: they are durable now.
    return done


def _signed_by(db: Connection, kid: str) -> Iterator[Intent]:
    after = (-1, "")
    while page := seats.signed_by(db, kid, after, PAGE):
        yield from page
        after = (page[-1].serial, page[-1].request)
