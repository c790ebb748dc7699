"""What leaves a computer is what is declared, both ways; what identifies never leaves it in the clear."""

from __future__ import annotations

import ast
import json
import sqlite3
from pathlib import Path
from typing import Any

from keyturn.client import actions, policies
from keyturn.client.disclosing import declaration, disclosure, disclosure_text
from keyturn.client.machine import Machine
from keyturn.core import documents, jws
from keyturn.core.documents import FACTS, UNAVAILABLE
from keyturn.edge import eventlog
from keyturn.edge.vault import Shelf
from keyturn.testing import World
from keyturn.testing.computers import RecordedComputer, load, synthetic

WORDS = {"title", "purpose", "basis", "retention", "readers", "withholdable"}


def a_request(world: World, computer: RecordedComputer, machine: Machine | None = None) -> tuple[str, Shelf, Any]:
    client = world.client(computer, machine=machine)
    shelf = client._added()
    actions.install_key(shelf, world.publisher.mint(), client._machine)
    token, loaded = actions.make_request(shelf, client._machine)
    return token, shelf, loaded


def names_on_the_wire(token: str) -> set[str]:
    header = jws.loads(jws._decode(token.split(".")[0]))
    return set(jws.loads(jws.payload_of(token))) | (set(header) - {"alg", "typ", "kid"})


def test_every_field_of_a_request_is_declared_and_every_declared_field_is_there(world: World) -> None:
    """privacy.toml and the wire agree in both directions, and every line has all its words."""
    declared = declaration()
    token, _, _ = a_request(world, load("office-pc-a"))
    assert names_on_the_wire(token) == set(declared["request"])
    request, _ = documents.read_request(token)
    assert set(request.facts) == set(declared["facts"]) == set(FACTS)
    for section in ("facts", "request", "release"):
        for name, about in declared[section].items():
            assert {**declared["defaults"], **about}.keys() == WORDS, f"{section}.{name}"


def test_every_field_of_a_release_is_declared(world: World) -> None:
    """The same for the document that returns a seat."""
    client = world.licensed()
    release = actions.make_release(client._homes().find(client.product), client._machine)
    assert names_on_the_wire(release) == set(declaration()["release"])


def test_every_column_of_the_database_is_declared(world: World) -> None:
    """The service keeps nothing that privacy.toml does not name, and names nothing it does not keep."""

    def columns(db: sqlite3.Connection) -> dict[str, set[str]]:
        tables = [row["name"] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: {row["name"] for row in db.execute(f"SELECT name FROM pragma_table_info('{table}')")}
            for table in tables
        }

    declared = {table: set(names) for table, names in declaration()["tables"].items()}
    assert world.publisher.database.read(columns) == declared


def test_every_member_of_an_event_is_declared(world: World) -> None:
    """What is written is declared, and what any part of the client can put into `data`."""
    declared = declaration()["events"]
    data = set(declared.pop("data"))
    client = world.licensed()
    entries = eventlog.read(str(client._home), None)
    assert {name for entry in entries for name in entry} == {*declared, "data"}
    assert {name for entry in entries for name in entry["data"]} <= data
    told = {"program", "step", "reference"}  # Those that `Teller` puts there itself.
    for path in Path(policies.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".tell"):
                told |= {word.arg for word in node.keywords if word.arg}
    assert told - set(declared) == data


def test_a_fact_is_a_value_or_unavailable_with_its_reason(world: World) -> None:
    """A computer that shows nothing says why, fact by fact; none is silently missing."""
    for name in ("office-pc-a", "microvm-a", "sandbox"):
        request, _ = documents.read_request(a_request(world, load(name))[0])
        for fact, value in request.facts.items():
            assert isinstance(value, str) or (set(value) == {UNAVAILABLE} and value[UNAVAILABLE]), (name, fact)


def test_nothing_that_identifies_leaves_in_the_clear(world: World) -> None:
    """No raw serial, UUID, MAC address, host name or product key is on the wire, in the database or in the service's log."""
    computer = synthetic(99)
    key = world.publisher.mint()
    client = world.client(computer)
    client.activate(key, consent=True)
    shelf = client._homes().find(client.product)
    wire = json.dumps(shelf.sent()).encode()
    tokens = [entry["sent"] for entry in shelf.sent()]
    wire += b"".join(jws.payload_of(token) for token in tokens)
    world.publisher.close()
    stored = b"".join(path.read_bytes() for path in (world.folder / "publisher").glob("service.db*"))
    stored += wire
    names = {"product_uuid", "product_serial", "board_serial", "chassis_serial", "serial", "address", "machine-id", "hostname"}
    raw = {text.strip() for path, text in computer.files.items() if path.rsplit("/", 1)[-1] in names}
    canaries = {key, key.replace("-", ""), *raw}
    canaries = {canary for canary in canaries if len(canary) >= 6 and canary != "00:00:00:00:00:00"}
    assert len(canaries) >= 6
    found = [canary for canary in canaries if canary.encode() in stored or canary.lower().encode() in stored.lower()]
    assert found == []


def test_two_products_share_no_tag(world: World) -> None:
    """The same computer's pairs and tags differ from product to product, so two publishers cannot join their tables."""
    machine = world.machine(synthetic(5))
    first, _ = documents.read_request(a_request(world, synthetic(5), machine)[0])
    other = World(world.folder / "other", publisher="Another Publisher")
    try:
        second, _ = documents.read_request(a_request(other, synthetic(5), machine)[0])
    finally:
        other.close()
    assert first.pairs.keys() == second.pairs.keys()
    assert not set(first.pairs.values()) & set(second.pairs.values())
    assert sum(first.tags[name] == second.tags[name] for name in first.tags) <= 1  # Of 12 bits; one may meet by chance.
    assert first.installation != second.installation
    assert first.nonce != second.nonce


def test_the_disclosure_shows_every_field(world: World) -> None:
    """A person is shown each fact with its title, and the machine-readable form holds the very request."""
    token, _, loaded = a_request(world, load("office-pc-a"))
    shown = disclosure(token, loaded)
    assert shown["request"] == token
    assert {field["field"] for field in shown["fields"]} == set(FACTS) | (names_on_the_wire(token) - {"facts", "jwk"})
    text = disclosure_text(shown)
    for field in shown["fields"]:
        assert field["title"].lower() in text.lower()


def test_the_request_that_was_shown_is_the_one_that_is_sent(world: World) -> None:
    """`disclose` keeps its request, and `activate` sends those bytes."""
    client = world.client()
    client.status()
    shelf = client._added()
    actions.install_key(shelf, world.publisher.mint(), client._machine)
    shown, _ = actions.make_request(shelf, client._machine)
    world.clock.advance(days=1)
    again, _ = actions.make_request(shelf, client._machine)
    assert shown == again
    client.activate(consent=True)
    assert [entry["sent"] for entry in shelf.sent()] == [shown]


def test_a_declared_field_that_is_missing_is_noticed(tmp_path: Path) -> None:
    """The comparison bites: a claim that nobody declared is found."""
    world = World(tmp_path / "bite")
    try:
        token, _, _ = a_request(world, synthetic(1))
    finally:
        world.close()
    assert names_on_the_wire(token) - (set(declaration()["request"]) - {"vm"}) == {"vm"}
