r"""How a Windows computer's readings look, and any recorded Linux computer as Windows would show it.

Keeps the shapes of the folder ``windows`` of a recorded computer (``edge.probes.windows.Raw`` says what is in it). Leaves to
others: which computers there are (``computers``).

Rules:

- Shapes follow the documented interfaces: SMBIOS (DSP0134), instances, location paths and containers of the Plug and Play
  manager, STORAGE_DEVICE_DESCRIPTOR, MIB_IF_ROW2. The values are invented.
- The hardware of ``under_windows`` is the Linux computer's, number for number: a computer with both systems is one computer.
  Only an NVMe disk tells Windows another number: its EUI-64 in place of its serial number.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from keyturn.edge.probes.windows import CONTROL, CURRENT, INTERNATIONAL, PROCESSOR, THIS_COMPUTER
from keyturn.testing.parts import DMI

if TYPE_CHECKING:
    from keyturn.testing.computers import RecordedComputer

ELSEWHERE = "{5d0c8a3e-7f41-5b0a-9c2d-3e4f50617283}"  # The container of a dock or of something on a cable.
_PCI = re.compile(r"([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$")
_WORDS: Mapping[
    int, Mapping[int, str]
] = {  # Structure type: offset of a text's number, and the word that stands there.
    0: {4: "bios_vendor", 5: "bios_version", 8: "bios_date"},
    1: {4: "sys_vendor", 5: "product_name", 7: "product_serial"},
    2: {4: "board_vendor", 5: "board_name", 7: "board_serial", 8: "board_asset_tag"},
    3: {4: "sys_vendor", 8: "chassis_asset_tag"},
}
_LENGTHS = {0: 26, 1: 27, 2: 15, 3: 22}


class System(NamedTuple):
    """An installed Windows: what differs from one to another. ``name`` is as the registry says it (11 says 10)."""

    name: str = "Windows 10 Pro"
    version: str = "23H2"
    build: str = "22631"
    revision: int = 3155
    locale: str = "de-DE"
    volume: str = "a4c1f09e"
    loader: str = "MZ recorded loader: Windows Boot Manager\n"


def smbios(
    words: Mapping[str, str], onboard: Iterable[tuple[int, int, int]] = (), version: tuple[int, int] = (3, 2)
) -> bytes:
    """Return a firmware's table as Windows hands it out; ``onboard``: bus, device and function of built-in adapters."""
    table = b""
    for kind, places in _WORDS.items():
        data, texts = bytearray(_LENGTHS[kind]), []
        struct.pack_into("<BBH", data, 0, kind, len(data), kind)
        for offset, word in places.items():
            if text := words.get(word):
                texts.append(text.encode("utf-8"))
                data[offset] = len(texts)
        if kind == 1 and (uuid := words.get("product_uuid")):
            raw = bytes.fromhex(uuid.replace("-", ""))
            swapped = raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]
            data[8:24] = swapped if version >= (2, 6) else raw
        table += bytes(data) + b"\0".join([*texts, b"", b""] if texts else [b"", b"", b""])
    for number, (bus, device, function) in enumerate(onboard, 1):
        table += struct.pack("<BBHBBBHBB", 41, 11, 0x2900 + number, 1, 0x85, number, 0, bus, device << 3 | function)
        table += b"Onboard LAN\0\0"
    table += struct.pack("<BBH", 127, 4, 0xFFFF) + b"\0\0"
    return struct.pack("<BBBBI", 0, *version, 0, len(table)) + table


def under_windows(
    linux: RecordedComputer, name: str, story: str, *, klass: str = "", system: System | None = None
) -> RecordedComputer:
    """Return the same hardware with Windows on it; what Linux shows to root only, Windows shows to everybody."""
    from keyturn.testing.computers import RecordedComputer

    system = system or System()
    devices: dict[str, Any] = {}
    adapters = [item for item in (_adapter(linux, devices, net) for net in _links(linux, "sys/class/net/")) if item]
    disks = [item for item in (_disk(linux, devices, block) for block in _links(linux, "sys/block/")) if item]
    onboard = []
    for place in _links(linux, "sys/bus/pci/devices/").values():
        instance = _pci(linux, devices, place)
        if instance and f"{place}/acpi_index" in linux.files:
            onboard.append(tuple(devices[instance]["bus"]))
    words = {path.removeprefix(DMI): text.strip() for path, text in linux.files.items() if path.startswith(DMI)}
    memory = re.search(r"MemTotal: +([0-9]+)", linux.files.get("proc/meminfo", ""))
    told = {"memory": int(memory[1]) * 1024 if memory else None, "volume": system.volume}
    contents = {
        "registry": _registry(linux, system), "devices": devices, "disks": disks, "adapters": adapters, "system": told,
    }  # fmt: skip
    files = {f"windows/{part}.json": json.dumps(value, indent=1) + "\n" for part, value in contents.items()}
    files["windows/smbios.bin"] = smbios(words, onboard).decode("latin-1")
    files["Windows/Boot/EFI/bootmgfw.efi"] = system.loader
    return RecordedComputer(name, klass or linux.klass, story, files, {}, frozenset(), linux.who or name)


def _links(linux: RecordedComputer, top: str) -> dict[str, str]:
    """The devices of a class: name to the place that its link leads to."""
    found = {path.removeprefix(top): target for path, target in linux.links.items() if path.startswith(top)}
    return {name: "sys/" + re.sub(r"^(\.\./)+", "", target).removeprefix("sys/") for name, target in found.items()}


def _registry(linux: RecordedComputer, system: System) -> dict[str, dict[str, object]]:
    text = linux.files.get("proc/cpuinfo", "").split("\n\n", 1)[0]
    cpu = dict(re.findall(r"^([A-Za-z_ ]+?)\s*: (.*)$", text, re.MULTILINE))
    maker = "AMD64" if cpu.get("vendor_id") == "AuthenticAMD" else "Intel64"
    number = f"Family {cpu.get('cpu family', '0')} Model {cpu.get('model', '0')} Stepping {cpu.get('stepping', '0')}"
    return {
        CURRENT: {
            "ProductName": system.name, "DisplayVersion": system.version, "CurrentBuildNumber": system.build,
            "UBR": system.revision, "InstallationType": "Client",
        },
        PROCESSOR: {
            "ProcessorNameString": cpu.get("model name", ""), "VendorIdentifier": cpu.get("vendor_id", ""),
            "Identifier": f"{maker} {number}",
        },
        CONTROL: {"PEFirmwareType": 2},
        INTERNATIONAL: {"LocaleName": system.locale},
    }  # fmt: skip


def _location(place: str) -> tuple[str, list[int] | None]:
    """A Linux device's place as Windows' location path, and the bus, device and function of the last PCI device on it."""
    steps = [match for step in place.split("/") if (match := _PCI.search(step))]
    path = "#".join(["PCIROOT(0)", *(f"PCI({int(step[2], 16):02X}{int(step[3]):02X})" for step in steps)])
    return path, [int(steps[-1][1], 16), int(steps[-1][2], 16), int(steps[-1][3])] if steps else None


def _container(linux: RecordedComputer, place: str) -> str:
    steps = place.split("/")
    ports = ("/".join([*steps[:end], "removable"]) for end in range(3, len(steps) + 1))
    outside = "/usb" in place or any(linux.files.get(port, "").strip() == "removable" for port in ports)
    return ELSEWHERE if outside else THIS_COMPUTER


def _pci(linux: RecordedComputer, devices: dict[str, Any], place: str) -> str | None:
    """Add the PCI device at a Linux place; return its instance."""
    said = [linux.files.get(f"{place}/{name}", "").strip() for name in ("class", "vendor", "device")]
    if not all(said):
        return None
    (code, vendor, device), (path, bus) = (item[2:].upper() for item in said), _location(place)
    named = f"VEN_{vendor}&DEV_{device}"
    depth = path.count("#") + 2
    number = f"{(bus[1] << 3 | bus[2]) if bus else 0:02X}"
    instance = rf"PCI\{named}&SUBSYS_00011AF4&REV_00\{depth}&{_mark(path)}&0&{number}"
    ids = [rf"PCI\{named}&CC_{code}", rf"PCI\{named}&CC_{code[:4]}"]
    devices[instance] = {"location": [path], "container": _container(linux, place), "ids": ids, "bus": bus}
    return instance


def _mark(text: str) -> str:
    """Eight hex digits for a place, as the parts of an instance have them."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _disk(linux: RecordedComputer, devices: dict[str, Any], item: str) -> dict[str, Any] | None:
    """Add the disk (or optical drive) of that Linux name."""
    place = _links(linux, "sys/block/")[item]
    device = place.split("/block/")[0] if "/block/" in place else place.rsplit("/", 1)[0]
    vendor, model = (linux.files.get(f"{device}/{name}", "").strip() for name in ("vendor", "model"))
    page = linux.files.get(f"{device}/vpd_pg80", "")[4:]
    serial = page or linux.files.get(f"{device}/serial", linux.files.get(f"{place}/serial", "")).strip()
    path, _ = _location(place)
    bus, end = _way(item, place)
    if bus == "nvme":  # What the class driver tells of an NVMe disk: its EUI-64 in groups, and a dot.
        digits = hashlib.sha256(serial.encode()).hexdigest()[:10].upper()
        serial = f"0025_38{digits[:2]}_{digits[2:6]}_{digits[6:10]}."
    kind = "CDROM" if item.startswith("sr") else "DISK"
    words = "_".join(model.upper().split())
    head = "USBSTOR" if bus == "usb" else "SCSI"
    instance = rf"{head}\{kind}&VEN_{vendor.upper() or 'NVME'}&PROD_{words}\4&{_mark(place)}&0&000000"
    devices[instance] = {"location": [f"{path}#{end}"], "container": _container(linux, place), "ids": [], "bus": None}
    if kind == "CDROM":
        return None
    removable = linux.files.get(f"{place}/removable", "0").strip() == "1" or bus == "sd"
    return {
        "instance": instance,
        "bus": bus,
        "removable": removable,
        "vendor": vendor,
        "product": model,
        "serial": serial,
    }


def _way(item: str, place: str) -> tuple[str, str]:
    """The bus of a disk by its Linux name and place, and the last step of its location path."""
    if "/usb" in place:
        return "usb", "USBROOT(0)#USB(2)"
    if item.startswith("nvme"):
        return "nvme", "NVME(P00T00L00)"
    if item.startswith("mmcblk"):
        return "sd", "SD(0)"
    if "/rport-" in place:
        return "fibre", "FIBRE(P00T00L00)"
    found = re.search(r"/ata([0-9]+)/", place)
    return ("sata", f"ATA(C{int(found[1]) - 1:02d}T00L00)") if found else ("raid", "RAID(P00T00L00)")


def _adapter(linux: RecordedComputer, devices: dict[str, Any], item: str) -> dict[str, Any] | None:
    """Add the network adapter of that Linux name; what is no hardware has no place and is left out."""
    place = _links(linux, "sys/class/net/")[item]
    device = place.split("/net/")[0]
    if device.startswith("sys/devices/virtual"):
        return None
    radio = linux.files.get(f"{device}/ieee80211/phy0/macaddress")
    address = radio or linux.files.get(f"{place}/bonding_slave/perm_hwaddr") or linux.files.get(f"{place}/address", "")
    instance = _pci(linux, devices, device)
    if instance is None:
        path, _ = _location(place)
        bus = r"USB\VID_0BDA&PID_8153" if "/usb" in place else r"ROOT\NET"
        instance = rf"{bus}\{_mark(place).upper()}"
        devices[instance] = {"location": [f"{path}#USBROOT(0)#USB(3)"], "container": ELSEWHERE, "ids": [], "bus": None}
    return {
        "instance": instance, "type": 71 if radio else 6, "permanent": address.strip().replace(":", ""), "hardware": True,
    }  # fmt: skip
