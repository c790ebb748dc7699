"""Files people carry: ``.ktproduct``, ``.ktx`` and ``.kttrust`` are small JSON objects around signed documents; ``.ktcert``
is the bare certificate.

Nothing here is believed because of the file: only the documents inside are signed. Unknown names are ignored.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keyturn.core import documents, jws, trust
from keyturn.core.documents import ProductFile
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.trust import Chain

MAX_FILE = 16 * 1024 * 1024
MAX_ITEMS = 10_000
KINDS = ("product", "exchange", "trust")


class Item(NamedTuple):
    """One request or release of an exchange file, and what the service said: an answer, a refusal, or nothing yet."""

    document: str
    answer: dict[str, Any] | None = None
    refused: dict[str, Any] | None = None

    @property
    def open(self) -> bool:
        return self.answer is None and self.refused is None

    def as_json(self) -> dict[str, Any]:
        return {"document": self.document, "answer": self.answer, "refused": self.refused}


class Opened(NamedTuple):
    """A product file that verified: what it says, whom to believe, and the signed document itself."""

    product: ProductFile
    chain: Chain
    document: str

    def container(self) -> dict[str, Any]:
        return {"keyturn": "product", "v": 1, "bundles": list(self.chain.texts), "product": self.document}


def unpack(data: bytes) -> tuple[str, dict[str, Any]]:
    """Say which kind of file this is, and give its content. A bare certificate is ``certificate``.

    Raises: KeyturnError ``file_malformed``, ``input_too_large``.
    """
    if len(data) > MAX_FILE:
        raise KeyturnError("input_too_large", f"a Keyturn file has at most {MAX_FILE} bytes")
    text = data.decode("utf-8", "replace").strip()
    if not text.startswith("{"):
        try:
            if jws.kind_of(text) is Kind.CERTIFICATE:
                return "certificate", {"certificate": text}
        except KeyturnError as error:
            raise KeyturnError("file_malformed", "this is no Keyturn file") from error
    try:
        value = jws.loads(data)
    except KeyturnError as error:
        raise KeyturnError("file_malformed", f"this is no Keyturn file: {error.detail}") from error
    kind = value.get("keyturn")
    if kind not in KINDS or value.get("v") != 1:
        raise KeyturnError("file_malformed", "this is no Keyturn file, or one of a version that is not known here")
    return str(kind), value


def expect(data: bytes, wanted: str) -> dict[str, Any]:
    """The content of a file of the ``wanted`` kind. Raises: KeyturnError ``file_malformed``."""
    kind, value = unpack(data)
    if kind != wanted:
        raise KeyturnError("file_malformed", f"a {wanted} file is expected here, and this is a {kind} file")
    return value


def open_product(value: dict[str, Any], thumbprint: str | None = None) -> Opened:
    """Verify a product file (or the part of an exchange file that is one).

    ``thumbprint`` is the publisher expected; without one the file's own publisher is taken, and the caller must show
    who that is. Raises: KeyturnError ``publisher_mismatch``, ``trust_invalid``, ``signature_invalid``, ``file_malformed``.
    """
    bundles, document = value.get("bundles"), value.get("product")
    if (
        not isinstance(bundles, list)
        or not bundles
        or not all(isinstance(b, str) for b in bundles)
        or not isinstance(document, str)
    ):
        raise KeyturnError("file_malformed", "the file lacks its trust bundles or its product")
    chain = trust.verify_chain(bundles, thumbprint or trust.pin_of(bundles[0]))
    kid = jws.read_header(document, Kind.PRODUCT).kid
    # Which of the two roles is asked for is the signed file's own word, checked again inside.
    roles = {key.role for bundle in chain.bundles for key in bundle.keys.values() if key.kid == kid}
    role = trust.ROLE_TEST if roles == {trust.ROLE_TEST} else trust.ROLE_ISSUE
    return Opened(documents.read_product(document, chain, role=role), chain, document)


def renewed(known: Opened, chain: Chain, document: object) -> Opened:
    """What is known of a product, under a longer ``chain`` and with the product file that came beside an answer, if any.

    It is taken if it is the same product's, not older, and its signer is not revoked; otherwise the known one stays.
    """
    same = known._replace(chain=chain)
    if not isinstance(document, str):
        return same
    try:
        product = documents.read_product(document, chain, role=trust.role_for(known.product.name.test))
    except KeyturnError:
        return same  # What does not verify is as if it had not come.
    newer = product.name == known.product.name and product.version >= known.product.version
    return Opened(product, chain, document) if newer and chain.doubt(document, Kind.PRODUCT) is None else same


def exchange(opened: Opened, items: list[Item]) -> dict[str, Any]:
    """The content of a ``.ktx`` file."""
    return {**opened.container(), "keyturn": "exchange", "items": [item.as_json() for item in items]}


def items_of(value: dict[str, Any]) -> list[Item]:
    """Raises: KeyturnError ``file_malformed``."""
    found = value.get("items")
    if not isinstance(found, list) or len(found) > MAX_ITEMS:
        raise KeyturnError("file_malformed", f"an exchange file holds at most {MAX_ITEMS} requests")
    items = []
    for entry in found:
        if not isinstance(entry, dict) or not isinstance(entry.get("document"), str):
            raise KeyturnError("file_malformed", "an entry of the exchange file is not a request")
        answer, refused = entry.get("answer"), entry.get("refused")
        if not isinstance(answer, dict | None) or not isinstance(refused, dict | None):
            raise KeyturnError("file_malformed", "an answer in the exchange file is not understood")
        items.append(Item(entry["document"], answer, refused))
    return items
