"""The verb ``apply``."""

from __future__ import annotations

import os

import click

from keyturn.client.context import homes_of, machine_of
from keyturn.client.provisioning import FOLDER, Applied, apply_all
from keyturn.client.views import row
from keyturn.edge.terminal import Call, Verb, pass_call


@click.command(cls=Verb)
@click.argument("files", nargs=-1, metavar="[FILE…]")
@click.option("--dry-run", is_flag=True, help="Say what would be changed; change and send nothing.")
@pass_call
def apply(call: Call, files: tuple[str, ...], dry_run: bool) -> int:
    """Bring products to what provisioning files say: added, their key installed, activated. What is so already is left alone.

    Without FILE: every *.toml in provision.d beside the organization's policy. The exit status is the first failure's.
    """
    machine = machine_of(call)
    found = apply_all(homes_of(call), machine, files or None, dry_run=dry_run, say=call.say)
    text = "\n".join(_said(result, dry_run=dry_run) for result in found)
    call.emit(
        {
            "changed": any(result.actions for result in found), "dry_run": dry_run,
            "products": [result.as_json() for result in found],
        },
        text or f"There is nothing to apply in {os.path.join(machine.rules, FOLDER)}.",
    )  # fmt: skip
    return next((result.error.exit for result in found if result.error is not None), 0)


def _said(result: Applied, *, dry_run: bool) -> str:
    done = ", ".join(result.actions).replace("_", " ") or "nothing to do"
    lines = [f"{result.file}:", row("Would do" if dry_run else "Done", done)]
    if result.product:
        lines.append(row("Product", result.product))
    if result.state:
        lines.append(row("State", result.state.replace("_", " ")))
    if result.error is not None:
        lines += [row("Error", f"({result.error.code}) {result.error.detail}"), row("Next", result.error.remedy)]
    return "\n".join(lines)
