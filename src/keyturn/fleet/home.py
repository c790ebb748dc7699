"""The fleet manager's folder: settings, its key, the key that seals product keys, TLS files, the database.

Keeps: where everything lies. Leaves to others: rows (``store`` and its neighbours), what is done with them.

- ``fleet.key`` is the manager's identity: enrollment tokens name it, and it vouches for the TLS certificate.
- ``rebind.seed`` makes one key per product, which certificates name and which signs rebindings (``core.fleet.seed_of``).
- ``seal.key`` opens the product keys in the database. It lies beside the database, so a copy of the database alone opens none.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from keyturn.core import fleet
from keyturn.core.errors import KeyturnError
from keyturn.core.model import ProductName
from keyturn.edge import files, keystore, settings, sodium, tls
from keyturn.edge.database import Database, open_database
from keyturn.edge.keystore import Signer
from keyturn.edge.ratelimit import Rate, Rates
from keyturn.edge.settings import LISTENING

PROGRAM = "fleet"
DATABASE = "fleet.db"
SETTINGS_FILE, KEY, SEED, SEAL = "fleet.toml", "fleet.key", "rebind.seed", "seal.key"
NOTHING_HERE = "Run `keyturn fleet init FILE.ktproduct` first."
DEFAULTS: Mapping[str, str] = {
    "url": "", "listen": "127.0.0.1:8445", "check_in": "120", "again": "10", "gather": "3", "session_hours": "12",
    # Requests, PER_SECOND/BURST or off. Generous: a site of ten thousand may switch on behind one address.
    "rate_address": "200/20000", "rate_prefix": "400/40000",
    "oidc_issuer": "", "oidc_client_id": "", "oidc_client_secret_file": "", "oidc_ca_file": "",
}  # fmt: skip
_NUMBERS = {"check_in": (10, 86_400), "again": (5, 600), "gather": (0, 600), "session_hours": (1, 168)}


class Settings(NamedTuple):
    """What an administrator may set.

    ``url`` is how computers reach this manager. Seconds: ``check_in`` between two check-ins of an idle computer, ``again`` while
    there is work for it, ``gather`` that the manager waits for more requests before it sends those it has. ``oidc_…`` is the
    organization's own sign-in; off without ``oidc_issuer``.
    """

    url: str | None
    listen: str
    check_in: int
    again: int
    gather: int
    session_hours: int
    rate_address: str
    rate_prefix: str
    oidc_issuer: str | None
    oidc_client_id: str | None
    oidc_client_secret_file: str | None
    oidc_ca_file: str | None

    def rates(self) -> Rates:
        """The limits on requests. Raises: KeyturnError ``usage`` for a setting that is no rate."""
        return Rates(Rate.parse(self.rate_address), Rate.parse(self.rate_prefix))


class FleetHome:
    """An initialised folder, opened."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        """Raises: KeyturnError ``not_initialised``, ``home_foreign``, ``store_damaged``."""
        files.check_home(path, PROGRAM)
        self.path, self._environ = path, environ
        self.settings, self.origins = read_settings(path, environ)
        signer = keystore.load(path / KEY, sodium.signer)
        seed, seal = (files.read(path / name) for name in (SEED, SEAL))
        if signer is None or seed is None or seal is None or len(seed) != 32 or len(seal) != 32:
            raise KeyturnError("store_damaged", f"{path} lacks one of its keys", remedy="Restore it from a backup.")
        self.signer: Signer = signer
        self.seal = seal
        self._seed = seed
        self._rebinders: dict[ProductName, Signer] = {}

    @property
    def tls_files(self) -> tuple[str, str]:
        return str(self.path / "tls" / "cert.pem"), str(self.path / "tls" / "key.pem")

    @property
    def listening(self) -> str:
        """Where the manager listens, or did last; else where it would."""
        said = files.read_json(self.path / LISTENING) or {}
        return str(said.get("listen") or self.settings.listen)

    @property
    def url(self) -> str:
        """How computers reach this manager: the setting, or where it listens, or did last."""
        return self.settings.url or f"https://{self.listening}"

    def rebinder(self, product: ProductName) -> Signer:
        """The key that rebinds activations of one product."""
        if product not in self._rebinders:
            self._rebinders[product] = sodium.signer(fleet.seed_of(self._seed, product))
        return self._rebinders[product]

    def open_database(self) -> Database:
        return open_database(self.path / DATABASE, migrations=migrations())


def migrations() -> list[str]:
    """The scripts that make the database, in order; their number is the version of the schema."""
    schema = resources.files("keyturn.fleet") / "schema"
    scripts = sorted((item for item in schema.iterdir() if item.name.endswith(".sql")), key=lambda item: item.name)
    return [item.read_text("utf-8") for item in scripts]


def initialise(path: Path, now: int, url: str | None) -> bool:
    """Make a fleet manager's folder; whether there was none.

    1. Its keys and TLS files, each made once.
    2. The settings, and the home's marker last: a folder without them is no fleet manager.

    Raises: KeyturnError ``home_foreign``, ``storage_failed``, ``permission_denied``.
    """
    files.check_home(path, PROGRAM)
    if (path / SETTINGS_FILE).exists():
        files.claim_home(path, PROGRAM)  # Unless it is claimed already: an attempt may have been cut short just before.
        return False
    # 1.
    path.mkdir(parents=True, exist_ok=True)
    os.chmod(path, 0o700)
    if keystore.load(path / KEY) is None:
        keystore.create(path / KEY)
    for name in (SEED, SEAL):
        if files.read(path / name) is None:
            files.write(path / name, secrets.token_bytes(32), files.PRIVATE)
    if files.read(path / "tls" / "cert.pem") is None:
        tls.create_own(path / "tls", name=f"Keyturn fleet manager on {socket.gethostname()}"[:64], now=now)
    # 2.
    settings.write(path / SETTINGS_FILE, {} if url is None else {"url": url})
    files.claim_home(path, PROGRAM)
    return True


def read_settings(path: Path, environ: Mapping[str, str]) -> tuple[Settings, dict[str, str]]:
    """The settings in force, and where each comes from.

    Raises: KeyturnError ``not_initialised``, ``file_malformed``, ``usage``.
    """
    values, origins = settings.read(path / SETTINGS_FILE, DEFAULTS, "KEYTURN_FLEET_", environ, remedy=NOTHING_HERE)
    return _settings(values), origins


def change_setting(path: Path, name: str, value: str) -> None:
    """Raises: KeyturnError ``usage`` for a name that is no setting or a value that means nothing."""
    settings.change(path / SETTINGS_FILE, DEFAULTS, name, value, _settings)


def _settings(values: Mapping[str, str]) -> Settings:
    for name, (low, high) in _NUMBERS.items():
        if not values[name].isdecimal() or not low <= int(values[name]) <= high:
            raise KeyturnError("usage", f"{name} is a number from {low} to {high}, not {values[name]!r}")
    for name in ("url", "oidc_issuer"):
        if values[name] and not values[name].startswith("https://"):
            raise KeyturnError("usage", f"{name} is an https:// address")
    found = Settings(
        values["url"].rstrip("/") or None, values["listen"], int(values["check_in"]), int(values["again"]),
        int(values["gather"]), int(values["session_hours"]), values["rate_address"], values["rate_prefix"],
        values["oidc_issuer"] or None, values["oidc_client_id"] or None, values["oidc_client_secret_file"] or None,
        values["oidc_ca_file"] or None,
    )  # fmt: skip
    found.rates()
    return found
