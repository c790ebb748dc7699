"""The status page: one file, no script, nothing from anywhere else; it works on a telephone, in light and in dark."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from typing import Any

from keyturn.core.model import rfc3339

SHOWN = 20  # Rows of a table; the rest is in `keyturn host report`.
STYLE = """
:root { color-scheme: light dark; --fg: #1d2129; --bg: #fff; --soft: #59616e; --line: #d9dde4; --box: #f5f6f8; --mark: #0b5cad;
  --good: #1a7f37; --wait: #9a6700; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --fg: #e4e7ec; --bg: #14171c; --soft: #9aa4b2; --line: #313741; --box: #1d2128; --mark: #7db7f5;
    --good: #57c774; --wait: #e0b04a; --bad: #f28b82; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--fg);
  background: var(--bg); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .75rem; }
h3 { font-size: 1.1rem; margin: 0; }
p { margin: .4rem 0; }
article { margin: 1rem 0; padding: 1rem; border: 1px solid var(--line); border-radius: .6rem; }
.soft { color: var(--soft); font-size: .9rem; }
.good { color: var(--good); } .wait { color: var(--wait); } .bad { color: var(--bad); }
.big { font-size: 1.35rem; font-weight: 600; margin: .5rem 0 .2rem; }
meter { width: 100%; height: 1rem; }
time { white-space: nowrap; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: .6rem; margin: .9rem 0 0; }
dl div { background: var(--box); border-radius: .4rem; padding: .5rem .7rem; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-size: 1.15rem; font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; overflow-wrap: break-word; }
th { text-align: left; color: var(--soft); font-weight: 500; }
th, td { padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
@media (max-width: 38rem) {
  thead { display: none; } table, tbody, tr { display: block; }
  tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  td { display: grid; grid-template-columns: 7rem 1fr; gap: .75rem; border: 0; padding: .1rem 0; overflow-wrap: anywhere; }
  td::before { content: attr(data-of); color: var(--soft); }
}
code { font: .875rem/1.5 ui-monospace, monospace; background: var(--box); padding: .1em .3em; border-radius: .25rem; }
"""
POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_REASONS = {"copied_store": "copied image or restored snapshot", "other_hardware": "another computer's hardware"}


class Html(str):
    """Markup of ours, in which every text is escaped already."""

    __slots__ = ()


def page(
    place: str, now: int, products: Sequence[Mapping[str, Any]], ending: Sequence[Mapping[str, Any]],
    copies: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]],
) -> str:  # fmt: skip
    """The whole page of ``figures``."""
    names = {item["product"]: item["name"] for item in products}
    one = int(len(products) == 1)  # Of one product alone nobody needs to be told which.
    parts = [
        f"<h1>Activation host {_text(place)}</h1>",
        f"<p class=soft>As of {_moment(rfc3339(now))} · shown anew every minute · read only</p>",
        *(_product(item, now) for item in products),
        *([] if products else ["<p>No product is added here: <code>keyturn host init FILE</code></p>"]),
        "<h2>Leases that end within 30 days</h2>",
        _table(
            ("Product", "Computer", "Days left", "Lease ends", "Last seen")[one:],
            [
                (names[c["product"]], f"no. {c['number']}", c["days_left"], _day(c["lease_ends"]), _day(c["seen_at"]))[one:]
                for c in ending
            ],
            "None: every computer with a lease has more than 30 days.",
        ),
        "<h2>Copies that were found</h2>",
        _table(
            ("Product", "Original", "Copy", "Why", "Found", "Resolved")[one:],
            [
                (
                    names[f["product"]], f"no. {f['computer']}" if f["computer"] else "forgotten",
                    f"no. {f['copy']}" if f["copy"] else f["installation_guid"], _REASONS.get(f["reason"], f["reason"]),
                    _day(f["since"]), "yes" if f["resolved"] else "not yet: it takes its own identity when it asks next",
                )[one:]
                for f in copies
            ],
            "None: every installation that asked is the only one of its kind.",
        ),
        "<h2>Other hosts of the organization</h2>",
        _table(
            ("Host", "Product", "Told last", "Computers it saw"),
            [(o["host"], names.get(o["product"], o["product"]), _moment(o["told_at"]), o["computers"]) for o in others],
            "None has told what it saw. Name them: <code>keyturn host config set hosts NAME</code>",
        ),
    ]  # fmt: skip
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<meta http-equiv=refresh content=60><title>Activation host {_text(place)}</title><style>{STYLE}</style>"
        f"<body>{''.join(parts)}</body></html>"
    )


def _product(item: Mapping[str, Any], now: int) -> str:
    threshold, counted = item["threshold"], item["counted"]
    over = item["expires"] is not None and item["expires"] < rfc3339(now)
    if over:
        head = "<p class='big bad'>The host certificate has ended</p>"
    elif threshold is None:
        head = "<p class='big bad'>Not activated</p>"
    elif item["needed"]:
        more = "1 more computer is" if item["needed"] == 1 else f"{item['needed']} more computers are"
        head = f"<p class='big wait'>{counted} of {threshold}: {more} needed</p>"
    else:
        head = f"<p class='big good'>{counted} of {threshold}: enough</p>"
    most = max(threshold or 1, 1)
    meter = f"<meter min=0 max={most} value={min(counted, most)}>{counted} of {most}</meter>" if threshold else ""
    figures = [
        ("Licensed", item["licensed"]), ("Waiting", item["waiting"]), ("Lease ended", item["ended"]),
        ("Ending within 30 days", item["ending"]), ("Copies found", item["forks"]), ("In the ledger", item["computers"]),
    ]  # fmt: skip
    if item["elsewhere"]:
        figures.append(("Licensed by another host", item["elsewhere"]))
    if item["capacity"] is not None:
        figures.append(("Capacity", item["capacity"]))
    cells = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in figures)
    about = " · ".join(
        [
            f"<code>{_text(item['product'].partition('/')[2])}</code>",
            *([_text(item["organization"])] if item["organization"] else []),
            f"host certificate until {_day(item['expires'])}" if item["expires"] else "no host certificate",
        ]
    )
    if item["needed"] and item["licensed"] and not over:
        head += "<p>New computers wait for them. Whoever holds a lease is renewed all the same.</p>"
    warned = f"<p class=bad>{_text(item['warning'])}</p>" if item["warning"] else ""
    counts = (
        "<p class=soft>Distinct computers seen within 30 days, against the publisher's threshold.</p>"
        if threshold
        else ""
    )
    top = f"<h3>{_text(item['name'])}</h3><p class=soft>{about}</p>"
    return f"<article>{top}{head}{meter}{counts}{warned}<dl>{cells}</dl></article>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]], nothing: str) -> str:
    """A table of texts; ``nothing`` is markup of ours."""
    if not rows:
        return f"<p class=soft>{nothing}</p>"
    head = "".join(f"<th scope=col>{_text(name)}</th>" for name in heads)
    body = "".join(f"<tr>{_cells(heads, row)}</tr>" for row in rows[:SHOWN])
    more = f"<p class=soft>{len(rows) - SHOWN} more: <code>keyturn host report</code></p>" if len(rows) > SHOWN else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cells(heads: Sequence[str], row: Sequence[object]) -> str:
    return "".join(f"<td data-of='{_text(head)}'>{_text(cell)}</td>" for head, cell in zip(heads, row, strict=True))


def _day(moment: object) -> Html:
    return _time(str(moment)[:10])


def _moment(moment: object) -> Html:
    return _time(str(moment).replace("T", " ").replace("Z", " UTC"))


def _time(text: str) -> Html:
    return Html(f"<time>{html.escape(text)}</time>")


def _text(value: object) -> str:
    return value if isinstance(value, Html) else html.escape(str(value))
