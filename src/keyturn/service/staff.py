"""The verbs of the publisher's staff, first half: organizations and products. They work here and with --at (``context.desk``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from keyturn.core import containers
from keyturn.core.errors import KeyturnError
from keyturn.core.model import check_slug
from keyturn.core.terms import MODES, WEAK, Terms
from keyturn.edge import files
from keyturn.edge.terminal import Call, pass_call
from keyturn.service.context import ServiceVerbs, desk
from keyturn.service.tables import show, show_all


@click.group(cls=ServiceVerbs)
def org() -> None:
    """Organizations: customers with a volume agreement."""


@org.command("create")
@click.argument("name")
@click.option("--title", help="The organization's full name.")
@pass_call
def org_create(call: Call, name: str, title: str | None) -> None:
    """Create an organization."""
    check_slug(name)
    with desk(call) as d:
        d.create_organization(name, title or name)
    call.emit({"organization": name}, f"Created the organization {name}.")
    call.next(f"keyturn service key mint --product SLUG --channel mak --org {name} --limit N")


@org.command("list")
@pass_call
def org_list(call: Call) -> None:
    """List organizations with their keys and seats."""
    show_all(call, "organizations", lambda d: d.organizations, ("name", "title", "keys", "seats_used", "seats_limit"))


@org.command("show")
@click.argument("name")
@pass_call
def org_show(call: Call, name: str) -> None:
    """Show one organization."""
    show(call, lambda d: d.organization(name))


@click.group(cls=ServiceVerbs)
def product() -> None:
    """Products, their editions and features, and the files that ship with them."""


@product.command("create")
@click.argument("slug")
@click.option("--name", help="What customers read.")
@click.option("--edition", "editions", multiple=True, metavar="E", help="An edition; the first is the default.")
@click.option(
    "--feature", "features", multiple=True, metavar="F[:E,…]", help="A feature, of all editions or of those named."
)
@click.option(
    "--grace",
    type=click.IntRange(0, 3650),
    default=30,
    show_default=True,
    metavar="DAYS",
    help="Full function without activation.",
)
@click.option("--terms", "terms_url", metavar="URL", help="Where the license terms are.")
@click.option(
    "--threshold",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Computers before an activation host serves.",
)
@click.option(
    "--count-group", default="all", show_default=True, help="Which computers count together for the threshold."
)
@click.option(
    "--weak",
    type=click.Choice(WEAK),
    default="term",
    show_default=True,
    help="What computers without hardware identity get.",
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="warn",
    show_default=True,
    help="When the grace is over: enforce, warn or advise.",
)
@click.option(
    "--test",
    is_flag=True,
    help="A test product: other computers and clocks can be pretended; part of its name for ever.",
)
@pass_call
def product_create(
    call: Call, slug: str, name: str | None, editions: tuple[str, ...], features: tuple[str, ...], grace: int,
    terms_url: str | None, threshold: int, count_group: str, weak: str, mode: str, test: bool,
) -> None:  # fmt: skip
    """Create a product."""
    check_slug(slug)
    granted = _editions(editions or ("standard",), features)
    terms = Terms(grace_days=grace, threshold=threshold, count_group=count_group, weak_evidence=weak)
    with desk(call) as d:
        found = d.create_product(
            slug, name=name or slug, test=test, editions=granted, terms=terms.claims(), mode=mode, terms_url=terms_url
        )
    meaning = {
        "enforce": "after the grace the program does not run until it is activated",
        "warn": "after the grace the program runs and shows a warning",
        "advise": "after the grace the program runs without a word",
    }
    call.emit(found, f"Created {found['product']}.\n  Mode {mode}: {meaning[mode]}. Grace {grace} days.")
    call.next(f"keyturn service product export {slug} -o {slug}.ktproduct")


def _editions(editions: tuple[str, ...], features: tuple[str, ...]) -> dict[str, list[str]]:
    """``--edition`` and ``--feature F:E,E`` as a table. Raises: KeyturnError ``usage``."""
    table: dict[str, list[str]] = {check_slug(edition): [] for edition in editions}
    for text in features:
        feature, _, named = text.partition(":")
        check_slug(feature)
        for edition in named.split(",") if named else editions:
            if edition not in table:
                raise KeyturnError("usage", f"--feature {text}: there is no edition {edition!r}")
            table[edition].append(feature)
    return table


@product.command("set")
@click.argument("slug")
@click.option("--name", help="What customers read.")
@click.option("--grace", type=click.IntRange(0, 3650), metavar="DAYS", help="Full function without activation.")
@click.option("--terms", "terms_url", metavar="URL", help="Where the license terms are.")
@click.option("--threshold", type=click.IntRange(1), help="Computers before an activation host serves.")
@click.option("--weak", type=click.Choice(WEAK), help="What computers without hardware identity get.")
@click.option(
    "--extended", type=click.IntRange(0, 3650), metavar="DAYS", help="Full function after a grace, where a policy asks for it."
)
@click.option("--mode", type=click.Choice(MODES), help="When the grace is over: enforce, warn or advise.")
@pass_call
def product_set(call: Call, slug: str, **options: Any) -> None:
    """Change a product; export its file again, so that customers' computers learn of it."""
    names = {"grace": "grace_days", "weak": "weak_evidence", "extended": "extended_days"}
    changes = {names.get(key, key): value for key, value in options.items() if value is not None}
    if not changes:
        raise KeyturnError("usage", "nothing to change was given")
    show(call, lambda d: d.change_product(slug, changes))


@product.command("list")
@pass_call
def product_list(call: Call) -> None:
    """List products."""
    show_all(call, "products", lambda d: d.products, ("slug", "name", "test", "mode", "keys", "seats_used"))


@product.command("show")
@click.argument("slug")
@pass_call
def product_show(call: Call, slug: str) -> None:
    """Show one product."""
    show(call, lambda d: d.product(slug))


@product.command("export")
@click.argument("slug")
@click.option("-o", "--output", required=True, metavar="F.ktproduct", help="The file to write.")
@pass_call
def product_export(call: Call, slug: str, output: str) -> None:
    """Write the signed product file that ships with the product."""
    with desk(call) as d:
        value = d.product_file(slug)
    made = containers.open_product(value).product
    files.write_json(Path(output), value)
    floor = f"{made.floor.number}:{made.floor.digest}"
    found = {"file": output, "product": str(made.name), "url": made.service_url, "probe_url": made.probe_url, "floor": floor}
    text = [
        f"Wrote {output}; it sends customers to {made.service_url}.",
        f"An application without the file pins product and floor: Client({str(made.name)!r}, floor={floor!r})",
    ]
    call.emit(found, "\n".join(text))
    if urlsplit(made.service_url).hostname in ("localhost", "127.0.0.1", "::1"):
        call.say(
            "Warning: that address is this computer itself."
            " Before you ship: keyturn service config set url URL, then export again."
        )
