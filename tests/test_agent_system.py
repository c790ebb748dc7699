"""The agent as part of a system: root's store and a user's programs, hardware that only root reads, links, and the unit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyturn.client import agent as agent_cli
from keyturn.client.agent_install import UNIT
from keyturn.client.homes import SYSTEM_AGENT, open_homes
from keyturn.client.loading import load
from keyturn.client.machine import Machine
from keyturn.core.capability import Question
from keyturn.core.errors import KeyturnError
from keyturn.core.model import ProductName
from keyturn.edge import agent_socket, files, probes
from keyturn.edge.vault import Vault
from keyturn.testing import World
from keyturn.testing.computers import load as recorded
from keyturn.testing.computers import synthetic
from namespaces import laid_open
from programs import KEYTURN, PATIENCE, Publisher, computer, environment, run

pytestmark = pytest.mark.system
STRANGER = 23_452  # An account that nobody has.
MOST_EXPOSED = 2.5  # Of systemd's ten points; without a sandbox it says 9.2.


# --- the same computer for everybody ----------------------------------------------------------------------------------


def licensed_as_root(world: World, name: str) -> tuple[Path, Path]:
    """A store that root activated on a recorded computer; the result is the store, and the computer as a user reads it."""
    home = world.folder / "system"
    world.licensed(machine=world.machine(recorded(name)), home=home)
    place = world.folder / "as-user"
    recorded(name).write(place, as_user=True)
    return home, place


def state(home: Path, place: Path, world: World) -> tuple[str, str | None]:
    machine = Machine({}, now=world.clock, read=lambda _sysroot=None, **more: probes.read(str(place), **more))
    (shelf,) = Vault(str(home), "system").shelves()
    standing = load(shelf, machine).standing
    return standing.state.word, standing.reason


@pytest.mark.parametrize("name", ["vm-template-a", "hyperv", "office-pc-a"])
def test_what_root_activated_is_licensed_for_a_user(world: World, name: str) -> None:
    """The agent leaves what only root reads; without it a virtual machine shows a user nothing to recognise it by."""
    home, place = licensed_as_root(world, name)
    before = state(home, place, world)
    path = place / "run/keyturn/anchors.json"
    root_view = world.folder / "as-root"
    recorded(name).write(root_view)
    said: list[str] = []
    agent_cli.leave_anchors(said.append, str(path), lambda **more: probes.read(str(root_view), **more))
    assert said == []
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o644, 0o755)
    assert state(home, place, world) == ("licensed", None)
    assert name == "office-pc-a" or before == ("out_of_tolerance_grace", "hardware_unreadable")


def test_anchors_that_cannot_be_left_stop_nobody(tmp_path: Path) -> None:
    """It is said, and the agent goes on."""
    (tmp_path / "file").write_text("")
    said: list[str] = []
    agent_cli.leave_anchors(said.append, str(tmp_path / "file" / "keyturn" / "anchors.json"))
    assert len(said) == 1


def test_a_named_home_asks_no_agent(tmp_path: Path) -> None:
    """Only the system's own store has an agent to ask; with --home or KEYTURN_HOME, and for a user's store, there is none."""
    named = open_homes(str(tmp_path), None, {})
    assert [vault.agent for vault in named.read] == [None]
    assert open_homes(None, None, {"KEYTURN_HOME": str(tmp_path)}).write.agent is None
    system = open_homes(None, "system", {"HOME": str(tmp_path)}).write
    assert system.agent == SYSTEM_AGENT
    assert open_homes(None, "user", {"HOME": str(tmp_path)}).write.agent is None


def test_roots_agent_looks_into_nobodys_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in root's own home, even what is no store, is not looked at: the unit's sandbox hides it."""
    monkeypatch.setattr(files, "privileged", lambda: True)
    files.claim_home(tmp_path / ".local/state/keyturn", "service")
    assert open_homes(None, None, {"HOME": str(tmp_path)}).write.scope == "system"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="keyturn-agent-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.needs("root", "unshare", "setpriv")
def test_a_users_status_is_proven_through_roots_agent(folder: Path) -> None:
    """In the system's store: root activates, a user reads it, unproven; while root's agent runs it is proven.

    A program with --home asks no agent: the same store, named, stays unproven.
    """
    publisher = Publisher(folder / "publisher")
    product = publisher.product("paintest", "--test")
    (key,) = publisher.mint("paintest")
    (folder / "key").write_text(key["key"])
    sysroot = computer(folder / "pc", synthetic(1))
    as_user = f"setpriv --reuid {STRANGER} --regid {STRANGER} --clear-groups -- {KEYTURN} --json"
    script = f"""
        set -eu
        {laid_open(folder / "open")}
        mount -t tmpfs -o mode=755 none /run
        mount -t tmpfs -o mode=755 none /var/lib
        {KEYTURN} --json activate - --product-file {product} --yes --allow-ephemeral < {folder}/key > {folder}/activated
        {as_user} status > {folder}/before
        mkfifo {folder}/ready
        {KEYTURN} --json agent run > {folder}/ready &
        agent=$!
        exec 3< {folder}/ready
        read -r line <&3
        read -r turn <&3
        {as_user} status > {folder}/during
        {as_user} --home /var/lib/keyturn status > {folder}/named
        stat --format '%U %a' /run/keyturn /run/keyturn/anchors.json > {folder}/modes
        kill -TERM $agent
        wait $agent
        test ! -e {SYSTEM_AGENT}
        {as_user} status > {folder}/after
    """
    with publisher.running():
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env=environment(folder, {"KEYTURN_SYSROOT": str(sysroot)}), timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {name: json.loads((folder / name).read_text())["products"][0] for name in ("before", "during", "named", "after")}
    assert {name: (one["state"], one["possession"]) for name, one in found.items()} == {
        "before": ("licensed", "unproven"), "during": ("licensed", "proven"), "named": ("licensed", "unproven"),
        "after": ("licensed", "unproven"),
    }  # fmt: skip
    assert (folder / "modes").read_text() == "root 755\nroot 644\n"


@pytest.mark.needs("root", "setpriv")
def test_what_listens_as_another_account_is_not_asked(folder: Path) -> None:
    """Anybody may make a socket in a place that is free: nothing is written to it, whatever it would answer."""
    place = folder / "false"
    place.mkdir()
    place.chmod(0o777)
    listen = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('ready', flush=True);"
        "c, _ = s.accept(); print(len(c.recv(99)), flush=True)"
    )
    command = ["setpriv", "--reuid", str(STRANGER), "--clear-groups", "--", "/usr/bin/python3", "-c", listen, str(place / "s")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as false:
        assert false.stdout is not None
        assert false.stdout.readline() == "ready\n"
        with pytest.raises(KeyturnError) as error:
            agent_socket.ask(str(place / "s"), Question("prove", ProductName("A" * 43, "ink"), "A" * 22))
        assert false.stdout.readline() == "0\n"
    assert error.value.code == "permission_denied"


@pytest.mark.needs("root", "unshare", "ip")
def test_a_link_that_comes_up_is_used_at_once(folder: Path) -> None:
    """A computer without a network, and a service that it could not reach: an address is given, and the copy is licensed.

    Nothing else wakes the agent: its next attempt would have been two hours away.
    """
    place = folder / "linked"
    place.mkdir()
    publisher = Publisher(place / "publisher")
    product = publisher.product("paintest", "--test")
    (key,) = publisher.mint("paintest")
    (place / "key").write_text(key["key"])
    sysroot = computer(place / "pc", synthetic(2))
    home, keyturn = place / "home", f"{KEYTURN} --json --home {place}/home"
    service = f"{KEYTURN} service run --home {publisher.home} --json --listen 127.0.0.1:{publisher.port}"
    script = f"""
        set -eu
        trap 'kill $agent $service' EXIT
        {keyturn} product add {product} > /dev/null
        {keyturn} install-key - < {place}/key > /dev/null
        printf '{{"at": 1, "by": "person"}}' > $(echo {home}/products/*)/consent.json
        mkfifo {place}/agent {place}/service
        {KEYTURN} --json agent run --home {home} --socket {place}/agent.sock > {place}/agent &
        agent=$!
        exec 3< {place}/agent
        read -r ready <&3
        read -r first <&3
        {service} --probe-listen 127.0.0.1:{publisher.probe_port} > {place}/service &
        service=$!
        ip link set lo up
        exec 4< {place}/service
        read -r up <&4
        ip address add 192.0.2.7/24 dev lo scope global
        read -r second <&3
        trap - EXIT
        kill -TERM $agent $service
        wait $agent
        wait $service
        printf '%s\\n%s\\n' "$first" "$second"
    """
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], cwd=place, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        env=environment(place, {"KEYTURN_SYSROOT": str(sysroot)}), timeout=PATIENCE * 2, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line)["products"][0] for line in done.stdout.splitlines())
    assert (first["code"], second["code"], second["wants"]) == ("service_unreachable", None, None)


# --- the unit ---------------------------------------------------------------------------------------------------------


def test_the_unit_is_written_once_and_removed(tmp_path: Path) -> None:
    """Written, then unchanged; a changed one is not replaced without a yes; --print changes nothing; --remove takes it away."""
    path = tmp_path / "etc/systemd/system" / UNIT
    (tmp_path / "etc").mkdir()

    def install(*options: str) -> dict[str, object]:
        line = ["--json", "agent", "install", "--root", str(tmp_path), "--program", "/opt/keyturn/bin/keyturn", *options]
        found = run(line, cwd=tmp_path)
        return {"exit": found.exit, **found.json}

    printed = install("--print")
    assert (printed["changed"], path.exists()) == (False, False)
    done = install()
    assert (done["changed"], done["steps"]) == (True, [f"write {path}"])
    assert path.read_text() == printed["files"][0]["content"]  # type: ignore[index]
    assert path.stat().st_mode & 0o777 == 0o644
    assert (install()["changed"], install()["steps"]) == (False, [])
    path.write_text(path.read_text() + "# mine\n")
    assert install()["exit"] == 2
    assert "# mine" in path.read_text()
    assert install("--yes")["changed"] is True
    assert (install("--remove")["changed"], path.exists()) == (True, False)
    assert install("--remove")["changed"] is False


@pytest.mark.parametrize("program", ["keyturn", "/opt/key turn/keyturn", "/opt/../root/keyturn"])
def test_a_program_that_cannot_stand_in_a_unit_is_refused(tmp_path: Path, program: str) -> None:
    found = run(["--json", "agent", "install", "--root", str(tmp_path), "--program", program], cwd=tmp_path)
    assert (found.exit, found.code) == (2, "usage")


@pytest.mark.needs("systemd-analyze")
def test_systemd_reads_the_unit_and_finds_it_closed(tmp_path: Path) -> None:
    """No line that systemd does not understand, and little exposure."""
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    run(["agent", "install", "--root", str(tmp_path), "--program", "/bin/true"], cwd=tmp_path).ok()
    verify = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(folder / UNIT)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (verify.returncode, verify.stderr) == (0, "")
    text = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", str(folder / UNIT)],
        capture_output=True, text=True, check=False, timeout=60,
    ).stdout  # fmt: skip
    exposure = re.search(r"Overall exposure level for .*?: ([0-9.]+)", text)
    assert exposure is not None, text
    assert float(exposure[1]) <= MOST_EXPOSED
