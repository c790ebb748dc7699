"""The client on Windows and macOS, as far as Linux can tell: what it imports, what the type checker says, and recorded computers
through the same commands. What is tried how is in docs/platforms.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from programs import Home, Publisher, computer
from test_layers import SOURCE, client_reach, followed, read

POSIX_ONLY = {"fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog", "crypt", "spwd"}
WINDOWS_ONLY = {"winreg", "msvcrt", "_winapi", "winsound"}
FOR_WINDOWS = {"keyturn.edge.windows", "keyturn.edge.probes.windows_live"}
# The running agent; nothing imports these but the verb, which ends before where the system is another.
FOR_LINUX = {"keyturn.client.agent_loop", "keyturn.client.agent_answers", "keyturn.edge.agent_listen", "keyturn.edge.netlink"}

# A process in which everything that Windows does not have is gone before the client is imported. The standard library's own
# modules are there already, because they would look for Windows' instead; Windows' own are empty.
CHILD = """
import importlib, json, os, sys, types
plan = json.loads(sys.stdin.read())
for name in plan["library"]:
    importlib.import_module(name)

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name in plan["gone"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Gone())
for name in plan["gone"]:
    sys.modules.pop(name, None)
for name in plan["windows"]:
    sys.modules[name] = types.ModuleType(name)
for name in ("geteuid", "getuid", "getegid", "fchmod", "fchown", "chown", "fwalk", "fork", "O_DIRECTORY", "O_NONBLOCK",
             "O_NOCTTY", "O_CLOEXEC", "O_NOFOLLOW"):
    delattr(os, name)
sys.platform = "win32"
for name in plan["modules"]:
    if not name.endswith(".__main__"):  # To import that one is to run it.
        importlib.import_module(name)
from keyturn.cli import main
sys.exit(main(["explain", "limit_reached"]))
"""


@pytest.fixture(scope="module")
def reach() -> dict[str, list[tuple[str, bool]]]:
    """Every module that the client can come to, with what it imports and whether at its top."""
    modules = read(SOURCE)
    return {
        name: [(item.target.split(".")[0], item.eager) for item in followed(modules[name])]
        for name in client_reach(modules)
        if name not in FOR_LINUX
    }


def test_the_client_imports_nothing_at_its_top_that_another_system_lacks(
    reach: dict[str, list[tuple[str, bool]]],
) -> None:
    """What one system alone has is imported in the branch for that system; two modules are for Windows alone."""
    found = [
        f"{name}: {target}" for name, items in reach.items() for target, eager in items
        if eager and target in POSIX_ONLY | (set() if name in FOR_WINDOWS else WINDOWS_ONLY)
    ]  # fmt: skip
    assert found == []
    assert set(reach) >= FOR_WINDOWS, "they are part of the client"
    modules = read(SOURCE)
    eager = {name for name in modules for item in modules[name].imports if item.eager and item.target in FOR_LINUX}
    assert eager <= FOR_LINUX, "what is for Linux alone is imported in the verb that looks first"


def without_posix(
    reach: dict[str, list[tuple[str, bool]]], *more: str, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    library = {target for items in reach.values() for target, _ in items if target in sys.stdlib_module_names}
    plan = {
        "library": [*sorted(library - POSIX_ONLY - WINDOWS_ONLY), "plistlib", "ctypes.wintypes", "xml.parsers.expat", "click"],
        "gone": sorted(POSIX_ONLY), "windows": sorted(WINDOWS_ONLY), "modules": [*sorted(reach), *more],
    }  # fmt: skip
    line = [sys.executable, "-X", "utf8", "-c", CHILD]
    env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **({"PYTHONPATH": str(path)} if path else {})}
    return subprocess.run(line, input=json.dumps(plan), capture_output=True, text=True, check=False, env=env)


def test_the_whole_client_can_be_imported_without_posix(reach: dict[str, list[tuple[str, bool]]]) -> None:
    """In a process that has neither the modules nor the calls that Windows lacks; and a verb answers there."""
    done = without_posix(reach)
    assert done.returncode == 0, done.stderr
    assert "Every seat of this product key is taken" in done.stdout


def test_a_module_that_needs_posix_would_be_noticed(reach: dict[str, list[tuple[str, bool]]], tmp_path: Path) -> None:
    """The check bites: a module that imports fcntl does not get through."""
    (tmp_path / "planted.py").write_text("import fcntl\n", "utf-8")
    done = without_posix(reach, "planted", path=tmp_path)
    assert done.returncode == 1
    assert "No module named 'fcntl'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_the_type_checker_finds_nothing_that_is_not_there(
    platform: str, reach: dict[str, list[tuple[str, bool]]], tmp_path: Path
) -> None:
    """Mypy knows what each system's standard library has; a planted call that Windows lacks is found."""
    planted = tmp_path / "planted.py"
    planted.write_text("import os\nprint(os.geteuid(), os.fchmod)\n", "utf-8")
    line = [
        sys.executable,
        "-m",
        "mypy",
        "--platform",
        platform,
        "--no-warn-unreachable",
        "--cache-dir",
        str(tmp_path / platform),
    ]
    names = [word for name in sorted(reach) for word in ("-m", name)]
    clean = subprocess.run([*line, *names], capture_output=True, text=True, check=False, cwd=SOURCE.parent)
    assert clean.returncode == 0, clean.stdout
    found = subprocess.run([*line, str(planted)], capture_output=True, text=True, check=False, cwd=SOURCE.parent)
    assert ('has no attribute "geteuid"' in found.stdout) == (platform == "win32"), found.stdout


# Recorded computers through the same commands.


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    made = Publisher(tmp_path_factory.mktemp("publisher") / "acme")
    with made.running():
        yield made


@pytest.mark.system
@pytest.mark.parametrize(
    ("name", "again", "neighbour", "system", "vm"),
    [("win-office-a", "win-office-a-reinstalled", "win-office-b", "Windows 11 Pro", None),
     ("win-laptop-a", "win-laptop-a-docked", "win-laptop-b", "Windows 11 Pro", None),
     ("win-hyperv", "win-hyperv-checkpoint", "win-vmware-a", "Windows Server 2022 Datacenter", "hyperv"),
     ("mac-book-a", "mac-book-a-upgraded", "mac-book-b", "macOS", None),
     ("mac-intel-a", "mac-intel-a-new-disk", "mac-intel-b", "macOS", None)],
)  # fmt: skip
def test_a_recorded_computer_is_activated_by_the_same_commands(
    name: str, again: str, neighbour: str, system: str, vm: str | None, publisher: Publisher, tmp_path: Path
) -> None:
    """`keyturn activate` and `status` with `KEYTURN_SYSROOT`: licensed, the same computer costs nothing, another is refused."""
    slug = name.replace("-a", "").replace("-", "")
    product = publisher.product(slug, "--test")
    (key,) = publisher.mint(slug)
    home = Home(tmp_path / "one" / "home", sysroot=computer(tmp_path / "pc", name))
    assert home.activate(product, key["key"]).ok().product["state"] == "licensed"
    assert home.status()["evidence"] == "strong"
    sent = home("disclose", "--json").ok().json
    assert system in json.dumps(sent)
    assert (json.dumps(sent).find(f'"{vm}"') >= 0) == (vm is not None)
    same = Home(tmp_path / "two" / "home", sysroot=computer(tmp_path / "again", again))
    assert same.activate(product, key["key"]).ok().product["activation_id"] == home.status()["activation_id"]
    other = Home(tmp_path / "three" / "home", sysroot=computer(tmp_path / "other", neighbour)).activate(
        product, key["key"]
    )
    assert (other.exit, other.code) == (1, "limit_reached")
    assert publisher.seats(key["serial"]) == 1


@pytest.mark.system
def test_an_ordinary_product_refuses_a_recorded_computer_of_any_system(publisher: Publisher, tmp_path: Path) -> None:
    """Only a test product may be told another computer."""
    product = publisher.product("ordinary")
    (key,) = publisher.mint("ordinary")
    for name in ("win-office-a", "mac-book-a"):
        refused = Home(tmp_path / name / "home", sysroot=computer(tmp_path / f"{name}-pc", name)).activate(
            product, key["key"]
        )
        assert (refused.exit, refused.code) == (5, "test_only")
