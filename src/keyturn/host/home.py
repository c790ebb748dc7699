"""The host's folder: settings, the host's key, TLS files, the ledger, and what it may lease.

Keeps: where everything lies, and that nothing is believed that does not verify. Leaves to others: how a host gets its certificate
(``enrolling``), what it does with it (``leasing``).

- ``host.key`` is the host's identity: the publisher's service certifies it, and it signs leases. It never leaves this folder.
- ``products/NAME/`` holds a product file with its trust bundles, the ``host`` key's public part and K, and the host certificate.
- A host certificate that does not verify is as if it were absent, and the reason is said.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from keyturn.core import containers, hosting
from keyturn.core.containers import Opened
from keyturn.core.errors import KeyturnError
from keyturn.core.hosting import HostCertificate
from keyturn.core.model import DAY, ProductName
from keyturn.edge import files, keystore, settings, sodium, tls
from keyturn.edge.database import Database, open_database
from keyturn.edge.keystore import Signer
from keyturn.edge.ratelimit import Rate, Rates
from keyturn.edge.settings import LISTENING

PROGRAM = "host"
DATABASE = "host.db"
NOTHING_HERE = "Run `keyturn host init FILE.ktproduct` first."
OBSERVERS = ("loopback", "everyone")
KEPT_CERTIFICATES = 4  # A lease is sent again beside the certificate it was issued under.
_DEFAULTS: Mapping[str, str] = {
    "name": "", "listen": "127.0.0.1:8444", "domains": "", "renew_after": str(7 * DAY), "retry_after": "7200",
    "observers": "loopback", "hosts": "", "priority": "0", "weight": "0", "update_server": "", "update_key_file": "",
    # Requests, PER_SECOND/BURST or off. Generous: a site of ten thousand may switch on behind one address.
    "rate_address": "200/20000", "rate_prefix": "400/40000",
}  # fmt: skip
SETTINGS = tuple(_DEFAULTS)
_SECONDS = ("renew_after", "retry_after")


class Settings(NamedTuple):
    """What an administrator may set. Intervals are seconds; ``hosts`` are other hosts, as NAME[:PORT]."""

    name: str
    listen: str
    domains: tuple[str, ...]
    renew_after: int
    retry_after: int
    observers: str
    hosts: tuple[str, ...]
    priority: int
    weight: int
    update_server: str | None
    update_key_file: str | None
    rate_address: str
    rate_prefix: str

    def rates(self) -> Rates:
        """The limits on requests. Raises: KeyturnError ``usage`` for a setting that is no rate."""
        return Rates(Rate.parse(self.rate_address), Rate.parse(self.rate_prefix))


class Permit(NamedTuple):
    """What this host may do for one product: its certificates, the newest first, or why there is none (``why_not``)."""

    folder: Path
    opened: Opened
    product_id: str | None
    certificate: HostCertificate | None
    tokens: tuple[tuple[HostCertificate, str], ...]
    why_not: str | None
    via: str | None = None  # By which way the newest one came: online, file, telephone.

    @property
    def name(self) -> ProductName:
        return self.opened.product.name

    def token_of(self, issued_at: int) -> str:
        """The newest certificate that was in force then, as it travels beside a lease."""
        return next(
            (token for host, token in self.tokens if host.issued_at <= issued_at <= host.expires_at), self.tokens[0][1]
        )


class HostHome:
    """An initialised host folder, opened."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        files.check_home(path, PROGRAM)
        self.path, self._environ = path, environ
        self.settings, self.origins = read_settings(path, environ)
        signer = keystore.load(path / "host.key", sodium.signer)
        installation = files.read_json(path / "installation.json")
        if signer is None or installation is None:
            raise KeyturnError("not_initialised", f"{path} holds no host", remedy=NOTHING_HERE)
        self.signer: Signer = signer
        self.guid = str(installation.get("guid"))
        self._stamp = self._stamped()
        self.permits = self._permits()

    @property
    def listening(self) -> str:
        """Where the host listens, or did last; else where it would."""
        said = files.read_json(self.path / LISTENING) or {}
        return str(said.get("listen") or self.settings.listen)

    @property
    def tls_files(self) -> tuple[str, str]:
        return str(self.path / "tls" / "cert.pem"), str(self.path / "tls" / "key.pem")

    def refresh(self) -> bool:
        """Take products and certificates that were written since into use; whether there were any."""
        stamp = self._stamped()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self.permits = self._permits()
        return True

    def permit(self, slug: str | None) -> Permit:
        """The product that ``slug`` (or THUMBPRINT/SLUG) names, or the only one.

        Raises: KeyturnError ``product_missing``, ``product_ambiguous``.
        """
        found = [p for p in self.permits.values() if slug is None or slug in (p.name.slug, str(p.name))]
        if not found:
            raise KeyturnError("product_missing", f"{self.path} has no such product", remedy=NOTHING_HERE)
        if len(found) > 1:
            raise KeyturnError("product_ambiguous", f"this host has {', '.join(str(p.name) for p in found)}")
        return found[0]

    def open_database(self) -> Database:
        from keyturn.host import ledger

        return open_database(self.path / DATABASE, migrations=ledger.migrations())

    def _permits(self) -> dict[ProductName, Permit]:
        found = [read_permit(folder, self.signer) for folder in _folders(self.path)]
        return {permit.name: permit for permit in found}

    def _stamped(self) -> object:
        # One look at one file: every command that changes a product writes it last.
        return files.stamp(self.path / "products" / CHANGED)


CHANGED = "changed"


def note_change(path: Path) -> None:
    """Say that products or certificates were written, so that a running host takes them."""
    files.write(path / "products" / CHANGED, b"")


def initialise(path: Path, guid: str, now: int) -> bool:
    """Make a host folder; whether there was none.

    1. The host's key, TLS files of its own, the installation's name.
    2. The home's marker, last: a folder without it is no host.

    Raises: KeyturnError ``home_foreign``, ``storage_failed``, ``permission_denied``.
    """
    files.check_home(path, PROGRAM)
    if (path / "installation.json").exists():
        files.claim_home(path, PROGRAM)  # Unless it is claimed already: an attempt may have been cut short just before.
        return False
    # 1.
    path.mkdir(parents=True, exist_ok=True)
    os.chmod(path, 0o700)
    if keystore.load(path / "host.key") is None:
        keystore.create(path / "host.key")
    if files.read(path / "tls" / "cert.pem") is None:
        tls.create_own(path / "tls", name="Keyturn activation host", now=now)
    settings.write(settings_file(path), {})
    files.write_json(path / "installation.json", {"v": 1, "guid": guid})
    note_change(path)
    # 2.
    files.claim_home(path, PROGRAM)
    return True


def add_product(path: Path, data: bytes) -> tuple[Opened, bool]:
    """Verify a product file and keep it, with all bundles that are known; whether anything was new.

    Raises: KeyturnError why it does not verify, ``issuer_revoked``, ``trust_invalid`` for another history than is known.
    """
    from keyturn.core import trust
    from keyturn.core.jws import Kind

    opened = containers.open_product(containers.expect(data, "product"))
    if opened.chain.doubt(opened.document, Kind.PRODUCT) is not None:
        raise KeyturnError("issuer_revoked", "the product file is signed by a key that its publisher revoked")
    name = opened.product.name
    place = folder_of(path, name) / "product.json"
    stored = files.read_json(place)
    if stored is not None:
        known = containers.open_product(stored, name.thumbprint)
        chain = trust.longer(known.chain.texts, opened.chain.texts, name.thumbprint)
        newer = opened if opened.product.version >= known.product.version else known
        opened = Opened(newer.product, chain, newer.document)
    new = opened.container() != stored
    if new:
        files.write_json(place, opened.container())
        note_change(path)
    return opened, new


def folder_of(path: Path, name: ProductName) -> Path:
    """Where a product lies. The folder's name is for people; what counts is what is inside."""
    return path / "products" / f"{name.slug}{'+test' if name.test else ''}-{name.thumbprint[:12]}"


def read_permit(folder: Path, signer: Signer) -> Permit:
    """What is stored of one product, verified. Raises: KeyturnError if the product file itself does not verify."""
    container = files.read_json(folder / "product.json") or {}
    opened = containers.open_product(container)
    key = files.read_json(folder / "key.json") or {}
    stored = files.read_json(folder / "certificate.json") or {}
    texts = [text for text in stored.get("hosts", []) if isinstance(text, str)]
    found: list[tuple[HostCertificate, str]] = []
    why_not: str | None = "not_activated"
    for text in texts:
        try:
            host = hosting.read_host(text, opened.product, opened.chain)
        except KeyturnError as error:
            why_not = error.code if not found else why_not
            continue
        if host.public == signer.public:
            found.append((host, text))
        elif not found:
            why_not = "document_foreign"
    certificate = found[0][0] if found else None
    via = stored.get("via") if found else None
    return Permit(folder, opened, key.get("product_id"), certificate, tuple(found), None if found else why_not, via)


def _folders(path: Path) -> list[Path]:
    return sorted(place.parent for place in (path / "products").glob("*/product.json"))


def settings_file(path: Path) -> Path:
    return path / "host.toml"


def read_settings(path: Path, environ: Mapping[str, str]) -> tuple[Settings, dict[str, str]]:
    """The settings in force, and where each comes from: environment over file over default.

    Raises: KeyturnError ``not_initialised``, ``file_malformed``, ``usage`` for a value that means nothing.
    """
    values, origins = settings.read(settings_file(path), _DEFAULTS, "KEYTURN_HOST_", environ, remedy=NOTHING_HERE)
    return _settings(values), origins


def change_setting(path: Path, name: str, value: str) -> None:
    """Raises: KeyturnError ``usage`` for a name that is no setting or a value that means nothing."""
    settings.change(settings_file(path), _DEFAULTS, name, value, _settings)


def _settings(values: Mapping[str, str]) -> Settings:
    from keyturn.core.schedule import LEAST, MOST

    numbers = {}
    for name in (*_SECONDS, "priority", "weight"):
        low, high = (LEAST, MOST) if name in _SECONDS else (0, 65_535)
        if not values[name].isdecimal() or not low <= int(values[name]) <= high:
            raise KeyturnError("usage", f"{name} is a number from {low} to {high}, not {values[name]!r}")
        numbers[name] = int(values[name])
    if values["observers"] not in OBSERVERS:
        raise KeyturnError("usage", f"observers is one of {', '.join(OBSERVERS)}")
    found = Settings(
        values["name"] or socket.getfqdn(), values["listen"], _words(values["domains"]), numbers["renew_after"],
        numbers["retry_after"], values["observers"], _words(values["hosts"]), numbers["priority"], numbers["weight"],
        values["update_server"] or None, values["update_key_file"] or None, values["rate_address"], values["rate_prefix"],
    )  # fmt: skip
    found.rates()
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())
