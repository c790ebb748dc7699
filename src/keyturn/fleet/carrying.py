"""Files of an isolated site: the requests alone go out, and the answers come back in the same file.

Keeps: what leaves in a file, and everything that is checked before one is believed. Leaves to others: carrying
(people), answering
(``keyturn relay`` on any connected computer, or the publisher's staff), what becomes of an answer (``proxying``).

- A file holds signed requests, the product file, and a signed manifest. No names, users or addresses: those stay in the database.
- The manifest is signed with the fleet's key for that product, so a file of another site, an altered one, or one with entries of
  another is refused; one that was taken before changes nothing.
- An answer counts only if the publisher's signature says that it answers this very request.
"""

from __future__ import annotations

from collections.abc import Mapping
from sqlite3 import Connection, Row
from typing import Any, NamedTuple

from keyturn.core import containers, fleet, ids, jws, trust
from keyturn.core.containers import Item
from keyturn.core.documents import Certificate
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.fleet import CARRY, SEND, Manifest
from keyturn.core.jws import Kind
from keyturn.core.model import ProductName, rfc3339
from keyturn.core.trust import Chain
from keyturn.fleet import manager, proxying, store
from keyturn.fleet.manager import FleetManager


class Taken(NamedTuple):
    """What a file brought: answers, refusals, requests that nobody answered yet, and those nobody here waits for any more."""

    answered: int
    refused: int
    open: int
    late: int
    before: bool


def export(fleet_manager: FleetManager, product: str, who: str) -> tuple[dict[str, Any], str, int]:
    """The content of a file with every request of ``product`` that waits to be sent or carried; its name here, and how many.

    Raises: KeyturnError ``not_found`` if nothing waits.
    """
    now = fleet_manager.clock()

    def write(db: Connection) -> tuple[dict[str, Any], str, int]:
        rows = db.execute(
            "SELECT document FROM item WHERE product = ? AND step IN (?, ?) AND open = 1 ORDER BY document",
            (product, SEND, CARRY),
        ).fetchall()
        documents = [row["document"] for row in rows][: containers.MAX_ITEMS]
        if not documents:
            remedy = "Order one: `keyturn fleet activate --via file …`, and let the computers check in."
            raise KeyturnError("not_found", "no request waits to be carried", remedy=remedy)
        digest, name = fleet.digest_of(documents), ProductName.parse(product)
        known = db.execute("SELECT id FROM export WHERE product = ? AND documents = ?", (product, digest)).fetchone()
        export_id = known["id"] if known else ids.uuid7(now, fleet_manager.chance(12))
        if known is None:
            db.execute(
                "INSERT INTO export (id, product, documents, requests, made_by, made_at) VALUES (?, ?, ?, ?, ?, ?)",
                (export_id, product, digest, len(documents), who, now),
            )
            store.audit(db, now, who, "exported", {"export": export_id, "requests": len(documents)})
        signer = fleet_manager.home.rebinder(name)
        manifest = Manifest(name, export_id, digest, len(documents), now).claims()
        content = containers.exchange(fleet_manager.opened(db, product), [Item(text) for text in documents])
        content["manifest"] = jws.sign(Kind.MANIFEST, manifest, signer.public, signer.sign, own=True)
        return content, export_id, len(documents)

    return fleet_manager.database.write_now(write)


def look(fleet_manager: FleetManager, db: Connection, value: Mapping[str, Any]) -> tuple[Manifest, list[Item], Row]:
    """Check that a file is one of this site, unaltered; its manifest, its entries, and what is known of it here.

    1. It is for a product that this manager knows, of the very publisher.
    2. The manifest is signed with this fleet's key for the product: another site's is refused.
    3. It holds the documents that were exported, all of them and no others.
    4. This manager made it.

    Raises: KeyturnError ``document_foreign``, ``file_malformed``, ``signature_invalid``, ``product_missing``.
    """
    # 1.
    name = containers.open_product(dict(value)).product.name
    manager.product_row(db, str(name))
    # 2.
    if not isinstance(value.get("manifest"), str):
        raise KeyturnError(
            "document_foreign",
            "this file was not made by a fleet manager: a computer's own is imported on that computer",
        )
    manifest, verified = fleet.read_manifest(value["manifest"])
    if verified.kid != fleet_manager.home.rebinder(name).kid or manifest.product != name:
        raise KeyturnError("document_foreign", "this file was exported by another site")
    # 3.
    items = containers.items_of(dict(value))
    if len(items) != manifest.requests or fleet.digest_of([item.document for item in items]) != manifest.documents:
        raise KeyturnError(
            "file_malformed",
            "the requests in this file are not those that were exported: it was altered, or mixed with another",
        )
    # 4.
    row = db.execute("SELECT * FROM export WHERE id = ?", (manifest.export,)).fetchone()
    if row is None:
        raise KeyturnError(
            "document_foreign", "this manager did not export this file, or an older backup of it was restored since"
        )
    return manifest, items, row


def take(fleet_manager: FleetManager, value: Mapping[str, Any], who: str) -> Taken:
    """Take the answers of a file; all of it or nothing.

    1. It is one of this site (:func:`look`).
    2. Newer trust bundles continue the chain that is known; the revocation list verifies.
    3. Each answer is the publisher's, for that request: one altered answer refuses the whole file.
    4. Those that are still waited for go on; a repeated import finds none.

    Raises: KeyturnError as :func:`look`, ``trust_invalid``, ``signature_invalid``, ``document_foreign``.
    """
    now = fleet_manager.clock()

    def write(db: Connection) -> Taken:
        # 1.
        manifest, items, known = look(fleet_manager, db, value)
        product = str(manifest.product)
        # 2.
        bundles = [str(text) for text in value.get("bundles", [])]
        proxying.keep_beside(db, product, bundles, str(value.get("product")), now)
        chain = fleet_manager.opened(db, product).chain
        # 3.
        for item in items:
            if item.answer is not None and "certificate" in item.answer:
                _check(item, manifest.product, chain)
        # 4.
        waiting = {row["document"]: row for row in db.execute(_WAITING, (product, SEND, CARRY))}
        late = 0
        for item in items:
            outcome = _outcome(item)
            if outcome is None:
                continue
            row = waiting.get(item.document)
            late += row is None or not proxying.take_one(db, row, outcome, now)
        db.execute("UPDATE export SET imported_at = ? WHERE id = ?", (now, manifest.export))
        found = Taken(
            sum(item.answer is not None for item in items), sum(item.refused is not None for item in items),
            sum(item.open for item in items), late, known["imported_at"] is not None,
        )  # fmt: skip
        store.audit(db, now, who, "imported", {"export": manifest.export, **found._asdict()})
        return found

    taken = fleet_manager.database.write_now(write)
    if isinstance(value.get("revocations"), str):
        name = containers.open_product(dict(value)).product.name
        proxying.keep_list(fleet_manager, str(name), value)
    return taken


def describe(fleet_manager: FleetManager, value: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of this site is. Raises: KeyturnError as :func:`look`."""
    manifest, items, known = fleet_manager.database.read(lambda db: look(fleet_manager, db, value))
    return {
        "kind": "exchange", "export": manifest.export, "product": str(manifest.product), "requests": len(items),
        "answered": sum(item.answer is not None for item in items), "refused": sum(item.refused is not None for item in items),
        "open": sum(item.open for item in items), "made_at": rfc3339(manifest.made_at), "made_by": known["made_by"],
        "imported_at": rfc3339(known["imported_at"]),
    }  # fmt: skip


def _check(item: Item, name: ProductName, chain: Chain) -> None:
    """Raises: KeyturnError if an answer is not the publisher's for this request."""
    assert item.answer is not None
    token = str(item.answer["certificate"])
    certificate = Certificate.read(chain.verify(token, Kind.CERTIFICATE, trust.role_for(name.test)))
    if certificate.product != name or certificate.request != jws.digest(item.document):
        raise KeyturnError("document_foreign", "an answer in this file is for another request")


def _outcome(item: Item) -> Mapping[str, Any] | Refused | None:
    if item.answer is not None:
        return item.answer
    if item.refused is None:
        return None
    code, why = (str(item.refused.get(name))[:500] for name in ("code", "detail"))
    return Refused(code[:60], why)


_WAITING = (
    "SELECT i.*, t.action, t.way, t.serial FROM item i JOIN task t ON t.id = i.task"
    " WHERE i.product = ? AND i.step IN (?, ?) AND i.open = 1"
)
