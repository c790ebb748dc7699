"""Reading the computer: raw values for ``core.hardware``, and the facts that a request declares.

Keeps the door (``read``) and what comes out of it (``Computer``); one module per operating system behind it.
Leaves to others: what values mean (``core.hardware``), what may be sent (``privacy.toml`` and the client).

Rules:

- What cannot be read is *unknown*, with a reason in ``unreadable``; nothing is guessed and nothing is invented.
- Files only, each read bounded; no program is started, no network is asked, nothing is written.
- A recorded computer (``sysroot``) is read from its own files alone: neither this computer's files nor its environment
  answer for it. Whether a recorded computer may be used at all is the caller's rule (test products only).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.hardware import Reading


class Computer(NamedTuple):
    """What was read: hardware, declared facts, what kind of computer it is, and why the rest is unknown.

    ``vm_kind`` is ``kvm``, ``vmware``, ``hyperv``, ``virtualbox``, ``xen``, ``aws``, ``azure``, ``gce`` … or ``None``;
    ``container`` is ``docker``, ``podman``, ``lxc``, ``kubernetes``, ``wsl`` … or ``None``. ``ephemeral_hint``: it looks
    as if nothing lasts here; whether the *store* lasts, the caller knows better. ``unreadable``: slot or fact to reason.
    """

    reading: Reading
    facts: Mapping[str, object]
    vm_kind: str | None
    container: str | None
    ephemeral_hint: bool
    unreadable: Mapping[str, str]


def read(sysroot: str | None = None, *, facts: bool = True) -> Computer:
    """Read this computer, or the recorded one in the directory ``sysroot``; ``facts=False`` reads hardware only (faster).

    Raises: KeyturnError ``platform_unsupported`` where there is no probe yet.
    """
    if sys.platform == "linux" or sysroot is not None:
        from keyturn.edge.probes.linux import read_linux

        return read_linux(sysroot, facts=facts)
    raise KeyturnError("platform_unsupported", f"reading hardware on {sys.platform} comes with a later version")
