"""A PKCS#11 token (a hardware security module, or SoftHSM): Ed25519 keys that are made there or put there, and never leave.

Keeps: finding, making, putting and using keys of one token, and opening its session again when it was lost. Foreign
exceptions become :class:`Unusable`. Leaves to others: which keys, and what is signed (``token_program``).

- One session, used by one thread: python-pkcs11 initialises a module without locking (``C_Initialize(NULL)``).
- A key is found by its public object; private and public are a pair by ``CKA_ID``, as other programs do it.
- PKCS#11 3.0, section 2.3: CKK_EC_EDWARDS, CKM_EDDSA. Pure Ed25519 (RFC 8032): no parameters.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

from keyturn.core import jws

LABEL = "keyturn"
_CURVE = bytes.fromhex("06032b6570")  # RFC 8410, section 3: the object identifier of Ed25519.
_LOCKED = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinLocked, pkcs11.PinExpired)


class Unusable(Exception):
    """The token cannot be used; the text says why. ``locked``: not with this PIN; ``away``: not at all, or else not this key."""

    def __init__(self, why: str, *, locked: bool = False, away: bool = True) -> None:
        super().__init__(why)
        self.locked, self.away = locked, away


class Token:
    """The token ``label`` of ``module`` (a shared library), opened with ``pin`` at the first call that needs it."""

    def __init__(self, module: str, label: str, pin: str, *, write: bool = False) -> None:
        self._module, self._label, self._pin, self._write = module, label, pin, write
        self._library: Any = None
        self._session: Any = None
        self._private: dict[str, Any] = {}

    def keys(self) -> dict[str, bytes]:
        """The Ed25519 keys that can sign: public keys by ``kid``. Raises: Unusable."""
        with _told():
            session = self._opened()
            private = {key.id: key for key in session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, **_EDWARDS})}
            found = {}
            for key in session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY, **_EDWARDS}):
                public = _point(key[Attribute.EC_POINT])
                if public is not None and key.id in private:
                    found[jws.thumbprint(public)] = public
                    self._private[jws.thumbprint(public)] = private[key.id]
            return found

    def sign(self, kid: str, message: bytes) -> bytes:
        """Sign with the key ``kid``. A session that was lost is opened again, once. Raises: Unusable."""
        try:
            return self._sign(kid, message)
        except pkcs11.PKCS11Error:
            with _told():
                self.close()
                return self._sign(kid, message)

    def create(self) -> bytes:
        """Make a key on the token; the result is its public key. Raises: Unusable."""
        with _told():
            session = self._opened()
            domain = session.create_domain_parameters(KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: _CURVE}, local=True)
            public, _ = domain.generate_keypair(
                mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN, store=True, label=LABEL, id=secrets.token_bytes(16)
            )
            point = _point(public[Attribute.EC_POINT])
        if point is None:
            raise Unusable("it made a key that is not of 32 bytes")
        return point

    def put(self, seed: bytes, public: bytes) -> None:
        """Put a key there that was made elsewhere (``seed``: RFC 8032), so that it never leaves again. Raises: Unusable."""
        both = {
            Attribute.TOKEN: True, Attribute.EC_PARAMS: _CURVE, Attribute.ID: secrets.token_bytes(16),
            Attribute.LABEL: LABEL, **_EDWARDS,
        }  # fmt: skip
        private = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.VALUE: seed, Attribute.SIGN: True}
        closed = {Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
        shown = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.EC_POINT: b"\x04\x20" + public, Attribute.VERIFY: True}
        with _told():
            session = self._opened()
            session.create_object({**both, **private, **closed})
            session.create_object({**both, **shown})

    def close(self) -> None:
        """Forget the session and finalise the module: only so does it look again for a token that was away."""
        self._session, self._private = None, {}
        if self._library is not None and self._library.initialized:
            with contextlib.suppress(pkcs11.PKCS11Error):  # It is initialised anew in any case.
                self._library.finalize()

    def _sign(self, kid: str, message: bytes) -> bytes:
        if kid not in self._private:
            self.keys()
        key = self._private.get(kid)
        if key is None:
            raise Unusable(f"the token {self._label!r} does not hold the issuing key {kid}", away=False)
        signature: bytes = key.sign(message, mechanism=Mechanism.EDDSA)
        return signature

    def _opened(self) -> Any:
        if self._session is None:
            self._library = pkcs11.lib(self._module)
            found = [token for token in self._library.get_tokens() if token.label == self._label]
            if len(found) != 1:
                raise Unusable(f"there are {len(found) or 'no'} tokens of the label {self._label!r}")
            self._session = found[0].open(rw=self._write, user_pin=self._pin)
        return self._session


_EDWARDS = {Attribute.KEY_TYPE: KeyType.EC_EDWARDS}


def _point(value: bytes) -> bytes | None:
    """The 32 bytes of a public key: raw, or within a DER octet string as most modules give them."""
    return value[-32:] if len(value) == 32 or (len(value) == 34 and value[:2] == b"\x04\x20") else None


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Raises: Unusable for what the module says."""
    try:
        yield
    except _LOCKED as error:
        raise Unusable(f"the PIN is not accepted ({type(error).__name__})", locked=True) from error
    except pkcs11.PKCS11Error as error:
        raise Unusable(f"{type(error).__name__} {error}".strip()) from error
