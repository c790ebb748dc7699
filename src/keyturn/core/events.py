"""The catalogue of events: what an administrator reads in the log, by a number that stays.

Keeps: the identity of each event, and how grave it is. Leaves to others: where events are written (``edge.eventlog``),
and when (``client.telling`` and whoever calls it).

- A warning or an error always has an action: its remedy is never empty.
- A request and what came of it share a correlation, so "asked, no answer" is visible: ``request_sent`` alone.
- Names and numbers are part of the protocol with administrators: they are never reused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

SOURCE = "keyturn"  # The one name under which all of it is found.
INFO, WARNING, ERROR = "info", "warning", "error"


class Event(NamedTuple):
    """One kind of event. ``action`` is what to do if the event itself brings no better advice."""

    id: int
    name: str
    severity: str
    meaning: str
    action: str | None = None


_EVENTS = (
    # Products and keys: 1xx.
    Event(101, "product_added", INFO, "A product was added; its grace has begun"),
    Event(102, "product_removed", INFO, "A product was removed from this computer"),
    Event(103, "key_installed", INFO, "A product key was checked and installed; nothing was sent"),
    Event(104, "key_removed", INFO, "A product key was removed"),
    Event(105, "rearmed", INFO, "The grace period was begun anew"),
    Event(106, "provision_applied", INFO, "A provisioning file was applied"),
    Event(107, "provision_failed", WARNING, "A provisioning file could not be applied",
          "Mend the file that the message names; `keyturn apply --dry-run` shows what it would do."),
    # What leaves this computer, and what comes back: 2xx.
    Event(201, "request_sent", INFO, "A request was sent; its answer has the same correlation"),
    Event(202, "answer_received", INFO, "The service answered, and what it sent was verified and kept"),
    Event(203, "request_refused", WARNING, "The service answered no", "See the code: `keyturn explain CODE`."),
    Event(204, "request_failed", WARNING, "There was no usable answer", "Run `keyturn doctor`: it names the hop that failed."),
    Event(205, "policy_forbade", WARNING, "The organization's policy forbade a step, so it was not taken",
          "Take one of the ways that the policy allows; `keyturn doctor` names the line."),
    Event(206, "link_waiting", INFO, "No connection is up that may be used without asking; nothing was opened"),
    Event(207, "link_up", INFO, "A connection came up"),
    Event(208, "consent_missing", WARNING, "Nothing was sent, because nobody agreed to it",
          "See what would be sent with `keyturn disclose`, then `keyturn activate`; or provision consent."),
    Event(209, "enrolled", INFO, "This computer joined its organization's fleet"),
    Event(210, "check_in_failed", WARNING, "The fleet manager could not be told how this computer is",
          "See the code: `keyturn explain CODE`; the agent goes on trying."),
    # Where a copy stands: 3xx.
    Event(301, "activated", INFO, "This copy was activated"),
    Event(302, "renewed", INFO, "The license was renewed or issued again"),
    Event(303, "renewal_failed", WARNING, "The license could not be renewed; it holds until the time given",
          "Run `keyturn doctor`; the agent goes on trying."),
    Event(304, "released", INFO, "The seat was returned"),
    Event(305, "licensed", INFO, "This copy is licensed"),
    Event(306, "grace_started", WARNING, "A grace period runs: full function until the time given", "Activate it: `keyturn activate`."),
    Event(307, "notification_started", ERROR, "The grace is over, and the copy is not activated", "Activate it: `keyturn activate`."),
    Event(308, "hardware_changed", WARNING, "The hardware is not the one that was activated",
          "Activate again: `keyturn activate`; one of the yearly moves is used if the computer is a new one."),
    Event(309, "clock_behind", WARNING, "The clock is behind a time this computer has seen", "Set this computer's clock."),
    Event(310, "not_genuine", ERROR, "This copy does not count as genuine", "See why with `keyturn validate`, and mend it."),
    Event(311, "validated", INFO, "This copy was checked and is genuine"),
    Event(312, "reminder_shown", INFO, "A reminder was shown"),
    Event(313, "reminder_failed", WARNING, "A reminder could not be shown", "Run `keyturn remind` and see what it says."),
    Event(314, "identity_taken", INFO, "This store was a copy: it is an installation of its own now, as its activation host said"),
    Event(315, "rebound", INFO, "The organization's fleet manager gave this installation the activation that its hardware had"),
    # The agent and the store: 4xx.
    Event(401, "agent_started", INFO, "The agent started"),
    Event(402, "agent_stopped", INFO, "The agent stopped"),
    Event(404, "store_unwritable", ERROR, "The store cannot be written", "Free space, or give the store's owner the right to write there."),
    Event(405, "store_damaged", ERROR, "The store is damaged", "Activate again: `keyturn activate`; a seat that is held costs nothing."),
    Event(406, "stranger_refused", WARNING, "Another account's program asked the agent for a license of this store",
          "Give that account a license of its own, or run the agent for the whole system."),
    Event(407, "policy_unread", ERROR, "The organization's policy is not understood, so nothing may leave this computer",
          "Mend the line that the message names."),
)  # fmt: skip

EVENTS: Mapping[str, Event] = {event.name: event for event in _EVENTS}
