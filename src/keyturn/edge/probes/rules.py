"""What every system's probe does with what it found: which value fills a slot, which device is which component.

Leaves to others: where values are read (``linux``, ``windows``, ``macos``), what is an individual value (``core.hardware``).

Rules:

- The same computer is the same under two operating systems: components are written alike, whoever reads them.
- In a virtual machine only ``vm`` counts, and of its sources the first that *everybody* on it can read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keyturn.core.hardware import anchor_value

PLACEHOLDER = "only a placeholder or a value shared with other computers"
NO_DEVICE = "no internal device of this kind"
Found = Iterable[tuple[str | None, str]]  # Devices in order: a value in normal form, or ``None`` and why.

# PCI base class and subclass (PCI Code and ID Assignment Specification) of each component.
_CLASSES = {
    "disk_controller": ("0101", "0105", "0106"),  # Not NVMe: that controller is the disk, and would count twice.
    "storage_adapter": ("0100", "0104", "0107"),
    "network_adapter": ("0200", "0280"),
    "audio": ("0401", "0403"),
    "display": ("0300", "0302", "0380"),
}
_COMPONENT = {code: part for part, codes in _CLASSES.items() for code in codes}


class Slots:
    """Anchors while they are being filled, and why the rest is unknown."""

    def __init__(self) -> None:
        self.anchors: dict[str, str] = {}
        self.unreadable: dict[str, str] = {}

    def keep(self, slot: str, raw: str | None, absent: str) -> None:
        """Fill ``slot`` with ``raw`` if it is an individual value; ``absent`` is the reason if there is none at all."""
        if value := anchor_value(slot, raw):
            self.anchors[slot] = value
        else:
            self.unreadable[slot] = absent if raw is None else PLACEHOLDER

    def keep_first(self, slot: str, found: Found) -> None:
        """Fill ``slot`` with the first device's value that is one; else with the first device's reason."""
        devices = list(found)
        value = next((value for value, _ in devices if value), None)
        if value:
            self.anchors[slot] = value
        else:
            self.unreadable[slot] = next((reason for _, reason in devices), NO_DEVICE)

    def physical(self) -> None:
        self.unreadable["vm"] = "not a virtual machine"

    def virtual(self, sources: Iterable[tuple[str | None, str]]) -> None:
        """Fill ``vm`` from the first of its ``sources`` (value, or ``None`` and why) that is one; nothing else counts."""
        reason = "the hypervisor names no instance"
        for raw, why in sources:
            if value := anchor_value("vm", raw):
                self.anchors["vm"] = value
                break
            reason = PLACEHOLDER if raw else why or reason
        else:
            self.unreadable["vm"] = reason
        for slot in ("uuid", "board"):
            self.unreadable[slot] = "a virtual machine's counts as vm"
        for slot in ("disk", "nic"):
            self.unreadable[slot] = "a virtual device's value is the hypervisor's"


def pci_components(devices: Iterable[tuple[str, int, int]]) -> dict[str, str]:
    """Name the components among PCI devices: base class and subclass as four hex digits, vendor, device."""
    found: dict[str, set[str]] = {}
    for code, vendor, device in devices:
        if part := _COMPONENT.get(code):
            found.setdefault(part, set()).add(f"0x{vendor:04x}:0x{device:04x}")
    return {part: ",".join(sorted(ids)) for part, ids in found.items()}


def firmware_component(words: Mapping[str, str | None]) -> str | None:
    """Who made the firmware, for which board. No version and no date: an update must not look like another computer.

    Of the maker only the first word: American Megatrends changed the rest of its name between two updates.
    """
    maker = (words.get("bios_vendor") or "").lower().split()
    board = [words.get(name) or "" for name in ("board_vendor", "board_name")]
    return "|".join([maker[0].strip(",.") if maker else "", *board]) if maker or any(board) else None


def processor_component(values: Mapping[str, str]) -> str | None:
    """The processor's make and model, with the names of Linux' ``/proc/cpuinfo`` for its fields."""
    return "|".join(f"{name}={values[name]}" for name in sorted(values)) or None


def memory_band(mebibytes: int) -> str:
    """The smallest power of two of MiB that holds the memory: what the system keeps for itself does not change it."""
    return str(1 << max(mebibytes - 1, 1).bit_length())
