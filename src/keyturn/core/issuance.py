"""The service decides: may this request have a seat of this key, and what does its certificate say?

Keeps: the rules of seats (who is the same, what is new, what is a move) and the certificate's content.
Leaves to others: the transaction in which the decision is carried out (``service.queries``), the signature
(``flows.signing``).

- Record first, sign second, answer last: what is decided here is written down before anything is signed.
- The key's counter, not this decision, holds the limit: two decisions at once cannot both take the last seat.
- A known computer costs nothing: reinstalled, another user, a new disk, a lost answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from keyturn.core import hardware, productkey
from keyturn.core.documents import Certificate, Request
from keyturn.core.errors import Refused
from keyturn.core.hardware import Seat
from keyturn.core.hosting import FILE_DAYS, ONLINE_DAYS, HostCertificate, Served
from keyturn.core.model import DAY, Channel, product_id
from keyturn.core.terms import Terms
from keyturn.core.trust import Floor

YEAR = 365 * DAY


class Key(NamedTuple):
    """What the service knows of a product key. ``secret`` is K, opened for this decision only."""

    serial: int
    channel: Channel
    edition: str
    features: tuple[str, ...]
    blocked: bool
    term_days: int | None
    until: int | None

    def __repr__(self) -> str:
        return f"Key(serial={self.serial}, channel={self.channel.value})"


class Grant(NamedTuple):
    """Yes. ``how``: ``same`` costs nothing, ``new`` takes one of the key's seats, ``moved`` one of the yearly moves.

    ``add`` are the pairs the seat shall own from now on; with ``replace`` they take the place of the old ones.
    """

    how: str
    activation: str
    activated_at: int
    add: Mapping[str, str]
    replace: bool
    evidence: str


def decide(
    request: Request,
    key: Key,
    terms: Terms,
    *,
    seats: Sequence[Seat],
    own: Seat | None,
    moves: Sequence[int],
    new_activation: str,
    now: int,
) -> Grant | Refused:
    """Decide one request whose signature and key proof hold.

    ``seats`` are all that own one of the request's pairs, ``own`` is the seat this installation holds, ``moves`` are
    the times at which that seat was moved.

    1. The key is one the service activates, and is not blocked.
    2. A computer that keeps nothing, or shows nothing, gets what the terms allow.
    3. A seat with the same hardware is the request's seat (``hardware.find_seat``); it costs nothing.
    4. The installation's own seat: if no slot is known on both sides it is the same seat (weak evidence that became
       strong, or the other way); on other hardware it is a move, and moves are counted.
    5. A new seat needs a pair that nobody owns, unless its evidence is the installation key alone.
    """
    # 1.
    if key.blocked:
        return Refused("key_blocked", f"product key {request.product_id} was blocked by its publisher")
    if key.channel not in (Channel.RETAIL, Channel.MAK, Channel.HOST):
        return Refused("host_required", f"a {key.channel.value} key is not activated by the publisher's service")
    # 2.
    evidence = hardware.evidence(request.pairs)
    if evidence == "weak":
        if request.ephemeral and not request.allow_ephemeral:
            return Refused("ephemeral_refused", "this computer shows no hardware identity and its store does not last")
        if terms.weak_evidence == "refuse":
            return Refused(
                "weak_evidence_refused", "this product is not activated on computers without hardware identity"
            )
    # 3.
    found = hardware.find_seat(request.pairs, seats, request.activation)
    if found.seat is not None:
        since = next(seat.since for seat in seats if seat.name == found.seat)
        return Grant("same", found.seat, since, found.add, False, evidence)
    # 4.
    if own is not None:
        owned = {(pair, tag) for seat in seats if seat.name != own.name for pair, tag in seat.pairs.items()}
        free = {pair: tag for pair, tag in request.pairs.items() if (pair, tag) not in owned}
        if not hardware.match(request.pairs, own.pairs).known:
            # The seat may be known by hardware, but this request showed none of it: a store that was copied to where nothing
            # can be read must not get what the seat's own computer got.
            return Grant("same", own.name, own.since, free, False, evidence)
        recent = [moment for moment in moves if moment > now - YEAR]
        if len(recent) >= terms.moves_per_year:
            return Refused(
                "move_limit_reached", f"this installation moved {len(recent)} times within a year",
                retry_after=max(1, min(recent) + YEAR - now) if recent else None,
            )  # fmt: skip
        if not free:
            return Refused("hardware_ambiguous", "every hardware pair of this computer belongs to another seat")
        return Grant("moved", own.name, own.since, free, True, evidence)
    # 5.
    if found.ambiguous:
        return Refused("hardware_ambiguous", "every hardware pair of this computer belongs to another seat")
    return Grant("new", new_activation, now, found.add, False, evidence)


def proof_holds(secret: bytes, request: Request, installation_key: str) -> bool:
    """Whether the sender of ``request`` knows the product key whose K is ``secret`` (constant time)."""
    return productkey.proof_holds(
        request.key_proof, secret, request.product, request.serial, installation_key, request.nonce
    )


def certificate(
    request: Request,
    request_digest: str,
    installation_key: str,
    key: Key,
    grant: Grant,
    terms: Terms,
    *,
    publisher: str,
    seat: int,
    floor: Floor,
    now: int,
) -> Certificate:
    """Write the certificate that carries out ``grant``.

    A fleet manager may rebind what one organization's key activates on known hardware, and nothing else. It ends at :func:`end`.
    """
    expires_at, term = end(
        key, terms, weak=grant.evidence == "weak", activated_at=grant.activated_at, ephemeral=request.ephemeral, now=now
    )
    return Certificate(
        product=request.product, publisher=publisher, activation=grant.activation, installation=request.installation,
        issued_at=now, expires_at=expires_at,
        product_id=product_id(request.product.slug, key.channel, key.serial), serial=key.serial, channel=key.channel,
        edition=key.edition, features=key.features, seat=seat, scheme=request.scheme, evidence=grant.evidence,
        ephemeral=request.ephemeral and grant.evidence == "weak", commitment=request.commitment,
        request=request_digest, nonce=request.nonce, holder=installation_key, activated_at=grant.activated_at,
        term=term, floor=floor,
        rebind=request.rebind if key.channel is Channel.MAK and grant.evidence == "strong" else None,
    )  # fmt: skip


def end(
    key: Key, terms: Terms, *, weak: bool, activated_at: int, now: int, ephemeral: bool = False
) -> tuple[int | None, str]:
    """When a right to this key ends, and by which term: the earliest of the key's own date, the key's days since the
    activation, and, with weak evidence, the product's term for computers that cannot be told apart. With none of them it lasts
    for ever.
    """
    ends: list[tuple[int, str]] = []
    if key.until is not None:
        ends.append((key.until, "until"))
    if key.term_days is not None:
        ends.append((activated_at + key.term_days * DAY, "days"))
    if weak and (terms.weak_evidence == "term" or ephemeral):
        ends.append((now + terms.weak_days * DAY, "weak"))
    return min(ends) if ends else (None, "permanent")


def host_certificate(
    request: Request,
    request_digest: str,
    installation: bytes,
    key: Key,
    grant: Grant,
    terms: Terms,
    *,
    publisher: str,
    organization: str | None,
    serves: Mapping[int, Served],
    by_file: bool,
    floor: Floor,
    now: int,
) -> HostCertificate:
    """Write the certificate that makes the sender of ``request`` an activation host.

    It lasts 90 days where the host can ask again by itself, a year where its request came by file, and no longer than the key.
    ``installation`` is the host's public key, ``serves`` are the organization's ``client`` keys of the product.
    """
    days = FILE_DAYS if by_file else ONLINE_DAYS
    ends = min(end for end in (now + days * DAY, key.until) if end is not None)
    return HostCertificate(
        product=request.product, publisher=publisher, activation=grant.activation, installation=request.installation,
        public=installation, issued_at=now, expires_at=ends,
        product_id=product_id(request.product.slug, key.channel, key.serial), serial=key.serial, organization=organization,
        serves=serves, lease_days=terms.lease_days, threshold=terms.threshold, count_group=terms.count_group, capacity=None,
        request=request_digest, nonce=request.nonce, floor=floor,
    )  # fmt: skip


def returns_allowed(limit: int, terms: Terms) -> int:
    """How many seats of a key may be returned within a year."""
    return limit * terms.returns_per_year
