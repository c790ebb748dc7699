"""Ten thousand computers and two activation hosts under a virtual clock, with an outage of both: do they come back one by one?

Real: both hosts (``keyturn.host.leasing``, SQLite, their certificates' renewal), every signed request and lease, and on each
computer the agent's diary with its jitter and back-off (``client.agent_diary``, ``core.schedule``) and the decision where the
copy stands (``core.license``). Left out for speed: stores, and the network. Of the leases one in ``SAMPLE`` is verified with
its whole chain, as the client does; all were made by the same code.
"""

from __future__ import annotations

import hashlib
import heapq
import multiprocessing
import random
import statistics
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from keyturn.client.agent_diary import Diary
from keyturn.client.agent_turn import Report
from keyturn.core import containers, hardware, jws, license, schedule, trust
from keyturn.core.documents import FACTS, UNAVAILABLE, Certificate, Request
from keyturn.core.hardware import Tolerance
from keyturn.core.jws import Kind
from keyturn.core.leasing import Waiting
from keyturn.core.license import Held, Standing
from keyturn.core.model import DAY, Channel, State, b64u, product_id
from keyturn.core.srv import Place, order
from keyturn.edge import sodium
from keyturn.host.leasing import Recorded
from solid.site import Host, Site

HOUR = 3600
SAMPLE = 50
SALT = bytes(16)
SLICE = 600  # Seconds whose arrivals are decided in one commit.
NAME = "product"
SAME: Tolerance = hardware.same({"anchor.disk": "a"}, {"anchor.disk": "a"})


class Arrivals(NamedTuple):
    """How many computers a host answered, by the hour; ``tried`` also counts those that found nobody."""

    answered: Counter[int]
    tried: Counter[int]


class One:
    """One computer: its keys, its newest lease, its agent's diary."""

    def __init__(self, crowd: Crowd, number: int, begin: int) -> None:
        self.number = number
        self.chance = random.Random(f"{crowd.site.seed} one {number}")
        self.signer = sodium.signer(hashlib.sha256(f"one {number}".encode()).digest())
        anchors = {"uuid": f"uuid-{number}-one", "board": f"board-{number}-one", "disk": f"disk-{number}-one"}
        self.pairs = hardware.pairs(anchors, crowd.product.name)
        self.commitment = hardware.commitment({}, SALT)
        self.diary = Diary(begin, self.chance.random)
        self.diary.turned({NAME: Report("activation", None, False, None, None)}, begin, minute_of=_minute, open_at=_always)
        self.certificate: Certificate | None = None
        self.lease: str | None = None
        self.last: Place | None = None
        self.waiting: str | None = None

    @property
    def next(self) -> int:
        return self.diary.contacts[NAME]

    def request(self, crowd: Crowd, now: int) -> str:
        """The request that waits for its answer, or a new one."""
        if self.waiting is None:
            held = self.certificate
            request = Request(
                product=crowd.product.name, product_id=crowd.product_id, serial=crowd.serial, key_proof="x" * 43,
                installation=f"11111111-0000-4000-8000-{self.number:012d}", nonce=b64u(self.chance.randbytes(16)), made_at=now,
                scheme=hardware.SCHEME, pairs=self.pairs, tags={}, commitment=self.commitment, facts=crowd.facts,
                state=int(State.LICENSED), previous=None if self.lease is None else jws.digest(self.lease),
                activation=None if held is None else held.activation, vm=None, container=None, ephemeral=False,
                allow_ephemeral=False, bundle=crowd.chain.newest.number,
            )  # fmt: skip
            self.waiting = jws.sign(Kind.REQUEST, request.claims(), self.signer.public, self.signer.sign, own=True)
        return self.waiting

    def standing(self, crowd: Crowd, now: int) -> Standing:
        return license.decide(
            product=crowd.product, record=None, certificate=self.certificate, why_not=None,
            tolerance=None if self.certificate is None else SAME, clock=now,
        )  # fmt: skip

    def turned(self, now: int, code: str | None, retry_after: int | None, renew_after: int | None) -> None:
        """What the agent writes down after a contact."""
        held = self.certificate
        if held is None or code is not None:
            left = None if held is None or held.expires_at is None else held.expires_at - now
            wants = "activation" if held is None else "renewal"
            report = Report(wants, None if held is None else 0, True, code, retry_after, left)
        else:
            at = schedule.renewal(held.issued_at, held.expires_at, renew_after, self.diary.chances[NAME])
            report = Report("renewal", None if at is None else at - now, True, None, None)
        self.diary.turned({NAME: report}, now, minute_of=_minute, open_at=_always)


def _minute(_time: int) -> int:
    return 0


def _always(_minute_of_day: int) -> bool:
    return True


class Crowd:
    """Two hosts and many computers that are rolled out within a week."""

    def __init__(self, folder: Path, *, computers: int, seed: str) -> None:
        self.site = site = Site(folder, hosts=2, seed=seed)
        opened = containers.open_product(containers.expect(site.world.product, "product"))
        self.product, self.chain = opened.product, opened.chain
        host = site.hosts[0].permit.tokens[0][0]
        (self.serial,) = host.serves
        self.product_id = product_id(self.product.name.slug, Channel.CLIENT, self.serial)
        self.facts = {name: {UNAVAILABLE: "a crowd"} for name in FACTS}
        self.places = {Place(f"host-{n}", 8444): host for n, host in enumerate(site.hosts)}
        self.begin = site.clock()
        spread = random.Random(f"{seed} roll-out")
        self.all = [One(self, number, self.begin + spread.randrange(7 * DAY)) for number in range(computers)]
        self.verified = self.granted = 0
        self.arrivals = Arrivals(Counter(), Counter())
        self.locked_out: set[int] = set()

    def play(self, *, days: int, outage: tuple[int, int]) -> None:
        """Let days pass; within ``outage`` (days from, to) no host answers."""
        agenda = [(one.next, one.number) for one in self.all]
        heapq.heapify(agenda)
        end, tended = self.begin + days * DAY, self.begin
        while agenda[0][0] < end:
            first = agenda[0][0] // SLICE * SLICE
            due = []
            while agenda[0][0] < first + SLICE:
                due.append(self.all[heapq.heappop(agenda)[1]])
                if not agenda:
                    break
            self.site.clock.time = now = max(one.next for one in due)
            while tended + DAY <= now:
                tended += DAY
                self.site.tend()
            dead = outage[0] * DAY <= now - self.begin < outage[1] * DAY
            for host in self.site.hosts:
                host.alive = not dead
            self._contact(due, now)
            for one in due:
                heapq.heappush(agenda, (one.next, one.number))
        self.site.clock.time = end
        self.locked_out |= {one.number for one in self.all if one.standing(self, end).state is not State.LICENSED}

    def _contact(self, due: Sequence[One], now: int) -> None:
        """All that are due now ask; each host decides its part in one commit."""
        hour = (now - self.begin) // HOUR
        asked: list[tuple[One, Host, Any, Any]] = []
        for one in due:
            if one.certificate is not None and one.standing(self, now).state is not State.LICENSED:
                self.locked_out.add(one.number)
            self.arrivals.tried[hour] += 1
            ordered = order(list(self.places), lambda most, one=one: one.chance.randint(0, most))  # type: ignore[misc]
            chosen = next((p for p in sorted(ordered, key=lambda p: p != one.last) if self.places[p].alive), None)
            if chosen is None:
                one.turned(now, "host_not_found", None, None)
                continue
            one.last, host = chosen, self.places[chosen]
            self.arrivals.answered[hour] += 1
            proven = host.leasing.prove(one.request(self, now))
            asked.append((one, host, proven, host.leasing.record(proven, host.database.write)))
        for one, host, proven, future in asked:
            outcome = future.result()
            if isinstance(outcome, Waiting):
                refused = host.leasing.waits(proven, outcome)
                one.turned(now, refused.code, refused.retry_after, None)
                continue
            assert isinstance(outcome, Recorded) and outcome.kind is Kind.LEASE, f"{one.number}: {outcome}"
            self._take(one, host.leasing.answer(proven, outcome), now)

    def _take(self, one: One, answer: dict[str, Any], now: int) -> None:
        self.granted += 1
        token, asked = answer["lease"], one.waiting
        assert asked is not None
        if answer["bundles"]:  # All of these computers know what one of them was told.
            self.chain = trust.longer(self.chain.texts, answer["bundles"], self.product.name.thumbprint)
        if self.granted % SAMPLE == 0:
            held = Held(token, asked, {}, SALT, host=answer["host"])
            one.certificate = license.check_certificate(held, self.product, self.chain, one.signer.kid)
            self.verified += 1
        else:
            one.certificate = Certificate.read(jws.loads(jws.payload_of(token)))
        one.lease, one.waiting = token, None
        one.turned(now, None, None, answer["renew_after"])


class Figures(NamedTuple):
    """What came of a run. ``mean`` is the renewals per hour of so many computers when all is well; peaks are times that."""

    mean: float
    before: float
    after: float
    within: float
    leases: int
    verified: int
    locked_out: int
    computers: int

    @property
    def text(self) -> str:
        return (
            f"{self.computers} computers, {self.leases} leases ({self.verified} verified whole), {self.mean:.1f} an hour in the"
            f" mean; peak before the outage {self.before:.2f} × the mean, after it {self.after:.2f} × (attempts within it:"
            f" {self.within:.2f} ×); locked out wrongly: {self.locked_out}"
        )


class Played(NamedTuple):
    """What one share of the computers did, by the hour."""

    answered: Counter[int]
    tried: Counter[int]
    leases: int
    verified: int
    locked_out: int


def play(folder: Path, computers: int, days: int, outage: tuple[int, int], seed: str) -> Played:
    """Play one share. Whoever holds no lease in the end was locked out too; no host may have seen a copy."""
    crowd = Crowd(folder, computers=computers, seed=seed)
    crowd.play(days=days, outage=outage)
    found = [host.figures() for host in crowd.site.hosts]
    assert all(one["forks"] == 0 for one in found), found
    crowd.site.close()
    return Played(*crowd.arrivals, crowd.granted, crowd.verified, len(crowd.locked_out))


def run(
    folder: Path, *, computers: int = 10_000, days: int = 190, outage: tuple[int, int] = (80, 101), seed: str = "crowd",
    hours: int = 1, processes: int = 2,
) -> Figures:  # fmt: skip
    """Play it in ``processes`` shares, each with its computers' part of both ledgers, and read off the figures.

    ``mean`` is taken from the end of the roll-out to the outage; peaks are of ``hours`` together: fewer computers need longer
    ones, or the peak is that of chance alone.
    """
    if processes == 1:
        shares = [play(folder, computers, days, outage, seed)]
    else:
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            tasks = [
                pool.submit(play, folder / str(n), computers // processes, days, outage, f"{seed} {n}") for n in range(processes)
            ]
            shares = [task.result() for task in tasks]
    answered, tried = Counter[int](), Counter[int]()
    for share in shares:
        for hour, count in share.answered.items():
            answered[hour // hours] += count
        for hour, count in share.tried.items():
            tried[hour // hours] += count

    def part(counts: Counter[int], first: int, last: int) -> list[int]:
        return [counts[place] for place in range(-(-first * 24 // hours), last * 24 // hours)]

    quiet = part(answered, 14, outage[0])
    mean = statistics.fmean(quiet)
    return Figures(
        mean / hours, max(quiet) / mean, max(part(answered, outage[1], days)) / mean, max(part(tried, *outage)) / mean,
        sum(share.leases for share in shares), sum(share.verified for share in shares),
        sum(share.locked_out for share in shares), computers,
    )  # fmt: skip
