"""Small forms of the campaigns, and that each of them can fail: a planted bug is found."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import faults
from keyturn.core import jws, trust
from keyturn.core.jws import Header, Kind
from keyturn.core.trust import Chain
from keyturn.service import seats
from peers import Authority, Peer, answering, until_gone
from solid import canary, forgeries, hostile, ledger, storm, timing
from solid.faults import Case as Fault
from solid.faults import whole_lines
from solid.hostile import Seen, judge
from solid.hostile_cases import Case


@pytest.mark.system
@pytest.mark.slow
def test_the_last_seats_survive_kills(tmp_path: Path) -> None:
    """Ten seats, forty computers in two processes, three kills: exactly ten granted, everything repeated as before."""
    outcome = storm.last_seats(tmp_path, seed="pytest", limit=10, computers=40, processes=2, kills=3)
    print(outcome.text)
    assert outcome.problems == []
    assert (outcome.figures["granted"], outcome.figures["refused"], outcome.figures["repeated"]) == (10, 30, 40)


@pytest.mark.system
@pytest.mark.slow
def test_kill_cycles(tmp_path: Path) -> None:
    """Six kills under mixed load: activations, repeats and returns are all there."""
    outcome = storm.kill_cycles(tmp_path, seed="pytest", cycles=6, processes=2, computers=8)
    print(outcome.text)
    assert outcome.problems == []
    assert outcome.figures["kills"] == 6


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize(("bug", "found"), [("no-guard", "I2"), ("early-answer", "I1")])
def test_the_storm_finds_a_planted_bug(tmp_path: Path, bug: str, found: str) -> None:
    """Without the counter's guard, and with the answer before the commit, the check fails."""
    outcome = storm.last_seats(tmp_path, seed="pytest", limit=10, computers=40, processes=2, kills=4, bug=bug)
    assert any(problem.startswith(found) for problem in outcome.problems), outcome.problems


@pytest.mark.needs("strace")
@pytest.mark.system
@pytest.mark.slow
def test_failing_writes_and_fsyncs(tmp_path: Path) -> None:
    """Some writes and fsyncs fail, power is lost each time: nothing acknowledged is lost, and each end says why."""
    total, problems = faults.sweep(tmp_path, "pytest", [1, 4, 20])
    print(dict(total))
    assert problems == []
    assert total["faults"] == 12


@pytest.mark.needs("strace")
@pytest.mark.system
@pytest.mark.slow
def test_the_faults_find_a_planted_bug(tmp_path: Path) -> None:
    """Answered before the commit, an activation is lost with the power."""
    bench = faults.Bench(tmp_path, "pytest", bug="early-answer")
    for nth in (3, 4, 5, 6):
        bench.run(Fault(faults.FSYNC, "EIO", nth))
    assert any(problem.startswith("I1") for problem in bench.finish())


def test_a_trace_is_read_whole() -> None:
    """A call that another thread interrupted is one call; what was written after the last fsync is what is lost."""
    trace = '7 pwrite64(5</h/a>, <unfinished ...>\n8 fdatasync(6</h/b>) = 0\n7 <... pwrite64 resumed>""..., 4, 8) = 4\n'
    assert list(whole_lines(trace)) == ["8 fdatasync(6</h/b>) = 0", '7 pwrite64(5</h/a>, ""..., 4, 8) = 4']


@pytest.mark.slow
def test_no_forgery_is_accepted(tmp_path: Path) -> None:
    """Twenty thousand forged answers of nine classes: none accepted, no crash, the honest one accepted before and after."""
    refused, problems = forgeries.run(tmp_path, "pytest", 20_000)
    print(dict(refused))
    assert problems == []
    assert len(refused) == len(forgeries.CLASSES) == 9
    assert refused.total() >= 20_000


def _any_type(_token: str, *kinds: Kind) -> Header:
    found = jws._header(_token)
    return Header(kinds[0], found["kid"], jws.public_from_jwk(found["jwk"]) if "jwk" in found else None)


def _any_time(chain: Chain, token: str, kind: Kind, role: str) -> dict[str, Any]:
    return jws.verify(token, kind, lambda kid: chain.issuing_key(kid, role).public).claims()


def _any_role(chain: Chain, kid: str, _role: str) -> trust.IssuingKey:
    return chain.newest.keys[kid]


class _AnySignature:
    @classmethod
    def from_public_bytes(cls, _data: bytes) -> _AnySignature:
        return cls()

    def verify(self, _signature: bytes, _data: bytes) -> None:
        """Every signature holds."""


PLANTED: Mapping[str, tuple[Any, str, Any, set[str]]] = {
    "typ": (jws, "read_header", _any_type, {"wrong typ", "algorithm confusion"}),
    "time": (Chain, "verify", _any_time, {"issuer's time"}),
    "role": (Chain, "issuing_key", _any_role, {"issuer's role"}),
    "signature": (jws, "Ed25519PublicKey", _AnySignature, {"other roots", "changed"}),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_the_forger_finds_a_planted_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """A verifier that does not look at one thing accepts forgeries of its class."""
    scene: Callable[[Path], forgeries.Scene] = forgeries.Scene
    owner, name, planted, classes = PLANTED[bug]
    made = scene(tmp_path)
    monkeypatch.setattr(forgeries, "Scene", lambda _folder: made)
    monkeypatch.setattr(forgeries, "STORE_EACH", 10**9)
    monkeypatch.setattr(owner, name, planted)
    monkeypatch.setattr(made, "store_accepts", lambda _forgery: True)
    _, problems = forgeries.run(tmp_path, "pytest", 900)
    assert classes <= {problem.partition(":")[0] for problem in problems}


@pytest.mark.system
@pytest.mark.slow
def test_hostile_requests(tmp_path: Path) -> None:
    """Every case that ends by itself is answered 4xx or closed within 100 ms; honest clients are served meanwhile."""
    outcome = hostile.run(tmp_path, "pytest", endless=False)
    print(outcome.text)
    assert outcome.problems == []
    assert outcome.figures["cases"] >= 200


@pytest.mark.parametrize(
    ("seen", "wrong"),
    [
        (Seen((400,), False, 0.01), False),
        (Seen((), True, 0.01), False),
        (Seen((100, 413), True, 0.01), False),
        (Seen((200,), False, 0.01), True),
        (Seen((400, 200), False, 0.01), True),
        (Seen((500,), True, 0.01), True),
        (Seen((400,), False, 0.2), True),
        (Seen((), False, 2.0), True),
        (Seen((0,), True, 0.01), True),
    ],
)
def test_what_counts_as_an_answer_to_a_hostile_request(seen: Seen, wrong: bool) -> None:
    """4xx or closed, quickly, and nothing else behind it."""
    assert (judge(Case("a case", b""), seen) is not None) == wrong


def test_the_attacker_sees_what_a_server_does() -> None:
    """A server that answers a smuggled request, and one that never answers, are both told of."""
    authority = Authority()
    context = hostile.trusting()
    two = b"HTTP/1.1 400 X\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n"
    case = Case("a case", b"GET / HTTP/1.1\r\n\r\n")
    with Peer(answering(two), authority.context()) as peer:
        assert hostile.attack(case, peer.port, context).statuses == (400, 200)
    with Peer(until_gone, authority.context()) as peer:
        seen = hostile.attack(case, peer.port, context)
    assert judge(case, seen) == "a case: neither answered nor closed"


@pytest.mark.system
def test_no_canary_leaves(tmp_path: Path) -> None:
    """Nothing of a person, a computer's serial numbers or a product key is on the wire, in the database, a log or a report."""
    outcome = canary.run(tmp_path)
    print(outcome.text)
    assert outcome.problems == []


def test_the_search_finds_a_canary() -> None:
    """As it is, without its dashes, as bytes, and inside of base64url."""
    key, words = "ABCDE-FGHJK", {"key": "ABCDE-FGHJK", "MAC": "a4:bb:6d:a5:71:76"}
    inside = base64.urlsafe_b64encode(b'{"note":"for ' + key.encode() + b' only"}')
    hay = {
        "a": b"x ABCDE-FGHJK", "b": b"abcdefghjk", "c": canary.opened(b"e30." + inside), "d": b"x\xa4\xbb\x6d\xa5\x71\x76",
        "e": b"nothing",
    }  # fmt: skip
    assert canary.search(hay, words) == ["key in a", "key in b", "key in c", "MAC in d"]


def test_a_difference_in_time_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that takes a little longer for keys that exist is told of."""
    look = seats.look_up

    def slower(*given: Any) -> tuple[str | None, int | None, bytes]:
        found = look(*given)
        if found[1] is not None:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 200)
        return found

    monkeypatch.setattr(seats, "look_up", slower)
    outcome = timing.run(tmp_path, "pytest", calls=300)
    assert any("the time tells" in problem for problem in outcome.problems)


def test_a_budget_is_a_time() -> None:
    """Seconds, minutes and hours, as on the command line."""
    assert [ledger.seconds(text) for text in ("90", "90s", "20m", "2h")] == [90, 90, 1200, 7200]
