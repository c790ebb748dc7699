"""The verbs for tokens of the admin API. Who may hand out rights is at the service's own home: no token makes tokens."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from keyturn.edge import clock, files
from keyturn.edge.terminal import Call, pass_call
from keyturn.service import tokens
from keyturn.service.context import ServiceVerbs, ids, opened
from keyturn.service.desk import dated
from keyturn.service.sealing import Vault
from keyturn.service.tables import lines, table

_ROLES = """\b
mint     for a shop: mint, change and block keys, create organizations
support  for a helper: look, find, block keys, reclaim seats
read     for a report: look, and the figures at /metrics
admin    all of these, and products"""


@click.group(cls=ServiceVerbs)
def token() -> None:
    """Tokens: who may use the admin API, and for what."""


@token.command("create", epilog=_ROLES)
@click.option("--role", type=click.Choice(tokens.ROLES), required=True, help="What it may do.")
@click.option("--name", default="", help="Which program or person will use it.")
@click.option("--expires", "days", type=click.IntRange(1, 3650), metavar="DAYS", help="When it ends (default: never).")
@click.option("-o", "--output", metavar="F", help="Write it to a file (mode 0600) instead of the screen.")
@pass_call
def token_create(call: Call, role: str, name: str, days: int | None, output: str | None) -> None:
    """Make a token. It is shown now and never again."""
    with opened(call) as s:
        making = tokens.Tokens(Vault(s.home.pepper()), secrets.token_bytes)
        made = dated(
            s.database.write_now(
                lambda db: tokens.create(db, making, ids(), role=role, name=name[:100], days=days, now=clock.now())
            )
        )
        url = s.home.settings.url
    if output is not None:
        files.write(Path(output), f"{made.pop('token')}\n".encode(), files.PRIVATE)
        call.emit({**made, "file": output}, f"Wrote the token {made['id']} to {output}. It is nowhere else.")
    else:
        call.emit(made, f"{made['token']}\n{lines({k: v for k, v in made.items() if k != 'token'})}")
        call.say("Keep it: a token is shown once.")
    call.next(f"keyturn service --at {url} --token-file F product list")


@token.command("list")
@pass_call
def token_list(call: Call) -> None:
    """List tokens by their public part."""
    with opened(call) as s:
        found = [dated(row) for row in s.database.read(tokens.listed)]
    call.emit(
        {"tokens": found}, table(found, ("id", "role", "name", "created_at", "expires_at", "revoked_at", "used_at"))
    )


@token.command("revoke")
@click.argument("identifier", metavar="ID")
@pass_call
def token_revoke(call: Call, identifier: str) -> None:
    """End a token at once, by its public part."""
    with opened(call) as s:
        found = dated(s.database.write_now(lambda db: tokens.revoke(db, ids(), identifier, clock.now())))
    call.emit(found, lines(found))
