"""Provisioning: a file describes an end, is applied once, and harms no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleets import Site
from keyturn.client import agent_turn
from keyturn.client.agent_turn import Visit
from keyturn.client.homes import Homes, open_homes
from keyturn.client.machine import Machine
from keyturn.client.provisioning import Applied, apply_all, read
from keyturn.client.telling import Teller
from keyturn.core.errors import KeyturnError
from keyturn.edge.vault import Vault
from keyturn.testing import World
from programs import Home, Publisher, computer, files_below, run


class Desk:
    """A computer to be provisioned: its organization's folder, its store, and a product file and key in the folder."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.machine = world.machine()
        self.folder = Path(self.machine.rules) / "provision.d"
        self.folder.mkdir(parents=True)
        self.home = world.folder / "store"
        (self.folder / "sample.ktproduct").write_bytes(world.product)
        self.key("key.txt", world.publisher.mint())

    @property
    def homes(self) -> Homes:
        return open_homes(str(self.home), None, {})

    def key(self, name: str, text: str, mode: int = 0o600) -> None:
        (self.folder / name).write_text(f"\n  {text}\n")
        (self.folder / name).chmod(mode)

    def write(self, name: str = "sample.toml", **values: str) -> Path:
        path = self.folder / name
        values = {"product_file": "sample.ktproduct", "key_file": "key.txt", "consent": "organization", **values}
        path.write_text("".join(f'{key} = "{value}"\n' for key, value in values.items() if value))
        return path

    def apply(self, **options: Any) -> list[Applied]:
        return apply_all(self.homes, self.machine, connect=self.world.publisher.connect, **options)

    def one(self, **options: Any) -> Applied:
        (result,) = self.apply(**options)
        return result

    def events(self) -> list[dict[str, Any]]:
        log = Teller(self.homes.write, self.machine).events()
        return [entry for entry in log if entry["name"].startswith("provision")]


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk(world)


EVERYTHING = ("product_added", "key_installed", "consent_recorded", "activated")


def test_a_file_is_the_whole_deployment_and_the_second_run_changes_nothing(desk: Desk) -> None:
    """Added, key installed, consent recorded, activated; then nothing, and not a byte of the store but the log."""
    path = desk.write()
    first = desk.one()
    assert (first.error, first.actions, first.state) == (None, EVERYTHING, "licensed")
    (shelf,) = desk.homes.shelves()
    assert json.loads(Path(shelf.path, "consent.json").read_text())["by"] == "organization"
    before = files_below(desk.home)
    second = desk.one()
    assert (second.error, second.actions, second.state) == (None, (), "licensed")
    assert files_below(desk.home) == before
    assert [(entry["name"], entry["data"]["file"]) for entry in desk.events()] == [("provision_applied", str(path))]


def test_a_dry_run_foretells_and_touches_nothing(desk: Desk) -> None:
    """What it says is what is then done; it makes no store, no event and no contact."""
    desk.write()

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a dry run opened a line")

    foretold = apply_all(desk.homes, desk.machine, dry_run=True, connect=never)
    assert not desk.home.exists()
    assert [result.actions for result in foretold] == [EVERYTHING] == [desk.one().actions]
    before = files_below(desk.home)
    assert [result.actions for result in apply_all(desk.homes, desk.machine, dry_run=True, connect=never)] == [()]
    assert files_below(desk.home) == before


def test_another_key_in_the_file_is_installed_and_activated(desk: Desk) -> None:
    desk.write()
    desk.one()
    desk.key("key.txt", desk.world.publisher.mint())
    assert desk.one(dry_run=True).actions == ("key_installed", "activated")
    assert desk.one().actions == ("key_installed", "activated")
    assert desk.one().actions == ()


def test_a_newer_product_file_is_an_update(desk: Desk) -> None:
    """The same file with nothing new in it is none."""
    desk.write()
    desk.one()
    desk.world.publisher.database.write_now(lambda db: db.execute("UPDATE product SET version = version + 1"))
    (desk.folder / "sample.ktproduct").write_bytes(desk.world.publisher.export("sample"))
    assert desk.one(dry_run=True).actions == ("product_updated",)
    assert desk.one().actions == ("product_updated",)
    assert desk.one().actions == ()


def test_one_that_fails_stops_no_other(desk: Desk) -> None:
    """Of three files the one in the middle is broken: the others are done, and the log says which and why."""
    other = desk.world.publisher.product("other")
    (desk.folder / "other.ktproduct").write_bytes(other)
    desk.key("other.txt", desk.world.publisher.mint("other"))
    desk.write("1.toml")
    broken = desk.write("2.toml", product_file="nowhere.ktproduct")
    desk.write("3.toml", product_file="other.ktproduct", key_file="other.txt")
    (desk.folder / "4.toml.old").write_text("not looked at")
    found = desk.apply()
    assert [result.state for result in found] == ["licensed", None, "licensed"]
    assert [None if result.error is None else result.error.code for result in found] == [None, "provision_malformed", None]
    told = {entry["name"]: entry for entry in desk.events()}
    assert str(desk.folder / "nowhere.ktproduct") in told["provision_failed"]["message"]
    assert told["provision_failed"]["remedy"]
    assert found[1].file == str(broken)


def test_a_failure_is_told_once_until_it_is_another(desk: Desk) -> None:
    """The agent applies the files again and again: the same fault is one event, another fault or a success is news."""
    desk.home.mkdir()
    path = desk.write(product_file="nowhere.ktproduct")
    desk.apply(), desk.apply()
    desk.write(product_file="elsewhere.ktproduct")
    desk.apply(), desk.apply()
    desk.write()
    desk.apply(), desk.apply()
    desk.write(product_file="nowhere.ktproduct")
    desk.apply()
    told = [(entry["name"], entry["data"]["file"], entry["return_code"]) for entry in desk.events()]
    failed, applied = ("provision_failed", str(path), 4), ("provision_applied", str(path), 0)
    assert told == [failed, failed, applied, failed]


def test_without_consent_nothing_is_sent(desk: Desk) -> None:
    """The product and key are there, the person is asked later; a policy's consent is as good as the file's."""
    desk.write(consent="")
    first = desk.one()
    assert first.error is not None
    assert (first.error.code, first.error.exit) == ("consent_required", 5)
    assert 'consent = "organization"' in first.error.remedy
    assert (first.actions, first.state) == (("product_added", "key_installed"), "initial_grace")
    (shelf,) = desk.homes.shelves()
    assert shelf.sent() == []
    Path(desk.machine.rules, "policy.toml").write_text('[policy]\nconsent = "organization"\n')
    assert desk.one().actions == ("activated",)


def test_a_policy_that_forbids_is_named(desk: Desk) -> None:
    desk.write()
    Path(desk.machine.rules, "policy.toml").write_text('[policy]\nonline = "never"\n')
    result = desk.one()
    assert result.error is not None
    assert (result.error.code, result.error.exit, result.state) == ("policy_forbids", 5, "initial_grace")
    assert 'online = "never"' in result.error.detail


@pytest.mark.parametrize("via", ["file", "agent"])
def test_what_is_not_to_be_sent_by_this_command_is_not(desk: Desk, via: str) -> None:
    """By file: no consent is recorded either, or the agent would send. Without contact: all but the contact."""
    desk.write(via="file" if via == "file" else "auto")
    result = desk.one(contact=via == "file")
    (shelf,) = desk.homes.shelves()
    assert (result.error, result.state, shelf.sent()) == (None, "initial_grace", [])
    assert shelf.consented() is (via == "agent")
    assert "activated" not in result.actions
    assert desk.one(contact=False).actions == ()


def test_a_refusal_is_this_files_error(desk: Desk) -> None:
    """The seat is taken by another computer: the code is the service's, and everything before it is done."""
    key = desk.world.publisher.mint()
    desk.world.client().activate(key, consent=True)
    desk.key("key.txt", key)
    desk.write()
    result = desk.one()
    assert result.error is not None
    assert (result.error.code, result.error.exit) == ("limit_reached", 1)
    assert result.actions == EVERYTHING[:3]


def test_a_key_that_others_may_read_is_not_used(desk: Desk) -> None:
    """But one of the channel `client` need not be secret."""
    desk.write()
    desk.key("key.txt", desk.world.publisher.mint(), 0o644)
    result = desk.one()
    assert result.error is not None
    assert (result.error.code, result.error.exit, result.actions) == ("key_file_exposed", 5, ())
    assert "chmod 600" in result.error.remedy
    desk.key("key.txt", desk.world.publisher.mint(channel="client"), 0o644)
    assert desk.one(contact=False).actions == EVERYTHING[:3]


def test_a_mistyped_key_changes_nothing(desk: Desk) -> None:
    desk.write()
    text = (desk.folder / "key.txt").read_text().strip()
    desk.key("key.txt", ("K" if text[0] != "K" else "H") + text[1:])
    result = desk.one()
    assert result.error is not None
    assert (result.error.code, result.actions) == ("key_mistyped", ())
    assert desk.homes.shelves() == []


MALFORMED = {
    "an unknown name": ('product_file = "p"\ncosnent = "organization"\n', ":2: 'cosnent' is not known"),
    "a table": ('product_file = "p"\n[host]\nname = "x"\n', ":2: host is a text"),
    "another consent": ('product_file = "p"\n\nconsent = "yes"\n', ':3: consent is "organization"'),
    "an unknown way": ('via = "pigeon"\nproduct_file = "p"\n', ":1: via is one of auto, online, host, file, fleet"),
    "no host's name": ('product_file = "p"\nvia = "host"\nhost = "http://k"\n', ":3: 'http://k' is not the name"),
    "a telephone": ('product_file = "p"\nvia = "telephone"\n', ":2: via is one of"),
    "no token": ('via = "fleet"\n', "fleet_token_file go together"),
    "a token for nothing": ('product_file = "p"\nfleet_token_file = "t"\n', "fleet_token_file go together"),
    "a key for nothing": ('via = "fleet"\nfleet_token_file = "t"\nkey_file = "k"\n', ":3: key_file goes with product_file"),
    "no product": ('via = "auto"\n', ": product_file is missing"),
    "an empty text": ('product_file = ""\n', ":1: product_file is a text, and not empty"),
    "a number": ('product_file = "p"\nkey_file = 7\n', ":2: key_file is a text"),
    "no TOML": ("product_file = p\n", "line 1"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_not_understood_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    text, said = MALFORMED[case]
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(KeyturnError) as error:
        read(str(path))
    assert (error.value.code, error.value.exit) == ("provision_malformed", 4)
    assert error.value.detail.startswith(str(path))
    assert said in error.value.detail
    assert error.value.remedy


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('product_file = "../p"\nkey_file = "/k"\n')
    found = read(str(tmp_path / "x.toml"))
    assert (found.product_file, found.key_file, found.via, found.consent) == (str(tmp_path / "../p"), "/k", "auto", False)


def test_a_computer_without_the_folder_has_nothing_to_apply(world: World) -> None:
    machine: Machine = world.machine()
    assert apply_all(open_homes(str(world.folder / "none"), None, {}), machine) == []


@pytest.mark.system
def test_the_verb_against_a_running_service(tmp_path: Path) -> None:
    """`keyturn apply FILE` over TLS: dry run, changed, unchanged; and the exit status is the first failure's."""
    publisher = Publisher(tmp_path / "publisher")
    product = publisher.product("paintbox", "--test")
    (key,) = publisher.mint("paintbox")
    (tmp_path / "key").write_text(key["key"])
    (tmp_path / "key").chmod(0o600)
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(f'product_file = "{product}"\nkey_file = "key"\nconsent = "organization"\n')
    bad.write_text('product = "x"\n')
    home = Home(tmp_path / "client" / "home", sysroot=computer(tmp_path / "pc", "office-pc-a"))
    with publisher.running():
        foretold = home("apply", "--dry-run", str(good)).ok().json
        assert not home.path.exists()
        first, second = (home("apply", str(good)).ok().json for _ in range(2))
        both = home("apply", str(bad), str(good))
    assert (foretold["changed"], first["changed"], second["changed"]) == (True, True, False)
    assert foretold["products"][0]["actions"] == first["products"][0]["actions"] == list(EVERYTHING)
    (entry,) = second["products"]
    assert entry | {"product": None} == {
        "product": None, "file": str(good), "changed": False, "actions": [], "state": "licensed", "error": None,
    }  # fmt: skip
    assert both.exit == 4
    assert [item["error"] and item["error"]["code"] for item in both.json["products"]] == ["provision_malformed", None]
    text = run(["--home", str(home.path), "apply", str(good)], cwd=tmp_path, env=home.env).ok().out
    assert "nothing to do" in text
    assert max(map(len, text.splitlines())) <= max(80, len(f"{good}:"))


# --- a fleet manager ---


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    with Site(world, tmp_path / "site").running() as made:
        yield made


def test_a_file_enrolls_the_computer_once(desk: Desk, site: Site) -> None:
    """The token alone is a whole file; a dry run joins nobody; a second run, or another of its tokens, changes nothing."""
    desk.key("fleet.token", site.token(group="lab"))
    desk.write(product_file="", key_file="", consent="", via="fleet", fleet_token_file="fleet.token")
    assert desk.one(dry_run=True).actions == ("enrolled",)
    assert site.computers() == []
    first = desk.one()
    assert (first.actions, first.product, first.error) == (("enrolled",), None, None)
    assert desk.one().actions == ()
    desk.key("fleet.token", site.token())
    assert desk.one().actions == ()
    assert len(site.computers()) == 1


def test_the_manager_activates_what_a_file_brought(desk: Desk, site: Site) -> None:
    """With a product and a key they are added and installed; nothing is sent to the publisher from here, consent or not."""
    desk.key("fleet.token", site.token())
    desk.write(via="fleet", fleet_token_file="fleet.token")
    assert desk.one().actions == ("product_added", "key_installed", "enrolled")
    assert desk.one().state == "initial_grace"


def test_a_token_that_others_may_read_or_that_serves_no_more_is_told(desk: Desk, site: Site) -> None:
    desk.write(product_file="", key_file="", consent="", via="fleet", fleet_token_file="fleet.token")
    cases = ((site.token(), 0o644, "key_file_exposed"), ("ktf1.nothing", 0o600, "file_malformed"))
    for text, mode, code in (*cases, (site.token(expires_at=1), 0o600, "token_invalid")):
        desk.key("fleet.token", text, mode)
        found = desk.one()
        assert (found.actions, found.error and found.error.code) == ((), code)
    assert site.computers() == []


def test_the_agent_enrolls_when_it_comes_by_and_tries_again(desk: Desk, site: Site) -> None:
    """A token that does not serve is a failed visit, which is repeated; a good one enrolls and checks in at once."""
    vault = Vault(str(desk.home), "system")
    desk.key("fleet.token", site.token(expires_at=1))
    desk.write(product_file="", key_file="", consent="", via="fleet", fleet_token_file="fleet.token")
    assert agent_turn.turn(vault, desk.machine) == {}
    assert site.computers() == []
    assert agent_turn.check_in(vault, desk.machine) == Visit(0, failed=True)
    desk.key("fleet.token", site.token())
    assert agent_turn.check_in(vault, desk.machine) == Visit(site.home.settings.check_in)
    assert [row["seen_at"] for row in site.computers()] == [site.world.clock()]
