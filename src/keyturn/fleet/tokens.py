"""Enrollment tokens: what lets a computer join, how often, until when, and into which group. Their secrets are kept
as hashes only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from sqlite3 import Connection, Row
from typing import Any

from keyturn.core import ids
from keyturn.core.errors import KeyturnError
from keyturn.core.fleet import Enrollment, EnrollmentToken
from keyturn.core.model import b64u, rfc3339
from keyturn.fleet import store


def create(
    db: Connection, url: str, key: str, *, group: str | None, uses: int | None, expires_at: int, who: str, now: int,
    chance: Callable[[int], bytes],
) -> tuple[str, EnrollmentToken]:  # fmt: skip
    """Make a token: its name here, and the token itself, which is shown once."""
    secret, name = b64u(chance(24)), ids.uuid7(now, chance(12))[-12:]
    db.execute(
        "INSERT INTO token (id, secret, grp, uses, expires_at, made_by, made_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (name, _hash(secret), group, uses, expires_at, who, now),
    )
    store.audit(db, now, who, "token_created", {"token": name, "group": group, "uses": uses})
    return name, EnrollmentToken(url, key, secret)


def revoke(db: Connection, name: str, *, who: str, now: int) -> None:
    """Raises: KeyturnError ``not_found``."""
    if not db.execute("UPDATE token SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (now, name)).rowcount:
        raise KeyturnError(
            "not_found", f"there is no token {name[:40]!r} in force", remedy="List them: `keyturn fleet token list`."
        )
    store.audit(db, now, who, "token_revoked", {"token": name})


def listed(db: Connection, now: int) -> list[dict[str, Any]]:
    """All tokens, without their secrets. ``state``: ``valid``, ``used_up``, ``expired`` or ``revoked``."""
    return [
        {
            "id": row["id"], "group": row["grp"], "uses": row["uses"], "used": row["used"], "state": _state(row, now),
            "expires_at": rfc3339(row["expires_at"]), "made_by": row["made_by"],
        }
        for row in db.execute("SELECT * FROM token ORDER BY made_at, id")
    ]  # fmt: skip


def enroll(db: Connection, asked: Enrollment, agent: str, *, now: int, chance: Callable[[int], bytes]) -> str:
    """Take a computer in whose key has the thumbprint ``agent``; its id here.

    1. The same computer with a token in force is the same, and costs no use.
    2. Otherwise it is a new one, in the token's group.

    Raises: KeyturnError ``token_invalid``: one answer for every token that does not serve.
    """
    token = db.execute("SELECT * FROM token WHERE secret = ?", (_hash(asked.secret),)).fetchone()
    known = store.computer_of(db, agent)
    # 1.
    if token is not None and known is not None and _state(token, now) in ("valid", "used_up"):
        return str(known["id"])
    # 2.
    if token is None or _state(token, now) != "valid":
        remedy = "Ask your administrator for a new one: `keyturn fleet token create`."
        raise KeyturnError(
            "token_invalid", "this enrollment token is unknown, used up, expired or revoked", remedy=remedy
        )
    computer = ids.uuid7(now, chance(12))
    db.execute(
        "INSERT INTO computer (id, name, agent, number, enrolled_at, enrolled_by) VALUES (?, ?, ?, 0, ?, ?)",
        (computer, asked.name, agent, now, token["id"]),
    )
    db.execute("UPDATE token SET used = used + 1 WHERE id = ?", (token["id"],))
    if token["grp"] is not None:
        store.put_in_group(db, token["grp"], [computer])
    db.execute("DELETE FROM found WHERE name = ?", (asked.name,))
    store.note(db, computer, now, "enrolled")
    return computer


def ready_lines(text: str) -> dict[str, str]:
    """What an administrator pastes, by system. The token stands in a file that root alone reads, never in a command
    line's arguments.
    """
    path = "/etc/keyturn/fleet.token"
    return {
        "debian": (
            f"sudo install -d -m 0755 /etc/keyturn && sudo install -m 0600 /dev/stdin {path} <<'END'\n{text}\nEND\n"
            f"sudo keyturn agent enroll --token-file {path} && sudo keyturn agent install"
            " && sudo systemctl enable --now keyturn-agent"
        ),
        "windows": (
            f'Set-Content -Path "$env:ProgramData\\Keyturn\\fleet.token" -Value "{text}"\n'
            'keyturn agent enroll --token-file "$env:ProgramData\\Keyturn\\fleet.token"'
        ),
        "ansible": (
            f"- ansible.builtin.copy: {{dest: {path}, mode: '0600', content: \"{text}\"}}\n"
            f"- ansible.builtin.command: keyturn agent enroll --token-file {path}"
        ),
        "cloud-init": (
            f"write_files:\n- {{path: {path}, permissions: '0600', content: \"{text}\"}}\n"
            f"runcmd:\n- [keyturn, agent, enroll, --token-file, {path}]\n- [keyturn, agent, install]\n"
            "- [systemctl, enable, --now, keyturn-agent]"
        ),
    }


def _state(row: Row, now: int) -> str:
    if row["revoked_at"] is not None:
        return "revoked"
    if now >= row["expires_at"]:
        return "expired"
    return "used_up" if row["uses"] is not None and row["used"] >= row["uses"] else "valid"


def _hash(secret: str) -> bytes:
    # 192 random bits: nobody guesses them, and a hash found by an index tells nothing about its neighbours.
    return hashlib.sha256(secret.encode()).digest()
