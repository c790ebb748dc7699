"""Who is whom: the recorded computers, the golden matrix, the simulation, and the rules that must fail it."""

from __future__ import annotations

import json
from functools import cache

import pytest

import seat_corpus
import who_is_whom
from keyturn.core.hardware import match, same
from keyturn.testing import computers
from seat_classes import CLASSES, PLANTED, passes, simulate_class
from seat_simulation import MODEL, simulate

WANTED = (
    "same-model pair", "template VM, UUID regenerated", "template VM, UUID copied", "container", "dock", "disk swap",
    "board swap", "cloud instance", "WSL", "CI runner", "placeholder board", "server with many users",
    "Windows PC, same model", "Windows PC, golden image", "Windows laptop, dock", "Windows VM", "Windows instance",
    "Windows container", "dual boot", "Mac with Apple silicon", "Mac with an Intel processor", "virtual Mac", "pod",
    "pod in a sandbox", "VM generation ID changed",
)  # fmt: skip


@cache
def views() -> tuple[who_is_whom.View, ...]:
    return tuple(who_is_whom.views())


# The corpus.


def test_corpus_and_matrix_are_as_committed() -> None:
    """The recorded computers and every mark of who is whom are what the scripts make of them."""
    committed = {path.name: path.read_text("utf-8") for path in who_is_whom.CORPUS.glob("*.json")}
    assert committed == seat_corpus.texts()
    assert who_is_whom.matrix(list(views())) == who_is_whom.GOLDEN.read_text("utf-8")


def test_the_corpus_covers_the_classes_of_the_design() -> None:
    """At least twelve classes, same-model pairs and template machines among them; every entry tells its story."""
    entries = [json.loads(path.read_text("utf-8")) for path in who_is_whom.CORPUS.glob("*.json")]
    classes = {entry["class"] for entry in entries}
    assert len(classes) >= 12
    assert set(WANTED) <= classes
    assert all(entry["story"] and entry["who"] for entry in entries)
    assert sorted(entry["name"] for entry in entries) == computers.names()


def test_two_computers_are_never_one_seat_but_for_copied_uuids() -> None:
    """Of all recorded computers only the machines copied with their UUID share a seat or a certificate, two by two."""
    joined = set()
    for a in views():
        for b in views():
            if a.recorded.who != b.recorded.who and (
                match(a.pairs, b.pairs).same or (same(a.vector, b.vector).same and a.pairs)
            ):
                joined.add(frozenset({a.recorded.name, b.recorded.name}))
    copied = [frozenset({"vm-copy-a", "vm-copy-b"}), frozenset({"mac-vm-copy-a", "mac-vm-copy-b"})]
    assert joined == set(copied)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("office-pc-a", "office-pc-a-reinstalled"),
        ("office-pc-a:user", "office-pc-a-reinstalled:user"),
        ("office-pc-a", "office-pc-a:user"),
        ("office-pc-a:user", "office-pc-a"),
        ("office-pc-a", "office-pc-a-new-disk"),
        ("office-pc-a", "office-pc-a-firmware-update"),
        ("office-pc-a", "office-pc-a-more-parts"),
        ("laptop-a", "laptop-a-docked"),
        ("laptop-a:user", "laptop-a-docked:user"),
        ("laptop-a", "laptop-a-usb:user"),
        ("laptop-a", "laptop-a-new-radio"),
        ("server-a", "server-a-failover:user"),
        ("vm-template-a", "vm-template-a-moved"),
        ("vm-template-a", "vm-template-a-snapshot"),
        ("ec2-a:user", "ec2-a-resized"),
        ("ec2-a", "ec2-a-docker:user"),
        ("ec2-a:user", "ec2-a-pod-2:user"),
        ("vm-template-a", "vm-template-a-generation"),
        ("win-office-a", "win-office-a-reinstalled"),
        ("win-office-a", "win-office-a-new-disk"),
        ("win-office-a", "win-office-a-more-parts"),
        ("win-office-a", "win-office-a-linux:user"),
        ("win-laptop-a", "win-laptop-a-docked"),
        ("win-laptop-a", "win-laptop-a-usb"),
        ("win-laptop-a", "win-laptop-a-linux"),
        ("win-hyperv", "win-hyperv-checkpoint"),
        ("win-ec2-a", "win-ec2-a-resized"),
        ("mac-book-a", "mac-book-a-upgraded"),
        ("mac-book-a", "mac-book-a-docked"),
        ("mac-intel-a", "mac-intel-a-new-disk"),
    ],
)
def test_what_costs_nothing(before: str, after: str) -> None:
    """The customer's table: the seat is found again, and the certificate holds meanwhile."""
    seen = {view.name: view for view in views()}
    assert match(seen[after].pairs, seen[before].pairs).same
    assert same(seen[before].vector, seen[after].vector).same


def test_a_copied_store_is_not_licensed_even_with_sys_hidden() -> None:
    """A same-model neighbour's hardware is not this one's, and hiding hardware is not having it."""
    seen = {view.name: view for view in views()}
    for base in ("office-pc-a", "office-pc-a:user", "laptop-a", "server-a"):
        for other in ("office-pc-b", "laptop-b", "server-b", "office-pc-b:user"):
            assert not same(seen[base].vector, seen[other].vector).same
        assert same(seen[base].vector, seen["office-pc-a-no-sys"].vector).reason == "hardware_unreadable"


# The simulation.


@pytest.mark.parametrize("computers", [100, 10_000])
@pytest.mark.parametrize("rule", ["keyturn", "weights-only", "one-digest"])
def test_the_rule_passes_the_simulation_and_the_planted_ones_fail(rule: str, computers: int) -> None:
    """False same and false different stay within the limits for the project's rule, and for no planted one."""
    result = simulate(computers, seed=1, rule=rule)
    assert result.passed == (rule == "keyturn"), result.lines()


@pytest.mark.parametrize("name", [*CLASSES, PLANTED])
def test_each_class_of_computers_passes_alone(name: str) -> None:
    """No class hides behind the others; a generation ID as identity does not pass."""
    result = simulate_class(name, 2_000, seed=1)
    assert passes(name, result) == (name != PLANTED), result.lines()


def test_the_simulation_sees_short_tags() -> None:
    """With tags of 8 bits strangers meet: the simulation would notice a truncation too far."""
    assert simulate(2_000, seed=1, bits=8).false_same > 0.1
    assert simulate(2_000, seed=1).false_same == 0


def test_the_simulation_sees_a_shared_value_in_every_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were three slots of every fleet shared by a batch, the rule would fail, and the simulation says so."""
    for share in ("uuid_shared", "board_shared", "disk_shared"):
        monkeypatch.setitem(MODEL, share, 1.0)  # type: ignore[misc, call-overload, unused-ignore]
    assert simulate(2_000, seed=1).false_same > 0.1


def test_synthetic_computers_of_one_model_are_all_different() -> None:
    """Any number of same-model computers share no pair, and a seed makes the same computer again."""
    for model in computers.MODELS:
        made = [computers.synthetic(seed, model) for seed in range(400)]
        assert made[7] == computers.synthetic(7, model)
        individual = [{text for path, text in one.files.items() if text != made[0].files.get(path)} for one in made[1:]]
        assert all(individual)
        if made[0].root_only:
            assert len({text for path in made[0].root_only for text in (one.files[path] for one in made)}) >= 400
