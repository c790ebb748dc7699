"""What Keyturn's documents say: product files, requests, certificates, releases and local records.

Keeps: the claims of each kind as a typed value, written and read in one place.
Leaves to others: signatures (``jws``, ``trust``), and what follows from a document (``license``, ``issuance``).

- A reader takes *verified* claims; it checks version, types and sizes, and ignores claims it does not know.
- Names reserved from the first version: ``v scheme test evidence ephemeral seat activation commitment rebind serves
  features term serial bundle_floor``.
- Times are NumericDate (seconds). Sizes are bounded here, so that nothing later has to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from keyturn.core import hardware, jws
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind, Verified
from keyturn.core.model import Channel, ProductName
from keyturn.core.trust import Chain, Floor

VERSION = 1
UNAVAILABLE = "unavailable"

# Every fact of the request, in the order a person is shown them; privacy.toml says why each is sent.
FACTS = (
    "computer_make", "computer_model", "os_name", "os_version", "os_build", "product_version", "client_version",
    "region", "language", "firmware_name", "firmware_revision", "firmware_date", "boot_file_name",
    "boot_file_sha256", "installation_outcome", "validation_result",
)  # fmt: skip


class Claims:
    """Typed access to verified claims. Every method raises ``document_malformed`` naming the claim that is wrong."""

    def __init__(self, kind: Kind, claims: Mapping[str, Any]) -> None:
        self._kind = kind
        self._claims = claims
        if claims.get("v") != VERSION:
            raise KeyturnError("document_malformed", f"this {kind.value} is of a version that is not known here")

    def _fail(self, name: str, wanted: str) -> KeyturnError:
        return KeyturnError("document_malformed", f"claim {name!r} of the {self._kind.value} is not {wanted}")

    def text(self, name: str, limit: int = 200) -> str:
        value = self._claims.get(name)
        if not isinstance(value, str) or len(value) > limit:
            raise self._fail(name, f"a text of at most {limit} characters")
        return value

    def text_or_none(self, name: str, limit: int = 200) -> str | None:
        return None if self._claims.get(name) is None else self.text(name, limit)

    def number(self, name: str) -> int:
        value = self._claims.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._fail(name, "a whole number")
        return value

    def number_or_none(self, name: str) -> int | None:
        return None if self._claims.get(name) is None else self.number(name)

    def flag(self, name: str) -> bool:
        value = self._claims.get(name, False)
        if not isinstance(value, bool):
            raise self._fail(name, "true or false")
        return value

    def mapping(self, name: str, limit: int = 64) -> dict[str, Any]:
        value = self._claims.get(name)
        if not isinstance(value, dict) or len(value) > limit:
            raise self._fail(name, f"an object of at most {limit} names")
        return value

    def texts(self, name: str, limit: int = 64) -> dict[str, str]:
        value = self.mapping(name, limit)
        if not all(isinstance(item, str) and len(item) <= 200 for item in value.values()):
            raise self._fail(name, "an object of texts")
        return value

    def names(self, name: str, limit: int = 64) -> tuple[str, ...]:
        value = self._claims.get(name)
        if (
            not isinstance(value, list)
            or len(value) > limit
            or not all(isinstance(i, str) and len(i) <= 60 for i in value)
        ):
            raise self._fail(name, "a list of names")
        return tuple(value)

    def channel(self, name: str) -> Channel:
        try:
            return Channel(self._claims.get(name))
        except ValueError as error:
            raise self._fail(name, "a channel") from error


class ProductFile(NamedTuple):
    """The signed description that ships with a product."""

    name: ProductName
    title: str
    publisher: str
    version: int
    editions: Mapping[str, tuple[str, ...]]
    service_url: str
    probe_url: str | None
    terms_url: str | None
    ca: str | None
    mode: str
    terms: Mapping[str, Any]
    floor: Floor
    issued_at: int
    edition_numbers: Mapping[str, int] = {}  # In confirmation IDs; none in files from before telephone activation.

    def edition_of(self, number: int) -> str:
        """The edition that a telephone code means. Raises: KeyturnError ``document_foreign`` if this file names none of it."""
        found = next((name for name, known in self.edition_numbers.items() if known == number), None)
        if found is None or found not in self.editions:
            raise KeyturnError(
                "document_foreign", "the confirmation ID is for an edition that this product file does not name",
                remedy="Add the newest product file of the publisher: `keyturn product add FILE`.",
            )  # fmt: skip
        return found

    def claims(self) -> dict[str, Any]:
        return {
            "v": VERSION, "product": str(self.name), "test": self.name.test, "title": self.title,
            "publisher": self.publisher, "version": self.version,
            "editions": {edition: list(features) for edition, features in self.editions.items()},
            "urls": {"service": self.service_url, "probe": self.probe_url, "terms": self.terms_url},
            "ca": self.ca, "mode": self.mode, "terms": dict(self.terms),
            "bundle_floor": {"number": self.floor.number, "digest": self.floor.digest}, "iat": self.issued_at,
            **({"edition_numbers": dict(self.edition_numbers)} if self.edition_numbers else {}),
        }  # fmt: skip

    @classmethod
    def read(cls, claims: Mapping[str, Any]) -> ProductFile:
        """Raises: KeyturnError ``document_malformed``."""
        c = Claims(Kind.PRODUCT, claims)
        urls, floor, editions = c.mapping("urls"), c.mapping("bundle_floor"), c.mapping("editions")
        numbers = c.mapping("edition_numbers") if "edition_numbers" in claims else {}
        if not all(type(number) is int for number in numbers.values()) or len(set(numbers.values())) != len(numbers):
            raise KeyturnError("document_malformed", "the product file numbers two editions alike, or not at all")
        name = ProductName.parse(c.text("product"))
        if c.flag("test") != name.test or not isinstance(urls.get("service"), str):
            raise KeyturnError("document_malformed", "the product file contradicts itself")
        return cls(
            name, c.text("title"), c.text("publisher"), c.number("version"),
            {str(edition): tuple(map(str, features)) for edition, features in editions.items()},
            urls["service"], urls.get("probe"), urls.get("terms"), c.text_or_none("ca", 8000), c.text("mode", 10),
            c.mapping("terms"), Floor(int(floor.get("number", 0)), str(floor.get("digest"))), c.number("iat"),
            numbers,
        )  # fmt: skip


class Request(NamedTuple):
    """What a computer says when it asks for an activation. Everything here is declared in ``privacy.toml``.

    ``rebind`` is the key (thumbprint) of the fleet manager that may let a new installation on the same hardware use the answer.
    """

    product: ProductName
    product_id: str
    serial: int
    key_proof: str
    installation: str
    nonce: str
    made_at: int
    scheme: int
    pairs: Mapping[str, str]
    tags: Mapping[str, str]
    commitment: str
    facts: Mapping[str, Any]
    state: int
    previous: str | None
    activation: str | None
    vm: str | None
    container: str | None
    ephemeral: bool
    allow_ephemeral: bool
    bundle: int
    rebind: str | None = None

    def claims(self) -> dict[str, Any]:
        return {
            "v": VERSION, "product": str(self.product), "test": self.product.test, "product_id": self.product_id,
            "serial": self.serial, "key_proof": self.key_proof, "installation": self.installation,
            "nonce": self.nonce, "iat": self.made_at, "scheme": self.scheme,
            "pairs": {str(self.scheme): dict(self.pairs)}, "tags": dict(self.tags), "commitment": self.commitment,
            "facts": dict(self.facts), "state": self.state, "previous": self.previous,
            "activation": self.activation, "vm": self.vm, "container": self.container,
            "ephemeral": self.ephemeral, "allow_ephemeral": self.allow_ephemeral, "bundle": self.bundle, "rebind": self.rebind,
        }  # fmt: skip

    @classmethod
    def read(cls, claims: Mapping[str, Any]) -> Request:
        """Read a request, taking the pairs of the newest scheme that is known here.

        Raises: KeyturnError ``document_malformed``.
        """
        c = Claims(Kind.REQUEST, claims)
        schemes = c.mapping("pairs", 4)
        pairs = schemes.get(str(hardware.SCHEME))
        if not isinstance(pairs, dict) or not hardware.well_formed(pairs):
            raise KeyturnError("document_malformed", f"the request carries no pairs of scheme {hardware.SCHEME}")
        facts = c.mapping("facts")
        for name, value in facts.items():
            if not (isinstance(value, str) and len(value) <= 200 or isinstance(value, dict) and len(value) <= 4):
                raise KeyturnError("document_malformed", f"fact {name[:40]!r} is not a short text")
        return cls(
            ProductName.parse(c.text("product")), c.text("product_id"), c.number("serial"), c.text("key_proof"),
            c.text("installation", 40), c.text("nonce", 64), c.number("iat"), hardware.SCHEME, pairs,
            c.texts("tags", 16), c.text("commitment", 64), facts, c.number("state"), c.text_or_none("previous", 64),
            c.text_or_none("activation", 64), c.text_or_none("vm", 40), c.text_or_none("container", 40),
            c.flag("ephemeral"), c.flag("allow_ephemeral"), c.number("bundle"), c.text_or_none("rebind", 64),
        )  # fmt: skip


class Certificate(NamedTuple):
    """The service's signed proof that a key is bound to a seat and an installation."""

    product: ProductName
    publisher: str
    activation: str
    installation: str
    issued_at: int
    expires_at: int | None
    product_id: str
    serial: int
    channel: Channel
    edition: str
    features: tuple[str, ...]
    seat: int
    scheme: int
    evidence: str
    ephemeral: bool
    commitment: str
    request: str
    nonce: str
    holder: str
    activated_at: int
    term: str
    floor: Floor
    rebind: str | None = None

    def claims(self) -> dict[str, Any]:
        claims: dict[str, Any] = {
            "v": VERSION, "iss": self.publisher, "sub": self.installation, "jti": f"{self.activation}.{self.issued_at}",
            "iat": self.issued_at, "product": str(self.product), "test": self.product.test,
            "activation": self.activation, "product_id": self.product_id, "serial": self.serial,
            "channel": self.channel.value, "edition": self.edition, "features": list(self.features),
            "seat": self.seat, "scheme": self.scheme, "evidence": self.evidence, "ephemeral": self.ephemeral,
            "commitment": self.commitment, "request": self.request, "nonce": self.nonce,
            "cnf": {"jkt": self.holder}, "activated_at": self.activated_at, "term": self.term,
            "bundle_floor": {"number": self.floor.number, "digest": self.floor.digest},
        }  # fmt: skip
        if self.expires_at is not None:
            claims["exp"] = self.expires_at
        if self.rebind is not None:
            claims["rebind"] = self.rebind
        return claims

    @classmethod
    def read(cls, claims: Mapping[str, Any]) -> Certificate:
        """Raises: KeyturnError ``document_malformed``."""
        c = Claims(Kind.CERTIFICATE, claims)
        name = ProductName.parse(c.text("product"))
        holder, floor = c.mapping("cnf").get("jkt"), c.mapping("bundle_floor")
        if c.flag("test") != name.test or not isinstance(holder, str):
            raise KeyturnError("document_malformed", "the certificate contradicts itself, or names no holder")
        return cls(
            name, c.text("iss"), c.text("activation", 64), c.text("sub", 40), c.number("iat"), c.number_or_none("exp"),
            c.text("product_id"), c.number("serial"), c.channel("channel"), c.text("edition", 60), c.names("features"),
            c.number("seat"), c.number("scheme"), c.text("evidence", 10), c.flag("ephemeral"),
            c.text("commitment", 64), c.text("request", 64), c.text("nonce", 64), holder, c.number("activated_at"),
            c.text("term", 20), Floor(int(floor.get("number", 0)), str(floor.get("digest"))), c.text_or_none("rebind", 64),
        )  # fmt: skip


class Release(NamedTuple):
    """An installation gives its seat back. Signed by the installation key, it is also the certificate's revocation."""

    product: ProductName
    serial: int
    activation: str
    installation: str
    certificate: str
    released_at: int

    def claims(self) -> dict[str, Any]:
        return {
            "v": VERSION, "product": str(self.product), "test": self.product.test, "serial": self.serial,
            "activation": self.activation, "installation": self.installation, "certificate": self.certificate,
            "iat": self.released_at,
        }  # fmt: skip

    @classmethod
    def read(cls, claims: Mapping[str, Any]) -> Release:
        """Raises: KeyturnError ``document_malformed``."""
        c = Claims(Kind.RELEASE, claims)
        return cls(
            ProductName.parse(c.text("product")), c.number("serial"), c.text("activation", 64),
            c.text("installation", 40), c.text("certificate", 64), c.number("iat"),
        )  # fmt: skip


class Record(NamedTuple):
    """The local record: what a computer must remember about one product and cannot prove otherwise.

    ``high_water`` is the newest time seen; ``changed_at`` is when the hardware was first found out of tolerance. ``seen`` is
    what the clock said when this was noted: time that ran since counts, also on a clock that was set back. ``unsure``: the
    clock lay before the product file was made when the grace began, so the grace begins again once the clock is right.
    """

    product: ProductName
    installation: str
    grace_from: int
    high_water: int
    changed_at: int | None = None
    rearms: int = 0
    installation_outcome: str | None = None
    seen: int | None = None
    unsure: bool = False

    def claims(self) -> dict[str, Any]:
        return {
            "v": VERSION, "product": str(self.product), "test": self.product.test, "installation": self.installation,
            "grace_from": self.grace_from, "high_water": self.high_water, "changed_at": self.changed_at,
            "rearms": self.rearms, "installation_outcome": self.installation_outcome, "seen": self.seen,
            "unsure": self.unsure,
        }  # fmt: skip

    @classmethod
    def read(cls, claims: Mapping[str, Any]) -> Record:
        """Raises: KeyturnError ``document_malformed``."""
        c = Claims(Kind.RECORD, claims)
        return cls(
            ProductName.parse(c.text("product")), c.text("installation", 40), c.number("grace_from"),
            c.number("high_water"), c.number_or_none("changed_at"), c.number("rearms"),
            c.text_or_none("installation_outcome", 80), c.number_or_none("seen"), claims.get("unsure") is True,
        )  # fmt: skip


def read_request(token: str) -> tuple[Request, Verified]:
    """Verify a request with the key it carries, then read it. Raises: KeyturnError (see ``jws.verify``)."""
    verified = jws.verify_own(token, Kind.REQUEST)
    return Request.read(verified.claims()), verified


def read_product(token: str, chain: Chain, *, role: str) -> ProductFile:
    """Verify a product file against its publisher's chain, then read it.

    1. An issuing key of the chain signed it, with ``role``, within its time.
    2. Its product name has the chain's thumbprint, and its test flag is that of the role.
    3. The chain reaches the file's own bundle floor.

    Raises: KeyturnError ``trust_invalid``, ``signature_invalid``, ``publisher_mismatch``, ``document_malformed``.
    """
    # 1.
    product = ProductFile.read(chain.verify(token, Kind.PRODUCT, role))
    # 2.
    if product.name.thumbprint != chain.thumbprint:
        raise KeyturnError("publisher_mismatch", "the product file names another publisher than the one who signed it")
    if product.name.test != (role == "test"):
        raise KeyturnError("trust_invalid", "a test key signs test products only")
    # 3.
    if not any(
        bundle.number == product.floor.number and bundle.digest == product.floor.digest for bundle in chain.bundles
    ):
        raise KeyturnError("trust_invalid", "the product file asks for a newer trust bundle than it came with")
    return product
