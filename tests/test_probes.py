"""The Linux probe: this computer, recorded computers, and files that are hidden, hostile or broken."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyturn.core.errors import KeyturnError
from keyturn.core.hardware import evidence, pairs, vector
from keyturn.core.model import ProductName
from keyturn.edge import probes
from keyturn.edge.probes import Computer, agentfile, read
from keyturn.edge.probes.tree import NOT_ROOT, natural
from keyturn.testing import computers
from keyturn.testing.computers import RecordedComputer, load

PRODUCT = ProductName("P" * 43, "writer")
FACTS = {
    "computer_make", "computer_model", "os_name", "os_version", "os_build", "region", "language", "firmware_name",
    "firmware_revision", "firmware_date", "boot_file_name", "boot_file_sha256",
}  # fmt: skip
DMI = "sys/class/dmi/id/"


def seen(computer: RecordedComputer | str, top: Path, *, as_user: bool = False) -> Computer:
    recorded = load(computer) if isinstance(computer, str) else computer
    return read(str(recorded.write(top / f"{recorded.name}-{as_user}", as_user=as_user)))


# This computer.


def test_this_computer_equals_an_independent_reading() -> None:
    """Every declared fact is there and right, or it is unreadable with a reason."""
    here = read()
    assert set(here.facts) | set(here.unreadable) >= FACTS
    assert not set(here.facts) & set(here.unreadable)
    assert all(isinstance(text, str) and text for text in [*here.facts.values(), *here.unreadable.values()])
    assert here.facts.get("os_build") == platform.release()
    release = platform.freedesktop_os_release()
    assert here.facts.get("os_name") == release["NAME"]
    assert here.facts.get("os_version") == release.get("VERSION_ID", release.get("BUILD_ID"))
    make = Path("/", DMI, "sys_vendor")
    assert here.facts.get("computer_make") == (make.read_text().strip() if make.exists() else None)
    assert set(here.reading.anchors) | set(here.unreadable) >= {"uuid", "board", "disk", "nic", "vm"}


def test_reading_twice_gives_the_same_computer() -> None:
    """Nothing read depends on the moment."""
    assert read().reading == read().reading == read(facts=False).reading
    assert read(facts=False).facts == {}


def test_the_locale_of_whoever_runs_it_is_told_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Language and region come from the environment first; `C` names none."""
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("LANG", "fr_CA.UTF-8@euro")
    here = read()
    assert (here.facts["language"], here.facts["region"]) == ("fr", "CA")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert read().unreadable["language"] == "the locale is C.UTF-8, which names none"


def test_a_build_service_is_a_place_that_forgets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`CI=true` hints at an ephemeral store here, but not in a recorded computer."""
    monkeypatch.setenv("CI", "true")
    assert read().ephemeral_hint
    assert not seen("office-pc-a", tmp_path).ephemeral_hint


def test_other_systems_are_said_to_be_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no probe yet, nothing is guessed."""
    monkeypatch.setattr(sys, "platform", "freebsd14")
    with pytest.raises(KeyturnError) as caught:
        read()
    assert caught.value.code == "platform_unsupported"


# What a module of the probe may do beside reading files: calls of Windows, programs of macOS, a cloud's metadata service.
REACH = {"windows_live": {"ctypes", "winreg"}, "macos": {"subprocess"}, "cloud": {"keyturn.edge.wire"}}


def test_the_probe_starts_no_program_and_asks_no_network() -> None:
    """The modules import nothing that could, but for the few that say so; Linux' probe imports none of them."""
    forbidden = {"subprocess", "socket", "ssl", "http", "urllib", "ctypes", "uuid", "winreg", "keyturn.edge.wire"}
    for path in Path(probes.__file__).parent.glob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
        used = {name if name.startswith("keyturn") else name.split(".")[0] for name in names} & forbidden
        assert used == REACH.get(path.stem, set()), path.stem
    loaded = "import sys; from keyturn.edge.probes import read; read(); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert not {"subprocess", "socket", "ctypes", "keyturn.edge.probes.cloud"} & set(done.stdout.split())


# Recorded computers.


def test_a_pc_with_full_firmware_tables(tmp_path: Path) -> None:
    """All four anchors and every fact are what the files say."""
    recorded = load("office-pc-a")
    pc = seen(recorded, tmp_path)
    assert set(pc.reading.anchors) == {"uuid", "board", "disk", "nic"}
    assert pc.reading.anchors["nic"] == "a4bb6d2c9392"
    assert pc.unreadable == {"vm": "not a virtual machine"}
    loader = "boot/efi/EFI/debian/shimx64.efi"
    assert pc.facts == {
        "computer_make": "Example Computers",
        "computer_model": "Office 7080",
        "firmware_name": "Example Computers",
        "firmware_revision": "1.14.2",
        "firmware_date": "06/01/2022",
        "os_name": "Debian GNU/Linux",
        "os_version": "12",
        "os_build": "6.1.0-28-amd64",
        "language": "de",
        "region": "DE",
        "boot_file_name": loader,
        "boot_file_sha256": hashlib.sha256(recorded.files[loader].encode()).hexdigest(),
    }
    assert (pc.vm_kind, pc.container, pc.ephemeral_hint) == (None, None, False)


def test_without_root_the_firmware_serials_are_unknown_and_the_rest_agrees(tmp_path: Path) -> None:
    """Root and user differ in the root-only slots alone, for every recorded computer."""
    for name in computers.names():
        root, user = seen(name, tmp_path), seen(name, tmp_path, as_user=True)
        assert user.reading.components == root.reading.components
        assert user.reading.anchors.items() <= root.reading.anchors.items()
        assert set(root.reading.anchors) - set(user.reading.anchors) <= {"uuid", "board", "vm"}
        assert {slot: user.unreadable[slot] for slot in set(root.reading.anchors) - set(user.reading.anchors)} == dict.fromkeys(
            set(root.reading.anchors) - set(user.reading.anchors), NOT_ROOT
        )
        assert set(user.facts) | set(user.unreadable) >= FACTS


def test_a_dock_and_usb_devices_change_nothing(tmp_path: Path) -> None:
    """What hangs on USB or Thunderbolt is not this computer."""
    alone = seen("laptop-a", tmp_path).reading
    assert seen("laptop-a-docked", tmp_path).reading == alone
    assert seen("laptop-a-usb", tmp_path).reading == alone
    recorded = load("laptop-a").docked()
    unmarked = recorded.variant("unmarked", without=[path for path in recorded.files if path.endswith("/removable")])
    assert seen(unmarked, tmp_path).reading.anchors["nic"] != alone.anchors["nic"], "the mark is what decides"


def test_the_radio_tells_its_own_address(tmp_path: Path) -> None:
    """A privacy address is not the adapter's; the radio's permanent one is."""
    laptop = load("laptop-a")
    assert seen(laptop, tmp_path).reading.anchors["nic"] == "a0e70b11f0c3"
    radioless = laptop.variant("radioless", without=[path for path in laptop.files if "/ieee80211/" in path])
    assert seen(radioless, tmp_path).unreadable["nic"] == "its address was set by software"


def test_the_disk_is_the_internal_one_on_the_lowest_path(tmp_path: Path) -> None:
    """Storage networks, second disks and names do not decide; a multipath NVMe disk is where its controller is."""
    assert seen("workstation-a", tmp_path).reading.anchors["disk"] == "ZR50015617"
    without = load("workstation-a").variant("one-disk", without=["sys/block/sdb"])
    assert seen(without, tmp_path).reading.anchors["disk"] == "22181Y815617"


def test_bonded_adapters_keep_their_own_addresses(tmp_path: Path) -> None:
    """Whichever adapter the bond works over, the server is the same."""
    assert seen("server-a", tmp_path).reading == seen("server-a-failover", tmp_path).reading


def test_a_card_does_not_take_the_place_of_the_adapter_on_the_board(tmp_path: Path) -> None:
    """The firmware's mark for what is soldered on goes before the order of the bus."""
    office = load("office-pc-a-more-parts")
    card = "sys/devices/pci0000:00/0000:00:19.0/net/enp0s25"
    front = {f"{card}/address": "00:1b:21:00:00:01\n", f"{card}/addr_assign_type": "0\n", f"{card}/type": "1\n"}
    link = {"sys/class/net/enp0s25": "../../" + card.removeprefix("sys/")}
    marked = office.variant("marked", files={**front, "sys/devices/pci0000:00/0000:00:1f.6/acpi_index": "1\n"}, links=link)
    assert seen(marked, tmp_path).reading.anchors["nic"] == "a4bb6d2c9392"
    unmarked = marked.variant("unmarked", without=["sys/devices/pci0000:00/0000:00:1f.6/acpi_index"])
    assert seen(unmarked, tmp_path).reading.anchors["nic"] == "001b21000001"


def test_a_place_on_the_bus_can_be_told_without_links(tmp_path: Path) -> None:
    """A recorded computer may be plain files: `device_path` says what the kernel's link would."""
    plain = {
        "sys/class/net/eth0/address": "a4:bb:6d:00:00:07\n",
        "sys/class/net/eth0/addr_assign_type": "0\n",
        "sys/class/net/eth0/device_path": "/sys/devices/pci0000:00/0000:00:1f.6/net/eth0\n",
        "sys/class/net/eth1/address": "a4:bb:6d:00:00:08\n",
        "sys/class/net/eth1/addr_assign_type": "0\n",
        "sys/class/net/eth1/device_path": "/sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/net/eth1\n",
    }
    assert seen(RecordedComputer("plain", "", "", plain, {}, frozenset()), tmp_path).reading.anchors == {"nic": "a4bb6d000007"}


def test_a_micro_vm_is_weak_with_reasons(tmp_path: Path) -> None:
    """No tables, a virtual disk, a local address: nothing individual, and an image's `/.dockerenv` makes no container."""
    small = seen("microvm-a", tmp_path)
    assert small.reading.anchors == {}
    assert evidence(pairs(small.reading.anchors, PRODUCT)) == "weak"
    assert (small.vm_kind, small.container, small.ephemeral_hint) == ("kvm", None, False)
    assert {"uuid", "board", "disk", "nic", "vm", "computer_make", "firmware_name", "boot_file_name"} <= set(small.unreadable)
    assert small.unreadable["computer_make"] == "no DMI on this computer"


@pytest.mark.parametrize(
    ("name", "kind", "box", "forgets"),
    [
        ("office-pc-a", None, None, False),
        ("office-pc-a-live", None, None, True),
        ("office-pc-a-docker", None, "docker", True),
        ("office-pc-a-podman", None, "podman", True),
        ("server-a-pod", None, "kubernetes", True),
        ("server-a-lxc", None, "lxc", False),
        ("wsl-a", "hyperv", "wsl", False),
        ("ec2-a", "aws", None, False),
        ("ec2-xen", "aws", None, False),
        ("azure-a", "azure", None, False),
        ("gce-a", "gce", None, False),
        ("hyperv", "hyperv", None, False),
        ("virtualbox", "virtualbox", None, False),
        ("vm-template-a", "vmware", None, False),
        ("vm-no-uuid-a", "kvm", None, False),
    ],
)
def test_what_kind_of_computer_it_is(name: str, kind: str | None, box: str | None, forgets: bool, tmp_path: Path) -> None:
    """Hypervisors, clouds and containers are known by their own words."""
    found = seen(name, tmp_path)
    assert (found.vm_kind, found.container, found.ephemeral_hint) == (kind, box, forgets)


def test_xens_first_domain_is_a_physical_computer(tmp_path: Path) -> None:
    """The hypervisor's own system sees the flag, but it holds the hardware."""
    files = {"proc/xen/capabilities": "control_d\n", "sys/hypervisor/type": "xen\n"}
    assert seen(load("server-a").variant("dom0", files=files), tmp_path).reading == seen("server-a", tmp_path).reading


def test_facts_hold_no_serial_number_address_or_host_name(tmp_path: Path) -> None:
    """What is declared never contains what identifies, and tags do not contain it either."""
    for name in computers.names():
        recorded = load(name).variant(name, files={"etc/hostname": "canary-host\n"})
        found = seen(recorded, tmp_path)
        secrets = [*found.reading.anchors.values(), "canary-host", recorded.files.get("etc/machine-id", "canary-host").strip()]
        sent = json.dumps([dict(found.facts), pairs(found.reading.anchors, PRODUCT), dict(found.unreadable)]).lower()
        assert not [secret for secret in secrets if secret.lower() in sent]


# The agent's file.


def with_agent(recorded: RecordedComputer, text: str) -> RecordedComputer:
    return recorded.variant(f"{recorded.name}-agent", files={agentfile.PATH: text})


@pytest.mark.parametrize("name", ["office-pc-a", "azure-a", "woven-a", "vm-template-a"])
def test_with_the_agents_file_a_user_is_the_same_computer(name: str, tmp_path: Path) -> None:
    """Unprivileged runs agree with root to the bit, and the file holds no value."""
    root = seen(name, tmp_path)
    text = agentfile.agent_text(root.reading)
    user = seen(with_agent(load(name), text), tmp_path, as_user=True)
    assert pairs(user.reading.anchors, PRODUCT) == pairs(root.reading.anchors, PRODUCT)
    assert vector(user.reading, PRODUCT) == vector(root.reading, PRODUCT)
    assert not any(value.lower() in text.lower() for value in root.reading.anchors.values())
    assert not set(user.unreadable) & set(user.reading.anchors)


def test_an_agents_file_that_others_may_write_counts_nothing(tmp_path: Path) -> None:
    """Root's word counts only while nobody else can change it."""
    text = agentfile.agent_text(seen("office-pc-a", tmp_path).reading)
    for number, path in enumerate((agentfile.PATH, "run/keyturn")):
        top = with_agent(load("office-pc-a"), text).write(tmp_path / str(number), as_user=True)
        assert "uuid" in read(str(top)).reading.anchors
        os.chmod(top / path, 0o777)
        assert "uuid" not in read(str(top)).reading.anchors


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]",
     '{"scheme": 2, "anchors": {}}', '{"scheme": 1, "anchors": []}', '{"scheme": 1, "anchors": {"uuid": "raw value"}}',
     '{"scheme": 1, "anchors": {"disk": "blind1:' + "0" * 64 + '", "uuid": 7}}'],
)  # fmt: skip
def test_a_broken_agents_file_is_as_good_as_none(text: str, tmp_path: Path) -> None:
    """Only blinded values of the root-only slots in this scheme are taken."""
    user = seen(with_agent(load("office-pc-a"), text), tmp_path, as_user=True)
    assert set(user.reading.anchors) == {"disk", "nic"}
    assert not any(value.startswith("blind") for value in user.reading.anchors.values())


# Hostile and broken files.


def test_a_recorded_computer_never_leads_outside(tmp_path: Path) -> None:
    """Links to this computer's files, absolute or climbing, are not followed."""
    (tmp_path / "outside").write_text("4c4c4544-004d-164b-8cb7-29b0fb2c9392")
    for number, target in enumerate((str(tmp_path / "outside"), "../" * 6 + "outside", "/etc/os-release")):
        links = {DMI + "product_uuid": target, "etc/os-release": "/etc/os-release", "sys/block/sdz": str(tmp_path)}
        recorded = load("office-pc-a").variant(str(number), without=[DMI + "product_uuid", "etc/os-release"], links=links)
        found = seen(recorded, tmp_path)
        assert "uuid" not in found.reading.anchors
        assert found.unreadable["os_name"] == "the system does not say"


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe does not block, a directory is no file, and a link in a circle is none either."""
    top = load("office-pc-a").write(tmp_path / "pc")
    for name in ("product_uuid", "board_serial", "bios_vendor"):
        (top / DMI / name).unlink()
    os.mkfifo(top / DMI / "product_uuid")
    (top / DMI / "board_serial").mkdir()
    (top / DMI / "bios_vendor").symlink_to("bios_vendor")
    found = read(str(top))
    assert set(found.reading.anchors) == {"disk", "nic"}
    assert "firmware_name" in found.unreadable


def test_a_boot_file_is_hashed_up_to_its_bound_and_named_beyond(tmp_path: Path) -> None:
    """64 MiB at most; without the right to read it there is a name but no hash."""
    top = load("office-pc-a").write(tmp_path / "large")
    loader = top / "boot/efi/EFI/debian/shimx64.efi"
    kernel = top / "boot/vmlinuz-6.1.0-28-amd64"
    os.truncate(loader, 64 * 1024 * 1024 + 1)
    found = read(str(top))
    assert found.facts["boot_file_name"] == "boot/vmlinuz-6.1.0-28-amd64"
    assert found.facts["boot_file_sha256"] == hashlib.sha256(kernel.read_bytes()).hexdigest()
    loader.unlink()
    kernel.chmod(0)
    found = read(str(top))
    assert found.facts["boot_file_name"] == "boot/vmlinuz-6.1.0-28-amd64"
    assert found.unreadable["boot_file_sha256"] == NOT_ROOT


def test_a_long_file_gives_its_beginning_only(tmp_path: Path) -> None:
    """Each read is bounded, so no file can fill the memory."""
    pc = load("office-pc-a").variant("long", files={DMI + "sys_vendor": "x" * 1_000_000})
    assert len(str(seen(pc, tmp_path).facts["computer_make"])) == 64 * 1024


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(name=st.sampled_from(["office-pc-a", "laptop-a", "ec2-xen", "server-a-pod"]), data=st.data())
def test_garbage_in_any_file_never_breaks_the_probe(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever bytes stand in a file, the answer is a value or unknown."""
    recorded = load(name)
    top = recorded.write(tmp_path_factory.mktemp("garbage") / "pc")
    for path in data.draw(st.lists(st.sampled_from(sorted(recorded.files)), min_size=1, max_size=4, unique=True)):
        (top / path).chmod(0o600)
        (top / path).write_bytes(data.draw(st.binary(max_size=80)))
    found = read(str(top))
    assert set(found.facts) | set(found.unreadable) >= FACTS
    assert set(pairs(found.reading.anchors, PRODUCT)) <= set(
        pairs({s: s for s in ("uuid", "board", "disk", "nic", "vm")}, PRODUCT)
    )


def test_numbers_in_names_count_as_numbers() -> None:
    """The tenth port comes after the ninth, in either writing."""
    assert sorted(["ata10", "ata9", "ata2"], key=natural) == ["ata2", "ata9", "ata10"]
    assert sorted(["0000:00:1f.6", "0000:00:0a.0", "0000:00:09.0"], key=natural)[0] == "0000:00:09.0"


# What writes them.


def test_a_recorded_computer_is_written_into_an_empty_directory_only(tmp_path: Path) -> None:
    """Two computers in one directory would be a third."""
    load("office-pc-a").write(tmp_path / "a")
    with pytest.raises(FileExistsError):
        load("office-pc-b").write(tmp_path / "a")
    with pytest.raises(ValueError, match="outside"):
        RecordedComputer("x", "", "", {"../x": ""}, {}, frozenset()).write(tmp_path / "b")
    with pytest.raises(KeyError):
        load("no-such-computer")


def test_helpers_change_what_they_say(tmp_path: Path) -> None:
    """New disk, new board, hidden parts: exactly those anchors differ."""
    office = load("office-pc-a")
    before = seen(office, tmp_path / "before").reading.anchors

    def differs(recorded: RecordedComputer) -> set[str]:
        after = seen(recorded, tmp_path / "after").reading.anchors
        return {slot for slot in before if after.get(slot) != before[slot]}

    assert differs(office.new_disk()) == {"disk"}
    assert differs(office.new_board()) == {"uuid", "board", "nic"}
    assert differs(office.hides("nic")) == {"nic"}
    assert differs(office.hides("uuid", "board")) == {"uuid", "board"}
    assert differs(office.hidden()) == {"uuid", "board", "disk", "nic"}
    assert differs(office.reinstalled()) == set()
    assert re.fullmatch(r"[0-9a-f]{32}\n", office.reinstalled().files["etc/machine-id"])
    assert office.reinstalled().files["etc/machine-id"] != office.files["etc/machine-id"]
