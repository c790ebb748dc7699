"""The language: which one is spoken, that a translation is whole, and that nothing untranslated is slower for it."""

from __future__ import annotations

import ast
import re
import string
import subprocess
import sys
from pathlib import Path

import pytest

import make_locale
from keyturn.client import views
from keyturn.client.loading import status_of
from keyturn.core import license
from keyturn.core.errors import CATALOGUE
from keyturn.edge import language
from keyturn.testing import World

GERMAN = make_locale.read((make_locale.LOCALE / "de/LC_MESSAGES/keyturn.po").read_text("utf-8"))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"), ({"LANG": "de_DE.UTF-8"}, "de"), ({"LANG": "de"}, "de"), ({"LANG": "de_AT@euro"}, "de"),
        ({"LANG": "C", "LANGUAGE": "de"}, "en"), ({"LC_ALL": "POSIX", "LANG": "de_DE", "LANGUAGE": "de"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LANGUAGE": "de:en"}, "de"), ({"LANG": "de_DE.UTF-8", "LANGUAGE": "en"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LANGUAGE": "fr:it"}, "de"), ({"LC_MESSAGES": "de_CH", "LANG": "en_US"}, "de"),
        ({"LC_ALL": "en_US", "LC_MESSAGES": "de_CH"}, "en"), ({"LANG": "fr_FR.UTF-8"}, "en"), ({"LANGUAGE": "de"}, "de"),
    ],
)  # fmt: skip
def test_the_language_that_is_asked_for(environment: dict[str, str], expected: str) -> None:
    """As GNU gettext reads the four variables; a language that is not there is English."""
    assert language.wanted(environment) == expected


def test_no_sentence_is_untranslated_or_left_over() -> None:
    """What the source says and what the catalogue translates are the same set. (`make locale` names what is missing.)"""
    said = {(message.one, message.many) for message in make_locale.messages()}
    assert len(said) > 100
    assert said == set(GERMAN) - {("", None)}
    assert [key[0] for key, forms in GERMAN.items() if not all(forms)] == []


def placeholders(text: str) -> list[str]:
    """Names in braces, and code in backquotes: what a translation keeps."""
    names = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    return sorted([*names, *re.findall(r"`[^`]+`", text)])


def test_translations_keep_placeholders_and_commands() -> None:
    """In each form."""
    for (one, many), forms in GERMAN.items():
        for form, original in zip(forms, (one, many or one), strict=False):
            assert placeholders(form) == placeholders(original), form


def test_the_check_of_placeholders_bites() -> None:
    assert placeholders("bis {datum}") != placeholders("until {date}")
    assert placeholders("Tun: `keyturn aktivieren`") != placeholders("Do: `keyturn activate`")


def test_the_catalogues_are_as_committed() -> None:
    """`make locale` would change nothing: neither the `.po` nor the `.mo` that the program reads."""
    for name, data in make_locale.files(make_locale.LOCALE).items():
        assert (make_locale.LOCALE / name).read_bytes() == data, f"{name} is out of date: make locale"


def test_every_translation_is_read_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The `.mo` says, through the standard library, what stands in the `.po`, one and many."""
    monkeypatch.setenv("LANGUAGE", "de")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    for (one, many), forms in GERMAN.items():
        if many is not None:
            assert (language.plural(one, many, 1), language.plural(one, many, 2)) == forms
        elif one:
            assert language.text(one) == forms[0]


def test_a_text_that_is_put_together_first_is_refused() -> None:
    """No catalogue could hold it."""
    with pytest.raises(ValueError, match="line 1"):
        list(make_locale.calls(ast.parse('_(f"until {date}")')))


def test_labels_stay_in_their_column() -> None:
    """A label of `status` has eleven columns, in every language."""
    source = ast.parse(Path(views.__file__).read_text("utf-8"))
    rows = [node for node in ast.walk(source) if isinstance(node, ast.Call) and ast.unparse(node.func) == "row"]
    labels = [str(label.value) for node in rows for label in ast.walk(node.args[0]) if isinstance(label, ast.Constant)]
    assert len(labels) > 8
    for label in labels:
        assert len(GERMAN[label, None][0]) <= 11, label


def test_every_reason_has_words() -> None:
    """Each reason that has a remedy has words for a person, or is an error of the catalogue."""
    reasons = set(license._REMEDIES) - {"term_over"}  # Another remedy of `term_ended`.
    assert sorted(reasons - set(views._REASONS) - set(CATALOGUE)) == []


@pytest.mark.parametrize("case", ["licensed", "grace", "expired", "term"])
def test_status_in_german(world: World, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """The same lines as in English, each of them translated, and none wider than 80 columns."""
    client = world.expired() if case == "expired" else world.grace() if case == "grace" else world.client()
    if case in ("licensed", "term"):
        client.activate(world.publisher.mint(term_days=40 if case == "term" else None), consent=True)
        world.clock.advance(days=20)
    entry = status_of(client._load())
    english = views.status_text([entry]).splitlines()
    monkeypatch.setenv("LANGUAGE", "de")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    german = views.status_text([entry]).splitlines()
    assert max(map(len, german)) <= 80
    labels = [line[2:13].strip() for line in english if line[:3] != "   "]
    same = [label for label in labels if any(f"  {label} " in line for line in german)]
    assert same == []
    assert not set(english) & set(german)


SCRIPT = """
import sys
from keyturn.cli import main
main(["status", "--home", sys.argv[1]])
print(sorted({"gettext", "locale", "click", "socket", "ssl"} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(("tongue", "expected"), [("C", "[]"), ("en_GB.UTF-8", "[]"), ("de_DE.UTF-8", "['gettext'")])
def test_english_imports_no_gettext(world: World, tmp_path: Path, tongue: str, expected: str) -> None:
    """`keyturn status` runs at every logon: who reads English does not pay for translation."""
    client = world.grace(home=tmp_path / "home")
    assert client.status().state == "initial_grace"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "home")], capture_output=True, text=True, check=True,
        env={"LANG": tongue, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stderr.splitlines()[-1].startswith(expected)


def test_a_catalogue_that_is_not_there_is_english(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever packs the program and leaves the folder out gets English, not a fault."""
    monkeypatch.setattr(language, "FOLDER", str(tmp_path))
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.delenv("LANGUAGE", raising=False)
    language._catalogue.cache_clear()
    try:
        assert (language.text("licensed"), language.plural("{count} day left", "{count} days left", 1)) == (
            "licensed", "{count} day left",
        )  # fmt: skip
    finally:
        language._catalogue.cache_clear()
