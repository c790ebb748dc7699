"""``keyturn fleet key``: the organization's product keys."""

from __future__ import annotations

import sys
from typing import Any

import click

from keyturn.core.errors import KeyturnError
from keyturn.core.model import ProductName
from keyturn.edge.terminal import Call, Verbs, pass_call, warn_about_argv
from keyturn.fleet import keys
from keyturn.fleet.context import opened, readable, who
from keyturn.fleet.keys import Given
from keyturn.fleet.manager import named_product


@click.group(cls=Verbs)
def key() -> None:
    """Product keys of the organization: kept sealed, shown by their last five characters."""


@key.command("add")
@click.argument("text", required=False, metavar="[KEY|-]")
@click.option("--file", "file", metavar="F", help="Many keys: one in a line, or CSV with key, remark, owned.")
@click.option("--remark", metavar="TEXT", help="What to remember about it.")
@click.option(
    "--owned", type=click.IntRange(0), metavar="N", help="How many seats the organization owns, for the report."
)
@pass_call
def key_add(call: Call, text: str | None, file: str | None, remark: str | None, owned: int | None) -> None:
    """Check keys offline and keep them. Nothing is sent."""
    if text not in (None, "-"):
        warn_about_argv(call)
    if file is not None:
        given = keys.read(readable(file).decode("utf-8-sig", "replace"))
    else:
        typed = sys.stdin.readline(200) if text == "-" else text or call.key(None, None, needed=True)
        if typed is None:
            raise KeyturnError("key_missing", "no key was given", remedy="Give it as - on stdin, or a file: --file F.")
        given = [Given(typed, remark, owned)]
    with opened(call) as manager:
        product = ProductName.parse(manager.database.read(lambda db: named_product(db, call.product))["name"])
        now, added = manager.clock(), []
        for number, one in enumerate(given, 1):
            try:
                row, new = manager.database.write_now(
                    lambda db, one=one: keys.add(
                        db, manager.sealer, product, one, who=who(call), now=now, chance=manager.chance
                    )  # type: ignore[misc]
                )
            except KeyturnError as error:
                if file is not None:
                    error.detail = f"line {number}: {error.detail} (keys before it were added)"
                raise
            added.append(
                {
                    "product_id": row["product_id"],
                    "partial_key": row["partial"],
                    "channel": row["channel"],
                    "changed": new,
                }
            )
    call.emit(
        {"keys": added},
        "\n".join(
            f"…{one['partial_key']}  {one['product_id']}  {'added' if one['changed'] else 'there already'}"
            for one in added
        ),
    )
    call.next("keyturn fleet activate --all --key LAST-FIVE")


@key.command("check")
@click.argument("name", metavar="[KEY]", required=False)
@pass_call
def key_check(call: Call, name: str | None) -> None:
    """Ask the publisher what is left of one key, or of all: nothing about a computer is sent, and no seat is taken."""
    from keyturn.fleet import proxying
    from keyturn.flows.exchange import Line

    with opened(call) as manager:
        rows = manager.database.read(
            lambda db: [keys.find(db, name)] if name else db.execute("SELECT * FROM key").fetchall()
        )
        problems = []
        for row in rows:
            opened_product = manager.database.read(lambda db, row=row: manager.opened(db, row["product"]))  # type: ignore[misc]
            try:
                with Line(opened_product.product, call.environ) as line:
                    proxying.ask_about(manager, row, line)
            except KeyturnError as error:
                if name is not None:
                    raise
                problems.append({"product_id": row["product_id"], **error.as_json()})
        found = manager.database.read(lambda db: list(keys.listed(db)))
    call.emit(
        {"keys": found, "problems": problems},
        "\n".join([*_lines(found), *(f"{one['product_id']}: {one['detail']}" for one in problems)]),
    )


@key.command("list")
@pass_call
def key_list(call: Call) -> None:
    """List keys: what they are for, and what is left of them as the service last said."""
    with opened(call) as manager:
        found = manager.database.read(lambda db: list(keys.listed(db)))
    call.emit({"keys": found}, "\n".join(_lines(found)) if found else "No key was added yet: keyturn fleet key add -")


def _lines(found: list[dict[str, Any]]) -> list[str]:
    lines = [f"{'key':<8} {'channel':<8} {'used':>7} {'seats':>7} {'owned':>7}  product ID and remark"]
    return lines + [
        f"…{one['partial_key']:<7} {one['channel']:<8} {_n(one['used']):>7} {_n(one['seats']):>7} {_n(one['owned']):>7}"
        f"  {one['product_id']}  {one['remark'] or ''}"
        for one in found
    ]


@key.command("set")
@click.argument("name", metavar="KEY")
@click.option("--remark", metavar="TEXT", help="What to remember about it.")
@click.option(
    "--owned", type=click.IntRange(0), metavar="N", help="How many seats the organization owns, for the report."
)
@pass_call
def key_set(call: Call, name: str, remark: str | None, owned: int | None) -> None:
    """Change what is remembered about a key."""
    with opened(call) as manager:
        row = manager.database.read(lambda db: keys.find(db, name))
        said, number = (row["remark"] if remark is None else remark), (row["owned"] if owned is None else owned)
        manager.database.write_now(lambda db: keys.change(db, row, remark=said, owned=number))
    call.emit({"product_id": row["product_id"]}, f"{row['product_id']} was changed.")


@key.command("remove")
@click.argument("name", metavar="KEY")
@pass_call
def key_remove(call: Call, name: str) -> None:
    """Forget a key here. Computers that have it keep it."""
    with opened(call) as manager:
        row = manager.database.read(lambda db: keys.find(db, name))
        call.confirm(
            f"The key …{row['partial']} ({row['product_id']}) is forgotten here, and cannot be shown again by anybody here."
        )
        manager.database.write_now(lambda db: keys.remove(db, row, who=who(call), now=manager.clock()))
    call.emit({"product_id": row["product_id"], "removed": True}, f"{row['product_id']} was forgotten.")


def _n(value: int | None) -> str:
    return "–" if value is None else str(value)
