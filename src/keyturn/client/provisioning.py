"""Provisioning files: copying one onto a computer is the whole deployment of a product.

Keeps: what a file may say, and bringing a product to what it says. Leaves to others: each step (``client.actions``), the
contact (``client.lines``), the verb (``provision_cli``); the agent applies every file at its start.

- A file describes an end, so what is there already is left alone, and a second run changes nothing.
- Each file is on its own: one that fails stops no other.
- A product key is a secret: a file that others may read is refused, unless the key is of the channel ``client``.
- A name that is not known is refused, with its line: a typing mistake must not be read as a wish.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keyturn.client import actions, hosts, loading
from keyturn.client.homes import Homes
from keyturn.client.loading import Loaded, load
from keyturn.client.machine import Machine
from keyturn.client.policies import policy_of
from keyturn.client.telling import Teller
from keyturn.core import containers, productkey
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.fleet import MAX_TOKEN, EnrollmentToken
from keyturn.core.model import Channel, product_id
from keyturn.core.productkey import ProductKey
from keyturn.edge import files
from keyturn.edge.vault import Shelf

FOLDER = "provision.d"
NAMES = ("product_file", "key_file", "via", "host", "consent", "fleet_token_file")
WAYS = ("auto", "online", "host", "file", "fleet")
MAX_FILE = 65_536
# What can be done to a product, in this order.
ADDED, UPDATED, KEY, CONSENT, ACTIVATED = "product_added", "product_updated", "key_installed", "consent_recorded", "activated"
ENROLLED = "enrolled"  # The computer, with its fleet manager, which does the rest.


class Provision(NamedTuple):
    """What one file says, with its paths made absolute."""

    path: str
    product_file: str | None
    key_file: str | None
    via: str
    consent: bool
    host: str | None = None
    token_file: str | None = None


class Applied(NamedTuple):
    """What was done (or, in a dry run, would be done) for one file, and where the product stands then."""

    file: str
    product: str | None
    actions: tuple[str, ...]
    state: str | None
    error: KeyturnError | None

    def as_json(self) -> dict[str, Any]:
        error = None if self.error is None else self.error.as_json()
        return {
            "product": self.product, "file": self.file, "changed": bool(self.actions), "actions": list(self.actions),
            "state": self.state, "error": error,
        }  # fmt: skip


def provision_files(machine: Machine) -> list[str]:
    """The provisioning files of this computer, in order of name."""
    folder = os.path.join(machine.rules, FOLDER)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [os.path.join(folder, name) for name in names if name.endswith(".toml") and name[:1] != "."]


def apply_all(
    homes: Homes,
    machine: Machine,
    paths: Sequence[str] | None = None,
    *,
    dry_run: bool = False,
    contact: bool = True,
    program: str = "keyturn",
    say: Callable[[str], None] = lambda _text: None,
    connect: Callable[..., Any] | None = None,
) -> list[Applied]:
    """Apply every file, or those named; the results are in their order. Raises nothing: an error is in its file's result.

    ``dry_run``: nothing is changed or sent. Without ``contact`` nothing is sent: the agent's own schedule does that later.
    """
    found = []
    for path in provision_files(machine) if paths is None else paths:
        work = _Work(homes, machine, dry_run=dry_run, contact=contact, program=program, say=say, connect=connect)
        try:
            work.apply(read(path))
            error = None
        except KeyturnError as raised:
            error = raised
        result = Applied(path, work.product, tuple(work.done), work.state(), error)
        if not dry_run:
            _tell(Teller(homes.write, machine, program), result)
        found.append(result)
    return found


def read(path: str) -> Provision:
    """Read one file. Raises: KeyturnError ``provision_malformed`` with the line, ``permission_denied``, ``storage_failed``."""
    data = files.read(path, MAX_FILE)
    if data is None:
        raise KeyturnError("provision_malformed", f"{path} does not exist")
    text = data.decode("utf-8", "replace")
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise KeyturnError("provision_malformed", f"{path}: {error}") from error
    for name, value in values.items():
        where = f"{path}:{_line(text, name)}"
        if name not in NAMES:
            raise KeyturnError("provision_malformed", f"{where}: {name[:40]!r} is not known; there are {', '.join(NAMES)}")
        if not isinstance(value, str) or not value:
            raise KeyturnError("provision_malformed", f"{where}: {name} is a text, and not empty")
    via = values.get("via", "auto")
    if "product_file" not in values and via != "fleet":
        raise KeyturnError("provision_malformed", f"{path}: product_file is missing")
    if "key_file" in values and "product_file" not in values:
        raise KeyturnError("provision_malformed", f"{path}:{_line(text, 'key_file')}: key_file goes with product_file")
    if ("fleet_token_file" in values) != (via == "fleet"):
        raise KeyturnError("provision_malformed", f'{path}: via = "fleet" and fleet_token_file go together')
    if "host" in values:
        try:
            hosts.parse(values["host"])
        except KeyturnError as error:
            raise KeyturnError("provision_malformed", f"{path}:{_line(text, 'host')}: {error.detail}") from error
    if via not in WAYS:
        raise KeyturnError("provision_malformed", f"{path}:{_line(text, 'via')}: via is one of {', '.join(WAYS)}")
    if values.get("consent", "organization") != "organization":
        raise KeyturnError("provision_malformed", f'{path}:{_line(text, "consent")}: consent is "organization", or left out')
    folder = os.path.dirname(os.path.abspath(path))
    product_file, key_file, token_file = (
        None if values.get(name) is None else os.path.join(folder, values[name])
        for name in ("product_file", "key_file", "fleet_token_file")
    )
    return Provision(path, product_file, key_file, via, "consent" in values, values.get("host"), token_file)


def join(homes: Homes, machine: Machine, *, program: str) -> bool:
    """Enroll this computer where files say so, which their turn in :func:`apply_all` without contact left out; ``False`` if a
    file says so and it could not be done.
    """
    wanted = []
    for path in provision_files(machine):
        with contextlib.suppress(KeyturnError):  # One that is not understood was told of in its turn.
            wanted += [path] if read(path).via == "fleet" else []
    return all(result.error is None for result in apply_all(homes, machine, wanted, program=program))


class _Work:
    """The way from one file to its product; ``done`` grows as it goes, so that a failure does not hide what went before."""

    def __init__(
        self, homes: Homes, machine: Machine, *, dry_run: bool, contact: bool, program: str, say: Callable[[str], None],
        connect: Callable[..., Any] | None,
    ) -> None:  # fmt: skip
        self._homes, self._machine, self._dry_run, self._contact = homes, machine, dry_run, contact
        self._program, self._say, self._connect = program, say, connect
        self._shelf: Shelf | None = None
        self._keyed = False
        self.product: str | None = None
        self.done: list[str] = []

    def apply(self, wanted: Provision) -> None:
        """Bring a product to what its file says.

        1. The product file verifies, and is added if it is new or newer.
        2. The key is installed if another one is, or none; a host that is named is the first to be asked.
        3. The organization's consent is on file, if the file gives it and this computer is to send something itself.
        4. The product is activated, if it has a key and needs it; or its fleet manager is left to do that, and this computer
           enrolls.

        Raises: KeyturnError: why a step cannot be taken; ``consent_required``, ``key_file_exposed``, a refusal.
        """
        if wanted.product_file is not None:
            self._prepare(wanted, wanted.product_file)
        # 4.
        if wanted.token_file is not None:
            self._enroll(wanted.token_file)
        elif self._shelf is not None:
            self._activate_if_needed(self._shelf, wanted)

    def _prepare(self, wanted: Provision, product_file: str) -> None:
        """Steps 1 to 3 of :meth:`apply`, for a file that names a product."""
        # 1.
        data = _content(product_file, containers.MAX_FILE, "product file")
        opened = containers.open_product(containers.expect(data, "product"))
        self.product = str(opened.product.name)
        key = None if wanted.key_file is None else _key(wanted.key_file)
        self._shelf = shelf = self._homes.find(opened.product.name)
        before = _stored(shelf)
        new = before is None or before.product.version < opened.product.version
        if not self._dry_run:
            actions.add_product(self._homes.find, data, self._machine)
            new = _stored(shelf) != before
        if new:
            self.done.append(ADDED if before is None else UPDATED)
        # 2.
        loaded = self._load()
        installed = None if loaded is None or loaded.key is None else (loaded.key.product_id, loaded.key.partial)
        wished = None if key is None else (product_id(opened.product.name.slug, key.channel, key.serial), key.partial)
        if key is not None and installed != wished:
            if not self._dry_run:
                actions.install_key(shelf, key.text, self._machine)
            self.done.append(KEY)
        if wanted.host is not None and not self._dry_run and shelf.host() is None:
            shelf.keep_host(str(hosts.parse(wanted.host)))  # The agent asks it first, and others if it is gone.
        # 3.
        if wanted.consent and wanted.via not in ("file", "fleet") and not shelf.consented():
            if loaded is not None and not self._dry_run:
                shelf.keep_consent(loaded.now, "organization")
            self.done.append(CONSENT)
        self._keyed = (wished or installed) is not None

    def _activate_if_needed(self, shelf: Shelf, wanted: Provision) -> None:
        loaded = self._load()
        needed = self._keyed and (KEY in self.done or loaded is None or loading.needs_activation(loaded))
        if needed and wanted.via != "file" and self._contact:
            if not self._dry_run:
                self._activate(shelf, wanted)
            self.done.append(ACTIVATED)

    def _enroll(self, path: str) -> None:
        """Join the fleet of whoever made the token in the file ``path``, unless this computer has.

        Raises: KeyturnError ``provision_malformed``, ``key_file_exposed``, and as ``managed.enroll``.
        """
        from keyturn.client import managed

        text = _content(path, MAX_TOKEN, "enrollment token").decode("utf-8", "replace")
        token = EnrollmentToken.parse(text)
        if files.open_to_others(path):
            raise KeyturnError("key_file_exposed", f"others than its owner may read {path}, which lets computers join your fleet")
        vault = self._homes.write
        known = managed.manager_of(vault)
        if not self._contact or (known is not None and managed.is_of(known, token)):
            return
        if not self._dry_run:
            managed.enroll(vault, self._machine, text)
        self.done.append(ENROLLED)

    def state(self) -> str | None:
        """Where the product stands, if it is on this computer."""
        try:
            loaded = self._load()
        except KeyturnError:
            return None  # What is wrong was raised by the step that met it.
        return None if loaded is None else loaded.standing.state.word

    def _load(self) -> Loaded | None:
        """The stored product; ``None`` if a dry run has not added it."""
        if self._shelf is None or self._shelf.product() is None:
            return None
        return load(self._shelf, self._machine)

    def _activate(self, shelf: Shelf, wanted: Provision) -> None:
        from keyturn.client.lines import Talk

        if not shelf.consented() and policy_of(shelf.vault.home, self._machine).consent != "organization":
            raise KeyturnError(
                "consent_required", f"{wanted.path} gives no consent, and nobody else did",
                remedy='Write consent = "organization" into the file, or a person runs `keyturn activate`.',
            )  # fmt: skip
        token, loaded = actions.make_request(shelf, self._machine)
        with Talk(
            shelf, loaded, self._machine, say=self._say, program=self._program, connect=self._connect
        ) as talk:
            outcome = talk.activate(token)
        if isinstance(outcome, Refused):
            raise outcome.as_error()


def _content(path: str, limit: int, what: str) -> bytes:
    data = files.read(path, limit)
    if data is None:
        raise KeyturnError("provision_malformed", f"the {what} {path} does not exist")
    return data


def _key(path: str) -> ProductKey:
    """The product key in a file. Raises: KeyturnError ``key_file_exposed``, ``key_malformed``, ``key_mistyped``."""
    lines = _content(path, 4096, "key file").decode("utf-8", "replace").splitlines()
    key = productkey.parse(next((line for line in lines if line.strip()), ""))
    if key.channel is not Channel.CLIENT and files.open_to_others(path):
        raise KeyturnError("key_file_exposed", f"others than its owner may read {path}, which holds a {key.channel.value} key")
    return key


def _stored(shelf: Shelf) -> containers.Opened | None:
    """The product that is there, if it verifies: a damaged one is replaced."""
    try:
        container = shelf.product()
        return None if container is None else containers.open_product(container)
    except KeyturnError as error:
        if error.code == "permission_denied":
            raise
        return None


def _line(text: str, name: str) -> int:
    """The number of the line that says ``name``; 1 if it is written in some other way."""
    pattern = re.compile(rf"\s*\[*\s*[\"']?{re.escape(name)}[\"']?\s*[.=\]]")
    return next((number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 1)


def _tell(teller: Teller, result: Applied) -> None:
    """Tell what was done, and what failed if the log does not say so already: the agent comes by often."""
    error = result.error
    if error is not None:
        last = [entry for entry in teller.events() if entry.get("data", {}).get("file") == result.file][-1:]
        if not any((entry["name"], entry["message"]) == ("provision_failed", error.detail) for entry in last):
            teller.tell(
                "provision_failed", product=result.product, code=error.code, return_code=error.exit, message=error.detail,
                remedy=error.remedy, file=result.file,
            )  # fmt: skip
    elif result.actions:
        message = f"{result.file}: {', '.join(result.actions).replace('_', ' ')}"
        teller.tell("provision_applied", product=result.product, message=message, file=result.file, actions=list(result.actions))
