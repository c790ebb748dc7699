"""What ``validate --via telephone`` prints: the validation ID, and what its verdict code said."""

from __future__ import annotations

from keyturn.client import validating
from keyturn.client.loading import status_of
from keyturn.client.machine import Machine
from keyturn.client.telling import Teller
from keyturn.client.views import row, status_text
from keyturn.core.errors import EXIT_REFUSED
from keyturn.core.phone import spelling
from keyturn.core.phone.spelling import VERDICT
from keyturn.core.phone.validation import Finding
from keyturn.edge import spoken
from keyturn.edge.terminal import Call
from keyturn.edge.vault import Shelf
from keyturn.edge.words import english


def show_id(call: Call, shelf: Shelf, machine: Machine, *, words: bool) -> int:
    """Print the validation ID, and what to do with it."""
    made, loaded = validating.ask(shelf, machine)
    page = f"{loaded.opened.product.service_url}/phone/validate"
    spelled = made.words(english()) if words else made.text.split()
    lines = [
        f"{loaded.opened.product.title}: validation ID", "", *spelling.numbered(spelled, 4), "",
        f"Say it to the publisher, or type it at {page} on another device; then type the answer: keyturn validate CODE",
    ]  # fmt: skip
    found = {"validation_id": made.text, "page": page}
    call.emit({**found, "words": list(spelled)} if words else found, "\n".join(lines))
    call.next("keyturn validate CODE")
    return 0


def hear_code(call: Call, shelf: Shelf, machine: Machine, code: tuple[str, ...]) -> int:
    """Judge the verdict code; ``-`` reads it from stdin. The result is the exit status: 1 for a copy that is not genuine."""
    with Teller(shelf.vault, machine).faults():
        finding, loaded = validating.hear(shelf, machine, spoken.given(call, code, VERDICT))
    genuine, entry = finding is Finding.GENUINE, status_of(loaded)
    call.emit(
        {"genuine": genuine, "finding": finding.name.lower(), "via": "telephone", "products": [entry]},
        f"{status_text([entry])}\n{row('Validated', validating.SAID[finding])}",
    )
    return 0 if genuine else EXIT_REFUSED
