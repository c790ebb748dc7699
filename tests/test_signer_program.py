"""A signer's program that dies, hangs or lies costs nobody a signature, and hands out no false one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.edge.signer_program import FIRST_DELAY, Programs
from signer_world import Unruly


@pytest.fixture
def unruly(tmp_path: Path) -> Iterator[Unruly]:
    made = Unruly(tmp_path / "unruly")
    yield made
    made.mood.write_text("")
    made.holder.close()


BROKEN = ["die", "hang", "nonsense", "no object", "no signature", "endless", "another key"]


@pytest.mark.parametrize("mood", BROKEN)
def test_a_program_that_breaks_once_costs_nobody_anything(unruly: Unruly, mood: str) -> None:
    """It is replaced, and the new one is asked the same: no caller sees it."""
    assert unruly.sign(1)
    unruly.mood.write_text(f"{mood} once")
    assert unruly.sign(2)
    assert len(unruly.pids) == 2
    assert unruly.holder.away is None
    assert None not in unruly.told


@pytest.mark.parametrize("mood", BROKEN)
def test_a_program_that_stays_broken_is_away_and_comes_back(unruly: Unruly, mood: str) -> None:
    """Nothing false is handed out. Who asks is told at once when to come back, and by then it is tried again."""
    assert unruly.sign(1)
    unruly.mood.write_text(mood)
    with pytest.raises(KeyturnError) as broken:
        unruly.sign(2)
    started = len(unruly.pids)
    with pytest.raises(KeyturnError) as again:
        unruly.sign(3)
    assert (broken.value.code, again.value.code) == ("signer_unavailable", "signer_unavailable")
    assert broken.value.retry_after == int(FIRST_DELAY)
    assert len(unruly.pids) == started  # The second was not even asked.
    assert unruly.told.count(None) == 2
    unruly.mood.write_text("")
    unruly.clock.skipped += unruly.holder.pause
    assert unruly.sign(4)
    assert unruly.holder.away is None


def test_a_program_that_says_more_than_asked_is_replaced(unruly: Unruly) -> None:
    """Answers are matched by order; a line too many would shift them."""
    unruly.mood.write_text("chatty")
    for number in range(3):
        assert unruly.sign(number)
    unruly.mood.write_text("")
    assert unruly.sign(4)
    assert len(unruly.pids) > 1


def test_killed_in_the_middle(tmp_path: Path) -> None:
    """Two programs, of which one is killed while both work, again and again: every document gets its signature."""
    unruly = Unruly(tmp_path / "killed", count=2)
    assert unruly.sign()
    for _ in range(4):
        futures = [unruly.holder.submit(unruly.document(number)) for number in range(150)]
        assert futures[20].result(30)
        os.kill(next(pid for pid in reversed(unruly.pids) if _runs(pid)), signal.SIGKILL)
        for number, future in enumerate(futures):
            verified = jws.verify(future.result(30).token, Kind.CERTIFICATE, {unruly.key.kid: unruly.key.public}.get)
            assert verified.claims() == {"number": number}
    assert len(unruly.pids) >= 4
    assert None not in unruly.told
    unruly.holder.close()


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_refusal_is_not_an_outage(unruly: Unruly) -> None:
    """`error` is about one document: the next is asked. `away` is about all; `locked` for good."""
    unruly.mood.write_text("error once")
    with pytest.raises(KeyturnError) as refused:
        unruly.sign(1)
    assert refused.value.code == "signer_unavailable"
    assert "not this one" in refused.value.detail
    assert str(unruly.holder.away) == "None"
    assert unruly.sign(2)
    unruly.mood.write_text("away once")
    for _ in range(2):
        with pytest.raises(KeyturnError) as away:
            unruly.sign(3)
        assert (away.value.code, unruly.holder.away) == ("signer_unavailable", "the key service is away")
    unruly.clock.skipped += unruly.holder.pause
    assert unruly.sign(4)
    unruly.mood.write_text("locked once")
    for _ in range(3):
        with pytest.raises(KeyturnError) as locked:
            unruly.sign(5)
        assert locked.value.code == "signer_locked"
        unruly.clock.skipped += 1_000
    assert len(unruly.pids) == 1


@pytest.mark.parametrize("mood", ["early die", "early nonsense", "early no object", "early away", "early hang"])
def test_a_program_that_cannot_even_say_what_it_holds(unruly: Unruly, mood: str) -> None:
    """The first question is which keys there are; who does not answer it is asked for no signature."""
    unruly.mood.write_text(mood)
    with pytest.raises(KeyturnError) as refused:
        unruly.holder.keys()
    assert refused.value.code == "signer_unavailable"
    unruly.mood.write_text("")
    unruly.clock.skipped += unruly.holder.pause
    assert unruly.holder.keys() == {unruly.key.kid: unruly.key.public}


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """What cannot be started is told by its name."""
    holder = Programs([str(tmp_path / "none")], {})
    with pytest.raises(KeyturnError) as missing:
        holder.keys()
    assert (missing.value.code, str(tmp_path / "none") in missing.value.detail) == ("signer_unavailable", True)
    holder.close()
    with pytest.raises(KeyturnError):
        holder.keys()
