"""By telephone at the fleet manager: IDs that wait, codes typed at one place, slips, wrong computers, what is kept of them."""

from __future__ import annotations

import contextlib
import html
import sys
from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pytest

from consoles import signed_in
from fleets import Managed, Site
from keyturn.client import actions, telephone
from keyturn.core.errors import KeyturnError
from keyturn.core.phone import installation
from keyturn.core.trust import Revocation
from keyturn.edge import bls, qr
from keyturn.edge.words import english
from keyturn.fleet import tasks, telephoning
from keyturn.fleet.accounts import OPERATOR, VIEWER
from keyturn.fleet.selecting import Selector
from keyturn.flows.fleet import FleetLine
from keyturn.service import ceremony, confirming, home, rotation
from keyturn.service import telephone as desk
from keyturn.service.telephone import Answer
from keyturn.testing import World
from keyturn.testing.computers import synthetic


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    with Site(world, tmp_path / "site").running() as made:
        yield made


def ordered(site: Site, count: int = 1, **key: Any) -> tuple[list[Managed], str]:
    """So many computers whose installation IDs wait, and the task."""
    computers = [site.join(f"pc-{n}") for n in range(count)]
    task = site.order("activate", key=site.key(**key), way="telephone")
    for one in computers:
        one.check_in()
    return computers, task


def shown(site: Site, name: str) -> str:
    return telephoning.one(site.fleet, name).id.text


def answered(site: Site, name: str) -> Answer:
    """What the publisher answers when somebody reads out the ID of this computer, as it is shown at the manager."""
    found = desk.answer(site.world.publisher.service, installation.read(shown(site, name)), actor="staff", alone=False)
    assert isinstance(found, Answer), found
    return found


def enter(site: Site, name: str | None, text: str) -> telephoning.Entered:
    return telephoning.enter(site.fleet, text, "anna", name)


def refused(site: Site, name: str | None, text: str) -> KeyturnError:
    with pytest.raises(KeyturnError) as caught:
        enter(site, name, text)
    return caught.value


def kept(site: Site) -> str:
    """Every row of every table of the manager."""

    def look(db: Connection) -> str:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return repr([[tuple(row) for row in db.execute(f"SELECT * FROM {name}")] for name in names])

    return site.database.read(look)


@contextlib.contextmanager
def without_the_extra() -> Iterator[None]:
    """What verifies codes is not installed, for as long as it lasts."""
    there = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "py_ecc"}
    sys.modules["py_ecc"] = None  # type: ignore[assignment]
    forget = (bls._library, bls._key)
    for each in forget:
        each.cache_clear()
    try:
        yield
    finally:
        del sys.modules["py_ecc"]
        sys.modules.update(there)
        for each in forget:
            each.cache_clear()


def test_each_code_finds_its_computer_and_nothing_of_it_stays(site: Site) -> None:
    """Three IDs wait, three answers without a name, in digits and words: each is taken by its computer, and then forgotten."""
    computers, task = ordered(site, 3)
    assert set(site.outcomes(task).values()) == {("call", None)}
    codes = []
    for one in reversed(computers):
        codes += [shown(site, one.name), (answer := answered(site, one.name)).code.text]
        entered = enter(site, None, answer.code.text if one is computers[0] else " ".join(answer.code.words(english())))
        assert (entered.name, entered.changed, entered.verified) == (one.name, True, True)
        assert not enter(site, one.name, answer.code.text).changed
    assert all(code in kept(site) for code in codes)
    for one in computers:
        one.check_in()
    assert set(site.outcomes(task).values()) == {("done", None)}
    assert [(one.status()["state"], one.status()["via"]) for one in computers] == [("licensed", "telephone")] * 3
    assert telephoning.waiting(site.fleet) == []
    assert not any(code in kept(site) for code in codes)
    audit = site.database.read(
        lambda db: db.execute("SELECT who FROM audit WHERE what = 'confirmation_entered'").fetchall()
    )
    assert [row["who"] for row in audit] == ["anna"] * 3


def test_a_slip_is_refused_at_once_with_its_place(site: Site) -> None:
    """A wrong digit, a group too few, words that are none: the group or word is named, and nothing is on its way."""
    ordered(site)
    code = answered(site, "pc-0").code
    groups, words = code.text.split(), list(code.words(english()))
    groups[6] = f"{(int(groups[6][0]) + 1) % 10}{groups[6][1:]}"
    error = refused(site, "pc-0", " ".join(groups))
    assert (error.code, error.data["groups"]) == ("code_mistyped", [7])
    assert refused(site, "pc-0", " ".join(code.text.split()[:-1])).code == "code_malformed"
    error = refused(site, None, " ".join([*words[:3], "hurd", *words[4:]]))
    assert (error.code, error.data["words"]) == ("code_mistyped", [4])
    assert not telephoning.one(site.fleet, "pc-0").entered


def test_a_code_for_another_computer_is_refused_here_and_the_right_one_named(site: Site) -> None:
    ordered(site, 2)
    code = answered(site, "pc-1").code.text
    error = refused(site, "pc-0", code)
    assert error.code == "code_foreign"
    assert "pc-1" in error.detail
    other = answered(site, "pc-0").code.text
    assert enter(site, "pc-0", other).name == "pc-0"
    assert enter(site, None, code).name == "pc-1"
    unknown = refused(site, "pc-0", answer_of_a_stranger(site))
    assert (unknown.code, "pc-0" in unknown.detail) == ("code_foreign", True)
    assert refused(site, None, answer_of_a_stranger(site)).code == "code_foreign"


def answer_of_a_stranger(site: Site) -> str:
    """The answer to a computer that is not of this fleet."""
    client = site.world.client(synthetic(900))
    shelf = client._added()
    actions.install_key(shelf, site.world.publisher.mint(), client._machine)
    made, _ = telephone.make_id(shelf, client._machine)
    found = desk.answer(site.world.publisher.service, made, actor="staff", alone=False)
    assert isinstance(found, Answer)
    return found.code.text


def test_without_the_extra_the_computer_itself_refuses_anothers_code_and_waits_on(site: Site) -> None:
    """Sent where somebody said, refused there with its reason; the ID waits as it was, and its own code still serves."""
    (first, second), task = ordered(site, 2)
    codes = {name: answered(site, name).code.text for name in ("pc-0", "pc-1")}
    before = shown(site, "pc-0")
    with without_the_extra():
        assert refused(site, None, codes["pc-1"]).code == "extra_missing"
        assert not enter(site, "pc-0", codes["pc-1"]).verified
    first.check_in()
    waits = telephoning.one(site.fleet, "pc-0")
    assert (waits.id.text, waits.entered, waits.code) == (before, False, "code_foreign")
    assert waits.remedy
    assert site.outcomes(task) == {"pc-0": ("call", "code_foreign"), "pc-1": ("call", None)}
    story = site.database.read(lambda db: [row["what"] for row in db.execute("SELECT what FROM history")])
    assert "confirmation_refused" in story
    with without_the_extra():
        enter(site, "pc-0", codes["pc-0"])
        enter(site, "pc-1", codes["pc-1"])
    for one in (first, second):
        one.check_in()
        assert one.status()["state"] == "licensed"
    assert set(site.outcomes(task).values()) == {("done", None)}


def test_a_newer_key_than_the_manager_knows_is_for_the_computer_to_judge(site: Site) -> None:
    """Nobody here can tell whose the code is; it goes where somebody said, and with it what the manager has learnt since."""
    (first, _), task = ordered(site, 2)
    publisher = site.world.publisher
    chain, now = publisher.home.chain, site.world.clock()
    (old,) = chain.confirming(False)
    new = confirming.make(publisher.folder, chain, now, [old.role])
    drafted = ceremony.draft(chain, now=now, revoked=[Revocation(old.kid, 0, bytes(32))], add_phone=new)
    home.adopt(publisher.folder, ceremony.finished(rotation.sign_alone(publisher.folder, chain, drafted)))
    publisher.home.refresh()
    code = answered(site, "pc-0").code.text
    assert refused(site, None, code).code == "trust_invalid"
    assert not enter(site, "pc-0", code).verified
    first.check_in()
    assert site.outcomes(task)["pc-0"] == ("call", "code_foreign")
    assert not enter(site, "pc-0", code).verified
    site.fleet.add_product(publisher.export("sample"), "anna")
    first.check_in()
    assert site.outcomes(task)["pc-0"] == ("done", None)
    assert first.status()["state"] == "licensed"


def test_another_code_takes_the_place_of_one_that_is_not_delivered_yet(site: Site) -> None:
    (one, _), _ = ordered(site, 2)
    wrong = answered(site, "pc-1").code.text
    with without_the_extra():
        enter(site, "pc-0", wrong)
    assert enter(site, "pc-0", answered(site, "pc-0").code.text).changed
    one.check_in()
    assert one.status()["state"] == "licensed"


@pytest.mark.parametrize("meanwhile", ["DELETE FROM call", "UPDATE call SET installation_id = 'another one'"])
def test_what_waits_no_longer_when_the_code_was_verified_is_not_answered(
    site: Site, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """A pairing takes its time: the task may be cancelled within it, or the computer may have made another ID."""
    ordered(site)
    code, real = answered(site, "pc-0").code.text, bls.holds

    def slow(public: bytes, signature: bytes, message: bytes) -> bool:
        site.database.write_now(lambda db: db.execute(meanwhile).rowcount)
        return real(public, signature, message)

    monkeypatch.setattr(bls, "holds", slow)
    assert refused(site, "pc-0", code).code == "not_found"
    assert code not in kept(site)


@pytest.mark.parametrize("ended", ["cancelled", "superseded", "forgotten", "answered"])
def test_whatever_ends_the_waiting_forgets_both_codes(site: Site, ended: str) -> None:
    (computer,), task = ordered(site)
    codes = (shown(site, "pc-0"), answered(site, "pc-0").code.text)
    enter(site, "pc-0", codes[1])
    assert all(code in kept(site) for code in codes)
    if ended == "cancelled":
        site.database.write_now(lambda db: tasks.cancel(db, task, who="anna", now=site.world.clock()))
    elif ended == "superseded":
        site.order("refresh")
    elif ended == "forgotten":
        from keyturn.fleet import store

        name = site.computers()[0]["id"]
        site.database.write_now(lambda db: store.forget(db, [name], who="anna", now=site.world.clock()))
    else:
        computer.check_in()
    assert not any(code in kept(site) for code in codes)
    if ended != "forgotten":
        assert refused(site, "pc-0", codes[1]).code == "not_found"


def test_a_policy_forbids_it_and_the_manager_says_so(site: Site) -> None:
    """`telephone = "never"` before the ID is made, and when the policy changed while it waited; nothing of it stays."""
    (computer,), before = ordered(site)
    code = answered(site, "pc-0").code.text
    enter(site, "pc-0", code)
    rules = Path(computer.machine.rules)
    rules.mkdir(parents=True, exist_ok=True)
    (rules / "policy.toml").write_text('[policy]\ntelephone = "never"\n')
    computer.check_in()
    assert code not in kept(site)
    task = site.order("activate", way="telephone")
    computer.check_in()
    assert site.outcomes(before) == site.outcomes(task) == {"pc-0": ("failed", "policy_forbids")}
    (found,) = site.database.read(lambda db: tasks.items(db, task))
    assert "telephone" in found["detail"]
    assert computer.status()["state"] == "initial_grace"


def test_a_computer_without_the_extra_says_so_before_anybody_reads_anything_out(site: Site) -> None:
    computer = site.join("pc-0")
    task = site.order("activate", key=site.key(), way="telephone")
    with without_the_extra():
        computer.check_in()
    assert site.outcomes(task) == {"pc-0": ("failed", "extra_missing")}


def test_a_licensed_computer_has_nothing_to_read_out(site: Site) -> None:
    computer = site.join("pc-0")
    key = site.key()
    site.order("activate", key=key)
    site.work([computer])
    task = site.order("activate", key=key, way="telephone")
    computer.check_in()
    assert site.outcomes(task) == {"pc-0": ("done", None)}
    assert telephoning.waiting(site.fleet) == []


def test_a_code_that_was_typed_at_the_computer_ends_the_waiting(site: Site) -> None:
    (computer,), task = ordered(site)
    code = answered(site, "pc-0").code.text
    (shelf,) = computer.homes.shelves()
    telephone.confirm(shelf, computer.machine, code)
    computer.check_in()
    assert site.outcomes(task) == {"pc-0": ("done", None)}
    assert telephoning.waiting(site.fleet) == []


def test_other_hardware_since_makes_a_new_id_and_the_reason_stays_to_be_read(site: Site) -> None:
    """The code was right for what the computer was; it is another one now, and says so beside its new ID."""
    (computer,), task = ordered(site)
    before = shown(site, "pc-0")
    enter(site, "pc-0", answered(site, "pc-0").code.text)
    computer.machine = site.world.machine(synthetic(901))
    computer.check_in()
    waits = telephoning.one(site.fleet, "pc-0")
    assert (waits.id.text != before, waits.entered, waits.code) == (True, False, "hardware_other")
    enter(site, "pc-0", answered(site, "pc-0").code.text)
    computer.check_in()
    assert site.outcomes(task) == {"pc-0": ("done", None)}
    assert computer.status()["state"] == "licensed"


def test_lost_replies_change_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second answer of the manager is lost after it took in what was said: the same ID, one seat, licensed once."""
    computer = site.join("pc-0")
    task = site.order("activate", key=site.key(), way="telephone")
    real, lost = FleetLine._post, 0

    def lossy(line: FleetLine, path: str, document: str) -> dict[str, Any]:
        nonlocal lost
        answer = real(line, path, document)
        lost += 1
        if lost % 2:
            raise KeyturnError("service_unreachable", "planted")
        return answer

    monkeypatch.setattr(FleetLine, "_post", lossy)

    def until(outcome: str) -> None:
        for _ in range(9):
            with contextlib.suppress(KeyturnError):
                computer.check_in()
            if site.outcomes(task)["pc-0"] == (outcome, None):
                return
        raise AssertionError(site.outcomes(task))

    until("call")
    answer = answered(site, "pc-0")
    enter(site, "pc-0", answer.code.text)
    until("done")
    assert lost >= 4
    assert (answer.used, computer.status()["state"]) == (1, "licensed")


def test_a_seat_that_was_taken_by_telephone_is_counted_as_the_same(site: Site) -> None:
    """Ordered again it is no new seat, although the activation has no name on its computer."""
    from keyturn.fleet.manager import Order

    (computer, _), _ = ordered(site, 2)
    enter(site, "pc-0", answered(site, "pc-0").code.text)
    computer.check_in()
    order = Order("activate", Selector(everything=True))
    meant = site.database.read(lambda db: site.fleet.consequence(db, order))
    assert (meant.new, meant.same) == (1, 1)


def test_the_console_reads_out_and_takes_the_answer(site: Site) -> None:
    """Plain forms: the ID in groups and words with its QR code; a slip marked; the answer taken; a viewer only looks."""
    (computer, _), _ = ordered(site, 2)
    anna, viewer = signed_in(site, OPERATOR), signed_in(site, VIEWER)
    one = telephoning.one(site.fleet, "pc-0")
    page = anna.get(f"/computers/{one.computer}").text
    for part in (*one.id.text.split(), *one.id.words(english())):
        assert f"<li>{part}</li>" in page
    assert f'src="{qr.picture(one.address)}"' in html.unescape(page)
    code = answered(site, "pc-0").code.text
    groups = code.split()
    slip = " ".join([*groups[:4], f"{(int(groups[4][0]) + 1) % 10}{groups[4][1:]}", *groups[5:]])
    said = anna.post("/telephone", {"computer": one.computer, "code": slip})
    assert (said.status, "code_mistyped" in said.text, "look at group 5" in said.text) == (400, True, True)
    assert said.text.count('<li class="bad">') == 1
    assert slip in said.text  # Nothing has to be typed twice.
    said = anna.post("/telephone", {"computer": one.computer, "code": answered(site, "pc-1").code.text})
    assert (said.status, "pc-1" in said.text) == (400, True)
    looked = viewer.get(f"/telephone?computer={one.computer}").text
    assert one.id.text.split()[0] in looked
    assert "<textarea" not in looked
    assert viewer.post("/telephone", {"code": code}).status == 403
    done = anna.post("/telephone", {"code": code})  # Whose it is, is found.
    assert (done.status, done.headers["location"]) == (303, f"/telephone?taken={one.computer}")
    assert "Taken" in anna.get(done.headers["location"]).text
    computer.check_in()
    assert computer.status()["state"] == "licensed"
    assert "1</strong> installation ID waits" in anna.get("/telephone").text
    assert "confirmation_entered" in anna.get("/audit").text.replace(" ", "_")
