"""Product keys: what is typed, what is found out about a mistake, and the proof."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import random
import re
import string
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core import productkey
from keyturn.core.errors import KeyturnError
from keyturn.core.model import Channel, ProductName, b64u
from keyturn.core.productkey import ALPHABET, FOLDS, MAX_SERIAL, ProductKey

WRITER = ProductName("A" * 43, "writer")
channels = st.sampled_from(Channel)
serials = st.integers(0, MAX_SERIAL)
KEY = productkey.make(Channel.RETAIL, 1, bytes(range(10)))
secrets = st.binary(min_size=10, max_size=10)
keys = st.builds(productkey.make, channels, serials, secrets)


def some_keys(count: int, seed: int = 29) -> list[ProductKey]:
    chance = random.Random(seed)
    return [
        productkey.make(chance.choice(list(Channel)), chance.randrange(MAX_SERIAL + 1), chance.randbytes(10))
        for _ in range(count)
    ]


def refusal(text: str) -> KeyturnError:
    with pytest.raises(KeyturnError) as caught:
        productkey.parse(text)
    return caught.value


def mistyped(text: str) -> Any:
    error = refusal(text)
    assert error.code == "key_mistyped"
    return error.data


def grouped(symbols: str) -> str:
    return "-".join(symbols[start : start + 5] for start in range(0, 25, 5))


# --- format -----------------------------------------------------------------------------------------------------------


@given(keys)
def test_a_key_survives_being_written_and_typed(key: ProductKey) -> None:
    """What was minted is what is read, and it looks like five groups of five."""
    assert re.fullmatch(rf"([{ALPHABET}]{{5}}-){{4}}[{ALPHABET}]{{5}}", key.text)
    assert productkey.parse(key.text) == key
    assert key.partial == key.text.split("-")[-1]


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("serial", [0, 1, MAX_SERIAL])
@pytest.mark.parametrize("secret", [bytes(10), b"\xff" * 10])
def test_the_ends_of_every_range_fit(channel: Channel, serial: int, secret: bytes) -> None:
    """The smallest and the largest of each part make a key."""
    key = productkey.make(channel, serial, secret)
    assert productkey.parse(key.text) == (channel, serial, secret)


def test_parts_out_of_range_are_a_programming_error() -> None:
    """A key is never made of parts that do not fit it."""
    for serial, secret in [(-1, bytes(10)), (MAX_SERIAL + 1, bytes(10)), (0, bytes(9)), (0, bytes(11))]:
        with pytest.raises(ValueError, match=r"28 bits|secret bytes"):
            productkey.make(Channel.RETAIL, serial, secret)


def test_the_text_is_the_format_of_the_page() -> None:
    """An independent encoder, written from docs/product-keys.md alone, makes the same text and the same check symbols."""
    for key in some_keys(300):
        number = int.from_bytes(key.secret, "big")
        number += (((key.serial * 8 + key.channel.number) * 0x4F1BBCDD + 0x3243F6AD) % 2**31) * 2**80
        data = [number // 29**power % 29 for power in range(23)]
        answers = [
            (first, second)
            for first, second in itertools.product(range(29), repeat=2)
            if (first + second + sum(data)) % 29 == 0
            and (first + 2 * second + sum(2 ** (place + 2) * value for place, value in enumerate(data))) % 29 == 0
        ]
        assert len(answers) == 1
        assert key.text == grouped("".join(ALPHABET[value] for value in [*answers[0], *data]))


def test_words_of_the_code_that_are_no_key_are_malformed() -> None:
    """A number of 2**111 or more, and a channel kept for later, are refused although no symbol is wrong."""
    high = productkey._encode(2**111)
    assert refusal("".join(ALPHABET[value] for value in high)).code == "key_malformed"
    assert refusal(grouped("0" * 25)).code == "key_malformed"
    for channel in (5, 6, 7):
        public = (channel * productkey._SPREAD + productkey._SHIFT) % 2**31
        later = productkey._encode(public << 80)
        assert refusal("".join(ALPHABET[value] for value in later)).code == "key_malformed"


def test_keys_of_neighbouring_serials_look_different() -> None:
    """A run of a thousand serials has a thousand different last groups, and no symbol stands out in any free place."""
    texts = [productkey.make(Channel.RETAIL, serial, random.Random(serial).randbytes(10)).text for serial in range(1000)]
    assert len({text[-5:] for text in texts}) == 1000
    for place, symbols in enumerate(zip(*(text.replace("-", "") for text in texts), strict=True)):
        # The last place holds the top of a number below 2**111: 18 symbols, the others 29.
        expected = 1000 / (18 if place == 24 else 29)
        assert max(Counter(symbols).values()) < 2.2 * expected, place


@given(keys)
def test_the_partial_key_holds_nothing_of_the_secret(key: ProductKey) -> None:
    """The last group follows from channel and serial: it is that of the smallest or that of the largest secret."""
    ends = {productkey.make(key.channel, key.serial, secret).partial for secret in (bytes(10), b"\xff" * 10)}
    assert key.partial in ends


def test_a_carry_from_the_secret_into_the_partial_key_is_rare() -> None:
    """Of 20,000 serials fewer than one in a hundred has a last group that the secret can influence at all."""
    chance = random.Random(7)
    differ = 0
    for _ in range(20_000):
        serial = chance.randrange(MAX_SERIAL + 1)
        ends = {productkey.make(Channel.MAK, serial, secret).partial for secret in (bytes(10), b"\xff" * 10)}
        differ += len(ends) - 1
    print(f"last groups that depend on the secret: {differ} of 20000")
    assert differ < 200


def test_a_key_is_shown_by_its_last_group_only() -> None:
    """Neither repr, str, a format nor an error about it gives a key away."""
    for key in some_keys(50):
        for shown in (repr(key), str(key), f"{key}", f"{key!r:>40}", f"{[key]}"):
            assert key.partial in shown
            assert key.text[:5] not in shown
            assert key.text[18:23] not in shown
            assert repr(key.secret) not in shown


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_every_single_wrong_symbol_is_located() -> None:
    """All 700 single errors of each of 60 keys: detected, and place, wrong and right symbol named."""
    for key in some_keys(60):
        word = key.text.replace("-", "")
        for place, symbol in itertools.product(range(25), ALPHABET):
            if symbol == word[place]:
                continue
            data = mistyped(word[:place] + symbol + word[place + 1 :])
            group, within = divmod(place, 5)
            assert data["groups"] == [group + 1]
            assert data["suggestion"] == {
                "group": group + 1, "place": within + 1, "found": symbol, "expected": word[place],
            }  # fmt: skip


def test_every_swap_of_neighbours_is_detected_and_its_groups_named() -> None:
    """All swaps in 1,000 keys; the true group is always among the named ones, and those are rarely all."""
    named = Counter[int]()
    for key in some_keys(1000):
        word = key.text.replace("-", "")
        for place in range(24):
            one, other = word[place], word[place + 1]
            if one == other:
                continue
            data = mistyped(word[:place] + other + one + word[place + 2 :])
            assert {place // 5 + 1, (place + 1) // 5 + 1} <= set(data["groups"])
            assert data["suggestion"] is None
            named[len(data["groups"])] += 1
    swaps = named.total()
    print("groups named after a swap:", {count: f"{times / swaps:.1%}" for count, times in sorted(named.items())})
    assert sum(count * times for count, times in named.items()) / swaps < 2.5


def test_several_mistakes_pass_seldom() -> None:
    """Random words are taken for a key about once in 2,237 times, as the code's arithmetic says."""
    chance = random.Random(11)
    passed, tries = 0, 200_000
    for _ in range(tries):
        word = [chance.randrange(29) for _ in range(25)]
        if productkey._syndromes(word) == (0, 0):
            passed += productkey._unpack(productkey._number(word)) is not None
    print(f"random words taken for a key: {passed} of {tries}")
    # 29**-2 of the words are of the code; 2**111 / 29**23 of those are below the limit; 5 of 8 channels exist.
    expected = tries / 29**2 * (2**111 / 29**23) * 5 / 8
    assert abs(passed - expected) < 5 * expected**0.5


def test_two_wrong_symbols_never_read_as_the_same_key() -> None:
    """Whatever is said about a double error, it is not silently put right."""
    chance = random.Random(12)
    for key in some_keys(2000, seed=12):
        word = list(key.text.replace("-", ""))
        for place in chance.sample(range(25), 2):
            word[place] = chance.choice([symbol for symbol in ALPHABET if symbol != word[place]])
        error = refusal("".join(word))
        assert error.code == "key_mistyped"
        assert error.data["groups"]


def test_a_detail_never_holds_the_key() -> None:
    """No error shows as many as three symbols of the key in a row."""
    chance = random.Random(3)
    for key in some_keys(200, seed=3):
        word = key.text.replace("-", "")
        place = chance.randrange(24)
        damaged = [
            word[:place] + ("0" if word[place] != "0" else "1") + word[place + 1 :],
            word[:place] + word[place + 1] + word[place] + word[place + 2 :],
            word[:-1],
            word + "A",
            word[:20] + "?" + word[21:],
        ]
        for text in damaged:
            if text == word:
                continue
            said = refusal(text).detail + refusal(text).remedy
            assert not any(word[start : start + 3] in said for start in range(23))


@pytest.mark.parametrize(
    ("weights", "caught_by"),
    [
        ([1, 2] * 12 + [1], test_every_single_wrong_symbol_is_located),
        ([2 ** (place % 14) % 29 for place in range(25)], test_every_single_wrong_symbol_is_located),
        (
            [1, 2, *(2 ** (place // 2) % 29 for place in range(2, 25))],
            test_every_swap_of_neighbours_is_detected_and_its_groups_named,
        ),
    ],
    ids=["alternating", "repeating", "in pairs"],
)  # fmt: skip
def test_planted_weaker_codes_are_found_out(weights: list[int], caught_by: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three codes whose weights repeat fail the tests above, so these can fail."""
    monkeypatch.setattr(productkey, "_WEIGHTS", tuple(weights))
    assert productkey.parse(KEY.text) == KEY
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        caught_by()


# --- forgiving input --------------------------------------------------------------------------------------------------


def test_folding_never_merges_two_symbols() -> None:
    """No symbol of the alphabet folds, every other letter folds onto one symbol, and no two rules contradict."""
    assert len(set(ALPHABET)) == 29
    assert set(ALPHABET) | set(FOLDS) == set(string.digits + string.ascii_uppercase)
    assert not set(ALPHABET) & set(FOLDS)
    assert set(FOLDS.values()) <= set(ALPHABET)
    for symbol in ALPHABET:
        assert productkey._fold(symbol) == symbol
        assert productkey._fold(symbol.lower()) == symbol
    for letter, symbol in productkey._LOOK_ALIKES.items():
        assert not letter.isascii() or letter == "|"
        assert symbol in ALPHABET or symbol in FOLDS
        # The table is looked at after NFKC, so an entry that NFKC changes would never be reached.
        assert unicodedata.normalize("NFKC", letter) == letter
    assert not set(productkey._LOOK_ALIKES) & productkey._SEPARATORS


def test_no_character_of_unicode_is_two_things() -> None:
    """Every character there is either separates, is one symbol, or is refused; ASCII ones exactly as the page says."""
    kinds = Counter[str]()
    for point in range(0x110000):
        character = chr(point)
        if productkey._separates(character):
            assert productkey._fold(character) is None
            kinds["separates"] += 1
        elif productkey._fold(character) is not None:
            kinds["symbol"] += 1
    refused = {c for c in map(chr, range(33, 127)) if not productkey._separates(c) and productkey._fold(c) is None}
    assert refused == set("!#$%&()*+<>?@[\\]^{}")
    print(dict(kinds))



@pytest.mark.parametrize(
    "change",
    [
        str.lower,
        lambda text: text.replace("-", ""),
        lambda text: text.replace("-", " "),
        lambda text: " ".join(text),
        lambda text: f"\ufeff {text}\r\n",
        lambda text: f"“{text}”",
        lambda text: text.replace("-", "–"),
        lambda text: text.replace("-", "—"),
        lambda text: text.replace("-", "\u2011"),
        lambda text: text.replace("-", "−"),
        lambda text: text.replace("-", "\u00ad-"),
        lambda text: text.replace("-", " _ "),
        lambda text: text[:3] + "-" + text[3:].replace("-", "", 2),
        lambda text: text.replace("0", "O").replace("1", "l").replace("8", "B"),
        lambda text: text.replace("0", "o").replace("1", "I").replace("5", "s").replace("2", "z").replace("V", "u"),
        lambda text: text.translate({ord(c): ord(c) + 0xFEE0 for c in ALPHABET + "-"}),
        lambda text: text.translate(str.maketrans("ACEHKMPTXY", "АСЕНКМРТХУ")),
        lambda text: text.lower().translate(str.maketrans("aceopxy", "асеорху")),
        lambda text: text.translate(str.maketrans("AEHKMNPTXY", "ΑΕΗΚΜΝΡΤΧΥ")),
        lambda text: text.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")),
        lambda text: text.translate(str.maketrans("0123456789", "०१२३४५६७८९")),
        lambda text: text.translate(str.maketrans("0123456789", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗")),
    ],
)  # fmt: skip
def test_what_a_person_may_type(change: Any) -> None:
    """Case, dashes, spaces, quotes, look-alikes and other scripts do not matter."""
    chance = random.Random(5)
    for key in [KEY, *(productkey.make(Channel.MAK, chance.randrange(1000), chance.randbytes(10)) for _ in range(100))]:
        assert productkey.parse(change(key.text)) == key


@given(keys, st.text(alphabet=" -–—_.\t\u00a0\u200b", max_size=40), st.randoms())
def test_separators_are_nothing(key: ProductKey, separators: str, chance: random.Random) -> None:
    """Separators anywhere, or nowhere, leave the key as it is."""
    characters = list(key.text.replace("-", ""))
    for separator in separators:
        characters.insert(chance.randint(0, len(characters)), separator)
    assert productkey.parse("".join(characters)) == key


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 symbols, 25 too few"),
        (" - - ", "0 symbols, 25 too few"),
        (KEY.text[:-1], "24 symbols, 1 too few: a product key has 25; look at group 5"),
        (KEY.text[:8] + KEY.text[9:], "look at group 2"),
        (KEY.text.replace("-", "")[:-2], "23 symbols, 2 too few: a product key has 25"),
        (KEY.text + "7", "26 symbols, 1 too many: a product key has 25; look at group 5"),
        (KEY.text + "-77777", "30 symbols, 5 too many"),
        (KEY.text[:7] + "?" + KEY.text[8:], "'?' cannot be part of a product key"),
        ("ключ", "cannot be part of a product key"),
        (KEY.text + "\x00é\U0001f511", "'é', '\U0001f511' cannot"),
        ("9" * 257, "this text is 257 long"),
        ("\ufdfa" * 256, "and others cannot"),  # One character that NFKC makes eighteen of.
    ],
)
def test_what_is_not_a_key_at_all(text: str, said: str) -> None:
    """Length and alphabet are judged first, and the detail says what to look at."""
    error = refusal(text)
    assert (error.code, error.exit) == ("key_malformed", 4)
    assert said in error.detail


@given(st.text(max_size=300))
def test_any_text_is_a_key_or_a_catalogued_error(text: str) -> None:
    """No input ends in anything but a key, key_malformed or key_mistyped."""
    try:
        code = productkey.parse(text).text and "key"
    except KeyturnError as error:
        code = error.code
    assert code in {"key", "key_malformed", "key_mistyped"}


# --- the proof --------------------------------------------------------------------------------------------------------


def framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def test_the_derived_key_is_hkdf_as_written() -> None:
    """RFC 5869 by hand, with the standard library, gives the same K."""
    for key in some_keys(20):
        number = productkey._pack(key)  # Checked by itself in test_the_text_is_the_format_of_the_page.
        extracted = hmac.digest(bytes(32), number.to_bytes(14, "big"), "sha256")
        info = framed(b"keyturn key v1", str(WRITER).encode())
        assert productkey.derive(key, WRITER) == hmac.digest(extracted, info + b"\x01", "sha256")


def test_the_proof_binds_each_of_its_parts() -> None:
    """Another key, product, test flag, serial, installation or nonce: the proof does not hold."""
    k = productkey.derive(KEY, WRITER)
    proof = productkey.proof(k, WRITER, 1, "thumb", "nonce")
    assert proof == b64u(
        hmac.digest(k, framed(b"keyturn proof v1", str(WRITER).encode(), b"1", b"thumb", b"nonce"), hashlib.sha256)
    )
    assert productkey.proof_holds(proof, k, WRITER, 1, "thumb", "nonce")
    tested = WRITER._replace(test=True)
    for wrong in [
        (productkey.derive(KEY, tested), WRITER, 1, "thumb", "nonce"),
        (k, tested, 1, "thumb", "nonce"),
        (k, WRITER, 2, "thumb", "nonce"),
        (k, WRITER, 1, "thumbn", "once"),
        (k, WRITER, 1, "thumb", "nonce2"),
    ]:
        assert not productkey.proof_holds(proof, *wrong)
    for given_ in ["", proof[:-1], proof + "=", "ä" * 43, "\ud800"]:
        assert not productkey.proof_holds(given_, k, WRITER, 1, "thumb", "nonce")


@given(keys, keys)
def test_different_keys_have_different_secrets_behind_them(one: ProductKey, other: ProductKey) -> None:
    """K differs wherever the key differs, and between products of one key."""
    assert (productkey.derive(one, WRITER) == productkey.derive(other, WRITER)) == (one == other)
    assert productkey.derive(one, WRITER) != productkey.derive(one, WRITER._replace(slug="painter"))


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_vectors_of_the_page_hold() -> None:
    """Every row of the tables in docs/product-keys.md is what this code does."""
    page = (Path(__file__).parents[1] / "docs" / "product-keys.md").read_text("utf-8")
    row = [r"`(\w+)`", r"(\d+)", r"`([0-9a-f]{20})`", r"`([0-9A-Y-]{29})`", r"`([\w-]{43})`", r"`([\w-]{43})`"]
    made = re.findall("^" + " ".join([rf"\| {cell}" for cell in row]) + r" \|$", page, re.MULTILINE)
    assert len(made) >= 5
    name = ProductName.parse(next(iter(re.findall(r"product `([^`]+)`", page))))
    for channel, serial, secret, text, k, proof in made:
        key = productkey.make(Channel(channel), int(serial), bytes.fromhex(secret))
        assert (key.text, productkey.parse(text)) == (text, key)
        derived = productkey.derive(key, name)
        assert b64u(derived) == k
        assert productkey.proof(derived, name, key.serial, "jkt", "nonce") == proof
    broken = re.findall(r"^\| `([^`|]+)` \| `(key_\w+)` \| ([^|]+) \|$", page, re.MULTILINE)
    assert len(broken) >= 5
    for text, code, detail in broken:
        error = refusal(text)
        assert (error.code, error.detail) == (code, detail.strip())
