"""The pages of telephone activation: the one for everybody, the desk's, and one that works without any network.

Keeps: their HTML. Leaves to others: addresses (``call_web``, ``desk_web``), what is said (``calls``, ``telephone``).

- They work without a script; the script (``static/phone.js``) checks each group while it is typed, and reads aloud.
- Nothing is from anywhere else, and a page may load and send nothing but what its policy names.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from keyturn.core.model import rfc3339
from keyturn.core.phone.spelling import VALIDATION, Typed
from keyturn.core.phone.validation import Finding
from keyturn.edge.words import english
from keyturn.service.telephone import Answer
from keyturn.service.validating import Verdict

_STATIC = resources.files("keyturn.service") / "static"
SCRIPT = (_STATIC / "phone.js").read_text("utf-8")
_DRAWING = (_STATIC / "qr.js").read_text("utf-8")
STYLE = """
:root { color-scheme: light dark; --fg: #1d2129; --bg: #fff; --soft: #59616e; --line: #8a93a0; --box: #f3f5f8; --mark: #0b5cad;
  --on: #fff; --good: #146c2e; --wait: #805600; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --fg: #e4e7ec; --bg: #14171c; --soft: #a3adba; --line: #6b7684; --box: #1d2128; --mark: #7db7f5; --on: #10141a;
    --good: #57c774; --wait: #e0b04a; --bad: #f5938a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 46rem; padding: 1.25rem 1rem 4rem; font: 1.0625rem/1.5 system-ui, sans-serif; color: var(--fg);
  background: var(--bg); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 1.75rem 0 .5rem; }
p { margin: .6rem 0; }
label { display: block; font-weight: 600; margin: 1rem 0 .35rem; }
textarea, input { width: 100%; font: 1.25rem/1.5 ui-monospace, monospace; padding: .6rem .7rem; color: inherit;
  background: var(--bg); border: 1px solid var(--line); border-radius: .5rem; }
textarea { min-height: 7rem; resize: vertical; }
button { font: inherit; font-weight: 600; padding: .65rem 1.25rem; margin: .5rem .5rem .5rem 0; border: 1px solid var(--mark);
  border-radius: .5rem; background: var(--mark); color: var(--on); cursor: pointer; }
button.quiet { background: none; color: var(--mark); }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
ol.parts, ol.code { list-style: none; counter-reset: n; padding: 0; margin: .75rem 0; display: grid; gap: .4rem;
  grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
ol.parts li, ol.code li { counter-increment: n; padding: .4rem .6rem; border-radius: .4rem; background: var(--box);
  font: 1.1rem/1.4 ui-monospace, monospace; border-left: .3rem solid var(--line); }
ol.parts li::before, ol.code li::before { content: counter(n) "  "; color: var(--soft); font-size: .85rem; white-space: pre; }
ol.parts .whole { border-color: var(--good); } ol.parts .wrong { border-color: var(--bad); } ol.parts b { color: var(--bad); }
ol.code li { font-size: 1.3rem; font-weight: 600; border-color: var(--mark); white-space: nowrap; }
ol.code.digits { grid-template-columns: repeat(auto-fill, minmax(8.75rem, 1fr)); }
ol.code.words { grid-template-columns: repeat(auto-fill, minmax(9.75rem, 1fr)); }
.good { color: var(--good); } .wait { color: var(--wait); } .bad { color: var(--bad); } .soft { color: var(--soft); }
.say { font-size: 1.2rem; font-weight: 600; border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem;
  min-height: 3.2rem; }
#qr svg { display: block; width: 100%; max-width: 20rem; }
a { color: var(--mark); }
.state { min-height: 1.6rem; font-weight: 600; }
code { font: .95em ui-monospace, monospace; }
"""


_VERDICTS = {
    Finding.GENUINE: ("good", "This copy is genuine"),
    Finding.WITHDRAWN: ("bad", "Not genuine: its right was withdrawn"),
    Finding.UNKNOWN: ("bad", "Not genuine: this computer holds no seat of its key"),
}
_STYLE_HASH = f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"


def policy(*, connect: bool = False) -> str:
    """What a page may load and send. ``connect``: its script asks this server while somebody types."""
    asks = "; connect-src 'self'" if connect else ""
    return (
        f"default-src 'none'; style-src {_STYLE_HASH}; script-src 'self'; form-action 'self'; frame-ancestors 'none';"
        f" base-uri 'none'{asks}"
    )


def asking(publisher: str, said: str = "", wrong: str = "", found: Typed | None = None) -> str:
    """The page on which somebody types an installation ID; ``wrong`` is what was wrong with ``said``."""
    return _page(f"Activate by telephone: {publisher}", [
        "<h1>Activate by telephone</h1>",
        "<p>Type the installation ID that the other computer shows, in digits or in words: <code>keyturn installation-id</code>."
        " It gets a confirmation ID for that computer and for no other. Nothing about you is asked for or kept.</p>",
        "<form class=typed method=post action=/phone>",
        *_field(said, wrong, found),
        "<button>Get the confirmation ID</button></form>",
        f"<p><a href='/phone/validate'>Is a copy genuine?</a></p><p class=soft>{_text(publisher)}</p>",
    ])  # fmt: skip


def answered(found: Answer, back: str = "/phone") -> str:
    """The page that shows an answer, large."""
    return _page("Confirmation ID", [
        "<h1>Confirmation ID</h1>",
        f"<p><strong>{_text(found.title)}</strong>, {_text(found.product_id)}: {_cost(found)}</p>",
        f"<p>Type it on the other computer, in words or in digits: <code>{found.verb}</code>."
        " Four letters of each word are enough.</p>",
        *_code(words := found.code.words(english()), "words", f"In {len(words)} words"),
        *_code(groups := found.code.text.split(), "digits", f"Or in {len(groups)} groups of digits"),
        f"<p><a href='{back}'>Another computer</a></p>",
    ])  # fmt: skip


def validating(publisher: str, said: str = "", wrong: str = "", found: Typed | None = None, back: str = "/phone") -> str:
    """The page on which somebody types a validation ID: at ``back``/validate. ``wrong`` is what was wrong with ``said``."""
    numbers = f"data-bits={VALIDATION.bits} data-groups={VALIDATION.groups} data-words={VALIDATION.words}"
    return _page(f"Is a copy genuine? {publisher}", [
        "<h1>Is a copy genuine?</h1>",
        "<p>Type the validation ID that the computer shows, in digits or in words: <code>keyturn validate --via telephone</code>."
        " It gets a short verdict code. Nothing about you is asked for or kept.</p>",
        f"<form class=typed method=post action={back.rstrip('/')}/validate {numbers}>",
        *_field(said, wrong, found, "Validation ID"),
        "<button>Get the verdict</button></form>",
        f"<p><a href='{back}'>Activate by telephone</a></p><p class=soft>{_text(publisher)}</p>",
    ])  # fmt: skip


def judged(verdict: Verdict, back: str = "/phone") -> str:
    """The page that says whether a copy is genuine, and the code that tells its computer so."""
    mood, said = _VERDICTS[verdict.finding]
    return _page("Verdict", [
        f"<h1>{said}</h1>",
        f"<p class='say {mood}'>{_text(verdict.title)}, {_text(verdict.product_id)}</p>",
        "<p>Type this verdict code on the computer, in words or in digits: <code>keyturn validate CODE</code>.</p>",
        *_code(verdict.words, "words", f"In {len(verdict.words)} words"),
        *_code(verdict.text.split(), "digits", f"Or in {len(verdict.text.split())} groups of digits"),
        f"<p><a href='{back.rstrip('/')}/validate'>Another copy</a></p>",
    ])  # fmt: skip


def refused(title: str, why: str, remedy: str, back: str = "/phone") -> str:
    """The page that says no."""
    return _page(title, [
        f"<h1>{_text(title)}</h1>", f"<p class='say bad'>{_sentence(why)}</p>", f"<p>{_text(remedy)}</p>",
        f"<p><a href='{back}'>Try again</a></p>",
    ])  # fmt: skip


def desk(
    publisher: str, said: str, ticket: str, mood: str, say: str, found: Typed | None, note: str = "", ask: bool = False,
) -> str:  # fmt: skip
    """The staff's page while somebody is on the line. ``ask``: a person decides whether it is answered all the same."""
    return _page(f"The desk: {publisher}", [
        "<h1>The desk</h1>",
        "<form class=typed method=post action=/ data-look=/look>",
        *([f"<p class='say bad' role=alert>{_text(note)}</p>"] if note else []),
        f"<p id=say class='say {mood}' role=status>{_text(say)}</p>",
        *_field(said, "", found),
        f"<p>Ticket, if the call ends here: <strong id=ticket>{_text(ticket or 'none yet')}</strong></p>",
        f"<input type=hidden name=ticket value='{_text(ticket)}'>",
        "<button name=do value=answer>Answer</button>",
        *(["<button class=quiet name=do value=sure>Answer it all the same</button>"] if ask else []),
        "<button class=quiet name=do value=look>Check</button></form>",
        "<h2>Go on with a call</h2>",
        "<form method=post action=/resume><label for=old>Ticket</label>",
        "<input id=old name=ticket inputmode=numeric autocomplete=off maxlength=20><button class=quiet>Go on</button></form>",
        "<p><a href='/'>New call</a> · <a href='/validate'>Is a copy genuine?</a></p>",
    ])  # fmt: skip


def offline(publisher: str, page: str) -> str:
    """One file that checks an installation ID without any network, and draws its QR code; ``page`` is where it is answered."""
    both = f"{SCRIPT}\n{_DRAWING}"
    digest = base64.b64encode(hashlib.sha256(both.encode()).digest()).decode()
    body = [
        "<h1>Check an installation ID</h1>",
        "<p>Type it here as it is read out. Each group is checked at once; nothing is sent, and this page needs no network.</p>",
        "<form class=typed>", *_field("", "", None), "</form>",
        f"<div id=qr data-page='{_text(page)}'></div>",
        f"<p>It is answered at <code>{_text(page)}</code>, which its QR code opens, or by the staff of {_text(publisher)}.</p>",
    ]  # fmt: skip
    allowed = f"default-src 'none'; style-src {_STYLE_HASH}; script-src 'sha256-{digest}'; form-action 'none'; base-uri 'none'"
    head = f'<meta http-equiv="Content-Security-Policy" content="{allowed}">'
    return _page(f"Check an installation ID: {publisher}", body, script=f"<script>{both}</script>", head=head)


def as_json(ticket: str, mood: str, say: str) -> Mapping[str, Any]:
    """What the desk's script is told."""
    return {"ticket": ticket, "mood": f"say {mood}", "say": say}


def _field(said: str, wrong: str, found: Typed | None, label: str = "Installation ID") -> list[str]:
    states = {"complete": "whole", "partial": "partial", "wrong": "wrong"}
    items = [] if found is None else [
        f"<li class={states[part.state]}>{_text(part.text)}{'<b> not right</b>' if part.state == 'wrong' else ''}</li>"
        for part in found.parts
    ]  # fmt: skip
    return [
        f"<label for=id>{label}</label>",
        "<textarea id=id name=id rows=4 maxlength=1024 autocomplete=off autocapitalize=none autocorrect=off spellcheck=false"
        f" required aria-describedby=state>{_text(said)}</textarea>",
        f"<p class='state{' bad' if wrong else ''}' id=state aria-live=polite>{_sentence(wrong) if wrong else ''}</p>",
        f"<ol class=parts aria-label='What was typed'>{''.join(items)}</ol>",
    ]


def _code(parts: Sequence[str], kind: str, title: str) -> list[str]:
    items = "".join(f"<li>{_text(part)}</li>" for part in parts)
    return [
        f"<h2 id={kind}-title>{title}</h2>",
        f"<button type=button class=quiet hidden data-of='ol.{kind}'>Read the {kind} aloud</button>",
        f"<ol class='code {kind}' aria-labelledby={kind}-title>{items}</ol>",
    ]


def _cost(found: Answer) -> str:
    cost = "one seat was taken" if found.how == "new" else "this computer is known, it cost nothing"
    ends = "" if found.until is None else f" The right ends on {str(rfc3339(found.until))[:10]}."
    return f"{cost}.{ends}"


def _page(
    title: str, body: Sequence[str], *, script: str = "<script src=/phone.js defer></script>", head: str = ""
) -> str:
    words = f"<template id=words>{' '.join(english().words)}</template>"
    if script.startswith("<script src"):
        early, late = script, ""
    else:
        early, late = "", script
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8>{head}"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{_text(title)}</title><style>{STYLE}</style>{early}</head><body><main>{''.join(body)}</main>{words}{late}</body></html>"
    )


def _sentence(text: str) -> str:
    return f"{_text(text[:1].upper())}{_text(text[1:])}{'' if text.endswith('.') else '.'}"


def _text(text: object) -> str:
    return html.escape(str(text))
