"""A host's operations: installed as a service of the system, looked at by ``doctor``, backed up, verified and restored."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hosts import Organization, Program
from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY
from keyturn.edge import accounts, archive, listen
from keyturn.edge.archive import Reader
from keyturn.flows.installing import Plan
from keyturn.host import backup, checks, install
from keyturn.host.home import HostHome
from keyturn.host.leasing import LeasingHost
from keyturn.testing import Clock, World
from namespaces import as_account
from peers import refused
from programs import computer, files_below, run
from stocked import killed

UNIT = "etc/systemd/system/keyturn-host.service"
MOST_EXPOSED = 2.0  # Of systemd's ten points; without a sandbox it says 9.2.
needs_root = pytest.mark.needs("root", "useradd")


@pytest.fixture
def organization(tmp_path: Path) -> Iterator[Organization]:
    world = World(tmp_path / "world", threshold=2, clock=Clock(int(time.time())))
    yield Organization(world)
    world.close()


@pytest.fixture
def home(organization: Organization) -> Path:
    """A certified host that leased to three computers; it does not run."""
    host = organization.host()
    ask_twice([organization.computer(number) for number in range(3)], host)
    host.database.close()
    return host.home.path


def ask_twice(computers: list[Any], host: LeasingHost) -> None:
    """Below the threshold a computer waits; all are licensed in the end."""
    for one in computers * 2:
        with contextlib.suppress(KeyturnError):
            one.ask(host)
    assert all(one.held for one in computers)


def opened(path: Path) -> HostHome:
    return HostHome(path, {})


def failing(path: Path, now: int) -> set[str]:
    return {check.name for check in checks.examine(opened(path), now) if check.ok is False}


# --- install ---


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system that is being put together: as much of one as accounts need."""
    root = tmp_path / "system"
    (root / "etc").mkdir(parents=True)
    for name, line in (
        ("passwd", "root:x:0:0:root:/root:/bin/sh"), ("group", "root:x:0:"), ("shadow", "root:*:19000::::::"),
    ):  # fmt: skip
        (root / "etc" / name).write_text(line + "\n")
    return root


def installed(root: Path, *options: str) -> Any:
    return run(["host", "install", "--json", "--root", str(root), *options], cwd=root.parent).ok().json


@pytest.mark.system
def test_a_dry_run_shows_everything_and_changes_nothing(root: Path) -> None:
    """The steps, the unit to the letter, one port above 1024 without any right, the firewall and what is left."""
    before = files_below(root)
    found = installed(root, "--dry-run")
    assert files_below(root) == before
    assert (found["changed"], found["user"], found["ports"], found["home"]) == (False, "keyturn", [8444], "/var/lib/keyturn-host")
    assert [step.split()[0] for step in found["steps"]] == ["useradd", "install", "write"]
    assert [line.split()[0] for line in found["firewall"]] == ["nft", "ufw", "firewall-cmd"]
    assert [line.split()[2] for line in found["next"][1:-1]] == ["init", "activate", "config"]
    assert found["next"][-1] == "systemctl enable --now keyturn-host"
    (file,) = found["files"]
    assert file["path"] == str(root / UNIT)
    values = dict(re.findall(r"^(\w+)=(.*)$", file["content"], re.MULTILINE))
    assert "@" not in file["content"].replace("@system-service", "").replace("@privileged", "")
    assert " host run --home /var/lib/keyturn-host --listen " in values["ExecStart"]
    assert (values["CapabilityBoundingSet"], values["InaccessiblePaths"], values["User"]) == ("", "", "keyturn")
    assert int(values["TimeoutStopSec"]) > listen.DRAIN + listen.LINGER


@pytest.mark.system
@pytest.mark.needs("systemd-analyze")
def test_systemd_takes_the_unit_and_finds_it_little_exposed(tmp_path: Path) -> None:
    """`verify` has nothing to say, and `security` counts few points, which are printed."""
    path = tmp_path / "keyturn-host.service"
    plan = Plan(install.SERVER, Path("/"), "keyturn", Path("/var/lib/keyturn-host"), Path("/bin/true"), {"--listen": "[::]:8444"})
    path.write_text(plan.unit())
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
@pytest.mark.needs("unshare", "setpriv", "mount", "ip", "curl")
def test_the_host_runs_by_its_unit(root: Path, tmp_path: Path, home: Path, organization: Organization) -> None:
    """Installed once and not twice; ExecStart as it stands, as the account, in a system it cannot write: it answers and drains.

    What root does to the home meanwhile stays the account's.
    """
    place = root / "var/lib/keyturn-host"
    shutil.copytree(home, place)
    found = installed(root, "--yes")
    assert found["changed"] is True and not any("init" in line for line in found["next"])
    before = files_below(root)
    assert (installed(root)["changed"], files_below(root)) == (False, before)
    account = accounts.find("keyturn", root)
    assert account is not None
    for arguments in (["config", "set", "name", "host.example.test"], ["status"]):
        run(["host", *arguments, "--home", str(place)], cwd=tmp_path).ok()
    assert {path.lstat().st_uid for path in (place, *place.rglob("*"))} == {account.uid}
    (command,) = re.findall(r"^ExecStart=(.*)$", (root / UNIT).read_text(), re.MULTILINE)
    story = as_account(
        tmp_path, account, f"env -u KEYTURN_SYSROOT {command}",  # No test product, so this computer's own hardware.
        mounts={place: "/var/lib/keyturn-host"},
        meanwhile="""
            curl -skf https://127.0.0.1:8444/readyz >&2
            grep -E '^(Uid|CapEff|NoNewPrivs):' /proc/$service/status >&2
        """,
        sysroot=computer(tmp_path / "pc", "office-pc-a"),
    )  # fmt: skip
    assert story.returncode == 0 and story.stdout.rstrip().endswith("ended 0"), story.stdout + story.stderr
    assert f"Uid:\t{account.uid}\t" in story.stderr and "CapEff:\t0000000000000000" in story.stderr, story.stderr


# --- doctor ---


def told(result: Any) -> dict[str, Any]:
    return {check["name"]: check for check in result.json["checks"]}


@pytest.mark.system
def test_doctor_walks_from_the_key_to_other_hosts(organization: Organization, tmp_path: Path) -> None:
    """A host that runs is well; one that does not is told how to start; what DNS, a name or another host lacks is named."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = Program(organization, tmp_path / "one"), Program(organization, tmp_path / "two")
    one("config", "set", "name", "localhost").ok()
    with one, two:
        one("config", "set", "hosts", two.url.removeprefix("https://")).ok()
        well = one("doctor").ok()
        found = told(well)
        assert well.json["ok"] is True
        assert list(found)[:4] == ["key", "certificate of sample", "integrity", "clock"]
        assert found["answers"]["ok"] is True and "certified for sample" in found["answers"]["figure"]
        assert found[f"host {two.url.removeprefix('https://')}"]["ok"] is True
        # Loopback only, a name for this computer only, no domain, no service here: none of it is a fault, each has its remedy.
        assert {name for name, check in found.items() if check["ok"] is None} == {"listens at", "name", "dns", "service"}
        assert "host export request" in found["service"]["remedy"]
        two.stop()
        gone = one("doctor")
        assert (gone.exit, gone.code) == (1, "check_failed")
        assert told(gone)[f"host {two.url.removeprefix('https://')}"]["ok"] is False
        two.start()
    still = told(one("doctor"))
    assert still["answers"]["ok"] is False and "systemctl start keyturn-host" in still["answers"]["remedy"]
    one("config", "set", "name", "no-such-host.invalid").ok()
    assert told(one("doctor"))["name"]["ok"] is False


def test_doctor_outside_of_a_home_says_what_to_do(tmp_path: Path) -> None:
    nowhere = run(["host", "--home", str(tmp_path / "h"), "--json", "doctor"], cwd=tmp_path)
    assert nowhere.exit == 1 and "keyturn host init" in told(nowhere)["home"]["remedy"]


# --- backup, verify, restore ---


def back_up(home: Path, to: Path, now: int) -> Path:
    backup.back_up(opened(home), to, now=now)
    return to


def leasing(organization: Organization, path: Path) -> LeasingHost:
    home = opened(path)
    return LeasingHost(home, home.open_database(), clock=organization.world.clock, chance=os.urandom)


@pytest.mark.system
def test_a_backup_of_a_running_host_holds_everything_and_is_said_to(organization: Organization, tmp_path: Path) -> None:
    """Mode 0600, the key inside, and the warning that goes with it; the whole way through the program."""
    (tmp_path / "p").mkdir()
    program = Program(organization, tmp_path / "p")
    to = tmp_path / "h.ktbackup"
    with program, program.line() as line:
        for computer_ in [organization.computer(number) for number in range(2)] * 2:
            program.post(line, computer_.request())
        made = program("backup", "-o", str(to)).ok()
        assert to.stat().st_mode & 0o777 == 0o600
        assert "host's key" in made.json["warning"]
        assert made.json["counts"]["computer"] == 2
        assert program("backup", "-o", str(to)).code == "confirmation_required"
        assert program("verify").ok().json["ok"] is True
    with Reader(to, backup.is_member) as reader:
        assert {"host.key", "host.db", "host.toml", "tls/key.pem"} <= set(reader.names)
        assert reader.read("host.key") == (program.home / "host.key").read_bytes()
    assert run(["host", "verify", str(to), "--json"], cwd=tmp_path).ok().json["ok"] is True
    place = str(tmp_path / "again" / "home")
    done = run(["host", "restore", str(to), "--home", place, "--json"], cwd=tmp_path).ok().json
    assert "must not run any more" in done["warning"] and set(done["lost"]) == {"leases", "copies"}
    figures = run(["host", "status", "--home", place, "--json"], cwd=tmp_path).ok().json["products"][0]
    assert (figures["counted"], figures["licensed"], figures["forks"]) == (2, 2, 0)


def test_after_a_restore_nobody_is_called_a_copy(organization: Organization, tmp_path: Path) -> None:
    """Computers that renewed after the backup hold leases that the restored ledger never saw: they are renewed as themselves."""
    host = organization.host()
    computers = [organization.computer(number) for number in range(3)]
    ask_twice(computers, host)
    source = back_up(host.home.path, tmp_path / "h.ktbackup", host.clock())
    late = organization.computer(9)
    for _ in range(2):
        organization.world.clock.advance(days=8)
        for one in (*computers, late):
            one.ask(host)
    host.database.close()
    backup.restore(source, tmp_path / "home", now=organization.world.clock())
    restored = leasing(organization, tmp_path / "home")
    organization.world.clock.advance(days=8)
    before = [one.held.certificate.activation for one in computers if one.held]
    for _ in range(2):
        for one in (*computers, late):
            answer = one.ask(restored)
            assert isinstance(answer, dict) and "identity" not in answer
    assert [one.held.certificate.activation for one in computers if one.held] == before
    # And copies are found again, once each of the two has shown what it has.
    twin = computers[0].copy()
    for one in (computers[0], twin, computers[0], twin):
        organization.world.clock.advance(days=8)
        last = one.ask(restored)
    assert isinstance(last, dict) and "identity" in last
    assert restored.database.read(checks.counts)["fork"] == 1
    restored.database.close()


def test_killed_at_any_step_a_restore_leaves_nothing_or_all(home: Path, organization: Organization, tmp_path: Path) -> None:
    """SIGKILL at each move on the disk: the home is not there, or whole; the next try leaves nothing behind."""
    organization.world.close()
    now = organization.world.clock()
    source, target = back_up(home, tmp_path / "h.ktbackup", now), tmp_path / "at" / "home"
    step = complete = 0
    while killed(step := step + 1, lambda: backup.restore(source, target, now=now)):
        if target.exists():
            complete += 1
            assert failing(target, now) == set()
            shutil.rmtree(target)
    print(f"killed at {step - 1} steps, {complete} of them after it was complete")
    assert step > 50 and complete > 0
    assert failing(target, now) == set()
    assert [place.name for place in target.parent.iterdir()] == ["home"]


def test_only_what_is_whole_is_put_into_place(home: Path, organization: Organization, tmp_path: Path) -> None:
    """A flipped byte anywhere, another's key, a changed ledger, a place that is taken: refused, and nothing is there."""
    now, target = organization.world.clock(), tmp_path / "at" / "home"
    source = back_up(home, tmp_path / "h.ktbackup", now)
    good = source.read_bytes()
    for place in range(0, len(good), len(good) // 60):
        source.write_bytes(good[:place] + bytes([good[place] ^ 0x40]) + good[place + 1 :])
        assert refused(lambda: backup.restore(source, target, now=now)).code == "file_malformed"
    source.write_bytes(good)
    with Reader(source, backup.is_member) as reader:
        manifest = {name: value for name, value in reader.manifest.items() if name != "files"}
        parts: dict[str, bytes | Path] = {name: reader.read(name) for name in reader.names}
    other = organization.host()
    other.database.close()
    cases: list[tuple[dict[str, Any], dict[str, bytes | Path], str]] = [
        ({"keyturn": "backup"}, {}, "file_malformed"), ({"v": 2}, {}, "store_newer"),
        ({"counts": {**manifest["counts"], "computer": 4}}, {}, "store_damaged"),
        ({"made_at": "yesterday"}, {}, "file_malformed"),
        ({}, {"host.key": (other.home.path / "host.key").read_bytes()}, "file_malformed"),
        ({}, {"host.db": b"nothing"}, "store_damaged"),
    ]  # fmt: skip
    for changes, others, code in cases:
        archive.write(tmp_path / "forged", {**manifest, **changes}, {**parts, **others}, now=1)
        assert refused(lambda: backup.restore(tmp_path / "forged", target, now=now)).code == code, (changes, list(others))
        assert not target.exists() and not list(target.parent.glob(".*"))
    assert refused(lambda: backup.restore(source, home, now=now)).code == "usage"
    backup.restore(source, target, now=now)
    assert failing(target, now) == set()
    # A certificate that has ended is no damage.
    backup.restore(source, tmp_path / "late", now=now + 400 * DAY)
    assert failing(tmp_path / "late", now + 400 * DAY) == {"certificate of sample"}


Damage = Callable[[sqlite3.Connection], object]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("numbers", lambda db: db.execute("UPDATE product SET numbers = 1")),
        ("numbers", lambda db: db.execute("UPDATE computer SET number = 2")),
        ("hardware", lambda db: db.execute("UPDATE pair SET tag = 'x' || tag")),
        ("leases", lambda db: db.execute("UPDATE lease SET request = 'x' || request")),
        ("leases", lambda db: db.execute("UPDATE lease SET payload = CAST('{' AS BLOB)")),
        ("references", lambda db: db.execute("UPDATE installation SET computer = 'nobody'")),
        ("schema", lambda db: db.execute("CREATE TRIGGER t AFTER INSERT ON computer BEGIN DELETE FROM fork; END")),
    ],
)  # fmt: skip
def test_every_damage_is_named_by_its_check(home: Path, organization: Organization, name: str, damage: Damage) -> None:
    now = organization.world.clock()
    assert failing(home, now) == set()
    with closing(sqlite3.connect(home / "host.db", isolation_level=None)) as db:
        damage(db)
    assert failing(home, now) == {name}


def test_files_that_others_may_read_and_a_foreign_tls_key_are_named(home: Path, organization: Organization) -> None:
    now = organization.world.clock()
    (home / "host.toml").chmod(0o644)
    (home / "tls" / "key.pem").write_bytes(b"no key")
    assert failing(home, now) == {"files", "tls"}


@pytest.mark.needs("root")
def test_what_root_restores_is_the_accounts_whose_folder_it_was(home: Path, organization: Organization, tmp_path: Path) -> None:
    """Into the empty folder of the host's account: every file becomes that account's, so that the host can read it."""
    target = tmp_path / "theirs"
    target.mkdir()
    os.chown(target, 12_345, 12_346)
    backup.restore(back_up(home, tmp_path / "h.ktbackup", 1), target, now=organization.world.clock())
    assert {(path.stat().st_uid, path.stat().st_gid) for path in [target, *target.rglob("*")]} == {(12_345, 12_346)}


def test_the_firewall_lines_of_status_are_those_of_install(root: Path, home: Path, tmp_path: Path) -> None:
    run(["host", "config", "set", "listen", "0.0.0.0:8444", "--home", str(home)], cwd=tmp_path).ok()
    found = run(["host", "status", "--home", str(home), "--json"], cwd=tmp_path).ok().json["firewall"]
    assert found[:3] == installed(root, "--dry-run")["firewall"] and found[3].startswith("New-NetFirewallRule")
    assert json.dumps(found).count("8444") == 4
