"""What a seat is: anchors in slots, pairs of them, and the two questions asked of hardware (design section 4).

Keeps the slots, the weights, the tags that may leave a computer and the vector that may not, and both rules.
Leaves to others: reading a computer (``keyturn.edge.probes``), what is an individual value (``hardware_values``), the
rows and their lock (``keyturn.service``), what follows from an answer (``license``, ``issuance``).

Rules:

- *Identity* is the service's question, asked of 64-bit pair tags: same seat if and only if the slots in matching pairs are
  at least two and more than half of the slots known on both sides, or ``vm`` matches.
- *Tolerance* is the client's question, asked of the local vector: more than half of the anchors, and less than 25 of 35
  by weight.
- Unknown is not changed: a slot counts only where both sides know it.
- An anchor's own tag never leaves the computer; a pair's does, because nobody can enumerate two values at once.
- Every tag is keyed by the product's name and the scheme, so that publishers cannot join their tables.
- A known slot never gets a second value (``fillable``); only a counted move replaces rows.

>>> product = ProductName("A" * 43, "writer")
>>> sorted(pairs({"disk": "S4EVNF0M", "nic": "a4bb6d112233"}, product))
['disk+nic']
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from keyturn.core.hardware_values import anchor_value, uuid_holds_mac
from keyturn.core.model import ProductName, b64u

__all__ = [
    "LABELS", "SCHEME", "SCHEMES", "SLOTS", "WEIGHTS", "Found", "Match", "Reading", "Seat", "Tolerance", "anchor_value", "blind",
    "commitment", "component_tags", "describe", "evidence", "fillable", "find_seat", "known_slots", "match", "pairs", "same",
    "vector",
]  # fmt: skip

SCHEME = 1
SCHEMES = (1,)  # A request carries the last two; there is only one so far.
SLOTS = ("uuid", "board", "disk", "nic", "vm")
WEIGHTS: Mapping[str, int] = {
    "disk": 11,
    "firmware": 9,
    "processor": 3,
    "disk_controller": 3,
    "storage_adapter": 2,
    "network_adapter": 2,
    "audio": 2,
    "memory": 1,
    "display": 1,
    "optical": 1,
}
CHANGED_TOO_MUCH = 25  # of 35
KNOWN_ENOUGH = 18  # of 35: with less known on both sides, weights say nothing
LABELS: Mapping[str, str] = {
    "anchor.uuid": "the computer's UUID", "anchor.board": "the main board", "anchor.disk": "the system disk",
    "anchor.nic": "the network adapter's address", "anchor.vm": "the virtual machine",
    "component.disk": "the system disk", "component.firmware": "the firmware", "component.processor": "the processor",
    "component.disk_controller": "the disk controller", "component.storage_adapter": "the storage adapter",
    "component.network_adapter": "the network adapter", "component.audio": "the audio device",
    "component.memory": "the amount of memory", "component.display": "the display adapter",
    "component.optical": "the optical drive",
}  # fmt: skip

_PHYSICAL = tuple(sorted(slot for slot in SLOTS if slot != "vm"))
_PAIR_NAMES = {f"{a}+{b}" for a in _PHYSICAL for b in _PHYSICAL if a < b} | {"vm"}
_TAG = re.compile("[0-9a-f]{16}")
_TAG_BITS = {"volume": 16}  # Every other component tag has 12.
_BLIND = "blind{}:"
_FROM_NIC = ":from-nic"


class Reading(NamedTuple):
    """One computer's raw values, in normal form. Never leaves the computer, never logged.

    ``anchors``: slot to value; only individual ones (``anchor_value``), or blinded ones from the agent (``blind``).
    ``components``: component to value; absent means unknown. ``volume`` may be there too: it is tagged, never weighed.
    """

    anchors: Mapping[str, str]
    components: Mapping[str, str]


class Match(NamedTuple):
    """How one request's pairs compare with the pairs a seat owns. ``same`` is the answer, the rest the reason."""

    known: int
    matching: int
    vm: bool
    same: bool


class Seat(NamedTuple):
    """One taken seat as the service stores it: its name, all its pairs, and when it was taken (for the oldest)."""

    name: str
    pairs: Mapping[str, str]
    since: int = 0


class Found(NamedTuple):
    """Where a request belongs. ``seat`` is ``None`` for a new seat; ``add`` are the rows to insert.

    ``ambiguous``: no seat matches, yet every pair belongs to somebody: ``hardware_ambiguous``.
    ``others`` are further seats that matched too; only staff merge them.
    """

    seat: str | None
    add: dict[str, str]
    ambiguous: bool = False
    others: tuple[str, ...] = ()


class Tolerance(NamedTuple):
    """Whether this computer is still the one a certificate was made for, and why not.

    ``reason`` is ``hardware_changed``, ``hardware_unreadable``, ``anchors_appeared`` or ``None``; ``changed`` names the
    vector's entries that differ (``LABELS`` has their words); ``known`` and ``matching`` count anchors, the weights are of 35.
    """

    same: bool
    reason: str | None
    changed: tuple[str, ...]
    known: int
    matching: int
    changed_weight: int
    known_weight: int


# What leaves the computer.


def pairs(anchors: Mapping[str, str], product: ProductName, scheme: int = SCHEME) -> dict[str, str]:
    """Return the seat's tags: pair name to 16 hex digits, ``vm`` with itself; at most 7, in order of name.

    The pair of a UUID and the address it was made from is left out: it holds one value only, so it could be enumerated.
    """
    key = _key("seat", product, scheme)
    blinds = {slot: blind(slot, anchors[slot], scheme) for slot in SLOTS if slot in anchors}
    physical = sorted(slot for slot in blinds if slot != "vm")
    tags: dict[str, str] = {}
    for index, first in enumerate(physical):
        for second in physical[index + 1 :]:
            if (first, second) == ("nic", "uuid") and _uuid_is_nic(anchors):
                continue
            name = f"{first}+{second}"
            tags[name] = _tag(key, name, blinds[first], blinds[second])[:16]
    if "vm" in blinds:
        tags["vm"] = _tag(key, "vm", blinds["vm"])[:16]
    return tags


def component_tags(reading: Reading, product: ProductName, scheme: int = SCHEME) -> dict[str, str]:
    """Return each known component's tag: 12 bits as 3 hex digits, ``volume`` 16 bits as 4. Many computers share each."""
    key = _key("component", product, scheme)
    return {
        name: _tag(key, name, value)[: _TAG_BITS.get(name, 12) // 4]
        for name, value in sorted(reading.components.items())
        if name in WEIGHTS or name in _TAG_BITS
    }


def evidence(pairs: Iterable[str]) -> str:
    """``strong`` if the hardware itself tells this computer from others (any pair, or ``vm``), else ``weak``."""
    return "strong" if any(True for _ in pairs) else "weak"


# What stays on the computer.


def blind(slot: str, value: str, scheme: int = SCHEME, *, from_nic: bool = False) -> str:
    """Return an anchor's value as the agent may leave it for unprivileged runs; a blinded value stays as it is.

    All tags are made from the blinded form, so root and user agree without the user seeing the value. A serial number
    can still be guessed from it, which is why it stays on the computer.
    """
    prefix = _BLIND.format(scheme)
    if value.startswith(prefix):
        return value[: len(prefix) + 64]
    digest = hashlib.sha256(_join(f"keyturn anchor {scheme}", slot, value)).hexdigest()
    return f"{prefix}{digest}{_FROM_NIC if from_nic else ''}"


def vector(reading: Reading, product: ProductName, scheme: int = SCHEME) -> dict[str, str]:
    """Return the baseline a certificate commits to: ``anchor.SLOT`` and ``component.NAME`` to 32 hex digits.

    It never goes to the publisher: single anchors in it could be enumerated.
    """
    key = _key("vector", product, scheme)
    values = {f"anchor.{slot}": blind(slot, value, scheme) for slot, value in reading.anchors.items() if slot in SLOTS}
    values |= {f"component.{name}": value for name, value in reading.components.items() if name in WEIGHTS}
    return {name: _tag(key, name, values[name])[:32] for name in sorted(values)}


def commitment(vector: Mapping[str, str], salt: bytes) -> str:
    """Return what stands for the vector in a certificate: base64url SHA-256 of ``salt`` and its canonical JSON.

    Raises: ValueError if ``salt`` is shorter than 16 bytes, because then the vector could be guessed.
    """
    if len(salt) < 16:
        raise ValueError("the salt of a commitment has at least 16 bytes")
    text = json.dumps(dict(vector), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return b64u(hashlib.sha256(salt + text.encode("ascii")).digest())


# Identity: the service's question.


def well_formed(pairs: Mapping[object, object]) -> bool:
    """Whether these are pairs as a request carries them: known names, tags of 16 hex digits, at most 7."""
    if not pairs.keys() <= _PAIR_NAMES:
        return False
    return all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in pairs.values())


def known_slots(pairs: Iterable[str]) -> frozenset[str]:
    """Return the slots that stand in any of these pairs."""
    return frozenset(slot for pair in pairs for slot in pair.split("+") if slot in SLOTS)


def match(request: Mapping[str, str], owned: Mapping[str, str]) -> Match:
    """Compare a request's pairs with a seat's.

    n = slots known on both sides, m = slots in the pairs whose tags are equal; same if and only if m >= 2 and 2m > n,
    or ``vm`` is equal.
    """
    matching = _matching_slots(request, owned)
    n = len(known_slots(request) & known_slots(owned))
    m = len(matching)
    vm = "vm" in matching
    return Match(n, m, vm, vm or (m >= 2 and 2 * m > n))


def fillable(request: Mapping[str, str], owned: Mapping[str, str]) -> dict[str, str]:
    """Return the request's pairs that may be added to a seat that was found to be the same.

    Each slot of such a pair either matched or is unknown to the seat, and at least one is unknown: so a known slot never
    gets a second value.
    """
    matching, known = _matching_slots(request, owned), known_slots(owned)
    added = {}
    for name, tag in request.items():
        slots = known_slots((name,))
        if slots and slots <= matching | (known_slots(request) - known) and slots - known:
            added[name] = tag
    return added


def find_seat(request: Mapping[str, str], seats: Iterable[Seat], named: str | None = None) -> Found:
    """Say which of a key's ``seats`` a request belongs to; ``seats`` are all that own at least one of its pairs.

    1. Several match: the one the request names, else the most matching slots, else the oldest. Never merged.
    2. Found: unknown slots are filled, except with a pair that another seat owns.
    3. None matches: a new seat takes the pairs nobody owns; if there is none, the request is ambiguous.

    A request without pairs (weak evidence) is always a new seat without rows: its seat is the installation key.
    """
    candidates = [seat for seat in seats if any(seat.pairs.get(name) == tag for name, tag in request.items())]
    owned = {(name, tag): seat.name for seat in candidates for name, tag in seat.pairs.items()}
    hits = [(seat, match(request, seat.pairs)) for seat in candidates]
    hits = [(seat, hit) for seat, hit in hits if hit.same]
    # 1.
    hits.sort(key=lambda item: (item[0].name != named, -item[1].matching, item[0].since, item[0].name))
    if hits:
        # 2.
        seat = hits[0][0]
        add = {name: tag for name, tag in fillable(request, seat.pairs).items() if (name, tag) not in owned}
        return Found(seat.name, add, others=tuple(other.name for other, _ in hits[1:]))
    # 3.
    free = {name: tag for name, tag in request.items() if (name, tag) not in owned}
    return Found(None, free, ambiguous=bool(request) and not free)


# Tolerance: the client's question.


def same(baseline: Mapping[str, str], now: Mapping[str, str]) -> Tolerance:
    """Say whether the computer that reads ``now`` is still the one that read ``baseline`` (both are vectors).

    1. Count anchors known on both sides (n), equal ones (m), and the weights known and changed.
    2. Without anchors in the baseline: weak evidence. Anchors that appear end it; otherwise only the weights speak.
    3. With anchors in the baseline but none known now: unreadable, which is not a change and not a match.
    4. More than half of the anchors must match (one of two is enough).
    5. Enough weight known: less than 25 may have changed. Too little known: every known anchor must match.
    """
    # 1.
    changed = tuple(name for name in sorted(baseline.keys() & now.keys()) if baseline[name] != now[name])
    anchors = [name for name in baseline.keys() & now.keys() if name.startswith("anchor.")]
    n, m = len(anchors), sum(baseline[name] == now[name] for name in anchors)
    known_weight = sum(
        w for name, w in WEIGHTS.items() if f"component.{name}" in baseline and f"component.{name}" in now
    )
    changed_weight = sum(w for name, w in WEIGHTS.items() if f"component.{name}" in changed)
    too_much = known_weight >= KNOWN_ENOUGH and changed_weight >= CHANGED_TOO_MUCH

    def answer(reason: str | None) -> Tolerance:
        return Tolerance(reason is None, reason, changed, n, m, changed_weight, known_weight)

    # 2.
    if not any(name.startswith("anchor.") for name in baseline):
        if any(name.startswith("anchor.") for name in now):
            return answer("anchors_appeared")
        return answer("hardware_changed" if too_much else None)
    # 3.
    if n == 0:
        return answer("hardware_unreadable")
    # 4.
    if not (2 * m > n or (n == 2 and m == 1)):
        return answer("hardware_changed")
    # 5.
    if too_much or (known_weight < KNOWN_ENOUGH and m < n):
        return answer("hardware_changed")
    return answer(None)


def describe(changed: Iterable[str], say: Callable[[str], str] = str) -> str:
    """Name what changed for a person: "the system disk and the processor"; each thing once, at most five.

    ``say`` translates.
    """
    words = list(dict.fromkeys(say(LABELS[name]) if name in LABELS else name for name in changed))
    if len(words) > 5:
        words = [*words[:4], say("{count} more parts").format(count=len(words) - 4)]
    return f" {say('and')} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _matching_slots(request: Mapping[str, str], owned: Mapping[str, str]) -> frozenset[str]:
    return known_slots(name for name, tag in request.items() if owned.get(name) == tag)


def _uuid_is_nic(anchors: Mapping[str, str]) -> bool:
    uuid, nic = anchors.get("uuid", ""), anchors.get("nic", "")
    return uuid.endswith(_FROM_NIC) or uuid_holds_mac(uuid, nic)


def _key(purpose: str, product: ProductName, scheme: int) -> bytes:
    if scheme not in SCHEMES:
        raise ValueError(f"no such scheme: {scheme}")
    return f"keyturn {purpose} {scheme} {product}".encode("ascii")


def _tag(key: bytes, *parts: str) -> str:
    return hmac.digest(key, _join(*parts), "sha256").hex()


def _join(*parts: str) -> bytes:
    """Length-prefixed, so that no two lists of values are written alike."""
    data = [part.encode("utf-8", "surrogateescape") for part in parts]
    return b"".join(len(item).to_bytes(4, "big") + item for item in data)
