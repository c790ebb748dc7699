"""The client as one folder (``make client-bundle``): what is in it, and that it does what the installed client does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import make_bundle
from keyturn.verbs import root
from programs import Home, Publisher, computer, run

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.needs("objdump"),
]  # PyInstaller asks it what a library needs.


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle.build(tmp_path_factory.mktemp("bundle"))


def test_it_holds_the_client_and_no_server(program: Path) -> None:
    """What the client reaches is in it; no server's part, no test's part, no path of this computer."""
    viewer = str(Path(sys.executable).with_name("pyi-archive_viewer"))
    listed = subprocess.run([viewer, "-r", "-l", str(program)], capture_output=True, text=True, check=True).stdout
    for name in ("keyturn.client.activating", "keyturn.edge.probes.windows", "keyturn.edge.probes.macos", "click"):
        assert f"'{name}'" in listed, name
    for name in ("keyturn.service", "keyturn.testing", "keyturn.demo", "starlette", "sqlite3", "pytest", "asyncio"):
        assert f"'{name}'" not in listed, name
        assert f"'{name}." not in listed, name
    assert (program.parent / "lib" / "keyturn" / "privacy.toml").is_file()


def test_every_verb_of_the_client_is_there(program: Path, tmp_path: Path) -> None:
    """Verbs are imported by name when they are called: none was forgotten."""
    for verb in sorted(root.list_commands(None)):  # type: ignore[arg-type] # Click wants a context here and uses none.
        asked = run([verb, "--help"], cwd=tmp_path, keyturn=program)
        assert asked.exit == (2 if verb in ("service", "host", "fleet", "demo") else 0), asked
        assert "Traceback" not in asked.out + asked.err
        assert "internal" not in asked.err


@pytest.mark.skipif(sys.platform != "linux", reason="the agent is there on Linux only")
def test_the_agents_unit_starts_the_bundles_program(program: Path, tmp_path: Path) -> None:
    """The unit's text is in it, and names this very program; the agent itself takes a turn."""
    unit = run(["agent", "install", "--print"], cwd=tmp_path, keyturn=program).ok().out
    assert f"ExecStart={program} agent run" in unit
    assert run(["--home", str(tmp_path / "h"), "--json", "agent", "run", "--once"], cwd=tmp_path, keyturn=program).ok().json == {
        "products": []
    }


def test_it_activates_against_a_running_service(program: Path, tmp_path: Path) -> None:
    """In a folder that was moved, with no Python in sight: activated, licensed, disclosed, carried by file, returned."""
    moved = program.parent.rename(program.parent.parent / "moved elsewhere") / program.name
    publisher = Publisher(tmp_path / "publisher")
    product = publisher.product("paintest", "--test")
    (key,) = publisher.mint("paintest")
    home = Home(tmp_path / "client" / "home", sysroot=computer(tmp_path / "pc", "win-office-a"), keyturn=moved)
    home.env |= {"PATH": "", "PYTHONHOME": "/nonexistent", "PYTHONPATH": "/nonexistent"}
    try:
        with publisher.running():
            assert home.activate(product, key["key"]).ok().product["state"] == "licensed"
            assert home("disclose").ok().json
            home("deactivate", "--yes").ok()
            home("export", "request", "-o", str(tmp_path / "r.ktx")).ok()
            run(["relay", str(tmp_path / "r.ktx")], cwd=tmp_path, keyturn=moved).ok()
        assert home("import", str(tmp_path / "r.ktx")).ok().product["state"] == "licensed"
        assert home.status()["evidence"] == "strong"
    finally:
        moved.parent.rename(program.parent)
