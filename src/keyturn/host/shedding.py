"""Which requests are renewals when too much comes: those of an installation that holds a lease.

Leaves to others: what is counted where, and in which order (``edge.shedding``).

The directory is not counted: every exchange begins with it, a renewal too, and it costs no look at the ledger.
"""

from __future__ import annotations

from sqlite3 import Connection

from keyturn.edge.shedding import HEALTH
from keyturn.host.leasing import LeasingHost, Proven

DIRECTORY = "/.well-known/keyturn-host"
LEASE = "/v1/lease"
FREE = frozenset({*HEALTH, DIRECTORY})

_LEASED = (
    "SELECT 1 FROM installation i JOIN product p ON p.id = i.product"
    " JOIN computer c ON c.product = i.product AND c.id = i.computer"
    " WHERE p.name = ? AND i.thumbprint = ? AND c.leased_at IS NOT NULL"
)


def holds_lease(host: LeasingHost, proven: Proven) -> bool:
    """Whether this very installation was given a lease before."""

    def look(db: Connection) -> bool:
        return db.execute(_LEASED, (str(proven.request.product), proven.thumbprint)).fetchone() is not None

    return host.database.read(look)
