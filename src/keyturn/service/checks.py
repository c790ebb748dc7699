"""What must be right in a service's data, looked at one by one: at a home that is in use, or at a backup.

Keeps: the checks of a service. Leaves to others: what a check is, and what every program looks at (``flows.checking``), where the
parts lie (``verify``), what stops a restore (``restore``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from sqlite3 import Connection
from typing import Any, NamedTuple

from keyturn.core import jws, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, ProductName, rfc3339
from keyturn.core.trust import Chain
from keyturn.edge import tls
from keyturn.edge.archive import Progress, nowhere
from keyturn.edge.database import Database
from keyturn.flows.checking import OLDER, SHOWN, Check, integrity, look, references, schema
from keyturn.service.home import migrations
from keyturn.service.sealing import Sealer

PATIENCE = 60  # Seconds after which a decision that is not signed is a fault.
WARNING = 30 * DAY  # Before the end of the issuing keys.
_EVERY = 500  # Rows between two reports of progress.

Peppers = Callable[[int], bytes | None]  # The pepper of a version, if it is there.


class Parts(NamedTuple):
    """One service's data. Each is fetched when a check asks for it, and may raise; None: it is not here by intention."""

    publisher: Callable[[], str]
    chain: Callable[[], Chain]
    database: Callable[[], Database]
    kids: Callable[[], set[str]] | None
    pepper: Peppers | None
    tls: Callable[[], tuple[bytes, bytes]] | None  # Certificate and key.
    counts: Mapping[str, Any] | None = None  # What somebody said of the database.


def examine(parts: Parts, now: int, progress: Progress = nowhere) -> list[Check]:
    """Look at everything that is the same for a home and for a backup.

    1. Trust: the bundles verify, and are those of the publisher in the settings.
    2. Keys: the issuing keys are the bundle's, one of each role is in force; the TLS key is the certificate's.
    3. The database is whole and as defined and as was said of it, every reference leads somewhere, its products are this
       publisher's.
    4. The books: counters are what is counted, no key is above its limit, no decision is left unsigned.
    5. Every signature verifies, for what stands in its row; every product key opens with the pepper.
    """
    # 1.
    found = [look("trust", lambda: trusted(parts.chain(), parts.publisher()))]
    chain = parts.chain() if found[0].ok else None
    # 2.
    if parts.kids is None:
        found.append(Check("issuing_keys", None, "not here"))
    elif chain is None:
        found.append(Check("issuing_keys", None, "nothing says which they should be"))
    else:
        known, kids = chain, parts.kids
        found.append(look("issuing_keys", lambda: keys(known, kids(), now)))
    if parts.tls is None:
        found.append(Check("tls", None, "the key is not here"))
    else:
        files = parts.tls
        found.append(look("tls", lambda: pair(*files(), now)))
    # 3. to 5.
    try:
        database = parts.database()
    except KeyturnError as error:
        return [*found, Check("integrity", False, error.detail, error.remedy)]
    with database:
        looks: dict[str, Callable[[Connection], tuple[Any, ...]]] = {
            "integrity": integrity,
            "schema": lambda db: schema(db, migrations()),
            "references": references,
            "figures": lambda db: figures(db, parts.counts),
            "products": lambda db: products(db, chain),
            "counters": counters,
            "limits": limits,
            "decisions": lambda db: decisions(db, now),
            "signatures": lambda db: signatures(db, chain, progress),
            "product_keys": lambda db: sealed(db, parts.pepper, progress),
        }
        for name, ask in looks.items():
            progress(f"looking at {name.replace('_', ' ')}", 0, 0)
            found.append(look(name, lambda ask=ask: database.read(ask)))  # type: ignore[misc]
    return found


def trusted(chain: Chain, publisher: str) -> tuple[Any, ...]:
    told = f"trust bundle {chain.newest.number} of {chain.newest.publisher}, thumbprint {chain.thumbprint}"
    if chain.newest.publisher == publisher:
        return True, told
    return False, f"the settings name {publisher!r}: {told}", "Put settings and trust bundles of one service together."


def keys(chain: Chain, kids: set[str], now: int) -> tuple[Any, ...]:
    """Issuing keys by their ``kid``: all are named by a bundle, and of each role one is in force."""
    named = {kid: key for bundle in chain.bundles for kid, key in bundle.keys.items()}
    stray = kids - set(named)
    bring = "Bring the root folder, then `keyturn service issuing-key rotate`."
    if stray:
        return False, f"{len(stray)} of {len(kids)} are in no trust bundle", "Remove the keys of another service."
    stolen = kids & chain.revoked
    if stolen:
        return False, f"{len(stolen)} of {len(kids)} are revoked and still here", "Remove its file from keys/: it was stolen."
    here = [key for kid, key in chain.newest.keys.items() if kid in kids]
    ends = {
        role: max((key.not_after for key in here if key.role == role), default=0)
        for role in (trust.ROLE_ISSUE, trust.ROLE_TEST)
    }
    for role in ends:
        if not any(key.role == role and key.not_before <= now <= key.not_after for key in here):
            return False, f"of {len(kids)} keys here none of role {role!r} is in force", bring
    end = min(ends.values())
    return True, f"{len(kids)} here, until {rfc3339(end)}", bring if end < now + WARNING else None


def pair(certificate: bytes, key: bytes, now: int) -> tuple[Any, ...]:
    until = tls.pair_until(certificate, key)
    told = f"the certificate for first use is good until {rfc3339(until)}"
    return until > now, told, None if until > now else "Run the service with --tls-cert and --tls-key."


def counts(db: Connection) -> dict[str, int]:
    """What a database holds, in figures."""
    asked = {
        "products": "SELECT count(*) FROM product", "keys": "SELECT count(*) FROM product_key",
        "seats_used": "SELECT coalesce(sum(seats_used), 0) FROM product_key",
        "activations": "SELECT count(*) FROM activation",
        "open_intents": "SELECT count(*) FROM intent WHERE signature IS NULL",
    }  # fmt: skip
    return {name: int(db.execute(line).fetchone()[0]) for name, line in asked.items()}


def figures(db: Connection, said: Mapping[str, Any] | None) -> tuple[Any, ...]:
    found = counts(db)
    told = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in found.items())
    if said is not None and said != found:
        return False, f"the database is not the one that the manifest describes: it holds {told}", OLDER
    return True, told


def products(db: Connection, chain: Chain | None) -> tuple[Any, ...]:
    names = [str(row[0]) for row in db.execute("SELECT name FROM product ORDER BY name")]
    if chain is None:
        return None, "nothing says whose they should be"
    foreign = [name for name in names if ProductName.parse(name).thumbprint != chain.thumbprint]
    if foreign:
        told = f"{len(foreign)} of {len(names)} are another publisher's: {', '.join(foreign[:SHOWN])}"
        return False, told, "Put the database and the trust bundles of one service together."
    return True, f"{len(names)}, all of this publisher"


def counters(db: Connection) -> tuple[Any, ...]:
    """The seats that a key's counter says are taken, against the activations that stand."""
    rows = db.execute(
        "SELECT * FROM (SELECT k.serial, k.seats_used, (SELECT count(*) FROM activation a WHERE a.serial = k.serial"
        " AND a.ended_at IS NULL) AS standing FROM product_key k) WHERE seats_used <> standing ORDER BY serial"
    ).fetchall()
    wrong = [f"key {row['serial']}: {row['standing']} stand, counted are {row['seats_used']}" for row in rows[:SHOWN]]
    if rows:
        return False, f"{len(rows)} keys: {'; '.join(wrong)}", OLDER
    keys_, seats = db.execute("SELECT count(*), coalesce(sum(seats_used), 0) FROM product_key").fetchone()
    return True, f"{seats} seats of {keys_} keys, as counted"


def limits(db: Connection) -> tuple[Any, ...]:
    """Counted anew, so that a wrong counter hides nothing."""
    rows = db.execute(
        "SELECT * FROM (SELECT k.serial, k.seat_limit, max(k.seats_used, (SELECT count(*) FROM activation a"
        " WHERE a.serial = k.serial AND a.ended_at IS NULL)) AS taken FROM product_key k) WHERE taken > seat_limit"
        " ORDER BY serial"
    ).fetchall()
    over = [f"key {row['serial']}: {row['taken']} of {row['seat_limit']}" for row in rows[:SHOWN]]
    if rows:
        return (
            False,
            f"{len(rows)} keys are above: {'; '.join(over)}",
            "Reclaim seats, or raise the limit of these keys.",
        )
    return True, "no key is above its limit"


def decisions(db: Connection, now: int) -> tuple[Any, ...]:
    """Between record and signature lie moments: older ones were left by a crash, and the service's start signs them."""
    total, still, old = db.execute(
        "SELECT count(*), coalesce(sum(signature IS NULL), 0), coalesce(sum(signature IS NULL AND recorded_at < ?), 0)"
        " FROM intent",
        (now - PATIENCE,),
    ).fetchone()
    if old:
        return False, f"{old} of {total} were recorded and never signed", "Start the service: it signs them."
    return True, f"{total} recorded" + (f", {still} being signed" if still else ", all signed")


def signatures(db: Connection, chain: Chain | None, progress: Progress = nowhere) -> tuple[Any, ...]:
    """Each certificate verifies against the chain as a client would see it, and says what stands in its row."""
    if chain is None:
        return None, "nothing says which keys may sign"
    total = db.execute("SELECT count(*) FROM intent WHERE signature IS NOT NULL").fetchone()[0]
    rows = db.execute(
        "SELECT i.serial, i.request, i.activation, i.kid, i.payload, i.signature, p.test FROM intent i"
        " JOIN product_key k ON k.serial = i.serial JOIN product p ON p.slug = k.product WHERE i.signature IS NOT NULL"
    )
    wrong: list[str] = []
    number = 0
    for number, row in enumerate(rows, 1):
        if not number % _EVERY:
            progress("verifying signatures", number, total)
        token = jws.assemble(jws.signing_input(Kind.CERTIFICATE, row["kid"], row["payload"]), row["signature"])
        try:
            claims = chain.verify(token, Kind.CERTIFICATE, trust.role_for(bool(row["test"])))
        except KeyturnError as error:
            wrong.append(f"key {row['serial']}, activation {row['activation']}: {error.detail}")
            continue
        if any(claims.get(name) != row[name] for name in ("serial", "request", "activation")):
            wrong.append(f"key {row['serial']}, activation {row['activation']}: the certificate is another row's")
    if wrong or number != total:
        told = f"{len(wrong) + total - number} of {total} do not hold: {'; '.join(wrong[:SHOWN])}"
        return False, told, OLDER
    return True, f"{total} certificates verify"


def sealed(db: Connection, pepper: Peppers | None, progress: Progress = nowhere) -> tuple[Any, ...]:
    """Every product key opens with the pepper that its row names; all, not a sample: it is some microseconds each."""
    total = db.execute("SELECT count(*) FROM product_key").fetchone()[0]
    if pepper is None:
        return None, f"{total}, not opened: the pepper is not here", "Add --secrets FILE to open them."
    sealers: dict[int, Sealer | None] = {}
    shut: list[int] = []
    missing: set[int] = set()
    for number, row in enumerate(db.execute("SELECT serial, pepper, sealed FROM product_key"), 1):
        if not number % _EVERY:
            progress("opening product keys", number, total)
        version = row["pepper"]
        if version not in sealers:
            data = pepper(version)
            sealers[version] = None if data is None else Sealer(data)
        sealer = sealers[version]
        if sealer is None:
            missing.add(version)
        elif not _opens(sealer, row["sealed"], row["serial"]):
            shut.append(row["serial"])
    bring = "Put the pepper that belongs to this database: `keyturn service restore --secrets FILE`."
    if missing:
        return (
            False,
            f"pepper {', '.join(map(str, sorted(missing)))} is missing: its product keys cannot be proven",
            bring,
        )
    if shut and len(shut) == total:
        return False, f"this is not the pepper of this database: it opens none of its {total} product keys", bring
    if shut:
        told = f"{len(shut)} of {total} do not open, among them {', '.join(map(str, shut[:SHOWN]))}"
        return False, told, "Restore the newest backup that verifies, or block these keys and mint others."
    return True, f"{total} product keys open with the pepper"


def _opens(sealer: Sealer, data: bytes, serial: int) -> bool:
    try:
        sealer.open(data, serial)
    except KeyturnError:
        return False
    return True
