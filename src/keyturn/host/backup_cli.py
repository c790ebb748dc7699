"""The verbs ``backup``, ``restore`` and ``verify``: what an administrator types, and what they are told of consequences."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from keyturn.core.model import rfc3339
from keyturn.edge import clock
from keyturn.edge.archive import faults
from keyturn.edge.terminal import Call, Verb, pass_call
from keyturn.flows.checking import progress_of, report
from keyturn.host import backup as backups
from keyturn.host import checks
from keyturn.host.context import home_path, now_of, opened_home

GUARD = (
    "it holds the host's key: whoever has it can give leases in your organization's name until the host certificate ends."
    " Keep it where only you read."
)


@click.command(cls=Verb)
@click.option("-o", "--output", metavar="FILE.ktbackup", required=True, help="Where to write it.")
@pass_call
def backup(call: Call, output: str) -> None:
    """Write a backup of the whole host, also while it runs. It holds the host's key: guard it as the host itself."""
    home, to = opened_home(call), Path(output)
    if to.exists():
        call.confirm(f"{to} will be replaced.")
    made = backups.back_up(home, to, now=clock.now(), progress=progress_of(call))
    counts = made["counts"]
    lines = [
        f"Wrote {to}: {counts['computer']} computers of {counts['product']} product(s), as of {made['made_at']}.",
        f"  WARNING  {GUARD}",
    ]
    call.emit({"file": str(to), "bytes": to.stat().st_size, **made, "warning": GUARD}, "\n".join(lines))
    call.next(f"keyturn host verify {to}")


@click.command(cls=Verb)
@click.argument("file")
@pass_call
def restore(call: Call, file: str) -> None:
    """Make an empty --home from a backup. The host that it was made of must not run any more."""
    path = home_path(call)
    done = backups.restore(Path(file), path, now=clock.now(), progress=progress_of(call))
    as_of = rfc3339(done.made_at)
    lost = {
        "leases": f"Leases given after {as_of} are unknown here: they hold all the same, and those computers are known by"
        " their hardware when they ask next.",
        "copies": "A copy that was made meanwhile is found later: what each computer shows next is believed once.",
    }
    twice = "The host that this backup is of must not run any more: two hosts with one key know only half of the leases each."
    lines = [
        f"Restored the host into {path}, as it was at {as_of}: {done.counts['computer']} computers.",
        *(f"  Lost: {text}" for text in lost.values()),
        f"  WARNING  {twice}",
    ]
    found = {"home": str(path), "as_of": as_of, "counts": dict(done.counts), "lost": lost, "warning": twice}
    call.emit(found, "\n".join(lines))
    call.next(f"keyturn host verify --home {path}")


@click.command(cls=Verb)
@click.argument("file", required=False)
@pass_call
def verify(call: Call, file: str | None) -> int:
    """Verify the home, also while the host runs, or a backup. Exits 1 if a check fails."""
    progress = progress_of(call)
    if file is None:
        home = opened_home(call)
        return report(call, list(checks.examine(home, now_of(call.environ, home.permits)(), progress)))
    with faults(Path(file)), tempfile.TemporaryDirectory(prefix="keyturn-verify-") as folder:
        found = backups.opened(Path(file))
        with found.reader:
            home = backups.unpack(found, Path(folder) / "home", progress)
            return report(call, list(backups.examine(found, home, now_of(call.environ, home.permits)(), progress)))
