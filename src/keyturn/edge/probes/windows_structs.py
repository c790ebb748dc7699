"""Two structures of Windows' interfaces, taken apart: a disk's descriptor and the table of network interfaces.

Kept apart from the calls that fetch them (``windows_live``), so that they are tried wherever tests run. Offsets are those
of 64-bit and 32-bit Windows alike; what is cut off or points outside is absent, nothing raises.
"""

from __future__ import annotations

import struct
from typing import Any

# STORAGE_BUS_TYPE (ntddstor.h) in the words of recorded computers.
_BUSES = (
    "", "scsi", "atapi", "ata", "1394", "ssa", "fibre", "usb", "raid", "iscsi", "sas", "sata", "sd", "mmc", "virtual", "file",
    "spaces", "nvme", "scm", "ufs", "nvme-of",
)  # fmt: skip
_DIRECT_ACCESS = 0x00  # DeviceType: a disk (SPC-4, peripheral device type)
_ROW = 1352  # sizeof(MIB_IF_ROW2)
_ROWS_FROM = 8  # NumEntries, then padding to the alignment of the first row
_HARDWARE_INTERFACE = 0x01
MAX_ROWS = 4096


def disk(descriptor: bytes) -> dict[str, Any] | None:
    """What a STORAGE_DEVICE_DESCRIPTOR (winioctl.h) says, as ``windows.Raw.disks`` has it; ``None`` if it is no disk's.

    Version, size (4 bytes each), device type, modifier, removable, queueing (1 each), offsets of vendor, product,
    revision and serial number, bus type (4 each).
    """
    if len(descriptor) < 32:
        return None
    kind, _, removable, _ = struct.unpack_from("<BBBB", descriptor, 8)
    vendor, product, _, serial, bus = struct.unpack_from("<IIIII", descriptor, 12)
    if kind != _DIRECT_ACCESS:
        return None
    return {
        "bus": _BUSES[bus] if bus < len(_BUSES) else "",
        "removable": bool(removable),
        "vendor": _text(descriptor, vendor),
        "product": _text(descriptor, product),
        "serial": _text(descriptor, serial),
    }


def interfaces(table: bytes) -> list[dict[str, Any]]:
    """The rows of a MIB_IF_TABLE2 (netioapi.h): ``guid``, ``type``, ``permanent``, ``hardware``.

    MIB_IF_ROW2: LUID 8 bytes, index 4, GUID 16, alias and description 514 each, then the address' length (at 1056), the
    present address and the one the adapter was made with (32 bytes each), MTU, type (at 1128); flags at 1152.
    """
    if len(table) < _ROWS_FROM:
        return []
    count = min(struct.unpack_from("<I", table)[0], MAX_ROWS, (len(table) - _ROWS_FROM) // _ROW)
    found = []
    for at in range(_ROWS_FROM, _ROWS_FROM + count * _ROW, _ROW):
        length = min(struct.unpack_from("<I", table, at + 1056)[0], 32)
        found.append(
            {
                "guid": _guid(table[at + 12 : at + 28]),
                "type": struct.unpack_from("<I", table, at + 1128)[0],
                "permanent": table[at + 1092 : at + 1092 + length].hex(),
                "hardware": bool(table[at + 1152] & _HARDWARE_INTERFACE),
            }
        )
    return found


def _guid(data: bytes) -> str:
    first, second, third = struct.unpack_from("<IHH", data)
    return f"{{{first:08x}-{second:04x}-{third:04x}-{data[8:10].hex()}-{data[10:16].hex()}}}"


def _text(data: bytes, offset: int) -> str | None:
    """The zero-ended text at an offset; offset 0 says that there is none."""
    if not 0 < offset < len(data):
        return None
    return data[offset:].split(b"\0", 1)[0][:256].decode("latin-1").strip() or None
