"""A root key on paper: 24 words, a QR code of the same words, and the sheet that both are printed on.

Keeps: the words of BIP-39 (English list), reading what a person typed from them, and the page. Leaves to others: where the
page is written and what becomes of the key (``service.rootkey``).

- The words *are* the key: they spell its 32 secret bytes (BIP-39's entropy), with 8 bits of checksum. A wallet's further
  step (PBKDF2) is not taken.
- Four letters name a word: no two words of the list begin with the same four.
- The page is one file without scripts and without anything fetched from elsewhere.
"""

from __future__ import annotations

import functools
import hashlib
import html
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence

import segno
from mnemonic import Mnemonic

from keyturn.core.errors import KeyturnError
from keyturn.edge.words import english

COUNT = 24
_BITS = 11  # Of a word: the list has 2048.
_SPELLED = re.compile(r"[a-z]+")


@functools.cache
def _book() -> Mnemonic:
    return Mnemonic("english")


def words(secret: bytes) -> tuple[str, ...]:
    """The 24 words of a key's 32 secret bytes."""
    return tuple(_book().to_mnemonic(secret).split())


def spelled(text: str) -> list[str]:
    """The words in what a person typed or a QR code said: case, numbers before words, commas and lines mean nothing."""
    return _SPELLED.findall(text.lower())


def word(typed: str, place: int) -> str:
    """The word of the list that ``typed`` is, in full or by at least its first four letters; ``place`` counts from 1.

    Raises: KeyturnError ``words_mistyped`` naming the place, and words that look alike.
    """
    return english().word(typed, place)


def secret(typed: Sequence[str]) -> bytes:
    """The 32 secret bytes that 24 words spell.

    1. There are 24. 2. Each is in the list. 3. The checksum holds.

    Raises: KeyturnError ``words_mistyped``.
    """
    # 1.
    if len(typed) != COUNT:
        raise KeyturnError("words_mistyped", f"a key has {COUNT} words, these are {len(typed)}")
    # 2.
    found = [word(item, place) for place, item in enumerate(typed, 1)]
    # 3.
    key = _key([_place(item) for item in found])
    if key is None:
        raise KeyturnError("words_mistyped", "every word is in the list, but one is another word, or two changed places")
    return key


def nearly(typed: Sequence[str]) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """Every key that one other word, or two words in each other's places, would make: which places, and its secret bytes.

    Some hundred of them pass the checksum; whoever knows the public key can tell which one was meant.
    """
    found = [_place(word(item, place)) for place, item in enumerate(typed, 1)]
    for place in range(len(found)):
        for other in range(1 << _BITS):
            key = _key([*found[:place], other, *found[place + 1 :]])
            if key is not None:
                yield (place + 1,), key
    for one, two in itertools.combinations(range(len(found)), 2):
        changed = list(found)
        changed[one], changed[two] = found[two], found[one]
        key = _key(changed)
        if key is not None:
            yield (one + 1, two + 1), key


def _place(item: str) -> int:
    return _places()[item]


@functools.cache
def _places() -> dict[str, int]:
    return {item: number for number, item in enumerate(_book().wordlist)}


def _key(numbers: Sequence[int]) -> bytes | None:
    """The 32 bytes that 24 words of these numbers spell, if the last 8 bits are their checksum (BIP-39).

    The library writes the words and this reads them, so that a mistake of either is found when a key is made.
    """
    bits = functools.reduce(lambda value, number: value << _BITS | number, numbers, 0)
    key = (bits >> 8).to_bytes(32, "big")
    return key if hashlib.sha256(key).digest()[0] == bits & 0xFF else None


def sheet(title: str, facts: Mapping[str, str], found: Sequence[str], restore: str) -> str:
    """The printable page: ``facts`` above, the words in four columns, their QR code, how to come back (``restore``)."""
    told = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items())
    listed = "".join(f"<li>{html.escape(item)}</li>" for item in found)
    # Error correction Q: a fold or a drop of water takes up to a quarter of it away.
    code = segno.make_qr(" ".join(found), error="q").svg_inline(border=4, omitsize=True)
    return _SHEET.format(title=html.escape(title), facts=told, words=listed, code=code, restore=html.escape(restore))


_SHEET = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>
@page {{ size: A4; margin: 18mm; }}
:root {{ color-scheme: light; }}
body {{ font: 11pt/1.45 serif; color: #000; background: #fff; max-width: 174mm; margin: 0 auto; }}
h1 {{ font-size: 18pt; margin: 0 0 3mm; }}
.warning {{ border: 2pt solid #000; padding: 3mm 4mm; font-weight: bold; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 1mm 5mm; margin: 5mm 0; }}
dt {{ font-weight: bold; }}
dd {{ margin: 0; font-family: monospace; }}
ol {{ columns: 4; font: 13pt/1.9 monospace; border: 1pt solid #000; padding: 3mm 3mm 3mm 14mm; margin: 0; }}
.code {{ display: grid; grid-template-columns: 52mm 1fr; gap: 8mm; margin-top: 6mm; break-inside: avoid; }}
.code svg {{ width: 52mm; height: 52mm; }}
.line {{ border-bottom: 0.6pt solid #000; height: 9mm; }}
p {{ margin: 0 0 3mm; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p class="warning">These 24 words ARE the key. Whoever has read them, photographed them or scanned the code can sign as this
root, for ever. Nothing else is needed, and no password protects them.</p>
<dl>{facts}</dl>
<ol>{words}</ol>
<div class="code">
<div>{code}</div>
<div>
<p>The code holds the same words. Scan it with a computer that is never connected, not with a telephone.</p>
<p>To have the key again: <code>{restore}</code></p>
<p>Print this on a printer that keeps nothing and is on no network, look whether every word can be read, put it into a sealed
envelope, and then destroy the file.</p>
<p class="line">Kept by</p>
<p class="line">Where</p>
<p class="line">Seal, date</p>
</div>
</div>
</body>
</html>
"""
