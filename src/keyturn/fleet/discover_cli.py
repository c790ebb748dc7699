"""``keyturn fleet discover``: which computers are there and not enrolled yet."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from keyturn.core.errors import KeyturnError
from keyturn.edge import files, ldap
from keyturn.edge.ldap import Directory
from keyturn.edge.terminal import Call, Verbs, pass_call
from keyturn.fleet import discovering, store
from keyturn.fleet.context import opened, readable, who
from keyturn.fleet.discovering import Found
from keyturn.flows.checking import progress_of

MAX_PASSWORD = 1024  # Bytes of the file.


@click.group(cls=Verbs, invoke_without_command=True)
@click.option("--names", "file", metavar="F", help="Computers out of a file: one in a line, or CSV with name, address.")
@click.option("--name", "names", multiple=True, metavar="N", help="A computer by its name; repeat it for more.")
@click.option("--range", "block", metavar="CIDR", help="Ask every address of a range, politely: 192.0.2.0/24.")
@click.option("--ldap", "url", metavar="URL", help="Ask a directory: ldaps://HOST, or ldap://HOST without a password.")
@click.option("--base", metavar="DN", help="With --ldap: where in the directory to look.")
@click.option("--filter", "condition", metavar="F", default=ldap.COMPUTERS, show_default=True, help="With --ldap: which entries.")
@click.option("--bind-dn", metavar="D", help="With --ldap: as whom to ask; the password is asked for, or in --password-file.")
@click.option("--password-file", metavar="F", help="With --bind-dn: the file with the password; its owner alone may read it.")
@click.option("--ca-file", metavar="F", help="With --ldap: the authority of the directory's certificate, if it is a private one.")
@click.option("--dry-run", is_flag=True, help="Keep nothing; of a range only say how many addresses it has, and ask none.")
@click.pass_context
def discover(
    context: click.Context, file: str | None, names: tuple[str, ...], block: str | None, url: str | None, base: str | None,
    condition: str, bind_dn: str | None, password_file: str | None, ca_file: str | None, dry_run: bool,
) -> None:  # fmt: skip
    """Find computers that are not enrolled yet, and keep their names. Nothing is installed on them, and nobody signs in there."""
    if context.invoked_subcommand is not None:
        return
    call: Call = context.find_root().obj
    given = [file is not None, bool(names), block is not None, url is not None]
    if sum(given) != 1:
        raise KeyturnError("usage", "say where to look: one of --names F, --name N, --range CIDR, --ldap URL")
    if block is not None and dry_run:
        count = len(discovering.addresses(block))
        words = f"{block} has {count} addresses; asking them takes up to {discovering.seconds(count)} seconds."
        call.emit({"addresses": count, "seconds": discovering.seconds(count), "dry_run": True}, words)
        return
    if file is not None:
        found = discovering.read(readable(file).decode("utf-8-sig", "replace"))
    elif names:
        found = discovering.named(names, "name")
    elif block is not None:
        found = asyncio.run(discovering.walk(discovering.addresses(block), progress_of(call)))
    else:
        if base is None:
            raise KeyturnError("usage", "--ldap goes with --base DN, where the computers are")
        password = None if bind_dn is None else _password(call, bind_dn, password_file)
        asked = Directory(str(url), base, condition, bind_dn, password, ca_file)
        found = discovering.named(ldap.computers(asked), "directory")
    _keep(call, found, dry_run=dry_run)


@discover.command("list")
@pass_call
def discover_list(call: Call) -> None:
    """List the computers that were found and are not enrolled."""
    with opened(call) as manager:
        found = manager.database.read(discovering.listed)
    lines = [f"{one['name']:<40} {one['address'] or '–':<16} {one['source']:<10} {one['found_at']}" for one in found]
    call.emit({"found": found}, "\n".join(lines) or "Nothing was found that is not enrolled.")


@discover.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@pass_call
def discover_remove(call: Call, names: tuple[str, ...]) -> None:
    """Take finds off the list: what is no computer of yours, or is enrolled under another name. Another search finds it again."""
    with opened(call) as manager:
        manager.database.write_now(lambda db: discovering.remove(db, names))
    call.emit({"removed": list(names)}, f"Off the list: {', '.join(names)}.")


def _keep(call: Call, found: list[Found], *, dry_run: bool) -> None:
    with opened(call) as manager:
        now = manager.clock()

        def write(db: Any) -> tuple[int, int]:
            new, there = discovering.keep(db, found, now)
            store.audit(db, now, who(call), "discovered", {"found": len(found), "new": new})
            return new, there

        new, there = (0, 0) if dry_run else manager.database.write_now(write)
    shown = [one._asdict() for one in found]
    words = f"Found {len(found)} computers" + ("." if dry_run else f": {new} new, {there} enrolled already.")
    call.emit({"found": shown, "new": new, "enrolled": there, "dry_run": dry_run}, words)
    call.next("keyturn fleet discover list")


def _password(call: Call, name: str, file: str | None) -> str:
    """The password of whoever asks the directory. Raises: KeyturnError ``usage``, ``permission_denied``."""
    if file is None:
        typed = call.secret(f"The password of {name}")
        if not typed:
            raise KeyturnError("usage", "a password is needed, and nobody is here to be asked", remedy="Name --password-file F.")
        return typed
    if files.open_to_others(file):
        raise KeyturnError("permission_denied", f"{file} can be read by others; `chmod 600` it")
    data = files.read(file, MAX_PASSWORD)
    if data is None:
        raise KeyturnError("usage", f"the file {file} does not exist")
    return data.decode("utf-8", "replace").rstrip("\r\n")
