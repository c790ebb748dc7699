"""Where a computer looks for its activation host: the name it was given, the last good one, then DNS: in the domains of its
organization's policy, and in its own.

Keeps: the order of places. Leaves to others: asking DNS (``edge.discovery``), and whether a host may be believed
(``flows.hosting``).

- A host that answered is remembered and asked first the next time; one that is dead is never waited for twice in one run,
  because all others are asked after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keyturn.core.errors import KeyturnError
from keyturn.core.srv import PORT, Place, order
from keyturn.edge.vault import Shelf


def parse(text: str) -> Place:
    """``NAME[:PORT]`` or ``[ADDRESS]:PORT``. Raises: KeyturnError ``usage``."""
    name, port = text, str(PORT)
    if text.startswith("["):
        name, _, rest = text[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else port
    elif text.count(":") == 1:
        name, _, port = text.partition(":")
    if not name or not port.isdecimal() or not 0 < int(port) < 65_536 or any(sign in name for sign in "/@ "):
        raise KeyturnError("usage", f"{text[:80]!r} is not the name of a host: NAME[:PORT]")
    return Place(name, int(port))


def places(
    shelf: Shelf, chance: Callable[[int], bytes], say: Callable[[str], None], named: str | None, domains: Sequence[str] = ()
) -> Sequence[Place]:
    """The hosts to ask, in order; with a name, that one alone. ``domains`` are asked before those that this computer searches in.

    Raises: KeyturnError ``host_not_found``, ``usage``.
    """
    if named is not None:
        return [parse(named)]
    from keyturn.edge import discovery

    found: list[Place] = []
    kept = shelf.host()
    if kept is not None:
        found.append(parse(kept)._replace(origin="remembered"))
    for answer in discovery.look_up(list(dict.fromkeys([*domains, *discovery.search_domains()]))):
        if answer.fault is not None:
            say(answer.fault)
        found += order(answer.places, lambda most: int.from_bytes(chance(8), "big") % (most + 1))
    return list({(place.target.lower(), place.port): place for place in reversed(found)}.values())[::-1]
