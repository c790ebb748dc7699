"""How a Mac's readings look: the kit from which recorded Macs are put together, and any number of one model.

Keeps the shapes of the folder ``macos`` of a recorded computer: ``ioreg``'s property lists and ``sysctl``'s lines
(``edge.probes.macos`` says which). The keys are those of IOKit's headers; the values are invented.
"""

from __future__ import annotations

import plistlib
import random
from typing import Any, NamedTuple

from keyturn.testing.computers import RecordedComputer

FABRIC = {"Physical Interconnect": "Apple Fabric", "Physical Interconnect Location": "Internal"}


class System(NamedTuple):
    """An installed macOS."""

    version: str = "14.4.1"
    build: str = "23E224"
    locale: str = "de_DE"


class Mac:
    """One Mac while it is being put together; ``recorded`` gives the result."""

    def __init__(self, uuid: str, serial: str, model: str, board: str, *, system: System | None = None) -> None:
        system = system or System()
        named = "board-id" if board.startswith("Mac-") else "target-type"
        # A string of the firmware is zero-ended bytes here, as ioreg shows it.
        platform = {
            "IOPlatformUUID": uuid, "IOPlatformSerialNumber": serial, "manufacturer": b"Apple Inc.\0",
            "model": model.encode() + b"\0", named: board.encode() + b"\0",
        }  # fmt: skip
        self.registry: dict[str, list[dict[str, Any]]] = {
            "platform": [platform],
            "storage": [], "nvme": [], "network": [], "pci": [], "chosen": [], "rom": [],
        }  # fmt: skip
        self.sysctl = {"hw.model": model, "kern.hv_vmm_present": "0"}
        self.files = {
            "System/Library/CoreServices/SystemVersion.plist": _plist(
                {"ProductName": "macOS", "ProductVersion": system.version, "ProductBuildVersion": system.build}
            ),
            "Library/Preferences/.GlobalPreferences.plist": _plist({"AppleLocale": system.locale}),
        }

    def apple_silicon(self, name: str, memory: int) -> Mac:
        self.sysctl |= {"machdep.cpu.brand_string": name, "hw.memsize": str(memory)}
        self.registry["chosen"] = [{"system-firmware-version": b"iBoot-10151.101.3\0"}]
        self.files["System/Library/KernelCollections/BootKernelExtensions.kc"] = "recorded kernel collection\n"
        return self

    def intel(self, name: str, model: int, stepping: int, memory: int) -> Mac:
        self.sysctl |= {
            "machdep.cpu.vendor": "GenuineIntel", "machdep.cpu.family": "6", "machdep.cpu.model": str(model),
            "machdep.cpu.stepping": str(stepping), "machdep.cpu.brand_string": name, "hw.memsize": str(memory),
        }  # fmt: skip
        self.registry["rom"] = [{"version": b"2020.80.5.0.0\0", "release-date": b"02/08/2024\0"}]
        self.files["System/Library/CoreServices/boot.efi"] = "MZ recorded loader: boot.efi\n"
        return self

    def disk(self, serial: str, model: str, *, interconnect: str = "Apple Fabric", location: str = "Internal") -> Mac:
        way = {"Physical Interconnect": interconnect, "Physical Interconnect Location": location}
        told = {"Serial Number": serial, "Product Name": model, "Medium Type": "Solid State"}
        self.registry["storage"].append(
            {"IOObjectClass": "IOBlockStorageDevice", "Device Characteristics": told, "Protocol Characteristics": way}
        )
        return self

    def nvme_only(self, serial: str, model: str) -> Mac:
        """Add an internal disk whose serial number only its controller tells."""
        told = {"Product Name": model, "Medium Type": "Solid State"}
        self.registry["storage"].append({"Device Characteristics": told, "Protocol Characteristics": FABRIC})
        self.registry["nvme"].append({"Serial Number": serial, "Model Number": model, **FABRIC})
        return self

    def adapter(self, name: str, mac: str, *, builtin: bool = True, wireless: bool = False) -> Mac:
        interface = {
            "IOObjectClass": "IO80211Interface" if wireless else "IOEthernetInterface", "BSD Name": name,
            "IOBuiltin": builtin,
        }  # fmt: skip
        controller = {"IOMACAddress": bytes.fromhex(mac.replace(":", "")), "IORegistryEntryChildren": [interface]}
        self.registry["network"].append(controller)
        return self

    def pci(self, code: str, ids: str, *, tunnelled: bool = False) -> Mac:
        vendor, device = (bytes.fromhex(item)[::-1] + b"\0\0" for item in ids.split(":"))
        entry = {"class-code": bytes.fromhex(code)[::-1] + b"\0", "vendor-id": vendor, "device-id": device}
        self.registry["pci"].append({**entry, **({"IOPCITunnelled": True} if tunnelled else {})})
        return self

    def virtual(self) -> Mac:
        self.sysctl["kern.hv_vmm_present"] = "1"
        return self

    def recorded(self, name: str, klass: str, story: str, who: str = "") -> RecordedComputer:
        files = {f"macos/{part}.plist": _plist(entries) for part, entries in self.registry.items()}
        files["macos/sysctl.txt"] = "".join(f"{key}: {value}\n" for key, value in self.sysctl.items())
        return RecordedComputer(name, klass, story, {**files, **self.files}, {}, frozenset(), who or name)


def macbook(number: int, *, system: System | None = None) -> Mac:
    """Put together a laptop with Apple silicon: everything but the radio's address is on one chip and one board."""
    mac = Mac(_uuid("macbook", number), f"F{_serial(number, 9)}", "Mac14,2", "J413", system=system)
    mac.apple_silicon("Apple M2", 16 << 30).nvme_only(f"0ba0{number:06x}c1d4e8", "APPLE SSD AP0512Z")
    mac.adapter("en0", _address("a0789c", number), wireless=True)
    # The Thunderbolt ports are network adapters too, built in and with addresses that the system makes up.
    mac.adapter("en1", f"36:fe:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}:40")
    return mac


def imac(number: int, *, disk: str | None = None, system: System | None = None) -> Mac:
    """Put together a desktop with an Intel processor: SATA disk, wired adapter on the board, radio."""
    mac = Mac(_uuid("imac", number), f"D25{_serial(number, 9)}", "iMac19,1", "Mac-AA95B1DDAB278B95", system=system)
    mac.intel("Intel(R) Core(TM) i5-8500 CPU @ 3.00GHz", 158, 10, 32 << 30)
    mac.disk(disk or f"S3Z1NB0K{number:06X}", "APPLE SSD SM0256L", interconnect="SATA")
    mac.adapter("en0", _address("a85c2c", number)).adapter("en1", _address("f01898", number), wireless=True)
    return (
        mac.pci("030000", "1002:67df").pci("040300", "8086:a348").pci("010601", "8086:a352").pci("020000", "14e4:1686")
    )


def virtual_mac(number: int) -> Mac:
    """Put together a virtual machine of Virtualization.framework: its identity is in the machine's own bundle."""
    mac = Mac(_uuid("virtual", number), f"Z{_serial(number, 9)}", "VirtualMac2,1", "VMA2MACOSAP").apple_silicon(
        "Apple M2 (Virtual)", 8 << 30
    )
    mac.disk("virtio", "Apple Inc. VirtIO Block Device", interconnect="Virtual Interface")
    return mac.adapter("en0", f"5e:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}:01:02").virtual()


def _plist(value: list[dict[str, Any]] | dict[str, Any]) -> str:
    return plistlib.dumps(value).decode("utf-8")


def _uuid(model: str, number: int) -> str:
    chance = random.Random(f"{model}/{number}")
    head = f"{chance.getrandbits(32):08X}-{chance.getrandbits(16):04X}-5{chance.getrandbits(12):03X}"
    return f"{head}-9{chance.getrandbits(12):03X}-{chance.getrandbits(24):06X}{number:06X}"


def _serial(number: int, length: int) -> str:
    symbols, text = "0123456789CDFGHJKLMNPQRTVWXY", ""
    number = number * 0x9E3779B1 % (1 << 40)
    for _ in range(length):
        number, digit = divmod(number, len(symbols))
        text += symbols[digit]
    return text


def _address(block: str, number: int) -> str:
    text = f"{block}{number:06x}"
    return ":".join(text[at : at + 2] for at in range(0, 12, 2))
