"""A room of its own for a client: its view of the file system and, if wanted, of the network, as root makes them (unshare).

What is mounted or filled up in there is nobody else's, and is gone when the room is closed. A room whose maker was killed is
closed by :func:`sweep`.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from programs import KEYTURN, PATIENCE

_MADE_BY = "KEYTURN_ROOM_OF"  # In the environment of a room's process: who made it.
_ETH_ALL = 3  # linux/if_ether.h: every packet
_SETNS_NET = 0x40000000  # sched.h: CLONE_NEWNET


class Room:
    """One process that holds the namespaces; ``keyturn`` is a program that runs inside of them."""

    def __init__(self, folder: Path, *, network: bool = False) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        flags = ["--mount", "--propagation", "private", *(["--net"] if network else [])]
        self._holder = subprocess.Popen(
            ["unshare", *flags, "sh", "-c", "mount -t tmpfs none /run && echo in && exec sleep infinity"],
            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
            env={**os.environ, _MADE_BY: f"{os.getpid()} {_began(os.getpid())}"},
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "in\n", "no room could be made"
        self._enter = ["nsenter", "-t", str(self._holder.pid), "--mount", *(["--net"] if network else [])]
        if network:
            self.sh("ip link set lo up")
        self.keyturn = folder / "keyturn"
        self.keyturn.write_text(f'#!/bin/sh\nexec {shlex.join(self._enter)} "--wd=$PWD" {KEYTURN} "$@"\n')
        self.keyturn.chmod(0o755)

    def __enter__(self) -> Room:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.kill(self._holder.pid, signal.SIGKILL)
        self._holder.wait(PATIENCE)
        assert self._holder.stdout is not None
        self._holder.stdout.close()

    def sh(self, script: str) -> str:
        """Run shell lines inside. Raises: AssertionError with what they said."""
        done = subprocess.run(
            [*self._enter, "sh", "-euc", script], capture_output=True, text=True, timeout=PATIENCE, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def disk(self, place: Path, kilobytes: int) -> None:
        """A disk of this size, mounted at ``place``."""
        place.mkdir(parents=True, exist_ok=True)
        self.sh(f"mount -t tmpfs -o size={kilobytes}k,mode=755 none {place}")


def sweep() -> int:
    """End everything in the rooms of makers that are gone; the result is how many processes that were."""
    ended = 0
    for holder, maker in _rooms():
        pid, _, began = maker.partition(" ")
        if _began(int(pid)) == began:
            continue
        inside = _inside(holder)
        for process in (one for one in _processes() if inside and _inside(one) == inside):
            with contextlib.suppress(ProcessLookupError), os.fdopen(os.pidfd_open(process)) as end:
                os.kill(process, signal.SIGKILL)
                select.select([end], [], [], PATIENCE)  # Readable once it has ended (pidfd_open(2)).
                ended += 1
    return ended


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _rooms() -> Iterator[tuple[int, str]]:
    """The processes that hold rooms, each with its maker."""
    for process in _processes():
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{process}/environ").read_bytes().decode("utf-8", "replace").split("\0")
            maker = next((line.partition("=")[2] for line in lines if line.startswith(f"{_MADE_BY}=")), None)
            if maker is not None and Path(f"/proc/{process}/comm").read_text() == "sleep\n":
                yield process, maker


def _inside(process: int) -> str | None:
    """The view of the file system that a process has: a room's is its own."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{process}/ns/mnt")
    return None


def _began(process: int) -> str | None:
    """When a process began, in the system's ticks (proc_pid_stat(5), field 22); a number that is used again began later."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return None


class Capture:
    """Every packet of a room's network, from the beginning of a block to its end."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.packets: list[bytes] = []
        self._ended = threading.Event()

    def __enter__(self) -> Capture:
        begun = threading.Event()
        self._thread = threading.Thread(target=self._listen, args=(begun,))
        self._thread.start()
        assert begun.wait(PATIENCE), "the capture did not begin"
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(PATIENCE)

    def _listen(self, begun: threading.Event) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{self._room._holder.pid}/ns/net") as namespace:  # This thread alone changes its network.
            assert libc.setns(namespace.fileno(), _SETNS_NET) == 0, os.strerror(ctypes.get_errno())
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_ALL)) as ear:
            ear.settimeout(0.1)
            begun.set()
            while not self._ended.is_set():
                try:
                    self.packets.append(ear.recv(65_536))
                except TimeoutError:
                    continue

    @property
    def spoken(self) -> list[bytes]:
        """The packets that programs sent: TCP and UDP over IP, without the system's own announcements (ICMPv6, ARP)."""
        return [packet for packet in self.packets if _protocol(packet) in (6, 17)]


def _protocol(packet: bytes) -> int | None:
    kind = struct.unpack("!H", packet[12:14])[0]
    if kind == 0x0800:
        return packet[23]
    return packet[20] if kind == 0x86DD else None


assert sys.platform == "linux"
