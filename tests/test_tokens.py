"""Tokens of the admin API: shown once, kept as a keyed hash, refused in one way, ended at once."""

from __future__ import annotations

import re
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from admin_world import ADMIN, Served, served
from keyturn.service.tokens import RIGHTS, ROLES
from programs import Publisher


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as made:
        yield made


def answer(there: Served, token: str | None) -> tuple[int, dict[str, object], str | None]:
    """What a request with a token gets, without what is never the same twice."""
    found = there.client(token=token).get(f"{ADMIN}/products")
    body = found.json()
    body.pop("reference", None)
    return found.status_code, body, found.headers.get("www-authenticate")


def test_every_reason_to_refuse_a_token_looks_the_same(there: Served) -> None:
    """No token, half a token, another's secret, an expired, a revoked one: 401, the same words, and how to do it right."""
    good = there.token("read", days=1)
    assert answer(there, good)[0] == 200
    other = there.tokens["read"]
    mixed = f"{good[:13]}{other[13:]}"
    revoked = there.token("read")
    there.service.database.write_now(
        lambda db: db.execute("UPDATE token SET revoked_at = 1 WHERE id = ?", (revoked[4:12],))
    )
    refused = [
        answer(there, token) for token in (None, "nonsense", good[:-1], f"{good}0", mixed, good.upper(), revoked)
    ]
    there.world.clock.advance(days=1)
    refused.append(answer(there, good))
    assert all(found == refused[0] for found in refused)
    assert (refused[0][0], refused[0][1]["code"], refused[0][2]) == (401, "token_invalid", 'Bearer realm="keyturn"')


def test_the_database_holds_no_token(there: Served) -> None:
    """What was shown is nowhere in the files; its hash under another pepper is another one."""
    there.client("read").get(f"{ADMIN}/products")
    folder = there.world.folder / "publisher"
    stored = b"".join(path.read_bytes() for path in folder.glob("service.db*"))
    for token in there.tokens.values():
        assert token.encode() not in stored
        assert token[13:].encode() not in stored
        assert token[4:12].encode() in stored  # The public part: so the search does find what is there.


def test_every_role_can_do_something_and_none_but_admin_everything() -> None:
    """The table names no role that does not exist, and a shop's token cannot look around."""
    assert set().union(*RIGHTS.values()) == set(ROLES)
    assert [role for role in ROLES if all(role in roles for roles in RIGHTS.values())] == ["admin"]
    assert not {right for right, roles in RIGHTS.items() if "mint" in roles} & {"find", "key.read", "activation.read"}
    assert {right for right, roles in RIGHTS.items() if "read" in roles} <= {r for r in RIGHTS if r.endswith(".read")}


def test_the_use_of_a_token_is_remembered_to_the_day(there: Served) -> None:
    """Staff sees which tokens nobody uses any more, and no more than that."""
    there.client("read").get(f"{ADMIN}/products")
    there.client("read").get(f"{ADMIN}/products")

    def used(db: sqlite3.Connection) -> list[tuple[str, int | None]]:
        return [(row["role"], row["used_at"]) for row in db.execute("SELECT role, used_at FROM token")]

    there.service.database.write_now(lambda db: None)
    found = dict(there.service.database.read(used))
    assert found["mint"] is None
    assert found["read"] is not None and found["read"] % 86_400 == 0


@pytest.mark.system
def test_the_verbs_make_list_and_end_tokens(tmp_path: Path) -> None:
    """`create` shows it once (or writes it to a private file), list never shows it, revoke ends it while the service runs."""
    publisher = Publisher(tmp_path / "publisher", probe=False)
    made = publisher.service("token", "create", "--role", "mint", "--name", "shop", "--expires", "30").ok().json
    assert re.fullmatch(r"ktt_[0-9a-z]{8}_[0-9a-z]{32}", made["token"])
    assert (made["role"], made["name"]) == ("mint", "shop")
    file = tmp_path / "token"
    written = publisher.service("token", "create", "--role", "read", "-o", str(file)).ok()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().strip() not in written.out
    listed = publisher.service("token", "list").ok()
    assert made["token"] not in listed.out
    assert [t["id"] for t in listed.json["tokens"]] and {t["role"] for t in listed.json["tokens"]} == {"mint", "read"}
    with publisher.running():
        far = ("--at", publisher.url, "--token-file", str(file), "--ca-bundle", str(publisher.home / "tls" / "ca.pem"))
        assert publisher.service("product", "list", *far).ok().json == {"products": []}
        publisher.service("token", "revoke", file.read_text()[4:12]).ok()
        refused = publisher.service("product", "list", *far)
    assert (refused.exit, refused.code) == (5, "token_invalid")
    assert publisher.service("token", "revoke", "nothere0").code == "not_found"
    assert publisher.service("token", "create", "--role", "king").exit == 2
    ended = {token["role"]: token["revoked_at"] for token in publisher.service("token", "list").ok().json["tokens"]}
    assert ended["mint"] is None and ended["read"] is not None
