"""The calls by which a live Windows is read. No rule is here: what they return, ``windows`` judges.

Nothing needs an administrator, no program is started and no WMI service is asked. These calls are the one part of the
Windows probe that is not tried by the project's own tests, which run on Linux (docs/platforms.md).

- Firmware: ``GetSystemFirmwareTable`` for ``RSMB``. Registry: ``winreg``, the values of ``windows.REGISTRY`` alone.
- Devices: the configuration manager's list of present ones. Adapters: ``GetIfTable2``, whose rows have the address that an
  adapter was made with beside the present one.
- Disks: each disk's interface is opened without access rights, which suffices for ``IOCTL_STORAGE_QUERY_PROPERTY``.

A call that fails leaves its part empty: unknown, not a fault.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import winreg
from ctypes import wintypes
from typing import Any

from keyturn.edge.probes.windows import REGISTRY, Raw
from keyturn.edge.probes.windows_structs import disk, interfaces

assert sys.platform == "win32"  # For the type checker; ``windows`` imports this module nowhere else.

_RSMB = 0x52534D42
_MAX = 4 << 20  # Bytes of any one answer.
_PRESENT = 0x100  # CM_GETIDLIST_FILTER_PRESENT
_IOCTL_STORAGE_QUERY_PROPERTY = 0x2D1400
_OPEN_EXISTING, _SHARE_ALL = 3, 7
_NETWORK = r"SYSTEM\CurrentControlSet\Control\Network\{4D36E972-E325-11CE-BFC1-08002BE10318}"
_ENUMERATORS = ("PCI\\", "ACPI\\", "SD\\", "SCSI\\", "IDE\\", "USB\\", "USBSTOR\\", "NVME\\")
_DEVICE = "a45c254e-df1c-4efd-8020-67d146a850e0"
_HARDWARE_IDS, _COMPATIBLE_IDS, _BUS_NUMBER, _ADDRESS, _LOCATION_PATHS = 3, 4, 23, 30, 37  # DEVPKEY_Device_…
_CONTAINER_ID = ("8c7ed206-3f8a-4827-b3ab-ae9e1faefc6c", 2)
_INSTANCE_ID = ("78c34fc8-104a-4aca-9ea4-524d52996e57", 256)
_DISKS = "53f56307-b6bf-11d0-94f2-00a0c91efb8b"  # GUID_DEVINTERFACE_DISK


class _Guid(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_ubyte * 16),)

    @classmethod
    def of(cls, text: str) -> _Guid:
        first, second, third, *rest = (bytes.fromhex(part) for part in text.split("-"))
        return cls.from_buffer_copy(first[::-1] + second[::-1] + third[::-1] + b"".join(rest))


class _Key(ctypes.Structure):
    """DEVPROPKEY."""

    _fields_ = (("group", _Guid), ("number", wintypes.ULONG))

    @classmethod
    def of(cls, group: str, number: int) -> _Key:
        return cls(_Guid.of(group), number)


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX."""

    _fields_ = (
        ("length", wintypes.DWORD),
        ("load", wintypes.DWORD),
        *((f"n{n}", ctypes.c_ulonglong) for n in range(7)),
    )


def read() -> Raw:
    """Ask this computer everything that the probe wants to know."""
    devices = {instance: _device(instance) for instance in _instances()}
    return Raw(_firmware(), _registry(), devices, _disks(), _adapters(), {"memory": _memory(), "volume": _volume()})


def system_drive() -> str:
    """The root of the drive that Windows is on: the drive's letter, a colon and a backslash."""
    buffer = ctypes.create_unicode_buffer(260)
    ctypes.WinDLL("kernel32").GetSystemWindowsDirectoryW(buffer, len(buffer))
    return os.path.splitdrive(buffer.value)[0] + "\\"


def _firmware() -> bytes:
    call = ctypes.WinDLL("kernel32").GetSystemFirmwareTable
    size = min(call(_RSMB, 0, None, 0), _MAX)
    buffer = ctypes.create_string_buffer(max(size, 1))
    return buffer.raw[: min(call(_RSMB, 0, buffer, size), size)]


def _registry() -> dict[str, dict[str, Any]]:
    roots = {"HKLM": winreg.HKEY_LOCAL_MACHINE, "HKCU": winreg.HKEY_CURRENT_USER}
    found = {}
    for path, names in REGISTRY.items():
        root, _, key = path.partition("\\")
        found[path] = {name: value for name in names if (value := _value(roots[root], key, name)) is not None}
    return found


def _value(root: int, key: str, name: str) -> str | int | None:
    with contextlib.suppress(OSError), winreg.OpenKey(root, key, 0, winreg.KEY_READ | winreg.KEY_WOW64_64KEY) as handle:
        value, _ = winreg.QueryValueEx(handle, name)
        return value if isinstance(value, (str, int)) else None
    return None


def _instances() -> list[str]:
    """The instances of every present device on a bus that matters."""
    manager = ctypes.WinDLL("cfgmgr32")
    size = wintypes.ULONG()
    if manager.CM_Get_Device_ID_List_SizeW(ctypes.byref(size), None, _PRESENT) or not 0 < size.value < _MAX:
        return []
    buffer = (ctypes.c_wchar * size.value)()
    if manager.CM_Get_Device_ID_ListW(None, buffer, size.value, _PRESENT):
        return []
    return [name for name in "".join(buffer).split("\0") if name.upper().startswith(_ENUMERATORS)]


def _device(instance: str) -> dict[str, Any]:
    node = wintypes.DWORD()
    if ctypes.WinDLL("cfgmgr32").CM_Locate_DevNodeW(ctypes.byref(node), ctypes.c_wchar_p(instance), 0):
        return {}
    container = _property(node, *_CONTAINER_ID)
    bus, address = (_number(_property(node, _DEVICE, number)) for number in (_BUS_NUMBER, _ADDRESS))
    return {
        "location": _texts(_property(node, _DEVICE, _LOCATION_PATHS)),
        "container": _guid(container) if len(container) == 16 else None,
        "ids": _texts(_property(node, _DEVICE, _HARDWARE_IDS)) + _texts(_property(node, _DEVICE, _COMPATIBLE_IDS)),
        "bus": None if bus is None or address is None else [bus, address >> 16, address & 0xFFFF],
    }


def _property(node: wintypes.DWORD, group: str, number: int) -> bytes:
    call, key = ctypes.WinDLL("cfgmgr32").CM_Get_DevNode_PropertyW, _Key.of(group, number)
    kind, size = wintypes.ULONG(), wintypes.ULONG(0)
    call(node, ctypes.byref(key), ctypes.byref(kind), None, ctypes.byref(size), 0)
    if not 0 < size.value < _MAX:
        return b""
    buffer = ctypes.create_string_buffer(size.value)
    failed = call(node, ctypes.byref(key), ctypes.byref(kind), buffer, ctypes.byref(size), 0)
    return b"" if failed else buffer.raw[: size.value]


def _disks() -> list[dict[str, Any]]:
    manager, kernel = ctypes.WinDLL("cfgmgr32"), ctypes.WinDLL("kernel32")
    kernel.CreateFileW.restype = wintypes.HANDLE
    guid, size = _Guid.of(_DISKS), wintypes.ULONG()
    if manager.CM_Get_Device_Interface_List_SizeW(ctypes.byref(size), ctypes.byref(guid), None, 0) or size.value > _MAX:
        return []
    names = (ctypes.c_wchar * max(size.value, 1))()
    if manager.CM_Get_Device_Interface_ListW(ctypes.byref(guid), None, names, size.value, 0):
        return []
    found = []
    for name in filter(None, "".join(names).split("\0")):
        handle = kernel.CreateFileW(ctypes.c_wchar_p(name), 0, _SHARE_ALL, None, _OPEN_EXISTING, 0, None)
        if handle in (None, wintypes.HANDLE(-1).value):
            continue
        try:
            told = disk(_descriptor(kernel, wintypes.HANDLE(handle)))
        finally:
            kernel.CloseHandle(wintypes.HANDLE(handle))
        if told is not None:
            found.append({"instance": _instance_of(name), **told})
    return found


def _descriptor(kernel: ctypes.WinDLL, handle: wintypes.HANDLE) -> bytes:
    query, answer, length = (ctypes.c_ulong * 3)(0, 0, 0), ctypes.create_string_buffer(4096), wintypes.DWORD()
    done = kernel.DeviceIoControl(
        handle, _IOCTL_STORAGE_QUERY_PROPERTY, ctypes.byref(query), ctypes.sizeof(query), answer, len(answer),
        ctypes.byref(length), None,
    )  # fmt: skip
    return answer.raw[: length.value] if done else b""


def _instance_of(interface: str) -> str:
    call, key = ctypes.WinDLL("cfgmgr32").CM_Get_Device_Interface_PropertyW, _Key.of(*_INSTANCE_ID)
    kind, buffer = wintypes.ULONG(), ctypes.create_unicode_buffer(512)
    size = wintypes.ULONG(ctypes.sizeof(buffer))
    failed = call(ctypes.c_wchar_p(interface), ctypes.byref(key), ctypes.byref(kind), buffer, ctypes.byref(size), 0)
    return "" if failed else buffer.value


def _adapters() -> list[dict[str, Any]]:
    helper = ctypes.WinDLL("iphlpapi")
    table = ctypes.c_void_p()
    if helper.GetIfTable2(ctypes.byref(table)) or not table.value:
        return []
    try:
        count = ctypes.c_ulong.from_address(table.value).value
        rows = interfaces(ctypes.string_at(table.value, 8 + min(count, 4096) * 1352))
    finally:
        helper.FreeMibTable(table)
    for row in rows:
        row["instance"] = _value(
            winreg.HKEY_LOCAL_MACHINE, rf"{_NETWORK}\{row.pop('guid')}\Connection", "PnPInstanceId"
        )
    return rows


def _memory() -> int | None:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    return int(status.n0) if ctypes.WinDLL("kernel32").GlobalMemoryStatusEx(ctypes.byref(status)) else None


def _volume() -> str | None:
    serial = wintypes.DWORD()
    drive = ctypes.c_wchar_p(system_drive())
    done = ctypes.WinDLL("kernel32").GetVolumeInformationW(drive, None, 0, ctypes.byref(serial), None, None, None, 0)
    return f"{serial.value:08x}" if done else None


def _texts(data: bytes) -> list[str]:
    return [text for text in data.decode("utf-16-le", "replace").split("\0") if text]


def _number(data: bytes) -> int | None:
    return int.from_bytes(data, "little") if len(data) == 4 else None


def _guid(data: bytes) -> str:
    head = (data[3::-1], data[5:3:-1], data[7:5:-1], data[8:10], data[10:])
    return "{" + "-".join(part.hex() for part in head) + "}"
