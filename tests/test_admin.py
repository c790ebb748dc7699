"""The admin API: who may do what, once only, in pages, with nothing that is not understood."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from admin_world import ADMIN, Served, served
from keyturn.edge.metrics import Metrics
from keyturn.service import app
from keyturn.service.activation import ActivationService
from keyturn.service.admin import ENDPOINTS, Gatekeeper
from keyturn.service.home import ServiceHome
from keyturn.service.tokens import RIGHTS, ROLES
from keyturn.testing.world import Chance


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as made:
        yield made


def mint(there: Served, name: str | None = None, **order: Any) -> httpx2.Response:
    headers = {} if name is None else {"Idempotency-Key": name}
    return there.client("mint").post(f"{ADMIN}/keys", json={"product": "sample", **order}, headers=headers)


def keys_there_are(there: Served) -> int:
    count: int = there.service.database.read(lambda db: db.execute("SELECT count(*) FROM product_key").fetchone()[0])
    return count


def code(answer: httpx2.Response) -> str | None:
    """The code of a problem, which must look like one."""
    if answer.status_code < 400:
        return None
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return str(answer.json()["code"])


# --- who may do what ----------------------------------------------------------------------------------------------------


def test_the_whole_matrix_of_roles_and_routes(there: Served) -> None:
    """Every route of the table, asked without a token and by every role: 401, or 403 exactly where the table says so."""
    table = app.routes(there.service, Gatekeeper(there.service), Metrics())
    serial = mint(there).json()["keys"][0]["serial"]
    places = {
        "serial": str(serial),
        "slug": "sample",
        "name": "nobody",
        "activation_id": f"{'0' * 8}-0000-0000-0000-{'0' * 12}",
    }
    wrong = []
    asked = 0
    for route, role in itertools.product(table, (None, *ROLES)):
        path = re.sub(r"{(\w+)}", lambda name: places[name[1]], route.path)
        found = there.client(role).request(route.method, path)
        denied = found.status_code if found.status_code in (401, 403) else None
        public = route.access == "public"
        expected = None if public else 401 if role is None else None if role in RIGHTS[route.access] else 403
        asked += 1
        if denied != expected or found.status_code >= 500:
            wrong.append((route.method, route.path, role, found.status_code, expected))
    assert wrong == []
    assert asked == len(table) * (len(ROLES) + 1) >= 120


def test_a_right_is_checked_before_anything_is_read(there: Served) -> None:
    """Without the right, neither a bad body nor a missing thing is told apart."""
    for body in ({"product": "sample"}, {"product": 7}, {}):
        assert code(there.client("read").post(f"{ADMIN}/keys", json=body)) == "permission_denied"
    assert code(there.client("mint").get(f"{ADMIN}/keys/999")) == "permission_denied"


def test_what_a_token_does_is_in_the_audit_under_its_name(there: Served) -> None:
    """The audit says which token minted, not only that somebody did."""
    mint(there)
    mint(there, "one")
    rows = there.service.database.read(
        lambda db: [row["actor"] for row in db.execute("SELECT actor FROM audit WHERE action = 'key.minted'")]
    )
    assert rows == [f"token {there.tokens['mint'][4:12]}"] * 2


# --- once only ----------------------------------------------------------------------------------------------------------


def test_the_same_request_has_one_effect_and_one_answer(there: Served) -> None:
    """Repeated with its Idempotency-Key, a shop gets the very same keys, and there are no more than these."""
    first, again = mint(there, "order-1", count=3), mint(there, "order-1", count=3)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert keys_there_are(there) == 3
    assert mint(there, "order-2").json() != mint(there, "order-3").json()


def test_the_same_name_for_another_request_is_refused(there: Served) -> None:
    """Other content, or another address, under a used Idempotency-Key: 422, and nothing is done."""
    mint(there, "order-1", count=1)
    assert code(mint(there, "order-1", count=2)) == "idempotency_mismatch"
    other = there.client("mint").post(
        f"{ADMIN}/organizations", json={"name": "acme"}, headers={"Idempotency-Key": "order-1"}
    )
    assert code(other) == "idempotency_mismatch"
    assert keys_there_are(there) == 1


def test_names_of_two_tokens_do_not_meet(there: Served) -> None:
    """Another token's Idempotency-Key neither gets the answer nor is told that it was used."""
    first = mint(there, "order-1")
    other = there.client("admin").post(
        f"{ADMIN}/keys", json={"product": "sample"}, headers={"Idempotency-Key": "order-1"}
    )
    assert other.status_code == 201 and other.json() != first.json()


def test_requests_at_the_same_moment_have_one_effect(there: Served) -> None:
    """Twenty at once under one name: one key is made, and all twenty get it."""
    there.client("mint")  # Made once, before twenty threads ask for it.
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: mint(there, "order-1"), range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert keys_there_are(there) == 1


def test_an_answer_outlives_the_process_and_a_refusal_is_not_kept(there: Served) -> None:
    """After a restart the same request gets the same keys; what was refused may succeed later."""
    first = mint(there, "order-1")
    assert code(mint(there, "order-2", organization="acme")) == "not_found"
    there.client("mint").post(f"{ADMIN}/organizations", json={"name": "acme"})
    assert mint(there, "order-2", organization="acme").status_code == 201
    publisher = there.world.publisher
    publisher.database.close()
    publisher.database = ServiceHome(publisher.folder, {}).open_database()
    there.service.database = ActivationService(
        publisher.home, publisher.database, clock=there.world.clock, chance=Chance("2")
    ).database
    assert mint(there, "order-1").content == first.content


def test_kept_answers_are_sealed_and_end_after_a_day(there: Served) -> None:
    """No key, and no name of an order, is in the database's files; after a day the name is free again."""
    first = mint(there, "order-of-somebody-4711")
    text = first.json()["keys"][0]["key"]
    folder = there.world.folder / "publisher"
    stored = b"".join(path.read_bytes() for path in folder.glob("service.db*"))
    assert text.encode() not in stored and text.replace("-", "").encode() not in stored
    assert b"order-of-somebody" not in stored
    there.world.clock.advance(days=1)
    assert mint(there, "order-of-somebody-4711").json() != first.json()
    rows = there.service.database.read(lambda db: db.execute("SELECT count(*) FROM answer_kept").fetchone()[0])
    assert rows == 1


@pytest.mark.parametrize("name", ["", "a b", "x" * 256, "é"])
def test_a_name_that_is_none_is_refused(there: Served, name: str) -> None:
    """An Idempotency-Key is one to 255 visible ASCII signs."""
    answer = there.client("mint").post(
        f"{ADMIN}/keys", json={"product": "sample"}, headers=[(b"Idempotency-Key", name.encode())]
    )
    assert code(answer) == "request_unsupported"
    assert keys_there_are(there) == 0


# --- lists --------------------------------------------------------------------------------------------------------------


def test_pages_hold_everything_once_in_order(there: Served) -> None:
    """Walking a list page by page meets every key once, also those of one second, and those that come while walking."""
    for _ in range(3):
        mint(there, count=7)
        there.world.clock.advance(seconds=1)
    seen: list[tuple[str, int]] = []
    after: dict[str, str] = {}
    while True:
        page = there.client("read").get(f"{ADMIN}/keys", params={"limit": 4, **after}).json()
        assert len(page["keys"]) <= 4
        seen += [(key["created_at"], key["serial"]) for key in page["keys"]]
        if len(seen) == 8:
            mint(there)
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert len(seen) == len(set(seen)) == 22
    assert seen == sorted(seen)


def test_lists_are_filtered_and_bounded(there: Served) -> None:
    """By product, organization and serial; never more than 500 at once."""
    client = there.client("admin")
    for name in ("acme", "bolt", "cook"):
        client.post(f"{ADMIN}/organizations", json={"name": name})
    minted = mint(there, channel="mak", organization="bolt", limit=5).json()["keys"][0]
    mint(there)
    found = client.get(f"{ADMIN}/keys", params={"organization": "bolt"}).json()["keys"]
    assert [key["serial"] for key in found] == [minted["serial"]]
    assert client.get(f"{ADMIN}/keys", params={"product": "other"}).json() == {"keys": [], "next": None}
    first = client.get(f"{ADMIN}/organizations", params={"limit": 2}).json()
    rest = client.get(f"{ADMIN}/organizations", params={"limit": 2, "after": first["next"]}).json()
    assert [o["name"] for page in (first, rest) for o in page["organizations"]] == ["acme", "bolt", "cook"]
    assert rest["next"] is None
    there.world.client().activate(minted["key"], consent=True)
    assert len(client.get(f"{ADMIN}/activations", params={"serial": minted["serial"]}).json()["activations"]) == 1
    for limit in ("0", "501", "-1", "x", "1e2", "null", ""):
        assert code(client.get(f"{ADMIN}/keys", params={"limit": limit})) == "request_unsupported", limit
    assert code(client.get(f"{ADMIN}/keys?limit=1&limit=2")) == "request_unsupported"
    assert code(client.get(f"{ADMIN}/keys", params={"after": "somewhere"})) == "usage"


# --- what is not understood ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{", b'{"product":"sample","product":"sample"}', b'{"product":"sample","extra":1}',
     b'{"product":"sample","count":0}', b'{"product":"sample","count":1001}', b'{"product":"sample","count":1.5}',
     b'{"product":"sample","count":true}', b'{"product":"sample","count":' + b"9" * 5000 + b"}", b'{"product":"SAMPLE"}',
     b'{"product":"sample","channel":"oem"}', b'{"product":"sample","note":"\\ud800"}', b'{"product":"sample","note":"\\u0000"}',
     b'{"product":"sample","count":NaN}', b'{"product":"sample","note":' + b'"' + b"x" * 501 + b'"}', b"[" * 15_000,
     b'{"product":"\xff"}',
     b'{"product":"sample","until":"soon"}', b'{"product":"sample","until":"2030-01-01","term_days":9}'],
)  # fmt: skip
def test_what_is_not_understood_changes_nothing(there: Served, body: bytes) -> None:
    """Broken, doubled, unknown, too many, too large: one problem of the 4xx kind, and no key."""
    answer = there.client("mint").post(f"{ADMIN}/keys", content=body, headers={"Content-Type": "application/json"})
    assert code(answer) in {"request_unsupported", "document_malformed", "usage"}, answer.text
    assert 400 <= answer.status_code < 500
    assert keys_there_are(there) == 0


def test_a_value_that_was_refused_is_not_repeated(there: Served) -> None:
    """A product key typed into the wrong member does not come back in the problem."""
    key = mint(there).json()["keys"][0]["key"]
    answer = mint(there, channel=key)
    assert code(answer) == "request_unsupported"
    assert key not in answer.text


# --- keys, activations, products ----------------------------------------------------------------------------------------


def test_the_life_of_a_key(there: Served) -> None:
    """Minted by a shop, activated, blocked by a helper, its seat reclaimed: all through the API."""
    minted = mint(there, note="order 4711").json()["keys"][0]
    there.world.client().activate(minted["key"], consent=True)
    helper = there.client("support")
    shown = helper.get(f"{ADMIN}/keys/{minted['serial']}").json()
    assert (shown["used"], shown["note"], shown["partial_key"]) == (1, "order 4711", minted["key"][-5:])
    assert minted["key"] not in str(shown)
    assert helper.post(f"{ADMIN}/keys/{minted['serial']}/block").json()["blocked"] is True
    (activation,) = helper.get(f"{ADMIN}/activations", params={"serial": minted["serial"]}).json()["activations"]
    ended = helper.post(f"{ADMIN}/activations/{activation['activation_id']}/reclaim").json()
    assert (ended["ended_by"], helper.get(f"{ADMIN}/keys/{minted['serial']}").json()["used"]) == ("reclaimed", 0)
    assert code(helper.post(f"{ADMIN}/activations/{activation['activation_id']}/reclaim")) == "not_found"
    assert helper.post(f"{ADMIN}/keys/{minted['serial']}/unblock").json()["blocked"] is False
    assert code(there.client("mint").patch(f"{ADMIN}/keys/{minted['serial']}", json={"limit": 2})) == "usage"
    assert code(there.client("mint").patch(f"{ADMIN}/keys/{minted['serial']}", json={})) == "usage"


def test_a_product_is_made_changed_and_exported(there: Served) -> None:
    """A token of role admin makes products; the file that ships with them comes out of the API as it does out of the command."""
    client = there.client("admin")
    told = {
        "slug": "paint",
        "editions": {"pro": ["layers"], "home": []},
        "terms": {"grace_days": 14},
        "mode": "enforce",
    }
    made = client.post(f"{ADMIN}/products", json=told)
    assert (made.status_code, made.json()["terms"]["grace_days"], made.json()["editions"]["pro"]) == (
        201,
        14,
        ["layers"],
    )
    assert code(client.post(f"{ADMIN}/products", json=told)) == "already_exists"
    changed = client.patch(f"{ADMIN}/products/paint", json={"name": "Paint", "terms": {"rearms": 1}}).json()
    assert (changed["name"], changed["version"]) == ("Paint", 2)
    assert (changed["terms"]["rearms"], changed["terms"]["grace_days"]) == (1, 14)
    assert client.get(f"{ADMIN}/products/paint/file").json() == there.service.product_file("paint")


def test_every_endpoint_answers_what_it_declares(there: Served) -> None:
    """What the desk says has every declared member: nothing is silently left out of an answer."""
    client = there.client("admin")
    client.post(f"{ADMIN}/organizations", json={"name": "acme"})
    minted = mint(there, channel="mak", organization="acme", limit=2).json()["keys"][0]
    there.world.client().activate(minted["key"], consent=True)
    desk = [
        (f"{ADMIN}/organizations/acme", "organization"), (f"{ADMIN}/products/sample", "product"),
        (f"{ADMIN}/keys/{minted['serial']}", "key"),
    ]  # fmt: skip
    from keyturn.service.desk import LocalDesk

    local = LocalDesk(there.service)
    said = [local.organization("acme"), local.product("sample"), local.key(minted["serial"])]
    assert [client.get(path).json() for path, _ in desk] == said
    assert client.get(f"{ADMIN}/activations").json() == local.activations()
    assert len({endpoint.name for endpoint in ENDPOINTS}) == len(ENDPOINTS)
