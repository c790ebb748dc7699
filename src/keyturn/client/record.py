"""The local record: what a computer must remember of a product and cannot prove otherwise.

Signed by the installation's key and mirrored: tamper-evident, not tamper-proof. Deleting it, or changing it, leaves what
a fresh installation has, and never more.
"""

from __future__ import annotations

from collections.abc import Callable

from keyturn.client.loading import Loaded, again, load, noted_by_another
from keyturn.client.machine import Machine
from keyturn.core import jws, license
from keyturn.core.documents import ProductFile, Record
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.edge import files, keystore
from keyturn.edge.keystore import Signer
from keyturn.edge.vault import Shelf

NEWS = 3600  # Seconds of the clock that are worth a write.


def keep_record(shelf: Shelf, record: Record, signer: Signer) -> None:
    """Sign and store a record."""
    shelf.keep_record(jws.sign(Kind.RECORD, record.claims(), signer.public, signer.sign))


def installation(shelf: Shelf, machine: Machine) -> Signer:
    """The installation's key; made if it is missing or damaged, with a new GUID: then it is another installation."""
    try:
        signer = keystore.load(shelf.installation_key)
    except KeyturnError as error:
        if error.code != "store_damaged":
            raise
        files.remove(shelf.installation_key)
        signer = None
    if signer is None:
        signer = keystore.create(shelf.installation_key)
    try:
        stored = shelf.installation()
    except KeyturnError:
        stored = None
    if stored is None or stored[1] != signer.public:
        shelf.keep_installation(machine.guid(), signer.public)
    return signer


def remember(shelf: Shelf, loaded: Loaded, machine: Machine, *, say: Callable[[str], None] = lambda _text: None) -> Loaded:
    """Note what a look at the store showed, and return where the copy stands then.

    Where nobody can note it, a grace has no first day: otherwise a store that cannot be written would have one for ever.
    ``say`` is told why it was not noted.
    """
    try:
        done = note(shelf, loaded, machine)
    except KeyturnError as error:
        say(f"Could not note the time: {error.detail}")
        done = False
    return loaded if done or noted_by_another(loaded) else again(loaded, machine, noted=False)


def note(shelf: Shelf, loaded: Loaded, machine: Machine) -> bool:
    """Remember what a look at the store showed, if this account may: the newest time, and since when hardware differs.

    Written only when it says something new (an hour, or a change), so that ``status`` is not a write. A record that is
    missing begins anew, or whoever deletes it would have a first day of grace for ever. The result says whether all of it
    is noted now. Raises: KeyturnError ``permission_denied``, ``storage_failed``.
    """
    if not (_begins(loaded) or _news(loaded)):
        return loaded.possession == "proven"
    if not shelf.vault.writable:
        return False
    with shelf.locked():
        signer = installation(shelf, machine) if _begins(loaded) else keystore.load(shelf.installation_key)
        loaded = load(shelf, machine)  # Another process may have written meanwhile.
        news = _news(loaded)
        if news is not None and signer is not None:
            keep_record(shelf, news, signer)
    if news is not None and news.changed_at != (None if loaded.record is None else loaded.record.changed_at):
        from keyturn.client.telling import Teller  # Only where something happened: ``status`` runs at every logon.

        Teller(shelf.vault, machine).tell_state(load(shelf, machine))
    return signer is not None


def _begins(loaded: Loaded) -> bool:
    """Without record and certificate there is nothing to lose by making the installation whole."""
    return loaded.record is None and loaded.certificate is None


def _news(loaded: Loaded) -> Record | None:
    """The record as it should be, if that is something new and this account can sign it."""
    if loaded.possession != "proven":
        return None
    product = loaded.opened.product
    record = loaded.record or begun(loaded.opened.product, loaded.guid or "", loaded.now)
    now = license.effective_time(loaded.now, record)
    if record.seen is None or not 0 <= loaded.now - record.seen <= NEWS or now - record.high_water > NEWS:
        record = record._replace(high_water=now, seen=loaded.now)
    if license.began_unsurely(record, product, now):
        record = record._replace(grace_from=now, unsure=False)
    changed = loaded.tolerance is not None and not loaded.tolerance.same
    wanted = record._replace(changed_at=(record.changed_at or now) if changed else None)
    return None if wanted == loaded.record else wanted


def begun(product: ProductFile, installation: str, now: int) -> Record:
    """A record whose grace begins now."""
    return Record(
        product.name, installation, now, now, seen=now, unsure=license.implausible(now, product)
    )
