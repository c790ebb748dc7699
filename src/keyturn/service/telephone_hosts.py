"""An activation host that calls: which ``client`` key it is to serve, and the answer, signed by an issuing key.

Keeps: what a host's answer says, and what does not fit into it. Leaves to others: the record and its order (``telephone``),
the code (``core.phone.hosted``), who signs (``signing``).

- One ``client`` key of the host key's organization and product is served: the newest that is not blocked, unless staff names
  another.
- A host key makes as many hosts as it has seats, and each of them may be activated ten times with it, as by every other way. By
  telephone an activation is an installation ID: the same one again, as for a renewal, is the same one.
- The document is not stored: the same ID is answered anew, from the day on which it is asked.
"""

from __future__ import annotations

import json
from sqlite3 import Connection, Row
from typing import NamedTuple

from keyturn.core import trust
from keyturn.core.errors import Refused
from keyturn.core.model import DAY, Channel, ProductName, product_id, rfc3339
from keyturn.core.phone import hosted
from keyturn.core.phone.hosted import Head, HostConfirmation
from keyturn.core.phone.installation import InstallationID
from keyturn.core.trust import IssuingKey
from keyturn.service import catalog, recording, seats
from keyturn.service.activation import ActivationService, terms_of
from keyturn.service.signing import Call, IssuingSigner


class Served(NamedTuple):
    """What is recorded of a host's answer: what the code will say, and the name of the edition."""

    head: Head
    edition: str


def signer(service: ActivationService, *, test: bool, now: int) -> tuple[IssuingKey, IssuingSigner]:
    """The issuing key of now. Raises: KeyturnError ``trust_invalid`` without one in force."""
    service.issuer(test=test)  # Looks at the disk, at most once a second.
    return service.home.signer(trust.role_for(test), now)


def served(db: Connection, row: Row, key: IssuingKey, now: int, wanted: int | None = None) -> Served | Refused:
    """What a host with the key ``row`` (with its product) is to serve; ``wanted`` is the serial that staff named.

    1. A ``client`` key of the same organization and product, not blocked. 2. Its edition has a number, and it has that edition's
    features and no others: computers know them from the product file. 3. The product's numbers fit. 4. The host key lasts as
    long as the answer will, for it names no other end.
    """
    # 1.
    client = _client(db, row, wanted)
    if isinstance(client, Refused):
        return client
    # 2.
    numbers, known = catalog.edition_numbers(db, row["product"]), catalog.editions(db, row["product"])
    edition, named = client["edition"], product_id(row["product"], Channel.CLIENT, client["serial"])
    if edition not in numbers:
        return _too_much(f"a code has no room for the edition {edition!r} of {named}")
    if tuple(json.loads(client["features"])) != known[edition]:
        return _too_much(f"a code has no room for the features that {named} has beyond its edition")
    # 3.
    terms = terms_of(row["terms"])
    head = Head(numbers[edition], (now - key.not_before) // DAY, terms.lease_days, terms.threshold, client["serial"])
    if not head.fits:
        return _too_much(f"a code has no room for leases of {terms.lease_days} days, or a threshold of {terms.threshold}")
    # 4.
    if row["until"] is not None and row["until"] < ends_at(head, key):
        return _too_much(f"the host key ends on {str(rfc3339(row['until']))[:10]}, before an answer by telephone would")
    return Served(head, edition)


def nothing_to_serve(db: Connection, row: Row) -> Refused | None:
    """Whether the organization of a host key has no ``client`` key at all that could be served."""
    found = _client(db, row)
    return found if isinstance(found, Refused) else None


def _client(db: Connection, row: Row, wanted: int | None = None) -> Row | Refused:
    keys = db.execute(_CLIENTS, (row["product"], row["organization"])).fetchall()
    client: Row | None = next((one for one in keys if wanted in (None, one["serial"])), None)
    if client is not None:
        return client
    whose = f"of {row['organization']}" if row["organization"] else "without an organization"
    which = "client key" if wanted is None else f"client key {wanted}"
    return Refused("nothing_to_serve", f"there is no {which} {whose} for {row['product']} that is not blocked")


def activated_too_often(db: Connection, given: InstallationID, activation: str) -> Refused | None:
    """Whether this host was activated with its key as often as it may be: by so many other installations or IDs."""
    if seats.installed(db, given.serial, activation, _counted_as(given)) < recording.HOST_ACTIVATIONS:
        return None
    return Refused("limit_reached", f"this host was activated {recording.HOST_ACTIVATIONS} times with its key")


def note(db: Connection, given: InstallationID, activation: str, now: int) -> None:
    """Count this ID among the activations of its host."""
    db.execute(_INSTALLATION, (given.serial, _counted_as(given), activation, now))


def issue(name: ProductName, given: InstallationID, said: Served, key: IssuingKey, by: IssuingSigner) -> HostConfirmation:
    """Sign what was recorded. Raises: KeyturnError ``signer_unavailable``, ``signer_locked``."""
    signed = by.sign(Call(key.kid, hosted.payload(name, given, said.head, key.not_before)))
    return HostConfirmation(said.head, signed.signature)


def ends_at(head: Head, key: IssuingKey) -> int:
    """When the host's certificate will end."""
    return key.not_before + (head.day + hosted.DAYS) * DAY


def _counted_as(given: InstallationID) -> str:
    """An ID in the place of an installation's thumbprint; no thumbprint begins so."""
    return f"+{given.commitment:010x}"


def _too_much(why: str) -> Refused:
    return Refused("not_by_telephone", f"{why}: activate the host online or by a file")


_CLIENTS = (
    "SELECT serial, edition, features FROM product_key WHERE product = ? AND organization IS ? AND channel = 'client'"
    " AND blocked = 0 ORDER BY created_at DESC, serial DESC"
)
_INSTALLATION = (
    "INSERT INTO installation (serial, thumbprint, guid, activation, seen_at) VALUES (?, ?, '', ?, ?)"
    " ON CONFLICT (serial, thumbprint) DO UPDATE SET activation = excluded.activation, seen_at = excluded.seen_at"
)
