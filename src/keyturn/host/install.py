"""``keyturn host install``: an account, a home and a systemd unit, so that the host starts with its computer.

Keeps: what is the host's own: one port, and what is left to be done. Leaves to others: everything else (``flows.installing``).
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from keyturn.core.srv import PORT
from keyturn.edge.terminal import Call, Verb, pass_call
from keyturn.flows import installing
from keyturn.flows.installing import EVERYWHERE, Plan, Server
from keyturn.host.context import home_path

SERVER = Server("host")


def remaining(plan: Plan) -> Iterator[str]:
    """What is left for the administrator, in order: commands and, where there is none, a sentence."""
    at = installing.at_home(plan)
    if plan.ports(reachable=True):
        yield "Give this computer a name in your domain (A and AAAA records)."
    if installing.is_new(plan):
        yield f"keyturn host init{at} FILE.ktproduct"
        yield f"keyturn host activate{at} -"
        yield f"keyturn host config set{at} name NAME.DOMAIN"


@click.command(cls=Verb)
@installing.options(listen=f"HTTPS (default: port {PORT} of every address).")
@pass_call
def install(
    call: Call, user_name: str, listen: str | None, program: str | None, root: str | None, dry_run: bool
) -> None:
    """Make it a service of this computer: an account, a home, a systemd unit with a sandbox. The firewall is yours."""
    plan = installing.planned(
        call, SERVER, home_path(call), user=user_name, program=program, root=root,
        listen={"--listen": listen or f"{EVERYWHERE}:{PORT}"},
    )  # fmt: skip
    installing.carry_out(call, plan, remaining, dry_run=dry_run)
