"""What a client takes: the answer to its request, a lease, another identity, newer trust bundles, a revocation list.

Keeps: that nothing is kept before it verifies, and what is durable before what. Leaves to others: asking for it (``actions``,
``lines``), what documents mean (``core``).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from keyturn.client.loading import Loaded, load, needs_activation
from keyturn.client.machine import Machine
from keyturn.client.record import begun, installation, keep_record
from keyturn.client.telling import Teller
from keyturn.core import containers, documents, hardware, hosting, jws, license, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.license import Held
from keyturn.core.revocations import read_revocations
from keyturn.core.trust import Inclusion
from keyturn.edge import files, keystore
from keyturn.edge.vault import Pending, Shelf


def accept_answer(shelf: Shelf, machine: Machine, answer: Mapping[str, Any], *, via: str = "online") -> Loaded:
    """Verify the answer to the waiting request and keep both.

    1. There is a request that waits, and this answers it; if another process was faster, nothing is left to do.
    2. Bundles beside the answer continue the chain that is known; a newer product file comes with bundles that need it.
    3. The certificate verifies, for this product, installation, request and baseline, and its signer is not revoked; a lease
       is of now.
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
        if held.host is not None:
            hosting.check_moment(certificate.issued_at, documents.read_request(waiting.request)[0], loaded.now)
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
    return told(shelf, machine)


def accept_rebinding(shelf: Shelf, machine: Machine, given: Mapping[str, Any]) -> Loaded:
    """Verify that an activation may be used by this installation, and keep it.

    1. The bundles continue the chain that is known.
    2. The certificate verifies, with the request that it answers and the baseline; it is not withdrawn, its signer
       not revoked; and the
       fleet manager that it names binds it to this installation's key.
    3. This computer's hardware is that of the baseline: other hardware is refused.
    4. Bundles, then all of it, durable.

    Raises: KeyturnError ``document_foreign``, ``hardware_other``, ``answer_unexpected``, or why the documents do not verify.
    """
    with shelf.locked():
        loaded = load(shelf, machine)
        # 1.
        bundles, vector = given.get("bundles"), given.get("vector")
        texts = [given.get(name) for name in ("certificate", "request", "salt", "rebind")]
        if (
            not isinstance(bundles, list) or not isinstance(vector, dict) or not all(isinstance(text, str) for text in texts)
            or loaded.public is None
        ):  # fmt: skip
            raise KeyturnError("answer_unexpected", "the rebinding is not whole")
        chain = trust.longer(loaded.opened.chain.texts, [str(text) for text in bundles], loaded.name.thumbprint)
        opened = containers.renewed(loaded.opened, chain, given.get("product"))
        # 2.
        certificate, request, salt, rebind = map(str, texts)
        try:
            held = Held(certificate, request, {str(k): str(v) for k, v in vector.items()}, base64.b64decode(salt), rebind=rebind)
        except binascii.Error as error:
            raise KeyturnError("answer_unexpected", "the rebinding is not whole") from error
        if len(held.salt) < 16:
            raise KeyturnError("answer_unexpected", "the rebinding is not whole")
        found = license.check_certificate(held, opened.product, chain, jws.thumbprint(loaded.public))
        if license.doubt(held, opened.document, chain) is not None:
            raise KeyturnError("issuer_revoked", "the certificate is signed by a key that its publisher revoked")
        if loaded.revocations is not None and loaded.revocations.withdrawn(found) is not None:
            raise KeyturnError("document_foreign", "the publisher has withdrawn this activation")
        # 3.
        reading = machine.computer(opened.product).reading
        same = hardware.same(held.vector, hardware.vector(reading, loaded.name))
        if not same.same:
            changed = hardware.describe(same.changed) or "nothing of it can be read"
            raise KeyturnError("hardware_other", f"the activation was made for other hardware: {changed}")
        # 4.
        if opened != loaded.opened:
            shelf.keep_product(opened.container())
        shelf.keep_held(held, "fleet")
        shelf.remove_pending()
        shelf.remove_release()
    Teller(shelf.vault, machine).tell("rebound", product=loaded.name)
    return told(shelf, machine)


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
        request, _ = documents.read_request(waiting.request)
        sender = hosting.read_host(host, loaded.opened.product, chain)
        told = hosting.verify_identity(token, sender, request, jws.digest(waiting.request))
        hosting.check_moment(told.issued_at, request, loaded.now)
        # 2.
        shelf.remove_held()
        shelf.remove_pending()
        files.remove(shelf.installation_key)
        signer = keystore.create(shelf.installation_key)
        shelf.keep_installation(told.installation, signer.public)
        record = loaded.record or begun(loaded.opened.product, told.installation, loaded.now)
        # Its first lease may be a while away, and it has not had a day of grace yet: those of the image were another's.
        keep_record(shelf, record._replace(installation=told.installation, grace_from=loaded.now), signer)
    Teller(shelf.vault, machine).tell("identity_taken", product=loaded.name, reason=told.reason)


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
    return told(shelf, machine)


def told(shelf: Shelf, machine: Machine) -> Loaded:
    """Where the copy stands now; the log is told if that is news."""
    loaded = load(shelf, machine)
    Teller(shelf.vault, machine).tell_state(loaded)
    return loaded


def _answers(token: str, waiting: Pending) -> bool:
    """Whether a certificate says, unverified, that it answers this request."""
    with suppress(KeyturnError, ValueError):
        return jws.loads(jws.payload_of(token)).get("request") == jws.digest(waiting.request)
    return False
