"""What an activation host may do, and what it signs: host certificate, lease, endorsement, identity.

Keeps: these documents, and how each is verified from the publisher's chain down.
Leaves to others: which lease a request gets (``leasing``), where a leased copy stands (``license``), HTTP and rows (``host``).

- The service certifies the host's own key for some products, some ``client`` keys, and a length of leases; a lease carries that
  certificate along. No secret is shared, and whoever owns every client cannot make a lease.
- A lease counts if it was issued while the host certificate was in force, and is no longer than that allows: an expired host
  certificate un-licenses nobody.
- An endorsement says which TLS certificate is the host's. A client checks it before it sends anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keyturn.core import jws, trust
from keyturn.core.documents import VERSION, Certificate, Claims, ProductFile, Request
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, Channel, ProductName, product_id, rfc3339
from keyturn.core.terms import Terms
from keyturn.core.trust import Chain, Floor

LEASED = "lease"  # The term of a certificate that is a lease.
ONLINE_DAYS, FILE_DAYS = 90, 365  # How long a host certificate lasts, by the way it came.
MAX_SERVED = 1_000
MARK = "~"  # Behind it: what a host certificate that came by telephone has beside the publisher's document.


class Served(NamedTuple):
    """What computers with one ``client`` key get: an edition and features."""

    edition: str
    features: tuple[str, ...]


class HostCertificate(NamedTuple):
    """The service's permission for a host to issue leases of one product.

    ``public`` is the host's raw Ed25519 key, ``serves`` the ``client`` keys by serial, ``lease_days`` the longest lease,
    ``capacity`` the most computers at a time (``None``: as many as come).
    """

    product: ProductName
    publisher: str
    activation: str
    installation: str
    public: bytes
    issued_at: int
    expires_at: int
    product_id: str
    serial: int
    organization: str | None
    serves: Mapping[int, Served]
    lease_days: int
    threshold: int
    count_group: str
    capacity: int | None
    request: str
    nonce: str
    floor: Floor

    @property
    def holder(self) -> str:
        """The thumbprint of the host's key."""
        return jws.thumbprint(self.public)

    def claims(self) -> dict[str, Any]:
        return {
            "v": VERSION, "iss": self.publisher, "sub": self.installation, "jti": f"{self.activation}.{self.issued_at}",
            "iat": self.issued_at, "exp": self.expires_at, "product": str(self.product), "test": self.product.test,
            "activation": self.activation, "product_id": self.product_id, "serial": self.serial,
            "organization": self.organization, "cnf": {"jkt": self.holder, "jwk": jws.jwk(self.public)},
            "serves": {str(serial): {"edition": s.edition, "features": list(s.features)} for serial, s in self.serves.items()},
            "lease_days": self.lease_days, "threshold": self.threshold, "count_group": self.count_group,
            "capacity": self.capacity, "request": self.request, "nonce": self.nonce,
            "bundle_floor": {"number": self.floor.number, "digest": self.floor.digest},
        }  # fmt: skip

    @classmethod
    def read(cls, claims: Mapping[str, Any]) -> HostCertificate:
        """Raises: KeyturnError ``document_malformed``."""
        c = Claims(Kind.HOST, claims)
        name, key, floor = ProductName.parse(c.text("product")), c.mapping("cnf"), c.mapping("bundle_floor")
        public = jws.public_from_jwk(key.get("jwk"))
        if c.flag("test") != name.test or key.get("jkt") != jws.thumbprint(public):
            raise KeyturnError("document_malformed", "the host certificate contradicts itself")
        return cls(
            name, c.text("iss"), c.text("activation", 64), c.text("sub", 40), public, c.number("iat"), c.number("exp"),
            c.text("product_id"), c.number("serial"), c.text_or_none("organization"), _served(c.mapping("serves", MAX_SERVED)),
            c.number("lease_days"), c.number("threshold"), c.text("count_group", 60), c.number_or_none("capacity"),
            c.text("request", 64), c.text("nonce", 64), Floor(int(floor.get("number", 0)), str(floor.get("digest"))),
        )  # fmt: skip


class Lease(NamedTuple):
    """A host's dated activation: a certificate of the term ``lease``, and the lease of this installation before it (digest)."""

    certificate: Certificate
    previous: str | None
    host: str  # The activation of the host certificate.

    def claims(self) -> dict[str, Any]:
        return {**self.certificate.claims(), "previous": self.previous, "host": self.host}


class Endorsement(NamedTuple):
    """The host's word for its TLS certificate: the base64url SHA-256 of that certificate's DER form."""

    tls: str
    issued_at: int
    expires_at: int

    def claims(self) -> dict[str, Any]:
        return {"v": VERSION, "tls": self.tls, "iat": self.issued_at, "exp": self.expires_at}


class Identity(NamedTuple):
    """A host tells one of two copies of an installation to become an installation of its own.

    It answers one request (digest and nonce), so it cannot be sent to anybody else.
    """

    product: ProductName
    request: str
    nonce: str
    installation: str  # The GUID to take; the key pair is made by the computer itself.
    reason: str
    issued_at: int

    def claims(self) -> dict[str, Any]:
        return {
            "v": VERSION, "product": str(self.product), "test": self.product.test, "request": self.request, "nonce": self.nonce,
            "installation": self.installation, "reason": self.reason, "iat": self.issued_at,
        }  # fmt: skip


def published(token: str) -> tuple[str, Kind]:
    """The publisher's document in a host certificate, and its kind: one that came by telephone has something beside it."""
    document, mark, _ = token.partition(MARK)
    return document, Kind.HOST_PHONE if mark else Kind.HOST


def read_host(token: str, product: ProductFile, chain: Chain, *, doubtful: bool = False) -> HostCertificate:
    """Verify a host certificate, in either form: as it came online or by file, or by telephone.

    1. An issuing key of the publisher signed it, with the product's role, within that key's time, and was not revoked since;
       ``doubtful`` leaves that last judgement to the caller, for what is held already. One that came by telephone answers the
       installation ID of the key beside it, too (``hosted.verify``).
    2. It is for this product, and the chain reaches its bundle floor.

    Raises: KeyturnError ``trust_invalid``, ``signature_invalid``, ``document_expired``, ``issuer_revoked``, ``document_foreign``.
    """
    # 1.
    document, kind = published(token)
    if kind is Kind.HOST_PHONE:
        host = _by_telephone(token, product, chain)
    else:
        host = HostCertificate.read(chain.verify(token, Kind.HOST, trust.role_for(product.name.test)))
    if not doubtful and chain.doubt(document, kind) is not None:
        raise KeyturnError("issuer_revoked", "the host certificate is signed by a key that its publisher revoked")
    # 2.
    if host.product != product.name:
        raise KeyturnError("document_foreign", f"the host certificate is for {host.product}, not for {product.name}")
    if host.floor.number > chain.newest.number:
        raise KeyturnError("trust_invalid", "the host certificate asks for a newer trust bundle than is known")
    return host


def verify_lease(token: str, host: HostCertificate) -> Lease:
    """Verify a lease against the host certificate that came with it.

    1. The host's key signed it, as a lease.
    2. It is for the host's product, and what the host serves: this ``client`` key, edition and features.
    3. It was issued while the host certificate was in force, and is dated, and no longer than the host may give.

    Binding to installation, request and hardware is checked as for any certificate (``license.check_certificate``).
    Raises: KeyturnError ``signature_invalid``, ``document_foreign``, ``document_expired``, ``document_malformed``.
    """
    # 1.
    claims = jws.verify(token, Kind.LEASE, lambda kid: host.public if kid == host.holder else None).claims()
    certificate = Certificate.read(claims)
    # 2.
    served = host.serves.get(certificate.serial)
    fits = served is not None and (certificate.edition, certificate.features) == served
    if certificate.product != host.product or not fits or certificate.term != LEASED:
        raise KeyturnError("document_foreign", "the host may not give such a lease")
    # 3.
    ends = certificate.expires_at
    if not host.issued_at <= certificate.issued_at <= host.expires_at:
        raise KeyturnError("document_expired", "the lease was not issued while the host certificate was in force")
    if ends is None or not 0 < ends - certificate.issued_at <= host.lease_days * DAY:
        raise KeyturnError("document_foreign", "the lease is longer than the host may give")
    c = Claims(Kind.LEASE, claims)
    return Lease(certificate, c.text_or_none("previous", 64), c.text("host", 64))


def verify_endorsement(token: str, public: bytes, tls: str, now: int) -> None:
    """Check that a server's key (``public``, raw) vouches for the TLS certificate ``tls`` (digest) now, within a day.

    Raises: KeyturnError ``signature_invalid``, ``host_untrusted``.
    """
    claims = jws.verify(token, Kind.ENDORSEMENT, lambda kid: public if kid == jws.thumbprint(public) else None).claims()
    c = Claims(Kind.ENDORSEMENT, claims)
    if c.text("tls", 64) != tls:
        raise KeyturnError("host_untrusted", "the server's own key does not vouch for this TLS certificate")
    if not c.number("iat") - DAY <= now <= c.number("exp") + DAY:
        raise KeyturnError("host_untrusted", "the endorsement of the TLS certificate is not of this time")


def verify_identity(token: str, host: HostCertificate, request: Request, digest: str) -> Identity:
    """Verify the host's answer that the sender of ``request`` (``digest``) is to be an installation of its own.

    1. The host's key signed it, as an identity, while the host certificate was in force.
    2. It answers this request, and the host serves its ``client`` key: another organization's host has no say.

    Raises: as :func:`verify_lease`.
    """
    # 1.
    claims = jws.verify(token, Kind.IDENTITY, lambda kid: host.public if kid == host.holder else None).claims()
    c = Claims(Kind.IDENTITY, claims)
    found = Identity(
        ProductName.parse(c.text("product")), c.text("request", 64), c.text("nonce", 64), c.text("installation", 40),
        c.text("reason", 40), c.number("iat"),
    )  # fmt: skip
    if not host.issued_at <= found.issued_at <= host.expires_at:
        raise KeyturnError("document_expired", "the identity was not issued while the host certificate was in force")
    # 2.
    if (found.product, found.request, found.nonce) != (host.product, digest, request.nonce) or request.serial not in host.serves:
        raise KeyturnError("document_foreign", "the answer is for another request, or another organization's")
    return found


def check_moment(issued_at: int, request: Request, now: int) -> None:
    """Check that what a host signed was made between the ``request`` it answers and ``now``, within a day.

    A host whose clock is elsewhere would set this computer's newest time seen; one whose certificate has ended could go on by
    signing under an earlier date. The same answer may come days later: it is older than now, and not older than its request.
    Raises: KeyturnError ``document_expired``, with both times.
    """
    if not min(request.made_at, now) - DAY <= issued_at <= now + DAY:
        made = rfc3339(request.made_at)
        said = f"the host dates it {rfc3339(issued_at)}: the request is of {made}, now is {rfc3339(now)}"
        raise KeyturnError("document_expired", said)


def _served(values: Mapping[str, Any]) -> dict[int, Served]:
    found = {}
    for serial, value in values.items():
        if not serial.isdecimal() or not isinstance(value, dict):
            raise KeyturnError("document_malformed", "what the host serves is not understood")
        c = Claims(Kind.HOST, {"v": VERSION, **value})
        found[int(serial)] = Served(c.text("edition", 60), c.names("features"))
    return found


def _by_telephone(token: str, product: ProductFile, chain: Chain) -> HostCertificate:
    """What a code had no room for is the product file's: features are the edition's, the group is the terms'."""
    from keyturn.core.phone import hosted, spelling  # Computers without such a host need none of it.

    told = hosted.verify(token, product, chain)
    said = spelling.spell(told.to.number, spelling.INSTALLATION, "")
    return HostCertificate(
        product=product.name, publisher=product.publisher, activation=f"telephone-{said}", installation="", public=told.public,
        issued_at=told.issued_at, expires_at=told.expires_at,
        product_id=product_id(product.name.slug, Channel.HOST, told.to.serial), serial=told.to.serial, organization=None,
        serves={told.serial: Served(told.edition, product.editions[told.edition])}, lease_days=told.lease_days,
        threshold=told.threshold, count_group=Terms.read(product.terms).count_group, capacity=None, request="", nonce="",
        floor=product.floor,
    )  # fmt: skip
