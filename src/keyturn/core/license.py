"""The client decides: is this copy licensed, on this computer, now?

Keeps: the check of a stored certificate, and the state that follows from everything a computer knows.
Leaves to others: reading files and hardware (``client``), the words on the screen (``cli``).

- Nothing stored says "activated": every load verifies the whole chain again.
- Uncertainty means grace, never a lock-out; a dead server never degrades an activated copy.
- Grace and notification are counted from signed times or the signed record: waiting never improves a state.
- A clock set back touches dated rights only; a permanent activation merely reports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from keyturn.core import hardware, hosting, jws, rebinding, trust
from keyturn.core.documents import Certificate, ProductFile, Record, Request
from keyturn.core.errors import KeyturnError
from keyturn.core.hardware import Tolerance
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, State
from keyturn.core.revocations import Withdrawn
from keyturn.core.terms import Terms
from keyturn.core.trust import Chain, Inclusion, Revocation

REISSUE_DAYS = 190  # Days a doubtful certificate holds: two contacts a year reach the publisher in time.
CLOCK_TOLERANCE = DAY  # Seconds a clock may lie behind the newest time seen before anyone mentions it.


class Held(NamedTuple):
    """What the store holds for one activation: the answer, the request it answers, and the hardware baseline.

    ``proof`` shows that a signer whose key was stolen later made the certificate before that. ``host`` is the certificate of
    the activation host whose lease ``certificate`` is. ``rebind`` lets an installation use what another one on the same hardware
    asked for.
    """

    certificate: str
    request: str
    vector: Mapping[str, str]
    salt: bytes
    proof: Inclusion | None = None
    host: str | None = None
    rebind: str | None = None


class Standing(NamedTuple):
    """Where a copy stands. ``reason`` is a stable word, ``remedy`` a sentence, times are NumericDate."""

    state: State
    usable: bool
    reason: str | None
    remedy: str | None
    next_command: str | None
    valid_until: int | None
    grace_until: int | None
    renew_at: int | None
    changed: tuple[str, ...] = ()

    def days_left(self, now: int) -> int | None:
        """Whole days until the license or the grace ends, rounded up; ``None`` if nothing ends."""
        until = self.valid_until if self.state is State.LICENSED else self.grace_until
        return None if until is None else max(0, -((now - until) // DAY))


def check_certificate(held: Held, product: ProductFile, chain: Chain, installation_key: str) -> Certificate:
    """Verify a stored certificate against product, installation, request and hardware baseline.

    1. An issuing key of the publisher signed it, with the product's role, within that key's time; or it is a lease of an
       activation host, within what the publisher lets that host give (``hosting.verify_lease``).
    2. It is for this product, and its bundle floor is reached.
    3. It is bound to this installation's key (``cnf``, RFC 7800; ``installation_key`` is a thumbprint), or the fleet manager that
       it names bound it to that key since (``rebinding.verify``).
    4. It answers the stored request, which the key that it was made for signed.
    5. Its commitment is that of the stored hardware baseline.

    The caller must still compare the baseline with the computer, and the dates with the clock (:func:`decide`).
    Raises: KeyturnError ``signature_invalid``, ``trust_invalid``, ``document_expired``, ``document_foreign``.
    """
    # 1.
    if held.host is None:
        role = trust.role_for(product.name.test)
        certificate = Certificate.read(chain.verify(held.certificate, Kind.CERTIFICATE, role))
    else:
        host = hosting.read_host(held.host, product, chain, doubtful=True)
        certificate = hosting.verify_lease(held.certificate, host).certificate
    # 2.
    if certificate.product != product.name:
        raise KeyturnError("document_foreign", f"the certificate is for {certificate.product}, not for {product.name}")
    if certificate.floor.number > chain.newest.number:
        raise KeyturnError("trust_invalid", "the certificate asks for a newer trust bundle than is stored")
    # 3.
    asker = installation_key if held.rebind is None else certificate.holder
    if held.rebind is not None:
        rebinding.verify(held.rebind, certificate, jws.digest(held.certificate), installation_key)
    elif certificate.holder != installation_key:
        raise KeyturnError("document_foreign", "the certificate belongs to another installation")
    # 4.
    asked = jws.verify_own(held.request, Kind.REQUEST)
    request = Request.read(asked.claims())
    if (
        asked.kid != asker
        or certificate.request != jws.digest(held.request)
        or request.nonce != certificate.nonce
    ):
        raise KeyturnError("document_foreign", "the certificate answers another request")
    # 5.
    if hardware.commitment(held.vector, held.salt) != certificate.commitment:
        raise KeyturnError("document_foreign", "the stored hardware baseline is not the certificate's")
    return certificate


def doubt(held: Held, product: str, chain: Chain) -> Revocation | None:
    """The revocation that makes a verified certificate, or the product file beside it, doubtful; ``None`` without any."""
    made = (held.certificate, Kind.CERTIFICATE) if held.host is None else hosting.published(held.host)
    return chain.doubt(*made, held.proof) or chain.doubt(product, Kind.PRODUCT)


def effective_time(clock: int, record: Record | None) -> int:
    """The time that counts.

    1. A clock that was ahead of the service's signed time, and is still ahead: that time, and what ran since then.
    2. The clock, unless it lies behind the newest time seen.
    3. The newest time seen, and what ran since then: whoever sets the clock back does not stop the time of a dated right.
    """
    if record is None:
        return clock
    seen = record.high_water if record.seen is None else record.seen
    ahead = seen > record.high_water + CLOCK_TOLERANCE and clock >= seen
    if clock >= record.high_water and not ahead:
        return clock
    return record.high_water + max(0, clock - seen)


def implausible(clock: int, product: ProductFile) -> bool:
    """Whether a clock is certainly wrong: it lies before the product file was made (an empty battery brings 1970)."""
    return clock < product.issued_at - CLOCK_TOLERANCE


def began_unsurely(record: Record, product: ProductFile, now: int) -> bool:
    """Whether the grace was begun by a clock that was certainly wrong, and time is plausible now: it begins with this."""
    return record.unsure and not implausible(now, product)


def decide(
    *,
    product: ProductFile,
    record: Record | None,
    certificate: Certificate | None,
    why_not: str | None,
    tolerance: Tolerance | None,
    clock: int,
    noted: bool = True,
    doubtful: Revocation | None = None,
    withdrawn: Withdrawn | None = None,
    extended: bool = False,
) -> Standing:
    """Decide the state of one product.

    1. No certificate that holds (``why_not`` says why): initial grace from the local record, then notification. A grace
       without a record begins now if it can be noted, and is over if it cannot: it would begin anew at every look.
    2. A certificate that the publisher has ``withdrawn`` (the signed list says it): grace, not genuine, from that time.
    3. A dated right whose end has passed: grace from its end, then notification. A ``doubtful`` certificate, whose signer's
       key was stolen, is such a right: it ends 190 days after the publisher said so. That time is signed, and no deletion
       begins it anew.
    4. Hardware out of tolerance or unreadable: grace from when it was first seen, then notification. With both, the
       grace that began first counts. ``noted`` says that somebody can write down when it was first seen: the holder of
       the installation's key, in a store that can be written. Where nobody can, it began at the newest time seen:
       otherwise a copied store whose key was thrown away would have a first day for ever.
    5. A dated right while the clock lies behind the newest time seen: grace, ``clock_behind``.
    6. Otherwise licensed; a doubtful certificate says that it is to be issued again.

    ``extended``: the organization's policy asks for the extended grace that the product's terms allow after a grace.
    """
    terms = Terms.read(product.terms)
    if not extended:
        terms = terms._replace(extended_days=0)
    now = effective_time(clock, record)
    # 1.
    if certificate is None or tolerance is None:
        if record is None and not noted:
            return _grace(
                State.INITIAL_GRACE, "store_unwritable", now - terms.grace_days * DAY, terms, product.mode, now
            )
        start = now if record is None or began_unsurely(record, product, now) else record.grace_from
        return _grace(State.INITIAL_GRACE, why_not or "not_activated", start, terms, product.mode, now)
    # 2.
    if withdrawn is not None:
        start = max(withdrawn.at, record.grace_from if record is not None and record.rearms else 0)
        return _grace(State.NON_GENUINE_GRACE, withdrawn.reason, start, terms, product.mode, now)
    # 3. and 4.
    ends = certificate.expires_at
    believed = None if doubtful is None else doubtful.at + REISSUE_DAYS * DAY
    lost: list[tuple[int, str]] = []
    if ends is not None and now >= ends:
        lost.append((ends, "term_ended"))
    if believed is not None and now >= believed:
        lost.append((believed, "reissue_due"))
    if not tolerance.same:
        start = _first_seen(record, certificate, now, noted=noted)
        lost.append((start, tolerance.reason or "hardware_changed"))
    if lost:
        start, reason = min(lost)
        if record is not None and record.rearms:
            start = max(start, record.grace_from)  # A rearm begins any grace anew.
        standing = _grace(State.OUT_OF_TOLERANCE_GRACE, reason, start, terms, product.mode, now)
        remedy = _at_end(certificate) if reason == "term_ended" else standing.remedy
        return standing._replace(changed=tolerance.changed, remedy=remedy)
    # 5.
    behind = record is not None and clock < record.high_water - CLOCK_TOLERANCE
    if behind and ends is not None:
        return _grace(State.OUT_OF_TOLERANCE_GRACE, "clock_behind", now, terms, product.mode, now)
    # 6.
    if believed is not None:
        until = believed if ends is None else min(believed, ends)
        return Standing(
            State.LICENSED, True, "reissue_due", _REMEDIES["reissue_due"], "keyturn activate", until, None, now,
            tolerance.changed,
        )  # fmt: skip
    renew_at = None if ends is None else max(certificate.issued_at, ends - terms.remind_days * DAY)
    due = renew_at is not None and now >= renew_at
    why = "clock_behind" if behind else None
    remedy = _REMEDIES["clock_behind"] if behind else _at_end(certificate) if due else None
    command = "keyturn activate" if due else None
    return Standing(State.LICENSED, True, why, remedy, command, ends, None, renew_at, tolerance.changed)


def _at_end(certificate: Certificate) -> str:
    """What to do about a right that ends: one with a date of its own is not renewed by asking again, unless it was extended."""
    return _REMEDIES["term_over" if certificate.term in ("until", "days") else "term_ended"]


def _first_seen(record: Record | None, certificate: Certificate, now: int, *, noted: bool) -> int:
    if record is not None and record.changed_at is not None:
        return record.changed_at
    if noted:
        return now
    return max(certificate.issued_at, 0 if record is None else record.high_water)


_ACTIVATE = "Activate it: `keyturn activate`."
_REMEDIES = {
    "not_activated": _ACTIVATE,
    "store_unwritable": "Let this account write in the store, so that a grace can begin, or activate: `keyturn activate`.",
    "released": "The seat was returned. To use it here again: `keyturn activate`.",
    "term_ended": "Renew it: `keyturn activate`; the seat is kept, it costs nothing.",
    "term_over": "If the publisher extended it: `keyturn activate`. Otherwise ask the publisher for a key of the next term.",
    "hardware_changed": "Activate again: `keyturn activate`; one of the yearly moves is used if the computer is a new one.",
    "hardware_unreadable": "Run it once as root, or let the agent run, so that the hardware can be read.",
    "anchors_appeared": "Activate again: `keyturn activate`; the seat is kept, it costs nothing.",
    "reissue_due": "Fetch a new certificate: `keyturn activate`; the seat is kept, it costs nothing.",
    "key_blocked": "Ask the publisher, quoting the product ID, or activate with another key: `keyturn activate -`.",
    "activation_reclaimed": "The seat was taken back by the publisher's staff: ask them, or activate again: `keyturn activate`.",
    "clock_behind": "Set this computer's clock; the license follows by itself.",
    "store_damaged": "Activate again: `keyturn activate`; a seat that is held costs nothing.",
    "extra_missing": "Install what verifies telephone codes: `pip install 'keyturn[phone]'`.",
    "document_foreign": "The stored license belongs to another computer or installation. Activate this one: `keyturn activate`.",
}


def _grace(state: State, reason: str, start: int, terms: Terms, mode: str, now: int) -> Standing:
    """Full function from ``start`` for the grace period and what extends it, then notification.

    A start in the future begins now.
    """
    until = min(start, now) + terms.grace_days * DAY
    remedy = _REMEDIES.get(reason, _ACTIVATE)
    if now < until:
        return Standing(state, True, reason, remedy, "keyturn activate", None, until, None)
    if now < until + terms.extended_days * DAY:
        until += terms.extended_days * DAY
        return Standing(State.EXTENDED_GRACE, True, reason, remedy, "keyturn activate", None, until, None)
    return Standing(State.NOTIFICATION, mode != "enforce", reason, remedy, "keyturn activate", None, until, None)
