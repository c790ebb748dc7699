"""The pages of telephone activation in a real browser: typed, scanned, pasted, without a script, without a network."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import segno
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from consoles import chromium, violations
from keyturn.core.phone import spelling
from keyturn.core.phone.spelling import INSTALLATION, typed
from keyturn.edge.words import english
from keyturn.testing.computers import synthetic
from programs import PATIENCE, Home, Publisher, computer, environment

pytestmark = pytest.mark.usefixtures("service")
WIDTHS = {"phone": 360, "desktop": 1280}


class Shop:
    """A publisher whose service runs, and computers that send nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publisher = Publisher(folder / "acme")
        self.file = self.publisher.product("paint", "--test", "--edition", "pro", "--feature", "layers")
        self.publisher.service("org", "create", "globex").ok()
        self.publisher.start()
        self.made = 0

    def key(self, limit: int = 3) -> dict[str, str]:
        (key,) = self.publisher.mint("paint", "--channel", "mak", "--org", "globex", "--limit", str(limit))
        return key

    def caller(self, key: str) -> Home:
        self.made += 1
        place = self.folder / f"computer-{self.made}"
        home = Home(self.folder / f"client-{self.made}" / "home", sysroot=computer(place, synthetic(4_000 + self.made)))
        home("product", "add", str(self.file)).ok()
        home("install-key", "-", input=f"{key}\n").ok()
        return home

    def desk(self) -> tuple[subprocess.Popen[str], str]:
        command = [str(self.publisher.keyturn), "service", "desk", "--home", str(self.publisher.home), "--json"]
        process = subprocess.Popen(
            command, cwd=self.folder, env=environment(self.folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], PATIENCE)[0]
        return process, json.loads(process.stdout.readline())["url"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    yield shop
    shop.publisher.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(ignore_https_errors=True)
    found, problems = opened(context)
    yield found
    context.close()
    assert problems == []


def opened(context: BrowserContext) -> tuple[Page, list[str]]:
    """A page, and what its browser complains about; an answer that is meant to be a "no" is no fault."""
    found, problems = context.new_page(), list[str]()

    def said(message: ConsoleMessage) -> None:
        if message.type == "error" and "status of 4" not in message.text:
            problems.append(message.text)

    found.on("console", said)
    found.on("pageerror", lambda error: problems.append(str(error)))
    return found, problems


@pytest.fixture
def desk(service: Shop) -> Iterator[str]:
    process, url = service.desk()
    yield url
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert process.stdout is not None
    process.stdout.close()


def flaws(page: Page) -> list[str]:
    """What axe-core finds wrong, and whether the page is wider than its window."""
    wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    return violations(page) + (["too wide"] if wide else [])


def groups(home: Home) -> list[str]:
    return str(home("installation-id").ok().json["installation_id"]).split()


def code(page: Page, kind: str) -> list[str]:
    return [item.inner_text() for item in page.locator(f"ol.code.{kind} li").all()]


def test_a_computer_is_activated_by_typing_on_the_page(service: Shop, page: Page) -> None:
    """Each group is judged when it is whole; the answer in words activates the computer, and survives its next start."""
    home = service.caller(service.key()["key"])
    said = groups(home)
    page.goto(f"{service.publisher.url}/phone")
    field, state = page.locator("#id"), page.locator("#state")
    field.press_sequentially(said[0] + " " + said[1][:-1])
    assert state.inner_text() == "Now group 2 of 9."
    field.press_sequentially(str((int(said[1][-1]) + 1) % 10))
    assert state.inner_text() == "Look at group 2: it is not right."
    assert page.locator("ol.parts li").nth(1).inner_text().endswith("not right")
    field.press("Backspace")
    field.press_sequentially(said[1][-1] + " ".join(["", *said[2:]]))
    assert state.inner_text() == "All 9 groups are right."
    page.get_by_role("button", name="Get the confirmation ID").click()
    assert page.get_by_role("heading", name="Confirmation ID", exact=True).is_visible()
    words, digits = code(page, "words"), code(page, "digits")
    assert (len(words), len(digits)) == (26, 16)
    # Four letters of each are enough.
    assert home("confirm", *(word[:4] for word in words)).ok().product["state"] == "licensed"
    assert home.status()["via"] == "telephone"


def test_a_qr_code_fills_the_page_in_and_stays_out_of_the_log(service: Shop, page: Page) -> None:
    home = service.caller(service.key()["key"])
    told = home("installation-id", "--qr").ok().json
    page.goto(str(told["address"]))
    assert page.locator("#state").inner_text() == "All 9 groups are right."
    assert "#" not in page.url
    page.get_by_role("button", name="Get the confirmation ID").click()
    assert home("confirm", "-").exit == 4
    assert home("confirm", " ".join(code(page, "digits"))).ok().product["state"] == "licensed"
    assert not re.search(r"[0-9]{6} ?[0-9]{6}", service.publisher.log().replace(str(os.getpid()), ""))
    assert str(told["installation_id"]).split()[4] not in service.publisher.log()


def test_the_answer_is_read_aloud_part_by_part(service: Shop, page: Page) -> None:
    page.add_init_script("window.said = []; speechSynthesis.speak = (what) => said.push(what.text)")
    page.goto(f"{service.publisher.url}/phone#{''.join(groups(service.caller(service.key()['key'])))}")
    page.get_by_role("button", name="Get the confirmation ID").click()
    page.get_by_role("button", name="Read the digits aloud").click()
    said = page.evaluate("said")
    assert said == [f"{n}: {' '.join(group)}." for n, group in enumerate(code(page, "digits"), 1)]


def test_it_works_without_a_script(service: Shop, browser: Browser) -> None:
    """The server names the wrong group, and answers what is right."""
    context = browser.new_context(ignore_https_errors=True, java_script_enabled=False)
    page = context.new_page()
    said = groups(service.caller(service.key()["key"]))
    page.goto(f"{service.publisher.url}/phone")
    page.fill("#id", " ".join([*said[:3], "000000", *said[4:]]))
    page.click("button")
    assert "group 4" in page.locator("#state").inner_text()
    assert page.locator("ol.parts li.wrong").count() == 1
    page.fill("#id", " ".join(said))
    page.click("button")
    assert len(code(page, "words")) == 26
    context.close()


def test_one_answer_before_the_proof(service: Shop, page: Page) -> None:
    """Another computer's key: nothing says whether there is such a key."""
    other = Publisher(service.folder / f"other-{service.made}", "Other Ink")
    file = other.product("paint", "--test")
    home = Home(service.folder / "stranger" / "home", sysroot=computer(service.folder / "stranger-pc", synthetic(77)))
    home("product", "add", str(file)).ok()
    home("install-key", "-", input=str(other.mint("paint")[0]["key"])).ok()
    page.goto(f"{service.publisher.url}/phone#{''.join(groups(home))}")
    page.get_by_role("button", name="Get the confirmation ID").click()
    assert page.get_by_role("heading").inner_text() == "This ID is not accepted"


def test_the_desk_says_what_it_knows_before_the_last_group(service: Shop, desk: str, page: Page) -> None:
    """Known after the third group; after the sixth the caller hangs up, and goes on at the seventh with the ticket."""
    key = service.key(limit=1)
    said = groups(service.caller(key["key"]))
    page.goto(desk)
    assert "/open/" not in page.url
    say = page.locator("#say")
    page.fill("#id", " ".join(said[:3]))
    expect(page.locator("#say")).to_contain_text("0 of 1 seats")
    page.locator("#id").press_sequentially(" " + " ".join(said[3:6]))
    expect(say).to_contain_text("Now group 7 of 9.")
    ticket = page.locator("#ticket").inner_text()
    page.get_by_role("link", name="New call").click()
    page.fill("#old", f"{ticket[:4]} {ticket[4:]}")
    page.get_by_role("button", name="Go on").click()
    assert say.inner_text().endswith("Now group 7 of 9.")
    page.locator("#id").press_sequentially(" " + " ".join(said[6:]))
    page.get_by_role("button", name="Answer", exact=True).click()
    assert len(code(page, "words")) == 26
    page.goto(page.url)
    page.fill("#old", ticket)
    page.get_by_role("button", name="Go on").click()
    assert "There is no such ticket" in page.get_by_role("alert").inner_text()
    # At its limit, and blocked: said before the end.
    late = groups(service.caller(key["key"]))
    page.fill("#id", " ".join(late[:3]))
    expect(page.locator("#say")).to_contain_text("at its limit")
    service.publisher.service("key", "block", str(key["serial"])).ok()
    page.locator("#id").press_sequentially(" " + late[3])
    expect(page.locator("#say")).to_contain_text("is blocked")
    page.fill("#id", "044605 149058 843338")
    expect(page.locator("#say")).to_contain_text("No such key was issued")


@pytest.mark.parametrize("where", ["page", "desk"])
def test_a_copy_is_validated_by_two_short_codes(service: Shop, desk: str, page: Page, where: str) -> None:
    """Shown at the computer, typed on the page, and back; a key that was withdrawn is not genuine, and loses nothing by it."""
    key = service.key()
    home = service.caller(key["key"])
    page.goto(f"{service.publisher.url}/phone#{''.join(groups(home))}")
    page.get_by_role("button", name="Get the confirmation ID").click()
    home("confirm", *code(page, "words")).ok()

    def asked(*how: str) -> tuple[str, list[str], list[str]]:
        told = home("validate", "--via", "telephone", *how).ok().json
        if where == "desk":
            page.goto(desk if page.url.startswith(service.publisher.url) else desk.partition("/open/")[0])
        else:
            page.goto(f"{service.publisher.url}/phone")
        page.get_by_role("link", name="Is a copy genuine?").click()
        field, state = page.locator("#id"), page.locator("#state")
        said = told.get("words") or told["validation_id"].split()
        field.press_sequentially(" ".join([*said[:2], "zzzz" if how else "000000"]))
        assert state.inner_text().startswith(f"Look at {'word' if how else 'group'} 3")
        field.fill(" ".join(said))
        assert state.inner_text() == ("All 12 words are right." if how else "All 7 groups are right.")
        page.get_by_role("button", name="Get the verdict").click()
        return page.get_by_role("heading", level=1).inner_text(), code(page, "words"), code(page, "digits")

    heading, words, digits = asked()
    assert (heading, len(words), len(digits)) == ("This copy is genuine", 5, 2)
    assert home("validate", "111112", "222221").exit == 4
    assert home("validate", *words).ok().json["genuine"] is True
    service.publisher.service("key", "block", str(key["serial"]), "--withdraw", "--yes").ok()
    heading, _, digits = asked("--words")
    assert heading == "Not genuine: its right was withdrawn"
    told = home("validate", "-", input=" ".join(digits))
    assert (told.exit, told.json["finding"], told.product["state"]) == (1, "withdrawn", "licensed")
    said = home("validate", "--via", "telephone").ok().json["validation_id"]
    answered = service.publisher.service("answer", *said.split()).ok().json
    assert (answered["finding"], len(answered["words"])) == ("withdrawn", 5)


def test_the_desks_link_works_once(desk: str, browser: Browser) -> None:
    """The first browser is let in; the second one, and a page of another name, are not."""
    first, second = browser.new_context(), browser.new_context()
    assert first.request.get(desk).ok
    root = desk.partition("/open/")[0]
    assert first.request.get(root).ok
    assert [context.request.get(place).status for context, place in ((second, desk), (second, root))] == [403, 403]
    assert first.request.get(root, headers={"Host": "desk.example"}).status == 403
    first.close()
    second.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_the_pages(service: Shop, desk: str, browser: Browser, width: str, scheme: str) -> None:
    """axe-core finds nothing, and nothing is wider than a small telephone."""
    context = browser.new_context(
        ignore_https_errors=True, viewport={"width": WIDTHS[width], "height": 800}, color_scheme=scheme  # type: ignore[arg-type]
    )
    page = context.new_page()
    shown = os.environ.get("KEYTURN_SCREENSHOTS")
    said = groups(service.caller(service.key()["key"]))

    def look(name: str) -> None:
        if shown:
            page.screenshot(path=f"{shown}/{name}-{width}-{scheme}.png", full_page=True)
        assert flaws(page) == [], name

    page.goto(f"{service.publisher.url}/phone")
    page.fill("#id", f"{said[0]} 111111")
    look("ask")
    page.goto(f"{service.publisher.url}/phone#{''.join(said)}")
    page.get_by_role("button", name="Get the confirmation ID").click()
    expect(page.locator("ol.code.words li")).to_have_count(26)
    look("answer")
    page.goto(f"{service.publisher.url}/phone/validate")
    page.fill("#id", f"{said[0]} 111111")
    look("validate")
    page.goto(desk)
    page.fill("#id", " ".join(said[:4]))
    expect(page.locator("#say")).to_contain_text("group 5")
    look("desk")
    context.close()


def test_the_offline_page_checks_as_the_program_does(service: Shop, browser: Browser, tmp_path: Path) -> None:
    """One file, without any network: digits and words of the vectors, right, partial and with one mistake in every place."""
    file = tmp_path / "check.html"
    service.publisher.service("phone-page", "-o", str(file)).ok()
    vectors = json.loads((Path(__file__).parent / "vectors" / "phone.json").read_text())
    context = browser.new_context(offline=True)
    page, problems = opened(context)
    page.goto(file.as_uri())
    book, texts = english(), []
    for text in [item["digits"] for item in vectors["installation_ids"]][:4]:
        number = spelling.read(text, INSTALLATION)
        digits, words = spelling.spell(number, INSTALLATION), list(spelling.spell_words(number, INSTALLATION, book))
        texts += [digits, digits[:-2], " ".join(words), " ".join(words[:9]) + " zo"]
        for place in range(9):
            texts.append(digits[: 7 * place] + str((int(digits[7 * place]) + 1) % 10) + digits[7 * place + 1 :])
        for place in range(16):
            texts.append(" ".join([*words[:place], "zebra" if words[place] != "zebra" else "zone", *words[place + 1 :]]))
            texts.append(" ".join([*words[:place], "qqqq", *words[place + 1 :], ""]))
    states = {"complete": "whole", "partial": "partial", "wrong": "wrong"}
    for text in texts:
        mine = page.evaluate(
            "(text) => { const list = document.querySelector('#words').content.textContent.trim().split(/\\s+/);"
            " const found = Phone.judge(text, list);"
            " return [found.parts.map((part) => part.state), found.whole, found.wrong] }", text,
        )  # fmt: skip
        theirs = typed(text, INSTALLATION, book)
        assert mine == [[states[p.state] for p in theirs.parts], theirs.number is not None, list(theirs.wrong)], text
    # In digits and in words: the same code, as another program draws it.
    svg = []
    for text in texts[0], texts[2]:
        page.fill("#id", text)
        assert "are right." in page.locator("#state").inner_text()
        svg.append(page.locator("#qr svg").inner_html())
    assert svg[0] == svg[1]
    # Every version, full: what is left free is filled in another way there (with a zero too many).
    for length in (14, 26, 42, 62, 84, 106, 122, 152, 180):
        text = ("keyturn/" * 30)[:length]
        drawn = segno.make_qr(text, error="m", mode="byte", mask=0, boost_error=False)
        mine = page.evaluate("(text) => Qr.matrix(text)", text)
        assert mine == [[bool(dark) for dark in row] for row in drawn.matrix], (text, drawn.version)
    assert page.evaluate("Qr.matrix('x'.repeat(181))") is None
    assert page.evaluate("Qr.codewords('a').found.slice(0, 16)") == [64, 22, 16, *[236, 17] * 6, 236]
    assert problems == []
    context.close()
