"""How often is one computer taken for two, or two for one? A seeded simulation of whole populations.

``python tests/seat_simulation.py [--computers N] [--seed S] [--rule keyturn|weights-only|one-digest] [--json]`` runs at
100, 10,000 and 1,000,000 computers unless told otherwise; ``--reidentify`` measures how fast tags could be guessed,
``--by-class`` tries each class of computers alone (``seat_classes``).
The figures are kept in docs/decisions/0002-seat-identity.md, with the population's model (``MODEL``) and its limits.

- All computers stand under one product key, the worst case: every one is compared with every other (by index, so O(n)).
- Identity runs the real ``pairs`` and ``find_seat``. Tolerance runs the real ``same`` on plain values instead of their
  128-bit tags, which only equality is asked of: that is what makes a million computers affordable.
- A rule passes with at most ``FALSE_SAME`` wrong joins and ``FALSE_DIFFERENT`` wrong splits. Two planted rules must fail:
  "25 of 35 by weight and nothing else", and "one digest over the set of anchors".
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from keyturn.core.hardware import CHANGED_TOO_MUCH, WEIGHTS, Seat, find_seat, pairs, same
from keyturn.core.model import ProductName

PRODUCT = ProductName("S" * 43, "simulated")
FALSE_SAME = 1e-4  # of computers
# Of stores copied to the neighbour of the same model: the price of "one of two anchors is enough". It is paid only where
# a batch shares an unlisted disk serial number or address, and such a copy shows itself as a fork at its first contact.
COPY_HOLDS = 5e-3
FALSE_DIFFERENT = 5e-3  # of requests, and of yearly checks
FEW = 2  # that many single cases prove nothing in a small population

# The population: shares of computers, and rates per computer and year. They are assumptions, chosen on the dark side.
MODEL: Mapping[str, float] = {
    "fleet_largest": 2_000,  # fleets of one model and one image; sizes spread evenly over the orders of magnitude
    "vm": 0.18, "vm_copied_uuid": 0.02, "weak": 0.08,  # the rest are physical
    "always_root": 0.45, "never_root": 0.35, "container": 0.03,  # of physical ones; the rest is root now, a user then
    "board_placeholder_listed": 0.10, "uuid_from_adapter": 0.04,  # of fleets
    "uuid_shared": 0.02, "board_shared": 0.03, "both_shared": 0.001,  # of fleets: a batch, not on any list
    "disk_shared": 0.002, "nic_shared": 0.001,  # of fleets: a batch with equal serial numbers or addresses
    "batch": 50,  # computers that share such a value
    "reinstalled": 0.15, "new_disk": 0.03, "new_disk_copied": 0.5, "new_adapter": 0.01, "new_board": 0.01, "other_part": 0.06,
    "years": 3,
}  # fmt: skip
PHYSICAL = ("uuid", "board", "disk", "nic")


class View(NamedTuple):
    """One computer as one run of the probe sees it."""

    anchors: Mapping[str, str]
    components: Mapping[str, str]


class Machine:
    """One simulated computer: what it truly holds, and how it is run."""

    stated = "copied UUID, cannot be told"  # Why two of kind ``copied`` may share a seat.

    def __init__(self, number: int, fleet: int, chance: random.Random, traits: Mapping[str, bool]) -> None:
        self.number, self.fleet, self.chance, self.traits = number, fleet, chance, traits
        self.changes = 0
        draw = chance.random()
        shares = (("copied", "vm_copied_uuid"), ("vm", "vm"), ("weak", "weak"))
        self.kind = "physical"
        for kind, share in shares:
            draw -= MODEL[share]
            if draw < 0:
                self.kind = kind
                break
        draw = chance.random()
        self.run_as = "both"
        for way, share in (("root", "always_root"), ("user", "never_root"), ("container", "container")):
            draw -= MODEL[share]
            if draw < 0:
                self.run_as = way
                break
        self.parts = {name: f"{name}/{fleet}" for name in WEIGHTS}
        self.anchors = self._anchors()

    def _anchors(self) -> dict[str, str]:
        batch = self.number // int(MODEL["batch"])
        if self.kind == "copied":  # Pairs of virtual machines with one UUID: nothing can tell them apart.
            return {"vm": f"copied{self.number // 100}"}
        if self.kind == "vm":
            return {"vm": f"vm{self.number}"}
        if self.kind == "weak":
            return {}
        found = {"uuid": f"u{self.number}", "board": f"b{self.number}", "disk": f"d{self.number}", "nic": f"n{self.number}"}
        for slot in PHYSICAL:
            if self.traits[f"{slot}_shared"]:
                found[slot] = f"{slot}-of-batch{batch}"
        if self.traits["placeholder"]:
            del found["uuid"], found["board"]
        elif self.traits["uuid_from_adapter"]:
            mac = f"{0xA4BB6D000000 + self.number % (1 << 24):012x}"
            found["nic"], found["uuid"] = mac, f"4c4c4544004d164b8cb7{mac}"
        return found

    def view(self) -> View:
        """Return what a run sees now: a user no firmware serial numbers, a container (root inside) no adapter."""
        seen = dict(self.anchors)
        if self.run_as == "container":
            seen.pop("nic", None)
        elif self.run_as == "user" or (self.run_as == "both" and self.chance.random() < 0.5):
            for slot in ("uuid", "board"):
                seen.pop(slot, None)
        physical = self.kind == "physical"
        shown = WEIGHTS if physical else ("processor", "memory", "network_adapter")
        components = {name: self.parts[name] for name in shown}
        if physical and "disk" in seen:
            components["disk"] = seen["disk"]
        return View(seen, components)

    def shared(self) -> str:
        """Say what this computer shares with its batch, and how it is run."""
        return (
            f"{'+'.join(slot for slot in PHYSICAL if self.traits[f'{slot}_shared']) or 'nothing'} is shared, as {self.run_as}"
        )

    def year(self) -> tuple[bool, bool]:
        """Let a year pass: return whether the board is another, and whether the system was installed anew."""
        chance = self.chance
        anew = chance.random() < MODEL["reinstalled"]
        if self.kind != "physical":
            return False, anew
        self.changes += 1
        mark = f"{self.number}.{self.changes}"
        if chance.random() < MODEL["new_disk"]:
            self.anchors["disk"] = f"d{mark}"
            anew = anew or chance.random() >= MODEL["new_disk_copied"]
        if chance.random() < MODEL["new_adapter"]:
            self.anchors["nic"] = f"n{mark}"
            self.parts["network_adapter"] = f"card {mark}"
        if board := chance.random() < MODEL["new_board"]:
            for slot in ("uuid", "board", "nic"):
                if slot in self.anchors:
                    self.anchors[slot] = f"{slot}{mark}"
        if chance.random() < MODEL["other_part"]:
            part = chance.choice(("memory", "display", "audio", "optical", "storage_adapter", "processor"))
            self.parts[part] = f"{part} {mark}"
        return board, anew


class Rule(Protocol):
    """A rule under trial: the service's book of seats, and the client's question."""

    moves: int

    def ask(self, view: View, name: int, moving: bool) -> int | None: ...
    def holds(self, baseline: View, now: View) -> bool: ...


class Keyturn:
    """The project's rule, by the project's code; the book is an index by pair and tag."""

    def __init__(self, bits: int = 64) -> None:
        self.digits = bits // 4
        self.rows: dict[str, int] = {}
        self.seats: dict[int, tuple[str, ...]] = {}
        self.moves = 0

    def ask(self, view: View, name: int, moving: bool) -> int | None:
        """Return the seat a request belongs to, taking a new one (or moving its own) if there is none; None: ambiguous."""
        request = {pair: tag[: self.digits] for pair, tag in pairs(view.anchors, PRODUCT).items()}
        if not request:
            return name  # Weak evidence: the seat is the installation key.
        owners = {self.rows[f"{pair} {tag}"] for pair, tag in request.items() if f"{pair} {tag}" in self.rows}
        candidates = [Seat(f"{owner:09}", dict(row.split(" ", 1) for row in self.seats[owner])) for owner in owners]
        found = find_seat(request, candidates, f"{name:09}")
        if found.ambiguous:
            return None
        seat = name if found.seat is None else int(found.seat)
        if found.seat is None and moving:
            self.moves += 1
            for row in self.seats.pop(name, ()):
                del self.rows[row]
        added = tuple(f"{pair} {tag}" for pair, tag in found.add.items())
        self.seats[seat] = self.seats.get(seat, ()) + added
        for row in added:
            self.rows[row] = seat
        return seat

    def holds(self, baseline: View, now: View) -> bool:
        return same(_plain(baseline), _plain(now)).same


class WeightsOnly:
    """Planted: "25 of 35 and nothing else". The seat is the first whose components differ by less than 25."""

    def __init__(self) -> None:
        self.first: dict[tuple[str, ...], tuple[int, View]] = {}
        self.moves = 0

    def ask(self, view: View, name: int, moving: bool) -> int | None:
        group = tuple(view.components.get(part, "") for part in ("firmware", "processor"))
        seat, owner = self.first.setdefault(group, (name, view))
        return seat if self.holds(owner, view) else name

    def holds(self, baseline: View, now: View) -> bool:
        both = baseline.components.keys() & now.components.keys()
        changed = sum(WEIGHTS[part] for part in both if baseline.components[part] != now.components[part])
        return changed < CHANGED_TOO_MUCH


class OneDigest:
    """Planted: one digest over the set of anchors. Whatever changes, or is read once and not again, makes another computer."""

    def __init__(self) -> None:
        self.seats: dict[bytes, int] = {}
        self.moves = 0

    def ask(self, view: View, name: int, moving: bool) -> int | None:
        if not view.anchors:
            return name
        return self.seats.setdefault(_digest(view), name)

    def holds(self, baseline: View, now: View) -> bool:
        return _digest(baseline) == _digest(now)


RULES = {"keyturn": Keyturn, "weights-only": WeightsOnly, "one-digest": OneDigest}


def _digest(view: View) -> bytes:
    return hashlib.sha256(json.dumps(sorted(view.anchors.items())).encode()).digest()


def _plain(view: View) -> dict[str, str]:
    found = {f"anchor.{slot}": value for slot, value in view.anchors.items()}
    return found | {f"component.{part}": value for part, value in view.components.items()}


def population(count: int, chance: random.Random, klass: type[Machine] = Machine) -> Iterator[Machine]:
    """Yield the computers, fleet by fleet."""
    number = fleet = 0
    while number < count:
        fleet += 1
        size = min(int(MODEL["fleet_largest"] ** chance.random()), count - number)
        both = chance.random() < MODEL["both_shared"]
        traits = {f"{slot}_shared": chance.random() < MODEL[f"{slot}_shared"] for slot in PHYSICAL}
        traits["uuid_shared"], traits["board_shared"] = traits["uuid_shared"] or both, traits["board_shared"] or both
        traits["placeholder"] = chance.random() < MODEL["board_placeholder_listed"]
        traits["uuid_from_adapter"] = chance.random() < MODEL["uuid_from_adapter"]
        for _ in range(size):
            yield klass(number, fleet, chance, traits)
            number += 1


class Result(NamedTuple):
    """What came out; counts of computers, requests or checks, and the rates the rule is judged by."""

    rule: str
    computers: int
    seed: int
    counts: Mapping[str, int]
    false_same: float
    false_different: float
    copied_store: float
    check_failed: float
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the rule stays within the limits; ``FEW`` single cases are allowed."""
        limits = (
            (self.false_same, self.computers, FALSE_SAME),
            (self.copied_store, self.counts["stores copied"], COPY_HOLDS),
            (self.false_different, self.counts["requests promised"], FALSE_DIFFERENT),
            (self.check_failed, self.counts["checks promised"], FALSE_DIFFERENT),
        )
        return all(rate * total <= FEW + limit * total for rate, total, limit in limits)

    def lines(self) -> str:
        """Return the result for people."""
        word = "passes" if self.passed else "FAILS"
        text = f"{self.rule} at {self.computers:,} computers, seed {self.seed}: {word} ({self.seconds:.0f} s)\n"
        text += f"  identity   false same {self.false_same:.2e}   false different {self.false_different:.2e}\n"
        text += f"  tolerance  copied store holds {self.copied_store:.2e}   honest check fails {self.check_failed:.2e}\n"
        return text + "".join(f"    {name:56} {value:>10,}\n" for name, value in sorted(self.counts.items()) if value)


def simulate(computers: int, seed: int, rule: str = "keyturn", bits: int = 64, klass: type[Machine] = Machine) -> Result:
    """Run one population through activation and ``years`` of changes under one rule.

    1. Every computer activates once; whose seat it gets is compared with the truth.
    2. Its store is copied to the neighbour in the fleet: the certificate must not hold there.
    3. Each year things change; the client checks itself, and asks again if it must (or was installed anew). Promised to
       hold: no new board, and at most one of two or more anchors changed since the certificate was made.
    4. Promised to cost nothing: no new board, and at most one of three or more known anchors changed since (none of two).
    """
    started, chance, counts = time.monotonic(), random.Random(f"seats/{seed}"), Counter[str]()
    book: Rule = Keyturn(bits) if rule == "keyturn" else RULES[rule]()
    machines: list[Machine] = []
    baseline: list[View] = []
    owner: dict[int, int] = {}  # seat to computer
    mine: list[int | None] = []  # computer to seat
    # 1.
    for machine in population(computers, chance, klass):
        view = machine.view()
        seat = book.ask(view, machine.number, False)
        machines.append(machine)
        baseline.append(view)
        mine.append(seat)
        counts["computers " + machine.kind] += 1
        if seat is None:
            counts["ambiguous"] += 1
        elif owner.setdefault(seat, machine.number) != machine.number:
            apart = machine.kind == "copied" and machines[owner[seat]].kind == "copied"
            counts[f"one seat: {machine.stated}" if apart else "FALSE SAME"] += 1
            counts[f"false same where {machine.shared()}"] += not apart
    # 2.
    for machine, view in zip(machines, baseline, strict=True):
        other = (machine.number + 1) % computers
        if not view.anchors:
            counts["stores copied, weak evidence"] += 1
        elif machine.kind != "copied":
            counts["stores copied"] += 1
            held = book.holds(view, baseline[other])
            counts["COPIED STORE HOLDS"] += held
            counts[f"copied store holds where {machine.shared()}"] += held and rule == "keyturn"
    # 3.
    for _ in range(int(MODEL["years"])):
        for machine in machines:
            before = baseline[machine.number]
            board, anew = machine.year()
            now = machine.view()
            held = book.holds(before, now)
            counts["checks"] += 1
            counts["checks failed, also where a part is new"] += not held
            moved = {slot for slot in before.anchors if now.anchors.get(slot, before.anchors[slot]) != before.anchors[slot]}
            known = before.anchors.keys() & now.anchors.keys()
            promised = bool(known) and not board and len(moved) <= (1 if len(known) >= 2 else 0)
            counts["checks promised"] += promised
            counts["HONEST CHECK FAILS"] += promised and not held
            if held and not anew:
                continue
            number, seat = machine.number, mine[machine.number]
            counts["requests again"] += 1
            fresh = computers + counts["requests again"]
            got = book.ask(now, fresh if anew or seat is None else seat, not anew)
            baseline[number] = now
            # 4.
            strong = len(known) >= 2 or "vm" in known
            promised = strong and not board and len(moved) <= (1 if len(known) >= 3 else 0)
            counts["requests promised"] += promised and seat is not None
            if got == seat or seat is None or got is None:
                continue
            if got in owner and owner[got] != number:
                counts[f"one seat: {machine.stated}" if machine.kind == "copied" else "FALSE SAME later"] += 1
                continue
            counts["FALSE DIFFERENT"] += promised
            name = "new board" if board else "two anchors known, one changed"
            name = name if strong else "weak evidence, installed anew"
            counts[f"seat taken: {name}" if not promised else "of these, earlier changes had piled up"] += 1
            mine[number], owner[got] = got, number
    counts["moves (no seat taken)"] = book.moves
    return Result(
        rule,
        computers,
        seed,
        counts,
        (counts["FALSE SAME"] + counts["FALSE SAME later"]) / computers,
        counts["FALSE DIFFERENT"] / max(counts["requests promised"], 1),
        counts["COPIED STORE HOLDS"] / max(counts["stores copied"], 1),
        counts["HONEST CHECK FAILS"] / max(counts["checks promised"], 1),
        time.monotonic() - started,
    )


def reidentify() -> str:
    """Measure on this computer how long it takes to guess what stands behind a tag.

    Guessing costs one hash for a plain hash, and three for a pair (a blinded value, and HMAC with its pads prepared),
    if one of the two values is fixed for the inner loop. The second time assumes a graphics card: 10^10 hashes a second.
    """
    rounds = 400_000
    started = time.perf_counter()
    for number in range(rounds):
        hashlib.sha256(b"a4bb6d%06x" % number).digest()
    rate = rounds / (time.perf_counter() - started)
    rows = [
        ("plain hash of an address, maker known", 2**24, 1),
        ("plain hash of a 32-bit volume serial", 2**32, 1),
        ("pair disk+nic, the disk's serial known", 2**24, 3),
        ("pair disk+nic, serial one of a known batch of 10^6", 2**24 * 10**6, 3),
        ("pair disk+nic, serial of 7 free symbols", 2**24 * 30**7, 3),
        ("pair disk+uuid, UUID random, disk's serial known", 2**122, 3),
    ]
    text = f"{rate:,.0f} SHA-256 a second on one core of this computer, in Python\n"
    for name, space, hashes in rows:
        times = [_duration(space * hashes / speed) for speed in (rate, 1e10)]
        text += f"  {name:52} {space:9.1e} values   here {times[0]:>14}   graphics card {times[1]:>14}\n"
    return text + f"  12-bit component tag: of 2^24 addresses or serial numbers {2**24 // 2**12:,} have each tag\n"


def _duration(seconds: float) -> str:
    for name, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= length:
            return f"{seconds / length:,.1f} {name}" if seconds < 1e6 * length else f"{seconds / length:.0e} {name}"
    return f"{seconds:.2g} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--computers", type=int, action="append", help="how many (default: 100, 10000 and 1000000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rule", choices=sorted(RULES), default="keyturn")
    parser.add_argument("--bits", type=int, default=64, choices=range(4, 65, 4), help="length of a pair's tag, to see it break")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--by-class", action="store_true", help="each class of computers alone, 10000 of each")
    parser.add_argument("--reidentify", action="store_true", help="measure how fast tags could be guessed")
    options = parser.parse_args()
    if options.reidentify:
        print(reidentify(), end="")
        return 0
    if options.by_class:
        from seat_classes import table

        text, passed = table((options.computers or [10_000])[0], options.seed)
        print(text, end="")
        return 0 if passed else 1
    passed = True
    for computers in options.computers or (100, 10_000, 1_000_000):
        result = simulate(computers, options.seed, options.rule, options.bits)
        print(json.dumps({**result._asdict(), "passed": result.passed}) if options.json else result.lines(), flush=True)
        passed = passed and result.passed
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
