"""The roots' verbs as real programs: made, signed and adopted by several people, and customers who slept through all of it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ceremonies import Safes
from keyturn.service.transcript import groups
from programs import KEYTURN, PATIENCE, Publisher, environment, run
from show import ceremony
from show.ceremony import bundles_of

pytestmark = pytest.mark.system


@pytest.fixture
def safes(tmp_path: Path) -> Safes:
    return Safes(tmp_path / "safes")


@pytest.fixture
def publisher(tmp_path: Path) -> Any:
    made = Publisher(tmp_path / "publisher", probe=False)
    yield made
    made.close()


def words_of(safes: Safes, name: str) -> list[str]:
    return re.findall(r"<li>(\w+)</li>", (safes.folder / name / f"{name}.html").read_text())


def at_a_terminal(words: list[str], folder: Path, answers: dict[str, str]) -> tuple[int, str]:
    """Run a command line on a terminal of its own; each answer is typed when its question appears. Exit and all output."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(KEYTURN), *words], cwd=folder, env=environment(folder), stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    said, waiting = "", dict(answers)
    while select.select([ours], [], [], PATIENCE)[0]:
        try:
            data = os.read(ours, 4096)
        except OSError:  # The other end is closed: Linux says EIO.
            break
        if not data:
            break
        said += data.decode()
        for question in [question for question in waiting if question in said]:
            os.write(ours, (waiting.pop(question) + "\n").encode())
    os.close(ours)
    return process.wait(PATIENCE), said


# --- one root ---------------------------------------------------------------------------------------------------------


def test_a_root_is_made_anywhere_and_comes_back_from_paper(safes: Safes, tmp_path: Path) -> None:
    """Without a home; the same key from words in a file, from stdin, and by four letters each; nothing secret is printed."""
    made = safes.run("init", "-o", "anna", "--name", "anna").ok()
    words = words_of(safes, "anna")
    assert not any(word in (made.out + made.err).split() for word in words if len(word) > 5)
    assert not list(tmp_path.glob("**/keyturn-home.json"))
    key = (safes.folder / "anna" / "anna.key").read_bytes()
    (safes.folder / "words.txt").write_text("\n".join(words))
    again = safes.run("restore", "-o", "one", "--words-file", "words.txt", "--card", "anna/anna.ktroot").ok().json
    assert (again["name"], again["thumbprint"], again["paper"]) == ("anna", made.json["thumbprint"], None)
    short = " ".join(word[:4].upper() for word in words)
    safes.run("restore", "-o", "two", "--words-file", "-", "--name", "anna", text=short).ok()
    assert (safes.folder / "one" / "anna.key").read_bytes() == (safes.folder / "two" / "anna.key").read_bytes() == key
    wrong = safes.run("restore", "-o", "three", "--words-file", "-", text=" ".join(["zoo", *words[1:]]))
    assert (wrong.exit, wrong.code) == (4, "words_mistyped")
    assert safes.run("init", "-o", "anna", "--name", "anna").code == "already_exists"
    assert safes.run("restore", "-o", "four").code == "usage"  # Off a terminal nobody is asked.
    assert safes.run("init", "-o", "five", "--at", "https://service.invalid").code == "usage"


def test_words_are_typed_unseen_and_a_slip_is_mended_where_it_happened(safes: Safes) -> None:
    """One word at a time or several in a line; the wrong one is asked for again; no word is shown."""
    safes.make("a")
    words = words_of(safes, "a")
    answers = {
        "Word 1 of 24": f"{words[0]} {words[1][:4]}",
        "Word 3 of 24": f"{words[2]} qqqq",
        "Word 4 of 24": " ".join(words[3:]),
    }
    exit_, said = at_a_terminal(
        ["service", "root", "restore", "-o", "again", "--card", "a/a.ktroot"], safes.folder, answers
    )
    assert exit_ == 0, said
    assert "word 4, 'qqqq', is not in the list" in said
    assert not any(f" {word}" in said for word in words if len(word) > 4)
    assert (safes.folder / "again" / "a.key").read_bytes() == (safes.folder / "a" / "a.key").read_bytes()


def test_a_root_needs_no_network(safes: Safes, publisher: Publisher) -> None:
    """Making, reading, signing and restoring open no socket and look up no name."""
    draft = safes.draft(publisher, "d", "--add-keys", "1")
    (safes.folder / "w.txt").write_text("abandon " * 23 + "art")
    watched = (
        "import sys\n"
        "def hook(event, _):\n"
        "    if event.startswith('socket.') and event != 'socket.__new__': sys.exit('network: ' + event)\n"
        "sys.addaudithook(hook)\n"
        "from keyturn.cli import main\nsys.exit(main())"
    )
    for words in (
        ["init", "-o", "n", "--name", "n"], ["restore", "-o", "r", "--words-file", "w.txt"], ["inspect", str(draft)],
        ["sign", str(draft), "--root", str(publisher.home / "root"), "--yes"],
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", watched, "service", "root", *words], cwd=safes.folder, env=environment(safes.folder),
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


# --- signing ----------------------------------------------------------------------------------------------------------


def test_signing_asks_for_the_last_group_of_the_digest(safes: Safes, publisher: Publisher) -> None:
    """On a terminal it must be typed; off one --yes must be given; anything else signs nothing, and changes no file."""
    draft = safes.draft(publisher, "d", "--add-keys", "1")
    before, root = draft.read_bytes(), str(publisher.home / "root")
    line = ["service", "root", "sign", str(draft), "--root", root]
    for words in (line, [*line, "--json"]):
        off = run(words, cwd=safes.folder)
        assert (off.exit, draft.read_bytes()) == (2, before), off
    exit_, said = at_a_terminal(line, safes.folder, {"Last group": "0000"})
    assert (exit_, draft.read_bytes()) == (2, before)
    assert "KEYTURN ROOT CEREMONY" in said
    assert not list((publisher.home / "root").glob("*.json"))
    digest = safes.run("inspect", str(draft)).ok().json["digest"]
    exit_, said = at_a_terminal(line, safes.folder, {"Last group": groups(digest)[-1].lower()})
    assert exit_ == 0, said
    assert "Still missing: nothing" in said
    signed = json.loads(draft.read_text())["signatures"]
    assert len(signed) == 1
    again = safes.run("sign", str(draft), "--root", root).ok().json  # Nothing is asked: nothing is to be done.
    assert json.loads(draft.read_text())["signatures"] == signed
    assert again["missing"] is None


def test_a_root_signs_one_bundle_of_a_number_and_none_that_is_older(safes: Safes, publisher: Publisher, tmp_path: Path) -> None:
    """Another draft of the number needs --instead; after a later bundle nothing helps. A root from paper remembers nothing."""
    root = str(publisher.home / "root")
    one, other = (safes.draft(publisher, name, "--add-keys", "1") for name in "ab")
    safes.sign(one, root).ok()
    refused = safes.run("sign", str(other), "--root", root, "--yes")
    assert (refused.code, "another draft of bundle 2" in refused.json["error"]["detail"]) == ("trust_invalid", True)
    safes.run("sign", str(other), "--root", root, "--yes", "--instead").ok()
    publisher.service("root", "adopt", str(other)).ok()
    copy = Path(shutil.copytree(publisher.home, tmp_path / "copy"))
    third = safes.draft(publisher, "c", "--add-keys", "1")
    safes.sign(third, root).ok()
    # The thief of a copy of the home of yesterday has somebody sign what forks.
    (copy / "bundles.json").write_text(json.dumps({"v": 1, "bundles": bundles_of(publisher)[:1]}))
    run(["service", "root", "draft", "--home", str(copy), "-o", str(safes.folder / "f.ktdraft"), "--threshold", "1",
         "--add-keys", "2"], cwd=safes.folder).ok()  # fmt: skip
    fork = safes.run("sign", "f.ktdraft", "--root", root, "--yes", "--instead")
    assert (fork.code, "fork" in fork.json["error"]["detail"]) == ("trust_invalid", True)
    assert json.loads((safes.folder / "f.ktdraft").read_text())["signatures"] == []


def test_copies_are_signed_apart_and_adopted_together(safes: Safes, publisher: Publisher) -> None:
    """Three people with three copies, and nobody carries anything twice."""
    safes.make("abc")
    draft = safes.draft(
        publisher, "d", *(word for name in "abc" for word in ("--root", safes.card(name))), "--threshold", "2"
    )
    copies = [Path(shutil.copy(draft, safes.folder / f"copy-{n}.ktdraft")) for n in range(3)]
    places: list[str | Path] = [publisher.home / "root", "a", "c"]
    for place, path in zip(places, copies, strict=True):
        safes.sign(path, place).ok()
    few = publisher.service("root", "adopt", str(copies[0]), str(copies[1]))
    assert (few.code, len(bundles_of(publisher))) == ("trust_invalid", 1)
    done = publisher.service("root", "adopt", *map(str, copies)).ok().json
    assert (done["bundle"], done["changed"]) == (2, True)
    assert publisher.service("root", "adopt", *map(str, copies)).ok().json["changed"] is False


def test_drafts_say_what_they_cannot_be(safes: Safes, publisher: Publisher) -> None:
    """Nothing to change, no threshold, a card that is false, a root that is not there; no key is made for any of them."""
    safes.make("ab")
    output = ["root", "draft", "-o", str(safes.folder / "x.ktdraft")]
    card = safes.card("a")
    false = safes.folder / "false.ktroot"
    false.write_text(Path(card).read_text().replace('"name": "a"', '"name": "b"'))
    issuing = sorted((publisher.home / "root" / "issuing").iterdir())
    cases = [
        ([], "usage"), (["--root", card], "usage"), (["--add-keys", "1", "--issuing-keys", card], "usage"),
        (["--root", str(false), "--threshold", "1", "--add-keys", "1"], "signature_invalid"),
        (["--root", card, "--threshold", "2", "--add-keys", "1"], "trust_invalid"),
        (["--keep-root", "zz", "--root", card, "--threshold", "1"], "not_found"),
        (["--threshold", "2", "--add-keys", "1"], "trust_invalid"), (["--issuing-keys", card], "file_malformed"),
        (["--root", str(safes.folder / "none"), "--threshold", "1"], "file_malformed"),
    ]  # fmt: skip
    for options, code in cases:
        result = publisher.service(*output, *options)
        assert result.code == code, (options, result.out)
    assert sorted((publisher.home / "root" / "issuing").iterdir()) == issuing
    assert not (safes.folder / "x.ktdraft").exists()
    # Beside the root of now, by the first groups of its name as they are read aloud.
    told = safes.run("inspect", str(publisher.home / "bundles.json")).ok().json
    spoken = told["roots"][0]["spoken"]
    publisher.service(*output, "--keep-root", spoken[:9], "--root", card, "--threshold", "2").ok()
    assert "2 of 2 roots must sign" in safes.run("inspect", str(safes.folder / "x.ktdraft")).ok().json["transcript"]
    assert safes.run("inspect", card).ok().json["kind"] == "root"
    for name in ("d.html", "a.key"):
        assert safes.run("inspect", str(safes.folder / "a" / name)).exit == 4


# --- from one root to three of five to two of three -------------------------------------------------------------------


def test_three_hand_overs_while_customers_sleep(safes: Safes, publisher: Publisher, tmp_path: Path) -> None:
    """The service never stops. Who was licensed stays so; who asked before, who asks again and who never asked catch up. Old,
    forked and too few: refused by the service and by customers; a retired root signs nothing, and forks no first contact.
    """
    publisher.start()
    found = ceremony.asleep(publisher, tmp_path, 1)
    handed = ceremony.hand_overs(publisher, safes, tmp_path)
    ceremony.woken(found, publisher.folder / "paintest.ktproduct")
    for home in (*found.asked, *found.added, *found.returning):
        assert ceremony.known_to(home) == list(handed.chain.texts)
    assert ceremony.refused(publisher, safes, handed, [found.asked[0], found.returning[0]], tmp_path) == 10
    assert ceremony.first_contact(publisher, handed.chain, tmp_path) == ("Forged", "trust_invalid")
    assert publisher.stop() == 0
    assert publisher.service("verify").ok().json["ok"]


def test_rotate_says_what_it_did_and_status_what_ends(publisher: Publisher) -> None:
    """On the first day there is nothing to do and nothing to fear; every key is listed with its state and days."""
    done = publisher.service("issuing-key", "rotate").ok().json
    assert done == {"brought": [], "authorised": 0, "bundle": None, "due": None}
    status = publisher.service("status").ok().json
    assert status["alarms"] == []
    assert status["authorised_days"] in (763, 764)
    keys = publisher.service("issuing-key", "list").ok().json["keys"]
    assert [key["state"] for key in keys] == (["here"] * 2 + ["sealed"] * 8) * 2
    assert [key["days_left"] for key in keys[:3]] in ([88, 163, 238], [89, 164, 239])
