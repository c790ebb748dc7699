"""Moving the issuing keys from one kind of signer to another, and making new ones on a token.

Keeps: which moves there are, and the order of their steps. Leaves to others: how each kind keeps a key (``edge.signer_files``,
``edge.token``), which keys are due (``home.rotate``), bundles that name new keys (``ceremony``).

- Files become files of the other form, or go into a token; nothing comes out of a token or program again.
- A key is where it goes, and was tried there, before the settings say so; it is removed here after that. A crash between any
  two steps loses no key, and the same command again finishes it.
- What was in a file once, was in a file: the root folder and backups of secrets have copies. Of a key that was made on the
  token there is none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.core.trust import Chain, IssuingKey
from keyturn.edge import files, signer_files, sodium
from keyturn.edge.secret import Secret
from keyturn.service import home as homes
from keyturn.service import signing
from keyturn.service.home import ServiceHome
from keyturn.service.signing import COMMAND, ENCRYPTED, FILE, TOKEN, Choice

if TYPE_CHECKING:
    from keyturn.edge.token import Token

LEAST = 12  # Characters of a new passphrase.
_TRIAL = b"keyturn: does this key sign?"  # No document: those are three parts with dots between them.


class Moved(NamedTuple):
    """What became of the keys: ``keys`` files changed their form or went elsewhere; the signer holds ``held`` now."""

    keys: int
    held: int


def store(home: ServiceHome, kind: str) -> Moved:
    """Let the signer ``kind`` keep the issuing keys from now on.

    1. What the files here hold, opened. From elsewhere nothing comes back.
    2. Where it goes: rewritten in the other form; put into the token, and tried; or the program must have it already.
    3. What is elsewhere is written down, then who signs, and only then are files removed.

    Raises: KeyturnError ``usage`` for a move that there is not, ``signer_locked``, ``signer_unavailable``, ``extra_missing``,
    ``storage_failed``.
    """
    before = home.settings.signing()
    choice = before._replace(kind=kind)
    places = signer_files.key_files(home.path / "keys")
    # 1.
    if before.elsewhere and not choice.elsewhere and not places:
        raise KeyturnError(
            "usage", f"keys do not come out of a signer of the kind {before.kind}",
            remedy=f"`keyturn service config set signer {kind}`, then bring the keys that the root folder has:"
            " `keyturn service issuing-key rotate`.",
        )  # fmt: skip
    seeds = {place: signer_files.seed_of(place, home.secrets.passphrase) for place in places}
    publics = {signer.kid: signer.public for signer in map(sodium.signer, seeds.values())}
    # 2.
    if kind == TOKEN:
        held = _put(choice, home.secrets.pin, seeds)
    elif kind == COMMAND:
        held = _asked(choice, home.secrets, set(publics))
    else:
        _rewrite(seeds, _new(home.secrets.passphrase, places) if kind == ENCRYPTED else None)
        held = publics
    # 3.
    if choice.elsewhere:
        held = {kid: public for kid, public in held.items() if kid in home.named()}
        signing.remember(home.path, held)
    homes.change_setting(home.path, "signer", kind)
    for place in places if choice.elsewhere else [home.path / signing.PUBLIC]:
        files.remove(place)
    return Moved(len(seeds), len(held))


def consequence(home: ServiceHome, kind: str) -> str | None:
    """What cannot be undone about :func:`store`, as a sentence; ``None`` if all of it can."""
    places = signer_files.key_files(home.path / "keys")
    if kind in (TOKEN, COMMAND) and places:
        where = f"the token {home.settings.pkcs11_token!r}" if kind == TOKEN else "the program"
        return f"{len(places)} issuing key files will be removed from {home.path / 'keys'}; {where} gives no key back."
    if kind == FILE and any(signer_files.is_encrypted(signer_files.read(place)) for place in places):
        return f"{len(places)} issuing keys will lie in {home.path / 'keys'} without a passphrase."
    return None


def create(home: ServiceHome, role: str, count: int) -> list[dict[str, Any]]:
    """Make ``count`` keys on the token; the result is what a trust bundle's draft takes, which must name them first.

    Raises: KeyturnError ``usage`` for a signer of another kind, ``signer_locked``, ``signer_unavailable``.
    """
    choice = home.settings.signing()
    if choice.kind != TOKEN:
        raise KeyturnError("usage", f"keys are made on a token, and the signer is of the kind {choice.kind}")
    with _token(choice, home.secrets.pin) as token:
        return [{"jwk": jws.jwk(token.create()), "role": role} for _ in range(count)]


def bring(home: ServiceHome, now: int) -> list[IssuingKey]:
    """Bring the keys that are due from the root folder (``home.rotate``), and on to where this home's signer keeps them.

    Without the root folder a token or program is asked what it holds: keys that were made there need none. The result are the
    keys that were not here. Raises: as ``home.rotate`` and :func:`store`.
    """
    choice, chain = home.settings.signing(), home.chain
    if choice.kind == COMMAND or (choice.kind == TOKEN and not (home.path / "root" / "issuing").is_dir()):
        before = set(home.signers)
        home.open_signer()
        return _keys(chain, set(home.signers) - before)
    brought = homes.rotate(home.path, chain, now)
    if choice.kind != FILE:
        store(home, choice.kind)
    return brought


def _keys(chain: Chain, kids: set[str]) -> list[IssuingKey]:
    return [chain.key(kid) for kid in sorted(kids)]


def _rewrite(seeds: Mapping[Path, bytes], passphrase: str | None) -> None:
    for place, seed in seeds.items():
        data = signer_files.plain(seed) if passphrase is None else signer_files.encrypted(seed, passphrase)
        files.write(place, data, files.PRIVATE)


def _new(passphrase: Secret, places: list[Path]) -> str:
    """The passphrase of the files that are encrypted already, else a new one."""
    if any(signer_files.is_encrypted(signer_files.read(place)) for place in places):
        return passphrase()
    return passphrase.chosen(LEAST)


def _put(choice: Choice, pin: Secret, seeds: Mapping[Path, bytes]) -> dict[str, bytes]:
    """Put keys into the token, if it does not hold them, and let each sign once; the result is all that it holds."""
    with _token(choice, pin) as token:
        there = token.keys()
        for place, seed in seeds.items():
            signer = sodium.signer(seed)
            if signer.kid not in there:
                token.put(seed, signer.public)
            if not sodium.holds(signer.public, token.sign(signer.kid, _TRIAL), _TRIAL):
                raise KeyturnError("signer_unavailable", f"the token does not sign rightly with the key of {place.name}")
        return token.keys()


def _asked(choice: Choice, secrets: signing.Secrets, wanted: set[str]) -> dict[str, bytes]:
    with contextlib.closing(signing.programs(choice, {}, secrets)) as holder:
        held = holder.keys()
    if missing := wanted - set(held):
        raise KeyturnError(
            "signer_unavailable", f"the program does not hold {len(missing)} of {len(wanted)} keys that are here",
            remedy="Give it these keys, or authorise keys that it holds; nothing was changed.",
        )  # fmt: skip
    return held


@contextlib.contextmanager
def _token(choice: Choice, pin: Secret) -> Iterator[Token]:
    """The token, opened to be written. Raises: KeyturnError ``signer_locked``, ``signer_unavailable``, ``extra_missing``."""
    signing.demand_module(choice)
    from keyturn.edge.token import Token, Unusable

    with contextlib.closing(Token(choice.module, choice.token, pin(), write=True)) as token:
        try:
            yield token
        except Unusable as error:
            raise KeyturnError("signer_locked" if error.locked else "signer_unavailable", str(error)) from error
