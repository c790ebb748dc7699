"""The verbs ``backup``, ``restore`` and ``verify``: what an administrator types, and what they are told of consequences."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from keyturn.core.model import rfc3339
from keyturn.edge import clock
from keyturn.edge.archive import faults
from keyturn.edge.terminal import Call, Verb, pass_call
from keyturn.fleet import backup as backups
from keyturn.fleet import checks
from keyturn.fleet.context import home_path, opened_home
from keyturn.flows.checking import progress_of, report

GUARD = (
    "it holds every key of this manager: whoever has it can read your product keys, give orders to every computer that enrolled,"
    " and hand their activations to other installations. Keep it where only you read."
)


@click.command(cls=Verb)
@click.option("-o", "--output", metavar="FILE.ktbackup", required=True, help="Where to write it.")
@pass_call
def backup(call: Call, output: str) -> None:
    """Write a backup of the whole fleet manager, also while it runs. It holds all of its keys: guard it as the manager itself."""
    home, to = opened_home(call), Path(output)
    if to.exists():
        call.confirm(f"{to} will be replaced.")
    made = backups.back_up(home, to, now=clock.now(), progress=progress_of(call))
    counts = made["counts"]
    lines = [
        f"Wrote {to}: {counts['computer']} computers, {counts['binding']} activations, {counts['key']} product keys,"
        f" as of {made['made_at']}.",
        f"  WARNING  {GUARD}",
    ]
    call.emit({"file": str(to), "bytes": to.stat().st_size, **made, "warning": GUARD}, "\n".join(lines))
    call.next(f"keyturn fleet verify {to}")


@click.command(cls=Verb)
@click.argument("file")
@pass_call
def restore(call: Call, file: str) -> None:
    """Make an empty --home from a backup. The manager that it was made of must not run any more."""
    path = home_path(call)
    done = backups.restore(Path(file), path, now=clock.now(), progress=progress_of(call))
    as_of = rfc3339(done.made_at)
    lost = {
        "computers": f"Computers that enrolled after {as_of} are unknown here: enroll them again.",
        "activations": "Activations that were given since are unknown here, and hold all the same; a task that was under way is"
        " done again and takes no second seat.",
        "revocations": f"Enrollment tokens and accounts that were ended after {as_of} are in force again: look through"
        " `keyturn fleet token list` and `keyturn fleet user list`.",
    }
    twice = "The manager that this backup is of must not run any more: two of them with one key each know half."
    lines = [
        f"Restored the fleet manager into {path}, as it was at {as_of}: {done.counts['computer']} computers.",
        *(f"  Lost: {text}" for text in lost.values()),
        f"  WARNING  {twice}",
    ]
    found = {"home": str(path), "as_of": as_of, "counts": dict(done.counts), "lost": lost, "warning": twice}
    call.emit(found, "\n".join(lines))
    call.next(f"keyturn fleet verify --home {path}")


@click.command(cls=Verb)
@click.argument("file", required=False)
@pass_call
def verify(call: Call, file: str | None) -> int:
    """Verify the home, also while the fleet manager runs, or a backup. Exits 1 if a check fails."""
    progress = progress_of(call)
    if file is None:
        return report(call, list(checks.examine(opened_home(call), clock.now(), progress)))
    with faults(Path(file)), tempfile.TemporaryDirectory(prefix="keyturn-verify-") as folder:
        found = backups.opened(Path(file))
        with found.reader:
            home = backups.unpack(found, Path(folder) / "home", progress)
            return report(call, list(backups.examine(found, home, clock.now(), progress)))
