"""What the program has, and what the pages say of it: both sides of ``test_docs.py``.

A side is a set of names. What the program has is asked of the program (Click, the catalogue, a running service's tables) or,
where nothing can be asked, read from its source. What the pages say is read from the place where a reader looks for it.
"""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from command_tree import commands, common, far
from fleets import Site
from hosts import Organization
from keyturn.core import policy
from keyturn.core.errors import CATALOGUE
from keyturn.core.events import EVENTS
from keyturn.core.terms import Terms
from keyturn.edge.metrics import Metrics
from keyturn.fleet import app as fleet_app
from keyturn.fleet.home import DEFAULTS as FLEET_SETTINGS
from keyturn.host import app as host_app
from keyturn.host.home import SETTINGS as HOST_SETTINGS
from keyturn.service import app
from keyturn.service.home import SETTINGS
from keyturn.testing import World
from make_pages import service_routes

ROOT = Path(__file__).parents[1]
DOCS, SOURCE = ROOT / "docs", ROOT / "src" / "keyturn"
# A server's settings stand in variables that begin so.
_SETTINGS = {"KEYTURN_SERVICE_": SETTINGS, "KEYTURN_HOST_": HOST_SETTINGS, "KEYTURN_FLEET_": FLEET_SETTINGS}
_VARIABLE = re.compile(r"_?KEYTURN_[A-Z]+(_[A-Z]+)*|[a-z]+_proxy")


class Subject(NamedTuple):
    """One kind of name that must be on the pages. ``invented`` is a name that the program does not have."""

    what: str
    there: Callable[[], set[str]]
    told: Callable[[], set[str]]
    invented: str


def subjects() -> tuple[Subject, ...]:
    return (
        Subject("command", _commands, lambda: set(_sections("commands.md")), "keyturn service key print"),
        Subject("option", _options, _told_options, "keyturn status --loud"),
        Subject("error code", lambda: set(CATALOGUE), lambda: set(_sections("errors.md")), "moon_phase_wrong"),
        Subject("setting", lambda: set(SETTINGS), lambda: _first("settings.md", "Settings of"), "colour"),
        Subject("host setting", lambda: set(HOST_SETTINGS), lambda: _first("settings.md", "The host's settings"), "colour"),
        Subject("host address", _host_routes, lambda: _first("host.md", "Addresses"), "GET /moon"),
        Subject("fleet setting", lambda: set(FLEET_SETTINGS), lambda: _first("settings.md", "The fleet manager's"), "colour"),
        Subject("fleet address", _fleet_routes, lambda: _first("fleet.md", "Addresses"), "GET /moon"),
        Subject("environment variable", lambda: variables(_sources()), _told_variables, "KEYTURN_COLOUR"),
        Subject("term", lambda: set(Terms._fields), lambda: _first("publishing.md", "Terms"), "free_days"),
        Subject("address", _routes, lambda: _first("routes.md", "# Addresses"), "GET /v1/admin/moon"),
        Subject("figure", _figures, _told_figures, "keyturn_moon_phase"),
        Subject("event", lambda: set(EVENTS), _told_events, "moon_rose"),
        Subject("policy line", lambda: set(policy.NAMES), lambda: _first("limiting.md", "The policy, line"), "moon_phase"),
        Subject("log event", lambda: events(_sources()), _told_log, "moon_rose"),
    )


def undocumented(subject: Subject, there: Iterable[str]) -> list[str]:
    """What is there and on no page."""
    return sorted(set(there) - subject.told())


def gone(subject: Subject, there: Iterable[str]) -> list[str]:
    """What is on a page and not there."""
    return sorted(subject.told() - set(there))


# What is there.


def _commands() -> set[str]:
    return {command.name for command in commands()}


def _options() -> set[str]:
    own = {f"{command.name} {name}" for command in commands() for option in command.options for name in option.names}
    shared = {f"keyturn {name}" for option in common() for name in option.names}
    return own | shared | {f"keyturn service {name}" for option in far() for name in option.names}


def _routes() -> set[str]:
    return {f"{route.method} {route.path}" for route in service_routes()[0]}


def _host_routes() -> set[str]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        host = Organization(world).host()
        table = host_app.routes(host, Metrics(), "host.example:8444")
        host.database.close()
        world.close()
    return {f"{route.method} {route.path}" for route in table}


def _fleet_routes() -> set[str]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        site = Site(world, Path(folder) / "site")
        table = fleet_app.routes(site.fleet, Metrics())
        site.database.close()
        world.close()
    return {f"{route.method} {route.path}" for route in table}


def _fleet_figures() -> set[str]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        site = Site(world, Path(folder) / "site")
        found = site.database.read(lambda db: fleet_app._gauges(db, world.clock()))
        site.database.close()
        world.close()
    return {name for name, _ in found}


@cache
def _figures() -> set[str]:
    """The names in the answer of ``/metrics``; those of the process itself are one family."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        text = Metrics().render(app._gauges(world.publisher.service)).decode()
        world.close()
    named = {re.sub(r"^process_.*", "process_*", name) for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)}
    return named | {*host_app.GAUGES, host_app.CERTIFICATE_LEFT[0]} | _fleet_figures()


def _sources() -> Iterator[ast.Module]:
    yield from (ast.parse(path.read_text("utf-8")) for path in sorted(SOURCE.rglob("*.py")))


def variables(modules: Iterable[ast.Module]) -> set[str]:
    """The environment variables that are read: asked of something called ``environ``, or named like one of ours."""
    found = set()
    for module in modules:
        for node in ast.walk(module):
            asked = _asked(node)
            if asked is not None:
                found.add(asked)
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {node.value} if _VARIABLE.fullmatch(node.value) else set()
                found |= {f"{node.value}{name.upper()}" for name in _SETTINGS.get(node.value, ())}
    return found


def _asked(node: ast.AST) -> str | None:
    """The name in ``environ.get(NAME)``, ``environ[NAME]`` and ``NAME in environ``."""
    where: ast.expr | None = None
    name: ast.expr | None = None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
        where, name = node.func.value, node.args[0]
    elif isinstance(node, ast.Subscript):
        where, name = node.value, node.slice
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn)):
        where, name = node.comparators[0], node.left
    if where is None or not ast.unparse(where).endswith("environ"):
        return None
    return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None


def events(modules: Iterable[ast.Module]) -> set[str]:
    """The events that are logged: the first argument of every call of a log."""
    return {
        node.args[0].value
        for module in modules
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and re.search(r"(^|[._])log$", ast.unparse(node.func)) and node.args
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    }


# What the pages say.


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def section(name: str, beginning: str) -> str:
    """The part of a page whose heading begins so, or the whole page if that is its title."""
    text = page(name)
    if beginning.startswith("# "):
        assert text.startswith(beginning), f"docs/{name} does not begin with {beginning!r}"
        return text
    found = [part for part in text.split("\n## ") if part.startswith(beginning)]
    assert len(found) == 1, f"docs/{name} has {len(found)} sections {beginning!r}"
    return found[0]


def rows(text: str) -> Iterator[list[str]]:
    """The rows of the tables in a text, without heads; a ``|`` in code does not part cells."""
    for line in text.splitlines():
        if line.startswith("| `") or (line.startswith("| ") and not line.startswith("| ---")):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def _first(name: str, beginning: str) -> set[str]:
    """The code in the first cells of the tables of a section."""
    return {word for cells in rows(section(name, beginning)) for word in re.findall(r"`([^`]+)`", cells[0])}


def _sections(name: str) -> dict[str, str]:
    """The sections of a page that are headed by code: the code, and what stands there."""
    parts = re.split(r"^### `([^`]+)`\n", page(name), flags=re.MULTILINE)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return {head: re.split(r"^## ", body, maxsplit=1, flags=re.MULTILINE)[0] for head, body in pairs}


def _told_options() -> set[str]:
    first, _, rest = page("commands.md").partition("## The client")
    shared = {"keyturn": first, "keyturn service": rest.partition("## The service")[2].partition("### ")[0]}
    places = [*_sections("commands.md").items(), *shared.items()]
    items = [(name, line) for name, body in places for line in body.splitlines() if line.startswith("- `-")]
    return {f"{name} {flag}" for name, line in items for flag in re.findall(r"`(-[\w-]+)", line.partition(": ")[0])}


def _told_variables() -> set[str]:
    """Variables of settings.md."""
    tables = [section("settings.md", title) for title in ("Settings of", "The host's settings", "The fleet manager's")]
    third = " ".join(cells[2] for table in tables for cells in rows(table))
    settings = set(re.findall(r"`(KEYTURN_\w+)`", third))
    others = _first("settings.md", "Environment of") | _first("settings.md", "Test products")
    return settings | others


def _told_log() -> set[str]:
    return _first("operations.md", "The log") | _first("host.md", "The log") | _first("fleet.md", "The log")


def _told_events() -> set[str]:
    """The second cells of the catalogue's rows, which begin with a number."""
    return {cells[1].strip("`") for cells in rows(page("events.md")) if cells[0].isdigit()}


def _told_figures() -> set[str]:
    tables = section("operations.md", "Figures"), section("host.md", "Figures"), section("fleet.md", "Figures")
    first = " ".join(cells[0] for table in tables for cells in rows(table))
    names = re.findall(r"`([a-z_*]+)(?:\{[^}]*\})?`", first)
    return {re.sub(r"_total$", "", name) if name not in _figures() else name for name in names}
