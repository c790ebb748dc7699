"""From a command line to a product: which store, which machine, which of several products."""

from __future__ import annotations

from keyturn.client.homes import Homes, open_homes
from keyturn.client.machine import Machine
from keyturn.core import containers
from keyturn.core.errors import KeyturnError
from keyturn.core.model import ProductName
from keyturn.edge.vault import Shelf
from keyturn.edge.voice import Call


def homes_of(call: Call, scope: str | None = None) -> Homes:
    return open_homes(call.home, scope, call.environ)


def machine_of(call: Call) -> Machine:
    return Machine(call.environ)


def name_of(shelf: Shelf) -> ProductName | None:
    """The product a shelf is for, verified; ``None`` if its file does not verify."""
    try:
        container = shelf.product()
        return None if container is None else containers.open_product(container).product.name
    except KeyturnError:
        return None


def choose(call: Call, homes: Homes) -> Shelf:
    """The one product a verb is about: the only one, or the one ``--product`` names.

    Raises: KeyturnError ``product_missing``, ``product_ambiguous``.
    """
    shelves = [(shelf, name_of(shelf)) for shelf in homes.shelves()]
    wanted = call.product
    if wanted is not None:
        shelves = [(shelf, name) for shelf, name in shelves if name is not None and wanted in (name.slug, str(name))]
        if not shelves:
            raise KeyturnError("product_missing", f"no product {wanted!r} is added on this computer")
    if not shelves:
        raise KeyturnError("product_missing")
    if len(shelves) > 1:
        names = ", ".join(str(name) if name else shelf.name for shelf, name in shelves)
        raise KeyturnError("product_ambiguous", f"these products are added: {names}")
    return shelves[0][0]


def chosen(call: Call, homes: Homes) -> list[Shelf]:
    """The products a verb may be about several of: all, or those ``--product`` names."""
    if call.product is None:
        return homes.shelves()
    return [choose(call, homes)]
