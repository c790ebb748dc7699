"""The revocation list: who gets on it, what a copy makes of it, and that nothing forged or old does anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn import Client, KeyturnError
from keyturn.client import accepting, actions
from keyturn.core import jws
from keyturn.core.jws import Kind
from keyturn.service.desk import LocalDesk
from keyturn.testing import World
from programs import Home, Publisher, computer


def licensed(world: World) -> tuple[Client, int]:
    key = world.publisher.mint_all()[0]
    client = world.client()
    client.activate(key["key"], consent=True)
    return client, int(key["serial"])


def desk(world: World) -> LocalDesk:
    return LocalDesk(world.publisher.service, actor="staff")


def accept(client: Client, token: str) -> None:
    shelf = client._homes().find(client.product)
    accepting.accept_revocations(shelf, client._machine, token, client._load().opened.chain.texts)


def test_a_blocked_key_degrades_nobody_unless_it_is_withdrawn(world: World) -> None:
    client, serial = licensed(world)
    desk(world).block_key(serial, True)
    assert client.validate().state == "licensed"
    desk(world).block_key(serial, True, withdraw=True)
    assert client.status().state == "licensed"  # It has not heard of it.
    status = client.validate()
    assert (status.state, status.reason, status.usable, status.days_left) == ("non_genuine_grace", "key_blocked", True, 30)
    world.clock.advance(days=31)
    assert client.status().state == "notification"


def test_taking_it_back_is_the_next_number(world: World) -> None:
    client, serial = licensed(world)
    desk(world).block_key(serial, True, withdraw=True)
    client.validate()
    first = world.publisher.service.revocations("sample")
    desk(world).block_key(serial, False)
    second = world.publisher.service.revocations("sample")
    assert (first["number"], second["number"]) == (1, 2)
    assert client.validate().state == "licensed"
    # The older list, which still verifies, is worth nothing any more.
    with pytest.raises(KeyturnError) as error:
        accept(client, first["revocations"])
    assert error.value.code == "document_expired"
    assert client.status().state == "licensed"


def test_a_reclaimed_activation_and_no_other(world: World) -> None:
    mak = world.publisher.mint(channel="mak", limit=2)
    clients = [world.client(), world.client()]
    for client in clients:
        client.activate(mak, consent=True)
    gone = clients[0].status().details["activation_id"]
    desk(world).reclaim(gone)
    assert clients[0].validate().state == "licensed"
    desk(world).reclaim(gone, withdraw=True)
    assert [client.validate().reason for client in clients] == ["activation_reclaimed", None]
    # Activated again it is a new activation, and the list is not about that.
    clients[0].activate(mak, consent=True)
    assert clients[0].status().state == "licensed"


def test_saying_it_twice_changes_nothing(world: World) -> None:
    _, serial = licensed(world)
    for _ in range(2):
        desk(world).block_key(serial, True, withdraw=True)
    assert world.publisher.service.revocations("sample")["number"] == 1
    desk(world).block_key(serial, False)
    desk(world).block_key(serial, False)
    assert world.publisher.service.revocations("sample")["number"] == 2


def test_lists_that_do_nothing(world: World) -> None:
    """Signed by the installation itself, for another product, changed, or another kind of document."""
    client, serial = licensed(world)
    desk(world).block_key(serial, True, withdraw=True)
    token = str(world.publisher.service.revocations("sample")["revocations"])
    world.publisher.product("other")
    other = str(world.publisher.service.revocations("other")["revocations"])
    head, payload, signature = token.split(".")
    certificate = client._load().held
    assert certificate is not None
    bad = {
        "signature_invalid": f"{head}.{payload}.{signature[:-4]}AAAA", "document_foreign": other,
        "document_malformed": certificate.certificate,
    }  # fmt: skip
    for code, forged in bad.items():
        with pytest.raises(KeyturnError) as error:
            accept(client, forged)
        assert error.value.code == code
    from keyturn.edge import keystore

    signer = keystore.load(client._homes().find(client.product).installation_key)
    assert signer is not None
    own = jws.sign(Kind.REVOCATIONS, jws.loads(jws.payload_of(token)), signer.public, signer.sign)
    with pytest.raises(KeyturnError) as error:
        accept(client, own)
    assert error.value.code == "trust_invalid"
    assert client.status().state == "licensed"


def test_the_list_is_mirrored_and_a_changed_one_counts_as_deleted(world: World) -> None:
    client, serial = licensed(world)
    desk(world).block_key(serial, True, withdraw=True)
    client.validate()
    shelf = client._homes().find(client.product)
    first, mirror = map(Path, shelf._revocation_paths())
    first.write_text("x")
    assert client.status().state == "non_genuine_grace"
    mirror.unlink()
    assert client.status().state == "licensed"  # Tamper-evident, not tamper-proof: the next contact brings it again.
    assert client.validate().state == "non_genuine_grace"


def test_the_grace_counts_from_the_lists_date(world: World) -> None:
    """Who hears of it late has no longer grace, and rearms count as for any grace."""
    client, serial = licensed(world)
    desk(world).block_key(serial, True, withdraw=True)
    world.clock.advance(days=20)
    assert client.validate().days_left == 10
    shelf = client._homes().find(client.product)
    actions.rearm(shelf, client._machine)
    assert client.status().days_left == 30


@pytest.mark.system
def test_with_the_real_programs(tmp_path: Path) -> None:
    """`key block --withdraw`, `validate` with exit 1 and an event, `key unblock`, `validate` with exit 0."""
    publisher = Publisher(tmp_path / "publisher")
    product = publisher.product("paintest", "--test")
    (key,) = publisher.mint("paintest")
    with publisher.running():
        home = Home(tmp_path / "client" / "home", sysroot=computer(tmp_path / "pc", "office-pc-a"))
        home.activate(product, key["key"]).ok()
        assert home("validate").ok().json["genuine"] is True
        assert publisher.service("key", "block", str(key["serial"]), "--withdraw").exit == 2  # It says how many, and asks.
        publisher.service("key", "block", str(key["serial"]), "--withdraw", "--yes").ok()
        done = home("validate")
        assert (done.exit, done.json["genuine"], done.json["list"]) == (1, False, 1)
        assert home.status()["state_code"] == 4
        publisher.service("key", "unblock", str(key["serial"])).ok()
        assert home("validate").ok().json["list"] == 2
        assert home.status()["state"] == "licensed"
    names = [event["name"] for event in home("events").ok().json["events"]]
    assert names.count("not_genuine") == 1
    assert names.count("validated") == 2
