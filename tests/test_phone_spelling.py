"""Digits and words: every slip that a person makes is found, in its place, while typing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mnemonic import Mnemonic

from keyturn.core.errors import KeyturnError
from keyturn.core.phone import digits, spelling, words
from keyturn.core.phone.spelling import CONFIRMATION, HOST_CONFIRMATION, INSTALLATION, Form
from keyturn.core.phone.words import Book
from keyturn.edge.words import english

FORMS = pytest.mark.parametrize("form", [INSTALLATION, CONFIRMATION, HOST_CONFIRMATION], ids=lambda form: form.name)
NUMBERS = st.one_of(
    st.tuples(st.just(INSTALLATION), st.integers(0, (1 << 149) - 1)),
    st.tuples(st.just(CONFIRMATION), st.integers(0, (1 << 264) - 1)),
    st.tuples(st.just(HOST_CONFIRMATION), st.integers(0, (1 << 572) - 1)),
)


def say(number: int, form: Form, *, word: bool = False) -> str:
    return " ".join(spelling.spell_words(number, form, english())) if word else spelling.spell(number, form)


# The codes themselves, over everything there is.


def test_damm_s_table_finds_what_it_promises() -> None:
    """From every start: a changed digit changes all that follows, and no two digits may change places (exhaustive)."""
    step = digits._NEXT
    assert all(sorted(row) == list(range(10)) for row in step)
    assert all(sorted(column) == list(range(10)) for column in zip(*step, strict=True))
    for start, one, two in itertools.product(range(10), repeat=3):
        if one != two:
            assert step[step[start][one]][two] != step[step[start][two]][one]
    assert all(step[digit][digit] == 0 for digit in range(10)), "the check digit is where the walk stands"


def test_groups_that_changed_places_do_not_hold() -> None:
    """Every group in every other place of an installation ID; in a confirmation ID all but those ten places apart."""
    for place, other in itertools.permutations(range(1, 17), 2):
        group = digits.spell(31_415 * 10 ** (5 * (16 - place)), 16)[place - 1]
        assert digits.holds(place, group)
        assert digits.holds(other, group) == ((place - other) % 10 == 0)


def test_what_is_not_six_digits_does_not_hold() -> None:
    for group in ("", "00000", "0000000", "00000x", "٠٠٠٠٠٤", "-00004"):
        assert not digits.holds(1, group)
    assert digits.holds(1, "000004")


def test_the_field_has_2047_powers() -> None:
    """x**11 + x**2 + 1 is primitive: so a code may be 2047 words long, and every difference of places is told apart."""
    assert len(set(words._POWER)) == 2047
    assert set(words._POWER) == set(range(1, 2048))


@FORMS
def test_every_wrong_word_in_every_place_is_located(form: Form) -> None:
    """Every one of 2047 errors in each place: found, in its place, with the right word (exhaustive)."""
    right = words.code(words.cut((1 << form.bits) // 3, form.words - 2))
    for place in range(form.words):
        for error in range(1, 2048):
            wrong = [*right]
            wrong[place] ^= error
            assert words.mistake(wrong) == words.Mistake((place,), (right[place],))


@given(st.lists(st.integers(0, 2047), min_size=14, max_size=24), st.data())
def test_swapped_neighbours_and_two_wrong_words_are_found(data: list[int], chance: st.DataObject) -> None:
    """A swap is named among the places to look at; two wrong words never pass."""
    right = words.code(data)
    place = chance.draw(st.integers(0, len(right) - 2))
    swapped = [*right]
    swapped[place : place + 2] = right[place + 1], right[place]
    found = words.mistake(swapped)
    if swapped == right:
        assert found is None
    else:
        assert found is not None
        assert {place, place + 1} <= set(found.places)
    one, two = chance.draw(st.lists(st.integers(0, len(right) - 1), min_size=2, max_size=2, unique=True))
    wrong = [*right]
    wrong[one] ^= chance.draw(st.integers(1, 2047))
    wrong[two] ^= chance.draw(st.integers(1, 2047))
    assert words.mistake(wrong) is not None


# Whole IDs.


@given(NUMBERS, st.booleans())
def test_what_is_spelled_is_read(case: tuple[Form, int], word: bool) -> None:
    form, number = case
    assert spelling.read(say(number, form, word=word), form, english()) == number


@FORMS
@pytest.mark.parametrize(
    "typing",
    [
        lambda text: text.replace(" ", ""),
        lambda text: "-".join(text.split()),
        lambda text: "\n".join(f"  {part} " for part in text.split()),
        lambda text: "".join(f"{sign} " if place % 4 == 3 else sign for place, sign in enumerate(text.replace(" ", ""))),
        lambda text: f"https://activate.example/phone#{text}",
        lambda text: "".join(chr(ord(sign) + 0xFEE0) if sign.isdigit() else sign for sign in text),
        lambda text: "".join(chr(0x660 + int(sign)) if sign.isdigit() else "\u00a0" for sign in text),
    ],
    ids=["in one", "dashes", "lines", "in fours", "scanned", "full width", "Arabic digits"],
)  # fmt: skip
def test_digits_in_any_grouping(form: Form, typing: object) -> None:
    number = (1 << form.bits) // 7
    assert callable(typing)
    assert spelling.read(typing(say(number, form)), form) == number


@FORMS
@pytest.mark.parametrize(
    "typing",
    [
        lambda text: text.upper(),
        lambda text: ",".join(text.split()),
        lambda text: " ".join(word[:4] for word in text.split()),
        lambda text: "\n".join(f"{place}. {word}" for place, word in enumerate(text.split(), 1)),
    ],
    ids=["capitals", "commas", "four letters", "numbered"],
)
def test_words_in_any_manner(form: Form, typing: object) -> None:
    number = (1 << form.bits) // 7
    assert callable(typing)
    assert spelling.in_words(typing(say(number, form, word=True)))
    assert spelling.read(typing(say(number, form, word=True)), form, english()) == number


@FORMS
def test_every_wrong_digit_and_swap_is_named_in_its_group(form: Form) -> None:
    """Of one ID all slips: each of nine wrong digits in each place, each swap of neighbours, in and between groups."""
    right = say((1 << form.bits) // 11, form).replace(" ", "")
    for place, digit in enumerate(right):
        for other in "0123456789".replace(digit, ""):
            found = spelling.typed(right[:place] + other + right[place + 1 :], form)
            assert (found.number, found.wrong, found.next) == (None, (place // 6 + 1,), place // 6 + 1)
    for place in range(len(right) - 1):
        swapped = right[:place] + right[place + 1] + right[place] + right[place + 2 :]
        if swapped != right:
            assert set(spelling.typed(swapped, form).wrong) == {place // 6 + 1, (place + 1) // 6 + 1}


@FORMS
def test_while_typing_digits(form: Form) -> None:
    """After each key: which groups are whole, which is next; the wrong one is named with its last digit, not later."""
    text = say((1 << form.bits) // 13, form)
    for end in range(len(text) + 1):
        found = spelling.typed(text[:end], form)
        whole = (end + 1) // 7
        assert [part.state for part in found.parts].count("complete") == whole
        assert found.next == (whole + 1 if whole < form.groups else None)
        assert (found.number is not None) == (end == len(text))
    wrong = f"{text[:7]}{text[7:12]}{(int(text[12]) + 1) % 10}"
    assert spelling.typed(wrong[:-1], form).wrong == ()
    assert spelling.typed(wrong, form)[3:6] == ((2,), 2, None)
    assert spelling.typed(f"{wrong} {text[14:20]}", form).next == 2, "it stays the next one until it is mended"


def test_while_typing_words() -> None:
    """The word that is being typed is completed, never judged before it is over."""
    book = english()
    text = " ".join(spelling.spell_words(1 << 100, INSTALLATION, book))
    second = text.split()[1]

    def last(typed: str) -> tuple[str, str, tuple[str, ...]]:
        part = spelling.typed(typed, INSTALLATION, book).parts[-1]
        return part.text, part.state, part.offers

    assert last("abs") == ("abs", "partial", ("absent", "absorb", "abstract", "absurd"))
    assert last("abst") == ("abstract", "complete", ())
    assert last("abs ") == ("abs", "wrong", ("absent", "absorb", "abstract", "absurd"))
    assert last("abandom") == ("abandom", "wrong", ("abandon", "random", "brand")), (
        "those that look alike, nearest first"
    )
    assert last("add") == ("add", "complete", ()), "a whole word, though a longer one begins like it"
    assert last("addi") == ("addict", "complete", ())
    for place in range(1, 17):
        found = spelling.typed(" ".join(text.split()[:place]), INSTALLATION, book)
        assert found.next == (place + 1 if place < 16 else None)
    assert spelling.typed(f"{text.split()[0]} {second} qqqq", INSTALLATION, book).wrong == (3,)


@FORMS
def test_a_wrong_word_is_located_and_the_right_one_offered(form: Form) -> None:
    book = english()
    right = list(spelling.spell_words((1 << form.bits) // 5, form, book))
    for place in range(form.words):
        typed = [*right]
        typed[place] = book.words[(book.words.index(right[place]) + 700) % 2048]
        found = spelling.typed(" ".join(typed), form, book)
        assert (found.wrong, found.next, found.number) == ((place + 1,), place + 1, None)
        assert found.parts[place].offers == (right[place],)
        with pytest.raises(KeyturnError) as error:
            spelling.read(" ".join(typed), form, book)
        assert error.value.code == "code_mistyped"
        assert error.value.data == {
            "words": [place + 1],
            "suggestion": {"words": [place + 1], "expected": [right[place]]},
        }
        assert repr(right[place]) in error.value.detail


@FORMS
@pytest.mark.parametrize("typed", ["xyzzy", "a", "quebec"])
def test_a_word_of_no_list_is_found_again_by_the_others(form: Form, typed: str) -> None:
    """Misheard beyond recognition, in any place (the last one too): the check words still say which word it was."""
    book = english()
    right = list(spelling.spell_words((1 << form.bits) // 5, form, book))
    for place in range(form.words):
        said = [*right[:place], typed, *right[place + 1 :]]
        with pytest.raises(KeyturnError) as error:
            spelling.read(" ".join(said), form, book)
        assert error.value.data["suggestion"] == {"words": [place + 1], "expected": [right[place]]}


def test_the_others_do_not_agree_on_a_word_if_one_of_them_is_wrong() -> None:
    book = english()
    said = list(spelling.spell_words((1 << 149) // 5, INSTALLATION, book))
    said[2], said[9] = "qqqq", book.words[(book.words.index(said[9]) + 1) % 2048]
    found = spelling.typed(" ".join(said), INSTALLATION, book)
    assert found.wrong == (3,)
    assert found.parts[2].offers == ()


def test_a_word_is_not_offered_if_it_would_make_no_id() -> None:
    """The five bits before an installation ID are zero: words that spell more were not meant, whatever the code says."""
    numbers = words.code(words.cut(1 << 149, 14))
    numbers[7] ^= 1
    found = spelling.typed(" ".join(english().words[number] for number in numbers), INSTALLATION, english())
    assert found.wrong == tuple(range(1, 17))
    assert {part.offers for part in found.parts} == {()}


def test_words_need_their_list() -> None:
    with pytest.raises(KeyturnError) as error:
        spelling.typed("abandon", INSTALLATION)
    assert error.value.code == "usage"


@pytest.mark.parametrize("text", ["0" * 1025, "abandon " * 200])
def test_a_book_is_not_read(text: str) -> None:
    with pytest.raises(KeyturnError) as error:
        spelling.typed(text, INSTALLATION, english())
    assert error.value.code == "input_too_large"


@given(st.text(max_size=200), st.sampled_from([INSTALLATION, CONFIRMATION]))
def test_whatever_is_typed_is_judged(text: str, form: Form) -> None:
    """Nothing crashes the judge, and nothing that is no ID is one."""
    found = spelling.typed(text, form, english())
    assert found.number is None
    assert found.next is not None or found.foreign or found.extra
    with pytest.raises(KeyturnError) as error:
        spelling.read(text, form, english())
    assert error.value.code in {"code_malformed", "code_mistyped"}


@given(NUMBERS, st.booleans(), st.data())
def test_what_was_said_so_far_bounds_the_number(case: tuple[Form, int], word: bool, chance: st.DataObject) -> None:
    form, number = case
    parts = say(number, form, word=word).split()
    said = chance.draw(st.integers(1, len(parts)))
    bounds = spelling.bounds(spelling.typed(" ".join(parts[:said]) + " ", form, english()), form)
    assert bounds is not None
    low, high = bounds
    assert low <= number <= high
    if said == len(parts):
        assert low == high == number


# The list of words.


def test_the_list_is_that_of_bip_39() -> None:
    assert english().words == tuple(Mnemonic("english").wordlist)
    assert (english().words[0], english().words[2047]) == ("abandon", "zoo")


def test_a_list_whose_words_four_letters_do_not_tell_apart_is_refused() -> None:
    listed = list(english().words)
    for bad in (listed[:-1], [*listed[:-1], "zone"], [*listed[:-1], "abandoned"]):
        with pytest.raises(ValueError, match="2048 words"):
            Book(bad)
