"""What the agent answers a program on this computer: a capability, or a proof that the installation's key is held.

Keeps: who may ask, and the making of both documents. Leaves to others: the socket (``edge.agent_listen``), what an answer
says and how it is verified (``core.capability``, docs/protocol-agent.md).

- An answer rests on the store as it is now: what was verified before is taken again only while its bytes are the same.
- Answering sends nothing. What was seen is noted as by any look (``record.remember``): a grace must have a first day.
"""

from __future__ import annotations

import os
import sys

from keyturn.client.loading import Loaded, again, load
from keyturn.client.machine import Machine
from keyturn.client.record import remember
from keyturn.client.telling import Teller
from keyturn.core import jws
from keyturn.core.capability import LIFETIME, Capability, Possession, Question
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.edge import keystore
from keyturn.edge.keystore import Signer
from keyturn.edge.vault import Shelf, Vault

if sys.platform != "linux":  # Signals, descriptors and credentials as Linux has them.
    raise ImportError("the agent is there on Linux only")


class Answers:
    """Answers about one store."""

    def __init__(self, vault: Vault, machine: Machine) -> None:
        self._vault = vault
        self._machine = machine
        self._teller = Teller(vault, machine, "agent")
        self._strangers: set[int] = set()
        self._seen: dict[str, tuple[tuple[bytes | None, ...], Loaded]] = {}

    def renew(self, machine: Machine) -> None:
        """Read the hardware anew with the next question: ``machine`` reads it once."""
        self._machine = machine
        self._seen.clear()

    def allowed(self, uid: int) -> bool:
        """Whether this account may ask: of the system's store everybody, of a user's store that user and root."""
        if self._vault.scope == "system" or uid in (0, os.geteuid()):
            return True
        if uid not in self._strangers:  # Each once: a stranger must not fill the log.
            self._strangers.add(uid)
            self._teller.tell("stranger_refused", code="permission_denied", uid=uid)
        return False

    def answer(self, line: bytes, uid: int) -> bytes:
        """The line that answers ``line`` of account ``uid``; an error is an answer too."""
        try:
            return _line(self._answer(Question.read(line), uid))
        except KeyturnError as error:
            return refusal(error)

    def _answer(self, question: Question, uid: int) -> dict[str, object]:
        """Make the answer to a question that was read.

        1. The product is in this store, and verifies; it is the very one that is asked for.
        2. The installation's key is held.
        3. A proof of possession is the key's signature over the question. A capability says in addition where the copy
           stands now, and everything that proves it goes beside: certificate, bundles, product file.

        Raises: KeyturnError ``product_missing``, ``permission_denied``, or why the product does not verify.
        """
        # 1.
        loaded = self._loaded(question)
        # 2.
        signer = keystore.load(loaded.shelf.installation_key)
        if signer is None or signer.public != loaded.public:
            raise KeyturnError("permission_denied", "the agent does not hold the key of this installation")
        # 3.
        if question.ask == "prove":
            proof = Possession(loaded.name, question.nonce, uid, loaded.now, loaded.now + LIFETIME)
            return {"v": 1, "possession": _signed(Kind.POSSESSION, proof.claims(), signer)}
        claims = capability(loaded, question, uid).claims()
        certified = loaded.held is not None and loaded.certificate is not None
        proven = loaded.held.proof if loaded.held is not None else None
        return {
            "v": 1,
            "capability": _signed(Kind.CAPABILITY, claims, signer),
            "certificate": loaded.held.certificate if loaded.held is not None and certified else None,
            "proof": None if proven is None else proven.as_json(),
            "product": loaded.opened.document,
            "bundles": list(loaded.opened.chain.texts),
        }

    def _loaded(self, question: Question) -> Loaded:
        shelf: Shelf = self._vault.shelf(question.product)
        stamp = shelf.stamp()
        seen = self._seen.get(shelf.name)
        if seen is not None and seen[0] == stamp:
            loaded = again(seen[1], self._machine)
        else:
            loaded = load(shelf, self._machine, pin=question.product)
        loaded = remember(shelf, loaded, self._machine)
        if shelf.stamp() == stamp:  # Nothing was written meanwhile.
            self._seen[shelf.name] = stamp, loaded
        return loaded


def capability(loaded: Loaded, question: Question, uid: int) -> Capability:
    """Where a copy stands, as an answer to ``question``."""
    certificate, standing = loaded.certificate, loaded.standing
    until = standing.valid_until
    return Capability(
        product=loaded.name, nonce=question.nonce, feature=question.feature, uid=uid, installation=loaded.guid or "",
        activation=certificate.activation if certificate else None,
        certificate=jws.digest(loaded.held.certificate) if certificate and loaded.held else None,
        state=standing.state.word, usable=standing.usable, reason=standing.reason,
        edition=certificate.edition if certificate else None, features=certificate.features if certificate else (),
        valid_until=until, grace_until=standing.grace_until, issued_at=loaded.now,
        expires_at=loaded.now + LIFETIME if until is None else min(loaded.now + LIFETIME, max(until, loaded.now + 1)),
    )  # fmt: skip


def refusal(error: KeyturnError) -> bytes:
    """The line that says no, and why."""
    return _line({"v": 1, "error": error.as_json()})


def _line(value: dict[str, object]) -> bytes:
    return jws.dumps(value) + b"\n"


def _signed(kind: Kind, claims: dict[str, object], signer: Signer) -> str:
    return jws.sign(kind, claims, signer.public, signer.sign, own=True)
