"""The administrator's verbs that concern the host itself: init, run, status, report, config."""

from __future__ import annotations

import csv
import io
import secrets
from typing import Any

import click

from keyturn.core import ids
from keyturn.core.errors import KeyturnError
from keyturn.core.model import rfc3339
from keyturn.edge import clock
from keyturn.edge.terminal import Call, Verbs, address, pass_call
from keyturn.flows import installing
from keyturn.host import figures, home
from keyturn.host.context import changed_home, home_path, machine_of, opened, opened_home


@click.group(
    cls=Verbs,
    lazy={
        "activate": "keyturn.host.activating:activate",
        "export": "keyturn.host.activating:export",
        "import": "keyturn.host.activating:import_",
        "installation-id": "keyturn.host.telephone_cli:installation_id",
        "confirm": "keyturn.host.telephone_cli:confirm",
        "publish": "keyturn.host.publish_cli:publish",
        "install": "keyturn.host.install:install",
        "doctor": "keyturn.host.doctor:doctor",
        "backup": "keyturn.host.backup_cli:backup",
        "restore": "keyturn.host.backup_cli:restore",
        "verify": "keyturn.host.backup_cli:verify",
    },
)
def host() -> None:
    """An organization's activation host: it activates the computers of its own network, with leases."""


@host.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--if-needed", is_flag=True, help="Do nothing if it is initialised already.")
@pass_call
def init(call: Call, files: tuple[str, ...], if_needed: bool) -> None:
    """Make a host, or add products to it: FILE is a publisher's product file. Its own key is made here and stays here."""
    from keyturn.edge import files as disk

    path = home_path(call)
    if if_needed and home.settings_file(path).exists():
        call.emit({"home": str(path), "changed": False, "products": []}, f"{path} is initialised already.")
        return
    found = []
    for name in files:
        data = disk.read(name)
        if data is None:
            raise KeyturnError("usage", f"the file {name} does not exist")
        found.append(data)
    with changed_home(call):
        new = home.initialise(path, ids.uuid4(secrets.token_bytes(16)), clock.now())
        added = [home.add_product(path, data) for data in found]
        with opened(call):
            pass  # The ledger, so that the first command finds a whole host.
    entries = [
        {"product": str(one.product.name), "name": one.product.title, "changed": changed} for one, changed in added
    ]
    lines = [f"{'Made a host in' if new else 'A host is in'} {path}."]
    lines += [f"  {entry['name']:<24} {'added' if entry['changed'] else 'there already'}" for entry in entries]
    call.emit(
        {"home": str(path), "changed": new or any(changed for _, changed in added), "products": entries},
        "\n".join(lines),
    )
    call.next("keyturn host activate -  (with the host key that the publisher gave your organization)")


@host.command()
@click.option("--listen", metavar="HOST:PORT", help="HTTPS; port 0 takes a free one (default: the setting `listen`).")
@click.option("--allow-root", is_flag=True, help="Listen beyond this computer although it runs as root.")
@pass_call
def run(call: Call, listen: str | None, allow_root: bool) -> None:
    """Run the host until SIGTERM. It renews its own certificate, and keeps its record in DNS if it may."""
    from keyturn.edge.serverlog import open_log
    from keyturn.flows.serving import serve
    from keyturn.host import publishing
    from keyturn.host.app import build
    from keyturn.host.tending import Tender

    with opened(call) as running:
        settings, log = running.home.settings, open_log(clock.now)
        machine = machine_of(call.environ, running.home.permits)
        serve(
            call, listen or settings.listen,
            lambda port: build(running, log, place=str(publishing.own_place(settings, port or None))),
            lambda port: Tender(running, machine, log, port=port, environ=call.environ),
            running.home.path, running.home.tls_files, allow_root=allow_root,
        )  # fmt: skip


@host.command()
@pass_call
def status(call: Call) -> None:
    """Say what the host counts and leases, until when it may, and which firewall line lets computers in."""
    from keyturn.host import publishing

    with opened(call) as running:
        now, permits = running.clock(), list(running.home.permits.values())
        products = running.database.read(lambda db: [figures.product(db, permit, now) for permit in permits])
        others = running.database.read(figures.others)
        settings = running.home.settings
        at, port = address(running.home.listening)
        ends = [permit.certificate.expires_at for permit in permits if permit.certificate is not None]
        found = {
            "products": products, "hosts": others, "certificate": {"expires": rfc3339(min(ends)) if ends else None},
            "name": settings.name, "listen": running.home.listening, "firewall": firewall(at, port),
            "dns": publishing.describe(settings),
        }  # fmt: skip
    call.emit(found, "\n".join(_status(found, at)))


def firewall(at: str, port: int) -> list[str]:
    """The lines that let computers in, for four firewalls; none for a host that only this computer reaches."""
    if at in installing.LOOPBACK:
        return []
    return [
        *installing.firewall([port]),
        f'New-NetFirewallRule -DisplayName "Keyturn host" -Direction Inbound -Protocol TCP -LocalPort {port} -Action Allow',
    ]


def _status(found: dict[str, Any], at: str) -> list[str]:
    lines = []
    for item in found["products"]:
        lines.append(f"{item['name']}  ({item['product'].partition('/')[2]})")
        if item["threshold"] is None:
            lines.append("  Not activated")
        else:
            more = "enough" if not item["needed"] else f"{item['needed']} more needed"
            lines.append(f"  Counted      {item['counted']} of {item['threshold']}: {more}")
            lines.append(f"  Licensed     {item['licensed']} computers, {item['ending']} of them for 30 days or less")
            lines.append(f"  Waiting      {item['waiting']}")
            if item["elsewhere"]:
                lines.append(f"  Elsewhere    {item['elsewhere']} licensed by another host")
            lines.append(f"  Copies       {item['forks']}")
            lines.append(f"  Certificate  until {item['expires']}")
        if item["warning"]:
            lines.append(f"  WARNING      {item['warning']}")
    lines += [
        f"Other host   {other['host']}: told {other['computers']} computers at {other['told_at']}"
        for other in found["hosts"]
    ]
    if found["firewall"]:
        lines += ["Let computers in, by the line for your firewall:", *(f"  {line}" for line in found["firewall"])]
    else:
        lines.append(f"Listens on {at} only: `keyturn host config set listen 0.0.0.0:8444` lets other computers in.")
    return lines


@host.command()
@click.option("--csv", "as_csv", is_flag=True, help="As comma-separated values, the first line names them.")
@pass_call
def report(call: Call, as_csv: bool) -> None:
    """List every computer of the ledger: number, state, since when, last seen, when its lease ends; and every copy."""
    with opened(call) as running:
        now = running.clock()
        permits = [running.home.permit(call.product)] if call.product else list(running.home.permits.values())
        rows = running.database.read(
            lambda db: [row for permit in permits for row in figures.computers(db, permit, now)]
        )
        copies = running.database.read(lambda db: [row for permit in permits for row in figures.forks(db, permit)])
    if as_csv and not call.json:
        click.echo(_csv(rows), nl=False)
        return
    lines = [f"{'no.':>6}  {'state':<9} {'since':<11} {'seen':<11} {'lease ends':<11} product"]
    lines += [
        f"{r['number']:>6}  {r['state']:<9} {r['since'][:10]:<11} {r['seen_at'][:10]:<11} {(r['lease_ends'] or '–')[:10]:<11}"
        f" {r['product'].partition('/')[2]}"
        for r in rows
    ]
    lines += [
        f"Copy of no. {f['computer']} ({f['reason']}), found {f['since'][:10]}: "
        + (f"is no. {f['copy']} now" if f["resolved"] else f"will be {f['installation_guid']} when it asks next")
        for f in copies
    ]
    call.emit({"computers": rows, "forks": copies}, "\n".join(lines))


def _csv(rows: list[dict[str, Any]]) -> str:
    names = (
        "product",
        "number",
        "state",
        "since",
        "seen_at",
        "lease_ends",
        "counted",
        "evidence",
        "activation_id",
        "told_by",
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@host.group()
def config() -> None:
    """The host's settings."""


@config.command("show")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@pass_call
def config_show(call: Call, origin: bool) -> None:
    """Show the settings in force."""
    settings, origins = home.read_settings(home_path(call), call.environ)
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in settings._asdict().items()}
    data = {name: {"value": value, "origin": origins[name]} for name, value in values.items()} if origin else values
    lines = (
        f"{name} = {' '.join(value) if isinstance(value, list) else value if value is not None else 'none'}"
        + (f"  ({origins[name]})" if origin else "")
        for name, value in values.items()
    )
    call.emit(data, "\n".join(lines))


@config.command("set")
@click.argument("name")
@click.argument("value")
@pass_call
def config_set(call: Call, name: str, value: str) -> None:
    """Change a setting; a running host takes it at its next start. `keyturn host config show` lists them."""
    opened_home(call)
    with changed_home(call) as path:
        home.change_setting(path, name, value)
    call.emit({name: value}, f"{name} = {value}")
