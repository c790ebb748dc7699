"""The Windows probe on recorded computers: rules, structures, and readings that are hidden, hostile or broken."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyturn.core.hardware import evidence, match, pairs, same, vector
from keyturn.core.model import ProductName
from keyturn.edge.probes import Computer, read, recorded_system
from keyturn.edge.probes.windows import CONTROL, CURRENT, INTERNATIONAL, THIS_COMPUTER
from keyturn.edge.probes.windows_structs import disk, interfaces
from keyturn.testing.computers import RecordedComputer, load, synthetic
from keyturn.testing.windows_parts import ELSEWHERE

PRODUCT = ProductName("P" * 43, "writer")
FACTS = {
    "computer_make", "computer_model", "os_name", "os_version", "os_build", "region", "language", "firmware_name",
    "firmware_revision", "firmware_date", "boot_file_name", "boot_file_sha256",
}  # fmt: skip
NAMES = ("win-office-a", "win-laptop-a-docked", "win-hyperv", "win-ec2-a", "win-container", "win-diy-a")


def seen(computer: RecordedComputer | str, top: Path) -> Computer:
    recorded = load(computer) if isinstance(computer, str) else computer
    return read(str(recorded.write(top / recorded.name)))


def changed(name: str, part: str, change: Callable[[Any], object]) -> RecordedComputer:
    """The recorded computer with one of its JSON files changed."""
    recorded, path = load(name), f"windows/{part}.json"
    value = json.loads(recorded.files[path])
    change(value)
    return recorded.variant(f"{name}-changed", files={path: json.dumps(value)})


def test_a_recorded_computers_folder_says_its_system(tmp_path: Path) -> None:
    """`windows` and `macos` are folders that no Linux has at its root."""
    for name, system in (("win-office-a", "win32"), ("mac-book-a", "darwin"), ("office-pc-a", "linux")):
        assert recorded_system(str(load(name).write(tmp_path / name))) == system


def test_a_pc_tells_all_four_anchors_and_every_fact(tmp_path: Path) -> None:
    """What the firmware, the registry and the devices say is what is read."""
    recorded = load("win-office-a")
    pc = seen(recorded, tmp_path)
    assert set(pc.reading.anchors) == {"uuid", "board", "disk", "nic"}
    assert pc.reading.anchors["nic"] == "a4bb6d51a7b0"
    assert pc.unreadable == {"vm": "not a virtual machine"}
    loader = "Windows/Boot/EFI/bootmgfw.efi"
    assert pc.facts == {
        "computer_make": "Example Computers", "computer_model": "Office 7080", "firmware_name": "Example Computers",
        "firmware_revision": "1.14.2", "firmware_date": "06/01/2022", "os_name": "Windows 11 Pro", "os_version": "23H2",
        "os_build": "22631.3155", "language": "de", "region": "DE", "boot_file_name": loader,
        "boot_file_sha256": hashlib.sha256(recorded.files[loader].encode()).hexdigest(),
    }  # fmt: skip
    assert (pc.vm_kind, pc.container, pc.ephemeral_hint) == (None, None, False)
    assert set(pc.reading.components) == {
        "disk", "firmware", "processor", "memory", "optical", "volume", "disk_controller", "network_adapter", "audio", "display",
    }  # fmt: skip
    assert read(str(tmp_path / recorded.name), facts=False).facts == {}


def test_the_same_computer_under_linux_is_the_same(tmp_path: Path) -> None:
    """A PC with both systems is one seat, and a certificate of the one holds under the other."""
    windows, linux = seen("win-office-a", tmp_path).reading, seen("win-office-a-linux", tmp_path).reading
    assert windows.anchors == linux.anchors
    differ = {name for name, value in windows.components.items() if linux.components.get(name) != value}
    assert differ == {"volume", "optical"}
    assert same(vector(windows, PRODUCT), vector(linux, PRODUCT)).same


def test_an_nvme_disk_tells_another_number_under_windows(tmp_path: Path) -> None:
    """Its EUI-64 in place of its serial number: three of four anchors agree, which is one seat."""
    windows, linux = seen("win-laptop-a", tmp_path).reading, seen("win-laptop-a-linux", tmp_path).reading
    assert {slot for slot in windows.anchors if windows.anchors[slot] != linux.anchors[slot]} == {"disk"}
    assert match(pairs(linux.anchors, PRODUCT), pairs(windows.anchors, PRODUCT)).same


def test_windows_11_is_called_by_its_name(tmp_path: Path) -> None:
    """The registry says 10; builds from 22000 are 11, servers are what they say."""
    named = {
        "win-office-a": "Windows 11 Pro",
        "win-image-1": "Windows 10 Enterprise",
        "win-ec2-a": "Windows Server 2022 Datacenter",
    }
    assert {name: seen(name, tmp_path).facts["os_name"] for name in named} == named


@pytest.mark.parametrize(
    ("said", "language", "region"),
    [("en-GB", "en", "GB"), ("zh-Hans-CN", "zh", "CN"), ("de", "de", None), ("", None, None)],
)
def test_language_and_region_come_from_the_locales_name(
    said: str, language: str | None, region: str | None, tmp_path: Path
) -> None:
    """A script between them is left out; what is not named is unknown with a reason."""
    facts = seen(changed("win-office-a", "registry", lambda r: r[INTERNATIONAL].update(LocaleName=said)), tmp_path)
    assert (facts.facts.get("language"), facts.facts.get("region")) == (language, region)
    assert all(facts.unreadable[name] for name in ("language", "region") if name not in facts.facts)


def test_a_computer_without_efi_names_its_other_loader(tmp_path: Path) -> None:
    """With the old firmware the boot manager is another file; without either there is a reason."""
    bios = changed("win-office-a", "registry", lambda r: r[CONTROL].update(PEFirmwareType=1))
    with_loader = bios.variant("bios", files={"Windows/Boot/PCAT/bootmgr": "recorded boot manager\n"})
    assert seen(with_loader, tmp_path).facts["boot_file_name"] == "Windows/Boot/PCAT/bootmgr"
    assert "boot_file_name" in seen(bios, tmp_path).unreadable


# Which device counts.


def test_a_dock_and_usb_devices_change_nothing(tmp_path: Path) -> None:
    """What Windows counts to another container, or hangs on USB, is not this computer."""
    alone = seen("win-laptop-a", tmp_path).reading
    assert seen("win-laptop-a-docked", tmp_path).reading == alone
    assert seen("win-laptop-a-usb", tmp_path).reading == alone


def test_the_container_is_what_decides(tmp_path: Path) -> None:
    """Were the dock's devices the computer's own, its adapter would take the radio's place; unmarked ones do not count."""

    def own(devices: Any) -> None:
        for device in devices.values():
            device["container"] = THIS_COMPUTER.upper()

    def unmarked(devices: Any) -> None:
        for device in devices.values():
            device["container"] = None

    alone = seen("win-laptop-a", tmp_path).reading.anchors
    assert seen(changed("win-laptop-a-docked", "devices", own), tmp_path / "own").reading.anchors["nic"] != alone["nic"]
    assert set(seen(changed("win-laptop-a", "devices", unmarked), tmp_path / "none").reading.anchors) == {
        "uuid",
        "board",
    }


def test_a_card_does_not_take_the_place_of_the_adapter_on_the_board(tmp_path: Path) -> None:
    """The firmware's mark for what is soldered on goes before the order of the bus."""
    assert seen("win-office-a-more-parts", tmp_path).reading.anchors["nic"] == "a4bb6d51a7b0"


@pytest.mark.parametrize(
    "change",
    [{"bus": "usb"}, {"bus": "iscsi"}, {"bus": "spaces"}, {"bus": "file"}, {"bus": "fibre"}, {"bus": "sd", "removable": True},
     {"removable": True}, {"removable": None}, {"instance": "SCSI\\NOWHERE"}, {"instance": None}],
)  # fmt: skip
def test_a_disk_that_is_not_inside_does_not_count(change: dict[str, object], tmp_path: Path) -> None:
    """Removable, on USB, on a network, made of software, or at no place that Windows knows."""
    assert "disk" not in seen(changed("win-office-a", "disks", lambda d: d[0].update(change)), tmp_path).reading.anchors


@pytest.mark.parametrize(
    "change",
    [{"type": 24}, {"type": 131}, {"hardware": False}, {"permanent": "021122334455"}, {"permanent": ""}, {"permanent": None},
     {"instance": "ROOT\\VMS_MP\\0000"}, {"instance": "SWD\\MSRRAS\\MS_NDISWANIP"}],
)  # fmt: skip
def test_an_adapter_that_is_no_hardware_does_not_count(change: dict[str, object], tmp_path: Path) -> None:
    """Virtual switches, tunnels, team interfaces, addresses that software made up."""
    assert (
        "nic" not in seen(changed("win-office-a", "adapters", lambda a: a[0].update(change)), tmp_path).reading.anchors
    )


def test_a_wired_adapter_goes_before_a_radio(tmp_path: Path) -> None:
    """Wired first, whatever the order of the table."""
    wired = {"instance": "PCI\\VEN_8086&DEV_15F3\\3&1&0&00", "type": 6, "permanent": "1c697a000001", "hardware": True}
    laptop = changed("win-laptop-a", "adapters", lambda a: a.append(wired))
    device = {
        wired["instance"]: {
            "location": ["PCIROOT(0)#PCI(1F06)"],
            "container": THIS_COMPUTER,
            "ids": [],
            "bus": [0, 31, 6],
        }
    }
    devices = {**json.loads(laptop.files["windows/devices.json"]), **device}
    both = laptop.variant("both", files={"windows/devices.json": json.dumps(devices)})
    assert seen(both, tmp_path).reading.anchors["nic"] == "1c697a000001"
    devices[wired["instance"]]["container"] = ELSEWHERE
    away = laptop.variant("away", files={"windows/devices.json": json.dumps(devices)})
    assert seen(away, tmp_path).reading.anchors["nic"] == "a0e70b51b8c0"


# What kind of computer.


@pytest.mark.parametrize(
    ("name", "kind", "box", "strong"),
    [("win-office-a", None, None, True), ("win-hyperv", "hyperv", None, True), ("win-vmware-a", "vmware", None, True),
     ("win-azure-a", "azure", None, True), ("win-ec2-a", "aws", None, True), ("win-container", None, "windows", False)],
)  # fmt: skip
def test_what_kind_of_computer_it_is(
    name: str, kind: str | None, box: str | None, strong: bool, tmp_path: Path
) -> None:
    """The firmware's words tell hypervisors and clouds; in one only `vm` counts, and everybody reads it."""
    found = seen(name, tmp_path)
    assert (found.vm_kind, found.container) == (kind, box)
    assert set(found.reading.anchors) == ({"vm"} if kind else {"uuid", "board", "disk", "nic"} if strong else set())
    assert evidence(pairs(found.reading.anchors, PRODUCT)) == ("strong" if strong else "weak")
    assert found.ephemeral_hint == (box is not None)


def test_a_generation_id_is_not_read(tmp_path: Path) -> None:
    """It is another after every checkpoint that is applied: a license must not be."""
    before, after = seen("win-hyperv", tmp_path), seen("win-hyperv-checkpoint", tmp_path)
    assert before == after


def test_placeholders_are_no_values(tmp_path: Path) -> None:
    """A board whose maker filled in nothing is known by disk and adapter."""
    found = seen("win-diy-a", tmp_path)
    assert set(found.reading.anchors) == {"disk", "nic"}
    assert (
        found.unreadable["uuid"]
        == found.unreadable["board"]
        == "only a placeholder or a value shared with other computers"
    )


def test_computers_of_one_image_differ_in_hardware_alone(tmp_path: Path) -> None:
    """The registry of a golden image is the same everywhere; the seats are not."""
    one, two = load("win-image-1"), load("win-image-2")
    assert one.files["windows/registry.json"] == two.files["windows/registry.json"]
    mine, other = (pairs(seen(item, tmp_path).reading.anchors, PRODUCT) for item in (one, two))
    assert not set(mine.values()) & set(other.values())


def test_facts_hold_no_serial_number_or_address(tmp_path: Path) -> None:
    """What is declared never contains what identifies."""
    for name in NAMES:
        found = seen(name, tmp_path)
        said = json.dumps([dict(found.facts), dict(found.unreadable)]).lower()
        assert not [value for value in found.reading.anchors.values() if value.lower() in said]


# Two structures of Windows' interfaces.


def descriptor(kind: int = 0, removable: int = 0, bus: int = 17, serial: str = "0025_38B1_2100_7A3C.") -> bytes:
    texts = b"\0".join([b"Example ", b"NVMe 1TB", b"1.0", serial.encode(), b""])
    offsets = (36, 36 + 9, 36 + 18, 36 + 22)
    return struct.pack("<IIBBBBIIIIII", 40, 36 + len(texts), kind, 0, removable, 1, *offsets, bus, 0) + texts


def test_a_disks_descriptor_is_taken_apart() -> None:
    """Texts by their offsets, the bus by its number."""
    expected = {
        "bus": "nvme",
        "removable": False,
        "vendor": "Example",
        "product": "NVMe 1TB",
        "serial": "0025_38B1_2100_7A3C.",
    }
    assert disk(descriptor()) == expected
    assert disk(descriptor(removable=1, bus=7, serial="")) == {
        **expected,
        "bus": "usb",
        "removable": True,
        "serial": None,
    }
    assert disk(descriptor(kind=5)) is None, "an optical drive is no disk"
    assert disk(descriptor(bus=99)) == {**expected, "bus": ""}


def row(address: bytes, permanent: bytes, kind: int = 6, flags: int = 0b101) -> bytes:
    data = bytearray(1352)
    data[12:28] = bytes.fromhex("33221100554477668899aabbccddeeff")
    struct.pack_into("<I", data, 1056, len(address))
    data[1060 : 1060 + len(address)] = address
    data[1092 : 1092 + len(permanent)] = permanent
    struct.pack_into("<I", data, 1128, kind)
    data[1152] = flags
    return bytes(data)


def test_a_table_of_interfaces_is_taken_apart() -> None:
    """The address that the adapter was made with, not the one that somebody set."""
    mine, shown = bytes.fromhex("a0e70b51b8c0"), bytes.fromhex("5e129a07c341")
    table = struct.pack("<II", 2, 0) + row(shown, mine, 71) + row(b"", b"", 24, flags=0)
    first, second = interfaces(table)
    guid = "{00112233-4455-6677-8899-aabbccddeeff}"
    assert first == {"guid": guid, "type": 71, "permanent": "a0e70b51b8c0", "hardware": True}
    assert second == {"guid": guid, "type": 24, "permanent": "", "hardware": False}
    assert len(interfaces(struct.pack("<II", 1 << 31, 0) + row(shown, mine))) == 1, "no more rows than bytes"


@given(st.binary(max_size=2000))
def test_no_bytes_break_the_structures(data: bytes) -> None:
    """Offsets that point outside and counts that are too large give less, not a fault."""
    disk(data)
    interfaces(data)
    interfaces(struct.pack("<II", 3, 0) + data)


# Broken readings.


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(name=st.sampled_from(NAMES), data=st.data())
def test_garbage_in_any_file_never_breaks_the_probe(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever bytes or whatever JSON stands in a file, the answer is a value or unknown."""
    recorded = load(name)
    top = recorded.write(tmp_path_factory.mktemp("garbage") / "pc")
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=8)
        | st.sampled_from(["6", "PCI\\X", THIS_COMPUTER])
    )
    keys = st.sampled_from(
        ["instance", "bus", "serial", "type", "permanent", "memory", CURRENT, "location", "container", "x"]
    )
    tree = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
    )
    junk = st.binary(max_size=80) | tree.map(lambda value: json.dumps(value).encode())
    for path in data.draw(st.lists(st.sampled_from(sorted(recorded.files)), min_size=1, max_size=4, unique=True)):
        (top / path).write_bytes(data.draw(junk))
    found = read(str(top))
    assert set(found.facts) | set(found.unreadable) >= FACTS
    assert set(found.reading.anchors) | set(found.unreadable) >= {"uuid", "board", "disk", "nic", "vm"}
    vector(found.reading, PRODUCT)


def test_without_any_reading_everything_is_unknown_with_a_reason(tmp_path: Path) -> None:
    """An empty folder `windows` is a computer that tells nothing."""
    (tmp_path / "windows").mkdir()
    found = read(str(tmp_path))
    assert found.reading == ({}, {})
    assert set(found.unreadable) >= FACTS | {"uuid", "board", "disk", "nic"}
    assert all(found.unreadable.values())


def test_a_fleet_of_windows_computers_shares_nothing(tmp_path: Path) -> None:
    """Any number of one model, as the Linux ones."""
    for model in ("windows-pc", "windows-laptop"):
        tags = [
            set(pairs(seen(synthetic(seed, model), tmp_path).reading.anchors, PRODUCT).values()) for seed in range(20)
        ]
        assert len(set.union(*tags)) == 20 * 6
