"""Numbers as groups of digits that people read to each other: five digits and one that checks them.

Keeps: Damm's code, and how a number is cut into groups. Leaves to others: what a person typed (``spelling``).

- The check digit is Damm's: every wrong digit and every swap of neighbours makes a group that does not hold, the check digit
  itself included; and most of what is misheard (13 for 30) does too.
- Each group's check starts from the group's own number, so two groups that changed places do not hold either. (There are ten
  starts: from the eleventh group on they come again, ten groups apart.)

>>> spell(8, 2)
('000004', '000082')
>>> holds(2, '000082'), holds(1, '000082'), holds(2, '000028')
(True, False, False)

H. M. Damm, "Total anti-symmetrische Quasigruppen", Marburg 2004; the table of order 10 is the one in general use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

GROUP: Final = 6  # Digits of a group; the last one checks the others.
DATA: Final = 5

_TABLE: Final = (
    "0317598642", "7092154863", "4206871359", "1750983426", "6123045978",
    "3674209581", "5869720134", "8945362017", "9438617205", "2581436790",
)  # fmt: skip
_NEXT: Final = tuple(tuple(map(int, row)) for row in _TABLE)


def spell(number: int, groups: int) -> tuple[str, ...]:
    """``number`` as so many groups. Raises: ValueError if it does not fit."""
    text = f"{number:0{groups * DATA}d}"
    if number < 0 or len(text) != groups * DATA:
        raise ValueError(f"the number does not fit {groups} groups")
    cut = [text[at : at + DATA] for at in range(0, len(text), DATA)]
    return tuple(f"{group}{check(place, group)}" for place, group in enumerate(cut, 1))


def holds(place: int, group: str) -> bool:
    """Whether these six digits can be group ``place`` (from 1): the check goes from the group's number to zero."""
    return len(group) == GROUP and group.isascii() and group.isdecimal() and check(place, group) == 0


def value(groups: Sequence[str]) -> int:
    """The number that groups spell, their check digits left out; 0 for none."""
    return int("".join(group[:DATA] for group in groups) or "0")


def check(place: int, digits: str) -> int:
    """Where the walk over ``digits`` from the row of ``place`` ends: their check digit; 0 if it is among them."""
    state = place % 10
    for digit in digits:
        state = _NEXT[state][ord(digit) - 48]
    return state
