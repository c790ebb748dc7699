"""What a running host does by itself: renews its certificate, keeps its record in DNS, tells other hosts what it saw, forgets.

Each job is tried when it is due, beside the requests; a failure is logged and tried again. No lease waits for any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.model import DAY
from keyturn.edge import discovery
from keyturn.edge.serverlog import Log
from keyturn.flows.exchange import Line
from keyturn.host import enrolling, ledger, peers, publishing, sightings
from keyturn.host.enrolling import Machine
from keyturn.host.leasing import LeasingHost

LOOK = 60  # Seconds between two looks at what is due.
TELL_EVERY = 300  # Seconds: between hosts of one organization.


class Job(NamedTuple):
    """Something to be done every so many seconds."""

    name: str
    every: int
    do: Callable[[], None]


class Tender:
    """The jobs of a running host. ``port`` is the one that it listens on."""

    look = LOOK

    def __init__(self, host: LeasingHost, machine: Machine, log: Log, *, port: int, environ: Mapping[str, str]) -> None:
        self._host, self._machine, self._log, self._environ = host, machine, log, environ
        self._own = publishing.own_place(host.home.settings, port)
        self._tried: dict[str, int] = {}
        self._told: dict[tuple[str, str], int] = {}
        self._published = False
        self._jobs = (
            Job("renew", enrolling.TRY_EVERY, self.renew), Job("publish", DAY, self.publish),
            Job("tell", TELL_EVERY, self.tell), Job("forget", DAY, self.forget), Job("warn", DAY, self.warn),
        )  # fmt: skip

    def turn(self) -> None:
        """Do what is due. Raises nothing: what fails is logged."""
        for job in self._jobs:
            now = self._host.clock()
            if now - self._tried.get(job.name, -job.every) < job.every:
                continue
            self._tried[job.name] = now
            try:
                job.do()
            except KeyturnError as error:
                self._log("job_failed", {"job": job.name, "code": error.code, "detail": error.detail})

    def renew(self) -> None:
        """Renew the certificates that are due, each for itself."""
        home = self._host.home
        home.refresh()
        for permit in list(home.permits.values()):
            due = enrolling.due_at(permit)
            if due is None or self._host.clock() < due:
                continue
            try:
                with Line(permit.opened.product, self._environ) as line:
                    outcome = enrolling.exchange(home, permit, self._machine, line.send)
            except KeyturnError as error:
                self._log(
                    "renewal_failed", {"product_id": permit.product_id, "code": error.code, "detail": error.detail}
                )
                continue
            if isinstance(outcome, Refused):
                self._log(
                    "renewal_refused", {"product_id": permit.product_id, "code": outcome.code, "detail": outcome.why}
                )
            else:
                self._log("certificate_renewed", {"product_id": permit.product_id})

    def publish(self) -> None:
        """Publish this host in DNS, if a server that takes updates is set. Raises: KeyturnError as ``discovery.publish``."""
        update = publishing.update_of(self._host.home.settings)
        if update is not None:
            discovery.publish(update, publishing.publishable(self._own))
            self._published = True
            self._log("host_published", {})

    def close(self) -> None:
        """Remove this host's record, if this process published it. Raises nothing: what fails is logged."""
        if not self._published:
            return
        try:
            update = publishing.update_of(self._host.home.settings)
            if update is not None:
                discovery.withdraw(update, self._own)
                self._log("host_withdrawn", {})
        except KeyturnError as error:
            self._log("job_failed", {"job": "withdraw", "code": error.code, "detail": error.detail})

    def tell(self) -> None:
        """Tell the other hosts what was seen since they were told last."""
        host, home = self._host, self._host.home
        for place in peers.places(home.settings, self._own):
            for permit in list(home.permits.values()):
                if permit.certificate is None:
                    continue
                key, now = (str(place), str(permit.name)), host.clock()
                since = self._told.get(key, 0)
                found = host.database.read(lambda db, p=permit, s=since, n=now: sightings.seen(db, p, s, n))  # type: ignore[misc]
                try:
                    peers.tell(home, permit, place, found, own=self._own, environ=self._environ, clock=host.clock)
                    self._told[key] = now - 1  # What came within this second is told again: it is the same computer.
                except KeyturnError as error:
                    self._log("telling_failed", {"code": error.code, "detail": error.detail})

    def forget(self) -> None:
        """Forget computers that are long gone. Raises: KeyturnError ``storage_failed``."""
        now = self._host.clock()
        count = self._host.database.write_now(lambda db: ledger.forget(db, now))
        if count:
            self._log("forgotten", {"computers": count})

    def warn(self) -> None:
        """Say what ends within 30 days."""
        for permit in self._host.home.permits.values():
            said = enrolling.warning(permit, self._host.clock())
            if said is not None:
                self._log("certificate_ending", {"product_id": permit.product_id, "detail": said})
