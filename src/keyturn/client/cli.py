"""The person's verbs that need no network: status, product, keys, explanations."""

from __future__ import annotations

from typing import Any

import click

from keyturn.client.context import choose, homes_of, machine_of
from keyturn.client.loading import load, status_of
from keyturn.client.status import show_status
from keyturn.client.telling import Teller
from keyturn.client.views import status_text
from keyturn.core import containers
from keyturn.core.errors import CATALOGUE, KeyturnError
from keyturn.core.model import ProductName
from keyturn.edge.terminal import Call, Verb, Verbs, pass_call, warn_about_argv

scope_option = click.option(
    "--scope", type=click.Choice(["system", "user"]), help="Whose store (default: the system's for root)."
)
key_file_option = click.option("--key-file", metavar="F", help="Read the product key from a file (KEYTURN_KEY_FILE).")


@click.command(cls=Verb)
@click.option(
    "--check",
    type=click.Choice(["licensed", "usable"]),
    is_flag=False,
    flag_value="licensed",
    help="Exit 1 unless every product is.",
)
@click.option(
    "--within", type=click.IntRange(0), metavar="DAYS", help="With --check: exit 1 if it ends within so many days."
)
@pass_call
def status(call: Call, check: str | None = None, within: int | None = None) -> int:
    """Say where every product stands, and the one next step.

    Always exits 0, unless --check or --within ask for a judgement.
    """
    return show_status(call, check, within)


@click.group(cls=Verbs)
def product() -> None:
    """Products on this computer."""


@product.command("add")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@scope_option
@pass_call
def product_add(call: Call, files: tuple[str, ...], scope: str | None) -> None:
    """Add products from the publisher's product files. Their grace begins now."""
    added = [status_of(load(add_file(call, name, scope), machine_of(call))) for name in files]
    call.emit({"products": added}, status_text(added))
    call.next("keyturn activate KEY")


def add_file(call: Call, path: str, scope: str | None) -> Any:
    """Verify and keep one product file, held to ``--product`` if it names a publisher."""
    from keyturn.client import actions

    data = read_file(path)
    expected = None
    if call.product is not None and "/" in call.product:
        expected = ProductName.parse(call.product)
    return actions.add_product(homes_of(call, scope).find, data, machine_of(call), expected=expected)


def read_file(path: str) -> bytes:
    """Raises: KeyturnError ``file_malformed`` if there is no such file."""
    from pathlib import Path

    from keyturn.edge import files

    data = files.read(Path(path), containers.MAX_FILE)
    if data is None:
        raise KeyturnError("file_malformed", f"{path} does not exist")
    return data


@product.command("list")
@pass_call
def product_list(call: Call) -> None:
    """List the products that are added."""
    call_status = click.get_current_context()
    call_status.invoke(status)


@product.command("remove")
@click.argument("slug")
@pass_call
def product_remove(call: Call, slug: str) -> None:
    """Remove a product that holds no seat, with its key and record."""
    call.product = slug
    shelf = choose(call, homes_of(call))
    loaded = load(shelf, machine_of(call))
    if loaded.certificate is not None and not loaded.leased:
        raise KeyturnError(
            "usage", f"{loaded.opened.product.title} holds a seat", remedy="Return it first: `keyturn deactivate`."
        )
    call.confirm(f"{loaded.opened.product.title} is removed from this computer, with its key and its record of grace.")
    shelf.remove()
    Teller(shelf.vault, machine_of(call)).tell("product_removed", product=loaded.name)
    call.emit({"removed": str(loaded.name)}, f"{loaded.opened.product.title} is removed.")


@click.command("install-key", cls=Verb)
@click.argument("key", required=False)
@key_file_option
@pass_call
def install_key(call: Call, key: str | None, key_file: str | None) -> None:
    """Check a product key and install it; nothing is sent.

    KEY is - to read it from stdin; without KEY it is asked for.
    """
    from keyturn.client import actions

    shelf = choose(call, homes_of(call))
    installed = actions.install_key(shelf, key_text(call, key, key_file), machine_of(call))
    call.emit(
        {
            "product_id": installed.product_id,
            "serial": installed.serial,
            "channel": installed.channel,
            "partial_key": installed.partial,
        },
        f"Installed the {installed.channel} key …{installed.partial} ({installed.product_id}).",
    )
    call.next("keyturn activate")


def key_text(call: Call, argument: str | None, key_file: str | None) -> str:
    """The product key a verb needs. Raises: KeyturnError ``key_missing``."""
    text = call.key(argument, key_file, needed=True)
    if text is None:
        raise KeyturnError("key_missing", "no product key was given", remedy="Give it with - (stdin) or --key-file F.")
    if argument not in (None, "-") and "-client-" not in text:
        warn_about_argv(call)
    return text


@click.command("remove-key", cls=Verb)
@pass_call
def remove_key(call: Call) -> None:
    """Return the seat, if one is held, and forget the product key."""
    from keyturn.client.activating import return_seat

    shelf = choose(call, homes_of(call))
    loaded = load(shelf, machine_of(call))
    if loaded.key is None:
        raise KeyturnError("key_missing", f"no product key is installed for {loaded.opened.product.title}")
    lost = "" if loaded.certificate is None else " and its lease given up" if loaded.leased else " and its seat returned"
    call.confirm(f"The key …{loaded.key.partial} is removed{lost}.")
    if loaded.leased:
        shelf.remove_held()
    elif loaded.certificate is not None:
        return_seat(call, shelf, machine_of(call), None)
    with shelf.locked():
        shelf.remove_key()
        shelf.remove_pending()
    Teller(shelf.vault, machine_of(call)).tell("key_removed", product=loaded.name, product_id=loaded.key.product_id)
    call.emit({"removed": loaded.key.product_id}, f"The key …{loaded.key.partial} is removed.")


@click.command(cls=Verb)
@click.argument("code", required=False)
@pass_call
def explain(call: Call, code: str | None) -> None:
    """Say what an error code means and what to do; without a code, list all."""
    if code is None:
        call.emit(
            {"codes": [entry._asdict() for entry in CATALOGUE.values()]},
            "\n".join(f"{entry.code:<24} {entry.title}" for entry in CATALOGUE.values()),
        )
        return
    found = CATALOGUE.get(code.lower())
    if found is None:
        raise KeyturnError(
            "not_found", f"there is no error code {code[:40]!r}", remedy="List all with `keyturn explain`."
        )
    call.emit(found._asdict(), f"{found.code} (exit {found.exit})\n  {found.title}.\n  {found.remedy}")


@click.command(cls=Verb)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_call
def completion(call: Call, shell: str) -> None:
    """Print the completion script for a shell: add it to the shell's start-up file."""
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root().command
    found = get_completion_class(shell)
    assert found is not None
    script = found(root, {}, "keyturn", "_KEYTURN_COMPLETE").source()
    call.emit({"shell": shell, "script": script}, script)
