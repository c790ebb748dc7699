"""Bindings: the activations that computers were given, kept with their hardware, to be used again by the same hardware.

Keeps: their rows, and finding one by hardware (never by name). Leaves to others: the document that rebinds (``core.rebinding``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from sqlite3 import Connection, Row
from typing import Any

from keyturn.core import hardware, jws
from keyturn.core.documents import Certificate, Request
from keyturn.core.hardware import Seat


def keep(
    db: Connection, computer: str, request: Request, token: str, certificate: str, baseline: Mapping[str, Any], now: int
) -> None:
    """Keep what a computer was given; a newer answer for the same activation takes the older one's place.

    The certificate is the service's answer over a verified connection; the computer itself verifies it before it believes it.
    """
    said = Certificate.read(jws.loads(jws.payload_of(certificate)))
    if said.evidence != "strong" or said.rebind is None:
        return  # Without hardware identity nobody can say that it is the same computer.
    product = str(request.product)
    db.execute("DELETE FROM binding WHERE product = ? AND activation = ?", (product, said.activation))
    db.execute(
        "INSERT INTO binding (product, activation, computer, serial, certificate, request, vector, salt, pairs, kept_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            product, said.activation, computer, said.serial, certificate, token, json.dumps(baseline["vector"]), baseline["salt"],
            json.dumps(dict(request.pairs)), now,
        ),
    )  # fmt: skip
    db.executemany(
        "INSERT INTO pair (product, pair, tag, activation) VALUES (?, ?, ?, ?)",
        [(product, pair, tag, said.activation) for pair, tag in request.pairs.items()],
    )


def find(db: Connection, request: Request) -> Row | None:
    """The activation of the same hardware and key, made for another installation; ``None`` if there is none."""
    product, seats, rows = str(request.product), [], {}
    for pair, tag in request.pairs.items():
        for row in db.execute(_ALIKE, (product, pair, tag)):
            if _certificate(row).installation == request.installation:
                continue  # It has what is kept here: if it asks, it needs another.
            if row["serial"] == request.serial and row["activation"] not in rows:
                rows[row["activation"]] = row
                seats.append(Seat(row["activation"], json.loads(row["pairs"]), row["kept_at"]))
    found = hardware.find_seat(request.pairs, seats).seat
    return None if found is None else rows[found]


def continued(db: Connection, product: str, activation: str, key: str) -> bool:
    """Whether an activation is held with another installation key (thumbprint) than the publisher gave it to."""
    row = db.execute(
        "SELECT certificate FROM binding WHERE product = ? AND activation = ?", (product, activation)
    ).fetchone()
    return row is not None and _certificate(row).holder != key


def _certificate(row: Row) -> Certificate:
    return Certificate.read(jws.loads(jws.payload_of(row["certificate"])))


def drop(db: Connection, product: str, activation: str) -> None:
    """Forget an activation: its seat was given back."""
    db.execute("DELETE FROM binding WHERE product = ? AND activation = ?", (product, activation))


_ALIKE = (
    "SELECT b.* FROM pair p JOIN binding b ON b.product = p.product AND b.activation = p.activation"
    " WHERE p.product = ? AND p.pair = ? AND p.tag = ?"
)
