"""Once only: the same request with the same Idempotency-Key has one effect and gets one answer.

The answer is kept in the transaction that has the effect, so neither a crash nor a second request at the same moment can
come between the two. It may hold product keys, so it is kept sealed under the pepper, for a day, and opens in its row
only. The caller's key (often an order number) and what was asked are kept as keyed hashes. Refusals are not kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from sqlite3 import Connection
from typing import Any, NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.ids import Ids
from keyturn.core.model import DAY
from keyturn.service.sealing import Vault

RETENTION = DAY
MAX_NAME = 255
_PURGE = 100  # Rows per purge: more than one answer can add.


class Once(NamedTuple):
    """One request that must have one effect: who asks, under which name (hashed), for what (hashed)."""

    token: str
    name: bytes
    request: bytes


def once(vault: Vault, token: str, name: str, request: bytes) -> Once:
    """``name``: the Idempotency-Key; ``request``: method, path and content. Raises: KeyturnError ``request_unsupported``."""
    if not 1 <= len(name) <= MAX_NAME or not all("\x21" <= sign <= "\x7e" for sign in name):
        raise KeyturnError("request_unsupported", f"An Idempotency-Key has 1 to {MAX_NAME} visible ASCII signs.")
    return Once(token, vault.tag("name", name.encode()), vault.tag("request", request))


def kept(db: Connection, vault: Vault, wanted: Once, now: int) -> dict[str, Any] | None:
    """The answer that this request got, if it was made within a day. Raises: KeyturnError ``idempotency_mismatch``."""
    row = db.execute(
        "SELECT request, sealed FROM answer_kept WHERE token = ? AND name = ? AND kept_at > ?",
        (wanted.token, wanted.name, now - RETENTION),
    ).fetchone()
    if row is None:
        return None
    if bytes(row["request"]) != wanted.request:
        raise KeyturnError(
            "idempotency_mismatch", "This Idempotency-Key came with another request within the last day."
        )
    found: dict[str, Any] = json.loads(vault.open(row["sealed"], _place(wanted)))
    return found


def carry_out(
    db: Connection, vault: Vault, ids: Ids, wanted: Once, now: int, effect: Callable[[Connection], dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """Answer a request once; the second value is whether it is the answer to an earlier one.

    1. An answer that is kept is given again.
    2. The effect, and its answer beside it.
    3. A few answers past their day go.
    """
    # 1.
    before = kept(db, vault, wanted, now)
    if before is not None:
        return before, True
    # 2.
    answer = effect(db)
    sealed = vault.seal(json.dumps(answer).encode(), _place(wanted), ids.chance(12))
    db.execute(
        "INSERT INTO answer_kept (token, name, request, sealed, kept_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (token, name) DO UPDATE SET request = excluded.request, sealed = excluded.sealed,"
        " kept_at = excluded.kept_at",  # There is a row only if it is past its day.
        (wanted.token, wanted.name, wanted.request, sealed, now),
    )
    # 3.
    db.execute(
        "DELETE FROM answer_kept WHERE (token, name) IN"
        " (SELECT token, name FROM answer_kept WHERE kept_at <= ? ORDER BY kept_at LIMIT ?)",
        (now - RETENTION, _PURGE),
    )
    return answer, False


def _place(wanted: Once) -> bytes:
    return wanted.token.encode() + b"\0" + wanted.name
