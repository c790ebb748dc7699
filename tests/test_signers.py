"""Every kind of signer does the same and refuses the same: recorded decisions and product files, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from keyturn.core import jws, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.edge import keystore
from keyturn.edge.signers import demand
from keyturn.service import signing
from keyturn.service.activation import Proven
from keyturn.service.home import ServiceHome
from keyturn.service.signing import COMMAND, ENCRYPTED, FILE, KINDS, TOKEN, Sheet
from signer_world import Asked, Keep, an_intent, needs_softhsm
from test_activation import _open_count, request_of

SOURCE = Path(__file__).parents[1] / "src" / "keyturn"
every_kind = pytest.mark.parametrize("kind", [FILE, ENCRYPTED, pytest.param(TOKEN, marks=needs_softhsm), COMMAND])


@every_kind
def test_a_certificate_is_the_same_from_every_signer(keep: Keep, kind: str) -> None:
    """A real request is recorded, signed and answered; a client verifies it; the same request gets the same bytes."""
    plain = {signer.kid: signer for signer in keystore.load_all(keep(FILE).path / "keys").values()}
    kept = keep(kind)
    kept.home.open_signer()
    assert set(kept.home.signers) == set(plain)
    service, world = kept.service(), kept.world
    token = request_of(world, world.publisher.mint())
    first, second = service.exchange(token), service.exchange(token)
    assert isinstance(first, dict) and isinstance(second, dict)
    assert first["certificate"] == second["certificate"]
    kept.home.chain.verify(first["certificate"], Kind.CERTIFICATE, trust.ROLE_ISSUE)
    kid = jws.read_header(first["certificate"], Kind.CERTIFICATE).kid
    payload = jws.payload_of(first["certificate"])
    message = jws.signing_input(Kind.CERTIFICATE, kid, payload)
    assert first["certificate"] == jws.assemble(message, plain[kid].sign(message))  # Ed25519 leaves nothing to chance.
    kept.home.chain.verify(service.product_file("sample")["product"], Kind.PRODUCT, trust.ROLE_ISSUE)


@every_kind
def test_only_recorded_decisions_and_product_files_are_signed(keep: Keep, kind: str) -> None:
    """Bytes, look-alikes, other keys' documents, and kinds that belong to roots and installations: all refused."""
    kept = keep(kind)
    kept.home.open_signer()
    signer = kept.signer()
    other = next(kid for kid in kept.home.signers if kid != signer.kid)
    wrong: list[Any] = [
        b"bytes", "text", None, Asked(Kind.CERTIFICATE, signer.kid, b"{}"), an_intent(other), Sheet(other, b"{}")
    ]  # fmt: skip
    for what in wrong:
        for act in (signer.sign, signer.submit):
            with pytest.raises(KeyturnError) as refused:
                act(what)
            assert refused.value.code == "internal"
    for forbidden in set(Kind) - trust.ISSUED:
        future = kept.home.holder.submit(Asked(forbidden, signer.kid, b"{}"))
        failure = future.exception()
        assert isinstance(failure, KeyturnError) and failure.code == "internal", forbidden
    assert jws.verify(signer.sign(an_intent(signer.kid)).token, Kind.CERTIFICATE, {signer.kid: signer.public}.get)
    assert jws.verify(signer.sign(Sheet(signer.kid, b"{}")).token, Kind.PRODUCT, {signer.kid: signer.public}.get)


@every_kind
def test_many_at_once_and_each_its_own(keep: Keep, kind: str) -> None:
    """Two hundred documents are asked for before the first is waited for, and no answer is another's."""
    kept = keep(kind)
    kept.home.open_signer()
    signer = kept.signer()
    futures = [signer.submit(an_intent(signer.kid, jws.dumps({"number": number}))) for number in range(200)]
    for number, future in enumerate(futures):
        verified = jws.verify(future.result(30).token, Kind.CERTIFICATE, {signer.kid: signer.public}.get)
        assert verified.claims() == {"number": number}


@every_kind
def test_which_keys_are_here_is_known_without_opening_anything(keep: Keep, kind: str) -> None:
    """Status, lists and checks need no PIN: they look at the home."""
    kept = keep(kind)
    closed = ServiceHome(kept.path, {})
    assert set(closed.signers) == signing.here(kept.path) == set(kept.home.signers)
    assert len(closed.signers) == 4
    assert closed.holder.sealed == (kind != FILE)


@every_kind
def test_what_cannot_be_signed_now_is_signed_later(keep: Keep, kind: str) -> None:
    """A decision is recorded without the signer; `recover` signs it, and says how many."""
    kept = keep(kind)
    service = kept.service()
    proven = service.prove(request_of(kept.world, kept.world.publisher.mint()))
    assert isinstance(proven, Proven)
    service.record(proven, service.database.write).result()
    assert service.database.read(_open_count) == 1
    assert service.recover() == 1
    assert service.database.read(_open_count) == 0


def test_nobody_but_the_recorder_makes_an_intent() -> None:
    """The type is the proof: `Intent` is built where it is recorded and read again, the others in `activation`."""
    makers: dict[str, set[str]] = {"Intent": set(), "Sheet": set(), "Listing": set()}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and (name := ast.unparse(node.func).rpartition(".")[2]) in makers:
                makers[name].add(path.stem)
    assert makers == {"Intent": {"recording", "seats"}, "Sheet": {"activation"}, "Listing": {"activation"}}


def test_a_holder_asks_what_it_is_before_it_signs() -> None:
    """The last door in front of every key: the kind, then the key."""
    with pytest.raises(KeyturnError) as forbidden:
        demand(Asked(Kind.BUNDLE, "k", b"{}"), {"k": bytes(32)})
    with pytest.raises(KeyturnError) as missing:
        demand(Asked(Kind.CERTIFICATE, "k", b"{}"), {})
    assert (forbidden.value.code, missing.value.code) == ("internal", "signer_unavailable")


def test_the_kinds_are_these() -> None:
    assert KINDS == (FILE, ENCRYPTED, TOKEN, COMMAND)
