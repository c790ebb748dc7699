"""One root key as its holder has it: the key, its public card, its sheet of paper, and what it has signed.

Keeps: the files in a holder's folder. Leaves to others: words and sheet (``edge.paper``), what a root signs (``ceremony``).

- ``NAME.key`` is the key (mode 0600), ``NAME.ktroot`` its card, which may be shown to everybody; ``NAME.html`` is printed and
  destroyed.
- A card is signed by its own key, so that a root nobody holds does not come into a trust bundle by a slip.
- ``NAME.signed.json`` remembers the newest bundle that this root signed of each publisher: it signs none that is older, and no
  second one of a number without being told so. A root restored from paper remembers nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.core.model import b64u, check_slug, parse_rfc3339, rfc3339
from keyturn.core.trust import Floor
from keyturn.edge import files, keystore, paper, sodium
from keyturn.edge.archive import faults
from keyturn.edge.keystore import Signer
from keyturn.service.transcript import spoken

MAX_CARD = 4096
# Before what a card's signature covers: no other document of Keyturn begins so.
_LABEL = b"keyturn card v1\0"


class Card(NamedTuple):
    """The public half of a root: what its holder calls it, the key (raw), and when it was made (NumericDate)."""

    name: str
    public: bytes
    made_at: int

    @property
    def kid(self) -> str:
        return jws.thumbprint(self.public)


class Made(NamedTuple):
    """The files of a new or restored root. ``paper`` is None for a restored one."""

    card: Card
    key_file: Path
    card_file: Path
    paper_file: Path | None


class Root(NamedTuple):
    """A root key that can sign, and where its memory lies."""

    signer: Signer
    memory: Path


def make(folder: Path, name: str, secret: bytes, *, now: int) -> Made:
    """Make a root of 32 random bytes in ``folder``.

    1. The words of its sheet, read back, are the key: a sheet that cannot restore is worse than none.
    2. The key; then the sheet; the card last, so that a card means that all of it is there.

    Raises: KeyturnError ``usage`` for a name that is no slug, ``already_exists``, ``storage_failed``, ``permission_denied``.
    """
    # 1.
    words = paper.words(secret)
    if paper.secret(words) != secret:
        raise KeyturnError("internal", "the words of a new root do not give it back")
    # 2.
    signer = _keep(folder, name, secret)
    card = Card(name, signer.public, now)
    facts = {"Root": name, "Public key": spoken(card.kid), "Made": str(rfc3339(now))[:10]}
    sheet = paper.sheet(f"Root key {name}", facts, words, f"keyturn service root restore -o DIR --name {name}")
    files.write(folder / f"{name}.html", sheet.encode(), files.PRIVATE)
    _write_card(folder, card, signer)
    return Made(card, folder / f"{name}.key", folder / f"{name}.ktroot", folder / f"{name}.html")


def restore(folder: Path, typed: Sequence[str], *, name: str, card: Card | None, now: int) -> Made:
    """Make the same key again of the words on its sheet. With its ``card`` it must be that very key.

    Raises: KeyturnError ``words_mistyped`` (with the card it names the word), and as :func:`make`.
    """
    try:
        secret = paper.secret(typed)
        wrong = card is not None and sodium.signer(secret).public != card.public
    except KeyturnError as error:
        if card is None or "words" in error.data or len(typed) != paper.COUNT:
            raise
        wrong = True
    if wrong:
        assert card is not None
        meant = next((places for places, key in paper.nearly(typed) if sodium.signer(key).public == card.public), None)
        told = "more than one word differs" if meant is None else f"look at word {' and '.join(map(str, meant))}"
        raise KeyturnError(
            "words_mistyped", f"these are not the words of the root {card.name}: {told}",
            data={"words": list(meant or ())},
        )  # fmt: skip
    signer = _keep(folder, name, secret)
    again = Card(name, signer.public, now if card is None else card.made_at)
    _write_card(folder, again, signer)
    return Made(again, folder / f"{name}.key", folder / f"{name}.ktroot", None)


def read_card(data: bytes) -> Card:
    """Read a card and check that its own key signed it. Raises: KeyturnError ``file_malformed``, ``signature_invalid``."""
    value = card_content(data)
    try:
        card = Card(str(value["name"]), jws.public_from_jwk(value["jwk"]), parse_rfc3339(str(value["made_at"])))
        signature = jws.decoded(value["signature"], 64)
        check_slug(card.name)
    except (KeyError, KeyturnError) as error:
        raise KeyturnError("file_malformed", "this root's card lacks a part") from error
    if value.get("thumbprint") != card.kid or not jws.holds(card.public, signature, _signed(card)):
        raise KeyturnError("signature_invalid", "this root's card is not signed by its own key")
    return card


def card_content(data: bytes) -> dict[str, Any]:
    """Raises: KeyturnError ``file_malformed`` for what is no card."""
    if len(data) > MAX_CARD:
        raise KeyturnError("file_malformed", f"a root's card has at most {MAX_CARD} bytes")
    try:
        value = jws.loads(data)
    except KeyturnError as error:
        raise KeyturnError("file_malformed", f"this is no root's card: {error.detail}") from error
    if value.get("keyturn") != "root" or value.get("v") != 1:
        raise KeyturnError("file_malformed", "this is no root's card, or one of a version that is not known here")
    return value


def opened(place: Path) -> Root:
    """The root key in a file, or the one in a folder.

    Raises: KeyturnError ``usage`` if there is none or several, ``permission_denied``, ``store_damaged``.
    """
    if place.is_dir():
        found = sorted(place.glob("*.key"))
        if len(found) != 1:
            told = ", ".join(path.name for path in found) or "none"
            raise KeyturnError("usage", f"{place} holds not one root key but {told}", remedy="Name the file: --root FILE.key.")
        place = found[0]
    signer = keystore.load(place)
    if signer is None:
        raise KeyturnError("usage", f"{place} does not exist", remedy="Name the root's folder or its file with --root.")
    return Root(signer, place.with_name(f"{place.stem}.signed.json"))


def newest_signed(root: Root, thumbprint: str) -> Floor | None:
    """The newest bundle of a publisher that this root remembers to have signed. Raises: KeyturnError ``file_malformed``."""
    found = _memory(root).get(thumbprint)
    return None if found is None else Floor(int(found["number"]), str(found["digest"]))


def remember(root: Root, thumbprint: str, floor: Floor) -> None:
    """Note that a bundle is about to be signed; durable before the signature exists. Raises: KeyturnError ``storage_failed``."""
    value = {**_memory(root), thumbprint: {"number": floor.number, "digest": floor.digest}}
    files.write_json(root.memory, {"v": 1, "signed": value}, files.PRIVATE)


def _memory(root: Root) -> dict[str, Any]:
    value = (files.read_json(root.memory, 1 << 20) or {}).get("signed", {})
    good = isinstance(value, dict) and all(
        isinstance(item, dict) and type(item.get("number")) is int and isinstance(item.get("digest"), str)
        for item in value.values()
    )
    if not good:
        raise KeyturnError("file_malformed", f"{root.memory} does not say what this root signed")
    return dict(value)


def _keep(folder: Path, name: str, secret: bytes) -> Signer:
    check_slug(name)
    for suffix in ("key", "ktroot", "html"):
        if (folder / f"{name}.{suffix}").exists():
            raise KeyturnError("already_exists", f"{folder / name}.{suffix} is there already",
                               remedy="Choose another folder or another --name; nothing was changed.")  # fmt: skip
    with faults(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return keystore.keep(folder / f"{name}.key", secret)


def _write_card(folder: Path, card: Card, signer: Signer) -> None:
    value = {
        "keyturn": "root", "v": 1, "name": card.name, "jwk": jws.jwk(card.public), "thumbprint": card.kid,
        "made_at": rfc3339(card.made_at), "signature": b64u(signer.sign(_signed(card))),
    }  # fmt: skip
    files.write_json(folder / f"{card.name}.ktroot", value)


def _signed(card: Card) -> bytes:
    told = {"name": card.name, "jwk": jws.jwk(card.public), "made_at": rfc3339(card.made_at)}
    return _LABEL + jws.dumps(told)
