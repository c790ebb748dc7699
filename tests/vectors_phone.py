"""Telephone activation: installation IDs, confirmation IDs, and what is neither (part of ``make_vectors``).

The points of ``hash_to_curve`` whose domain begins with QUUX are not ours: gnark-crypto publishes them for the same suite
(``ecc/bn254/hash_vectors_test.go``).
"""

# ruff: noqa: E501 (a table: a case may be as long as its line)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keyturn.core import hardware, productkey
from keyturn.core.model import Channel, ProductName
from keyturn.core.phone import confirmation, curve, digits, installation, spelling, validation, words
from keyturn.core.phone.curve import P
from keyturn.core.phone.installation import InstallationID
from keyturn.core.phone.spelling import CONFIRMATION, INSTALLATION, VERDICT
from keyturn.core.phone.validation import Finding
from keyturn.edge import bls
from keyturn.edge.words import english
from vectors_phone_hosts import host_confirmations, refused_hosts

if TYPE_CHECKING:
    from make_vectors import World

Case = dict[str, Any]
PAGE = "https://activate.example/phone"
QUUX = "QUUX-V01-CS02-with-BN254G1_XMD:SHA-256_SVDW_RO_"
GNARK = (
    ("", 0x0A976AB906170DB1F9638D376514DBF8C42AEF256A54BBD48521F20749E59E86, 0x2925EAD66B9E68BFC309B014398640AB55F6619AB59BC1FAB2210AD4C4D53D5),
    ("abc", 0x23F717BEE89B1003957139F193E6BE7DA1DF5F1374B26A4643B0378B5BAF53D1, 0x4142F826B71EE574452DBC47E05BC3E1A647478403A7BA38B7B93948F4E151D),
    ("abcdef0123456789", 0x187DBF1C3C89ACECEEF254D6548D7163FDFA43084145F92C4C91C85C21442D4A, 0xABD99D5B0000910B56058F9CC3B0AB0A22D47CF27615F588924FAC1E5C63B4D),
    ("q128_" + 128 * "q", 0xFE2B0743575324FC452D590D217390AD48E5A16CF051BEE5C40A2EBA233F5C, 0x794211E0CC72D3CBBDF8E4E5CD6E7D7E78D101FF94862CAAE8ACBE63E9FDC78),
    ("a512_" + 512 * "a", 0x1B05DC540BD79FD0FEA4FBB07DE08E94FC2E7BD171FE025C479DC212A2173CE, 0x1BF028AFC00C0F843D113758968F580640541728CFC6D32CED9779AA613CD9B0),
)  # fmt: skip


def phone(world: World) -> Case:
    from make_vectors import PROVENANCE

    installed = installation_ids(world)
    return {
        "provenance": PROVENANCE, "page": PAGE, "dst": confirmation.DST.decode(),
        "hash_to_curve": hashed(), "words": check_words(), "keys": keys(), "refused_keys": refused_keys(),
        "installation_ids": installed, "confirmation_ids": confirmation_ids(world, installed),
        "refused": refused(installed, world), "validations": validations(installed), "host_confirmations": host_confirmations(world), "refused_hosts": refused_hosts(world),
    }  # fmt: skip


def hashed() -> list[Case]:
    found = [
        {"source": "gnark-crypto", "dst": QUUX, "message": text.encode().hex(), "x": f"{x:064x}", "y": f"{y:064x}"}
        for text, x, y in GNARK
    ]
    for text in ("", "keyturn", 200 * "k"):
        x, y = curve.hash_to_curve(text.encode(), confirmation.DST)
        found.append(
            {
                "source": "keyturn",
                "dst": confirmation.DST.decode(),
                "message": text.encode().hex(),
                "x": f"{x:064x}",
                "y": f"{y:064x}",
            }
        )
    return found


def check_words() -> list[Case]:
    """Numbers of words with their check words."""
    return [
        {"data": data, "code": words.code(data)} for data in ([1, 2, 3], [0] * 14, [2047] * 24, list(range(100, 124)))
    ]


def secret(name: str) -> bytes:
    from make_vectors import seed

    return bls.secret_of((seed(f"phone {name}") + seed(f"phone {name} too"))[: bls.CHANCE])


def keys() -> list[Case]:
    found = [{"story": name, "secret": secret(name).hex()} for name in ("confirmation 1", "confirmation 2")]
    found += [
        {"story": story, "secret": number.to_bytes(32, "big").hex()}
        for story, number in (("the generator", 1), ("its negative", curve.R - 1))
    ]
    return [{**case, "public": bls.signer(bytes.fromhex(case["secret"])).public.hex()} for case in found]


def refused_keys() -> list[Case]:
    good = bls.signer(secret("confirmation 1")).public
    raised = (int.from_bytes(good[:32], "big") + P).to_bytes(32, "big")
    return [
        {"story": story, "public": public.hex()}
        for story, public in (
            ("infinity, as other encodings write it", bytes(128)),
            ("not on the curve: one bit of y differs", good[:-1] + bytes([good[-1] ^ 1])),
            ("not canonical: the first coordinate and P", raised + good[32:]),
            ("of order R, but on another curve: x times 4, y times 8", elsewhere(good)),
            ("on the curve, but not of the group of order R", outside()),
            ("real and imaginary parts exchanged", good[32:64] + good[:32] + good[96:] + good[64:96]),
            ("too short", good[:-1]),
            ("the first half alone", good[:64]),
        )
    ]


def elsewhere(public: bytes) -> bytes:
    """The key's image on the curve y² = x³ + 64 b: adding points does not ask for b, so its order is R there too."""
    numbers = [int.from_bytes(public[at : at + 32], "big") for at in range(0, 128, 32)]
    return b"".join(
        (number * factor % P).to_bytes(32, "big") for number, factor in zip(numbers, (4, 4, 8, 8), strict=True)
    )


def outside() -> bytes:
    """The first point of the twisted curve with x = 1 + n i, and not in the group."""
    ecc = bls._library()
    for n in range(100):
        x = ecc.FQ2([1, n])
        y = _root(x * x * x + ecc.b2)
        if y is not None and not ecc.is_inf(ecc.multiply((x, y, ecc.FQ2.one()), curve.R)):
            return b"".join(int(part).to_bytes(32, "big") for value in (x, y) for part in reversed(value.coeffs))
    raise AssertionError("no such point is near")


def _root(value: Any) -> Any:
    """A square root in the field of P**2 elements, by that of the norm; ``None`` if there is none. P is 3 modulo 4."""
    a, b = (int(part) for part in value.coeffs)
    norm = pow(a * a + b * b, (P + 1) // 4, P)
    for half in ((a + norm) * pow(2, -1, P) % P, (a - norm) * pow(2, -1, P) % P):
        real = pow(half, (P + 1) // 4, P)
        if real and real * real % P == half:
            root = type(value)([real, b * pow(2 * real, -1, P) % P])
            if root * root == value:
                return root
    return None


def installation_ids(world: World) -> list[Case]:
    from make_vectors import READING, seed

    known = hardware.pairs(READING.anchors, world.product)
    virtual = hardware.pairs({"vm": "i-0a1b2c3d4e5f60718"}, world.product)
    cases = [
        ("an office PC, a MAK", world.product, Channel.MAK, 1, known, READING, "one"),
        ("the same computer, asked again: another salt", world.product, Channel.MAK, 1, known, READING, "two"),
        ("a virtual machine, a retail key", world.product, Channel.RETAIL, 82_026_407, virtual, READING, "one"),
        ("nothing individual: weak evidence", world.product, Channel.RETAIL, 82_026_407, {}, READING._replace(anchors={}), "one"),
        ("disk and network adapter alone, a host key", world.product, Channel.HOST, 2**27, {"disk+nic": known["disk+nic"]}, READING, "one"),
        ("the last serial, an OEM key", world.product, Channel.OEM, 2**28 - 1, known, READING, "one"),
        ("the test product", world.test_product, Channel.MAK, 1, hardware.pairs(READING.anchors, world.test_product), READING, "one"),
    ]  # fmt: skip
    found = []
    for story, product, channel, serial, pairs, reading, salt in cases:
        k = productkey.derive(productkey.make(channel, serial, seed(f"secret {serial}")[:10]), product)
        vector, salted = hardware.vector(reading, product), seed(f"salt {salt}")[:16]
        made = installation.make(product, channel, serial, k, pairs, world.installation.kid, vector, salted)
        found.append({
            "story": story, "product": str(product), "channel": channel.value, "serial": serial, "k": k.hex(), "pairs": dict(pairs),
            "jkt": world.installation.kid, "vector": vector, "salt": salted.hex(), "weak": made.weak, "seat": made.seat,
            "commitment": f"{made.commitment:010x}", "proof": f"{made.proof:08x}", "number": f"{made.number:038x}",
            "digits": made.text, "words": " ".join(made.words(english())), "address": made.address(PAGE),
        })  # fmt: skip
    return found


def confirmation_ids(world: World, installed: list[Case]) -> list[Case]:
    found = []
    for case, name, index, edition, term in (
        (0, "confirmation 1", 0, 0, 0), (1, "confirmation 1", 0, 0, 0), (2, "confirmation 2", 1, 7, 0), (3, "confirmation 2", 1, 1, 3),
        (5, "confirmation 2", 3, 7, 15), (6, "confirmation 1", 0, 0, 0),
    ):  # fmt: skip
        product = world.test_product if case == 6 else world.product
        to = installation.of(int(installed[case]["number"], 16))
        code = confirmation.issue(product, to, edition, term, index, bls.signer(secret(name)).sign)
        signed = confirmation.message(product, to, index << 7 | edition << 4 | term)
        found.append({
            "story": f"answers: {installed[case]['story']}", "product": str(product), "installation_id": installed[case]["number"],
            "public": bls.signer(secret(name)).public.hex(), "index": index, "edition": edition, "term": term, "message": signed.hex(),
            "signature": code.signature.hex(), "number": f"{code.number:066x}", "digits": code.text,
            "words": " ".join(code.words(english())),
        })  # fmt: skip
    return found


def validations(installed: list[Case]) -> list[Case]:
    """Questions of the computers above, each with the answer for every finding."""
    found = []
    for case, nonce in ((installed[0], 0), (installed[2], 2047), (installed[3], 1234)):
        product, k = ProductName.parse(case["product"]), bytes.fromhex(case["k"])
        asked = validation.ask(product, Channel(case["channel"]), case["serial"], k, case["weak"], case["seat"], nonce)
        answers = []
        for finding in Finding:
            code = validation.verdict(asked, finding, k, product)
            answers.append({
                "finding": int(finding), "number": f"{code:09x}", "digits": spelling.spell(code, VERDICT),
                "words": " ".join(spelling.spell_words(code, VERDICT, english())),
            })  # fmt: skip
        found.append({
            "story": f"asks: {case['story']}", "product": case["product"], "channel": case["channel"], "serial": case["serial"],
            "k": case["k"], "weak": case["weak"], "seat": case["seat"], "nonce": nonce, "proof": f"{asked.proof:05x}",
            "number": f"{asked.number:028x}", "digits": asked.text, "words": " ".join(asked.words(english())), "answers": answers,
        })  # fmt: skip
    return found


def refused(installed: list[Case], world: World) -> list[Case]:
    """What is no ID, with the code that says so, and the groups or words to look at."""
    one = installation.of(int(installed[0]["number"], 16))
    groups, spelled = one.text.split(), list(one.words(english()))
    sign = bls.signer(secret("confirmation 1")).sign
    code = confirmation.issue(world.product, one, 0, 0, 0, sign)
    beyond = next(x for x in range(P, P + 100) if curve.point((x - P) << 1) is not None)
    aside = next(x for x in range(1, 100) if curve.point(x << 1) is None)

    def case(
        story: str, form: str, typed: str, error: str, groups: list[int] | None = None, words: list[int] | None = None
    ) -> Case:
        return {"story": story, "form": form, "typed": typed, "code": error, "groups": groups, "words": words}

    def other(digit: str) -> str:
        return str((int(digit) + 1) % 10)

    fifth, last = groups[4], spelled[-1]
    near = next(word for word in english().words if word != spelled[6])
    return [
        case("a wrong digit in group 5", "installation", " ".join([*groups[:4], other(fifth[0]) + fifth[1:], *groups[5:]]), "code_mistyped", [5]),
        case("a wrong check digit in group 9", "installation", " ".join([*groups[:8], groups[8][:5] + other(groups[8][5])]), "code_mistyped", [9]),
        case("groups 2 and 3 have changed places", "installation", " ".join([groups[0], groups[2], groups[1], *groups[3:]]), "code_mistyped", [2, 3]),
        case("a digit too few", "installation", one.text[:-1], "code_malformed"),
        case("a group too many", "installation", f"{one.text} {groups[8]}", "code_malformed"),
        case("a letter among the digits", "installation", f"{one.text} é", "code_malformed"),
        case("a wrong word, the seventh", "installation", " ".join([*spelled[:6], near, *spelled[7:]]), "code_mistyped", None, [7]),
        case("a word that is not in the list, the sixteenth", "installation", " ".join([*spelled[:-1], f"x{last}"]), "code_mistyped", None, [16]),
        case("words 3 and 4 have changed places", "installation", " ".join([*spelled[:2], spelled[3], spelled[2], *spelled[4:]]), "code_mistyped", None, [3, 4]),
        case("a word too few", "installation", " ".join(spelled[:-1]), "code_malformed"),
        case("version 0", "installation", spelling.spell(one.number & (1 << 145) - 1, INSTALLATION), "code_malformed"),
        case("version 15", "installation", spelling.spell(one.number | 15 << 145, INSTALLATION), "code_malformed"),
        case("a channel that does not exist", "installation", spelling.spell(one.number | 7 << 114, INSTALLATION), "code_malformed"),
        case("more than 149 bits", "installation", " ".join(digits.spell(1 << 149, 9)), "code_mistyped", list(range(1, 10))),
        case("more than 149 bits, in words", "installation", " ".join(english().words[place] for place in words.code(words.cut(1 << 149, 14))), "code_mistyped", None, list(range(1, 17))),
        case("more than 264 bits", "confirmation", " ".join(digits.spell(1 << 264, 16)), "code_mistyped", list(range(1, 17))),
        case("x is not below P", "confirmation", spelling.spell(beyond << 1, CONFIRMATION), "code_malformed"),
        case("x is not on the curve", "confirmation", spelling.spell(aside << 1, CONFIRMATION), "code_malformed"),
        case("the other root: the parity of y changed", "confirmation", spelling.spell(code.number ^ 1, CONFIRMATION), "code_foreign"),
        case("another edition than was signed", "confirmation", code._replace(edition=1).text, "code_foreign"),
        case("another term than was signed", "confirmation", code._replace(term=1).text, "code_foreign"),
        case("the index of another key", "confirmation", code._replace(key_index=1).text, "code_foreign"),
        case("a confirmation of another salt's ID", "confirmation", confirmation.issue(world.product, other_id(installed), 0, 0, 0, sign).text, "code_foreign"),
        case("a confirmation for another product", "confirmation", confirmation.issue(world.test_product, one, 0, 0, 0, sign).text, "code_foreign"),
        case("signed by another key", "confirmation", confirmation.issue(world.product, one, 0, 0, 0, bls.signer(secret("confirmation 2")).sign).text, "code_foreign"),
    ]  # fmt: skip


def other_id(installed: list[Case]) -> InstallationID:
    return installation.of(int(installed[1]["number"], 16))
