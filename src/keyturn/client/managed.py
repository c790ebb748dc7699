"""A managed computer: enrolled with the organization's fleet manager, whose steps it takes when it checks in.

Keeps: the enrollment in the store, the check-in, and each step. Leaves to others: the line (``flows.fleet``), what a step means
for a product (``actions``, ``accepting``), when it is time (``agent_loop``).

- ``fleet/agent.key`` is this computer's key for its manager, ``fleet/manager.json`` says who that is.
- A check-in's number is durable before it is sent, so that no number is used twice.
- Whoever enrolled this computer let the manager act for it: what it asks for is the organization's consent. The
  policy still decides.
- Every step may come twice: after a lost reply it finds its work done.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from keyturn.client import accepting, actions, hosts
from keyturn.client.homes import Homes
from keyturn.client.loading import load, needs_activation, status_of
from keyturn.client.machine import SYSROOT, Machine
from keyturn.client.policies import policy_of
from keyturn.client.telling import Teller
from keyturn.core import fleet, jws
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.fleet import CheckIn, Enrollment, EnrollmentToken, Outcome
from keyturn.core.jws import Kind
from keyturn.core.model import ProductName
from keyturn.edge import files, keystore
from keyturn.edge.probes import Computer
from keyturn.edge.vault import Shelf, Vault
from keyturn.flows.fleet import FleetLine

ROUNDS = 20  # Check-ins of one turn: a task has at most four steps here, and several may wait.
FURTHEST = 1_000_000_000  # How far used numbers are passed over, in steps of three digits.
SOONEST, LATEST = 5, 86_400  # Seconds between turns that a manager may ask for.
PROGRAM = "agent"


class Manager(NamedTuple):
    """Who manages this computer: where, whose key (thumbprint), our number there, and what it calls this computer.

    ``left``: it said that it knows this computer no more; only a new enrollment helps.
    """

    url: str
    key: str
    computer: str
    name: str
    number: int
    left: bool = False


def manager_of(vault: Vault) -> Manager | None:
    """Raises: KeyturnError ``store_damaged``."""
    value = files.read_json(_place(vault, "manager.json"), 8192)
    if value is None:
        return None
    try:
        return Manager(
            str(value["url"]), str(value["key"]), str(value["computer"]), str(value["name"]), int(value["number"]),
            value.get("left") is True,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        remedy = "Enroll this computer again: `keyturn agent enroll --token-file F`."
        raise KeyturnError("store_damaged", "the note of the fleet manager is damaged", remedy=remedy) from error


def enroll(vault: Vault, machine: Machine, text: str, name: str | None = None) -> tuple[Manager, bool]:
    """Join the fleet of whoever made the enrollment token ``text``; whether anything is new.

    1. This computer's key for its manager exists, before anybody hears of it.
    2. The manager proves to hold the key that the token names.
    3. It takes this computer in; the same computer asking again is the same.
    4. Who that is, is kept.

    Raises: KeyturnError ``file_malformed``, ``token_invalid``, ``fleet_untrusted``, ``policy_forbids``, ``service_unreachable``.
    """
    token = EnrollmentToken.parse(text)
    known = manager_of(vault)
    if known is not None and is_of(known, token):
        return known, False
    files.claim_home(vault.home, "client")
    with files.lock(os.path.join(vault.home, "locks", "fleet")):
        # 1.
        path = _place(vault, "agent.key")
        signer = keystore.load(path) or keystore.create(path)
        called = (name or socket.gethostname())[:255]
        asked = Enrollment(token.secret, called, machine.clock())
        document = jws.sign(Kind.ENROLLMENT, asked.claims(), signer.public, signer.sign, own=True)
        # 2. and 3.
        policy = policy_of(vault.home, machine)
        with FleetLine(token.url, token.key, machine.environ, now=machine.clock, policy=policy) as line:
            answer = line.enroll(document)
        # 4.
        manager = Manager(token.url, token.key, str(answer.get("computer")), called, 0)
        _keep(vault, manager)
    Teller(vault, machine, PROGRAM).tell("enrolled", url=token.url)
    return manager, True


def is_of(manager: Manager, token: EnrollmentToken) -> bool:
    """Whether a computer with this manager has enrolled already with the one that made ``token``."""
    return not manager.left and (manager.url, manager.key) == (token.url, token.key)


def check_in(vault: Vault, machine: Machine, homes: Homes, *, connect: Callable[..., Any] | None = None) -> int | None:
    """Check in until there is nothing more to do; the seconds to the next time, ``None`` for a computer that nobody manages.

    A manager that knows this computer no more (it was removed there, or this is a copy of another) is left: the key for it is
    forgotten, so that two computers never speak with one. Used numbers are passed over: an older copy of this store was put back.

    Raises: KeyturnError ``fleet_untrusted``, ``service_unreachable``, ``policy_forbids``, ``computer_unknown``,
    ``permission_denied``.
    """
    manager = manager_of(vault)
    if manager is None or manager.left:
        return None
    with files.lock(os.path.join(vault.home, "locks", "fleet")):
        signer = keystore.load(_place(vault, "agent.key"))
        if signer is None:
            raise KeyturnError("permission_denied", "this computer's key for its fleet manager cannot be read")
        policy = policy_of(vault.home, machine)
        outcomes: list[Outcome] = []
        answer: dict[str, Any] = {}
        ahead = 1
        with FleetLine(manager.url, manager.key, machine.environ, now=machine.clock, policy=policy) as line:
            for _ in range(ROUNDS):
                manager = manager._replace(number=manager.number + ahead)
                _keep(vault, manager)
                vm, products, anchors = _standing(homes, machine)
                said = CheckIn(
                    manager.number, manager.name, machine.clock(), vm, products, outcomes, fleet.identity(anchors, manager.key)
                )
                document = jws.sign(Kind.CHECK_IN, said.claims(), signer.public, signer.sign, own=True)
                try:
                    answer = line.check_in(document)
                except KeyturnError as error:
                    if error.code == "computer_unknown":
                        _keep(vault, manager._replace(left=True))
                        files.remove(_place(vault, "agent.key"))
                    if error.code != "request_superseded" or ahead >= FURTHEST:
                        raise
                    ahead *= 1000
                    continue
                ahead = 1
                work = answer.get("work")
                steps = [step for step in work if isinstance(step, dict)] if isinstance(work, list) else []
                if not steps:
                    break
                outcomes = [_taken(step, homes, machine, connect) for step in steps[: fleet.MAX_OUTCOMES]]
    asked = answer.get("check_in")
    return min(max(asked, SOONEST), LATEST) if type(asked) is int else SOONEST * 60


def _standing(homes: Homes, machine: Machine) -> tuple[str | None, list[dict[str, Any]], Mapping[str, str]]:
    """The kind of virtual machine, how each product stands, and the hardware's anchors; a product that cannot be loaded is
    told of by nobody.
    """
    found: list[dict[str, Any]] = []
    computer: Computer | None = None
    for shelf in homes.shelves()[: fleet.MAX_PRODUCTS]:
        try:
            loaded = load(shelf, machine)
            computer = machine.computer(loaded.opened.product)
        except KeyturnError:
            continue  # The agent's own turn says so in this computer's log.
        status = status_of(loaded)
        found.append({name: status[name] for name in fleet.TOLD})
    if computer is None and SYSROOT not in machine.environ:  # Without a product nobody may name another computer.
        with contextlib.suppress(KeyturnError):
            computer = machine.read()
    return (None, found, {}) if computer is None else (computer.vm_kind, found, computer.reading.anchors)


def _taken(step: Mapping[str, Any], homes: Homes, machine: Machine, connect: Callable[..., Any] | None) -> Outcome:
    """Take one step; what goes wrong is its outcome."""
    task, name, what = (str(step.get(part)) for part in ("task", "product", "step"))
    try:
        product = ProductName.parse(name)
        data = _Step(homes, machine, product, step, connect).take(what)
    except KeyturnError as error:
        return Outcome(task, name, what, error.code, error.detail[:500], error.remedy[:500], error.retry_after, {})
    return Outcome(task, name, what, None, None, None, None, data)


class _Step:
    """One step for one product. Its methods are named after the words of the wire (``core.fleet.AGENT_STEPS``)."""

    def __init__(
        self,
        homes: Homes,
        machine: Machine,
        product: ProductName,
        given: Mapping[str, Any],
        connect: Callable[..., Any] | None,
    ) -> None:
        self._homes, self._machine, self._product, self._given, self._connect = homes, machine, product, given, connect

    def take(self, what: str) -> dict[str, Any]:
        """Raises: KeyturnError: why it cannot be taken; ``request_unsupported`` for a step of a newer manager."""
        if what not in fleet.AGENT_STEPS:
            raise KeyturnError(
                "request_unsupported", f"this version knows no step {what[:20]!r}", remedy="Update Keyturn here."
            )
        found: dict[str, Any] = getattr(self, what)()
        return found

    @property
    def _shelf(self) -> Shelf:
        return self._homes.find(self._product)

    def install(self) -> dict[str, Any]:
        """Add the product if it is not there, and install the key unless it is the one that is there."""
        container = self._given.get("container")
        if isinstance(container, dict):
            actions.add_product(self._homes.find, jws.dumps(container), self._machine, expected=self._product)
        actions.install_key(self._shelf, str(self._given.get("key")), self._machine)
        return {}

    def request(self) -> dict[str, Any]:
        """Make the request; its hardware baseline goes to the fleet manager too, for the day when this computer is
        set up anew.
        """
        shelf = self._shelf
        rebind = self._given.get("rebind")
        shelf.keep_rebinder(rebind if isinstance(rebind, str) else None)
        self._agreed(shelf)
        token, loaded = actions.make_request(shelf, self._machine)
        waiting = shelf.pending()
        assert waiting is not None
        shelf.keep_sent("request, by the fleet manager", token.encode(), b"", loaded.now)
        return {"request": token, "vector": waiting.vector, "salt": base64.b64encode(waiting.salt).decode()}

    def accept(self) -> dict[str, Any]:
        """Take the service's answer, which the manager brought."""
        answer = self._given.get("answer")
        if not isinstance(answer, dict):
            raise KeyturnError("answer_unexpected", "the fleet manager brought no answer")
        loaded = accepting.accept_answer(self._shelf, self._machine, answer, via="fleet")
        self._shelf.keep_sent("answer, by the fleet manager", b"", jws.dumps(answer), loaded.now)
        return {}

    def rebind(self) -> dict[str, Any]:
        """Take the activation that an earlier installation on this hardware had."""
        given = self._given.get("rebinding")
        if not isinstance(given, dict):
            raise KeyturnError("answer_unexpected", "the fleet manager brought no rebinding")
        accepting.accept_rebinding(self._shelf, self._machine, given)
        return {}

    def online(self) -> dict[str, Any]:
        """Activate over this computer's own connection."""
        return self._activated(None)

    def host(self) -> dict[str, Any]:
        """Activate at an activation host: the one that is named, or one that is found."""
        named = self._given.get("host")
        if isinstance(named, str):
            self._shelf.keep_host(str(hosts.parse(named)))
        return self._activated(None)

    def telephone(self) -> dict[str, Any]:
        """Make the installation ID, or show again the one that waits; a copy that is licensed has none to show.

        What verifies the answer is there before anybody reads anything out.
        """
        from keyturn.client import telephone  # With the curve: only for those who need it.
        from keyturn.edge import bls

        shelf = self._shelf
        if not needs_activation(load(shelf, self._machine)):
            return {}
        made, _ = telephone.make_id(shelf, self._machine)
        bls.is_key(b"")
        return {"installation_id": made.text}

    def confirm(self) -> dict[str, Any]:
        """Verify the confirmation ID that a person typed at the manager, and keep it.

        The manager's trust bundles come with it: the key that signed may be newer than what is known here.
        """
        from keyturn.client import telephone

        container = self._given.get("container")
        if isinstance(container, dict):
            actions.add_product(self._homes.find, jws.dumps(container), self._machine, expected=self._product)
        telephone.confirm(self._shelf, self._machine, str(self._given.get("confirmation_id")))
        return {}

    def release(self) -> dict[str, Any]:
        """Sign the document that gives the seat back."""
        return {"release": actions.make_release(self._shelf, self._machine)}

    def released(self) -> dict[str, Any]:
        """The service has taken the seat back, or said that it knows of none."""
        answer, refused = self._given.get("answer"), self._given.get("refused")
        outcome: dict[str, Any] | Refused = answer if isinstance(answer, dict) else Refused(str(refused), str(refused))
        said = actions.finish_release(self._shelf, outcome)
        if said is not None and said.code != "release_unknown":
            raise said.as_error()
        return {}

    def refresh(self) -> dict[str, Any]:
        """Take newer trust bundles and the revocation list, if the manager has them; the next check-in says how it stands."""
        bundles, revocations = self._given.get("bundles"), self._given.get("revocations")
        if isinstance(bundles, list) and isinstance(revocations, str):
            accepting.accept_revocations(self._shelf, self._machine, revocations, [str(text) for text in bundles])
        return {}

    def rearm(self) -> dict[str, Any]:
        """Begin the grace period anew."""
        outcome = actions.rearm(self._shelf, self._machine)
        if isinstance(outcome, Refused):
            raise outcome.as_error()
        return {}

    def _activated(self, host: str | None) -> dict[str, Any]:
        from keyturn.client.lines import Talk

        shelf = self._shelf
        self._agreed(shelf)
        token, loaded = actions.make_request(shelf, self._machine)
        with Talk(shelf, loaded, self._machine, program=PROGRAM, connect=self._connect, host=host) as talk:
            outcome = talk.activate(token)
        if isinstance(outcome, Refused):
            raise outcome.as_error()
        return {}

    def _agreed(self, shelf: Shelf) -> None:
        if not shelf.consented():
            shelf.keep_consent(self._machine.clock(), "fleet")


def _place(vault: Vault, name: str) -> str:
    return os.path.join(vault.home, "fleet", name)


def _keep(vault: Vault, manager: Manager) -> None:
    files.write_json(_place(vault, "manager.json"), {"v": 1, **manager._asdict()}, files.PRIVATE)
