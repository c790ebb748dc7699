"""Telephone activation by the real programs: two codes that are carried by hand, the menu, and what is said of a slip."""

from __future__ import annotations

import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from keyturn.core.phone import menu
from keyturn.service import voice
from keyturn.testing.computers import synthetic
from programs import Home, Publisher, computer, files_below, run, typed

TICKET = re.compile(r"ticket ((?:[0-9] ?){8})")


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    made = Publisher(tmp_path_factory.mktemp("acme"))
    made.product("paint", "--test", "--edition", "basic", "--edition", "pro", "--feature", "layers:pro")
    yield made
    made.close()


@pytest.fixture
def home(publisher: Publisher, tmp_path: Path) -> Home:
    """A computer with an installed key that nobody else is."""
    made = Home(tmp_path / "client" / "home", sysroot=computer(tmp_path / "pc", synthetic(hash_of(tmp_path))))
    made("product", "add", str(publisher.folder / "paint.ktproduct")).ok()
    made("install-key", "-", input=str(publisher.mint("paint", "--edition", "pro")[0]["key"])).ok()
    return made


def hash_of(path: Path) -> int:
    return sum(path.name.encode()) + 50_000


def asked(home: Home, *options: str) -> dict[str, str]:
    found = home("installation-id", *options).ok().json
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("said", ["digits", "words", "address"])
def test_two_codes_carried_by_hand(publisher: Publisher, home: Home, said: str) -> None:
    """In digits, in words, as the QR code says it; back in words or digits; no service runs, and nothing was sent."""
    told = asked(home, "--words")
    text = {"digits": told["installation_id"], "words": " ".join(told["words"]), "address": told["address"]}[said]
    found = publisher.service("answer", text).ok().json
    assert (found["how"], found["seats_used"], found["edition"]) == ("new", 1, "pro")
    back = found["confirmation_id"] if said == "digits" else " ".join(found["words"])
    entry = home("confirm", "-", input=back).ok().product
    assert (entry["state"], entry["via"], entry["features"]) == ("licensed", "telephone", ["layers"])
    assert home("status", "--check").ok().product["state"] == "licensed"
    assert publisher.service("answer", *text.split()).ok().json["how"] == "same"
    assert home("disclose", "--sent").ok().json["exchanges"] == []


def test_activate_says_how(home: Home) -> None:
    told = home("activate", "--via", "telephone").ok()
    assert re.fullmatch(r"([0-9]{6} ?){9}", told.json["installation_id"]) and told.json["page"].endswith("/phone")
    dry = home("activate", "--via", "telephone", "--dry-run").ok().json
    assert dry["sent"] is False
    text = run(["--home", str(home.path), "installation-id", "--qr"], cwd=home.path.parent, env=home.env).ok().out
    assert "▀" in text and "keyturn confirm" in text


def test_a_slip_is_named_with_its_place(publisher: Publisher, home: Home) -> None:
    """On both sides, in digits and in words; nothing changes."""
    told = asked(home, "--words")
    groups = told["installation_id"].split()
    wrong = publisher.service("answer", *groups[:4], "000000", *groups[5:])
    assert (wrong.exit, wrong.code) == (4, "code_mistyped") and "group 5" in wrong.json["error"]["detail"]
    short = publisher.service("answer", *groups[:7])
    assert (short.exit, short.code) == (4, "code_malformed")
    found = publisher.service("answer", told["installation_id"]).ok().json
    words = list(found["words"])
    before = files_below(home.shelf)
    slip = home("confirm", *words[:11], "zebra" if words[11] != "zebra" else "zoo", *words[12:])
    assert slip.code == "code_mistyped"
    assert f"word 12 should probably be '{words[11]}'" in slip.json["error"]["detail"]
    assert home("confirm", *words, "--dry-run").ok().json["holds"] is True
    assert {k: v for k, v in files_below(home.shelf).items() if "record" not in k} == {
        k: v for k, v in before.items() if "record" not in k
    }
    assert home("confirm", *words).ok().product["state"] == "licensed"


def test_asked_part_by_part_a_slip_is_said_at_once(publisher: Publisher, home: Home) -> None:
    """On a terminal: an unknown word, a group that is not whole and a wrong one are asked for again; then it is licensed."""
    found = publisher.service("answer", asked(home)["installation_id"]).ok().json
    groups = found["confirmation_id"].split()
    said = typing(home, groups[0], groups[1][:4], "999999", groups[1], " ".join(groups[2:15]), "1" * 6, groups[15])
    assert "group 2 is wrong" in said and "group 16 is wrong" in said and said.count("group 2 of 16") == 3
    assert home.status()["state"] == "licensed"
    words = list(found["words"])
    home("product", "list").ok()
    slip = typing(home, *words)
    assert "Nothing to do" in slip


def test_words_asked_one_by_one(publisher: Publisher, home: Home) -> None:
    words = publisher.service("answer", asked(home)["installation_id"]).ok().json["words"]
    said = typing(home, words[0][:4], "qqqq", *words[1:25], words[25])
    assert "word 2 is wrong" in said and home.status()["state"] == "licensed"


def typing(home: Home, *lines: str) -> str:
    command = ["--home", str(home.path), "confirm"]
    return typed(command, lines, cwd=home.path.parent, env=home.env, keyturn=home.keyturn)


def test_files_are_still_answered(publisher: Publisher, home: Home, tmp_path: Path) -> None:
    file = tmp_path / "request.ktx"
    home("export", "request", "-o", str(file)).ok()
    assert publisher.service("answer", str(file)).ok().json["answered"] == 1
    assert publisher.service("answer", "missing.ktx").code == "file_malformed"
    assert publisher.service("answer", "missing").code == "file_malformed"


def test_the_menu_in_a_terminal_goes_on_where_a_caller_hung_up(publisher: Publisher, home: Home) -> None:
    """After six groups the line is dead; the ticket goes on at the seventh, and one group is taken back on the way."""
    groups = asked(home)["installation_id"].split()
    first = menu_run(publisher, "1", "1", *groups[:6])
    ticket = TICKET.search(first)
    assert ticket is not None and first.strip().endswith("Group 7.")
    second = menu_run(publisher, "1", "2", ticket[1].replace(" ", ""), "#", groups[5], "000000", *groups[6:], "1", *["1"] * 16)
    assert "Group 7." in second and "I heard 0 0 0 0 0 0. That is not group 7." in second
    read = re.findall(r"^Group \d+: ((?:[0-9] ?){6})\.$", second, re.MULTILINE)
    assert len(read) == 16
    assert home("confirm", "-", input=" ".join(read)).ok().product["via"] == "telephone"
    gone = menu_run(publisher, "1", "2", ticket[1].replace(" ", ""))
    assert "There is no such ticket." in gone


def menu_run(publisher: Publisher, *keys: str) -> str:
    """What the menu says when these keys are pressed, and the caller hangs up."""
    done = run(
        ["service", "--home", str(publisher.home), "voice", "--terminal"], cwd=publisher.folder, input="\n".join(keys) + "\n"
    )
    return done.ok().out


def test_a_provider_asks_over_the_webhook(publisher: Publisher, home: Home) -> None:
    """XML verbs, in German; what else a provider sends is not looked at; a place in a call that is none is refused."""
    groups = asked(home)["installation_id"].split()
    with publisher.running():
        said = post(publisher, voice.PATH, "", CallSid="CA1", From="+4930123456")
        for keys in ("2", "1", *groups, "2"):
            gather = said.find("Gather")
            assert gather is not None and gather.get("input") == "dtmf"
            said = post(publisher, str(gather.get("action")), keys, From="+4930123456")
        spoken = [found.text or "" for found in said.iter("Say")]
        assert spoken[-1].startswith("Wort 1: ") and {found.get("language") for found in said.iter("Say")} == {"de-DE"}
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(publisher, f"{voice.PATH}?state={'W' * 400}", "1")
        assert caught.value.code == 400
        caught.value.close()
    stored = b"".join(path.read_bytes() for path in publisher.home.glob("service.db*"))
    assert b"30123456" not in stored and b"30123456" not in publisher.log().encode()


def post(publisher: Publisher, path: str, keys: str, **more: str) -> ElementTree.Element:
    context = ssl.create_default_context(cafile=str(publisher.home / "tls" / "ca.pem"))
    data = urllib.parse.urlencode({"Digits": keys, **more}).encode()
    with urllib.request.urlopen(f"{publisher.url}{path}", data, 30, context=context) as answer:
        return ElementTree.fromstring(answer.read())


def test_a_stolen_confirmation_key_is_replaced(tmp_path: Path) -> None:
    """The next bundle revokes it and names another; a computer that learns of it asks again, which costs nothing."""
    made = Publisher(tmp_path / "robbed")
    file = made.product("paint", "--test")
    home = Home(tmp_path / "client" / "home", sysroot=computer(tmp_path / "pc", synthetic(60_000)))
    home("product", "add", str(file)).ok()
    home("install-key", "-", input=str(made.mint("paint")[0]["key"])).ok()
    home("confirm", made.service("answer", asked(home)["installation_id"]).ok().json["confirmation_id"]).ok()
    (stolen,) = [key for key in confirming(made) if key["role"] == "phone-test"]
    assert made.service("issuing-key", "retire", stolen["kid"].lstrip("-"), "--stolen").code == "confirmation_required"
    done = made.service("issuing-key", "retire", stolen["kid"].lstrip("-"), "--stolen", "--yes").ok().json
    keys = {key["kid"]: key["state"] for key in confirming(made)}
    assert (keys[stolen["kid"]], keys[done["by"]]) == ("revoked", "here")
    home("product", "add", str(made.export("paint"))).ok()
    assert (home.status()["state"], home.status()["reason"]) == ("licensed", "reissue_due")
    again = made.service("answer", asked(home)["installation_id"]).ok().json
    assert again["how"] == "same"
    assert home("confirm", again["confirmation_id"]).ok().product["reason"] is None


def confirming(publisher: Publisher) -> list[dict[str, str]]:
    found = publisher.service("issuing-key", "list").ok().json["confirmation_keys"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("language", ["1", "2"])
def test_three_mistakes_and_a_person_takes_over(language: str) -> None:
    """Of nothing pressed too; a call that has groups gets a ticket, another one none."""
    found = menu.step(menu.begin().call, language)
    for keys in ("7", "", "9"):
        found = menu.step(found.call, keys)
    assert (found.keys, found.want) == (0, "")
    found = menu.step(menu.step(menu.begin().call, language).call, "1")
    held = found.call._replace(groups=("000004",), ticket="1")
    for keys in ("", "111111", "1"):
        found = menu.step(held._replace(mistakes=found.call.mistakes), keys)
    assert found.want == "ticket" and menu.told(found.call, ticket="12345678").keys == 0


def test_both_languages_say_the_same() -> None:
    english, german = menu._TEXTS["en"], menu._TEXTS["de"]
    assert english.keys() == german.keys()
    holes = [[set(re.findall(r"\{(\w+)\}", text)) for text in texts.values()] for texts in (english, german)]
    assert holes[0] == holes[1]


def test_without_the_extra_the_line_that_installs_it_is_said(home: Home, tmp_path: Path) -> None:
    """A client alone shows digits; what verifies a code is the extra's."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in ("py_ecc", "mnemonic", "segno"):
        (blocked / f"{name}.py").write_text(f"raise ImportError({name!r})\n")
    env = {"PYTHONPATH": str(blocked)}
    assert home("installation-id", env=env).ok()
    for words in (["installation-id", "--words"], ["installation-id", "--qr"], ["confirm", *["abandon"] * 26]):
        refused = home(*words, env=env)
        assert refused.code == "extra_missing" and "pip install 'keyturn[phone]'" in refused.json["error"]["detail"]
