"""Which requests are renewals when too much comes: those of an installation that holds a seat.

Leaves to others: what is counted where, and in which order (``edge.shedding``).
"""

from __future__ import annotations

from sqlite3 import Connection

from keyturn.core.errors import Refused
from keyturn.edge.shedding import Admission
from keyturn.service.activation import ActivationService, Proven, Returned

EXCHANGE = "/v1/exchange"


def pass_on(admission: Admission, service: ActivationService, proven: Proven | Returned | Refused) -> None:
    """After the proof: a request that proved no key costs its address more. Raises: KeyturnError ``too_many_requests``."""
    if isinstance(proven, Refused):
        admission.guess()
        return
    # What is given back proves an installation, not a key; a seat that comes back is welcome.
    serial = proven.request.serial if isinstance(proven, Proven) else None
    admission.pass_on(lambda: _holds_seat(service, proven), serial)


def _holds_seat(service: ActivationService, proven: Proven | Returned) -> bool:
    serial = proven.request.serial if isinstance(proven, Proven) else proven.release.serial

    def look(db: Connection) -> bool:
        found = db.execute(
            "SELECT 1 FROM installation WHERE serial = ? AND thumbprint = ?", (serial, proven.thumbprint)
        ).fetchone()
        return found is not None

    return service.database.read(look)
