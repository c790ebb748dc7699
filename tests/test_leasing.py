"""The rules of an activation host: who is counted, who is renewed, who is a copy. Pure: a ledger in memory, no keys, no clock.

The property in the middle plays lost, repeated and late replies of one honest computer: it is never called a copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn.core import hardware, leasing
from keyturn.core.documents import Request
from keyturn.core.errors import Refused
from keyturn.core.hosting import HostCertificate, Served
from keyturn.core.leasing import COPIED, OTHER_HARDWARE, SEEN_DAYS, Forked, Granted, Member, Waiting, decide
from keyturn.core.model import DAY, ProductName
from keyturn.core.trust import Floor
from keyturn.testing.world import START

PRODUCT = ProductName("A" * 43, "sample")
SERIAL = 7
Decision = Granted | Forked | Waiting | Refused


def host(threshold: int = 1, capacity: int | None = None, lease_days: int = 190) -> HostCertificate:
    return HostCertificate(
        PRODUCT, "Acme Ink", "host-activation", "guid", bytes(32), START, START + 90 * DAY, "sample-host-1", 1, "acme",
        {SERIAL: Served("standard", ("layers",))}, lease_days, threshold, "all", capacity, "r" * 43, "n" * 22, Floor(1, "d" * 43),
    )  # fmt: skip


def pairs(number: int, *, without: str = "") -> dict[str, str]:
    anchors = {slot: f"{slot}-of-{number}-{number}" for slot in ("uuid", "board", "disk", "nic") if slot not in without}
    return hardware.pairs(anchors, PRODUCT)


class Sent(NamedTuple):
    """A request on its way: what it says, whose key signed it, and its digest."""

    request: Request
    key: str
    digest: str


class Box:
    """A computer with one installation, as the client is: it persists a request, and takes only the answer to that."""

    def __init__(
        self, number: int, *, key: str | None = None, found: dict[str, str] | None = None, ephemeral: bool = False
    ) -> None:
        self.key = key or f"key-{number}"
        self.pairs = pairs(number) if found is None else found
        self.ephemeral = ephemeral
        self.lease: str | None = None
        self.activation: str | None = None
        self.pending: Sent | None = None
        self.made = 0

    def copy(self, found: dict[str, str] | None = None) -> Box:
        twin = Box(0, key=self.key, found=self.pairs if found is None else found)
        twin.lease, twin.activation, twin.made = self.lease, self.activation, self.made + 1_000
        return twin

    def request(self, now: int, *, serial: int = SERIAL) -> Sent:
        self.made += 1
        name = hashlib.sha256(f"{self.key} {self.made} {self.lease} {id(self)}".encode()).hexdigest()
        request = Request(
            PRODUCT, "sample-client-7", serial, "proof", "guid", name[:22], now, 1, self.pairs, {}, "c" * 43, {}, 2, self.lease,
            self.activation, None, None, self.ephemeral, False, 1,
        )  # fmt: skip
        self.pending = Sent(request, self.key, name)
        return self.pending

    def take(self, sent: Sent, book: Book) -> None:
        """The answer to ``sent`` arrives."""
        if self.pending is not sent or sent.digest not in book.issued:
            return
        self.lease, self.activation = book.issued[sent.digest]
        self.pending = None


class Book:
    """A host's ledger in memory, as ``keyturn.host`` keeps it in rows."""

    def __init__(self, certificate: HostCertificate) -> None:
        self.host = certificate
        self.computers: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, dict[str, Any]] = {}
        self.issued: dict[str, tuple[str, str]] = {}
        self.answered = 0

    def member(self, computer: str, now: int, key: str | None) -> Member:
        row = self.computers[computer]
        chain = self.keys[key] if key else {"presented": None, "outstanding": {}, "asked": 0}
        recent = row["counts"] and row["seen"] > now - SEEN_DAYS * DAY
        return Member(
            computer, row["number"], row["since"], row["pairs"], row["leased"], recent, chain["presented"],
            frozenset(chain["outstanding"].values()), chain["asked"],
        )  # fmt: skip

    def counted(self, now: int) -> int:
        return sum(row["counts"] and row["seen"] > now - SEEN_DAYS * DAY for row in self.computers.values())

    def ask(self, sent: Sent, now: int) -> Decision | str:
        """What the host decides, written down; ``"same"`` for a request whose lease is outstanding."""
        request, key, digest = sent
        chain = self.keys.get(key)
        if chain is not None and digest in chain["outstanding"]:
            return "same"
        own = None if chain is None else self.member(chain["computer"], now, key)
        alike = [] if own else [
            self.member(name, now, None) for name, row in self.computers.items() if request.pairs.items() & row["pairs"].items()
        ]  # fmt: skip
        new = f"computer-{len(self.computers) + 1}"
        found = decide(
            request, self.host, own=own, alike=alike, counted=self.counted(now),
            held=sum(r["leased"] for r in self.computers.values()), new_computer=new, new_number=len(self.computers) + 1, now=now,
        )  # fmt: skip
        if isinstance(found, (Refused, Forked)):
            return found
        self.answered += 1
        fresh = {"since": now, "pairs": {}, "leased": False, "counts": not request.ephemeral}
        row = self.computers.setdefault(found.computer, {"number": len(self.computers) + 1, **fresh})
        row["seen"], row["pairs"] = now, {**row["pairs"], **found.add}
        chain = self.keys.setdefault(key, {"computer": found.computer, "presented": None, "outstanding": {}, "asked": 0})
        chain["asked"] = max(chain["asked"], min(request.made_at, now + DAY))
        if isinstance(found, Granted):
            row["leased"] = True
            if found.presented != chain["presented"]:
                chain["presented"], chain["outstanding"] = found.presented, {}
            lease = f"lease-{self.answered}"
            chain["outstanding"][digest] = lease
            self.issued[digest] = (lease, found.computer)
        return found


def activated(book: Book, box: Box, now: int = START) -> Granted:
    sent = box.request(now)
    found = book.ask(sent, now)
    assert isinstance(found, Granted), found
    box.take(sent, book)
    return found


# --- the count ---


def test_the_fourth_is_told_one_more_and_the_fifth_tips_it() -> None:
    """Five computers: four wait, each told how many more; the fifth is licensed at once, the others when they ask again."""
    book, boxes = Book(host(5)), [Box(number) for number in range(5)]
    told = [book.ask(box.request(START + n), START + n) for n, box in enumerate(boxes)]
    assert [(w.counted, w.needed) for w in told[:4] if isinstance(w, Waiting)] == [(1, 4), (2, 3), (3, 2), (4, 1)]
    assert isinstance(told[4], Granted)
    assert isinstance(told[3], Waiting)
    assert "1 more computer needed" in told[3].refused().why
    assert all(isinstance(book.ask(box.request(START + 9), START + 9), Granted) for box in boxes[:4])


def test_a_hundred_requests_of_one_computer_count_once() -> None:
    """Whether it asks with one installation or with a hundred."""
    book, box = Book(host(5)), Box(1)
    assert {book.ask(box.request(START + n), START + n).needed for n in range(100)} == {4}  # type: ignore[union-attr]
    anew = [book.ask(Box(1, key=f"reinstalled-{n}").request(START + n), START + n) for n in range(100)]
    assert {w.counted for w in anew if isinstance(w, Waiting)} == {1}
    assert book.counted(START + 100) == 1


def test_who_is_known_is_never_refused_because_the_count_fell() -> None:
    """Five computers; three are gone for half a year; the two are renewed, a new one waits."""
    book, boxes = Book(host(5)), [Box(number) for number in range(5)]
    for box in boxes * 2:
        sent = box.request(START)
        book.ask(sent, START)
        box.take(sent, book)
    later = START + 180 * DAY
    assert book.counted(later) == 0
    assert [activated(book, box, later).how for box in boxes[:2]] == ["renewed", "renewed"]
    waits = book.ask(Box(99).request(later), later)
    assert isinstance(waits, Waiting)
    assert (waits.counted, waits.needed) == (3, 2)


def test_who_was_counted_long_ago_is_counted_again() -> None:
    """A computer that waited, and comes back after 31 days, is one of the recent again, and not two."""
    book, box = Book(host(2)), Box(1)
    book.ask(box.request(START), START)
    later = START + 31 * DAY
    assert book.counted(later) == 0
    again = book.ask(box.request(later), later)
    assert isinstance(again, Waiting)
    assert again.counted == book.counted(later) == 1


def test_what_keeps_nothing_is_not_counted() -> None:
    """Ten containers do not make a threshold; once it is met they are leased, by the hour."""
    book = Book(host(2))
    for number in range(10):
        found = book.ask(Box(0, key=f"container-{number}", found={}, ephemeral=True).request(START), START)
        assert isinstance(found, Waiting)
        assert found.counted == 0
    book.ask(Box(1).request(START), START)
    book.ask(Box(2).request(START), START)
    leased = book.ask(Box(0, key="container-x", found={}, ephemeral=True).request(START), START)
    assert isinstance(leased, Granted)
    assert leased.ends == START + leasing.EPHEMERAL_HOURS * 3600


def test_a_capacity_is_kept_for_new_ones_only() -> None:
    book, boxes = Book(host(1, capacity=2)), [Box(number) for number in range(3)]
    assert [activated(book, box).how for box in boxes[:2]] == ["new", "new"]
    full = book.ask(boxes[2].request(START), START)
    assert isinstance(full, Refused)
    assert full.code == "host_full"
    assert activated(book, boxes[0], START + DAY).how == "renewed"


def test_a_key_that_is_not_served_is_refused() -> None:
    found = Book(host()).ask(Box(1).request(START, serial=8), START)
    assert isinstance(found, Refused)
    assert found.code == "key_unknown"


def test_a_lease_says_when_the_computer_was_first_leased_and_never_lasts_too_long() -> None:
    """From the first lease on, not from the first time it asked in vain."""
    book, box = Book(host(2)), Box(1)
    book.ask(box.request(START), START)
    book.ask(Box(2).request(START + DAY), START + DAY)
    granted = activated(book, box, START + 2 * DAY)
    assert (granted.since, granted.ends) == (START + 2 * DAY, START + 192 * DAY)
    lease = leasing.lease(box.request(START + 2 * DAY).request, "digest", "thumb", book.host, granted, now=START + 2 * DAY)
    assert (lease.certificate.term, lease.certificate.edition, lease.certificate.features) == ("lease", "standard", ("layers",))


# --- copies ---


def test_copies_of_one_image_on_ten_computers_are_nine_forks() -> None:
    """An image that was activated, on ten computers: the first stays, nine become themselves; ten are counted then."""
    book, original = Book(host()), Box(0)
    activated(book, original)
    copies = [original.copy(pairs(number)) for number in range(1, 10)]
    forked = [book.ask(copy.request(START + 60), START + 60) for copy in copies]
    assert [f.reason for f in forked if isinstance(f, Forked)] == [OTHER_HARDWARE] * 9
    for number in range(1, 10):
        assert activated(book, Box(number, key=f"own-{number}"), START + 70).how == "new"
    assert book.counted(START + 80) == 10


def test_a_restored_snapshot_is_a_rollback_until_the_newer_branch_was_seen() -> None:
    """An old lease presented before the newer one was ever shown is a lost reply; afterwards it is a copy."""
    book, box = Book(host()), Box(1)
    activated(book, box)
    snapshot = box.copy()
    activated(book, box, START + 7 * DAY)
    rolled = book.ask(snapshot.request(START + 8 * DAY), START + 8 * DAY)
    assert isinstance(rolled, Granted)
    assert rolled.rolled_back
    activated(book, box, START + 14 * DAY)
    late = snapshot.copy()
    forked = book.ask(late.request(START + 15 * DAY), START + 15 * DAY)
    assert forked == Forked("computer-1", COPIED)


def test_two_branches_are_told_apart_when_both_have_renewed() -> None:
    """Copy and original both renew from one lease: whoever shows its own branch first stays, the other is the copy."""
    book, box = Book(host()), Box(1)
    activated(book, box)
    activated(book, box, START + DAY)
    twin = box.copy()
    activated(book, box, START + 2 * DAY)
    activated(book, twin, START + 3 * DAY)
    activated(book, box, START + 4 * DAY)
    assert book.ask(twin.request(START + 5 * DAY), START + 5 * DAY) == Forked("computer-1", COPIED)


def test_hardware_is_compared_only_where_both_are_known() -> None:
    """One slot in common says nothing, because only pairs are known: no copy. Fill in what is new; a known slot stays."""
    book, box = Book(host()), Box(1, found=pairs(1, without="uuid board"))
    activated(book, box)
    box.pairs = hardware.pairs({"board": "board-of-1-1", "disk": "disk-of-1-1"}, PRODUCT)
    assert activated(book, box, START + DAY).how == "renewed"
    box.pairs = pairs(2)
    assert book.ask(box.request(START + 2 * DAY), START + 2 * DAY) == Forked("computer-1", OTHER_HARDWARE)


def test_one_changed_part_is_no_other_computer() -> None:
    book, box = Book(host()), Box(1)
    activated(book, box)
    box.pairs = hardware.pairs({**{s: f"{s}-of-1-1" for s in ("uuid", "board", "nic")}, "disk": "a new one"}, PRODUCT)
    assert activated(book, box, START + DAY).how == "renewed"


def test_a_certificate_that_was_deleted_is_no_copy() -> None:
    """An installation that shows no lease at all is renewed; if it is a copy, it is found out when both renew."""
    book, box = Book(host()), Box(1)
    activated(book, box)
    activated(book, box, START + DAY)
    box.lease = box.activation = None
    assert activated(book, box, START + 2 * DAY).rolled_back
    assert not activated(book, box, START + 3 * DAY).rolled_back


def test_a_lease_of_another_host_is_no_link_of_this_chain() -> None:
    """A computer that was renewed elsewhere and comes back is not a copy."""
    book, other, box = Book(host()), Book(host()), Box(1)
    activated(other, Box(77))  # So that the two hosts call the computer differently.
    activated(book, box)
    activated(other, box, START + DAY)
    activated(other, box, START + 2 * DAY)
    assert activated(book, box, START + 3 * DAY).how == "renewed"


# --- lost, repeated and late replies ---

STEPS = st.lists(
    st.sampled_from(["ask", "lost", "repeat", "again", "late", "forget", "elsewhere", "ahead", "behind", "later"]), max_size=40
)


def play(steps: list[str], chooser: Callable[[int], int]) -> list[Decision | str]:
    """One honest computer in bad weather: what two hosts decided about everything it ever sent."""
    books = [Book(host()), Book(host())]
    activated(books[1], Box(50))
    box, now, offset = Box(1), START, 0
    sent: list[tuple[int, Sent]] = []
    found: list[Decision | str] = []

    def ask(one: Sent, at: int, *, arrives: bool) -> None:
        sent.append((at, one))
        found.append(books[at].ask(one, now))
        if arrives:
            box.take(one, books[at])

    for step in steps:
        now += 1
        if step in ("ask", "elsewhere"):
            ask(box.pending or box.request(now + offset), int(step == "elsewhere"), arrives=True)
        elif step == "lost":
            ask(box.pending or box.request(now + offset), 0, arrives=False)
        elif step == "again":  # Something about the computer changed, so the request is made anew.
            ask(box.request(now + offset), 0, arrives=bool(chooser(1)))
        elif step in ("repeat", "late") and sent:  # The network says something twice, now or much later.
            at, one = sent[-1 if step == "repeat" else chooser(len(sent) - 1)]
            ask(one, at, arrives=bool(chooser(1)))
        elif step == "forget":
            box.lease = box.activation = None
        elif step in ("ahead", "behind"):
            offset += 3600 if step == "ahead" else -3600
        elif step == "later":
            now += 7 * DAY
    return found


@settings(max_examples=1_000, deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
def test_lost_repeated_and_late_replies_never_fork(steps: list[str], chance: Any) -> None:
    """Whatever the network loses, repeats or delays, and however the clock is set: no honest computer is called a copy."""
    found = play([*steps, "ask", "ask"], lambda most: chance.randint(0, most))
    assert not [one for one in found if isinstance(one, Forked)]


def test_a_late_repetition_is_told_that_it_is_late() -> None:
    """The request before the last one, once more: its lease was shown since, so it is superseded, and nobody is called a copy."""
    book, box = Book(host()), Box(1)
    activated(book, box)
    old = box.request(START + DAY)
    book.ask(old, START + DAY)
    box.take(old, book)
    activated(book, box, START + 2 * DAY)
    activated(book, box, START + 3 * DAY)
    late = book.ask(old, START + 4 * DAY)
    assert isinstance(late, Refused)
    assert late.code == "request_superseded"


# --- planted bugs ---



def test_the_property_would_notice_a_host_that_believes_no_lost_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were only the newest lease good, one lost reply would make a copy."""
    real = leasing.decide

    def strict(request: Request, host: HostCertificate, **around: Any) -> Decision:
        own = around["own"]
        if own is not None and request.previous != max(own.outstanding, default=own.presented):
            return Forked(own.computer, COPIED)
        return real(request, host, **around)

    monkeypatch.setitem(globals(), "decide", strict)
    found = play(["ask", "ask", "lost", "again", "ask"], lambda _most: 0)
    assert any(isinstance(one, Forked) for one in found)


def test_the_property_would_notice_a_host_that_knows_no_late_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the time of requests not looked at, a repetition that is late would make a copy."""
    real = leasing.decide

    def timeless(request: Request, host: HostCertificate, **around: Any) -> Decision:
        own = around["own"]
        return real(request, host, **{**around, "own": None if own is None else own._replace(asked=0)})

    monkeypatch.setitem(globals(), "decide", timeless)
    found = play(["ask", "ask", "ask", "late"], lambda _most: 1)
    assert any(isinstance(one, Forked) for one in found)


def test_the_count_would_notice_a_host_that_counts_installations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were hardware not looked at, one computer that is installed again and again would reach the threshold alone."""
    real = leasing.decide

    def blind(request: Request, host: HostCertificate, **around: Any) -> Decision:
        return real(request, host, **{**around, "alike": []})

    monkeypatch.setitem(globals(), "decide", blind)
    book = Book(host(5))
    found = [book.ask(Box(1, key=f"reinstalled-{n}").request(START), START) for n in range(5)]
    assert isinstance(found[-1], Granted)
