"""Every verb by name, and the module it lives in, imported when the verb is called."""

from __future__ import annotations

import click

from keyturn import __version__
from keyturn.edge.terminal import Verbs, run

_CLIENT = {
    "status": "keyturn.client.cli:status",
    "product": "keyturn.client.cli:product",
    "install-key": "keyturn.client.cli:install_key",
    "remove-key": "keyturn.client.cli:remove_key",
    "activate": "keyturn.client.activating:activate",
    "deactivate": "keyturn.client.activating:deactivate",
    "installation-id": "keyturn.client.telephone_cli:installation_id",
    "confirm": "keyturn.client.telephone_cli:confirm",
    "disclose": "keyturn.client.disclosing:disclose",
    "export": "keyturn.client.carrying:export",
    "relay": "keyturn.client.carrying:relay",
    "import": "keyturn.client.carrying:import_",
    "inspect": "keyturn.client.carrying:inspect",
    "rearm": "keyturn.client.activating:rearm",
    "remind": "keyturn.client.reminder_cli:remind",
    "apply": "keyturn.client.provision_cli:apply",
    "doctor": "keyturn.client.doctor:doctor",
    "agent": "keyturn.client.agent:agent",
    "events": "keyturn.client.eventing:events",
    "validate": "keyturn.client.activating:validate",
    "explain": "keyturn.client.cli:explain",
    "completion": "keyturn.client.cli:completion",
}
# The servers' verbs stand behind a module that needs nothing but the client's parts.
_SERVERS = {name: f"keyturn.extras:{name}" for name in ("service", "host", "fleet", "demo")}


@click.group(cls=Verbs, lazy={**_CLIENT, **_SERVERS}, invoke_without_command=True)
@click.version_option(__version__, message="keyturn %(version)s")
@click.pass_context
def root(context: click.Context) -> None:
    """Activate products on this computer, see where they stand, give seats back.

    Without a verb: the status, and the one next step.
    """
    if context.invoked_subcommand is None:
        from keyturn.client.cli import status

        context.invoke(status)


def run_verbs(arguments: list[str] | None = None) -> int:
    """Run a command line; the result is the exit status."""
    return run(root, arguments)
