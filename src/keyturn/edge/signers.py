"""What holds issuing keys and signs with them: files here, or programs beside this one (a token, a cloud's key service).

Keeps: the one act, which takes a typed document and never bytes that a caller chose, and what every holder counts.
Leaves to others: who may ask for which document (``service.signing``), the kinds of holder (``signer_files``,
``signer_program``).

- A holder builds the bytes to sign itself, from kind, key name and content (:func:`demand`).
- Kinds that no issuing key ever signs are refused here, in front of every key.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from keyturn.core import jws, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind

Watcher = Callable[[float | None], None]  # Is told the seconds that a signature took, or None: it was not made.


class Document(Protocol):
    """What is to be signed: what it is, by which key, and the content as it will travel."""

    @property
    def kind(self) -> Kind: ...
    @property
    def kid(self) -> str: ...
    @property
    def payload(self) -> bytes: ...


class Signed(NamedTuple):
    """The bytes that were signed, and the signature."""

    signing_input: bytes
    signature: bytes

    @property
    def token(self) -> str:
        return jws.assemble(self.signing_input, self.signature)


def demand(document: Document, held: Mapping[str, bytes]) -> bytes:
    """The bytes to sign for ``document``.

    1. It is of a kind that issuing keys sign: no request, no record, no trust bundle.
    2. It names a key that is held here.

    Raises: KeyturnError ``internal`` (1: a fault of ours, and not to be answered with a signature), ``signer_unavailable`` (2).
    """
    # 1.
    if document.kind not in trust.ISSUED:
        raise KeyturnError("internal", f"an issuing key signs no {document.kind.value}")
    # 2.
    if document.kid not in held:
        raise KeyturnError("signer_unavailable", f"the signer does not hold the issuing key {document.kid}")
    return jws.signing_input(document.kind, document.kid, document.payload)


class Holder(abc.ABC):
    """One kind of signer, with all the keys it holds. Its methods may be called from any thread.

    ``waits``: a signature may take long, so that an event loop hands it over (:meth:`submit`) and goes on.
    ``sealed``: it needs a PIN or passphrase before it signs. ``away``: why it cannot sign now.
    ``watchers`` are told of every signature and every failure, from whatever thread it was.
    """

    waits = False
    sealed = False
    away: str | None = None

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []

    @abc.abstractmethod
    def keys(self) -> dict[str, bytes]:
        """Ask the holder itself which keys it can sign with now: public keys by ``kid``.

        Raises: KeyturnError ``signer_unavailable``, ``signer_locked``.
        """

    @abc.abstractmethod
    def sign(self, document: Document) -> Signed:
        """Sign ``document``, and wait for it. Raises: KeyturnError ``signer_unavailable``, ``signer_locked``, ``internal``."""

    @abc.abstractmethod
    def submit(self, document: Document) -> Future[Signed]:
        """Begin to sign ``document``; the future fails with what :meth:`sign` raises."""

    @property
    def pause(self) -> float:
        """Seconds until another try makes sense."""
        return 0.0

    @abc.abstractmethod
    def close(self) -> None:
        """Let the holder go. Calling it twice does nothing."""

    def told(self, seconds: float | None) -> None:
        for watcher in self.watchers:
            watcher(seconds)
