"""The page of a reminder: what stands in the terminal, for people who came from the desktop.

- One file, complete in itself: no script, nothing fetched, readable without its style sheet.
- Headings, a list of terms and sentences, in the order in which they are read aloud; no meaning in a colour.
- Light and dark as the reader's system is, and narrow screens.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html import escape

from keyturn.client.reminding import Notice, moment
from keyturn.core.model import rfc3339
from keyturn.edge.language import text as _
from keyturn.edge.language import wanted

_STYLE = """\
:root {
  color-scheme: light dark;
  --ink: #1b1f24; --paper: #fff; --soft: #57606a; --line: #d0d7de; --box: #f3f5f7; --edge: #0b57d0;
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #14181d; --soft: #9aa7b4; --line: #39424d; --box: #1f262e; --edge: #8ab4f8 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1.05rem/1.55 system-ui, sans-serif }
main { max-width: 42rem; margin: 0 auto; padding: 1.5rem 1.1rem 3rem }
section { padding: 1.2rem 0; border-top: 1px solid var(--line) }
section:first-of-type { border-top: 0 }
h1, h2 { line-height: 1.25; margin: 0 0 .6rem; text-wrap: balance; overflow-wrap: anywhere }
h1 { font-size: 1rem; color: var(--soft); font-weight: 600 }
h2 { font-size: 1.6rem } h3 { font-size: 1.05rem; margin: 0 0 .4rem }
p { margin: 0 0 .7rem; overflow-wrap: anywhere }
.todo { background: var(--box); border-left: .3rem solid var(--edge); border-radius: .3rem; padding: .9rem 1rem; margin: 1rem 0 }
.todo p:last-child { margin: 0 }
code { font: .95em ui-monospace, monospace; overflow-wrap: anywhere }
dl { margin: 1rem 0 0; display: grid; grid-template-columns: auto 1fr; gap: .3rem 1rem }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
a { color: var(--edge) }
.date { white-space: nowrap }
@media (max-width: 30rem) { h2 { font-size: 1.35rem } dl { grid-template-columns: 1fr; gap: 0 } dd { margin: 0 0 .5rem } }
"""


def page(notices: list[Notice]) -> str:
    """The whole file; for no notice it says that nothing is to be done."""
    nothing = _("There is nothing to do.")
    sections = [_section(notice) for notice in notices] or [f"<section><h2>{escape(nothing)}</h2></section>"]
    first = notices[0].headline if notices else nothing
    return "\n".join([
        "<!DOCTYPE html>", f'<html lang="{wanted(os.environ)}">', "<head>", '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">""",
        f"<title>{escape(first)}</title>", f"<style>\n{_STYLE}</style>", "</head>", "<body>", "<main>",
        f"<h1>{escape(_('Product activation on this computer'))}</h1>", *sections, "</main>", "</body>", "</html>", "",
    ])  # fmt: skip


def _section(notice: Notice) -> str:
    lines = ["<section>", f"<h2>{escape(notice.headline)}</h2>"]
    lines += [f"<p>{_whole_dates(sentence)}</p>" for sentence in notice.sentences]
    lines += ['<div class="todo">', f"<h3>{escape(_('What to do'))}</h3>", f"<p>{_with_code(notice.remedy)}</p>", "</div>"]
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in _facts(notice))
    return "\n".join([*lines, f"<dl>{facts}</dl>" if facts else "", "</section>"])


def _facts(notice: Notice) -> Iterator[tuple[str, str]]:
    until = notice.due.until
    if until is not None:
        yield _("Date"), f'<time datetime="{rfc3339(until)}">{moment(until, notice.now)}</time>'
    if notice.terms_url:
        url = escape(notice.terms_url)
        # A product file is signed, and yet only an address of the web may be behind what a person is asked to click.
        web = notice.terms_url.startswith(("https://", "http://"))
        yield _("Terms"), f'<a href="{url}" rel="noreferrer">{url}</a>' if web else url
    if notice.entry["product_id"]:
        yield _("Product ID"), escape(notice.entry["product_id"])
    if notice.entry["issuer"]:
        yield _("Publisher"), escape(notice.entry["issuer"])


def _whole_dates(text: str) -> str:
    """The sentence, with its dates not broken at a dash."""
    return re.sub(r"\d{4}-\d\d-\d\d( \d\d:\d\d UTC)?", r'<span class="date">\g<0></span>', escape(text))


def _with_code(text: str) -> str:
    """Backquotes of our sentences as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
