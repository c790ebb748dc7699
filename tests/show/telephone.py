"""By telephone: two codes by hand, slips, limits, a call that ends too early, what is kept, pages that everybody can use."""

from __future__ import annotations

import contextlib
import json
import re
import select
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

from consoles import chromium, violations
from keyturn.core.phone.spelling import CONFIRMATION, INSTALLATION, VALIDATION, VERDICT
from keyturn.edge import bls
from keyturn.testing.computers import synthetic
from programs import KEYTURN, PATIENCE, Home, Result, environment, run
from rooms import Room
from show.stage import Stage, item

IDS, GUESSES, JUDGED = 1_000, 50_000, 10  # Of the campaign here; `make codes` runs 10,000, 1,000,000 and 200.
REFERENCE = "25 + 54 digits out, 48 back"
WORD, DIGIT = 1.5, 0.5  # Seconds to say and write down, at a normal reading pace.
SHOTS = Path("build/telephone")


class Cut(Home):
    """A computer in a network namespace without any interface but a loopback that is down."""

    def __init__(self, stage: Stage, number: int, key: str) -> None:
        folder = stage.place("cut")
        self.alone = folder / "keyturn"
        self.alone.write_text(f'#!/bin/sh\nexec unshare --net -- {KEYTURN} "$@"\n')
        self.alone.chmod(0o755)
        super().__init__(folder / "home", sysroot=stage.pc(synthetic(number)), keyturn=self.alone)
        self("product", "add", str(stage.test)).ok()
        self("install-key", "-", input=key).ok()

    @property
    def groups(self) -> list[str]:
        return str(self("installation-id").ok().json["installation_id"]).split()

    def change(self, name: str, **values: Any) -> None:
        place = self.shelf / name
        place.write_text(json.dumps({**json.loads(place.read_text()), **values}))


def menu(stage: Stage, *keys: str) -> str:
    """What the menu says in a terminal when these keys are pressed."""
    said = run(
        ["service", "--home", str(stage.publisher.home), "voice", "--terminal"],
        cwd=stage.publisher.folder, input="\n".join(keys) + "\n",
    )  # fmt: skip
    return said.ok().out


def read_out(said: str) -> list[str]:
    return re.findall(r"^Group \d+: ((?:[0-9] ?){6})\.$", said, re.MULTILINE)


@contextlib.contextmanager
def page_of(browser: Browser, width: int = 1280) -> Iterator[Page]:
    context = browser.new_context(ignore_https_errors=True, viewport={"width": width, "height": 800})
    try:
        yield context.new_page()
    finally:
        context.close()


@contextlib.contextmanager
def desk(stage: Stage) -> Iterator[str]:
    """The desk's link, while the desk runs."""
    process = subprocess.Popen(
        [str(KEYTURN), "service", "desk", "--home", str(stage.publisher.home), "--json"], cwd=stage.folder,
        env=environment(stage.folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert select.select([process.stdout], [], [], PATIENCE)[0], "the desk does not begin"
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        process.stdout.close()


def by_page(page: Page, stage: Stage, groups: list[str]) -> list[str]:
    """Type an installation ID into the page; the words of the answer."""
    page.goto(f"{stage.publisher.url}/phone")
    page.locator("#id").press_sequentially(" ".join(groups))
    expect(page.locator("#state")).to_have_text("All 9 groups are right.")
    page.get_by_role("button", name="Get the confirmation ID").click()
    expect(page.locator("ol.code.words li")).to_have_count(26)
    return [found.inner_text() for found in page.locator("ol.code.words li").all()]


@item("A computer without any network interface is activated by hand: through the terminal menu, and through the page")
def by_hand(stage: Stage) -> str:
    key = stage.mak(4)
    first, second = Cut(stage, 8_001, key["key"]), Cut(stage, 8_002, key["key"])
    links = subprocess.run(["unshare", "--net", "--", "ip", "-o", "link"], capture_output=True, text=True, check=False).stdout
    assert "UP" not in links.replace("LOWER_UP", ""), links
    digits = read_out(menu(stage, "1", "1", *first.groups, "1", *["1"] * 16))
    assert first("confirm", "-", input=" ".join(digits)).ok().product["state"] == "licensed"
    with chromium() as browser, page_of(browser) as page:
        words = by_page(page, stage, second.groups)
    assert second("confirm", *(word[:4] for word in words)).ok().product["state"] == "licensed"
    for home in (first, second):
        for _ in range(2):
            assert home("status", "--check").ok().product["via"] == "telephone"
    assert stage.publisher.seats(int(key["serial"])) == 2
    return "menu: 54 digits out, 96 back; page: 54 digits out, 26 words (104 letters) back; licensed at every later start"


@item("Such a computer hears by two short codes whether its copy is genuine, at every stage of its key, and loses nothing by it")
def genuine(stage: Stage) -> str:
    key = stage.mak(2)
    home = Cut(stage, 8_003, key["key"])
    heard = []

    def ask(*staff: str) -> None:
        if staff:
            stage.publisher.service(*staff, "--yes").ok()
        said = str(home("validate", "--via", "telephone").ok().json["validation_id"]).split()
        answer = stage.publisher.service("answer", *said).ok().json
        assert answer["finding"] == home("validate", *answer["words"]).json["finding"]
        heard.append(answer["finding"])
        assert home("status").ok().product["state"] == "licensed"

    answer = stage.publisher.service("answer", *home.groups).ok().json
    home("confirm", *answer["words"]).ok()
    ask()
    ask("key", "block", str(key["serial"]))
    ask("key", "block", str(key["serial"]), "--withdraw")
    ask("key", "unblock", str(key["serial"]))
    ask("activation", "reclaim", str(answer["activation_id"]))
    assert heard == ["genuine", "genuine", "withdrawn", "genuine", "unknown"], heard
    out, back = f"{6 * VALIDATION.groups} digits or {VALIDATION.words} words", f"{6 * VERDICT.groups} or {VERDICT.words}"
    return f"{out} out, {back} back: {', '.join(heard)}"


@item("Tampering with the stored code, the hardware or the key is noticed at the next load")
def tampering(stage: Stage) -> str:
    key, noticed = stage.mak(9), []
    homes = [Cut(stage, 8_010 + number, key["key"]) for number in range(6)]
    codes = []
    for home in homes:
        code = stage.publisher.service("answer", *home.groups).ok().json["confirmation_id"]
        assert home("confirm", code).ok().product["state"] == "licensed"
        codes.append(code)
    homes[0].change("license.json", confirmation_id=codes[1])
    homes[1].change("license.json", confirmation_id=codes[1][:-1] + str((int(codes[1][-1]) + 1) % 10))
    homes[2].env = homes[3].env  # The store, on another computer.
    homes[4].change("key.json", serial=int(key["serial"]) ^ 1)
    vector = json.loads((homes[5].shelf / "license.json").read_text())["vector"]
    homes[5].change("license.json", vector=dict.fromkeys(vector, "0" * 16))
    for number in (0, 1, 2, 4, 5):
        entry = homes[number].status()
        assert entry["state"] != "licensed", number
        noticed.append(entry["reason"])
    assert homes[3].status()["state"] == "licensed"
    what = "another's code, a digit, another computer, another serial, another baseline"
    return f"{what}: {', '.join(noticed)}; the untouched one holds"


@item("Slips are caught and located, a code for one ID is refused for all others, random codes are refused")
def campaign(stage: Stage) -> str:
    done = subprocess.run(
        [sys.executable, "tests/codes.py", "--ids", f"{IDS}", "--count", f"{GUESSES}", "--judged", f"{JUDGED}", "--no-ledger"],
        capture_output=True, text=True, check=False, timeout=1_200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in Path("docs/campaigns.md").read_text().splitlines() if "codes" in line]
    ran = f"; the last full run: {lines[-1][:160]}" if lines else ""
    return " ".join(done.stdout.split())[:600] + ran


@item("The limit of a MAK is exact across telephone, online and batch at the same time")
def limit(stage: Stage) -> str:
    key, seats, count = stage.mak(7), 7, 24
    homes = [Cut(stage, 8_100 + number, key["key"]) for number in range(count)]
    asked = [home.groups for home in homes]
    documents = []
    for home in homes[16:]:
        file = home.path.parent / "request.ktx"
        home("export", "request", "-o", str(file)).ok()
        documents.append(json.loads(file.read_text())["items"][0]["document"])

    def ask(turn: int) -> tuple[str, int]:
        """In turns, so that each way has some before the last seat is gone: a telephone, a computer, two documents at once."""
        number = turn // 3
        if turn % 3 == 0:
            return "by telephone", stage.publisher.service("answer", *asked[number]).exit == 0
        if turn % 3 == 1:
            homes[8 + number].keyturn = KEYTURN  # Online: it gets its network back.
            return "online", homes[8 + number]("activate", "--yes").exit == 0
        two = documents[2 * number : 2 * number + 2]
        return "by batch", sum("refused" not in one for one in posted(stage, "/v1/batch", two)) if two else 0

    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(ask, range(24)))
    used = stage.publisher.seats(int(key["serial"]))
    ways = {way: sum(count for which, count in given if which == way) for way, _ in given}
    assert used == seats == sum(ways.values()), (used, ways)
    return f"{count} computers at once, {seats} seats: {', '.join(f'{number} {way}' for way, number in ways.items())}"


def posted(stage: Stage, path: str, documents: list[str]) -> list[dict[str, Any]]:
    context = ssl.create_default_context(cafile=str(stage.publisher.home / "tls" / "ca.pem"))
    body = json.dumps({"v": 1, "documents": documents}).encode()
    request = urllib.request.Request(f"{stage.publisher.url}{path}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:
        found = json.loads(answer.read())["answers"]
    assert isinstance(found, list)
    return found


@item("A caller who hangs up after group 6 goes on at group 7 with the ticket, at the desk")
def hang_up(stage: Stage) -> str:
    home = Cut(stage, 8_200, str(stage.mak(1)["key"]))
    groups = home.groups
    said = menu(stage, "1", "1", *groups[:6])
    ticket = re.search(r"ticket ((?:[0-9] ?){8})", said)
    assert ticket is not None and said.strip().endswith("Group 7.")
    with desk(stage) as link, chromium() as browser, page_of(browser) as page:
        page.goto(link)
        page.fill("#old", ticket[1])
        page.get_by_role("button", name="Go on").click()
        told = page.locator("#say").inner_text()
        assert told.endswith("Now group 7 of 9."), told
        page.locator("#id").press_sequentially(" " + " ".join(groups[6:]))
        page.get_by_role("button", name="Answer", exact=True).click()
        words = [found.inner_text() for found in page.locator("ol.code.words li").all()]
    assert home("confirm", *words).ok().product["state"] == "licensed"
    return f"the desk said: {told}"


@contextlib.contextmanager
def laboratory(stage: Stage) -> Iterator[tuple[Callable[..., Result], Room]]:
    """A fleet manager's verbs, while it runs in a network of its own that leads nowhere."""
    folder = stage.place("lab")
    with Room(folder / "room", network=True) as room:

        def fleet(*words: str, input: str | None = None) -> Result:  # noqa: A002 (subprocess calls it so)
            line = ["fleet", "--home", str(folder / "fleet"), "--json", "--yes", *words]
            return run(line, cwd=folder, input=input, keyturn=room.keyturn)

        fleet("init", str(stage.test)).ok()
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [str(room.keyturn), "fleet", "--home", str(folder / "fleet"), "--json", "run", "--listen", "127.0.0.1:0"],
                cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert process.stdout is not None
        try:
            assert select.select([process.stdout], [], [], PATIENCE)[0], "the manager does not begin"
            assert process.stdout.readline().startswith('{"event"')
            yield fleet, room
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
            process.stdout.close()


@item("Three computers of a lab are activated at the manager, which has no way out, by three pairs of codes")
def lab(stage: Stage) -> str:
    key, kept = stage.mak(3), []
    with laboratory(stage) as (fleet, room):
        links = room.sh("ip -o link")
        assert [line.split(": ")[1] for line in links.splitlines()] == ["lo"], links
        fleet("key", "add", "-", input=key["key"]).ok()
        token = stage.place("token") / "token"
        token.write_text(fleet("token", "create").ok().json["token"])
        computers = [
            Home(stage.place("lab-pc") / "home", sysroot=stage.pc(synthetic(8_500 + n)), keyturn=room.keyturn) for n in range(3)
        ]
        for number, one in enumerate(computers):
            one("agent", "enroll", "--token-file", str(token), "--name", f"lab-{number}").ok()
        fleet("activate", "--all", "--key", key["key"][-5:], "--via", "telephone").ok()
        for one in computers:
            one("agent", "check-in").ok()
        waiting = fleet("telephone", "list").ok().json["waiting"]
        answers = [stage.publisher.service("answer", *one["installation_id"].split()).ok().json for one in waiting]
        slip = answers[0]["confirmation_id"].replace(answers[0]["confirmation_id"][:6], "000000", 1)
        refused = fleet("telephone", "confirm", "lab-0", slip)
        assert refused.code == "code_mistyped" and "group 1 " in refused.json["error"]["detail"], refused
        began = time.perf_counter()
        found = [fleet("telephone", "confirm", "-", *(word[:4] for word in one["words"])).ok().json for one in answers]
        took = time.perf_counter() - began
        assert [one["name"] for one in found] == ["lab-0", "lab-1", "lab-2"], found
        for one in computers:
            one("agent", "check-in").ok()
            kept.append(one("status", "--check").ok().product["via"])
        assert kept == ["telephone"] * 3
        (task,) = fleet("task", "list").ok().json["tasks"]
        assert (task["done"], fleet("telephone", "list").ok().json["waiting"]) == (3, [])
    assert stage.publisher.seats(int(key["serial"])) == 3
    return f"54 digits out, 26 words back for each; a wrong group named at once; whose each is, found in {took / 3:.1f} s"


@item("After activations by telephone no table holds an address, number or name from a call")
def nothing_kept(stage: Stage) -> str:
    home = Cut(stage, 8_300, str(stage.mak(1)["key"]))
    context = ssl.create_default_context(cafile=str(stage.publisher.home / "tls" / "ca.pem"))
    caller = {"From": "+493012345678", "Caller": "Ada Example", "CallSid": "CA0123456789"}
    path, said = "/phone/voice", ""
    for keys in ("", "1", "1", *home.groups, "1"):
        data = urllib.parse.urlencode({"Digits": keys, **caller}).encode()
        with urllib.request.urlopen(f"{stage.publisher.url}{path}", data, 60, context=context) as answer:
            said = answer.read().decode()
        path = re.search(r'action="([^"]+)"', said)[1] if 'action="' in said else path  # type: ignore[index]
    assert "Group 1:" in said, said
    with contextlib.closing(sqlite3.connect(f"file:{stage.publisher.home / 'service.db'}?mode=ro", uri=True)) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        rows = {table: [tuple(row) for row in db.execute(f"SELECT * FROM {table}")] for table in tables}
    kept = repr(rows) + stage.publisher.log()
    for secret in (*caller.values(), "127.0.0.1", "".join(home.groups), " ".join(home.groups)):
        assert secret not in repr(rows), secret
    assert not any(value in kept for value in caller.values())
    assert not [row for row in rows["ticket"] if " ".join(home.groups[:8]) in str(row)]
    counts = f"heard: {len(rows['heard'])}, tickets: {len(rows['ticket'])}"
    return f"{len(tables)} tables, {sum(map(len, rows.values()))} rows; {counts}"


@item("Pages and desk on a telephone and a desktop: axe-core finds nothing, nothing is cut off")
def looks(stage: Stage) -> str:
    SHOTS.mkdir(parents=True, exist_ok=True)
    seen = 0

    def look(page: Page, name: str, width: int) -> int:
        page.screenshot(path=SHOTS / f"{name}-{width}.png", full_page=True)
        assert violations(page) == [], (name, width)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name
        return 1

    with chromium() as browser:
        for width in (360, 1280):
            groups = Cut(stage, 8_400 + width, str(stage.mak(1)["key"])).groups
            with desk(stage) as link, page_of(browser, width) as page:
                page.goto(f"{stage.publisher.url}/phone")
                seen += look(page, "ask", width)
                by_page(page, stage, groups)
                seen += look(page, "answer", width)
                page.goto(link)
                page.fill("#id", " ".join(groups[:4]))
                expect(page.locator("#say")).to_contain_text("group 5")
                seen += look(page, "desk", width)
    return f"{seen} pages at 360 and 1280 pixels, 0 violations; screenshots in {SHOTS}"


@item("What a person handles in both directions, beside the reference; time to sign and to verify")
def measured(stage: Stage) -> str:
    secret = bls.secret_of(bytes(range(48)))
    signer = bls.signer(secret)
    began = time.perf_counter()
    signature = signer.sign(b"message")
    signed, began = time.perf_counter() - began, time.perf_counter()
    assert bls.holds(signer.public, signature, b"message")
    verified = time.perf_counter() - began
    words, digits = INSTALLATION.words + CONFIRMATION.words, 6 * (INSTALLATION.groups + CONFIRMATION.groups)
    return (
        f"{INSTALLATION.words} + {CONFIRMATION.words} words (four letters each: {4 * words}) or"
        f" {6 * INSTALLATION.groups} + {6 * CONFIRMATION.groups} digits; reference {REFERENCE}. A scripted call at {WORD} s a"
        f" word, {DIGIT} s a digit: {words * WORD:.0f} s in words, {digits * DIGIT:.0f} s in digits, reference"
        f" {127 * DIGIT:.0f} s. Signed in {1000 * signed:.0f} ms, verified in {verified:.2f} s"
    )
