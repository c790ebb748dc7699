"""What every test run does: one chance, no deadline, and nothing skipped in silence.

- ``@pytest.mark.needs("node", "jose")`` skips a test where something of the system is missing; what was skipped, and
  what would bring it back, is listed at the end.
- Where nothing may be missing (``CI=true`` and root, who can install it), every skip is a failure.

Fixtures live in ``worlds.py`` and ``hosts.py``, and beside the tests that use them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
TESTS = Path(__file__).parent
COMPLETE = os.environ.get("CI") == "true" and os.geteuid() == 0

# What a test may need, and what to do about it. Any other name is a program of the system.
_REMEDIES = {
    "jose": "npm, a network, then `make node`",
    "@noble/curves": "npm, a network, then `make node`",
    "axe-core": "npm, a network, then `make node`",
    "console": "npm, a network, then `make console`",
    "chromium": "install Chromium (Debian: chromium)",
    "root": "run it as root",
    "node": "install Node.js",
    "softhsm2-util": "install SoftHSM 2 (Debian: softhsm2)",
    "cmake": "install CMake (Debian: cmake)",
    "g++": "install a C++ compiler (Debian: g++)",
    "openssl-headers": "install OpenSSL's headers (Debian: libssl-dev)",
    "dbusmock": "install python-dbusmock for the system's Python (Debian: python3-dbusmock)",
}

pytest_plugins = ["worlds", "hosts"]
os.environ["LANGUAGE"] = "en"  # Whatever the developer reads: sentences are compared in English.

hypothesis.settings.register_profile(
    "keyturn",
    deadline=None,  # A loaded machine is not a bug.
    derandomize=os.environ.get("CI") == "true",  # CI repeats itself; a developer explores.
    print_blob=True,
)
hypothesis.settings.load_profile("keyturn")


def is_there(tool: str) -> bool:
    """Say whether this computer has what ``needs`` names."""
    if tool == "root":
        return os.geteuid() == 0
    if tool == "console":
        return (TESTS.parent / "src" / "keyturn" / "fleet" / "static" / "vendor" / "htmx.min.js").is_file()
    if tool in {"jose", "@noble/curves", "axe-core"}:
        return (TESTS / "node" / "node_modules" / tool / "package.json").is_file()
    if tool == "openssl-headers":
        return Path("/usr/include/openssl/evp.h").exists()
    if tool == "dbusmock":
        return Path("/usr/lib/python3/dist-packages/dbusmock").is_dir()
    return shutil.which(tool, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is not None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        missing = [tool for tool in marker.args if not is_there(tool)]
        if missing:
            pytest.skip("needs " + ", ".join(f"{tool} ({_REMEDIES.get(tool, 'install it')})" for tool in missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _no_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _no_skip((yield))


def _no_skip(report: Report) -> Report:
    if COMPLETE and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}\nWith CI=true and root nothing may be skipped: .ci/run installs what tests need."
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section("not run here", sep="-", yellow=True)
        for report in skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            terminalreporter.line(f"{report.nodeid}: {reason}")
