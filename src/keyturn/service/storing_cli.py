"""The verbs that say where issuing keys are kept: ``issuing-key store`` and ``issuing-key create``."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from keyturn.core import trust
from keyturn.edge import files
from keyturn.edge.terminal import Call, pass_call
from keyturn.service import home as homes
from keyturn.service import signing, storing
from keyturn.service.context import ServiceVerb, changed_home
from keyturn.service.home import ServiceHome


@click.command(cls=ServiceVerb)
@click.option("--signer", "kind", required=True, type=click.Choice(signing.KINDS), help="Who keeps them from now on.")
@pass_call
def store(call: Call, kind: str) -> None:
    """Keep the issuing keys here in files, encrypted by a passphrase, in a PKCS#11 token, or by a program of yours."""
    with changed_home(call) as path, contextlib.closing(ServiceHome(path, call.environ, call.secret)) as home:
        lost = storing.consequence(home, kind)
        if lost is not None:
            call.confirm(lost)
        moved = storing.store(home, kind)
    call.emit(
        {"signer": kind, "moved": moved.keys, "held": moved.held},
        f"{moved.keys} issuing keys moved; signer = {kind}, which holds {moved.held}. {homes.TAKES_IT}",
    )


@click.command(cls=ServiceVerb)
@click.option("--count", type=click.IntRange(1, 20), default=5, show_default=True, help="How many of each role.")
@click.option("-o", "--output", metavar="F.json", help="Write the list here instead of showing it.")
@pass_call
def create(call: Call, count: int, output: str | None) -> None:
    """Make issuing keys on the PKCS#11 token, and list them for the draft of the trust bundle that must name them."""
    with changed_home(call) as path, contextlib.closing(ServiceHome(path, call.environ, call.secret)) as home:
        made = [key for role in (trust.ROLE_ISSUE, trust.ROLE_TEST) for key in storing.create(home, role, count)]
    listed = {"keyturn": "issuing-keys", "v": 1, "keys": made}
    if output is None:
        call.emit(listed)
        return
    files.write_json(Path(output), listed)
    call.emit({"file": output, "keys": len(made)}, f"{output} names {len(made)} keys; none counts before a trust bundle does.")
    call.next(f"keyturn service root draft --issuing-keys {output} -o next.ktdraft")
