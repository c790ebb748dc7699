"""Verifying: a home that is well passes, in use or not, and every damage is named by the check that is there for it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.model import DAY
from keyturn.flows.checking import Check
from keyturn.service import backup, checks, home, verify
from programs import Publisher, run
from stocked import Stock, stock

HOUR = 3600


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """A service that is well and does not run; tests work on copies."""
    made = stock(tmp_path_factory.mktemp("well"))
    made.world.close()
    return made


@pytest.fixture
def copied(well: Stock, tmp_path: Path) -> Stock:
    shutil.copytree(well.home, tmp_path / "home")
    return well._replace(home=tmp_path / "home")


def found(path: Path, now: int) -> dict[str, Check]:
    return {check.name: check for check in verify.verify_home(path, {}, now)}


def test_a_home_that_is_well(well: Stock) -> None:
    """Every check is good and has a figure; nothing in the home is changed by looking."""
    before = {path: path.read_bytes() for path in well.home.rglob("*") if path.is_file() and path.suffix == ".db"}
    seen = found(well.home, well.world.clock())
    assert all(check.ok and check.figure for check in seen.values())
    assert [name for name, check in seen.items() if check.remedy] == ["root"]
    assert seen["counters"].figure == "5 seats of 3 keys, as counted"
    assert seen["signatures"].figure == "6 certificates verify"
    assert seen["product_keys"].figure == "3 product keys open with the pepper"
    assert before == {path: path.read_bytes() for path in before}


def sql(*lines: str) -> Callable[[Path], None]:
    """Damage to the database that no constraint prevents."""

    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path / "service.db", isolation_level=None)) as db:
            db.execute("PRAGMA ignore_check_constraints=ON")
            for line in lines:
                assert db.execute(line).rowcount != 0, line

    return damage


def pages(path: Path) -> None:
    place = path / "service.db"
    data = bytearray(place.read_bytes())
    for page in range(4, len(data) // 4096):
        data[page * 4096 : page * 4096 + 8] = bytes(8)
    place.write_bytes(data)


def other(path: Path) -> Path:
    """Another publisher's home."""
    place = path.parent / "other"
    home.initialise(
        place, publisher="Another", url="https://a.invalid", probe_url=None, database="service.db", now=1_800_000_000
    )
    return place


def swap(name: str) -> Callable[[Path], None]:
    return lambda path: shutil.copy(other(path) / name, path / name)  # type: ignore[return-value]


_DATABASE = {
    "integrity", "schema", "references", "figures", "products", "counters", "limits", "decisions", "signatures", "product_keys"
}  # fmt: skip
_ONE = "(SELECT min(serial) FROM product_key WHERE seats_used > 1)"
_LAST = "(SELECT max(rowid) FROM intent)"
# What is done to a home, the checks that fail for it, and a word of what they say.
DAMAGES: Mapping[str, tuple[Callable[[Path], Any], set[str], str]] = {
    "a counter too high": (
        sql(f"UPDATE product_key SET seats_used = seats_used + 1 WHERE serial = {_ONE}"), {"counters"}, "counted are",
    ),
    "a counter too low": (
        sql(f"UPDATE product_key SET seats_used = 0 WHERE serial = {_ONE}"), {"counters"}, "counted are 0",
    ),
    "a limit that is passed": (
        sql(f"UPDATE product_key SET seat_limit = seats_used - 1 WHERE serial = {_ONE}"), {"limits"}, "1 keys are above",
    ),
    "a seat behind the counter's back": (
        sql("UPDATE product_key SET seat_limit = 4, seats_used = 4 WHERE seats_used = 4",
            "INSERT INTO activation (serial, id, seat, evidence, activated_at) SELECT serial, 'x', 9, 'weak', 1"
            " FROM product_key WHERE seats_used = 4"), {"counters", "limits"}, "5 stand, counted are 4",
    ),
    "an activation that is gone": (
        sql("DELETE FROM activation WHERE ended_at IS NULL AND rowid = (SELECT max(rowid) FROM activation)"),
        {"references", "counters"}, "refer to nothing",
    ),
    "a decision that nobody signed": (
        sql(f"UPDATE intent SET signature = NULL WHERE rowid = {_LAST}"), {"decisions"}, "1 of 6 were recorded and never signed",
    ),
    "a signature that was changed": (
        sql(f"UPDATE intent SET signature = zeroblob(64) WHERE rowid = {_LAST}"), {"signatures"}, "1 of 6 do not hold",
    ),
    "a certificate that was changed": (
        sql(f"UPDATE intent SET payload = CAST(replace(payload, '\"seat\":', '\"seat\":1') AS BLOB) WHERE rowid = {_LAST}"),
        {"signatures"}, "1 of 6 do not hold",
    ),
    "a certificate in another row": (
        sql(f"UPDATE intent SET (payload, signature) = (SELECT payload, signature FROM intent WHERE rowid = 1)"
            f" WHERE rowid = {_LAST}"), {"signatures"}, "another row's",
    ),
    "a trigger": (
        sql("CREATE TRIGGER t AFTER INSERT ON audit BEGIN DELETE FROM audit; END"), {"schema"}, "trigger t",
    ),
    "an index that is gone": (sql("DROP INDEX seat_pair_by_activation"), {"schema"}, "index seat_pair_by_activation"),
    "an unknown signer": (sql(f"UPDATE intent SET kid = 'x' WHERE rowid = {_LAST}"), {"signatures"}, "trust bundle"),
    "a test product's certificate": (sql("UPDATE product SET test = 1"), {"signatures"}, "6 of 6"),
    "a sealed key that was changed": (
        sql(f"UPDATE product_key SET sealed = zeroblob(60) WHERE serial = {_ONE}"), {"product_keys"}, "1 of 3 do not open",
    ),
    "sealed keys that changed places": (
        sql("UPDATE product_key SET sealed = (SELECT sealed FROM product_key WHERE seats_used = 0) WHERE seats_used = 4"),
        {"product_keys"}, "1 of 3",
    ),
    "another pepper": (
        lambda path: (path / "pepper" / "1").write_bytes(b"MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="),
        {"product_keys"}, "this is not the pepper of this database: it opens none of its 3 product keys",
    ),
    "nonsense for a pepper": (lambda path: (path / "pepper" / "1").write_bytes(b"?"), {"product_keys"}, "no pepper"),
    "no pepper": (lambda path: (path / "pepper" / "1").unlink(), {"product_keys"}, "pepper 1 is missing"),
    "a product of another publisher": (
        sql(f"UPDATE product SET name = '{'A' * 43}/sample'"), {"products"}, "1 of 1 are another publisher's",
    ),
    "damaged pages": (
        pages, _DATABASE, "malformed",
    ),
    "no database": (lambda path: (path / "service.db").unlink(), {"integrity"}, "unable to open"),
    "another's trust bundles": (
        swap("bundles.json"), {"trust"}, "the settings name 'Test Publisher'",
    ),
    "another's settings": (swap("service.toml"), {"trust"}, "the settings name 'Another'"),
    "another's issuing key": (swap("keys/issue-01.key"), {"issuing_keys"}, "1 of 4 are in no trust bundle"),
    "no issuing keys": (lambda path: shutil.rmtree(path / "keys"), {"issuing_keys"}, "of 0 keys here none"),
    "another's TLS key": (swap("tls/key.pem"), {"tls"}, "not that of the certificate"),
    "no TLS key": (lambda path: (path / "tls" / "key.pem").unlink(), {"tls"}, "cannot be read"),
    "a key that others may read": (
        lambda path: (path / "keys" / "issue-01.key").chmod(0o640), {"issuing_keys", "files", "signer"}, "chmod",
    ),
    "a pepper that others may read": (lambda path: (path / "pepper" / "1").chmod(0o604), {"files"}, "others may read"),
    "a database that others may read": (lambda path: (path / "service.db").chmod(0o644), {"files"}, "service.db"),
    "a root key that others may read": (lambda path: (path / "root" / "root-1.key").chmod(0o644), {"files"}, "root-1.key"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damage_is_named_by_its_check(copied: Stock, damage: str) -> None:
    """Planted, found, told with a figure and a remedy; and no other check cries."""
    hurt, failing, word = DAMAGES[damage]
    hurt(copied.home)
    seen = found(copied.home, copied.world.clock() + HOUR)
    bad = {name: check for name, check in seen.items() if check.ok is False}
    assert set(bad) == failing
    assert word in " ".join(f"{check.figure} {check.remedy}" for check in bad.values())
    assert all(check.remedy for check in bad.values())


def test_time_alone_is_noticed(well: Stock) -> None:
    """Issuing keys near their end are advice, past it a fault; so is a certificate for first use."""
    start = well.world.clock()
    near = found(well.home, start + 150 * DAY)["issuing_keys"]
    assert near.ok and near.remedy and "rotate" in near.remedy
    assert {name for name, check in found(well.home, start + 170 * DAY).items() if not check.ok} == {"issuing_keys"}
    assert {name for name, check in found(well.home, start + 900 * DAY).items() if not check.ok} == {
        "issuing_keys",
        "tls",
    }


def test_a_backup_is_judged_as_of_its_own_time(well: Stock, tmp_path: Path) -> None:
    """Without the secrets three checks cannot be made, and are not called good; with them all are."""
    seen = {check.name: check for check in verify.verify_backup(well.backup, None, _new(tmp_path / "a"))}
    assert {name for name, check in seen.items() if check.ok is None} == {"issuing_keys", "tls", "product_keys"}
    assert not [check for check in seen.values() if check.ok is False]
    seen = {check.name: check for check in verify.verify_backup(well.backup, well.secrets, _new(tmp_path / "b"))}
    assert all(check.ok for check in seen.values()) and {"archive", "secrets"} <= set(seen)


def test_a_backup_that_others_may_read_and_secrets_of_another(well: Stock, tmp_path: Path) -> None:
    """Both are named; so is a database that is not the manifest's."""
    wide = Path(shutil.copy(well.backup, tmp_path / "wide.ktbackup"))
    wide.chmod(0o644)
    theirs = tmp_path / "theirs.ktsecrets"
    backup.write_secrets(home.ServiceHome(other(tmp_path / "x"), {}), theirs, now=1)
    seen = {check.name: check for check in verify.verify_backup(wide, theirs, _new(tmp_path / "a"))}
    assert {name for name, check in seen.items() if check.ok is False} == {
        "files", "secrets", "issuing_keys", "tls", "product_keys",
    }  # fmt: skip
    with closing(sqlite3.connect(well.home / "service.db")) as db:
        db.row_factory = sqlite3.Row
        assert checks.figures(db, {"products": 1})[0] is False


@pytest.mark.system
def test_the_verb_says_a_line_per_check_and_exits_1(tmp_path: Path) -> None:
    """As JSON and as text, with `check_failed`; and 0 when all is well again."""
    publisher = Publisher(tmp_path / "publisher", probe=False)
    publisher.product("paintest", "--test")
    publisher.mint("paintest")
    (publisher.home / "pepper" / "1").chmod(0o644)
    bad = publisher.service("verify")
    assert (bad.exit, bad.code, bad.json["ok"]) == (1, "check_failed", False)
    assert set(bad.json["checks"][0]) == {"name", "ok", "figure", "remedy"}
    assert [check["name"] for check in bad.json["checks"] if check["ok"] is False] == ["files"]
    text = run(["service", "--home", str(publisher.home), "verify"], cwd=tmp_path)
    assert (text.exit, text.out.count("\n  ok "), text.out.count("FAIL  files")) == (1, 14, 1)
    assert "Error (check_failed): 1 of 16 checks: files" in text.err
    run_it = next(check["remedy"] for check in bad.json["checks"] if check["name"] == "files")
    assert run_it == f"chmod go= {publisher.home / 'pepper' / '1'}"
    (publisher.home / "pepper" / "1").chmod(0o600)
    assert publisher.service("verify").ok().json["ok"] is True


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder
