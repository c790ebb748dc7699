"""The file by which the agent (root) lets unprivileged runs see the same computer.

``/run/keyturn/anchors.json`` = ``{"scheme": 1, "anchors": {"uuid": "blind1:…", "board": "blind1:…", "vm": "blind1:…"}}``:
blinded values of the slots that only root can read, gone with the next start of the computer.

Leaves to others: writing it (the agent), what a blinded value is (``core.hardware.blind``).

Rules:

- The kernel keeps these serial numbers from users; so the file holds their digests, never the values.
- It counts only if root owns file and directory and nobody else may write them. A recorded computer's may belong to
  whoever reads it.
"""

from __future__ import annotations

import json
import os
import re
import sys

from keyturn.core.hardware import SCHEME, Reading, blind
from keyturn.core.hardware_values import uuid_holds_mac
from keyturn.edge.probes.tree import Tree

PATH = "run/keyturn/anchors.json"
ROOT_ONLY = ("uuid", "board", "vm")
_VALUE = re.compile(rf"blind{SCHEME}:[0-9a-f]{{64}}(:from-nic)?")


def anchors_from_agent(tree: Tree) -> dict[str, str]:
    """Return the blinded anchors the agent left, or nothing if there are none that can be trusted."""
    if not _is_roots(tree, "run/keyturn") or not _is_roots(tree, PATH):
        return {}
    try:
        content = json.loads(tree.text(PATH) or "{}")
    except ValueError:
        return {}
    if not isinstance(content, dict) or content.get("scheme") != SCHEME or not isinstance(content.get("anchors"), dict):
        return {}
    found = content["anchors"].items()
    return {
        slot: value for slot, value in found if slot in ROOT_ONLY and isinstance(value, str) and _VALUE.fullmatch(value)
    }


def agent_text(reading: Reading) -> str:
    """Return what the agent writes into the file (as root, mode 0644, in a directory of mode 0755)."""
    anchors, nic = reading.anchors, reading.anchors.get("nic", "")
    blinded = {
        slot: blind(slot, anchors[slot], from_nic=slot == "uuid" and uuid_holds_mac(anchors[slot], nic))
        for slot in ROOT_ONLY
        if slot in anchors
    }
    return json.dumps({"scheme": SCHEME, "anchors": blinded}, sort_keys=True)


def _is_roots(tree: Tree, path: str) -> bool:
    status = tree.status(path)
    if status is None or status.st_mode & 0o022:
        return False
    return status.st_uid == 0 or (tree.recorded and sys.platform != "win32" and status.st_uid == os.geteuid())
