"""A fleet manager's backup: whole, told of its danger, put back whole or not at all; and every damage is named by its check."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fleets import Managed, Site
from keyturn.edge import archive
from keyturn.edge.archive import Reader
from keyturn.fleet import backup, checks, home
from keyturn.fleet.home import FleetHome
from keyturn.fleet.selecting import Selector
from keyturn.testing import World
from keyturn.testing.computers import synthetic
from peers import refused
from programs import run
from stocked import killed

HARDWARE = synthetic(77)


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    with Site(world, tmp_path / "site").running() as made:
        yield made


@pytest.fixture
def stocked(world: World, tmp_path: Path) -> tuple[Path, int]:
    """The home of a manager with two licensed computers, which does not run; and its time."""
    with Site(world, tmp_path / "site").running() as site:
        licensed(site, 2)
    return site.home.path, world.clock()


def licensed(site: Site, count: int) -> list[Managed]:
    computers = [site.join(f"pc-{n}", HARDWARE if n == 0 else None) for n in range(count)]
    site.order("activate", key=site.key(limit=9))
    site.work(computers)
    return computers


def failing(path: Path, now: int) -> set[str]:
    return {check.name for check in checks.examine(FleetHome(path, {}), now) if check.ok is False}


def back_up(path: Path, to: Path, now: int) -> Path:
    backup.back_up(FleetHome(path, {}), to, now=now)
    return to


@pytest.mark.system
def test_a_backup_of_a_manager_in_use_holds_everything_and_is_said_to(site: Site, tmp_path: Path) -> None:
    """Mode 0600, every key inside, the warning that goes with it; through the program, while the manager runs."""
    licensed(site, 2)
    to, where = tmp_path / "f.ktbackup", str(site.home.path)
    made = run(["fleet", "backup", "-o", str(to), "--home", where, "--json"], cwd=tmp_path).ok().json
    assert to.stat().st_mode & 0o777 == 0o600
    assert "every key of this manager" in made["warning"]
    assert (made["counts"]["computer"], made["counts"]["binding"], made["counts"]["key"]) == (2, 2, 1)
    again = run(["fleet", "backup", "-o", str(to), "--home", where, "--json"], cwd=tmp_path)
    assert again.code == "confirmation_required"
    with Reader(to, backup.is_member) as reader:
        assert {"fleet.key", "rebind.seed", "seal.key", "fleet.db", "tls/key.pem"} <= set(reader.names)
        assert reader.read("seal.key") == (site.home.path / "seal.key").read_bytes()
    for arguments in ([str(to)], ["--home", where]):
        assert run(["fleet", "verify", *arguments, "--json"], cwd=tmp_path).ok().json["ok"] is True
    place = str(tmp_path / "again" / "home")
    done = run(["fleet", "restore", str(to), "--home", place, "--json"], cwd=tmp_path).ok().json
    assert "must not run any more" in done["warning"] and set(done["lost"]) == {"computers", "activations", "revocations"}
    assert run(["fleet", "status", "--home", place, "--json"], cwd=tmp_path).ok().json["computers"] == 2


def test_after_a_restore_all_goes_on(site: Site, world: World, tmp_path: Path) -> None:
    """Computers check in as before, what was under way is finished without a second seat, a re-imaged one gets its activation."""
    old = licensed(site, 2)
    (first,) = site.database.read(lambda db: [row["partial"] for row in db.execute("SELECT partial FROM key")])
    late = site.join("late")
    key = site.key(limit=9)
    task = site.order("activate", Selector(computers=("late",)), key=key)
    late.check_in()  # Its request waits to be sent.
    source = back_up(site.home.path, tmp_path / "f.ktbackup", world.clock())
    site.work([late])  # Sent and answered, which the backup does not know.
    taken = world.publisher.database.read(lambda db: db.execute("SELECT count(*) FROM activation").fetchone()[0])
    stranger = site.join("stranger")
    for one in old:
        one.check_in()
    backup.restore(source, tmp_path / "other" / "fleet", now=world.clock())
    with Site(world, tmp_path / "other").running() as restored:
        for one in (*old, late):
            move(one, restored)
            one.check_in()
        restored.work([late])
        assert restored.outcomes(task) == {"late": ("done", None)}
        assert world.publisher.database.read(lambda db: db.execute("SELECT count(*) FROM activation").fetchone()[0]) == taken
        move(stranger, restored)
        assert refused(stranger.check_in).code == "computer_unknown"
        rebuilt = restored.join("rebuilt", HARDWARE)
        again = restored.order("rebind", Selector(computers=("rebuilt",)), key=first)
        for _ in range(2):
            rebuilt.check_in()
        assert restored.outcomes(again) == {"rebuilt": ("done", None)}


def move(one: Managed, site: Site) -> None:
    """The manager's name leads to another computer now; here it is another port."""
    place = Path(one.vault.home) / "fleet" / "manager.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "url": site.url}))


def test_sessions_and_links_do_not_come_back(site: Site, world: World, tmp_path: Path) -> None:
    def fill(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO account (name, password, role, made_at) VALUES ('a', 'x', 'viewer', 1)")
        db.execute("INSERT INTO session (id, account, expires_at) VALUES (x'01', 'a', 9999999999)")
        db.execute("INSERT INTO invitation (secret, role, made_by, expires_at) VALUES (x'02', 'viewer', 'a', 9999999999)")

    site.database.write_now(fill)
    backup.restore(back_up(site.home.path, tmp_path / "f.ktbackup", 1), tmp_path / "home", now=world.clock())
    with FleetHome(tmp_path / "home", {}).open_database() as database:
        left = {
            name: database.read(lambda db, name=name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0])  # type: ignore[misc]
            for name in ("account", "session", "invitation")
        }
    assert left == {"account": 1, "session": 0, "invitation": 0}


def test_killed_at_any_step_a_restore_leaves_nothing_or_all(stocked: tuple[Path, int], world: World, tmp_path: Path) -> None:
    """SIGKILL at each move on the disk: the home is not there, or whole; the next try leaves nothing behind."""
    world.close()
    path, now = stocked
    source, target = back_up(path, tmp_path / "f.ktbackup", now), tmp_path / "at" / "home"
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


def test_only_what_is_whole_is_put_into_place(stocked: tuple[Path, int], tmp_path: Path) -> None:
    """A flipped byte anywhere, another's key, a changed database, a place that is taken: refused, and nothing is there."""
    (path, now), target = stocked, tmp_path / "at" / "home"
    source = back_up(path, tmp_path / "f.ktbackup", now)
    good = source.read_bytes()
    for place in range(0, len(good), len(good) // 40):
        source.write_bytes(good[:place] + bytes([good[place] ^ 0x40]) + good[place + 1 :])
        assert refused(lambda: backup.restore(source, target, now=now)).code == "file_malformed"
    source.write_bytes(good)
    with Reader(source, backup.is_member) as reader:
        manifest = {name: value for name, value in reader.manifest.items() if name != "files"}
        parts: dict[str, bytes | Path] = {name: reader.read(name) for name in reader.names}
    home.initialise(tmp_path / "other", now, None)
    keys = {name: (tmp_path / "other" / name).read_bytes() for name in ("fleet.key", "seal.key", "rebind.seed")}
    cases: list[tuple[dict[str, Any], dict[str, bytes | Path], str]] = [
        ({"keyturn": "host-backup"}, {}, "file_malformed"), ({"v": 2}, {}, "store_newer"),
        ({"counts": {**manifest["counts"], "computer": 4}}, {}, "store_damaged"),
        ({"made_at": "yesterday"}, {}, "file_malformed"),
        ({}, {"fleet.db": b"nothing"}, "store_damaged"),
    ]  # fmt: skip
    for name, data in keys.items():
        cases.append(({}, {name: data}, "file_malformed" if name == "fleet.key" else "store_damaged"))
    for changes, others, code in cases:
        archive.write(tmp_path / "forged", {**manifest, **changes}, {**parts, **others}, now=1)
        assert refused(lambda: backup.restore(tmp_path / "forged", target, now=now)).code == code, (changes, list(others))
        assert not target.exists() and not list(target.parent.glob(".*"))
    assert refused(lambda: backup.restore(source, path, now=now)).code == "usage"
    backup.restore(source, target, now=now)
    assert failing(target, now) == set()


Damage = Callable[[sqlite3.Connection], object]
FOREIGN = "UPDATE binding SET {0} = (SELECT {0} FROM binding b WHERE b.activation <> binding.activation)"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("keys", lambda db: db.execute("UPDATE key SET sealed = zeroblob(length(sealed))")),
        ("keys", lambda db: db.execute("UPDATE key SET partial = 'AAAAA'")),
        ("products", lambda db: db.execute("UPDATE product SET container = replace(container, 'e', 'f')")),
        ("activations", lambda db: db.execute(FOREIGN.format("certificate"))),
        ("activations", lambda db: db.execute(FOREIGN.format("request"))),
        ("activations", lambda db: db.execute(FOREIGN.format("vector"))),
        ("activations", lambda db: db.execute("DELETE FROM pair WHERE pair LIKE '%uuid%'")),
        ("references", lambda db: db.execute("UPDATE license SET computer = 'x' WHERE computer = (SELECT id FROM computer)")),
        ("schema", lambda db: db.execute("CREATE TRIGGER t AFTER INSERT ON computer BEGIN DELETE FROM pair; END")),
    ],
)  # fmt: skip
def test_every_damage_is_named_by_its_check(stocked: tuple[Path, int], name: str, damage: Damage) -> None:
    path, now = stocked
    assert failing(path, now) == set()
    with closing(sqlite3.connect(path / "fleet.db", isolation_level=None)) as db:
        damage(db)
    assert name in failing(path, now)
    assert failing(path, now) <= {name, "activations"}  # A product that does not verify lends nothing to its activations.


def test_files_that_others_may_read_and_a_foreign_tls_key_are_named(stocked: tuple[Path, int]) -> None:
    path, now = stocked
    (path / "seal.key").chmod(0o644)
    (path / "tls" / "key.pem").write_bytes(b"no key")
    assert failing(path, now) == {"files", "tls"}


def test_another_rebind_seed_is_named(stocked: tuple[Path, int]) -> None:
    """With another seed re-imaged computers would get nothing: `verify` says so before the day comes."""
    path, now = stocked
    (path / "rebind.seed").write_bytes(bytes(32))
    assert failing(path, now) == {"activations"}


