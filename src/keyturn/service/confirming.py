"""Confirmation keys: what signs the answers of telephone activation. Made, kept, and the one that signs now.

Keeps: where their secrets lie, when the next ones are due, and their dates. Leaves to others: the curve (``edge.bls``), bundles
(``ceremony``, ``rotation``), who is answered (``telephone``).

- A secret is a file of its own in ``keys/``, ``KID.phone`` (mode 0600), whoever holds the issuing keys: tokens do not have the
  curve. It is in the secrets' backup with the others.
- A key may sign for two years, so that its terms reach; the next one comes a year earlier, with the bundle of that year.
- A home from before telephone activation, or without the extra ``phone``, has none until the next rotation.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import re
import secrets
from pathlib import Path
from typing import Any

from keyturn.core import trust
from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, rfc3339
from keyturn.core.trust import Chain, ConfirmationKey
from keyturn.edge import bls, files
from keyturn.edge.keystore import Signer

ROLES = (trust.ROLE_PHONE, trust.ROLE_PHONE_TEST)
LIFE = 732 * DAY
LATEST = (
    300 * DAY
)  # Left of the last key's time: then the next one is due, with a bundle of its own if there must be one.
EARLY = 700 * DAY  # Left of it: then a bundle that brings issuing keys brings the next one too. There is one a year.
NAME = re.compile(r"keys/[A-Za-z0-9_-]{43}\.phone", re.ASCII)  # In a backup of the secrets.
REMEDY = "Install it (pip install 'keyturn[phone]'), then make one: `keyturn service issuing-key rotate`."


def available() -> bool:
    """Whether keys can be made here: whether the extra ``phone`` is installed. Nothing is imported."""
    return importlib.util.find_spec("py_ecc") is not None


def due(chain: Chain, now: int, left: int = LATEST) -> list[str]:
    """The roles whose last key has less than ``left`` seconds to go."""
    ends = {role: [k.not_after for k in _standing(chain) if k.role == role] for role in ROLES}
    return [role for role in ROLES if max(ends[role], default=0) - now < left]


def here_until(path: Path, chain: Chain) -> dict[str, int]:
    """Per role, when the last key ends that is here and may sign; without roles that never had one here."""
    ends: dict[str, int] = {}
    for key in _standing(chain):
        if _place(path, key).exists():
            ends[key.role] = max(key.not_after, ends.get(key.role, 0))
    return ends


def make(path: Path, chain: Chain | None, now: int, roles: list[str] | None = None) -> list[ConfirmationKey]:
    """Make the next key of each of ``roles`` for the home at ``path``; durable before anybody signs that they exist.

    None without the extra. A day back, as every key: the clocks of those who sign may differ.
    Raises: KeyturnError ``storage_failed``.
    """
    if not available():
        return []
    made = []
    for role in ROLES if roles is None else roles:
        secret = bls.secret_of(secrets.token_bytes(bls.CHANCE))
        used = [] if chain is None else [key for bundle in chain.bundles for key in bundle.phone if key.role == role]
        index = (max(used, key=lambda key: key.not_before).key_index + 1) % 4 if used else 0
        key = ConfirmationKey(bls.signer(secret).public, index, role, now - DAY, now - DAY + LIFE)
        files.write(_place(path, key), base64.b64encode(secret), files.PRIVATE)
        made.append(key)
    return made


def signer(path: Path, chain: Chain, *, test: bool, now: int) -> tuple[ConfirmationKey, Signer]:
    """The key to sign with now: of those in force whose secret is here, the newest.

    Raises: KeyturnError ``trust_invalid`` if there is none, ``extra_missing``, ``store_damaged``.
    """
    role = trust.ROLE_PHONE_TEST if test else trust.ROLE_PHONE
    found = [
        k
        for k in _standing(chain)
        if k.role == role and k.not_before <= now <= k.not_after and _place(path, k).exists()
    ]
    if not found:
        raise KeyturnError(
            "trust_invalid", "no confirmation key is in force here: no telephone is answered", remedy=REMEDY
        )
    key = max(found, key=lambda k: k.not_before)
    place = _place(path, key)
    try:
        made = bls.signer(base64.b64decode(files.read(place, 200) or b"", validate=True))
    except (binascii.Error, ValueError) as error:
        raise KeyturnError("store_damaged", f"{place} holds no confirmation key") from error
    if made.public != key.public:
        raise KeyturnError("store_damaged", f"{place} holds another confirmation key than its name says")
    return key, made


def listed(path: Path, chain: Chain, now: int) -> list[dict[str, Any]]:
    """Every confirmation key that any bundle names, in the form of ``issuing-key list``."""
    named = {key.kid: key for bundle in chain.bundles for key in bundle.phone}
    newest = {key.kid for key in chain.newest.phone}

    def state(key: ConfirmationKey) -> str:
        if key.kid in chain.revoked:
            return "revoked"
        return "retired" if key.kid not in newest else "here" if _place(path, key).exists() else "missing"

    return [
        {
            "kid": key.kid, "role": key.role, "from": rfc3339(key.not_before), "until": rfc3339(key.not_after),
            "state": state(key), "here": _place(path, key).exists(), "in_force": key.not_before <= now <= key.not_after,
            "days_left": max(0, (key.not_after - now) // DAY),
        }
        for key in sorted(named.values(), key=lambda key: (key.role, key.not_before))
    ]  # fmt: skip


def _standing(chain: Chain) -> list[ConfirmationKey]:
    return [key for key in chain.newest.phone if key.kid not in chain.revoked]


def _place(path: Path, key: ConfirmationKey) -> Path:
    return path / "keys" / f"{key.kid}.phone"
