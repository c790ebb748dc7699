"""How a host gets its certificate from the publisher's service: an ordinary signed request, and an answer that is checked.

Keeps: the request, the check of the answer, and when the next one is due. Leaves to others: the way there
(``flows.exchange``, or a file), where things lie (``home``).

- The host's own key signs the request and is what the certificate is for.
- A request is durable before it is sent, and stays until it was answered: a lost reply costs nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from keyturn import __version__
from keyturn.core import containers, documents, hardware, hosting, jws, productkey, trust
from keyturn.core.documents import UNAVAILABLE, Request
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, Channel, State, b64u, product_id
from keyturn.edge import files
from keyturn.edge.probes import Computer
from keyturn.host.home import KEPT_CERTIFICATES, HostHome, Permit, note_change, read_permit

WARN_DAYS = 30  # Ahead of the end of a host certificate.
TRY_EVERY = DAY


class Machine(NamedTuple):
    """The computer that a host runs on: its clock, its chance, its hardware."""

    clock: Callable[[], int]
    chance: Callable[[int], bytes]
    computer: Callable[[], Computer]


def install_key(permit: Permit, text: str) -> str:
    """Check a ``host`` key and keep what is needed of it: its public part, and K. The result is its product ID.

    Raises: KeyturnError ``key_malformed``, ``key_mistyped``; ``usage`` for a key of another channel.
    """
    key = productkey.parse(text)
    if key.channel is not Channel.HOST:
        raise KeyturnError(
            "usage", f"this is a key of the channel {key.channel.value}, and a host takes one of the channel host",
            remedy="Ask the publisher for a host key; the other one belongs on computers.",
        )  # fmt: skip
    name = product_id(permit.name.slug, key.channel, key.serial)
    secret = base64.b64encode(productkey.derive(key, permit.name)).decode()
    value = {"v": 1, "product_id": name, "serial": key.serial, "partial": key.partial, "secret": secret}
    files.write_json(permit.folder / "key.json", value, files.PRIVATE)
    return name


def installed_key(permit: Permit) -> tuple[int, bytes]:
    """Serial and K of the installed host key. Raises: KeyturnError ``key_missing``."""
    key = files.read_json(permit.folder / "key.json")
    if key is None:
        title = permit.opened.product.title
        raise KeyturnError("key_missing", f"no host key is installed for {title}", remedy="`keyturn host activate -`")
    return int(key["serial"]), base64.b64decode(key["secret"])


def make_request(home: HostHome, permit: Permit, machine: Machine) -> str:
    """Make, sign and keep the request for a host certificate, or find the one that waits.

    1. The installed ``host`` key.
    2. The request that waits, if it is for that key and the hardware is as it was.
    3. What this computer knows of itself; signed with the host's key, durable before anybody sees it.

    Raises: KeyturnError ``key_missing``, ``storage_failed``.
    """
    # 1.
    serial, secret = installed_key(permit)
    computer = machine.computer()
    pairs = hardware.pairs(computer.reading.anchors, permit.name)
    # 2.
    waiting = (files.read_json(permit.folder / "pending.json") or {}).get("request")
    if isinstance(waiting, str) and _fits(waiting, home, permit, serial, pairs):
        return waiting
    # 3.
    nonce, now = b64u(machine.chance(16)), machine.clock()
    held = permit.certificate
    request = Request(
        product=permit.name, product_id=product_id(permit.name.slug, Channel.HOST, serial), serial=serial,
        key_proof=productkey.proof(secret, permit.name, serial, home.signer.kid, nonce),
        installation=home.guid, nonce=nonce, made_at=now, scheme=hardware.SCHEME, pairs=pairs,
        tags=hardware.component_tags(computer.reading, permit.name),
        commitment=hardware.commitment(hardware.vector(computer.reading, permit.name), machine.chance(16)),
        facts=_facts(computer), state=int(State.UNLICENSED if held is None or held.expires_at < now else State.LICENSED),
        previous=jws.digest(permit.tokens[0][1]) if permit.tokens else None,
        activation=held.activation if held is not None and held.request else None,  # By telephone it has no name that counts.
        vm=computer.vm_kind, container=computer.container, ephemeral=False, allow_ephemeral=False,
        bundle=permit.opened.chain.newest.number,
    )  # fmt: skip
    token = jws.sign(Kind.REQUEST, request.claims(), home.signer.public, home.signer.sign, own=True)
    files.write_json(permit.folder / "pending.json", {"v": 1, "request": token})
    return token


def accept(home: HostHome, permit: Permit, answer: Mapping[str, Any], machine: Machine, *, via: str) -> Permit:
    """Verify the answer to the waiting request and keep the host certificate.

    1. A request waits.
    2. Bundles beside the answer continue the chain that is known; a newer product file comes with bundles that need it.
    3. The certificate verifies, for this product (``hosting.read_host``).
    4. It is for this host's key, and answers the very request that waits (digest and nonce).
    5. Product file, then certificate, durable; only then is the request forgotten.

    Raises: KeyturnError ``document_foreign``, ``answer_unexpected``, or why it does not verify.
    """
    # 1.
    token, bundles = answer.get("host"), answer.get("bundles", [])
    if not isinstance(token, str) or not isinstance(bundles, list) or not all(isinstance(b, str) for b in bundles):
        raise KeyturnError("answer_unexpected", "the answer holds no host certificate")
    waiting = (files.read_json(permit.folder / "pending.json") or {}).get("request")
    if not isinstance(waiting, str):
        raise KeyturnError("document_foreign", "no request waits for an answer here", remedy="`keyturn host activate`")
    # 2.
    chain = trust.longer(permit.opened.chain.texts, bundles, permit.name.thumbprint)
    opened = containers.renewed(permit.opened, chain, answer.get("product"))
    # 3.
    host = hosting.read_host(token, opened.product, chain)
    # 4.
    request, _ = documents.read_request(waiting)
    if host.public != home.signer.public or (host.request, host.nonce) != (jws.digest(waiting), request.nonce):
        raise KeyturnError("document_foreign", "the certificate answers another request, or is another host's")
    # 5.
    if opened != permit.opened:
        files.write_json(permit.folder / "product.json", opened.container())
    return keep(home, permit, token, via, machine.clock())


def keep(home: HostHome, permit: Permit, token: str, via: str, now: int) -> Permit:
    """Keep a host certificate that was verified, before the older ones; what waits is over then."""
    kept = [token, *(text for _, text in permit.tokens if text != token)][:KEPT_CERTIFICATES]
    files.write_json(permit.folder / "certificate.json", {"v": 1, "hosts": kept, "via": via, "at": now})
    files.remove(permit.folder / "pending.json")
    note_change(home.path)
    home.refresh()
    return read_permit(permit.folder, home.signer)


def exchange(
    home: HostHome,
    permit: Permit,
    machine: Machine,
    send: Callable[[str], dict[str, Any] | Refused],
    *,
    via: str = "online",
) -> Permit | Refused:
    """Send the request and keep the answer; a request that has had its day is made anew, once.

    Raises: as ``send`` and :func:`accept`.
    """
    outcome = send(make_request(home, permit, machine))
    if isinstance(outcome, Refused) and outcome.code == "request_superseded":
        files.remove(permit.folder / "pending.json")
        outcome = send(make_request(home, permit, machine))
    return outcome if isinstance(outcome, Refused) else accept(home, permit, outcome, machine, via=via)


def due_at(permit: Permit) -> int | None:
    """From when on the certificate is to be renewed: once a third of its time is over, so that two thirds are left for trying.

    ``None`` if no key is installed; 0 if there is no certificate in force.
    """
    if permit.product_id is None:
        return None
    host = permit.certificate
    if host is None:
        return 0
    return host.issued_at + (host.expires_at - host.issued_at) // 3


def warning(permit: Permit, now: int) -> str | None:
    """What ends soon, as a sentence; ``None`` if nothing does."""
    host = permit.certificate
    if host is None:
        return f"{permit.opened.product.title}: no host certificate ({permit.why_not}). Next: keyturn host activate"
    days = (host.expires_at - now) // DAY
    if days > WARN_DAYS:
        return None
    what = f"ends in {days} days; after that no lease is given"
    if now > host.expires_at:
        what = "has ended: no lease is given any more"
    after = "keyturn host activate, or by file: keyturn host export request -o F.ktx"
    if permit.via == "telephone":
        after = "keyturn host installation-id, and keyturn host confirm; or keyturn host activate"
    return f"{permit.opened.product.title}: the host certificate {what} (those that were given go on). Next: {after}"


def _fits(waiting: str, home: HostHome, permit: Permit, serial: int, pairs: Mapping[str, str]) -> bool:
    """Whether a waiting request says what one made now would say."""
    try:
        old, verified = documents.read_request(waiting)
    except KeyturnError:
        return False
    previous = jws.digest(permit.tokens[0][1]) if permit.tokens else None
    said = (verified.kid, old.product, old.serial, dict(old.pairs), old.previous, old.bundle)
    return said == (home.signer.kid, permit.name, serial, dict(pairs), previous, permit.opened.chain.newest.number)


def _facts(computer: Computer) -> dict[str, Any]:
    values = {**computer.facts, "client_version": __version__}
    reasons = {
        **computer.unreadable, "product_version": "a host has none", "installation_outcome": "a host reports none",
        "validation_result": "no validation was performed",
    }  # fmt: skip
    return {
        name: str(values[name])[:200] if name in values else {UNAVAILABLE: reasons.get(name, "not known")[:150]}
        for name in documents.FACTS
    }
