"""The console's pages about people: signing in and out, the first account, one's own password, everybody's roles."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import Response

from keyturn.core.errors import KeyturnError
from keyturn.fleet import accounts, manager, oidc, sessions
from keyturn.fleet.accounts import Account
from keyturn.fleet.pages import Visit, go, show


def sign_in_page(visit: Visit) -> Response:
    return _sign_in(visit, visit.asked("then"))


def sign_in(visit: Visit) -> Response:
    """Begin a session for the right name and password; whatever is wrong is said in the same words."""
    name, then = visit.given("name"), visit.given("then")
    try:
        found = accounts.prove(visit.fleet.database, name, visit.form.get("password", [""])[0], visit.now)
    except KeyturnError as error:
        return _sign_in(visit, then, error, name)
    return _begun(visit, found, then)


def to_provider(provider: oidc.Provider | None) -> Callable[[Visit], Response]:
    """The page that sends a person to the organization's provider. It raises KeyturnError ``not_found`` if there is none."""

    def page(visit: Visit) -> Response:
        asked, attempt = _there(provider), oidc.Attempt.begin(visit.now, visit.fleet.chance)
        try:
            return oidc.give(go(asked.address(attempt, visit.now)), attempt)
        except KeyturnError as error:
            return _sign_in(visit, "", error)

    return page


def from_provider(provider: oidc.Provider | None) -> Callable[[Visit], Response]:
    """The page that a person comes back to. It raises KeyturnError ``not_found`` if there is no provider.

    It leads on by itself, from this manager: a browser sends the session's strict cookie to no page that another site led to.
    """

    def page(visit: Visit) -> Response:
        asked, attempt = _there(provider), oidc.Attempt(visit.cookies.get(oidc.COOKIE, ""))
        try:
            name = asked.name(attempt, visit.asked, visit.now)
            found = accounts.of_provider(visit.fleet.database, name)
        except KeyturnError as error:
            return oidc.take_back(_sign_in(visit, "", error))
        return _begin(visit, found, oidc.take_back(show(visit, "signed_in.html", name=found.name)))

    return page


def sign_out(visit: Visit) -> Response:
    visit.fleet.database.write_now(lambda db: sessions.end(db, visit.signed_in))
    return sessions.take_back(go("/sign-in"))


def welcome_page(visit: Visit) -> Response:
    """What a one-time link opens. Raises: KeyturnError ``not_found``."""
    link = visit.asked("link")
    role = visit.fleet.database.read(lambda db: accounts.invited(db, link, visit.now))["role"]
    return show(visit, "welcome.html", link=link, role=role, name="", shortest=accounts.SHORTEST)


def welcome(visit: Visit) -> Response:
    """Make the account of a link, and sign it in. Raises: KeyturnError ``not_found``."""
    link, name, database = visit.given("link"), visit.given("name"), visit.fleet.database
    role = database.read(lambda db: accounts.invited(db, link, visit.now))["role"]
    try:
        kept = accounts.hashed(_twice(visit))
        made = database.write_now(lambda db: accounts.accept(db, link, name, kept, visit.now))
    except KeyturnError as error:
        return show(
            visit, "welcome.html", link=link, role=role, error=error, name=name,
            shortest=accounts.SHORTEST,
        )  # fmt: skip
    return _begun(visit, made, "")


def password_page(visit: Visit) -> Response:
    return show(visit, "password.html", shortest=accounts.SHORTEST)


def password(visit: Visit) -> Response:
    """Change one's own password: the old one is asked for, and every session but this one ends."""
    fleet, name = visit.fleet, visit.who
    try:
        found = accounts.prove(fleet.database, name, visit.form.get("old", [""])[0], visit.now)
        kept = accounts.hashed(_twice(visit))
    except KeyturnError as error:
        return show(visit, "password.html", error=error, shortest=accounts.SHORTEST)
    fleet.database.write_now(lambda db: accounts.set_password(db, name, kept, who=name, now=visit.now))
    return _begun(visit, found, "")


def people(visit: Visit) -> Response:
    """Everybody who has an account."""
    return _people(visit, None)


def invite(visit: Visit) -> Response:
    """Make a one-time link, which is shown once."""
    role = visit.given("role")
    return _people(visit, {"link": accounts.new_link(visit.fleet, role, visit.who), "role": role})


def change_person(visit: Visit) -> Response:
    """Give somebody another role, or end the account. Raises: KeyturnError ``usage``, ``not_found``."""
    name, role = visit.given("name"), visit.given("role")
    if visit.given("remove"):
        visit.fleet.database.write_now(lambda db: accounts.remove(db, name, who=visit.who, now=visit.now))
    else:
        visit.fleet.database.write_now(lambda db: accounts.set_role(db, name, role, who=visit.who, now=visit.now))
    return go("/people")


def settings(visit: Visit) -> Response:
    """What is set, and where that comes from; the products."""
    home = visit.fleet.home
    found = {name: (value, home.origins[name]) for name, value in home.settings._asdict().items()}
    products = visit.fleet.database.read(manager.products)
    return show(visit, "settings.html", settings=found, products=products, url=home.url, key=home.signer.kid)


def _people(visit: Visit, made: dict[str, str] | None) -> Response:
    found = visit.fleet.database.read(lambda db: accounts.listed(db, visit.now))
    return show(visit, "people.html", people=found, roles=accounts.ROLES, made=made)


def _sign_in(visit: Visit, then: str, error: KeyturnError | None = None, name: str = "") -> Response:
    configured = visit.fleet.home.settings.oidc_issuer is not None
    return show(visit, "sign_in.html", then=then, error=error, name=name, oidc=configured)


def _there(provider: oidc.Provider | None) -> oidc.Provider:
    if provider is None:
        raise KeyturnError("not_found", "this manager signs nobody in with a provider", remedy="Sign in with a password.")
    return provider


def _begun(visit: Visit, account: Account, then: str) -> Response:
    return _begin(visit, account, go(_inside(then)))


def _begin(visit: Visit, account: Account, answer: Response) -> Response:
    fleet = visit.fleet
    hours = fleet.home.settings.session_hours
    secret = fleet.database.write_now(
        lambda db: sessions.begin(db, account, now=visit.now, hours=hours, chance=fleet.chance)
    )
    return sessions.give(answer, secret, hours)


def _inside(then: str) -> str:
    """Where to go after signing in: a page of this manager, whatever the address said."""
    plain = then.startswith("/") and not then.startswith("//") and "\\" not in then and then.isprintable()
    return then if plain else "/"


def _twice(visit: Visit) -> str:
    first, second = (visit.form.get(name, [""])[0] for name in ("password", "again"))
    if first != second:
        raise KeyturnError("usage", "the two new passwords differ", remedy="Type the same one twice.")
    return first
