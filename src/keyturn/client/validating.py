"""Validation by telephone: a validation ID is made, the verdict code that answers it is judged.

Keeps: the procedures. Leaves to others: codes (``core.phone.validation``), the verb
(``activating``), validation online (``lines``).

- Nothing is sent, and no right changes: a verdict code is a word between people. What withdraws a right is the publisher's
  signed list, which comes online.
"""

from __future__ import annotations

from keyturn.client.actions import demand_writable
from keyturn.client.loading import Loaded, load
from keyturn.client.machine import Machine
from keyturn.client.policies import policy_of
from keyturn.client.telling import Teller
from keyturn.core import documents
from keyturn.core.errors import KeyturnError
from keyturn.core.model import Channel
from keyturn.core.phone import installation, spelling, validation
from keyturn.core.phone.validation import Finding, ValidationID
from keyturn.edge.vault import Shelf
from keyturn.edge.words import english


def ask(shelf: Shelf, machine: Machine) -> tuple[ValidationID, Loaded]:
    """The validation ID of this copy, made and kept until it is answered; another one each time.

    1. The policy allows it, and there is an activation that a publisher's service knows.
    2. The seat it was activated with. 3. The question, durable before anybody sees it.

    Raises: KeyturnError ``policy_forbids``, ``document_foreign``, ``not_by_telephone``, ``permission_denied``.
    """
    # 1.
    policy_of(shelf.vault.home, machine).demand("telephone")
    demand_writable(shelf)
    secret = shelf.key_secret()
    with shelf.locked():
        loaded = load(shelf, machine)
        certificate, key = loaded.certificate, loaded.key
        if certificate is None or key is None:
            raise KeyturnError(
                "document_foreign", "this copy is not activated, so there is nothing to validate",
                remedy="Activate it: `keyturn activate`.",
            )  # fmt: skip
        if key.channel not in (Channel.RETAIL.value, Channel.MAK.value):
            raise KeyturnError(
                "not_by_telephone", "the publisher's service knows nothing of a lease",
                remedy="Nothing is to be done: a lease is renewed by its activation host, or ends by itself.",
            )  # fmt: skip
        # 2.
        kept, held = shelf.confirmed(), shelf.held()
        if kept is not None:
            confirmed = installation.read(kept.installation_id)
            weak, seat = confirmed.weak, confirmed.seat
        else:
            assert held is not None
            request, _ = documents.read_request(held.request)
            weak, seat = installation.seat_prefix(request.pairs, certificate.holder)
        # 3.
        nonce = int.from_bytes(machine.chance(2), "big")
        made = validation.ask(loaded.name, Channel(key.channel), key.serial, secret, weak, seat, nonce)
        shelf.keep_asking(made.text)
    return made, loaded


def hear(shelf: Shelf, machine: Machine, text: str) -> tuple[Finding, Loaded]:
    """Judge the verdict code that answers the waiting validation ID, and note it in the event log.

    1. A validation ID waits. 2. The code answers it. 3. It is answered, and told.

    Raises: KeyturnError ``document_foreign``, ``code_malformed``, ``code_mistyped``, ``code_foreign``, ``permission_denied``.
    """
    demand_writable(shelf)
    secret = shelf.key_secret()
    with shelf.locked():
        # 1.
        loaded, waiting = load(shelf, machine), shelf.asking()
        if waiting is None:
            raise KeyturnError(
                "document_foreign", "no validation ID waits for an answer here",
                remedy="Show one, and let it be answered: `keyturn validate --via telephone`.",
            )  # fmt: skip
        # 2.
        book = english() if spelling.in_words(text) else None
        finding = validation.judged(text, validation.read(waiting), secret, loaded.name, book)
        # 3.
        shelf.remove_asking()
    name = "validated" if finding is Finding.GENUINE else "not_genuine"
    Teller(shelf.vault, machine).tell(name, product=loaded.name, message=SAID[finding], finding=finding.name.lower())
    return finding, loaded


SAID = {
    Finding.GENUINE: "Genuine, says the publisher by telephone.",
    Finding.WITHDRAWN: "Not genuine, says the publisher by telephone: the right of this copy was withdrawn.",
    Finding.UNKNOWN: "Not genuine, says the publisher by telephone: this computer holds no seat of its key.",
}
