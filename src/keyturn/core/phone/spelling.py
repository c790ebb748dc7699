"""Installation and confirmation IDs as people handle them: digits in groups, or words; typed in any grouping.

Keeps: the two forms, what is wrong with what was typed so far and what comes next. Leaves to others: what the numbers mean
(``installation``, ``confirmation``), and asking.

- Anything with a Latin letter in it is words, anything else digits. Spaces, dashes, lines and the numbers before words mean
  nothing; digits of every script are digits. What stands before ``#`` is the address of the page in a QR code.
- The answer after each key stroke (``typed``) names every wrong group or word, and which one comes next. It never corrects.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.phone import digits, words
from keyturn.core.phone.words import Book, Mistake

MAX_INPUT: Final = 1024  # Characters: 54 words with numbers and lines before them are below.
_WORD: Final = re.compile(r"[a-z]+")
State = Literal["complete", "partial", "wrong"]


class Form(NamedTuple):
    """What kind of ID it is: its bits, its groups of six digits, its words with the two that check."""

    name: str
    bits: int
    groups: int
    words: int


INSTALLATION: Final = Form("installation ID", 149, 9, 16)
CONFIRMATION: Final = Form("confirmation ID", 264, 16, 26)
HOST_CONFIRMATION: Final = Form("host confirmation ID", 572, 35, 54)
VALIDATION: Final = Form("validation ID", 110, 7, 12)
VERDICT: Final = Form("verdict code", 33, 2, 5)


class Part(NamedTuple):
    """One group or word: its number from 1, the digits as typed or the word in full, and words to offer instead of a wrong one.

    ``value`` is what a complete one spells: five digits, or the number of a word.
    """

    number: int
    text: str
    state: State
    value: int = 0
    offers: tuple[str, ...] = ()


class Typed(NamedTuple):
    """What was typed so far.

    ``wrong`` are the numbers of parts to look at. ``next`` is the part to type or mend next, ``None`` if none is left.
    ``number`` is what all of it spells, once it is whole and holds. ``extra`` counts digits or words too many;
    ``foreign`` are characters that no ID has.
    """

    unit: Literal["group", "word"]
    of: int
    parts: tuple[Part, ...]
    wrong: tuple[int, ...]
    next: int | None
    number: int | None
    extra: int = 0
    foreign: tuple[str, ...] = ()


def spell(number: int, form: Form, separator: str = " ") -> str:
    """The digits of an ID: ``form.groups`` groups of six."""
    return separator.join(digits.spell(number, form.groups))


def spell_words(number: int, form: Form, book: Book) -> tuple[str, ...]:
    """The words of an ID, the two check words last."""
    return tuple(book.words[place] for place in words.code(words.cut(number, form.words - words.CHECKS)))


def numbered(parts: Sequence[str], columns: int) -> list[str]:
    """Lines of groups or words with their numbers before them, so that both ends know where they are."""
    width = max(map(len, parts))
    cells = [f"{number:>4}  {part:<{width}}" for number, part in enumerate(parts, 1)]
    return ["".join(cells[begin : begin + columns]).rstrip() for begin in range(0, len(cells), columns)]


def in_words(text: str) -> bool:
    """Whether this is typed in words: then the list of words is needed to read it."""
    return _WORD.search(_bare(text)) is not None


def typed(text: str, form: Form, book: Book | None = None) -> Typed:
    """Judge what was typed so far of an ID; ``book`` is needed for words (``in_words``).

    Raises: KeyturnError ``input_too_large``, ``usage`` (words without a list).
    """
    if len(text) > MAX_INPUT:
        raise KeyturnError("input_too_large", f"this is far longer than an {form.name}")
    bare = _bare(text)
    if not _WORD.search(bare):
        return _typed_digits(bare, form)
    if book is None:
        raise KeyturnError("usage", f"this {form.name} is in words, and only digits are read here")
    return _typed_words(bare, form, book)


def read(text: str, form: Form, book: Book | None = None) -> int:
    """The number that a whole ID spells.

    1. Nothing foreign is in it. 2. It has as many groups or words as the form has. 3. Each of them holds. 4. They fit together.

    Raises:
        KeyturnError ``code_malformed`` (1, 2): ``data["groups"]`` or ``data["words"]`` is the first part that does not hold,
            where something may be missing.
        KeyturnError ``code_mistyped`` (3, 4): ``data["groups"]`` or ``data["words"]`` are the parts to look at;
            ``data["suggestion"]`` is None or what should probably stand there, ``{"words", "expected"}``.
        KeyturnError ``input_too_large``, ``usage`` as :func:`typed`.
    """
    found = typed(text, form, book)
    unit = found.unit
    # 1.
    if found.foreign:
        shown = ", ".join(map(repr, found.foreign[:5]))
        raise KeyturnError("code_malformed", f"{shown} cannot be part of an {form.name}")
    # 2.
    size = digits.GROUP if unit == "group" else 1
    whole = found.of * size
    amount = sum(len(part.text) if unit == "group" else 1 for part in found.parts) + found.extra
    if amount != whole:
        count = f"{abs(whole - amount)} too {'few' if amount < whole else 'many'}"
        where = f"; look at {unit} {found.wrong[0]}" if found.wrong else ""
        what = "digits" if unit == "group" else "words"
        raise KeyturnError(
            "code_malformed",
            f"{amount} {what}, {count}: an {form.name} has {whole}{where}",
            data=_data(unit, found.wrong[:1]),
        )
    # 3. and 4.
    if found.number is None:
        raise _mistyped(found, form)
    return found.number


def bounds(found: Typed, form: Form) -> tuple[int, int] | None:
    """The least and the greatest number that can still come of it; ``None`` before the first whole part.

    Whoever answers a call sees by it which key it is about before the last group is said.
    """
    values = [part.value for part in itertools.takewhile(lambda part: part.state == "complete", found.parts)]
    if not values:
        return None
    radix, count = (
        (10**digits.DATA, form.groups) if found.unit == "group" else (1 << words.BITS, form.words - words.CHECKS)
    )
    low = functools.reduce(lambda number, value: number * radix + value, values[:count], 0)
    step = radix ** max(0, count - len(values))
    return low * step, (low + 1) * step - 1


def _bare(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().rpartition("#")[2]


def _foreign(text: str) -> tuple[str, ...]:
    """What is a letter or number here, and can be no part of an ID. Signs, spaces and invisible characters separate."""
    return tuple(dict.fromkeys(character for character in text if unicodedata.category(character)[0] in "LNM"))


def _typed_digits(text: str, form: Form) -> Typed:
    plain = "".join(str(unicodedata.decimal(character, character)) for character in text)
    typed = "".join(re.findall("[0-9]", plain))
    parts = []
    for place in range(form.groups):
        group = typed[place * digits.GROUP : (place + 1) * digits.GROUP]
        if digits.holds(place + 1, group):
            parts.append(Part(place + 1, group, "complete", digits.value([group])))
        elif group:
            parts.append(Part(place + 1, group, "wrong" if len(group) == digits.GROUP else "partial"))
    extra = max(0, len(typed) - form.groups * digits.GROUP)
    return _judged("group", form.groups, parts, form, extra, _foreign(re.sub("[0-9]", "", plain)))


def _typed_words(text: str, form: Form, book: Book) -> Typed:
    """The last word is still being typed until something separates it, unless it is whole or begins no word."""
    found = list(_WORD.finditer(text))
    parts = []
    for number, match in enumerate(found[: form.words], 1):
        typed, place = match[0], book.place(match[0])
        if place is not None:
            parts.append(Part(number, book.words[place], "complete", place))
            continue
        offers = book.offers(typed)
        unfinished = match.end() == len(text) and any(word.startswith(typed) for word in offers)
        parts.append(Part(number, typed, "partial" if unfinished else "wrong", 0, offers))
    foreign = _foreign(re.sub("[a-z0-9]", "", text))
    return _judged("word", form.words, parts, form, max(0, len(found) - form.words), foreign, book)


def _judged(
    unit: Literal["group", "word"], of: int, parts: list[Part], form: Form, extra: int, foreign: tuple[str, ...],
    book: Book | None = None,
) -> Typed:  # fmt: skip
    """Look at the whole, once it is there: check words, and the greatest number there is."""
    number = None
    if len(parts) == of and not extra and not foreign:
        unknown = [part for part in parts if part.state != "complete"]
        if not unknown:
            number, parts = _whole(parts, form, book)
        elif len(unknown) == 1 and book is not None:
            parts = _filled(parts, unknown[0], book)
    wrong = tuple(part.number for part in parts if part.state == "wrong")
    unfinished = next((part.number for part in parts if part.state == "partial"), len(parts) + 1)
    ahead = wrong[0] if wrong else unfinished
    return Typed(unit, of, tuple(parts), wrong, ahead if ahead <= of else None, number, extra, foreign)


def _whole(parts: list[Part], form: Form, book: Book | None) -> tuple[int | None, list[Part]]:
    """The number of complete parts; or the parts of which those to look at are wrong: all of them, if none can be named."""
    found = None
    if book is None:
        number = digits.value([part.text for part in parts])
    else:
        numbers = [part.value for part in parts]
        number, found = _number(numbers), words.mistake(numbers)
        if found is not None and found.right is not None:
            mended = dict(enumerate(numbers)) | dict(zip(found.places, found.right, strict=True))
            # What would not be an ID was not meant.
            if _number([*mended.values()]) >> form.bits:
                found = Mistake((), None)
    if found is None and not number >> form.bits:
        return number, parts
    places = found.places if found and found.places else tuple(range(len(parts)))
    offers: dict[int, tuple[str, ...]] = {}
    if book is not None and found is not None and found.right is not None:
        offers = {place: (book.words[right],) for place, right in zip(places, found.right, strict=True)}
    wrong = {place: parts[place]._replace(state="wrong", offers=offers.get(place, ())) for place in places}
    return None, [wrong.get(place, part) for place, part in enumerate(parts)]


def _number(numbers: Sequence[int]) -> int:
    """The number that words spell, without the two that check."""
    return words.value(numbers[: -words.CHECKS])


def _filled(parts: list[Part], unknown: Part, book: Book) -> list[Part]:
    """Offer the one word that the others leave for a place where none of the list stands, if they agree on it."""
    found = words.mistake([part.value for part in parts])
    places, right = (found.places, found.right) if found is not None else ((unknown.number - 1,), (0,))
    if places != (unknown.number - 1,) or right is None:
        return parts
    return [part._replace(offers=(book.words[right[0]],)) if part is unknown else part for part in parts]


def _mistyped(found: Typed, form: Form) -> KeyturnError:
    looked = [part for part in found.parts if part.state != "complete"]
    numbers = tuple(part.number for part in looked)
    suggestion = None
    if len(looked) == len(found.parts):
        detail = f"more than one {found.unit} is wrong: compare all of the {form.name} with where it came from"
    elif len(looked) <= 2 and all(len(part.offers) == 1 for part in looked):
        expected = [part.offers[0] for part in looked]
        suggestion = {"words": list(numbers), "expected": expected}
        detail = "; ".join(
            f"word {part.number} should probably be {word!r} instead of {part.text!r}"
            for part, word in zip(looked, expected, strict=True)
        )
    else:
        where = ", ".join(map(str, numbers))
        detail = f"look at {found.unit}{'s' if len(numbers) > 1 else ''} {where} of the {form.name}"
        near = looked[0].offers if len(looked) == 1 else ()
        detail += f": perhaps {' or '.join(near)}" if near else ""
    return KeyturnError("code_mistyped", detail, data={**_data(found.unit, numbers), "suggestion": suggestion})


def _data(unit: str, numbers: Sequence[int]) -> dict[str, Any]:
    return {f"{unit}s": list(numbers)}
