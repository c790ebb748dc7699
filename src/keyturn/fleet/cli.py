"""The fleet manager's verbs that concern itself: init, run, status, config. What is done to computers is in modules
of their own.
"""

from __future__ import annotations

from typing import Any

import click

from keyturn.edge import accounts, clock
from keyturn.edge.terminal import Call, Verbs, pass_call
from keyturn.fleet import home, keys, store, tasks
from keyturn.fleet.accounts import ADMINISTRATOR, new_link
from keyturn.fleet.context import home_path, opened, opened_home, readable, who

_TASKS = "keyturn.fleet.task_cli"
_COMPUTERS = "keyturn.fleet.computer_cli"


@click.group(
    cls=Verbs,
    lazy={
        **{
            name: f"{_TASKS}:{name.replace('-', '_')}"
            for name in ("install-key", "activate", "deactivate", "refresh", "rearm", "rebind", "task")
        },
        **{
            name: f"{_COMPUTERS}:{attribute}"
            for name, attribute in (("list", "list_"), ("show", "show"), ("group", "group"), ("remove", "remove"))
        },
        "key": "keyturn.fleet.key_cli:key",
        "export": "keyturn.fleet.carry_cli:export",
        "import": "keyturn.fleet.carry_cli:import_",
        "inspect": "keyturn.fleet.carry_cli:inspect",
        "report": "keyturn.fleet.report_cli:report",
        "telephone": "keyturn.fleet.telephone_cli:telephone",
        "token": "keyturn.fleet.token_cli:token",
        "user": "keyturn.fleet.user_cli:user",
        "discover": "keyturn.fleet.discover_cli:discover",
        "install": "keyturn.fleet.install:install",
        "doctor": "keyturn.fleet.doctor:doctor",
        "backup": "keyturn.fleet.backup_cli:backup",
        "restore": "keyturn.fleet.backup_cli:restore",
        "verify": "keyturn.fleet.backup_cli:verify",
    },
)
def fleet() -> None:
    """An organization's fleet manager: it activates many computers through one connection, or by a file."""


@fleet.command()
@click.argument("files", nargs=-1, metavar="[FILE…]")
@click.option("--url", metavar="URL", help="How computers reach this manager: https://NAME:PORT.")
@click.option("--if-needed", is_flag=True, help="Do nothing if it is initialised already.")
@pass_call
def init(call: Call, files: tuple[str, ...], url: str | None, if_needed: bool) -> None:
    """Make a fleet manager, or add products to it: FILE is a publisher's product file."""
    path = home_path(call)
    if if_needed and (path / "fleet.toml").exists() and not files:
        call.emit({"home": str(path), "changed": False, "products": []}, f"{path} is initialised already.")
        return
    given = [readable(name) for name in files]
    new = home.initialise(path, clock.now(), url)
    with opened(call) as manager:
        added = [manager.add_product(data, who(call)) for data in given]
        link = new_link(manager, ADMINISTRATOR, who(call)) if new else None
        said = {
            "home": str(path), "changed": new or any(changed for _, changed in added), "url": manager.home.url,
            "products": [
                {"product": str(one.product.name), "name": one.product.title, "changed": changed} for one, changed in added
            ],
            "link": link,
        }  # fmt: skip
    lines = [f"{'Made a fleet manager in' if new else 'A fleet manager is in'} {path}."]
    lines += [f"  {one.product.title:<24} {'added' if changed else 'there already'}" for one, changed in added]
    if link is not None:
        lines += ["", "The console's first administrator opens this once it runs, once, within 7 days:", f"  {link}"]
    call.emit(said, "\n".join(lines))
    call.next("keyturn fleet run, and for the computers: keyturn fleet token create")


@fleet.command()
@click.option("--listen", metavar="HOST:PORT", help="HTTPS; port 0 takes a free one (default: the setting `listen`).")
@click.option("--allow-root", is_flag=True, help="Listen beyond this computer although it runs as root.")
@pass_call
def run(call: Call, listen: str | None, allow_root: bool) -> None:
    """Run the fleet manager until SIGTERM: agents check in, and what waits for the publisher is sent."""
    from keyturn.edge.serverlog import open_log
    from keyturn.fleet import pages
    from keyturn.fleet.app import build
    from keyturn.fleet.tending import Tender
    from keyturn.flows.serving import serve

    with opened(call) as manager:
        log = open_log(clock.now)
        if missing := pages.missing():
            lost = ", ".join(sorted(set(missing.values())))
            call.say(f"The console works, without {lost}: this package lacks {', '.join(missing)}.")
        serve(
            call, listen or manager.home.settings.listen, lambda _port: build(manager, log, environ=call.environ),
            lambda _port: Tender(manager, log, call.environ), manager.home.path, manager.home.tls_files, allow_root=allow_root,
        )  # fmt: skip


@fleet.command()
@pass_call
def status(call: Call) -> None:
    """Say how many computers there are, how their products stand, what is under way, and what is left of each key."""
    with opened(call) as manager:
        now = manager.clock()

        def look(db: Any) -> dict[str, Any]:
            count, seen = db.execute(
                "SELECT count(*), count(*) FILTER (WHERE seen_at > ?) FROM computer", (now - 86_400,)
            ).fetchone()
            states: dict[str, dict[str, int]] = {}
            for row in db.execute(
                "SELECT product, state, count(*) AS n FROM license GROUP BY product, state ORDER BY product, state"
            ):
                states.setdefault(row["product"], {})[row["state"]] = row["n"]
            going = db.execute(
                "SELECT * FROM task t WHERE EXISTS (SELECT 1 FROM item WHERE task = t.id AND open = 1) ORDER BY made_at"
            ).fetchall()
            return {
                "url": manager.home.url, "computers": count, "seen_today": seen, "groups": store.groups(db),
                "products": [{"product": name, "states": found} for name, found in states.items()],
                "keys": list(keys.listed(db)), "tasks": [tasks.summary(db, task) for task in going],
            }  # fmt: skip

        found = manager.database.read(look)
    lines = [
        f"Fleet manager   {found['url']}",
        f"Computers       {found['computers']}, {found['seen_today']} of them seen within a day",
    ]
    for one in found["products"]:
        counts = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in one["states"].items())
        lines.append(f"{one['product'].partition('/')[2]:<15} {counts}")
    for key in found["keys"]:
        left = "not asked yet" if key["remaining"] is None else f"{key['remaining']} of {key['seats']} left"
        lines.append(f"Key …{key['partial_key']}     {key['channel']}, {left}")
    lines += [
        f"Task {task['id'][-6:]}     {task['action']}: {task['done']} of {task['computers']} done, {task['failed']} failed"
        for task in found["tasks"]
    ]
    call.emit(found, "\n".join(lines))


@fleet.group()
def config() -> None:
    """The fleet manager's settings."""


@config.command("show")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@pass_call
def config_show(call: Call, origin: bool) -> None:
    """Show the settings in force."""
    settings, origins = home.read_settings(home_path(call), call.environ)
    values = settings._asdict()
    data = {name: {"value": value, "origin": origins[name]} for name, value in values.items()} if origin else values
    lines = (
        f"{name} = {value if value is not None else 'none'}{f'  ({origins[name]})' if origin else ''}"
        for name, value in values.items()
    )
    call.emit(data, "\n".join(lines))


@config.command("set")
@click.argument("name")
@click.argument("value")
@pass_call
def config_set(call: Call, name: str, value: str) -> None:
    """Change one setting. A running manager takes it when it is started again."""
    path = home_path(call)
    with accounts.kept_whose_it_is(path):
        opened_home(call)
        home.change_setting(path, name, value)
    call.emit({"name": name, "value": value}, f"{name} is {value}.")
