"""The fleet manager's console, in Debian's Chromium against the real `keyturn fleet run`, real agents and the real service."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, expect

from consoles import PASSWORD, barriers, chromium, window
from programs import run
from show.stage import Stage, item
from test_fleet_program import Organization, agents

COMPUTERS = 3
PATIENT = 60_000  # Milliseconds for what agents do: they come every few seconds.
PAGES = (
    "/", "/computers", "/computers?where=nothing", "/order?all=1", "/tasks", "/keys", "/enrollment", "/files", "/telephone",
    "/hosts", "/reports", "/reports/print", "/audit", "/people", "/settings", "/password", "/tasks/none",
)  # fmt: skip


@contextlib.contextmanager
def console(stage: Stage) -> Iterator[tuple[Organization, Page]]:
    """A manager that runs, and a window whose person opened the first administrator's link and made the account."""
    organization = Organization(stage.place("fleet") / "organization", stage.test)
    with organization.running() as url, chromium() as browser, window(browser, url) as page:
        link = str(organization("user", "link").ok().json["link"])
        page.goto(link)
        page.get_by_label("Name").fill("anna")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_label("The same again").fill(PASSWORD)
        page.get_by_role("button", name="Make the account").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        yield organization, page


def add_key(stage: Stage, page: Page, limit: int) -> str:
    """Type a MAK into the console; its last five characters."""
    key = str(stage.mak(limit)["key"])
    page.goto("/keys")
    page.get_by_label("One key, or one in a line").fill(key)
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("status")).to_have_text("1 key was added.")
    assert key not in page.content()
    return key[-5:]


def order(page: Page, where: str, way: str) -> None:
    """Activate what a filter means, as far as the confirmation."""
    page.goto(f"/order?where={where}")
    page.locator("select[name=key]").select_option(index=1)
    page.locator("select[name=way]").select_option(way)
    page.get_by_role("button", name="What would it do?").click()
    page.get_by_role("button", name="Go on").click()


@item("Browser tests in Chromium: first link, key, order with live progress, a file downloaded, relayed and dropped")
def walked(stage: Stage) -> str:
    with console(stage) as (organization, page):
        computers = organization.computers(COMPUTERS)
        for one in computers:
            one("agent", "check-in").ok()
        add_key(stage, page, COMPUTERS)
        began = time.monotonic()
        order(page, "name!%3Dpc-0", "proxy")
        page.evaluate("window.here = true")
        with agents(computers[1:]):
            expect(page.get_by_role("status")).to_have_text(f"{COMPUTERS - 1} of {COMPUTERS - 1} done", timeout=PATIENT)
        took = time.monotonic() - began
        assert page.evaluate("window.here") is True, "the page was loaded again"
        order(page, "name%3Dpc-0", "file")
        computers[0]("agent", "check-in").ok()
        carry(page, organization.folder / "lab.ktx")
        computers[0]("agent", "check-in").ok()
        states = [one.status()["state"] for one in computers]
        assert states == ["licensed"] * COMPUTERS, states
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Keyturn fleet manager")
        others = f"{COMPUTERS - 1} by proxy in {took:.0f} s on a page that was never loaded again"
        return f"{others}, 1 by a dropped file; all licensed"


def carry(page: Page, file: Path) -> None:
    """Download what waits, relay it as a person does elsewhere, and drop it."""
    page.goto("/files")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download the file").click()
    waiting.value.save_as(file)
    run(["--json", "relay", str(file)], cwd=file.parent).ok()
    data = page.evaluate_handle(
        "(text) => { const data = new DataTransfer(); data.items.add(new File([text], 'lab.ktx')); return data; }",
        file.read_text(),
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": data})
    expect(page.locator("#outcome")).to_contain_text("1 answered, 0 refused, 0 not answered yet")


@item("axe-core: no violation on any page of the console, wide and narrow, light and dark")
def without_barriers(stage: Stage) -> str:
    with console(stage) as (organization, page):
        (computer,) = organization.computers(1)
        computer("agent", "check-in").ok()
        add_key(stage, page, 1)
        order(page, "name%3Dpc-0", "proxy")
        found = barriers(page)
        one = organization("list").ok().json["computers"][0]["id"]
        pages = [*PAGES, f"/computers/{one}"]
        for path in pages:
            page.goto(path)
            found += [f"{path}: {text}" for text in barriers(page)]
        assert not found, json.dumps(found, indent=1)
        return f"0 violations on {len(pages) + 1} pages x 4 (1280 and 390 pixels, light and dark)"
