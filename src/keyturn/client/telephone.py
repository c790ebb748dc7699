"""Activation by telephone: an installation ID is made, the confirmation ID that answers it is verified and kept.

Keeps: the procedures, and reading what was kept. Leaves to others: codes (``core.phone``), verbs (``telephone_cli``), loading.

- Nothing is sent. What a person carries is two numbers, and which way they go is nobody's matter.
- An ID that waits for its answer is shown again as it is, in digits, words or as a QR code; after its answer, or when key,
  installation or hardware differ, another one is made, which means the same.
- A pairing takes half a second, so this process remembers which signatures held. Nothing on the disk does.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from keyturn.client.actions import demand_writable
from keyturn.client.loading import Loaded, load, needs_activation
from keyturn.client.machine import Machine, store_lasts
from keyturn.client.policies import policy_of
from keyturn.client.record import begun, installation, keep_record
from keyturn.client.telling import Teller
from keyturn.core import hardware, jws
from keyturn.core.containers import Opened
from keyturn.core.documents import Certificate
from keyturn.core.errors import KeyturnError
from keyturn.core.model import Channel, rfc3339
from keyturn.core.phone import confirmation, confirmed, spelling
from keyturn.core.phone import installation as ids
from keyturn.core.phone.confirmed import Here, Kept
from keyturn.core.phone.installation import SALT_BYTES, InstallationID
from keyturn.core.trust import Revocation
from keyturn.edge import bls
from keyturn.edge.vault import Calling, InstalledKey, Shelf
from keyturn.edge.words import english

_holds = functools.lru_cache(maxsize=32)(bls.holds)


def make_id(shelf: Shelf, machine: Machine) -> tuple[InstallationID, Loaded]:
    """The installation ID of this computer, made and kept, or the one that waits and still fits.

    1. The policy allows it, and the key is one that a publisher's service answers. 2. What this computer is.
    3. The one that waits, if it says the same. 4. A new one, durable before anybody sees it.

    Raises: KeyturnError ``policy_forbids``, ``key_missing``, ``host_required``, ``not_by_telephone``, ``ephemeral_refused``,
    ``permission_denied``.
    """
    # 1.
    policy_of(shelf.vault.home, machine).demand("telephone")
    _demand_key(load(shelf, machine))
    demand_writable(shelf)
    secret = shelf.key_secret()
    with shelf.locked():
        signer = installation(shelf, machine)
        loaded = load(shelf, machine)
        key = _demand_key(loaded)
        # 2.
        reading = machine.computer(loaded.opened.product).reading
        pairs, vector = hardware.pairs(reading.anchors, loaded.name), hardware.vector(reading, loaded.name)
        if hardware.evidence(pairs) == "weak" and not store_lasts(shelf.path):
            raise KeyturnError("ephemeral_refused")
        # 3.
        waiting = shelf.calling()
        channel = Channel(key.channel)
        if waiting is not None and waiting.vector == dict(vector):
            shown = _read(waiting)
            told = (loaded.name, channel, key.serial, secret, signer.kid, vector, waiting.salt)
            if (
                shown is not None
                and (shown.weak, shown.seat) == ids.seat_prefix(pairs, signer.kid)
                and ids.is_of(shown, *told)
            ):
                return shown, loaded
        # 4.
        salt = machine.chance(SALT_BYTES)
        made = ids.make(loaded.name, channel, key.serial, secret, pairs, signer.kid, vector, salt)
        shelf.keep_calling(Calling(made.text, dict(vector), salt))
    return made, loaded


def confirm(shelf: Shelf, machine: Machine, text: str, *, dry: bool = False) -> Loaded:
    """Verify a confirmation ID, in digits or words, and keep it; ``dry`` keeps nothing.

    1. It is whole. 2. An installation ID waits for it; a copy that is licensed needs none.
    3. It verifies as it will on every load, its signer is not revoked, its term has not ended, and the hardware is the same.
    4. Kept as it came, before the installation ID and an older return are forgotten. 5. What was noted of changes is over.

    Raises: KeyturnError ``code_malformed``, ``code_mistyped``, ``code_foreign``, ``document_foreign``, ``hardware_other``,
    ``issuer_revoked``, ``document_expired``, ``policy_forbids``, ``extra_missing``.
    """
    # 1.
    policy_of(shelf.vault.home, machine).demand("telephone")
    code = confirmation.read(text, english() if spelling.in_words(text) else None)
    with shelf.locked():
        # 2.
        loaded, waiting = load(shelf, machine), shelf.calling()
        if not needs_activation(loaded):
            return loaded
        if waiting is None or loaded.public is None or loaded.guid is None:
            raise KeyturnError(
                "document_foreign", "no installation ID waits for an answer here",
                remedy="Show one, and let it be answered: `keyturn installation-id`.",
            )  # fmt: skip
        # 3.
        kept = Kept(waiting.installation_id, code.text, waiting.vector, waiting.salt, loaded.now)
        found, revoked = _checked(kept, shelf, loaded.opened, loaded.key, loaded.guid, jws.thumbprint(loaded.public))
        if revoked is not None:
            raise KeyturnError("issuer_revoked", "the code is signed by a key that its publisher revoked")
        if found.expires_at is not None and found.expires_at <= loaded.now:
            raise KeyturnError("document_expired", "the right that this code confirms has ended")
        reading = machine.computer(loaded.opened.product).reading
        same = hardware.same(kept.vector, hardware.vector(reading, loaded.name))
        if not same.same:
            raise KeyturnError(
                "hardware_other", f"the hardware is another one since: {hardware.describe(same.changed)}"
            )
        if dry:
            return loaded
        # 4.
        shelf.keep_confirmed(kept)
        shelf.remove_calling()
        shelf.remove_pending()
        shelf.remove_release()
        # 5.
        signer = installation(shelf, machine)
        record = loaded.record or begun(loaded.opened.product, loaded.guid, loaded.now)
        keep_record(shelf, record._replace(changed_at=None, seen=loaded.now), signer)
    after = load(shelf, machine)
    teller = Teller(shelf.vault, machine)
    teller.tell("activated", product=after.name, activation=None, valid_until=rfc3339(after.standing.valid_until))
    teller.tell_state(after)
    return after


def read(
    shelf: Shelf, opened: Opened, key: InstalledKey | None, guid: str, public: bytes
) -> tuple[Certificate, Revocation | None, Mapping[str, str]] | None:
    """What was confirmed by telephone, verified anew, with the stored vector; ``None`` if nothing was.

    Raises: as ``confirmed.check``.
    """
    kept = shelf.confirmed()
    if kept is None:
        return None
    return *_checked(kept, shelf, opened, key, guid, jws.thumbprint(public)), kept.vector


def _checked(
    kept: Kept, shelf: Shelf, opened: Opened, key: InstalledKey | None, guid: str, holder: str
) -> tuple[Certificate, Revocation | None]:
    if key is None:
        raise KeyturnError("document_foreign", "the product key that was confirmed is not installed any more")
    try:
        secret = shelf.key_secret()
    except KeyturnError as error:
        # K is its owner's. That the service saw its proof is in the signature, for everybody else.
        if error.code != "permission_denied":
            raise
        secret = None
    here = Here(Channel(key.channel), key.serial, secret, guid, holder)
    return confirmed.check(kept, opened.product, opened.chain, here, _holds)


def _demand_key(loaded: Loaded) -> InstalledKey:
    key = loaded.key
    if key is None:
        raise KeyturnError("key_missing", f"no product key is installed for {loaded.opened.product.title}")
    if key.channel == Channel.CLIENT.value:
        raise KeyturnError("host_required")
    if key.channel not in (Channel.RETAIL.value, Channel.MAK.value):
        raise KeyturnError("not_by_telephone")
    return key


def _read(waiting: Calling) -> InstallationID | None:
    try:
        return ids.read(waiting.installation_id)
    except KeyturnError:
        return None  # Damaged: another one is as good.
