"""The file story: export a request, relay it on any connected computer, import the answer, inspect any file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from keyturn.client import accepting, actions
from keyturn.client.cli import read_file
from keyturn.client.context import choose, chosen, homes_of, machine_of, name_of
from keyturn.client.loading import load, status_of
from keyturn.client.policies import policy_of
from keyturn.client.views import row, status_text
from keyturn.core import containers, documents, jws, trust
from keyturn.core.containers import Item
from keyturn.core.documents import Certificate, Release
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.jws import Kind
from keyturn.core.model import rfc3339
from keyturn.edge import files
from keyturn.edge.terminal import Call, Verb, Verbs, pass_call
from keyturn.flows.exchange import BATCH, Line

output_option = click.option("-o", "--output", required=True, metavar="F", help="The file to write.")


@click.group(cls=Verbs)
def export() -> None:
    """Write a file to carry: a request, the certificate, or the publisher's trust bundles."""


@export.command("request")
@output_option
@click.option("--allow-ephemeral", is_flag=True, help="Activate although this computer keeps nothing.")
@pass_call
def export_request(call: Call, output: str, allow_ephemeral: bool) -> None:
    """Write the activation request, or the release that waits, to a .ktx file."""
    machine = machine_of(call)
    shelf = choose(call, homes_of(call))
    policy_of(shelf.vault.home, machine).demand("file")
    waiting = shelf.release()
    if waiting is not None and load(shelf, machine).held is not None:
        token, loaded = waiting, load(shelf, machine)
    else:
        token, loaded = actions.make_request(shelf, machine, allow_ephemeral=allow_ephemeral)
    _write(output, containers.exchange(loaded.opened, [Item(token)]))
    call.emit({"file": output, "requests": 1}, f"Wrote 1 request to {output}.")
    call.next(f"carry it to a connected computer: keyturn relay {output}")


@export.command("certificate")
@output_option
@pass_call
def export_certificate(call: Call, output: str) -> None:
    """Write the activation certificate: a compact JWS that any JWT library can check."""
    loaded = load(choose(call, homes_of(call)), machine_of(call))
    if loaded.held is None or loaded.certificate is None:
        raise KeyturnError("not_licensed", f"{loaded.opened.product.title} has no certificate here")
    files.write(Path(output), loaded.held.certificate.encode())
    call.emit({"file": output, "activation_id": loaded.certificate.activation}, f"Wrote the certificate to {output}.")
    call.next("keyturn export trust -o F.kttrust")


@export.command("trust")
@output_option
@pass_call
def export_trust(call: Call, output: str) -> None:
    """Write the publisher's trust bundles: whose signatures to believe."""
    loaded = load(choose(call, homes_of(call)), machine_of(call))
    chain = loaded.opened.chain
    _write(output, {"keyturn": "trust", "v": 1, "thumbprint": chain.thumbprint, "bundles": list(chain.texts)})
    call.emit({"file": output, "bundle": chain.newest.number}, f"Wrote {len(chain.texts)} trust bundle(s) to {output}.")


@click.command(cls=Verb)
@click.argument("file")
@click.option("--ca-bundle", metavar="FILE", help="Trust these certificate authorities instead of the system's.")
@pass_call
def relay(call: Call, file: str, ca_bundle: str | None) -> None:
    """Send the requests in a .ktx file to their service and write the answers into the same file.

    Runs on any connected computer; needs no product and no home there.
    """
    value = containers.expect(read_file(file), "exchange")
    opened = containers.open_product(value)
    items = containers.items_of(value)
    policy = policy_of(homes_of(call).write.home, machine_of(call))
    waiting = [index for index, item in enumerate(items) if item.open]
    with Line(opened.product, call.environ, ca_bundle=ca_bundle, say=call.say, policy=policy) as line:
        for begin in range(0, len(waiting), BATCH):
            group = waiting[begin : begin + BATCH]
            batch = line.send_all([items[index].document for index in group], by_file=True)
            for index, outcome in zip(group, batch.outcomes, strict=True):
                items[index] = answered(items[index], outcome)
            chain = trust.longer(opened.chain.texts, batch.bundles, opened.product.name.thumbprint)
            opened = containers.renewed(opened, chain, batch.products.get(str(opened.product.name)))
            # These answers are safe before the next are asked for.
            _write(file, {**value, **containers.exchange(opened, items)})
            if len(waiting) > BATCH:
                call.say(f"{begin + len(group)} of {len(waiting)} answered")
        if waiting and "manifest" in value:
            _write(file, {**value, **containers.exchange(opened, items), "revocations": line.revocations().get("revocations")})
    summary = {
        "file": file,
        "answered": sum(i.answer is not None for i in items),
        "refused": sum(i.refused is not None for i in items),
    }
    call.emit(summary, f"{summary['answered']} answered, {summary['refused']} refused; {file} holds the answers.")
    call.next(f"carry it back: keyturn import {file}")


def answered(item: Item, outcome: dict[str, Any] | Refused) -> Item:
    if isinstance(outcome, Refused):
        return item._replace(refused=outcome.as_error().as_json())
    return item._replace(answer=outcome)


@click.command("import", cls=Verb)
@click.argument("file")
@pass_call
def import_(call: Call, file: str) -> None:
    """Take the answer to this computer's request out of a .ktx file, or newer trust bundles and proofs out of a .kttrust."""
    kind, value = containers.unpack(read_file(file))
    if kind == "trust":
        _import_trust(call, value)
        return
    value = containers.expect(read_file(file), "exchange")
    name = containers.open_product(value).product.name
    machine = machine_of(call)
    shelf = homes_of(call).find(name)
    loaded = load(shelf, machine, pin=name)
    pending, released = shelf.pending(), shelf.release()
    mine = {token for token in (pending.request if pending else None, released) if token}
    item = next((item for item in containers.items_of(value) if item.document in mine), None)
    if (
        item is None
        and loaded.held is not None
        and any(i.document == loaded.held.request for i in containers.items_of(value))
    ):
        call.emit(
            {"products": [status_of(loaded)]}, "This answer was imported before.\n" + status_text([status_of(loaded)])
        )
        return
    if item is None:
        raise KeyturnError("document_foreign", f"{file} holds no request of this computer")
    if item.open:
        raise KeyturnError(
            "document_foreign", f"{file} is not answered yet", remedy="On a connected computer: `keyturn relay F.ktx`."
        )
    if item.refused is not None:
        said = item.refused
        outcome = Refused(str(said.get("code")), str(said.get("detail")), reference=_text(said.get("reference")))
        if item.document == released:
            actions.finish_release(shelf, outcome)
        raise outcome.as_error()
    assert item.answer is not None
    if item.document == released:
        actions.finish_release(shelf, item.answer)
    else:
        beside = {name: value[name] for name in ("bundles", "product")}  # Once for all answers of a file.
        accepting.accept_answer(shelf, machine, {**beside, **item.answer}, via="file")
    entry = status_of(load(shelf, machine))
    call.emit({"products": [entry]}, status_text([entry]))


def _import_trust(call: Call, value: dict[str, Any]) -> None:
    bundles, proofs, products = value.get("bundles"), value.get("proofs", {}), value.get("products", [])
    if (
        not isinstance(bundles, list) or not all(isinstance(text, str) for text in bundles) or not bundles
        or not isinstance(proofs, dict) or not isinstance(products, list)
    ):  # fmt: skip
        raise KeyturnError("file_malformed", "the file holds no trust bundle")
    thumbprint, machine = trust.pin_of(bundles[0]), machine_of(call)
    entries = []
    for shelf in chosen(call, homes_of(call)):
        name = name_of(shelf)
        if name is not None and name.thumbprint == thumbprint:
            entries.append(status_of(accepting.accept_trust(shelf, machine, bundles, proofs, products)))
    if not entries:
        raise KeyturnError("document_foreign", "no product of that publisher is added on this computer")
    call.emit({"products": entries}, status_text(entries))


@click.command(cls=Verb)
@click.argument("file")
@pass_call
def inspect(call: Call, file: str) -> None:
    """Say what a file is, who signed it, for whom, and until when."""
    kind, value = containers.unpack(read_file(file))
    if kind == "certificate":
        found = _certificate(value["certificate"])
    elif kind == "trust":
        found = _trust(value)
    else:
        opened = containers.open_product(value)
        product = opened.product
        found = {
            "kind": kind, "verified": True, "product": str(product.name), "name": product.title, "publisher": product.publisher,
            "service": product.service_url, "probe": product.probe_url, "test": product.name.test, "version": product.version,
            "editions": {edition: list(features) for edition, features in product.editions.items()},
            "issued_at": rfc3339(product.issued_at), "bundle": opened.chain.newest.number,
        }  # fmt: skip
        if kind == "exchange":
            found["requests"] = [_item(item) for item in containers.items_of(value)]
    call.emit(found, "\n".join(row(name.replace("_", " "), _words(entry)) for name, entry in found.items()))


def _certificate(token: str) -> dict[str, Any]:
    """A certificate alone names no publisher to believe, so its signature is not judged here, and that is said."""
    certificate = Certificate.read(jws.loads(jws.payload_of(token)))
    return {
        "kind": "certificate", "verified": False, "product": str(certificate.product), "publisher": certificate.publisher,
        "activation_id": certificate.activation, "product_id": certificate.product_id, "edition": certificate.edition,
        "features": list(certificate.features), "installation_guid": certificate.installation,
        "evidence": certificate.evidence, "issued_at": rfc3339(certificate.issued_at),
        "valid_until": rfc3339(certificate.expires_at), "issuing_key": jws.read_header(token, Kind.CERTIFICATE).kid,
    }  # fmt: skip


def _trust(value: dict[str, Any]) -> dict[str, Any]:
    bundles = [str(text) for text in value.get("bundles", [])]
    if not bundles:
        raise KeyturnError("file_malformed", "the file holds no trust bundle")
    chain = trust.verify_chain(bundles, trust.pin_of(bundles[0]))
    newest = chain.newest
    return {
        "kind": "trust", "verified": True, "publisher": newest.publisher, "thumbprint": chain.thumbprint,
        "bundle": newest.number, "roots": len(newest.roots), "threshold": newest.threshold, "issuing_keys": len(newest.keys),
        "issued_at": rfc3339(newest.issued_at),
    }  # fmt: skip


def _item(item: Item) -> dict[str, Any]:
    state = "answered" if item.answer is not None else "refused" if item.refused is not None else "open"
    if jws.kind_of(item.document) is Kind.RELEASE:
        release = Release.read(jws.verify_own(item.document, Kind.RELEASE).claims())
        return {
            "kind": "release",
            "activation_id": release.activation,
            "installation_guid": release.installation,
            "state": state,
        }
    request, _ = documents.read_request(item.document)
    return {
        "kind": "request",
        "product_id": request.product_id,
        "installation_guid": request.installation,
        "state": state,
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _words(entry: Any) -> str:
    if entry is None:
        return "–"
    return entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False)


def _write(path: str, value: dict[str, Any]) -> None:
    files.write_json(Path(path), value)
