"""Seat identity and tolerance: values, tags, and both rules. What they do to real situations: ``test_who_is_whom.py``."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core import hardware
from keyturn.core.hardware import (
    SLOTS,
    WEIGHTS,
    Reading,
    Seat,
    anchor_value,
    commitment,
    component_tags,
    describe,
    evidence,
    fillable,
    find_seat,
    known_slots,
    match,
    pairs,
    same,
    vector,
)
from keyturn.core.hardware_values import uuid_holds_mac
from keyturn.core.model import ProductName, b64u

PRODUCT = ProductName("P" * 43, "writer")
OTHER = ProductName("Q" * 43, "writer")
OFFICE = {"uuid": "4c4c4544004d164b8cb729b0fb2c9392", "board": "/ML11K00/CN/", "disk": "S4EVNF0M1", "nic": "a4bb6d2c9392"}
NEIGHBOUR = {"uuid": "4c4c4544004d164b8cb729b0fb2c93a7", "board": "/ML11K07/CN/", "disk": "S4EVNF0M2", "nic": "a4bb6d2c93a7"}
PARTS = {name: f"some {name}" for name in WEIGHTS}

physical = st.dictionaries(st.sampled_from(["uuid", "board", "disk", "nic"]), st.sampled_from(["v1", "v2", "v3"]))
computer = st.tuples(physical, st.none() | st.sampled_from(["i-1", "i-2"])).map(
    lambda c: {**c[0], **({"vm": c[1]} if c[1] else {})}
)


def tags(anchors: Mapping[str, str]) -> dict[str, str]:
    return pairs(anchors, PRODUCT)


# Tags.


def test_a_pc_has_six_pairs_and_a_virtual_machine_one() -> None:
    """Every two physical slots make a pair, `vm` stands alone, and there are never more than seven rows."""
    assert sorted(tags(OFFICE)) == ["board+disk", "board+nic", "board+uuid", "disk+nic", "disk+uuid", "nic+uuid"]
    assert sorted(tags({"vm": "i-0f3e5a7c"})) == ["vm"]
    assert len(tags({**OFFICE, "vm": "i-0f3e5a7c"})) == 7
    assert tags({"disk": "S4EVNF0M1"}) == {}


def test_tags_are_as_committed() -> None:
    """The tags of scheme 1 never change: they are in every certificate and every table."""
    assert tags(OFFICE) == {
        "board+disk": "78cf0c5985c26f5f",
        "board+nic": "28740773753d008a",
        "board+uuid": "6c616197d4d1d598",
        "disk+nic": "7fa5f0756807bfc0",
        "disk+uuid": "1daaf019f73df603",
        "nic+uuid": "53129c9f57020da2",
    }
    assert component_tags(Reading({}, {"disk": "S4EVNF0M1", "volume": "6a1f0d52"}), PRODUCT) == {
        "disk": "556",
        "volume": "40d6",
    }
    assert commitment(vector(Reading(OFFICE, PARTS), PRODUCT), bytes(16)) == "TlWeKHpbJ7YX6ysJZYP5Uu-Lcg9pVZ-m_c_k6aoAlWs"


@given(computer)
def test_tags_have_their_lengths_and_belong_to_one_product(anchors: dict[str, str]) -> None:
    """A pair has 64 bits; another product's tags of the same computer are all different."""
    mine, theirs = pairs(anchors, PRODUCT), pairs(anchors, OTHER)
    assert all(re.fullmatch(r"[0-9a-f]{16}", tag) for tag in mine.values())
    assert mine.keys() == theirs.keys()
    assert not set(mine.values()) & set(theirs.values())
    assert not set(mine.values()) & set(pairs(anchors, PRODUCT._replace(test=True)).values())


def test_component_tags_are_too_short_to_name_a_computer() -> None:
    """A component's tag has 12 bits, the volume's 16; what is not a component is not tagged."""
    short = component_tags(Reading(OFFICE, {**PARTS, "volume": "6a1f0d52", "host_name": "no"}), PRODUCT)
    assert {len(tag) for name, tag in short.items() if name != "volume"} == {3}
    assert len(short["volume"]) == 4
    assert short.keys() == {*WEIGHTS, "volume"}


def test_an_unknown_scheme_is_refused() -> None:
    """Tags are made for a scheme that exists, or not at all."""
    with pytest.raises(ValueError, match="scheme"):
        pairs(OFFICE, PRODUCT, scheme=2)


def test_a_uuid_made_from_the_address_makes_no_pair_with_it() -> None:
    """Such a pair would hold one value of 24 bits; the other pairs stay."""
    woven = {**OFFICE, "uuid": "03b4022e049905410706" + "5c0700080009", "nic": "b42e9941075c"}
    assert uuid_holds_mac(woven["uuid"], woven["nic"])
    assert sorted(tags(woven)) == ["board+disk", "board+nic", "board+uuid", "disk+nic", "disk+uuid"]
    assert "nic+uuid" not in tags({**OFFICE, "uuid": "a7f0c1d25b3e11ed9b6a" + OFFICE["nic"]})
    blinded = hardware.blind("uuid", woven["uuid"], from_nic=True)
    assert tags({**woven, "uuid": blinded}) == tags(woven)


def test_a_blinded_value_makes_the_same_tags() -> None:
    """What the agent leaves for a user is as good as the value, and does not contain it."""
    for slot in SLOTS:
        blinded = hardware.blind(slot, OFFICE.get(slot, "i-0f3e5a7c"))
        assert OFFICE.get(slot, "i-0f3e5a7c").lower() not in blinded.lower()
        assert hardware.blind(slot, blinded) == blinded
    some = {**OFFICE, "uuid": hardware.blind("uuid", OFFICE["uuid"]), "board": hardware.blind("board", OFFICE["board"])}
    assert tags(some) == tags(OFFICE)
    assert vector(Reading(some, {}), PRODUCT) == vector(Reading(OFFICE, {}), PRODUCT)


# Values.


@pytest.mark.parametrize(
    ("slot", "raw"),
    [
        ("uuid", "03000200-0400-0500-0006-000700080009"),
        ("uuid", "00020003-0004-0005-0006-000700080009"),
        ("uuid", "00000000-0000-0000-0000-000000000000"),
        ("uuid", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"),
        ("uuid", "Not Settable"),
        ("vm", "None"),
        ("vm", "00000000-0000-0000-0000-000000000000"),
        ("vm", "Default string"),
        ("board", "To be filled by O.E.M."),
        ("board", "Default string"),
        ("board", " "),
        ("board", "N/A"),
        ("board", "0000000000"),
        ("board", "..............."),
        ("board", "System Serial Number"),
        ("board", "0123456789"),
        ("board", "Not Specified"),
        ("board", "xxxxxxxxxxxx"),
        ("disk", "AA000000000000000001"),
        ("disk", "00000000000000000001"),
        ("disk", "QM00001"),
        ("disk", "VB8f3a1c22-90b1d7e4"),
        ("disk", "overlayblk"),
        ("disk", "drive-scsi0"),
        ("disk", "vol0f3e5aaa11bb22cc"),
        ("nic", "00:00:00:00:00:00"),
        ("nic", "ff:ff:ff:ff:ff:ff"),
        ("nic", "02:42:ac:11:00:02"),
        ("nic", "01:00:5e:00:00:fb"),
        ("nic", "52:54:00:12:34:56"),
        ("nic", "00:0c:29:3e:5a:7c"),
        ("nic", "00:15:5d:01:02:03"),
        ("nic", "08:00:27:5a:6b:7c"),
        ("nic", "88:88:88:88:87:88"),
        ("nic", "a4:bb:6d:00:00:00"),
        ("nic", "not an address"),
    ],
)
def test_placeholders_and_shared_values_are_not_values(slot: str, raw: str) -> None:
    """What many computers say of themselves is unknown, however it is written."""
    for text in (raw, raw.lower(), raw.upper(), f" {raw} \n", f"{raw}\0"):
        assert anchor_value(slot, text) is None


@pytest.mark.parametrize(
    "model", ["QEMU HARDDISK", "VMware Virtual disk", "Msft Virtual Disk", "Amazon Elastic Block Store", "VBOX HARDDISK"]
)
def test_a_virtual_disk_has_no_value(model: str) -> None:
    """A hypervisor's disk is not hardware, whatever its serial number."""
    assert anchor_value("disk", "S4EVNF0M771204K", model=model) is None
    assert anchor_value("disk", "S4EVNF0M771204K", model="Example SSD 500") == "S4EVNF0M771204K"


def test_one_value_has_one_form() -> None:
    """Case, dashes, colons and padding do not make another value."""
    assert anchor_value("uuid", "{4C4C4544-004D-164B-8CB7-29B0FB2C9392}\n") == OFFICE["uuid"]
    assert anchor_value("nic", "A4-BB-6D-2C-93-92") == OFFICE["nic"]
    assert anchor_value("disk", "  s4evnf0m 771204k\0\0") == anchor_value("disk", "S4EVNF0M_771204K") == "S4EVNF0M771204K"
    assert anchor_value("vm", "i-0F3E5A7C9B1D2E4F6") == "i-0f3e5a7c9b1d2e4f6"
    assert anchor_value("nic", None) is None


# Identity.


@given(computer)
def test_every_computer_with_pairs_is_its_own(anchors: dict[str, str]) -> None:
    """Whoever has evidence finds its own seat again."""
    own = tags(anchors)
    assert match(own, own).same == (evidence(own) == "strong")


@given(computer, computer)
def test_identity_is_the_formula_and_has_no_direction(one: dict[str, str], two: dict[str, str]) -> None:
    """Same if and only if m >= 2 and 2m > n, or `vm` matches, counted by hand over the true values."""
    hit = match(tags(one), tags(two))
    known = known_slots(tags(one)) & known_slots(tags(two))
    equal = {slot for slot in known if one[slot] == two[slot]}
    bodies = equal - {"vm"}
    m = (len(bodies) if len(bodies) >= 2 else 0) + ("vm" in equal)
    assert (hit.known, hit.matching, hit.vm) == (len(known), m, "vm" in equal)
    assert hit.same == ("vm" in equal or (m >= 2 and 2 * m > len(known)))
    assert hit == match(tags(two), tags(one))


def test_one_changed_anchor_of_four_is_the_same_seat_and_two_are_not() -> None:
    """A new disk costs nothing where four anchors are known; two changes at once are another seat."""
    seat = tags(OFFICE)
    for slot in OFFICE:
        assert match(tags({**OFFICE, slot: NEIGHBOUR[slot]}), seat).same
    assert not match(tags({**OFFICE, "disk": "new1", "nic": "new2"}), seat).same
    assert not match(tags({"disk": "S4EVNF0M1", "nic": "another"}), seat).same
    assert not match(tags(NEIGHBOUR), seat).same


def test_root_then_user_then_root_fills_and_never_replaces() -> None:
    """A user's seat grows by what root sees, and a known slot keeps its one value."""
    seat = tags({"disk": OFFICE["disk"], "nic": OFFICE["nic"]})
    added = fillable(tags(OFFICE), seat)
    assert {**seat, **added} == tags(OFFICE)
    changed = tags({**OFFICE, "nic": "another"})
    assert fillable(changed, {**seat, **added}) == {}
    assert fillable(tags(OFFICE), tags(OFFICE)) == {}


@given(computer, computer)
def test_filling_never_gives_a_known_slot_a_second_value(one: dict[str, str], two: dict[str, str]) -> None:
    """Each added pair names an unknown slot, and its known slots have the value the seat already has."""
    seat, request = tags(one), tags(two)
    for name in fillable(request, seat):
        slots = known_slots((name,))
        assert slots - known_slots(seat)
        assert all(two[slot] == one[slot] for slot in slots & known_slots(seat))
        assert name not in seat


def test_a_pair_that_is_owned_stays_with_its_owner() -> None:
    """A neighbour with an equal pair takes only what is free, and is found by that afterwards."""
    batch = {**NEIGHBOUR, "uuid": OFFICE["uuid"], "board": OFFICE["board"]}
    office = Seat("office", tags(OFFICE))
    found = find_seat(tags(batch), [office])
    assert found.seat is None
    assert sorted(found.add) == ["board+disk", "board+nic", "disk+nic", "disk+uuid", "nic+uuid"]
    again = find_seat(tags(batch), [office, Seat("batch", found.add)])
    assert again == hardware.Found("batch", {})


def test_nothing_free_is_ambiguous() -> None:
    """When every pair of a request belongs to seats that do not match, nobody is guessed."""
    request = {"uuid": "U", "board": "B", "disk": "D", "nic": "N"}
    owners = []
    for name in tags(request):
        equal = known_slots((name,))
        own = {slot: value if slot in equal else f"{value} of {name}" for slot, value in request.items()}
        owners.append(Seat(name, tags(own)))
    assert find_seat(tags(request), owners) == hardware.Found(None, {}, ambiguous=True)
    assert list(find_seat(tags(request), owners[1:]).add) == [owners[0].name]


def test_of_several_matching_seats_the_named_then_the_best_then_the_oldest_wins() -> None:
    """Seats are never merged: one is chosen, the others are told."""
    full, part = (
        Seat("full", tags(OFFICE), since=9),
        Seat("part", tags({"disk": OFFICE["disk"], "nic": OFFICE["nic"]}), since=5),
    )
    older = part._replace(name="older", since=1)
    request = tags(OFFICE)
    assert find_seat(request, [part, older, full]) == hardware.Found("full", {}, False, ("older", "part"))
    assert find_seat(request, [part, older, full], "part").seat == "part"
    assert find_seat(request, [part, older]).seat == "older"
    assert find_seat({}, [full]) == hardware.Found(None, {})


@given(st.lists(computer, max_size=6), computer)
def test_finding_a_seat_never_takes_a_row_from_another(owners: list[dict[str, str]], anchors: dict[str, str]) -> None:
    """Rows stay unique whoever asks, and a found seat is one that matches."""
    seats: list[Seat] = []
    for number, owner in enumerate(owners):
        found = find_seat(tags(owner), seats)
        if found.seat is None and found.add:
            seats.append(Seat(str(number), found.add, number))
    rows = {(name, tag) for seat in seats for name, tag in seat.pairs.items()}
    found = find_seat(tags(anchors), seats)
    assert not rows & set(found.add.items())
    if found.seat is not None:
        assert match(tags(anchors), next(seat.pairs for seat in seats if seat.name == found.seat)).same


# Tolerance.


def test_tolerance_counts_anchors_and_weights() -> None:
    """More than half of the anchors, and less than 25 of 35 where 18 are known."""
    base = vector(Reading(OFFICE, PARTS), PRODUCT)

    def now(anchors: Mapping[str, str], *changed: str) -> hardware.Tolerance:
        return same(base, vector(Reading(anchors, {**PARTS, **dict.fromkeys(changed, "another")}), PRODUCT))

    assert now(OFFICE) == hardware.Tolerance(True, None, (), 4, 4, 0, 35)
    assert now({**OFFICE, "disk": "new"}, "disk").same
    assert now(OFFICE, "disk", "firmware", "processor").same  # 23
    over = now(OFFICE, "disk", "firmware", "processor", "network_adapter")  # 25
    assert (over.same, over.reason, over.changed_weight) == (False, "hardware_changed", 25)
    assert now({**OFFICE, "disk": "new", "nic": "new"}).reason == "hardware_changed"
    assert now({"disk": OFFICE["disk"], "nic": "new"}).same  # one of two is enough
    assert now({"disk": "new", "nic": "new"}).reason == "hardware_changed"
    assert now({"nic": "new"}).reason == "hardware_changed"
    assert now({}).reason == "hardware_unreadable"


@pytest.mark.parametrize(
    ("parts", "weight", "holds"),
    [
        (("processor", "memory"), 4, False),
        (("firmware", "processor", "disk_controller", "audio"), 17, False),
        (("firmware", "processor", "disk_controller", "audio", "memory"), 18, True),
    ],
)
def test_with_less_than_18_of_35_known_every_anchor_must_match(parts: tuple[str, ...], weight: int, holds: bool) -> None:
    """Where weights say too little, one changed anchor of four is one too many."""
    few = {name: PARTS[name] for name in parts}
    base = vector(Reading(OFFICE, few), PRODUCT)
    assert same(base, base).same
    changed = same(base, vector(Reading({**OFFICE, "nic": "new"}, few), PRODUCT))
    assert (changed.known_weight, changed.same) == (weight, holds)


def test_weak_evidence_ends_when_anchors_appear() -> None:
    """Without anchors only the weights speak; with them the certificate is another computer's until renewed."""
    base = vector(Reading({}, PARTS), PRODUCT)
    assert same(base, base).same
    assert same(base, vector(Reading(OFFICE, PARTS), PRODUCT)).reason == "anchors_appeared"
    assert same(
        base, vector(Reading({}, {**PARTS, "disk": "x", "firmware": "x", "processor": "x", "audio": "x"}), PRODUCT)
    ).reason == ("hardware_changed")
    assert same({}, {}).same


@given(computer, computer, st.sets(st.sampled_from(sorted(WEIGHTS))), st.sets(st.sampled_from(sorted(WEIGHTS))))
def test_no_certificate_holds_where_most_anchors_differ(
    one: dict[str, str], two: dict[str, str], hidden: set[str], changed: set[str]
) -> None:
    """Whatever is hidden or changed beside them, half of the anchors must match (of two, one)."""
    base = vector(Reading(one, PARTS), PRODUCT)
    parts = {name: ("another" if name in changed else text) for name, text in PARTS.items() if name not in hidden}
    answer = same(base, vector(Reading(two, parts), PRODUCT))
    shared = one.keys() & two.keys()
    equal = sum(one[slot] == two[slot] for slot in shared)
    if answer.same and one:
        assert equal >= 1
        assert 2 * equal >= len(shared)
    assert answer.changed_weight == sum(WEIGHTS[name] for name in changed - hidden)


def test_what_changed_is_named() -> None:
    """A person reads words, each thing once."""
    assert describe(("anchor.disk", "component.disk", "component.processor")) == "the system disk and the processor"
    assert describe(()) == ""
    assert describe(["anchor.nic"]) == "the network adapter's address"
    assert {f"anchor.{slot}" for slot in SLOTS} | {f"component.{name}" for name in WEIGHTS} == hardware.LABELS.keys()
    assert sum(WEIGHTS.values()) == 35


def test_a_commitment_needs_salt_and_covers_the_whole_vector() -> None:
    """Another salt or one changed entry makes another commitment."""
    base = vector(Reading(OFFICE, PARTS), PRODUCT)
    first = commitment(base, b"s" * 16)
    assert len(first) == len(b64u(bytes(32)))
    assert commitment(dict(reversed(base.items())), b"s" * 16) == first
    assert commitment({**base, "anchor.nic": "0" * 32}, b"s" * 16) != first
    assert commitment(base, b"t" * 16) != first
    with pytest.raises(ValueError, match="16 bytes"):
        commitment(base, b"short")
