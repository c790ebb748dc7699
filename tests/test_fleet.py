"""The fleet manager: computers join, check in, and are activated by proxy; what may be lost, repeated or refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pytest

from fleets import Managed, Site
from keyturn.core import fleet
from keyturn.core.errors import KeyturnError
from keyturn.core.fleet import CheckIn
from keyturn.edge.pinning import Pin
from keyturn.edge.transport import Transport
from keyturn.fleet.selecting import Selector
from keyturn.flows.fleet import FleetLine
from keyturn.testing import World
from keyturn.testing.computers import synthetic


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    with Site(world, tmp_path / "site").running() as made:
        yield made


def site_selector(name: str) -> Selector:
    return Selector(computers=(name,))


def overheard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every document that agents send from now on."""
    said: list[str] = []
    real = FleetLine._post

    def post(line: FleetLine, path: str, document: str) -> dict[str, Any]:
        said.append(document)
        return real(line, path, document)

    monkeypatch.setattr(FleetLine, "_post", post)
    return said


def used(site: Site) -> list[tuple[int | None, int | None]]:
    return [tuple(row) for row in site.database.read(lambda db: db.execute("SELECT used, seats FROM key").fetchall())]


def test_computers_join_and_are_activated_by_proxy(site: Site) -> None:
    """Three computers, one key, one order: each is licensed, and the key's count is known here."""
    computers = [site.join(f"pc-{n}") for n in range(3)]
    key = site.key(limit=5)
    task = site.order("activate", key=key)
    site.work(computers)
    assert set(site.outcomes(task).values()) == {("done", None)}
    assert [one.status()["state"] for one in computers] == ["licensed"] * 3
    assert {one.status()["via"] for one in computers} == {"fleet"}
    assert used(site) == [(3, 5)]


def test_the_limit_is_exact_and_the_rest_fail_with_the_remedy(site: Site) -> None:
    """Two seats for four computers: two are licensed, two have the limit's code, and nothing is half done."""
    computers = [site.join(f"pc-{n}") for n in range(4)]
    task = site.order("activate", key=site.key(limit=2))
    site.work(computers)
    outcomes = sorted(site.outcomes(task).values())
    assert outcomes == [("done", None)] * 2 + [("failed", "limit_reached")] * 2
    assert sorted(one.status()["state"] for one in computers) == ["initial_grace"] * 2 + ["licensed"] * 2


def test_a_computer_that_was_set_up_anew_gets_what_its_hardware_had(site: Site) -> None:
    """New store, new name, same hardware: licensed without the service and without a seat. On other hardware it is a new one."""
    hardware = synthetic(77)
    old = site.join("before", hardware)
    key = site.key(limit=3)
    site.order("activate", key=key)
    site.work([old])
    new = site.join("after", hardware, store="again")
    task = site.order("rebind", site_selector("after"), key=key)
    for _ in range(2):
        new.check_in()
    assert site.outcomes(task) == {"after": ("done", None)}
    assert new.status()["state"] == "licensed"
    assert used(site) == [(1, 3)]
    other = site.join("other")
    task = site.order("rebind", site_selector("other"), key=key)
    for _ in range(2):
        other.check_in()
    assert site.outcomes(task) == {"other": ("failed", "rebind_unknown")}


def test_a_recorded_check_in_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of a check-in only grows."""
    computer = site.join("pc")
    said = overheard(monkeypatch)
    computer.check_in()
    with Transport(environ={}, judge=Pin(site.url).judge) as transport:
        problem = transport.post(f"{site.url}/v1/check-in", said[-1].encode(), "application/jose").problem()
    assert problem is not None and problem.code == "request_superseded"


def test_a_token_serves_as_often_and_as_long_as_it_says(site: Site) -> None:
    """One use: the same computer again is the same, another one is refused; an expired one serves nobody."""
    token = site.token(uses=1, group="lab")
    first = site.join("first", token=token)
    assert first.enroll(token) == site.computers()[0]["id"]
    with pytest.raises(KeyturnError) as caught:
        site.join("second", token=token)
    assert caught.value.code == "token_invalid"
    late = site.token(expires_at=site.world.clock() - 1)
    with pytest.raises(KeyturnError) as caught:
        site.join("late", token=late)
    assert caught.value.code == "token_invalid"


def test_another_manager_at_the_same_address_is_refused(site: Site) -> None:
    """The token names the manager's key: whoever answers with another one hears nothing."""
    told = fleet.EnrollmentToken.parse(site.token())
    false = fleet.EnrollmentToken(told.url, "A" * 43, told.secret)
    with pytest.raises(KeyturnError) as caught:
        site.join("pc", token=false.text)
    assert caught.value.code == "fleet_untrusted"
    assert site.computers() == []


def test_seats_are_given_back(site: Site) -> None:
    """Deactivation signs the return on the computer, and the manager carries it."""
    computer = site.join("pc")
    key = site.key()
    site.order("activate", key=key)
    site.work([computer])
    task = site.order("deactivate")
    site.work([computer])
    assert site.outcomes(task) == {"pc": ("done", None)}
    assert computer.status()["state"] != "licensed"
    again = site.order("activate", key=key)
    site.work([computer])
    assert site.outcomes(again) == {"pc": ("done", None)}


def test_nothing_is_asked_twice(site: Site) -> None:
    """A computer whose outcome was lost does its step again, with the same end."""
    computer: Managed = site.join("pc")
    task = site.order("activate", key=site.key())
    real = site.fleet.check_in

    def lossy(db: Connection, said: CheckIn, agent: str, now: int) -> object:
        answer = real(db, said, agent, now)
        if lost:
            lost.pop()
            raise KeyturnError("storage_failed", "planted")
        return answer

    lost = [1, 1, 1]
    site.fleet.check_in = lossy  # type: ignore[method-assign, assignment]
    for _ in range(6):
        try:
            computer.check_in()
        except KeyturnError:
            continue
        site.forwarder.turn()
    assert site.outcomes(task) == {"pc": ("done", None)}
    assert used(site) == [(1, 5)]


def test_what_is_left_of_a_key_is_asked_and_another_organizations_key_is_refused(site: Site) -> None:
    """The publisher says how many seats are taken; a key of a second organization is marked and serves for nothing."""
    from keyturn.fleet import keys, proxying
    from keyturn.service import catalog

    site.key(limit=7)
    publisher = site.world.publisher
    publisher.database.write_now(
        lambda db: catalog.create_organization(db, "others", "Others Ltd", publisher.service.ids, site.world.clock())
    )
    foreign = site.key(limit=9, organization="others")
    rows = site.database.read(lambda db: db.execute("SELECT * FROM key").fetchall())
    product = site.database.read(lambda db: site.fleet.opened(db, rows[0]["product"])).product
    line = publisher.connect(product, {})
    own = next(row for row in rows if row["partial"] != foreign)
    other = next(row for row in rows if row["partial"] == foreign)
    proxying.ask_about(site.fleet, own, line)
    with pytest.raises(KeyturnError, match="Others Ltd") as caught:
        proxying.ask_about(site.fleet, other, line)
    assert caught.value.code == "key_foreign"
    site.join("pc")
    with pytest.raises(KeyturnError) as caught:
        site.order("activate", key=foreign)
    assert caught.value.code == "key_foreign"
    left = {one["partial_key"]: one["remaining"] for one in site.database.read(lambda db: list(keys.listed(db)))}
    assert left == {own["partial"]: 7, foreign: 9}


def test_every_column_and_every_member_of_a_document_is_declared(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """`privacy.toml` names what the manager keeps and what agents tell it, both ways."""
    from keyturn.client.disclosing import declaration
    from keyturn.core import jws

    def columns(db: object) -> dict[str, set[str]]:
        tables = [row["name"] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]  # type: ignore[attr-defined]
        return {
            table: {row["name"] for row in db.execute(f"SELECT name FROM pragma_table_info('{table}')")}  # type: ignore[attr-defined]
            for table in tables
        }

    declared = declaration()
    assert site.database.read(columns) == {table: set(names) for table, names in declared["fleet"].items()}
    said = overheard(monkeypatch)
    site.join("pc")
    for document, part in zip(said, ("enrollment", "check_in"), strict=False):
        header = jws.loads(jws._decode(document.split(".")[0]))
        members = set(jws.loads(jws.payload_of(document))) | (set(header) - {"alg", "typ", "kid"})
        assert members == set(declared[part])


@pytest.mark.parametrize("by", ["manager", "computer"])
def test_a_computer_that_was_set_up_anew_gives_its_seat_back(site: Site, by: str) -> None:
    """The publisher does not know the new installation: it is told first, and then the seat is free."""
    from keyturn.client.lines import Talk

    hardware = synthetic(78)
    old = site.join("before", hardware)
    key = site.key(limit=1)
    site.order("activate", key=key)
    site.work([old])
    new = site.join("after", hardware, store="again")
    site.order("rebind", site_selector("after"), key=key)
    site.work([new])
    assert new.status()["state"] == "licensed"
    if by == "manager":
        task = site.order("deactivate", site_selector("after"))
        site.work([new], rounds=8)
        assert site.outcomes(task) == {"after": ("done", None)}
    else:
        (shelf,) = new.homes.shelves()
        with Talk(shelf, new.loaded(), new.machine, connect=site.world.publisher.connect) as talk:
            assert talk.give_back() is None
    assert new.status()["state"] != "licensed"
    other = site.join("other")
    task = site.order("activate", site_selector("other"), key=key)
    site.work([other])
    assert site.outcomes(task) == {"other": ("done", None)}
