"""``keyturn status``: where every product stands. It runs at every logon, so it imports neither Click nor the network."""

from __future__ import annotations

from typing import Any

from keyturn.client.context import chosen, homes_of, machine_of
from keyturn.client.loading import damaged_status, load, status_of
from keyturn.client.machine import Machine
from keyturn.client.record import remember
from keyturn.client.views import ASK, CARRY, status_text
from keyturn.core.errors import EXIT_REFUSED, KeyturnError
from keyturn.core.model import Channel
from keyturn.edge.vault import Shelf
from keyturn.edge.voice import Call


def show_status(call: Call, check: str | None = None, within: int | None = None) -> int:
    """Print every product's status; the result is the exit status.

    ``check`` is ``licensed`` or ``usable``; ``within`` are days before the end of a license.
    Raises: KeyturnError ``test_only``, ``home_foreign``, ``product_missing``.
    """
    homes, machine = homes_of(call), machine_of(call)
    entries: list[dict[str, Any]] = []
    for shelf in chosen(call, homes):
        try:
            loaded = load(shelf, machine)
        except KeyturnError as error:
            if error.code == "test_only":
                raise
            entries.append(damaged_status(shelf, error))
            continue
        entries.append(by_policy(status_of(remember(shelf, loaded, machine, say=call.say)), shelf, machine))
    call.emit({"products": entries}, status_text(entries))
    if check is None and within is None:
        return 0
    return 0 if entries and all(_holds(entry, check or "licensed", within) for entry in entries) else EXIT_REFUSED


def by_policy(entry: dict[str, Any], shelf: Shelf, machine: Machine) -> dict[str, Any]:
    """The same entry; where the organization's policy forbids its next step, the line that decided and what it leaves open."""
    if entry["next_command"] != "keyturn activate":
        return entry
    from keyturn.client.policies import policy_of  # Only where something is to be done.

    try:
        policy = policy_of(shelf.vault.home, machine)
    except KeyturnError as error:
        return {**entry, "policy": error.detail, "remedy": error.remedy, "next_command": "keyturn doctor"}
    leased = entry["channel"] == Channel.CLIENT.value
    way = "host" if leased else "online"
    if getattr(policy, way):
        return entry
    carried = policy.file and not leased
    remedy, command = (CARRY, "keyturn export request -o F.ktx") if carried else (ASK, "keyturn doctor")
    return {**entry, "policy": policy.line(way), "remedy": remedy, "next_command": command}


def _holds(entry: dict[str, Any], check: str, within: int | None) -> bool:
    good = entry["state"] == "licensed" if check == "licensed" else bool(entry["usable"])
    return good and (within is None or entry["days_left"] is None or entry["days_left"] > within)
