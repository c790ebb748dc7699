"""Restoring: everything or nothing, only what fits together, and in working order afterwards."""

from __future__ import annotations

import os
import random
import secrets as chance
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.edge import archive
from keyturn.edge.archive import Reader
from keyturn.service import backup, restore, verify
from keyturn.service import home as homes
from keyturn.service.activation import ActivationService
from keyturn.service.home import ServiceHome
from solid.asking import Asker
from stocked import Stock, back_up, killed, limited, stock


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Stock]:
    there = stock(tmp_path)
    yield there
    there.world.close()


def refused(made: Stock, target: Path, *, source: Path | None = None, secrets: Path | None = None) -> KeyturnError:
    """The error of a restore, which puts nothing into place."""
    with pytest.raises(KeyturnError) as error:
        restore.restore(source or made.backup, target, secrets=secrets, now=made.world.clock())
    assert not target.exists() and not list(target.parent.glob(".*"))
    return error.value


def contents(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A file's manifest without its files, and its members: from these a forger makes another."""
    with Reader(path, lambda _: True) as reader:
        manifest = {name: value for name, value in reader.manifest.items() if name != "files"}
        return manifest, {name: reader.read(name) for name in reader.names}


def failing(home: Path, now: int) -> set[str]:
    return {check.name for check in verify.verify_home(home, {}, now) if check.ok is False}


def test_a_restored_service_goes_on_where_it_was(made: Stock, tmp_path: Path) -> None:
    """The same request gets the same bytes, limits go on counting, released seats stay released; the audit says what happened."""
    target, now = tmp_path / "new" / "home", made.world.clock()
    done = restore.restore(made.backup, target, secrets=made.secrets, now=now)
    assert (done.made_at, done.publisher, done.secrets, done.signed) == (now, "Test Publisher", True, 0)
    assert target.stat().st_mode & 0o777 == 0o700
    assert failing(target, now) == set()
    home = ServiceHome(target, {})
    with home.open_database() as database:
        service = ActivationService(home, database, clock=made.world.clock, chance=chance.token_bytes)
        for token, certificate in made.answers.items():
            answer = service.exchange(token)
            assert isinstance(answer, dict) and answer["certificate"] == certificate
        asker = Asker(made.world.product, str(made.keys[1]["key"]), random.Random("new"))
        fifth, sixth = service.exchange(asker.request().token), service.exchange(asker.request().token)
        assert isinstance(fifth, dict) and fifth["seat"]["used"] == 5
        assert not isinstance(sixth, dict) and sixth.code == "limit_reached"
        rows = database.read(lambda db: db.execute("SELECT * FROM audit WHERE action = 'service.restored'").fetchall())
    assert [(row["subject"], row["detail"]) for row in rows] == [
        (home.chain.thumbprint, '{"as_of": "2027-01-15T08:00:00Z"}')
    ]
    files = {path.relative_to(made.home) for path in made.home.rglob("*") if path.is_file()}
    there = {path.relative_to(target) for path in target.rglob("*") if path.is_file()}
    assert {path for path in files - there if path.parts[0] != "root"} <= {
        Path("service.db-wal"),
        Path("service.db-shm"),
    }


def test_what_came_after_the_backup_is_lost_as_told(made: Stock, tmp_path: Path) -> None:
    """A seat taken after the backup is granted again to somebody else: the restore said so."""
    asker = Asker(made.world.product, str(made.keys[1]["key"]), random.Random("later"))
    late = asker.request().token
    assert isinstance(made.world.publisher.service.exchange(late), dict)
    restore.restore(made.backup, tmp_path / "home", secrets=made.secrets, now=made.world.clock())
    home = ServiceHome(tmp_path / "home", {})
    with home.open_database() as database:
        service = ActivationService(home, database, clock=made.world.clock, chance=chance.token_bytes)
        other = service.exchange(asker.request().token)
        assert isinstance(other, dict) and other["seat"] == {"how": "new", "number": 5, "used": 5, "limit": 5}
        unlucky = service.exchange(late)
        assert not isinstance(unlucky, dict) and unlucky.code == "limit_reached"


def test_without_the_secrets_nothing_is_proven_and_they_can_follow(made: Stock, tmp_path: Path) -> None:
    """The home is there and says what it lacks; the secrets are put in later, twice if need be."""
    target, now = tmp_path / "home", made.world.clock()
    assert not restore.restore(made.backup, target, now=now).secrets
    assert failing(target, now) == {"issuing_keys", "tls", "product_keys"}
    home = ServiceHome(target, {})
    with home.open_database() as database, pytest.raises(KeyturnError) as error:
        ActivationService(home, database, clock=made.world.clock, chance=chance.token_bytes)
    assert error.value.code == "store_damaged" and "pepper 1 is missing" in error.value.detail
    assert len(restore.put_secrets(made.secrets, target, {})) == 9
    assert failing(target, now) == set()
    assert restore.put_secrets(made.secrets, target, {}) == []


def test_without_the_secrets_the_root_gives_the_issuing_keys_again(made: Stock, tmp_path: Path) -> None:
    """With the root folder and the pepper by hand the service issues; its TLS key is the operator's to replace."""
    target, now = tmp_path / "home", made.world.clock()
    restore.restore(made.backup, target, now=now)
    shutil.copytree(made.home / "root", target / "root")
    shutil.copy(made.home / "pepper" / "1", target / "pepper" / "1")
    assert len(homes.rotate(target, ServiceHome(target, {}).chain, now)) == 4
    assert failing(target, now) == {"tls"}


def test_a_wrong_pepper_is_told_in_one_sentence(made: Stock, tmp_path: Path) -> None:
    """Another pepper opens nothing; it is refused before anything is put into place, and not put into a home either."""
    (made.home / "pepper" / "1").write_bytes(b"MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=")
    wrong = tmp_path / "wrong.ktsecrets"
    backup.write_secrets(ServiceHome(made.home, {}), wrong, now=1)
    error = refused(made, tmp_path / "home", secrets=wrong)
    assert (error.code, error.exit) == ("store_damaged", 6)
    assert error.detail == "pepper: this is not the pepper of this database: it opens none of its 3 product keys"
    restore.restore(made.backup, tmp_path / "home", now=1)
    with pytest.raises(KeyturnError):
        restore.put_secrets(wrong, tmp_path / "home", {})
    assert not list((tmp_path / "home" / "pepper").iterdir())
    restore.put_secrets(made.secrets, tmp_path / "home", {})
    with pytest.raises(KeyturnError) as other:
        restore.put_secrets(wrong, tmp_path / "home", {})
    assert (other.value.code, "pepper/1" in other.value.detail) == ("already_exists", True)


def test_what_belongs_to_another_publisher_is_refused(made: Stock, tmp_path: Path) -> None:
    """A foreign backup by its thumbprint, foreign secrets, and every mixture of two publishers' members."""
    theirs = stock(tmp_path / "theirs", publisher="Another Publisher")
    theirs.world.close()
    ours = made.world.publisher.home.chain.thumbprint
    with pytest.raises(KeyturnError) as foreign:
        restore.restore(theirs.backup, tmp_path / "home", thumbprint=ours, now=1)
    assert foreign.value.code == "publisher_mismatch"
    restore.restore(made.backup, tmp_path / "right", thumbprint=ours, now=1)
    assert refused(made, tmp_path / "home", secrets=theirs.secrets).code == "publisher_mismatch"
    (_, other), (manifest, own) = contents(theirs.backup), contents(made.backup)
    for name, code in (
        ("bundles.json", "publisher_mismatch"), ("service.toml", "publisher_mismatch"), ("service.db", "store_damaged"),
    ):  # fmt: skip
        archive.write(tmp_path / "mixed", manifest, {**own, name: other[name]}, now=1)
        assert refused(made, tmp_path / "home", source=tmp_path / "mixed").code == code, name
    (_, other), (manifest, own) = contents(theirs.secrets), contents(made.secrets)
    archive.write(tmp_path / "mixed", manifest, {**own, "keys/issue-01.key": other["keys/issue-01.key"]}, now=1)
    assert refused(made, tmp_path / "home", secrets=tmp_path / "mixed").code == "publisher_mismatch"


def test_any_flipped_byte_stops_a_restore(made: Stock, tmp_path: Path) -> None:
    """In every member of backup and secrets, in headers and between: nothing is put into place."""
    for path in (made.backup, made.secrets):
        good = path.read_bytes()
        for place in range(0, len(good), len(good) // 150):
            path.write_bytes(good[:place] + bytes([good[place] ^ 0x40]) + good[place + 1 :])
            assert refused(made, tmp_path / "home", secrets=made.secrets).code == "file_malformed"
        for end in range(0, len(good), len(good) // 20):
            path.write_bytes(good[:end])
            assert refused(made, tmp_path / "home", secrets=made.secrets).code == "file_malformed"
        path.write_bytes(good)
    restore.restore(made.backup, tmp_path / "home", secrets=made.secrets, now=1)


def test_a_forged_manifest_or_a_damaged_database_is_refused(made: Stock, tmp_path: Path) -> None:
    """Sums that hold are not enough: figures, bundles, settings and pages are looked at."""
    manifest, parts = contents(made.backup)
    page = bytearray(parts["service.db"])
    for number in range(4, len(page) // 4096):
        page[number * 4096 : number * 4096 + 8] = bytes(8)
    (tmp_path / "trigger.db").write_bytes(parts["service.db"])
    with closing(sqlite3.connect(tmp_path / "trigger.db")) as db:
        db.execute("CREATE TRIGGER t AFTER INSERT ON audit BEGIN DELETE FROM audit; END")
    cases: list[tuple[dict[str, Any], dict[str, bytes], str]] = [
        ({"counts": {**manifest["counts"], "keys": 4}}, {}, "file_malformed"),
        ({"thumbprint": "A" * 43}, {}, "publisher_mismatch"),
        ({"publisher": "Somebody"}, {}, "publisher_mismatch"),
        ({"schema": 0}, {}, "store_newer"),
        ({}, {"service.db": bytes(page)}, "store_damaged"),
        ({}, {"service.db": b"nothing"}, "store_damaged"),
        ({}, {"service.db": (tmp_path / "trigger.db").read_bytes()}, "store_damaged"),
        ({}, {"service.toml": b"publisher = "}, "file_malformed"),
        ({}, {"service.toml": b"\xff"}, "file_malformed"),
        ({}, {"bundles.json": b"{}"}, "trust_invalid"),
        ({}, {"bundles.json": b'{"bundles": ["x"]}'}, "document_malformed"),
    ]  # fmt: skip
    for changes, others, code in cases:
        archive.write(tmp_path / "forged", {**manifest, **changes}, {**parts, **others}, now=1)
        assert refused(made, tmp_path / "home", source=tmp_path / "forged").code == code, (changes, list(others))
    archive.write(tmp_path / "forged", manifest, {name: parts[name] for name in parts if name != "service.db"}, now=1)
    assert refused(made, tmp_path / "home", source=tmp_path / "forged").code == "file_malformed"


def test_a_database_that_lay_elsewhere_comes_into_the_home(made: Stock, tmp_path: Path) -> None:
    """A path in the settings of a backup never leads a restore out of its folder, and never onto a database in use."""
    elsewhere = tmp_path / "elsewhere.db"
    made.world.close()
    shutil.copy(made.home / "service.db", elsewhere)
    homes.change_setting(made.home, "database", str(elsewhere))
    before = elsewhere.read_bytes()
    back_up(made)
    restore.restore(made.backup, tmp_path / "home", secrets=made.secrets, now=1)
    settings, _ = homes.read_settings(tmp_path / "home", {})
    assert homes.database_path(tmp_path / "home", settings) == tmp_path / "home" / "service.db"
    assert elsewhere.read_bytes() == before


def test_only_an_empty_place_is_restored_into(made: Stock, tmp_path: Path) -> None:
    """An empty folder is filled; a home, a file, a stray file or a link is named and left as it is."""
    for name in ("home", "file", "stray", "link"):
        place = tmp_path / name
        if name == "home":
            shutil.copytree(made.home, place)
        elif name == "file":
            place.write_text("x")
        elif name == "stray":
            place.mkdir()
            (place / "letter.txt").write_text("x")
        else:
            (tmp_path / "behind").mkdir()
            place.symlink_to(tmp_path / "behind")
        with pytest.raises(KeyturnError) as error:
            restore.restore(made.backup, place, now=1)
        assert error.value.code == "usage"
        assert {"home": "bundles.json", "file": "file", "stray": "letter.txt", "link": "a link"}[
            name
        ] in error.value.detail
    (tmp_path / "empty").mkdir(mode=0o755)
    restore.restore(made.backup, tmp_path / "empty", now=1)
    assert (tmp_path / "empty").stat().st_mode & 0o777 == 0o700


@pytest.mark.needs("root")
def test_what_root_restores_is_the_accounts_whose_folder_it_was(made: Stock, tmp_path: Path) -> None:
    """Into the empty folder of the service's account: every file becomes that account's, so that the service can read it."""
    target = tmp_path / "home"
    target.mkdir()
    os.chown(target, 12_345, 12_346)
    restore.restore(made.backup, target, secrets=made.secrets, now=1)
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in [target, *target.rglob("*")]}
    assert owners == {(12_345, 12_346)} and (target / "pepper" / "1").exists()


def test_killed_at_any_step_a_restore_leaves_nothing_or_all(made: Stock, tmp_path: Path) -> None:
    """SIGKILL at each move on the disk: the home is not there, or whole; the next try finds its way and leaves nothing behind."""
    made.world.close()
    target, step, complete, now = tmp_path / "home", 0, 0, made.world.clock()

    def work() -> None:
        restore.restore(made.backup, target, secrets=made.secrets, now=now)

    while killed(step := step + 1, work):
        if target.exists():
            complete += 1
            assert failing(target, now) == set()
            shutil.rmtree(target)
    print(f"killed at {step - 1} steps, {complete} of them after it was complete")
    assert step > 100 and complete > 0
    assert failing(target, now) == set()
    assert not list(tmp_path.glob(".*"))


def test_killed_while_secrets_are_put_the_next_try_ends_it(made: Stock, tmp_path: Path) -> None:
    """At each step: what is there is right, the pepper comes last, and doing it again completes it."""
    made.world.close()
    target, step, now = tmp_path / "home", 0, made.world.clock()
    restore.restore(made.backup, target, now=now)
    while killed(step := step + 1, lambda: restore.put_secrets(made.secrets, target, {})):
        if (target / "pepper" / "1").exists():
            assert failing(target, now) == set()
            (target / "pepper" / "1").unlink()
            (target / "keys" / "issue-01.key").unlink()
    assert step > 20
    assert failing(target, now) == set()


@pytest.mark.parametrize("kill", [False, True])
def test_a_full_disk_leaves_nothing(made: Stock, tmp_path: Path, kill: bool) -> None:
    """Whether the write fails or the process dies in the middle of it, the home is not there."""
    made.world.close()
    target, size = tmp_path / "home", (made.home / "service.db").stat().st_size

    def work() -> None:
        restore.restore(made.backup, target, now=1)

    for limit in (10, 100, 5_000, size // 2, size - 1):
        assert limited(limit, work, kill=kill) == (signal.SIGXFSZ if kill else 1)
        assert not target.exists()
    assert limited(10 * size, work) == 0
    assert target.exists() and not list(tmp_path.glob(".*"))


def unsigned(made: Stock) -> tuple[str, str]:
    """A decision as a crash leaves it between record and signature: the request, and the certificate it will get."""
    token = Asker(made.world.product, str(made.keys[1]["key"]), random.Random("open")).request().token
    given = made.world.publisher.service.exchange(token)
    assert isinstance(given, dict)
    name = jws.digest(token)
    made.world.publisher.database.write_now(
        lambda db: db.execute("UPDATE intent SET signature = NULL WHERE request = ?", (name,)).rowcount
    )
    return token, str(given["certificate"])


def test_decisions_that_were_open_are_signed(made: Stock, tmp_path: Path) -> None:
    """A backup between record and signature: with the keys the restore signs, and the computer gets what it would have got."""
    made.world.clock.advance(days=1)
    token, certificate = unsigned(made)
    assert back_up(made)["counts"]["open_intents"] == 1
    assert not [
        check for check in verify.verify_backup(made.backup, None, _new(tmp_path / "look")) if check.ok is False
    ]
    now = made.world.clock()
    assert restore.restore(made.backup, tmp_path / "with", secrets=made.secrets, now=now).signed == 1
    assert failing(tmp_path / "with", now + 3600) == set()
    restore.restore(made.backup, tmp_path / "without", now=now)
    restore.put_secrets(made.secrets, tmp_path / "without", {})
    assert failing(tmp_path / "without", now + 3600) == {"decisions"}
    home = ServiceHome(tmp_path / "without", {})
    with home.open_database() as database:
        service = ActivationService(home, database, clock=made.world.clock, chance=chance.token_bytes)
        assert service.recover() == 1
        answer = service.exchange(token)
    assert isinstance(answer, dict) and answer["certificate"] == certificate


def test_secrets_from_before_a_rotation_leave_open_decisions_to_the_start(made: Stock, tmp_path: Path) -> None:
    """An old secrets file lacks the key that signs now: the restore succeeds all the same, and the root brings the key."""
    made.world.clock.advance(days=170)  # Both keys in the secrets are past their time.
    made.world.publisher.rotate()
    unsigned(made)
    old = made.secrets.read_bytes()
    back_up(made)
    made.secrets.write_bytes(old)
    target, now = tmp_path / "home", made.world.clock()
    assert restore.restore(made.backup, target, secrets=made.secrets, now=now).signed == 0
    assert failing(target, now) == {"issuing_keys"}
    shutil.copytree(made.home / "root", target / "root")
    homes.rotate(target, ServiceHome(target, {}).chain, now)
    assert failing(target, now) == set()
    home = ServiceHome(target, {})
    with home.open_database() as database:
        assert ActivationService(home, database, clock=made.world.clock, chance=chance.token_bytes).recover() == 1


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder
