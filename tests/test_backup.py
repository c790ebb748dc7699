"""Backups: made under load, whole or not there, and of no use to a thief."""

from __future__ import annotations

import io
import random
import signal
import sqlite3
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.edge import archive, keystore
from keyturn.edge.archive import Reader
from keyturn.edge.database import open_database
from keyturn.edge.voice import Call
from keyturn.flows import checking
from keyturn.flows.exchange import Line
from keyturn.service import backup, restore, signing, verify
from keyturn.service.home import ServiceHome, migrations
from keyturn.service.sealing import Sealer
from keyturn.testing import World
from programs import Home, Publisher, Result, computer, run
from solid.asking import Asker
from stocked import Stock, back_up, killed, limited, stock


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Stock]:
    there = stock(tmp_path)
    yield there
    there.world.close()


def unpacked(path: Path, folder: Path) -> Path:
    """A backup's members as any tar program lays them out."""
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    return folder


def whole(path: Path, secrets: Path | None, folder: Path) -> bool:
    """Whether a backup can be opened and every check on it is good."""
    folder.mkdir()
    return all(check.ok is not False for check in verify.verify_backup(path, secrets, folder))


def test_a_backup_says_what_is_inside(made: Stock) -> None:
    """Publisher, time, version and figures; every file with its size; readable by its owner alone."""
    manifest = back_up(made)
    assert manifest["publisher"] == "Test Publisher"
    assert manifest["thumbprint"] == made.world.publisher.home.chain.thumbprint
    assert (manifest["made_at"], manifest["bundle"]) == ("2027-01-15T08:00:00Z", 1)
    assert manifest["schema"] == len(migrations())
    assert manifest["counts"] == {"products": 1, "keys": 3, "seats_used": 5, "activations": 6, "open_intents": 0}
    assert [file["name"] for file in manifest["files"]] == [n for n in backup.PUBLIC if n != signing.PUBLIC]
    assert {path.stat().st_mode & 0o777 for path in (made.backup, made.secrets)} == {0o600}


def test_a_stolen_backup_proves_no_key_and_signs_nothing(made: Stock, tmp_path: Path) -> None:
    """No product key, pepper or private key is in it; no sealed key opens; the secrets alone hold no customer's data."""
    data = made.backup.read_bytes()
    secrets = backup.secrets_of(made.home)
    assert len(secrets) == 9  # Two of them confirm by telephone.
    assert not [name for name, content in secrets.items() if content in data]
    assert b"PRIVATE KEY" not in data
    assert not [key for key in made.keys if str(key["key"]).encode() in data]
    with closing(sqlite3.connect(unpacked(made.backup, tmp_path / "stolen") / "service.db")) as db:
        rows = db.execute("SELECT serial, sealed FROM product_key").fetchall()
    assert len(rows) == 3
    for serial, sealed in rows:
        for guess in (b"", bytes(32), made.world.publisher.home.chain.thumbprint.encode()):
            with pytest.raises(KeyturnError):
                Sealer(guess).open(sealed, serial)
        Sealer(made.world.publisher.home.pepper()).open(sealed, serial)  # What the pepper would do.
    apart = made.secrets.read_bytes()
    assert b"SQLite" not in apart and all(str(key["product_id"]).encode() not in apart for key in made.keys)
    here = {place.name for place in (made.home / "keys").iterdir()}
    root = [place for place in (made.home / "root").rglob("*.key") if place.name not in here]
    assert len(root) == 17 and not [place for place in root if place.read_bytes() in apart]


def test_the_root_folder_is_never_opened(made: Stock) -> None:
    """A backup, its secrets and the check of a home are the same when the root folder was carried away."""
    (made.home / "root").rename(made.home.parent / "safe")
    back_up(made)
    checks = {check.name: check for check in verify.verify_home(made.home, {}, made.world.clock())}
    assert all(check.ok for check in checks.values())
    assert checks["root"].remedy is None


def test_under_load_a_backup_is_one_moment(made: Stock, tmp_path: Path) -> None:
    """What was acknowledged before it began is inside, what came while it was copied is not, and every check on it holds."""
    world = made.world
    key = str(world.publisher.mint_all(channel="mak", limit=100_000, count=1)[0]["key"])
    acknowledged: list[str] = []
    more, stop = threading.Condition(), threading.Event()

    def ask(seed: int) -> None:
        asker = Asker(world.product, key, random.Random(seed))
        while not stop.is_set():
            given = world.publisher.service.exchange(asker.request().token)
            assert isinstance(given, dict)
            with more:
                acknowledged.append(str(given["certificate"]))
                more.notify_all()

    def wait(number: int) -> None:
        with more:
            assert more.wait_for(lambda: len(acknowledged) >= number, 60)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    copied: list[int] = []

    def progress(what: str, _done: int, _total: int) -> None:
        if what == "the database":  # The copy is being made: nothing after this may be inside.
            copied.append(len(acknowledged))
            wait(len(acknowledged) + 20)

    wait(50)
    before = list(acknowledged)
    backup.back_up(ServiceHome(made.home, {}), made.backup, now=world.clock(), progress=progress)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(acknowledged) >= copied[0] + 20, "the load stood still"
    assert whole(made.backup, made.secrets, tmp_path / "look")
    with closing(sqlite3.connect(unpacked(made.backup, tmp_path / "inside") / "service.db")) as db:
        there = {bytes(row[0]) for row in db.execute("SELECT payload FROM intent")}
    assert all(jws.payload_of(certificate) in there for certificate in before)
    assert not any(jws.payload_of(certificate) in there for certificate in acknowledged[copied[0] + 8 :])
    assert all(check.ok for check in verify.verify_home(made.home, {}, world.clock())), "and so does the home"


def test_killed_at_any_step_a_backup_is_the_old_one_or_the_new(made: Stock, tmp_path: Path) -> None:
    """SIGKILL at each move on the disk: the file that was there is still good, and the next backup leaves nothing behind."""
    made.world.close()
    old, step = made.backup.read_bytes(), 0
    home = ServiceHome(made.home, {})
    made.world.clock.advance(days=1)
    while killed(step := step + 1, lambda: backup.back_up(home, made.backup, now=made.world.clock())):
        if made.backup.read_bytes() != old:
            assert whole(made.backup, made.secrets, tmp_path / f"look-{step}")
            made.backup.write_bytes(old)
    print(f"killed at {step - 1} steps")
    assert step > 25
    assert made.backup.read_bytes() != old
    assert whole(made.backup, made.secrets, tmp_path / "look")
    assert not list(made.backup.parent.glob(".*"))


@pytest.mark.parametrize("kill", [False, True])
def test_a_disk_that_is_full_costs_nothing(made: Stock, tmp_path: Path, kill: bool) -> None:
    """Whether the write fails or the process dies in the middle of it: the old backup is there, unchanged."""
    made.world.close()
    old, size = made.backup.read_bytes(), made.backup.stat().st_size
    home = ServiceHome(made.home, {})

    def work() -> None:
        with pytest.raises(KeyturnError) as full:
            backup.back_up(home, made.backup, now=1)
        assert full.value.code == "storage_failed"

    for limit in (100, 20_000, size // 2, size - 4096, size - 1):
        assert limited(limit, work, kill=kill) == (signal.SIGXFSZ if kill else 0)
        assert made.backup.read_bytes() == old
    backup.back_up(home, made.backup, now=1)
    assert not list(made.backup.parent.glob(".*"))


def test_a_damaged_database_makes_no_backup(made: Stock) -> None:
    """It is said, and the last good backup stays."""
    made.world.close()
    old = made.backup.read_bytes()
    place = made.home / "service.db"
    data = bytearray(place.read_bytes())
    for page in range(4, len(data) // 4096):
        data[page * 4096 : page * 4096 + 8] = bytes(8)
    place.write_bytes(data)
    with pytest.raises(KeyturnError) as refused:
        back_up(made)
    assert refused.value.code == "store_damaged"
    assert made.backup.read_bytes() == old


def test_a_database_of_an_older_version_is_backed_up_as_it_is(tmp_path: Path) -> None:
    """A backup before an upgrade does not upgrade; restoring it does."""
    world = World(tmp_path / "world")
    world.close()
    home = ServiceHome(world.publisher.folder, {})
    (home.path / "service.db").unlink()
    open_database(home.path / "service.db", migrations=migrations()[:1]).close()
    path, target = tmp_path / "x.ktbackup", tmp_path / "restored"
    assert backup.back_up(home, path, now=1)["schema"] == 1
    assert whole(path, None, tmp_path / "look")
    restore.restore(path, target, now=1)
    with open_database(target / "service.db", migrations=migrations(), readonly=True) as database:
        assert database.read(lambda db: db.execute("PRAGMA user_version").fetchone()[0]) == len(migrations())


def test_a_backup_of_a_newer_keyturn_is_refused(made: Stock, tmp_path: Path) -> None:
    """By the form of the file and by the version of its database."""
    with Reader(made.backup, backup.is_public) as reader:
        manifest = {name: value for name, value in reader.manifest.items() if name != "files"}
        parts: dict[str, Any] = {name: reader.read(name) for name in reader.names}
    for changes in ({"v": 2}, {"schema": 99}):
        archive.write(tmp_path / "newer", {**manifest, **changes}, parts, now=1)
        with pytest.raises(KeyturnError) as refused:
            restore.restore(tmp_path / "newer", tmp_path / "home", now=1)
        assert refused.value.code == "store_newer"
    broken: list[dict[str, Any]] = [{"keyturn": "secrets"}, {"v": "1"}, {"counts": []}, {"made_at": "soon"}]
    for wrong in broken:
        archive.write(tmp_path / "wrong", {**manifest, **wrong}, parts, now=1)
        with pytest.raises(KeyturnError) as refused:
            restore.restore(tmp_path / "wrong", tmp_path / "home", now=1)
        assert refused.value.code == "file_malformed"
    assert not (tmp_path / "home").exists()


def test_lost_keys_come_again_from_the_root(made: Stock) -> None:
    """The root folder keeps every issuing key, so a service that lost its own gets the same again."""
    before = set(made.world.publisher.home.signers)
    for place in (made.home / "keys").iterdir():
        place.unlink()
    made.world.publisher.rotate()
    assert set(keystore.load_all(made.home / "keys")) == before


class Terminal(io.StringIO):
    """A stderr that a person looks at."""

    def isatty(self) -> bool:
        return True


def test_long_work_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a second on a terminal, and never into a pipe or beside JSON."""
    for stream, as_json, lines in ((Terminal(), False, 2), (Terminal(), True, 0), (io.StringIO(), False, 0)):
        monkeypatch.setattr(sys, "stderr", stream)
        call, time = Call({}), [0.0]
        call.json = as_json
        tell = checking.progress_of(call, lambda: time[0])  # noqa: B023 (used in this round only)
        for time[0] in (0.1, 0.9, 1.0, 1.5, 1.9, 2.4):
            tell("hashing service.db", 30, 60)
        assert stream.getvalue() == "  hashing service.db … 50 %\n" * lines


# --- the verbs --------------------------------------------------------------------------------------------------------


@pytest.mark.system
def test_backup_restore_and_verify_while_the_service_runs(tmp_path: Path) -> None:
    """The real programs under load: what was acknowledged before the backup is there after the restore."""
    publisher = Publisher(tmp_path / "publisher", probe=False)
    publisher.service("org", "create", "globex").ok()
    product = publisher.product("paintest", "--test").read_bytes()
    (key,) = publisher.mint("paintest", "--channel", "mak", "--org", "globex", "--limit", "100000")
    backed, secrets, target = (str(tmp_path / name) for name in ("b.ktbackup", "b.ktsecrets", "restored"))
    answers: list[tuple[str, str]] = []
    stop, enough = threading.Event(), threading.Condition()

    def ask(seed: int) -> None:
        asker = Asker(product, key["key"], random.Random(seed))
        with Line(asker.product, {}) as line:
            while not stop.is_set():
                asked = asker.request(made_at=1)
                given = line.send(asked.token)
                assert isinstance(given, dict)
                with enough:
                    answers.append((asked.token, given["certificate"]))
                    enough.notify_all()

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
    with publisher.running("--probe-listen", "none"):
        for thread in threads:
            thread.start()
        with enough:
            assert enough.wait_for(lambda: len(answers) >= 30, 60)
        before = list(answers)
        said = publisher.service("backup", "-o", backed, "--secrets-to", secrets).ok().json
        after = len(answers)
        online = publisher.service("verify").ok().json
        stop.set()
        for thread in threads:
            thread.join()
    print(f"{len(before)} acknowledged before, {after - len(before)} meanwhile")
    assert said["counts"]["seats_used"] >= len(before) and set(said["not_inside"]) == {"root"}
    assert online["ok"] and len(online["checks"]) == 16
    assert publisher.service("verify", backed, "--secrets", secrets).ok().json["ok"]
    told = run(["service", "--home", target, "--json", "restore", backed, "--secrets", secrets], cwd=tmp_path).ok().json
    assert told["as_of"] == said["made_at"] and set(told["lost"]) == {"activations", "keys", "changes"}
    assert told["signed"] == said["counts"]["open_intents"] and set(told["missing"]) == {"root"}
    publisher.home.rename(tmp_path / "lost")
    Path(target).rename(publisher.home)
    assert publisher.service("verify").ok().json["ok"]
    with (
        publisher.running("--probe-listen", "none"),
        Line(Asker(product, key["key"], random.Random(0)).product, {}) as line,
    ):
        for token, certificate in before:
            again = line.send(token)
            assert isinstance(again, dict) and again["certificate"] == certificate
        home = Home(tmp_path / "client", sysroot=computer(tmp_path / "pc", "office-pc-a"))
        home.activate(publisher.folder / "paintest.ktproduct", key["key"]).ok()


@pytest.mark.system
def test_what_the_verbs_refuse(tmp_path: Path) -> None:
    """Replacing a file without a yes, one file for both, far away, a home that is not empty; nothing is changed by any."""
    publisher = Publisher(tmp_path / "publisher", probe=False)
    backed = tmp_path / "b.ktbackup"
    publisher.service("backup", "-o", str(backed)).ok()
    old = backed.read_bytes()

    def refused(*arguments: str) -> Result:
        result = publisher.service(*arguments)
        assert backed.read_bytes() == old
        return result

    asked = refused("backup", "-o", str(backed))
    assert (asked.code, asked.exit) == ("confirmation_required", 2)
    assert refused("backup", "-o", str(tmp_path / "x"), "--secrets-to", str(tmp_path / "x")).code == "usage"
    assert refused("backup", "-o", "x", "--at", "https://localhost:1").code == "usage"
    full = refused("restore", str(backed))
    assert (full.code, full.exit) == ("usage", 2) and "bundles.json" in full.out
    assert refused("restore").code == refused("verify", "--secrets", "x").code == "usage"
    assert refused("verify", str(tmp_path / "none")).code == "file_malformed"
    publisher.service("backup", "-o", str(backed), "--yes").ok()
    assert backed.read_bytes() != old or publisher.service("verify", str(backed)).exit == 0


@pytest.mark.system
def test_init_says_what_must_be_kept(tmp_path: Path) -> None:
    """Where the root goes, how the secrets are written, and what a restore without either means."""
    said = run(["service", "--home", str(tmp_path / "svc"), "init", "--publisher", "Acme"], cwd=tmp_path).ok().out
    for words in (
        "backup -o F.ktbackup --secrets-to F.ktsecrets",
        "restored without the pepper",
        "Without the root folder",
    ):
        assert words in said


@pytest.mark.needs("root", "unshare")
@pytest.mark.system
def test_a_full_file_system(tmp_path: Path) -> None:
    """On a disk with too little room the verbs say so with exit 6, and leave what was there."""
    import subprocess

    from programs import KEYTURN, environment

    publisher = Publisher(tmp_path / "publisher", probe=False)
    backed = tmp_path / "b.ktbackup"
    publisher.service("backup", "-o", str(backed)).ok()
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        'mount -t tmpfs -o size=200k none "$0" && echo old > "$0/b.ktbackup"; '
        '"$1" service --home "$2" backup --yes -o "$0/b.ktbackup"; echo "exit $?"; cat "$0/b.ktbackup"; '
        '"$1" service --home "$0/home" restore "$3"; echo "exit $?"; ls -A "$0"'
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(disk), str(KEYTURN), str(publisher.home), str(backed)],
        env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.split("\n") == ["exit 6", "old", "exit 6", "b.ktbackup", ""], done.stdout + done.stderr
    assert done.stderr.count("Error (storage_failed)") == 2 and "space" in done.stderr
