"""Which of several hosts is asked first: priority and weight of DNS service records (RFC 2782).

Keeps: the order. Leaves to others: where records come from (``edge.discovery``), which host answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

SERVICE = "_keyturn._tcp"
PORT = 8444


class Place(NamedTuple):
    """A host that may be asked. ``origin`` says where the name comes from: a domain, ``remembered`` or ``named``."""

    target: str
    port: int
    priority: int = 0
    weight: int = 0
    origin: str = "named"

    def __str__(self) -> str:
        return f"[{self.target}]:{self.port}" if ":" in self.target else f"{self.target}:{self.port}"


def order(places: Sequence[Place], chance: Callable[[int], int]) -> list[Place]:
    """The order in which to ask: the lowest priority first, and within one by weight.

    ``chance(n)`` returns a random whole number from 0 to n, both included (RFC 2782, "Usage rules"): places of weight 0 come
    first in the running sum, so that they have a small chance too.
    """
    ordered: list[Place] = []
    for priority in sorted({place.priority for place in places}):
        left = sorted((place for place in places if place.priority == priority), key=lambda place: place.weight > 0)
        while left:
            drawn, running = chance(sum(place.weight for place in left)), 0
            for place in left:
                running += place.weight
                if running >= drawn:
                    break
            left.remove(place)
            ordered.append(place)
    return ordered
