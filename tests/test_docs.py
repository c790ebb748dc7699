"""The pages: nothing of the program is missing on them, what they say is so, and they become a site that works offline.

A page that is made by a script is made again and compared; what is written by hand is compared with the program.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

import make_man
import make_pages
import what_counts
from command_tree import commands
from docs_facts import DOCS, ROOT, Subject, events, gone, page, rows, section, subjects, undocumented, variables
from keyturn.core import hardware
from keyturn.core.errors import CATALOGUE
from keyturn.core.terms import Terms
from keyturn.service.home import SETTINGS, read_settings, settings_file
from keyturn.service.tokens import RIGHTS, ROLES
from keyturn.verbs import root

BY_HAND = sorted({*DOCS.rglob("*.md"), ROOT / "README.md"} - {DOCS / name for name in ("commands.md", "errors.md")})
every_subject = pytest.mark.parametrize("subject", subjects(), ids=lambda subject: subject.what)


# Nothing is missing.


@every_subject
def test_everything_there_is_is_documented_and_nothing_else(subject: Subject) -> None:
    """Each command, option, code, setting, variable, term, address, figure and event is on its page, and still exists."""
    there = subject.there()
    assert len(there) >= 3
    assert undocumented(subject, there) == [], (
        f"{subject.what}: on no page (make pages, or write it where the others are)"
    )
    assert gone(subject, there) == [], f"{subject.what}: on a page, and not in the program"


@every_subject
def test_what_nobody_documented_is_named(subject: Subject) -> None:
    """The check bites: one name more in the program, or one less, and it is the answer."""
    there = subject.there()
    assert undocumented(subject, there | {subject.invented}) == [subject.invented]
    lost = sorted(there)[0]
    assert gone(subject, there - {lost}) == [lost]


@pytest.mark.parametrize(
    "line",
    [
        'environ.get("KEYTURN_MOON")',
        'call.environ["KEYTURN_MOON"]',
        '"KEYTURN_MOON" in os.environ',
        'name = "KEYTURN_MOON"',
    ],
)
def test_a_variable_is_found_however_it_is_read(line: str) -> None:
    assert variables([ast.parse(line)]) == {"KEYTURN_MOON"}


@pytest.mark.parametrize("line", ['log("moon", {})', 'self._log("moon", fields)', 'x.log("moon")'])
def test_an_event_is_found_however_it_is_logged(line: str) -> None:
    assert events([ast.parse(line)]) == {"moon"}


def test_every_command_and_option_has_its_help() -> None:
    """What has no words of its own is not documented by being listed."""
    silent = [command.name for command in commands() if not command.help]
    silent += [f"{c.name} {option.names[0]}" for c in commands() for option in c.options if not option.help]
    assert silent == []


# What is made by a script.


def test_the_made_pages_are_as_committed() -> None:
    """`make pages` would change nothing."""
    for name, text in make_pages.pages().items():
        assert page(name) == text, f"docs/{name} is out of date: make pages"


def test_a_note_about_no_error_is_refused() -> None:
    """A code that is gone takes its note in docs/errors.toml along."""
    with pytest.raises(ValueError, match="moon_phase_wrong"):
        make_pages.errors_page(list(CATALOGUE.values()), {"moon_phase_wrong": "Wait."})


@pytest.fixture(scope="module")
def played() -> dict[str, str]:
    return dict(what_counts.tables())


@pytest.mark.parametrize("name", what_counts.TABLES)
def test_the_customers_table_is_what_happens(played: dict[str, str], name: str) -> None:
    """Each row of what-counts.md, played through with a real client and service, gives the cells that are on the page."""
    text = page("what-counts.md")
    begin, end = what_counts.on_page(text, name)
    assert text[begin:end] == played[name], "python tests/what_counts.py --update"


def test_the_customers_table_would_notice_another_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were half of the anchors not enough for a certificate, a user's new disk would end a license: another cell."""
    row = what_counts.Row("New system disk, activated by a user", what_counts.USER, "office-pc-a-new-disk:user")
    stage = what_counts.Stage(tmp_path)
    try:
        assert stage.play(row).goes_on == "yes"
        monkeypatch.setattr(hardware, "KNOWN_ENOUGH", 36)  # Weights never speak, so every known anchor must match.
        assert stage.play(row).goes_on == "30 days of grace: `hardware_changed`"
    finally:
        stage.world.close()


# What is written by hand.


def test_settings_have_the_defaults_that_are_told(tmp_path: Path) -> None:
    """Default, variable and origin of each setting are those of the page."""
    settings_file(tmp_path).touch()
    settings, origins = read_settings(tmp_path, {})
    assert set(origins.values()) == {"default"}
    text = section("settings.md", "Settings of")
    table = [[cell.replace("`", "") for cell in cells] for cells in rows(text) if "`" in cells[0]]
    assert [cells[0] for cells in table] == ["publisher", *(name for name in SETTINGS if name != "publisher")]
    for name, default, variable, _ in table:
        value = settings._asdict()[name]
        assert default == ("none: given at init" if name == "publisher" else str(value or "none")), name
        assert read_settings(tmp_path, {variable: "here"})[1][name] == f"environment {variable}"


def test_terms_have_the_defaults_that_are_told() -> None:
    """The table of terms has the program's numbers, and options that `product create` takes."""
    (create,) = (command for command in commands() if command.name == "keyturn service product create")
    for term, default, option, _ in (cells for cells in rows(section("publishing.md", "Terms")) if "`" in cells[0]):
        assert str(Terms()._asdict()[term.strip("`")]) == default, term
        assert not option or option.strip("`") in create.all_options, option


def test_the_table_of_rights_is_the_programs() -> None:
    """Line by line, who may do what with a token."""
    lines = section("admin-api.md", "Tokens").splitlines()
    head, *table = [line for line in lines if line.startswith("|") and "---" not in line]
    assert [cell.strip() for cell in head.strip("|").split("|")][1:] == list(ROLES)
    told = [[cell.strip() == "yes" for cell in line[1:-1].split("|")[1:]] for line in table]
    assert told == [[role in RIGHTS[right] for role in ROLES] for right in RIGHTS]


def command_lines(text: str) -> Iterator[str]:
    """Every command line of ours in a page: in blocks of code, and in code within a sentence."""
    for block in re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines = block.replace("\\\n", " ").splitlines()
        yield from (line.removeprefix("sudo ") for line in lines if line.removeprefix("sudo ").startswith("keyturn "))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(span.split()) for span in re.findall(r"`(keyturn (?!\w+ v1)[^`]+)`", prose))


def wrong(line: str) -> str | None:
    """Why the program would not understand a command line, or ``None``. ``VERB`` and ``…`` stand for anything."""
    text = line.partition(" | ")[0].replace(" [", " ").replace("]", " ")
    words = shlex.split(text.replace("…", " VERB "), comments=True)[1:]
    command: click.Command = root
    while True:
        context = click.Context(command, info_name="keyturn")
        try:
            _, left, _ = command.make_parser(context).parse_args(list(words))
        except click.UsageError as error:
            return error.format_message()
        if not isinstance(command, click.Group):
            return f"too much: {left}" if left and "VERB" not in left else None
        if not left or left[0] in ("VERB", "CODE"):
            return None
        below = command.get_command(context, left[0])
        if below is None:
            return f"no verb {left[0]!r}"
        command, words = below, left[1:]


@pytest.mark.parametrize("path", BY_HAND, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_on_a_page_is_understood(path: Path) -> None:
    """Verbs and options in examples exist."""
    found = {line: why for line in command_lines(path.read_text("utf-8")) if (why := wrong(line)) is not None}
    assert found == {}


@pytest.mark.parametrize(
    "line",
    ["keyturn service key print", "keyturn activate --quickly", "keyturn moon", "keyturn import one.ktx two.ktx"],
)
def test_a_command_line_that_is_none_is_noticed(line: str) -> None:
    text = f"Say `{line}`.\n\n```sh\n{line}  # here\n```\n"
    assert [wrong(found) is not None for found in command_lines(text)] == [True, True]


def test_every_place_in_the_code_that_is_named_exists() -> None:
    """Pages name modules and functions as `client/actions.make_request`."""
    place = re.compile(r"`((?:core|edge|flows|client|service)/\w+(?:\.(?!py)\w+)?)(?:\.py)?`")
    named = [name for path in BY_HAND for name in place.findall(path.read_text("utf-8"))]
    assert len(named) > 15
    for name in named:
        module, _, attribute = name.replace("/", ".").partition(".")[2].partition(".")
        found = importlib.import_module(f"keyturn.{name.partition('/')[0]}.{module}")
        places = [found, *(value for value in vars(found).values() if isinstance(value, type))]
        assert not attribute or any(hasattr(place, attribute) for place in places), name


def test_links_from_the_readme_lead_somewhere() -> None:
    """The pages' own links are checked when the site is built; those of the pages at the top here."""
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / name).read_text("utf-8")):
            assert (ROOT / target).exists(), f"{name}: {target}"


# The site and the man pages.


class Fetched(HTMLParser):
    """What a browser fetches to show a page: scripts, styles, fonts, pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        name = "href" if tag == "link" else "src"
        if tag in ("link", "script", "img", "iframe", "source", "video", "audio", "embed"):
            self.addresses.append(given.get(name) or "")


def outside(name: str, text: str) -> list[str]:
    """The addresses in a file of the site that a browser would fetch from elsewhere."""
    if name.endswith(".css"):
        found = re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s]+)", text)
    else:
        reader = Fetched()
        reader.feed(text)
        found = reader.addresses + re.findall(r"@import\s+['\"]([^'\"]+)", text)
    return [address for address in found if re.match(r"(\w+:)?//", address)]


def build(pages: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Build a site, as `make docs` does."""
    options = ["-b", "html", "-W", "--keep-going", "-n", "-q", "-E", "-d", str(folder / "doctrees")]
    line = [sys.executable, "-m", "sphinx", *options, str(pages), str(folder / "html")]
    return subprocess.run(line, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the committed pages."""
    folder = tmp_path_factory.mktemp("site")
    done = build(DOCS, folder)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_the_site_is_built_without_a_warning_and_has_every_page(site: Path) -> None:
    """Every link and every place within a page is there, and no page is left out of the contents."""
    assert {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")} <= {
        path.relative_to(site).with_suffix("") for path in site.rglob("*.html")
    }


def test_a_link_that_leads_nowhere_fails_the_site(tmp_path: Path) -> None:
    """A page, a place within a page, and a page that is in no contents."""
    pages = tmp_path / "pages"
    shutil.copytree(DOCS, pages, ignore=lambda _, names: [name for name in names if name.endswith(".md")])
    (pages / "index.md").write_text("# One\n\n[a](moon.md) [b](#rising)\n", "utf-8")
    (pages / "other.md").write_text("# Two\n", "utf-8")
    done = build(pages, tmp_path)
    assert done.returncode != 0
    for told in ("'moon.md'", "'rising'", "isn't included in any toctree"):
        assert told in done.stderr, done.stderr


def test_the_site_works_offline(site: Path) -> None:
    """No page and no style fetches anything from elsewhere."""
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > 20
    assert {path.name: found for path in files if (found := outside(path.name, path.read_text("utf-8")))} == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.html", '<script src="https://example.org/x.js">'), ("a.html", '<link rel="stylesheet" href="//example.org/x.css">'),
     ("a.css", "@font-face { src: url('https://example.org/f.woff2') }"), ("a.css", '@import "https://example.org/x.css";')],
)  # fmt: skip
def test_a_fetch_from_elsewhere_is_noticed(name: str, text: str) -> None:
    assert len(outside(name, text)) == 1


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    assert make_man.main(folder) == 0
    return folder


def test_the_man_pages_have_every_verb(manual: Path) -> None:
    """Each command that does something has its place in keyturn(1) or keyturn-service(1)."""
    text = "".join(path.read_text("utf-8").replace("\\-", "-") for path in manual.glob("*.1"))
    assert [c.name for c in commands() if not c.commands and f".SS {c.usage}" not in text] == []


@pytest.mark.needs("man")
@pytest.mark.parametrize("name", make_man.ABOUT)
def test_man_shows_the_page_without_a_warning(manual: Path, name: str) -> None:
    """As the reader's own `man` formats it."""
    done = subprocess.run(
        ["man", "--warnings", "-l", str(manual / f"{name}.1")], capture_output=True, text=True, check=True,
        env={"LC_ALL": "C.UTF-8", "MANWIDTH": "80", "PATH": "/usr/bin:/bin", "MANPAGER": "cat"},
    )  # fmt: skip
    assert done.stderr == ""
    for heading in ("NAME", "SYNOPSIS", "OPTIONS", "VERBS", "EXIT STATUS", "ENVIRONMENT", "FILES"):
        assert f"\n{heading}\n" in done.stdout, heading
