"""``keyturn remind``: what is said to whom, that a logon always speaks and never breaks, the page, and the loop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from keyturn import Client
from keyturn.client import reminder_cli, reminding
from keyturn.client.reminder_page import page
from keyturn.client.reminding import Notice, Shown, look
from keyturn.client.telling import Teller
from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, MAX_TIME
from keyturn.core.reminders import HOUR
from keyturn.edge.desktop import Desktop
from keyturn.edge.vault import Vault
from keyturn.edge.voice import Call
from keyturn.testing import World
from keyturn.testing.computers import synthetic


class Person:
    """Somebody at a computer of the world: a store, a home folder, and what `remind` says there at the world's time."""

    def __init__(self, world: World, client: Client, monkeypatch: pytest.MonkeyPatch, name: str = "anna") -> None:
        self.world, self.client = world, client
        self.home = world.folder / name
        self.call = Call({"HOME": str(self.home), "KEYTURN_HOME": str(client._home)})
        monkeypatch.setattr(reminding, "machine_of", lambda _call: client._machine)

    def notices(self, *, logon: bool = False) -> list[Notice]:
        return look(self.call, Shown(self.call.environ), logon=logon)

    def said(self, capsys: pytest.CaptureFixture[str], *, logon: bool = False) -> str:
        capsys.readouterr()
        if logon:
            assert reminding.remind_at_logon(self.call) == 0
        else:
            due = [notice for notice in self.notices() if notice.due.now]
            reminding.say(self.call, due)
            reminding.told(self.call, due, Shown(self.call.environ), where="terminal")
        return capsys.readouterr().out

    def events(self, name: str) -> list[dict[str, Any]]:
        log = Teller(Vault(str(self.client._home), "user"), self.client._machine).events()
        return [entry for entry in log if entry["name"] == name]


@pytest.fixture
def person(world: World, monkeypatch: pytest.MonkeyPatch) -> Person:
    client = world.client()
    client.status()
    return Person(world, client, monkeypatch)


def flat(text: str) -> str:
    return " ".join(text.split())


def test_the_words_of_a_grace(person: Person, capsys: pytest.CaptureFixture[str]) -> None:
    """The product, the terms' days, the date, how long, what comes after, and the one thing to do: sentences in 80 columns."""
    text = person.said(capsys)
    assert flat(text) == (
        "Reminder: Sample is not activated yet. Its terms give 30 days of grace: full function until 2027-02-14, 30 days left."
        " After that, it goes on running, with a reminder every hour. What to do: Activate it: `keyturn activate`."
    )
    assert max(map(len, text.splitlines())) <= 80


def test_each_state_has_its_words(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Term that ends, term that ended, other hardware, grace over in each mode; a license for ever is silent."""
    term = world.client()
    term.activate(world.publisher.mint(term_days=60), consent=True)
    forever = world.client()
    forever.activate(world.publisher.mint(), consent=True)
    moved = world.client()
    moved.activate(world.publisher.mint(), consent=True)
    strict = world.client(product=world.publisher.product("strict", mode="enforce", grace_days=1))
    strict.status()
    moved._machine = world.machine(synthetic(77))
    clients = {"term": term, "forever": forever, "moved": moved, "strict": strict}
    people = {name: Person(world, client, monkeypatch, name) for name, client in clients.items()}

    def said(name: str) -> str:
        monkeypatch.setattr(reminding, "machine_of", lambda _call: people[name].client._machine)
        return flat(people[name].said(capsys, logon=True))

    assert said("forever") == ""
    assert said("term") == ""
    assert "1 day of grace: full function until 2027-01-16 08:00 UTC, 24 hours left. After that, it does not" in said("strict")
    assert "does not hold just now" in said("moved")
    assert "The reason: the hardware is not the one that was activated: the" in said("moved")
    world.clock.advance(days=40)
    assert "The license of Sample standard ends soon. It is licensed until 2027-03-16: 20 days left." in said("term")
    assert "After that, its terms give 30 days of grace with full function." in said("term")
    assert "not activated, and its grace period is over" in said("strict")
    assert "It does not run until it is activated." in said("strict")
    world.clock.advance(days=21)
    assert "does not hold just now. Its terms give 30 days of grace: full function until 2027-04-15" in said("term")
    assert "The reason: the license's term has ended." in said("term")
    assert said("forever") == ""


def test_the_schedule_and_the_logon(person: Person, capsys: pytest.CaptureFixture[str]) -> None:
    """Once a day; a logon in between speaks, and begins the day anew."""
    assert person.said(capsys)
    assert person.said(capsys) == ""
    person.world.clock.advance(seconds=DAY - 1)
    assert person.said(capsys) == ""
    assert person.said(capsys, logon=True)
    person.world.clock.advance(seconds=1)
    assert person.said(capsys) == ""
    person.world.clock.advance(days=1)
    assert person.said(capsys)
    assert len(person.events("reminder_shown")) == 3
    assert person.events("reminder_shown")[1]["data"]["logon"] is True


def test_snoozing_lasts_until_the_next_one_and_no_logon(person: Person, capsys: pytest.CaptureFixture[str]) -> None:
    """In the last three days that is four hours, and the time is said."""
    person.world.clock.advance(days=28)
    assert reminder_cli._snooze(person.call) == 0
    assert "due on 2027-02-12 12:00 UTC; a logon speaks all the same" in capsys.readouterr().out
    person.world.clock.advance(seconds=4 * HOUR - 1)
    assert person.said(capsys) == ""
    assert person.said(capsys, logon=True)
    person.world.clock.advance(seconds=4 * HOUR)
    assert person.said(capsys)


def test_each_person_has_a_schedule_of_their_own(
    world: World, person: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one was told is noted in that person's folder, not in the store, and silences nobody else."""
    other = Person(world, person.client, monkeypatch, "bert")
    assert person.said(capsys)
    assert other.said(capsys)
    assert person.said(capsys) == other.said(capsys) == ""
    assert (person.home / ".local/state/keyturn/reminders.json").stat().st_mode & 0o777 == 0o600
    assert not list(Path(str(person.client._home)).rglob("reminders.json"))


@pytest.mark.parametrize("note", ["{", "[]", '{"x": "y"}', f'{{"PLACE": {MAX_TIME}}}', '{"PLACE": true}', '{"PLACE": "never"}'])
def test_nothing_that_is_written_into_the_note_silences(person: Person, capsys: pytest.CaptureFixture[str], note: str) -> None:
    """Damaged, or a time in the future: it is said now."""
    person.said(capsys)
    path = person.home / ".local/state/keyturn/reminders.json"
    (place,) = json.loads(path.read_text())
    path.write_text(note.replace("PLACE", place))
    assert person.said(capsys)


def test_a_person_who_cannot_note_it_is_reminded_each_time(
    person: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the log says that it could not be noted."""
    person.home.write_text("a file where a folder should be")
    assert person.said(capsys)
    assert person.said(capsys)
    assert len(person.events("reminder_failed")) == 2


def test_the_action_is_one_that_the_policy_leaves_open(person: Person, capsys: pytest.CaptureFixture[str]) -> None:
    """With every way forbidden the count-down and the reminders go on; what to do is what is left to do."""
    rules = Path(person.client._machine.rules)
    rules.mkdir(parents=True)
    (rules / "policy.toml").write_text('[policy]\nonline = "never"\n')
    assert "What to do: Your organization's policy does not allow contact; carry a file" in flat(person.said(capsys, logon=True))
    ways = "".join(f'{way} = "never"\n' for way in ("online", "host", "fleet", "file", "telephone"))
    (rules / "policy.toml").write_text(f"[policy]\n{ways}")
    person.world.clock.advance(days=3)
    text = flat(person.said(capsys))
    assert "full function until 2027-02-14, 27 days left" in text
    assert "What to do: Your organization's policy does not allow it; ask whoever keeps the policy." in text
    (rules / "policy.toml").write_text("reminders = false")
    person.world.clock.advance(days=1)
    assert "26 days left" in flat(person.said(capsys)), "no name switches them off, and a policy that is not understood neither"


def test_a_damaged_product_is_not_silent(person: Person, capsys: pytest.CaptureFixture[str]) -> None:
    (shelf,) = Vault(str(person.client._home), "user").shelves()
    Path(shelf.path, "product.json").write_text("{")
    text = flat(person.said(capsys, logon=True))
    assert "is not licensed on this computer. It does not run until it is activated." in text
    assert "The reason: This file cannot be read." in text


def test_a_fault_breaks_no_logon(person: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing on either stream, exit 0, and an event with a remedy."""

    def broken(*_: object, **__: object) -> list[Notice]:
        raise ZeroDivisionError

    monkeypatch.setattr(reminding, "look", broken)
    assert person.said(capsys, logon=True) == ""
    assert capsys.readouterr().err == ""
    (event,) = person.events("reminder_failed")
    assert (event["code"], bool(event["remedy"])) == ("internal", True)


def test_a_store_that_hangs_holds_up_no_logon(
    person: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After its patience it gives up, whatever it was waiting for; the alarm is taken down again."""

    def hangs(*_: object, **__: object) -> list[Notice]:
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
        os.kill(os.getpid(), signal.SIGALRM)  # Its time is over.
        raise AssertionError("nobody interrupted it")

    monkeypatch.setattr(reminding, "look", hangs)
    assert person.said(capsys, logon=True) == ""
    assert "within 5 seconds" in person.events("reminder_failed")[0]["message"]
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


# The loop.


class Ended(Exception):
    """The session is over."""


def test_the_watch_keeps_the_schedule_to_the_second(
    person: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, then when it is due, through the end of the grace; activated meanwhile, it is silent."""
    monkeypatch.setattr(reminder_cli, "LOOK_AGAIN", 5 * HOUR)  # Looking more often makes no reminder later.
    clock, began, said = person.world.clock, person.world.clock(), list[int]()

    def pause(seconds: float) -> None:
        assert 1 <= seconds <= reminder_cli.LOOK_AGAIN
        if "Reminder" in capsys.readouterr().out:
            said.append(clock() - began)
        clock.advance(seconds=int(seconds))
        if clock() - began > 30 * DAY + 2 * HOUR:
            if person.client.status().state != "licensed":
                person.client.activate(person.world.publisher.mint(), consent=True)
            elif clock() - began > 32 * DAY:
                raise Ended

    with pytest.raises(Ended):
        reminder_cli.keep_watch(person.call, desktop=False, pause=pause)
    end = 30 * DAY
    assert said == [
        *(day * DAY for day in range(27)), *(end - 3 * DAY + n * 4 * HOUR for n in range(12)),
        *(end - DAY + n * HOUR for n in range(27)),
    ]  # fmt: skip


def test_a_desktop_that_is_gone_ends_the_watch(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried a few times, a minute apart, and nothing counts as shown; then the process ends with its code."""
    waited: list[float] = []

    def gone(*_: object, **__: object) -> int:
        raise KeyturnError("desktop_unreachable", "no bus")

    monkeypatch.setattr(Desktop, "notify", gone)
    with pytest.raises(KeyturnError) as error:
        reminder_cli.keep_watch(person.call, desktop=True, pause=waited.append)
    assert (error.value.code, error.value.exit) == ("desktop_unreachable", 3)
    assert waited == [reminder_cli.NOT_YET] * (reminder_cli.TRIES - 1)
    assert (len(person.events("reminder_shown")), len(person.events("reminder_failed"))) == (0, 1)


# The page.


class Outline(HTMLParser):
    """What a screen reader would go by."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("tongue", ["en", "de"])
def test_the_page_is_whole_and_can_be_read_aloud(person: Person, monkeypatch: pytest.MonkeyPatch, tongue: str) -> None:
    """Language, title, one heading of each product, sentences, the command; nothing fetched, no script, no colour alone."""
    monkeypatch.setenv("LANGUAGE", tongue)
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    (notice,) = person.notices()
    notice = notice._replace(terms_url="https://example.org/a?b&c", entry={**notice.entry, "name": "<Paint> & box"})
    text = page([notice])
    outline = Outline()
    outline.feed(text)
    tags = dict(outline.tags)
    assert tags["html"] == {"lang": tongue}
    assert {"main", "h1", "h2", "h3", "section", "title"} <= set(tags)
    assert not {"script", "img", "link", "iframe"} & set(tags)
    assert tags["a"]["href"] == "https://example.org/a?b&c"
    assert tags["time"]["datetime"] == "2027-02-14T08:00:00Z"
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text
    words = flat("".join(outline.words))
    assert "<Paint> & box" in words
    assert "keyturn activate" in words
    assert ("30 days left" if tongue == "en" else "noch 30 Tage") in words


def test_a_terms_address_that_is_none_of_the_web_is_no_link(person: Person) -> None:
    (notice,) = person.notices()
    assert "<a " not in page([notice._replace(terms_url="javascript:alert(1)")])


def test_the_page_of_nothing_says_so() -> None:
    assert "There is nothing to do." in page([])


# The programs.


@pytest.fixture
def store(world: World) -> Path:
    """A store with a test product in grace."""
    folder = world.folder / "real"
    client = world.client(home=folder, product=world.publisher.product("inkwell", test=True))
    assert client.status().state == "initial_grace"
    return folder


def remind(store: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    heavy = "{'click', 'ssl', 'http', 'gettext', 'tomllib'}"
    script = f"import sys; from keyturn.cli import main; status = main(sys.argv[1:])\nprint(sorted({heavy} & set(sys.modules)), "
    script += "file=sys.stderr); sys.exit(status)"
    environment = {"HOME": str(store.parent / "person"), "LANG": "C", "KEYTURN_NOW": "2027-01-20T08:00:00Z", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-c", script, "--home", str(store), "remind", *words], capture_output=True, text=True, check=False,
        env={**environment, **extra},
    )  # fmt: skip


@pytest.mark.system
def test_a_logon_loads_neither_click_nor_the_network(store: Path) -> None:
    """As cheap as `status`; the same words as through Click, and another clock that is none silences nobody."""
    plain = remind(store, "--logon")
    assert "Reminder: Inkwell (test product) is not activated yet." in plain.stdout
    assert plain.stderr == "[]\n"
    through_click = remind(store, "--logon", "--yes")
    assert (through_click.stdout, "click" in through_click.stderr) == (plain.stdout, True)
    (found,) = json.loads(remind(store, "--logon", "--json").stdout)["reminders"]
    assert (found["state"], found["due"], found["until"]) == ("initial_grace", True, "2027-02-14T08:00:00Z")
    assert remind(store).stdout == ""
    assert json.loads(remind(store, "--json").stdout) == {"reminders": []}
    assert "Reminder: Inkwell" in remind(store, "--logon", KEYTURN_NOW="tomorrow").stdout
    assert remind(store, KEYTURN_NOW="tomorrow").returncode == 2


@pytest.mark.system
def test_another_clock_silences_no_logon(world: World) -> None:
    """A real product refuses KEYTURN_NOW; at a logon it is reminded of by the computer's own clock all the same."""
    client = world.client(home=world.folder / "real")
    client.status()
    late = remind(world.folder / "real", KEYTURN_NOW="2040-01-01T00:00:00Z")
    assert (late.returncode, "test_only" in late.stderr) == (5, True)
    logon = remind(world.folder / "real", "--logon", KEYTURN_NOW="2020-01-01T00:00:00Z")
    assert "Reminder: Sample is not activated" in logon.stdout


@pytest.mark.system
def test_the_page_and_what_does_not_go_together(store: Path) -> None:
    place = store.parent / "page.html"
    assert remind(store, "--page", str(place)).returncode == 0
    assert place.read_text("utf-8") == remind(store, "--page", "-").stdout
    assert '<html lang="de">' in remind(store, "--page", "-", LANG="de_DE.UTF-8").stdout
    assert remind(store, "--snooze", "--logon").returncode == 2


@pytest.mark.parametrize("tongue", ["de_DE.ISO-8859-1", "de_DE.UTF-8"])
def test_a_terminal_of_another_alphabet_breaks_nothing(store: Path, tongue: str) -> None:
    """A sign that cannot be shown is another sign: the reminder is said."""
    done = remind(store, "--logon", LANG=tongue, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert "Erinnerung: Inkwell (Testprodukt)" in done.stdout
    assert done.returncode == 0


