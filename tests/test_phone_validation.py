"""Validation by telephone: two short codes say whether a copy is genuine, and change nothing."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn import KeyturnError
from keyturn.client import validating
from keyturn.client.telling import Teller
from keyturn.core import documents, productkey
from keyturn.core.errors import Refused
from keyturn.core.model import Channel, ProductName, State
from keyturn.core.phone import installation, spelling, validation
from keyturn.core.phone.spelling import VALIDATION, VERDICT
from keyturn.core.phone.validation import Finding, ValidationID
from keyturn.core.productkey import framed
from keyturn.edge.words import english
from keyturn.service import catalog
from keyturn.service import validating as desk
from keyturn.service.desk import LocalDesk
from keyturn.service.validating import Verdict
from keyturn.testing import World
from test_telephone import Caller, rows

K, OTHER_K = bytes(range(32)), bytes(32)
NAME = ProductName.parse("A" * 43 + "/writer")


def asked(world: World, caller: Caller) -> ValidationID:
    """What is read out: shown here, understood there."""
    return desk.given(validating.ask(caller.shelf, caller.machine)[0].text)


def said(world: World, question: ValidationID, *, alone: bool = False) -> Verdict:
    found = desk.answer(world.publisher.service, question, actor="staff", alone=alone)
    assert isinstance(found, Verdict), found
    return found


@pytest.fixture
def caller(world: World) -> Caller:
    made = Caller(world, world.publisher.mint(channel="mak", limit=3))
    made.activate()
    return made


@pytest.mark.parametrize("in_words", [False, True])
@pytest.mark.parametrize("way", ["telephone", "online"])
def test_a_genuine_copy_is_told_so(world: World, way: str, in_words: bool) -> None:
    caller = Caller(world, world.publisher.mint(channel="mak", limit=3))
    caller.activate() if way == "telephone" else caller.online()
    before = rows(world)
    verdict = said(world, asked(world, caller))
    finding, loaded = validating.hear(
        caller.shelf, caller.machine, " ".join(verdict.words) if in_words else verdict.text
    )
    assert (finding, loaded.standing.state) == (Finding.GENUINE, State.LICENSED)
    after = rows(world)
    assert {name for name in after if after[name] != before[name]} == {"audit"}, "a question takes no seat"
    told = Teller(caller.shelf.vault, caller.machine).events()[-1]
    assert (told["name"], told["data"]["finding"]) == ("validated", "genuine")


def test_a_verdict_answers_one_question(world: World, caller: Caller) -> None:
    verdict = said(world, asked(world, caller))
    again = said(world, asked(world, caller))
    assert again.to.nonce != verdict.to.nonce, "this run drew the same nonce twice: one in 2,048"
    with pytest.raises(KeyturnError) as caught:
        validating.hear(caller.shelf, caller.machine, verdict.text)
    assert caught.value.code == "code_foreign"
    assert validating.hear(caller.shelf, caller.machine, again.text)[0] is Finding.GENUINE
    with pytest.raises(KeyturnError) as caught:  # It was answered.
        validating.hear(caller.shelf, caller.machine, again.text)
    assert caught.value.code == "document_foreign"


@pytest.mark.parametrize(
    ("withdraw", "expected"), [(False, Finding.GENUINE), (True, Finding.WITHDRAWN)], ids=["blocked", "withdrawn"]
)
def test_a_key_that_is_blocked_is_genuine_and_one_that_was_withdrawn_is_not(
    world: World, caller: Caller, withdraw: bool, expected: Finding
) -> None:
    serial = productkey.parse(caller.key).serial
    LocalDesk(world.publisher.service, actor="staff").block_key(serial, True, withdraw=withdraw)
    verdict = said(world, asked(world, caller))
    assert verdict.finding is expected
    finding, _ = validating.hear(caller.shelf, caller.machine, verdict.text)
    assert finding is expected
    assert caller.loaded().standing.state is State.LICENSED, "a word between people changes no right"
    told = Teller(caller.shelf.vault, caller.machine).events()[-1]
    assert told["name"] == ("validated" if expected is Finding.GENUINE else "not_genuine")


def test_a_seat_that_was_reclaimed_is_unknown(world: World, caller: Caller) -> None:
    service = world.publisher.service
    held = service.database.look("SELECT id FROM activation", ())
    assert held is not None
    service.database.write_now(lambda db: catalog.reclaim(db, held["id"], service.ids, service.clock()))
    assert said(world, asked(world, caller)).finding is Finding.UNKNOWN


def test_before_the_proof_holds_there_is_one_answer_and_it_is_counted(world: World, caller: Caller) -> None:
    service, question = world.publisher.service, asked(world, caller)
    wrong = [
        question._replace(proof=question.proof ^ 1), question._replace(nonce=question.nonce ^ 1),
        question._replace(channel=Channel.RETAIL), question._replace(serial=question.serial ^ 1),
    ]  # fmt: skip
    refused = [desk.answer(service, one, actor="self-service", alone=True) for one in wrong]
    assert {(one.code, one.why) for one in refused if isinstance(one, Refused)} == {
        ("not_accepted", "this validation ID is not accepted")
    }
    unknown = question._replace(seat="0" * 11, proof=0)
    for _ in range(2):
        desk.answer(service, unknown, actor="self-service", alone=True)
    handed = desk.answer(service, unknown, actor="self-service", alone=True)
    assert isinstance(handed, Refused) and handed.code == "staff_required"
    assert said(world, question, alone=True).finding is Finding.GENUINE, "a computer that is known is answered"


def test_what_cannot_be_asked(world: World) -> None:
    caller = Caller(world, world.publisher.mint())
    for text in ("", "000000 000000"):
        with pytest.raises(KeyturnError) as caught:
            validating.hear(caller.shelf, caller.machine, text)
        assert caught.value.code == "document_foreign"
    with pytest.raises(KeyturnError) as caught:
        validating.ask(caller.shelf, caller.machine)
    assert caught.value.code == "document_foreign" and "keyturn activate" in caught.value.remedy
    Path(caller.machine.rules).mkdir(parents=True, exist_ok=True)
    (Path(caller.machine.rules) / "policy.toml").write_text('[policy]\ntelephone = "never"\n')
    with pytest.raises(KeyturnError) as caught:
        validating.ask(caller.shelf, caller.machine)
    assert caught.value.code == "policy_forbids"


def test_a_changed_part_does_not_change_the_question(world: World, caller: Caller) -> None:
    """The seat is what the copy was activated with: a new network card must not make a stranger of it."""
    question = asked(world, caller)
    kept = json.loads(caller.place("license.json").read_text())
    assert question.seat == installation.read(kept["installation_id"]).seat
    online = Caller(world, world.publisher.mint())
    online.online()
    made = validating.ask(online.shelf, online.machine)[0]
    held = online.shelf.held()
    assert held is not None
    pairs = documents.read_request(held.request)[0].pairs
    assert made.seat == installation.seat_prefix(pairs, "")[1]


fields = st.builds(
    ValidationID, st.booleans(), st.sampled_from(list(Channel)), st.integers(0, 2**28 - 1),
    st.integers(0, 2**44 - 1).map(lambda n: f"{n:011x}"), st.integers(0, 2047), st.integers(0, 2**20 - 1),
)  # fmt: skip


@given(fields)
def test_an_id_survives_both_spellings(made: ValidationID) -> None:
    assert validation.read(made.text) == validation.read(" ".join(made.words(english())), english()) == made
    assert (len(made.text.split()), len(made.words(english()))) == (VALIDATION.groups, VALIDATION.words)


@given(fields, st.sampled_from(list(Finding)), st.integers(0, VERDICT.groups * 6 - 1), st.integers(1, 9))
def test_every_wrong_digit_of_a_verdict_is_caught(made: ValidationID, finding: Finding, at: int, by: int) -> None:
    text = spelling.spell(validation.verdict(made, finding, K, NAME), VERDICT, "")
    assert validation.judged(text, made, K, NAME) is finding
    wrong = text[:at] + str((int(text[at]) + by) % 10) + text[at + 1 :]
    with pytest.raises(KeyturnError) as caught:
        validation.judged(wrong, made, K, NAME)
    assert caught.value.code == "code_mistyped"
    with pytest.raises(KeyturnError) as caught:
        validation.judged(text, made, OTHER_K, NAME)
    assert caught.value.code == "code_foreign"


@settings(max_examples=20)
@given(fields)
def test_the_codes_are_as_the_protocol_page_says(made: ValidationID) -> None:
    """Made anew from docs/protocol-telephone.md, without the product's code."""

    def top(bits: int, message: bytes) -> int:
        return int(f"{int.from_bytes(hmac.digest(K, message, hashlib.sha256)):0256b}"[:bits], 2)

    before = int(
        f"{2 if made.weak else 1:04b}{made.serial:028b}{made.channel.number:03b}{int(made.seat, 16):044b}{made.nonce:011b}",
        2,
    )
    proof = top(20, framed("keyturn validation-id v1", str(NAME)) + before.to_bytes(12, "big"))
    whole: Any = validation.ask(NAME, made.channel, made.serial, K, made.weak, made.seat, made.nonce)
    assert whole.number == before << 20 | proof
    for finding in Finding:
        message = framed("keyturn verdict-code v1", str(NAME)) + whole.number.to_bytes(14, "big") + bytes([finding])
        assert validation.verdict(whole, finding, K, NAME) == finding << 30 | top(30, message)
