"""The container: what its file copies is there, it names no index and no secret, and its command runs as it would inside.

The image itself is built where podman can fetch its base; here the same command runs as the same account in a tree that it
cannot write (docs/operations.md says what was tried by hand).
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

import programs
from keyturn.edge import accounts, listen
from keyturn.edge.accounts import Account
from namespaces import as_account

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Containerfile").read_text("utf-8")
COMPOSE = (ROOT / "compose.yaml").read_text("utf-8")
HOME = "/var/lib/keyturn-service"


def instructions(name: str) -> list[str]:
    """What stands behind an instruction, each time it is used."""
    joined = re.sub(r"\\\n\s*", " ", TEXT)
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def array(name: str) -> list[str]:
    """The last use of an instruction in the form that no shell reads."""
    found = json.loads(instructions(name)[-1])
    assert isinstance(found, list)
    return found


def test_everything_that_is_copied_is_there_and_let_through() -> None:
    """Each path of a COPY exists, and .containerignore, which holds back everything else, lets it through."""
    copied = [path for line in instructions("COPY") if "--from" not in line for path in line.split()[:-1]]
    assert {"pyproject.toml", "src", "requirements/service.txt"} <= set(copied)
    let_through = {
        line[1:].rstrip("/") for line in (ROOT / ".containerignore").read_text("utf-8").splitlines() if line[:1] == "!"
    }
    assert set(copied) == let_through
    for path in copied:
        assert (ROOT / path).exists(), path


def test_nothing_is_installed_unpinned_and_no_index_or_secret_is_named() -> None:
    """Every pip install is by hash or of the wheel alone; what pip is configured with comes as a secret mount."""
    installs = re.findall(r"bin/pip [^&\n]*install[^&\n]*", " ".join(instructions("RUN")))
    assert len(installs) == 3
    assert all("--require-hashes -r requirements/" in line or "--no-index /tmp/wheel/" in line for line in installs)
    assert not re.search(r"index-url|https?://(?!127)|PASSWORD|TOKEN", TEXT)
    assert instructions("FROM") == ["${PYTHON} AS build", "${PYTHON}"]
    assert not [line for line in instructions("ARG") if not line.startswith("PYTHON=")]


def test_it_is_not_root_and_has_time_to_drain() -> None:
    """An account of its own with a fixed number, a home that is a volume, and more time to stop than requests in work get."""
    (create,) = [line for line in instructions("RUN") if "useradd" in line]
    assert "--uid 10001" in create
    assert (instructions("USER"), instructions("VOLUME"), instructions("STOPSIGNAL")) == (
        ["keyturn"],
        [HOME],
        ["SIGTERM"],
    )
    grace = re.search(r"stop_grace_period: (\d+)s", COMPOSE)
    assert grace
    assert int(grace[1]) > listen.DRAIN + listen.LINGER
    for line in ("read_only: true", 'cap_drop: ["ALL"]', '"no-new-privileges:true"', f'"home:{HOME}"'):
        assert line in COMPOSE
    ports = re.search(r'ports: \["443:(\d+)", "80:(\d+)"\]', COMPOSE)
    assert ports
    assert list(ports.groups()) == instructions("EXPOSE")[0].split()


@pytest.mark.system
@pytest.mark.needs("root", "unshare", "setpriv", "mount", "ip")
def test_its_command_runs_in_a_tree_that_it_cannot_write(tmp_path: Path) -> None:
    """ENTRYPOINT with CMD as account 10001, without any right: healthy by its own check, an activation, drain, exit 0."""
    home, product = tmp_path / "volume", tmp_path / "paintbox.ktproduct"

    def service(*arguments: str) -> programs.Result:
        return programs.run(["service", *arguments, "--home", str(home), "--json"], cwd=tmp_path).ok()

    service(
        "init", "--publisher", "Acme", "--url", "https://localhost:8443", "--probe-url", "http://localhost:8080/probe"
    )
    service("product", "create", "paintbox", "--test")
    service("product", "export", "paintbox", "-o", str(product))
    (key,) = service("key", "mint", "--product", "paintbox").json["keys"]
    (tmp_path / "key").write_text(key["key"] + "\n")
    accounts.hand_over(home, 10001, 10001)
    bin_folder = programs.KEYTURN.parent
    check = array("HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD")
    assert (check[0], array("ENTRYPOINT")[0]) == ("python", "keyturn")
    healthy = f"{bin_folder}/{shlex.join(check)}"
    story = as_account(
        tmp_path,
        Account("keyturn", 10001, 10001),
        f"env KEYTURN_HOME={HOME} {bin_folder}/{shlex.join([*array('ENTRYPOINT'), *array('CMD')])}",
        mounts={home: HOME},
        meanwhile=f"""
            {healthy}
            {programs.KEYTURN} --home {tmp_path}/client activate - --product-file {product} --yes --json < {tmp_path}/key
            grep -E '^(Uid|CapEff):' /proc/$service/status >&2
        """,
        after=f"if {healthy} 2> {tmp_path}/unhealthy; then echo still healthy >&2; exit 1; fi",
        sysroot=programs.computer(tmp_path / "pc", "office-pc-a"),
    )
    assert story.returncode == 0, story.stdout + story.stderr
    answer, _, ended = story.stdout.rpartition("ended ")
    assert json.loads(answer)["products"][0]["state"] == "licensed"
    assert ended == "0\n"
    assert "Uid:\t10001\t10001" in story.stderr
    assert "CapEff:\t0000000000000000" in story.stderr
    assert "ConnectionRefusedError" in (tmp_path / "unhealthy").read_text()
