"""Reading the computer: raw values for ``core.hardware``, and the facts that a request declares.

Keeps the door (``read``) and what comes out of it (``Computer``); one module per operating system behind it.
Leaves to others: what values mean (``core.hardware``), what may be sent (``privacy.toml`` and the client).

Rules:

- What cannot be read is *unknown*, with a reason in ``unreadable``; nothing is guessed and nothing is invented.
- Linux: files only. Windows: calls of the system, no program. macOS: ``ioreg`` and ``sysctl``, by their full paths. Each
  answer is bounded, nothing is written, and no network is asked, but for a cloud's own metadata if the caller asks it.
- A recorded computer (``sysroot``) is read from its own files alone: neither this computer's files nor its environment
  answer for it. Whether a recorded computer may be used at all is the caller's rule (test products only).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.hardware import Reading

# Asks a cloud which instance this is: its kind (``aws`` …) to the instance's name, or ``None`` (``cloud.instance``).
Ask = Callable[[str], "str | None"]


class Computer(NamedTuple):
    """What was read: hardware, declared facts, what kind of computer it is, and why the rest is unknown.

    ``vm_kind`` is ``kvm``, ``vmware``, ``hyperv``, ``virtualbox``, ``xen``, ``aws``, ``azure``, ``gce`` … or ``None``;
    ``container`` is ``docker``, ``podman``, ``lxc``, ``kubernetes``, ``wsl``, ``windows`` … or ``None``.
    ``ephemeral_hint``: it looks as if nothing lasts here; whether the *store* lasts, the caller knows better.
    ``unreadable``: slot or fact to reason.
    """

    reading: Reading
    facts: Mapping[str, object]
    vm_kind: str | None
    container: str | None
    ephemeral_hint: bool
    unreadable: Mapping[str, str]


def read(sysroot: str | None = None, *, facts: bool = True, ask: Ask | None = None) -> Computer:
    """Read this computer, or the recorded one in the directory ``sysroot``; ``facts=False`` reads hardware only (faster).

    ``ask`` is the only way to a network, for an organization's policy that allows it; without it none is asked.
    Raises: KeyturnError ``platform_unsupported`` where there is no probe yet.
    """
    system = sys.platform if sysroot is None else recorded_system(sysroot)
    if system == "linux":
        from keyturn.edge.probes.linux import read_linux

        return read_linux(sysroot, facts=facts, ask=ask)
    if system == "win32":
        from keyturn.edge.probes.windows import read_windows

        return read_windows(sysroot, facts=facts)
    if system == "darwin":
        from keyturn.edge.probes.macos import read_macos

        return read_macos(sysroot, facts=facts)
    raise KeyturnError("platform_unsupported", f"reading hardware on {system} comes with a later version")


def recorded_system(sysroot: str) -> str:
    """Which system a recorded computer has, as ``sys.platform`` calls it: its folder says it (docs/hardware.md)."""
    for folder, system in (("windows", "win32"), ("macos", "darwin")):
        if os.path.isdir(os.path.join(sysroot, folder)):
            return system
    return "linux"
