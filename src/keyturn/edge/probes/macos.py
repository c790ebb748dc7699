"""The macOS probe: anchors, components and facts from what ``ioreg`` and ``sysctl`` answer, live or recorded.

Keeps the questions and the rules. Leaves to others: what the probes share (``rules``), what is an individual value
(``core.hardware``).

Rules:

- The two programs are started by their full paths, without a shell, with a limit of time and of bytes; a question that is
  not answered leaves its part unknown. Nothing needs root, so root and user see the same computer.
- ``uuid`` is the platform's UUID, ``board`` the serial number of the computer, ``disk`` that of the internal disk (Apple's
  own before another), ``nic`` the built-in adapter's hardware address, wired before wireless, then by its name.
- In a virtual machine (``kern.hv_vmm_present``, or the model's name) only ``vm`` counts: there it is the platform's UUID.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
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
from keyturn.edge.probes.tree import Tree, natural

# Name of the recorded file to the arguments of ioreg. All of them: -a as a property list, -r below what matches.
IOREG: Mapping[str, tuple[str, ...]] = {
    "platform": ("-d", "1", "-c", "IOPlatformExpertDevice"),
    "storage": ("-d", "1", "-c", "IOBlockStorageDevice"),
    "nvme": ("-d", "1", "-c", "IONVMeController"),
    "network": ("-d", "3", "-c", "IONetworkController"),
    "pci": ("-d", "1", "-c", "IOPCIDevice"),
    "chosen": ("-d", "1", "-p", "IODeviceTree", "-n", "chosen"),
    "rom": ("-d", "1", "-p", "IODeviceTree", "-n", "rom"),
}
SYSCTL = (
    "hw.model", "hw.memsize", "kern.hv_vmm_present", "machdep.cpu.vendor", "machdep.cpu.family", "machdep.cpu.model",
    "machdep.cpu.stepping", "machdep.cpu.brand_string",
)  # fmt: skip
# Linux' names for a processor's fields (``rules.processor_component``), and the last word of sysctl's.
_PROCESSOR = {
    "vendor_id": "vendor", "cpu family": "family", "model": "model", "stepping": "stepping", "model name": "brand_string",
}  # fmt: skip
_FOR_FACTS = ("chosen", "rom")
_SYSTEM = "System/Library/CoreServices/SystemVersion.plist"
_LOADERS = ("System/Library/CoreServices/boot.efi", "System/Library/KernelCollections/BootKernelExtensions.kc")
_PREFERENCES = "Library/Preferences/.GlobalPreferences.plist"
_PATIENCE = 5  # Seconds for a program of the system; they answer in hundredths.
_LIMIT = 4 << 20  # Bytes of one answer.
_MODELS = (("virtualmac", "apple"), ("vmware", "vmware"), ("parallels", "parallels"), ("virtualbox", "virtualbox"))
_OUTSIDE = ("usb", "firewire", "fibre channel interface", "virtual interface", "secure digital", "iscsi")
_SYSCTL_LINE = re.compile(r"^([a-z0-9_.]{1,64}): ?(.*)$", re.MULTILINE)

_Disk = tuple[bool, str, str, str | None]  # Not Apple's own, serial number, model, value of the anchor.


class Raw(NamedTuple):
    """What was asked: ``registry`` names (``IOREG``) to the entries that match, ``sysctl`` names to texts."""

    registry: Mapping[str, list[dict[str, Any]]]
    sysctl: Mapping[str, str]


def read_macos(sysroot: str | None, *, facts: bool = True) -> Computer:
    """Read this computer, or the recorded one below ``sysroot``."""
    tree = Tree(sysroot)
    raw = _ask(_program if sysroot is None else _file(tree), facts)
    platform = next(iter(raw.registry["platform"]), {})
    kind = _vm_kind(raw, platform)
    slots = Slots()
    uuid, serial = _text(platform.get("IOPlatformUUID")), _text(platform.get("IOPlatformSerialNumber"))
    if kind is None:
        slots.keep("uuid", uuid, "the platform names none")
        slots.keep("board", serial, "the platform names none")
        slots.keep_first("disk", disks(raw))
        slots.keep_first("nic", adapters(raw))
        slots.physical()
    else:
        slots.virtual([(uuid, "the platform names none")])
    declared: dict[str, object] = {}
    unreadable = slots.unreadable
    if facts:
        declared, reasons = _facts(raw, platform, tree)
        unreadable |= reasons
    components = {name: value for name, value in _components(raw, platform, slots.anchors.get("disk")) if value}
    forgets = not tree.recorded and os.environ.get("CI", "").lower() in ("true", "1")
    return Computer(Reading(slots.anchors, components), declared, kind, None, forgets, unreadable)


# The two ways to an answer.


def _ask(answer: Callable[[str, list[str]], bytes], facts: bool) -> Raw:
    wanted = {name: words for name, words in IOREG.items() if facts or name not in _FOR_FACTS}
    registry = {name: entries(answer(name, ["/usr/sbin/ioreg", "-a", "-r", *words])) for name, words in wanted.items()}
    said = answer("sysctl", ["/usr/sbin/sysctl", *SYSCTL]).decode("utf-8", "replace")
    return Raw(registry, {name: value.strip() for name, value in _SYSCTL_LINE.findall(said)})


def _file(tree: Tree) -> Callable[[str, list[str]], bytes]:
    """The answers in the folder ``macos`` of a recorded computer: ``NAME.plist``, and ``sysctl.txt``."""
    return lambda name, _: tree.data(f"macos/{name}.{'txt' if name == 'sysctl' else 'plist'}", _LIMIT) or b""


def _program(_name: str, command: list[str]) -> bytes:
    """The answer of a program of the system, or nothing. ``sysctl`` fails for one name and answers for the others."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_PATIENCE,
            check=False, env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}, cwd="/",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout[:_LIMIT]


def entries(answer: bytes) -> list[dict[str, Any]]:
    """The entries of the registry in ioreg's property list; none in an answer that is empty or broken."""
    found = _plist(answer)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _plist(data: bytes) -> object:
    import plistlib
    from xml.parsers.expat import ExpatError

    if not data:
        return None
    try:
        return plistlib.loads(data)
    # Beside what it declares, plistlib lets through whatever a broken list makes it stumble on.
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError, MemoryError, ExpatError):
        return None


# The rules.


def _vm_kind(raw: Raw, platform: Mapping[str, Any]) -> str | None:
    model = (_text(platform.get("model")) or raw.sysctl.get("hw.model", "")).lower()
    if kind := next((kind for beginning, kind in _MODELS if model.startswith(beginning)), None):
        return kind
    return "unknown" if raw.sysctl.get("kern.hv_vmm_present") == "1" else None


def disks(raw: Raw) -> list[tuple[str | None, str]]:
    """Return internal disks, Apple's own first, then by serial number: in normal form, or ``None`` and why."""
    found: set[_Disk] = set()
    for item in raw.registry["storage"]:
        told, way = _group(item, "Device Characteristics"), _group(item, "Protocol Characteristics")
        _add_disk(found, _text(told.get("Product Name")), _text(told.get("Serial Number")), way)
    for item in raw.registry["nvme"]:
        _add_disk(found, _text(item.get("Model Number")), _text(item.get("Serial Number")), item)
    ordered = sorted(found, key=lambda item: item[:3])
    return [(value, PLACEHOLDER if serial else "the disk tells no serial number") for _, serial, _, value in ordered]


def _add_disk(
    found: set[tuple[bool, str, str, str | None]], model: str | None, serial: str | None, way: Mapping[str, Any]
) -> None:
    """Keep an internal disk's serial number. ``way``: its interconnect and whether that is inside the case."""
    kind, place = (_text(way.get(name)) or "" for name in ("Physical Interconnect", "Physical Interconnect Location"))
    if place == "Internal" and kind.lower() not in _OUTSIDE:
        own = (model or "").upper().startswith("APPLE")
        found.add((not own, serial or "", model or "", anchor_value("disk", serial, model=model or "")))


def adapters(raw: Raw) -> list[tuple[str | None, str]]:
    """Return built-in adapters, wired first, then by name: hardware address in normal form, or ``None`` and why."""
    found = []
    for controller in raw.registry["network"]:
        address = controller.get("IOMACAddress")
        for interface in _below(controller):
            name = _text(interface.get("BSD Name"))
            if name is None or interface.get("IOBuiltin") is not True:
                continue
            classes = " ".join(_text(item.get("IOObjectClass")) or "" for item in (controller, interface))
            wireless = any(word in classes for word in ("80211", "WLAN", "AirPort"))
            raw_address = address.hex() if isinstance(address, bytes) else None
            reason = PLACEHOLDER if raw_address else "the adapter tells no hardware address"
            found.append(((wireless, natural(name)), anchor_value("nic", raw_address), reason))
    return [(value, reason) for _, value, reason in sorted(found, key=lambda item: item[0])]


def _below(entry: Mapping[str, Any], depth: int = 4) -> Iterator[Mapping[str, Any]]:
    yield entry
    children = entry.get("IORegistryEntryChildren")
    for child in children if depth and isinstance(children, list) else ():
        if isinstance(child, dict):
            yield from _below(child, depth - 1)


def _components(raw: Raw, platform: Mapping[str, Any], disk: str | None) -> Iterator[tuple[str, str | None]]:
    yield "disk", disk
    yield "firmware", firmware_component(_words(raw, platform))
    names = {
        "vendor_id": "vendor",
        "cpu family": "family",
        "model": "model",
        "stepping": "stepping",
        "model name": "brand_string",
    }
    said = {name: raw.sysctl.get(f"machdep.cpu.{item}", "") for name, item in names.items()}
    yield "processor", processor_component({name: text for name, text in said.items() if text})
    memory = raw.sysctl.get("hw.memsize", "")
    yield "memory", memory_band(-(-int(memory) >> 20)) if re.fullmatch(r"[1-9][0-9]{0,17}", memory, re.ASCII) else None
    yield from pci_components(_pci_devices(raw)).items()


def _pci_devices(raw: Raw) -> Iterator[tuple[str, int, int]]:
    for item in raw.registry["pci"]:
        code, vendor, device = (item.get(name) for name in ("class-code", "vendor-id", "device-id"))
        if item.get("IOPCITunnelled") is True:  # On Thunderbolt.
            continue
        if isinstance(code, bytes) and isinstance(vendor, bytes) and isinstance(device, bytes) and len(code) >= 3:
            yield (
                f"{code[2]:02x}{code[1]:02x}",
                int.from_bytes(vendor[:2], "little"),
                int.from_bytes(device[:2], "little"),
            )


def _words(raw: Raw, platform: Mapping[str, Any]) -> dict[str, str | None]:
    """The firmware's words under the names that other systems have for them."""
    maker, model = _text(platform.get("manufacturer")), _text(platform.get("model")) or raw.sysctl.get("hw.model")
    board = _text(platform.get("board-id")) or _text(platform.get("target-type")) or model
    chosen, rom = (next(iter(raw.registry.get(name, [])), {}) for name in _FOR_FACTS)
    version = (
        _text(chosen.get("system-firmware-version"))
        or _text(rom.get("version"))
        or _text(chosen.get("firmware-version"))
    )
    return {
        "sys_vendor": maker, "product_name": model, "board_vendor": maker, "board_name": board, "bios_vendor": maker,
        "bios_version": version, "bios_date": _text(rom.get("release-date")),
    }  # fmt: skip


def _facts(raw: Raw, platform: Mapping[str, Any], tree: Tree) -> tuple[dict[str, object], dict[str, str]]:
    """The declared facts, and for each missing one the reason."""
    from keyturn.edge.probes.facts import settle

    words = _words(raw, platform)
    version = _plist(tree.data(_SYSTEM) or b"")
    version = version if isinstance(version, dict) else {}
    silent, system = "the firmware does not say", "the system does not say"
    found = {
        "computer_make": (words["sys_vendor"], silent), "computer_model": (words["product_name"], silent),
        "firmware_name": (words["bios_vendor"], silent), "firmware_revision": (words["bios_version"], silent),
        "firmware_date": (words["bios_date"], silent), "os_name": (_text(version.get("ProductName")), system),
        "os_version": (_text(version.get("ProductVersion")), system),
        "os_build": (_text(version.get("ProductBuildVersion")), system),
    }  # fmt: skip
    return settle(found, _locale(tree), tree, _LOADERS, "no boot file that can be read")


def _locale(tree: Tree) -> str:
    """From the environment of whoever runs this, else from their preferences; a recorded computer has only those."""
    from keyturn.edge.probes.facts import locale_in

    if not tree.recorded:
        if said := locale_in(os.environ):
            return said
        tree = Tree(None, live=os.path.expanduser("~"))
    found = _plist(tree.data(_PREFERENCES) or b"")
    return (_text(found.get("AppleLocale")) if isinstance(found, dict) else None) or ""


def _group(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = entry.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str | None:
    """A text of the registry, which is a string or zero-ended bytes; ``None`` if it is none or empty."""
    if isinstance(value, bytes):
        value = value.split(b"\0", 1)[0].decode("utf-8", "replace")
    return value.strip() or None if isinstance(value, str) else None
