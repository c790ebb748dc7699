"""What ``files`` and ``homes`` ask of Windows where other systems have modes, ``flock`` and user numbers.

Thin calls and no rule; what the access lists say is in ``sddl``. Like the probe's calls they are not tried by the project's
own tests, which run on Linux (docs/platforms.md).

- A file is opened for reading so that it can be replaced meanwhile, and replaced with POSIX semantics (Windows 10, 1607):
  readers keep the old content, as elsewhere. Other programs that open it otherwise (a virus scanner) can still be in the way.
- A lock is waited for in the system (``LockFileEx``), not asked for again and again.

Raises: OSError, like the functions of ``os`` that it stands for.
"""

from __future__ import annotations

import ctypes
import msvcrt
import os
import sys
from collections.abc import Callable
from ctypes import wintypes

from keyturn.edge import sddl

assert sys.platform == "win32"  # For the type checker; only branches for Windows import this module.

_READ, _WRITE, _DELETE = 0x80000000, 0x40000000, 0x00010000
_SHARE_ALL = 7
_CREATE_ALWAYS, _OPEN_EXISTING = 2, 3
_NORMAL = 0x80
_REVISION = 1
_FILE_OBJECT = 1  # SE_FILE_OBJECT
_OWNER, _LIST, _PROTECTED = 0x1, 0x4, 0x80000000  # SECURITY_INFORMATION
_RENAME_EX = 22  # FileRenameInfoEx
_REPLACE_POSIX = 0x1 | 0x2
_EXCLUSIVE = 0x2  # LOCKFILE_EXCLUSIVE_LOCK


class _Attributes(ctypes.Structure):
    """SECURITY_ATTRIBUTES."""

    _fields_ = (("length", wintypes.DWORD), ("descriptor", ctypes.c_void_p), ("inherit", wintypes.BOOL))


class _Overlapped(ctypes.Structure):
    """OVERLAPPED; its offset, 0, is where the lock begins."""

    _fields_ = (
        ("internal", ctypes.c_void_p), ("internal_high", ctypes.c_void_p), ("offset", wintypes.DWORD),
        ("offset_high", wintypes.DWORD), ("event", wintypes.HANDLE),
    )  # fmt: skip


def is_administrator() -> bool:
    """Whether this process has an administrator's rights now (elevated), as root has elsewhere."""
    return bool(ctypes.WinDLL("shell32").IsUserAnAdmin())


def open_for_reading(path: str) -> int:
    """A descriptor of a file that others may meanwhile replace or delete."""
    return _descriptor(_open(path, _READ, _OPEN_EXISTING), os.O_RDONLY)


def create(path: str, *, private: bool) -> int:
    """A descriptor of a new, empty file; ``private``: nobody but its owner, the system and administrators ever sees it."""
    if not private:
        return _descriptor(_open(path, _READ | _WRITE, _CREATE_ALWAYS), os.O_RDWR)
    with_list: list[int] = []

    def make(descriptor: ctypes.c_void_p) -> None:
        attributes = _Attributes(ctypes.sizeof(_Attributes), descriptor, 0)
        with_list.append(_open(path, _READ | _WRITE, _CREATE_ALWAYS, ctypes.byref(attributes)))

    _with_descriptor(sddl.PRIVATE, make)
    return _descriptor(with_list[0], os.O_RDWR)


def replace(source: str, target: str) -> None:
    """Give ``source`` the name ``target`` in one step, whoever reads the file that had it."""
    name = os.path.abspath(target).encode("utf-16-le")
    # FILE_RENAME_INFO: flags, padding to a pointer, root directory, length in bytes, name.
    pointer = ctypes.sizeof(ctypes.c_void_p)
    head = _REPLACE_POSIX.to_bytes(pointer, "little") + bytes(pointer) + len(name).to_bytes(4, "little")
    data = ctypes.create_string_buffer(head + name + b"\0\0")
    handle = _open(source, _DELETE | 0x00100000, _OPEN_EXISTING)
    kernel = _kernel()
    try:
        done = kernel.SetFileInformationByHandle(wintypes.HANDLE(handle), _RENAME_EX, data, len(data))
        code = ctypes.get_last_error()
    finally:
        kernel.CloseHandle(wintypes.HANDLE(handle))
    if not done:
        raise ctypes.WinError(code)


def lock(descriptor: int) -> None:
    """Wait until the file's lock is this descriptor's; it ends when the descriptor is closed."""
    handle = wintypes.HANDLE(msvcrt.get_osfhandle(descriptor))
    if not _kernel().LockFileEx(handle, _EXCLUSIVE, 0, 1, 0, ctypes.byref(_Overlapped())):
        raise ctypes.WinError(ctypes.get_last_error())


def open_to_everybody(folder: str) -> None:
    """Give a folder of the system's store its access list and its owner (``sddl.OPEN_FOLDER``)."""
    security = ctypes.WinDLL("advapi32")

    def give(descriptor: ctypes.c_void_p) -> None:
        owner, access, flag = ctypes.c_void_p(), ctypes.c_void_p(), wintypes.BOOL()
        security.GetSecurityDescriptorOwner(descriptor, ctypes.byref(owner), ctypes.byref(flag))
        security.GetSecurityDescriptorDacl(descriptor, ctypes.byref(flag), ctypes.byref(access), ctypes.byref(wintypes.BOOL()))
        code = security.SetNamedSecurityInfoW(
            ctypes.c_wchar_p(folder), _FILE_OBJECT, _OWNER | _LIST | _PROTECTED, owner, None, access, None
        )
        if code:
            raise ctypes.WinError(code)

    _with_descriptor(sddl.OPEN_FOLDER, give)


def access_list(path: str) -> str:
    """A file's owner and access list as text (SDDL)."""
    security, kernel = ctypes.WinDLL("advapi32"), _kernel()
    descriptor, text = ctypes.c_void_p(), ctypes.c_wchar_p()
    code = security.GetNamedSecurityInfoW(
        ctypes.c_wchar_p(path), _FILE_OBJECT, _OWNER | _LIST, None, None, None, None, ctypes.byref(descriptor)
    )
    if code:
        raise ctypes.WinError(code)
    try:
        if not security.ConvertSecurityDescriptorToStringSecurityDescriptorW(
            descriptor, _REVISION, _OWNER | _LIST, ctypes.byref(text), None
        ):
            raise ctypes.WinError()
        return text.value or ""
    finally:
        kernel.LocalFree(descriptor)
        kernel.LocalFree(text)


def report_event(source: str, kind: int, event_id: int, text: str) -> None:
    """Write one event to the Application log, under ``source`` (ReportEventW; ``kind`` is EVENTLOG_…_TYPE)."""
    security = ctypes.WinDLL("advapi32", use_last_error=True)
    security.RegisterEventSourceW.restype = wintypes.HANDLE
    handle = security.RegisterEventSourceW(None, ctypes.c_wchar_p(source))
    if not handle:
        raise ctypes.WinError(ctypes.get_last_error())
    try:
        strings = (ctypes.c_wchar_p * 1)(text[:31_000])  # One string has at most 31,839 characters.
        if not security.ReportEventW(wintypes.HANDLE(handle), kind, 0, event_id, None, 1, 0, strings, None):
            raise ctypes.WinError(ctypes.get_last_error())
    finally:
        security.DeregisterEventSource(wintypes.HANDLE(handle))


def _with_descriptor(text: str, use: Callable[[ctypes.c_void_p], None]) -> None:
    descriptor = ctypes.c_void_p()
    if not ctypes.WinDLL("advapi32").ConvertStringSecurityDescriptorToSecurityDescriptorW(
        ctypes.c_wchar_p(text), _REVISION, ctypes.byref(descriptor), None
    ):
        raise ctypes.WinError()
    try:
        use(descriptor)
    finally:
        _kernel().LocalFree(descriptor)


def _open(path: str, access: int, how: int, attributes: object = None) -> int:
    kernel = _kernel()
    kernel.CreateFileW.restype = wintypes.HANDLE
    wanted = wintypes.DWORD(access)
    handle = kernel.CreateFileW(ctypes.c_wchar_p(path), wanted, _SHARE_ALL, attributes, how, _NORMAL, None)
    if handle in (None, wintypes.HANDLE(-1).value):
        raise ctypes.WinError(ctypes.get_last_error(), path)
    return int(handle)


def _descriptor(handle: int, flags: int) -> int:
    return msvcrt.open_osfhandle(handle, flags | os.O_BINARY | os.O_NOINHERIT)


def _kernel() -> ctypes.WinDLL:
    return ctypes.WinDLL("kernel32", use_last_error=True)
