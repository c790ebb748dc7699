"""The types of the HTTP interface: what is read from it, what it answers, and (``openapi``) how it is described.

One declaration does all three. Requests with unknown members are refused; of an answer only what is declared here leaves
the service. Signed documents are never read with these types, only described: their codec is ``core.jws``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from keyturn.service.desk import MAX_COUNT, MAX_PAGE, PAGE
from keyturn.service.finding import MAX_TEXT

MAX_SERIAL = 2**28 - 1

_PLAIN = r"^[^\x00-\x1f\x7f]*$"
Slug = Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{0,39}$", description="A letter, then up to 39 of a-z, 0-9 and -.")]
Line = Annotated[str, Meta(min_length=1, max_length=200, pattern=_PLAIN, description="One line of text.")]
Note = Annotated[str, Meta(max_length=500, pattern=_PLAIN, description="A remark for the staff.")]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, description="RFC 3339, in UTC.")]
Serial = Annotated[int, Meta(ge=0, le=MAX_SERIAL, description="A key's public number.")]
Seats = Annotated[int, Meta(ge=1, le=10_000_000, description="How many computers a key is for.")]
Days = Annotated[int, Meta(ge=0, le=36_500)]
Limit = Annotated[int, Meta(ge=1, le=MAX_PAGE, description="How many at most.")]
After = Annotated[
    str, Meta(min_length=1, max_length=80, pattern="^[a-z0-9-]+$", description="`next` of the page before.")
]
Identifier = Annotated[
    str, Meta(pattern="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", description="A UUID.")
]
Address = Annotated[
    str, Meta(max_length=500, pattern="^https?://[^\\x00-\\x20\\x7f]+$", description="An http(s) address.")
]
Channel = Literal["retail", "mak", "host", "client"]
Mode = Literal["enforce", "warn", "advise"]
First = Annotated[int, Meta(ge=1, le=1)]  # The version of a document.
How = Literal["new", "same", "moved"]
Digest = Annotated[str, Meta(min_length=1, max_length=64, description="base64url, without padding.")]
Seconds = Annotated[int, Meta(ge=0, description="NumericDate: seconds since 1970, in UTC.")]


class Asked(Struct, kw_only=True, forbid_unknown_fields=True):
    """What comes in: unknown members are refused."""


class Answer(Struct, kw_only=True):
    """What goes out: clients ignore members that they do not know."""


# --- what comes in ------------------------------------------------------------------------------------------------------


class Nothing(Asked):
    """No parameters, no content."""


class ByName(Asked):
    name: Slug


class BySlug(Asked):
    slug: Slug


class BySerial(Asked):
    serial: Serial


class ById(Asked):
    activation_id: Identifier


class Withdraw(Asked):
    """``withdraw=1``: also on the revocation list; computers that hear of it fall into a grace."""

    withdraw: Annotated[int, Meta(ge=0, le=1)] = 0


class Page(Asked):
    after: After | UnsetType = UNSET
    limit: Limit = PAGE


class KeyPage(Page):
    product: Slug | UnsetType = UNSET
    organization: Slug | UnsetType = UNSET


class ActivationPage(Page):
    serial: Serial | UnsetType = UNSET


class NewOrganization(Asked):
    name: Slug
    title: Line | None = None


class NewTerms(Asked):
    """The product's numbers; what is left out stays as it is, or is the default."""

    grace_days: Days | UnsetType = UNSET
    rearms: Days | UnsetType = UNSET
    remind_days: Days | UnsetType = UNSET
    moves_per_year: Days | UnsetType = UNSET
    returns_per_year: Days | UnsetType = UNSET
    weak_evidence: Literal["term", "refuse", "permanent"] | UnsetType = UNSET
    weak_days: Days | UnsetType = UNSET
    threshold: Annotated[int, Meta(ge=1, le=36_500)] | UnsetType = UNSET
    count_group: Slug | UnsetType = UNSET
    lease_days: Days | UnsetType = UNSET
    extended_days: Days | UnsetType = UNSET


class NewProduct(Asked):
    slug: Slug
    name: Line | None = None
    test: bool = False
    editions: Annotated[dict[Slug, Annotated[list[Slug], Meta(max_length=100)]], Meta(max_length=50)] = {}
    terms: NewTerms = field(default_factory=NewTerms)
    mode: Mode = "warn"
    terms_url: Address | None = None


class ProductChange(Asked):
    name: Line | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET
    terms_url: Address | UnsetType | None = UNSET
    terms: NewTerms | UnsetType = UNSET


class NewKeys(Asked):
    product: Slug
    channel: Channel = "retail"
    count: Annotated[int, Meta(ge=1, le=MAX_COUNT, description="How many keys.")] = 1
    limit: Seats = 1
    organization: Slug | None = None
    edition: Slug | None = None
    features: Annotated[list[Slug], Meta(max_length=100)] = []
    term_days: Annotated[int, Meta(ge=1, le=36_500)] | None = None
    until: Annotated[str, Meta(max_length=40, description="A date or time, RFC 3339.")] | None = None
    note: Note = ""


class KeyChange(Asked):
    limit: Seats | UnsetType = UNSET
    note: Note | UnsetType = UNSET


class Text(Asked):
    text: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]


# --- what goes out ------------------------------------------------------------------------------------------------------


class Organization(Answer):
    name: str
    title: str
    created_at: Time
    keys: int
    seats_used: int
    seats_limit: int


class Organizations(Answer):
    organizations: list[Organization]
    next: str | None


class Product(Answer):
    slug: str
    product: Annotated[str, Meta(description="The product's name for ever: the publisher's thumbprint, slug, test.")]
    name: str
    test: bool
    mode: str
    version: int
    terms_url: str | None
    terms: dict[str, Any]
    editions: dict[str, list[str]]
    keys: int
    seats_used: int
    created_at: Time


class Products(Answer):
    products: list[Product]
    next: str | None


class ProductFile(Answer):
    """A .ktproduct file, as it ships with the product."""

    keyturn: str
    v: int
    bundles: list[str]
    product: str


class MintedKey(Answer):
    key: Annotated[str, Meta(description="The product key: shown in this answer and never again.")]
    product_id: str
    serial: int
    channel: str
    limit: int


class MintedKeys(Answer):
    keys: list[MintedKey]


class Key(Answer):
    serial: int
    product_id: str
    product: str
    channel: str
    organization: str | None
    edition: str
    features: list[str]
    partial_key: str
    limit: int
    used: int
    blocked: bool
    term_days: int | None
    until: Time | None
    note: str
    created_at: Time


class Keys(Answer):
    keys: list[Key]
    next: str | None


class Activation(Answer):
    activation_id: str
    serial: int
    seat: int
    product_id: str
    evidence: str
    installations: int
    activated_at: Time
    ended_at: Time | None
    ended_by: str | None


class Activations(Answer):
    activations: list[Activation]
    next: str | None


class Incident(Answer):
    """A problem that was answered, by the reference number that the caller was told."""

    reference: str
    at: Time
    code: str
    title: str
    remedy: str
    status: int
    route: str
    request: Annotated[str, Meta(description="The request's identifier in the log.")]
    product_id: str | None


class Found(Answer, omit_defaults=True):
    kind: Literal["incident", "key", "activation", "organization"]
    incident: Incident | UnsetType = UNSET
    key: Key | UnsetType = UNSET
    activation: Activation | UnsetType = UNSET
    organization: Organization | UnsetType = UNSET


class FoundAll(Answer):
    found: list[Found]


# --- the public part ----------------------------------------------------------------------------------------------------


class Directory(Answer):
    """Every other address, and the publisher's trust bundles."""

    v: int
    publisher: str
    thumbprint: str
    exchange: str
    ask: str
    bundles: list[str]
    server_time: int


class Seat(Answer):
    how: How
    number: int
    used: int
    limit: int


class RequestClaims(Struct, kw_only=True):
    """What a request says: claims of a JWS of type `keyturn-request+jwt`, signed with the key that its header carries."""

    v: First
    product: Annotated[str, Meta(description="The product's name: `product` of its product file.")]
    test: bool
    product_id: Annotated[str, Meta(max_length=200)]
    serial: Serial
    key_proof: Annotated[Digest, Meta(description="HMAC with K of product, serial, key thumbprint and nonce.")]
    installation: Annotated[Identifier, Meta(description="A random UUID, made once on this computer.")]
    nonce: Annotated[Digest, Meta(description="Random, another one in every request.")]
    iat: Seconds
    scheme: Annotated[int, Meta(description="Version of the hardware scheme: 1.")]
    pairs: Annotated[dict[str, dict[str, str]], Meta(description="By scheme: hardware pairs; none is weak evidence.")]
    tags: dict[str, str]
    commitment: Annotated[Digest, Meta(description="SHA-256 of a salt and the hardware baseline.")]
    facts: dict[str, str | dict[str, str]]
    state: Annotated[int, Meta(ge=0, le=6)]
    bundle: Annotated[int, Meta(ge=0, description="Number of the newest trust bundle that is known.")]
    previous: str | None = None
    activation: str | None = None
    vm: str | None = None
    container: str | None = None
    ephemeral: bool = False
    allow_ephemeral: bool = False
    rebind: str | None = None


class ReleaseClaims(Struct, kw_only=True):
    """What a release says: claims of a JWS of type `keyturn-release+jwt`, signed as a request is."""

    v: First
    product: str
    test: bool
    serial: Serial
    activation: Identifier
    installation: Identifier
    certificate: Annotated[Digest, Meta(description="SHA-256 of the certificate that ends.")]
    iat: Seconds


class Certified(Answer):
    """The answer to a request: the activation certificate, and what travels beside it."""

    v: int
    certificate: str
    bundles: list[str]
    server_time: int
    renew_after: int
    seat: Seat
    product: str | None = None  # The product file of today, with new bundles or after a revocation.


class HostCertified(Answer):
    """The answer to a request of an activation host: its host certificate, and what travels beside it."""

    v: int
    host: str
    bundles: list[str]
    server_time: int
    renew_after: int
    seat: Seat
    product: str | None = None


class Released(Answer):
    """The answer to a release."""

    v: int
    released_at: int
    server_time: int


class Considered(Answer):
    """What a request would get; no seat was taken."""

    v: int
    how: How
    evidence: Literal["strong", "weak"]
    seats_used: int
    seats_limit: int
    server_time: int


class RevocationList(Answer):
    """A product's revocation list, a compact JWS, and the trust bundles that its signer is in."""

    v: int
    number: int
    revocations: str
    bundles: list[str]
    server_time: int


class Health(Answer):
    status: str


class Problem(Answer):
    """Every error (RFC 9457), with the codes of the catalogue."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    remedy: str
    reference: Annotated[str, Meta(description="Quote it to the publisher's staff: KT-7Q2F-91XM.")]
    retry_after: int | None
