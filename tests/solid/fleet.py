"""Fleets under a virtual clock: years, dead hosts, copied images, thresholds, lost replies. Real code, no mocks (``solid.site``).

Each function plays one story, checks it as it goes, and returns its figure. The large run of 10,000 is ``solid.crowd``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keyturn.core.errors import Refused
from keyturn.core.model import DAY, parse_rfc3339
from keyturn.testing import Clock
from keyturn.testing.computers import load as recorded
from keyturn.testing.computers import synthetic
from solid.site import Host, Pc, Site, pass_days, states

NEW_YEAR = parse_rfc3339("2027-01-01T09:00:00Z")
IMAGES = (
    "office-pc-a", "office-pc-b", "laptop-a", "laptop-b", "server-a", "server-b", "batch-a", "batch-b", "workstation-a",
    "win-laptop-a",
)  # fmt: skip
WHAT = ("renew", "renew", "lose", "lose", "lose", "repeat", "late", "new", "other", "wait")


def _today(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock(), UTC)


def twice_a_year(folder: Path, *, years: int = 3, computers: int = 5, **terms: Any) -> str:
    """Contact on 1 January and 1 July only: licensed on every single day."""
    clock = Clock(NEW_YEAR)
    site = Site(folder, hosts=2, clock=clock, threshold=computers, **terms)
    pcs = [site.pc() for _ in range(computers)]
    days, contacts, looked = 0, 0, 0
    while _today(clock).year < 2027 + years or days == 0:
        today = _today(clock)
        if today.day == 1 and today.month in (1, 7):
            # Whoever was told to wait asks once more: the threshold is met by then.
            waiting = [pc for pc in pcs if isinstance(_asked(pc, site.hosts[0]), Refused)]
            assert not waiting or days == 0, "somebody who is known was refused"
            for pc in waiting:
                pc.licensed()
            contacts += len(pcs)
        for pc in pcs:
            standing = pc.load().standing
            assert standing.state.word == "licensed", (today, standing)
            looked += 1
        days += 1
        pass_days(site, 1)
    site.close()
    return f"{days} days, {computers} computers, {contacts} contacts: licensed on each of {looked} looks, one a day and computer"


def _asked(pc: Pc, host: Host) -> object:
    pc.last = pc.last or host
    return pc.ask()


def both_dead(folder: Path, *, step: int = 1) -> str:
    """One host dies: the other renews. Both die: the rest of 190 days, then 30 days of grace, then notification."""
    site = Site(folder, hosts=2, threshold=1)
    pc = site.pc()
    pc.last = site.hosts[0]
    pc.licensed()
    pass_days(site, 7)
    site.hosts[0].alive = False
    pc.licensed()
    assert pc.last is site.hosts[1], "renewed at the dead host"
    begun = site.clock()
    site.hosts[1].alive = False
    seen: Counter[str] = Counter()
    order: list[str] = []
    # Noon of every day, and the seconds around the two ends.
    ends = {190 * DAY - 1: "licensed", 190 * DAY: "out_of_tolerance_grace", 220 * DAY - 1: "out_of_tolerance_grace",
            220 * DAY: "notification"}  # fmt: skip
    for at in sorted([*(day * DAY + DAY // 2 for day in range(0, 230, step)), *ends]):
        site.clock.time = begun + at
        if at % (7 * DAY) < DAY and at not in ends:
            assert pc.attempt() == "host_not_found"
        state = pc.state
        assert state == ends.get(at, state), (at, pc.load().standing)
        seen[state] += step if at not in ends else 0
        order += [state] if state not in order else []
    assert order == ["licensed", "out_of_tolerance_grace", "notification"], order
    if step == 1:
        assert (seen["licensed"], seen["out_of_tolerance_grace"], seen["notification"]) == (190, 30, 10), seen
    site.hosts[1].alive = True
    site.tend()
    pc.licensed()
    site.close()
    return (
        f"one dead: renewed at the other; both dead: {seen['licensed']} days licensed, {seen['out_of_tolerance_grace']} of grace,"
        " then notification; a host is back: licensed at once"
    )


def copied_image(folder: Path, *, images: Sequence[str] = IMAGES, activated: bool = True, rounds: int = 4) -> str:
    """One installed image on so many recorded computers, the original among them: each is counted, all but one are copies."""
    computers = len(images)
    site = Site(folder, threshold=1 if activated else computers)
    first = site.pc(recorded(images[0]))
    if activated:
        first.licensed()
    pcs = [first, *(site.pc(recorded(name), store=first.store) for name in images[1:])]
    for _ in range(rounds):
        pass_days(site, 7)
        for pc in pcs:
            site.clock.advance(seconds=60)  # In one second it could be a late repetition.
            pc.ask()
    (host,) = site.hosts
    found = host.figures()
    guids = {pc.load().guid for pc in pcs}
    kinds = states(pcs)
    site.close()
    assert kinds == ["licensed"] * computers, kinds
    assert len(guids) == computers, f"{len(guids)} installations"
    assert (found["computers"], found["counted"], found["forks"]) == (computers, computers, computers - 1), found
    return f"{found['computers']} computers, {found['forks']} forks resolved, all licensed"


def same_hardware_copies(folder: Path, *, copies: int = 4, rounds: int = 4) -> str:
    """Copies that nobody can tell apart by hardware (it shows nothing individual): found by the chain of their leases."""
    site = Site(folder, threshold=1)
    blank = recorded("wsl-a")
    first = site.pc(blank)
    first.licensed()
    pass_days(site, 7)
    first.licensed()  # Its first lease is presented by now: a copy of the older one would be found at once.
    pcs = [first, *(site.pc(blank, store=first.store) for _ in range(copies - 1))]
    for _ in range(rounds):
        pass_days(site, 7)
        for pc in pcs:
            site.clock.advance(seconds=60)
            pc.ask()
    found, guids = site.hosts[0].figures(), {pc.load().guid for pc in pcs}
    site.close()
    assert len(guids) == copies, f"{len(guids)} installations"
    assert found["forks"] == copies - 1, found
    return f"{copies} copies without individual hardware: {found['forks']} forks resolved by the chain of leases"


def lost_and_repeated(folder: Path, seed: str, *, computers: int = 3, steps: int = 60) -> Counter[str]:
    """Random lives of honest computers: lost replies, repeated and late requests, reinstallation, two hosts. No fork, no drift.

    Raises: AssertionError at the first host that sees a copy, or counts other computers than there are.
    """
    chance = random.Random(seed)
    site = Site(folder, hosts=2, seed=seed, threshold=1)
    pcs = [site.pc() for _ in range(computers)]
    parts = [pc.hardware for pc in pcs]
    sent: list[tuple[int, str]] = []
    met: list[set[int]] = [set() for _ in site.hosts]
    done: Counter[str] = Counter()

    def note(pc: Pc) -> None:
        waiting = pc.shelf.pending()
        if waiting is not None:
            sent.append((pcs.index(pc), waiting.request))

    for _ in range(steps):
        number = chance.randrange(computers)
        pc, what = pcs[number], chance.choice(WHAT)
        done[what] += 1
        if what in ("renew", "lose", "repeat"):
            before = pc.last
            pc.lose_reply = chance.choice((1, 1, 2)) if what == "lose" else 0
            ended = pc.attempt()
            assert ended in ("licensed", "request_superseded", "service_unreachable"), ended
            if ended == "service_unreachable":
                note(pc)
            pc.lose_reply = 0
            host = pc.last or before
            assert host is not None
            met[site.hosts.index(host)].add(number)
            held = pc.load().held
            if what == "repeat" and held is not None:
                for _ in range(chance.randrange(1, 4)):
                    host.ask(held.request)  # The network brings it again.
        elif what == "late" and sent:
            whose, token = chance.choice(sent)
            at = chance.randrange(len(site.hosts))
            if whose in met[at]:  # Elsewhere it would be a first contact, and truly one.
                site.hosts[at].ask(token)
        elif what == "new":
            # Installed anew: another store, the same hardware.
            again = site.pc()
            again.hardware, again.last = parts[number], pc.last
            pcs[number] = again
            sent = [(whose, token) for whose, token in sent if whose != number]
        elif what == "other":
            pc.last = chance.choice(site.hosts)
        else:
            site.clock.advance(seconds=chance.choice((0, 60, 3_600, 3 * DAY, 8 * DAY)))
            site.tend()
        for host, whom in zip(site.hosts, met, strict=True):
            found = host.figures()
            assert found["forks"] == 0, f"{seed}: a false fork after {what}: {dict(done)}"
            assert found["computers"] == len(whom), f"{seed}: {found['computers']} computers, not {len(whom)}, after {what}"
    site.close()
    return done


def threshold(folder: Path, *, wanted: int = 5, servers: int = 2) -> str:
    """Computers ask one after the other: each is told how many more; the last tips it, and all are licensed within one retry."""
    site = Site(folder, threshold=wanted)
    pcs = [site.pc(synthetic(500 + n, "server" if n < servers else "office-pc")) for n in range(wanted)]
    told = []
    for number, pc in enumerate(pcs, 1):
        outcome = pc.ask()
        if number < wanted:
            assert isinstance(outcome, Refused), outcome
            assert outcome.code == "threshold_not_met", outcome
            assert outcome.why.startswith(f"{wanted - number} more computer"), outcome
            told.append(outcome)
            # A hundred requests of one computer are one.
            for _ in range(100 // wanted):
                again = pc.ask()
                assert isinstance(again, Refused) and again.why == outcome.why, again
        else:
            assert not isinstance(outcome, Refused), outcome
    assert told[-1].why.startswith("1 more computer needed"), told[-1]
    site.clock.advance(seconds=max(refused.retry_after or 0 for refused in told))
    for pc in pcs:
        pc.licensed()
    found = site.hosts[0].figures()
    # The count falls, and nobody who is known is refused; a stranger is.
    pass_days(site, 60)
    pcs[0].licensed()
    assert isinstance(site.pc().ask(), Refused)
    site.close()
    assert (found["counted"], found["licensed"], found["needed"]) == (wanted, wanted, 0), found
    retry = (told[0].retry_after or 0) // 3600
    return (
        f"{wanted - servers} clients + {servers} servers: computer {wanted - 1} is told “{told[-1].why}”,"
        f" all {wanted} licensed within one retry ({retry} h)"
    )
