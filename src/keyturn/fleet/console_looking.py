"""The console's pages that only show: overview, hosts, reports, the audit, and what those give as files."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from sqlite3 import Connection
from typing import Any
from urllib.parse import urlencode

from starlette.responses import HTMLResponse, Response

from keyturn.core.model import rfc3339
from keyturn.fleet import console_figures, reporting, selecting, templates
from keyturn.fleet.console_figures import PAGE
from keyturn.fleet.pages import HEADERS, Visit, download, show
from keyturn.fleet.selecting import Selector, conditions


def overview(visit: Visit) -> Response:
    return show(visit, "overview.html", **visit.fleet.database.read(lambda db: console_figures.overview(db, visit.now)))


def under_way(visit: Visit) -> Response:
    """The part of the overview that changes while one looks at it."""
    return show(visit, "under_way.html", under_way=visit.fleet.database.read(console_figures.under_way))


def hosts(visit: Visit) -> Response:
    """Activation hosts, by what computers said and what was ordered."""

    def look(db: Connection) -> dict[str, Any]:
        return {"hosts": console_figures.hosts(db), "named": console_figures.hosts_named(db)}

    return show(visit, "hosts.html", **visit.fleet.database.read(look))


def report(visit: Visit) -> Response:
    """The figures of the report. Raises: KeyturnError ``usage`` for a filter that is not understood."""
    where = visit.asked("where")
    return show(
        visit, "reports.html", where=where, query=urlencode({"where": where} if where else {}), **_report(visit)
    )


def report_csv(visit: Visit) -> Response:
    """Every product of every computer that is meant, as a file for a spreadsheet. Raises: KeyturnError ``usage``."""
    text = "\ufeff" + reporting.as_csv(_report(visit)["computers"], reporting.COLUMNS)
    return download(text, "licenses.csv", "text/csv; charset=utf-8")


def report_page(visit: Visit) -> Response:
    """The report to print: a page that stands alone, with one style of its own. Raises: KeyturnError ``usage``."""
    text = templates.page("report.html", **_report(visit))
    styles = (hashlib.sha256(style.encode()).digest() for style in re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    allowed = " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in styles)
    policy = f"default-src 'none'; style-src {allowed}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    return HTMLResponse(text, headers={**HEADERS, "Content-Security-Policy": policy})


def audit(visit: Visit) -> Response:
    """Who did what, the newest first."""
    number = max(1, visit.number("page", 1))

    def look(db: Connection) -> dict[str, Any]:
        rows = db.execute(
            "SELECT * FROM audit ORDER BY id DESC LIMIT ? OFFSET ?", (PAGE, (number - 1) * PAGE)
        ).fetchall()
        total = db.execute("SELECT count(*) FROM audit").fetchone()[0]
        entries = [
            {**dict(row), "at": rfc3339(row["at"]), "detail": json.loads(row["detail"]) if row["detail"] else {}}
            for row in rows
        ]
        return {"entries": entries, "pages": max(1, -(-total // PAGE))}

    return show(visit, "audit.html", page=number, query="", **visit.fleet.database.read(look))


def _report(visit: Visit) -> dict[str, Any]:
    where = visit.asked("where")

    def look(db: Connection) -> dict[str, Any]:
        chosen = selecting.choose(db, Selector(where=conditions(where))) if where else None
        return reporting.report(db, visit.now, chosen)

    return visit.fleet.database.read(look)
