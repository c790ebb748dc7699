"""The console in Debian's Chromium over real HTTPS: what an administrator does there, from the first link to the last page."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from consoles import PASSWORD, Person, account, barriers, chromium, sign_in, signed_in, violations, window
from fleets import Site
from keyturn.core.model import DAY
from keyturn.edge.words import english
from keyturn.fleet import accounts, pages, store
from keyturn.fleet.accounts import ADMINISTRATOR, OPERATOR, VIEWER
from keyturn.fleet.console_computers import STOP_POLLING
from keyturn.fleet.selecting import Selector
from keyturn.testing import World
from test_fleet_files import relayed
from test_fleet_telephone import answered

pytestmark = [pytest.mark.system, pytest.mark.needs("chromium", "console")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    with Site(world, tmp_path / "site").running() as made:
        yield made


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Person, tuple[str, ...]]]:
    """A manager with something on every page, an administrator, and the address of each page."""
    folder = tmp_path_factory.mktemp("stocked")
    world = World(folder / "world")
    with Site(world, folder / "site").running() as made:
        token = made.token(group="lab", uses=3)
        computers = [made.join(f"pc-{n}", token=token) for n in range(3)]
        key = made.key(limit=2)
        task = made.order("activate", key=key)
        made.work(computers)
        made.order("activate", Selector(computers=("pc-2",)), key=key, way="file")
        computers[2].check_in()
        lab = made.join("pc-3")
        made.order("activate", Selector(computers=("pc-3",)), key=made.key(limit=1), way="telephone")
        lab.check_in()
        made.database.write_now(lambda db: _more(db, world.clock()))
        invited = accounts.new_link(made.fleet, VIEWER, "tester").partition("link=")[2]
        one, waits = made.computers()[0]["id"], made.computers()[3]["id"]
        person = signed_in(made, ADMINISTRATOR)
        account(made, "otto", OPERATOR)
        addresses = (
            "/", "/computers", "/computers?where=group%3Dlab", "/computers?where=nothing", f"/computers/{one}",
            f"/computers/{waits}", "/telephone", f"/telephone?computer={waits}", f"/telephone?computer={one}",
            f"/order?computer={one}", "/tasks", f"/tasks/{task}", f"/tasks/{task}?outcome=failed", "/keys", "/enrollment",
            "/files", "/hosts", "/reports", "/reports/print", "/audit", "/people", "/settings", "/password", "/tasks/none",
            "/sign-in", f"/welcome?link={invited}",
        )  # fmt: skip
        yield made, person, addresses
    world.close()


def _more(db: Any, now: int) -> None:
    for ago in range(30):
        for state, count in (("licensed", 30 - ago), ("initial_grace", ago), ("notification", 2)):
            db.execute(
                "INSERT INTO day (day, product, state, computers) VALUES (?, 'x/sample', ?, ?)",
                (now // DAY - ago, state, count),
            )
    db.execute("INSERT INTO view (name, selector, made_by) VALUES ('grace', 'state=initial_grace', 'anna')")
    db.execute("INSERT INTO found (name, address, source, found_at) VALUES ('ws-17', '192.0.2.17', 'range', ?)", (now,))


def test_the_first_administrator_signs_in_by_the_link_and_out_again(site: Site, browser: Browser) -> None:
    """The link of `fleet init`, an account, the overview; signed out, a wrong password, then the right one."""
    link = accounts.new_link(site.fleet, ADMINISTRATOR, "tester").replace(site.fleet.home.url, "")
    with window(browser, site.url) as page:
        page.goto(link)
        page.get_by_label("Name").fill("Anna")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("The same again").fill(PASSWORD)
        page.get_by_role("button", name="Make the account").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        expect(page.get_by_text("No computer has joined yet.")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_url(f"{site.url}/sign-in")
        sign_in(page, "anna", "three words that are not it")
        expect(page.get_by_role("alert")).to_contain_text("sign_in_failed")
        sign_in(page, "anna")
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


def test_many_computers_are_activated_with_live_progress(site: Site, browser: Browser) -> None:
    """Ticked, ordered, the consequence in figures, confirmed; the page follows until the end, without being loaded again."""
    computers = [site.join(f"pc-{n}") for n in range(3)]
    site.key(limit=2)
    person = signed_in(site, OPERATOR)
    with window(browser, site.url, person=person) as page:
        page.goto("/computers")
        page.get_by_label("Tick every computer of this page").check()
        expect(page.locator("#ticked")).to_have_text("3 computers are ticked.")
        page.get_by_role("button", name="Act on those ticked").click()
        page.locator("select[name=key]").select_option(index=1)
        page.get_by_role("button", name="What would it do?").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("on 3 computers?")
        expect(page.locator(".figures div").filter(has_text="Seats new, at most")).to_contain_text("3")
        page.get_by_role("button", name="Go on").click()
        said = page.get_by_role("status")
        expect(said).to_have_text("0 of 3 done, 3 under way")
        page.evaluate("window.here = true")
        site.work(computers)
        expect(said).to_have_text("2 of 3 done, 1 failed")
        assert page.evaluate("window.here") is True
        row = page.get_by_role("row").filter(has_text="limit_reached")
        expect(row).to_contain_text("failed")
        expect(row).to_contain_text("Return a seat with")
        assert person.get(page.url.removeprefix(site.url) + "/progress").status == STOP_POLLING
        page.get_by_role("link", name="failed (1)").click()
        expect(page.get_by_role("row")).to_have_count(2)


def test_nothing_is_ordered_for_computers_that_were_not_shown(site: Site, browser: Browser) -> None:
    """A filter that means more computers at the confirmation than on the page before shows the new figures instead."""
    site.join("pc-0")
    site.key(limit=5)
    with window(browser, site.url, person=signed_in(site, OPERATOR)) as page:
        page.goto("/order?where=name%3Dpc-*")
        page.locator("select[name=key]").select_option(index=1)
        page.get_by_role("button", name="What would it do?").click()
        site.join("pc-1")
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("alert")).to_contain_text("Other computers are meant now")
        assert site.database.look("SELECT count(*) FROM task", ())[0] == 0
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("status")).to_have_text("0 of 2 done, 2 under way")


def test_filters_groups_and_views(site: Site, browser: Browser) -> None:
    """The command line's own filters and errors; a filter gets a name; those that are ticked are put into a group."""
    for name in ("pc-0", "pc-1", "other"):
        site.join(name)
    with window(browser, site.url, person=signed_in(site, OPERATOR)) as page:
        page.goto("/computers")
        page.get_by_label("Filter").fill("nme=pc-*")
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_role("alert")).to_contain_text("'nme=pc-*' is not a condition such as state=licensed")
        page.get_by_label("Filter").fill("name=pc-*")
        page.get_by_label("Filter").press("Enter")
        expect(page.get_by_text("2 computers fit")).to_be_visible()
        page.get_by_label("Name", exact=True).fill("desks")
        page.get_by_role("button", name="Save").click()
        page.get_by_label("pc-1", exact=True).check()
        page.get_by_role("button", name="Act on those ticked").click()
        page.get_by_label("Group").fill("lab")
        page.get_by_role("button", name="Put in").click()
        expect(page.get_by_role("link", name="lab (1)")).to_be_visible()
        page.get_by_role("link", name="desks").click()
        expect(page.get_by_text("2 computers fit")).to_be_visible()
        page.get_by_role("link", name="pc-1").click()
        expect(page.locator(".figures div").filter(has_text="Groups")).to_contain_text("lab")
        expect(page.get_by_role("row").filter(has_text="enrolled")).to_be_visible()


def test_a_key_is_never_whole_on_any_page(site: Site, browser: Browser) -> None:
    """Added by the form, asked about, ordered with; no page shows more than its last five, not even the one that refuses it."""
    keys = [site.world.publisher.mint("sample", channel="mak", limit=5) for _ in range(2)]
    with window(browser, site.url, person=signed_in(site, ADMINISTRATOR)) as page:
        page.goto("/keys")
        field = page.get_by_label("One key, or one in a line")
        field.fill(f"{keys[0]}, for the lab, 5\n{keys[1][:-1]}{'2' if keys[1][-1] != '2' else '3'}")
        page.get_by_role("button", name="Add").click()
        expect(page.get_by_role("alert")).to_contain_text("line 2")
        expect(page.get_by_text("No key was added yet.")).to_be_visible()
        texts = [page.content()]
        field.fill(f"{keys[0]}, for the lab, 5\n{keys[1]}")
        page.get_by_role("button", name="Add").click()
        expect(page.get_by_role("status")).to_have_text("2 keys were added.")
        texts.append(page.content())
        page.get_by_role("button", name=f"Check now: …{keys[0][-5:]}").click()
        expect(page.get_by_role("row").filter(has_text=keys[0][-5:])).to_contain_text("for the lab")
        site.join("pc")
        for path in ("/", "/computers", "/order?all=1", "/keys", "/audit", "/reports", "/settings"):
            page.goto(path)
            texts.append(page.content())
    assert any(keys[0][-5:] in text for text in texts)
    for key in keys:
        assert all(form not in text for text in texts for form in (key, key.replace("-", ""), key[:11]))


def test_a_viewer_is_offered_nothing_that_is_refused(site: Site, browser: Browser) -> None:
    """No box to tick, no form but signing out and the filter, and no page of an administrator in the menu."""
    site.join("pc")
    with window(browser, site.url, person=signed_in(site, VIEWER)) as page:
        for path in ("/computers", "/keys", "/enrollment", "/files", "/tasks", "/people"):
            page.goto(path)
            expect(page.get_by_role("checkbox")).to_have_count(0)
            forms = page.locator("form[method=post]:has(button)")
            expect(forms).to_have_count(1)
        expect(page.get_by_role("alert")).to_contain_text("this needs administrator")
        expect(page.get_by_role("link", name="People")).to_have_count(0)


def test_a_file_goes_out_and_is_dropped_when_it_is_back(site: Site, browser: Browser, tmp_path: Path) -> None:
    """Downloaded, answered elsewhere, dropped: the counts are said, and the computer is licensed. An altered one is refused."""
    computer = site.join("pc")
    site.order("activate", key=site.key(), way="file")
    computer.check_in()
    with window(browser, site.url, person=signed_in(site, OPERATOR)) as page:
        page.goto("/files")
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Download the file").click()
        assert waiting.value.suggested_filename.startswith("sample-")
        assert waiting.value.suggested_filename.endswith(".ktx")
        waiting.value.save_as(tmp_path / "lab.ktx")
        back = json.dumps(relayed(site, json.loads((tmp_path / "lab.ktx").read_bytes())))
        _drop(page, back.replace('"manifest": "', '"manifest": "x'))
        expect(page.locator("#outcome")).to_contain_text("KT-")
        _drop(page, back)
        expect(page.locator("#outcome")).to_contain_text("1 answered, 0 refused, 0 not answered yet")
    computer.check_in()
    assert computer.status()["state"] == "licensed"


def _drop(page: Page, text: str) -> None:
    """A file out of a folder, let go over the page's box."""
    data = page.evaluate_handle(
        "(text) => { const data = new DataTransfer(); data.items.add(new File([text], 'lab.ktx')); return data; }", text
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": data})


def test_an_enrollment_token_is_shown_once(site: Site, browser: Browser) -> None:
    """With the lines that enroll a computer; afterwards the page has its name and state, and it can be ended."""
    with window(browser, site.url, person=signed_in(site, OPERATOR)) as page:
        page.goto("/enrollment")
        page.get_by_label("Computers, at most").fill("1")
        page.get_by_role("button", name="Make a token").click()
        token = page.get_by_label("Token", exact=True).inner_text()
        expect(page.get_by_label("Lines for debian")).to_contain_text("keyturn agent enroll")
        page.goto("/enrollment")
        assert token not in page.content()
        page.once("dialog", lambda question: question.dismiss())
        page.get_by_role("button", name="End it").click()
        expect(page.get_by_role("row").filter(has_text="valid")).to_be_visible()
        page.once("dialog", lambda question: question.accept())
        page.get_by_role("button", name="End it").click()
        expect(page.get_by_role("row").filter(has_text="revoked")).to_be_visible()


def test_everything_but_dropping_a_file_works_without_scripts(site: Site, browser: Browser) -> None:
    """Signing in, ordering, following: plain forms and links, and a page that loads itself anew."""
    computer = site.join("pc")
    site.key()
    account(site, "anna", OPERATOR)
    context = browser.new_context(base_url=site.url, ignore_https_errors=True, java_script_enabled=False)
    page = context.new_page()
    sign_in(page, "anna")
    page.goto("/computers")
    page.get_by_label("pc", exact=True).check()
    page.get_by_role("button", name="Act on those ticked").click()
    page.locator("select[name=key]").select_option(index=1)
    page.get_by_role("button", name="What would it do?").click()
    page.get_by_role("button", name="Go on").click()
    assert page.locator("meta[http-equiv=refresh]").count() == 1
    site.work([computer])
    page.reload()
    expect(page.get_by_role("status")).to_have_text("1 of 1 done")
    context.close()


def test_a_computer_is_activated_by_telephone_without_scripts(site: Site, browser: Browser) -> None:
    """Ordered, read out, typed in with a slip that is marked, mended, taken."""
    computer = site.join("pc")
    site.key()
    account(site, "anna", OPERATOR)
    context = browser.new_context(base_url=site.url, ignore_https_errors=True, java_script_enabled=False)
    page = context.new_page()
    sign_in(page, "anna")
    page.goto("/order?all=1")
    page.locator("select[name=key]").select_option(index=1)
    page.locator("select[name=way]").select_option("telephone")
    page.get_by_role("button", name="What would it do?").click()
    page.get_by_role("button", name="Go on").click()
    computer.check_in()
    page.reload()
    expect(page.get_by_role("row").filter(has_text="pc")).to_contain_text("waits for its confirmation ID")
    page.get_by_role("main").get_by_role("link", name="By telephone").click()
    page.get_by_role("link", name="pc", exact=True).click()
    groups = page.get_by_role("list", name="Installation ID of pc", exact=True).get_by_role("listitem")
    expect(groups).to_have_count(9)
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    code = answered(site, "pc").code.text.split()
    field = page.get_by_label("Confirmation ID for pc")
    field.fill(" ".join([*code[:8], "000000", *code[9:]]))
    page.get_by_role("button", name="Take the answer").click()
    expect(page.get_by_role("alert")).to_contain_text("look at group 9")
    expect(page.locator("li.bad")).to_have_text("000000 wrong")
    field.fill(" ".join(code))
    page.get_by_role("button", name="Take the answer").click()
    expect(page.get_by_role("status").first).to_contain_text("Taken: pc")
    computer.check_in()
    page.reload()
    expect(page.get_by_text("0 installation IDs wait.")).to_be_visible()
    assert computer.status()["state"] == "licensed"
    context.close()


@pytest.mark.needs("axe-core")
def test_a_code_with_a_slip_is_told_to_everybody(stocked: tuple[Site, Person, Any], browser: Browser) -> None:
    """The page that names the wrong word has no barrier, wide and narrow, light and dark; nor has the one for any computer."""
    site, person, _ = stocked
    waits = site.computers()[3]["id"]
    words = list(answered(site, "pc-3").code.words(english()))
    with window(browser, site.url, person=person) as page:
        for address in (f"/telephone?computer={waits}", "/telephone"):
            page.goto(address)
            page.get_by_label("Confirmation ID").fill(" ".join(["zoo", *words[1:]]))
            page.get_by_role("button", name="Take the answer").click()
            expect(page.get_by_role("alert")).to_contain_text("word 1 should probably be")
            expect(page.locator("li.bad")).to_have_text("zoo wrong")
            assert barriers(page) == []


def test_without_the_parts_of_others_the_pages_are_plain(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `make console` brings is asked for only if it is there, and what is missing is named."""
    assert pages.missing() == {}
    own = frozenset({"app.css", "app.js", "icon.svg"})
    monkeypatch.setattr(pages, "there", lambda: own)
    text = signed_in(site, VIEWER).get("/").text
    assert all(name not in text for name in pages.VENDOR)
    assert "/static/app.css" in text
    assert set(pages.missing()) == set(pages.VENDOR)


def test_the_keyboard_reaches_the_content_first(stocked: tuple[Site, Person, Any], browser: Browser) -> None:
    """The first stop is the way past the menu; every stop can be seen."""
    site, person, _ = stocked
    with window(browser, site.url, person=person) as page:
        page.goto("/computers")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_label("Filter")).to_be_focused()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_page_of_the_table_holds_a_hundred_computers(site: Site, browser: Browser) -> None:
    """Of 250 the third page has fifty, in the same order as everywhere; a sort and a filter go along from page to page."""

    def many(db: Any) -> None:
        db.executemany(
            "INSERT INTO computer (id, name, agent, number, enrolled_at, enrolled_by, seen_at) VALUES (?, ?, ?, 0, 0, 'x', ?)",
            [(secrets.token_hex(8), f"pc-{n:03}", str(n), n) for n in range(250)],
        )
        store.put_in_group(db, "all", [row["id"] for row in db.execute("SELECT id FROM computer")])

    site.database.write_now(many)
    with window(browser, site.url, person=signed_in(site, VIEWER)) as page:
        page.goto("/computers?where=group%3Dall&sort=seen")
        expect(page.get_by_role("row")).to_have_count(101)
        expect(page.get_by_role("row").nth(1)).to_contain_text("pc-249")
        page.get_by_role("link", name="Next").click()
        page.get_by_role("link", name="Next").click()
        expect(page.get_by_text("Page 3 of 3")).to_be_visible()
        expect(page.get_by_role("row")).to_have_count(51)
        expect(page.get_by_role("row").nth(50)).to_contain_text("pc-000")


@pytest.mark.needs("axe-core")
@pytest.mark.slow
def test_no_page_has_a_barrier_or_is_wider_than_the_window(
    stocked: tuple[Site, Person, tuple[str, ...]], browser: Browser
) -> None:
    """axe-core finds nothing on any page, wide and narrow, light and dark; nothing has to be scrolled sideways."""
    site, person, addresses = stocked
    found: list[str] = []
    for path in addresses:
        nobody = path.startswith(("/sign-in", "/welcome"))
        with window(browser, site.url, person=None if nobody else person) as page:
            page.goto(path)
            found += [f"{path}: {one}" for one in barriers(page)]
    assert found == []


@pytest.mark.needs("axe-core")
def test_axe_finds_a_barrier_that_was_planted(stocked: tuple[Site, Person, Any], browser: Browser) -> None:
    """The check bites: a picture without words, and a field without a name."""
    site, person, _ = stocked
    with window(browser, site.url, person=person) as page:
        page.goto("/keys")
        page.evaluate(
            "document.querySelector('main').append(document.createElement('img'), document.createElement('input'))"
        )
        assert {one.partition(":")[0] for one in violations(page)} >= {"image-alt", "label"}
