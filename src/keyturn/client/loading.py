"""Load what is stored of one product, verify all of it, and decide where the copy stands.

Nothing stored is believed: every load verifies the product file, the certificate's whole chain, the local record and
the hardware, now. Whatever does not verify is as if it were absent, and the reason is said.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from keyturn.client.machine import Machine
from keyturn.core import containers, hardware, jws, license
from keyturn.core.containers import Opened
from keyturn.core.documents import Certificate, Record, Release
from keyturn.core.errors import KeyturnError
from keyturn.core.hardware import Tolerance
from keyturn.core.jws import Kind
from keyturn.core.license import Held, Standing
from keyturn.core.model import ProductName, State, b64u, rfc3339
from keyturn.core.revocations import Revocations, Withdrawn, read_revocations
from keyturn.core.terms import Terms
from keyturn.core.trust import Revocation
from keyturn.edge import keystore
from keyturn.edge.vault import InstalledKey, Shelf


class Loaded(NamedTuple):
    """One product as it stands on this computer, now (``now`` is the clock, NumericDate)."""

    shelf: Shelf
    opened: Opened
    now: int
    key: InstalledKey | None
    guid: str | None
    public: bytes | None
    possession: str
    record: Record | None
    held: Held | None
    certificate: Certificate | None
    tolerance: Tolerance | None
    doubtful: Revocation | None
    standing: Standing
    via: str | None
    why_not: str | None
    extended: bool = False
    revocations: Revocations | None = None
    withdrawn: Withdrawn | None = None

    @property
    def name(self) -> ProductName:
        return self.opened.product.name

    @property
    def leased(self) -> bool:
        """Whether the certificate is a lease of an activation host."""
        return self.certificate is not None and self.held is not None and self.held.host is not None


def load(shelf: Shelf, machine: Machine, *, pin: ProductName | None = None, at_hand: bytes | None = None) -> Loaded:
    """Load one product. ``at_hand`` is its product file, for a store that has none and cannot be written.

    1. The product file and its publisher's chain; with ``pin`` it must be that very product.
    2. The installation's key: whether this account can prove to hold it, itself or through the agent.
    3. The local record, or its mirror, whichever verifies and knows the later time.
    4. The certificate, unless a release says that the seat was given back.
    5. The hardware, compared with the certificate's baseline.
    6. The decision (``license.decide``).

    Raises: KeyturnError ``product_missing``, ``test_only``, or why the product file does not verify.
    """
    # 1.
    container = shelf.product() if at_hand is None else containers.expect(at_hand, "product")
    if container is None:
        raise KeyturnError("product_missing", f"no product is added in {shelf.vault.home}")
    opened = containers.open_product(container, None if pin is None else pin.thumbprint)
    product = opened.product
    if pin is not None and product.name != pin:
        raise KeyturnError("publisher_mismatch", f"the stored product file is for {product.name}, not for {pin}")
    now = machine.now(product)
    # 2.
    guid, public, possession = _installation(shelf, machine, product.name)
    # 3.
    record = None if public is None else _record(shelf, product.name, public)
    # 4.
    key = _key(shelf)
    held, certificate, why_not, vector, doubtful = _license(shelf, opened, public, key, guid)
    # 5.
    tolerance = None
    if certificate is not None:
        reading = machine.computer(product).reading
        tolerance = hardware.same(vector, hardware.vector(reading, product.name))
    # 6.
    listed = _revocations(shelf, opened)
    withdrawn = None if listed is None or certificate is None else listed.withdrawn(certificate)
    extended = Terms.read(product.terms).extended_days > 0 and _asks_for_more(shelf, machine)
    standing = license.decide(
        product=product, record=record, certificate=certificate, why_not=why_not, tolerance=tolerance, clock=now,
        doubtful=doubtful,
        noted=certificate is None or possession == "proven" or keystore.of_another(shelf.installation_key),
        extended=extended, withdrawn=withdrawn,
    )  # fmt: skip
    return Loaded(
        shelf, opened, now, key, guid, public, possession, record, held, certificate, tolerance, doubtful, standing,
        shelf.via() if certificate is not None else None, why_not, extended, listed, withdrawn,
    )  # fmt: skip


def again(loaded: Loaded, machine: Machine, *, noted: bool | None = None) -> Loaded:
    """Decide anew, at the present time, on what was verified before: for a store whose bytes are the same.

    A program asks ``require()`` often; verifying the same bytes again would give the same. The hardware is read once per
    process (``Machine``), and the clock is read each time. ``noted`` says whether the beginning of a grace could be
    noted, where that was tried.
    """
    now = machine.now(loaded.opened.product)
    if noted is None:
        noted = loaded.certificate is None or loaded.possession == "proven" or noted_by_another(loaded)
    standing = license.decide(
        product=loaded.opened.product, record=loaded.record, certificate=loaded.certificate, why_not=loaded.why_not,
        tolerance=loaded.tolerance, clock=now, noted=noted, doubtful=loaded.doubtful, extended=loaded.extended,
        withdrawn=loaded.withdrawn,
    )  # fmt: skip
    return loaded._replace(now=now, standing=standing)


def needs_activation(loaded: Loaded) -> bool:
    """Whether ``activate`` has anything to do: not licensed, renewal or re-issue due, or another key than the certificate's."""
    if loaded.standing.state is not State.LICENSED or loaded.certificate is None or loaded.doubtful is not None:
        return True
    due = loaded.standing.renew_at is not None and license.effective_time(loaded.now, loaded.record) >= loaded.standing.renew_at
    return due or (loaded.key is not None and loaded.key.serial != loaded.certificate.serial)


def noted_by_another(loaded: Loaded) -> bool:
    """Whether the store is another account's, which notes what this one cannot."""
    return keystore.of_another(loaded.shelf.installation_key)


def status_of(loaded: Loaded) -> dict[str, Any]:
    """One entry of ``status --json`` (design: commands)."""
    standing, certificate, product = loaded.standing, loaded.certificate, loaded.opened.product
    now = license.effective_time(loaded.now, loaded.record)
    return {
        "product": str(product.name),
        "name": product.title,
        "edition": certificate.edition if certificate else None,
        "features": list(certificate.features) if certificate else [],
        "product_id": loaded.key.product_id if loaded.key else certificate.product_id if certificate else None,
        "partial_key": loaded.key.partial if loaded.key else None,
        "installation_guid": loaded.guid,
        "activation_id": certificate.activation or None if certificate else None,
        "channel": certificate.channel.value if certificate else loaded.key.channel if loaded.key else None,
        "via": loaded.via,
        "scope": loaded.shelf.vault.scope,
        "state": standing.state.word,
        "state_code": int(standing.state),
        "usable": standing.usable,
        "evidence": certificate.evidence if certificate else None,
        "possession": loaded.possession,
        "activated_at": rfc3339(certificate.activated_at) if certificate else None,
        "valid_until": rfc3339(standing.valid_until),
        "grace_until": rfc3339(standing.grace_until),
        "renew_at": rfc3339(standing.renew_at),
        "days_left": standing.days_left(now),
        "issuer": certificate.publisher if certificate else product.publisher,
        "reason": standing.reason,
        "changed": list(standing.changed),
        "remedy": standing.remedy,
        "next_command": standing.next_command,
        "test": product.name.test,
        "policy": None,
    }


def damaged_status(shelf: Shelf, error: KeyturnError) -> dict[str, Any]:
    """The entry of a product whose file does not verify: not licensed, and why."""
    empty: Mapping[str, Any] = dict.fromkeys((
        "edition", "product_id", "partial_key", "installation_guid", "activation_id", "channel", "via", "evidence",
        "activated_at", "valid_until", "grace_until", "renew_at", "days_left", "issuer",
    ))  # fmt: skip
    return {
        **empty, "product": None, "name": shelf.name, "features": [], "scope": shelf.vault.scope,
        "state": State.UNLICENSED.word, "state_code": int(State.UNLICENSED), "usable": False, "possession": "unproven",
        "reason": error.code, "changed": [], "remedy": error.remedy, "next_command": "keyturn product add FILE",
        "test": False, "policy": None,
    }  # fmt: skip


def _asks_for_more(shelf: Shelf, machine: Machine) -> bool:
    """Whether the organization's policy asks for the extended grace; one that is not understood asks for nothing."""
    from keyturn.client.policies import policy_of

    try:
        return policy_of(shelf.vault.home, machine).extended_grace
    except KeyturnError:
        return False


def _installation(shelf: Shelf, machine: Machine, name: ProductName) -> tuple[str | None, bytes | None, str]:
    try:
        stored = shelf.installation()
    except KeyturnError:
        stored = None  # Damaged is as good as absent here: the next activation makes another.
    try:
        signer = keystore.load(shelf.installation_key)
    except KeyturnError:
        signer = None
    if stored is None:
        return None, None, "unproven"
    held = signer is not None and signer.public == stored[1]
    proven = held or (signer is None and _agent_holds(shelf, machine, name, stored[1]))
    return stored[0], stored[1], "proven" if proven else "unproven"


def _agent_holds(shelf: Shelf, machine: Machine, name: ProductName, public: bytes) -> bool:
    """Whether the agent of this store proves to hold the installation's key, which this account cannot read."""
    if sys.platform == "win32" or shelf.vault.agent is None or not os.path.exists(shelf.vault.agent):
        return False
    from keyturn.core.capability import Question, check_possession
    from keyturn.edge import agent_socket

    question = Question("prove", name, b64u(machine.chance(16)))
    try:
        answer = agent_socket.ask(shelf.vault.agent, question)
        check_possession(str(answer.get("possession")), question, os.geteuid(), public)
    except KeyturnError:
        return False  # Unproven is what it was without an agent, and it is said.
    return True


def _record(shelf: Shelf, name: ProductName, public: bytes) -> Record | None:
    found = []
    for token in shelf.records():
        try:
            verified = jws.verify(token, Kind.RECORD, lambda kid: public if kid == jws.thumbprint(public) else None)
            record = Record.read(verified.claims())
        except KeyturnError:
            continue  # A changed record counts as deleted: no more than a fresh installation has.
        if record.product == name:
            found.append(record)
    return max(found, key=lambda record: record.high_water) if found else None


def _revocations(shelf: Shelf, opened: Opened) -> Revocations | None:
    """The newest list that verifies; a changed one counts as deleted."""
    found = []
    for token in shelf.revocations():
        with suppress(KeyturnError):
            found.append(read_revocations(token, opened.product.name, opened.chain))
    return max(found, key=lambda one: one.number, default=None)


class _Stored(NamedTuple):
    """The license that is stored: with ``certificate`` it holds, by ``vector``'s hardware; without it ``why_not`` says why."""

    held: Held | None
    certificate: Certificate | None
    why_not: str | None
    vector: Mapping[str, str] = {}
    doubtful: Revocation | None = None


def _license(
    shelf: Shelf, opened: Opened, public: bytes | None, key: InstalledKey | None, guid: str | None
) -> _Stored:
    try:
        held = shelf.held()
        released = shelf.release()
        if held is None:
            confirmed = _confirmed(shelf, opened, public, key, guid)
            return confirmed or _Stored(None, None, "released" if released is not None else None)
        if public is None:
            return _Stored(held, None, "document_foreign")
        certificate = license.check_certificate(held, opened.product, opened.chain, jws.thumbprint(public))
        if released is not None:
            release = Release.read(jws.verify_own(released, Kind.RELEASE).claims())
            if release.activation == certificate.activation:
                return _Stored(held, None, "released")
    except KeyturnError as error:
        return _Stored(None, None, error.code)
    return _Stored(held, certificate, None, held.vector, license.doubt(held, opened.document, opened.chain))


def _confirmed(
    shelf: Shelf, opened: Opened, public: bytes | None, key: InstalledKey | None, guid: str | None
) -> _Stored | None:
    """The license that a call left behind, if there is one. What verifies it is imported for those who have one."""
    if shelf.via() != "telephone":
        return None
    if public is None or guid is None:
        return _Stored(None, None, "document_foreign")
    from keyturn.client import telephone

    found = telephone.read(shelf, opened, key, guid, public)
    if found is None:
        return None
    certificate, revoked, vector = found
    return _Stored(None, certificate, None, vector, revoked or opened.chain.doubt(opened.document, Kind.PRODUCT))


def _key(shelf: Shelf) -> InstalledKey | None:
    try:
        return shelf.key()
    except KeyturnError:
        return None  # Said by the verbs that need it; a license does not.
