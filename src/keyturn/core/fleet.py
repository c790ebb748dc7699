"""What passes between a fleet manager and the agents of its computers, and what it asks of them.

Keeps: enrollment token, enrollment and check-in as signed documents, the steps that an action is made of, the
fleet's key per product.
Leaves to others: rows (``fleet``), HTTP (``flows.fleet``), what an agent does in a step (``client``).

- Agents ask; nothing connects to a managed computer, and no administrator's password ever travels to one.
- An agent signs with a key of its own, which belongs to this organization alone. Numbers of check-ins only grow: a recorded one
  is worth nothing.
- The fleet has one seed and a key for each product made from it: publishers who compare what they see find nothing in common.
- Each step may be done twice with the same end, so a lost reply or a killed program costs time and nothing else.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keyturn.core import hardware, jws
from keyturn.core.documents import VERSION, Claims
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind, Verified
from keyturn.core.model import ProductName, b64u, sha256_b64u

PREFIX = "ktf1."
MAX_TOKEN = 2_000
MAX_PRODUCTS = 64  # Of one computer.
MAX_OUTCOMES = 64  # Told at once.

ACTIONS = ("install-key", "activate", "deactivate", "refresh", "rearm", "rebind")
WAYS = ("proxy", "file", "online", "host", "telephone")
# What is done on the computer, and what the manager does itself; in the words of the wire.
AGENT_STEPS = (
    "install", "request", "accept", "rebind", "online", "host", "telephone", "confirm", "release", "released", "refresh", "rearm",
)  # fmt: skip
# Waited for in these: the publisher's answer, a file, a person with a confirmation ID.
SEND, CARRY, CALL = "send", "carry", "call"
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
ENDS = (DONE, FAILED, CANCELLED)
# What a computer says of a confirmation ID that does not answer its installation ID, which goes on waiting,
ANOTHER_CODE = ("code_foreign", "code_malformed", "code_mistyped", "issuer_revoked", "document_expired")
# and where its installation ID is of a key, installation or hardware that is another one by now: it makes a new one.
ANOTHER_ID = ("document_foreign", "hardware_other")


class EnrollmentToken(NamedTuple):
    """What lets a computer join: where the manager is, whose key proves it (thumbprint), and a secret that proves
    the computer.
    """

    url: str
    key: str
    secret: str

    @property
    def text(self) -> str:
        return PREFIX + b64u(jws.dumps(self._asdict()))

    def __repr__(self) -> str:
        return f"<enrollment token for {self.url}>"

    @classmethod
    def parse(cls, text: str) -> EnrollmentToken:
        """Raises: KeyturnError ``file_malformed``."""
        text = text.strip()
        body = text.removeprefix(PREFIX)
        try:
            value = jws.loads(base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True))
            found = cls(value["url"], value["key"], value["secret"])
        except (ValueError, KeyError, binascii.Error, KeyturnError):
            found = cls("", "", "")
        whole = text.startswith(PREFIX) and len(text) <= MAX_TOKEN and all(isinstance(part, str) for part in found)
        if not whole or not found.url.startswith("https://"):
            remedy = "Copy it whole, or make another: `keyturn fleet token create`."
            raise KeyturnError("file_malformed", "this is no enrollment token of a fleet manager", remedy=remedy)
        return found


class Enrollment(NamedTuple):
    """A computer asks to join. ``name`` is what people call it; it stays in the organization."""

    secret: str
    name: str
    made_at: int

    def claims(self) -> dict[str, Any]:
        return {"v": VERSION, "secret": self.secret, "name": self.name, "iat": self.made_at}


class Outcome(NamedTuple):
    """How a step went: of which task and product, with an error's code and words if it failed, and what it gave (``data``)."""

    task: str
    product: str
    step: str
    code: str | None
    detail: str | None
    remedy: str | None
    retry_after: int | None
    data: Mapping[str, Any]


class CheckIn(NamedTuple):
    """A computer says how it is: its ``products`` as in ``status --json``, and how the steps went that it was given.

    ``hardware`` are its pairs, tagged for this fleet (``identity``); none if it shows none.
    """

    number: int
    name: str
    made_at: int
    vm: str | None
    products: Sequence[Mapping[str, Any]]
    outcomes: Sequence[Outcome]
    hardware: Mapping[str, str] = {}

    def claims(self) -> dict[str, Any]:
        return {
            "v": VERSION, "number": self.number, "name": self.name, "iat": self.made_at, "vm": self.vm,
            "products": [dict(one) for one in self.products], "outcomes": [one._asdict() for one in self.outcomes],
            "hardware": dict(self.hardware),
        }  # fmt: skip


# What a check-in tells of a product: the members of ``status --json`` that a fleet manager keeps.
TOLD = (
    "product", "name", "edition", "product_id", "partial_key", "installation_guid", "activation_id", "channel", "via", "state",
    "usable", "evidence", "activated_at", "valid_until", "grace_until", "reason", "remedy",
)  # fmt: skip
_TEXTS = tuple(name for name in TOLD if name != "usable")


def read_enrollment(token: str) -> tuple[Enrollment, Verified]:
    """Verify with the key that it carries, then read. Raises: KeyturnError (see ``jws.verify_own``)."""
    verified = jws.verify_own(token, Kind.ENROLLMENT)
    c = Claims(Kind.ENROLLMENT, verified.claims())
    return Enrollment(c.text("secret", 64), c.text("name", 255), c.number("iat")), verified


def read_check_in(token: str, **options: Any) -> tuple[CheckIn, Verified]:
    """Verify with the key that it carries, then read; ``options`` and errors as of ``jws.verify_own``."""
    verified = jws.verify_own(token, Kind.CHECK_IN, **options)
    claims = verified.claims()
    c = Claims(Kind.CHECK_IN, claims)
    products, outcomes = claims.get("products"), claims.get("outcomes")
    if not isinstance(products, list) or not isinstance(outcomes, list):
        raise KeyturnError("document_malformed", "products and outcomes of a check-in are lists")
    if len(products) > MAX_PRODUCTS or len(outcomes) > MAX_OUTCOMES:
        raise KeyturnError("input_too_large", f"a check-in tells of at most {MAX_PRODUCTS} products")
    pairs = claims.get("hardware")
    if not isinstance(pairs, dict) or not hardware.well_formed(pairs):
        raise KeyturnError("document_malformed", "the hardware of a check-in is not made of pairs")
    read = CheckIn(
        c.number("number"), c.text("name", 255), c.number("iat"), c.text_or_none("vm", 40),
        [_product(one) for one in products], [_outcome(one) for one in outcomes], dict(pairs),
    )  # fmt: skip
    return read, verified


def _product(value: object) -> dict[str, Any]:
    c = Claims(Kind.CHECK_IN, {"v": VERSION, **value} if isinstance(value, dict) else {})
    told: dict[str, Any] = {name: c.text_or_none(name, 300) for name in _TEXTS}
    told["product"] = str(ProductName.parse(c.text("product")))
    return {**told, "name": c.text("name"), "state": c.text("state", 30), "usable": c.flag("usable")}


def _outcome(value: object) -> Outcome:
    c = Claims(Kind.CHECK_IN, {"v": VERSION, **value} if isinstance(value, dict) else {})
    return Outcome(
        c.text("task", 40), c.text("product"), c.text("step", 20), c.text_or_none("code", 60), c.text_or_none("detail", 500),
        c.text_or_none("remedy", 500), c.number_or_none("retry_after"), c.mapping("data"),
    )  # fmt: skip


def identity(anchors: Mapping[str, str], manager: str) -> dict[str, str]:
    """A computer's hardware as its fleet manager (thumbprint) is told of it: pairs, tagged as no publisher's product is."""
    return hardware.pairs(anchors, ProductName(manager, "fleet", False))


def is_other(known: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether two identities are of two computers, beyond doubt: enough is known of both, and it is not the same."""
    found = hardware.match(now, known)
    return not found.same and (found.known >= 2 or "vm" in known.keys() & now.keys())


def said_of(step: str) -> str:
    """A step or an end in words for people."""
    return "waits for its confirmation ID" if step == CALL else step


def plan(action: str, way: str, *, key: bool) -> tuple[str, ...]:
    """The steps of an action on one computer; ``key``: one is to be installed first.

    Activation by proxy: the computer makes its request, the manager sends it, the computer takes the answer. Rebinding leaves
    the middle out, which is known only once the request shows its hardware. By file the middle is carried by a person, by
    telephone two codes are.
    """
    middle = CARRY if way == "file" else SEND
    first = ("install",) if key else ()
    match action:
        case "install-key":
            return ("install",)
        case "activate" if way in ("proxy", "file"):
            return (*first, "request", middle, "accept")
        case "activate" if way == "telephone":
            return (*first, "telephone", CALL, "confirm")
        case "activate":
            return (*first, way)
        case "deactivate":
            return ("release", middle, "released")
        case "rebind":
            return (*first, "request", "rebind")
        case _:
            return (action,)


class Manifest(NamedTuple):
    """What a file that leaves an isolated site is: one export of one product, these documents (digest of all) and no others."""

    product: ProductName
    export: str
    documents: str
    requests: int
    made_at: int

    def claims(self) -> dict[str, Any]:
        return {
            "v": VERSION, "product": str(self.product), "test": self.product.test, "export": self.export,
            "documents": self.documents, "requests": self.requests, "iat": self.made_at,
        }  # fmt: skip


def read_manifest(token: str) -> tuple[Manifest, Verified]:
    """Verify with the key that it carries, then read. Raises: KeyturnError (see ``jws.verify_own``)."""
    verified = jws.verify_own(token, Kind.MANIFEST)
    c = Claims(Kind.MANIFEST, verified.claims())
    found = Manifest(
        ProductName.parse(c.text("product")),
        c.text("export", 40),
        c.text("documents", 64),
        c.number("requests"),
        c.number("iat"),
    )
    return found, verified


def digest_of(documents: Sequence[str]) -> str:
    """One digest for all documents of a file, in their order."""
    return sha256_b64u("\n".join(map(jws.digest, documents)).encode("ascii"))


def seed_of(master: bytes, product: ProductName) -> bytes:
    """The 32 bytes of the fleet's Ed25519 key for one product: HKDF-SHA256 (RFC 5869) of the fleet's seed."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), length=32, salt=None, info=f"keyturn fleet rebind v1 {product}".encode("ascii")).derive(
        master
    )
