"""The publisher's verbs that concern the service itself: init, run, status, config."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
from urllib.parse import urlsplit

import click

from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, rfc3339
from keyturn.edge import clock
from keyturn.edge.terminal import Call, address, pass_call
from keyturn.service import alarms, catalog, confirming, home, rotation
from keyturn.service.context import ServiceVerbs, changed_home, home_path, opened
from keyturn.service.home import ServiceHome

LISTEN = "127.0.0.1:8443"
PROBE_LISTEN = "127.0.0.1:8080"


@click.group(
    cls=ServiceVerbs,
    lazy={
        "org": "keyturn.service.staff:org",
        "product": "keyturn.service.staff:product",
        "key": "keyturn.service.staff_keys:key",
        "activation": "keyturn.service.staff_keys:activation",
        "find": "keyturn.service.staff_keys:find",
        "install": "keyturn.service.install:install",
        "answer": "keyturn.service.answering:answer",
        "desk": "keyturn.service.desk_cli:desk",
        "phone-page": "keyturn.service.desk_cli:phone_page",
        "voice": "keyturn.service.voice_cli:voice",
        "token": "keyturn.service.token_cli:token",
        "root": "keyturn.service.root_cli:root",
        "backup": "keyturn.service.backup_cli:backup",
        "restore": "keyturn.service.backup_cli:restore",
        "verify": "keyturn.service.backup_cli:verify",
        "doctor": "keyturn.service.doctor:doctor",
    },
)
def service() -> None:
    """The publisher's activation service: set it up, run it, mint keys, help callers."""


@service.command()
@click.option("--publisher", required=True, metavar="NAME", help="Who publishes: shown to customers, fixed for ever.")
@click.option(
    "--url", metavar="URL", default="https://localhost:8443", show_default=True, help="Where clients will reach it."
)
@click.option(
    "--probe-url", metavar="URL", help="The plain-HTTP probe's address, or none (default: the URL's host, port 8080)."
)
@click.option(
    "--database", metavar="URL", default="service.db", show_default=True, help="SQLite file, relative to the home."
)
@click.option("--if-needed", is_flag=True, help="Do nothing if it is initialised already.")
@pass_call
def init(call: Call, publisher: str, url: str, probe_url: str | None, database: str, if_needed: bool) -> None:
    """Make a service: root key, issuing keys for two years, trust bundle, database, a TLS certificate for first use."""
    path = home_path(call)
    if if_needed and home.settings_file(path).exists():
        done = ServiceHome(path, call.environ)
        call.emit(
            {"home": str(path), "thumbprint": done.chain.thumbprint, "changed": False},
            f"{path} is initialised already.",
        )
        return
    if "://" in database and not database.startswith("sqlite:///"):
        raise KeyturnError(
            "usage", "this version keeps its database in SQLite", remedy="Leave --database out, or give sqlite:///FILE."
        )
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise KeyturnError("usage", f"{url!r} is not an https:// address: licenses travel over TLS only")
    probe = probe_url or f"http://{parts.hostname}:8080/probe"
    with changed_home(call):
        thumbprint = home.initialise(
            path, publisher=publisher, url=url.rstrip("/"), probe_url=probe, database=database, now=clock.now()
        )
        with opened(call):
            pass  # The schema, so that the first command finds a whole service.
    call.emit(
        {
            "home": str(path),
            "thumbprint": thumbprint,
            "url": url,
            "probe_url": None if probe == "none" else probe,
            "changed": True,
        },
        f"Made the service of {publisher} in {path}.\n"
        f"  Publisher's thumbprint  {thumbprint}\n"
        f"  Keep {path / 'root'} away from this computer: whoever has it *is* the publisher.\n"
        "  Write the service's secrets now, and keep that file apart from its backups:"
        " `keyturn service backup -o F.ktbackup --secrets-to F.ktsecrets`.\n"
        "  A service restored without the pepper among them can prove no product key ever again: all must be minted anew."
        " Without the root folder it issues until its issuing keys end, and nothing after that."
        + ("" if confirming.available() else f"\n  It does not answer by telephone yet. {confirming.REMEDY}"),
    )
    call.next("keyturn service product create SLUG")


@service.command()
@click.option(
    "--listen", default=LISTEN, show_default=True, metavar="HOST:PORT", help="HTTPS; port 0 takes a free one."
)
@click.option(
    "--probe-listen",
    default=PROBE_LISTEN,
    show_default=True,
    metavar="HOST:PORT",
    help="Plain HTTP for the probe, or none.",
)
@click.option("--tls-cert", metavar="F", help="Certificate chain (PEM) instead of the one made at init.")
@click.option("--tls-key", metavar="F", help="Its private key (PEM).")
@click.option("--allow-root", is_flag=True, help="Listen beyond this computer although it runs as root.")
@pass_call
def run(
    call: Call, listen: str, probe_listen: str, tls_cert: str | None, tls_key: str | None, allow_root: bool
) -> None:  # fmt: skip
    """Run the service until SIGTERM. The root folder is never opened."""
    from keyturn.edge import listen as listening
    from keyturn.edge.serverlog import open_log
    from keyturn.service import minding
    from keyturn.service.app import build

    host, port = address(listen)
    probe = None if probe_listen == "none" else address(probe_listen)
    if os.geteuid() == 0 and not allow_root and host not in ("127.0.0.1", "::1", "localhost"):
        raise KeyturnError("loopback_only", f"listening on {host} as root")
    if (tls_cert is None) != (tls_key is None):
        raise KeyturnError("usage", "--tls-cert and --tls-key go together")
    listening.raise_file_limit()
    with opened(call) as running:
        recovered = minding.begin(running)
        log = open_log(clock.now)
        if recovered:
            log("recovered", {"intents": recovered})
        cert, key = (tls_cert, tls_key) if tls_cert and tls_key else running.home.tls_files

        def ready(found: listening.Ready) -> None:
            def shown(name: str) -> str:
                return f"[{name}]" if ":" in name else name

            probe_url = f"http://{shown(probe[0])}:{found.probe_port}/probe" if probe else None
            url = f"https://{shown(host)}:{found.port}"
            event = {"event": "ready", "url": url, "probe_url": probe_url, "pid": found.pid}
            text = f"Ready at {event['url']}" + (f", probe at {probe_url}" if probe_url else "")
            click.echo(json.dumps(event) if call.json else text)

        async def main() -> None:
            stop = asyncio.Event()
            telling = asyncio.create_task(
                alarms.daily(lambda: alarms.write(log, alarms.alarms(running.home, clock.now(), certificate=cert)), stop)
            )
            try:
                async with minding.minded(running, log):
                    await listening.serve(
                        build(running, log, certificate=cert), host=host, port=port, tls_cert=cert, tls_key=key,
                        probe_host=probe[0] if probe else None, probe_port=probe[1] if probe else None,
                        on_ready=ready, stop=stop,
                    )  # fmt: skip
            finally:
                stop.set()
                await telling

        gc.freeze()  # What exists by now lives as long as the process: the collector need not look at it again.
        gc.set_threshold(50_000)
        listening.run(main())


@service.command()
@pass_call
def status(call: Call) -> None:
    """Say what the service holds, until when its issuing keys last, and what ends soon."""
    with opened(call) as running:
        now = clock.now()
        products = running.database.read(catalog.products)
        until = min(alarms.here_until(running.home).values())
        ahead = min(rotation.authorised_until(running.home.chain).values())
        ending = list(alarms.alarms(running.home, now))
        open_intents = running.database.read(
            lambda db: db.execute("SELECT count(*) FROM intent WHERE signature IS NULL").fetchone()[0]
        )
        found = {
            "publisher": running.home.settings.publisher, "thumbprint": running.home.chain.thumbprint,
            "url": running.home.settings.url, "bundle": running.home.chain.newest.number, "products": len(products),
            "keys": sum(p["keys"] for p in products), "seats_used": sum(p["seats_used"] for p in products),
            "open_intents": open_intents, "issuing_until": rfc3339(until), "issuing_days": (until - now) // DAY,
            "signer": running.home.settings.signer, "authorised_until": rfc3339(ahead), "authorised_days": (ahead - now) // DAY,
        }  # fmt: skip
    lines = [f"  {name.replace('_', ' '):<16} {value}" for name, value in found.items()]
    lines += [f"  ALARM            {alarm}" for alarm in ending]
    call.emit({**found, "alarms": [alarm._asdict() for alarm in ending]}, "\n".join(lines))


@service.group(
    "issuing-key",
    lazy={
        "create": "keyturn.service.storing_cli:create",
        "store": "keyturn.service.storing_cli:store",
        "retire": "keyturn.service.theft_cli:retire",
        "reissue": "keyturn.service.theft_cli:reissue",
        "proofs": "keyturn.service.theft_cli:proofs",
    },
)
def issuing_key() -> None:
    """The keys that sign certificates: authorised two years ahead, in force for 90 days each."""


@issuing_key.command("list")
@pass_call
def issuing_key_list(call: Call) -> None:
    """List every issuing and confirmation key: role, time, whether it is here, sealed with the root, retired or revoked."""
    with opened(call) as running:
        now = clock.now()
        keys = [
            {
                "kid": key.kid, "role": key.role, "from": rfc3339(key.not_before), "until": rfc3339(key.not_after),
                "state": rotation.state(running.home, key), "here": key.kid in running.home.signers,
                "in_force": key.not_before <= now <= key.not_after, "days_left": max(0, (key.not_after - now) // DAY),
            }
            for key in rotation.every_key(running.home.chain)
        ]  # fmt: skip
        phone = confirming.listed(running.home.path, running.home.chain, now)
    call.emit(
        {"keys": keys, "confirmation_keys": phone},
        "\n".join(
            f"  {k['role']:<10} {str(k['from'])[:10]} to {str(k['until'])[:10]}  {k['state']:<8}"
            f" {k['days_left']:>4} days left  {str(k['kid'])[:12]}"
            for k in [*keys, *phone]
        ),
    )


@issuing_key.command("rotate")
@pass_call
def issuing_key_rotate(call: Call) -> None:
    """Bring the keys in force and the next from the root folder, and see to it that two years are authorised.

    Where one root decides and is in the root folder, the next trust bundle is made here; where several must sign, it says which
    ceremony is due.
    """
    from keyturn.service import storing

    with changed_home(call) as path:
        now = clock.now()
        extended = rotation.extend(ServiceHome(path, call.environ), now)
        with contextlib.closing(ServiceHome(path, call.environ, call.secret)) as service:
            brought = storing.bring(service, now)
    bundle = extended.chain.newest.number if extended.added or extended.phone else None
    text = [f"Brought {len(brought)} issuing key(s) from the root folder."]
    if extended.added:
        until = rfc3339(min(rotation.authorised_until(extended.chain).values()))
        text.append(f"Trust bundle {bundle} authorises {extended.added} more, until {until}.")
    if extended.phone:
        text.append(f"Trust bundle {bundle} names {extended.phone} new confirmation key(s), for telephone activation.")
    if brought or bundle:
        text.append(home.TAKES_IT_AT_ONCE if service.settings.signer == "file" else home.TAKES_IT)
    text += [extended.due] if extended.due else []
    found = {"brought": [key.kid for key in brought], "authorised": extended.added, "bundle": bundle, "due": extended.due}
    call.emit(found, "\n".join(text))


@service.group()
def config() -> None:
    """The service's settings."""


@config.command("show")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@pass_call
def config_show(call: Call, origin: bool) -> None:
    """Show the settings in force."""
    settings, origins = home.read_settings(home_path(call), call.environ)
    values = settings._asdict()
    data = {name: {"value": value, "origin": origins[name]} for name, value in values.items()} if origin else values
    call.emit(
        data,
        "\n".join(
            f"{n} = {v if v is not None else 'none'}" + (f"  ({origins[n]})" if origin else "")
            for n, v in values.items()
        ),
    )


@config.command("set")
@click.argument("name")
@click.argument("value")
@pass_call
def config_set(call: Call, name: str, value: str) -> None:
    """Change a setting. `keyturn service config show` lists them, with their values."""
    with changed_home(call) as path:
        home.change_setting(path, name, value)
    call.emit({name: value}, f"{name} = {value}")
    if name in ("url", "probe_url"):
        call.next("keyturn service product export SLUG -o F.ktproduct (it carries the address)")
