"""``keyturn fleet export``, ``import`` and ``inspect``: an isolated site's requests as a file, and the answers back."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.core import containers
from keyturn.edge import files
from keyturn.edge.terminal import Call, Verb, Verbs, pass_call
from keyturn.fleet import carrying
from keyturn.fleet.context import opened, readable, who
from keyturn.fleet.manager import named_product


@click.group(cls=Verbs)
def export() -> None:
    """Write a file to carry to a connected computer."""


@export.command("request")
@click.option("-o", "--output", required=True, metavar="F", help="The file to write, F.ktx.")
@pass_call
def export_request(call: Call, output: str) -> None:
    """Write every request that waits into one file: the requests alone, without names, users or addresses."""
    with opened(call) as manager:
        product = manager.database.read(lambda db: named_product(db, call.product))["name"]
        content, name, count = carrying.export(manager, product, who(call))
    files.write_json(Path(output), content)
    call.emit({"file": output, "export": name, "requests": count}, f"Wrote {count} requests to {output}.")
    call.next(f"carry it to a connected computer: keyturn relay {output}")


@click.command("import", cls=Verb)
@click.argument("file")
@pass_call
def import_(call: Call, file: str) -> None:
    """Take the answers out of a file that was carried back; the computers get theirs when they check in."""
    value = containers.expect(readable(file), "exchange")
    with opened(call) as manager:
        taken = carrying.take(manager, value, who(call))
    words = f"{taken.answered} answered, {taken.refused} refused, {taken.open} not answered yet."
    if taken.before:
        words += " This file was imported before; what was known already was left as it is."
    call.emit({"file": file, **taken._asdict()}, words)
    call.next("keyturn fleet task list")


@click.command("inspect", cls=Verb)
@click.argument("file")
@pass_call
def inspect(call: Call, file: str) -> None:
    """Say what a file of this site is, and how far it is answered; a foreign or altered one is refused with the reason."""
    value = containers.expect(readable(file), "exchange")
    with opened(call) as manager:
        found = carrying.describe(manager, value)
    call.emit(
        found,
        "\n".join(
            f"{name.replace('_', ' '):<12} {entry if entry is not None else 'none'}" for name, entry in found.items()
        ),
    )
