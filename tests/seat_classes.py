"""The simulation of ``seat_simulation`` for one class of computers at a time: ``python tests/seat_simulation.py --by-class``.

Each class is a population of its own under one key: fleets of one model and one image, with the batches, placeholders and
changes of ``MODEL``. What differs is what the class shows of itself, to whom, and what happens to it. The rates are
assumptions on the dark side, as there; none was measured in the field.

- *False same*, *copied store*, *false different*, *check fails*: as in decision 0002. *Stated*: computers that share a seat and
  cannot be told apart, which the customer's table says: machines copied with their UUID, pods of one node.
- *To do*: of all yearly checks, those after which somebody must activate again, for new parts too, or because it is not root
  who runs it now, or because a pod is elsewhere: the price that the customer's table states.
- The last line is planted: the hypervisor's generation ID, which changes with every snapshot that is applied, as an identity.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from seat_simulation import MODEL, Machine, Result, View, simulate

DOCKED = 0.5  # of views of a laptop
UNMARKED = 0.05  # of docks: nothing says that they are outside, so their wired adapter takes the radio's place
DOCKS = 20  # desks that laptops share
RESCHEDULED = 0.9  # of pods, each year
ON_A_NODE = 10  # pods
SNAPSHOT_APPLIED = 0.5  # of virtual machines, each year
SERIAL_KEPT = 0.5  # of Macs with a new board: the workshop writes the old serial number


class Fixed(Machine):
    """A computer of one kind, run in one way."""

    what, way = "physical", "root"
    unshared = False  # Whether batches with equal values and placeholders are not this maker's.

    def __init__(self, number: int, fleet: int, chance: random.Random, traits: Mapping[str, bool]) -> None:
        traits = dict.fromkeys(traits, False) if self.unshared else self.fleet_traits(traits)
        super().__init__(number, fleet, chance, traits)
        self.kind, self.run_as = self.what, self.way
        self.anchors = self._anchors()

    def fleet_traits(self, traits: Mapping[str, bool]) -> Mapping[str, bool]:
        return traits


class User(Fixed):
    way = "user"


class RootAndUser(Fixed):
    way = "both"


class Container(Fixed):
    way = "container"


class Placeholders(RootAndUser):
    def fleet_traits(self, traits: Mapping[str, bool]) -> Mapping[str, bool]:
        return {**traits, "placeholder": True}


class WindowsPc(Fixed):
    """Everybody reads what root reads."""


class DockedLaptop(Fixed):
    """A Windows laptop that is now on a dock, now not; some docks are not known for what they are."""

    def view(self) -> View:
        seen = super().view()
        if self.chance.random() < DOCKED and self.chance.random() < UNMARKED:
            dock = f"dock {self.fleet}.{self.chance.randrange(DOCKS)}"
            return seen._replace(anchors={**seen.anchors, "nic": dock})
        return seen


class DualBoot(Fixed):
    """Windows or Linux, each as somebody who may read everything; an NVMe disk tells each of them another number."""

    def view(self) -> View:
        seen = super().view()
        if self.chance.random() < 0.5:
            disk = f"{seen.anchors['disk']} as EUI-64"
            return View({**seen.anchors, "disk": disk}, {**seen.components, "disk": disk})
        return seen


class AppleSilicon(Fixed):
    """Disk and radio are on the board; no batch shares a value."""

    unshared = True

    def year(self) -> tuple[bool, bool]:
        anew = self.chance.random() < MODEL["reinstalled"]
        if board := self.chance.random() < MODEL["new_board"]:
            self.changes += 1
            kept = {"board"} if self.chance.random() < SERIAL_KEPT else set()
            for slot in {"uuid", "board", "disk", "nic"} - kept:
                self.anchors[slot] = f"{slot}{self.number}.{self.changes}"
        return board, anew


class Vm(Fixed):
    """A virtual machine whose name everybody reads. Snapshots, moves and larger hosts are no change of it."""

    what, unshared = "vm", True
    unchanging = True


class LinuxVm(Vm):
    """The UUID is root's alone, and half of the runs are not root's: the customer's table says what that means."""

    unchanging = False

    def view(self) -> View:
        seen = super().view()
        return seen._replace(anchors={}) if self.chance.random() < 0.5 else seen


class CloudInstance(Vm):
    """Stopped, made larger and started elsewhere each year: other parts, the same name."""

    def year(self) -> tuple[bool, bool]:
        self.changes += 1
        for part in ("processor", "memory", "network_adapter"):
            self.parts[part] = f"{part} {self.number}.{self.changes}"
        return False, self.chance.random() < MODEL["reinstalled"]


class Copied(Fixed):
    what, unshared = "copied", True


class Pod(Fixed):
    """A pod that sees its node; it is given another node now and then."""

    what, unshared, stated = "copied", True, "pods of one node"

    def _anchors(self) -> dict[str, str]:
        return {"vm": f"node{self.number // ON_A_NODE}"}

    def year(self) -> tuple[bool, bool]:
        if self.chance.random() < RESCHEDULED:
            self.anchors = {"vm": f"node{self.chance.randrange(self.number // ON_A_NODE + 1)}"}
        return False, self.chance.random() < MODEL["reinstalled"]


class Weak(Fixed):
    what = "weak"


class GenerationId(Vm):
    """Planted: were the generation ID the identity, a snapshot that is applied would make another computer."""

    def year(self) -> tuple[bool, bool]:
        if self.chance.random() < SNAPSHOT_APPLIED:
            self.changes += 1
            self.anchors = {"vm": f"generation{self.number}.{self.changes}"}
        return False, self.chance.random() < MODEL["reinstalled"]


CLASSES: Mapping[str, type[Machine]] = {
    "Linux PC, as root": Fixed,
    "Linux PC, as a user": User,
    "Linux PC, now root, now a user": RootAndUser,
    "… with a placeholder board": Placeholders,
    "container, root inside": Container,
    "Windows PC": WindowsPc,
    "Windows laptop with docks": DockedLaptop,
    "Windows and Linux on one PC, NVMe": DualBoot,
    "Mac with Apple silicon": AppleSilicon,
    "virtual machine (root, or Windows)": Vm,
    "Linux VM, now root, now a user": LinuxVm,
    "cloud instance": CloudInstance,
    "machines copied with their UUID": Copied,
    "pods on cloud nodes": Pod,
    "no hardware to be seen (WSL, sandbox)": Weak,
}
PLANTED = "planted: the generation ID as identity"


def simulate_class(name: str, computers: int, seed: int) -> Result:
    """Run one class through activation and the years."""
    return simulate(computers, seed, klass=GenerationId if name == PLANTED else CLASSES[name])


def table(computers: int, seed: int) -> tuple[str, bool]:
    """Every class as a line of a Markdown table; whether each passes, and the planted one does not."""
    head = ("false same", "stated", "copied store", "false different", "check fails", "to do", "")
    text = f"| {computers:,} of each, seed {seed} | {' | '.join(head)} |\n" + "|---" * (len(head) + 1) + "|\n"
    right = True
    for name in (*CLASSES, PLANTED):
        result = simulate_class(name, computers, seed)
        good = passes(name, result)
        stated = sum(count for what, count in result.counts.items() if what.startswith("one seat: "))
        rates = (result.false_same, result.copied_store, result.false_different, result.check_failed, to_do(result))
        cells = [f"{rate:.2%}" if rate else "0" for rate in rates]
        cells.insert(1, f"{stated:,}" if stated else "–")
        text += f"| {name} | {' | '.join(cells)} | {'passes' if good else '**fails**'} |\n"
        right = right and good == (name != PLANTED)
    return text, right


def to_do(result: Result) -> float:
    """The share of yearly checks after which somebody must activate again, whatever the reason."""
    return result.counts["checks failed, also where a part is new"] / max(result.counts["checks"], 1)


def passes(name: str, result: Result) -> bool:
    """Whether the class stays within the limits; one to which no change happens must have nothing to do either."""
    klass = GenerationId if name == PLANTED else CLASSES[name]
    return result.passed and not (getattr(klass, "unchanging", False) and to_do(result))
