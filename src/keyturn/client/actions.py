"""What a person or a program does with a product: add it, install its key, activate it, give the seat back.

Each procedure is numbered. Every step that must not be lost is durable before the next one begins, so a crash
anywhere leaves a store that the same command finishes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from keyturn import __version__
from keyturn.client.loading import Loaded, load
from keyturn.client.machine import Machine, store_lasts
from keyturn.client.policies import policy_of
from keyturn.client.record import begun, installation, keep_record
from keyturn.client.telling import Teller
from keyturn.core import containers, documents, hardware, hosting, jws, license, productkey, trust
from keyturn.core.containers import Opened
from keyturn.core.documents import UNAVAILABLE, Record, Release, Request
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.jws import Kind
from keyturn.core.license import Held
from keyturn.core.model import ProductName, State, b64u, product_id
from keyturn.core.revocations import read_revocations
from keyturn.core.terms import Terms
from keyturn.core.trust import Inclusion
from keyturn.edge import files, keystore
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
        _told(shelf, machine)
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
    if not shelf.vault.writable:
        raise KeyturnError(
            "permission_denied", f"{shelf.path} belongs to another account",
            remedy="Repeat it as root (sudo), or keep a license of your own with --scope user.",
        )  # fmt: skip
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
            activation=None if loaded.certificate is None else loaded.certificate.activation,
            vm=computer.vm_kind, container=computer.container,
            ephemeral=weak and not store_lasts(shelf.path), allow_ephemeral=allow_ephemeral,
            bundle=loaded.opened.chain.newest.number,
        )  # fmt: skip
        # 3.
        waiting = shelf.pending()
        if waiting is not None and _still_fits(waiting, request, vector, signer):
            return waiting.request, loaded
        # 4.
        token = jws.sign(Kind.REQUEST, request.claims(), signer.public, signer.sign, own=True)
        shelf.keep_pending(Pending(token, vector, salt))
    return token, loaded


def needs_activation(loaded: Loaded) -> bool:
    """Whether ``activate`` has anything to do: not licensed, renewal or re-issue due, or another key than the certificate's."""
    if loaded.standing.state is not State.LICENSED or loaded.certificate is None or loaded.doubtful is not None:
        return True
    due = loaded.standing.renew_at is not None and license.effective_time(loaded.now, loaded.record) >= loaded.standing.renew_at
    return due or (loaded.key is not None and loaded.key.serial != loaded.certificate.serial)


def accept_answer(shelf: Shelf, machine: Machine, answer: Mapping[str, Any], *, via: str = "online") -> Loaded:
    """Verify the answer to the waiting request and keep both.

    1. There is a request that waits, and this answers it; if another process was faster, nothing is left to do.
    2. Bundles beside the answer continue the chain that is known; a newer product file comes with bundles that need it.
    3. The certificate verifies, for this product, installation, request and baseline, and its signer is not revoked.
    4. Bundles, then certificate with request and baseline, durable; only then are request and release forgotten.
    5. The signed time, bound to our own nonce, replaces the newest time seen, downwards too.

    Raises: KeyturnError ``document_foreign``, ``answer_unexpected``, or why the certificate does not verify.
    """
    with shelf.locked():
        loaded = load(shelf, machine)
        # 1.
        host = answer.get("host")
        token, bundles = answer.get("certificate" if host is None else "lease"), answer.get("bundles", [])
        if not isinstance(token, str) or not isinstance(bundles, list) or not all(isinstance(b, str) for b in bundles):
            raise KeyturnError("answer_unexpected", "the answer holds no certificate")
        waiting = shelf.pending()
        if not needs_activation(loaded) and (waiting is None or not _answers(token, waiting)):
            return loaded
        if waiting is None or loaded.public is None:
            raise KeyturnError(
                "document_foreign", "no request waits for an answer here",
                remedy="Make one: `keyturn activate`, or `keyturn export request`.",
            )  # fmt: skip
        # 2.
        chain = trust.longer(loaded.opened.chain.texts, bundles, loaded.name.thumbprint)
        opened = containers.renewed(loaded.opened, chain, answer.get("product"))
        # 3.
        held = Held(token, waiting.request, waiting.vector, waiting.salt, host=None if host is None else str(host))
        certificate = license.check_certificate(held, opened.product, chain, jws.thumbprint(loaded.public))
        if license.doubt(held, opened.document, chain) is not None:
            raise KeyturnError("issuer_revoked", "the answer is signed by a key that its publisher revoked")
        # 4.
        if opened != loaded.opened:
            shelf.keep_product(opened.container())
        shelf.keep_held(held, via, answer.get("renew_after"))
        shelf.remove_pending()
        shelf.remove_release()
        # 5.
        signer = installation(shelf, machine)
        record = loaded.record or begun(opened.product, loaded.guid or "", loaded.now)
        keep_record(shelf, record._replace(high_water=certificate.issued_at, changed_at=None, seen=loaded.now), signer)
    return _told(shelf, machine)


def accept_trust(
    shelf: Shelf, machine: Machine, bundles: Sequence[str], proofs: Mapping[str, Any], products: Sequence[object] = ()
) -> Loaded:
    """Take newer trust bundles, and the proof of this installation's certificate if one is among ``proofs`` (by digest).

    ``products`` are product files that come with them; this product's is taken.

    1. The bundles continue the chain that is known: never back, never another history.
    2. A proof is kept if it leads to the root that its signer's revocation carries.
    3. The proof first, then the bundles: a certificate is never doubtful for want of a proof that came with the doubt.

    Raises: KeyturnError ``trust_invalid``, ``signature_invalid``, ``document_malformed``, ``permission_denied``.
    """
    with shelf.locked():
        loaded = load(shelf, machine)
        # 1.
        chain = trust.longer(loaded.opened.chain.texts, bundles, loaded.name.thumbprint)
        # 2. and 3.
        held = loaded.held
        found = None if held is None else proofs.get(jws.digest(held.certificate))
        if held is not None and found is not None:
            proof = Inclusion.read(found)
            if chain.doubt(held.certificate, Kind.CERTIFICATE) and not chain.doubt(held.certificate, Kind.CERTIFICATE, proof):
                shelf.keep_held(held._replace(proof=proof), shelf.via() or "file", shelf.renew_after())
        opened = loaded.opened
        for product in products or (None,):
            opened = containers.renewed(opened, chain, product)
        if opened != loaded.opened:
            shelf.keep_product(opened.container())
    return load(shelf, machine)


def accept_revocations(shelf: Shelf, machine: Machine, token: str, bundles: Sequence[str]) -> Loaded:
    """Take a revocation list.

    1. The bundles beside it continue the chain that is known.
    2. It verifies, and its number is not lower than that of the list that is known.

    Raises: KeyturnError as ``read_revocations``, ``trust_invalid``, ``document_expired``, ``permission_denied``.
    """
    with shelf.locked():
        loaded = load(shelf, machine)
        # 1.
        chain = trust.longer(loaded.opened.chain.texts, bundles, loaded.name.thumbprint)
        opened = containers.renewed(loaded.opened, chain, None)
        # 2.
        offered, known = read_revocations(token, loaded.name, chain), loaded.revocations
        if known is not None and offered.number < known.number:
            raise KeyturnError("document_expired", f"revocation list {offered.number} is older than {known.number}, known here")
        if opened != loaded.opened:
            shelf.keep_product(opened.container())
        if known is None or offered.number > known.number or not all(copy == token for copy in shelf.revocations()):
            shelf.keep_revocations(token)
    return _told(shelf, machine)


def _told(shelf: Shelf, machine: Machine) -> Loaded:
    """Where the copy stands now; the log is told if that is news."""
    loaded = load(shelf, machine)
    Teller(shelf.vault, machine).tell_state(loaded)
    return loaded


def _answers(token: str, waiting: Pending) -> bool:
    """Whether a certificate says, unverified, that it answers this request."""
    with suppress(KeyturnError, ValueError):
        return jws.loads(jws.payload_of(token)).get("request") == jws.digest(waiting.request)
    return False


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


def take_identity(shelf: Shelf, machine: Machine, answer: Mapping[str, Any]) -> None:
    """Become an installation of one's own: this store is a copy, as the activation host says.

    1. The host's certificate and its word verify, for the request that waits here.
    2. The lease of the installation that was copied is gone, then its key pair; a new one and the host's number take its place.

    Raises: KeyturnError ``document_foreign``, ``answer_unexpected``, or why the documents do not verify.
    """
    with shelf.locked():
        loaded, waiting = load(shelf, machine), shelf.pending()
        token, host, bundles = answer.get("identity"), answer.get("host"), answer.get("bundles", [])
        if not isinstance(token, str) or not isinstance(host, str) or not isinstance(bundles, list) or waiting is None:
            raise KeyturnError("answer_unexpected", "the answer holds no identity that is waited for")
        # 1.
        chain = trust.longer(loaded.opened.chain.texts, [str(text) for text in bundles], loaded.name.thumbprint)
        nonce = documents.read_request(waiting.request)[0].nonce
        told = hosting.verify_identity(
            token, hosting.read_host(host, loaded.name, chain), jws.digest(waiting.request), nonce
        )
        # 2.
        shelf.remove_held()
        shelf.remove_pending()
        files.remove(shelf.installation_key)
        signer = keystore.create(shelf.installation_key)
        shelf.keep_installation(told.installation, signer.public)
        record = loaded.record or begun(loaded.opened.product, told.installation, loaded.now)
        keep_record(shelf, record._replace(installation=told.installation), signer)
    Teller(shelf.vault, machine).tell("identity_taken", product=loaded.name, reason=told.reason)


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
    return _told(shelf, machine)


def report_installation(shelf: Shelf, machine: Machine, outcome: str) -> None:
    """Keep the outcome of an installation; the next request says it. Raises: ``permission_denied``."""
    with shelf.locked():
        loaded = load(shelf, machine)
        signer = installation(shelf, machine)
        record = loaded.record or begun(loaded.opened.product, loaded.guid or "", loaded.now)
        keep_record(shelf, record._replace(installation_outcome=outcome[:80]), signer)


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


