"""New issuing keys: made, dated, and authorised before the old ones end.

Keeps: how many are ahead, keys for the periods after the last one, and the whole extension where one root alone decides. Leaves
to others: bringing keys that are due into the service (``home.rotate``), bundles (``ceremony``).

- Keys follow each other as at ``init``: each lives ``home.PERIOD``, the next begins ``home.STEP`` after it.
- A year is added at a time. Every bundle travels to every client for ever, so there is one a year and not one a quarter.
- Private halves are durable in ``root/issuing`` before anybody signs that they exist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY
from keyturn.core.trust import Chain, IssuingKey
from keyturn.edge import keystore
from keyturn.edge.keystore import Signer
from keyturn.service import ceremony, confirming, rootkey
from keyturn.service import home as homes
from keyturn.service.ceremony import ROLES, Draft
from keyturn.service.home import ServiceHome
from keyturn.service.rootkey import Root

ENOUGH = 730 * DAY  # Authorised ahead after every rotation.
YEAR = 5  # Periods that an extension adds to each role: 375 days.
MAX_ADDED = 40  # Keys of one JSON file.
_NUMBERED = re.compile(r"[a-z]+-([0-9]{2,4})\.key", re.ASCII)


class Extended(NamedTuple):
    """What became of the keys ahead: ``chain`` is in force now; ``due`` says who must sign, where one root does not suffice."""

    chain: Chain
    added: int
    due: str | None
    phone: int = 0  # Confirmation keys that were added.


def authorised_until(chain: Chain) -> dict[str, int]:
    """Per role, when the last issuing key that the newest bundle names ends; 0 without any. Revoked ones do not count."""
    keys = [key for kid, key in chain.newest.keys.items() if kid not in chain.revoked]
    return {role: max((key.not_after for key in keys if key.role == role), default=0) for role in ROLES}


def every_key(chain: Chain) -> list[IssuingKey]:
    """Every issuing key that any bundle names, as the newest that names it says, by role and time."""
    found = {kid: key for bundle in chain.bundles for kid, key in bundle.keys.items()}
    return sorted(found.values(), key=lambda key: (key.role, key.not_before))


def state(home: ServiceHome, key: IssuingKey) -> str:
    """``revoked``: it was stolen. ``retired``: the newest bundle names it no more. Else ``here``, or ``sealed`` with the root."""
    if key.kid in home.chain.revoked:
        return "revoked"
    if key.kid not in home.chain.newest.keys:
        return "retired"
    return "here" if key.kid in home.signers else "sealed"


def make_keys(home: Path, chain: Chain, count: int, now: int) -> list[IssuingKey]:
    """Make ``count`` issuing keys of each role for the periods after the last; the private halves go into ``root/issuing``.

    Raises: KeyturnError ``not_found`` if ``root/issuing`` is not here, ``storage_failed``.
    """
    sealed = home / "root" / "issuing"
    if not sealed.is_dir():
        raise KeyturnError(
            "not_found", f"{sealed} is not here",
            remedy="Bring the root folder from its safe place, and take it away again afterwards.",
        )  # fmt: skip
    number, found = next_number(home), []
    for role in ROLES:
        made = [keystore.create(sealed / f"{role}-{number + place:02d}.key").public for place in range(count)]
        found += dated(chain, role, made, now)
    return found


def next_number(home: Path) -> int:
    """The first number that no file of an issuing key has: ``ROLE-NUMBER.key`` is what they are called."""
    return 1 + max((int(found[1]) for found in map(_NUMBERED.fullmatch, _names(home)) if found), default=0)


def dated(chain: Chain, role: str, publics: list[bytes], now: int) -> list[IssuingKey]:
    """These public keys as issuing keys of ``role``, for the periods after the last one that is authorised."""
    last = max((key.not_before for key in chain.newest.keys.values() if key.role == role), default=None)
    first = now - DAY if last is None else max(last + homes.STEP, now - DAY)  # A day back, as at init.
    begins = (first + place * homes.STEP for place in range(len(publics)))
    return [
        IssuingKey(jws.thumbprint(public), public, role, begin, begin + homes.PERIOD)
        for public, begin in zip(publics, begins, strict=True)
    ]


def read_publics(value: Mapping[str, Any], chain: Chain, now: int) -> list[IssuingKey]:
    """Keys that were made elsewhere, as on an HSM: ``{"keyturn": "issuing-keys", "v": 1, "keys": [{"jwk", "role"}]}``.

    They get the periods after the last in the order in which they stand. Raises: KeyturnError ``file_malformed``.
    """
    listed = value.get("keys")
    if value.get("keyturn") != "issuing-keys" or value.get("v") != 1 or not isinstance(listed, list):
        raise KeyturnError("file_malformed", "this is no list of issuing keys, or of a version that is not known here")
    if not 1 <= len(listed) <= MAX_ADDED or not all(isinstance(item, dict) for item in listed):
        raise KeyturnError("file_malformed", f"a list of issuing keys has 1 to {MAX_ADDED} of them")
    by_role: dict[str, list[bytes]] = {}
    for item in listed:
        role = item.get("role")
        if role not in ROLES:
            raise KeyturnError("file_malformed", f"an issuing key's role is one of {', '.join(ROLES)}")
        by_role.setdefault(role, []).append(jws.public_from_jwk(item.get("jwk")))
    return [key for role, publics in by_role.items() for key in dated(chain, role, publics, now)]


def extend(home: ServiceHome, now: int) -> Extended:
    """See to it that two years are authorised, if one root alone decides and lies in ``root/``.

    1. Enough is authorised, and the next confirmation keys are not due: nothing is done.
    2. Several roots must sign, or the one is not here, or keys are not made in files: what is due is said.
    3. Keys for another year and confirmation keys, made; the next bundle, drafted, signed, verified and adopted.

    Raises: KeyturnError ``trust_invalid``, ``storage_failed``.
    """
    chain, newest = home.chain, home.chain.newest
    # 1.
    enough = min(authorised_until(chain).values()) - now >= ENOUGH
    phone = confirming.due(chain, now, confirming.LATEST if enough else confirming.EARLY) if confirming.available() else []
    if enough and not phone:
        return Extended(chain, 0, None)
    # 2.
    in_files = not home.settings.signing().elsewhere
    makes = enough or (in_files and (home.path / "root" / "issuing").is_dir())
    if sole_root(home.path, chain) is None or not makes:
        first, keys, why = "", f"--add-keys {YEAR}", "Fewer than two years are authorised"
        if enough:
            keys, why = "--confirmation-keys", "The next confirmation keys, for telephone activation, are due"
        elif not in_files:
            first, keys = f"`keyturn service issuing-key create --count {YEAR} -o keys.json`, ", "--issuing-keys keys.json"
        return Extended(
            chain, 0, f"{why}. A ceremony is due, {newest.threshold} of {len(newest.roots)} roots:"
            f" {first}`keyturn service root draft -o next.ktdraft {keys}`, then each of them"
            " `keyturn service root sign next.ktdraft --root DIR`, then `keyturn service root adopt next.ktdraft`.",
        )  # fmt: skip
    # 3.
    until = min(max(end, now - DAY + homes.PERIOD - homes.STEP) for end in authorised_until(chain).values())
    count = max(YEAR, -((until - now - ENOUGH) // homes.STEP))  # Rounded up.
    keys_made = [] if enough else make_keys(home.path, chain, count, now)
    answering = confirming.make(home.path, chain, now, phone)
    drafted = ceremony.draft(chain, now=now, add_keys=keys_made, add_phone=answering)
    draft = sign_alone(home.path, chain, drafted)
    return Extended(homes.adopt(home.path, ceremony.finished(draft)), len(keys_made), None, len(answering))


def sole_root(home: Path, chain: Chain) -> Signer | None:
    """The root in ``root/`` that can sign the next bundle alone, if there is one."""
    found = _sole(home, chain)
    return None if found is None else found.signer


def sign_alone(home: Path, chain: Chain, draft: Draft) -> Draft:
    """Sign a draft after ``chain`` with :func:`sole_root`, which remembers it; without one the draft stays as it is."""
    root = _sole(home, chain)
    if root is None:
        return draft
    rootkey.remember(root, chain.thumbprint, ceremony.check(draft).floor)
    return ceremony.sign(draft, root.signer.public, root.signer.sign)


def _sole(home: Path, chain: Chain) -> Root | None:
    if chain.newest.threshold != 1:
        return None
    found = (rootkey.opened(file) for file in sorted((home / "root").glob("*.key")))
    return next((root for root in found if root.signer.kid in chain.newest.roots), None)


def _names(home: Path) -> list[str]:
    return [file.name for folder in ("root/issuing", "keys") for file in (home / folder).glob("*.key")]
