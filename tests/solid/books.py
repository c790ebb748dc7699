"""The check of the books: everything the service acknowledged against everything its database holds.

Shares no code with the service: it reads the tables and the certificates for itself. It must be able to fail, and
``test_solid`` shows that it does, with services that have a planted bug.

- I1  every certificate that was handed out is recorded, with the same bytes and a signature
- I2  the key's counter is the number of standing activations, and not above its limit
- I3  at no moment more computers certainly held a seat than the limit allows
- I4  no recorded decision is left unsigned
- I5  a repeated request got the same answer
- I6  every seat given back is recorded as given back, and every standing seat is somebody's last word
- I7  the database is whole
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

Ack = dict[str, Any]


def check(database: Path, acks: Sequence[Ack]) -> list[str]:
    """Compare; the result lists what does not agree, in words. The service must not run."""
    found: list[str] = []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        whole = db.execute("PRAGMA integrity_check").fetchone()[0]
        if whole != "ok":
            found.append(f"I7: the database is damaged: {whole}")
        intents = {(row["serial"], row["request"]): row for row in db.execute("SELECT * FROM intent")}
        activations = {(row["serial"], row["id"]): row for row in db.execute("SELECT * FROM activation")}
        released = {(row["serial"], row["activation"]) for row in db.execute("SELECT * FROM release")}
        keys = {row["serial"]: row for row in db.execute("SELECT * FROM product_key")}
        new = db.execute("SELECT count(*) FROM audit WHERE action = 'activation.new'").fetchone()[0]
    standing: dict[int, set[str]] = defaultdict(set)
    for (serial, name), row in activations.items():
        if row["ended_at"] is None:
            standing[serial].add(name)
    found += [f"I4: the decision {key} is not signed" for key, row in intents.items() if row["signature"] is None]
    for serial, row in keys.items():
        if not len(standing[serial]) == row["seats_used"] <= row["seat_limit"]:
            found.append(
                f"I2: key {serial}: {len(standing[serial])} stand, counter {row['seats_used']}, limit {row['seat_limit']}"
            )
    if new != len(activations):
        found.append(f"I2: {len(activations)} activations, {new} of them in the audit")
    found += _certificates(acks, intents)
    found += _seats(acks, activations, released, standing)
    for serial, row in keys.items():
        most = _certain_holders([ack for ack in acks if ack["serial"] == serial])
        if most > row["seat_limit"]:
            found.append(f"I3: key {serial}: {most} computers held a seat at once, the limit is {row['seat_limit']}")
    return found


def _certificates(acks: Sequence[Ack], intents: dict[tuple[int, str], sqlite3.Row]) -> list[str]:
    """I1 and I5."""
    found, first = [], dict[tuple[int, str], Ack]()
    for ack in acks:
        if ack["op"] == "release":
            continue
        key = (ack["serial"], ack["digest"])
        before = first.setdefault(key, ack)
        if (before["certificate"], before["code"]) != (ack["certificate"], ack["code"]):
            found.append(f"I5: computer {ack['pc']} got two answers to one request of key {ack['serial']}")
        if ack["certificate"] is None:
            continue
        row = intents.get(key)
        _, payload, signature = ack["certificate"].split(".")
        if row is None:
            found.append(f"I1: the certificate of computer {ack['pc']} for key {ack['serial']} is not recorded")
        elif (_decode(payload), _decode(signature)) != (row["payload"], row["signature"]):
            found.append(f"I1: the certificate of computer {ack['pc']} for key {ack['serial']} is recorded otherwise")
    return found


def _seats(
    acks: Sequence[Ack],
    activations: dict[tuple[int, str], sqlite3.Row],
    released: set[tuple[int, str]],
    standing: dict[int, set[str]],
) -> list[str]:
    """I6: what each computer heard last about each key is what stands."""
    found, last = [], dict[tuple[int, int], Ack]()
    for ack in sorted(acks, key=lambda ack: float(ack["ended"])):
        if ack["code"] is None:
            last[ack["pc"], ack["serial"]] = ack
    held: dict[int, set[str]] = defaultdict(set)
    for (pc, serial), ack in last.items():
        if ack["op"] != "release":
            held[serial].add(ack["activation"])
        elif (serial, ack["activation"]) not in released or activations[serial, ack["activation"]]["ended_at"] is None:
            found.append(f"I6: computer {pc} gave its seat of key {serial} back, and it still stands")
    for serial in sorted({*held, *standing}):
        if held[serial] != standing[serial]:
            lost, extra = held[serial] - standing[serial], standing[serial] - held[serial]
            found.append(
                f"I6: key {serial}: {len(lost)} acknowledged seats do not stand, {len(extra)} stand for nobody"
            )
    return found


def _certain_holders(acks: Sequence[Ack]) -> int:
    """The most computers that held a seat for certain: granted before, and return not yet asked for."""
    events: list[tuple[float, int]] = []
    given: set[int] = set()
    for ack in sorted(acks, key=lambda ack: float(ack["ended"])):
        if ack["code"] is None and ack["op"] == "activate" and ack["pc"] not in given:
            given.add(ack["pc"])
            events.append((ack["ended"], 1))
        elif ack["code"] is None and ack["op"] == "release" and ack["pc"] in given:
            given.discard(ack["pc"])
            events.append((ack["began"], -1))
    most = now = 0
    for _, step in sorted(events):
        now += step
        most = max(most, now)
    return most


def _decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def lines(text: str) -> list[Ack]:
    """The answers in what processes of the load printed."""
    return [value for line in text.splitlines() if (value := json.loads(line))["op"] not in ("ready", "done")]
