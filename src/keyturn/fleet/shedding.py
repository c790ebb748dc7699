"""Which requests are renewals when too much comes: check-ins of computers that enrolled.

Leaves to others: what is counted where, and in which order (``edge.shedding``).

The directory is not counted: every exchange begins with it, and it costs no look at the database.
"""

from __future__ import annotations

from keyturn.core.fleet import read_check_in
from keyturn.edge.shedding import HEALTH, Admission
from keyturn.fleet import store
from keyturn.fleet.manager import FleetManager

DIRECTORY = "/.well-known/keyturn-fleet"
CHECK_IN = "/v1/check-in"
FREE = frozenset({*HEALTH, DIRECTORY})


def admit(fleet: FleetManager, admitted: Admission, token: str) -> None:
    """Let a check-in past the limits if they allow it, or if its signer enrolled. Raises: KeyturnError ``too_many_requests``."""

    def enrolled() -> bool:
        _, verified = read_check_in(token)
        return fleet.database.read(lambda db: store.computer_of(db, verified.kid)) is not None

    admitted.look(token, lambda _check_in: True)
    admitted.pass_on(enrolled)
