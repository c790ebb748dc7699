"""What CI installs on a bare system: everything that a test asks for."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
RUN = (TESTS.parent / ".ci" / "run").read_text("utf-8")
# On every Debian system (packages coreutils, dash, dpkg, tar are essential); or no program at all.
ESSENTIAL = frozenset({"sh", "dash", "chroot", "sha256sum", "tar", "dpkg", "dpkg-deb"})
OTHERWISE = {"openssl-headers": "libssl-dev", "dbusmock": "python3-dbusmock", "jose": "npm:npm", "@noble/curves": "npm:npm",
             "axe-core": "npm:npm", "console": "npm:npm"}
NEVER = frozenset({"root", "tool", "no-such-program"})


def asked() -> set[str]:
    """Every name in a ``needs(…)`` or in a reason to skip, of any test."""
    found: set[str] = set()
    for path in TESTS.rglob("*.py"):
        text = path.read_text("utf-8")
        for names in re.findall(r"mark\.needs\(([^)]*)\)", text):
            found |= set(re.findall(r'"([^"]+)"', names))
        found |= set(re.findall(r"""skip\(["']needs ([a-z][a-z0-9-]+) \(""", text))
    return found


def test_what_tests_ask_for_is_installed() -> None:
    """Each program has its Debian package in .ci/run, or is on every system."""
    pairs = dict(pair.split(":") for pair in re.findall(r"[\w.+-]+:[\w.+-]+(?=[ ;])", RUN))
    names = asked()
    assert {"named", "dnsmasq", "strace", "jose"} <= names
    missing = {name for name in names - NEVER - ESSENTIAL if name not in pairs and OTHERWISE.get(name, "?") not in RUN}
    assert missing == set()
