"""What a person or a program does with a product: add it, install its key, activate it, give the seat back.

Each procedure is numbered. Every step that must not be lost is durable before the next one begins, so a crash
anywhere leaves a store that the same command finishes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from keyturn import __version__
from keyturn.client.accepting import accept_answer, take_identity, told
from keyturn.client.loading import Loaded, load
from keyturn.client.machine import Machine, store_lasts
from keyturn.client.policies import policy_of
from keyturn.client.record import begun, installation, keep_record
from keyturn.client.telling import Teller
from keyturn.core import containers, documents, hardware, jws, license, productkey, trust
from keyturn.core.containers import Opened
from keyturn.core.documents import UNAVAILABLE, Record, Release, Request
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.jws import Kind
from keyturn.core.model import ProductName, State, b64u, product_id
from keyturn.core.terms import Terms
from keyturn.edge import keystore
from keyturn.edge.keystore import Signer
from keyturn.edge.vault import InstalledKey, Pending, Shelf

Send = Callable[[str], "dict[str, Any] | Refused"]


def add_product(
    find: Callable[[ProductName], Shelf], data: bytes, machine: Machine, *, expected: ProductName | None = None
) -> Shelf:
    """Verify a product file and keep it; its first day is the first day of grace.

    1. The file verifies; with ``expected`` it must be that very product.
    2. A file older than the newest seen is ignored; its trust bundles must be the same history.
    3. The installation's GUID and key pair are made, once.
    4. The local record begins.

    Raises: KeyturnError why the file does not verify, ``publisher_mismatch``, ``test_only``, ``permission_denied``.
    """
    # 1.
    opened = containers.open_product(containers.expect(data, "product"), None if expected is None else expected.thumbprint)
    if opened.chain.doubt(opened.document, Kind.PRODUCT) is not None:
        raise KeyturnError("issuer_revoked", "the product file is signed by a key that its publisher revoked")
    name = opened.product.name
    if expected is not None and name != expected:
        raise KeyturnError("publisher_mismatch", f"the file is for {name}, not for {expected}")
    now = machine.now(opened.product)
    shelf = find(name)
    stored, keep = _newest(shelf, opened)
    if keep == stored and shelf.whole() and (shelf.records() or not shelf.vault.writable):
        return shelf  # Nothing new: an account that may only read needs no more.
    new = stored is None
    with shelf.locked():
        # 2.
        stored, keep = _newest(shelf, opened)
        if keep != stored:
            shelf.keep_product(keep)
        # 3.
        signer = installation(shelf, machine)
        # 4.
        if not shelf.records():
            guid, _ = shelf.installation() or ("", b"")
            keep_record(shelf, begun(opened.product, guid, now), signer)
    if new:
        Teller(shelf.vault, machine).tell("product_added", product=name)
        told(shelf, machine)
    return shelf


def _newest(shelf: Shelf, opened: Opened) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """What is stored of the product of ``opened``, if it verifies, and what should be: the newest seen, with all bundles."""
    name = opened.product.name
    try:
        stored = shelf.product()
        known = None if stored is None else containers.open_product(stored, name.thumbprint)
    except KeyturnError as error:
        if error.code == "permission_denied":
            raise
        known = None  # Damaged is as good as absent: the file at hand takes its place.
    if known is None or known.product.name != name:
        return None, opened.container()
    chain = trust.longer(known.chain.texts, opened.chain.texts, name.thumbprint)
    newer = opened if opened.product.version >= known.product.version else known
    return stored, Opened(newer.product, chain, newer.document).container()


def install_key(shelf: Shelf, text: str, machine: Machine) -> InstalledKey:
    """Check a product key and keep what is needed of it: its public part, and K for this product.

    The key itself is not kept. A mistyped key changes nothing. Raises: KeyturnError ``key_malformed``,
    ``key_mistyped``, ``product_missing``, ``permission_denied``.
    """
    key = productkey.parse(text)
    loaded = load(shelf, machine)
    name = loaded.name
    installed = InstalledKey(product_id(name.slug, key.channel, key.serial), key.serial, key.channel.value, key.partial)
    with shelf.locked():
        shelf.keep_key(installed, productkey.derive(key, name))
    Teller(shelf.vault, machine).tell("key_installed", product=name, product_id=installed.product_id)
    return installed


def make_request(
    shelf: Shelf, machine: Machine, *, allow_ephemeral: bool = False, product_version: str | None = None
) -> tuple[str, Loaded]:
    """Make, sign and keep the request that ``activate`` will send, or find the one that was made and still fits.

    1. The product, its installed key and the installation's private key.
    2. What this computer knows of itself; what it does not know is said with the reason.
    3. The same request again, if one is waiting and nothing in it has changed but nonce and time.
    4. Signed, and durable before anybody sees it.

    What the organization's policy withholds is not in it, and that is said in its place.
    Raises: KeyturnError ``key_missing``, ``permission_denied``, ``product_missing``, ``policy_malformed``.
    """
    # 1.
    withheld = policy_of(shelf.vault.home, machine).withhold
    loaded = load(shelf, machine)
    if loaded.key is None:
        raise KeyturnError("key_missing", f"no product key is installed for {loaded.opened.product.title}")
    demand_writable(shelf)
    secret = shelf.key_secret()
    with shelf.locked():
        signer = installation(shelf, machine)
        loaded = load(shelf, machine)
        assert loaded.key is not None and loaded.guid is not None
        # 2.
        product = loaded.opened.product
        computer = machine.computer(product, facts=True)
        pairs = hardware.pairs(computer.reading.anchors, product.name)
        vector = hardware.vector(computer.reading, product.name)
        salt = machine.chance(16)
        nonce = b64u(machine.chance(16))
        weak = hardware.evidence(pairs) == "weak"
        request = Request(
            product=product.name, product_id=loaded.key.product_id, serial=loaded.key.serial,
            key_proof=productkey.proof(secret, product.name, loaded.key.serial, signer.kid, nonce),
            installation=loaded.guid, nonce=nonce, made_at=loaded.now, scheme=hardware.SCHEME, pairs=pairs,
            tags=hardware.component_tags(computer.reading, product.name),
            commitment=hardware.commitment(vector, salt),
            facts=_facts(computer.facts, computer.unreadable, loaded.record, product_version, withheld),
            state=int(loaded.standing.state), previous=None if loaded.held is None else jws.digest(loaded.held.certificate),
            activation=None if loaded.certificate is None else loaded.certificate.activation or None,
            vm=computer.vm_kind, container=computer.container,
            ephemeral=weak and not store_lasts(shelf.path), allow_ephemeral=allow_ephemeral,
            bundle=loaded.opened.chain.newest.number, rebind=shelf.rebinder(),
        )  # fmt: skip
        # 3.
        waiting = shelf.pending()
        if waiting is not None and _still_fits(waiting, request, vector, signer):
            return waiting.request, loaded
        # 4.
        token = jws.sign(Kind.REQUEST, request.claims(), signer.public, signer.sign, own=True)
        shelf.keep_pending(Pending(token, vector, salt))
    return token, loaded


def activate(shelf: Shelf, machine: Machine, token: str, send: Send) -> Loaded | Refused:
    """Send the request ``token`` and keep the answer. A request that has had its day is made anew, once.

    Raises: KeyturnError as ``send`` and :func:`accept_answer` do.
    """
    outcome = send(token)
    if isinstance(outcome, Refused) and outcome.code == "request_superseded":
        with shelf.locked():
            waiting = shelf.pending()
            if waiting is not None and waiting.request == token:  # Another process may have made another already.
                shelf.remove_pending()
        old = documents.read_request(token)[0]
        version = old.facts.get("product_version")
        token, _ = make_request(
            shelf, machine, allow_ephemeral=old.allow_ephemeral, product_version=version if isinstance(version, str) else None
        )
        outcome = send(token)
    if isinstance(outcome, Refused):
        return outcome
    if "identity" not in outcome:
        return accept_answer(shelf, machine, outcome, via="online" if "host" not in outcome else "host")
    take_identity(shelf, machine, outcome)
    token, _ = make_request(shelf, machine)
    again = send(token)
    return again if isinstance(again, Refused) else accept_answer(shelf, machine, again, via="host")


def make_release(shelf: Shelf, machine: Machine) -> str:
    """Sign the document that gives the seat back, durable before anything is deleted; made once, found again after.

    From here on this copy is not licensed: the release is its certificate's revocation.
    Raises: KeyturnError ``release_unknown`` if no seat is held, ``permission_denied``.
    """
    with shelf.locked():
        loaded = load(shelf, machine)
        waiting = shelf.release()
        if waiting is not None and loaded.certificate is None:
            return waiting  # One beside a certificate that holds was left over by an earlier activation.
        if loaded.certificate is not None and loaded.held is None:
            raise KeyturnError(
                "usage", "a seat that was taken by telephone has no name here yet, so it cannot be returned",
                remedy="Make it a certificate first, which costs nothing: `keyturn activate --via online`, or by a file. Or ask"
                " the publisher's staff to take it back.",
            )  # fmt: skip
        if loaded.certificate is None or loaded.held is None:
            raise KeyturnError("release_unknown", f"{loaded.opened.product.title} holds no seat on this computer")
        if loaded.held.host is not None:
            raise KeyturnError(
                "usage", "a lease of an activation host is not returned: it ends by itself",
                remedy="Remove the key (`keyturn remove-key`); the host counts this computer out after 30 days.",
            )  # fmt: skip
        signer = keystore.load(shelf.installation_key)
        if signer is None or loaded.public != signer.public:
            raise KeyturnError(
                "permission_denied", "the installation's key cannot be read by this account",
                remedy="Repeat it with the rights of the store's owner (sudo).",
            )  # fmt: skip
        certificate = loaded.certificate
        release = Release(
            loaded.name, certificate.serial, certificate.activation, certificate.installation,
            jws.digest(loaded.held.certificate), loaded.now,
        )  # fmt: skip
        token = jws.sign(Kind.RELEASE, release.claims(), signer.public, signer.sign, own=True)
        shelf.keep_release(token)
    return token


def finish_release(shelf: Shelf, outcome: Mapping[str, Any] | Refused) -> Refused | None:
    """Carry out what the service said of a release: the seat is free and the certificate goes, or nothing changes.

    The release itself stays, until the next activation: ``status`` says that the seat was returned.
    """
    with shelf.locked():
        if isinstance(outcome, Refused) and outcome.code != "release_unknown":
            shelf.remove_release()  # The service kept the seat, so the copy is licensed as before.
            return outcome
        shelf.remove_held()
        shelf.remove_pending()
    return outcome if isinstance(outcome, Refused) else None


def rearm(shelf: Shelf, machine: Machine) -> Loaded | Refused:
    """Begin the grace period anew, as often as the product's terms allow.

    1. Only where a grace runs or ran out, and by whoever holds the installation's key.
    2. The count is in the signed record; nothing is sent.

    Raises: KeyturnError ``usage`` for a licensed copy, ``permission_denied``.
    """
    with shelf.locked():
        # 1.
        loaded = load(shelf, machine)
        if loaded.standing.state is State.LICENSED:
            raise KeyturnError(
                "usage", f"{loaded.opened.product.title} is licensed: no grace runs", remedy="There is nothing to do."
            )
        signer = installation(shelf, machine)
        record = loaded.record or begun(loaded.opened.product, loaded.guid or "", loaded.now)
        # 2.
        allowed = Terms.read(loaded.opened.product.terms).rearms
        if record.rearms >= allowed:
            return Refused("rearm_limit_reached", f"the grace period was begun anew {record.rearms} of {allowed} times")
        now = license.effective_time(loaded.now, record)
        anew = record._replace(grace_from=now, high_water=now, changed_at=None, rearms=record.rearms + 1, seen=loaded.now)
        keep_record(shelf, anew, signer)
    Teller(shelf.vault, machine).tell("rearmed", product=loaded.name, used=record.rearms + 1, allowed=allowed)
    return told(shelf, machine)


def report_installation(shelf: Shelf, machine: Machine, outcome: str) -> None:
    """Keep the outcome of an installation; the next request says it. Raises: ``permission_denied``."""
    with shelf.locked():
        loaded = load(shelf, machine)
        signer = installation(shelf, machine)
        record = loaded.record or begun(loaded.opened.product, loaded.guid or "", loaded.now)
        keep_record(shelf, record._replace(installation_outcome=outcome[:80]), signer)


def demand_writable(shelf: Shelf) -> None:
    """Raises: KeyturnError ``permission_denied`` for another account's store."""
    if not shelf.vault.writable:
        raise KeyturnError(
            "permission_denied", f"{shelf.path} belongs to another account",
            remedy="Repeat it as root (sudo), or keep a license of your own with --scope user.",
        )  # fmt: skip


def _facts(
    known: Mapping[str, object], unreadable: Mapping[str, str], record: Record | None, product_version: str | None,
    withheld: Collection[str],
) -> dict[str, Any]:
    values: dict[str, object] = {**known, "client_version": __version__}
    reasons = {
        **unreadable, "product_version": "the product did not say", "installation_outcome": "no installation was reported",
        "validation_result": "no validation was performed",
    }  # fmt: skip
    if product_version is not None:
        values["product_version"] = product_version
    if record is not None and record.installation_outcome is not None:
        values["installation_outcome"] = record.installation_outcome
    for name in withheld:
        values.pop(name, None)
        reasons[name] = "withheld by the organization's policy"
    return {
        name: str(values[name])[:200] if name in values else {UNAVAILABLE: reasons.get(name, "not known")[:150]}
        for name in documents.FACTS
    }


def _still_fits(waiting: Pending, wanted: Request, vector: Mapping[str, str], signer: Signer) -> bool:
    """Whether a waiting request says the same as the one wanted now, but for its nonce and what follows from it."""
    try:
        old, verified = documents.read_request(waiting.request)
    except KeyturnError:
        return False
    like = wanted._replace(nonce=old.nonce, made_at=old.made_at, key_proof=old.key_proof, commitment=old.commitment)
    return verified.kid == signer.kid and old == like and dict(waiting.vector) == dict(vector)


