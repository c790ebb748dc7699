"""The wheel alone: what is in it, and what it does in an environment that has the client's dependencies and no more."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

import wheel_env
from programs import Home, Publisher, Result, computer, run
from wheel_env import REPOSITORY, WheelEnvironment

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> WheelEnvironment:
    return wheel_env.make(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_everything_below_the_package_and_nothing_else(alone: WheelEnvironment) -> None:
    """Types, declarations, schema and recorded computers travel; tests and caches do not."""
    names = set(zipfile.ZipFile(alone.wheel).namelist())
    source = REPOSITORY / "src"
    expected = {
        str(path.relative_to(source))
        for path in (source / "keyturn").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if not name.partition("/")[0].endswith(".dist-info")} == expected
    assert {"keyturn/py.typed", "keyturn/privacy.toml"} <= names


def test_only_the_clients_dependencies_are_installed(alone: WheelEnvironment) -> None:
    """Beside pip and its helpers: the client's three dependencies and what they need."""
    found = {entry["name"] for entry in json.loads(alone.pip("list", "--format", "json"))}
    assert {"keyturn", "click", "cryptography", "dnspython"} <= found
    assert not found & {"starlette", "uvicorn", "httptools", "uvloop", "pynacl", "joserfc", "rich"}
    assert alone.pip("check").startswith("No broken requirements")


def test_the_client_works(alone: WheelEnvironment, tmp_path: Path) -> None:
    """Against a running service: added, activated, licensed, disclosed, carried by file, returned."""
    publisher = Publisher(tmp_path / "publisher")
    product = publisher.product("paintest", "--test")
    (key,) = publisher.mint("paintest")
    home = Home(tmp_path / "client" / "home", sysroot=computer(tmp_path / "pc", "office-pc-a"), keyturn=alone.keyturn)
    assert home("status").ok().json == {"products": []}
    with publisher.running():
        assert home.activate(product, key["key"]).ok().product["state"] == "licensed"
        home("deactivate", "--yes").ok()
        file = str(tmp_path / "r.ktx")
        home("export", "request", "-o", file).ok()
        run(["relay", file], cwd=tmp_path, keyturn=alone.keyturn).ok()
    assert home("import", file).ok().product["state"] == "licensed"
    assert home("inspect", file).ok().json["verified"] is True


@pytest.mark.parametrize("json_too", [False, True], ids=["text", "json"])
@pytest.mark.parametrize(
    "line", ["service run", "service init --publisher X", "service status", "service key mint --product s",
             "service --home h run",
             "service --help", "demo", "demo --keep"],
)  # fmt: skip
def test_a_servers_verb_answers_with_the_line_that_installs_it(
    alone: WheelEnvironment, tmp_path: Path, line: str, json_too: bool
) -> None:
    """No traceback: exit 2, and the pip line."""
    result = run([*(["--json"] if json_too else []), *line.split()], cwd=tmp_path, keyturn=alone.keyturn)
    assert_install_line(result, line.split()[0])


def assert_install_line(result: Result, extra: str) -> None:
    assert result.exit == 2, result
    assert f"pip install 'keyturn[{extra}]'" in result.out + result.err, result
    assert "Traceback" not in result.out + result.err, result
    if result.code is not None:
        assert result.code == "extra_missing"


def test_the_sdk_imports_no_network_and_no_server(alone: WheelEnvironment) -> None:
    """``from keyturn import Client`` loads neither ssl nor sockets, and nothing of the servers."""
    script = (
        "import sys; from keyturn import Client; "
        "print(sorted({'ssl', 'socket', 'http.client', 'starlette', 'urllib.request', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([str(alone.python), "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
