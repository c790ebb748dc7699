"""The console as a person meets it: accounts, a signed-in connection without a browser, and Debian's Chromium.

Keeps: how a browser is begun and what it must never say (an error of a script, something that the page's policy refused).
Leaves to others: the manager and its computers (``fleets``), what is asked of the pages.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import re
import shutil
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlencode, urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from fleets import Site
from keyturn.fleet import accounts, sessions
from keyturn.fleet.accounts import Account
from keyturn.fleet.pages import FORM
from keyturn.fleet.sessions import Session

PASSWORD = "three words that do not belong"
AXE = Path(__file__).parent / "node" / "node_modules" / "axe-core" / "axe.min.js"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (1280, 390)


class Answer(NamedTuple):
    """What a request got."""

    status: int
    headers: Mapping[str, str]
    text: str


class Person:
    """Somebody at the console without a browser: every part of a request can be left out or be wrong."""

    def __init__(self, url: str, session: Session | None = None) -> None:
        self.url, self.session = url, session

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, form: Mapping[str, str | list[str]] | None = None) -> Answer:
        """A form as the page sends it."""
        csrf = {} if self.session is None else {"csrf": self.session.csrf}
        return self.ask(
            "POST", path, body=urlencode({**csrf, **(form or {})}, doseq=True), headers={"Origin": self.url}
        )

    def ask(
        self, method: str, path: str, *, body: str | bytes | None = None, headers: Mapping[str, str] | None = None,
        kind: str = FORM,
    ) -> Answer:  # fmt: skip
        context = ssl._create_unverified_context()  # Whose certificate it is, other tests ask.
        line = http.client.HTTPSConnection(urlsplit(self.url).netloc, context=context, timeout=30)
        sent = {"Accept": "text/html", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = kind
        if self.session is not None:
            sent["Cookie"] = f"{sessions.COOKIE}={self.session.secret}"
        with contextlib.closing(line):
            line.request(method, path, body, sent)
            answer = line.getresponse()
            return Answer(
                answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode("utf-8", "replace")
            )


def account(site: Site, name: str, role: str) -> Account:
    """An account with :data:`PASSWORD`."""
    kept = _kept()
    return site.database.write_now(
        lambda db: accounts.create(db, name, role, kept, who="tester", now=site.world.clock())
    )


@functools.cache
def _kept() -> str:
    return accounts.hashed(PASSWORD)


def signed_in(site: Site, role: str, name: str | None = None) -> Person:
    """Somebody of this role who is signed in."""
    made = account(site, name or role, role)
    secret = site.database.write_now(
        lambda db: sessions.begin(db, made, now=site.world.clock(), hours=12, chance=site.fleet.chance)
    )
    return Person(site.url, Session(made, secret))


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def window(browser: Browser, url: str, *, person: Person | None = None) -> Iterator[Page]:
    """A page of the console. At the end nothing may have been wrong in it: no script failed, no policy refused anything.

    Answers that are meant to be errors (a wrong password) are no fault of a page.
    """
    context: BrowserContext = browser.new_context(
        base_url=url, ignore_https_errors=True, viewport={"width": WIDTHS[0], "height": 900}, reduced_motion="reduce"
    )  # fmt: skip
    if person is not None and person.session is not None:
        cookie = {"name": sessions.COOKIE, "value": person.session.secret, "url": url, "secure": True, "httpOnly": True}
        context.add_cookies([cookie])  # type: ignore[list-item]
    page = context.new_page()
    page.set_default_timeout(15_000)
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    try:
        yield page
    finally:
        context.close()
    wrong = [
        text for text in said if not re.match(r"Failed to load resource: the server responded with a status of 4", text)
    ]
    assert wrong == [], wrong


def sign_in(page: Page, name: str, password: str = PASSWORD) -> None:
    """As a person does it."""
    page.goto("/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def violations(page: Page) -> list[str]:
    """What axe-core has against the page (WCAG 2.2 A and AA, and its best practices)."""
    # As a debugger's evaluation, which the page's own policy has no say in.
    if not page.evaluate("typeof window.axe === 'object'"):
        page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


def barriers(page: Page) -> list[str]:
    """What axe-core has against the page wide and narrow, in light and dark, and where it is wider than the window."""
    found = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"wider than {width} pixels")
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            found += [f"{width} {scheme}: {one}" for one in violations(page)]
    return found
