"""Who is signed in: one random cookie for each session, of which a hash is kept.

Keeps: how a session begins and ends, and the text that its forms carry. Leaves to others: passwords (``accounts``), pages.

- A session ends at its time, whatever is done in it, and at once when its account's role or password changes.
- The cookie is for this manager alone, over TLS alone, for no script, and never sent from another site's page
  (``__Host-``, ``HttpOnly``, ``SameSite=Strict``: RFC 6265bis, section 4.1).
- A form's text is derived from the cookie's secret, so that it needs no place, and says nothing of the secret.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from sqlite3 import Connection
from typing import NamedTuple

from starlette.responses import Response

from keyturn.core.model import b64u
from keyturn.edge.database import Database
from keyturn.fleet import store
from keyturn.fleet.accounts import Account, digest

COOKIE = "__Host-keyturn"


class Session(NamedTuple):
    """Who asks. ``csrf`` is what a form of this session must carry."""

    account: Account
    secret: str

    @property
    def csrf(self) -> str:
        return b64u(hmac.digest(self.secret.encode(), b"keyturn console form", "sha256"))

    def carries(self, text: str) -> bool:
        """Whether a form carries this session's text; compared in constant time."""
        return hmac.compare_digest(self.csrf.encode(), text.encode("utf-8", "replace"))


def begin(db: Connection, account: Account, *, now: int, hours: int, chance: Callable[[int], bytes]) -> str:
    """Begin a session of ``hours``; the secret of its cookie."""
    secret = b64u(chance(32))
    store.audit(db, now, account.name, "signed_in")
    db.execute(
        "INSERT INTO session (id, account, expires_at) VALUES (?, ?, ?)",
        (digest(secret), account.name, now + hours * 3600),
    )
    return secret


def find(database: Database, secret: str | None, now: int) -> Session | None:
    """The session of a cookie, if it is one in force."""
    if not secret:
        return None
    row = database.look(
        "SELECT a.name, a.role FROM session s JOIN account a ON a.name = s.account WHERE s.id = ? AND s.expires_at > ?",
        (digest(secret), now),
    )
    return None if row is None else Session(Account(row["name"], row["role"]), secret)


def end(db: Connection, session: Session) -> None:
    db.execute("DELETE FROM session WHERE id = ?", (digest(session.secret),))


def give(answer: Response, secret: str, hours: int) -> Response:
    """The answer with the cookie."""
    answer.set_cookie(COOKIE, secret, max_age=hours * 3600, path="/", secure=True, httponly=True, samesite="strict")
    return answer


def take_back(answer: Response) -> Response:
    """The answer that forgets the cookie."""
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    return answer
