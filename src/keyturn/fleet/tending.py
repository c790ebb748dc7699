"""What a running fleet manager does beside its requests: sends what waits, fetches revocation lists, counts the day,
tidies up.
"""

from __future__ import annotations

from collections.abc import Mapping
from sqlite3 import Connection

from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY
from keyturn.edge.serverlog import Log
from keyturn.fleet import proxying, store
from keyturn.fleet.manager import FleetManager
from keyturn.fleet.proxying import Forwarder

LOOK = 1  # Seconds between two looks at what waits to be sent.
KEEP_TASKS = 400  # Days that a finished task is kept.


class Tender:
    """The jobs of a running manager."""

    look = LOOK

    def __init__(self, fleet: FleetManager, log: Log, environ: Mapping[str, str]) -> None:
        self._fleet, self._log, self._environ = fleet, log, environ
        self._forwarder = Forwarder(fleet, log, environ)
        self._hour = -1

    def turn(self) -> None:
        """Do what is due. Raises nothing: what fails is logged and tried again."""
        try:
            self._forwarder.turn()
            now = self._fleet.clock()
            if now // 3600 != self._hour:
                self._hour = now // 3600
                self._fleet.database.write_now(lambda db: _hourly(db, now))
                proxying.refresh_lists(self._fleet, self._environ, self._log)
        except KeyturnError as error:
            self._log("job_failed", {"code": error.code, "detail": error.detail})

    def close(self) -> None:
        self._forwarder.close()


def _hourly(db: Connection, now: int) -> None:
    store.count_day(db, now)
    db.execute("DELETE FROM session WHERE expires_at <= ?", (now,))
    db.execute(
        "DELETE FROM task WHERE made_at < ? AND NOT EXISTS (SELECT 1 FROM item WHERE item.task = task.id AND open = 1)",
        (now - KEEP_TASKS * DAY,),
    )
