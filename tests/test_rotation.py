"""Issuing keys follow each other for as long as you like: two years ahead, and nobody who slept is locked out."""

from __future__ import annotations

import json
import shutil

import pytest

import ceremonies
from keyturn.core import jws, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import DAY
from keyturn.core.trust import Revocation
from keyturn.service import ceremony, rootkey, rotation
from keyturn.service import home as homes
from keyturn.service.home import ServiceHome
from keyturn.testing import World
from make_vectors import key


def rotated(world: World) -> rotation.Extended:
    """What `issuing-key rotate` does, and a running service's look at the disk after it."""
    done = rotation.extend(ServiceHome(world.publisher.folder, {}), world.clock())
    homes.rotate(world.publisher.folder, done.chain, world.clock())
    world.publisher.home.refresh()
    return done


def kid_of(client: object) -> str:
    held = client._homes().find(client.product).held()  # type: ignore[attr-defined]
    return jws.read_header(held.certificate, Kind.CERTIFICATE).kid


def test_ten_years_of_rotations_and_a_client_that_slept_through_all_of_them(world: World) -> None:
    """Each quarter a rotation, once a year a bundle: two years are always ahead, the keys here never end, and whoever slept
    stays licensed, and activates again by bundles that came beside the answer.
    """
    minted = world.publisher.mint_all(channel="mak", limit=9)[0]
    sleeper, other = world.client(), world.client()
    for client in (sleeper, other):
        assert client.activate(minted["key"], consent=True).state == "licensed"
    first = kid_of(sleeper)
    begun = world.publisher.home.chain
    bundles, ends = [], []
    for _ in range(10 * 365 // 75):
        world.clock.advance(days=75)
        rotated(world)
        home, now = world.publisher.home, world.clock()
        assert min(rotation.authorised_until(home.chain).values()) - now >= rotation.ENOUGH
        for role in ("issue", "test"):
            found, _ = home.signer(role, now)
            ends.append((max(k.not_after for k in home.chain.newest.keys.values() if k.kid in home.signers) - now) // DAY)
            assert found.not_before <= now <= found.not_after
        bundles.append(len(home.chain.texts))
    assert min(ends) > 90  # No alarm between two rotations in time.
    assert len(bundles) == 48
    root = rootkey.opened(world.publisher.folder / "root")
    assert rootkey.newest_signed(root, begun.thumbprint) == world.publisher.home.chain.floor
    assert bundles[-1] - bundles[0] in range(8, 11)  # One a year, not one a rotation.
    # He slept for ten years: licensed. What he does next is signed by a key that he cannot know yet.
    assert sleeper.status().state == "licensed"
    assert sleeper._load().opened.chain.newest.number == 1
    sleeper.deactivate()
    assert sleeper.activate(minted["key"], consent=True).state == "licensed"
    assert kid_of(sleeper) not in begun.newest.keys
    assert sleeper._load().opened.chain == world.publisher.home.chain
    # What an old key signed, whose time is long over, holds, also under the bundles of today.
    assert first not in world.publisher.home.chain.newest.keys
    shelf = other._homes().find(other.product)
    shelf.keep_product(json.loads(world.publisher.export("sample")))
    assert (other.status().state, kid_of(other)) == ("licensed", first)


def test_the_keys_in_force_and_the_next_are_brought(world: World) -> None:
    """While two overlap, the third is brought already: the keys here last for more than ninety days after a rotation."""
    here = world.publisher.home.signers
    assert len(here) == 4
    assert rotated(world).added == 0
    assert len(world.publisher.home.signers) == 4  # Nothing is due on the first day.
    world.clock.advance(days=80)
    rotated(world)
    assert len(world.publisher.home.signers) == 6
    names = {path.name for path in (world.publisher.folder / "keys").glob("*.key")}
    assert {"issue-03.key", "test-03.key"} < names


def test_new_keys_are_numbered_and_dated_after_the_last(world: World) -> None:
    """They begin where the row would go on; after a long silence they begin now, so that the service can sign again."""
    folder, chain = world.publisher.folder, world.publisher.home.chain
    keys = rotation.make_keys(folder, chain, 2, world.clock())
    last = max(k.not_before for k in chain.newest.keys.values())
    assert [(k.role, k.not_before - last) for k in keys] == [
        ("issue", homes.STEP), ("issue", 2 * homes.STEP), ("test", homes.STEP), ("test", 2 * homes.STEP),
    ]  # fmt: skip
    assert all(k.not_after - k.not_before == homes.PERIOD for k in keys)
    sealed = {path.name: path.stat().st_mode & 0o777 for path in (folder / "root" / "issuing").glob("*.key")}
    assert {sealed[f"{role}-{number}.key"] for role in ("issue", "test") for number in (11, 12)} == {0o600}
    world.clock.advance(days=1000)
    done = rotated(world)
    assert done.added == 2 * 10
    assert world.publisher.home.signer("issue", world.clock())[0].not_before == world.clock() - DAY
    assert min(rotation.authorised_until(done.chain).values()) - world.clock() >= rotation.ENOUGH


def test_where_several_roots_must_sign_the_ceremony_is_named(world: World) -> None:
    """Nothing is made, nothing adopted; who must do what is said. Without the root folder too."""
    folder = world.publisher.folder
    world.clock.advance(days=75)
    shutil.move(folder / "root", folder / "away")
    done = rotation.extend(ServiceHome(folder, {}), world.clock())
    assert done.added == 0
    assert done.due is not None
    assert "1 of 1 roots" in done.due
    shutil.move(folder / "away", folder / "root")
    root = rotation.sole_root(folder, world.publisher.home.chain)
    assert root is not None
    several = ceremonies.roots("bcdef")
    chain = world.publisher.home.chain
    draft = ceremony.draft(chain, now=world.clock(), roots=[r.public for r in several], threshold=3)
    draft = ceremonies.signed(ceremony.sign(draft, root.public, root.sign), "bcd")
    homes.adopt(folder, ceremony.finished(draft))
    before = sorted((folder / "root" / "issuing").iterdir())
    done = rotation.extend(ServiceHome(folder, {}), world.clock())
    assert (done.added, sorted((folder / "root" / "issuing").iterdir())) == (0, before)
    assert done.due is not None
    assert "3 of 5 roots" in done.due
    assert "root draft -o next.ktdraft --add-keys 5" in done.due


def test_keys_made_elsewhere_get_the_next_periods(world: World) -> None:
    """The list of an HSM's public keys: in its order, per role; what is no such list is refused."""
    chain, now = world.publisher.home.chain, world.clock()
    made = [key(f"ceremony hsm {n}") for n in range(4)]
    roles = ("issue", "test", "issue", "test")
    listed = [{"jwk": jws.jwk(k.public), "role": role} for k, role in zip(made, roles, strict=True)]
    value = {"keyturn": "issuing-keys", "v": 1, "keys": listed}
    found = rotation.read_publics(value, chain, now)
    last = max(k.not_before for k in chain.newest.keys.values())
    assert {(k.kid, k.role, (k.not_before - last) // homes.STEP) for k in found} == {
        (made[0].kid, "issue", 1), (made[2].kid, "issue", 2), (made[1].kid, "test", 1), (made[3].kid, "test", 2),
    }  # fmt: skip
    broken: list[object] = [
        {}, {**value, "v": 2}, {**value, "keys": []}, {**value, "keys": "x"}, {**value, "keys": [1]},
        {**value, "keys": listed * 20}, {**value, "keys": [{**listed[0], "role": "root"}]},
        {**value, "keys": [{"role": "issue"}]},
    ]  # fmt: skip
    for case in broken:
        with pytest.raises(KeyturnError) as caught:
            rotation.read_publics(case, chain, now)  # type: ignore[arg-type]
        assert caught.value.code in ("file_malformed", "document_malformed")


def test_every_key_is_here_sealed_retired_or_revoked(world: World) -> None:
    """As `issuing-key list` tells it, those of older bundles too."""
    home = world.publisher.home
    keys = [k for k in rotation.every_key(home.chain) if k.role == "issue"]
    assert [rotation.state(home, k) for k in keys] == ["here"] * 2 + ["sealed"] * 8
    root = rotation.sole_root(home.path, home.chain)
    assert root is not None
    draft = ceremony.draft(
        home.chain, now=world.clock(), drop_kids=[keys[1].kid], revoked=[Revocation(keys[0].kid, 0, bytes(32))]
    )
    text = ceremony.finished(ceremony.sign(draft, root.public, root.sign))
    homes.adopt(home.path, text)
    assert home.changed()
    assert home.refresh()
    assert not home.changed()
    assert [rotation.state(home, k) for k in keys] == ["revoked", "retired"] + ["sealed"] * 8
    assert rotation.authorised_until(home.chain)["issue"] == keys[-1].not_after
    assert len(rotation.every_key(home.chain)) == 20
    assert trust.verify_chain(home.chain.texts, home.chain.thumbprint) == home.chain
