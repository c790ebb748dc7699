"""The macOS probe on recorded Macs: rules, and answers that are hidden, hostile or broken."""

from __future__ import annotations

import hashlib
import json
import plistlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyturn.core.hardware import pairs, vector
from keyturn.core.model import ProductName
from keyturn.edge.probes import Computer, macos, read
from keyturn.testing.computers import RecordedComputer, load, synthetic

PRODUCT = ProductName("P" * 43, "writer")
FACTS = {
    "computer_make", "computer_model", "os_name", "os_version", "os_build", "region", "language", "firmware_name",
    "firmware_revision", "firmware_date", "boot_file_name", "boot_file_sha256",
}  # fmt: skip
NAMES = ("mac-book-a-docked", "mac-intel-a", "mac-vm-a")


def seen(computer: RecordedComputer | str, top: Path) -> Computer:
    recorded = load(computer) if isinstance(computer, str) else computer
    return read(str(recorded.write(top / recorded.name)))


def changed(name: str, part: str, change: Callable[[Any], object]) -> RecordedComputer:
    """The recorded Mac with one of its property lists changed."""
    recorded, path = load(name), f"macos/{part}.plist"
    value = plistlib.loads(recorded.files[path].encode())
    change(value)
    return recorded.variant(f"{name}-changed", files={path: plistlib.dumps(value).decode()})


def test_a_mac_with_apple_silicon_tells_all_four_anchors(tmp_path: Path) -> None:
    """UUID, serial number, the disk's by its controller, the radio's hardware address; and every fact but a date."""
    recorded = load("mac-book-a")
    mac = seen(recorded, tmp_path)
    assert set(mac.reading.anchors) == {"uuid", "board", "disk", "nic"}
    assert mac.reading.anchors["nic"] == "a0789c33d201"
    assert mac.reading.anchors["disk"] == "0BA033D201C1D4E8"
    kernel = "System/Library/KernelCollections/BootKernelExtensions.kc"
    assert mac.facts == {
        "computer_make": "Apple Inc.", "computer_model": "Mac14,2", "firmware_name": "Apple Inc.",
        "firmware_revision": "iBoot-10151.101.3", "os_name": "macOS", "os_version": "14.4.1", "os_build": "23E224",
        "language": "de", "region": "DE", "boot_file_name": kernel,
        "boot_file_sha256": hashlib.sha256(recorded.files[kernel].encode()).hexdigest(),
    }  # fmt: skip
    assert mac.unreadable == {"vm": "not a virtual machine", "firmware_date": "the firmware does not say"}
    assert mac.reading.components.keys() == {"disk", "firmware", "processor", "memory"}
    assert (mac.vm_kind, mac.container, mac.ephemeral_hint) == (None, None, False)


def test_a_mac_with_an_intel_processor_tells_its_parts_too(tmp_path: Path) -> None:
    """PCI devices are the components that Linux and Windows know; the loader is a file."""
    mac = seen("mac-intel-a", tmp_path)
    assert mac.reading.anchors.keys() == {"uuid", "board", "disk", "nic"}
    assert (mac.reading.anchors["disk"], mac.reading.anchors["nic"]) == ("S3Z1NB0K44D301", "a85c2c44d301")
    assert {"display", "audio", "disk_controller", "network_adapter"} <= mac.reading.components.keys()
    assert mac.reading.components["firmware"] == "apple|Apple Inc.|Mac-AA95B1DDAB278B95"
    assert mac.facts["boot_file_name"] == "System/Library/CoreServices/boot.efi"
    assert mac.facts["firmware_date"] == "02/08/2024"


def test_a_dock_changes_nothing(tmp_path: Path) -> None:
    """What is not built in, or outside, or behind a tunnel, is not this Mac."""
    assert seen("mac-book-a-docked", tmp_path).reading == seen("mac-book-a", tmp_path).reading


def test_a_thunderbolt_port_is_no_adapter(tmp_path: Path) -> None:
    """It is built in, and its address is made up by the system: locally administered."""
    without = changed("mac-book-a", "network", lambda network: network.pop(0))
    found = seen(without, tmp_path)
    assert "nic" not in found.reading.anchors
    assert found.unreadable["nic"] == "only a placeholder or a value shared with other computers"


def test_wired_goes_before_wireless(tmp_path: Path) -> None:
    """Also where the radio has the first name."""

    def swap(network: Any) -> None:
        for controller, name in zip(network, ("en1", "en0"), strict=True):
            controller["IORegistryEntryChildren"][0]["BSD Name"] = name

    assert seen(changed("mac-intel-a", "network", swap), tmp_path).reading.anchors["nic"] == "a85c2c44d301"


def test_apples_own_disk_goes_before_another(tmp_path: Path) -> None:
    """A second disk inside does not take the first one's place, whatever its number."""
    another = {
        "Device Characteristics": {"Serial Number": "0000A1", "Product Name": "Example SSD"},
        "Protocol Characteristics": {"Physical Interconnect": "SATA", "Physical Interconnect Location": "Internal"},
    }
    assert (
        seen(changed("mac-intel-a", "storage", lambda s: s.insert(0, another)), tmp_path).reading.anchors["disk"]
        == "S3Z1NB0K44D301"
    )


@pytest.mark.parametrize(
    "way", [{"Physical Interconnect Location": "External"}, {"Physical Interconnect": "USB"},
            {"Physical Interconnect": "Virtual Interface"}, {"Physical Interconnect Location": "File"}]
)  # fmt: skip
def test_a_disk_that_is_not_inside_does_not_count(way: dict[str, str], tmp_path: Path) -> None:
    """External, on USB, a disk image."""
    changed_way = changed("mac-intel-a", "storage", lambda s: s[0]["Protocol Characteristics"].update(way))
    assert "disk" not in seen(changed_way, tmp_path).reading.anchors


def test_in_a_virtual_mac_only_its_own_identity_counts(tmp_path: Path) -> None:
    """Told by the model's name, or by the kernel's word alone."""
    found = seen("mac-vm-a", tmp_path)
    assert (found.vm_kind, set(found.reading.anchors)) == ("apple", {"vm"})
    quiet = load("mac-book-a").variant("quiet", files={"macos/sysctl.txt": "kern.hv_vmm_present: 1\n"})
    found = seen(quiet, tmp_path)
    assert (found.vm_kind, set(found.reading.anchors)) == ("unknown", {"vm"})


def test_facts_hold_no_serial_number_or_address(tmp_path: Path) -> None:
    """What is declared never contains what identifies."""
    for name in NAMES:
        found = seen(name, tmp_path)
        said = json.dumps([dict(found.facts), dict(found.unreadable)]).lower()
        assert not [value for value in found.reading.anchors.values() if value.lower() in said]


def test_only_programs_of_the_system_are_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By their full paths, which here lead nowhere: then everything is unknown, and nothing else answers in their place."""
    fake = tmp_path / "ioreg"
    fake.write_text("#!/bin/sh\necho started >> " + str(tmp_path / "trace") + "\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert macos._program("platform", ["/usr/sbin/no-such-ioreg"]) == b""
    found = macos._ask(macos._program, True)
    assert not any(found.registry.values())
    assert not (tmp_path / "trace").exists()


def test_a_program_that_answers_is_heard_and_one_that_does_not_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of a real program comes through; patience has an end."""
    assert macos._program("sysctl", ["/bin/echo", "hw.model: X"]) == b"hw.model: X\n"
    monkeypatch.setattr(macos, "_PATIENCE", 0.2)
    assert macos._program("sysctl", ["/bin/sleep", "60"]) == b""


@pytest.mark.parametrize(
    "answer", [b"", b"<plist>", b"<plist><dict><key>a</plist>", b"bplist00\xff", b"<plist><date>x</date></plist>",
               b"<plist><string>s</string></plist>", b"<plist><integer>x</integer></plist>",
               b'<!DOCTYPE x [<!ENTITY a "b">]><plist>&a;</plist>']
)  # fmt: skip
def test_a_broken_answer_has_no_entries(answer: bytes) -> None:
    """Whatever a property list makes its reader stumble on."""
    assert macos.entries(answer) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(name=st.sampled_from(NAMES), data=st.data())
def test_garbage_in_any_file_never_breaks_the_probe(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever bytes or whatever property list stands in a file, the answer is a value or unknown."""
    recorded = load(name)
    top = recorded.write(tmp_path_factory.mktemp("garbage") / "mac")
    keys = st.sampled_from(
        ["IOPlatformUUID", "IOMACAddress", "IORegistryEntryChildren", "BSD Name", "class-code", "Serial Number", "model",
         "Device Characteristics", "Protocol Characteristics", "AppleLocale", "ProductName"]
    )  # fmt: skip
    leaves = st.booleans() | st.integers(0, 1 << 60) | st.sampled_from(["en0", "Internal", ""]) | st.binary(max_size=8)
    tree = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
    )
    formats = st.sampled_from([plistlib.FMT_XML, plistlib.FMT_BINARY])
    junk = st.binary(max_size=80) | st.builds(lambda value, fmt: plistlib.dumps(value, fmt=fmt), tree, formats)
    for path in data.draw(st.lists(st.sampled_from(sorted(recorded.files)), min_size=1, max_size=4, unique=True)):
        (top / path).write_bytes(data.draw(junk))
    found = read(str(top))
    assert set(found.facts) | set(found.unreadable) >= FACTS
    assert set(found.reading.anchors) | set(found.unreadable) >= {"uuid", "board", "disk", "nic", "vm"}
    vector(found.reading, PRODUCT)


def test_a_fleet_of_macs_shares_nothing(tmp_path: Path) -> None:
    """Any number of one model, as the Linux ones."""
    for model in ("macbook", "imac"):
        tags = [
            set(pairs(seen(synthetic(seed, model), tmp_path).reading.anchors, PRODUCT).values()) for seed in range(20)
        ]
        assert len(set.union(*tags)) == 20 * 6
