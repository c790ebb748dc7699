"""``keyturn disclose``: exactly what would be sent, before it is sent; and what was."""

from __future__ import annotations

from importlib import resources
from typing import Any

import click

from keyturn.client import actions
from keyturn.client.context import choose, homes_of, machine_of
from keyturn.client.loading import Loaded
from keyturn.core import documents
from keyturn.core.documents import UNAVAILABLE
from keyturn.edge.terminal import Call, Verb, pass_call

_SHOWN = ("installation", "product_id", "key_proof", "pairs", "tags")


def declaration() -> dict[str, Any]:
    """``privacy.toml``: every field that may leave a computer or rest in the service."""
    import tomllib

    return tomllib.loads((resources.files("keyturn") / "privacy.toml").read_text("utf-8"))


def disclosure(token: str, loaded: Loaded) -> dict[str, Any]:
    """The content of a request, field by field, with what is declared about each."""
    request, _ = documents.read_request(token)
    claims, declared = request.claims(), declaration()
    fields = []
    for section, names in (("facts", documents.FACTS), ("request", tuple(claims))):
        for name in names:
            if name == "facts":
                continue
            value = request.facts.get(name) if section == "facts" else claims[name]
            reason = value.get(UNAVAILABLE) if section == "facts" and isinstance(value, dict) else None
            about = {**declared["defaults"], **declared[section][name]}
            fields.append({"field": name, "value": None if reason else value, "unavailable": reason, **about})
    product = loaded.opened.product
    return {
        "product": str(product.name),
        "to": product.service_url,
        "probe": product.probe_url,
        "request": token,
        "fields": fields,
    }


def disclosure_text(shown: dict[str, Any]) -> str:
    """The same for a person: the facts, the identifying hashes, and what is never sent."""
    lines = [f"To activate, this is sent to {shown['to']}, signed, over TLS:", ""]
    mechanics = []
    for field in shown["fields"]:
        value = field["value"]
        if field["unavailable"]:
            lines.append(f"  {field['title']:<30} (not sent: {field['unavailable']})")
        elif field["field"] in ("pairs", "tags"):
            inner = value.get(next(iter(value), ""), {}) if field["field"] == "pairs" else value
            bits = 64 if field["field"] == "pairs" else 12
            listed = ", ".join(f"{name} {tag}" for name, tag in inner.items()) or "none"
            lines.append(f"  {field['title']:<30} {listed}" + (f"  ({bits}-bit keyed hashes)" if inner else ""))
        elif field["field"] in documents.FACTS or field["field"] in _SHOWN:
            lines.append(f"  {field['title']:<30} {value}")
        else:
            mechanics.append(field["title"][0].lower() + field["title"][1:])
    return "\n".join([
        *lines, "", "  and the mechanics: " + ", ".join(mechanics) + ", your installation's public key.", "",
        "Never sent: names, addresses, e-mail, user or host name, serial numbers, MAC addresses, the product key itself.",
        "All of it, byte for byte: keyturn disclose --raw",
    ])  # fmt: skip


@click.command(cls=Verb)
@click.option("--raw", is_flag=True, help="Print the exact bytes that activate will send.")
@click.option("--sent", is_flag=True, help="Print every byte that was sent and received.")
@pass_call
def disclose(call: Call, raw: bool, sent: bool) -> None:
    """Show exactly what an activation sends. Nothing is sent; the request is kept for `keyturn activate`."""
    shelf = choose(call, homes_of(call))
    if sent:
        entries = shelf.sent()
        text = "\n".join(
            f"--- {e['what']} at {e['at']}\n>>> sent\n{e['sent']}\n<<< received\n{e['received']}" for e in entries
        )
        call.emit({"exchanges": entries}, text or "Nothing was ever sent.")
        return
    token, loaded = actions.make_request(shelf, machine_of(call))
    if raw:
        click.echo(token, nl=False)
        return
    shown = disclosure(token, loaded)
    call.emit(shown, disclosure_text(shown))
    call.next("keyturn activate")
