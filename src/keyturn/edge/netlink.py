"""Is a link coming up? The kernel tells whoever listens (rtnetlink(7)), without a library and without asking.

Keeps: the socket, and reading "an address was given to an interface" out of its messages.
Leaves to others: which link that is and whether it may be used (``edge.links``), what follows (``client.agent_loop``).

- An address of global scope is what counts: a cable without one reaches nobody, and loopback has none.
- Addresses are announced again whenever their time is prolonged; only one that was not there before is news.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator

if sys.platform != "linux":  # Signals, descriptors and credentials as Linux has them.
    raise ImportError("the agent is there on Linux only")

_GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR (linux/rtnetlink.h)
_NEW_ADDRESS, _DELETED_ADDRESS = 20, 21
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, interface
_TENTATIVE = 0x40  # Not usable yet; the same message comes again without it (IPv6).
_GLOBAL = 0


class Watch:
    """The kernel's announcements. Only its own are read: another process's message has a sender that is not 0."""

    def __init__(self) -> None:
        """Raises: OSError where this kernel or sandbox has no rtnetlink."""
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._sock = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._sock.bind((0, _GROUPS))
        self._known: set[bytes] = set()

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def came_up(self) -> bool:
        """Read what is there; whether an address is among it that was not there before."""
        news = False
        while True:
            try:
                data, (sender, _groups) = self._sock.recvfrom(65_536)
            except BlockingIOError:
                return news
            except OSError:
                return True  # ENOBUFS: more came than was read, so something changed.
            if sender == 0:
                news |= self.heard(data)

    def heard(self, data: bytes) -> bool:
        """Whether one message of the kernel brings a new address of global scope."""
        news = False
        for kind, address in addresses(data):
            if kind == _DELETED_ADDRESS:
                self._known.discard(address)
            elif address not in self._known:
                self._known.add(address)
                news = True
        return news


def addresses(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The usable addresses of global scope in a message: its kind, and interface with address as bytes."""
    while len(data) >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(data)
        if length < _HEADER.size or length > len(data):
            return
        body = data[_HEADER.size : length]
        if kind in (_NEW_ADDRESS, _DELETED_ADDRESS) and len(body) >= _ADDRESS.size:
            _, prefix, flags, scope, index = _ADDRESS.unpack_from(body)
            if scope == _GLOBAL and not (flags & _TENTATIVE and kind == _NEW_ADDRESS):
                yield kind, struct.pack("=IB", index, prefix) + _attribute(body[_ADDRESS.size :])
        data = data[(length + 3) & ~3 :]


def _attribute(data: bytes) -> bytes:
    """The value of IFA_ADDRESS (1) among the attributes (struct rtattr: length, type)."""
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4 or length > len(data):
            break
        if kind == 1:
            return data[4:length]
        data = data[(length + 3) & ~3 :]
    return b""
