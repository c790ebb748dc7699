"""Seats: a computer of the same model is another one; the same computer costs nothing, whatever was done to it."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from keyturn.testing.computers import RecordedComputer, synthetic
from programs import Home
from show.stage import Stage, item


def _same_model() -> tuple[RecordedComputer, RecordedComputer]:
    """Two computers of one batch: firmware, processor, memory and every model number are equal, byte for byte."""
    one, two = synthetic(4711), synthetic(4712)
    for path in (
        "sys/class/dmi/id/bios_version",
        "sys/class/dmi/id/product_name",
        "proc/cpuinfo",
        "proc/meminfo",
        "etc/machine-id",
    ):
        assert one.files[path] == two.files[path], path
    return one, two


def _copied(home: Home, stage: Stage, sysroot: Path) -> Home:
    copy = stage.home(sysroot)
    shutil.copytree(home.path, copy.path)
    return copy


@item("A same-model second computer: the retail key is refused")
def second_computer(stage: Stage) -> str:
    one, two = _same_model()
    key = stage.key()
    stage.home(stage.pc(one)).activate(stage.test, key["key"]).ok()
    refused = stage.home(stage.pc(two)).activate(stage.test, key["key"])
    assert (refused.exit, refused.code) == (1, "limit_reached"), refused
    assert stage.publisher.seats(key["serial"]) == 1
    return f"exit 1, limit_reached: {refused.json['error']['detail']}"


@item("The store copied to it is not licensed, also with /sys hidden")
def copied_store(stage: Stage) -> str:
    one, two = _same_model()
    home = stage.home(stage.pc(one))
    home.activate(stage.test, stage.key()["key"]).ok()
    assert home.status()["state"] == "licensed"
    found = []
    empty = stage.place("empty")
    for name, sysroot in (
        ("second computer", stage.pc(two)), ("its /sys hidden", stage.pc(two.hidden())),
        ("first's /sys hidden", stage.pc(one.hidden())), ("nothing readable", empty),
    ):  # fmt: skip
        copy = _copied(home, stage, sysroot)
        entry = copy.status()
        assert entry["state"] != "licensed", (name, entry)
        assert copy("status", "--check", "licensed").exit == 1
        found.append(f"{name}: {entry['state']}, {entry['reason']}")
    refused = _copied(home, stage, stage.pc(two))("activate", "--yes")
    assert home.status()["state"] == "licensed"
    return "; ".join(found) + f"; activating the copy there: exit {refused.exit} {refused.code or 'a counted move'}"


@item("A MAK counts two seats for the two")
def mak_counts(stage: Stage) -> str:
    key = stage.mak(3)
    for recorded in _same_model():
        stage.home(stage.pc(recorded)).activate(stage.test, key["key"]).ok()
    used = stage.publisher.seats(key["serial"])
    assert used == 2
    return f"{used} of 3 seats used"


def _no_cost(stage: Stage, *computers: Path) -> str:
    """Activate one key on each of these, which are one computer; the retail key's one seat must do."""
    key = stage.key()
    names = set()
    for sysroot in computers:
        names.add(stage.home(sysroot).activate(stage.test, key["key"]).ok().product["activation_id"])
    used = stage.publisher.seats(key["serial"])
    assert used == 1, f"{used} seats"
    assert len(names) == 1, f"{len(names)} activations"
    return f"seats used {used}, {len(names)} activation for {len(computers)} installations"


@item("No cost: reinstalled (new system, new store)")
def reinstalled(stage: Stage) -> str:
    pc = synthetic(100)
    return _no_cost(stage, stage.pc(pc), stage.pc(pc.reinstalled()), stage.pc(pc.reinstalled(2)))


@item("No cost: root, then an unprivileged user; and the other way round")
def root_then_user(stage: Stage) -> str:
    pc, other = synthetic(101), synthetic(102)
    first = _no_cost(stage, stage.pc(pc), stage.pc(pc, as_user=True))
    _no_cost(stage, stage.pc(other, as_user=True), stage.pc(other))
    return first


@item("No cost: 40 users of one computer, four at a time")
def forty_users(stage: Stage) -> str:
    key, sysroot = stage.key(), stage.pc(synthetic(103, "server"), as_user=True)
    homes = [stage.home(sysroot) for _ in range(40)]
    with ThreadPoolExecutor(4) as pool:
        entries = [
            result.ok().product for result in pool.map(lambda home: home.activate(stage.test, key["key"]), homes)
        ]
    assert {entry["state"] for entry in entries} == {"licensed"}
    used = stage.publisher.seats(key["serial"])
    assert used == 1, f"{used} seats"
    assert len({entry["activation_id"] for entry in entries}) == 1
    assert len({entry["installation_guid"] for entry in entries}) == 40
    return f"seats used {used}, 40 installations"


@item("No cost: a new disk, and a dock with its own network adapter")
def disk_and_dock(stage: Stage) -> str:
    desk, notebook = synthetic(104), synthetic(105, "laptop")
    disk = _no_cost(stage, stage.pc(desk), stage.pc(desk.new_disk()), stage.pc(desk.new_disk("ANOTHERDISK7731")))
    dock = _no_cost(stage, stage.pc(notebook), stage.pc(notebook.docked()), stage.pc(notebook))
    home = stage.home(stage.pc(desk))
    home.activate(stage.test, stage.key()["key"]).ok()
    home.env["KEYTURN_SYSROOT"] = str(stage.pc(desk.new_disk()))
    assert home.status()["state"] == "licensed", "the installed license did not survive the new disk"
    home.env["KEYTURN_SYSROOT"] = str(stage.pc(desk.docked()))
    assert home.status()["state"] == "licensed", "the installed license did not survive the dock"
    return f"disk: {disk}; dock: {dock}; installed licenses stay licensed"
