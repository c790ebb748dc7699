"""Numbers as words: eleven bits a word, and two words more that find a wrong one and say the right one.

Keeps: a list of 2048 words and what of it a person meant; the code of the check words. Leaves to others: the list itself
(``keyturn.edge.words``: BIP-39, English) and what a person typed (``spelling``).

- Four letters name a word: no two words of the list begin with the same four.
- The words are a Reed-Solomon code over the field of 2**11 elements, made by x**11 + x**2 + 1, with a = x: for the words'
  numbers c0, c1, ... both sums, of the c and of c[i] * a**i, are zero. The last two words see to that.
- One wrong word is located and the right one offered; every swap of neighbours is found and named. A correction is never
  applied: the person decides.

>>> code([1, 2, 3])
[1, 2, 3, 13, 13]
>>> mistake([1, 2, 7, 13, 13])
Mistake(places=(2,), right=(3,))
>>> mistake([1, 3, 2, 13, 13])
Mistake(places=(1, 2), right=(2, 3))
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final, NamedTuple

from keyturn.core.errors import KeyturnError

BITS: Final = 11  # Of a word.
CHECKS: Final = 2
LETTERS: Final = 4  # That name a word.

_ORDER: Final = (1 << BITS) - 1  # Of a in the field: 2047, so a code may have so many words.


def _powers() -> tuple[tuple[int, ...], dict[int, int]]:
    powers = [1]
    while len(powers) < _ORDER:
        power = powers[-1] << 1
        powers.append(power ^ 0b1000_0000_0101 if power >> BITS else power)
    return tuple(powers), {power: exponent for exponent, power in enumerate(powers)}


_POWER, _LOG = _powers()


class Book:
    """A list of 2048 words, and the number of each in it.

    Raises: ValueError if there are not as many, or if four letters do not tell two of them apart.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._places = {word: place for place, word in enumerate(self.words)}
        self._short = {word[:LETTERS]: word for word in self.words}
        if not len(self.words) == len(self._short) == 1 << BITS:
            raise ValueError("a list has 2048 words, each named by four letters")

    def place(self, typed: str) -> int | None:
        """The number of the word that ``typed`` is: in full, or by at least its first four letters."""
        word = typed if typed in self._places else self._short.get(typed[:LETTERS], "")
        return self._places[word] if word == typed or len(typed) >= LETTERS and word.startswith(typed) else None

    def offers(self, typed: str, most: int = 4) -> tuple[str, ...]:
        """Words that begin so, or else words that look alike; at most ``most``."""
        begin = [word for word in self.words if word.startswith(typed)]
        return tuple((begin or difflib.get_close_matches(typed, self.words, most, 0.6))[:most])

    def word(self, typed: str, place: int) -> str:
        """The word that ``typed`` is; ``place`` counts from 1.

        Raises: KeyturnError ``words_mistyped`` naming the place, and words that look alike.
        """
        number = self.place(typed)
        if number is not None:
            return self.words[number]
        near = self.offers(typed, 3)
        maybe = f"; perhaps {' or '.join(near)}" if near else ""
        raise KeyturnError(
            "words_mistyped", f"word {place}, {typed[:20]!r}, is not in the list{maybe}", data={"words": [place]}
        )


class Mistake(NamedTuple):
    """What can be told of words that are not of the code: which (from 0), and what should stand there, if that is known."""

    places: tuple[int, ...]
    right: tuple[int, ...] | None


def cut(number: int, count: int) -> list[int]:
    """``number`` as so many words' numbers, the most significant first."""
    return [number >> BITS * place & _ORDER for place in reversed(range(count))]


def value(numbers: Sequence[int]) -> int:
    """The number that these words spell."""
    found = 0
    for number in numbers:
        found = found << BITS | number
    return found


def code(data: Sequence[int]) -> list[int]:
    """``data`` with its two check words behind it."""
    first, second = _sums(data)
    at = len(data)
    # c + d = first and c a**at + d a**(at + 1) = second, for the check words c and d.
    d = _times(second ^ _times(first, _POWER[at]), -_LOG[_POWER[at] ^ _POWER[at + 1]], log=True)
    return [*data, first ^ d, d]


def mistake(word: Sequence[int]) -> Mistake | None:
    """What is wrong with these words; ``None`` if nothing is.

    - One wrong word, by e at place i: the sums are e and e * a**i. So the place is their quotient.
    - Two neighbours swapped: the first sum is zero, since a sum does not know order. Several pairs may fit; all are named.
    - Otherwise two words or more are wrong, and no place is named.
    """
    first, second = _sums(word)
    if not first and not second:
        return None
    if first and second:
        place = (_LOG[second] - _LOG[first]) % _ORDER
        if place < len(word):
            return Mistake((place,), (word[place] ^ first,))
    elif second:
        swapped = [
            place
            for place in range(len(word) - 1)
            if _times(word[place] ^ word[place + 1], _LOG[_POWER[place] ^ _POWER[place + 1]], log=True) == second
        ]
        if len(swapped) == 1:
            (place,) = swapped
            return Mistake((place, place + 1), (word[place + 1], word[place]))
        return Mistake(tuple(sorted({at for place in swapped for at in (place, place + 1)})), None)
    return Mistake((), None)


def _sums(word: Sequence[int]) -> tuple[int, int]:
    first = second = 0
    for place, number in enumerate(word):
        first ^= number
        if number:
            second ^= _POWER[(_LOG[number] + place) % _ORDER]
    return first, second


def _times(a: int, b: int, *, log: bool = False) -> int:
    """The product in the field; with ``log`` b is an exponent of a = x."""
    exponent = b if log else _LOG[b]
    return _POWER[(_LOG[a] + exponent) % _ORDER] if a else 0
