"""Which policy holds for a store: the organization's files, and what a home adds to them.

- ``/etc/keyturn/policy.toml``, then ``/etc/keyturn/policy.d/*.toml`` in order of name: the later line counts.
- ``policy.toml`` in a home only restricts further; a line that would loosen is ignored, and said.
- A user who can write here could as well run another program: policy is the organization's will, not a wall. The wall is
  the organization's firewall, and docs/limiting.md gives the rules for it.
"""

from __future__ import annotations

import os
import time

from keyturn.client.machine import Machine
from keyturn.core import policy
from keyturn.core.documents import FACTS
from keyturn.core.policy import Policy, Said
from keyturn.edge import files

ALWAYS_SENT = frozenset({"client_version"})  # Without it no service could tell what it may answer.
WITHHOLDABLE = tuple(name for name in FACTS if name not in ALWAYS_SENT)
MAX_POLICY = 65_536


def policy_of(home: str, machine: Machine) -> Policy:
    """The policy for a store; for no store (an empty ``home``) the system's alone.

    Raises: KeyturnError ``policy_malformed`` (then nothing may leave this computer), ``permission_denied``,
    ``storage_failed``, ``input_too_large``.
    """
    system = [said for path in _system_files(machine.rules) if (said := _said(path)) is not None]
    return policy.together(system, _said(os.path.join(home, "policy.toml")) if home else None)


def minute_of_day(now: int) -> int:
    """The minute of the local day, 0 to 1439: an organization's hours are those of its wall clocks."""
    local = time.localtime(now)
    return local.tm_hour * 60 + local.tm_min


def _system_files(rules: str) -> list[str]:
    more = os.path.join(rules, "policy.d")
    names = sorted(name for name in os.listdir(more) if name.endswith(".toml")) if os.path.isdir(more) else []
    return [os.path.join(rules, "policy.toml"), *(os.path.join(more, name) for name in names)]


def _said(path: str) -> Said | None:
    data = files.read(path, MAX_POLICY)
    return None if data is None else policy.read(data.decode("utf-8", "replace"), path, WITHHOLDABLE)
