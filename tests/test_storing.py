"""Issuing keys move from one kind of signer to another, and none is lost or left lying about."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from keyturn.core import jws, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.edge import signer_files
from keyturn.service import home as homes
from keyturn.service import signing, storing
from keyturn.service.home import ServiceHome
from keyturn.service.signing import COMMAND, ENCRYPTED, FILE, TOKEN
from keyturn.testing import World
from signer_world import EXAMPLE, Keep, an_intent, needs_softhsm


def test_keys_go_there_and_back_between_files(keep: Keep) -> None:
    """Encrypted and back: byte for byte the same files, and the question what cannot be undone is asked for one way only."""
    before = {place.name: place.read_bytes() for place in signer_files.key_files(keep(FILE).path / "keys")}
    kept = keep(ENCRYPTED)
    assert kept.home.settings.signer == ENCRYPTED
    assert storing.consequence(kept.home, ENCRYPTED) is None
    assert "without a passphrase" in (storing.consequence(kept.home, FILE) or "")
    assert storing.store(kept.home, FILE).keys == 4
    assert {place.name: place.read_bytes() for place in signer_files.key_files(kept.path / "keys")} == before


@pytest.mark.parametrize("kind", [pytest.param(TOKEN, marks=needs_softhsm), COMMAND])
def test_what_went_elsewhere_is_here_no_more(keep: Keep, kind: str) -> None:
    """The files are gone; nothing comes back from there but by the root folder, which rotation brings."""
    kept = keep(kind)
    assert signer_files.key_files(kept.path / "keys") == []
    with pytest.raises(KeyturnError) as refused:
        storing.store(kept.home, FILE)
    assert refused.value.code == "usage" and "rotate" in refused.value.remedy
    homes.change_setting(kept.path, "signer", FILE)
    (kept.path / signing.PUBLIC).unlink()
    brought = storing.bring(ServiceHome(kept.path, {}), kept.world.clock())
    assert len(brought) == 4


@pytest.mark.parametrize("kind", [ENCRYPTED, pytest.param(TOKEN, marks=needs_softhsm)])
def test_rotation_brings_the_next_keys_to_where_the_others_are(keep: Keep, kind: str) -> None:
    """The keys of the next period come from the root folder, and none of them stays in a file that can be read."""
    kept = keep(kind)
    kept.world.clock.advance(days=80)
    home = ServiceHome(kept.path, kept.env)
    brought = storing.bring(home, kept.world.clock())
    assert brought
    after = ServiceHome(kept.path, kept.env)
    after.open_signer()
    assert {key.kid for key in brought} <= set(after.signers)
    signer = after.signers[brought[0].kid]
    assert jws.verify(signer.sign(an_intent(signer.kid)).token, Kind.CERTIFICATE, {signer.kid: signer.public}.get)
    assert all(signer_files.is_encrypted(place.read_bytes()) for place in signer_files.key_files(kept.path / "keys"))
    after.close()
    home.close()


@pytest.mark.parametrize("kind", [ENCRYPTED, COMMAND])
def test_moving_keys_stops_no_service_that_runs(world: World, keep: Keep, kind: str) -> None:
    """It goes on with the keys as it read them at its start, whatever it sees on the disk."""
    running = ServiceHome(world.publisher.folder, {})
    kept = keep(kind)
    assert running.changed() and running.refresh()
    key, signer = running.signer(trust.ROLE_ISSUE, world.clock())
    assert jws.verify(signer.sign(an_intent(key.kid)).token, Kind.CERTIFICATE, {key.kid: key.public}.get)
    assert set(running.signers) == set(kept.home.signers)


def test_a_program_without_the_keys_is_not_trusted_with_them(world: World, tmp_path: Path) -> None:
    """Keys that only lie here are not removed for a program that does not have them."""
    (tmp_path / "empty").mkdir()
    path = world.publisher.folder
    homes.change_setting(path, "signer_command", shlex.join([sys.executable, str(EXAMPLE), str(tmp_path / "empty")]))
    with pytest.raises(KeyturnError) as refused:
        storing.store(ServiceHome(path, {}), COMMAND)
    assert refused.value.code == "signer_unavailable"
    assert len(signer_files.key_files(path / "keys")) == 4
    assert ServiceHome(path, {}).settings.signer == FILE


@needs_softhsm
def test_keys_are_born_on_the_token(keep: Keep) -> None:
    """What `create` lists is what a bundle's draft takes; the token signs with it once a bundle names it, and not before."""
    kept = keep(TOKEN)
    made = storing.create(kept.home, trust.ROLE_ISSUE, 2)
    assert [entry["role"] for entry in made] == [trust.ROLE_ISSUE] * 2
    publics = [jws.public_from_jwk(entry["jwk"]) for entry in made]
    held = kept.home.holder.keys()
    assert {jws.thumbprint(public) for public in publics} <= set(held)
    kept.home.open_signer()
    assert not {jws.thumbprint(public) for public in publics} & set(kept.home.signers)


@pytest.mark.parametrize(
    ("name", "value"), [("signer", "abacus"), ("signer_processes", "0"), ("signer_processes", "many"), ("signer_command", "'")]
)
def test_a_setting_that_means_nothing_is_refused(world: World, name: str, value: str) -> None:
    """Before it is written, and not at the next start."""
    with pytest.raises(KeyturnError) as refused:
        homes.change_setting(world.publisher.folder, name, value)
    assert refused.value.code == "usage"


def test_a_signer_that_is_not_described_is_not_started(world: World) -> None:
    """A kind without what it needs says which setting is missing."""
    path = world.publisher.folder
    for kind in (COMMAND, TOKEN):
        homes.change_setting(path, "signer", kind)
        with pytest.raises(KeyturnError) as refused:
            ServiceHome(path, {})
        assert refused.value.code == "usage"
        assert "config set" in refused.value.remedy
