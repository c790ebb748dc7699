"""A PKCS#11 token (SoftHSM): what is wrong is named, a PIN is tried once, and what was away is found again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.edge.signer_program import Programs
from keyturn.edge.signers import Holder
from keyturn.service import home as homes
from keyturn.service import signing
from keyturn.service.home import ServiceHome
from keyturn.service.signing import TOKEN
from keyturn.testing import World
from signer_world import Asked, Clock, Keep, needs_softhsm
from softhsm import PIN, SoftHsm


def token_of(world: World, env: Mapping[str, str], **settings: str) -> Holder:
    path = world.publisher.folder
    for name, value in {"signer": TOKEN, "signer_processes": "1", **settings}.items():
        homes.change_setting(path, name, value)
    return ServiceHome(path, env).holder


@needs_softhsm
def test_a_token_that_is_not_as_the_settings_say(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each mistake says what is missing: the module, the token, the PIN, the keys."""
    hsm = SoftHsm(tmp_path / "hsm")
    monkeypatch.setenv("SOFTHSM2_CONF", hsm.env["SOFTHSM2_CONF"])
    (tmp_path / "wrong").write_text("0000")
    (tmp_path / "wrong").chmod(0o600)
    right, wrong = hsm.env, {"KEYTURN_SERVICE_PIN_FILE": str(tmp_path / "wrong")}
    cases: list[tuple[Mapping[str, str], dict[str, str], str, str]] = [
        (right, {"pkcs11_module": str(tmp_path / "none.so")}, "signer_unavailable", "none.so"),
        (right, {"pkcs11_module": hsm.module, "pkcs11_token": "other"}, "signer_unavailable", "'other'"),
        (wrong, {"pkcs11_module": hsm.module, "pkcs11_token": "keyturn"}, "signer_locked", "PIN"),
        ({}, {}, "signer_locked", "PIN"),
    ]
    for env, settings, code, said in cases:
        holder = token_of(world, env, **settings)
        with pytest.raises(KeyturnError) as refused:
            holder.keys()
        assert (refused.value.code, said in refused.value.detail) == (code, True), refused.value.detail
        holder.close()
    home = ServiceHome(world.publisher.folder, right)
    with pytest.raises(KeyturnError) as empty:
        home.open_signer()
    assert "no issuing key" in empty.value.detail
    home.close()


@needs_softhsm
def test_a_wrong_pin_is_tried_once(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens lock themselves: however often a signature is asked for, and by however many programs, there is one login."""
    hsm = SoftHsm(tmp_path / "hsm")
    monkeypatch.setenv("SOFTHSM2_CONF", hsm.env["SOFTHSM2_CONF"])
    clock, public = Clock(), bytes(32)
    kid = jws.thumbprint(public)
    greeting = {"module": hsm.module, "token": "keyturn", "pin": "0000"}
    count = tmp_path / "logins"
    command = ["sh", "-c", f"echo >>{count}; exec {sys.executable} -I -m keyturn.edge.token_program"]
    holder = Programs(command, {kid: public}, greeting=lambda: greeting, count=4, ticks=clock)
    for _ in range(3):
        futures = [holder.submit(Asked(Kind.CERTIFICATE, kid, b"{}")) for _ in range(8)]
        assert {getattr(future.exception(), "code", None) for future in futures} == {"signer_locked"}
        clock.skipped += 1_000
    assert len(count.read_text().splitlines()) == 1
    holder.close()


@needs_softhsm
def test_a_token_that_was_away_is_found_again(keep: Keep) -> None:
    """Every handle of it is dead; the same program opens it anew, and meanwhile says when to come back."""
    kept = keep(TOKEN)
    assert kept.hsm is not None
    clock = Clock()
    greeting = {"module": kept.hsm.module, "token": "keyturn", "pin": PIN}
    holder = Programs([*signing.TOKEN_PROGRAM], signing.elsewhere(kept.path), greeting=lambda: greeting, ticks=clock)
    document = Asked(Kind.CERTIFICATE, kept.signer().kid, b"{}")
    before = holder.sign(document)
    kept.hsm.take_away()
    waits = []
    for _ in range(3):
        with pytest.raises(KeyturnError) as away:
            holder.sign(document)
        assert away.value.code == "signer_unavailable"
        waits.append(away.value.retry_after)
        clock.skipped += holder.pause
    assert waits == [1, 2, 4]
    assert "GeneralError" in str(holder.away)
    kept.hsm.put_back()
    assert holder.sign(document) == before
    assert holder.away is None
    holder.close()
