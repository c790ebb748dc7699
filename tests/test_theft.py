"""An issuing key is stolen: forgeries of any date are found out, and everybody honest stays licensed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from keyturn import Client, KeyturnError
from keyturn.client import accepting, actions
from keyturn.client.loading import load
from keyturn.core import jws, trust
from keyturn.core.documents import Certificate
from keyturn.core.jws import Kind
from keyturn.core.model import DAY
from keyturn.core.revocations import Entry, Revocations
from keyturn.core.trust import IssuingKey
from keyturn.edge import files, keystore
from keyturn.edge.keystore import Signer
from keyturn.edge.vault import Shelf, Vault
from keyturn.service import ceremony, seats, theft
from keyturn.service.activation import Proven
from keyturn.service.home import adopt
from keyturn.testing import World


def thief(world: World) -> Signer:
    """The key that signs today, in somebody else's hands."""
    _, signer = world.publisher.home.signer(trust.ROLE_ISSUE, world.clock())
    path = next(p for p in (world.publisher.folder / "keys").glob("*.key") if keystore.load(p).public == signer.public)  # type: ignore[union-attr]
    loaded = keystore.load(path)
    assert loaded is not None
    return loaded


def replace(world: World, stolen: str) -> list[str]:
    """The publisher fixes what the key signed and replaces it by the next bundle; the result are all bundles."""
    home, now, folder = world.publisher.home, world.clock(), world.publisher.folder
    revocation = theft.fix(world.publisher.database, stolen)
    fresh = keystore.create(folder / "keys" / f"issue-{90 + home.chain.newest.number}.key")
    old = home.chain.key(stolen)
    added = IssuingKey(fresh.kid, fresh.public, old.role, now - DAY, now + 89 * DAY)
    draft = ceremony.draft(home.chain, now=now, add_keys=[added], drop_kids=[stolen], revoked=[revocation])
    root = keystore.load(folder / "root" / "root-1.key")
    assert root is not None
    chain = adopt(folder, ceremony.finished(ceremony.sign(draft, root.public, root.sign)))
    for path in (folder / "keys").glob("*.key"):
        if keystore.load(path).kid == stolen:  # type: ignore[union-attr]
            path.unlink()
    assert home.refresh()
    return list(chain.texts)


def certificate(client: Client) -> str:
    held = shelf_of(client).held()
    assert held is not None
    return held.certificate


def shelf_of(client: Client) -> Shelf:
    return client._homes().find(client.product)


def learn(client: Client, texts: list[str], proofs: dict[str, Any] | None = None, product: str | None = None) -> None:
    """What `keyturn import F.kttrust` does."""
    accepting.accept_trust(shelf_of(client), client._machine, texts, proofs or {}, [product])


def forge(client: Client, key: Signer, *, issued_at: int) -> None:
    """Put a certificate into the store that the thief signs, with more in it, of any date."""
    claims = Certificate.read(jws.loads(jws.payload_of(certificate(client))))
    forged = claims._replace(features=("everything",), issued_at=issued_at)
    path = shelf_of(client)._place("license.json")
    value = json.loads(files.read(path) or b"")
    value["certificate"] = jws.sign(Kind.CERTIFICATE, forged.claims(), key.public, key.sign)
    files.write_json(path, value)


def test_the_drill(world: World) -> None:
    """Stolen, replaced: all honest are licensed, doubtful until issued again or proven; the thief's are found out."""
    minted = world.publisher.mint_all(channel="mak", limit=20)[0]
    clients = [world.client() for _ in range(6)]
    for client in clients:
        assert client.activate(minted["key"], consent=True).state == "licensed"
    key = thief(world)
    texts = replace(world, key.kid)

    # Whoever has not heard of it is licensed as before; whoever has is licensed too, and is told what to do.
    assert clients[0].status().reason is None
    for client in clients[:4]:
        learn(client, texts)
        status = client.status()
        assert (status.state, status.reason, status.usable) == ("licensed", "reissue_due", True)
        assert status.days_left == 190

    # One contact: the same seat, signed by the key of now.
    before = certificate(clients[0])
    status = clients[0].activate(consent=True)
    assert (status.state, status.reason, status.days_left) == ("licensed", None, None)
    assert jws.read_header(certificate(clients[0]), Kind.CERTIFICATE).kid != key.kid
    assert certificate(clients[0]) != before
    used = world.publisher.database.read(lambda db: seats.find_key(db, str(clients[0].product), minted["serial"]))
    assert used is not None
    assert used["seats_used"] == 6

    # No contact, a file: the proof of the very certificate.
    proofs = world.publisher.database.read(lambda db: theft.proofs(db, key.kid))
    assert len(proofs) == 6
    today = world.publisher.service.product_file("sample")["product"]
    learn(clients[1], texts, proofs, today)
    assert (clients[1].status().state, clients[1].status().reason) == ("licensed", None)
    # Somebody else's proof is none.
    other = {jws.digest(certificate(clients[2])): proofs[jws.digest(certificate(clients[1]))]}
    learn(clients[2], texts, other, today)
    assert clients[2].status().reason == "reissue_due"

    # A client that slept activates as before, and gets bundles and product file beside its answer.
    sleeper = world.client()
    assert sleeper.activate(minted["key"], consent=True).reason is None
    assert clients[5].activate(consent=True).reason is None


@pytest.mark.parametrize("days", [-400, -1, 0, 1, 30])
def test_a_forgery_of_any_date_is_found_out(world: World, days: int) -> None:
    """With the stolen key a thief writes any date within its time; without a proof it ends, and no contact mends it."""
    minted = world.publisher.mint_all()[0]
    client = world.client()
    client.activate(minted["key"], consent=True)
    key = thief(world)
    forge(client, key, issued_at=world.clock() + days * DAY)
    known = client.status()
    assert known.state == ("licensed" if days in (-1, 0, 1, 30) else "initial_grace")
    texts = replace(world, key.kid)
    proofs = world.publisher.database.read(lambda db: theft.proofs(db, key.kid))
    learn(client, texts, proofs, world.publisher.service.product_file("sample")["product"])
    assert client.status().reason == ("reissue_due" if days in (-1, 0, 1, 30) else "document_expired")
    # Its end is that of the bundle, which is signed: deleting the record begins nothing anew.
    world.clock.advance(days=189)
    for path in shelf_of(client)._record_paths():
        files.remove(path)
    assert client.status().usable
    world.clock.advance(days=32)
    assert client.status().state != "licensed"
    # The contact gives what the key is worth, and nothing of the forgery.
    world.publisher.rotate()
    status = client.activate(consent=True)
    assert (status.state, "everything" in status.features) == ("licensed", False)


def test_a_forged_answer_is_refused_once_the_theft_is_known(world: World) -> None:
    """A service in the thief's hands cannot answer a client that knows."""
    minted = world.publisher.mint_all(channel="mak", limit=3)[0]
    client = world.client()
    client.status()
    shelf = client._added()
    actions.install_key(shelf, minted["key"], client._machine)
    token, _ = actions.make_request(shelf, client._machine)
    answer = world.publisher.service.exchange(token)
    assert isinstance(answer, dict)
    key = thief(world)
    texts = replace(world, key.kid)
    with pytest.raises(KeyturnError) as refused:
        accepting.accept_answer(shelf, client._machine, {**answer, "bundles": texts[1:]})
    assert refused.value.code == "issuer_revoked"
    # The real service answers the same request again, signed by the key of now.
    again = world.publisher.service.exchange(token)
    assert isinstance(again, dict)
    assert accepting.accept_answer(shelf, client._machine, again).standing.reason is None


def test_a_product_file_of_a_stolen_key_is_refused(world: World) -> None:
    """At first contact; the one that the publisher made anew is taken."""
    world.publisher.mint_all()
    old = json.loads(world.product)
    texts = replace(world, thief(world).kid)
    find, machine = Vault(str(world.folder / "first-contact"), "user").shelf, world.machine()
    with pytest.raises(KeyturnError) as refused:
        actions.add_product(find, json.dumps({**old, "bundles": texts}).encode(), machine)
    assert refused.value.code == "issuer_revoked"
    assert load(actions.add_product(find, world.publisher.export("sample"), machine), machine).standing.usable


def test_two_thefts_on_one_day(world: World) -> None:
    """The product file beside an answer is made anew after each: one of the morning would be signed by the second stolen key."""
    minted = world.publisher.mint_all(channel="mak", limit=3)[0]
    client = world.client()
    client.activate(minted["key"], consent=True)
    for _ in range(2):
        texts = replace(world, thief(world).kid)
        learn(client, texts)
        assert client.status().reason == "reissue_due"
        assert client.activate(consent=True).reason is None


def test_all_that_stand_are_issued_again(world: World) -> None:
    """In bulk: every standing right is signed by the key of now, and cut short it goes on where it was."""
    minted = world.publisher.mint_all(channel="mak", limit=20)[0]
    clients = [world.client() for _ in range(5)]
    for client in clients:
        client.activate(minted["key"], consent=True)
    clients[4].deactivate()
    stolen = thief(world).kid
    replace(world, stolen)
    assert theft.reissue_all(world.publisher.service) == 4
    assert theft.reissue_all(world.publisher.service) == 0
    rows = world.publisher.database.read(lambda db: seats.signed_by(db, stolen))
    assert len(rows) == 1  # The one that was returned.
    assert not world.publisher.database.read(seats.open_intents)
    # The tree was fixed before, and still proves what it proved.
    assert len(world.publisher.database.read(lambda db: theft.proofs(db, stolen))) == 5
    assert theft.fix(world.publisher.database, stolen).size == 5


def test_a_decision_that_was_recorded_and_not_signed_is_signed_by_the_next_key(world: World) -> None:
    """The service died between record and signature, and the key was stolen meanwhile."""
    minted = world.publisher.mint_all()[0]
    client = world.client()
    client.status()
    shelf = client._added()
    actions.install_key(shelf, minted["key"], client._machine)
    token, _ = actions.make_request(shelf, client._machine)
    service = world.publisher.service
    proven = service.prove(token)
    assert isinstance(proven, Proven)
    service.record(proven, service.database.write).result()
    stolen = thief(world).kid
    replace(world, stolen)
    assert service.recover() == 1
    answer = service.exchange(token)
    assert isinstance(answer, dict)
    assert jws.read_header(answer["certificate"], Kind.CERTIFICATE).kid != stolen


def test_a_thiefs_revocation_list_is_worth_nothing_once_the_key_is_revoked(world: World) -> None:
    """Until then it can put an honest copy into a grace, and never more; the next bundle ends that."""
    client = world.client()
    key = world.publisher.mint_all()[0]
    client.activate(key["key"], consent=True)
    stolen = thief(world)
    listed = Revocations(client.product, 7, world.clock(), (Entry(int(key["serial"]), None, world.clock(), "key_blocked"),))
    token = jws.sign(Kind.REVOCATIONS, listed.claims(), stolen.public, stolen.sign)
    accepting.accept_revocations(shelf_of(client), client._machine, token, client._load().opened.chain.texts)
    assert (client.status().state, client.status().usable) == ("non_genuine_grace", True)
    learn(client, replace(world, stolen.kid))
    assert client.status().state == "licensed"
    with pytest.raises(KeyturnError) as error:
        accepting.accept_revocations(shelf_of(client), client._machine, token, client._load().opened.chain.texts)
    assert error.value.code == "issuer_revoked"
