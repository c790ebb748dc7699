"""Names of rows: UUIDs of RFC 9562 that sort by time, and within one second by their order."""

from __future__ import annotations

import random
import uuid

import pytest

from keyturn.core import ids
from keyturn.core.ids import Ids

NOW = 1_800_000_000


def test_a_name_says_its_second() -> None:
    """Version, variant and the 48 bits of milliseconds are where the RFC has them."""
    chance = random.Random("name")
    for place in (None, 0, 1, ids.PLACES - 1):
        name = uuid.UUID(ids.uuid7(NOW, chance.randbytes(12), place))
        assert (name.version, name.variant) == (7, uuid.RFC_4122)
        assert (name.int >> 80) // 1000 == NOW
    assert uuid.UUID(ids.uuid4(chance.randbytes(16))).version == 4


def test_names_of_a_second_come_one_after_another() -> None:
    """Whatever the random bytes are, and across seconds too."""
    made = Ids(random.Random("order").randbytes)
    names = [made.uuid7(NOW + second) for second in range(3) for _ in range(2_000)]
    assert names == sorted(set(names))


@pytest.mark.parametrize("byte", [b"\0", b"\xff"])
def test_a_second_holds_more_names_than_it_has_places(byte: bytes) -> None:
    """The last place is shared: its names differ by chance, and stay in their second."""
    made = Ids(lambda count: byte * count)
    made._second, made._place = NOW, ids.PLACES - 2
    names = [made.uuid7(NOW) for _ in range(3)]
    assert names[0] == names[1] == names[2] < made.uuid7(NOW + 1)
    assert (uuid.UUID(names[2]).int >> 80) == NOW * 1000 + 999
