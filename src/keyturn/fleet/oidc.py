"""The organization's own sign-in (OpenID Connect) as a way into the console: authorization code, PKCE, state and nonce.

Needs the extra ``oidc``, and is off unless ``oidc_issuer`` is set. Keeps: where a person is sent, and who the provider says came
back. Leaves to others: accounts and roles (``accounts``), sessions, pages (``console_signing``).

- One random text lives in the browser's cookie for ten minutes, and nowhere here. State, nonce and PKCE's verifier are derived
  from it, so none of them says anything of the others.
- The provider is asked over verified TLS, within seconds; redirects are not followed.
- A person is who the verified e-mail address of the ID token names. ``preferred_username`` and addresses that are not verified do
  not count: at many providers people choose them themselves (OpenID Connect Core 1.0, section 5.7).
"""

from __future__ import annotations

import hmac
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from starlette.responses import Response

from keyturn.core.errors import KeyturnError
from keyturn.core.model import b64u
from keyturn.edge import files
from keyturn.edge.transport import Transport
from keyturn.fleet.manager import FleetManager

COOKIE = "__Host-keyturn-oidc"
BACK = "/sign-in/oidc/done"  # What a provider must know as this client's redirect URI, after the manager's `url`.
LASTS = 600  # Seconds to sign in there.
KEPT = 3_600  # Seconds that what the provider says of itself is believed.
LEEWAY = 60  # Seconds between the provider's clock and this one.
ALGORITHMS = ("RS256", "ES256", "EdDSA", "Ed25519")  # The last two are one: RFC 9864 gave it another name.
FORM = "application/x-www-form-urlencoded"
MAX_FILE = 4_096


class Attempt(NamedTuple):
    """One person on the way to the provider and back. ``cookie`` is when that began, and 256 random bits."""

    cookie: str

    @classmethod
    def begin(cls, now: int, chance: Callable[[int], bytes]) -> Attempt:
        return cls(f"{now}.{b64u(chance(32))}")

    def under_way(self, now: int) -> bool:
        began, _, secret = self.cookie.partition(".")
        return (
            len(secret) == 43 and began.isdecimal() and began.isascii() and len(began) < 16
            and 0 <= now - int(began) <= LASTS
        )  # fmt: skip

    @property
    def state(self) -> str:
        return self._derived("state")

    @property
    def nonce(self) -> str:
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """Of PKCE (RFC 7636, section 4.1)."""
        return self._derived("verifier")

    def _derived(self, what: str) -> str:
        return b64u(hmac.digest(self.cookie.encode("utf-8", "replace"), f"keyturn oidc {what}".encode(), "sha256"))


class Provider:
    """The provider of the settings; asked by one or two threads."""

    def __init__(self, fleet: FleetManager, environ: Mapping[str, str]) -> None:
        """Raises: KeyturnError ``extra_missing``, ``usage`` for settings that are not whole, ``permission_denied``."""
        settings = fleet.home.settings
        assert settings.oidc_issuer is not None
        try:
            import authlib.oidc.core  # type: ignore[import-untyped]  # noqa: F401
        except ImportError as error:
            line = "pip install 'keyturn[oidc]'"
            raise KeyturnError(
                "extra_missing", f"oidc_issuer needs a part: {line}", remedy=f"Install it: {line}"
            ) from error
        if settings.oidc_client_id is None:
            raise KeyturnError("usage", "oidc_issuer is set, and oidc_client_id is not")
        self._fleet, self._environ, self._ca = fleet, environ, settings.oidc_ca_file
        self._issuer, self._client = settings.oidc_issuer, settings.oidc_client_id
        self._secret = None if settings.oidc_client_secret_file is None else _secret(settings.oidc_client_secret_file)
        self._lock = threading.Lock()
        self._about: dict[str, Any] = {}
        self._about_until = 0

    def address(self, attempt: Attempt, now: int) -> str:
        """Where a person is sent to sign in. Raises: KeyturnError ``sign_in_refused`` if the provider cannot be asked."""
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri  # type: ignore[import-untyped]
        from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]

        with self._line() as line:
            where = self._endpoint(line, "authorization_endpoint", now)
        return str(
            prepare_grant_uri(
                where, self._client, "code", self._back, "openid email", attempt.state, nonce=attempt.nonce,
                code_challenge=create_s256_code_challenge(attempt.verifier), code_challenge_method="S256",
            )
        )  # fmt: skip

    def name(self, attempt: Attempt, asked: Callable[[str], str], now: int) -> str:
        """The verified e-mail address, in lower case, of whoever came back; ``asked`` reads the address they came back to.

        1. The browser is the one that was sent, not long ago (state).
        2. The provider gives an ID token for the code and the verifier (OpenID Connect Core 1.0, section 3.1.3).
        3. A key of the provider signed it, it is for this client and this attempt, and it is in force (section 3.1.3.7).
        4. The provider verified the address. Only ASCII: no other sign may become a letter of somebody's name in lower case.

        Raises: KeyturnError ``sign_in_refused``.
        """
        # 1.
        if not attempt.under_way(now) or not hmac.compare_digest(attempt.state.encode(), asked("state").encode()):
            raise KeyturnError(
                "sign_in_refused", f"it was not begun in this browser at {self._fleet.home.url}, or long ago"
            )
        if asked("error") or not asked("code"):
            said = "".join(sign for sign in asked("error")[:60] if sign.isalnum() or sign == "_") or "nothing"
            raise KeyturnError("sign_in_refused", f"the provider gave no code, and said: {said}")
        with self._line() as line:
            # 2.
            token = self._redeem(line, attempt, asked("code"), now)
            # 3.
            keys = self._told(lambda: line.get_json(self._endpoint(line, "jwks_uri", now)))
        claims = self._judged(token, keys, attempt.nonce, now)
        # 4.
        mail = claims.get("email")
        if not isinstance(mail, str) or not mail.isascii() or claims.get("email_verified") is not True:
            raise KeyturnError("sign_in_refused", "the provider gave no e-mail address that it verified")
        return mail.lower()

    @property
    def _back(self) -> str:
        return self._fleet.home.url + BACK

    def _line(self) -> Transport:
        return Transport(ca_bundle=self._ca, environ=self._environ, connect_timeout=5, read_timeout=10)

    def _endpoint(self, line: Transport, name: str, now: int) -> str:
        """An address of the provider, out of what it says of itself (OpenID Connect Discovery 1.0, section 4)."""
        with self._lock:
            if now >= self._about_until:
                about = self._told(
                    lambda: line.get_json(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
                )
                if about.get("issuer") != self._issuer:
                    raise KeyturnError("sign_in_refused", f"what is at {self._issuer} says it is another provider")
                self._about, self._about_until = about, now + KEPT
            found = self._about.get(name)
        if not isinstance(found, str) or not found.startswith("https://"):
            raise KeyturnError("sign_in_refused", f"the provider names no {name} with https://")
        return found

    def _redeem(self, line: Transport, attempt: Attempt, code: str, now: int) -> str:
        from authlib.oauth2.auth import ClientAuth  # type: ignore[import-untyped]
        from authlib.oauth2.rfc6749.parameters import prepare_token_request

        where = self._endpoint(line, "token_endpoint", now)
        ways = self._about.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        way = "client_secret_basic" if "client_secret_basic" in ways else "client_secret_post"
        body = prepare_token_request(
            "authorization_code", redirect_uri=self._back, code=code, code_verifier=attempt.verifier
        )
        proof = ClientAuth(self._client, self._secret, "none" if self._secret is None else way)
        where, headers, body = proof.prepare("POST", where, {}, body)
        token = self._told(lambda: line.call("POST", where, body.encode(), FORM, headers).json()).get("id_token")
        if not isinstance(token, str):
            raise KeyturnError("sign_in_refused", "the provider gave no ID token")
        return token

    def _judged(self, token: str, keys: Mapping[str, Any], nonce: str, now: int) -> Mapping[str, Any]:
        from authlib.oidc.core import CodeIDToken
        from joserfc import jwt
        from joserfc.errors import JoseError, SecurityWarning
        from joserfc.jwk import KeySet

        listed = keys.get("keys")
        usable = [
            key for key in (listed if isinstance(listed, list) else ())
            if isinstance(key, dict) and key.get("kty") in ("RSA", "EC", "OKP") and key.get("use", "sig") == "sig"
        ]  # fmt: skip
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # That EdDSA has a new name is no news to a person.
                found = jwt.decode(token, KeySet.import_key_set({"keys": usable}), list(ALGORITHMS))
            wanted = {
                "iss": {"essential": True, "value": self._issuer},
                "aud": {"essential": True, "value": self._client},
            }
            params = {"nonce": nonce, "client_id": self._client}
            claims: dict[str, Any] = CodeIDToken(found.claims, found.header, wanted, params)
            claims.validate(now, LEEWAY)  # type: ignore[attr-defined]
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise KeyturnError(
                "sign_in_refused", f"the provider's ID token does not count ({str(error)[:100]})"
            ) from error
        return claims

    @staticmethod
    def _told(ask: Callable[[], dict[str, object]]) -> dict[str, Any]:
        try:
            return ask()
        except KeyturnError as error:
            raise KeyturnError("sign_in_refused", f"the provider: {error.detail}") from error


def provider(fleet: FleetManager, environ: Mapping[str, str]) -> Provider | None:
    """The provider, if one is set. Raises: as :class:`Provider`."""
    return None if fleet.home.settings.oidc_issuer is None else Provider(fleet, environ)


def give(answer: Response, attempt: Attempt) -> Response:
    """The answer with the cookie. Lax, because the way back begins at the provider's page."""
    answer.set_cookie(COOKIE, attempt.cookie, max_age=LASTS, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def take_back(answer: Response) -> Response:
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def _secret(path: str) -> str:
    data = files.read(path, MAX_FILE)
    if data is None or not data.strip():
        raise KeyturnError("usage", f"oidc_client_secret_file: there is nothing in {path}")
    if files.open_to_others(path):
        raise KeyturnError("permission_denied", f"{path} can be read by others; `chmod 600` it")
    if not data.isascii():
        raise KeyturnError("usage", f"the secret in {path} holds signs that cannot be sent")
    return data.decode().strip()
