"""Computers that are there and not enrolled yet: by name, out of a file, of an address range, of a directory.

Keeps: rows of what was found, and the walk through a range. Leaves to others: the directory (``edge.ldap``), words (the verb).

- A find is a hint for people: nothing is sent to a found computer but what it takes to see that it is there.
- A range is bounded, and asked politely: so many connections a second, one at a time for each address, each closed at once.
- Who enrolled is found no more, by full or by short name.
"""

from __future__ import annotations

import asyncio
import csv
import io
import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from sqlite3 import Connection
from typing import Any, NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.model import rfc3339

MAX_ADDRESSES = 4_096
MAX_NAMES = 100_000
PORTS = (22, 445, 3389)  # SSH, Windows' file sharing, its remote desktop: one of them says something on most computers.
PER_SECOND = 50  # Connections that are begun.
PATIENCE = 1.0  # Seconds that one is waited for.
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?", re.ASCII)

Addresses = Sequence[ipaddress.IPv4Address | ipaddress.IPv6Address]
Progress = Callable[[str, int, int], None]


class Found(NamedTuple):
    """A computer. ``source``: ``name``, ``file``, ``range`` or ``directory``."""

    name: str
    address: str | None
    source: str


def named(names: Iterable[str], source: str) -> list[Found]:
    """Computers by their names. Raises: KeyturnError ``usage`` for what is no name."""
    found = []
    for name in names:
        if len(name) > 253 or not _NAME.fullmatch(name):
            raise KeyturnError("usage", f"{name[:60]!r} is not the name of a computer")
        found.append(Found(name.rstrip(".").lower(), None, source))
    return found


def read(text: str) -> list[Found]:
    """Computers out of lines or CSV: ``name, address`` (a first line with these names is one).

    Raises: KeyturnError ``file_malformed`` with the line, ``input_too_large``.
    """
    rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    if len(rows) > MAX_NAMES:
        raise KeyturnError("input_too_large", f"at most {MAX_NAMES} computers are read at once")
    found = []
    for number, row in enumerate(rows, 1):
        name, address = (*(cell.strip() for cell in row), "")[:2]
        if number == 1 and name.casefold() == "name":
            continue
        try:
            (one,) = named([name], "file")
            found.append(one._replace(address=str(ipaddress.ip_address(address)) if address else None))
        except (KeyturnError, ValueError) as error:
            raise KeyturnError("file_malformed", f"line {number}: {error}") from error
    return found


def addresses(text: str) -> Addresses:
    """The addresses of a range, CIDR (RFC 4632). Raises: KeyturnError ``usage`` for what is none, ``input_too_large``."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise KeyturnError("usage", f"{text[:60]!r} is not an address range such as 192.0.2.0/24") from error
    if network.num_addresses > MAX_ADDRESSES:
        raise KeyturnError(
            "input_too_large", f"{text} has {network.num_addresses} addresses, and at most {MAX_ADDRESSES} are asked at once"
        )
    return list(network.hosts())


def seconds(count: int) -> int:
    """How long a walk through so many addresses takes at most."""
    return count * len(PORTS) // PER_SECOND + int(PATIENCE) + 1


async def walk(asked: Addresses, progress: Progress, *, ports: Sequence[int] = PORTS) -> list[Found]:
    """Look which addresses answer.

    1. Connections begin in even steps, at most ``PER_SECOND``; those of one address one after the other.
    2. An address that takes a connection, or refuses it, is a computer; one that says nothing is none.
    3. Its name is what DNS says of the address, else the address itself.
    """
    pace, done, found = _Pace(PER_SECOND), 0, []

    async def look(address: str) -> None:
        nonlocal done
        for port in ports:
            await pace()
            if await _answers(address, port):
                found.append(Found(await asyncio.to_thread(_name, address), address, "range"))
                break
        done += 1
        progress("asking addresses", done, len(asked))

    await asyncio.gather(*(look(str(address)) for address in asked))
    return sorted(found, key=lambda one: (ipaddress.ip_address(one.address or "").packed, one.name))


class _Pace:
    """Lets one through at a time, in even steps."""

    def __init__(self, per_second: float) -> None:
        self._step, self._turn = 1 / per_second, asyncio.Lock()

    async def __call__(self) -> None:
        async with self._turn:
            await asyncio.sleep(self._step)


async def _answers(address: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), PATIENCE)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _name(address: str) -> str:
    try:
        return socket.gethostbyaddr(address)[0].lower()
    except OSError:
        return address


def keep(db: Connection, found: Iterable[Found], now: int) -> tuple[int, int]:
    """Keep what was found; how many are new, and how many enrolled already, which are not kept."""
    enrolled, new, there = _enrolled(db), 0, 0
    for one in found:
        if _short(one.name) in enrolled:
            there += 1
            continue
        known = db.execute("SELECT 1 FROM found WHERE name = ?", (one.name,)).fetchone()
        new += known is None
        db.execute(
            "INSERT INTO found (name, address, source, found_at) VALUES (?, ?, ?, ?) ON CONFLICT (name)"
            " DO UPDATE SET address = coalesce(excluded.address, address), source = excluded.source,"
            " found_at = excluded.found_at",
            (one.name, one.address, one.source, now),
        )
    return new, there


def remove(db: Connection, names: Iterable[str]) -> None:
    """Forget finds; all of them or none. Raises: KeyturnError ``not_found``."""
    for name in names:
        if not db.execute("DELETE FROM found WHERE name = ?", (name.lower(),)).rowcount:
            raise KeyturnError("not_found", f"{name[:60]!r} is not on the list", remedy="See it: `keyturn fleet discover list`.")


def listed(db: Connection) -> list[dict[str, Any]]:
    """What was found and is not enrolled, in order of names."""
    enrolled = _enrolled(db)
    return [
        {"name": row["name"], "address": row["address"], "source": row["source"], "found_at": rfc3339(row["found_at"])}
        for row in db.execute("SELECT * FROM found ORDER BY name")
        if _short(row["name"]) not in enrolled
    ]


def _enrolled(db: Connection) -> set[str]:
    return {_short(row["name"]) for row in db.execute("SELECT name FROM computer")}


def _short(name: str) -> str:
    """A name without its domain; an address has none."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower().partition(".")[0]
