"""Key files encrypted by a passphrase: standard, openable by nobody else, and no riddle without it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from keyturn.core.errors import KeyturnError
from keyturn.edge import keystore, signer_files
from keyturn.service import storing
from keyturn.service.home import ServiceHome
from keyturn.service.signing import ENCRYPTED
from keyturn.testing import World
from signer_world import PASSPHRASE, Keep


@pytest.mark.needs("openssl")
def test_an_encrypted_file_is_standard_and_says_its_public_key(tmp_path: Path) -> None:
    """OpenSSL reads it with the passphrase; without it only the public key is to be had."""
    key = keystore.create(tmp_path / "a.key")
    seed = signer_files.seed_of(tmp_path / "a.key", lambda: "")
    assert signer_files.plain(seed) == (tmp_path / "a.key").read_bytes()
    data = signer_files.encrypted(seed, PASSPHRASE)
    assert data != signer_files.encrypted(seed, PASSPHRASE)  # Another salt each time.
    assert signer_files.public_of(data, "a") == key.public
    assert seed not in data
    assert signer_files.decrypted(data, PASSPHRASE, "a") == seed
    with pytest.raises(KeyturnError) as wrong:
        signer_files.decrypted(data, PASSPHRASE + " ", "a")
    assert wrong.value.code == "signer_locked"
    (tmp_path / "b.key").write_bytes(data)
    command = ["openssl", "pkey", "-in", str(tmp_path / "b.key"), "-passin", f"pass:{PASSPHRASE}", "-outform", "DER"]
    assert subprocess.run(command, capture_output=True, check=True).stdout.endswith(seed)


def test_a_public_key_that_is_not_its_own_is_found(keep: Keep) -> None:
    """Whoever exchanges the open part of an encrypted file gets no signature under a wrong name."""
    kept = keep(ENCRYPTED)
    first = signer_files.key_files(kept.path / "keys")[0]
    theirs = signer_files.encrypted(bytes(32), PASSPHRASE).partition(b"-----BEGIN ENCRYPTED")[0]
    own = first.read_bytes().partition(b"-----BEGIN ENCRYPTED")
    first.write_bytes(theirs + own[1] + own[2])
    with pytest.raises(KeyturnError) as damaged:
        ServiceHome(kept.path, kept.env).open_signer()
    assert damaged.value.code == "store_damaged"


def test_without_the_passphrase_nothing_is_signed(keep: Keep, tmp_path: Path) -> None:
    """Missing or wrong: `signer_locked`, and the right one opens it, from a file or from systemd's credentials."""
    kept = keep(ENCRYPTED)
    (tmp_path / "wrong").write_text("wrong horse battery staple")
    (tmp_path / "wrong").chmod(0o600)
    for env in ({}, {"KEYTURN_SERVICE_PASSPHRASE_FILE": str(tmp_path / "wrong")}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}):
        with pytest.raises(KeyturnError) as locked:
            ServiceHome(kept.path, env).open_signer()
        assert locked.value.code == "signer_locked"
    (tmp_path / "wrong").chmod(0o644)
    with pytest.raises(KeyturnError) as open_to_all:
        ServiceHome(kept.path, {"KEYTURN_SERVICE_PASSPHRASE_FILE": str(tmp_path / "wrong")}).open_signer()
    assert open_to_all.value.code == "permission_denied"
    (tmp_path / "keyturn-passphrase").write_text(PASSPHRASE)
    ServiceHome(kept.path, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).open_signer()
    ServiceHome(kept.path, {}, lambda _question: PASSPHRASE).open_signer()


def test_a_new_passphrase_is_asked_for_twice_and_is_no_word(world: World) -> None:
    """A slip of the finger must not lock the keys for ever."""
    path = world.publisher.folder
    for answers in (["a long passphrase", "a long passphrose"], ["short", "short"]):
        said = iter(answers)
        with pytest.raises(KeyturnError) as refused:
            storing.store(ServiceHome(path, {}, lambda _question, said=said: next(said)), ENCRYPTED)  # type: ignore[misc]
        assert refused.value.code == "usage"
        assert not any(signer_files.is_encrypted(place.read_bytes()) for place in signer_files.key_files(path / "keys"))
