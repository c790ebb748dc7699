"""Activation hosts in DNS: looking them up, and publishing one's own record (RFC 2136) with a key (RFC 8945).

Keeps: what a resolver is asked and what its answers mean. Leaves to others: which host is asked first (``core.srv``), whether it
may be believed (``core.hosting``: a record proves nothing).

- Asked are the domains given, else those this computer searches in (resolv.conf). Each has one answer: records, "no such
  record", or a fault of the resolver, and they are told apart: four causes, not one code.
- An update adds or removes exactly the record of one host. Records of others are read, and never touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.resolver
import dns.tsigkeyring
import dns.update

from keyturn.core.errors import KeyturnError
from keyturn.core.srv import SERVICE, Place

TIMEOUT = 5.0  # Seconds for one domain, all of its servers together.
TTL = 3_600  # Seconds: a host that is gone is not asked for longer than this.


class Answer(NamedTuple):
    """What one domain's servers said: places, or why there are none."""

    domain: str
    places: tuple[Place, ...]
    fault: str | None = None


class Update(NamedTuple):
    """Where and with which key a record is published. ``secret`` is base64, never shown."""

    server: str
    zone: str
    key_name: str | None = None
    secret: str | None = None
    algorithm: str = "hmac-sha256"
    port: int = 53

    def __repr__(self) -> str:
        return f"Update({self.zone} at {self.server}, {'with' if self.secret else 'without'} a key)"


def search_domains() -> list[str]:
    """The domains this computer searches in: its own first. Raises: KeyturnError ``host_not_found`` without any resolver."""
    with _faults("resolv.conf"):
        resolver = dns.resolver.Resolver()
        names = [resolver.domain, *resolver.search]
    return list(dict.fromkeys(name.to_text(omit_final_dot=True) for name in names if name != dns.name.root))


def look_up(domains: Sequence[str], *, servers: Sequence[str] = (), port: int = 53, timeout: float = TIMEOUT) -> list[Answer]:
    """Ask each domain for its activation hosts. ``servers`` are addresses of resolvers, if not the system's.

    Raises: KeyturnError ``host_not_found`` if this computer has no resolver at all.
    """
    with _faults("resolv.conf"):
        resolver = dns.resolver.Resolver(configure=not servers)
    if servers:
        resolver.nameservers, resolver.port = list(servers), port
    return [_asked(resolver, domain, timeout) for domain in domains]


def publish(update: Update, place: Place, *, ttl: int = TTL, timeout: float = TIMEOUT) -> None:
    """Make the zone name this host, with its priority and weight; an older record of the same host is replaced.

    Raises: KeyturnError ``dns_refused``, ``dns_unreachable``.
    """
    message = _update(update)
    for old in _of_host(update, place, timeout):
        message.delete(SERVICE, "SRV", old)
    message.add(SERVICE, ttl, "SRV", _data(place))
    _send(update, message, timeout)


def withdraw(update: Update, place: Place, *, timeout: float = TIMEOUT) -> None:
    """Remove this host's record; one that is gone is removed already. Raises: as :func:`publish`."""
    message = _update(update)
    for old in _of_host(update, place, timeout):
        message.delete(SERVICE, "SRV", old)
    _send(update, message, timeout)


def published(update: Update, *, timeout: float = TIMEOUT) -> list[Place]:
    """All records of the zone, asked of the very server that takes updates. Raises: as :func:`publish`."""
    question = dns.message.make_query(f"{SERVICE}.{update.zone}", "SRV")
    with _unreachable(update):
        reply = dns.query.tcp(question, update.server, timeout=timeout, port=update.port)
    return [
        Place(item.target.to_text(omit_final_dot=True), item.port, item.priority, item.weight, update.zone)
        for rrset in reply.answer
        if rrset.rdtype == dns.rdatatype.SRV
        for item in rrset
    ]


def lines(place: Place, domain: str, style: str) -> str:
    """The record for a zone that takes no update, to copy: for ``bind``, ``powershell`` or ``dnsmasq``."""
    host, port, priority, weight = place.target, place.port, place.priority, place.weight
    if style == "bind":
        return f"{SERVICE}.{domain}. {TTL} IN SRV {priority} {weight} {port} {host}."
    if style == "powershell":
        return (
            f'Add-DnsServerResourceRecord -Srv -ZoneName "{domain}" -Name "{SERVICE}" -DomainName "{host}"'
            f" -Priority {priority} -Weight {weight} -Port {port} -TimeToLive {TTL // 3600:02}:00:00"
        )
    return f"srv-host={SERVICE}.{domain},{host},{port},{priority},{weight}"


def _asked(resolver: dns.resolver.Resolver, domain: str, timeout: float) -> Answer:
    try:
        found = resolver.resolve(f"{SERVICE}.{domain}.", "SRV", lifetime=timeout, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return Answer(domain, (), f"DNS names no activation host in {domain}")
    except dns.resolver.NoNameservers:
        return Answer(domain, (), f"the name servers cannot answer for {domain}")
    except dns.exception.Timeout:
        return Answer(domain, (), f"no name server answered within {timeout:g} s")
    except dns.exception.DNSException as error:
        return Answer(domain, (), f"{domain} cannot be asked for: {type(error).__name__}")
    # A target of "." says that the service is decidedly not there (RFC 2782).
    places = [
        Place(item.target.to_text(omit_final_dot=True), item.port, item.priority, item.weight, domain)
        for item in found
        if item.target != dns.name.root
    ]
    return Answer(domain, tuple(places), None if places else f"DNS says that {domain} has no activation host")


def _update(update: Update) -> dns.update.UpdateMessage:
    if update.secret is None:
        return dns.update.UpdateMessage(update.zone)
    name = update.key_name or "keyturn"
    try:
        ring = dns.tsigkeyring.from_text({name: (update.algorithm, update.secret)})
        return dns.update.UpdateMessage(
            update.zone, keyring=ring, keyname=dns.name.from_text(name), keyalgorithm=update.algorithm
        )
    except (ValueError, dns.exception.DNSException) as error:
        raise KeyturnError("dns_refused", f"the key {name} is not understood") from error


def _of_host(update: Update, place: Place, timeout: float) -> list[str]:
    return [_data(old) for old in published(update, timeout=timeout) if old.target.lower() == place.target.lower()]


def _data(place: Place) -> str:
    return f"{place.priority} {place.weight} {place.port} {place.target}."


def _send(update: Update, message: dns.update.UpdateMessage, timeout: float) -> None:
    with _unreachable(update):
        reply = dns.query.tcp(message, update.server, timeout=timeout, port=update.port)
    code = reply.rcode()
    if code != 0:
        raise KeyturnError("dns_refused", f"{update.server} refuses to change {update.zone}: {code.name}")


@contextlib.contextmanager
def _unreachable(update: Update) -> Iterator[None]:
    try:
        yield
    except (dns.exception.Timeout, OSError, EOFError) as error:
        raise KeyturnError("dns_unreachable", f"the name server {update.server} does not answer") from error
    except dns.exception.DNSException as error:
        raise KeyturnError("dns_refused", f"{update.server}: {type(error).__name__}") from error


@contextlib.contextmanager
def _faults(place: str) -> Iterator[None]:
    try:
        yield
    except dns.exception.DNSException as error:
        raise KeyturnError("host_not_found", f"this computer has no name server ({place})") from error
