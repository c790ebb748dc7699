"""``keyturn events``: what happened on this computer, as its administrator wants to read it."""

from __future__ import annotations

from typing import Any

import click

from keyturn.client.context import homes_of
from keyturn.core.events import ERROR, EVENTS, INFO, WARNING
from keyturn.core.model import parse_rfc3339, rfc3339
from keyturn.edge import eventlog
from keyturn.edge.terminal import Call, Verb, pass_call
from keyturn.edge.voice import style

_ORDER = (INFO, WARNING, ERROR)
_COLOURS = {WARNING: "yellow", ERROR: "red"}


@click.command(cls=Verb)
@click.option("--severity", type=click.Choice(_ORDER), default=INFO, help="Only events as grave as this, or graver.")
@click.option("--since", metavar="TIME", help="Only events from this time on (RFC 3339, such as 2026-11-22T19:00:00Z).")
@click.option("--correlation", metavar="MARK", help="Only the request with this mark, and what came of it.")
@click.option("--limit", type=click.IntRange(1), default=200, show_default=True, help="At most so many, the newest.")
@click.option("--meanings", is_flag=True, help="List every kind of event with its number and meaning instead.")
@pass_call
def events(
    call: Call, severity: str, since: str | None, correlation: str | None, limit: int, meanings: bool
) -> None:
    """Print the event log of this computer's stores, oldest first.

    The same events are in the system's journal (`journalctl -t keyturn`) or syslog.
    """
    if meanings:
        kinds = [event._asdict() for event in EVENTS.values()]
        call.emit({"events": kinds}, "\n".join(f"{k['id']}  {k['severity']:<8} {k['name']:<22} {k['meaning']}" for k in kinds))
        return
    start = None if since is None else rfc3339(parse_rfc3339(since))
    found: list[dict[str, Any]] = []
    for vault in homes_of(call).read:
        found += eventlog.read(vault.home, eventlog.spare_file(vault.home, call.environ))
    grave = _ORDER[_ORDER.index(severity) :]
    wanted = [
        entry
        for entry in sorted(found, key=lambda entry: str(entry["time"]))
        if entry["severity"] in grave
        and (start is None or str(entry["time"]) >= start)
        and (correlation is None or entry.get("correlation") == correlation)
        and (call.product is None or _is_about(entry, call.product))
    ][-limit:]
    call.emit({"events": wanted}, "\n".join(map(_line, wanted)) or "Nothing was noted.")


def _is_about(entry: dict[str, Any], product: str) -> bool:
    name = str(entry.get("product"))
    return product in (name, name.partition("/")[2])


def _line(entry: dict[str, Any]) -> str:
    severity = str(entry["severity"])
    mark = style(f"{severity:<7}", fg=_COLOURS.get(severity), bold=severity == ERROR)
    code = f" ({entry['code']})" if entry.get("code") else ""
    about = f" [{entry['correlation']}]" if entry.get("correlation") else ""
    lines = [f"{entry['time']} {mark} {entry['event_id']} {entry['name']}{code}{about}", f"    {entry['message']}"]
    if entry.get("remedy"):
        lines.append(f"    {style('Do', bold=True)}: {entry['remedy']}")
    return "\n".join(lines)
