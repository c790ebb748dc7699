"""One root's files: key, card, sheet, memory; made once, closed to others, and the same again from paper."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.core.model import b64u
from keyturn.core.trust import Floor
from keyturn.edge import keystore, paper
from keyturn.service import rootkey
from keyturn.service.rootkey import Card
from keyturn.service.transcript import spoken
from make_vectors import key

NOW = 1_800_000_000
SECRET = bytes(range(32))


def code_of(action: Any) -> str:
    with pytest.raises(KeyturnError) as caught:
        action()
    return caught.value.code


@pytest.fixture
def made(tmp_path: Path) -> rootkey.Made:
    return rootkey.make(tmp_path / "anna", "anna", SECRET, now=NOW)


def sheet_words(made: rootkey.Made) -> list[str]:
    assert made.paper_file is not None
    return re.findall(r"<li>(\w+)</li>", made.paper_file.read_text())


def test_key_card_and_sheet_belong_together_and_only_the_card_is_public(made: rootkey.Made) -> None:
    """The folder and what is secret in it are their owner's; the card names the key and its own key signed it."""
    signer = keystore.load(made.key_file)
    assert signer is not None
    card = rootkey.read_card(made.card_file.read_bytes())
    assert card == made.card == Card("anna", signer.public, NOW)
    assert made.paper_file is not None
    modes = [path.stat().st_mode & 0o777 for path in (made.key_file.parent, made.key_file, made.paper_file, made.card_file)]
    assert modes == [0o700, 0o600, 0o600, 0o644]
    text = made.paper_file.read_text()
    assert spoken(card.kid) in text
    for secret in (SECRET.hex(), b64u(SECRET), made.key_file.read_text().splitlines()[1]):
        assert secret not in made.card_file.read_text()


def test_nothing_is_overwritten(made: rootkey.Made, tmp_path: Path) -> None:
    """A second root of the name, and a restore over one, leave every file as it is."""
    before = {path.name: path.read_bytes() for path in (tmp_path / "anna").iterdir()}
    assert code_of(lambda: rootkey.make(tmp_path / "anna", "anna", bytes(32), now=NOW)) == "already_exists"
    again = list(paper.words(bytes(32)))
    assert code_of(lambda: rootkey.restore(tmp_path / "anna", again, name="anna", card=None, now=NOW)) == "already_exists"
    assert {path.name: path.read_bytes() for path in (tmp_path / "anna").iterdir()} == before
    assert code_of(lambda: rootkey.make(tmp_path / "x", "../anna", bytes(32), now=NOW)) == "usage"


def test_the_sheet_gives_the_same_key_and_card_again(made: rootkey.Made, tmp_path: Path) -> None:
    """Byte for byte, with the card at hand; without it the key alone."""
    words = sheet_words(made)
    again = rootkey.restore(tmp_path / "again", words, name="anna", card=made.card, now=NOW + 5)
    assert again.key_file.read_bytes() == made.key_file.read_bytes()
    assert again.card_file.read_bytes() == made.card_file.read_bytes()
    assert again.paper_file is None
    bare = rootkey.restore(tmp_path / "bare", [word[:4] for word in words], name="b", card=None, now=NOW + 5)
    assert bare.card.kid == made.card.kid


def test_with_the_card_the_wrong_word_is_named(made: rootkey.Made, tmp_path: Path) -> None:
    """One other word, two in each other's places, another root's sheet, and no file is made."""
    words = sheet_words(made)
    cases = {
        "look at word 7": [*words[:6], "zoo", *words[7:]],
        "look at word 2 and 24": [words[0], words[23], *words[2:23], words[1]],
        "more than one word differs": list(paper.words(bytes(32))),
        "is not in the list": ["zzzz", *words[1:]],
        "24 words": words[:-1],
    }
    for told, typed in cases.items():
        with pytest.raises(KeyturnError) as caught:
            rootkey.restore(tmp_path / "wrong", typed, name="anna", card=made.card, now=NOW)
        assert caught.value.code == "words_mistyped"
        assert told in caught.value.detail, (told, caught.value.detail)
    assert not (tmp_path / "wrong").exists()


def test_a_false_card_is_refused(made: rootkey.Made) -> None:
    """Another key under its name, another name, no proof of the key, or what is no card."""
    value = json.loads(made.card_file.read_text())
    other = key("ceremony stranger")
    changes: dict[str, tuple[dict[str, Any], str]] = {
        "another key": ({"jwk": jws.jwk(other.public), "thumbprint": other.kid}, "signature_invalid"),
        "another thumbprint": ({"thumbprint": other.kid}, "signature_invalid"),
        "another name": ({"name": "berta"}, "signature_invalid"),
        "another time": ({"made_at": "2030-01-01T00:00:00Z"}, "signature_invalid"),
        "no signature": ({"signature": None}, "file_malformed"),
        "a short signature": ({"signature": "AAAA"}, "file_malformed"),
        "a path as its name": ({"name": "../berta"}, "file_malformed"),
        "no key": ({"jwk": {}}, "file_malformed"),
        "no time": ({"made_at": "soon"}, "file_malformed"),
        "another kind": ({"keyturn": "draft"}, "file_malformed"),
        "another version": ({"v": 2}, "file_malformed"),
    }
    for story, (change, code) in changes.items():
        data = json.dumps({**value, **change}).encode()
        assert code_of(lambda data=data: rootkey.read_card(data)) == code, story
    for data in (b"", b"{}", b"x" * 5000, b'{"keyturn":"root","v":1}'):
        assert code_of(lambda data=data: rootkey.read_card(data)) == "file_malformed"
    assert rootkey.read_card(json.dumps(value).encode()) == made.card


def test_a_root_is_opened_by_its_folder_or_its_file(made: rootkey.Made, tmp_path: Path) -> None:
    """One key in the folder; none, several, or a file that others may read are refused."""
    folder = made.key_file.parent
    assert rootkey.opened(folder).signer.kid == rootkey.opened(made.key_file).signer.kid == made.card.kid
    assert code_of(lambda: rootkey.opened(tmp_path)) == "usage"
    assert code_of(lambda: rootkey.opened(tmp_path / "none.key")) == "usage"
    rootkey.make(folder, "berta", bytes(32), now=NOW)
    assert code_of(lambda: rootkey.opened(folder)) == "usage"
    made.key_file.chmod(0o640)
    assert code_of(lambda: rootkey.opened(made.key_file)) == "permission_denied"


def test_a_root_remembers_what_it_signed_of_each_publisher(made: rootkey.Made) -> None:
    """The newest of each; in a file of its own beside the key; a damaged memory is no empty one."""
    root = rootkey.opened(made.key_file)
    assert rootkey.newest_signed(root, "one") is None
    rootkey.remember(root, "one", Floor(2, "x"))
    rootkey.remember(root, "two", Floor(7, "y"))
    rootkey.remember(root, "one", Floor(3, "z"))
    assert rootkey.newest_signed(root, "one") == Floor(3, "z")
    assert rootkey.newest_signed(root, "two") == Floor(7, "y")
    assert root.memory == made.key_file.parent / "anna.signed.json"
    assert rootkey.opened(made.key_file.parent).memory == root.memory  # It is not taken for a key.
    for text in ('{"signed": []}', '{"signed": {"one": {"number": "3", "digest": "z"}}}', "nothing"):
        root.memory.write_text(text)
        assert code_of(lambda: rootkey.newest_signed(root, "one")) == "file_malformed"
