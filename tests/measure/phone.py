"""Telephone codes: what signing and confirming cost, and how many symbols a person handles."""

from __future__ import annotations

import hashlib
import statistics
import subprocess
import sys
from pathlib import Path

from keyturn.core.model import Channel, ProductName
from keyturn.core.phone import confirmation, installation
from keyturn.core.phone.spelling import CONFIRMATION, INSTALLATION
from keyturn.core.trust import ROLE_PHONE, ConfirmationKey
from keyturn.edge import bls
from keyturn.edge.words import english
from measure.client import seconds
from measure.rows import Row

ROUNDS = 5
PAIRS = {"board+uuid": "0123456789abcdef"}
VECTOR = {"anchor.board": "0" * 32, "anchor.uuid": "1" * 32}
# In a process of its own, as a client that loads a stored code does: library, key, one pairing equation.
COLD = """
import sys, time
started = time.perf_counter()
from keyturn.edge import bls
assert bls.holds(*map(bytes.fromhex, sys.argv[1:]))
print(time.perf_counter() - started)
"""


def codes(folder: Path) -> list[Row]:
    """One installation ID, its answer, and the check of both."""
    product, jkt, k, salt = ProductName("A" * 43, "writer"), "B" * 43, hashlib.sha256(b"K").digest(), bytes(16)
    signer = bls.signer(bls.secret_of(bytes(range(48))))
    key = ConfirmationKey(signer.public, 0, ROLE_PHONE, 0, 1)

    def make() -> installation.InstallationID:
        return installation.make(product, Channel.MAK, 1, k, PAIRS, jkt, VECTOR, salt)

    made = make()
    code = confirmation.issue(product, made, 0, 0, 0, signer.sign)
    words = " ".join(code.words(english()))
    signed = confirmation.message(product, made, 0)
    cold = [sys.executable, "-c", COLD, key.public.hex(), code.signature.hex(), signed.hex()]

    def median(action: object, times: int = 1) -> float:
        assert callable(action)
        return statistics.median(seconds(action, times) for _ in range(ROUNDS))

    making = median(make, 3)
    loading = median(lambda: installation.is_of(made, product, Channel.MAK, 1, k, jkt, VECTOR, salt), 3)
    signing = median(lambda: confirmation.issue(product, made, 0, 0, 0, signer.sign), 10)
    confirming = median(lambda: confirmation.confirmed(code, product, made, [key], bls.holds))
    reading = median(lambda: confirmation.read(words, english()), 100)
    alone = statistics.median(
        float(subprocess.run(cold, capture_output=True, text=True, check=True).stdout) for _ in range(ROUNDS)
    )
    symbols = f"{INSTALLATION.groups * 6} digits or {INSTALLATION.words} words"
    answered = f"{CONFIRMATION.groups * 6} digits or {CONFIRMATION.words} words ({len(words)} characters)"
    return [
        Row("Telephone", "an installation ID made, in milliseconds (scrypt)", 1000 * making, symbols),
        Row("Telephone", "the same compared at each load, in milliseconds", 1000 * loading, "one scrypt, 16 MiB"),
        Row("Telephone", "a confirmation ID signed, in milliseconds", 1000 * signing, answered),
        Row("Telephone", "a confirmation ID verified, in seconds", confirming, f"its words read: {1e6 * reading:.0f} µs", most=2),
        Row("Telephone", "the same in a new process, with library and key, in seconds", alone, "pure Python", most=2),
    ]  # fmt: skip
