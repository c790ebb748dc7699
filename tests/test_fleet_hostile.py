"""What strangers and broken agents send to a fleet manager: each is answered with its code, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fleets import Site
from keyturn.core import jws
from keyturn.core.fleet import CheckIn, Enrollment, EnrollmentToken, Outcome
from keyturn.core.jws import Kind
from keyturn.edge import keystore
from keyturn.edge.pinning import Pin
from keyturn.edge.transport import Transport
from keyturn.testing import World

JOSE = "application/jose"


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    with Site(world, tmp_path / "site").running() as made:
        yield made


def signed(kind: Kind, claims: dict[str, Any], key: Ed25519PrivateKey | None = None) -> str:
    signer = key or Ed25519PrivateKey.generate()
    return jws.sign(kind, claims, signer.public_key().public_bytes_raw(), signer.sign, own=True)


def checked_in(**changes: Any) -> dict[str, Any]:
    return {**CheckIn(7, "pc", 1_800_000_000, None, [], []).claims(), **changes}


def asked(site: Site) -> dict[str, Any]:
    return Enrollment(EnrollmentToken.parse(site.token()).secret, "pc", site.world.clock()).claims()


PRODUCT = {"v": 1, "product": "A" * 43 + "/writer", "name": "Writer", "state": "licensed", "usable": True}
CASES: tuple[tuple[str, str, Any, str], ...] = (
    ("a stranger checks in", "check-in", lambda _: signed(Kind.CHECK_IN, checked_in()), "computer_unknown"),
    ("another kind of document", "check-in", lambda _: signed(Kind.ENROLLMENT, checked_in()), "document_malformed"),
    ("no document", "check-in", lambda _: "hello", "document_malformed"),
    ("not ASCII", "check-in", lambda _: "ä", "document_malformed"),
    ("too many products", "check-in", lambda _: signed(Kind.CHECK_IN, checked_in(products=[PRODUCT] * 65)), "input_too_large"),
    ("a product of text", "check-in", lambda _: signed(Kind.CHECK_IN, checked_in(products=["x"])), "document_malformed"),
    ("a number that is none", "check-in", lambda _: signed(Kind.CHECK_IN, checked_in(number="1")), "document_malformed"),
    ("an altered signature", "enroll", lambda site: signed(Kind.ENROLLMENT, asked(site))[:-6] + "AAAAAA", "signature_invalid"),
    ("a guessed secret", "enroll", lambda site: signed(Kind.ENROLLMENT, {**asked(site), "secret": "A" * 32}), "token_invalid"),
    ("a long name", "enroll", lambda site: signed(Kind.ENROLLMENT, {**asked(site), "name": "x" * 256}), "document_malformed"),
)


@pytest.mark.parametrize(("what", "path", "make", "code"), CASES, ids=[case[0] for case in CASES])
def test_what_is_wrong_is_said_and_nothing_is_changed(site: Site, what: str, path: str, make: Any, code: str) -> None:
    """A problem document with the code; no computer is there afterwards."""
    with Transport(environ={}, judge=Pin(site.url).judge) as transport:
        problem = transport.post(f"{site.url}/v1/{path}", make(site).encode(), JOSE).problem()
    assert problem is not None and problem.code == code, what
    assert problem.reference is not None
    assert site.computers() == []


def test_too_much_is_not_read(site: Site) -> None:
    """A body beyond the limit is refused as such."""
    with Transport(environ={}, judge=Pin(site.url).judge) as transport:
        problem = transport.post(f"{site.url}/v1/check-in", b"x" * (jws.MAX_TOKEN + 1), JOSE).problem()
    assert problem is not None and problem.code == "input_too_large"


def test_an_agent_cannot_speak_of_another_computers_task(site: Site) -> None:
    """What it says of a step that is not its own, or not due, changes nothing."""
    _, second = site.join("first"), site.join("second")
    task = site.order("activate", key=site.key())
    product = site.database.read(lambda db: db.execute("SELECT name FROM product").fetchone()["name"])
    signer = keystore.load(Path(second.vault.home) / "fleet" / "agent.key")
    assert signer is not None
    false = [Outcome(task, product, step, None, None, None, None, {}) for step in ("accept", "released", "rebind")]
    said = CheckIn(10_000, "second", site.world.clock(), None, [], false)
    site.database.write_now(lambda db: site.fleet.check_in(db, said, signer.kid, site.world.clock()))
    assert site.outcomes(task) == {"first": ("install", None), "second": ("install", None)}
