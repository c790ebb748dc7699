"""Problems that were answered, by the reference number that the other side was told.

- A row says when, which code, which address, and the product ID if possession of the key was proven: no IP address, no
  body, no detail (a detail may repeat what a stranger sent).
- Rows go after 30 days, and the oldest beyond 200,000.
- Strangers can make problems as fast as they can send, so at most a few a second of theirs are kept. Faults of ours and
  refusals of proven keys always are.
"""

from __future__ import annotations

import re
from sqlite3 import Connection
from typing import Any, NamedTuple

from keyturn.core.errors import entry
from keyturn.core.model import DAY

RETENTION = 30 * DAY
MAX_ROWS = 200_000
PER_SECOND = 20.0
BURST = 200.0
_REFERENCE = re.compile(r"KT-?([0-9A-Z]{4})-?([0-9A-Z]{4})", re.ASCII | re.IGNORECASE)


class Incident(NamedTuple):
    """One problem, as it is kept."""

    reference: str
    at: int
    code: str
    status: int
    route: str
    request: str
    product_id: str | None


class Gate:
    """Lets a burst through, then so many a second. ``now`` in seconds of a clock that only goes forward."""

    def __init__(self, per_second: float = PER_SECOND, burst: float = BURST) -> None:
        self._rate = per_second
        self._burst = burst
        self._left = burst
        self._at = 0.0

    def admits(self, now: float) -> bool:
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def keep(db: Connection, incident: Incident) -> None:
    """Write a problem down; of those past their time, or too many, two go with each that comes."""
    db.execute(
        "INSERT INTO incident (reference, at, code, status, route, request, product_id) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        incident,
    )
    db.execute(
        "DELETE FROM incident WHERE reference IN (SELECT reference FROM incident WHERE at < ? ORDER BY at LIMIT 2)",
        (incident.at - RETENTION,),
    )
    # Counting 200,000 rows costs milliseconds, so it is done for one problem in a thousand or so.
    if incident.reference.endswith(("00", "7K")):
        db.execute(
            "DELETE FROM incident WHERE reference IN (SELECT reference FROM incident ORDER BY at DESC LIMIT -1 OFFSET ?)",
            (MAX_ROWS,),
        )


def reference_in(text: str) -> str | None:
    """The reference number that a person may have written in another way (KT 7q2f 91xm, an O for 0); else None."""
    shape = _REFERENCE.fullmatch(re.sub(r"[\s–—]", "-", text.strip()).replace("--", "-"))
    if shape is None:
        return None
    signs = (shape[1] + shape[2]).upper().translate(str.maketrans("OIL", "011"))
    return f"KT-{signs[:4]}-{signs[4:]}"


def find(db: Connection, reference: str) -> dict[str, Any] | None:
    """What happened, with its title and remedy."""
    row = db.execute("SELECT * FROM incident WHERE reference = ?", (reference,)).fetchone()
    if row is None:
        return None
    line = entry(row["code"])
    return {
        "reference": row["reference"], "at": row["at"], "code": row["code"], "title": line.title, "remedy": line.remedy,
        "status": row["status"], "route": row["route"], "request": row["request"], "product_id": row["product_id"],
    }  # fmt: skip
