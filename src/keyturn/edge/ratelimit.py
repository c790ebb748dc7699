"""How much one side may ask: token buckets per address, per address prefix and per product key. Pure values and arithmetic.

Keeps: the buckets, their sizes, and the share that is reserved for renewals. Leaves to others: who asks and what is a
renewal (``shedding``). The time is an argument.

- An address is counted alone and with its neighbours: /24 of IPv4; /64 and /48 of IPv6, where one customer has a /64.
- Buckets are in memory and nowhere else: no address is stored or logged. Their number is bounded; the one that was not
  used for the longest time goes first, and it is the one that is full again anyway.
- New load is shed first: renewals have buckets of their own beside the others, which new load cannot empty.
"""

from __future__ import annotations

import functools
import ipaddress
import math
import re
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from keyturn.core.errors import KeyturnError

RESERVED = 0.25  # What renewals have on top, as a share of what everybody has.
MOST = 65_536  # Buckets of each kind that are remembered: some ten megabytes at most.
GUESS = 9  # What a request costs on top if it does not prove its product key.

_RATE = re.compile(r"(\d{1,7}(?:\.\d{1,3})?)/(\d{1,7})", re.ASCII)


class Rate(NamedTuple):
    """So many a second in the long run, and so many at once after a pause."""

    per_second: float
    burst: float

    @classmethod
    def parse(cls, text: str) -> Rate | None:
        """``PER_SECOND/BURST``, or ``off`` for no limit. Raises: KeyturnError ``usage``."""
        if text == "off":
            return None
        found = _RATE.fullmatch(text)
        rate = cls(float(found[1]), float(found[2])) if found else cls(0, 0)
        if rate.per_second <= 0 or rate.burst < 1:
            raise KeyturnError("usage", f"{text!r} is not a rate: PER_SECOND/BURST, for example 100/2000, or off")
        return rate

    def times(self, share: float) -> Rate:
        return Rate(self.per_second * share, max(1.0, self.burst * share))


class Rates(NamedTuple):
    """The limits in force; ``None`` is none."""

    address: Rate | None = None
    prefix: Rate | None = None
    key: Rate | None = None


class Buckets:
    """Token buckets of one rate, by name."""

    def __init__(self, rate: Rate | None, most: int = MOST) -> None:
        self._rate = rate
        self._most = most
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, name: Hashable, now: float, cost: float = 1.0) -> float:
        """Take ``cost`` from a bucket; the result is 0.0, or the seconds until it holds that much (nothing is taken then)."""
        if self._rate is None:
            return 0.0
        level = self._level(name, now)
        if level < cost:
            self._keep(name, level, now)
            return (cost - level) / self._rate.per_second
        self._keep(name, level - cost, now)
        return 0.0

    def charge(self, name: Hashable, now: float, cost: float) -> None:
        """Take ``cost``, or what there is."""
        if self._rate is not None:
            self._keep(name, max(0.0, self._level(name, now) - cost), now)

    def _level(self, name: Hashable, now: float) -> float:
        assert self._rate is not None
        level, since = self._levels.get(name, (self._rate.burst, now))
        return min(self._rate.burst, level + max(0.0, now - since) * self._rate.per_second)

    def _keep(self, name: Hashable, level: float, now: float) -> None:
        self._levels[name] = (level, now)
        self._levels.move_to_end(name)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)


class Limiter:
    """The limits of one service. Every method returns 0.0, or the seconds to wait."""

    def __init__(self, rates: Rates, *, reserved: float = RESERVED, most: int = MOST) -> None:
        def share(rate: Rate | None) -> Rate | None:
            return None if rate is None else rate.times(reserved)

        self._addresses = Buckets(rates.address, most)
        self._prefixes = Buckets(rates.prefix, most)
        self._renewing = Buckets(share(rates.prefix), most)
        self._keys = Buckets(rates.key, most)
        self._keys_renewing = Buckets(share(rates.key), most)

    def arrive(self, address: str, now: float) -> float:
        """A request comes from ``address``."""
        one, wide = places(address)
        wait = self._addresses.take(one, now)
        return wait or self._prefixes.take(wide, now)

    def renew(self, address: str, now: float) -> float:
        """A request that says it renews comes from where everything else was used up."""
        return self._renewing.take(places(address)[1], now)

    def guess(self, address: str, now: float) -> None:
        """The request that came from ``address`` proved no product key: it costs more."""
        one, wide = places(address)
        self._addresses.charge(one, now, GUESS)
        self._prefixes.charge(wide, now, GUESS)

    def key(self, serial: int, now: float) -> float:
        """A request proved that it knows this key. Nobody else can use up a key's bucket."""
        return self._keys.take(serial, now)

    def key_renew(self, serial: int, now: float) -> float:
        """The same, for a computer that holds a seat already, once the key's bucket is empty."""
        return self._keys_renewing.take(serial, now)


@functools.lru_cache(maxsize=4_096)
def places(address: str) -> tuple[str, str]:
    """An address as it is counted alone, and the prefix it is counted in. What is no address is one place."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "", ""
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if isinstance(found, ipaddress.IPv4Address):
        return str(found), f"{int(found) >> 8:06x}/24"
    return f"{int(found) >> 64:016x}/64", f"{int(found) >> 80:012x}/48"


def whole_seconds(wait: float) -> int:
    """For ``Retry-After``: never zero."""
    return max(1, math.ceil(wait))
