"""The voice menu served: in a terminal, and to a telephony provider's webhook in XML.

Keeps: what the menu wants from the service, and the form of the webhook (docs/telephone.md). Leaves to others: the dialogue
(``core.phone.menu``), the answer (``telephone``), tickets (``calls``).

- The webhook has no memory: where a call is stands in the address that the provider asks next. Whoever changes it is where
  somebody else would be who pressed other keys.
- Of what a provider sends only the keys are read: not who calls, and not from where.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.phone import menu
from keyturn.core.phone.menu import Call, Turn
from keyturn.core.phone.spelling import CONFIRMATION, HOST_CONFIRMATION
from keyturn.edge.web import PUBLIC, Route
from keyturn.edge.words import english
from keyturn.service import calls, telephone
from keyturn.service.activation import ActivationService
from keyturn.service.call_web import FORM, MAX_FORM, form

ACTOR = "voice-menu"
PATH = "/phone/voice"
_VOICES = {"en": "en-US", "de": "de-DE"}
_SECONDS = 12  # Between keys.
_MOST = 4096  # Characters of a place in a call.
_LENGTHS = ((0, 0), *((form.groups, form.words) for form in (CONFIRMATION, HOST_CONFIRMATION)))


def turn(service: ActivationService, call: Call | None, keys: str) -> Turn:
    """The next thing that is said, with whatever the menu wants from the service done on the way."""
    found = menu.begin() if call is None else menu.step(call, keys)
    before: tuple[str, ...] = ()
    while found.want:
        before += found.say
        found = _given(service, found)
    return found._replace(say=(*before, *found.say))


def _given(service: ActivationService, found: Turn) -> Turn:
    call, now, database = found.call, service.clock(), service.database
    if found.want == "resume":
        said = database.read(lambda db: calls.resume(db, call.ticket, now))
        typed = None if said is None else calls.typed(said)
        held = (
            None
            if typed is None or typed.unit != "group"
            else [part.text for part in typed.parts if part.state == "complete"]
        )
        return menu.told(call, groups=held)
    if found.want == "ticket":
        chance, said_now = service.ids.chance(8), " ".join(call.groups)
        number = database.write_now(lambda db: calls.keep(db, call.ticket, said_now, now, chance))
        return menu.told(call, ticket=number)
    try:
        outcome = telephone.answer(service, calls.given(" ".join(call.groups)), actor=ACTOR, alone=True)
    except KeyturnError as error:
        if error.exit == 6:
            raise
        return menu.told(call, refused=error.code)
    if isinstance(outcome, Refused):
        return menu.told(call, refused=outcome.code)
    if call.ticket:
        database.write_now(lambda db: calls.forget(db, call.ticket))
    return menu.told(call, code=outcome.code.text.split(), words=outcome.code.words(english()))


def route(service: ActivationService) -> Route:
    """The webhook: POST with the keys as ``Digits``; the answer is XML."""

    async def webhook(request: Request) -> Response:
        keys = form(await request.body()).get("Digits", "")
        state = request.query_params.get("state")
        found = await run_in_threadpool(turn, service, None if state is None else unpacked(state), keys)
        return Response(xml(found), media_type="text/xml", headers={"Cache-Control": "no-store"})

    return Route(PATH, "POST", webhook, PUBLIC, MAX_FORM, (FORM,))


def xml(found: Turn) -> str:
    """What a provider's telephone does next: say, gather keys, ask again with them; or say, and hang up."""
    language = _VOICES[found.call.language]
    said = "".join(
        f"<Say language={quoteattr(_VOICES['de'] if line.startswith('Für Deutsch') else language)}>{escape(line)}</Say>"
        for line in found.say
    )
    if not found.keys:
        return f'<?xml version="1.0" encoding="UTF-8"?><Response>{said}<Hangup/></Response>'
    address = quoteattr(f"{PATH}?state={packed(found.call)}")
    gather = f'<Gather input="dtmf" numDigits="{found.keys}" finishOnKey="" timeout="{_SECONDS}" method="POST" action={address}>'
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Response>{gather}{said}</Gather>'
        f'<Redirect method="POST">{escape(f"{PATH}?state={packed(found.call)}")}</Redirect></Response>'
    )


def packed(call: Call) -> str:
    """Where a call is, for an address. An answer that is being read out is in it: it is no secret."""
    return base64.urlsafe_b64encode(json.dumps(call, separators=(",", ":")).encode()).decode().rstrip("=")


def unpacked(text: str) -> Call:
    """Raises: KeyturnError ``request_unsupported`` for what is no place in a call."""
    try:
        value = json.loads(base64.urlsafe_b64decode(text[:_MOST] + "=" * (-len(text[:_MOST]) % 4)))
        said: list[Any] = [tuple(part) if isinstance(part, list) else part for part in value]
        call = Call(*said)
        whole = _is_whole(call)
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise KeyturnError("request_unsupported", "This is no place in a call.") from error
    if not whole:
        raise KeyturnError("request_unsupported", "This is no place in a call.")
    return call


def _is_whole(call: Call) -> bool:
    """Whether the menu could have been here. Raises: TypeError for values of other kinds."""
    lists: tuple[Any, ...] = (call.groups, call.digits, call.words)
    parts = call.digits if call.kind == "digits" else call.words
    numbers: tuple[Any, ...] = (call.mistakes, call.at)
    texts: tuple[Any, ...] = (call.stage, call.language, call.ticket, call.kind, *call.groups, *call.digits, *call.words)
    return (
        all(isinstance(found, tuple) for found in lists)
        and all(isinstance(text, str) and len(text) <= 20 for text in texts)
        and call.language in _VOICES and len(call.groups) <= 9 and (len(call.digits), len(call.words)) in _LENGTHS
        and all(type(number) is int for number in numbers) and 0 <= call.at < max(1, len(parts))
        and (call.stage not in ("kind", "read") or bool(call.digits and call.words))
    )  # fmt: skip
