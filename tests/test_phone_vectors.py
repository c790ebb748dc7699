"""The golden vectors of telephone activation: what is right is read and made as recorded, what is wrong is refused.

``vectors_phone.py`` makes them, ``make vectors-check`` compares; ``test_phone_node.py`` has them judged by others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from keyturn.core import hosting, jws
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import Channel, ProductName
from keyturn.core.phone import confirmation, curve, hosted, installation, validation, words
from keyturn.core.phone.confirmation import ConfirmationID
from keyturn.core.phone.installation import InstallationID
from keyturn.core.trust import ConfirmationKey
from keyturn.edge import bls
from keyturn.edge.words import english
from make_vectors import World

Case = dict[str, Any]
VECTORS = json.loads((Path(__file__).parent / "vectors" / "phone.json").read_text())
BY_STORY = {item["story"]: item for item in VECTORS["installation_ids"]}


def each(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "case", VECTORS[name], ids=lambda case: str(case.get("story", case.get("source", "")))[:60]
    )


def installed(case: Case) -> InstallationID:
    return installation.of(int(case["number"], 16))


def made_of(case: Case) -> dict[str, Any]:
    """What the ID is made of, besides pairs: the arguments that ``is_of`` takes."""
    return {
        "product": ProductName.parse(case["product"]), "channel": Channel(case["channel"]), "serial": case["serial"],
        "k": bytes.fromhex(case["k"]), "jkt": case["jkt"], "vector": case["vector"], "salt": bytes.fromhex(case["salt"]),
    }  # fmt: skip


@each("hash_to_curve")
def test_messages_become_the_points_that_others_find(case: Case) -> None:
    found = curve.hash_to_curve(bytes.fromhex(case["message"]), case["dst"].encode())
    assert (f"{found.x:064x}", f"{found.y:064x}") == (case["x"], case["y"])
    assert curve.point(curve.short(found)) == found


@each("keys")
def test_a_secret_has_its_public_key(case: Case) -> None:
    public = bls.signer(bytes.fromhex(case["secret"])).public
    assert public.hex() == case["public"]
    assert bls.is_key(public)


@each("refused_keys")
def test_what_is_no_public_key_is_refused(case: Case) -> None:
    """By itself, and under it nothing holds: not even what the honest key signed."""
    good = VECTORS["confirmation_ids"][0]
    public = bytes.fromhex(case["public"])
    assert not bls.is_key(public)
    assert not bls.holds(public, bytes.fromhex(good["signature"]), bytes.fromhex(good["message"]))


@pytest.mark.parametrize("case", VECTORS["words"], ids=lambda case: f"{len(case['data'])} words")
def test_check_words(case: Case) -> None:
    assert words.code(case["data"]) == case["code"]
    assert words.mistake(case["code"]) is None


@each("installation_ids")
def test_an_installation_id_is_made_as_recorded(case: Case) -> None:
    """Made of its parts, spelled, and read again, in digits, words and as a scanned address."""
    made = installation.make(pairs=case["pairs"], **made_of(case))
    assert (made.weak, made.seat, f"{made.commitment:010x}", f"{made.proof:08x}", f"{made.number:038x}") == (
        case["weak"], case["seat"], case["commitment"], case["proof"], case["number"],
    )  # fmt: skip
    assert (made.text, " ".join(made.words(english())), made.address(VECTORS["page"])) == (
        case["digits"], case["words"], case["address"],
    )  # fmt: skip
    assert made == installed(case) == installation.read(case["digits"]) == installation.read(case["address"])
    assert made == installation.read(case["words"], english())
    assert installation.proof_holds(made, bytes.fromhex(case["k"]), ProductName.parse(case["product"]))


@each("installation_ids")
def test_an_installation_id_is_of_one_computer_key_and_product(case: Case) -> None:
    """Any other secret, product, hardware, installation key, salt or serial, and it was not made here."""
    own = made_of(case)
    made = installed(case)
    assert installation.is_of(made, **own)
    product = own["product"]
    for name, other in (
        ("product", product._replace(test=not product.test)), ("product", product._replace(slug="other")),
        ("k", bytes(32)), ("jkt", "A" * 43), ("salt", bytes(16)), ("vector", {**own["vector"], "anchor.disk": "0" * 32}),
        ("serial", own["serial"] ^ 1), ("channel", Channel.CLIENT),
    ):  # fmt: skip
        assert not installation.is_of(made, **{**own, name: other}), name


def test_a_new_salt_means_the_same() -> None:
    """Shown again, another number; the same key, seat and meaning."""
    one, two = VECTORS["installation_ids"][:2]
    first, second = installed(one), installed(two)
    assert first.number != second.number
    assert first[:4] == second[:4]
    assert first.commitment != second.commitment


@each("confirmation_ids")
def test_a_confirmation_id_is_signed_and_spelled_as_recorded(case: Case) -> None:
    product, to = ProductName.parse(case["product"]), installation.of(int(case["installation_id"], 16))
    secret = next(key["secret"] for key in VECTORS["keys"] if key["public"] == case["public"])
    made = confirmation.issue(
        product, to, case["edition"], case["term"], case["index"], bls.signer(bytes.fromhex(secret)).sign
    )
    assert (made.signature.hex(), f"{made.number:066x}", made.text, " ".join(made.words(english()))) == (
        case["signature"], case["number"], case["digits"], case["words"],
    )  # fmt: skip
    assert made == confirmation.read(case["digits"]) == confirmation.read(case["words"], english())
    key = key_of(case)
    assert confirmation.confirmed(made, product, to, [key], bls.holds) == key


@each("validations")
def test_a_question_and_its_verdicts_are_as_recorded(case: Case) -> None:
    """Made from the same values, and read from digits and words; each verdict is judged as its finding."""
    product, k, book = ProductName.parse(case["product"]), bytes.fromhex(case["k"]), english()
    made = validation.ask(product, Channel(case["channel"]), case["serial"], k, case["weak"], case["seat"], case["nonce"])
    assert (made.text, " ".join(made.words(book)), f"{made.proof:05x}") == (case["digits"], case["words"], case["proof"])
    assert validation.read(case["words"], book) == validation.read(case["digits"]) == made
    for answer in case["answers"]:
        assert validation.judged(answer["digits"], made, k, product) == answer["finding"]
        assert validation.judged(answer["words"], made, k, product, book) == answer["finding"]


@each("refused")
def test_what_is_refused(case: Case) -> None:
    """Each with the recorded code, and the groups or words to look at."""
    with pytest.raises(KeyturnError) as error:
        judge(case)
    assert error.value.code == case["code"], error.value.detail
    for unit in ("groups", "words"):
        if case[unit] is not None:
            assert error.value.data[unit] == case[unit]


def judge(case: Case) -> None:
    """As the computer of the first vector would, with both keys."""
    if case["form"] == "installation":
        installation.read(case["typed"], english())
        return
    code: ConfirmationID = confirmation.read(case["typed"], english())
    one = VECTORS["installation_ids"][0]
    keys = [key_of(VECTORS["confirmation_ids"][0]), key_of(VECTORS["confirmation_ids"][2])]
    confirmation.confirmed(code, ProductName.parse(one["product"]), installed(one), keys, bls.holds)


def key_of(case: Case) -> ConfirmationKey:
    return ConfirmationKey(bytes.fromhex(case["public"]), case["index"], "phone", 0, 1)


@each("host_confirmations")
def test_a_host_s_answer_is_signed_and_spelled_as_recorded(case: Case) -> None:
    """From the head and the installation ID to the bytes, and from the digits to the certificate that the host shows."""
    product, to = ProductName.parse(case["product"]), installation.of(int(case["installation_id"], 16))
    made = hosted.read(case["digits"])
    assert made == hosted.read(case["words"], english()) == hosted.of(int(case["number"], 16))
    assert made.head._asdict() == {name: case[name] for name in made.head._fields}
    spelled = (made.text, " ".join(made.words(english())), made.signature.hex())
    assert spelled == (case["digits"], case["words"], case["signature"])
    content, public = hosted.payload(product, to, made.head, case["nbf"]), bytes.fromhex(case["public"])
    assert content.decode() == case["payload"]
    signed = jws.signing_input(Kind.HOST_PHONE, jws.thumbprint(public), content)
    assert jws.holds(public, made.signature, signed)
    document = jws.assemble(signed, made.signature)
    assert hosted.shown(document, bytes.fromhex(case["host"]), case["c"], bytes.fromhex(case["salt"])) == case["certificate"]
    assert hosting.published(case["certificate"]) == (document, Kind.HOST_PHONE)


@each("refused_hosts")
def test_what_is_refused_of_hosts(case: Case) -> None:
    """By the host that asked, and by a computer that is shown a certificate."""
    world, one = World(), VECTORS["host_confirmations"][0]
    product = world.product_file(world.product)._replace(edition_numbers={"pro": 0, "lite": 1})
    assert hosting.read_host(one["certificate"], product, world.chain).public.hex() == one["host"]
    to = installation.of(int(one["installation_id"], 16))

    def judged() -> None:
        if case["form"] == "certificate":
            hosting.read_host(case["typed"], product, world.chain)
        else:
            hosted.taken(hosted.read(case["typed"], english()), world.product, to, world.chain)

    with pytest.raises(KeyturnError) as error:
        judged()
    assert error.value.code == case["code"], error.value.detail
    for unit in ("groups", "words"):
        if case[unit] is not None:
            assert error.value.data[unit] == case[unit]
