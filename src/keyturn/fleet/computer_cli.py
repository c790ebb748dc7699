"""The administrator's verbs that look at computers, and put them into groups."""

from __future__ import annotations

from typing import Any

import click

from keyturn.core import fleet
from keyturn.core.errors import KeyturnError
from keyturn.core.model import ProductName
from keyturn.edge.terminal import Call, Verb, Verbs, pass_call
from keyturn.fleet import selecting, store
from keyturn.fleet.context import opened, who
from keyturn.fleet.context import selecting as selector_options
from keyturn.fleet.selecting import Selector


@click.command("list", cls=Verb)
@selector_options
@pass_call
def list_(call: Call, selector: Selector) -> None:
    """List computers with how their products stand, all or those that are meant."""
    with opened(call) as manager:
        found = manager.database.read(
            lambda db: store.listed(db, selecting.choose(db, selector) if selector.given else None)
        )
    lines = [f"{'name':<24} {'product':<14} {'state':<24} {'until':<11} {'key':<7} {'last seen':<17} last action"]
    lines += [_row(one, product) for one in found for product in one["products"] or [{}]]
    call.emit(
        {"computers": found},
        "\n".join(lines) if found else "No computer fits, or none is enrolled yet: keyturn fleet token create",
    )


def _row(one: dict[str, Any], product: dict[str, Any]) -> str:
    slug = ProductName.parse(product["product"]).slug if product else "–"
    until = (product.get("valid_until") or product.get("grace_until") or "–")[:10]
    seen = (one["last_seen"] or "never")[:16].replace("T", " ")
    words = f"{one['name'][:24]:<24} {slug:<14} {product.get('state') or '–':<24} {until:<11}"
    return f"{words} {product.get('partial_key') or '–':<7} {seen:<17} {_action(one['last_action'])}"


def _action(action: dict[str, Any] | None) -> str:
    if action is None:
        return ""
    code = "" if action["code"] is None else f" ({action['code']})"
    return f"{action['action']} {fleet.said_of(action['outcome'])}{code}"


@click.command("show", cls=Verb)
@click.argument("computer")
@pass_call
def show(call: Call, computer: str) -> None:
    """Show one computer, by its id or name: its products, and what happened to it."""
    with opened(call) as manager:

        def look(db: Any) -> dict[str, Any]:
            (one,) = store.listed(db, selecting.choose(db, Selector(computers=(computer,))))
            return {**one, "history": store.story(db, one["id"])}

        found = manager.database.read(look)
    virtual = "" if found["vm"] is None else f", a virtual machine ({found['vm']})"
    lines = [f"{found['name']}  ({found['id']})", f"  Groups       {', '.join(found['groups']) or 'none'}"]
    lines += [f"  Last seen    {found['last_seen'] or 'never'}{virtual}", *map(_product, found["products"])]
    for one in found["history"][:20]:
        detail = "" if one["detail"] is None else f" ({one['detail']})"
        lines.append(f"  {one['at']}  {one['what'].replace('_', ' ')}{detail}")
    call.emit(found, "\n".join(lines))


def _product(one: dict[str, Any]) -> str:
    state, key = one["state"].replace("_", " "), one["partial_key"] or "none"
    return f"  {one['name']}: {state}, key {key}, {one['reason'] or 'all is well'}"


@click.command("remove", cls=Verb)
@selector_options
@pass_call
def remove(call: Call, selector: Selector) -> None:
    """Forget computers: their agents are answered no more. Their licenses and seats stay as they are."""
    with opened(call) as manager:
        chosen = manager.database.read(lambda db: selecting.choose(db, _given(selector)))
        call.confirm(
            f"{len(chosen)} computers are forgotten here; they stay as they are, and have to be enrolled again to come back."
        )
        manager.database.write_now(lambda db: store.forget(db, chosen, who=who(call), now=manager.clock()))
    call.emit({"removed": len(chosen)}, f"{len(chosen)} computers were forgotten.")


@click.group(cls=Verbs)
def group() -> None:
    """Groups of computers: an administrator's own names for them."""


@group.command("list")
@pass_call
def group_list(call: Call) -> None:
    """List the groups, and how many computers each has."""
    with opened(call) as manager:
        found = manager.database.read(store.groups)
    call.emit(
        {"groups": found}, "\n".join(f"{name:<24} {count}" for name, count in found.items()) or "There is no group yet."
    )


@group.command("add")
@click.argument("name")
@selector_options
@pass_call
def group_add(call: Call, name: str, selector: Selector) -> None:
    """Put computers into a group; it is made if there is none of that name."""
    _change(call, name, selector, store.put_in_group, "are in")


@group.command("remove")
@click.argument("name")
@selector_options
@pass_call
def group_remove(call: Call, name: str, selector: Selector) -> None:
    """Take computers out of a group; an empty one is gone."""
    _change(call, name, selector, store.take_out_of_group, "are no longer in")


def _change(call: Call, name: str, selector: Selector, change: Any, words: str) -> None:
    with opened(call) as manager:
        chosen = manager.database.read(lambda db: selecting.choose(db, _given(selector)))
        manager.database.write_now(lambda db: change(db, name[:60], chosen))
    call.emit({"group": name, "computers": len(chosen)}, f"{len(chosen)} computers {words} {name}.")


def _given(selector: Selector) -> Selector:
    if not selector.given:
        raise KeyturnError(
            "usage",
            "no computer is named",
            remedy="Say who is meant: --all, --computer ID, --group G or --where FILTER.",
        )
    return selector
