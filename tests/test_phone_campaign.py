"""A small form of ``make codes``, and that it can fail: with a weaker code each part finds what was missed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from keyturn.core.phone import digits, words
from keyturn.core.phone.words import Mistake
from solid import phone
from solid.phone import Desk


def test_slips_are_caught() -> None:
    caught, problems = phone.slips("pytest", 20)
    assert problems == []
    assert caught["installation ID: wrong digits"] == 20 * 54 * 9
    assert caught["confirmation ID: wrong digits"] == 20 * 96 * 9
    assert caught["installation ID: wrong words"] == 20 * 16
    assert caught["confirmation ID: wrong words"] == 20 * 26


def test_an_answer_is_for_one_alone() -> None:
    counted, problems = phone.foreign("pytest", 12, judged=3)
    assert problems == []
    assert counted["judged by the pairing"] == 3


def test_guesses_end_at_a_check_at_the_curve_or_at_the_signature() -> None:
    refused, problems = phone.guesses("pytest", 600, judged=3)
    assert problems == []
    assert refused["at a check"] >= 390, "two of three have no right checks"
    assert refused["at the curve"] + refused["at the signature"] >= 190
    assert refused["judged by the pairing"] == 3


def _sum_of_digits(place: int, group: str) -> int:
    """A check that people use and that knows no order."""
    return -(place + sum(map(int, group))) % 10


def _first_sum(word: list[int]) -> Mistake | None:
    """One check word instead of two: it sees a wrong word, and not where."""
    return Mistake((), None) if words._sums(word)[0] else None


@pytest.mark.parametrize(
    ("module", "name", "weaker", "found"),
    [(digits, "check", _sum_of_digits, "swapped digits"), (words, "mistake", _first_sum, "wrong words")],
)
def test_a_weaker_code_is_found_out(
    module: object, name: str, weaker: Callable[..., object], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, weaker)
    assert any(found in problem for problem in phone.slips("pytest", 1)[1])


def test_a_desk_that_takes_everything_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Desk, "takes", lambda *_: True)
    assert phone.foreign("pytest", 3, judged=1)[1]
    assert phone.guesses("pytest", 30, judged=1)[1]


def test_a_desk_that_takes_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is shown by refusals alone."""
    monkeypatch.setattr(Desk, "takes", lambda *_: False)
    assert phone.foreign("pytest", 3, judged=0)[1] == ["no honest answer is taken, so nothing was shown"]
    assert phone.guesses("pytest", 3, judged=0)[1] == ["no honest answer is taken, so nothing was shown"]
