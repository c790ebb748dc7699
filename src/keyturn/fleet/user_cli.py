"""``keyturn fleet user``: people of the console.

A password is typed twice, or comes on stdin (``-``); never in a command line.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from keyturn.core.errors import KeyturnError
from keyturn.edge.terminal import Call, Verbs, pass_call
from keyturn.fleet import accounts
from keyturn.fleet.context import opened, who

_role = click.option(
    "--role", type=click.Choice(accounts.ROLES), required=True,
    help="viewer: reads; operator: does things to computers; administrator: also keys and accounts.",
)  # fmt: skip
_stdin = click.argument("stdin", required=False, type=click.Choice(["-"]), metavar="[-]")


@click.group(cls=Verbs)
def user() -> None:
    """People of the console: who they are, and what each may do."""


@user.command("create")
@click.argument("name")
@_stdin
@_role
@click.option("--oidc", is_flag=True, help="Without a password: NAME is an e-mail address that the provider verified.")
@pass_call
def user_create(call: Call, name: str, stdin: str | None, role: str, oidc: bool) -> None:
    """Make an account with a password that is typed now. Better: `user link`, and nobody else knows it."""
    if oidc and stdin is not None:
        raise KeyturnError("usage", "an account with --oidc has no password")
    with opened(call) as manager:
        kept, now = accounts.OIDC if oidc else accounts.hashed(_password(call, stdin)), manager.clock()
        made = manager.database.write_now(lambda db: accounts.create(db, name, role, kept, who=who(call), now=now))
    call.emit(made._asdict(), f"{made.name} signs in as {made.role}.")


@user.command("link")
@click.option(
    "--role", type=click.Choice(accounts.ROLES), default=accounts.ADMINISTRATOR, help="Default: administrator."
)
@pass_call
def user_link(call: Call, role: str) -> None:
    """Print a link with which one person makes an account, once, within 7 days."""
    with opened(call) as manager:
        link = accounts.new_link(manager, role, who(call))
    call.emit(
        {"link": link, "role": role}, f"Opened once, within 7 days, it makes an account with the role {role}:\n  {link}"
    )


@user.command("list")
@pass_call
def user_list(call: Call) -> None:
    """List the accounts."""
    with opened(call) as manager:
        found = manager.database.read(lambda db: accounts.listed(db, manager.clock()))
    call.emit({"users": found}, "\n".join(map(_line, found)) or "Nobody has an account yet: keyturn fleet user link")


@user.command("set")
@click.argument("name")
@_role
@pass_call
def user_set(call: Call, name: str, role: str) -> None:
    """Give an account another role. Whoever is signed in with it signs in again."""
    with opened(call) as manager:
        now = manager.clock()
        manager.database.write_now(lambda db: accounts.set_role(db, name, role, who=who(call), now=now))
    call.emit({"name": name, "role": role}, f"{name} is {role} now.")


@user.command("password")
@click.argument("name")
@_stdin
@pass_call
def user_password(call: Call, name: str, stdin: str | None) -> None:
    """Give an account a new password; its sessions and its lock end."""
    with opened(call) as manager:
        manager.database.read(lambda db: accounts.find(db, name))
        kept, now = accounts.hashed(_password(call, stdin)), manager.clock()
        manager.database.write_now(lambda db: accounts.set_password(db, name, kept, who=who(call), now=now))
    call.emit({"name": name, "changed": True}, f"{name} has a new password.")


@user.command("remove")
@click.argument("name")
@pass_call
def user_remove(call: Call, name: str) -> None:
    """End an account. What it did stays in the audit."""
    with opened(call) as manager:
        manager.database.read(lambda db: accounts.find(db, name))
        call.confirm(f"{name} cannot sign in any more.")
        now = manager.clock()
        manager.database.write_now(lambda db: accounts.remove(db, name, who=who(call), now=now))
    call.emit({"name": name, "removed": True}, f"{name} has no account any more.")


def _password(call: Call, stdin: str | None) -> str:
    if stdin == "-":
        return sys.stdin.readline(4_000).rstrip("\r\n")
    first = call.secret(f"New password, at least {accounts.SHORTEST} characters")
    if first is None:
        raise KeyturnError("usage", "no password was given", remedy="Give it on stdin: `keyturn fleet user … NAME -`.")
    if call.secret("The same again") != first:
        raise KeyturnError("usage", "the two passwords differ", remedy="Type the same one twice.")
    return first


def _line(one: dict[str, Any]) -> str:
    locked = "" if one["locked_until"] is None else f"  locked until {one['locked_until']}"
    oidc = "  by the provider" if one["oidc"] else ""
    return f"{one['name']:<24} {one['role']:<14} since {one['made_at'][:10]}{oidc}{locked}"
