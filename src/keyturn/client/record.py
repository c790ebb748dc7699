"""The local record: what a computer must remember of a product and cannot prove otherwise.

Signed by the installation's key and mirrored: tamper-evident, not tamper-proof. Deleting it, or changing it, leaves what
a fresh installation has, and never more.
"""

from __future__ import annotations

from keyturn.client.loading import Loaded
from keyturn.core import jws
from keyturn.core.documents import Record
from keyturn.core.jws import Kind
from keyturn.edge import keystore
from keyturn.edge.keystore import Signer
from keyturn.edge.vault import Shelf


def keep_record(shelf: Shelf, record: Record, signer: Signer) -> None:
    """Sign and store a record."""
    shelf.keep_record(jws.sign(Kind.RECORD, record.claims(), signer.public, signer.sign))


def note(shelf: Shelf, loaded: Loaded) -> None:
    """Remember what a look at the store showed, if this account may: the newest time, and since when hardware differs.

    Written only when it says something new (a day, or a change), so that ``status`` is not a write.
    """
    record = loaded.record
    if record is None or loaded.possession != "proven" or not shelf.vault.writable:
        return
    changed = loaded.tolerance is not None and not loaded.tolerance.same
    wanted = record._replace(
        high_water=max(record.high_water, loaded.now if loaded.now - record.high_water > 3600 else 0),
        changed_at=(record.changed_at or loaded.now) if changed else None,
    )
    signer = keystore.load(shelf.installation_key)
    if wanted != record and signer is not None:
        with shelf.locked():
            keep_record(shelf, wanted, signer)
