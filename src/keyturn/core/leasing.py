"""The activation host decides: does this computer get a lease, how long, and is it who its store says it is?

Keeps: the rules of a host's ledger (who is known, what is counted, what is a copy) and the lease's content.
Leaves to others: rows and transactions (``host.ledger``), signatures (``host.leasing``).

- Who is known is renewed, whatever the count says: a fleet never falls because two laptops travel.
- What counts is a computer: its installation key, and its hardware where that is known. A hundred requests of one computer, or of
  its reinstallations, are one.
- Leases of an installation form a chain. Once a lease was presented, an older branch can only come from a copy (a cloned
  image, a restored snapshot): it gets an identity of its own. Before that it is a lost reply, and costs nothing.
- What may be a late repetition of an older request is never called a copy: it is told that it is late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from keyturn.core import hardware
from keyturn.core.documents import Certificate, Request
from keyturn.core.errors import Refused
from keyturn.core.hardware import Seat
from keyturn.core.hosting import LEASED, HostCertificate, Lease
from keyturn.core.model import DAY, Channel, product_id

SEEN_DAYS = 30  # A computer counts towards the threshold if it asked within so many days.
EPHEMERAL_HOURS = 12  # A lease for a computer that keeps nothing: it returns by itself.
HOUR = 3600
COPIED, OTHER_HARDWARE = "copied_store", "other_hardware"


class Member(NamedTuple):
    """One computer of the ledger. ``pairs`` are its hardware; ``leased`` says that it has had a lease, ``since`` when the first.

    ``recent``: it is among those that are counted. ``presented`` is the newest lease (digest) that its installation showed;
    ``outstanding`` are those issued since, of which at most one reached it. ``asked`` is the newest time that one of its
    installation's requests bears (not further ahead than a day).
    """

    computer: str
    number: int
    since: int
    pairs: Mapping[str, str]
    leased: bool
    recent: bool
    presented: str | None
    outstanding: frozenset[str]
    asked: int


class Granted(NamedTuple):
    """A lease. ``how``: ``new``, ``renewed``, or ``rejoined`` (a known computer with a new installation).

    ``add`` are hardware pairs that the computer has from now on; ``presented`` is what it showed, as the ledger should keep
    it; ``rolled_back`` notes an older state of the same computer.
    """

    how: str
    computer: str
    number: int
    since: int
    add: Mapping[str, str]
    presented: str | None
    rolled_back: bool
    ends: int


class Forked(NamedTuple):
    """This is a copy of ``computer``: it is to take an identity of its own. ``reason``: ``copied_store``, ``other_hardware``."""

    computer: str
    reason: str


class Waiting(NamedTuple):
    """Not yet: the computer is noted (as ``computer``, with ``add``), and ``needed`` more have to ask."""

    computer: str
    add: Mapping[str, str]
    counted: int
    needed: int

    def refused(self) -> Refused:
        more = "1 more computer" if self.needed == 1 else f"{self.needed} more computers"
        return Refused("threshold_not_met", f"{more} needed: {self.counted} asked this host within {SEEN_DAYS} days")


def decide(
    request: Request,
    host: HostCertificate,
    *,
    own: Member | None,
    alike: Sequence[Member],
    counted: int,
    held: int,
    new_computer: str,
    new_number: int,
    now: int,
) -> Granted | Forked | Waiting | Refused:
    """Decide one request whose signature holds.

    ``own`` is the member with this installation key; ``alike`` are all that share a hardware pair; ``counted`` are the distinct
    computers seen within 30 days; ``held`` are those with a lease that runs.

    1. The host serves this ``client`` key, for this product.
    2. The installation is known: its hardware must be the same as far as both are known, and what it presents must be
       its newest lease, or one whose reply was lost, or nothing. Otherwise it is a copy; unless it is no newer than a request
       that was answered: then it may be a repetition that was late.
    3. The hardware is known: the same computer with another installation.
    4. Who has had a lease is renewed. Who has not is counted, and waits until there are enough, or room for it. A computer that
       keeps nothing is not counted: it could come as many.
    """
    # 1.
    served = host.serves.get(request.serial)
    if served is None or request.product != host.product:
        return Refused("key_unknown", f"this host does not serve {request.product_id[:80]}")
    ends = now + (EPHEMERAL_HOURS * HOUR if request.ephemeral else host.lease_days * DAY)
    # 2.
    member, how, add, rolled_back = own, "renewed", request.pairs, False
    presented = None if own is None else own.presented
    if own is not None:
        # One slot in common is none that can be compared: pairs are known by both of their slots.
        alike_now = request.pairs == own.pairs  # Nearly always, and said without comparing slot by slot.
        comparable = not alike_now and request.pairs.keys() & own.pairs.keys()
        if comparable and not hardware.match(request.pairs, own.pairs).same:
            return Forked(own.computer, OTHER_HARDWARE)
        # A lease of another host of the organization is no link of this chain, and says nothing about copies. Nor does none at
        # all: a certificate that was deleted. A copy that shows none is found out when the two of them renew.
        here = request.previous is not None and request.activation == own.computer
        if here and (request.previous in own.outstanding or own.presented is None):
            presented = request.previous
        elif here and request.previous != own.presented:
            if request.made_at <= own.asked:
                return Refused("request_superseded", "a newer request of this installation was answered before this one")
            return Forked(own.computer, COPIED)
        rolled_back = presented == own.presented and bool(own.outstanding)
        # What shares nothing with what is known may be a copy on a virtual machine: its hardware is not this computer's yet.
        add = hardware.fillable(request.pairs, own.pairs) if comparable or not own.pairs else {}
    # 3.
    else:
        seats = [Seat(one.computer, one.pairs, one.since) for one in alike]
        same = hardware.find_seat(request.pairs, seats)
        member = next((one for one in alike if one.computer == same.seat), None)
        how, add = "rejoined" if member is not None else "new", same.add
        presented = None
    # 4.
    if member is None or not member.leased:
        there = counted + (0 if request.ephemeral or (member is not None and member.recent) else 1)
        if there < host.threshold and host.threshold > 1:  # 1 is no threshold: computers that keep nothing are served too.
            return Waiting(new_computer if member is None else member.computer, add, there, host.threshold - there)
        if host.capacity is not None and held >= host.capacity:
            return Refused("host_full", f"this host serves {host.capacity} computers, and as many hold a lease")
    if member is None:
        return Granted(how, new_computer, new_number, now, add, None, False, ends)
    since = member.since if member.leased else now
    return Granted(how, member.computer, member.number, since, add, presented, rolled_back, ends)


def lease(
    request: Request, request_digest: str, installation_key: str, host: HostCertificate, granted: Granted, *, now: int
) -> Lease:
    """Write the lease that carries out ``granted``. It ends no later than the host may give."""
    served = host.serves[request.serial]
    evidence = hardware.evidence(request.pairs)
    certificate = Certificate(
        product=request.product, publisher=host.publisher, activation=granted.computer, installation=request.installation,
        issued_at=now, expires_at=granted.ends, product_id=product_id(request.product.slug, Channel.CLIENT, request.serial),
        serial=request.serial, channel=Channel.CLIENT, edition=served.edition, features=served.features, seat=granted.number,
        scheme=request.scheme, evidence=evidence, ephemeral=request.ephemeral and evidence == "weak",
        commitment=request.commitment, request=request_digest, nonce=request.nonce, holder=installation_key,
        activated_at=granted.since, term=LEASED, floor=host.floor,
    )  # fmt: skip
    return Lease(certificate, granted.presented, host.activation)
