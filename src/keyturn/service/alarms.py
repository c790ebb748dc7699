"""What ends soon: issuing keys here, issuing keys authorised at all, confirmation keys, the TLS certificate.

Keeps: the days at which somebody is told, and what they are told to do. Leaves to others: where it is shown (``cli``, ``app``,
the log).

An expired certificate that nobody saw coming has stopped whole telephone networks for a day; so it is said 90, 60 and 30 days
ahead, in three places.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, rfc3339
from keyturn.edge import files, tls
from keyturn.edge.serverlog import Log
from keyturn.service import confirming, rotation
from keyturn.service.ceremony import ROLES
from keyturn.service.home import ServiceHome

LEVELS = (30, 60, 90)  # Days.
TLS_LEVELS = (30,)
_HERE = "Bring the root folder and run `keyturn service issuing-key rotate`."
_AHEAD = (
    "Authorise the next year: `keyturn service issuing-key rotate` with the root folder here does it where one root decides;"
    " where several do, it says which ceremony is due."
)
_PHONE = "Make the next one with the root folder here: `keyturn service issuing-key rotate`. Until then no call is answered."
_TLS = "Run the service with another certificate: --tls-cert and --tls-key."


class Alarm(NamedTuple):
    """Something ends in ``days_left`` days, at most ``level`` (30, 60 or 90). ``of`` is the keys' role, or ``tls``."""

    alarm: str
    of: str
    level: int
    days_left: int
    ends: str | None
    remedy: str

    def __str__(self) -> str:
        return f"{self.alarm.replace('_', ' ')} ({self.of}) in {max(0, self.days_left)} days. {self.remedy}"


def here_until(home: ServiceHome) -> dict[str, int]:
    """Per role, when the last issuing key that is here and may sign ends; 0 without any."""
    keys = [key for key in home.chain.newest.keys.values() if key.kid in home.signers and key.kid not in home.chain.revoked]
    return {role: max((key.not_after for key in keys if key.role == role), default=0) for role in ROLES}


def tls_until(certificate: str) -> int | None:
    """When the TLS certificate in a file ends; None if there is none, 0 if it cannot be read."""
    try:
        data = files.read(Path(certificate), 1 << 20)
        return None if data is None else tls.until(data)
    except KeyturnError:
        return 0  # ``verify`` says what is wrong with it; here it is as good as ended.


def alarms(home: ServiceHome, now: int, *, certificate: str | None = None) -> Iterator[Alarm]:
    """Everything that ends within 90, 60 or 30 days. ``certificate`` is the TLS certificate in use, if not the home's."""
    for role, ends in here_until(home).items():
        yield from _alarm("issuing_keys_end", role, ends, now, LEVELS, _HERE)
    for role, ends in rotation.authorised_until(home.chain).items():
        yield from _alarm("authorised_keys_end", role, ends, now, LEVELS, _AHEAD)
    for role, ends in confirming.here_until(home.path, home.chain).items():
        yield from _alarm("confirmation_keys_end", role, ends, now, LEVELS, _PHONE)
    found = tls_until(certificate or home.tls_files[0])
    if found is not None:
        yield from _alarm("tls_certificate_ends", "tls", found, now, TLS_LEVELS, _TLS)


def write(log: Log, found: Iterator[Alarm]) -> None:
    """A line for each alarm."""
    for item in found:
        log("alarm", {name: value for name, value in item._asdict().items() if name != "remedy"})


async def daily(tell: Callable[[], None], stop: asyncio.Event, *, period: float = DAY) -> None:
    """Call ``tell`` now and every ``period`` seconds until ``stop``."""
    while not stop.is_set():
        tell()
        try:
            await asyncio.wait_for(stop.wait(), period)
        except TimeoutError:
            continue  # The period is over.


def _alarm(name: str, of: str, ends: int, now: int, levels: tuple[int, ...], remedy: str) -> Iterator[Alarm]:
    left = (ends - now) // DAY if ends else 0
    level = next((level for level in levels if left <= level), None)
    if level is not None:
        yield Alarm(name, of, level, left, rfc3339(ends) if ends else None, remedy)
