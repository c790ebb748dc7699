"""What must be right in a fleet manager's home: used by ``verify``, ``doctor``, and before a backup is put into place.

Leaves to others: what a check is, and what every program looks at (``flows.checking``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Connection, Row
from typing import Any

from keyturn.core import containers, hardware, jws, trust
from keyturn.core.containers import Opened
from keyturn.core.documents import Certificate, read_request
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import ProductName, rfc3339
from keyturn.edge import files, tls
from keyturn.edge.archive import Progress, nowhere
from keyturn.edge.database import Database
from keyturn.edge.snapshot import open_as_it_is
from keyturn.fleet import home as homes
from keyturn.fleet import keys
from keyturn.fleet.home import DATABASE, FleetHome
from keyturn.fleet.sealing import Sealer
from keyturn.flows.checking import OLDER, SHOWN, Check, integrity, look, permissions, references, schema


def examine(home: FleetHome, now: int, progress: Progress = nowhere) -> Iterator[Check]:
    """Look at a whole home, in use or not.

    1. The files that only the manager may read are closed to others; its key is there.
    2. The TLS key is its certificate's.
    3. The database is whole and as defined, every reference leads somewhere.
    4. Every product's file and trust bundles verify; every product key opens; every activation that is kept can be given back.
    """
    # 1.
    yield look("files", lambda: _closed(home.path))
    yield Check("key", True, home.signer.kid)
    # 2.
    yield look("tls", lambda: _tls(home, now))
    # 3. and 4.
    try:
        database, _ = open_as_it_is(home.path / DATABASE, homes.migrations())
    except KeyturnError as error:
        yield Check("integrity", False, error.detail, error.remedy)
        return
    with database:
        yield from of_database(database, progress)
        for name, ask in (
            ("products", products), ("keys", lambda db: sealed(db, home)), ("activations", lambda db: bindings(db, home)),
        ):  # fmt: skip
            progress(f"looking at {name}", 0, 0)
            yield look(name, lambda ask=ask: database.read(ask))  # type: ignore[misc]


def of_database(database: Database, progress: Progress = nowhere) -> Iterator[Check]:
    """What holds for every database."""
    for name, ask in (
        ("integrity", integrity), ("schema", lambda db: schema(db, homes.migrations())), ("references", references),
    ):  # fmt: skip
        progress(f"looking at {name}", 0, 0)
        yield look(name, lambda ask=ask: database.read(ask))  # type: ignore[misc]


def counts(db: Connection) -> dict[str, int]:
    """What a database holds, in figures."""
    return {
        name: int(db.execute(f"SELECT count(*) FROM {name}").fetchone()[0])  # noqa: S608 - names of ours
        for name in ("computer", "product", "key", "task", "binding", "account")
    }


def products(db: Connection) -> tuple[Any, ...]:
    """Every product file verifies, from its publisher's root."""
    rows = db.execute("SELECT name, container FROM product ORDER BY name").fetchall()
    for row in rows:
        name = ProductName.parse(row["name"])
        if opened(row).product.name != name:
            return False, f"{name.slug} is kept as another product", OLDER
    return True, f"{len(rows)} products verify"


def sealed(db: Connection, home: FleetHome) -> tuple[Any, ...]:
    """Every product key opens under ``seal.key``. Raises: KeyturnError ``store_damaged`` for one that does not."""
    rows = db.execute("SELECT * FROM key").fetchall()
    for row in rows:
        if keys.opened(Sealer(home.seal), row)[-5:] != row["partial"]:
            return False, f"{row['product_id']} is another key than it is shown as", OLDER
    return True, f"{len(rows)} product keys open"


def bindings(db: Connection, home: FleetHome) -> tuple[Any, ...]:
    """Every activation that is kept verifies, and re-imaged hardware would be given it."""
    chains = {row["name"]: opened(row) for row in db.execute("SELECT name, container FROM product")}
    found = {(row["product"], row["activation"]): row["pairs"] for row in db.execute(_PAIRS)}
    rows, wrong = db.execute("SELECT * FROM binding").fetchall(), []
    for row in rows:
        try:
            _bound(row, chains, home, json.loads(found.get((row["product"], row["activation"]), "{}")))
        except (KeyturnError, ValueError) as error:
            wrong.append(f"{row['activation']} ({error.detail if isinstance(error, KeyturnError) else error})")
    if wrong:
        return False, f"{len(wrong)} of {len(rows)} cannot be given back: {', '.join(wrong[:SHOWN])}", OLDER
    return True, f"{len(rows)} activations can be given back to their hardware"


def _bound(row: Row, chains: dict[str, Opened], home: FleetHome, pairs: dict[str, str]) -> None:
    """Verify what is kept of one activation.

    1. The certificate is the publisher's, from the product's root down.
    2. It answers the request that is kept with it, which its computer signed.
    3. It names this manager's key for the product, and the hardware baseline that is kept with it.
    4. It is found by the hardware of that request.

    Raises: KeyturnError, ValueError why it does not hold.
    """
    product = chains.get(row["product"])
    if product is None:
        raise ValueError("its product is not here")
    name = product.product.name
    # 1.
    certificate = Certificate.read(product.chain.verify(row["certificate"], Kind.CERTIFICATE, trust.role_for(name.test)))
    # 2.
    request, _ = read_request(row["request"])
    said = (certificate.product, certificate.activation, certificate.serial, certificate.request)
    if said != (name, row["activation"], row["serial"], jws.digest(row["request"])):
        raise ValueError("its certificate is for another request")
    # 3.
    if certificate.rebind != home.rebinder(name).kid:
        raise ValueError("its certificate names another manager's key")
    baseline = hardware.commitment(json.loads(row["vector"]), base64.b64decode(row["salt"]))
    if baseline != certificate.commitment:
        raise ValueError("its hardware baseline is another one")
    # 4.
    if not dict(request.pairs) == json.loads(row["pairs"]) == pairs:
        raise ValueError("it is found by hardware that is not its own")


def opened(row: Row) -> Opened:
    """A product's row, verified from its publisher's root. Raises: KeyturnError why it does not verify."""
    return containers.open_product(json.loads(row["container"]), ProductName.parse(row["name"]).thumbprint)


def _tls(home: FleetHome, now: int) -> tuple[Any, ...]:
    certificate, key = (files.read(path) or b"" for path in home.tls_files)
    until = tls.pair_until(certificate, key)
    told = f"the certificate is good until {rfc3339(until)}"
    return until > now, told, None if until > now else "Remove the folder tls/ and run `keyturn fleet init` again."


def _closed(path: Path) -> tuple[Any, ...]:
    names = [homes.SETTINGS_FILE, homes.KEY, homes.SEED, homes.SEAL, "tls/key.pem"]
    names += [DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"]
    return permissions({place: place.stat().st_mode for name in names if (place := path / name).exists()})


_PAIRS = "SELECT product, activation, json_group_object(pair, tag) AS pairs FROM pair GROUP BY product, activation"
