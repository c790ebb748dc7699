"""The verbs for whoever answers the telephone: the desk's page, and the page that works without a network."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from keyturn.edge import clock, files
from keyturn.edge.terminal import Call, pass_call
from keyturn.service.context import ServiceVerb, opened


@click.command(cls=ServiceVerb)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Where it listens, on loopback; 0 takes a free one."
)
@pass_call
def desk(call: Call, port: int) -> None:
    """Open the desk: the page on which staff answers calls, on this computer, behind a link that works once.

    It says before the last group whether the key is known, blocked or at its limit. Ends by Ctrl-C.
    """
    from keyturn.edge import listen as listening
    from keyturn.edge.serverlog import open_log
    from keyturn.service.desk_web import Door, build

    with opened(call) as service:
        door, log = Door(service.ids.chance), open_log(clock.now)
        link = door.link

        def ready(found: listening.Ready) -> None:
            url = f"http://127.0.0.1:{found.port}/open/{link}"
            event = {"event": "ready", "url": url, "pid": found.pid}
            click.echo(
                json.dumps(event) if call.json else f"Open the desk: {url}\n(The link works once, on this computer.)"
            )

        async def main() -> None:
            await listening.serve(
                build(service, door, log), host="127.0.0.1", port=port, on_ready=ready, stop=asyncio.Event()
            )

        listening.run(main())


@click.command("phone-page", cls=ServiceVerb)
@click.option("-o", "--output", required=True, metavar="F.html", help="The file to write.")
@pass_call
def phone_page(call: Call, output: str) -> None:
    """Write a page that checks installation IDs without any network: one file, for any browser."""
    from keyturn.service import call_pages

    with opened(call) as service:
        settings = service.home.settings
        text = call_pages.offline(settings.publisher, f"{settings.url}/phone")
    files.write(Path(output), text.encode())
    call.emit({"file": output}, f"Wrote {output}: it sends nothing, and needs nothing.")
