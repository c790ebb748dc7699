"""The organization's rules: which ways a computer may take, when, and what it keeps to itself.

Keeps: what a policy file may say, what several of them mean together, and which line decided.
Leaves to others: where the files are (``client.policies``), and asking before each step (``flows.exchange``, ``client``).

- Policy is the organization's. It is not the publisher's *terms* and not a program's *settings*.
- A file that is not understood forbids everything that leaves the computer: a prohibition with a typing mistake in it
  must not be read as permission.
- No line removes the need to activate, or the reminders: there is no such name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from keyturn.core.errors import KeyturnError

CHANNELS = ("online", "host", "fleet", "file", "telephone")
EVERYTHING = "all"
MINUTES = 24 * 60
# Names with their values, from the loosest to the strictest; the first is the default.
_CHOICES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(CHANNELS, ("allow", "never")),
    "consent": ("organization", "ask"),
    "metered": ("allow", "avoid"),
    "dial": ("allow", "never"),
    "cloud_metadata": ("ask", "never"),
    "extended_grace": ("use", "no"),
    "probe": ("none", "try", "required"),
}
_DEFAULTS = {
    **dict.fromkeys(CHANNELS, "allow"), "consent": "ask", "metered": "avoid", "dial": "never",
    "cloud_metadata": "never", "extended_grace": "no", "probe": "try",
}  # fmt: skip
_LISTS = ("names", "domains", "hours", "withhold")
NAMES = frozenset({*_CHOICES, "proxy", *_LISTS})  # Everything that a line can be about.
_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]|24):([0-5][0-9])")
_CREDENTIAL = re.compile(r"//[^/@\s]*@")
_NAME = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?")
_DOMAIN = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


class Said(NamedTuple):
    """One file's policy: values by name, and the line that says each (``FILE:NUMBER: text``)."""

    values: Mapping[str, Any]
    lines: Mapping[str, str]


class Policy(NamedTuple):
    """What holds on this computer. Without a file: every way is allowed, and nothing is withheld.

    ``names`` are the only ``host`` or ``host:port`` that may be contacted (none: those of the product file). ``domains`` are
    asked for activation hosts before those that this computer searches in. ``hours`` are pairs of minutes of the local day,
    an end before its beginning reaches past midnight (none: always). ``withhold`` are facts of ``privacy.toml``. ``lines``
    says which line decided a name, ``ignored`` which lines of a home were too loose.
    """

    online: bool = True
    host: bool = True
    fleet: bool = True
    file: bool = True
    telephone: bool = True
    probe: str = "try"
    consent: str = "ask"
    metered: str = "avoid"
    dial: str = "never"
    cloud_metadata: bool = False
    extended_grace: bool = False
    proxy: str | None = None
    names: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    hours: tuple[tuple[int, int], ...] = ()
    withhold: frozenset[str] = frozenset()
    lines: Mapping[str, str] = {}
    ignored: tuple[str, ...] = ()

    def line(self, name: str) -> str | None:
        """The line of a file that decided ``name``; ``None`` if nobody said anything."""
        return self.lines.get(name)

    def demand(self, channel: str) -> None:
        """Raises: KeyturnError ``policy_forbids``, with the line, if this way is forbidden."""
        if not getattr(self, channel):
            raise self.forbids(channel, f"the organization's policy forbids activation by {_WAYS[channel]}")

    def demand_name(self, host: str, port: int) -> None:
        """Raises: KeyturnError ``policy_forbids`` if this host and port may not be contacted."""
        if self.names and not any(name.lower() in (host.lower(), f"{host}:{port}".lower()) for name in self.names):
            raise self.forbids("names", f"the organization's policy does not name {host}:{port}")

    def demand_hours(self, minute: int) -> None:
        """Raises: KeyturnError ``policy_forbids``, with the seconds to wait, outside the allowed hours."""
        if not self.open_at(minute):
            wait = next(count for count in range(MINUTES) if self.open_at((minute + count) % MINUTES))
            raise self.forbids("hours", "the organization's policy allows contact at other hours", retry_after=wait * 60)

    def open_at(self, minute: int) -> bool:
        """Whether the hours allow contact at this minute (0 to 1439) of the local day."""
        return not self.hours or any(
            begin <= minute < end if begin < end else minute >= begin or minute < end for begin, end in self.hours
        )

    def forbids(self, name: str, why: str, *, retry_after: int | None = None) -> KeyturnError:
        """The error of a rule, naming the line that made it."""
        line = self.line(name)
        return KeyturnError(
            "policy_forbids", f"{why}{f' ({line})' if line else ''}", retry_after=retry_after, data={"rule": name, "line": line}
        )


def read(text: str, place: str, facts: Sequence[str]) -> Said:
    """Read one file. ``facts`` are the names that may be withheld.

    Raises: KeyturnError ``policy_malformed`` for anything that is not understood, with file and line.
    """
    import tomllib  # Only where there is a file: most computers have none, and every program asks for its license.

    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise KeyturnError("policy_malformed", f"{place}: {error}") from error
    rules = table.get("policy", {})
    if not isinstance(rules, dict) or set(table) - {"policy"}:
        raise KeyturnError("policy_malformed", f"{place}: there is one table, [policy]")
    values, lines = {}, {}
    for name, value in rules.items():
        lines[name] = f"{place}:{_line(text, name)}"
        values[name] = _value(name, value, lines[name], facts)
    return Said(values, lines)


def together(system: Sequence[Said], home: Said | None = None) -> Policy:
    """What several files mean: of the system's, the last that says a thing counts; a home's only restricts further."""
    values: dict[str, Any] = {}
    lines: dict[str, str] = {}
    for said in system:
        values.update(said.values)
        lines.update(said.lines)
    ignored = []
    for name, value in ({} if home is None else home.values).items():
        assert home is not None
        tightened = _stricter(name, values.get(name, _DEFAULTS.get(name)), value)
        if tightened is None:
            ignored.append(home.lines[name])
        elif tightened != values.get(name):
            values[name], lines[name] = tightened, home.lines[name]
    ways = {channel: values.pop(channel, "allow") == "allow" for channel in CHANNELS}
    flags = {
        "cloud_metadata": values.pop("cloud_metadata", "never") == "ask",
        "extended_grace": values.pop("extended_grace", "no") == "use",
    }
    return Policy(**ways, **flags, **values, lines=lines, ignored=tuple(ignored))


def _value(name: str, value: object, line: str, facts: Sequence[str]) -> Any:
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise KeyturnError("policy_malformed", f"{line}: {name} is one of {', '.join(_CHOICES[name])}")
        return value
    if name == "proxy" and isinstance(value, str) and re.fullmatch(r"https?://[^\s@/]+(:[0-9]{1,5})?/?", value):
        return value
    if name not in _LISTS:
        if name == "proxy":
            raise KeyturnError("policy_malformed", f"{line}: proxy is http://NAME:PORT, without credentials")
        raise KeyturnError("policy_malformed", f"{line}: {name!r} is not known; there are {', '.join(sorted(NAMES))}")
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise KeyturnError("policy_malformed", f"{line}: {name} is a list of texts, and not empty")
    return _READ[name](value, line, facts)


def _names(value: list[str], line: str, _facts: Sequence[str]) -> tuple[str, ...]:
    for item in value:
        if _NAME.fullmatch(item) is None:
            raise KeyturnError("policy_malformed", f"{line}: {item[:80]!r} is not HOST or HOST:PORT")
    return tuple(value)


def _domains(value: list[str], line: str, _facts: Sequence[str]) -> tuple[str, ...]:
    for item in value:
        if _DOMAIN.fullmatch(item) is None:
            raise KeyturnError("policy_malformed", f"{line}: {item[:80]!r} is not the name of a domain")
    return tuple(item.rstrip(".").lower() for item in value)


def _hours(value: list[str], line: str, _facts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    found = []
    for item in value:
        match = _HOURS.fullmatch(item)
        begin, end = (int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])) if match else (0, 0)
        if begin == end or end > MINUTES:
            raise KeyturnError("policy_malformed", f"{line}: {item[:40]!r} is not HH:MM-HH:MM, such as 22:00-06:00")
        found.append((begin, end))
    return tuple(found)


def _withhold(value: list[str], line: str, facts: Sequence[str]) -> frozenset[str]:
    wanted = frozenset(facts) if EVERYTHING in value else frozenset(value)
    if unknown := sorted(wanted - set(facts)):
        raise KeyturnError(
            "policy_malformed", f"{line}: {', '.join(unknown)[:120]} cannot be withheld; there are {', '.join(sorted(facts))}"
        )
    return wanted


_READ: Mapping[str, Callable[[list[str], str, Sequence[str]], Any]] = {
    "names": _names, "domains": _domains, "hours": _hours, "withhold": _withhold,
}  # fmt: skip


def _stricter(name: str, now: Any, wanted: Any) -> Any:
    """The stricter of two values, or ``None`` if ``wanted`` would loosen what holds."""
    if name in _CHOICES:
        order = _CHOICES[name]
        return None if order.index(wanted) < order.index(now) else wanted
    if name == "withhold":
        return wanted | (now or frozenset())
    if not now:
        return wanted
    if name == "names":
        kept = tuple(item for item in wanted if item in now)
        return kept or None
    return wanted if wanted == now else None  # Hours, domains and a proxy that the system names are its own.


def _line(text: str, name: str) -> str:
    """``NUMBER: the line`` that says ``name``, as it stands in the file, but for a credential in an address."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(rf"\s*[\"']?{re.escape(name)}[\"']?\s*=", line):
            return f"{number}: {_CREDENTIAL.sub('//…@', line.strip())[:120]}"
    return "1"


_WAYS = {
    "online": "the publisher's service", "host": "an activation host", "fleet": "the fleet manager", "file": "file",
    "telephone": "telephone",
}  # fmt: skip
