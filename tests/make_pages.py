"""Make the pages of ``docs/`` that repeat what the program knows: ``python tests/make_pages.py DIRECTORY``.

``test_docs.py`` makes them elsewhere and compares them with the committed ones. The man pages are made by ``make_man.py``.
"""

from __future__ import annotations

import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from command_tree import Command, Option, commands, common, far
from keyturn.client import views
from keyturn.core import license
from keyturn.core.errors import CATALOGUE, Entry
from keyturn.core.events import EVENTS, Event
from keyturn.edge.metrics import Metrics
from keyturn.edge.web import PUBLIC, Route
from keyturn.service import openapi
from keyturn.service.admin import Gatekeeper
from keyturn.service.app import routes
from keyturn.service.tokens import RIGHTS, ROLES
from keyturn.testing import World

DOCS = Path(__file__).parents[1] / "docs"
MARK = "<!-- Made by tests/make_pages.py (make pages): change the program, not this page. -->"
EXITS = {
    0: "done",
    1: "the answer is no",
    2: "the command cannot be carried out as it stands",
    3: "somebody cannot be reached",
    4: "what was given is broken",
    5: "it could be done, but must not be",
    6: "a fault",
}
# Addresses that the OpenAPI document leaves out.
SUMMARIES = {
    "/metrics": "Figures in the text format of Prometheus",
    "/v1/openapi.json": "The OpenAPI 3.1 description",
    "/docs": "The description for people",
    "/phone": "The page that answers an installation ID",
    "/phone/validate": "The page that answers a validation ID",
    "/phone.js": "That page's script",
    "/phone/voice": "The voice menu, for telephony providers",
}


ERRORS = f"""# Error codes

{MARK}

Every "no" and every fault of Keyturn has a code that is never renamed. `keyturn explain CODE` is the short
form of this page. A command prints the code, what happened, what to do, and a reference such as `KT-7Q2F-91XM`, which the
publisher's staff can look up (`keyturn service find`). With `--json` it is one object on stdout:

```json
{{"error": {{"code": "limit_reached", "title": "…", "detail": "…", "remedy": "…",
           "reference": "KT-7Q2F-91XM", "retry_after": null}}}}
```

The service answers with the same members as `application/problem+json` and the HTTP status given here. The exit
status of a command is the code's family:
"""
REASONS = """
## Reasons

`keyturn status` exits with 0 and says in `reason` why a product is not licensed, or soon will not be:

| reason | means | what to do |
|---|---|---|"""
COMMANDS = f"""# Commands

{MARK}

`keyturn VERB` is for the person at a computer, `keyturn service VERB` for the publisher, `keyturn host VERB` for an
organization's activation host, `keyturn fleet VERB` for its fleet manager. `--help` after any of them
says the same as this page, and `make man` makes man pages of it. Data goes to stdout, everything else to stderr;
[error codes](errors.md) lists the exit statuses, [settings](settings.md) the environment.

These options stand before or after every verb:
"""
SERVICE = """
## The service

Every verb below `keyturn service` takes these as well; verbs that work in the service's own home only say so:
"""
HOST = """
## The host

An organization's activation host ([set-up](host.md)). All of these work in the host's own home, beside a running host or without one.
"""
FLEET = """
## The fleet manager

An organization's fleet manager ([set-up](fleet.md)). All of these work in its own home, beside a running manager or without one.
"""
ROUTES = f"""# Addresses of the service

{MARK}

The authorization table: nothing else is answered, and each line names who may. *Everybody* means that no token is
asked for: what a client sends is a signed document, which proves who speaks ([protocol](protocol.md)). Roles are
those of [tokens](admin-api.md#tokens). `HEAD` is answered like `GET`, `OPTIONS` with the methods of the address.
`GET /probe` is on a listener of its own (`--probe-listen`), in plain HTTP, for everybody.

| address | what for | who |
|---|---|---|"""
SENT = f"""# What leaves a computer

{MARK}

Everything that a client sends, and everything that a service keeps. The declaration is `privacy.toml`; a test fails on
any field on the wire, in the database or in the log that is not in it. `keyturn disclose` shows the very request that
`keyturn activate` then sends, `keyturn disclose --sent` every byte that was sent and received.

Never sent: a name, an address, an e-mail address, the name of a user or a computer, a serial number or a MAC address,
the product key. No IP address is stored with an activation or written to a log.

Unless a line says otherwise: legal basis {{basis}} (GDPR); kept {{retention}}; read by {{readers}}. *May be withheld*
means that an organization's policy can leave it out ([how to limit it](limiting.md)).
"""
EVENT_LOG = f"""# The event log

{MARK}

What happens on a computer, for whoever looks after it: every step has an event with a number that stays, under the one source
name `keyturn`. Each event is

- a line of `events.jsonl` in the store, which `keyturn events` reads (1 MiB, and four older files). Where the store cannot be written
  (a full disk, another account's store) a file below `/run/keyturn`, or the user's runtime directory, takes its place;
- in the journal with its fields (`journalctl -t keyturn`, `journalctl KEYTURN_EVENT_ID=306`), or in syslog with structured data
  (RFC 5424), or in the Application log on Windows.

```sh
keyturn events                        # all of them, oldest first
keyturn events --severity warning     # only what wants something done
keyturn events --correlation 5f0c…    # one request, and what came of it
keyturn events --meanings             # this table
```

`keyturn events --json` is `{{"events": […]}}`; each has

| member | what |
|---|---|
| `time` | when, by this computer's clock (RFC 3339) |
| `event_id`, `name` | which event: the first two columns below |
| `severity` | `info`; `warning`: something is to be done, in time; `error`: something is to be done now. Both always have a `remedy` |
| `code`, `return_code` | the [error code](errors.md) or [reason](errors.md#reasons), and the exit status that goes with it; 0: none |
| `correlation` | shared by a request and what came of it. `request_sent` without a fellow: asked, and no answer ever came. It is never sent |
| `product` | the product's name, THUMBPRINT/SLUG |
| `message`, `remedy` | what happened, and what to do about it |
| `data` | figures for programs; `program` is who noted it: `keyturn`, `agent`, `application` |

No event holds a product key, a hardware value, the name of a user or of a computer.

| number | name | severity | means | what to do |
|---|---|---|---|---|"""
KEPT = """
## What the service keeps

Column by column of its database.

| table | column | what |
|---|---|---|"""
HOST_KEPT = """
## What an activation host keeps

Column by column of its ledger, on the organization's own server. What a computer sends to a host is the same request as above; the
publisher is told none of it. Kept for 400 days after a computer was last seen; one that keeps nothing, for a day.

| table | column | what |
|---|---|---|"""
TOLD = """
## What hosts of one organization tell each other

Signed by the host, between hosts that the publisher certified for the same organization; for each computer seen within 30 days.

| field | what |
|---|---|"""
FLEET_KEPT = """
## What a fleet manager keeps

Column by column of its database, on the organization's own server. A publisher is sent the requests alone, which are the same as above.

| table | column | what |
|---|---|---|"""
CHECKED_IN = """
## What an agent tells its fleet manager

Signed by the computer's key for this manager, over a connection to it alone.

| document | field | what |
|---|---|---|"""
FLEET_DOCUMENTS = {
    "check-in": "check_in", "enrollment": "enrollment", "to the publisher: about a key": "inquiry", "in a file: manifest": "manifest",
}  # fmt: skip
LOGGED = """
## What service, host and fleet manager write to their logs

| field | what |
|---|---|"""


# Errors.


def errors_page(entries: Sequence[Entry], notes: Mapping[str, str]) -> str:
    """Every code of the catalogue, by exit status, and the reasons that ``status`` gives.

    Raises: ValueError for a note about a code that is not there.
    """
    unknown = notes.keys() - {entry.code for entry in entries}
    if unknown:
        raise ValueError(f"docs/errors.toml speaks of {', '.join(sorted(unknown))}, which the catalogue does not know")
    lines = [ERRORS, *(f"- **{number}**: {meaning}" for number, meaning in EXITS.items())]
    for number, meaning in EXITS.items():
        family = [entry for entry in entries if entry.exit == number]
        if family:
            lines += ["", f"## Exit {number}: {meaning}"]
        for entry in family:
            note = notes.get(entry.code, "").strip()
            lines += ["", f"### `{entry.code}`", "", f"{entry.title}.", "", f"*What to do:* {entry.remedy}"]
            lines += ["", note] if note else []
            lines += ["", f"*HTTP status:* {entry.status}"]
    return "\n".join([*lines, REASONS, *_reasons(), ""])


def _reasons() -> Iterator[str]:
    for reason, means in views._REASONS.items():
        entry = CATALOGUE.get(reason)
        remedy = license._REMEDIES.get(reason) or (entry.remedy if entry else None)
        assert remedy, f"the reason {reason} has no remedy"
        yield f"| `{reason}` | {means} | {remedy} |"


# Commands.


def commands_page(every: Sequence[Command]) -> str:
    """Every command with its options, the client's first."""
    client = [command for command in every if command.words[1:2] not in (("service",), ("host",), ("fleet",))]
    service = [command for command in every if command.words[1:2] == ("service",)]
    host = [command for command in every if command.words[1:2] == ("host",)]
    fleet = [command for command in every if command.words[1:2] == ("fleet",)]
    return "\n".join([
        COMMANDS, *(_item(option) for option in common()), "", "## The client",
        *(line for command in client for line in _section(command)),
        SERVICE, *(_item(option) for option in far()), *(line for command in service for line in _section(command)),
        HOST, *(line for command in host for line in _section(command)),
        FLEET, *(line for command in fleet for line in _section(command)), "",
    ])  # fmt: skip


def _section(command: Command) -> Iterator[str]:
    yield from ("", f"### `{command.name}`", "", "```", command.usage, "```")
    for paragraph in command.help:
        yield ""
        yield from ("```", paragraph, "```") if "\n" in paragraph else (paragraph,)
    if command.commands:
        links = (f"[`{name}`](#{'-'.join([*command.words, name])})" for name in command.commands)
        yield from ("", f"Verbs: {', '.join(links)}.")
    own = [] if command.words == ("keyturn", "service") else command.options
    if own:
        yield from ("", *(_item(option) for option in own))


def _item(option: Option) -> str:
    return f"- {term(option)}: {meaning(option)}"


def term(option: Option) -> str:
    """The option as it is typed: ``-o F``, ``--output F``."""
    return ", ".join(f"`{name} {option.value}`" if option.value else f"`{name}`" for name in option.names)


def meaning(option: Option) -> str:
    """What it does, and what there is to know beside."""
    more = ["Required."] if option.required else []
    more += ["May be given several times."] if option.repeatable else []
    more += [f"Default: `{option.default}`."] if option.default is not None else []
    more += [f"Environment: {', '.join(f'`{name}`' for name in option.environment)}."] if option.environment else []
    return " ".join([option.help, *more])


# The service's addresses.


def routes_page(table: Sequence[Route], described: Mapping[str, Any]) -> str:
    """The authorization table: every address, who may use it, what it is for. Raises: KeyError for one without a summary."""

    def line(route: Route) -> str:
        return f"| `{route.method} {route.path}` | {summary(route, described)} | {who(route)} |"

    return "\n".join([ROUTES, *(line(route) for route in table), ""])


def summary(route: Route, described: Mapping[str, Any]) -> str:
    operation = described["paths"].get(route.path, {}).get(route.method.lower())
    return str(operation["summary"]) if operation else SUMMARIES[route.path]


def who(route: Route) -> str:
    return "everybody" if route.access == PUBLIC else ", ".join(role for role in ROLES if role in RIGHTS[route.access])


def service_routes() -> tuple[list[Route], dict[str, Any]]:
    """The table of a real service, and its description."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        try:
            service = world.publisher.service
            return routes(service, Gatekeeper(service), Metrics()), openapi.document("", "")
        finally:
            world.close()


# What leaves a computer.


def sent_page(declared: Mapping[str, Any]) -> str:
    """The declaration ``privacy.toml`` for readers."""
    usual = declared["defaults"]
    lines = [SENT.format(**usual).rstrip("\n")]
    for section, title in (
        ("facts", "Facts about the computer"),
        ("request", "The rest of a request"),
        ("release", "A return"),
    ):
        lines += ["", f"## {title}", "", "| field | what | what for | may be withheld |", "|---|---|---|---|"]
        for name, about in declared[section].items():
            more = [f"{key}: {about[key]}" for key in ("basis", "retention", "readers") if key in about]
            withheld = "yes" if about.get("withholdable", usual["withholdable"]) else "no"
            lines.append(f"| `{name}` | {about['title']} | {'; '.join([about['purpose'], *more])} | {withheld} |")
    tables = declared["tables"].items()
    lines += [
        KEPT,
        *(f"| `{table}` | `{column}` | {told} |" for table, columns in tables for column, told in columns.items()),
    ]
    lines += [
        HOST_KEPT,
        *(f"| `{table}` | `{column}` | {told} |" for table, columns in declared["host"].items() for column, told in columns.items()),
        TOLD, *(f"| `{name}` | {told} |" for name, told in declared["sightings"].items()),
        FLEET_KEPT,
        *(f"| `{table}` | `{column}` | {told} |" for table, columns in declared["fleet"].items() for column, told in columns.items()),
        CHECKED_IN,
        *(f"| {kind} | `{name}` | {told} |" for kind, part in FLEET_DOCUMENTS.items() for name, told in declared[part].items()),
    ]  # fmt: skip
    lines += [LOGGED, *(f"| `{name}` | {told} |" for name, told in declared["log"].items())]
    return "\n".join([*lines, ""])


# The event log.


def events_page(events: Sequence[Event]) -> str:
    """The catalogue of events, by number."""
    rows = (f"| {e.id} | `{e.name}` | {e.severity} | {e.meaning} | {e.action or ''} |" for e in events)
    return "\n".join([EVENT_LOG, *rows, ""])


def pages() -> dict[str, str]:
    """Every page by the name of its file."""
    notes = tomllib.loads((DOCS / "errors.toml").read_text("utf-8"))
    declared = tomllib.loads((resources.files("keyturn") / "privacy.toml").read_text("utf-8"))
    return {
        "commands.md": commands_page(commands()),
        "events.md": events_page(list(EVENTS.values())),
        "errors.md": errors_page(list(CATALOGUE.values()), notes),
        "routes.md": routes_page(*service_routes()),
        "what-is-sent.md": sent_page(declared),
    }


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
