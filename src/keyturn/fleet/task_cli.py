"""The administrator's verbs that do something to computers: each says the consequence, makes a task, and may wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click

from keyturn.core import fleet
from keyturn.core.errors import EXIT_REFUSED, KeyturnError
from keyturn.edge.terminal import Call, Verb, Verbs, pass_call
from keyturn.fleet import tasks
from keyturn.fleet.context import opened, selecting, who
from keyturn.fleet.manager import Consequence, FleetManager, Order
from keyturn.fleet.selecting import Selector

LOOK = 1.0  # Seconds between two looks at a task that is waited for.

wait_option = click.option("--wait", is_flag=True, help="Stay until every computer has done its part, with progress.")
dry_option = click.option("--dry-run", is_flag=True, help="Only say what it would do and cost.")
key_option = click.option(
    "--key", "key_name", metavar="KEY", help="One of this manager's keys: its last five characters or product ID."
)


def _verb(name: str, help_: str, *options: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], click.Command]:
    """A verb with a selector, --dry-run and --wait."""

    def made(function: Callable[..., Any]) -> click.Command:
        found: Any = selecting(function)
        for option in (*options, dry_option, wait_option):
            found = option(found)
        return click.command(name, cls=Verb, help=help_)(pass_call(found))

    return made


@_verb("install-key", "Install one of this manager's keys on computers; nothing is activated.", key_option)
def install_key(call: Call, key_name: str | None, dry_run: bool, wait: bool, selector: Selector) -> int:
    return carry_out(call, Order("install-key", selector, call.product, key_name), dry_run=dry_run, wait=wait)


@_verb(
    "activate",
    "Activate computers: by proxy through this manager, over their own connection, at an activation host, or by telephone.",
    key_option, click.option("--via", type=click.Choice(fleet.WAYS), default="proxy", help="How (default: proxy)."),
    click.option("--host", metavar="NAME[:PORT]", help="With --via host: which one to ask first."),
)  # fmt: skip
def activate(
    call: Call, key_name: str | None, via: str, host: str | None, dry_run: bool, wait: bool, selector: Selector
) -> int:
    if host is not None and via != "host":
        raise KeyturnError("usage", "--host goes with --via host")
    return carry_out(call, Order("activate", selector, call.product, key_name, via, host), dry_run=dry_run, wait=wait)


@_verb(
    "deactivate",
    "Give the computers' seats back to the publisher.",
    click.option("--via", type=click.Choice(("proxy", "file")), default="proxy", help="How (default: proxy)."),
)
def deactivate(call: Call, via: str, dry_run: bool, wait: bool, selector: Selector) -> int:
    return carry_out(call, Order("deactivate", selector, call.product, way=via), dry_run=dry_run, wait=wait)


@_verb("refresh", "Bring computers the newest trust bundles and revocation list, and hear how they stand.")
def refresh(call: Call, dry_run: bool, wait: bool, selector: Selector) -> int:
    return carry_out(call, Order("refresh", selector, call.product), dry_run=dry_run, wait=wait)


@_verb("rearm", "Begin the computers' grace periods anew, where that is allowed.")
def rearm(call: Call, dry_run: bool, wait: bool, selector: Selector) -> int:
    return carry_out(call, Order("rearm", selector, call.product), dry_run=dry_run, wait=wait)


@_verb(
    "rebind",
    "After re-imaging: give the same hardware the activation it had. Nobody is contacted, no seat is taken.",
    key_option,
)
def rebind(call: Call, key_name: str | None, dry_run: bool, wait: bool, selector: Selector) -> int:
    return carry_out(call, Order("rebind", selector, call.product, key_name), dry_run=dry_run, wait=wait)


def carry_out(call: Call, order: Order, *, dry_run: bool, wait: bool) -> int:
    """Say the consequence, ask, make the task, and follow it if asked to; 1 if a computer failed meanwhile."""
    with opened(call) as manager:
        meant = manager.database.read(lambda db: manager.consequence(db, order))
        words = sentence(order, meant)
        if dry_run:
            call.emit({"task": None, "consequence": meant.as_json()}, f"{words}\nNothing was changed.")
            return 0
        if not meant.computers:
            raise KeyturnError("not_found", "no computer fits", remedy="See which there are: `keyturn fleet list`.")
        call.confirm(words)
        task = manager.order(order, who(call), meant.computers)
        if wait:
            found = follow(call, manager, task)
            _tell(call, manager, task, found)
            return EXIT_REFUSED if found["failed"] else 0
        call.emit(
            {"task": task, "consequence": meant.as_json()},
            f"{words}\nTask {task} was made; the agents do their part when they check in.",
        )
        call.next("keyturn fleet telephone list" if order.way == "telephone" else f"keyturn fleet task show {task}")
        return 0


def sentence(order: Order, meant: Consequence) -> str:
    """The consequence in words and figures."""
    parts = [f"{len(meant.computers)} computer{'s' if len(meant.computers) != 1 else ''}"]
    if order.action == "activate" and order.way != "host":
        parts += [f"at most {meant.new} seats new", f"{meant.same} the same"]
        if meant.remaining is not None:
            parts.append(f"{meant.remaining} left")
    if order.way == "telephone":
        parts.append("for each a person carries two codes")
    if order.action == "deactivate":
        parts.append("their seats are given back, and they are no longer licensed")
    if meant.asleep:
        parts.append(f"{meant.asleep} not seen lately: they do their part when they come")
    return f"{order.action}: {', '.join(parts)}."


def follow(call: Call, manager: FleetManager, task: str) -> dict[str, Any]:
    """Wait until nothing of a task is open, with a line of progress; Ctrl-C stops the waiting, not the task."""
    last = ""
    while True:
        found = manager.database.read(lambda db: tasks.summary(db, tasks.find(db, task)))
        line = f"{found['done']} of {found['computers']} done, {found['failed']} failed, {found['open']} under way"
        if line != last and not call.json:
            call.say(line)
        last = line
        if not found["open"]:
            return found
        time.sleep(LOOK)


@click.group(cls=Verbs)
def task() -> None:
    """What was asked of computers, and how it goes."""


@task.command("list")
@pass_call
def task_list(call: Call) -> None:
    """List tasks, the newest first."""
    with opened(call) as manager:
        found = manager.database.read(
            lambda db: [
                tasks.summary(db, row) for row in db.execute("SELECT * FROM task ORDER BY made_at DESC, id DESC")
            ]
        )
    lines = [f"{one['id']}  {one['made_at']}  {one['action']:<11} {one['slug']:<14} {_counts(one)}" for one in found]
    call.emit({"tasks": found}, "\n".join(lines) or "No task was made yet.")


@task.command("show")
@click.argument("task_id", metavar="TASK")
@click.option("--wait", is_flag=True, help="Stay until every computer has done its part.")
@pass_call
def task_show(call: Call, task_id: str, wait: bool) -> None:
    """Show a task with the outcome of each computer."""
    with opened(call) as manager:
        found = (
            follow(call, manager, task_id)
            if wait
            else manager.database.read(lambda db: tasks.summary(db, tasks.find(db, task_id)))
        )
        _tell(call, manager, task_id, found)


@task.command("cancel")
@click.argument("task_id", metavar="TASK")
@pass_call
def task_cancel(call: Call, task_id: str) -> None:
    """End what has not ended of a task."""
    with opened(call) as manager:
        count = manager.database.write_now(lambda db: tasks.cancel(db, task_id, who=who(call), now=manager.clock()))
    call.emit({"task": task_id, "cancelled": count}, f"{count} computers of the task will not do it any more.")


def _tell(call: Call, manager: FleetManager, task_id: str, found: dict[str, Any]) -> None:
    outcomes = manager.database.read(lambda db: tasks.items(db, task_id))
    lines = [f"{found['action']} of {found['slug']}: {_counts(found)}"]
    for one in outcomes:
        why = "" if one["code"] is None else f"  {one['code']}: {one['detail']}"
        lines.append(f"  {one['name']:<24} {fleet.said_of(one['outcome']):<10}{why}")
    remedies = {one["code"]: one["remedy"] for one in outcomes if one["code"] is not None}
    lines += [f"{code}: {remedy}" for code, remedy in remedies.items()]
    call.emit({"task": found, "computers": outcomes}, "\n".join(lines))


def _counts(found: dict[str, Any]) -> str:
    others = f"{found['failed']} failed, {found['cancelled']} cancelled, {found['open']} under way"
    return f"{found['done']} of {found['computers']} done, {others}"
