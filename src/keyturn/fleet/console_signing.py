"""The console's pages about people: signing in and out, the first account, one's own password, everybody's roles."""

from __future__ import annotations

from starlette.responses import Response

from keyturn.core.errors import KeyturnError
from keyturn.fleet import accounts, manager, sessions
from keyturn.fleet.accounts import Account
from keyturn.fleet.pages import Visit, go, show


def sign_in_page(visit: Visit) -> Response:
    return show(visit, "sign_in.html", then=visit.asked("then"), name="")


def sign_in(visit: Visit) -> Response:
    """Begin a session for the right name and password; whatever is wrong is said in the same words."""
    name, then = visit.given("name"), visit.given("then")
    try:
        found = accounts.prove(visit.fleet.database, name, visit.form.get("password", [""])[0], visit.now)
    except KeyturnError as error:
        return show(visit, "sign_in.html", then=then, error=error, name=name)
    return _begun(visit, found, then)


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


def _begun(visit: Visit, account: Account, then: str) -> Response:
    fleet = visit.fleet
    hours = fleet.home.settings.session_hours
    secret = fleet.database.write_now(
        lambda db: sessions.begin(db, account, now=visit.now, hours=hours, chance=fleet.chance)
    )
    return sessions.give(go(_inside(then)), secret, hours)


def _inside(then: str) -> str:
    """Where to go after signing in: a page of this manager, whatever the address said."""
    plain = then.startswith("/") and not then.startswith("//") and "\\" not in then and then.isprintable()
    return then if plain else "/"


def _twice(visit: Visit) -> str:
    first, second = (visit.form.get(name, [""])[0] for name in ("password", "again"))
    if first != second:
        raise KeyturnError("usage", "the two new passwords differ", remedy="Type the same one twice.")
    return first
