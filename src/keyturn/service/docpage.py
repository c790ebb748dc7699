"""The description of the HTTP interface as a page for people: one file, no script, nothing from anywhere else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

STYLE = """
:root { color-scheme: light dark; --fg: #1d2129; --bg: #fff; --soft: #59616e; --line: #d9dde4; --box: #f5f6f8; --mark: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --fg: #e4e7ec; --bg: #14171c; --soft: #9aa4b2; --line: #313741; --box: #1d2128; --mark: #7db7f5; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; font: 1rem/1.55 system-ui, sans-serif; color: var(--fg);
  background: var(--bg); overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0; font-family: ui-monospace, monospace; font-weight: 600; }
h3 b { color: var(--mark); display: inline-block; min-width: 3.6rem; }
a { color: var(--mark); }
code, pre { font: .875rem/1.5 ui-monospace, monospace; }
code { background: var(--box); padding: .1em .3em; border-radius: .25rem; }
pre { background: var(--box); padding: .75rem; border-radius: .4rem; overflow-x: auto; white-space: pre-wrap; }
article { margin: 1rem 0; padding: .9rem 1rem; border: 1px solid var(--line); border-radius: .5rem; }
article p { margin: .35rem 0; }
.soft { color: var(--soft); font-size: .9rem; }
nav ul { list-style: none; padding: 0; columns: 20rem; margin: .5rem 0; }
nav li { break-inside: avoid; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .25rem 1rem; margin: .5rem 0; }
dt { font: .875rem/1.6 ui-monospace, monospace; }
dd { margin: 0; }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin: 0 0 .5rem; } }
"""

POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def page(described: Mapping[str, Any]) -> str:
    """The whole page of an OpenAPI description."""
    info = described["info"]
    about = f"Version {_text(info['version'])} · {_text(described['servers'][0]['url'])}"
    parts = [
        f"<h1>{_text(info['title'])}</h1>",
        f"<p class=soft>{about} · <a href='/v1/openapi.json'>OpenAPI 3.1</a></p>",
    ]
    parts += [f"<p>{_marked(paragraph)}</p>" for paragraph in info["description"].split("\n\n")]
    parts += _contents(described)
    for tag in described["tags"]:
        parts.append(f"<h2 id='{tag['name']}'>{_text(tag['name'].capitalize())}</h2><p>{_text(tag['description'])}</p>")
        parts += [_operation(path, method, about) for path, method, about in _operations(described, tag["name"])]
    parts.append("<h2 id='types'>Types</h2>")
    parts += [_type(name, schema) for name, schema in sorted(described["components"]["schemas"].items())]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{_text(info['title'])}</title><style>{STYLE}</style><body>{''.join(parts)}</body></html>"
    )


def _operations(described: Mapping[str, Any], tag: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, about in methods.items():
            if tag in about["tags"]:
                yield path, method.upper(), about


def _contents(described: Mapping[str, Any]) -> list[str]:
    lines = [
        f"<li><a href='#{about['operationId']}'>{_text(about['summary'])}</a></li>"
        for tag in described["tags"]
        for _, _, about in _operations(described, tag["name"])
    ]
    return [f"<nav aria-label=Contents><ul>{''.join(lines)}<li><a href='#types'>Types</a></li></ul></nav>"]


def _operation(path: str, method: str, about: Mapping[str, Any]) -> str:
    parts = [
        f"<article id='{about['operationId']}'><h3><b>{method}</b> {_text(path)}</h3><p>{_text(about['summary'])}.</p>"
    ]
    parts.append(f"<p class=soft>{_marked(about.get('description', 'Public.'))}</p>")
    if about.get("parameters"):
        rows = "".join(
            f"<dt>{_text(p['name'])}</dt><dd>{p['in']}{', required' if p['required'] else ''}: {_kind(p['schema'])}"
            f" <span class=soft>{_marked(p.get('description', ''))}</span></dd>"
            for p in about["parameters"]
        )
        parts.append(f"<dl>{rows}</dl>")
    if "requestBody" in about:
        ((media, content),) = about["requestBody"]["content"].items()
        told = about["requestBody"].get("description", "")
        parts.append(f"<p>Takes <code>{media}</code>: {_kind(content['schema'])} {_text(told)}</p>")
    status, answer = next(iter(about["responses"].items()))
    ((media, content),) = answer["content"].items()
    parts.append(f"<p>Answers {status} <code>{media}</code>: {_kind(content['schema'])}</p></article>")
    return "".join(parts)


def _type(name: str, schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = "".join(
        f"<dt>{_text(member)}</dt><dd>{_kind(about)}{'' if member in required else ' <span class=soft>may be absent</span>'}"
        f" <span class=soft>{_marked(_described(about))}</span></dd>"
        for member, about in schema.get("properties", {}).items()
    )
    told = schema.get("description", "")
    return f"<article id='type-{name}'><h3>{_text(name)}</h3>{f'<p>{_marked(told)}</p>' if told else ''}<dl>{rows}</dl></article>"


def _described(schema: Mapping[str, Any]) -> str:
    return str(
        schema.get("description") or next((c["description"] for c in schema.get("anyOf", ()) if "description" in c), "")
    )


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, with links to types."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"<a href='#type-{name}'>{_text(name)}</a>"
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(_kind(choice) for choice in schema[word])
    if "enum" in schema:
        return " | ".join(f"<code>{_text(json.dumps(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"object of {_kind(inner)}" if isinstance(inner, dict) and inner else "object"
    bounds = [
        f"{sign} {schema[key]}"
        for key, sign in (("minimum", "≥"), ("maximum", "≤"), ("minLength", "length ≥"), ("maxLength", "length ≤"))
        if key in schema
    ]
    shown = f"default {json.dumps(schema['default'])}" if schema.get("default") is not None else ""
    extra = ", ".join(part for part in (*bounds, shown) if part)
    kind = schema.get("format") or schema.get("type", "any")
    return _text(str(kind)) + (f" ({_text(extra)})" if extra else "")


def _text(text: str) -> str:
    return html.escape(text)


def _marked(text: str) -> str:
    """Text with its `code` marked."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))
