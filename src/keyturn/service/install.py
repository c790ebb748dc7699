"""``keyturn service install``: an account, a home and a systemd unit, so that the service starts with its computer.

Keeps: what is the publisher's service's own: two ports, a root folder that no running service sees, what is left to be done.
Leaves to others: everything else (``flows.installing``).
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from keyturn.edge.terminal import Call, pass_call
from keyturn.flows import installing
from keyturn.flows.installing import EVERYWHERE, Plan, Server
from keyturn.service.context import ServiceVerb, home_path

SERVER = Server("service", kept=("root",))
LISTEN, PROBE = "--listen", "--probe-listen"


def remaining(plan: Plan) -> Iterator[str]:
    """What is left for the administrator, in order: commands and, where there is none, a sentence."""
    if plan.ports(reachable=True):
        yield "Let the service's name point to this computer (A and AAAA records)."
    if installing.is_new(plan):
        first, *others = plan.ports()
        url = "https://NAME" + ("" if first == 443 else f":{first}")
        probe = "none"
        if others:
            probe = "http://NAME" + ("" if others[0] == 80 else f":{others[0]}") + "/probe"
        yield f"keyturn service init{installing.at_home(plan)} --publisher PUBLISHER --url {url} --probe-url {probe}"


@click.command(cls=ServiceVerb)
@installing.options(listen="HTTPS (default: port 443 of every address).")
@click.option(PROBE, metavar="HOST:PORT", help="The probe, or none (default: port 80 of every address).")
@pass_call
def install(
    call: Call,
    user_name: str,
    listen: str | None,
    probe_listen: str | None,
    program: str | None,
    root: str | None,
    dry_run: bool,
) -> None:
    """Make it a service of this computer: an account, a home, a systemd unit with a sandbox. The firewall is yours."""
    plan = installing.planned(
        call, SERVER, home_path(call), user=user_name, program=program, root=root,
        listen={LISTEN: listen or f"{EVERYWHERE}:443", PROBE: probe_listen or f"{EVERYWHERE}:80"},
    )  # fmt: skip
    installing.carry_out(call, plan, remaining, dry_run=dry_run)
