"""What goes in and out at the addresses that fleet managers and relays use: batches of documents, and inquiries about a key.

Beside ``shapes``, which has everything else.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from keyturn.service.shapes import Answer, Digest, First, Seconds, Serial


class Batch(Struct, kw_only=True):
    """Several requests and releases, each a compact JWS."""

    documents: Annotated[list[str], Meta(min_length=1, max_length=500)]


class BatchAnswer(Answer):
    """An answer for each document, in their order: as it has when it comes alone, but for what stands beside them once.

    Instead of an answer there may be `refused`, with the members of a problem.
    """

    v: int
    answers: list[dict[str, Any]]
    bundles: Annotated[list[str], Meta(description="All trust bundles.")]
    products: Annotated[
        dict[str, str],
        Meta(description="Product files of today by product name, with new bundles or after a revocation."),
    ]
    server_time: int


class InquiryClaims(Struct, kw_only=True):
    """What an inquiry says: claims of a JWS of type `keyturn-inquiry+jwt`, signed with the key that its header carries."""

    v: First
    product: str
    test: bool
    serial: Serial
    key_proof: Annotated[Digest, Meta(description="As in a request, with the thumbprint of the key that signs this.")]
    nonce: Digest
    iat: Seconds


class KeyStanding(Answer):
    """How a product key stands, told to whoever proves to hold it."""

    v: int
    product_id: str
    channel: str
    edition: str
    limit: int
    used: int
    blocked: bool
    organization: str | None
    server_time: int
