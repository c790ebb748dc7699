"""`keyturn service install`: an account, a home and a unit; nothing twice, nothing lost, and a service that runs by them."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

import programs
from keyturn.core.errors import KeyturnError
from keyturn.edge import accounts, listen
from keyturn.flows import installing
from keyturn.flows.installing import Plan
from keyturn.service import install
from keyturn.verbs import run_verbs
from namespaces import as_account

UNIT = "etc/systemd/system/keyturn-service.service"
HOME = "var/lib/keyturn-service"
MOST_EXPOSED = 2.0  # Of systemd's ten points; without a sandbox it says 9.2.
needs_root = pytest.mark.needs("root", "useradd")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system that is being put together: as much of one as accounts need."""
    root = tmp_path / "system"
    (root / "etc").mkdir(parents=True)
    for name, line in (
        ("passwd", "root:x:0:0:root:/root:/bin/sh"),
        ("group", "root:x:0:"),
        ("shadow", "root:*:19000::::::"),
    ):
        (root / "etc" / name).write_text(line + "\n")
    return root


def run(root: Path, *options: str) -> programs.Result:
    return programs.run(["service", "install", "--json", "--root", str(root), *options], cwd=root.parent)


def plan(**changes: Any) -> Plan:
    listen = {"--listen": changes.pop("listen", "0.0.0.0:443"), "--probe-listen": changes.pop("probe_listen", "0.0.0.0:80")}
    values = {
        "server": install.SERVER, "root": Path("/"), "user": "keyturn", "home": Path("/var/lib/keyturn-service"),
        "program": Path("/bin/true"), "listen": listen,
    }  # fmt: skip
    return Plan(**{**values, **changes})


def owners(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


# --- what it does -----------------------------------------------------------------------------------------------------


@pytest.mark.system
def test_a_dry_run_shows_everything_and_changes_nothing(root: Path) -> None:
    """The steps, the unit to the letter, ports, firewall and what is left; the tree stays as it was."""
    before = programs.files_below(root)
    found = run(root, "--dry-run").ok().json
    assert programs.files_below(root) == before
    assert (found["changed"], found["dry_run"], found["user"], found["ports"]) == (False, True, "keyturn", [443, 80])
    assert [step.split()[0] for step in found["steps"]] == ["useradd", "install", "write"]
    (file,) = found["files"]
    assert file["path"] == str(root / UNIT)
    assert "ExecStart=" in file["content"]
    assert [line.split()[0] for line in found["firewall"]] == ["nft", "ufw", "firewall-cmd"]
    assert found["next"][-1] == "systemctl enable --now keyturn-service"
    text = programs.run(["service", "install", "--root", str(root), "--dry-run"], cwd=root.parent).ok().out
    assert all(line.strip() in text for line in file["content"].splitlines())


@needs_root
@pytest.mark.system
def test_it_is_done_once(root: Path) -> None:
    """Account, home and unit are made; a second run finds everything there and says that it changed nothing."""
    found = run(root).ok().json
    assert (found["changed"], found["dry_run"]) == (True, False)
    account = accounts.find("keyturn", root)
    assert account is not None
    line = next(line for line in (root / "etc/passwd").read_text().splitlines() if line.startswith("keyturn:"))
    assert line.split(":")[5:] == ["/var/lib/keyturn-service", "/usr/sbin/nologin"]
    assert (root / "etc/shadow").read_text().splitlines()[-1].split(":")[1] in ("!", "*")  # No password opens it.
    home = (root / HOME).stat()
    assert (home.st_uid, home.st_gid, stat.S_IMODE(home.st_mode)) == (account.uid, account.gid, 0o700)
    assert (root / UNIT).read_text() == found["files"][0]["content"]
    assert stat.S_IMODE((root / UNIT).stat().st_mode) == 0o644
    before = programs.files_below(root)
    again = run(root).ok().json
    assert (again["changed"], again["steps"]) == (False, [])
    assert programs.files_below(root) == before


@needs_root
@pytest.mark.system
def test_a_unit_that_somebody_changed_is_not_replaced_without_a_yes(root: Path) -> None:
    """Exit 2, the difference is shown and nothing changes; with --yes, or nothing to ask, it goes on."""
    run(root).ok()
    edited = (root / UNIT).read_text().replace("RestartSec=2", "RestartSec=9")
    (root / UNIT).write_text(edited)
    before = programs.files_below(root)
    refused = run(root)
    assert (refused.exit, refused.code) == (2, "confirmation_required")
    assert "-RestartSec=9\n+RestartSec=2" in refused.err
    assert "1 lines" in refused.json["error"]["detail"]
    assert run(root, "--dry-run").ok().json["steps"] == [f"write {root / UNIT}"]
    assert programs.files_below(root) == before
    assert run(root, "--yes").ok().json["changed"] is True
    assert "RestartSec=2" in (root / UNIT).read_text()


@needs_root
@pytest.mark.system
def test_a_home_that_is_there_is_handed_over_but_for_its_root_folder(root: Path, tmp_path: Path) -> None:
    """Made by root before: all of it is the account's, but not the publisher's root key, nor what is only linked there."""
    home, outside = root / HOME, tmp_path / "outside"
    programs.run(["service", "init", "--publisher", "Acme", "--home", str(home)], cwd=tmp_path).ok()
    outside.write_text("of the system")
    (home / "link").symlink_to(outside)
    os.link(outside, home / "second-name")
    run(root).ok()
    account = accounts.find("keyturn", root)
    assert account is not None
    for name, owner in owners(home).items():
        assert owner == (0 if name.split("/")[0] == "root" or name == "second-name" else account.uid), name
    assert outside.stat().st_uid == 0
    assert (stat.S_IMODE(home.stat().st_mode), stat.S_IMODE((home / "root").stat().st_mode)) == (0o700, 0o700)


@needs_root
@pytest.mark.system
def test_what_root_writes_later_stays_readable_for_the_service(root: Path, tmp_path: Path) -> None:
    """init, config set and issuing-key rotate by root leave files of the home's account; root/ stays root's."""
    run(root).ok()
    home = root / HOME
    account = accounts.find("keyturn", root)
    assert account is not None

    def service(*arguments: str) -> None:
        programs.run(["service", *arguments, "--home", str(home)], cwd=tmp_path).ok()

    def foreign() -> set[str]:
        return {name for name, owner in owners(home).items() if owner != account.uid and name.split("/")[0] != "root"}

    service("init", "--publisher", "Acme")
    assert foreign() == set()
    service("config", "set", "rate_key", "60/6000")
    for key in (home / "keys").glob("*-02.key"):  # As if the second period had not come yet.
        key.unlink()
    service("issuing-key", "rotate")
    service("product", "create", "paintbox")
    assert len(list((home / "keys").glob("*.key"))) == 4
    assert foreign() == set()
    assert {owner for name, owner in owners(home).items() if name.split("/")[0] == "root"} == {0}


@needs_root
@pytest.mark.system
def test_a_home_of_another_account_needs_a_yes(root: Path) -> None:
    """A folder that somebody else's service may use is not taken away in passing."""
    home = root / HOME
    home.mkdir(parents=True)
    os.chown(home, 4711, 4711)
    refused = run(root)
    assert (refused.exit, refused.code) == (2, "confirmation_required")
    assert "4711" in refused.json["error"]["detail"]
    assert accounts.find("keyturn", root) is None
    run(root, "--yes").ok()
    account = accounts.find("keyturn", root)
    assert account is not None
    assert accounts.owner(home) == account.uid


def test_who_is_not_root_is_told_so(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 5 with the line to run, and nothing changed; a dry run is anybody's."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    before = programs.files_below(root)
    assert run_verbs(["service", "install", "--json", "--root", str(root)]) == 5
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["remedy"].split()[0]) == ("permission_denied", "sudo")
    assert run_verbs(["service", "install", "--json", "--root", str(root), "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["home"] == "/var/lib/keyturn-service"
    assert programs.files_below(root) == before


@needs_root
@pytest.mark.system
def test_a_program_of_the_system_that_fails_is_said(root: Path) -> None:
    """The program's own words, exit 6, and no unit for an account that is not there."""
    (root / "etc" / "group").write_text("root:x:0:\nkeyturn:x:55:\n")
    refused = run(root)
    assert (refused.exit, refused.code) == (6, "program_failed")
    assert "exit 9: useradd: group keyturn exists" in refused.json["error"]["detail"]
    assert not (root / UNIT).exists()


@pytest.mark.parametrize(
    "options", [
        ("--user-name", "root"), ("--user-name", "Key Turn"), ("--user-name", "a:b"), ("--listen", "0.0.0.0:0"),
        ("--listen", "443"), ("--home", "/home/keyturn"), ("--home", "/tmp/keyturn"), ("--home", "/srv/a b"),
        ("--home", "/srv/%h"), ("--home", "relative"), ("--program", "/opt/x y/keyturn"), ("--at", "https://a.example"),
    ],
)  # fmt: skip
def test_what_could_not_run_is_refused(
    root: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, str]
) -> None:
    """An account that is root, a port that is any, a path that the sandbox hides or a unit does not take: exit 2."""
    assert run_verbs(["service", "install", "--json", "--dry-run", "--root", str(root), *options]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def test_a_program_that_the_account_could_not_reach_is_refused(tmp_path: Path) -> None:
    """A program below a folder that only its owner may enter, on the running system."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(KeyturnError, match="could not reach") as error:
        installing.check(plan(program=closed / "keyturn"))
    assert "/opt/keyturn" in error.value.remedy


def test_ports_and_lines_follow_what_is_listened_on() -> None:
    """No right to low ports that are not used, and no line for the firewall where nobody else is to come in."""
    everywhere = plan(listen="[::]:8443", probe_listen="none")
    assert everywhere.ports() == [8443]
    assert "\nAmbientCapabilities=\nCapabilityBoundingSet=\n" in everywhere.unit()
    assert "\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n" in plan().unit()
    assert installing.firewall(everywhere.ports(reachable=True)) == [
        "nft add rule inet filter input tcp dport '{ 8443 }' accept",
        "ufw allow 8443/tcp",
        "firewall-cmd --permanent --add-port=8443/tcp && firewall-cmd --reload",
    ]
    assert any("--url https://NAME:8443 --probe-url none" in line for line in install.remaining(everywhere))
    alone = plan(listen="127.0.0.1:8443", probe_listen="[::1]:8080")
    assert (alone.ports(), installing.firewall(alone.ports(reachable=True))) == ([8443, 8080], [])


# --- the unit ---------------------------------------------------------------------------------------------------------


def unit_values(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def test_the_unit_fits_the_program() -> None:
    """Time to drain, the verb that runs, the account, no name left open, and the root folder out of reach."""
    text = plan().unit()
    values = unit_values(text)
    assert "@HOME" not in text
    assert "@" not in text.replace("@system-service", "").replace("@privileged", "")
    assert int(values["TimeoutStopSec"][0]) > listen.DRAIN + listen.LINGER
    assert int(values["LimitNOFILE"][0]) > 2 * listen.MAX_CONNECTIONS
    assert values["ExecStart"][0].startswith("/bin/true service run --home /var/lib/keyturn-service --listen ")
    assert values["InaccessiblePaths"] == ["-/var/lib/keyturn-service/root"]
    assert (values["User"], values["Group"], values["UMask"]) == (["keyturn"], ["keyturn"], ["0077"])


@pytest.mark.system
@pytest.mark.needs("systemd-analyze")
def test_systemd_takes_the_unit_and_finds_it_little_exposed(tmp_path: Path) -> None:
    """`verify` has nothing to say, and `security` counts few points, which are printed."""
    path = tmp_path / "keyturn-service.service"
    path.write_text(plan().unit())
    verified = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(path)], capture_output=True, text=True, check=True,
        env={**os.environ, "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"},
    ).stdout  # fmt: skip
    found = re.search(r"exposure level for \S+: ([0-9.]+)", judged)
    assert found, judged
    print(f"systemd-analyze security: {found[1]} of 10")
    assert float(found[1]) <= MOST_EXPOSED


@needs_root
@pytest.mark.system
@pytest.mark.needs("unshare", "setpriv", "mount", "ip")
def test_the_service_runs_by_its_unit(root: Path, tmp_path: Path) -> None:
    """ExecStart as it stands, as the account, on 443 and 80, in a system it cannot write: activation, drain, exit 0.

    Namespaces stand in for systemd: its file systems, its rights and its network, not its filter of system calls.
    """
    run(root).ok()
    account = accounts.find("keyturn", root)
    assert account is not None
    home = root / HOME

    def service(*arguments: str) -> programs.Result:
        return programs.run(["service", *arguments, "--home", str(home), "--json"], cwd=tmp_path).ok()

    product = tmp_path / "paintbox.ktproduct"
    service("init", "--publisher", "Acme", "--url", "https://localhost", "--probe-url", "http://localhost/probe")
    service("product", "create", "paintbox", "--test")
    service("product", "export", "paintbox", "-o", str(product))
    (key,) = service("key", "mint", "--product", "paintbox").json["keys"]
    (tmp_path / "key").write_text(key["key"] + "\n")
    story = as_account(
        tmp_path,
        account,
        unit_values((root / UNIT).read_text())["ExecStart"][0],
        mounts={home: "/var/lib/keyturn-service"},
        hidden=["/var/lib/keyturn-service/root"],
        rights="net_bind_service",
        meanwhile=f"""
            {programs.KEYTURN} --home {tmp_path}/client activate - --product-file {product} --yes --json < {tmp_path}/key
            grep -E '^(Uid|CapEff|NoNewPrivs):' /proc/$service/status >&2
            setpriv --reuid {account.uid} --clear-groups ls /var/lib/keyturn-service/root >&2 || true
        """,
        sysroot=programs.computer(tmp_path / "pc", "office-pc-a"),
    )
    assert story.returncode == 0, story.stdout + story.stderr
    answer, _, ended = story.stdout.rpartition("ended ")
    assert json.loads(answer)["products"][0]["state"] == "licensed"
    assert ended == "0\n"
    assert f"Uid:\t{account.uid}\t{account.uid}" in story.stderr
    assert "CapEff:\t0000000000000400" in story.stderr  # CAP_NET_BIND_SERVICE, bit 10, and nothing else.
    assert "NoNewPrivs:\t1" in story.stderr
    assert "root': Permission denied" in story.stderr
    assert service("key", "show", str(key["serial"])).json["used"] == 1
    assert {owner for name, owner in owners(home).items() if name.split("/")[0] != "root"} == {account.uid}
