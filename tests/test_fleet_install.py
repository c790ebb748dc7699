"""A fleet manager as a service of its computer, and what its doctor says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleets import Site
from keyturn.core.model import DAY
from keyturn.edge import accounts
from keyturn.edge.settings import LISTENING
from keyturn.fleet import home, install
from keyturn.flows.installing import Plan
from keyturn.testing import Clock, World
from namespaces import as_account
from programs import computer, files_below, run

UNIT = "etc/systemd/system/keyturn-fleet.service"
MOST_EXPOSED = 2.0  # Of systemd's ten points; without a sandbox it says 9.2.


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


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A publisher of today: programs are asked too, and they have the real clock."""
    made = World(tmp_path / "world", clock=Clock(int(time.time())))
    yield made
    made.close()


@pytest.fixture
def path(world: World, tmp_path: Path) -> Path:
    """The home of a manager that knows a product; it does not run."""
    with Site(world, tmp_path / "site").running() as site:
        return site.home.path


def installed(root: Path, *options: str) -> Any:
    return run(["fleet", "install", "--json", "--root", str(root), *options], cwd=root.parent).ok().json


@pytest.mark.system
def test_a_dry_run_shows_everything_and_changes_nothing(root: Path) -> None:
    """The steps, the unit to the letter, one port above 1024 without any right, the firewall and what is left."""
    before = files_below(root)
    found = installed(root, "--dry-run")
    assert files_below(root) == before
    assert (found["changed"], found["ports"], found["home"]) == (False, [8445], "/var/lib/keyturn-fleet")
    assert [step.split()[0] for step in found["steps"]] == ["useradd", "install", "write"]
    assert [line.split()[2] for line in found["next"][1:-1]] == ["init", "key"]
    assert found["next"][-1] == "systemctl enable --now keyturn-fleet"
    (file,) = found["files"]
    assert file["path"] == str(root / UNIT)
    values = dict(re.findall(r"^(\w+)=(.*)$", file["content"], re.MULTILINE))
    assert " fleet run --home /var/lib/keyturn-fleet --listen " in values["ExecStart"]
    assert (values["CapabilityBoundingSet"], values["User"]) == ("", "keyturn")


@pytest.mark.system
@pytest.mark.needs("systemd-analyze")
def test_systemd_takes_the_unit_and_finds_it_little_exposed(tmp_path: Path) -> None:
    unit = tmp_path / "keyturn-fleet.service"
    listen = {"--listen": "[::]:8445"}
    plan = Plan(install.SERVER, Path("/"), "keyturn", Path("/var/lib/keyturn-fleet"), Path("/bin/true"), listen)
    unit.write_text(plan.unit())
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(unit)], capture_output=True, text=True, check=True,
        env={**os.environ, "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"},
    ).stdout  # fmt: skip
    found = re.search(r"exposure level for \S+: ([0-9.]+)", judged)
    assert found and float(found[1]) <= MOST_EXPOSED, judged


@pytest.mark.system
@pytest.mark.needs("root", "useradd", "unshare", "setpriv", "mount", "ip", "curl")
def test_the_manager_runs_by_its_unit(root: Path, tmp_path: Path, path: Path) -> None:
    """Installed once and not twice; ExecStart as it stands, as the account, in a system it cannot write: it answers and drains.

    What root does to the home meanwhile stays the account's.
    """
    place = root / "var/lib/keyturn-fleet"
    shutil.copytree(path, place)
    found = installed(root, "--yes")
    assert found["changed"] is True and not any("init" in line for line in found["next"])
    before = files_below(root)
    assert (installed(root)["changed"], files_below(root)) == (False, before)
    account = accounts.find("keyturn", root)
    assert account is not None
    for arguments in (["config", "set", "again", "5"], ["token", "create"], ["status"]):
        run(["fleet", *arguments, "--home", str(place)], cwd=tmp_path).ok()
    assert {one.lstat().st_uid for one in (place, *place.rglob("*"))} == {account.uid}
    (command,) = re.findall(r"^ExecStart=(.*)$", (root / UNIT).read_text(), re.MULTILINE)
    story = as_account(
        tmp_path, account, f"env -u KEYTURN_SYSROOT {command}",
        mounts={place: "/var/lib/keyturn-fleet"},
        meanwhile="""
            curl -skf https://127.0.0.1:8445/readyz >&2
            grep -E '^(Uid|CapEff|NoNewPrivs):' /proc/$service/status >&2
        """,
        sysroot=computer(tmp_path / "pc", "office-pc-a"),
    )  # fmt: skip
    assert story.returncode == 0 and story.stdout.rstrip().endswith("ended 0"), story.stdout + story.stderr
    assert f"Uid:\t{account.uid}\t" in story.stderr and "CapEff:\t0000000000000000" in story.stderr, story.stderr


# --- doctor ---


def told(path: Path, code: int = 0) -> dict[str, Any]:
    found = run(["fleet", "doctor", "--home", str(path), "--json"], cwd=path.parent)
    assert found.exit == code, found
    return {check["name"]: check for check in found.json["checks"]}


@pytest.mark.system
def test_doctor_walks_from_the_key_to_the_publisher(world: World, tmp_path: Path) -> None:
    """A manager that runs is well; what it lacks is advice with a remedy; one that does not run is told how to start."""
    with Site(world, tmp_path / "site").running() as site:
        path = site.home.path
        (path / LISTENING).write_text(json.dumps({"listen": site.url.removeprefix("https://")}))
        found = told(path)
        assert list(found)[:6] == ["key", "integrity", "schema", "references", "products", "clock"]
        assert found["answers"]["ok"] is True and "this manager's key" in found["answers"]["figure"]
        # Loopback only, no address set, no service here, no key asked about: none of it is a fault.
        assert {name for name, one in found.items() if one["ok"] is None} == {"listens at", "url", "service", "seats"}
        assert "fleet export request" in found["service"]["remedy"]
        home.change_setting(path, "url", site.url.replace("127.0.0.1", "localhost"))
        assert told(path)["url"]["ok"] is True  # The TLS certificate does not say that name; the key is what counts.
    still = told(path, 1)
    assert {name for name, one in still.items() if one["ok"] is False} == {"answers", "url"}
    assert "systemctl start keyturn-fleet" in still["answers"]["remedy"]
    home.change_setting(path, "url", "https://no-such-host.invalid")
    assert told(path, 1)["name"]["ok"] is False


def test_doctor_refuses_another_manager_at_the_same_address(world: World, tmp_path: Path) -> None:
    """Somebody else listens where this manager should: whoever is there has another key."""
    with Site(world, tmp_path / "other").running() as other, Site(world, tmp_path / "site").running() as site:
        (site.home.path / LISTENING).write_text(json.dumps({"listen": other.url.removeprefix("https://")}))
        found = told(site.home.path, 1)
        assert found["answers"]["ok"] is False and "another key" in found["answers"]["figure"]


def test_doctor_names_what_wants_attention(tmp_path: Path) -> None:
    """A key that is used up, computers that nobody saw for a month, work that waits for a week."""
    world = World(tmp_path / "world", clock=Clock(int(time.time()) - 40 * DAY))
    with Site(world, tmp_path / "site").running() as site:
        (site.home.path / LISTENING).write_text(json.dumps({"listen": site.url.removeprefix("https://")}))
        computers = [site.join(f"pc-{n}") for n in range(2)]
        site.order("activate", key=site.key(limit=2))
        site.work(computers)
        site.order("refresh")
        world.clock.advance(days=40)
        late = told(site.home.path)
        assert "2 of 2 were not seen for 30 days: pc-0, pc-1" in late["computers"]["figure"]
        assert "2 computers have work that waits" in late["work"]["figure"]
        assert "0 of 2 left" in late["seats"]["figure"]
        for one in computers:
            one.check_in()
        assert [told(site.home.path)[name]["ok"] for name in ("computers", "work")] == [True, True]
    world.close()


def test_doctor_outside_of_a_home_says_what_to_do(tmp_path: Path) -> None:
    assert "keyturn fleet init" in told(tmp_path / "nothing", 1)["home"]["remedy"]
