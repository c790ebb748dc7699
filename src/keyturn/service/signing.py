"""Who signs for the service: the kind of signer that the settings name, and one typed act for each issuing key.

Keeps: what may be signed, which holder the settings mean, and the list of keys that are held elsewhere. Leaves to others:
how a holder signs (``edge.signer_files``, ``edge.signer_program``), moving keys between them (``storing``).

- What is signed is a decision that was recorded (``seats.Intent``, which only ``recording`` makes), a product file's content
  (:class:`Sheet`), a revocation list (:class:`Listing`), or a host's answer by telephone (:class:`Call`). Nobody hands bytes to
  an issuing key.
- Which keys are here is known without a PIN or passphrase: from the key files, or from ``keys/public.json``, which is what
  the token or the program said when the service was last started.
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.edge import files, signer_files
from keyturn.edge.secret import Prompt, Secret
from keyturn.edge.signer_files import FileKeys
from keyturn.edge.signer_program import Programs
from keyturn.edge.signers import Holder, Signed
from keyturn.service.seats import Intent

FILE, ENCRYPTED, TOKEN, COMMAND = "file", "encrypted-file", "pkcs11", "command"
KINDS = (FILE, ENCRYPTED, TOKEN, COMMAND)
MAX_PROCESSES = 32
# What `service.toml` says about signers, and what holds if it says nothing.
SETTINGS = {"signer": FILE, "signer_processes": "2", "signer_command": "", "pkcs11_module": "", "pkcs11_token": "keyturn"}
PUBLIC = "keys/public.json"
TOKEN_PROGRAM = (sys.executable, "-I", "-m", "keyturn.edge.token_program")


class Sheet(NamedTuple):
    """The content of a product file, ready to be signed. Only the activation service makes it."""

    kid: str
    payload: bytes

    @property
    def kind(self) -> Kind:
        return Kind.PRODUCT


class Listing(NamedTuple):
    """The content of a revocation list, ready to be signed. Only the activation service makes it."""

    kid: str
    payload: bytes

    @property
    def kind(self) -> Kind:
        return Kind.REVOCATIONS


class Call(NamedTuple):
    """The content of an activation host's certificate that goes by telephone, recorded. Only ``telephone_hosts`` makes it."""

    kid: str
    payload: bytes

    @property
    def kind(self) -> Kind:
        return Kind.HOST_PHONE


Paper = Intent | Sheet | Listing | Call


class IssuingSigner:
    """One issuing key, wherever it is held: it signs recorded decisions, product files and revocation lists that name it."""

    def __init__(self, kid: str, public: bytes, holder: Holder) -> None:
        self.kid, self.public = kid, public
        self._holder = holder

    def __repr__(self) -> str:
        return f"IssuingSigner({self.kid})"

    @property
    def waits(self) -> bool:
        """Whether a signature may take long: an event loop asks :meth:`submit`."""
        return self._holder.waits

    def sign(self, what: Paper) -> Signed:
        """Sign, and wait for it.

        Raises: KeyturnError ``internal`` for anything else than these types, or another key's; ``signer_unavailable``,
        ``signer_locked``.
        """
        self._check(what)
        return self._holder.sign(what)

    def submit(self, what: Paper) -> Future[Signed]:
        """Begin to sign. The future fails as :meth:`sign` does. Raises: KeyturnError ``internal``."""
        self._check(what)
        return self._holder.submit(what)

    def _check(self, what: object) -> None:
        if not isinstance(what, (Intent, Sheet, Listing, Call)) or what.kid != self.kid:
            raise KeyturnError("internal", "an issuing key was asked to sign what it must not")


class Secrets(NamedTuple):
    """What opens signers, each looked for when it is needed."""

    passphrase: Secret
    pin: Secret

    @property
    def known(self) -> bool:
        """Whether one of them was found."""
        return self.passphrase.known or self.pin.known


def secrets(environ: Mapping[str, str], prompt: Prompt | None = None) -> Secrets:
    """Where passphrase and PIN come from; ``prompt`` asks a person, if there is one."""
    return Secrets(
        Secret(
            "passphrase", environ, variable="KEYTURN_SERVICE_PASSPHRASE_FILE", credential="keyturn-passphrase", prompt=prompt
        ),
        Secret("PIN", environ, variable="KEYTURN_SERVICE_PIN_FILE", credential="keyturn-pin", prompt=prompt),
    )


class Choice(NamedTuple):
    """The settings of signers. ``command`` is a list of arguments, which no shell sees."""

    kind: str
    processes: int
    command: list[str]
    module: str
    token: str

    @classmethod
    def read(cls, settings: Mapping[str, str]) -> Choice:
        """Raises: KeyturnError ``usage`` for a value that means nothing."""
        kind, processes = settings["signer"], settings["signer_processes"]
        if kind not in KINDS:
            raise KeyturnError("usage", f"signer is one of {', '.join(KINDS)}, not {kind!r}")
        if not processes.isdecimal() or not 1 <= int(processes) <= MAX_PROCESSES:
            raise KeyturnError("usage", f"signer_processes is a number from 1 to {MAX_PROCESSES}, not {processes!r}")
        try:
            command = shlex.split(settings["signer_command"])
        except ValueError as error:
            raise KeyturnError("usage", f"signer_command is not understood: {error}") from error
        return cls(kind, int(processes), command, settings["pkcs11_module"], settings["pkcs11_token"])

    @property
    def elsewhere(self) -> bool:
        """Whether the keys are not in files here."""
        return self.kind in (TOKEN, COMMAND)


def open_holder(path: Path, choice: Choice, secret: Secrets) -> tuple[Holder, dict[str, bytes]]:
    """The holder that ``choice`` means, for the home at ``path``, and which keys it holds as far as is known without asking.

    Raises: KeyturnError ``usage`` for a setting that is missing, ``extra_missing``, ``permission_denied``, ``store_damaged``.
    """
    if not choice.elsewhere:
        keys = FileKeys(path / "keys", secret.passphrase)
        return keys, keys.held
    held = elsewhere(path)
    return programs(choice, held, secret), held


def programs(choice: Choice, held: Mapping[str, bytes], secret: Secrets) -> Programs:
    """The holder for keys that are elsewhere. Raises as :func:`open_holder`."""
    if choice.kind == COMMAND:
        if not choice.command:
            raise KeyturnError("usage", "no program is named that signs", remedy=_set("signer_command 'PROGRAM ARGUMENTS'"))
        return Programs(choice.command, held, count=choice.processes)
    demand_module(choice)

    def greeting() -> dict[str, Any]:
        return {"module": choice.module, "token": choice.token, "pin": secret.pin()}

    return Programs(TOKEN_PROGRAM, held, greeting=greeting, count=choice.processes)


def demand_module(choice: Choice) -> None:
    """Raises: KeyturnError ``extra_missing`` without python-pkcs11, ``usage`` if no module is named."""
    if importlib.util.find_spec("pkcs11") is None:
        line = "pip install 'keyturn[hsm]'"
        raise KeyturnError("extra_missing", f"a PKCS#11 token needs python-pkcs11: {line}", remedy=f"Install it: {line}")
    if not choice.module:
        raise KeyturnError("usage", "no PKCS#11 module is named", remedy=_set("pkcs11_module /usr/lib/…/libsofthsm2.so"))


def elsewhere(path: Path) -> dict[str, bytes]:
    """The public keys by ``kid`` that a token or program was last known to hold. Raises: KeyturnError ``file_malformed``."""
    known = files.read_json(path / PUBLIC) or {"keys": []}
    try:
        found = [jws.public_from_jwk(value) for value in known["keys"]]
    except (KeyError, TypeError, KeyturnError) as error:
        raise KeyturnError("file_malformed", f"{path / PUBLIC} is not a list of keys") from error
    return {jws.thumbprint(public): public for public in found}


def here(path: Path) -> set[str]:
    """The ``kid`` of every key whose private half is in a file of the home, or is known to be elsewhere."""
    kept = [signer_files.public_of(signer_files.read(place), str(place)) for place in signer_files.key_files(path / "keys")]
    return {jws.thumbprint(public) for public in kept} | set(elsewhere(path))


def remember(path: Path, held: Mapping[str, bytes]) -> None:
    """Keep what a token or program holds, so that it need not be asked to know."""
    files.write_json(path / PUBLIC, {"v": 1, "keys": [jws.jwk(held[kid]) for kid in sorted(held)]})


def signers(holder: Holder, held: Mapping[str, bytes]) -> dict[str, IssuingSigner]:
    return {kid: IssuingSigner(kid, public, holder) for kid, public in held.items()}


def ask(path: Path, choice: Choice, holder: Holder, named: Collection[str]) -> dict[str, bytes]:
    """Open the signer and hear which keys it holds that bundles name; those that are elsewhere are remembered.

    Raises: KeyturnError ``signer_locked``, ``store_damaged``, ``signer_unavailable`` (also if it holds none that is named).
    """
    held = {kid: public for kid, public in holder.keys().items() if kid in named}
    if choice.elsewhere and not held:
        raise KeyturnError(
            "signer_unavailable", "the signer holds no issuing key that a trust bundle names",
            remedy="Move the keys there (`keyturn service issuing-key store`), or authorise keys that it holds.",
        )  # fmt: skip
    if choice.elsewhere and held != elsewhere(path):
        remember(path, held)
    return held


def _set(what: str) -> str:
    return f"keyturn service config set {what}"
