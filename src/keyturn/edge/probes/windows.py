"""The Windows probe: anchors, components and facts from raw readings, live or recorded.

Keeps the rules. Leaves to others: the calls of the system (``windows_live``), the firmware's table (``smbios``), what the
probes share (``rules``), what is an individual value (``core.hardware``).

Rules:

- Everybody on the computer reads the same: no reading here needs an administrator. That is also why a disk tells the serial
  number of its *descriptor*: an NVMe disk's own identification may be an administrator's, and a user must see the same.
- *Internal* is what Windows counts to the computer itself (its container), on no USB and in no removable place.
- ``disk`` and ``nic`` are chosen as on Linux: lowest bus path; wired, then on the board, then fewer bridges, then the bus.
- Whether this is a virtual machine, the firmware's words alone say. The processor's hypervisor flag is set on physical
  computers too, because Windows itself runs under its hypervisor where it guards its memory.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from keyturn.core.hardware import Reading, anchor_value
from keyturn.edge.probes import Computer
from keyturn.edge.probes.rules import (
    PLACEHOLDER,
    Slots,
    firmware_component,
    memory_band,
    pci_components,
    processor_component,
)
from keyturn.edge.probes.smbios import Firmware, parse
from keyturn.edge.probes.tree import Tree, natural
from keyturn.edge.probes.virtual import firmware_kind

CURRENT = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"
PROCESSOR = r"HKLM\HARDWARE\DESCRIPTION\System\CentralProcessor\0"
CONTROL = r"HKLM\SYSTEM\CurrentControlSet\Control"
INTERNATIONAL = r"HKCU\Control Panel\International"
# Every value of the registry that is read.
REGISTRY: Mapping[str, tuple[str, ...]] = {
    CURRENT: ("ProductName", "DisplayVersion", "ReleaseId", "CurrentBuildNumber", "UBR", "InstallationType"),
    PROCESSOR: ("ProcessorNameString", "VendorIdentifier", "Identifier"),
    CONTROL: ("ContainerType", "PEFirmwareType"),
    INTERNATIONAL: ("LocaleName",),
}
# The container of everything that is the computer itself (DEVPKEY_Device_ContainerId).
THIS_COMPUTER = "{00000000-0000-0000-ffff-ffffffffffff}"
_INSIDE = ("scsi", "ata", "raid", "sas", "sata", "mmc", "nvme", "scm", "ufs")
_BUSES = ("PCI\\", "ACPI\\", "SD\\")  # Enumerators of adapters that are hardware; ROOT, SWD, BTH, VMBUS are not.
_ETHERNET, _WIRELESS = 6, 71  # IANAifType
_PCI_ID = re.compile(r"VEN_([0-9A-F]{4})&DEV_([0-9A-F]{4})", re.IGNORECASE)
_PCI_CLASS = re.compile(r"CC_([0-9A-F]{4})", re.IGNORECASE)
_CPU = re.compile(r"Family ([0-9]{1,4}) Model ([0-9]{1,4}) Stepping ([0-9]{1,4})")
_ARM = re.compile(r"Family ([0-9A-F]{1,4}) Model +([0-9A-F]{1,4}) Revision +([0-9A-F]{1,4})")
_LIMIT = 4 << 20  # Bytes of a recorded file.


class Raw(NamedTuple):
    """What the system was asked, as plain values: the same from a live computer and from a recorded one.

    ``firmware``: the answer for ``RSMB``. ``registry``: key to its values (``REGISTRY``). ``devices``: each present PnP
    device's instance to ``location`` (its paths), ``container``, ``ids``, ``bus`` ([bus, device, function] or null).
    ``disks``: ``instance``, ``bus``, ``removable``, ``vendor``, ``product``, ``serial``. ``adapters``: ``instance``,
    ``type``, ``permanent`` (the address it was made with, hexadecimal), ``hardware``. ``system``: ``memory`` (bytes),
    ``volume`` (the system volume's serial number).
    """

    firmware: bytes
    registry: Mapping[str, Any]
    devices: Mapping[str, Any]
    disks: Sequence[Any]
    adapters: Sequence[Any]
    system: Mapping[str, Any]


def read_windows(sysroot: str | None, *, facts: bool = True) -> Computer:
    """Read this computer, or the recorded one below ``sysroot``."""
    if sysroot is not None:
        tree = Tree(sysroot)
        raw = recorded(tree)
    else:
        raw, tree = _live()
    raw = raw._replace(devices={name.upper(): device for name, device in raw.devices.items()})
    firmware = parse(raw.firmware)
    kind, box = firmware_kind(firmware.words), _container(raw)
    slots = Slots()
    if kind is None:
        _physical_anchors(raw, firmware, slots)
    else:
        names = ("board_asset_tag", "product_uuid") if kind == "aws" else ("product_uuid",)
        slots.virtual((firmware.words.get(name), "") for name in names)
    declared: dict[str, object] = {}
    unreadable = slots.unreadable
    if facts:
        declared, reasons = _facts(raw, firmware, tree)
        unreadable |= reasons
    components = {name: value for name, value in _components(raw, firmware, slots.anchors.get("disk")) if value}
    return Computer(Reading(slots.anchors, components), declared, kind, box, _forgets(tree, box), unreadable)


def recorded(tree: Tree) -> Raw:
    """The raw readings in the folder ``windows`` of a recorded computer; what is broken there is absent."""

    def value(name: str, kind: type) -> Any:
        try:
            found = json.loads(tree.data(f"windows/{name}.json", _LIMIT) or b"null")
        except (ValueError, RecursionError):
            found = None
        return found if isinstance(found, kind) else kind()

    return Raw(
        tree.data("windows/smbios.bin", _LIMIT) or b"", value("registry", dict), value("devices", dict),
        value("disks", list), value("adapters", list), value("system", dict),
    )  # fmt: skip


def _live() -> tuple[Raw, Tree]:
    if sys.platform == "win32":
        from keyturn.edge.probes import windows_live

        return windows_live.read(), Tree(None, live=windows_live.system_drive())
    raise AssertionError("only Windows is read as Windows")


def _physical_anchors(raw: Raw, firmware: Firmware, slots: Slots) -> None:
    absent = "the firmware names none" if firmware.words else "the firmware's table could not be read"
    slots.keep("uuid", firmware.words.get("product_uuid"), absent)
    slots.keep("board", firmware.words.get("board_serial"), absent)
    slots.keep_first("disk", disks(raw))
    slots.keep_first("nic", adapters(raw, firmware.onboard))
    slots.physical()


def disks(raw: Raw) -> list[tuple[str | None, str]]:
    """Return internal whole disks in the order of the bus: serial in normal form, or ``None`` and why."""
    found = []
    for disk in _entries(raw.disks):
        bus, serial = disk.get("bus"), _text(disk.get("serial"))
        if disk.get("removable") is not False or bus not in (*_INSIDE, "sd"):
            continue
        place = _inside(raw, disk)
        if place is None:
            continue
        model = " ".join(filter(None, (_text(disk.get("vendor")), _text(disk.get("product")))))
        reason = PLACEHOLDER if serial else "the disk tells no serial number"
        found.append((natural(place), anchor_value("disk", serial, model=model), reason))
    return [(value, reason) for _, value, reason in sorted(found, key=lambda item: item[0])]


def adapters(raw: Raw, onboard: frozenset[tuple[int, int, int]]) -> list[tuple[str | None, str]]:
    """Return internal adapters, wired first, then on the board, fewer bridges, the bus: address in normal form, or why not."""
    found = []
    for adapter in _entries(raw.adapters):
        instance = _text(adapter.get("instance")) or ""
        if adapter.get("type") not in (_ETHERNET, _WIRELESS) or adapter.get("hardware") is not True:
            continue
        place = _inside(raw, adapter) if instance.upper().startswith(_BUSES) else None
        if place is None:
            continue
        address = _text(adapter.get("permanent"))
        order = (
            adapter["type"] == _WIRELESS,
            _bus(_device(raw, instance)) not in onboard,
            place.count("#"),
            natural(place),
        )
        reason = PLACEHOLDER if address else "the adapter tells no permanent address"
        found.append((order, anchor_value("nic", address), reason))
    return [(value, reason) for _, value, reason in sorted(found, key=lambda item: item[0])]


def _components(raw: Raw, firmware: Firmware, disk: str | None) -> Iterator[tuple[str, str | None]]:
    yield "disk", disk
    yield "firmware", firmware_component(firmware.words)
    yield "processor", _processor(_values(raw, PROCESSOR))
    memory = raw.system.get("memory")
    yield "memory", memory_band(-(-memory >> 20)) if isinstance(memory, int) and 0 < memory < 1 << 60 else None
    yield "optical", _optical(raw)
    yield "volume", _text(raw.system.get("volume"))
    yield from pci_components(_pci_devices(raw)).items()


def _pci_devices(raw: Raw) -> Iterator[tuple[str, int, int]]:
    for instance in raw.devices:
        words = " ".join([instance, *_texts(_device(raw, instance).get("ids"))])
        named, code = _PCI_ID.search(words), _PCI_CLASS.search(words)
        if instance.upper().startswith("PCI\\") and named and code and _inside(raw, {"instance": instance}) is not None:
            yield code[1].lower(), int(named[1], 16), int(named[2], 16)


def _processor(values: Mapping[str, Any]) -> str | None:
    said = _text(values.get("Identifier")) or ""
    words = {"model name": _text(values.get("ProcessorNameString")), "vendor_id": _text(values.get("VendorIdentifier"))}
    if number := _CPU.search(said) or _ARM.search(said):
        words |= {"cpu family": number[1], "model": number[2], "stepping": number[3]}
    return processor_component({name: text for name, text in words.items() if text})


def _optical(raw: Raw) -> str | None:
    r"""The first built-in optical drive's maker and model: ``SCSI\CDROM&VEN_HL-DT-ST&PROD_DVDRAM_GU90N\…``."""
    for instance in sorted(raw.devices, key=natural):
        words = instance.split("\\")
        if len(words) > 1 and words[1].upper().startswith("CDROM") and _inside(raw, {"instance": instance}) is not None:
            found = re.search(r"VEN_([^&]*)&PROD_([^&]*)", words[1], re.IGNORECASE)
            return " ".join(word.replace("_", " ").strip() for word in found.groups()) if found else words[1]
    return None


def _inside(raw: Raw, entry: Mapping[str, Any]) -> str | None:
    """The place on the bus of a device that is the computer's own, or ``None``."""
    device = _device(raw, _text(entry.get("instance")) or "")
    if (_text(device.get("container")) or "").lower() != THIS_COMPUTER:
        return None
    places = sorted(_texts(device.get("location")), key=natural)
    if any(mark in place.upper() for place in places for mark in ("#USB", "#1394", "VMBUS")):
        return None
    return places[0] if places else "~"  # Without a place it comes last.


def _device(raw: Raw, instance: str) -> Mapping[str, Any]:
    found = raw.devices.get(instance.upper())  # The registry and the configuration manager write it in two ways.
    return found if isinstance(found, dict) else {}


def _bus(device: Mapping[str, Any]) -> tuple[int, int, int] | None:
    found = device.get("bus")
    if isinstance(found, list) and len(found) == 3 and all(isinstance(number, int) for number in found):
        return found[0], found[1], found[2]
    return None


def _container(raw: Raw) -> str | None:
    return "windows" if isinstance(_values(raw, CONTROL).get("ContainerType"), int) else None


def _forgets(tree: Tree, box: str | None) -> bool:
    build_job = not tree.recorded and os.environ.get("CI", "").lower() in ("true", "1")
    return box is not None or build_job


_FIRMWARE_FACTS = {
    "computer_make": "sys_vendor", "computer_model": "product_name", "firmware_name": "bios_vendor",
    "firmware_revision": "bios_version", "firmware_date": "bios_date",
}  # fmt: skip
# Windows' own copy of the loader, which everybody can read; what it puts on the EFI partition is an administrator's.
_LOADERS = {1: ("Windows/Boot/PCAT/bootmgr",), 2: ("Windows/Boot/EFI/bootmgfw.efi",)}


def _facts(raw: Raw, firmware: Firmware, tree: Tree) -> tuple[dict[str, object], dict[str, str]]:
    """The declared facts, and for each missing one the reason."""
    from keyturn.edge.probes.facts import settle

    current = _values(raw, CURRENT)
    found = {fact: (firmware.words.get(word), "the firmware does not say") for fact, word in _FIRMWARE_FACTS.items()}
    silent = "the system does not say"
    found["os_name"] = (_system_name(current), silent)
    found["os_version"] = (_text(current.get("DisplayVersion")) or _text(current.get("ReleaseId")), silent)
    build, revision = _text(current.get("CurrentBuildNumber")), current.get("UBR")
    found["os_build"] = (f"{build}.{revision}" if build and isinstance(revision, int) else build, silent)
    started = _values(raw, CONTROL).get("PEFirmwareType")
    loaders = _LOADERS.get(started, ()) if isinstance(started, int) else (*_LOADERS[2], *_LOADERS[1])
    locale = _text(_values(raw, INTERNATIONAL).get("LocaleName")) or ""
    return settle(found, locale, tree, loaders, "no boot file below Windows\\Boot")


def _system_name(current: Mapping[str, Any]) -> str | None:
    """The system's name. Windows 11 still calls itself 10 in the registry; its builds begin with 22000."""
    name, build = _text(current.get("ProductName")), _text(current.get("CurrentBuildNumber")) or ""
    if name and name.startswith("Windows 10") and build.isdecimal() and int(build[:9]) >= 22000:
        return "Windows 11" + name.removeprefix("Windows 10")
    return name


def _values(raw: Raw, key: str) -> Mapping[str, Any]:
    found = raw.registry.get(key)
    return found if isinstance(found, dict) else {}


def _entries(items: Sequence[Any]) -> list[Mapping[str, Any]]:
    return [item for item in items if isinstance(item, dict)]


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    """A text without the white space around it; ``None`` if it is none or empty."""
    return value.replace("\0", " ").strip() or None if isinstance(value, str) else None
