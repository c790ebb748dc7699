"""The verbs by which a host gets its own certificate: ``activate``, and by file ``export request`` and ``import``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from keyturn.core import containers, hardware, hosting
from keyturn.core.containers import Item
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.model import rfc3339
from keyturn.edge import files
from keyturn.edge.terminal import Call, Verb, Verbs, pass_call, refuse, warn_about_argv
from keyturn.flows.exchange import Line
from keyturn.host import enrolling
from keyturn.host.context import changed_home, machine_of, opened_home
from keyturn.host.home import HostHome, Permit

key_file_option = click.option("--key-file", metavar="F", help="Read the key from this file (KEYTURN_KEY_FILE).")


@click.command(cls=Verb)
@click.argument("key", required=False)
@key_file_option
@click.option("--ca-bundle", metavar="FILE", help="Trust these certificate authorities instead of the system's.")
@click.option("--dry-run", is_flag=True, help="Send nothing; say what would be sent.")
@pass_call
def activate(call: Call, key: str | None, key_file: str | None, ca_bundle: str | None, dry_run: bool) -> None:
    """Make this server an activation host: exchange the publisher's host key for a host certificate, or renew it.

    KEY is - to read it from stdin; once given it need not be given again. Without internet: `keyturn host export request`.
    """
    with changed_home(call):
        home = opened_home(call)
        permit = with_key(call, home, key, key_file)
        machine = machine_of(call.environ, home.permits)
        if dry_run:
            computer = machine.computer()
            pairs = hardware.pairs(computer.reading.anchors, permit.name)
            known = {
                "product": str(permit.name), "product_id": permit.product_id, "service": permit.opened.product.service_url,
                "known_slots": sorted(computer.reading.anchors), "pairs": len(pairs), "evidence": hardware.evidence(pairs),
                "installation_guid": home.guid, "sent": False,
            }  # fmt: skip
            call.emit(known, "\n".join([*(f"  {name.replace('_', ' '):<18} {_words(value)}" for name, value in known.items()),
                                        "Nothing was sent."]))  # fmt: skip
            return
        with Line(permit.opened.product, call.environ, ca_bundle=ca_bundle, say=call.say) as line:
            outcome = enrolling.exchange(home, permit, machine, line.send)
        if isinstance(outcome, Refused):
            refuse(outcome)
        done(call, outcome)


@click.group(cls=Verbs)
def export() -> None:
    """Write a file to carry: the request for a host certificate."""


@export.command("request")
@click.option("-o", "--output", required=True, metavar="F", help="The file to write.")
@click.argument("key", required=False)
@key_file_option
@pass_call
def export_request(call: Call, output: str, key: str | None, key_file: str | None) -> None:
    """Write the request to a .ktx file, for a host without internet. A certificate that comes by file lasts a year."""
    with changed_home(call):
        home = opened_home(call)
        permit = with_key(call, home, key, key_file)
        token = enrolling.make_request(home, permit, machine_of(call.environ, home.permits))
    files.write_json(Path(output), containers.exchange(permit.opened, [Item(token)]))
    call.emit({"file": output, "requests": 1}, f"Wrote 1 request to {output}.")
    call.next(f"carry it to a connected computer: keyturn relay {output}")


@click.command("import", cls=Verb)
@click.argument("file")
@pass_call
def import_(call: Call, file: str) -> None:
    """Take the host certificate out of a .ktx file that was relayed."""
    data = files.read(file, containers.MAX_FILE)
    if data is None:
        raise KeyturnError("usage", f"the file {file} does not exist")
    value = containers.expect(data, "exchange")
    with changed_home(call):
        home = opened_home(call)
        name = containers.open_product(value).product.name
        permit = home.permit(str(name))
        waiting = (files.read_json(permit.folder / "pending.json") or {}).get("request")
        items = containers.items_of(value)
        item = next((item for item in items if item.document == waiting), None)
        if item is None and _imported(permit, items):
            call.say("This answer was imported before.")
            done(call, permit)
            return
        if item is None:
            raise KeyturnError("document_foreign", f"{file} holds no request of this host")
        if item.refused is not None:
            raise Refused(str(item.refused.get("code")), str(item.refused.get("detail"))).as_error()
        if item.answer is None:
            raise KeyturnError(
                "document_foreign", f"{file} is not answered yet", remedy="On a connected computer: `keyturn relay F.ktx`."
            )
        done(call, enrolling.accept(home, permit, item.answer, machine_of(call.environ, home.permits), via="file"))


def with_key(call: Call, home: HostHome, key: str | None, key_file: str | None) -> Permit:
    """The product, with its host key installed. Raises: KeyturnError ``key_missing``, ``product_ambiguous``."""
    permit = home.permit(call.product)
    given = key is not None or key_file is not None or "KEYTURN_KEY_FILE" in call.environ
    if not given and permit.product_id is not None:
        return permit
    if key not in (None, "-"):
        warn_about_argv(call)
    text = call.key(key, key_file, needed=True)
    if text is None or not text.strip():
        raise KeyturnError("key_missing", "a host key is needed", remedy="Give it on stdin: `keyturn host activate -`.")
    return permit._replace(product_id=enrolling.install_key(permit, text.strip()))


def _imported(permit: Permit, items: Iterable[Item]) -> bool:
    from keyturn.core import jws

    return permit.certificate is not None and permit.certificate.request in {
        jws.digest(item.document) for item in items
    }


def done(call: Call, permit: Permit) -> None:
    """Say what the host may do now."""
    host = permit.certificate
    assert host is not None
    served = sorted(hosting.HostCertificate.claims(host)["serves"], key=int)
    found: dict[str, Any] = {
        "product": str(permit.name), "product_id": host.product_id, "activation_id": host.activation,
        "organization": host.organization,
        "threshold": host.threshold, "lease_days": host.lease_days, "capacity": host.capacity, "serves": [int(s) for s in served],
        "expires": rfc3339(host.expires_at),
    }  # fmt: skip
    lines = [
        f"This is an activation host for {permit.opened.product.title} now.",
        f"  Organization       {host.organization or '–'}",
        f"  Threshold          {host.threshold} computers within 30 days",
        f"  Leases             {host.lease_days} days, for {len(served)} client key(s)",
        f"  Host certificate   until {rfc3339(host.expires_at)}",
    ]
    call.emit(found, "\n".join(lines))
    call.next("keyturn host run")


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
