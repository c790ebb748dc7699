"""``keyturn fleet token``: what lets computers join."""

from __future__ import annotations

import re

import click

from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, rfc3339
from keyturn.edge.terminal import Call, Verbs, pass_call
from keyturn.fleet import tokens
from keyturn.fleet.context import opened, who

_AGE = re.compile(r"([1-9][0-9]{0,3})([dhm])")
_SECONDS = {"d": DAY, "h": 3600, "m": 60}


@click.group(cls=Verbs)
def token() -> None:
    """Enrollment tokens: each holds this manager's address and key, and a secret that lets a computer join."""


@token.command("create")
@click.option("--group", "group", metavar="G", help="Put the computers that join with it into this group.")
@click.option(
    "--uses", type=click.IntRange(1), metavar="N", help="How many computers may join with it (default: any number)."
)
@click.option("--expires", default="7d", metavar="TIME", help="Until when: 7d, 12h, 30m (default: 7d).")
@pass_call
def token_create(call: Call, group: str | None, uses: int | None, expires: str) -> None:
    """Make a token, and print ready lines that enroll a computer with it."""
    age = _AGE.fullmatch(expires)
    if age is None:
        raise KeyturnError("usage", f"{expires!r} is not a time such as 7d, 12h or 30m")
    with opened(call) as manager:
        now = manager.clock()
        until = now + int(age[1]) * _SECONDS[age[2]]
        name, made = manager.database.write_now(
            lambda db: tokens.create(
                db,
                manager.home.url,
                manager.home.signer.kid,
                group=group,
                uses=uses,
                expires_at=until,
                who=who(call),
                now=now,
                chance=manager.chance,
            )
        )
    lines = tokens.ready_lines(made.text)
    said = {
        "id": name,
        "token": made.text,
        "url": made.url,
        "group": group,
        "uses": uses,
        "expires_at": rfc3339(until),
        "lines": lines,
    }
    text = [
        made.text,
        "",
        f"Computers reach this manager at {made.url}. The token is shown once; it serves until {rfc3339(until)}.",
        "",
    ]
    for system, line in lines.items():
        text += [f"{system}:", *(f"  {part}" for part in line.splitlines())]
    call.emit(said, "\n".join(text))


@token.command("list")
@pass_call
def token_list(call: Call) -> None:
    """List tokens, without their secrets."""
    with opened(call) as manager:
        found = manager.database.read(lambda db: tokens.listed(db, manager.clock()))
    lines = [
        f"{one['id']}  {one['state']:<8} used {one['used']} of {one['uses'] or 'any'}  until {one['expires_at']}"
        f"  {one['group'] or ''}"
        for one in found
    ]
    call.emit({"tokens": found}, "\n".join(lines) or "No token was made yet.")


@token.command("revoke")
@click.argument("name", metavar="TOKEN")
@pass_call
def token_revoke(call: Call, name: str) -> None:
    """End a token. Computers that joined with it stay."""
    with opened(call) as manager:
        manager.database.write_now(lambda db: tokens.revoke(db, name, who=who(call), now=manager.clock()))
    call.emit({"id": name, "revoked": True}, f"The token {name} lets nobody join any more.")
