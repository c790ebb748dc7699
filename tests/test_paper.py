"""A key on paper: the words are BIP-39's, and whatever a person does to them is told apart."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st
from mnemonic import Mnemonic

from keyturn.core.errors import KeyturnError
from keyturn.edge import paper

# https://github.com/trezor/python-mnemonic/blob/master/vectors.json: the vectors that BIP-39 names, those of 256 bits.
VECTORS = {
    "00" * 32: "abandon " * 23 + "art",
    "7f" * 32: "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal"
    " winner thank year wave sausage worth title",
    "80" * 32: "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic avoid"
    " letter advice cage absurd amount doctor acoustic bless",
    "ff" * 32: "zoo " * 23 + "vote",
    "68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c": "hamster diagram private dutch cause delay private"
    " meat slide toddler razor book happy fancy gospel tennis maple dilemma loan word shrug inflict delay length",
}


def refusal(typed: list[str]) -> KeyturnError:
    with pytest.raises(KeyturnError) as caught:
        paper.secret(typed)
    assert caught.value.code == "words_mistyped"
    return caught.value


@pytest.mark.parametrize("secret", VECTORS)
def test_the_words_are_those_of_bip_39(secret: str) -> None:
    """Both ways, by the vectors that the proposal names."""
    words = VECTORS[secret].split()
    assert paper.words(bytes.fromhex(secret)) == tuple(words)
    assert paper.secret(words).hex() == secret


@given(st.binary(min_size=32, max_size=32))
def test_words_give_the_key_again_however_they_are_typed(secret: bytes) -> None:
    """In full, by four letters, in capitals, numbered, in lines; and the library's own check agrees."""
    words = paper.words(secret)
    assert Mnemonic("english").check(" ".join(words))
    for typed in (" ".join(words), "\n".join(f"{n}. {word[:4].upper()}" for n, word in enumerate(words, 1)), ",".join(words)):
        assert paper.secret(paper.spelled(typed)) == secret


def test_a_word_that_is_none_is_named_with_what_it_looks_like() -> None:
    """Its place, and words that are near."""
    words = VECTORS["7f" * 32].split()
    error = refusal([*words[:5], "sausge", *words[6:]])
    assert error.data["words"] == [6]
    assert "word 6" in error.detail
    assert "sausage" in error.detail
    assert "word 1" in refusal(["ste", *words[1:]]).detail  # Three letters name no word, unless they are one.
    assert "23" in refusal(words[1:]).detail


def test_another_word_or_another_order_is_noticed_by_the_checksum() -> None:
    """Of changes that keep every word in the list 255 of 256 are found; two that changed places too."""
    words = VECTORS["68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c"].split()
    assert "word" in refusal([words[1], words[0], *words[2:]]).detail
    others = Mnemonic("english").wordlist[:512]
    passed = 0
    for word in others:
        try:
            paper.secret([word, *words[1:]])
            passed += 1
        except KeyturnError:
            continue
    assert passed <= 10  # Two are expected.


def test_what_was_nearly_right_can_be_told_by_who_knows_the_key() -> None:
    """One other word, or two in each other's places: the meant key is among some hundred, with its places."""
    secret = bytes.fromhex("68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c")
    words = list(paper.words(secret))
    wrong = [*words[:8], "zoo", *words[9:]]
    found = list(paper.nearly(wrong))
    assert ((9,), secret) in found
    assert len(found) < 400
    words[2], words[20] = words[20], words[2]
    assert ((3, 21), secret) in list(paper.nearly(words))


class Seen(HTMLParser):
    """What a page holds and would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def test_the_sheet_is_one_file_that_fetches_and_runs_nothing() -> None:
    """Words in order, their code as drawn lines, plain facts, no script, no address, a policy that forbids both."""
    words = paper.words(bytes(range(32)))
    page = paper.sheet("Root key <b>a</b>", {"Root": "a & b", "Made": "2027-01-15"}, words, "keyturn service root restore -o DIR")
    seen = Seen()
    seen.feed(page)
    assert re.findall(r"<li>(\w+)</li>", page) == list(words)
    assert segno.make_qr(" ".join(words), error="q").svg_inline(border=4, omitsize=True) in page
    assert not {"script", "link", "img", "iframe", "b"} & set(seen.tags)
    assert not [value for name, value in seen.attributes if name in ("src", "href") or name.startswith("on")]
    assert "url(" not in page and "@import" not in page and "://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "default-src 'none'" in page
    assert "words ARE the key" in " ".join(seen.text.split())
    assert "a & b" in seen.text and "Root key <b>a</b>" in seen.text
