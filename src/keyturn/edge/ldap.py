"""A directory of computers over LDAP (RFC 4511), Active Directory among them: one question, asked page by page.

Needs the extra ``ldap``. Leaves to others: what becomes of the answer.

- Pages of 500 (RFC 2696), so that a directory's limit on one answer hides nobody.
- A password travels over TLS alone, to a server that an authority vouches for.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any, NamedTuple

from keyturn.core.errors import KeyturnError

PAGE = 500
TIMEOUT = 20  # Seconds, for the connection and for each page.
COMPUTERS = "(objectClass=computer)"
NAMES = ("dNSHostName", "name", "cn")  # The first of them that an entry has is the computer's name.


class Directory(NamedTuple):
    """Where to ask, and as whom. ``ca`` is a file with the authority, if it is not one of the system's."""

    url: str
    base: str
    filter: str = COMPUTERS
    bind_dn: str | None = None
    password: str | None = None
    ca: str | None = None


def computers(asked: Directory) -> Iterator[str]:
    """The names of the computers that the directory knows, as they come.

    Raises: KeyturnError ``extra_missing``, ``usage`` for an address, base or filter that cannot be, or a password in the clear;
    ``directory_unreachable``, ``directory_refused``.
    """
    try:
        import ldap3  # type: ignore[import-untyped]
        from ldap3.core import exceptions  # type: ignore[import-untyped]
    except ImportError as error:
        raise KeyturnError("extra_missing", "a directory is asked with a part: pip install 'keyturn[ldap]'") from error
    if asked.bind_dn is not None and not asked.url.lower().startswith("ldaps://"):
        raise KeyturnError(
            "usage", f"a password would go in the clear to {asked.url}", remedy="Name the directory as ldaps://HOST."
        )
    if not asked.url.lower().startswith(("ldap://", "ldaps://")):
        raise KeyturnError("usage", f"{asked.url[:80]!r} is not an ldap:// or ldaps:// address")
    try:
        tls = ldap3.Tls(validate=ssl.CERT_REQUIRED, version=ssl.PROTOCOL_TLS_CLIENT, ca_certs_file=asked.ca)
        server = ldap3.Server(asked.url, tls=tls, connect_timeout=TIMEOUT, get_info=ldap3.NONE)
        connection = ldap3.Connection(
            server, asked.bind_dn, asked.password, read_only=True, receive_timeout=TIMEOUT, raise_exceptions=True
        )
        with contextlib.ExitStack() as ending:
            ending.callback(lambda: connection.socket and connection.socket.close())  # It is left open where nobody answers.
            ending.enter_context(connection)
            found = connection.extend.standard.paged_search(
                asked.base, asked.filter, attributes=list(NAMES), paged_size=PAGE, generator=True
            )
            for entry in found:
                if (name := _name(entry.get("attributes") or {})) is not None:  # A referral to another server has none.
                    yield name
    except (exceptions.LDAPInvalidFilterError, exceptions.LDAPInvalidDnError, exceptions.LDAPInvalidDNSyntaxResult) as error:
        raise KeyturnError("usage", f"the directory's base or filter is not understood: {error}") from error
    except exceptions.LDAPCommunicationError as error:
        raise KeyturnError("directory_unreachable", f"{asked.url}: {error}") from error
    except exceptions.LDAPException as error:
        raise KeyturnError("directory_refused", f"{asked.url}: {error}") from error


def _name(attributes: Any) -> str | None:
    for name in NAMES:
        values = attributes.get(name)
        value = values[0] if isinstance(values, list) and values else values
        if isinstance(value, str) and value:
            return value
    return None
