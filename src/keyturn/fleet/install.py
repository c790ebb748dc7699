"""``keyturn fleet install``: an account, a home and a systemd unit, so that the fleet manager starts with its computer.

Keeps: what is the manager's own: one port, and what is left to be done. Leaves to others: everything else (``flows.installing``).
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from keyturn.edge.terminal import Call, Verb, address, pass_call
from keyturn.fleet.context import home_path
from keyturn.fleet.home import DEFAULTS
from keyturn.flows import installing
from keyturn.flows.installing import EVERYWHERE, Plan, Server

SERVER = Server("fleet")
PORT = address(DEFAULTS["listen"])[1]


def remaining(plan: Plan) -> Iterator[str]:
    """What is left for the administrator, in order: commands and, where there is none, a sentence."""
    at, (port,) = installing.at_home(plan), plan.ports()
    if plan.ports(reachable=True):
        yield "Give this computer a name in your domain (A and AAAA records)."
    if installing.is_new(plan):
        yield f"keyturn fleet init{at} FILE.ktproduct --url https://NAME.DOMAIN:{port}"
        yield f"keyturn fleet key add{at} -"


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
