"""The service's answers: who gets a seat, what costs nothing, what is refused, and what survives a crash."""

from __future__ import annotations

import json
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from keyturn import Client, KeyturnError
from keyturn.client import accepting, actions
from keyturn.client.machine import Machine
from keyturn.core import documents, jws
from keyturn.core.errors import Refused
from keyturn.core.jws import Kind
from keyturn.edge.vault import Vault
from keyturn.service import catalog, seats
from keyturn.testing import World
from keyturn.testing.computers import load, synthetic


def key_of(world: World, serial: int) -> dict[str, Any]:
    return world.publisher.database.read(lambda db: catalog.key(db, serial))


def request_of(world: World, key: str, *, machine: Machine | None = None, home: str = "requests") -> str:
    """A signed request of a computer for ``key``, as ``disclose`` makes it."""
    machine = machine or world.machine()
    vault = Vault(str(world.folder / home / str(world._made)), "user")
    shelf = actions.add_product(vault.shelf, world.product, machine)
    actions.install_key(shelf, key, machine)
    return actions.make_request(shelf, machine)[0]


def test_the_same_request_gets_the_same_bytes(world: World) -> None:
    """A repeated request costs nothing and is answered byte for byte as before, while its activation stands."""
    minted = world.publisher.mint_all()[0]
    token = request_of(world, minted["key"])
    first, second = world.publisher.service.exchange(token), world.publisher.service.exchange(token)
    assert isinstance(first, dict) and isinstance(second, dict)
    assert first["certificate"] == second["certificate"]
    assert key_of(world, minted["serial"])["used"] == 1


def test_after_the_seat_is_returned_its_request_is_superseded(world: World) -> None:
    """An old request does not bring a returned seat back; the client makes a new one."""
    minted = world.publisher.mint_all()[0]
    client = world.client()
    client.activate(minted["key"], consent=True)
    token = json.loads(next((world.folder / "home-1").rglob("license.json")).read_text())["request"]
    client.deactivate()
    assert key_of(world, minted["serial"])["used"] == 0
    refused = world.publisher.service.exchange(token)
    assert isinstance(refused, Refused) and refused.code == "request_superseded"
    assert client.activate(consent=True).state == "licensed"
    assert key_of(world, minted["serial"])["used"] == 1


def test_a_retail_key_has_one_seat(world: World) -> None:
    """A same-model second computer is refused; reinstalling, a new disk or a dock on the first costs nothing."""
    minted = world.publisher.mint_all()[0]
    first = synthetic(1)
    for computer in (first, first.reinstalled(), first.new_disk(), first.docked(), first.hides("board")):
        assert world.client(computer).activate(minted["key"], consent=True).state == "licensed"
    with pytest.raises(KeyturnError) as refused:
        world.client(synthetic(2)).activate(minted["key"], consent=True)
    assert refused.value.code == "limit_reached"
    assert key_of(world, minted["serial"])["used"] == 1


def test_a_mak_counts_computers(world: World) -> None:
    """Two computers take two seats; what the key's limit allows is granted, and not one more."""
    minted = world.publisher.mint_all(channel="mak", limit=3)[0]
    for seed in (1, 2, 3, 1, 2):
        world.client(synthetic(seed)).activate(minted["key"], consent=True)
    with pytest.raises(KeyturnError) as refused:
        world.client(synthetic(4)).activate(minted["key"], consent=True)
    assert (refused.value.code, key_of(world, minted["serial"])["used"]) == ("limit_reached", 3)


def test_many_users_of_one_computer_share_its_seat(world: World) -> None:
    """Forty installations on one server, root's and users', are one seat."""
    minted = world.publisher.mint_all()[0]
    server = load("server-a")
    for number in range(40):
        machine = world.machine(server, as_user=number > 0)
        assert world.client(machine=machine).activate(minted["key"], consent=True).state == "licensed"
    assert key_of(world, minted["serial"])["used"] == 1


def test_the_same_installation_on_new_hardware_is_a_counted_move(world: World) -> None:
    """Three moves a year, the fourth is refused and says when; the seat is one all the time."""
    minted = world.publisher.mint_all()[0]
    home = world.folder / "moving"
    world.client(synthetic(1), home=home).activate(minted["key"], consent=True)
    for seed in (2, 3, 4):
        moved = world.client(synthetic(seed), home=home)
        assert moved.status().reason == "hardware_changed"
        assert moved.activate(consent=True).state == "licensed"
    with pytest.raises(KeyturnError) as refused:
        world.client(synthetic(5), home=home).activate(consent=True)
    assert refused.value.code == "move_limit_reached"
    assert 360 * 86_400 < (refused.value.retry_after or 0) <= 365 * 86_400
    assert key_of(world, minted["serial"])["used"] == 1


def test_weak_evidence_gets_a_term(world: World) -> None:
    """A computer without hardware identity is licensed for the product's term, renewable, on the same seat."""
    minted = world.publisher.mint_all()[0]
    status = world.client(load("microvm-a")).activate(minted["key"], consent=True, allow_ephemeral=True)
    assert (status.details["evidence"], status.days_left) == ("weak", 190)


def test_a_store_copied_to_where_no_hardware_shows_gets_a_term(world: World) -> None:
    """Whoever carries a store away may not turn the original's permanent licence into a second permanent one."""
    minted = world.publisher.mint_all()[0]
    original = world.folder / "original"
    assert world.client(synthetic(1), home=original).activate(minted["key"], consent=True).details["evidence"] == "strong"
    for number, name in enumerate(("microvm-a", "office-pc-a-no-sys", "wsl-b")):
        copied = world.folder / f"copied-{number}"
        shutil.copytree(original, copied)
        status = world.client(load(name), home=copied).activate(consent=True, allow_ephemeral=True)
        assert (status.details["evidence"], status.days_left) == ("weak", 190)
    assert key_of(world, minted["serial"])["used"] == 1
    activation = world.publisher.service.database.read(
        lambda db: db.execute("SELECT evidence FROM activation").fetchone()
    )
    assert activation["evidence"] == "strong"  # What the seat is known by does not get worse.


def test_what_a_product_refuses_of_weak_computers(world: World) -> None:
    """With `weak_evidence` refuse, such a computer gets no seat and a remedy."""
    product = world.publisher.product("strict", weak_evidence="refuse")
    key = world.publisher.mint("strict")
    with pytest.raises(KeyturnError) as refused:
        world.client(load("microvm-a"), product=product).activate(key, consent=True, allow_ephemeral=True)
    assert refused.value.code == "weak_evidence_refused"


def test_unknown_foreign_and_guessed_keys_get_one_answer(world: World) -> None:
    """Before possession is proven, nothing tells a key that exists from one that does not."""
    minted = world.publisher.mint_all()[0]
    other = World(world.folder / "other", publisher="Another Publisher")
    try:
        foreign = other.publisher.mint()
        token = request_of(world, foreign)
        request, verified = documents.read_request(request_of(world, minted["key"]))
        assert verified.kind is Kind.REQUEST
        unknown = world.publisher.service.exchange(token)
        assert isinstance(unknown, Refused) and unknown.code == "key_unknown"
        # The right serial without the key's secret: a request signed by somebody who guessed the product ID.
        machine = world.machine()
        vault = Vault(str(world.folder / "guess"), "user")
        shelf = actions.add_product(vault.shelf, world.product, machine)
        actions.install_key(shelf, foreign, machine)
        guessed = shelf.key()
        assert guessed is not None
        shelf.keep_key(guessed._replace(serial=minted["serial"], product_id=minted["product_id"]), shelf.key_secret())
        refused = world.publisher.service.exchange(actions.make_request(shelf, machine)[0])
        assert isinstance(refused, Refused)
        assert refused.code == "key_unknown"
        assert refused.why.replace(minted["product_id"], "") == unknown.why.replace(
            documents.read_request(token)[0].product_id, ""
        )
        assert request.serial == minted["serial"]
    finally:
        other.close()


def test_blocking_stops_new_seats_and_breaks_no_old_one(world: World) -> None:
    """A blocked key is refused to everybody, and whoever is licensed stays so."""
    minted = world.publisher.mint_all(channel="mak", limit=2)[0]
    client = world.client()
    client.activate(minted["key"], consent=True)
    world.publisher.database.write_now(
        lambda db: catalog.set_key(db, minted["serial"], {"blocked": True}, world.publisher.service.ids, world.clock())
    )
    assert client.status().state == "licensed"
    with pytest.raises(KeyturnError) as refused:
        world.client().activate(minted["key"], consent=True)
    assert refused.value.code == "key_blocked"


def test_a_crash_between_record_and_signature_is_finished_at_start(world: World) -> None:
    """A decision that was recorded is signed by the next start, and the client's retry gets that very certificate."""
    minted = world.publisher.mint_all()[0]
    token = request_of(world, minted["key"])
    service = world.publisher.service
    proven = service.prove(token)
    assert not isinstance(proven, Refused)
    service.record(proven, service.database.write).result()  # … and here the process dies.
    assert world.publisher.database.read(_open_count) == 1
    assert service.recover() == 1
    assert world.publisher.database.read(_open_count) == 0
    answer = service.exchange(token)
    assert isinstance(answer, dict)
    assert jws.payload_of(answer["certificate"])
    assert key_of(world, minted["serial"])["used"] == 1


def _open_count(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM intent WHERE signature IS NULL").fetchone()[0])


def test_the_last_seats_under_concurrency(world: World) -> None:
    """Forty computers at once for ten seats: exactly ten are granted, and the counter agrees with the rows."""
    minted = world.publisher.mint_all(channel="mak", limit=10)[0]
    tokens = [request_of(world, minted["key"], home=f"many-{n}") for n in range(40)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(world.publisher.service.exchange, tokens))
    granted = [answer for answer in answers if isinstance(answer, dict)]
    assert len(granted) == 10
    assert {answer.code for answer in answers if isinstance(answer, Refused)} == {"limit_reached"}
    rows = world.publisher.database.read(lambda db: catalog.activations(db, minted["serial"]))
    assert len(rows) == key_of(world, minted["serial"])["used"] == 10
    assert sorted(row["seat"] for row in rows) == list(range(1, 11))


def test_asking_takes_no_seat(world: World) -> None:
    """`--dry-run --ask` says what would happen, and nothing has."""
    minted = world.publisher.mint_all()[0]
    answer = world.publisher.service.ask(request_of(world, minted["key"]))
    assert isinstance(answer, dict)
    assert (answer["how"], answer["seats_used"], answer["seats_limit"]) == ("new", 0, 1)
    assert key_of(world, minted["serial"])["used"] == 0


def test_reclaim_by_staff_frees_the_seat(world: World) -> None:
    """A lost computer's seat goes to another; the lost one's request is superseded when it asks again."""
    minted = world.publisher.mint_all()[0]
    status = world.client().activate(minted["key"], consent=True)
    world.publisher.database.write_now(
        lambda db: catalog.reclaim(db, status.details["activation_id"], world.publisher.service.ids, world.clock())
    )
    assert world.client().activate(minted["key"], consent=True).state == "licensed"
    assert key_of(world, minted["serial"])["used"] == 1


def test_returns_have_an_allowance(world: World) -> None:
    """Twelve returns a year for a retail key; the next is refused and the copy stays licensed."""
    minted = world.publisher.mint_all()[0]
    client = world.client()
    for _ in range(12):
        client.activate(minted["key"], consent=True)
        assert client.deactivate().reason == "released"
    client.activate(consent=True)
    with pytest.raises(KeyturnError) as refused:
        client.deactivate()
    assert refused.value.code == "return_limit_reached"
    assert client.status().state == "licensed"


def test_a_release_said_twice_is_done_once(world: World) -> None:
    """A lost answer to a return is repeated, and the seat is given back once."""
    minted = world.publisher.mint_all(channel="mak", limit=2)[0]
    world.client().activate(minted["key"], consent=True)
    client = world.client()
    client.activate(minted["key"], consent=True)
    shelf = client._homes().find(client.product)
    release = actions.make_release(shelf, client._machine)
    first, second = world.publisher.service.exchange(release), world.publisher.service.exchange(release)
    assert isinstance(first, dict) and isinstance(second, dict)
    assert first["released_at"] == second["released_at"]
    assert key_of(world, minted["serial"])["used"] == 1


def test_the_database_alone_yields_no_usable_key(world: World, tmp_path: Path) -> None:
    """Without the pepper no stored key opens, and no key's text is in any file of the service."""
    keys = [world.publisher.mint() for _ in range(5)]
    world.publisher.close()
    stored = b"".join(path.read_bytes() for path in (world.folder / "publisher").rglob("*") if path.is_file())
    assert not any(key.encode() in stored or key.replace("-", "").encode() in stored for key in keys)
    from keyturn.service.sealing import Sealer

    with sqlite3.connect(world.folder / "publisher" / "service.db") as db:
        rows = db.execute("SELECT serial, sealed FROM product_key").fetchall()
    db.close()
    for serial, sealed in rows:
        with pytest.raises(KeyturnError) as error:
            Sealer(b"another pepper").open(sealed, serial)
        assert error.value.code == "store_damaged"
        assert len(Sealer(world.publisher.home.pepper()).open(sealed, serial)) == 32
    assert len(rows) == 5


def test_a_certificate_answers_only_its_own_request(world: World) -> None:
    """Another installation's answer is refused by the client, and the store stays as it was."""
    minted = world.publisher.mint_all(channel="mak", limit=5)[0]
    one, two = world.client(), world.client()
    assert isinstance(one, Client)
    token = request_of(world, minted["key"])
    answer = world.publisher.service.exchange(token)
    assert isinstance(answer, dict)
    two.status()
    shelf = two._added()
    actions.install_key(shelf, minted["key"], two._machine)
    actions.make_request(shelf, two._machine)
    with pytest.raises(KeyturnError) as refused:
        accepting.accept_answer(shelf, two._machine, answer)
    assert refused.value.code == "document_foreign"
    assert two.status().state == "initial_grace"


def test_seats_are_found_by_their_primary_key(world: World) -> None:
    """One look-up a pair: a plan that reads all seats of a key makes its thousandth activation a thousand times dearer."""
    wanted = seats.beside("n, serial, scheme, pair, tag", 6, seats.OWNERS)
    row = [0, 1, 1, "a", "b"]
    plan = world.publisher.service.database.read(lambda db: db.execute("EXPLAIN QUERY PLAN " + wanted, row * 6).fetchall())
    (search,) = [found["detail"] for found in plan if found["detail"].partition(" ")[2].startswith("s ")]
    assert search == "SEARCH s USING PRIMARY KEY (serial=? AND scheme=? AND pair=? AND tag=?)"
    # The check bites: a list of conditions reads all rows of the key.
    either = "((pair = ? AND tag = ?) OR (pair = ? AND tag = ?))"
    listed = f"SELECT activation FROM seat_pair WHERE serial = 1 AND scheme = 1 AND {either}"
    plan = world.publisher.service.database.read(lambda db: db.execute("EXPLAIN QUERY PLAN " + listed, ["a", "b"] * 2).fetchall())
    assert not any("pair=? AND tag=?" in row["detail"] for row in plan)
