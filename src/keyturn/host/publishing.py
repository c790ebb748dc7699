"""The host in DNS: its own record, published with a key and withdrawn at the end, and what to copy where no update is taken.

Keeps: what settings mean for DNS. Leaves to others: updates and look-ups (``edge.discovery``).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.srv import PORT, Place
from keyturn.edge import discovery, files
from keyturn.edge.discovery import Update
from keyturn.edge.terminal import address
from keyturn.host.home import Settings

_KEY = re.compile(r'key\s+"?([\w.-]+)"?\s*\{(.*?)\}', re.DOTALL)  # As BIND's tsig-keygen writes it.
_WORD = re.compile(r'(algorithm|secret)\s+"?([\w+/=.-]+)"?\s*;')
_REACH = 3.0  # Seconds for a connection to a host that is looked for.


class Record(NamedTuple):
    """A record of the zone. ``state``: ``own``, ``answers`` or ``silent`` (stale, if that host is not coming back)."""

    place: Place
    state: str


def own_place(settings: Settings, port: int | None = None) -> Place:
    """What this host is called in DNS. ``port`` is the one that it listens on, if that is known."""
    number = port or address(settings.listen)[1] or PORT
    return Place(settings.name.lower(), number, settings.priority, settings.weight, "named")


def publishable(place: Place) -> Place:
    """The same, if other computers could find it by that name. Raises: KeyturnError ``usage``."""
    if "." not in place.target or place.target.startswith("localhost"):
        raise KeyturnError(
            "usage", f"{place.target} is not a name by which others find this host",
            remedy="`keyturn host config set name NAME.DOMAIN`, with an address record of its own.",
        )  # fmt: skip
    return place


def update_of(settings: Settings) -> Update | None:
    """Where this host publishes itself; ``None`` if no update server and domain are set.

    Raises: KeyturnError ``usage`` for a key file that is none, ``permission_denied`` for one that others can read.
    """
    if settings.update_server is None or not settings.domains:
        return None
    server, _, port = settings.update_server.partition(":")
    update = Update(_number(server), settings.domains[0], port=int(port) if port.isdigit() else 53)
    if settings.update_key_file is None:
        return update
    data = files.read(settings.update_key_file, 16_384)
    if data is None:
        raise KeyturnError("usage", f"the key file {settings.update_key_file} does not exist")
    if files.open_to_others(settings.update_key_file):
        raise KeyturnError("permission_denied", f"{settings.update_key_file} can be read by others; `chmod 600` it")
    found = _KEY.search(data.decode("utf-8", "replace"))
    words = dict(_WORD.findall(found[2])) if found else {}
    if found is None or "secret" not in words:
        raise KeyturnError(
            "usage", f"{settings.update_key_file} is no TSIG key", remedy="Make one with `tsig-keygen NAME`."
        )
    return update._replace(key_name=found[1], secret=words["secret"], algorithm=words.get("algorithm", "hmac-sha256"))


def describe(settings: Settings) -> str:
    """How computers find this host by DNS, in words."""
    if not settings.domains:
        return (
            "no domain is set: computers name this host (`keyturn host publish --print bind` prints a record to copy)"
        )
    if settings.update_server is None:
        return f"the record in {settings.domains[0]} is kept by hand: `keyturn host publish --print bind`"
    return f"published in {settings.domains[0]} by update of {settings.update_server}"


def records(update: Update, own: Place) -> Iterator[Record]:
    """All records of activation hosts in the zone, and whether somebody is there. Raises: as ``discovery.published``."""
    for place in discovery.published(update):
        if place.target.lower() == own.target:
            yield Record(place, "own")
        else:
            yield Record(place, "answers" if _answers(place) else "silent")


def _answers(place: Place) -> bool:
    try:
        with socket.create_connection((place.target, place.port), _REACH):
            return True
    except OSError:
        return False


def _number(server: str) -> str:
    """The address of a name server that is named. Raises: KeyturnError ``dns_unreachable``."""
    try:
        return str(socket.getaddrinfo(server, 53, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise KeyturnError("dns_unreachable", f"{server} has no address") from error
