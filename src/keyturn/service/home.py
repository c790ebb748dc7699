"""The service's folder: settings, trust bundles, issuing keys, pepper, TLS files, database.

- ``root/`` holds the publisher's root key and every issuing key. ``service run`` never opens it.
- ``keys/`` holds the issuing keys of this period and the next, or says which ones another signer holds (``signing``);
  ``pepper/`` the secret that seals product keys.
- A backup of the database without ``pepper/`` yields no usable product key; without ``root/`` no new trust bundle.
"""

from __future__ import annotations

import base64
import os
import secrets
import shlex
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from keyturn.core import trust
from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY
from keyturn.core.trust import Chain, IssuingKey
from keyturn.edge import files, keystore, settings, tls
from keyturn.edge.database import Database, open_database
from keyturn.edge.ratelimit import Rate, Rates
from keyturn.edge.secret import Prompt
from keyturn.edge.signers import Holder, Watcher
from keyturn.service import confirming, signing
from keyturn.service.signing import IssuingSigner

PROGRAM = "service"
PERIOD = 90 * DAY  # An issuing key's life.
STEP = 75 * DAY  # From one key's start to the next: fifteen days of overlap.
AHEAD = 10  # Keys made at init: two years are authorised.
TAKES_IT = "A running service takes it at its next start."
TAKES_IT_AT_ONCE = "A running service takes it within a second."
# Requests, PER_SECOND/BURST or off. Generous: a whole campus may wake up behind one address on a Monday.
RATES = {"rate_address": "100/2000", "rate_prefix": "400/8000", "rate_key": "50/5000"}
_DEFAULTS: Mapping[str, str] = {
    "url": "https://localhost:8443", "probe_url": "none", "publisher": "", "database": "service.db", **RATES, **signing.SETTINGS,
}  # fmt: skip
SETTINGS = tuple(_DEFAULTS)


class Settings(NamedTuple):
    """What an operator may set, beside what command lines say."""

    publisher: str
    url: str
    probe_url: str | None
    database: str
    rate_address: str
    rate_prefix: str
    rate_key: str
    signer: str
    signer_processes: str
    signer_command: str
    pkcs11_module: str
    pkcs11_token: str

    def rates(self) -> Rates:
        """The limits on requests. Raises: KeyturnError ``usage`` for a setting that is no rate."""
        return Rates(Rate.parse(self.rate_address), Rate.parse(self.rate_prefix), Rate.parse(self.rate_key))

    def signing(self) -> signing.Choice:
        """Who signs. Raises: KeyturnError ``usage`` for a setting that means nothing."""
        return signing.Choice.read({name: getattr(self, name) for name in signing.SETTINGS})


class ServiceHome:
    """An initialised service folder, opened. It reads everything but ``root/``. ``prompt`` asks a person for a PIN."""

    def __init__(self, path: Path, environ: Mapping[str, str], prompt: Prompt | None = None) -> None:
        files.check_home(path, PROGRAM)
        self.path, self._environ = path, environ
        self._stamp = stamp(path)  # Before anything is read: what changes meanwhile is seen as a change.
        self.settings, self.origins = read_settings(path, environ)
        bundles = files.read_json(path / "bundles.json")
        if bundles is None:
            raise KeyturnError("not_initialised", f"{path} holds no service")
        self.chain: Chain = chain_of(bundles)
        self.secrets = signing.secrets(environ, prompt)
        self.watchers: list[Watcher] = []  # Of signatures, whoever makes them.
        self.load_signers()
        self.ca = (files.read(path / "tls" / "ca.pem") or b"").decode()

    @property
    def tls_files(self) -> tuple[str, str]:
        return str(self.path / "tls" / "cert.pem"), str(self.path / "tls" / "key.pem")

    def load_signers(self) -> None:
        """Look which issuing keys are here. Nothing is opened, and nobody is asked."""
        self._take(*signing.open_holder(self.path, self.settings.signing(), self.secrets))

    def _take(self, holder: Holder, held: Mapping[str, bytes]) -> None:
        self.holder = holder
        self.holder.watchers = self.watchers
        self.signers: dict[str, IssuingSigner] = signing.signers(holder, held)

    def open_signer(self) -> None:
        """Open the signer before it is needed, and take the keys that it says it holds.

        Raises: KeyturnError ``signer_locked``, ``store_damaged``, ``signer_unavailable`` (also if it holds none of ours).
        """
        held = signing.ask(self.path, self.settings.signing(), self.holder, self.named())
        self.signers = signing.signers(self.holder, held)

    def named(self) -> set[str]:
        """Every issuing key that a trust bundle names."""
        return {kid for bundle in self.chain.bundles for kid in bundle.keys}

    def signer(self, role: str, now: int) -> tuple[IssuingKey, IssuingSigner]:
        """The issuing key to sign with now: of those in force that are here, the newest.

        Raises: KeyturnError ``trust_invalid`` when every key here is past its time.
        """
        found = [
            (key, self.signers[key.kid])
            for key in self.chain.newest.keys.values()
            if key.role == role and key.kid in self.signers and key.not_before <= now <= key.not_after
        ]
        if not found:
            raise KeyturnError(
                "trust_invalid", f"no issuing key for role {role!r} is in force",
                remedy="Bring the next keys from the root folder: `keyturn service issuing-key rotate`.",
            )  # fmt: skip
        return max(found, key=lambda item: item[0].not_before)

    def close(self) -> None:
        """Let the signer go."""
        self.holder.close()

    def changed(self) -> bool:
        """Whether trust bundles or issuing keys were written since this was opened: two looks at the disk, no reading."""
        return self._stamp != stamp(self.path)

    def refresh(self) -> bool:
        """Take a newer trust bundle and other key files into use, if there are any; whether there were.

        A signer that is not made of plain files keeps what it holds until the next start.
        """
        if not self.changed():
            return False
        self._stamp = stamp(self.path)
        self.chain = chain_of(files.read_json(self.path / "bundles.json") or {})
        # Keys that are being moved elsewhere, or were encrypted just now, stay in use here as they were.
        if self.settings.signer == read_settings(self.path, self._environ)[0].signer == signing.FILE:
            holder, held = signing.open_holder(self.path, self.settings.signing(), self.secrets)
            if not holder.sealed:
                self._take(holder, held)
        return True

    def pepper(self, version: int = 1) -> bytes:
        data = files.read(self.path / "pepper" / str(version), 200)
        if data is None:
            raise KeyturnError(
                "store_damaged",
                f"pepper {version} is missing: no product key can be checked without it",
                remedy="Put the secrets back: `keyturn service restore --secrets FILE`.",
            )
        return base64.b64decode(data)

    def open_database(self) -> Database:
        return open_database(database_path(self.path, self.settings), migrations=migrations())


def database_path(path: Path, settings: Settings) -> Path:
    return path / settings.database.removeprefix("sqlite:///")


def migrations() -> list[str]:
    """The scripts that make the database, in order; their number is the version of the schema."""
    schema = resources.files("keyturn.service") / "schema"
    scripts = sorted((item for item in schema.iterdir() if item.name.endswith(".sql")), key=lambda item: item.name)
    return [item.read_text("utf-8") for item in scripts]


def chain_of(bundles: Mapping[str, Any]) -> Chain:
    """The verified chain in the content of ``bundles.json``. Raises: KeyturnError as ``trust.verify_chain``."""
    texts = bundles.get("bundles")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise KeyturnError("trust_invalid", "bundles.json holds no trust bundle")
    return trust.verify_chain(texts, trust.pin_of(texts[0]))


def stamp(path: Path) -> tuple[object, ...]:
    """What is different after any write of trust bundles or issuing keys. Raises: KeyturnError ``storage_failed``."""
    return files.stamp(path / "bundles.json"), files.stamp(path / "keys")


def adopt(path: Path, text: str) -> Chain:
    """Put the next trust bundle into force; the result is the chain that the service has now.

    1. One adoption at a time, on what is stored now.
    2. It verifies as the next of this very history (``trust.longer``): no fork, no gap, nothing lower. The one that is newest
       already changes nothing.
    3. All bundles are kept, and the file is replaced in one step.

    Raises: KeyturnError ``trust_invalid``, ``signature_invalid``, ``not_initialised``, ``storage_failed``.
    """
    place = path / "bundles.json"
    # 1.
    with files.lock(path / ".bundles.lock"):
        stored = files.read_json(place)
        if stored is None:
            raise KeyturnError("not_initialised", f"{path} holds no service")
        known = chain_of(stored)
        # 2.
        chain = trust.longer(known.texts, [text], known.thumbprint)
        if chain.newest.digest != trust.pin_of(text):
            raise KeyturnError(
                "trust_invalid", f"bundle {chain.newest.number} is in force, and this one is older: bundles only go up",
                remedy="Nothing is to be done with it any more.",
            )  # fmt: skip
        # 3.
        if chain.texts != known.texts:
            files.write_json(place, {**stored, "bundles": list(chain.texts)})
    return chain


def rotate(path: Path, chain: Chain, now: int, *, ahead: int = 1) -> list[IssuingKey]:
    """Bring the issuing keys that are due from the root folder to the service: per role, those in force and ``ahead`` more.

    Returns the keys that were not here. Needs ``root/issuing`` (put it back from its safe place for this), which keeps them
    too: a service that lost its keys gets them again. Raises: KeyturnError ``not_found`` if it is not there.
    """
    sealed = path / "root" / "issuing"
    if not sealed.is_dir():
        raise KeyturnError(
            "not_found",
            f"{sealed} is not here",
            remedy="Bring the root folder from its safe place, rotate, and take it away again.",
        )
    brought = []
    found = {
        signer.kid: place for place in sorted(sealed.glob("*.key")) if (signer := keystore.load(place)) is not None
    }
    here = signing.here(path)
    for role in (trust.ROLE_ISSUE, trust.ROLE_TEST):
        coming = sorted(
            (k for k in chain.newest.keys.values() if k.role == role and k.not_after > now), key=lambda k: k.not_before
        )
        begun = sum(key.not_before <= now for key in coming)
        for key in coming[: max(begun, 1) + ahead]:
            if key.kid in found and key.kid not in here:
                place = found[key.kid]
                files.write(path / "keys" / place.name, files.read(place, 16_384) or b"", files.PRIVATE)
                brought.append(key)
    return brought


def settings_file(path: Path) -> Path:
    return path / "service.toml"


def read_settings(path: Path, environ: Mapping[str, str]) -> tuple[Settings, dict[str, str]]:
    """The settings in force, and where each comes from: environment over file over default."""
    values, origins = settings.read(
        settings_file(path), _DEFAULTS, "KEYTURN_SERVICE_", environ, join=shlex.join  # A command may be a list.
    )  # fmt: skip
    return _settings(values), origins


def change_setting(path: Path, name: str, value: str) -> None:
    """Raises: KeyturnError ``usage`` for a name that is no setting, must not change, or a value that means nothing."""
    if name == "publisher":
        raise KeyturnError("usage", "publisher is what trust bundles say, and never changes")

    def check(values: Mapping[str, str]) -> None:
        found = _settings(values)
        found.rates()
        found.signing()

    settings.change(settings_file(path), _DEFAULTS, name, value, check)


def _settings(values: Mapping[str, str]) -> Settings:
    return Settings(
        values["publisher"], values["url"].rstrip("/"), None if values["probe_url"] == "none" else values["probe_url"],
        values["database"], *(values[name] for name in (*RATES, *signing.SETTINGS)),
    )  # fmt: skip


def initialise(path: Path, *, publisher: str, url: str, probe_url: str | None, database: str, now: int) -> str:
    """Make a service folder; the result is the publisher's thumbprint.

    1. Root key, in ``root/``; pepper, in ``pepper/``.
    2. Issuing keys for two years, sealed away beside the root; the first two of each role in ``keys/`` too. With the extra
       ``phone`` a confirmation key of each role.
    3. Trust bundle 1 names them all, signed by the root.
    4. A private TLS authority and a server certificate for first use.
    5. The settings and the home's marker, last: a folder without them is not a service.

    Raises: KeyturnError ``already_initialised``, ``home_foreign``, ``storage_failed``.
    """
    files.check_home(path, PROGRAM)
    if settings_file(path).exists():
        raise KeyturnError("already_initialised", f"{path} is a service already")
    path.mkdir(parents=True, exist_ok=True)
    os.chmod(path, 0o700)
    if (path / "root").exists():
        raise KeyturnError(
            "already_exists",
            f"{path / 'root'} exists from an attempt that was cut short",
            remedy="Remove the folder if nothing was made with it, then init again.",
        )
    # 1.
    (path / "root" / "issuing").mkdir(parents=True)  # Whoever runs this owns it, whosever the home is.
    root = keystore.create(path / "root" / "root-1.key")
    os.chmod(path / "root", 0o700)
    files.write(path / "pepper" / "1", base64.b64encode(secrets.token_bytes(32)), files.PRIVATE)
    # 2.
    keys = []
    for role in (trust.ROLE_ISSUE, trust.ROLE_TEST):
        for period in range(AHEAD):
            place = path / "root" / "issuing" / f"{role}-{period + 1:02d}.key"
            signer = keystore.create(place)
            if period < 2:
                files.write(path / "keys" / place.name, files.read(place) or b"", files.PRIVATE)
            begins = now - DAY + period * STEP  # A day back: the clocks of first clients may lie behind.
            keys.append(IssuingKey(signer.kid, signer.public, role, begins, begins + PERIOD))
    phone = confirming.make(path, None, now)
    # 3.
    claims = trust.bundle_claims(
        publisher=publisher, number=1, previous=None, issued_at=now, threshold=1, roots=[root.public], keys=keys,
        phone=phone,
    )
    text = trust.sign_bundle(claims, [(root.public, root.sign)])
    files.write_json(path / "bundles.json", {"v": 1, "bundles": [text]})
    # 4.
    tls.create_authority(path / "tls", publisher=publisher, url=url, now=now)
    # 5.
    told = {"publisher": publisher, "url": url, "probe_url": probe_url or "none", "database": database}
    settings.write(settings_file(path), told)
    files.claim_home(path, PROGRAM)
    return trust.pin_of(text)
