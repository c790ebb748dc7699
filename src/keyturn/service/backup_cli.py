"""The verbs ``backup``, ``restore`` and ``verify``: what an operator types, and what they are told of consequences."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from keyturn.core.errors import KeyturnError
from keyturn.core.model import rfc3339
from keyturn.edge import clock
from keyturn.edge.archive import faults
from keyturn.edge.terminal import Call, pass_call
from keyturn.flows.checking import progress_of, report
from keyturn.service import backup as backups
from keyturn.service import restore as restoring
from keyturn.service import verify as verifying
from keyturn.service.context import ServiceVerb, changed_home, home_path
from keyturn.service.home import ServiceHome

_BESIDE = {
    "secrets": "pepper, issuing keys and TLS keys: write them with --secrets-to FILE after init and after every rotation, and"
    " keep that file apart from backups. Without the pepper no product key in a backup can ever be proven.",
    "root": "the root folder: keep it offline, in two places. Without it no issuing keys can be brought.",
}  # fmt: skip


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
    made = backups.back_up(home, to, now=now, progress=progress_of(call))
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
            put = restoring.put_secrets(Path(secrets), path, call.environ, progress_of(call))
        call.emit({"home": str(path), "put": put}, f"Put {len(put)} secret file(s) into {path}.")
        call.next("keyturn service verify")
        return
    done = restoring.restore(
        Path(file), path, secrets=None if secrets is None else Path(secrets), thumbprint=thumbprint, now=clock.now(),
        progress=progress_of(call),
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
        found = verifying.verify_home(home_path(call), call.environ, clock.now(), progress_of(call))
    else:
        with faults(Path(file)), tempfile.TemporaryDirectory(prefix="keyturn-verify-") as folder:
            given = None if secrets is None else Path(secrets)
            found = verifying.verify_backup(Path(file), given, Path(folder), progress_of(call))
    return report(call, found)
