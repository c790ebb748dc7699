"""A signer's program that misbehaves on demand: ``python unruly_signer.py FOLDER MOOD``; see docs/signers.md for what is good.

``MOOD`` is a file that is read before each answer and says how to behave. Once it was obeyed, it is emptied if it ends with
``once``. ``FOLDER`` holds the keys of ``examples/signer/sign.py``, which does the real work; process ids go to ``MOOD.pids``.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "signer"))
sign: Any = importlib.import_module("sign")

REFUSALS: dict[str, dict[str, Any]] = {
    "error": {"error": "not this one"},
    "away": {"error": "the key service is away", "away": True},
    "locked": {"error": "the PIN is not accepted", "locked": True},
}


def behave(mood: str, asked: dict[str, Any], held: dict[str, Ed25519PrivateKey]) -> str:
    """The line to answer with. Moods do not spoil the first question, unless they begin with ``early``."""
    if asked.get("list") and not mood.startswith("early"):
        return json.dumps(sign.answer(held, asked))
    mood = mood.removeprefix("early ")
    if mood == "die":
        os._exit(1)
    if mood == "hang":
        threading.Event().wait()
    if mood == "nonsense":
        return "certainly!"
    if mood == "no object":
        return "[]"
    if mood == "no signature":
        return "{}"
    if mood == "endless":
        sys.stdout.write("x" * 200_000)
    if mood == "chatty":
        return json.dumps(sign.answer(held, asked)) + "\n{}"
    if mood == "another key":
        own = held[asked["kid"]]
        other = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\1")
        assert other.private_bytes_raw() != own.private_bytes_raw()
        return json.dumps(sign.answer({asked["kid"]: other}, asked))
    return json.dumps(REFUSALS.get(mood) or sign.answer(held, asked))


def main() -> None:
    held, place = sign.keys(Path(sys.argv[1])), Path(sys.argv[2])
    with place.with_suffix(".pids").open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    for line in sys.stdin:
        mood, once, _ = place.read_text().strip().partition(" once")
        if once and not json.loads(line).get("list"):
            place.write_text("")
        print(behave(mood, json.loads(line), held), flush=True)


if __name__ == "__main__":
    main()
