"""Many decisions at once: the same rows and answers as one after another, whoever meets whom."""

from __future__ import annotations

import contextlib
import functools
import random
import sqlite3
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyturn.core import hardware, ids
from keyturn.core.errors import Refused
from keyturn.core.ids import Ids
from keyturn.core.terms import Terms
from keyturn.core.trust import Floor
from keyturn.service import recording, seats
from keyturn.service.recording import Asked
from keyturn.service.seats import Issuer
from keyturn.testing import World
from solid.asking import Asker

NOW = 1_800_000_000
SLOTS = ("uuid", "board", "disk", "nic")

# A computer: what its slots hold, none is unknown. Few values, so that computers share parts.
computers = st.dictionaries(st.sampled_from(SLOTS), st.sampled_from("ab"), max_size=4)
# Whose key, which installation, which computer, and which of its requests.
requests = st.tuples(st.integers(0, 2), st.integers(0, 3), computers, st.integers(0, 1))


def tables(db: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that a record touches, whatever the order in which they were written."""
    names = ("product_key", "activation", "seat_pair", "installation", "move", "intent", "audit")
    return {name: sorted(map(tuple, db.execute(f"SELECT * FROM {name}")), key=repr) for name in names}


class Book:
    """A copy of a publisher's database, in memory."""

    def __init__(self, source: sqlite3.Connection) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        source.backup(self.db)
        self.db.execute("PRAGMA foreign_keys=ON")
        self.db.row_factory = sqlite3.Row

    def record(self, asked: Sequence[Asked]) -> list[seats.Intent | Refused]:
        outcomes, rest = recording.record(self.db, asked)
        rest(self.db)
        return outcomes


class SameNames(Ids):
    """The names of one request, whoever records it, and however often."""

    def __init__(self, place: int) -> None:
        super().__init__(lambda count: random.Random(place).randbytes(count))

    def uuid7(self, now: int) -> str:
        return ids.uuid7(now, self.chance(12))


def asked_for(
    askers: Sequence[Asker], drawn: Sequence[tuple[int, int, dict[str, str], int]], issuer: Issuer, begin: int = 0
) -> list[Asked]:
    """The drawn requests, proven. The same draw is the same request; what is made by chance follows from its place."""
    found = []
    for place, (whose, installation, values, number) in enumerate(drawn, begin):
        asker = askers[whose]
        pairs = hardware.pairs(values, asker.product.name)
        _, request, _ = asker.request(pairs=pairs, installation=f"{installation}", nonce=f"{number}")
        thumbprint = f"installation {installation}"
        token = f"{whose} {installation} {sorted(values.items())} {number}"  # What names it; nobody verifies here.
        found.append(Asked(token, request, thumbprint, Terms(), issuer, SameNames(place), NOW + place))
    return found


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.lists(requests, max_size=6), drawn=st.lists(requests, min_size=1, max_size=12), stolen=st.booleans())
def test_many_at_once_are_as_one_after_another(world: World, before: list[Any], drawn: list[Any], stolen: bool) -> None:
    """Same answers and same rows: new seats, known computers, moves, repeated requests, limits, stolen keys, and all mixed."""
    askers = _askers(world)
    first, then = Issuer("p", "k1", Floor(1, "d")), Issuer("p", "k2", Floor(1, "d"), frozenset({"k1"} if stolen else ()))
    known, asked = asked_for(askers, before, first), asked_for(askers, drawn, then, len(before))
    with contextlib.closing(sqlite3.connect(world.publisher.database.path)) as source:
        one, many = Book(source), Book(source)
    for book in (one, many):
        for item in known:
            book.record([item])
    alone = [book_outcome for item in asked for book_outcome in one.record([item])]
    assert many.record(asked) == alone
    assert tables(many.db) == tables(one.db)
    one.db.close()
    many.db.close()


def test_the_check_bites(world: World) -> None:
    """Computers that share hardware, done at once as if they did not, would own one seat each."""
    askers = _askers(world)
    asked = asked_for(askers, [(0, n, dict.fromkeys(SLOTS, "a"), 0) for n in range(3)], Issuer("p", "k1", Floor(1, "d")))
    with contextlib.closing(sqlite3.connect(world.publisher.database.path)) as source:
        honest, careless = Book(source), Book(source)
    honest.record(asked)
    rows = recording._Rows()
    recording._turn(careless.db, asked, rows)
    rows.write(careless.db)
    assert len(tables(honest.db)["activation"]) == 1
    assert len(tables(careless.db)["activation"]) == 3


def test_strangers_are_one_turn(world: World) -> None:
    """Forty new computers of one key are looked up and written in a few statements, not in hundreds."""
    askers = _askers(world)
    chance = random.Random("strangers")
    drawn = [(0, n, {slot: chance.randbytes(4).hex() for slot in SLOTS}, 0) for n in range(LIMITS[0])]
    with contextlib.closing(sqlite3.connect(world.publisher.database.path)) as source:
        book = Book(source)
    statements: list[str] = []
    book.db.set_trace_callback(statements.append)
    outcomes = book.record(asked_for(askers, drawn, Issuer("p", "k1", Floor(1, "d"))))
    assert not any(isinstance(outcome, Refused) for outcome in outcomes)
    print(f"{len(statements)} statements for {len(drawn)} requests")
    assert len(statements) < 20


LIMITS = (40, 2, 1)


@functools.cache
def _askers(world: World) -> tuple[Asker, ...]:
    minted = [world.publisher.mint_all(channel="mak", limit=limit)[0]["key"] for limit in LIMITS]
    return tuple(Asker(world.product, key, random.Random(key)) for key in minted)
