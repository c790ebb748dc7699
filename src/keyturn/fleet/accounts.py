"""People of the console: names, roles, passwords, and the one-time links with which they make their account.

Keeps: rows of accounts and invitations, how a password is kept, and what wrong ones lead to. Leaves to others: sessions
(``sessions``), pages, verbs.

- A password is kept as its Argon2id hash, with the profile of RFC 9106, section 4, for little memory (64 MiB, three passes).
- An unknown name, a wrong password and a locked name get one answer, after the same work.
- After ``FREE`` wrong passwords in a row a name is locked for a while, and longer each time, at most ``LONGEST``.
- An account without a password (:data:`OIDC`) signs in with the organization's provider, and any other with its password only.
- An administrator is always left: the last one is neither removed nor given less.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable
from sqlite3 import Connection, Row
from typing import Any, NamedTuple

import argon2

from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, b64u, rfc3339
from keyturn.edge.database import Database
from keyturn.fleet import store
from keyturn.fleet.manager import FleetManager

VIEWER, OPERATOR, ADMINISTRATOR = "viewer", "operator", "administrator"
ROLES = (VIEWER, OPERATOR, ADMINISTRATOR)  # Each may what those before it may.
SHORTEST, LONGEST_PASSWORD = (
    15,
    1_000,
)  # Characters. NIST SP 800-63B-4, section 3.1.1.2: 15 where nothing else is asked for.
FREE = 5  # Wrong passwords in a row.
FIRST_LOCK, LONGEST = 30, 3_600  # Seconds.
LINK_LASTS = 7 * DAY
OIDC = "oidc"  # In the place of a password's hash; no password fits it.

_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
_hasher = argon2.PasswordHasher()


class Account(NamedTuple):
    """Who somebody is, and what that person may do."""

    name: str
    role: str


def hashed(password: str) -> str:
    """What is kept of a password. Takes tens of milliseconds: never inside a transaction.

    Raises: KeyturnError ``usage`` for one that is too short or too long.
    """
    if not SHORTEST <= len(password) <= LONGEST_PASSWORD:
        raise KeyturnError(
            "usage", f"a password has at least {SHORTEST} characters",
            remedy="Take some words that do not belong together, with blanks between them.",
        )  # fmt: skip
    return _hasher.hash(_normal(password))


def create(db: Connection, name: str, role: str, password: str, *, who: str, now: int) -> Account:
    """Make an account; ``password`` is :func:`hashed`, or :data:`OIDC`. Raises: KeyturnError ``usage``, ``already_exists``."""
    name = name.lower()
    if not _NAME.fullmatch(name):
        raise KeyturnError(
            "usage", "a name has up to 64 letters, digits and . _ @ + -, and begins with a letter or digit"
        )
    _check_role(role)
    if db.execute("SELECT 1 FROM account WHERE name = ?", (name,)).fetchone():
        raise KeyturnError("already_exists", f"there is an account {name}")
    db.execute("INSERT INTO account (name, password, role, made_at) VALUES (?, ?, ?, ?)", (name, password, role, now))
    store.audit(db, now, who, "account_created", {"account": name, "role": role})
    return Account(name, role)


def set_role(db: Connection, name: str, role: str, *, who: str, now: int) -> None:
    """Give an account another role; its sessions end. Raises: KeyturnError ``usage``, ``not_found``."""
    _check_role(role)
    found = find(db, name)
    if role != ADMINISTRATOR:
        _check_last(db, found)
    db.execute("UPDATE account SET role = ? WHERE name = ?", (role, found.name))
    sign_out(db, found.name)
    store.audit(db, now, who, "account_changed", {"account": found.name, "role": role})


def set_password(db: Connection, name: str, password: str, *, who: str, now: int) -> None:
    """Give an account another password (:func:`hashed`); its sessions and its lock end. Raises: KeyturnError ``not_found``."""
    found = find(db, name)
    db.execute("UPDATE account SET password = ?, failed = 0, locked_until = 0 WHERE name = ?", (password, found.name))
    sign_out(db, found.name)
    store.audit(db, now, who, "password_changed", {"account": found.name})


def remove(db: Connection, name: str, *, who: str, now: int) -> None:
    """End an account and its sessions. Raises: KeyturnError ``not_found``, ``usage`` for the last administrator."""
    found = find(db, name)
    _check_last(db, found)
    db.execute("DELETE FROM account WHERE name = ?", (found.name,))
    store.audit(db, now, who, "account_removed", {"account": found.name})


def sign_out(db: Connection, name: str) -> None:
    """End every session of an account."""
    db.execute("DELETE FROM session WHERE account = ?", (name,))


def find(db: Connection, name: str) -> Account:
    """Raises: KeyturnError ``not_found``."""
    row = db.execute("SELECT name, role FROM account WHERE name = ?", (name.lower(),)).fetchone()
    if row is None:
        raise KeyturnError(
            "not_found", f"there is no account {name[:64]!r}", remedy="List them: `keyturn fleet user list`."
        )
    return Account(row["name"], row["role"])


def listed(db: Connection, now: int) -> list[dict[str, Any]]:
    """All accounts in order of their names.

    ``locked_until`` is null for one that is not locked now; ``oidc`` is true for one without a password.
    """
    return [
        {
            "name": row["name"], "role": row["role"], "made_at": rfc3339(row["made_at"]),
            "locked_until": rfc3339(row["locked_until"]) if row["locked_until"] > now else None,
            "oidc": row["password"] == OIDC,
        }
        for row in db.execute("SELECT * FROM account ORDER BY name")
    ]  # fmt: skip


def prove(database: Database, name: str, password: str, now: int) -> Account:
    """The account that this name and password belong to.

    1. The password is compared with the account's, or with one that nobody has: that takes as long.
    2. A right one counts if the name is not locked, and the account still has that password. The row is read again for
       that, after every wrong attempt before this one was written down.
    3. A wrong one is counted. Nobody waits for that, so an unknown name, where nothing is counted, takes as long.

    Raises: KeyturnError ``sign_in_failed``, for whatever reason.
    """
    # 1.
    row = database.look("SELECT password FROM account WHERE name = ?", (name.lower(),))
    kept = decoy() if row is None or row["password"] == OIDC else row["password"]
    right = _fits(kept, password)
    # 2.
    if right and row is not None:
        found = database.write_now(lambda db: _unlocked(db, name.lower(), kept, now))
        if found is not None:
            return found
    # 3.
    if row is not None and not right:
        database.write(lambda db: _wrong(db, name.lower(), now))
    raise KeyturnError("sign_in_failed")


def of_provider(database: Database, name: str) -> Account:
    """The account of somebody whom the organization's provider vouches for. Raises: KeyturnError ``sign_in_refused``."""
    row = database.look("SELECT name, role FROM account WHERE name = ? AND password = ?", (name, OIDC))
    if row is None:
        raise KeyturnError(
            "sign_in_refused", f"{name[:64]} has no account here that signs in with the provider",
            remedy="Ask an administrator: `keyturn fleet user create NAME --role ROLE --oidc`.",
        )  # fmt: skip
    return Account(row["name"], row["role"])


def invite(db: Connection, role: str, *, who: str, now: int, chance: Callable[[int], bytes]) -> str:
    """The secret of a link with which one person makes an account of this role, once, within seven days."""
    _check_role(role)
    secret = b64u(chance(32))
    db.execute(
        "INSERT INTO invitation (secret, role, made_by, expires_at) VALUES (?, ?, ?, ?)",
        (digest(secret), role, who, now + LINK_LASTS),
    )
    db.execute("DELETE FROM invitation WHERE expires_at <= ?", (now,))
    store.audit(db, now, who, "invited", {"role": role})
    return secret


def new_link(fleet: FleetManager, role: str, who: str) -> str:
    """A new invitation as what a person opens in a browser."""
    secret = fleet.database.write_now(lambda db: invite(db, role, who=who, now=fleet.clock(), chance=fleet.chance))
    return f"{fleet.home.url}/welcome?link={secret}"


def invited(db: Connection, secret: str, now: int) -> Row:
    """Raises: KeyturnError ``not_found``: one answer for every link that does not serve."""
    row = db.execute("SELECT * FROM invitation WHERE secret = ? AND expires_at > ?", (digest(secret), now)).fetchone()
    if row is None:
        raise KeyturnError(
            "not_found", "this link is unknown, was used, or is older than seven days",
            remedy="Ask an administrator for another, or make one on the manager: `keyturn fleet user link`.",
        )  # fmt: skip
    assert isinstance(row, Row)
    return row


def accept(db: Connection, secret: str, name: str, password: str, now: int) -> Account:
    """Make the account that a link is for, which has served then.

    Raises: KeyturnError ``not_found``, ``usage``, ``already_exists``.
    """
    row = invited(db, secret, now)
    made = create(db, name, row["role"], password, who=row["made_by"], now=now)
    db.execute("DELETE FROM invitation WHERE secret = ?", (row["secret"],))
    return made


def digest(secret: str) -> bytes:
    """What is kept of 256 random bits: nobody guesses them, so one hash is enough."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def _unlocked(db: Connection, name: str, kept: str, now: int) -> Account | None:
    row = db.execute(
        "UPDATE account SET failed = 0 WHERE name = ? AND password = ? AND locked_until <= ? RETURNING name, role",
        (name, kept, now),
    ).fetchone()
    return None if row is None else Account(row["name"], row["role"])


def _wrong(db: Connection, name: str, now: int) -> None:
    row = db.execute(
        "UPDATE account SET failed = failed + 1 WHERE name = ? AND locked_until <= ? RETURNING failed", (name, now)
    ).fetchone()
    if row is None or row["failed"] < FREE:
        return
    lock = min(LONGEST, FIRST_LOCK << min(row["failed"] - FREE, 12))
    db.execute("UPDATE account SET locked_until = ? WHERE name = ?", (now + lock, name))
    store.audit(db, now, "manager", "account_locked", {"account": name, "seconds": lock})


def _fits(kept: str, password: str) -> bool:
    try:
        return _hasher.verify(kept, _normal(password[:LONGEST_PASSWORD]))
    except argon2.exceptions.Argon2Error:
        return False


@functools.cache
def decoy() -> str:
    """A password hash that fits nothing. The first call takes as long as one comparison."""
    return _hasher.hash("nobody has this password")


def _normal(password: str) -> str:
    # The same letters from another keyboard are the same password (NIST SP 800-63B-4, section 3.1.1.2).
    return unicodedata.normalize("NFC", password)


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise KeyturnError("usage", f"{role[:40]!r} is no role; there are {', '.join(ROLES)}")


def _check_last(db: Connection, found: Account) -> None:
    others = db.execute("SELECT 1 FROM account WHERE role = ? AND name != ?", (ADMINISTRATOR, found.name)).fetchone()
    if found.role == ADMINISTRATOR and others is None:
        raise KeyturnError(
            "usage",
            f"{found.name} is the last administrator",
            remedy="Make another one first: `keyturn fleet user link`.",
        )
