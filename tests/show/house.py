"""The contract's table, and the root's folder that a running service never opens."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from keyturn.testing.computers import synthetic
from programs import Publisher
from show.stage import Stage, item

TESTS = Path(__file__).parents[1]


@item("Commands, JSON and exit codes of design section 8: one table-driven test")
def contract(stage: Stage) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "tests/test_contract.py"],
        cwd=TESTS.parent, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    counts = re.findall(r"(\d+) (passed|failed|errors?|skipped)", done.stdout)
    summary = ", ".join(f"{number} {word}" for number, word in counts)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert done.returncode == 0, f"{summary}: {'; '.join(failed)[:1500]}"
    return f"{summary}"


@item("service run never opens the root folder")
def root_folder(stage: Stage) -> str:
    """Once with the folder moved away, once under strace, which sees every file a process names."""
    folder = stage.place("root")
    publisher = Publisher(folder / "publisher")
    product = publisher.product("paintest", "--test")
    (key,) = publisher.mint("paintest")
    sysroot = stage.pc(synthetic(300))
    figures = []
    if shutil.which("strace"):
        trace = folder / "trace"
        publisher.start(wrapper=("strace", "-f", "-qq", "-e", "trace=file", "-o", str(trace)))
        stage.home(sysroot).activate(product, key["key"]).ok()
        assert publisher.stop() == 0
        lines = trace.read_text().splitlines()
        root = str(publisher.home / "root")
        assert any(str(publisher.home / "keys") in line for line in lines), "strace saw nothing"
        assert any("service.db" in line for line in lines), "strace saw nothing"
        touched = [line for line in lines if root in line or re.search(r'"(\./)?root(/|")', line)]
        assert not touched, touched[:3]
        figures.append(f"{len(lines):,} file calls traced, 0 name it")
    else:
        figures.append("strace is not installed")
    (publisher.home / "root").rename(folder / "safe")
    with publisher.running():
        entry = stage.home(sysroot).activate(product, key["key"]).ok().product
        assert entry["state"] == "licensed"
    figures.append("with the folder moved away: an activation is licensed")
    return "; ".join(figures)
