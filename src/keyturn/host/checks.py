"""What must be right in a host's home: used by ``verify``, ``doctor``, and before a backup is put into place.

Leaves to others: what a check is, and what every program looks at (``flows.checking``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, rfc3339
from keyturn.edge import files, tls
from keyturn.edge.archive import Progress, nowhere
from keyturn.edge.snapshot import open_as_it_is
from keyturn.flows.checking import OLDER, SHOWN, Check, integrity, look, permissions, references, schema
from keyturn.host import ledger
from keyturn.host.enrolling import WARN_DAYS
from keyturn.host.home import DATABASE, HostHome, Permit

ANEW = "`keyturn host activate`, or by file: `keyturn host export request -o F.ktx`"


def examine(home: HostHome, now: int, progress: Progress = nowhere) -> Iterator[Check]:
    """Look at a whole home, in use or not.

    1. The files that only the host may read are closed to others; the host's key is there.
    2. The TLS key is its certificate's.
    3. Every product has a host certificate that verifies, for this key, and is in force.
    4. The ledger is whole and as defined, every reference leads somewhere.
    5. Its books: numbers are given once, a computer's hardware is what it is found by, every lease is the one it is kept as.
    """
    # 1.
    yield look("files", lambda: _closed(home.path))
    yield Check("key", True, f"{home.signer.kid}, of the installation {home.guid}")
    # 2.
    yield look("tls", lambda: _tls(home, now))
    # 3.
    yield from certificates(home, now)
    # 4. and 5.
    yield from ledger_of(home.path, progress)


def certificates(home: HostHome, now: int) -> Iterator[Check]:
    """Look at what this host may do, product by product."""
    for permit in home.permits.values():
        yield look(f"certificate of {permit.name.slug}", lambda permit=permit: certificate(permit, now))  # type: ignore[misc]


def ledger_of(path: Path, progress: Progress = nowhere) -> Iterator[Check]:
    """Look at the ledger in a home, in the version it has."""
    try:
        database, _ = open_as_it_is(path / DATABASE, ledger.migrations())
    except KeyturnError as error:
        yield Check("integrity", False, error.detail, error.remedy)
        return
    with database:
        for name, ask in (
            ("integrity", integrity), ("schema", lambda db: schema(db, ledger.migrations())), ("references", references),
            ("numbers", numbers), ("hardware", hardware), ("leases", leases),
        ):  # fmt: skip
            progress(f"looking at {name}", 0, 0)
            yield look(name, lambda ask=ask: database.read(ask))  # type: ignore[misc]


def certificate(permit: Permit, now: int) -> tuple[Any, ...]:
    """The host certificate of one product: that there is one, and how long it lasts."""
    host = permit.certificate
    if host is None:
        return False, f"there is none ({permit.why_not})", ANEW
    days, until = (host.expires_at - now) // DAY, rfc3339(host.expires_at)
    if now > host.expires_at:
        return False, f"ended at {until}: no lease is given any more", ANEW
    return True, f"{days} days left, until {until}", ANEW if days <= WARN_DAYS else None


def counts(db: Connection) -> dict[str, int]:
    """What a ledger holds, in figures."""
    return {
        name: int(db.execute(f"SELECT count(*) FROM {name}").fetchone()[0])  # noqa: S608 - names of ours
        for name in ("product", "computer", "installation", "lease", "fork")
    }


def numbers(db: Connection) -> tuple[Any, ...]:
    """Every computer has a number of its own, none above the last one given."""
    rows = db.execute(
        "SELECT p.name, count(*) AS computers, count(DISTINCT c.number) AS given, max(c.number) AS most, p.numbers"
        " FROM computer c JOIN product p ON p.id = c.product GROUP BY p.id"
    ).fetchall()
    wrong = [row["name"] for row in rows if row["given"] != row["computers"] or row["most"] > row["numbers"]]
    if wrong:
        return False, f"given twice, or beyond the last: {', '.join(wrong[:SHOWN])}", OLDER
    return True, f"{sum(row['computers'] for row in rows)} computers, each with its own"


def hardware(db: Connection) -> tuple[Any, ...]:
    """What is kept with a computer is what it is found by."""
    rows = db.execute(
        "SELECT c.pairs, (SELECT json_group_object(p.pair, p.tag) FROM pair p WHERE p.product = c.product"
        " AND p.computer = c.id) AS found FROM computer c"
    )
    wrong = [bool(json.loads(row["found"]).items() - json.loads(row["pairs"]).items()) for row in rows]
    if any(wrong):
        return False, f"{sum(wrong)} of {len(wrong)} computers are found by hardware that is not theirs", OLDER
    return True, f"{len(wrong)} computers are found by their own hardware"


def leases(db: Connection) -> tuple[Any, ...]:
    """Every lease that was not shown yet answers the request, and is for the installation, that it is kept under."""
    rows = db.execute("SELECT l.thumbprint, l.request, l.payload, p.name FROM lease l JOIN product p ON p.id = l.product")
    wrong = [_said(row["payload"]) != (row["request"], row["name"], row["thumbprint"]) for row in rows]
    if any(wrong):
        return False, f"{sum(wrong)} of {len(wrong)} leases are kept as others'", OLDER
    return True, f"{len(wrong)} leases were given and not shown yet"


def _said(payload: bytes) -> tuple[object, ...]:
    """Which request a lease's content answers, for which product, for whose key."""
    try:
        said = jws.loads(payload)
    except KeyturnError:
        return ()
    held = said.get("cnf")
    return said.get("request"), said.get("product"), held.get("jkt") if isinstance(held, dict) else None


def _tls(home: HostHome, now: int) -> tuple[Any, ...]:
    certificate, key = (files.read(path) or b"" for path in home.tls_files)
    until = tls.pair_until(certificate, key)
    told = f"the certificate is good until {rfc3339(until)}"
    return until > now, told, None if until > now else "Remove the folder tls/ and run `keyturn host init` again."


def _closed(path: Path) -> tuple[Any, ...]:
    names = ["host.toml", "host.key", "tls/key.pem", DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"]
    secret = [path / name for name in names] + sorted((path / "products").glob("*/key.json"))
    return permissions({place: place.stat().st_mode for place in secret if place.exists()})
