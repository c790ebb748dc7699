"""``make bench``: what things cost, as ratios measured in one run on one machine.

    python tests/bench.py [--write docs/benchmarks.md] [--only WORD] [--json]

Absolute figures drift from machine to machine and from hour to hour; the ratios hold. Every pair that is compared is
measured in the same run, alternately where it is short, and the median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from measure import agent, bundle, client, fleet, host, phone, rotation, service, signers
from measure.rows import Row, page, table

PARTS: dict[str, Callable[[Path], list[Row]]] = {
    "activations": service.activations,
    "host": host.leases,
    "fleet": fleet.everything,
    "minting": service.minting,
    "rotation": rotation.rotation,
    "signers": signers.everything,
    "check": client.license_check,
    "start": client.cold_start,
    "bundle": bundle.bundle_start,
    "agent": agent.idle,
    "phone": phone.codes,
}


def machine() -> str:
    """What this was measured on, in one line."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "?")
    return f"{os.cpu_count()} × {model}, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    parser.add_argument("--only", metavar="WORD", help=f"one part: {', '.join(PARTS)}")
    parser.add_argument("--write", metavar="FILE", type=Path, help="write the page of figures")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for name, part in PARTS.items():
        if arguments.only in (None, name):
            print(f"measuring: {name} …", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix="keyturn-bench-") as folder:
                rows += part(Path(folder))
    if arguments.write:
        day = datetime.now(UTC).date().isoformat()
        arguments.write.write_text(page(rows, machine=machine(), day=day, commit=commit()))
    print(json.dumps([row._asdict() for row in rows], indent=1) if arguments.json else table(rows))
    missed = [row for row in rows if not row.met]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
