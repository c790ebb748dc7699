"""The verbs of the publisher's staff: organizations, products, keys, activations, answers by file."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from keyturn.core import containers
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.model import Channel, ProductName, check_slug, parse_rfc3339, rfc3339
from keyturn.core.terms import MODES, WEAK, Terms
from keyturn.edge import clock, files
from keyturn.edge.terminal import Call, Verb, Verbs, pass_call
from keyturn.service import catalog
from keyturn.service.context import ids, opened


@click.group(cls=Verbs)
def org() -> None:
    """Organizations: customers with a volume agreement."""


@org.command("create")
@click.argument("name")
@click.option("--title", help="The organization's full name.")
@pass_call
def org_create(call: Call, name: str, title: str | None) -> None:
    """Create an organization."""
    check_slug(name)
    with opened(call) as s:
        s.database.write_now(lambda db: catalog.create_organization(db, name, title or name, ids(), clock.now()))
    call.emit({"organization": name}, f"Created the organization {name}.")
    call.next(f"keyturn service key mint --product SLUG --channel mak --org {name} --limit N")


@org.command("list")
@pass_call
def org_list(call: Call) -> None:
    """List organizations with their keys and seats."""
    with opened(call) as s:
        found = [_dated(row) for row in s.database.read(catalog.organizations)]
    call.emit({"organizations": found}, _table(found, ("name", "title", "keys", "seats_used", "seats_limit")))


@org.command("show")
@click.argument("name")
@pass_call
def org_show(call: Call, name: str) -> None:
    """Show one organization."""
    with opened(call) as s:
        found = next((_dated(o) for o in s.database.read(catalog.organizations) if o["name"] == name), None)
    if found is None:
        raise KeyturnError("not_found", f"there is no organization {name!r}")
    call.emit(found, _lines(found))


@click.group(cls=Verbs)
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
    table = _editions(editions or ("standard",), features)
    terms = Terms(grace_days=grace, threshold=threshold, count_group=count_group, weak_evidence=weak)
    with opened(call) as s:
        full = ProductName(s.home.chain.thumbprint, slug, test)
        s.database.write_now(
            lambda db: catalog.create_product(
                db, full, name or slug, table, terms, mode=mode, terms_url=terms_url, ids=ids(), now=clock.now()
            )
        )
        found = _dated(s.database.read(lambda db: catalog.product(db, slug)))
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
@click.option("--name")
@click.option("--grace", type=click.IntRange(0, 3650), metavar="DAYS")
@click.option("--terms", "terms_url", metavar="URL")
@click.option("--threshold", type=click.IntRange(1))
@click.option("--weak", type=click.Choice(WEAK))
@click.option("--mode", type=click.Choice(MODES))
@pass_call
def product_set(call: Call, slug: str, **options: Any) -> None:
    """Change a product; export its file again, so that customers' computers learn of it."""
    names = {"name": "title", "grace": "grace_days", "weak": "weak_evidence"}
    changes = {names.get(key, key): value for key, value in options.items() if value is not None}
    if not changes:
        raise KeyturnError("usage", "nothing to change was given")
    with opened(call) as s:
        s.database.write_now(lambda db: catalog.change_product(db, slug, changes, ids(), clock.now()))
        found = _dated(s.database.read(lambda db: catalog.product(db, slug)))
    call.emit(found, _lines(found))


@product.command("list")
@pass_call
def product_list(call: Call) -> None:
    """List products."""
    with opened(call) as s:
        found = [_dated(row) for row in s.database.read(catalog.products)]
    call.emit({"products": found}, _table(found, ("slug", "name", "test", "mode", "keys", "seats_used")))


@product.command("show")
@click.argument("slug")
@pass_call
def product_show(call: Call, slug: str) -> None:
    """Show one product."""
    with opened(call) as s:
        found = _dated(s.database.read(lambda db: catalog.product(db, slug)))
    call.emit(found, _lines(found))


@product.command("export")
@click.argument("slug")
@click.option("-o", "--output", required=True, metavar="F.ktproduct")
@pass_call
def product_export(call: Call, slug: str, output: str) -> None:
    """Write the signed product file that ships with the product."""
    with opened(call) as s:
        value = s.product_file(slug)
        settings = s.home.settings
    files.write_json(Path(output), value)
    found = {
        "file": output,
        "product": containers.open_product(value).product.name.__str__(),
        "url": settings.url,
        "probe_url": settings.probe_url,
    }
    call.emit(found, f"Wrote {output}; it sends customers to {settings.url}.")
    if urlsplit(settings.url).hostname in ("localhost", "127.0.0.1", "::1"):
        call.say(
            "Warning: that address is this computer itself."
            " Before you ship: keyturn service config set url URL, then export again."
        )


@click.group(cls=Verbs)
def key() -> None:
    """Product keys."""


@key.command("mint")
@click.option(
    "--channel",
    type=click.Choice([c.value for c in Channel if c is not Channel.OEM]),
    default="retail",
    show_default=True,
)
@click.option("--org", metavar="O", help="The organization (needed for mak).")
@click.option("--edition", metavar="E", help="The edition (default: the product's first).")
@click.option("--feature", "features", multiple=True, metavar="F", help="A feature beyond the edition's.")
@click.option("--term", type=click.IntRange(1, 36_500), metavar="DAYS", help="Days from activation.")
@click.option("--until", metavar="DATE", help="A date on which it ends.")
@click.option("--limit", type=click.IntRange(1), default=1, show_default=True, help="Seats per key.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="How many keys.")
@click.option("--note", default="", help="A remark for your staff.")
@click.option(
    "-o", "--output", metavar="F.json|csv|txt", help="Write the keys to a file (mode 0600) instead of the screen."
)
@pass_call
def key_mint(
    call: Call, channel: str, org: str | None, edition: str | None, features: tuple[str, ...], term: int | None,
    until: str | None, limit: int, count: int, note: str, output: str | None,
) -> None:  # fmt: skip
    """Mint product keys for --product. They are shown now and never again."""
    if call.product is None:
        raise KeyturnError("usage", "which product? Add --product SLUG")
    if term is not None and until is not None:
        raise KeyturnError("usage", "--term and --until exclude each other")
    with opened(call) as s:
        bar = (lambda done: call.say(f"{done} of {count} keys")) if count > catalog.MINT_BATCH else None
        keys = s.mint(
            call.product, Channel(channel), count, limit, organization=org, edition=edition, features=features,
            term_days=term, until=None if until is None else parse_rfc3339(until), note=note[:500], progress=bar,
        )  # fmt: skip
    if output is not None:
        files.write(Path(output), _keys_file(keys, Path(output).suffix), files.PRIVATE)
        call.emit({"file": output, "count": len(keys)}, f"Wrote {len(keys)} keys to {output}. They are nowhere else.")
        return
    call.emit({"keys": keys}, "\n".join(f"{k['key']}  {k['product_id']}  {k['limit']} seat(s)" for k in keys))
    call.say("Keep them: a key is shown once.")


def _keys_file(keys: list[dict[str, Any]], suffix: str) -> bytes:
    if suffix == ".json":
        return (json.dumps({"keys": keys}, indent=1) + "\n").encode()
    if suffix == ".csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, list(keys[0]))
        writer.writeheader()
        writer.writerows(keys)
        return out.getvalue().encode()
    if suffix == ".txt":
        return "".join(f"{k['key']}\n" for k in keys).encode()
    raise KeyturnError("usage", "the file's name ends in .json, .csv or .txt")


@key.command("list")
@pass_call
def key_list(call: Call) -> None:
    """List keys by their public part (of --product, or all)."""
    with opened(call) as s:
        found = [_dated(row) for row in s.database.read(lambda db: catalog.keys(db, call.product))]
    call.emit(
        {"keys": found},
        _table(found, ("product_id", "partial_key", "organization", "edition", "used", "limit", "blocked")),
    )


@key.command("show")
@click.argument("serial", type=int)
@pass_call
def key_show(call: Call, serial: int) -> None:
    """Show one key and its activations."""
    with opened(call) as s:
        found = _dated(s.database.read(lambda db: catalog.key(db, serial)))
        found["activations"] = [_dated(a) for a in s.database.read(lambda db: catalog.activations(db, serial))]
    call.emit(found, _lines(found))


@key.command("set")
@click.argument("serial", type=int)
@click.option("--limit", type=click.IntRange(1))
@click.option("--note")
@pass_call
def key_set(call: Call, serial: int, limit: int | None, note: str | None) -> None:
    """Change a key's seats or note."""
    changes = {name: value for name, value in (("seat_limit", limit), ("note", note)) if value is not None}
    _change_key(call, serial, changes)


@key.command("block")
@click.argument("serial", type=int)
@pass_call
def key_block(call: Call, serial: int) -> None:
    """Block a key: no new activation. Activated computers stay as they are."""
    _change_key(call, serial, {"blocked": True})


@key.command("unblock")
@click.argument("serial", type=int)
@pass_call
def key_unblock(call: Call, serial: int) -> None:
    """Take a block back."""
    _change_key(call, serial, {"blocked": False})


def _change_key(call: Call, serial: int, changes: dict[str, Any]) -> None:
    if not changes:
        raise KeyturnError("usage", "nothing to change was given")
    with opened(call) as s:
        s.database.write_now(lambda db: catalog.set_key(db, serial, changes, ids(), clock.now()))
        found = _dated(s.database.read(lambda db: catalog.key(db, serial)))
    call.emit(found, _lines(found))


@click.group(cls=Verbs)
def activation() -> None:
    """Activations: which seats are taken."""


@activation.command("list")
@click.option("--serial", type=int, help="Only this key's.")
@pass_call
def activation_list(call: Call, serial: int | None) -> None:
    """List activations, oldest first."""
    with opened(call) as s:
        found = [_dated(a) for a in s.database.read(lambda db: catalog.activations(db, serial))]
    call.emit(
        {"activations": found},
        _table(found, ("activation_id", "product_id", "seat", "evidence", "activated_at", "ended_by")),
    )


@activation.command("show")
@click.argument("identifier")
@pass_call
def activation_show(call: Call, identifier: str) -> None:
    """Show one activation."""
    with opened(call) as s:
        found = _dated(s.database.read(lambda db: catalog.activation(db, identifier)))
    call.emit(found, _lines(found))


@activation.command("reclaim")
@click.argument("identifier")
@pass_call
def activation_reclaim(call: Call, identifier: str) -> None:
    """Take a seat back, for a computer that is lost. A certificate already issued stays valid offline."""
    with opened(call) as s:
        before = s.database.read(lambda db: catalog.activation(db, identifier))
        call.confirm(f"1 seat of {before['product_id']} is taken back from {before['installations']} installation(s).")
        found = _dated(s.database.write_now(lambda db: catalog.reclaim(db, identifier, ids(), clock.now())))
    call.emit(found, _lines(found))


@click.command(cls=Verb)
@click.argument("file")
@pass_call
def answer(call: Call, file: str) -> None:
    """Answer the requests in a .ktx file, into the same file."""
    data = files.read(Path(file), containers.MAX_FILE)
    if data is None:
        raise KeyturnError("file_malformed", f"{file} does not exist")
    value = containers.expect(data, "exchange")
    opened_product = containers.open_product(value)
    items = containers.items_of(value)
    with opened(call) as s:
        for index, item in enumerate(items):
            if item.open:
                outcome = s.exchange(item.document)
                if isinstance(outcome, Refused):
                    items[index] = item._replace(refused=outcome.as_error().as_json())
                else:
                    items[index] = item._replace(answer=outcome)
                files.write_json(Path(file), containers.exchange(opened_product, items))
    found = {
        "file": file,
        "answered": sum(i.answer is not None for i in items),
        "refused": sum(i.refused is not None for i in items),
    }
    call.emit(found, f"{found['answered']} answered, {found['refused']} refused; {file} holds the answers.")


def _dated(row: dict[str, Any]) -> dict[str, Any]:
    """Times as people and JSON read them."""
    return {name: rfc3339(value) if name.endswith("_at") or name == "until" else value for name, value in row.items()}


def _lines(row: dict[str, Any]) -> str:
    return "\n".join(
        f"  {name.replace('_', ' '):<15} {'–' if value in (None, '') else value}" for name, value in row.items()
    )


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    if not rows:
        return "None yet."
    cells = [[str("–" if row[c] is None else row[c]) for c in columns] for row in rows]
    widths = [max(len(c), *(len(line[i]) for line in cells)) for i, c in enumerate(columns)]
    head = "  ".join(c.replace("_", " ").ljust(w) for c, w in zip(columns, widths, strict=True))
    return "\n".join([head, *("  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)) for line in cells)])
