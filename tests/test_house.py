"""The house around the code: lock files, the Makefile, the plug-in in conftest.py, and what no committed file may name."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import keyturn

ROOT = Path(__file__).parents[1]
LOCKS = ("base", "service", "host", "fleet", "demo", "phone", "wheel", "dev")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def named(requirement: str) -> str:
    """The normalised name at the head of a requirement (PEP 503)."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;@]", requirement, maxsplit=1)[0]).lower()


def direct(*extras: str, dev: bool = False) -> set[str]:
    """The names that pyproject.toml asks for itself."""
    optional = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in optional[extra])]
    wanted += grouped("dev") if dev else []
    return {named(line) for line in wanted} - {"keyturn"}


def grouped(name: str) -> list[str]:
    """The lines of a dependency group, with those of the groups that it includes (PEP 735)."""
    lines = PROJECT["dependency-groups"][name]
    return [one for line in lines for one in ([line] if isinstance(line, str) else grouped(line["include-group"]))]


def pins(lock: str) -> dict[str, str]:
    """Name and the rest of each requirement of a lock file, hashes included."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text("utf-8").replace("\\\n", " ")
    return {named(line): line for line in text.splitlines() if line.strip()}


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_files_pin_by_hash_and_name_no_address(lock: str) -> None:
    """Every line is one name, one exact version and its hashes: no index, no link, no path, no comment."""
    for line in pins(lock).values():
        assert re.fullmatch(r"[a-z0-9-]+==\S+( ; [^:#@/]+?)?( +--hash=sha256:[0-9a-f]{64})+ *", line), line


def test_lock_files_hold_what_is_asked_for_and_agree() -> None:
    """Each lock has the direct dependencies of its extra, and a package has one version in all of them."""
    everything = pins("dev")
    assert direct() <= set(pins("base"))
    assert direct("service") <= set(pins("service"))
    assert direct("host") <= set(pins("host"))
    assert direct("fleet") <= set(pins("fleet"))
    assert direct("service", "demo") <= set(pins("demo"))
    assert direct("phone") <= set(pins("phone"))
    assert {named(line) for line in grouped("wheel")} <= set(pins("wheel"))
    assert direct(*PROJECT["project"]["optional-dependencies"], dev=True) <= set(everything)
    for lock in LOCKS:
        for name, line in pins(lock).items():
            assert line.split()[0] == everything[name].split()[0]


def test_the_oracle_in_node_is_pinned_without_an_address() -> None:
    """package-lock.json has a version and an integrity hash for everything, and says nothing of where it came from."""
    lock = json.loads((ROOT / "tests" / "node" / "package-lock.json").read_text("utf-8"))
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert {"node_modules/jose", "node_modules/@noble/curves"} <= set(packages)
    for entry in packages.values():
        assert "resolved" not in entry
        assert entry["integrity"].startswith("sha512-")


def test_every_dependency_has_its_reason() -> None:
    """docs/decisions/0001-dependencies.md names each package that is asked for."""
    page = (ROOT / "docs" / "decisions" / "0001-dependencies.md").read_text("utf-8").lower()
    wanted = direct(*PROJECT["project"]["optional-dependencies"], dev=True) | {"jose"}
    assert not {name for name in wanted if f"`{name}`" not in page}


def test_the_version_is_the_same_everywhere() -> None:
    """The package says the version that it is published as."""
    assert keyturn.__version__ == PROJECT["project"]["version"]


@pytest.mark.needs("make")
def test_help_names_every_target() -> None:
    """`make` alone lists every target there is, each with its purpose."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[-1].split())
    shown = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {line.split()[1] for line in shown.stdout.splitlines()} == targets
    assert {"help", "dev", "demo", "test", "lint", "types", "bench", "vectors", "show-online"} <= targets


def test_the_readme_begins_with_the_two_commands() -> None:
    """Who arrives sees `make demo` and `make test` first."""
    first = (ROOT / "README.md").read_text("utf-8").splitlines()[:10]
    assert [line.split()[1] for line in first if line.startswith("make ")] == ["demo", "test"]


@pytest.mark.needs("git")
def test_no_committed_file_names_a_registry_or_a_path_of_some_machine() -> None:
    """Packages are named, registries never; and nothing depends on where the tree happens to lie."""
    # In pieces, so that this file does not name them either.
    hosts = ["py" "pi.org", "python" "hosted.org", "npm" "js.org", "npm" "js.com", "deb" "ian.org"]  # fmt: skip
    paths = ["/wo" "rk/main", "/wo" "rk/shared", "../sha" "red", "/opt/py" "pi"]  # fmt: skip
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("needs a git clone")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert len(files) > 20
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in files
        if path.is_file()
        for text in [path.read_bytes().decode("utf-8", "replace").lower()]
        for word in [*hosts, *paths]
        if word in text
    ]
    assert found == []


# --- the plug-in ------------------------------------------------------------------------------------------------------

TRIAL = """
import pytest

@pytest.mark.needs("no-such-program")
def test_one(): raise AssertionError("ran")

@pytest.mark.needs("sh")
def test_two(): pass
"""


def trial(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run two tests under this project's conftest.py, one of which needs a program that nobody has."""
    shutil.copy(Path(__file__).with_name("conftest.py"), folder / "conftest.py")
    for name in ("worlds.py", "hosts.py", "programs.py"):
        shutil.copy(Path(__file__).with_name(name), folder / name)
    (folder / "test_trial.py").write_text(TRIAL, "utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  needs: x\n", "utf-8")
    clean = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(folder)],
        cwd=folder, env={**clean, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_what_is_missing_is_skipped_and_listed(tmp_path: Path) -> None:
    """A test that needs what is not there is skipped, and named at the end with what it needs."""
    run = trial(tmp_path)
    assert run.returncode == 0, run.stdout
    assert "test_trial.py::test_one: Skipped: needs no-such-program (install it)" in run.stdout
    assert "1 passed, 1 skipped" in run.stdout


@pytest.mark.needs("root")
def test_where_nothing_may_be_missing_a_skip_is_a_failure(tmp_path: Path) -> None:
    """With CI=true and root the same run fails."""
    run = trial(tmp_path, CI="true")
    assert run.returncode == 1, run.stdout
    assert "1 passed, 1 error" in run.stdout
    assert "nothing may be skipped" in run.stdout
