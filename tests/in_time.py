"""``make in-time``: the whole suite on other days. The calendar is moved for pytest and for every program it starts.

    python tests/in_time.py [--moment NAME]… [--no-ledger] [pytest's arguments]

Tests that take the clock as an argument cover the core; this covers what nobody thought of: TLS certificates, files, SQLite,
the libraries. The moments that are borders are begun a little before, so that the run crosses them.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from solid import ledger

HERE = Path(__file__).parent
# What installs packages from an index speaks TLS with somebody whose certificates are of today.
LEFT_OUT = ("tests/test_wheel.py",)
MOMENTS = ("+90d", "+1y", "+10y", "2028-02-29T09:00:00", "2038-01-19T03:13:00", "2100-02-28T23:58:00")


def moment(name: str, now: datetime) -> datetime:
    """``+90d`` and ``+10y`` from now, or a day and time (UTC)."""
    found = re.fullmatch(r"\+(\d+)([dy])", name)
    if found is None:
        return datetime.fromisoformat(name).replace(tzinfo=UTC)
    return now + timedelta(days=int(found[1]) * (1 if found[2] == "d" else 365.25))


def build(folder: Path) -> Path:
    """Compile the shift. Raises: RuntimeError without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise RuntimeError("a C compiler is needed to move the calendar: install gcc")
    folder.chmod(0o755)  # Programs that become another account are on that day too.
    library = folder / "shift.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(HERE / "shift" / "shift.c"), "-ldl"]
    subprocess.run(command, check=True)
    return library


def run(library: Path, there: datetime, arguments: list[str]) -> tuple[int, int, list[str]]:
    """The suite on that day: how many passed, failed, and which."""
    shift = math.ceil(there.timestamp() - time.time())
    environment = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_SHIFT": str(shift)}
    said = subprocess.run(
        [sys.executable, "-c", "import time; print(time.strftime('%Y-%m-%d', time.gmtime()))"],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert said == there.strftime("%Y-%m-%d"), f"the calendar did not move: {said}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"--ignore={path}" for path in LEFT_OUT), *arguments],
        env=environment, cwd=HERE.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode not in (0, 1):
        failed.append(f"pytest ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}")
    return counts.get("passed", 0), counts.get("failed", 0) + counts.get("error", 0), failed


def main() -> int:
    parser = argparse.ArgumentParser(description="The whole suite on other days.")
    parser.add_argument("--moment", action="append", metavar="NAME", help=f"of {', '.join(MOMENTS)}, or any other")
    parser.add_argument("--no-ledger", action="store_true")
    options, arguments = parser.parse_known_args()
    bad = 0
    with tempfile.TemporaryDirectory(prefix="keyturn-shift-") as folder:
        library = build(Path(folder))
        for name in options.moment or MOMENTS:
            there = moment(name, datetime.now(UTC))
            passed, failed, lines = run(library, there, arguments)
            bad += bool(failed or lines or not passed)
            print(f"{'FAIL' if failed or lines else 'ok':<5} {name}: {passed} passed, {failed} failed", flush=True)
            for line in lines:
                print(f"        {line}", flush=True)
            if not options.no_ledger:
                ledger.append("in time", name, f"{passed} tests passed", lines)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
