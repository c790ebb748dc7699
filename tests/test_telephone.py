"""Activation by telephone, end to end: a computer that sends nothing, two codes, and what each side keeps of them."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from keyturn import KeyturnError
from keyturn.client import accepting, actions, loading, telephone
from keyturn.client.machine import Machine
from keyturn.core import containers, productkey
from keyturn.core.errors import Refused
from keyturn.core.model import DAY, State
from keyturn.core.phone import confirmation, installation
from keyturn.core.phone.installation import InstallationID
from keyturn.edge.database import open_database
from keyturn.edge.vault import Shelf, Vault
from keyturn.edge.words import english
from keyturn.service import catalog, ceremony, confirming, home, rotation
from keyturn.service import telephone as desk
from keyturn.service.telephone import Answer
from keyturn.testing import World
from keyturn.testing.computers import RecordedComputer, synthetic


class Caller:
    """A computer with an installed key, its store, and somebody with a telephone beside it."""

    def __init__(
        self, world: World, key: str, computer: RecordedComputer | None = None, *, machine: Machine | None = None
    ) -> None:
        self.world, self.key = world, key
        self.machine = machine or world.machine(computer)
        self.home = world.folder / f"store-{world._made}"
        self.shelf: Shelf = actions.add_product(Vault(str(self.home), "user").shelf, world.product, self.machine)
        actions.install_key(self.shelf, key, self.machine)

    def asks(self) -> InstallationID:
        """What is read out: shown here, understood there."""
        return installation.read(telephone.make_id(self.shelf, self.machine)[0].text)

    def activate(self, *, in_words: bool = False) -> Answer:
        found = said(self.world, self.asks())
        text = " ".join(found.code.words(english())) if in_words else found.code.text
        telephone.confirm(self.shelf, self.machine, text)
        return found

    def loaded(self, computer: RecordedComputer | None = None) -> loading.Loaded:
        """As the next start of the program sees it, on this computer or another one."""
        telephone._holds.cache_clear()
        return loading.load(self.shelf, self.machine if computer is None else self.world.machine(computer))

    def stored(self) -> dict[str, Any]:
        found = json.loads(self.place("license.json").read_text())
        assert isinstance(found, dict)
        return found

    def place(self, name: str) -> Path:
        return Path(self.shelf.path) / name

    def online(self) -> loading.Loaded | Refused:
        token, _ = actions.make_request(self.shelf, self.machine)
        outcome = self.world.publisher.service.exchange(token)
        return outcome if isinstance(outcome, Refused) else accepting.accept_answer(self.shelf, self.machine, outcome)


def ask(world: World, given: InstallationID, *, alone: bool = False) -> Answer | Refused:
    return desk.answer(world.publisher.service, given, actor="staff", alone=alone)


def said(world: World, given: InstallationID) -> Answer:
    found = ask(world, given)
    assert isinstance(found, Answer), found
    return found


def used(world: World, key: str) -> int:
    return int(world.publisher.database.read(lambda db: catalog.key(db, productkey.parse(key).serial))["used"])


def rows(world: World) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""

    def look(db: Any) -> dict[str, list[tuple[object, ...]]]:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: [tuple(row) for row in db.execute(f"SELECT * FROM {name}")] for name in names}

    return world.publisher.database.read(look)


@pytest.fixture
def caller(world: World) -> Caller:
    return Caller(world, world.publisher.mint(channel="mak", limit=3))


@pytest.mark.parametrize("in_words", [False, True])
def test_two_codes_activate_a_computer_that_sends_nothing(caller: Caller, in_words: bool) -> None:
    """The rights are the edition's, the way is said, and every load finds the same."""
    found = caller.activate(in_words=in_words)
    assert (found.how, found.used, found.limit) == ("new", 1, 3)
    loaded = caller.loaded()
    assert (loaded.standing.state, loaded.via, loaded.standing.valid_until) == (State.LICENSED, "telephone", None)
    entry = loading.status_of(loaded)
    assert (entry["edition"], entry["features"], entry["evidence"]) == ("standard", ["layers"], "strong")
    assert caller.shelf.sent() == []


def test_shown_again_it_is_the_same_until_it_was_answered(caller: Caller) -> None:
    """Digits, then words, then a look at the clock: one ID. Afterwards another one, which means the same seat."""
    first = caller.asks()
    assert caller.asks() == first
    telephone.confirm(caller.shelf, caller.machine, said(caller.world, first).code.text)
    second = caller.asks()
    assert second.commitment != first.commitment and second.seat == first.seat
    found = said(caller.world, second)
    assert (found.how, found.used) == ("same", 1)


def test_asking_again_and_reinstalling_cost_nothing(world: World) -> None:
    """The seat is found by its first digits, whoever asks on that computer."""
    key = world.publisher.mint()
    machine = world.machine(synthetic(700))
    first = Caller(world, key, machine=machine).activate()
    again = Caller(world, key, synthetic(700).reinstalled())
    second = again.activate()
    assert (first.how, second.how, used(world, key)) == ("new", "same", 1)
    assert first.activation == second.activation and again.loaded().standing.state is State.LICENSED


def test_the_first_online_request_completes_the_row(caller: Caller) -> None:
    """It finds the seat of the call, costs nothing, and leaves a certificate with the activation's name in the code's place."""
    call = caller.activate()
    outcome = caller.online()
    assert isinstance(outcome, loading.Loaded) and outcome.certificate is not None
    assert (outcome.via, outcome.certificate.activation, used(caller.world, caller.key)) == (
        "online",
        call.activation,
        1,
    )
    tags = [row for row in rows(caller.world)["seat_pair"] if row[4] == call.activation]
    assert len(tags) == 6  # All pairs of four slots, the one that the call named among them.
    # And by another pair than the call's: the disk is another one now.
    assert Caller(caller.world, caller.key, synthetic(1).new_disk()).activate().how == "same"


def test_a_seat_taken_online_is_found_by_telephone(caller: Caller) -> None:
    outcome = caller.online()
    assert isinstance(outcome, loading.Loaded)
    assert ask(caller.world, caller.asks()).how == "same"  # type: ignore[union-attr]
    assert used(caller.world, caller.key) == 1


def test_a_reclaimed_seat_is_another_seat_afterwards(caller: Caller) -> None:
    call = caller.activate()
    service = caller.world.publisher.service
    service.database.write_now(lambda db: catalog.reclaim(db, call.activation, service.ids, service.clock()))
    assert not rows(caller.world)["heard"]
    assert said(caller.world, caller.asks()).activation != call.activation


def change_code(caller: Caller) -> None:
    """Another computer's answer, which is as genuine."""
    other = Caller(caller.world, caller.key).activate()
    caller.place("license.json").write_text(json.dumps({**caller.stored(), "confirmation_id": other.code.text}))


def change_digit(caller: Caller) -> None:
    code = caller.stored()["confirmation_id"]
    caller.place("license.json").write_text(
        json.dumps({**caller.stored(), "confirmation_id": f"{code[:-1]}{(int(code[-1]) + 1) % 10}"})
    )


def change_hardware(caller: Caller) -> None:
    vector = {**caller.stored()["vector"]}
    vector[min(vector)] = "0" * 16
    caller.place("license.json").write_text(json.dumps({**caller.stored(), "vector": vector}))


def change_installation(caller: Caller) -> None:
    """The whole of another installation's identity."""
    other = Caller(caller.world, caller.key)
    for name in ("installation.json", "installation.key"):
        shutil.copy(other.place(name), caller.place(name))


def change_key(caller: Caller) -> None:
    actions.install_key(caller.shelf, caller.world.publisher.mint(), caller.machine)


def change_secret(caller: Caller) -> None:
    caller.place("key.secret").write_bytes(b"AAAA" * 10 + b"AAA=")


def remove_key(caller: Caller) -> None:
    caller.place("key.json").unlink()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_code, "code_foreign"), (change_digit, "code_mistyped"), (change_hardware, "document_foreign"),
        (change_installation, "document_foreign"), (change_key, "document_foreign"), (change_secret, "document_foreign"),
        (remove_key, "document_foreign"),
    ],
)  # fmt: skip
def test_what_is_tampered_with_is_noticed_at_the_next_load(caller: Caller, change: Any, reason: str) -> None:
    """Stored code, baseline, installation or key: none of them can be another one's."""
    caller.activate()
    assert caller.loaded().standing.state is State.LICENSED
    change(caller)
    standing = caller.loaded().standing
    assert (standing.state, standing.reason) == (State.INITIAL_GRACE, reason)
    assert standing.remedy


def test_a_store_on_another_computer_is_out_of_tolerance(world: World) -> None:
    """A copied store is worthless there: a grace that began when it was first seen, then the reminders."""
    caller = Caller(world, world.publisher.mint(), synthetic(31))
    caller.activate()
    loaded = caller.loaded(synthetic(32))
    assert (loaded.standing.state, loaded.standing.reason) == (State.OUT_OF_TOLERANCE_GRACE, "hardware_changed")
    assert caller.loaded().standing.state is State.LICENSED


def test_an_account_that_cannot_read_the_key_sees_the_license(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """K is its owner's alone; the signature says that the service had seen its proof."""
    caller.activate()

    def denied() -> bytes:
        raise KeyturnError("permission_denied")

    monkeypatch.setattr(Shelf, "key_secret", lambda _self: denied())
    assert caller.loaded().standing.state is State.LICENSED


def test_a_code_for_one_computer_is_refused_by_all_others(caller: Caller) -> None:
    other = Caller(caller.world, caller.key)
    code = said(caller.world, other.asks()).code.text
    caller.asks()
    with pytest.raises(KeyturnError) as caught:
        telephone.confirm(caller.shelf, caller.machine, code)
    assert caught.value.code == "code_foreign" and not caller.place("license.json").exists()


def test_a_code_without_an_id_that_waits_is_refused(caller: Caller) -> None:
    found = said(caller.world, Caller(caller.world, caller.key).asks())
    with pytest.raises(KeyturnError) as caught:
        telephone.confirm(caller.shelf, caller.machine, found.code.text)
    assert caught.value.code == "document_foreign"


def test_a_trial_keeps_nothing(caller: Caller) -> None:
    code = said(caller.world, caller.asks()).code.text
    telephone.confirm(caller.shelf, caller.machine, code, dry=True)
    assert not caller.place("license.json").exists() and caller.loaded().standing.state is State.INITIAL_GRACE


def test_the_organization_may_forbid_it(caller: Caller) -> None:
    Path(caller.machine.rules).mkdir(parents=True)
    (Path(caller.machine.rules) / "policy.toml").write_text('[policy]\ntelephone = "never"\n')
    for step in (caller.asks, lambda: telephone.confirm(caller.shelf, caller.machine, "0")):
        with pytest.raises(KeyturnError) as caught:
            step()
        assert caught.value.code == "policy_forbids" and "policy.toml:2" in caught.value.detail


def test_a_seat_of_a_call_is_returned_after_it_has_a_name(caller: Caller) -> None:
    caller.activate()
    with pytest.raises(KeyturnError) as caught:
        actions.make_release(caller.shelf, caller.machine)
    assert caught.value.code == "usage" and "--via online" in caught.value.remedy
    caller.online()
    assert actions.make_release(caller.shelf, caller.machine)


def test_the_limit_is_exact_whichever_way_they_come(world: World) -> None:
    """Forty computers at once, by telephone, online, and together as a fleet manager sends them; nine seats."""
    key = world.publisher.mint(channel="mak", limit=9)
    callers = [Caller(world, key) for _ in range(40)]
    told = [caller.asks() for caller in callers]
    tokens = [actions.make_request(caller.shelf, caller.machine)[0] for caller in callers]
    service = world.publisher.service

    def reach(number: int) -> bool:
        if number % 2:
            return isinstance(ask(world, told[number]), Answer)
        return not isinstance(service.exchange(tokens[number]), Refused)

    def together(numbers: list[int]) -> list[bool]:
        proven: Any = [service.prove(tokens[number]) for number in numbers]
        waiting = [service.record(one, service.database.write) for one in proven]
        return [not isinstance(one.result(), Refused) for one in waiting]

    with ThreadPoolExecutor(8) as pool:
        batch = pool.submit(together, list(range(20, 40)))
        single = list(pool.map(reach, range(20)))
        late = list(pool.map(lambda number: isinstance(ask(world, told[number]), Answer), range(20, 40)))
    known = {number for number, yes in enumerate([*single, *batch.result()]) if yes}
    known |= {number for number, yes in enumerate(late, 20) if yes}
    assert len(known) == 9 == used(world, key)
    assert len([row for row in rows(world)["activation"] if row[0] == productkey.parse(key).serial]) == 9


def test_no_table_holds_anything_of_the_call(caller: Caller) -> None:
    """What a call leaves is the seat's first digits, an activation, a count and a line of the audit; no code, salt or number."""
    before = rows(caller.world)
    given = caller.asks()
    found = said(caller.world, given)
    after = rows(caller.world)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"product_key", "activation", "heard", "audit"}
    (heard,) = after["heard"]
    assert heard == (given.serial, 0, given.seat, found.activation)
    (line,) = set(after["audit"]) - set(before["audit"])
    assert json.loads(str(line[5])) == {"via": "telephone", "activation": found.activation}
    kept = json.dumps(after, default=str)
    for spoken in (
        given.text,
        found.code.text,
        given.words(english())[-1] + " ",
        str(given.commitment),
        str(given.proof),
    ):
        assert spoken not in kept
    assert said(caller.world, given).how == "same"
    assert {name for name, value in rows(caller.world).items() if value != after[name]} == {"audit"}


def test_one_answer_before_the_proof_holds(world: World) -> None:
    """Unknown key, wrong proof, blocked key without proof: the same words. A key's state is told to who proved it."""
    caller = Caller(world, world.publisher.mint())
    good = caller.asks()
    service = world.publisher.service
    service.database.write_now(
        lambda db: catalog.set_key(db, good.serial, {"blocked": 1}, service.ids, service.clock())
    )
    wrong = [good._replace(proof=good.proof ^ 1), good._replace(serial=good.serial ^ 1), good._replace(seat="0" * 11)]
    answers = {ask(world, given) for given in wrong}
    assert {answer.code for answer in answers if isinstance(answer, Refused)} == {"not_accepted"} and len(answers) == 1
    blocked = ask(world, good)
    assert isinstance(blocked, Refused) and blocked.code == "key_blocked"
    assert used(world, caller.key) == 0


def test_wrong_proofs_are_limited_where_nobody_listens(caller: Caller) -> None:
    """After five of a key on a day only known seats are answered; the staff and the next day go on."""
    world, good = caller.world, caller.asks()
    known = Caller(world, caller.key)
    known.activate()
    for number in range(1, desk.WRONG_KEY + 1):
        refused = ask(world, good._replace(proof=good.proof ^ number), alone=True)
        assert isinstance(refused, Refused) and refused.code == "not_accepted"
    over = [ask(world, good, alone=True), ask(world, good._replace(proof=good.proof ^ 1), alone=True)]
    assert [one.code for one in over if isinstance(one, Refused)] == ["staff_required"] * 2
    assert isinstance(ask(world, known.asks(), alone=True), Answer)
    guess = known.asks()._replace(proof=1)
    guessed = [ask(world, guess, alone=True) for _ in range(desk.KNOWN * desk.WRONG_KEY)]
    assert [one.code for one in guessed if isinstance(one, Refused)] == ["not_accepted"] * 45 + ["staff_required"] * 5
    assert isinstance(ask(world, known.asks(), alone=True), Refused)
    assert isinstance(ask(world, good), Answer)
    world.clock.advance(days=1)
    assert isinstance(ask(world, Caller(world, caller.key).asks(), alone=True), Answer)
    assert len(rows(world)["call_day"]) == 2


def test_wrong_proofs_are_limited_for_all_keys_together(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "WRONG_ALL", 3)
    good = caller.asks()
    for serial in (1, 2, 3):
        ask(caller.world, good._replace(serial=serial), alone=True)
    refused = ask(caller.world, good, alone=True)
    assert isinstance(refused, Refused) and refused.code == "staff_required"


def test_a_person_decides_about_more_than_a_few_in_a_year(world: World) -> None:
    key = world.publisher.mint(channel="mak", limit=50)
    for _ in range(desk.ALONE):
        assert isinstance(ask(world, Caller(world, key).asks(), alone=True), Answer)
    late = Caller(world, key).asks()
    refused = ask(world, late, alone=True)
    assert isinstance(refused, Refused) and refused.code == "staff_required"
    world.clock.advance(days=366)
    assert isinstance(ask(world, late, alone=True), Answer)


def test_beyond_very_many_seats_a_person_looks(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MANY", 1)
    for _ in range(2):
        said(caller.world, Caller(caller.world, caller.key).asks())
    given = caller.asks()
    refused = ask(caller.world, given)
    assert isinstance(refused, Refused) and refused.code == "staff_required"
    sure = desk.answer(caller.world.publisher.service, given, actor="staff", alone=False, sure=True)
    assert isinstance(sure, Answer) and sure.used == 3


def test_a_term_is_a_number_of_quarters(world: World) -> None:
    """A key of 100 days is confirmed for the quarter in which they end, and no longer than that."""
    caller = Caller(world, world.publisher.mint(term_days=100))
    caller.activate()
    standing = caller.loaded().standing
    assert standing.valid_until is not None
    assert 100 * DAY <= standing.valid_until - world.clock() < 191 * DAY
    world.clock.advance(days=191)
    assert caller.loaded().standing.state is State.OUT_OF_TOLERANCE_GRACE
    with pytest.raises(KeyturnError) as caught:
        telephone.confirm(caller.shelf, caller.machine, said(world, caller.asks()).code.text)
    assert caught.value.code == "document_expired"


def weak(world: World, key: str, jkt: str) -> InstallationID:
    """What a computer says of which nothing is known."""
    product, parsed = (
        containers.open_product(containers.expect(world.product, "product")).product,
        productkey.parse(key),
    )
    secret = productkey.derive(parsed, product.name)
    return installation.make(product.name, parsed.channel, parsed.serial, secret, {}, jkt, {}, bytes(16))


def test_without_hardware_identity_the_seat_is_the_installation(world: World) -> None:
    """Two installations are two seats; each is found again; the right ends, as the product's terms say."""
    key = world.publisher.mint(channel="mak", limit=2)
    one, two = weak(world, key, "A" * 43), weak(world, key, "B" * 43)
    assert [said(world, given).how for given in (one, two, one)] == ["new", "new", "same"]
    until = said(world, one).until
    assert until is not None and 190 * DAY <= until - world.clock() < 282 * DAY


def test_weak_evidence_may_be_refused(tmp_path: Path) -> None:
    world = World(tmp_path / "strict", weak_evidence="refuse")
    refused = ask(world, weak(world, world.publisher.mint(), "A" * 43))
    assert isinstance(refused, Refused) and refused.code == "weak_evidence_refused"
    world.close()


def test_a_weak_seat_of_a_call_is_found_online_and_back(world: World) -> None:
    bare = synthetic(90).hides("uuid", "board", "disk", "nic")
    key = world.publisher.mint()
    client = world.client(bare)
    client.status()
    shelf = Vault(str(world.folder / f"home-{world._made}"), "user").shelves()[0]
    found = shelf.installation()
    assert found is not None
    from keyturn.core import jws

    given = weak(world, key, jws.thumbprint(found[1]))
    assert said(world, given).how == "new"
    assert client.activate(key, consent=True, allow_ephemeral=True).state == "licensed"
    assert used(world, key) == 1 and said(world, given).how == "same"


def test_hosts_and_client_keys_are_not_for_computers(world: World) -> None:
    with pytest.raises(KeyturnError) as caught:
        Caller(world, world.publisher.mint(channel="client")).asks()
    assert caught.value.code == "host_required"
    key = world.publisher.mint(channel="host")
    with pytest.raises(KeyturnError) as caught:
        Caller(world, key).asks()
    assert caught.value.code == "not_by_telephone"
    code = said(world, weak(world, key, "A" * 43)).code  # Were it asked all the same, it gets what a host takes.
    assert not isinstance(code, confirmation.ConfirmationID)


def test_editions_keep_their_numbers(world: World) -> None:
    """They are the product file's to say, in the order of their making; a ninth has no place in a code."""
    names = [f"edition-{number}" for number in range(9)]
    # In another order than the alphabet's and JSON's.
    data = world.publisher.product("many", editions={name: [name] for name in names[::-1]})
    product = containers.open_product(containers.expect(data, "product")).product
    assert product.edition_numbers == {name: number for number, name in enumerate(names[::-1][:8])}
    key = productkey.parse(world.publisher.mint("many", edition="edition-0"))
    secret = productkey.derive(key, product.name)
    given = installation.make(product.name, key.channel, key.serial, secret, {}, "A" * 43, {}, bytes(16))
    refused = ask(world, given)
    assert isinstance(refused, Refused) and refused.code == "not_by_telephone" and "edition-0" in refused.why


def test_a_revoked_confirmation_key_is_a_doubt(caller: Caller) -> None:
    """What it confirmed holds for 190 days, and is confirmed anew by another key; the revoked one signs no more."""
    caller.activate()
    folder, clock = caller.world.publisher.folder, caller.world.clock
    chain = caller.world.publisher.home.chain
    (stolen,) = chain.confirming(False)
    new = confirming.make(folder, chain, clock(), [stolen.role])
    from keyturn.core.trust import Revocation

    drafted = ceremony.draft(chain, now=clock(), revoked=[Revocation(stolen.kid, 0, bytes(32))], add_phone=new)
    home.adopt(folder, ceremony.finished(rotation.sign_alone(folder, chain, drafted)))
    caller.world.publisher.home.refresh()
    data = caller.world.publisher.export("sample")
    actions.add_product(caller.shelf.vault.shelf, data, caller.machine)
    loaded = caller.loaded()
    assert (loaded.standing.state, loaded.standing.reason) == (State.LICENSED, "reissue_due")
    found = said(caller.world, caller.asks())
    assert isinstance(found.code, confirmation.ConfirmationID)
    assert (found.how, found.code.key_index) == ("same", new[0].key_index)
    telephone.confirm(caller.shelf, caller.machine, found.code.text)
    assert caller.loaded().standing.reason is None


def test_a_home_from_before_gets_its_keys_at_the_next_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra there are none and it works; with it the next rotation makes and authorises them."""
    with monkeypatch.context() as old:
        old.setattr(confirming, "available", lambda: False)
        world = World(tmp_path / "old")
    caller = Caller(world, world.publisher.mint())
    given = caller.asks()
    with pytest.raises(KeyturnError) as caught:
        ask(world, given)
    assert caught.value.code == "trust_invalid" and "rotate" in caught.value.remedy
    extended = rotation.extend(world.publisher.home, world.clock())
    assert extended.phone == 2
    world.publisher.home.refresh()
    assert said(world, given).how == "new"
    actions.add_product(caller.shelf.vault.shelf, world.publisher.export("sample"), caller.machine)
    telephone.confirm(caller.shelf, caller.machine, said(world, given).code.text)
    assert caller.loaded().standing.state is State.LICENSED
    world.close()


def test_the_next_confirmation_key_comes_with_the_bundle_of_a_year(world: World) -> None:
    """Four indexes go round; every answer of an older key still holds, because its bundle is in the chain."""
    caller = Caller(world, world.publisher.mint())
    caller.activate()
    indexes = [world.publisher.home.chain.confirming(False)[0].key_index]
    for _ in range(5):
        world.clock.advance(days=366)
        rotation.extend(world.publisher.home, world.clock())
        world.publisher.home.refresh()
        key, _ = confirming.signer(world.publisher.folder, world.publisher.home.chain, test=False, now=world.clock())
        indexes.append(key.key_index)
    assert indexes == [0, 1, 2, 3, 0, 1]
    actions.add_product(caller.shelf.vault.shelf, export(world), caller.machine)
    assert caller.loaded().standing.state is State.LICENSED
    assert confirmation.read(caller.stored()["confirmation_id"]).key_index == 0


def export(world: World) -> bytes:
    world.publisher.rotate()
    return world.publisher.export("sample")


def test_editions_of_an_older_database_are_numbered_as_they_were_made(tmp_path: Path) -> None:
    place, scripts = tmp_path / "service.db", home.migrations()
    product = "INSERT INTO product VALUES (?, ?, 'T', 0, 'warn', '{}', NULL, 1, 1)"
    edition = "INSERT INTO edition (product, name, features) VALUES (?, ?, '[]')"
    made = [("a", "pro"), ("b", "home"), ("a", "basic"), ("b", "alpha")]
    with open_database(place, migrations=scripts[:5]) as old:
        old.write_now(lambda db: db.executemany(product, [("a", "x/a"), ("b", "x/b")]).rowcount)
        old.write_now(lambda db: db.executemany(edition, made).rowcount)
    with open_database(place, migrations=scripts) as new:
        found = {slug: new.read(lambda db, slug=slug: catalog.edition_numbers(db, slug)) for slug in "ab"}  # type: ignore[misc]
    assert found == {"a": {"pro": 0, "basic": 1}, "b": {"home": 0, "alpha": 1}}
