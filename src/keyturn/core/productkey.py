"""Product keys: 25 symbols that a person can type, and the proof that somebody holds one.

Keeps: the alphabet, the format, what is forgiven on input and what is found out about a mistake; the key's
derived secret K and the proof made with it.
Leaves to others: who may use a key how often (``issuance``), how K is sealed (the service), how a person is asked.

- 29 symbols without look-alikes. Every left-out letter folds onto the symbol it looks like, and no symbol of the
  alphabet folds at all, so folding can never turn one key into another.
- A key is 2 check symbols, then 23 data symbols: one number below 2**111, least significant symbol first, made of
  80 secret bits (low) and 31 public ones (high). The last group is therefore made of public bits alone: showing
  it (``partial``) tells nothing about the secret that the product ID does not tell.
- The check symbols are a Reed-Solomon code over GF(29). One wrong symbol is located and its correction offered; every
  swap of two neighbours is detected and its group named. A correction is never applied: the person decides.
- A key is a secret. ``repr`` and ``str`` show its last group only, and no error's detail holds more than one symbol
  of it.

The page ``docs/product-keys.md`` has the format in words, with a worked example.
"""

from __future__ import annotations

import hashlib
import hmac
import operator
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.model import Channel, ProductName, b64u

ALPHABET: Final = "0123456789ACDEFGHJKMNPQRTVWXY"
FOLDS: Final = {"B": "8", "I": "1", "L": "1", "O": "0", "S": "5", "U": "V", "Z": "2"}
SYMBOLS: Final = 25
GROUP: Final = 5
CHECKS: Final = 2
SECRET_BYTES: Final = 10
MAX_SERIAL: Final = (1 << 28) - 1
MAX_INPUT: Final = 256  # Characters; the most spaced-out typing of a key is well below.

_P: Final = len(ALPHABET)  # 29, a prime, so that symbols are the elements of a field.
_VALUE: Final = {symbol: value for value, symbol in enumerate(ALPHABET)}
_DATA_LIMIT: Final = 1 << 111  # 29**23 is about 1.66 times as much; what lies between is no key.
_SECRET_BITS: Final = 8 * SECRET_BYTES
# Position i weighs 2**i. Two generates the 28 elements other than zero, so the 25 weights differ.
_WEIGHTS: Final = tuple(pow(2, place, _P) for place in range(SYMBOLS))
_INVERSE: Final = (0, *(pow(value, -1, _P) for value in range(1, _P)))
# Serials follow one another; multiplied by the golden section's odd number (modulo 2**31) they do not look so, and
# their leading bits, which become the last group, differ most. A public bijection: order, not secrecy. The shift makes
# a key of zeros alone belong to a channel that does not exist.
_PUBLIC_BITS: Final = 31
_SPREAD: Final = 0x4F1BBCDD
_SHIFT: Final = 0x3243F6AD
_GATHER: Final = pow(_SPREAD, -1, 1 << _PUBLIC_BITS)

# Letters of other scripts that look like one of ours in capitals, and for some in small letters: a key is sometimes
# typed with the wrong keyboard, or pasted from a page that replaced letters. They fold like the letter they look like.
_LOOK_ALIKES: Final = {
    # Cyrillic
    "А": "A", "В": "B", "Е": "E", "Ё": "E", "К": "K", "М": "M", "Н": "H", "О": "O", "Р": "P", "С": "C", "Т": "T",
    "У": "Y", "Ү": "Y", "Х": "X", "Ѕ": "S", "І": "I", "Ї": "I", "Ӏ": "I", "Ј": "J", "Ԛ": "Q", "Ԝ": "W", "З": "3",
    "Ѵ": "V", "Ԁ": "D", "Һ": "H", "Ԍ": "G",
    # Greek
    "Α": "A", "Β": "B", "Ε": "E", "Ζ": "Z", "Η": "H", "Ι": "I", "Κ": "K", "Μ": "M", "Ν": "N", "Ο": "O", "Ρ": "P",
    "Τ": "T", "Υ": "Y", "Χ": "X", "Ϳ": "J", "Ϝ": "F",
    # Latin letters and signs that stand in for ours
    "ı": "I", "ȷ": "J", "Ø": "O", "|": "I",
}  # fmt: skip
_QUOTES: Final = frozenset("\"'`´„“”‚‘’«»‹›")
_SEPARATORS: Final = frozenset("_.·•/,;:=~−‒⁃⸺ー一") | _QUOTES
_PLACES: Final = ("1st", "2nd", "3rd", "4th", "5th")


class ProductKey(NamedTuple):
    """One product key. ``serial`` is public and at most 28 bits; ``secret`` is 10 bytes of chance."""

    channel: Channel
    serial: int
    secret: bytes

    @property
    def text(self) -> str:
        """The whole key, ``XXXXX-XXXXX-XXXXX-XXXXX-XXXXX``. A secret: show it once, write it to no log."""
        symbols = "".join([ALPHABET[value] for value in _encode(_pack(self))])
        return "-".join(symbols[start : start + GROUP] for start in range(0, SYMBOLS, GROUP))

    @property
    def partial(self) -> str:
        """The last group, by which a person recognises the key. It holds nothing of the secret."""
        return partial(self.text)

    def __repr__(self) -> str:
        return f"<product key …{self.partial}>"

    def __str__(self) -> str:
        return repr(self)


def partial(text: str) -> str:
    """The last group of a key's text."""
    return text[-GROUP:]


def make(channel: Channel, serial: int, secret: bytes) -> ProductKey:
    """Return the key of these parts.

    Raises: ValueError if ``serial`` is not 0 to 2**28 - 1 or ``secret`` not 10 bytes (a caller's fault).
    """
    if not 0 <= serial <= MAX_SERIAL:
        raise ValueError("a serial has 28 bits")
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a product key has {SECRET_BYTES} secret bytes")
    return ProductKey(channel, serial, bytes(secret))


def parse(text: str) -> ProductKey:
    """Return the key a person typed.

    1. Fold what looks alike, drop what separates.
    2. Refuse what is too long, too short or foreign.
    3. Compute the two syndromes of the code; both zero: no mistake is visible.
    4. Otherwise say where the mistake is, as far as the code can tell.
    5. Take the number apart.

    Raises:
        KeyturnError ``key_malformed``: characters that no key has, or too few or too many; ``data["groups"]`` names the
            groups that have another length than 5 where dashes show them.
        KeyturnError ``key_mistyped``: a wrong symbol, a swap of neighbours, or several mistakes. ``data["groups"]``
            are the groups to look at (1 to 5); ``data["suggestion"]`` is None or, for one wrong symbol,
            ``{"group", "place", "found", "expected"}``.
    """
    # 1. and 2.
    word = _symbols(text)
    # 3.
    first, second = _syndromes(word)
    if first or second:
        # 4.
        raise _mistyped(word, first, second)
    # 5.
    key = _unpack(_number(word))
    if key is None:
        raise KeyturnError("key_malformed", "no product key of this kind exists; a newer Keyturn may know it")
    return key


def derive(key: ProductKey, product: ProductName) -> bytes:
    """Return K, 32 bytes: HKDF-SHA256 of the key's 14 bytes, bound to the product. The service keeps only this."""
    # Imported here because most runs of the client never derive a key (cold start).
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    info = framed("keyturn key v1", str(product))
    return HKDF(SHA256(), length=32, salt=None, info=info).derive(_pack(key).to_bytes(14, "big"))


def proof(k: bytes, product: ProductName, serial: int, jkt: str, nonce: str) -> str:
    """Return the proof that the maker of a request holds the key.

    ``jkt`` is the thumbprint of the installation key that signs the request, ``nonce`` the request's own: a proof is
    of no use in anybody else's request, nor in another one of the same installation.
    """
    message = framed("keyturn proof v1", str(product), str(serial), jkt, nonce)
    return b64u(hmac.digest(k, message, hashlib.sha256))


def proof_holds(given: str, k: bytes, product: ProductName, serial: int, jkt: str, nonce: str) -> bool:
    """Say in constant time whether ``given`` is the proof that K makes of these."""
    return hmac.compare_digest(proof(k, product, serial, jkt, nonce).encode(), given.encode(errors="replace"))


# --- the code ---------------------------------------------------------------------------------------------------------


def _pack(key: ProductKey) -> int:
    public = ((key.serial << 3 | key.channel.number) * _SPREAD + _SHIFT) % (1 << _PUBLIC_BITS)
    return public << _SECRET_BITS | int.from_bytes(key.secret, "big")


def _unpack(number: int) -> ProductKey | None:
    if number >= _DATA_LIMIT:
        return None
    public = ((number >> _SECRET_BITS) - _SHIFT) * _GATHER % (1 << _PUBLIC_BITS)
    try:
        channel = Channel.from_number(public & 7)
    except KeyError:
        return None
    secret = number & ((1 << _SECRET_BITS) - 1)
    return ProductKey(channel, public >> 3, secret.to_bytes(SECRET_BYTES, "big"))


def _encode(number: int) -> list[int]:
    """Two check symbols, then ``number`` in base 29, least significant first; both syndromes of the whole are zero."""
    word = [0, 0]
    for _ in range(SYMBOLS - CHECKS):
        number, value = divmod(number, _P)
        word.append(value)
    # c0 + c1 = -first and c0 + 2 c1 = -second, for the syndromes of the data alone.
    first, second = _syndromes(word)
    word[1] = (first - second) % _P
    word[0] = (-first - word[1]) % _P
    return word


def _number(word: Sequence[int]) -> int:
    number = 0
    for value in reversed(word[CHECKS:]):
        number = number * _P + value
    return number


def _syndromes(word: Sequence[int]) -> tuple[int, int]:
    return sum(word) % _P, sum(map(operator.mul, _WEIGHTS, word)) % _P


# --- what a person typed ----------------------------------------------------------------------------------------------


def _symbols(text: str) -> list[int]:
    """The 25 symbol values in ``text``. Raises: KeyturnError ``key_malformed``."""
    if len(text) > MAX_INPUT:
        raise KeyturnError("key_malformed", f"a product key has {SYMBOLS} symbols; this text is {len(text)} long")
    word: list[int] = []
    foreign: list[str] = []
    lengths = [0]  # of the groups, as far as separators show them
    for character in unicodedata.normalize("NFKC", text):
        if _separates(character):
            if lengths[-1]:
                lengths.append(0)
            continue
        symbol = _fold(character)
        if symbol is None:
            foreign.append(character)
        else:
            word.append(_VALUE[symbol])
        lengths[-1] += 1
    if foreign:
        raise KeyturnError(
            "key_malformed",
            f"{_named(foreign)} cannot be part of a product key: it has letters and digits only",
            data={"characters": sorted(set(foreign))},
        )
    if len(word) != SYMBOLS:
        lengths = [length for length in lengths if length]
        groups = [number for number, length in enumerate(lengths, 1) if length != GROUP] if len(lengths) == 5 else []
        where = f"; look at {_groups(groups)}" if groups else ""
        difference = SYMBOLS - len(word)
        amount = f"{abs(difference)} too {'few' if difference > 0 else 'many'}"
        detail = f"{len(word)} symbols, {amount}: a product key has {SYMBOLS}{where}"
        raise KeyturnError("key_malformed", detail, data={"groups": groups})
    return word


def _separates(character: str) -> bool:
    # Zs, Zl, Zp: spaces. Cc: tab and line end. Cf: invisible ones, such as a soft hyphen or the mark before a file.
    return character in _SEPARATORS or unicodedata.category(character) in {"Pd", "Zs", "Zl", "Zp", "Cc", "Cf"}


def _fold(character: str) -> str | None:
    """The symbol that ``character`` stands for, or None."""
    upper = character.upper()
    letter = _LOOK_ALIKES.get(upper) or _LOOK_ALIKES.get(character) or upper
    if not letter.isascii():
        digit = unicodedata.decimal(character, None)  # The digits of any script.
        letter = letter if digit is None else str(digit)
    symbol = FOLDS.get(letter, letter)
    return symbol if symbol in _VALUE else None


def _mistyped(word: Sequence[int], first: int, second: int) -> KeyturnError:
    """What can be told from the syndromes about a word that is not of the code.

    - One wrong symbol, by e at position i: first = e, second = e * 2**i. So the position is their quotient.
    - Two neighbours swapped: first = 0, since a sum does not know order.
    """
    if first:
        place = _located(word, first, second)
        if place is not None:
            right = (word[place] - first) % _P
            group, within = divmod(place, GROUP)
            found, expected = ALPHABET[word[place]], ALPHABET[right]
            return KeyturnError(
                "key_mistyped",
                f"group {group + 1}: the {_PLACES[within]} symbol should probably be {expected} instead of {found}",
                data={
                    "groups": [group + 1],
                    "suggestion": {"group": group + 1, "place": within + 1, "found": found, "expected": expected},
                },
            )
    else:
        groups = sorted(set(_swapped(word, second)))
        if groups:
            detail = f"two neighbouring symbols may have changed places: look at {_groups(groups)}"
            return KeyturnError("key_mistyped", detail, data={"groups": groups, "suggestion": None})
    everywhere = list(range(1, SYMBOLS // GROUP + 1))
    detail = "more than one symbol is wrong: compare every group with the key as it was issued"
    return KeyturnError("key_mistyped", detail, data={"groups": everywhere, "suggestion": None})


def _located(word: Sequence[int], first: int, second: int) -> int | None:
    """The one position whose change alone makes a key of ``word``, if there is one."""
    weight = second * _INVERSE[first] % _P
    if weight not in _WEIGHTS:
        return None
    place = _WEIGHTS.index(weight)
    candidate = list(word)
    candidate[place] = (word[place] - first) % _P
    return place if _unpack(_number(candidate)) is not None else None


def _swapped(word: Sequence[int], second: int) -> Iterable[int]:
    """The groups (1 to 5) of every pair of neighbours that, swapped back, makes a key of ``word``."""
    for place in range(SYMBOLS - 1):
        # Swapping i and i + 1 adds (w[i + 1] - w[i]) * (2**i - 2**(i + 1)) = (w[i] - w[i + 1]) * 2**i.
        if (second + (word[place] - word[place + 1]) * _WEIGHTS[place]) % _P:
            continue
        candidate = list(word)
        candidate[place : place + 2] = word[place + 1], word[place]
        if _unpack(_number(candidate)) is not None:
            yield place // GROUP + 1
            yield (place + 1) // GROUP + 1


def _groups(groups: Sequence[int]) -> str:
    if len(groups) == 1:
        return f"group {groups[0]}"
    return f"groups {', '.join(map(str, groups[:-1]))} and {groups[-1]}"


def _named(characters: Sequence[str]) -> str:
    shown = [
        repr(character) if character.isprintable() else f"U+{ord(character):04X}"
        for character in dict.fromkeys(characters)
    ]
    return ", ".join(shown[:5]) + (" and others" if len(shown) > 5 else "")


def framed(*parts: str) -> bytes:
    """Each part behind its length in four bytes, so that no two lists of parts are the same bytes."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join([len(part).to_bytes(4, "big") + part for part in encoded])
