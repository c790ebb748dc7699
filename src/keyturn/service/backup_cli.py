"""The verbs ``backup``, ``restore`` and ``verify``: what an operator types, and what they are told of consequences."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from keyturn.core.errors import KeyturnError
from keyturn.core.model import rfc3339
from keyturn.edge import clock
from keyturn.edge.archive import Progress, faults
from keyturn.edge.terminal import Call, pass_call
from keyturn.edge.voice import reference
from keyturn.service import backup as backups
from keyturn.service import restore as restoring
from keyturn.service import verify as verifying
from keyturn.service.checks import Check
from keyturn.service.context import ServiceVerb, changed_home, home_path
from keyturn.service.home import ServiceHome

_BESIDE = {
    "secrets": "pepper, issuing keys and TLS keys: write them with --secrets-to FILE after init and after every rotation, and"
    " keep that file apart from backups. Without the pepper no product key in a backup can ever be proven.",
    "root": "the root folder: keep it offline, in two places. Without it no issuing keys can be brought.",
}  # fmt: skip


def shown(call: Call, ticks: Callable[[], float] = time.monotonic) -> Progress:
    """Tell a person on a terminal, at most once a second, how far long work is. ``ticks``: seconds that only go forward."""
    told = ticks()

    def tell(what: str, done: int, total: int) -> None:
        nonlocal told
        if call.json or not sys.stderr.isatty() or ticks() < told + 1:
            return
        told = ticks()
        call.say(f"  {what} … {100 * done // total} %" if total else f"  {what} …")

    return tell


@click.command(cls=ServiceVerb)
@click.option("-o", "--output", metavar="FILE.ktbackup", required=True, help="Where to write it.")
@click.option("--secrets-to", metavar="FILE.ktsecrets", help="Write the secrets too, into this other file.")
@pass_call
def backup(call: Call, output: str, secrets_to: str | None) -> None:
    """Write a backup of the service, also while it runs. It holds no secret and can issue nothing."""
    home = ServiceHome(home_path(call), call.environ)
    to, apart = Path(output), None if secrets_to is None else Path(secrets_to)
    if apart is not None and apart.absolute() == to.absolute():
        raise KeyturnError("usage", "backup and secrets are two files: that is what keeps either of them harmless")
    there = [str(path) for path in (to, apart) if path is not None and path.exists()]
    if there:
        call.confirm(f"{' and '.join(there)} will be replaced.")
    now = clock.now()
    made = backups.back_up(home, to, now=now, progress=shown(call))
    kept = None if apart is None else backups.write_secrets(home, apart, now=now)
    outside = {name: text for name, text in _BESIDE.items() if name == "root" or kept is None}
    found = {
        "file": str(to), "bytes": to.stat().st_size, **made, "secrets_file": None if apart is None else str(apart),
        "not_inside": outside,
    }  # fmt: skip
    counts = made["counts"]
    lines = [
        f"Wrote {to}: {counts['keys']} product keys, {counts['seats_used']} seats used, as of {made['made_at']}.",
        f"  Publisher's thumbprint  {made['thumbprint']}",
    ]
    if apart is not None:
        lines.append(f"  Secrets                 {apart}: keep it apart, whoever has it can sign for the publisher")
    lines += [f"  Not inside: {text}" for text in outside.values()]
    call.emit(found, "\n".join(lines))
    call.next(f"keyturn service verify {to}" + ("" if apart is None else f" --secrets {apart}"))


@click.command(cls=ServiceVerb)
@click.argument("file", required=False)
@click.option(
    "--secrets", metavar="FILE.ktsecrets", help="The secrets that belong to it; alone: put them into a home without."
)
@click.option("--thumbprint", metavar="T", help="Refuse a backup of any other publisher.")
@pass_call
def restore(call: Call, file: str | None, secrets: str | None, thumbprint: str | None) -> None:
    """Make an empty --home from a backup, or put the secrets into a home that was restored without."""
    path = home_path(call)
    if file is None:
        if secrets is None:
            raise KeyturnError("usage", "name the backup, or with --secrets the secrets, or both")
        with changed_home(call):
            put = restoring.put_secrets(Path(secrets), path, call.environ, shown(call))
        call.emit({"home": str(path), "put": put}, f"Put {len(put)} secret file(s) into {path}.")
        call.next("keyturn service verify")
        return
    done = restoring.restore(
        Path(file), path, secrets=None if secrets is None else Path(secrets), thumbprint=thumbprint, now=clock.now(),
        progress=shown(call),
    )  # fmt: skip
    as_of = rfc3339(done.made_at)
    lost = {
        "activations": f"Activations after {as_of} are unknown here: those computers stay licensed, but their seats count as"
        " free and may be granted again.",
        "keys": f"Product keys minted after {as_of} are unknown here: whoever holds one needs another.",
        "changes": f"Returns, reclaims, blocks and revoked tokens after {as_of} are undone: do them again.",
    }
    missing = _missing(path, done)
    found = {
        "home": str(path), "publisher": done.publisher, "thumbprint": done.chain.thumbprint, "as_of": as_of,
        "counts": dict(done.counts), "signed": done.signed, "lost": lost, "missing": missing,
    }  # fmt: skip
    lines = [
        f"Restored the service of {done.publisher} into {path}, as it was at {as_of}.",
        f"  Publisher's thumbprint  {done.chain.thumbprint}",
        f"  Inside                  {done.counts['keys']} product keys, {done.counts['seats_used']} seats used",
        *(f"  Lost: {text}" for text in lost.values()),
        *(f"  Missing: {text}" for text in missing.values()),
    ]
    call.emit(found, "\n".join(lines))
    call.next(f"keyturn service verify --home {path}")


def _missing(path: Path, done: restoring.Restored) -> dict[str, str]:
    home = ServiceHome(path, {})
    ends = [key.not_after for key in done.chain.newest.keys.values() if key.kid in home.signers]
    found = {}
    if not done.secrets:
        found["secrets"] = (
            "the secrets: no product key can be proven and nothing signed before"
            f" `keyturn service restore --secrets FILE --home {path}`."
        )
    waiting = done.counts["open_intents"] - done.signed
    if waiting and done.secrets:
        found["issuing_keys"] = f"the issuing keys of {waiting} decisions: bring them before the service is started."
    end = f"after {rfc3339(max(ends))}, when the issuing keys here end," if ends else "without the secrets"
    found["root"] = f"the root folder, which is in no backup: {end} nothing can be issued without it."
    return found


@click.command(cls=ServiceVerb)
@click.argument("file", required=False)
@click.option("--secrets", metavar="FILE.ktsecrets", help="The secrets that belong to the backup.")
@pass_call
def verify(call: Call, file: str | None, secrets: str | None) -> int:
    """Verify the home, also while the service runs, or a backup. Exits 1 if a check fails."""
    if file is None:
        if secrets is not None:
            raise KeyturnError("usage", "--secrets goes with a backup; the home has its own")
        found = verifying.verify_home(home_path(call), call.environ, clock.now(), shown(call))
    else:
        with faults(Path(file)), tempfile.TemporaryDirectory(prefix="keyturn-verify-") as folder:
            given = None if secrets is None else Path(secrets)
            found = verifying.verify_backup(Path(file), given, Path(folder), shown(call))
    failed = [check.name for check in found if check.ok is False]
    error = (
        KeyturnError("check_failed", f"{len(failed)} of {len(found)} checks: {', '.join(failed)}") if failed else None
    )
    data: dict[str, Any] = {"checks": [check._asdict() for check in found], "ok": not failed}
    if error is not None:
        error.reference = reference()
        data["error"] = error.as_json()
    call.emit(data, "\n".join(_line(check) for check in found))
    if error is None:
        return 0
    if not call.json:
        raise error
    return error.exit


def _line(check: Check) -> str:
    word = {True: "ok", False: "FAIL", None: "-"}[check.ok]
    line = f"  {word:<5} {check.name.replace('_', ' '):<13} {check.figure}"
    return line if check.remedy is None else f"{line}\n        {check.remedy}"
