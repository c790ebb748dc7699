"""Who may use the console: passwords, lock-out, one-time links, sessions, and every address by every role."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consoles import PASSWORD, Person, account, signed_in
from fleets import Site
from keyturn.core.errors import KeyturnError
from keyturn.edge.metrics import Metrics
from keyturn.edge.web import PUBLIC, Route
from keyturn.fleet import accounts, app, console, sessions
from keyturn.fleet.accounts import ADMINISTRATOR, OPERATOR, ROLES, VIEWER
from keyturn.fleet.pages import BYTES, CSRF, MAX_FORM
from keyturn.flows.exchange import Line
from keyturn.testing import World
from programs import Result, run

WRONG = "three words that are not it"


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    with Site(world, tmp_path / "site").running() as made:
        yield made


def enter(site: Site, name: str, password: str) -> int:
    """The status of a sign-in by form."""
    return Person(site.url).post("/sign-in", {"name": name, "password": password}).status


def table(site: Site) -> list[Route]:
    return console.routes(site.fleet, {}, Line)


def address(route: Route) -> str:
    return route.path.replace("{computer}", "nobody").replace("{task}", "nothing").replace("{name}", "app.css")


def test_a_password_is_kept_as_argon2id_and_never_shown(site: Site) -> None:
    """The hash names its parameters (RFC 9106, second recommendation), and the database holds no password."""
    account(site, "anna", ADMINISTRATOR)
    kept = site.database.look("SELECT password FROM account", ())["password"]
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert all(PASSWORD.encode() not in path.read_bytes() for path in site.home.path.rglob("*") if path.is_file())


def test_short_passwords_and_strange_names_are_refused(site: Site) -> None:
    """Fourteen characters are too few; a name is letters, digits and a few signs; a role is one of three."""
    with pytest.raises(KeyturnError, match="at least 15"):
        accounts.hashed("fourteen chars")
    for name in ("", "a b", "-x", "x" * 65, "<b>"):
        with pytest.raises(KeyturnError, match="a name has"):
            account(site, name, VIEWER)
    with pytest.raises(KeyturnError, match="no role"):
        account(site, "anna", "root")


def test_names_are_the_same_in_any_case_and_passwords_in_any_normal_form(site: Site) -> None:
    """`Anna` is anna, and an é typed in two parts is that é."""
    kept = accounts.hashed("caf\u00e9 caf\u00e9 caf\u00e9 caf\u00e9")
    site.database.write_now(lambda db: accounts.create(db, "Anna", VIEWER, kept, who="tester", now=0))
    assert enter(site, "ANNA", "cafe\u0301 cafe\u0301 cafe\u0301 cafe\u0301") == 303


def test_wrong_passwords_lock_a_name_longer_each_time(site: Site) -> None:
    """The fifth wrong one locks it for 30 s, the sixth for 60 s; the right one counts only afterwards, and ends the row."""
    account(site, "anna", VIEWER)
    assert [enter(site, "anna", WRONG) for _ in range(5)] == [403] * 5
    assert enter(site, "anna", PASSWORD) == 403
    site.world.clock.advance(seconds=30)
    assert enter(site, "anna", WRONG) == 403
    site.world.clock.advance(seconds=59)
    assert enter(site, "anna", PASSWORD) == 403
    site.world.clock.advance(seconds=1)
    assert enter(site, "anna", PASSWORD) == 303
    assert site.database.look("SELECT failed FROM account", ())["failed"] == 0
    locks = site.database.read(
        lambda db: [row["detail"] for row in db.execute("SELECT detail FROM audit WHERE what = 'account_locked'")]
    )
    assert [text.split(":")[-1].strip(" }") for text in locks] == ["30", "60"]


def test_a_lock_has_an_end(site: Site) -> None:
    """A thousand wrong passwords lock a name for an hour and no longer, so that nobody is kept out for ever."""
    account(site, "anna", VIEWER)
    site.database.write_now(lambda db: db.execute("UPDATE account SET failed = 1000").rowcount)
    assert enter(site, "anna", WRONG) == 403
    site.world.clock.advance(seconds=accounts.LONGEST)
    assert enter(site, "anna", PASSWORD) == 303


def test_one_answer_for_an_unknown_name_a_wrong_password_and_a_locked_name(site: Site) -> None:
    """Byte by byte the same page, but for the name that was typed and the answer's reference."""
    account(site, "anna", VIEWER)
    account(site, "otto", VIEWER)
    site.database.write_now(
        lambda db: db.execute("UPDATE account SET locked_until = 99999999999 WHERE name = 'otto'").rowcount
    )
    pages = set()
    for name, password in (("anna", WRONG), ("otto", PASSWORD), ("nils", PASSWORD)):
        answer = Person(site.url).post("/sign-in", {"name": name, "password": password})
        pages.add((answer.status, re.sub("KT-[0-9A-Z-]{9}", "KT", answer.text.replace(name, "NAME"))))
    assert len(pages) == 1
    assert "sign_in_failed" in pages.pop()[1]


def test_the_log_has_code_and_reference_and_no_name(world: World, tmp_path: Path) -> None:
    """Of a sign-in that failed: what the page said, and nothing of who tried."""
    said: list[dict[str, object]] = []
    site = Site(world, tmp_path / "site")
    site.log = lambda _event, fields: said.append(dict(fields))
    with site.running():
        text = Person(site.url).post("/sign-in", {"name": "somebody", "password": PASSWORD}).text
    (line,) = said
    assert (line["route"], line["status"], line["code"]) == ("/sign-in", 403, "sign_in_failed")
    assert str(line["reference"]) in text
    assert "somebody" not in str(line)
    assert PASSWORD not in str(line)


def test_an_unknown_name_costs_the_same_work(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One comparison of a whole hash for a known name, and one for an unknown."""
    account(site, "anna", VIEWER)
    real, done = accounts._fits, []

    def fits(kept: str, password: str) -> bool:
        done.append(kept[:31])
        return real(kept, password)

    monkeypatch.setattr(accounts, "_fits", fits)
    enter(site, "anna", WRONG)
    enter(site, "nobody", WRONG)
    assert len(done) == 2
    assert len(set(done)) == 1


def test_the_first_administrator_comes_by_a_link_that_serves_once(site: Site) -> None:
    """The link makes an account and signs it in; then it is useless, and so is one that is older than seven days."""
    link = accounts.new_link(site.fleet, ADMINISTRATOR, "tester")
    secret = link.partition("link=")[2]
    assert secret.encode() not in b"".join(path.read_bytes() for path in site.home.path.glob("fleet.db*"))
    anybody = Person(site.url)
    form = {"link": secret, "name": "anna", "password": PASSWORD, "again": PASSWORD}
    assert ADMINISTRATOR in anybody.get(f"/welcome?link={secret}").text
    assert anybody.post("/welcome", {**form, "again": WRONG}).status == 400
    made = anybody.post("/welcome", form)
    assert (made.status, made.headers["location"]) == (303, "/")
    assert anybody.post("/welcome", {**form, "name": "otto"}).status == 404
    assert anybody.get(f"/welcome?link={secret}").status == 404
    old = accounts.new_link(site.fleet, VIEWER, "tester").partition("link=")[2]
    site.world.clock.advance(days=7)
    assert anybody.get(f"/welcome?link={old}").status == 404


def test_the_cookie_is_for_this_manager_alone(site: Site) -> None:
    """`__Host-`, Secure, HttpOnly, SameSite=Strict, with an end; and the database holds its hash only."""
    account(site, "anna", VIEWER)
    cookie = Person(site.url).post("/sign-in", {"name": "anna", "password": PASSWORD}).headers["set-cookie"]
    assert cookie.startswith("__Host-keyturn=")
    assert {"HttpOnly", "Secure", "SameSite=strict", "Path=/", "Max-Age=43200"} <= {
        part.strip() for part in cookie.split(";")
    }
    secret = cookie.split(";")[0].partition("=")[2]
    assert len(secret) == 43
    assert secret.encode() not in b"".join(path.read_bytes() for path in site.home.path.glob("fleet.db*"))


def test_a_session_ends_at_its_time_whatever_is_done_in_it(site: Site) -> None:
    """After `session_hours`, also for somebody who was never idle."""
    person = signed_in(site, VIEWER)
    for _ in range(11):
        site.world.clock.advance(seconds=3_600)
        assert person.get("/tasks").status == 200
    site.world.clock.advance(seconds=3_600)
    gone = person.get("/tasks?page=2")
    assert (gone.status, gone.headers["location"]) == (303, "/sign-in?then=/tasks%3Fpage%3D2")


@pytest.mark.parametrize("how", ["role", "password", "removed", "sign-out"])
def test_a_session_ends_when_its_account_changes(site: Site, how: str) -> None:
    """Another role, another password, no account, or signing out."""
    signed_in(site, ADMINISTRATOR, "other")
    person = signed_in(site, OPERATOR)
    assert person.get("/").status == 200
    changes = {
        "role": lambda db: accounts.set_role(db, OPERATOR, ADMINISTRATOR, who="tester", now=0),
        "password": lambda db: accounts.set_password(db, OPERATOR, "kept", who="tester", now=0),
        "removed": lambda db: accounts.remove(db, OPERATOR, who="tester", now=0),
    }
    if how == "sign-out":
        assert person.post("/sign-out").status == 303
    else:
        site.database.write_now(changes[how])
    assert person.get("/").headers["location"] == "/sign-in"


def test_the_last_administrator_stays(site: Site) -> None:
    """Neither removed nor given less; with a second one it is possible."""
    account(site, "anna", ADMINISTRATOR)
    with pytest.raises(KeyturnError, match="last administrator"):
        site.database.write_now(lambda db: accounts.remove(db, "anna", who="tester", now=0))
    with pytest.raises(KeyturnError, match="last administrator"):
        site.database.write_now(lambda db: accounts.set_role(db, "anna", VIEWER, who="tester", now=0))
    account(site, "otto", ADMINISTRATOR)
    site.database.write_now(lambda db: accounts.remove(db, "anna", who="tester", now=0))


def test_one_changes_ones_own_password_with_the_old_one(site: Site) -> None:
    """A wrong old one changes nothing; the right one ends every other session, and goes on in a new one."""
    person = signed_in(site, VIEWER)
    new = "four other words of mine"
    assert person.post("/password", {"old": WRONG, "password": new, "again": new}).status == 403
    done = person.post("/password", {"old": PASSWORD, "password": new, "again": new})
    assert done.status == 303
    assert done.headers["set-cookie"].startswith(sessions.COOKIE)
    assert person.get("/").status == 303
    assert (enter(site, VIEWER, PASSWORD), enter(site, VIEWER, new)) == (403, 303)


def test_every_address_by_every_role_and_by_nobody(site: Site) -> None:
    """Who may: any answer but a refusal. Who may not: 403, or the way to sign in. None is left out of the table."""
    people = {role: signed_in(site, role) for role in ROLES}
    for route in table(site):
        if route.path in ("/sign-out", "/password"):  # Asked below: they end the session that asks.
            continue
        for rank, (role, person) in enumerate(people.items()):
            answer = person.post(address(route)) if route.method == "POST" else person.get(address(route))
            if route.path == "/files/import":
                assert person.session is not None
                headers = {"Origin": site.url, CSRF: person.session.csrf}
                answer = person.ask("POST", route.path, body=b"{}", kind=BYTES, headers=headers)
            allowed = route.access == PUBLIC or rank >= ROLES.index(route.access)
            assert (answer.status == 403) == (not allowed) or route.path == "/sign-in", (
                role,
                route.method,
                route.path,
                answer.status,
            )
        if route.access != PUBLIC:
            nobody = Person(site.url)
            answer = nobody.post(address(route)) if route.method == "POST" else nobody.get(address(route))
            assert answer.headers.get("location", "").startswith("/sign-in"), (route.path, answer.status)
    assert {route.access for route in table(site)} == {PUBLIC, *ROLES}
    assert not {route.path for route in app.routes(site.fleet, Metrics())} & {route.path for route in table(site)}


def test_every_form_is_refused_without_its_text_or_from_another_page(site: Site) -> None:
    """No text, another session's text, no origin, another origin: 403 each, for every POST of the table."""
    person, other = signed_in(site, ADMINISTRATOR), signed_in(site, ADMINISTRATOR, "other")
    assert person.session is not None
    assert other.session is not None
    here, csrf = {"Origin": site.url}, f"csrf={person.session.csrf}"
    for route in table(site):
        if route.method != "POST":
            continue
        kind = route.content_types[0]
        tries = [(csrf, {}), (csrf, {"Origin": "https://elsewhere.example"}), (csrf, {"Origin": "null"})]
        if route.access != PUBLIC:
            tries += [("", here), (f"csrf={other.session.csrf}", here)]
        for body, headers in tries:
            answer = person.ask("POST", address(route), body=body or "x=y", headers=headers, kind=kind)
            assert (answer.status, "permission_denied" in answer.text) == (403, True), (route.path, body, headers)
    assert person.get("/").status == 200


def test_a_large_body_is_read_for_nobody_who_is_not_signed_in(site: Site) -> None:
    """The file that comes back may be 16 MiB; without a session the answer comes before the body."""
    import ssl
    from http.client import HTTPSConnection
    from urllib.parse import urlsplit

    line = HTTPSConnection(urlsplit(site.url).netloc, context=ssl._create_unverified_context(), timeout=10)
    line.putrequest("POST", "/files/import")
    for name, value in (("Content-Type", BYTES), ("Content-Length", str(16 * 1024 * 1024)), ("Origin", site.url)):
        line.putheader(name, value)
    line.endheaders()
    answer = line.getresponse()
    assert (answer.status, answer.headers["location"]) == (303, "/sign-in")
    line.close()


def test_forms_are_bounded(site: Site) -> None:
    """A form of more than 64 KiB, of more than 1,000 fields, or of another type is refused as a page with its code."""
    person = signed_in(site, ADMINISTRATOR)
    large = person.post("/keys", {"keys": "x" * MAX_FORM})
    assert (large.status, "input_too_large" in large.text) == (413, True)
    many = person.post("/order", {"computer": ["x"] * 1_001})
    assert (many.status, "1000 fields" in many.text) == (413, True)
    other = person.ask("POST", "/order", body="{}", kind="application/json", headers={"Origin": site.url})
    assert (other.status, "request_unsupported" in other.text) == (415, True)


def test_an_error_is_a_page_for_a_person_and_a_problem_document_for_a_program(site: Site) -> None:
    """The same code and the same kind of reference."""
    person = signed_in(site, VIEWER)
    page = person.get("/tasks/none")
    assert (page.status, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "not_found" in page.text
    assert "KT-" in page.text
    told = person.get("/tasks/none", Accept="application/json")
    assert (told.status, told.headers["content-type"]) == (404, "application/problem+json")
    assert Person(site.url).get("/", Accept="application/json").status == 401


def test_one_is_sent_to_no_other_site_after_signing_in(site: Site) -> None:
    """`then` is a page of this manager or nothing."""
    account(site, "anna", VIEWER)
    for then, where in (
        ("/tasks?page=2", "/tasks?page=2"), ("https://elsewhere.example/", "/"), ("//elsewhere.example", "/"),
        ("/\\elsewhere.example", "/"), ("/x\r\nX: y", "/"),
    ):  # fmt: skip
        answer = Person(site.url).post("/sign-in", {"name": "anna", "password": PASSWORD, "then": then})
        assert answer.headers["location"] == where


@pytest.mark.system
def test_people_are_kept_on_the_command_line(tmp_path: Path) -> None:
    """`init` prints the first link; accounts are made, changed, listed and removed; a password is never an argument."""

    def fleet(*arguments: str, typed: str = "") -> Result:
        return run(["fleet", "--home", str(tmp_path / "home"), "--json", *arguments], cwd=tmp_path, input=typed)

    def said(*arguments: str, typed: str = "") -> Any:
        return fleet(*arguments, typed=typed).ok().json

    assert "/welcome?link=" in str(said("init")["link"])
    assert said("init")["link"] is None
    assert said("user", "create", "anna", "-", "--role", "administrator", typed=f"{PASSWORD}\n") == {
        "name": "anna",
        "role": "administrator",
    }
    assert said("user", "create", "otto", "-", "--role", "viewer", typed=f"{PASSWORD}\n")["role"] == "viewer"
    assert said("user", "set", "otto", "--role", "operator")["role"] == "operator"
    assert said("user", "password", "otto", "-", typed=f"{WRONG}\n")["changed"] is True
    assert "/welcome?link=" in str(said("user", "link", "--role", "viewer")["link"])
    found = said("user", "list")["users"]
    assert isinstance(found, list)
    assert [(one["name"], one["role"], one["locked_until"]) for one in found] == [
        ("anna", "administrator", None),
        ("otto", "operator", None),
    ]
    for arguments, typed, exit_, code in (
        (("user", "create", "eve", PASSWORD, "--role", "viewer"), "", 2, "usage"),
        (("user", "create", "eve", "--role", "viewer"), "", 2, "usage"),
        (("user", "create", "eve", "-", "--role", "viewer"), "short\n", 2, "usage"),
        (("user", "create", "anna", "-", "--role", "viewer"), f"{PASSWORD}\n", 1, "already_exists"),
        (("user", "password", "none", "-"), f"{PASSWORD}\n", 1, "not_found"),
        (("user", "remove", "otto"), "", 2, "confirmation_required"),
        (("--yes", "user", "remove", "anna"), "", 2, "usage"),
    ):
        done = fleet(*arguments, typed=typed)
        assert (done.exit, done.code) == (exit_, code), arguments
    assert said("--yes", "user", "remove", "otto")["removed"] is True
