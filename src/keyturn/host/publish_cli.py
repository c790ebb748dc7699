"""``keyturn host publish``: the host's record in DNS, now or as lines to copy."""

from __future__ import annotations

import click

from keyturn.core.errors import KeyturnError
from keyturn.edge import discovery
from keyturn.edge.terminal import Call, Verb, pass_call
from keyturn.host import publishing
from keyturn.host.context import opened_home


@click.command(cls=Verb)
@click.option(
    "--print",
    "style",
    type=click.Choice(["bind", "powershell", "dnsmasq"]),
    help="Print the record for this kind of server; do no more.",
)
@click.option(
    "--domain", metavar="NAME", help="The domain of the printed record (default: the first of the setting domains)."
)
@click.option("--withdraw", is_flag=True, help="Remove this host's record.")
@pass_call
def publish(call: Call, style: str | None, domain: str | None, withdraw: bool) -> None:
    """Publish this host in DNS, so that computers find it; list the records of other hosts, and which of them answer.

    A running host does this by itself, daily, and withdraws its record when it is stopped.
    """
    settings = opened_home(call).settings
    own = publishing.own_place(settings)
    if style is not None:
        zone = domain or (settings.domains[0] if settings.domains else None)
        if zone is None:
            raise KeyturnError(
                "usage", "which domain?", remedy="Add --domain NAME, or `keyturn host config set domains NAME`."
            )
        line = discovery.lines(own, zone, style)
        call.emit({"line": line, "target": own.target, "port": own.port}, line)
        return
    update = publishing.update_of(settings)
    if update is None:
        raise KeyturnError(
            "usage", "no server is set that takes updates",
            remedy="`keyturn host config set update_server NAME` and `keyturn host config set domains NAME`,"
            " or copy a line: `keyturn host publish --print bind`.",
        )  # fmt: skip
    (discovery.withdraw if withdraw else discovery.publish)(update, publishing.publishable(own))
    found = list(publishing.records(update, own))
    data = {
        "zone": update.zone, "server": update.server, "published": not withdraw,
        "records": [{**r.place._asdict(), "state": r.state} for r in found],
    }  # fmt: skip
    words = {"own": "this host", "answers": "answers", "silent": "does not answer: stale, if it is gone for good"}
    lines = [f"{'Withdrew' if withdraw else 'Published'} {own} in {update.zone}."]
    lines += [f"  {r.place.priority} {r.place.weight} {r.place}  {words[r.state]}" for r in found]
    call.emit(data, "\n".join(lines))
