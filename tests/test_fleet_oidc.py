"""Signing in to the console with the organization's own provider (OpenID Connect), over real HTTPS to a provider that can lie."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
from playwright.sync_api import expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from consoles import PASSWORD, Answer, Person, account, barriers, chromium, window
from fleets import Site
from keyturn.core.errors import KeyturnError
from keyturn.edge import files
from keyturn.edge.listen import background
from keyturn.edge.settings import LISTENING
from keyturn.fleet import accounts, home, oidc, sessions
from keyturn.fleet.accounts import OPERATOR
from keyturn.fleet.home import FleetHome
from keyturn.testing import World
from peers import Authority
from programs import run

NAME, CLIENT, SECRET = "anna@example.org", "keyturn console", "a secret: of the client"
KEYS: dict[str, RSAKey | ECKey | OKPKey] = {
    "RS256": RSAKey.generate_key(2048, {"kid": "r"}), "ES256": ECKey.generate_key("P-256", {"kid": "e"}),
    "EdDSA": OKPKey.generate_key("Ed25519", {"kid": "o"}),
}  # fmt: skip


class OpenIdProvider:
    """A provider that signs everybody in at once as Anna, and holds the client to PKCE, its secret and its address.

    ``change`` is what it says differently in the ID token, ``sign`` how it signs it.
    """

    def __init__(self, world: World) -> None:
        self.now, self.url, self.way = world.clock, "", "client_secret_basic"
        self.change: Mapping[str, Any] = {}
        self.about: Mapping[str, Any] = {}
        self.sign: Callable[[dict[str, Any]], str] = signed("RS256")
        self.asked: dict[str, Mapping[str, str]] = {}  # By the code.
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._about), Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]), Route("/keys", self._keys),
            ]
        )  # fmt: skip

    async def _about(self, _request: Request) -> Response:
        return JSONResponse({
            "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize", "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys", "token_endpoint_auth_methods_supported": [self.way], **self.about,
        })  # fmt: skip

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert (asked["response_type"], asked["client_id"], asked["scope"]) == ("code", CLIENT, "openid email")
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe()
        self.asked[code] = asked
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")

    async def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if self.way == "client_secret_basic":
            known = request.headers.get("authorization") == f"Basic {basic}"
        else:
            known = (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)
        asked = self.asked.pop(form["code"], None)
        challenge = text64(hashlib.sha256(form["code_verifier"].encode()).digest())
        if (
            not known
            or asked is None
            or asked["code_challenge"] != challenge
            or asked["redirect_uri"] != form["redirect_uri"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        claims = {
            "iss": self.url, "sub": "17", "aud": CLIENT, "iat": self.now(), "exp": self.now() + 300, "nonce": asked["nonce"],
            "email": "Anna@Example.org", "email_verified": True, **self.change,
        }  # fmt: skip
        kept = {name: value for name, value in claims.items() if value is not None}
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": self.sign(kept)})

    async def _keys(self, _request: Request) -> Response:
        return JSONResponse(KeySet([*KEYS.values()]).as_dict(private=False))


def signed(algorithm: str, key: RSAKey | None = None) -> Callable[[dict[str, Any]], str]:
    used = key or KEYS[algorithm]
    header = {"alg": algorithm, "kid": used.kid}

    def sign(claims: dict[str, Any]) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # EdDSA has a new name, which providers do not use yet.
            return jwt.encode(header, claims, used, [algorithm])

    return sign


def unsigned(claims: dict[str, Any]) -> str:
    return f"{parts({'alg': 'none'}, claims)}."


def by_public_key(claims: dict[str, Any]) -> str:
    """HS256 with what everybody knows as its key: the classic confusion of algorithms."""
    said = parts({"alg": "HS256", "kid": "r"}, claims)
    return f"{said}.{text64(hmac.digest(KEYS['RS256'].as_pem(private=False), said.encode(), 'sha256'))}"


def parts(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return ".".join(text64(json.dumps(part).encode()) for part in (header, claims))


def text64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.fixture
def provider(world: World, tmp_path: Path) -> Iterator[OpenIdProvider]:
    authority, made = Authority(), OpenIdProvider(world)
    issued = authority.ca.issue_cert("127.0.0.1")
    (tmp_path / "ca.pem").write_text(authority.pem)
    (tmp_path / "provider.pem").write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    with background(made.app, tls_cert=str(tmp_path / "provider.pem"), tls_key=None) as ready:
        made.url = f"https://127.0.0.1:{ready.port}"
        yield made


@pytest.fixture
def site(world: World, tmp_path: Path, provider: OpenIdProvider) -> Iterator[Site]:
    path, secret = tmp_path / "site" / "fleet", tmp_path / "client.secret"
    files.write(secret, SECRET.encode(), files.PRIVATE)
    home.initialise(path, world.clock(), None)
    for name, value in (
        ("issuer", provider.url), ("client_id", CLIENT), ("client_secret_file", str(secret)),
        ("ca_file", str(tmp_path / "ca.pem")),
    ):  # fmt: skip
        home.change_setting(path, f"oidc_{name}", value)
    with Site(world, tmp_path / "site").running() as made:
        files.write_json(made.home.path / LISTENING, {"listen": made.url.removeprefix("https://")})
        yield made


def invited(site: Site, name: str = NAME) -> None:
    site.database.write_now(lambda db: accounts.create(db, name, OPERATOR, accounts.OIDC, who="tester", now=0))


def begun(site: Site) -> tuple[str, str]:
    """The cookie of an attempt, and where its way back leads to after the provider."""
    there = Person(site.url).get("/sign-in/oidc")
    assert there.status == 303, there.text
    where = urlsplit(there.headers["location"])
    back = Person(f"{where.scheme}://{where.netloc}").get(f"{where.path}?{where.query}").headers["location"]
    assert back.startswith(f"{site.url}{oidc.BACK}?")
    return there.headers["set-cookie"].split(";")[0], back.removeprefix(site.url)


def walk(site: Site) -> Answer:
    cookie, back = begun(site)
    return Person(site.url).get(back, Cookie=cookie)


def assert_refused(site: Site, answer: Answer, why: str) -> None:
    assert (answer.status, "sign_in_refused" in answer.text) == (403, True), answer.text
    assert why in answer.text, answer.text
    assert f"{sessions.COOKIE}=" not in answer.headers["set-cookie"]
    assert site.database.look("SELECT count(*) AS n FROM session", ())["n"] == 0


@pytest.mark.parametrize("algorithm", list(KEYS))
def test_whoever_the_provider_vouches_for_is_signed_in(site: Site, provider: OpenIdProvider, algorithm: str) -> None:
    """With each algorithm: a session in a strict cookie, by a page that leads on by itself; the audit says who."""
    invited(site)
    provider.sign = signed(algorithm)
    done = walk(site)
    assert done.status == 200, done.text
    assert 'content="0; url=/"' in done.text
    cookie = done.headers["set-cookie"]
    assert cookie.startswith(f"{sessions.COOKIE}=")
    assert "SameSite=strict" in cookie
    page = Person(site.url).get("/", Cookie=cookie.split(";")[0])
    assert (page.status, NAME in page.text) == (200, True)
    assert site.database.look("SELECT who FROM audit WHERE what = 'signed_in'", ())["who"] == NAME


def test_a_provider_may_want_the_secret_in_the_form(site: Site, provider: OpenIdProvider) -> None:
    """Where it says that it knows no other way."""
    invited(site)
    provider.way = "client_secret_post"
    assert walk(site).status == 200


def test_the_way_there_says_nothing_of_the_verifier(site: Site) -> None:
    """The cookie is for ten minutes and this manager; state, nonce and challenge differ each time, and are not the cookie."""
    one, two = (Person(site.url).get("/sign-in/oidc") for _ in range(2))
    parts = {part.strip() for part in one.headers["set-cookie"].split(";")}
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/", "Max-Age=600"} <= parts
    asked = [parse_qs(urlsplit(answer.headers["location"]).query) for answer in (one, two)]
    told = [each[name][0] for each in asked for name in ("state", "nonce", "code_challenge")]
    assert len(set(told)) == 6
    secret = one.headers["set-cookie"].split(";")[0].partition(".")[2]
    assert len(secret) == 43
    assert secret not in one.headers["location"]


LIES: dict[str, tuple[Mapping[str, Any], Callable[[dict[str, Any]], str] | None, str]] = {
    "another nonce": ({"nonce": "other"}, None, "nonce"),
    "no nonce": ({"nonce": None}, None, "nonce"),
    "another audience": ({"aud": "other"}, None, "aud"),
    "for another party too": ({"aud": [CLIENT, "other"], "azp": "other"}, None, "azp"),
    "another issuer": ({"iss": "https://other.example"}, None, "iss"),
    "expired": ({"iat": 1_000, "exp": 2_000}, None, "expired"),
    "without an end": ({"exp": None}, None, "exp"),
    "signed by another": ({}, signed("RS256", RSAKey.generate_key(2048, {"kid": "r"})), "signature"),
    "not signed": ({}, unsigned, "algorithm"),
    "signed with the public key": ({}, by_public_key, "algorithm"),
    "no token": ({}, lambda _claims: "x.y", "does not count"),
    "mail not verified": ({"email_verified": False}, None, "no e-mail address that it verified"),
    "mail verified in words": ({"email_verified": "true"}, None, "no e-mail address that it verified"),
    "a name instead": ({"email": None, "preferred_username": NAME}, None, "no e-mail address that it verified"),
    "signs that look alike": ({"email": "\u212aarl@example.org"}, None, "no e-mail address that it verified"),
    "nobody's": ({"email": "otto@example.org"}, None, "otto@example.org has no account here"),
    "of one with a password": ({"email": "eve@example.org"}, None, "eve@example.org has no account here"),
}  # fmt: skip


@pytest.mark.parametrize("lie", list(LIES))
def test_no_other_token_signs_anybody_in(site: Site, provider: OpenIdProvider, lie: str) -> None:
    """Each is refused for its own reason, with a page and without a session."""
    invited(site)
    invited(site, "karl@example.org")
    account(site, "eve@example.org", OPERATOR)
    provider.change, sign, why = LIES[lie]
    provider.sign = sign or provider.sign
    assert_refused(site, walk(site), why)


def test_only_the_browser_that_was_sent_comes_back(site: Site) -> None:
    """Another state, no state, no cookie, another's cookie, a cookie that was changed, or after ten minutes."""
    invited(site)
    cookie, back = begun(site)
    other, _ = begun(site)
    code = back.partition("code=")[2].partition("&")[0]
    moved = cookie.replace("=", "=1", 1)
    tries = [
        (cookie, f"{oidc.BACK}?code={code}&state={'x' * 43}"), (cookie, f"{oidc.BACK}?code={code}"),
        ("a=b", back), (other, back), (moved, back), (f"{oidc.COOKIE}=", back), (f"{oidc.COOKIE}=.", back),
    ]  # fmt: skip
    for given, path in tries:
        assert_refused(site, Person(site.url).get(path, Cookie=given), "not begun in this browser")
    site.world.clock.advance(seconds=oidc.LASTS + 1)
    assert_refused(site, Person(site.url).get(back, Cookie=cookie), "long ago")


def test_a_code_serves_once(site: Site) -> None:
    """The provider refuses it the second time, and that is a page."""
    invited(site)
    cookie, back = begun(site)
    assert Person(site.url).get(back, Cookie=cookie).status == 200
    site.database.write_now(lambda db: accounts.sign_out(db, NAME))
    assert_refused(site, Person(site.url).get(back, Cookie=cookie), "answered 400")


def test_what_the_provider_refuses_is_said(site: Site) -> None:
    """Its word for it, and no sign of a page."""
    cookie, back = begun(site)
    state = back.partition("state=")[2]
    answer = Person(site.url).get(f"{oidc.BACK}?error=access_denied%3Cb%3E&state={state}", Cookie=cookie)
    assert_refused(site, answer, "access_deniedb")


@pytest.mark.parametrize(
    "about", [{"issuer": "https://other.example"}, {"authorization_endpoint": "http://127.0.0.1/"}]
)
def test_a_provider_that_says_it_is_another_is_not_asked(site: Site, provider: OpenIdProvider, about: Any) -> None:
    """Or one that would have people sign in without TLS; the page with the password is there all the same."""
    provider.about = about
    answer = Person(site.url).get("/sign-in/oidc")
    assert (answer.status, "sign_in_refused" in answer.text, 'name="password"' in answer.text) == (403, True, True)


def test_an_account_without_a_password_has_none(site: Site) -> None:
    """Neither what stands in its place nor the decoy's words fit, and wrong ones keep nobody from the provider."""
    invited(site)
    for password in ("oidc", "nobody has this password", "", *["wrong"] * 4):
        assert Person(site.url).post("/sign-in", {"name": NAME, "password": password}).status == 403
    assert walk(site).status == 200


def test_settings_that_are_not_whole_are_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start: an issuer without a client, a secret that others can read or that is not there, no library."""
    path = site.home.path

    def start(**changed: str) -> str:
        environ = {f"KEYTURN_FLEET_OIDC_{name.upper()}": value for name, value in changed.items()}
        monkeypatch.setattr(site.fleet, "home", FleetHome(path, environ))
        with pytest.raises(KeyturnError) as caught:
            oidc.provider(site.fleet, {})
        return caught.value.code

    open_file = path.parent / "open.secret"
    open_file.write_text(SECRET)
    open_file.chmod(0o644)
    assert start(client_id="") == "usage"
    assert start(client_secret_file=str(open_file)) == "permission_denied"
    assert start(client_secret_file=str(path / "none")) == "usage"
    files.write(open_file, "Schlüssel".encode(), files.PRIVATE)
    assert start(client_secret_file=str(open_file)) == "usage"
    with pytest.raises(KeyturnError, match="https://"):
        start(issuer="http://127.0.0.1")
    monkeypatch.setitem(sys.modules, "authlib.oidc.core", None)
    assert start() == "extra_missing"


def test_without_settings_there_is_none(world: World, tmp_path: Path) -> None:
    """No button, and no such pages."""
    with Site(world, tmp_path / "site").running() as plain:
        anybody = Person(plain.url)
        assert "/sign-in/oidc" not in anybody.get("/sign-in").text
        assert [anybody.get(path).status for path in ("/sign-in/oidc", oidc.BACK)] == [404, 404]


@pytest.mark.system
def test_an_account_for_the_provider_is_made_on_the_command_line(tmp_path: Path) -> None:
    """Without a password; one beside it is refused; a password given later makes it an account like any other."""

    def fleet(*arguments: str, typed: str = "") -> Any:
        return run(["fleet", "--home", str(tmp_path / "home"), "--json", *arguments], cwd=tmp_path, input=typed)

    fleet("init").ok()
    assert fleet("user", "create", NAME, "--role", "viewer", "--oidc").ok().json["name"] == NAME
    assert fleet("user", "create", "otto", "-", "--role", "viewer", "--oidc", typed=f"{PASSWORD}\n").code == "usage"
    assert [one["oidc"] for one in fleet("user", "list").ok().json["users"]] == [True]
    fleet("user", "password", NAME, "-", typed=f"{PASSWORD}\n").ok()
    assert [one["oidc"] for one in fleet("user", "list").ok().json["users"]] == [False]


@pytest.mark.system
@pytest.mark.needs("chromium", "console")
def test_a_person_signs_in_with_the_organization_in_a_browser(site: Site) -> None:
    """One press of the button leads to the overview: the strict cookie is sent, and no policy stands in the way."""
    invited(site)
    with chromium() as browser, window(browser, site.url) as page:
        page.goto("/")
        assert barriers(page) == []
        page.get_by_role("button", name="Sign in with your organization").click()
        page.wait_for_url(f"{site.url}/")
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        cookies = {str(one.get("name")): str(one.get("sameSite")) for one in page.context.cookies()}
    assert cookies == {sessions.COOKIE: "Strict"}
