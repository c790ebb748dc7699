"""One turn of the agent: look at every product of a store, note what was seen, and contact the service where it is time.

Keeps: what a turn does and what it reports. Leaves to others: when turns come (``client.agent_loop``, ``core.schedule``), the
contact itself (``client.lines``), where a copy stands (``loading``, ``record``).

- A turn runs in a process of its own, which ends: the hardware is read anew each time, the network's libraries are in no
  idle agent's memory, and a service that hangs keeps nobody waiting.
- Nothing of one product's faults touches another product.
- Nothing is sent without the consent that is on file, or the organization's (policy).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from keyturn.client import actions, loading, provisioning
from keyturn.client.homes import Homes
from keyturn.client.loading import Loaded, load
from keyturn.client.machine import Machine
from keyturn.client.policies import policy_of
from keyturn.client.record import remember
from keyturn.client.telling import Teller
from keyturn.core import documents, schedule
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.model import rfc3339
from keyturn.edge.vault import Shelf, Vault

EVERY = None  # Instead of names: every product that has something to ask.
PROGRAM = "agent"
# What stops a contact before it begins; the rest is told by the conversation itself.
_OUTSIDE_A_TALK = {
    "consent_required": "consent_missing", "storage_failed": "store_unwritable", "permission_denied": "store_unwritable",
    "policy_malformed": "policy_unread", "store_damaged": "store_damaged",
}  # fmt: skip


class Report(NamedTuple):
    """What a turn found and did about one product, as the next turn needs to know it.

    ``wants`` is ``activation``, ``release`` or ``renewal`` (in ``renew_in`` seconds, by the product's clock) if a contact is to
    be made; ``tried`` and ``code`` say whether one was, and what went wrong. ``left`` are the seconds that what is to be renewed
    still holds.
    """

    wants: str | None
    renew_in: int | None
    tried: bool
    code: str | None
    retry_after: int | None
    left: int | None = None


class Visit(NamedTuple):
    """What came of a check-in with the fleet manager: the seconds to the next one, ``None`` if nobody manages this computer.

    ``failed``: nobody was told; ``next_in`` is then the least that was asked for.
    """

    next_in: int | None
    failed: bool = False


def turn(
    vault: Vault,
    machine: Machine,
    *,
    contact: Collection[str] | None = EVERY,
    chance: Mapping[str, float] | None = None,
    connect: Callable[..., Any] | None = None,
) -> dict[str, Report]:
    """Take one turn; the result is by the shelf's name.

    0. In the system's store the organization's provisioning files are applied; what they want asked is asked in step 3.
    1. Each product is loaded and verified, and what was seen is noted: the time, and since when the hardware differs.
    2. What is new of it goes to the log.
    3. If it wants a contact, and ``contact`` names it: the contact is made.
    4. Where it stands after that is noted and told too.

    Raises: KeyturnError only if the store itself cannot be listed.
    """
    teller = Teller(vault, machine, PROGRAM)
    drawn = chance or {}
    found: dict[str, Report] = {}
    # 0.
    if vault.scope == "system":
        provisioning.apply_all(Homes((vault,), vault), machine, contact=False, program=PROGRAM)
    for shelf in vault.shelves():
        name = shelf.name
        # 1. and 2.
        loaded = _look(shelf, machine, teller)
        if isinstance(loaded, KeyturnError):
            found[name] = Report(None, None, False, loaded.code, None)
            continue
        report = _wishing(Report(None, None, False, None, None), shelf, loaded, drawn.get(name, 0.0))
        # 3.
        due = report.wants is not None and (report.renew_in is None or report.renew_in <= 0)
        if due and (contact is EVERY or name in contact):
            report = _contacted(report, shelf, loaded, machine, connect, teller)
            # 4.
            loaded = _look(shelf, machine, teller)
            if not isinstance(loaded, KeyturnError):
                report = _wishing(report, shelf, loaded, drawn.get(name, 0.0))
        found[name] = report
    return found


def check_in(vault: Vault, machine: Machine, *, connect: Callable[..., Any] | None = None) -> Visit:
    """Enroll this computer if its organization's provisioning files say so, tell the fleet manager how it is, and do what that
    asks. What goes wrong is told to the log, and tried again later.
    """
    joined = vault.scope != "system" or provisioning.join(Homes((vault,), vault), machine, program=PROGRAM)
    if not os.path.exists(os.path.join(vault.home, "fleet", "manager.json")):
        return Visit(None) if joined else Visit(0, failed=True)
    from keyturn.client import managed

    try:
        return Visit(managed.check_in(vault, machine, Homes((vault,), vault), connect=connect))
    except KeyturnError as error:
        Teller(vault, machine, PROGRAM).tell_error("check_in_failed", error)
        return Visit(error.retry_after or 0, failed=True)


def _wishing(report: Report, shelf: Shelf, loaded: Loaded, chance: float) -> Report:
    wants, renew_in = wanted(shelf, loaded, chance)
    until = loaded.standing.valid_until if wants == "renewal" else None
    return report._replace(wants=wants, renew_in=renew_in, left=None if until is None else until - loaded.now)


def wanted(shelf: Shelf, loaded: Loaded, chance: float) -> tuple[str | None, int | None]:
    """What a product would have to ask its service, and in how many seconds if it is a renewal.

    A copy that holds no key, or a seat that was given back, asks nothing.
    """
    if shelf.release() is not None:
        return ("release", None) if loaded.held is not None else (None, None)
    if loaded.key is None:
        return None, None
    if loading.needs_activation(loaded):
        return "activation", None
    certificate = loaded.certificate
    if certificate is None:
        return None, None
    at = schedule.renewal(certificate.issued_at, certificate.expires_at, shelf.renew_after(), chance)
    return (None, None) if at is None else ("renewal", at - loaded.now)


def _look(shelf: Shelf, machine: Machine, teller: Teller) -> Loaded | KeyturnError:
    """Load, note and tell. What does not verify, or cannot be read, is the result: it stops no other product."""

    def unwritable(text: str) -> None:
        teller.tell("store_unwritable", code="storage_failed", message=f"{shelf.path}: {text}")

    try:
        loaded = remember(shelf, load(shelf, machine), machine, say=unwritable)
    except KeyturnError as error:
        teller.tell_error("store_damaged", error)
        return error
    teller.tell_state(loaded)
    return loaded


def _contacted(
    report: Report, shelf: Shelf, loaded: Loaded, machine: Machine, connect: Callable[..., Any] | None, teller: Teller
) -> Report:
    """Make the contact; the report says what came of it."""
    try:
        outcome = _contact(report.wants or "", shelf, loaded, machine, connect)
    except KeyturnError as error:
        event = _OUTSIDE_A_TALK.get(error.code)
        if event is not None:
            teller.tell_error(event, error, product=loaded.name)
        elif loaded.certificate is not None and report.wants != "release":
            until = rfc3339(loaded.standing.valid_until)
            teller.tell("renewal_failed", product=loaded.name, code=error.code, remedy=error.remedy, valid_until=until)
        return report._replace(tried=True, code=error.code, retry_after=error.retry_after)
    if isinstance(outcome, Refused):
        return report._replace(tried=True, code=outcome.code, retry_after=outcome.retry_after)
    return report._replace(tried=True)


def _contact(
    wants: str, shelf: Shelf, loaded: Loaded, machine: Machine, connect: Callable[..., Any] | None
) -> Refused | None:
    """Finish the release that waits, or ask for a certificate.

    1. A release was agreed to by whoever signed it. A request needs the consent on file, or the organization's.
    2. A request says what the one before it said of the product and of a computer that keeps nothing.

    Raises: KeyturnError ``consent_required``, ``policy_forbids``, and as ``Talk.send``.
    """
    from keyturn.client.lines import Talk

    # 1.
    if wants == "release":
        with Talk(shelf, loaded, machine, program=PROGRAM, connect=connect) as talk:
            return talk.give_back()
    if not shelf.consented():
        if policy_of(shelf.vault.home, machine).consent != "organization":
            raise KeyturnError("consent_required")
        shelf.keep_consent(loaded.now, "organization")
    # 2.
    ephemeral, version = _said_before(shelf, loaded)
    token, loaded = actions.make_request(shelf, machine, allow_ephemeral=ephemeral, product_version=version)
    with Talk(shelf, loaded, machine, program=PROGRAM, connect=connect) as talk:
        outcome = talk.activate(token)
    return outcome if isinstance(outcome, Refused) else None


def _said_before(shelf: Shelf, loaded: Loaded) -> tuple[bool, str | None]:
    """Of the last request: whether a computer that keeps nothing is agreed to, and the product's version."""
    waiting = shelf.pending()
    token = waiting.request if waiting is not None else loaded.held.request if loaded.held is not None else None
    if token is None:
        return False, None
    try:
        old = documents.read_request(token)[0]
    except KeyturnError:
        return False, None  # A damaged one is none: another is made from what is known now.
    version = old.facts.get("product_version")
    return old.allow_ephemeral, version if isinstance(version, str) else None
