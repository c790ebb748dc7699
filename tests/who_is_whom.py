"""The golden matrix "who is whom": both questions, asked of every two recorded computers.

``python tests/who_is_whom.py --update`` writes corpus and matrix anew; without it they are compared with what is
committed, as ``test_hardware.py`` does. Look at the difference before you commit it: each mark is a promise.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import seat_corpus as corpus
from keyturn.core.hardware import evidence, match, pairs, same, vector
from keyturn.core.model import ProductName
from keyturn.edge.probes import Computer, read
from keyturn.testing import computers
from keyturn.testing.computers import RecordedComputer

CORPUS = Path(computers.__file__).with_name("corpus")
GOLDEN = Path(__file__).parent / "golden" / "who-is-whom.txt"
PRODUCT = ProductName("A" * 43, "writer", test=True)


class View(NamedTuple):
    """One computer as root or as a user sees it."""

    name: str
    recorded: RecordedComputer
    read: Computer
    pairs: dict[str, str]
    vector: dict[str, str]


def views() -> list[View]:
    """Read the committed corpus with the probe, as root and, where that differs, as a user."""
    found = []
    for name in [computer.name for computer in corpus.corpus()]:
        computer = computers.load(name)
        for suffix, as_user in (("", False), (":user", True)):
            if as_user and not computer.root_only:
                continue
            with tempfile.TemporaryDirectory() as top:
                seen = read(str(computer.write(Path(top) / "root", as_user=as_user)))
            found.append(
                View(name + suffix, computer, seen, pairs(seen.reading.anchors, PRODUCT), vector(seen.reading, PRODUCT))
            )
    return found


TOLERANCE_MARKS = {None: "=", "hardware_changed": ".", "hardware_unreadable": "u", "anchors_appeared": "a"}


def matrix(seen: list[View]) -> str:
    """Return the golden text: who each computer is, and both questions for all of them."""
    width = max(len(view.name) for view in seen)
    lines = [
        "Who is whom. Made by tests/who_is_whom.py --update; read docs/decisions/0002-seat-identity.md beside it.",
        "",
    ]
    lines += ["The computers: as root sees them, and as a user (:user) where that differs.", ""]
    for number, view in enumerate(seen):
        slots = "+".join(view.read.reading.anchors) or "-"
        kind = "/".join(filter(None, (view.read.vm_kind, view.read.container))) or "-"
        lasts = "ephemeral?" if view.read.ephemeral_hint else ""
        line = f"{number:3} {view.name:{width}} {evidence(view.pairs):6} {slots:19} {kind:14} {lasts:10}"
        lines.append(f"{line} {view.recorded.klass}")
    rows = {
        "Identity (the service): row asks, column owns the seat. '=' same seat, '.' another, '?' no slot known on both sides.": [
            "".join("=" if (m := match(a.pairs, b.pairs)).same else "." if m.known else "?" for b in seen) for a in seen
        ],
        "Tolerance (the client): row is the certificate's baseline, column is now. '=' same, '.' changed, 'u' unreadable, "
        "'a' anchors appeared.": [
            "".join(TOLERANCE_MARKS[same(a.vector, b.vector).reason] for b in seen) for a in seen
        ],
    }
    for title, cells in rows.items():
        lines += [
            "",
            title,
            "",
            *(
                f"{number:3} {view.name:{width}} {row}"
                for number, (view, row) in enumerate(zip(seen, cells, strict=True))
            ),
        ]
    lines += [
        "",
        "What a change does to what was there before it; four marks each: root before, root after; root, user; user, root;",
    ]
    lines += ["user, user.", "", f"{'':30} seat       certificate", "", *consequences(seen)]
    lines += ["", "Two computers taken for one:", "", *(f"- {text}" for text in surprises(seen))]
    lines += [
        "",
        "By class. Each computer against every other: how many share its seat, and on how many its certificate holds",
    ]
    lines += [
        "(where neither has an anchor, only a term is given, and it is not counted). Then, of the ways to come from the"
    ]
    lines += [
        "computer before a change to the one after it (root, user): how many found the seat, and kept the certificate.",
        "",
    ]
    lines += [
        f"{'':38} {'computers':>9} {'others: seat':>13} {'certificate':>12} {'changed: seat':>14} {'certificate':>12}",
        "",
    ]
    return "\n".join([*lines, *(tally.line() for tally in by_class(seen)), ""])


class Tally(NamedTuple):
    """One class: how many computers, who is taken for one of them, and what their changes kept."""

    klass: str
    computers: int
    other_seats: int
    other_certificates: int
    changes: int
    seats_kept: int
    certificates_kept: int

    def line(self) -> str:
        kept = [
            f"{kept} of {self.changes}" if self.changes else "-" for kept in (self.seats_kept, self.certificates_kept)
        ]
        others = f"{self.other_seats:>13} {self.other_certificates:>12}"
        return f"{self.klass:38} {self.computers:>9} {others} {kept[0]:>14} {kept[1]:>12}"


def by_class(seen: list[View]) -> Iterator[Tally]:
    """Count, for each class, false same (other computers) and what a change cost (the same computer)."""
    by_name = {view.name: view for view in seen}
    for klass in dict.fromkeys(view.recorded.klass for view in seen):
        mine = [view for view in seen if view.recorded.klass == klass]
        strangers = [(a, b) for a in mine for b in seen if a.recorded.who != b.recorded.who]
        seats = {frozenset((a.recorded.who, b.recorded.who)) for a, b in strangers if match(b.pairs, a.pairs).same}
        held = [(a, b) for a, b in strangers if a.pairs and same(a.vector, b.vector).same]
        ways = [way for view in mine if not view.name.endswith(":user") for way in _different(_ways(view, by_name))]
        yield Tally(
            klass, len({view.recorded.name for view in mine}), len(seats),
            len({(a.recorded.who, b.recorded.who) for a, b in held}), len(ways),
            sum(match(b.pairs, a.pairs).same for a, b in ways), sum(same(a.vector, b.vector).same for a, b in ways),
        )  # fmt: skip


def _different(ways: list[tuple[View, View]]) -> list[tuple[View, View]]:
    """Each way once: where a user reads what root reads, there is one."""
    return list({(a.name, b.name): (a, b) for a, b in ways}.values())


def _ways(view: View, by_name: dict[str, View]) -> list[tuple[View, View]]:
    """From a changed computer as it was to as it is: as root and as a user; none for a computer that was not changed."""
    after, before = view.recorded, by_name.get(view.recorded.who)
    if before is None or after.name == after.who:
        return []
    earlier = [before, by_name.get(f"{before.name}:user", before)]
    later = [view, by_name.get(f"{view.name}:user", view)]
    return [(a, b) for a in earlier for b in later]


def consequences(seen: list[View]) -> Iterator[str]:
    """Say, for each changed computer, what becomes of the seat and the certificate it had before the change."""
    by_name = {view.name: view for view in seen}
    for view in seen:
        both = [] if view.name.endswith(":user") else _ways(view, by_name)
        if not both:
            continue
        seat = " ".join("=" if (hit := match(b.pairs, a.pairs)).same else "." if hit.known else "?" for a, b in both)
        held = " ".join(TOLERANCE_MARKS[same(a.vector, b.vector).reason] for a, b in both)
        yield f"{view.name:30} {seat}    {held}    {view.recorded.story}"


def surprises(seen: list[View]) -> Iterator[str]:
    """Name every two computers that are taken for one; each is stated in the docs."""
    weak = 0
    for a in seen:
        for b in seen:
            if a.recorded.who == b.recorded.who:
                continue
            if match(a.pairs, b.pairs).same and a.name < b.name:
                yield f"{a.name} and {b.name} have one seat"
            held = same(a.vector, b.vector)
            if held.same and held.known:
                yield f"a certificate of {a.name} holds on {b.name}"
            weak += held.same and not held.known
    yield f"{weak} times neither computer has an anchor: then the installation key is the seat, and only a term is given"


def main() -> int:
    if "--update" in sys.argv:
        CORPUS.mkdir(exist_ok=True)
        for old in CORPUS.glob("*.json"):
            old.unlink()
        for name, text in corpus.texts().items():
            (CORPUS / name).write_text(text, "utf-8")
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(matrix(views()), "utf-8")
        return 0
    there = {path.name: path.read_text("utf-8") for path in CORPUS.glob("*.json")}
    as_committed = there == corpus.texts() and GOLDEN.read_text("utf-8") == matrix(views())
    print("as committed" if as_committed else "DIFFERENT: look at it with --update and git diff")
    return 0 if as_committed else 1


if __name__ == "__main__":
    sys.exit(main())
