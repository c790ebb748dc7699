"""A host's certificate by telephone: an installation ID is made, the answer is verified and kept.

Keeps: the procedures. Leaves to others: codes (``core.phone.hosted``), verbs (``telephone_cli``), what a certificate is
(``core.hosting``), and the ways by which a later one replaces it (``enrolling``).

- Nothing is sent. The publisher's issuing key signs a document that both sides can rebuild; a person carries the signature.
- The ID stays the same until key, installation or hardware differ: a renewal reads out the same one again, and another day's
  answer comes back.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple

from keyturn.core import hardware, hosting
from keyturn.core.errors import KeyturnError
from keyturn.core.model import Channel
from keyturn.core.phone import hosted, installation, spelling
from keyturn.core.phone.installation import SALT_BYTES, InstallationID
from keyturn.edge import files
from keyturn.edge.words import english
from keyturn.host import enrolling
from keyturn.host.enrolling import Machine
from keyturn.host.home import HostHome, Permit

VIA = "telephone"
NEXT = "keyturn host installation-id"
_REMEDY = (
    f"Compare what was read out with `{NEXT}`. If it is the same, the publisher may have a newer key: add the newest product file"
    " (`keyturn host init FILE`), then type the code again."
)


class _Calling(NamedTuple):
    """An installation ID as it is kept: the digits, and what they commit to."""

    to: InstallationID
    vector: Mapping[str, str]
    salt: bytes


def make_id(home: HostHome, permit: Permit, machine: Machine) -> InstallationID:
    """The installation ID of this host, made and kept, or the one that is kept and still fits.

    1. The installed host key. 2. What this computer is. 3. The ID that is kept, if it says the same. 4. A new one, durable before
    anybody sees it.

    Raises: KeyturnError ``key_missing``, ``storage_failed``.
    """
    # 1.
    serial, secret = enrolling.installed_key(permit)
    # 2.
    reading = machine.computer().reading
    pairs, vector = hardware.pairs(reading.anchors, permit.name), hardware.vector(reading, permit.name)
    # 3.
    kept, jkt = _kept(permit), home.signer.kid
    if (
        kept is not None
        and (kept.to.weak, kept.to.seat) == installation.seat_prefix(pairs, jkt)
        and installation.is_of(kept.to, permit.name, Channel.HOST, serial, secret, jkt, vector, kept.salt)
    ):
        return kept.to
    # 4.
    salt = machine.chance(SALT_BYTES)
    made = installation.make(permit.name, Channel.HOST, serial, secret, pairs, jkt, vector, salt)
    value = {"v": 1, "installation_id": made.text, "vector": dict(vector), "salt": base64.b64encode(salt).decode()}
    files.write_json(permit.folder / "telephone.json", value)
    return made


def confirm(home: HostHome, permit: Permit, machine: Machine, text: str, *, dry: bool = False) -> Permit:
    """Verify the answer, in digits or words, and keep it as the host certificate; ``dry`` keeps nothing.

    1. It is whole. 2. An installation ID waits for it. 3. An issuing key signed it for this very ID.
    4. In the form in which computers will see it, it verifies as it will for them, is for this host's key, and is in force.
    5. Kept, before anything is told.

    Raises: KeyturnError ``code_malformed``, ``code_mistyped``, ``code_foreign``, ``document_foreign``, ``issuer_revoked``,
    ``document_expired``, ``extra_missing``.
    """
    # 1.
    code = hosted.read(text, english() if spelling.in_words(text) else None)
    # 2.
    kept = _kept(permit)
    if kept is None:
        raise KeyturnError(
            "document_foreign", "no installation ID waits for an answer here",
            remedy=f"Show one, and let it be answered: `{NEXT}`.",
        )  # fmt: skip
    # 3.
    try:
        document = hosted.taken(code, permit.name, kept.to, permit.opened.chain)
    except KeyturnError as error:
        error.remedy = _REMEDY
        raise
    # 4.
    token = hosted.shown(document, home.signer.public, hardware.commitment(kept.vector, kept.salt), kept.salt)
    host = hosting.read_host(token, permit.opened.product, permit.opened.chain)
    if host.expires_at <= machine.clock():
        raise KeyturnError("document_expired", "this answer was in force until a time that is over", remedy=f"`{NEXT}`")
    if dry:
        return permit
    # 5.
    return enrolling.keep(home, permit, token, VIA, machine.clock())


def _kept(permit: Permit) -> _Calling | None:
    """What is kept; a damaged one is none, because another is as good."""
    try:
        value: dict[str, Any] = files.read_json(permit.folder / "telephone.json") or {}
        salt = base64.b64decode(value["salt"], validate=True)
        return _Calling(installation.read(str(value["installation_id"])), dict(value["vector"]), salt)
    except (KeyError, TypeError, ValueError, binascii.Error, KeyturnError):
        return None
