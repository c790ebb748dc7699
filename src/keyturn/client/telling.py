"""Telling what happened: one event of the catalogue, with the words an administrator needs.

An event never stops what it is about: a log that cannot be written is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keyturn.client.loading import Loaded
from keyturn.client.machine import Machine
from keyturn.core import hardware
from keyturn.core.errors import KeyturnError
from keyturn.core.events import EVENTS, INFO
from keyturn.core.model import State, rfc3339
from keyturn.edge.eventlog import EventLog, read, spare_file
from keyturn.edge.vault import Vault


class Teller:
    """The voice of one program (``keyturn``, ``agent``, ``application``) in the log of one store."""

    def __init__(self, vault: Vault, machine: Machine, program: str = "keyturn") -> None:
        self._home, self._spare = vault.home, spare_file(vault.home, machine.environ)
        self._log = EventLog(self._home, self._spare)
        self._machine = machine
        self._program = program
        self.failed: list[str] = []

    def correlation(self) -> str:
        """A new mark that a request and its answer share in the log. It is never sent."""
        return self._machine.chance(8).hex()

    def tell(
        self,
        name: str,
        *,
        product: object = None,
        code: str | None = None,
        return_code: int = 0,
        correlation: str | None = None,
        message: str | None = None,
        remedy: str | None = None,
        **data: Any,
    ) -> None:
        """Write one event. ``message`` says more than the catalogue's meaning, ``data`` holds figures for programs."""
        event = EVENTS[name]
        advice = remedy or event.action
        self.failed = self._log.write({
            "time": rfc3339(self._machine.clock()), "event_id": event.id, "name": name, "severity": event.severity,
            "code": code, "return_code": return_code, "correlation": correlation,
            "product": None if product is None else str(product), "message": message or event.meaning,
            "remedy": None if event.severity == INFO and remedy is None else advice, "data": {"program": self._program, **data},
        })  # fmt: skip

    def tell_error(self, name: str, error: KeyturnError, *, product: object = None, correlation: str | None = None) -> None:
        """Write what an error was: its code, exit status, words and remedy."""
        more = {"reference": error.reference} if error.reference else {}
        if error.data.get("step"):
            more["step"] = str(error.data["step"])
        self.tell(
            name, product=product, code=error.code, return_code=error.exit, correlation=correlation, message=error.detail,
            remedy=error.remedy, **more,
        )  # fmt: skip


    @contextmanager
    def faults(self, product: object = None) -> Iterator[None]:
        """Tell what stops a deed before anything is sent, if it is something that an administrator can mend."""
        try:
            yield
        except KeyturnError as error:
            if error.code in _FAULTS:
                self.tell_error(_FAULTS[error.code], error, product=product)
            raise

    def tell_state(self, loaded: Loaded) -> None:
        """Tell where a copy stands, if that is news: a change of state or reason since the log last spoke of it."""
        standing, product = loaded.standing, str(loaded.name)
        name = state_event(standing.state)
        told = [entry for entry in self.events() if entry.get("product") == product and entry["name"] in _STATES]
        if told and (told[-1]["name"], told[-1].get("data", {}).get("reason")) == (name, standing.reason):
            return
        until = rfc3339(standing.valid_until if standing.state is State.LICENSED else standing.grace_until)
        what = f"{loaded.opened.product.title}: {standing.state.word.replace('_', ' ')}"
        reason = f", {standing.reason.replace('_', ' ')}" if standing.reason else ""
        self.tell(
            name, product=product, code=standing.reason, message=f"{what}{reason}{f', until {until}' if until else ''}",
            remedy=standing.remedy, state=standing.state.word, reason=standing.reason, until=until,
            changed=list(standing.changed),
        )  # fmt: skip
        if standing.reason in ("hardware_changed", "clock_behind"):
            parts = f": {hardware.describe(standing.changed)}" if standing.changed else ""
            self.tell(standing.reason, product=product, code=standing.reason, message=f"{EVENTS[standing.reason].meaning}{parts}")

    def events(self) -> list[dict[str, Any]]:
        """What the log holds, oldest first; nothing, if it cannot be read."""
        try:
            return read(self._home, self._spare)
        except KeyturnError:
            return []


def state_event(state: State) -> str:
    """The event of reaching a state."""
    if state is State.LICENSED:
        return "licensed"
    if state is State.NON_GENUINE_GRACE:
        return "not_genuine"
    return "notification_started" if state in (State.NOTIFICATION, State.UNLICENSED) else "grace_started"


_STATES = frozenset(state_event(state) for state in State)
# What stops a deed outside of a conversation, which tells its own faults (``client.lines``).
_FAULTS = {
    "consent_required": "consent_missing", "storage_failed": "store_unwritable", "permission_denied": "store_unwritable",
    "policy_malformed": "policy_unread", "policy_forbids": "policy_forbade", "store_damaged": "store_damaged",
}  # fmt: skip
