"""The verbs of the publisher's staff, second half: keys, activations, and finding. They work here and with --at."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import click

from keyturn.core.errors import KeyturnError
from keyturn.core.model import Channel
from keyturn.edge import files
from keyturn.edge.terminal import Call, pass_call
from keyturn.service.context import ServiceVerb, ServiceVerbs, desk
from keyturn.service.desk import MAX_COUNT, Desk, Item, Order, every
from keyturn.service.tables import lines, show, show_all


@click.group(cls=ServiceVerbs)
def key() -> None:
    """Product keys."""


@key.command("mint")
@click.option(
    "--channel",
    type=click.Choice([c.value for c in Channel if c is not Channel.OEM]),
    default="retail",
    show_default=True,
    help="Which kind of key: retail is for one computer, mak for an organization's.",
)
@click.option("--org", metavar="O", help="The organization (needed for mak).")
@click.option("--edition", metavar="E", help="The edition (default: the product's first).")
@click.option("--feature", "features", multiple=True, metavar="F", help="A feature beyond the edition's.")
@click.option("--term", type=click.IntRange(1, 36_500), metavar="DAYS", help="Days from activation.")
@click.option("--until", metavar="DATE", help="A date on which it ends.")
@click.option("--limit", type=click.IntRange(1), default=1, show_default=True, help="Seats per key.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="How many keys.")
@click.option("--note", default="", help="A remark for your staff.")
@click.option(
    "-o", "--output", metavar="F.json|csv|txt", help="Write the keys to a file (mode 0600) instead of the screen."
)
@pass_call
def key_mint(
    call: Call, channel: str, org: str | None, edition: str | None, features: tuple[str, ...], term: int | None,
    until: str | None, limit: int, count: int, note: str, output: str | None,
) -> None:  # fmt: skip
    """Mint product keys for --product. They are shown now and never again."""
    if call.product is None:
        raise KeyturnError("usage", "which product? Add --product SLUG")
    if term is not None and until is not None:
        raise KeyturnError("usage", "--term and --until exclude each other")
    order = Order(call.product, channel, count, limit, org, edition, features, term, until, note[:500])
    with desk(call) as d:
        keys = d.mint(order, (lambda done: call.say(f"{done} of {count} keys")) if count > MAX_COUNT else None)["keys"]
    if output is not None:
        files.write(Path(output), _keys_file(keys, Path(output).suffix), files.PRIVATE)
        call.emit({"file": output, "count": len(keys)}, f"Wrote {len(keys)} keys to {output}. They are nowhere else.")
        return
    call.emit({"keys": keys}, "\n".join(f"{k['key']}  {k['product_id']}  {k['limit']} seat(s)" for k in keys))
    call.say("Keep them: a key is shown once.")


def _keys_file(keys: list[dict[str, Any]], suffix: str) -> bytes:
    if suffix == ".json":
        return (json.dumps({"keys": keys}, indent=1) + "\n").encode()
    if suffix == ".csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, list(keys[0]))
        writer.writeheader()
        writer.writerows(keys)
        return out.getvalue().encode()
    if suffix == ".txt":
        return "".join(f"{k['key']}\n" for k in keys).encode()
    raise KeyturnError("usage", "the file's name ends in .json, .csv or .txt")


@key.command("list")
@pass_call
def key_list(call: Call) -> None:
    """List keys by their public part (of --product, or all)."""
    columns = ("product_id", "partial_key", "organization", "edition", "used", "limit", "blocked")
    show_all(call, "keys", lambda d: d.keys, columns, product=call.product)


@key.command("show")
@click.argument("serial", type=int)
@pass_call
def key_show(call: Call, serial: int) -> None:
    """Show one key and its activations."""
    show(call, lambda d: {**d.key(serial), "activations": every(d.activations, "activations", serial=serial)})


@key.command("set")
@click.argument("serial", type=int)
@click.option("--limit", type=click.IntRange(1), help="Seats per key.")
@click.option("--note", help="A remark for your staff.")
@pass_call
def key_set(call: Call, serial: int, limit: int | None, note: str | None) -> None:
    """Change a key's seats or note."""
    changes = {name: value for name, value in (("limit", limit), ("note", note)) if value is not None}
    if not changes:
        raise KeyturnError("usage", "nothing to change was given")
    show(call, lambda d: d.change_key(serial, changes))


withdraw_option = click.option(
    "--withdraw", is_flag=True, help="Put it on the revocation list too: computers that hear of it fall into a grace."
)


@key.command("block")
@click.argument("serial", type=int)
@withdraw_option
@pass_call
def key_block(call: Call, serial: int, withdraw: bool) -> None:
    """Block a key: no new activation. Activated computers stay as they are, unless --withdraw is given."""

    def block(d: Desk) -> Item:
        if withdraw:
            before = d.key(serial)
            call.confirm(f"{before['used']} computer(s) licensed by {before['product_id']} fall into a grace when they hear it.")
        return d.block_key(serial, True, withdraw=withdraw)

    show(call, block)


@key.command("unblock")
@click.argument("serial", type=int)
@pass_call
def key_unblock(call: Call, serial: int) -> None:
    """Take a block back, and take the key off the revocation list."""
    show(call, lambda d: d.block_key(serial, False))


@click.group(cls=ServiceVerbs)
def activation() -> None:
    """Activations: which seats are taken."""


@activation.command("list")
@click.option("--serial", type=int, help="Only this key's.")
@pass_call
def activation_list(call: Call, serial: int | None) -> None:
    """List activations, oldest first."""
    columns = ("activation_id", "product_id", "seat", "evidence", "activated_at", "ended_by")
    show_all(call, "activations", lambda d: d.activations, columns, serial=serial)


@activation.command("show")
@click.argument("identifier")
@pass_call
def activation_show(call: Call, identifier: str) -> None:
    """Show one activation."""
    show(call, lambda d: d.activation(identifier))


@activation.command("reclaim")
@click.argument("identifier")
@withdraw_option
@pass_call
def activation_reclaim(call: Call, identifier: str, withdraw: bool) -> None:
    """Take a seat back, for a computer that is lost. A certificate already issued stays valid offline, unless --withdraw."""

    def reclaim(d: Desk) -> Item:
        before = d.activation(identifier)
        call.confirm(f"1 seat of {before['product_id']} is taken back from {before['installations']} installation(s).")
        return d.reclaim(identifier, withdraw=withdraw)

    show(call, reclaim)


@click.command(cls=ServiceVerb)
@click.argument("text")
@pass_call
def find(call: Call, text: str) -> None:
    """Find what a caller can name: the reference number of an error, a product ID, serial, last five symbols, activation …"""
    if "-" in text and len(text) > 25:
        call.say(
            "If that was a whole product key: the last five symbols are enough, and stay out of the shell's history."
        )
    with desk(call) as d:
        found = d.find(text)
    shown = "\n\n".join(f"{item['kind'].capitalize()}\n{lines(item[item['kind']])}" for item in found["found"])
    call.emit(found, shown or "Nothing of that name. Problems are kept for 30 days, the rest for as long as it exists.")
