"""The activation host decides: does this computer get a lease, how long, and is it who its store says it is?

Keeps: the rules of a host's ledger (who is known, what is counted, what is a copy) and the lease's content.
Leaves to others: rows and transactions (``host.ledger``), signatures (``host.leasing``).

- Who is known is renewed, whatever the count says: a fleet never falls because two laptops travel.
- What counts is a computer: its installation key, and its hardware where that is known. A hundred requests of one computer, or of
  its reinstallations, are one.
- Leases of an installation form a chain. Once a lease was presented, an older branch can only come from a copy (a cloned
  image, a restored snapshot): it gets an identity of its own. Before that it is a lost reply, and costs nothing.
- What may be a late repetition of an older request is never called a copy: it is told that it is late.
- A lease of any host of the organization, shown whole, makes its installation known: a ledger can be lost, the leases cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from keyturn.core import hardware, hosting, jws
from keyturn.core.containers import Opened
from keyturn.core.documents import Certificate, Request
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.hardware import Seat
from keyturn.core.hosting import LEASED, HostCertificate, Lease
from keyturn.core.model import DAY, Channel, product_id
from keyturn.core.terms import Terms

SEEN_DAYS = 30  # A computer counts towards the threshold if it asked within so many days.
KNOWN_DAYS = 400  # A computer that has not asked for so long, and holds no lease, is no longer known.
EPHEMERAL_HOURS = 12  # A lease for a computer that keeps nothing: it returns by itself.
HOUR = 3600
ALONE = Terms().count_group  # All computers of one product, clients and servers alike, and those of no other.
COPIED, OTHER_HARDWARE = "copied_store", "other_hardware"


class Member(NamedTuple):
    """One computer of the ledger. ``pairs`` are its hardware; ``leased`` says that it has had a lease, ``since`` when the first.

    ``recent``: it is among those that are counted. ``presented`` is the newest lease (digest) that its installation showed;
    ``outstanding`` are those issued since, of which at most one reached it. ``bare``: all of these were given to a computer that
    showed no hardware. ``asked`` is the newest time that one of its installation's requests bears (not further ahead than a day).
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
    bare: bool = False


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
    """This is a copy of ``computer``: it is to take an identity of its own. ``reason``: ``copied_store``, ``other_hardware``.

    ``takes``: the hardware that is known of ``computer`` was the copy's, and goes with it.
    """

    computer: str
    reason: str
    takes: bool = False


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
    leased: Callable[[], int | None] = lambda: None,
) -> Granted | Forked | Waiting | Refused:
    """Decide one request whose signature holds.

    ``own`` is the member with this installation key; ``alike`` are all that share a hardware pair; ``counted`` are the distinct
    computers seen within 30 days; ``held`` are those with a lease that runs. ``leased`` is asked about a computer that is not
    known here to have had a lease: since when the lease that it shows says that it had one (:func:`shown`).

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
        alike_now = bool(own.pairs) and request.pairs == own.pairs  # Nearly always, and said without comparing slot by slot.
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
            # Were this one's facts given to a computer that shows none, the copy would be found as its original by them.
            return Forked(own.computer, COPIED, own.bare and bool(alike_now or comparable))
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
    since = member.since if member is not None and member.leased else leased()
    if since is None:
        since = now
        there = counted + (0 if request.ephemeral or (member is not None and member.recent) else 1)
        if there < host.threshold and host.threshold > 1:  # 1 is no threshold: computers that keep nothing are served too.
            return Waiting(new_computer if member is None else member.computer, add, there, host.threshold - there)
        if host.capacity is not None and held >= host.capacity:
            return Refused("host_full", f"this host serves {host.capacity} computers, and as many hold a lease")
    if member is None:
        return Granted(how, new_computer, new_number, since, add, None, False, ends)
    return Granted(how, member.computer, member.number, since, add, presented, rolled_back, ends)


def shown(
    lease: str, host: str, request: Request, installation_key: str, own: HostCertificate, opened: Opened, *, now: int
) -> int | None:
    """Since when a computer has been leased, as the ``lease`` says that it shows with its ``host`` certificate.

    1. The request names this lease as its newest.
    2. The publisher certified that host, for the same product and organization as this one (``own``).
    3. The host gave this lease, to this installation's key and with a ``client`` key that is served here.
    4. A ledger would still know of it.

    A copy gains nothing: it has the key of its original, so the two of them are one installation, and are told apart as always.
    ``None`` if any of this does not hold: the computer is then as new as if it had shown nothing.
    """
    # 1.
    if len(lease) > jws.MAX_TOKEN or not lease.isascii() or jws.digest(lease) != request.previous:
        return None
    try:
        # 2.
        other = hosting.read_host(host, opened.product, opened.chain)
        # 3.
        given = hosting.verify_lease(lease, other).certificate
    except KeyturnError:
        return None
    fits = same_organization(other, own) and given.holder == installation_key and given.serial in own.serves
    # 4.
    return given.activated_at if fits and now - KNOWN_DAYS * DAY < given.issued_at <= now + DAY else None


def same_organization(one: HostCertificate, other: HostCertificate) -> bool:
    """Whether two hosts belong together: one ``host`` key, or one organization of the same publisher."""
    return one.product == other.product and (
        one.serial == other.serial or (one.organization is not None and one.organization == other.organization)
    )


def counts_with(host: HostCertificate) -> str:
    """What products have in common whose computers count together: a group that their publisher named, else nothing at all.

    Hardware is known by another tag for each product, so a computer with two products of a group is counted for each of them.
    """
    if host.count_group == ALONE:
        return str(host.product)
    return f"{host.product.thumbprint}{'+test' if host.product.test else ''} {host.count_group}"


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
