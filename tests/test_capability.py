"""What a program is told by the agent: the golden answers, and every way in which one must be refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.client.disclosing import declaration
from keyturn.core import capability, jws
from keyturn.core.capability import Capability, Question
from keyturn.core.errors import CATALOGUE, KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import ProductName
from keyturn.core.trust import Floor
from keyturn.edge.agent_socket import read_answer

VECTORS = json.loads((Path(__file__).parent / "vectors" / "agent.json").read_text())
QUESTION = Question.read(VECTORS["question"].encode())


def by_name(which: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", VECTORS[which], ids=[case["name"] for case in VECTORS[which]])


def check(case: dict[str, Any]) -> Capability:
    """Judge a case as a program would that has just asked."""
    return capability.check_answer(
        read_answer(case["line"].encode("utf-8", "surrogatepass")), QUESTION._replace(feature=case.get("feature")),
        uid=case.get("uid", VECTORS["uid"]), now=case.get("now", VECTORS["now"]),
        floor=Floor(*case["floor"]) if "floor" in case else None,
    )[0]  # fmt: skip


@by_name("accepted")
def test_an_answer_that_holds(case: dict[str, Any]) -> None:
    """Licensed, and what it says is written back to the same claims."""
    found = check(case)
    assert (found.state, found.edition) == ("licensed", "pro")
    token = json.loads(case["line"])["capability"]
    assert found.claims() == jws.loads(jws.payload_of(token))


@by_name("refused")
def test_an_answer_that_does_not_hold(case: dict[str, Any]) -> None:
    """Its one fault is found, and has its code."""
    with pytest.raises(KeyturnError) as error:
        check(case)
    assert error.value.code == case["code"]
    assert case["code"] in CATALOGUE


def test_possession() -> None:
    """The installation's own signature over the question; a stranger's, another document, another nonce prove nothing."""
    proof = VECTORS["possession"]
    question, public = QUESTION._replace(ask="prove"), bytes.fromhex(proof["public"])
    capability.check_possession(proof["token"], question, VECTORS["uid"], public)
    for token in proof["refused"].values():
        with pytest.raises(KeyturnError):
            capability.check_possession(token, question, VECTORS["uid"], public)
    with pytest.raises(KeyturnError):
        capability.check_possession(proof["token"], question, VECTORS["uid"] + 1, public)


@given(st.sampled_from(["capability", "certificate", "product", "bundles"]), st.integers(0, 2**20), st.integers(1, 255))
def test_no_changed_byte_of_what_is_verified_is_believed(member: str, place: int, change: int) -> None:
    """One byte of capability, certificate or a bundle differs: never licensed by it. The product file is not judged here."""
    answer = json.loads(VECTORS["accepted"][0]["line"])
    text = answer["bundles"][place % 3] if member == "bundles" else answer[member]
    at = place % len(text)
    changed = text[:at] + chr(ord(text[at]) ^ change) + text[at + 1 :]
    if member == "bundles":
        answer["bundles"][place % 3] = changed
    else:
        answer[member] = changed
    if member == "product":
        return
    with pytest.raises(KeyturnError):
        capability.check_answer(answer, QUESTION, uid=VECTORS["uid"], now=VECTORS["now"])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"v": 2}, "request_unsupported"), ({"ask": "sign"}, "request_unsupported"), ({"nonce": "A" * 21}, "request_unsupported"),
        ({"nonce": "A" * 87}, "request_unsupported"), ({"nonce": "!" * 22}, "document_malformed"),
        ({"nonce": None}, "request_unsupported"),
        ({"product": "paintbox"}, "document_malformed"), ({"product": None}, "request_unsupported"),
        ({"feature": "x" * 61}, "request_unsupported"), ({"feature": 1}, "request_unsupported"),
    ],
)  # fmt: skip
def test_a_question_that_is_none(change: dict[str, Any], code: str) -> None:
    """Version, kind, product, nonce and feature are checked before anything is looked up."""
    with pytest.raises(KeyturnError) as error:
        Question.read(json.dumps({**QUESTION.as_json(), **change}).encode())
    assert error.value.code == code


@pytest.mark.parametrize("length", [22, 43, 86])
def test_a_nonce_of_16_to_64_bytes(length: int) -> None:
    asked = Question("license", ProductName.parse(VECTORS["product"]), "A" * length)
    assert Question.read(json.dumps(asked.as_json()).encode()) == asked


def test_the_two_new_kinds_are_read_as_nothing_else() -> None:
    """A capability is no proof of possession, and neither is a request or a release."""
    token = json.loads(VECTORS["accepted"][0]["line"])["capability"]
    for kind in set(Kind) - {Kind.CAPABILITY}:
        with pytest.raises(KeyturnError):
            jws.verify_own(token, kind)


@pytest.mark.parametrize("kind", ["capability", "possession"])
def test_every_claim_is_declared(kind: str) -> None:
    """privacy.toml names every field of both documents with its purpose, and no other."""
    token = json.loads(VECTORS["accepted"][0]["line"])["capability"] if kind == "capability" else VECTORS["possession"]["token"]
    header = jws.loads(jws._decode(token.split(".")[0]))
    declared = declaration()[kind]
    assert set(jws.loads(jws.payload_of(token))) | (set(header) - {"alg", "typ", "kid"}) == set(declared)
    assert all(about["title"] and about["purpose"] for about in declared.values())
