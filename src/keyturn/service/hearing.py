"""Which seat a telephone call means, by the few digits that it says of it.

Keeps: how those digits are stored and looked up. Leaves to others: deciding (``telephone``), and what a request finds of them
(``seats.look_around``).
"""

from __future__ import annotations

import json
from sqlite3 import Connection

from keyturn.core import hardware
from keyturn.core.model import b64u
from keyturn.core.phone import installation
from keyturn.core.phone.installation import InstallationID
from keyturn.core.phone.validation import ValidationID


def kept_as(given: InstallationID | ValidationID) -> str:
    """What is kept of the seat that a call names: 44 bits of a tag, or 42 of a thumbprint, as either begins in its own digits."""
    return given.seat if not given.weak else b64u((int(given.seat, 16) << 4).to_bytes(6, "big"))[:7]


def activation_of(db: Connection, given: InstallationID | ValidationID) -> str | None:
    """The activation of the seat that an ID means, the oldest if there are several.

    It begins a tag of the key, of whichever pair; for weak evidence an installation's thumbprint; or an earlier call said it.
    """
    first = kept_as(given)
    said = (given.serial, int(given.weak), first)
    found = {row[0] for row in db.execute("SELECT activation FROM heard WHERE serial = ? AND weak = ? AND prefix = ?", said)}
    if given.weak:
        rows = db.execute(
            "SELECT activation FROM installation WHERE serial = ? AND thumbprint >= ? AND thumbprint < ?",
            (given.serial, first, f"{first}~"),
        )
    else:
        rows = db.execute(
            "SELECT activation FROM seat_pair WHERE serial = ? AND scheme = ? AND tag >= ? AND tag < ?"
            " AND pair IN (SELECT value FROM json_each(?))",
            (given.serial, hardware.SCHEME, first, f"{first}g", json.dumps(installation.PAIRS)),
        )
    return min(found | {row["activation"] for row in rows}, default=None)
