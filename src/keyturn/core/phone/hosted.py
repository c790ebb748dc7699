"""An activation host's answer by telephone: an ordinary signature of an issuing key, carried by a person, in 572 bits.

Keeps: its fields, the document that is signed and how both sides rebuild it, the form in which the host shows it. Leaves to
others: spelling (``spelling``), what a host may do (``core.hosting``), the decision (the service), files (``host``).

========== ==== ============================================================================================================
field      bits holds
========== ==== ============================================================================================================
edition       3 the number of the edition of the ``client`` key that is served
day           9 whole days since the start of the issuing key that signed
lease_days   10 the longest lease
threshold    10 how many computers have to ask
serial       28 of the one ``client`` key that is served
signature   512 Ed25519, of the document below
========== ==== ============================================================================================================

- Not a confirmation ID: computers verify a host's certificate with every lease, and should need no pairing for it.
- The person carries the signature and what is not known on both sides. All else is: the installation ID, the product, the
  issuing keys. From these the host and the service make the same bytes (``jws.dumps``: sorted names, no white space, UTF-8).
- The host shows the document, ``~``, and what its installation ID commits to: its key, C and the salt. Those 40 bits are what
  binds the key: to find another one for them takes 2**40 runs of scrypt.

The page ``docs/protocol-telephone.md`` has the same in words, with vectors in ``tests/vectors/phone.json``.
"""

from __future__ import annotations

import functools
from typing import Any, Final, NamedTuple

from keyturn.core import jws, trust
from keyturn.core.documents import VERSION, Claims, ProductFile
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, Channel, ProductName, b64u
from keyturn.core.phone import installation, spelling
from keyturn.core.phone.installation import SALT_BYTES, InstallationID
from keyturn.core.phone.spelling import HOST_CONFIRMATION, INSTALLATION
from keyturn.core.phone.words import Book
from keyturn.core.trust import Chain, IssuingKey

DAYS: Final = 365  # From its day on, for as long as a host certificate that comes by file.

_SIGNATURE_BYTES = 64
_WIDTHS = (3, 9, 10, 10, 28)
_C_LENGTH = 43  # Of C, and of every SHA-256 in base64url.


class Head(NamedTuple):
    """What is said beside the signature, because one of the two sides cannot know it."""

    edition: int
    day: int
    lease_days: int
    threshold: int
    serial: int

    @property
    def fits(self) -> bool:
        """Whether each number fits its bits."""
        return all(0 <= value < 1 << width for value, width in zip(self, _WIDTHS, strict=True))


class HostConfirmation(NamedTuple):
    """One answer to a host's installation ID."""

    head: Head
    signature: bytes

    @property
    def number(self) -> int:
        """The 572 bits."""
        number = 0
        for value, width in zip(self.head, _WIDTHS, strict=True):
            number = number << width | value
        return number << 8 * _SIGNATURE_BYTES | int.from_bytes(self.signature, "big")

    @property
    def text(self) -> str:
        """The 210 digits in 35 groups, each with its check digit."""
        return spelling.spell(self.number, HOST_CONFIRMATION)

    def words(self, book: Book) -> tuple[str, ...]:
        """The 54 words, the last two of which check the others."""
        return spelling.spell_words(self.number, HOST_CONFIRMATION, book)


class Told(NamedTuple):
    """What a host's document says, verified. ``public`` is the host's raw key."""

    to: InstallationID
    public: bytes
    serial: int
    edition: str
    lease_days: int
    threshold: int
    issued_at: int
    expires_at: int


def read(text: str, book: Book | None = None) -> HostConfirmation:
    """The host's confirmation ID that a person typed, in digits or words. Raises: KeyturnError as :func:`spelling.read`."""
    return of(spelling.read(text, HOST_CONFIRMATION, book))


def of(number: int) -> HostConfirmation:
    """The answer of 572 bits."""
    rest, signature = divmod(number, 1 << 8 * _SIGNATURE_BYTES)
    found: list[int] = []
    for width in reversed(_WIDTHS):
        rest, value = divmod(rest, 1 << width)
        found.insert(0, value)
    return HostConfirmation(Head(*found), signature.to_bytes(_SIGNATURE_BYTES, "big"))


def payload(product: ProductName, to: InstallationID, head: Head, start: int) -> bytes:
    """What is signed, behind the header of its kind: the same bytes at both ends. ``start`` is the issuing key's."""
    issued_at = start + head.day * DAY
    said = spelling.spell(to.number, INSTALLATION, "")
    return jws.dumps({
        "v": VERSION, "product": str(product), "test": product.test, "installation_id": said, "serves": head.serial,
        "edition": head.edition, "lease_days": head.lease_days, "threshold": head.threshold,
        "iat": issued_at, "exp": issued_at + DAYS * DAY,
    })  # fmt: skip


def taken(code: HostConfirmation, product: ProductName, to: InstallationID, chain: Chain) -> str:
    """The document that this answer to this installation ID signs, as a token.

    1. The issuing keys of the product's role, the newest first, whose time holds the answer's day. 2. The signature holds for the
    document as that key would have signed it.

    Raises: KeyturnError ``code_foreign``: made for another installation ID, or by nobody who is known here.
    """
    # 1.
    for key in _issuing(chain, product):
        if key.not_before + code.head.day * DAY > key.not_after:
            continue
        # 2.
        signed = jws.signing_input(Kind.HOST_PHONE, key.kid, payload(product, to, code.head, key.not_before))
        if jws.holds(key.public, code.signature, signed):
            return jws.assemble(signed, code.signature)
    raise KeyturnError("code_foreign")


def shown(document: str, public: bytes, committed: str, salt: bytes) -> str:
    """A document in the form in which the host keeps and shows it; ``committed`` is C (``hardware.commitment``)."""
    return f"{document}~{b64u(jws.dumps({'commitment': committed, 'jwk': jws.jwk(public), 'salt': b64u(salt)}))}"


def verify(token: str, product: ProductFile, chain: Chain) -> Told:
    """Verify a document in the form that :func:`shown` gives it.

    1. An issuing key of the publisher signed it, with the product's role, within that key's time.
    2. It is for this product, an edition of it, and answers a host's installation ID.
    3. What is beside it is written in the one way there is, and is what that ID commits to; an ID of weak evidence names the
       key, too. Once something fitted, nothing else is tried: whoever shows a host one certificate in a thousand ways must not
       make it run scrypt a thousand times.

    Whether the signer was revoked is the caller's question. Raises: KeyturnError as ``Chain.verify``, ``document_malformed``,
    ``document_foreign``.
    """
    # 1.
    document, _, beside = token.partition("~")
    c = Claims(Kind.HOST_PHONE, claims := chain.verify(document, Kind.HOST_PHONE, trust.role_for(product.name.test)))
    # 2.
    to = installation.read(c.text("installation_id", 54))
    if claims.get("product") != str(product.name) or to.channel is not Channel.HOST:
        raise KeyturnError("document_foreign", f"the host certificate is for {c.text('product')}, not for {product.name}")
    # 3.
    public, committed, salt = _beside(beside)
    jkt = jws.thumbprint(public)
    names, fitted = not to.weak or installation.prefix_of(jkt) == to.seat, _fitted(document)
    tried = bool(fitted) and fitted != [beside]
    if not names or tried or installation.commitment(product.name, committed, jkt, salt) != to.commitment:
        raise KeyturnError("document_foreign", "the host certificate answers another host's installation ID")
    fitted[:] = [beside]
    return Told(
        to, public, c.number("serves"), product.edition_of(c.number("edition")), c.number("lease_days"), c.number("threshold"),
        c.number("iat"), c.number("exp"),
    )  # fmt: skip


@functools.lru_cache(maxsize=256)
def _fitted(_document: str) -> list[str]:
    """What fitted beside a verified document, as far as this process knows: nothing at first."""
    return []


def _beside(text: str) -> tuple[bytes, str, bytes]:
    """Key, C and salt. Raises: KeyturnError ``document_malformed``."""
    data = jws.unspelled(text)
    value: dict[str, Any] = jws.loads(data)
    committed = value.get("commitment")
    if value.keys() != {"commitment", "jwk", "salt"} or not isinstance(committed, str) or len(committed) != _C_LENGTH:
        raise KeyturnError("document_malformed", "what is beside the host certificate is not understood")
    public, salt = jws.public_from_jwk(value["jwk"]), jws.decoded(value["salt"], SALT_BYTES)
    # One certificate has one spelling: its digest names it elsewhere.
    if data != jws.dumps({"commitment": committed, "jwk": jws.jwk(public), "salt": b64u(salt)}):
        raise KeyturnError("document_malformed", "what is beside the host certificate is written in another way")
    return public, committed, salt


def _issuing(chain: Chain, product: ProductName) -> list[IssuingKey]:
    """The issuing keys of the product's role, each as the newest bundle that names it says, the newest first."""
    role = trust.role_for(product.test)
    named = {kid: key for bundle in chain.bundles for kid, key in bundle.keys.items()}
    return sorted((key for key in named.values() if key.role == role), key=lambda key: key.not_before, reverse=True)
