"""The console's pages for a telephone: what is to be read out, each with a QR code, and a field for what answers it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from keyturn.core.errors import KeyturnError
from keyturn.core.phone import spelling
from keyturn.core.phone.spelling import CONFIRMATION, Typed
from keyturn.edge import qr
from keyturn.edge.words import english
from keyturn.fleet import telephoning
from keyturn.fleet.console_figures import PAGE
from keyturn.fleet.pages import Visit, go, show
from keyturn.fleet.telephoning import Waiting


def waiting(visit: Visit) -> Response:
    """What waits, a hundred at a time; of one computer all there is to say. Raises: KeyturnError ``not_found``."""
    return _page(visit, visit.asked("computer"))


def confirm(visit: Visit) -> Response:
    """Take a confirmation ID for the computer of the form, or for whose it is; what is wrong with it is said beside its field."""
    computer, text = visit.given("computer"), visit.given("code")
    try:
        taken = telephoning.enter(visit.fleet, text, visit.who, computer or None, visit.given("product") or None)
    except KeyturnError as error:
        return _page(visit, computer, error, text)
    return go("/telephone?" + urlencode({"taken": taken.computer}))


def entries(visit: Visit, computer: str) -> list[dict[str, Any]]:
    """What of a computer waits, with its words and QR code if the extra ``phone`` is here."""
    return [_entry(one) for one in telephoning.waiting(visit.fleet, computer)]


def _page(visit: Visit, computer: str, error: KeyturnError | None = None, text: str = "") -> Response:
    told: dict[str, Any] = {"error": error, "text": text, "typed": _typed(text, error)}
    if computer:
        name, found = telephoning.name_of(visit.fleet, computer), entries(visit, computer)
        return show(visit, "telephone.html", one=name, one_id=computer, calls=found, **told)
    found, number = [one.as_json() for one in telephoning.waiting(visit.fleet)], max(1, visit.number("page", 1))
    taken = next((one for one in found if one["computer"] == visit.asked("taken")), None)
    return show(
        visit, "telephone.html", one=None, total=len(found), calls=found[(number - 1) * PAGE : number * PAGE], page=number,
        pages=max(1, -(-len(found) // PAGE)), taken=taken, findable=len(found) == 1 or telephoning.able(), **told,
    )  # fmt: skip


def _entry(one: Waiting) -> dict[str, Any]:
    found: dict[str, Any] = {**one.as_json(), "title": one.title, "words": (), "picture": None}
    try:
        return {**found, "words": one.id.words(english()), "picture": qr.picture(one.address)}
    except KeyturnError:
        return found  # Without the extra there are the digits, as everywhere.


def _typed(text: str, error: KeyturnError | None) -> Typed | None:
    """What was read of a code that was not whole or held a slip, group by group."""
    if error is None or error.code not in ("code_malformed", "code_mistyped") or len(text) > spelling.MAX_INPUT:
        return None
    return spelling.typed(text, CONFIRMATION, english() if spelling.in_words(text) else None)
