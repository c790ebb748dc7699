"""The console: every address for people, and who may use it.

Keeps: the authorization table. Leaves to others: who is signed in and what a form must carry (``pages``), what the pages
show and do (``console_looking``, ``console_computers``, ``console_telephone``, ``console_stock``, ``console_signing``).

- A viewer reads. An operator does things to computers. An administrator also keeps keys and accounts.
- GET changes nothing; whatever changes something is a POST. One exception: whoever comes back from the organization's provider
  comes by GET, with a state that only the browser that was sent there has.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from keyturn.core.containers import MAX_FILE
from keyturn.edge.web import PUBLIC, Route
from keyturn.fleet import accounts, oidc, pages
from keyturn.fleet import console_computers as computers
from keyturn.fleet import console_looking as looking
from keyturn.fleet import console_signing as signing
from keyturn.fleet import console_stock as stock
from keyturn.fleet import console_telephone as telephone
from keyturn.fleet.accounts import ADMINISTRATOR, OPERATOR, VIEWER
from keyturn.fleet.manager import FleetManager
from keyturn.fleet.pages import BYTES, FORM, MAX_FORM, Page
from keyturn.fleet.proxying import Connect


def routes(fleet: FleetManager, environ: Mapping[str, str], connect: Connect) -> list[Route]:
    """The authorization table for people. ``environ`` and ``connect`` are for lines to a publisher's service."""
    accounts.decoy()  # Made now, or the first unknown name would take longer than a known one.

    provider = oidc.provider(fleet, environ)

    def get(path: str, access: str, page: Page, *, pool: ThreadPoolExecutor | None = None) -> Route:
        return Route(path, "GET", pages.handler(fleet, page, pool=pool), access)

    def post(path: str, access: str, page: Page, *, pool: ThreadPoolExecutor | None = None) -> Route:
        return Route(path, "POST", pages.handler(fleet, page, pool=pool), access, MAX_FORM, (FORM,))

    return [
        Route("/static/{name}", "GET", pages.static, PUBLIC),
        get("/sign-in", PUBLIC, signing.sign_in_page),
        post("/sign-in", PUBLIC, signing.sign_in, pool=pages.PASSWORDS),
        get("/sign-in/oidc", PUBLIC, signing.to_provider(provider), pool=pages.PROVIDER),
        get(oidc.BACK, PUBLIC, signing.from_provider(provider), pool=pages.PROVIDER),
        get("/welcome", PUBLIC, signing.welcome_page),
        post("/welcome", PUBLIC, signing.welcome, pool=pages.PASSWORDS),
        # Whoever is signed in.
        get("/", VIEWER, looking.overview),
        get("/under-way", VIEWER, looking.under_way),
        get("/computers", VIEWER, computers.computers),
        get("/computers/{computer}", VIEWER, computers.computer),
        get("/tasks", VIEWER, computers.task_list),
        get("/tasks/{task}", VIEWER, computers.task),
        get("/tasks/{task}/progress", VIEWER, computers.progress),
        get("/keys", VIEWER, stock.key_list),
        get("/enrollment", VIEWER, stock.token_list),
        get("/files", VIEWER, stock.files),
        get("/telephone", VIEWER, telephone.waiting),
        get("/hosts", VIEWER, looking.hosts),
        get("/reports", VIEWER, looking.report),
        get("/reports/licenses.csv", VIEWER, looking.report_csv),
        get("/reports/print", VIEWER, looking.report_page),
        get("/audit", VIEWER, looking.audit),
        get("/password", VIEWER, signing.password_page),
        post("/password", VIEWER, signing.password, pool=pages.PASSWORDS),
        post("/sign-out", VIEWER, signing.sign_out),
        # What is done to computers.
        get("/order", OPERATOR, computers.order),
        post("/order", OPERATOR, computers.order),
        post("/order/consequence", OPERATOR, computers.consequence),
        post("/tasks", OPERATOR, computers.carry_out),
        post("/tasks/{task}/cancel", OPERATOR, computers.cancel),
        post("/computers/{computer}/forget", OPERATOR, computers.forget),
        post("/telephone", OPERATOR, telephone.confirm, pool=pages.PAIRINGS),
        post("/groups", OPERATOR, computers.put_in_group),
        post("/views", OPERATOR, computers.save_view),
        post("/enrollment", OPERATOR, stock.create_token),
        post("/enrollment/revoke", OPERATOR, stock.revoke_token),
        post("/files/export", OPERATOR, stock.export),
        Route("/files/import", "POST", pages.handler(fleet, stock.import_), OPERATOR, MAX_FILE, (BYTES,)),
        # Keys, accounts, settings.
        post("/keys", ADMINISTRATOR, stock.add_keys),
        post("/keys/change", ADMINISTRATOR, stock.change_key),
        post("/keys/check", ADMINISTRATOR, stock.check_key(environ, connect)),
        get("/people", ADMINISTRATOR, signing.people),
        post("/people", ADMINISTRATOR, signing.invite),
        post("/people/change", ADMINISTRATOR, signing.change_person),
        get("/settings", ADMINISTRATOR, signing.settings),
    ]
