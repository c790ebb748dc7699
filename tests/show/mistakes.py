"""Typing mistakes: none of them becomes another key, and none of them touches what is installed."""

from __future__ import annotations

import json
import random
from concurrent.futures import ProcessPoolExecutor

from keyturn.core import productkey
from keyturn.core.errors import KeyturnError
from programs import Home, Publisher, computer, files_below
from show.stage import Stage, item

KEYS = 1000
SAMPLE = 40
ALPHABET = "0123456789ACDEFGHJKMNPQRTVWXY"  # Written down again: it is part of what is shown.


def mistakes(text: str) -> list[str]:
    """Every key that differs from ``text`` in one symbol, and every swap of two different neighbours."""
    symbols = text.replace("-", "")
    wrong = [symbols[:at] + other + symbols[at + 1 :] for at in range(25) for other in ALPHABET if other != symbols[at]]
    swaps = [
        symbols[:at] + symbols[at + 1] + symbols[at] + symbols[at + 2 :]
        for at in range(24)
        if symbols[at] != symbols[at + 1]
    ]
    return wrong + swaps


def count_accepted(keys: list[str]) -> tuple[int, int, int]:
    """How many mistakes there are in ``keys``, how many were accepted, and how many named the wrong code."""
    tried = accepted = other = 0
    for key in keys:
        for text in mistakes(key):
            tried += 1
            try:
                productkey.parse(text)
                accepted += 1
            except KeyturnError as error:
                other += error.code != "key_mistyped"
    return tried, accepted, other


@item("Every single-symbol error and neighbour swap in 1,000 random keys is refused")
def every_mistake(stage: Stage) -> str:
    path = stage.place("keys") / "keys.json"
    stage.publisher.service("key", "mint", "--product", "paintbox", "--count", str(KEYS), "-o", str(path)).ok()
    keys = [entry["key"] for entry in json.loads(path.read_text())["keys"]]
    assert len(set(keys)) == KEYS
    for key in keys:
        assert productkey.parse(key).text == key
    with ProcessPoolExecutor(2) as pool:
        counts = list(pool.map(count_accepted, (keys[at : at + 50] for at in range(0, KEYS, 50))))
    tried, accepted, other = (sum(column) for column in zip(*counts, strict=True))
    assert accepted == 0, f"{accepted} of {tried} accepted"
    assert other == 0, f"{other} of {tried} refused as something else than a typing mistake"
    return f"{tried:,} mistakes, 0 accepted, all key_mistyped"


@item("install-key exits 4 offline and leaves installed key and license untouched")
def install_key_untouched(stage: Stage) -> str:
    folder = stage.place("offline")
    publisher = Publisher(folder / "publisher")
    product = publisher.product("paintest", "--test")
    installed, *others = publisher.mint("paintest", "--count", "9")
    home = Home(folder / "client" / "home", sysroot=computer(folder / "pc", "office-pc-a"))
    with publisher.running():
        home.activate(product, installed["key"]).ok()
    before = files_below(home.path)
    chance = random.Random("mistakes")
    sample = [chance.choice(mistakes(chance.choice([installed, *others])["key"])) for _ in range(SAMPLE)]
    for text in sample:
        result = home("install-key", "-", input=text + "\n")
        assert (result.exit, result.code) == (4, "key_mistyped"), result
        assert text not in result.out + result.err, "the error shows the key"
        assert files_below(home.path) == before, "a file changed"
    assert home.status()["state"] == "licensed"
    files = f"{len(before)} files byte for byte as before"
    return f"{SAMPLE} processes with the service stopped: exit 4 each, {files}, still licensed"
