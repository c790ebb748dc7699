"""``keyturn fleet report``: who has what, owned against installed; on the screen, as CSV, as a page to print."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.core.errors import KeyturnError
from keyturn.edge import files
from keyturn.edge.terminal import Call, Verb, pass_call
from keyturn.fleet import reporting, selecting, templates
from keyturn.fleet.context import opened
from keyturn.fleet.context import selecting as selector_options
from keyturn.fleet.selecting import Selector


@click.command("report", cls=Verb)
@selector_options
@click.option("--csv", "as_csv", is_flag=True, help="Every product of every computer as comma-separated values.")
@click.option("--html", "as_html", is_flag=True, help="A page to print.")
@click.option("-o", "--output", metavar="FILE", help="Write it there instead of on the screen.")
@pass_call
def report(call: Call, as_csv: bool, as_html: bool, output: str | None, selector: Selector) -> None:
    """Report by product, state and group, what ends within 90 days, and what is owned against what is installed."""
    if as_csv and as_html:
        raise KeyturnError("usage", "--csv or --html, not both")
    with opened(call) as manager:
        found = manager.database.read(
            lambda db: reporting.report(db, manager.clock(), selecting.choose(db, selector) if selector.given else None)
        )
    if as_csv:
        text = reporting.as_csv(found["computers"], reporting.COLUMNS)
    elif as_html:
        text = templates.page("report.html", **found)
    else:
        text = "\n".join(_lines(found))
    if output is not None:
        files.write(Path(output), text.encode("utf-8-sig" if as_csv else "utf-8"))
        call.emit({"file": output, **found}, f"Wrote {output}.")
    elif as_csv or as_html:
        click.echo(text, nl=False)
    else:
        call.emit(found, text)


def _lines(found: dict[str, list[dict[str, object]]]) -> list[str]:
    lines = [f"License report of {found['at']}"]
    for one in found["products"]:
        states = one["states"]
        assert isinstance(states, dict)
        lines.append(f"  {one['slug']:<20} {_states(states)}")
    for one in found["true_up"]:
        owned = "not known (keyturn fleet key set KEY --owned N)" if one["owned"] is None else one["owned"]
        result = "" if one["over"] is None else f": {one['over']} over" if one["over"] else ": covered"
        lines.append(f"  {one['slug']:<20} {owned} owned, {one['installed']} installed{result}")
    lines += [
        f"  Group {one['group']:<14} {one['installed']} installed, {one['licensed']} licensed"
        for one in found["groups"]
    ]
    lines += [f"  Ends {str(one['until'])[:10]}      {one['computer']} ({one['state']})" for one in found["ending"]]
    return lines


def _states(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.items())
