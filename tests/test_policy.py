"""The organization's policy: what its lines mean, that a home only restricts further, and that nothing leaves against it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn import KeyturnError
from keyturn.client import policies
from keyturn.client.disclosing import declaration
from keyturn.client.machine import Machine
from keyturn.client.policies import WITHHOLDABLE
from keyturn.core import policy
from keyturn.core.documents import UNAVAILABLE, read_request
from keyturn.core.policy import Policy
from keyturn.edge import probes
from keyturn.edge.probes import Computer
from keyturn.testing import World
from keyturn.testing.computers import synthetic
from peers import Peer, answering
from programs import Home, Publisher, computer


def said(text: str, place: str = "policy.toml") -> policy.Said:
    return policy.read(f"[policy]\n{text}", place, WITHHOLDABLE)


def both(system: str, home: str) -> Policy:
    return policy.together([said(system, "/etc/keyturn/policy.toml")], said(home, "home.toml"))


def refused(text: str) -> KeyturnError:
    with pytest.raises(KeyturnError) as error:
        said(text)
    assert error.value.code == "policy_malformed"
    return error.value


def test_without_a_file_every_way_is_open() -> None:
    holds = policy.together([])
    assert holds == Policy()
    for channel in policy.CHANNELS:
        holds.demand(channel)
    holds.demand_name("anything.example", 443)


@pytest.mark.parametrize("channel", policy.CHANNELS)
def test_a_forbidden_way_names_its_line(channel: str) -> None:
    holds = policy.together([said(f'# why\n{channel} = "never"  # the board, 2026')])
    with pytest.raises(KeyturnError) as error:
        holds.demand(channel)
    assert (error.value.code, error.value.exit) == ("policy_forbids", 5)
    assert f'policy.toml:3: {channel} = "never"' in error.value.detail


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('onlin = "never"', "policy.toml:2: onlin"),
        ('online = "nevr"', "allow, never"),
        ("online = false", "allow, never"),
        ('proxy = "http://user:secret@proxy:3128"', "without credentials"),
        ('names = "one.example"', "list of texts"),
        ("names = []", "not empty"),
        ('names = ["http://x"]', "HOST or HOST:PORT"),
        ('domains = ["example.com:53"]', "name of a domain"),
        ('domains = ["a..b"]', "name of a domain"),
        ('hours = ["22-06"]', "HH:MM-HH:MM"),
        ('hours = ["22:00-22:00"]', "HH:MM-HH:MM"),
        ('hours = ["22:00-24:30"]', "HH:MM-HH:MM"),
        ('withhold = ["pairs"]', "cannot be withheld"),
        ('withhold = ["client_version"]', "cannot be withheld"),
        ("online = ", "policy.toml"),
        ('online = "never"\n[policies]\nx = 1', "one table"),
    ],
)
def test_what_is_not_understood_is_an_error(text: str, says: str) -> None:
    """A prohibition with a typing mistake in it is never permission; the place is named, a secret is not shown."""
    assert says in refused(text).detail
    assert "secret" not in refused(text).detail


def test_the_later_file_of_the_system_counts() -> None:
    holds = policy.together([said('online = "never"', "a"), said('online = "allow"', "b")])
    assert holds.online
    assert holds.line("online") == 'b:2: online = "allow"'


@pytest.mark.parametrize(
    ("system", "home", "name", "value", "ignored"),
    [
        ("", 'online = "never"', "online", False, 0),
        ('online = "never"', 'online = "allow"', "online", False, 1),
        ("", 'consent = "organization"', "consent", "ask", 1),
        ('consent = "organization"', 'consent = "ask"', "consent", "ask", 0),
        ("", 'dial = "allow"', "dial", "never", 1),
        ("", 'probe = "required"', "probe", "required", 0),
        ("", 'probe = "none"', "probe", "try", 1),
        ("", 'extended_grace = "use"', "extended_grace", False, 1),
        ("", 'cloud_metadata = "ask"', "cloud_metadata", False, 1),
        ('names = ["a.example", "b.example"]', 'names = ["b.example", "c.example"]', "names", ("b.example",), 0),
        ('names = ["a.example"]', 'names = ["c.example"]', "names", ("a.example",), 1),
        ('domains = ["A.example."]', 'domains = ["b.example"]', "domains", ("a.example",), 1),
        ("", 'domains = ["b.example"]', "domains", ("b.example",), 0),
        ('proxy = "http://a:1"', 'proxy = "http://b:2"', "proxy", "http://a:1", 1),
        ("", 'proxy = "http://b:2"', "proxy", "http://b:2", 0),
        ('withhold = ["os_name"]', 'withhold = ["region"]', "withhold", frozenset({"os_name", "region"}), 0),
        ('hours = ["22:00-06:00"]', 'hours = ["00:00-24:00"]', "hours", ((1320, 360),), 1),
    ],
)
def test_a_home_only_restricts(*, system: str, home: str, name: str, value: Any, ignored: int) -> None:
    holds = both(system, home)
    assert (getattr(holds, name), len(holds.ignored)) == (value, ignored)
    assert all(line.startswith("home.toml:2: ") for line in holds.ignored)


@given(minute=st.integers(0, 1439))
def test_hours_reach_past_midnight(minute: int) -> None:
    holds = policy.together([said('hours = ["22:00-06:00", "12:00-12:30"]')])
    assert holds.open_at(minute) is (minute >= 1320 or minute < 360 or 720 <= minute < 750)
    if not holds.open_at(minute):
        with pytest.raises(KeyturnError) as error:
            holds.demand_hours(minute)
        assert holds.open_at((minute + (error.value.retry_after or 0) // 60) % 1440)


def test_withholdable_is_what_the_declaration_says() -> None:
    assert set(WITHHOLDABLE) == {name for name, about in declaration()["facts"].items() if about.get("withholdable")}


def test_what_is_withheld_is_not_in_the_request(world: World) -> None:
    """Nothing of it is in the bytes; the reason stands in its place, and the service activates all the same."""
    client = world.client()
    rules = Path(client._machine.rules)
    rules.mkdir(parents=True)
    (rules / "policy.toml").write_text('[policy]\nwithhold = ["all"]\n')
    client.activate(world.publisher.mint("sample"), consent=True)
    shelf = client._homes().find(client.product)
    held = shelf.held()
    assert held is not None
    facts = read_request(held.request)[0].facts
    assert {name for name, value in facts.items() if value == {UNAVAILABLE: "withheld by the organization's policy"}} == set(
        WITHHOLDABLE
    )


def test_the_organization_agrees_for_everybody(world: World) -> None:
    client = world.client()
    rules = Path(client._machine.rules)
    (rules / "policy.d").mkdir(parents=True)
    (rules / "policy.d" / "10-consent.toml").write_text('[policy]\nconsent = "organization"\n')
    assert client.activate(world.publisher.mint("sample")).state == "licensed"


def test_a_policy_that_is_not_understood_stops_what_leaves_and_nothing_else(world: World) -> None:
    client = world.client()
    key = world.publisher.mint("sample")
    rules = Path(client._machine.rules)
    rules.mkdir(parents=True)
    (rules / "policy.toml").write_text("[policy]\nonline = never\n")
    with pytest.raises(KeyturnError) as error:
        client.activate(key, consent=True)
    assert error.value.code == "policy_malformed"
    assert client.status().state == "initial_grace"


def test_rules_are_read_where_the_system_keeps_them(tmp_path: Path, world: World) -> None:
    machine = world.machine()
    (tmp_path / "policy.toml").write_text('[policy]\nfile = "never"\n')
    assert policies.policy_of(str(tmp_path), machine).file is False
    assert policies.policy_of(str(tmp_path / "none"), machine).file is True


def test_the_cloud_is_asked_by_every_read_or_by_none(tmp_path: Path, world: World) -> None:
    """Only where the system's policy says so: a home's cannot, and a file that is not understood does not."""
    for text, wanted in (("", False), ('cloud_metadata = "ask"', True), ('cloud_metadata = "ask"\nx = 1', False)):
        (tmp_path / "policy.toml").write_text(f"[policy]\n{text}\n")
        given: list[bool] = []

        place = synthetic(1).write(tmp_path / f"pc-{wanted}-{len(text)}")

        def read(_root: str | None, *, facts: bool, ask: object = None, given: list[bool] = given, at: Path = place) -> Computer:
            given.append(ask is not None)
            return probes.read(str(at), facts=facts)

        machine = Machine({"HOME": str(tmp_path)}, read=read, rules=str(tmp_path))
        product = world.client()._load().opened.product
        machine.computer(product)
        assert given == [wanted]


# --- the real programs ---


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Publisher, Path, str, Path]]:
    folder = tmp_path_factory.mktemp("policy")
    publisher = Publisher(folder / "publisher")
    product = publisher.product("paintest", "--test")
    (minted,) = publisher.mint("paintest", "--note", "policy")
    publisher.start()
    yield publisher, product, minted["key"], computer(folder / "pc", synthetic(1))
    publisher.close()


def home_with(tmp_path: Path, rules: str, sysroot: Path) -> Home:
    home = Home(tmp_path / "client" / "home", sysroot=sysroot)
    home.path.mkdir(parents=True)
    (home.path / "policy.toml").write_text(f"[policy]\n{rules}\n")
    return home


@pytest.mark.system
def test_online_never_sends_nothing(tmp_path: Path, scene: tuple[Publisher, Path, str, Path]) -> None:
    """Exit 5, the line is named, the service's log has nothing, the event log has it, and a file is still possible."""
    publisher, product, key, sysroot = scene
    home = home_with(tmp_path, 'online = "never"', sysroot)
    before = publisher.log()
    done = home.activate(product, key)
    assert (done.exit, done.code) == (5, "policy_forbids")
    assert f'{home.path}/policy.toml:2: online = "never"' in done.json["error"]["detail"]
    doctor = home("doctor")
    assert (doctor.exit, doctor.json["sentence"].partition(":")[0]) == (5, "Policy")
    assert publisher.log() == before
    entry = home.status()
    assert entry["policy"] == f'{home.path}/policy.toml:2: online = "never"'
    assert entry["next_command"] == "keyturn export request -o F.ktx"
    (event,) = [e for e in home("events").ok().json["events"] if e["name"] == "policy_forbade"]
    assert (event["code"], event["return_code"], event["event_id"]) == ("policy_forbids", 5, 205)
    assert event["remedy"]
    assert home("export", "request", "-o", str(tmp_path / "r.ktx")).exit == 0


@pytest.mark.system
def test_file_never(tmp_path: Path, scene: tuple[Publisher, Path, str, Path]) -> None:
    _, product, key, sysroot = scene
    home = home_with(tmp_path, 'file = "never"\nonline = "never"', sysroot)
    home.activate(product, key)
    done = home("export", "request", "-o", str(tmp_path / "r.ktx"))
    assert (done.exit, done.code) == (5, "policy_forbids")
    assert not (tmp_path / "r.ktx").exists()
    assert home("relay", str(tmp_path / "r.ktx")).exit == 4
    assert home.status()["next_command"] == "keyturn doctor"
    assert home.status()["state"] == "initial_grace"  # And the count-down goes on.


@pytest.mark.system
def test_names_probe_and_proxy(tmp_path: Path, scene: tuple[Publisher, Path, str, Path]) -> None:
    """Only named places are contacted; a required proxy is used; a required probe stops where it is not answered."""
    publisher, product, key, sysroot = scene
    home = home_with(tmp_path / "a", 'names = ["elsewhere.example"]', sysroot)
    assert home.activate(product, key).code == "policy_forbids"
    home = home_with(tmp_path / "b", f'names = ["localhost:{publisher.port}", "localhost:{publisher.probe_port}"]', sysroot)
    assert home.activate(product, key).exit == 0
    seen: list[bytes] = []
    refusing = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    with Peer(answering(refusing, seen)) as peer:
        home = home_with(tmp_path / "c", f'proxy = "http://127.0.0.1:{peer.port}"', sysroot)
        done = home("activate", "-", "--product-file", str(product), "--yes", input=key, env={"NO_PROXY": "*"})
    assert done.code == "service_unreachable"
    assert any(line.startswith(b"CONNECT localhost:") for line in seen)
    home = home_with(tmp_path / "d", 'probe = "required"', sysroot)
    other = product.with_name("deaf.ktproduct")
    publisher.service("config", "set", "probe_url", "http://localhost:9/probe").ok()
    publisher.service("product", "export", "paintest", "-o", str(other)).ok()
    publisher.service("config", "set", "probe_url", publisher.probe_url).ok()
    done = home.activate(other, key)
    assert (done.exit, done.code) == (3, "service_unreachable")
    assert 'probe = "required"' in done.json["error"]["detail"]


@pytest.mark.system
def test_a_home_line_that_loosens_is_told_by_doctor(tmp_path: Path, scene: tuple[Publisher, Path, str, Path]) -> None:
    _, product, key, sysroot = scene
    home = home_with(tmp_path, 'consent = "organization"', sysroot)
    done = home("activate", "-", "--product-file", str(product), input=key)
    assert done.code == "consent_required"
    checks = json.loads(home("doctor").out)["checks"]
    assert any(check["name"] == "Policy" and "is ignored" in check["found"] for check in checks)
