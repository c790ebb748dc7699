"""Tokens of the admin API: who may call it, and what each role may do there.

Keeps: the table of roles and rights, making and checking tokens, their rows. Leaves to others: HTTP (``admin``), the
verbs (``token_cli``).

- A token is shown once. It begins with ``ktt_``, so that scanners of source code and logs can find one that escaped;
  then come its public part and 160 random bits.
- The database holds an HMAC of it under the pepper: neither a copy of the database nor a guess at a hash yields one.
- Unknown, expired and revoked tokens get one answer, after the same work.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from sqlite3 import Connection, Row
from typing import Any, NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.ids import Ids
from keyturn.core.model import DAY
from keyturn.service import seats
from keyturn.service.sealing import Vault

ROLES = ("mint", "support", "read", "admin")

# Which role may do what: the word of access that a route names, and the roles that have it. A shop's token (mint) sells and
# cannot look around; a helper's (support) looks and repairs; a report's (read) reads; admin shapes products too.
RIGHTS: Mapping[str, frozenset[str]] = {
    "catalog.read": frozenset({"mint", "support", "read", "admin"}),
    "product.write": frozenset({"admin"}),
    "organization.read": frozenset({"support", "read", "admin"}),
    "organization.write": frozenset({"mint", "admin"}),
    "key.mint": frozenset({"mint", "admin"}),
    "key.read": frozenset({"support", "read", "admin"}),
    "key.change": frozenset({"mint", "admin"}),
    "key.block": frozenset({"mint", "support", "admin"}),
    "activation.read": frozenset({"support", "read", "admin"}),
    "activation.reclaim": frozenset({"support", "admin"}),
    "find": frozenset({"support", "admin"}),
    "metrics.read": frozenset({"read", "admin"}),
}

_SIGNS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: 32 signs, so a byte's low five bits choose evenly.
_SHAPE = re.compile(r"ktt_([0-9a-hjkmnp-tv-z]{8})_[0-9a-hjkmnp-tv-z]{32}", re.ASCII)
_REFUSED = "The token is unknown, expired or revoked."


class Token(NamedTuple):
    """Who calls."""

    id: str
    role: str
    used_at: int | None

    @property
    def actor(self) -> str:
        return f"token {self.id}"

    def may(self, right: str) -> bool:
        return self.role in RIGHTS[right]


class Tokens:
    """Makes and checks tokens under one pepper."""

    def __init__(self, vault: Vault, chance: Callable[[int], bytes]) -> None:
        self._vault = vault
        self._chance = chance

    def make(self) -> tuple[str, str, bytes]:
        """A new token: its public part, its text, and what is kept of it."""
        signs = "".join(_SIGNS[byte % 32] for byte in self._chance(40))
        text = f"ktt_{signs[:8]}_{signs[8:]}"
        return signs[:8], text, self._vault.tag("token", text.encode())

    def check(self, find: Callable[[str], Row | None], text: str, now: int) -> Token:
        """Who holds this token. ``find`` gives the row of a public part.

        1. Shape, row and hash are looked at in any case. 2. Then whether it is in force.

        Raises: KeyturnError ``token_invalid``, the same for every reason.
        """
        shape = _SHAPE.fullmatch(text)
        row = find(shape[1] if shape else "")
        kept = bytes(row["hashed"]) if row is not None else bytes(sha256().digest_size)
        same = hmac.compare_digest(kept, self._vault.tag("token", text.encode("utf-8", "replace")))
        if row is None or not same or row["revoked_at"] is not None or now >= (row["expires_at"] or now + 1):
            raise KeyturnError("token_invalid", _REFUSED)
        return Token(row["id"], row["role"], row["used_at"])


def find_row(db: Connection, identifier: str) -> Row | None:
    row: Row | None = db.execute("SELECT * FROM token WHERE id = ?", (identifier,)).fetchone()
    return row


def create(
    db: Connection, tokens: Tokens, ids: Ids, *, role: str, name: str, days: int | None, now: int
) -> dict[str, Any]:
    """Make a token; its text is in the result and nowhere else."""
    identifier, text, hashed = tokens.make()
    until = None if days is None else now + days * DAY
    db.execute(
        "INSERT INTO token (id, role, name, hashed, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
        (identifier, role, name, hashed, now, until),
    )
    seats.write_audit(db, ids, now, "staff", "token.created", identifier, {"role": role})
    return {"token": text, "id": identifier, "role": role, "name": name, "created_at": now, "expires_at": until}


def listed(db: Connection) -> list[dict[str, Any]]:
    rows = db.execute(
        "SELECT id, role, name, created_at, expires_at, revoked_at, used_at FROM token ORDER BY created_at, id"
    )
    return [dict(row) for row in rows.fetchall()]


def revoke(db: Connection, ids: Ids, identifier: str, now: int) -> dict[str, Any]:
    """End a token; ended already, it stays as it ended. Raises: KeyturnError ``not_found``."""
    if find_row(db, identifier) is None:
        raise KeyturnError("not_found", f"there is no token {identifier[:40]!r}")
    ended = db.execute(
        "UPDATE token SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL RETURNING id", (now, identifier)
    ).fetchone()
    if ended is not None:
        seats.write_audit(db, ids, now, "staff", "token.revoked", identifier, {})
    return next(row for row in listed(db) if row["id"] == identifier)


def note_use(db: Connection, identifier: str, now: int) -> None:
    """Remember the day of a token's last use: enough to see which one nobody needs."""
    day = now - now % DAY
    db.execute("UPDATE token SET used_at = ? WHERE id = ? AND (used_at IS NULL OR used_at < ?)", (day, identifier, day))
