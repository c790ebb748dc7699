"""The SDK: a product asks whether it is licensed, in three lines, without the network.

    license = Client.from_file("paintbox.ktproduct")      # shipped inside the application: it pins the product
    license.require("layers")                              # raises NotLicensed, with reason, remedy and days left

The application pins the product, not the store: a store that holds another publisher's "paintbox" is another
product's. Nothing is read before the first question, and no question opens a connection; ``activate`` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from keyturn.client import actions, loading
from keyturn.client.homes import Homes, open_homes
from keyturn.client.loading import Loaded, again, load, status_of
from keyturn.client.machine import Machine
from keyturn.client.record import remember
from keyturn.client.telling import Teller
from keyturn.core import containers
from keyturn.core.errors import KeyturnError
from keyturn.core.model import ProductName, State
from keyturn.core.trust import Floor
from keyturn.edge import files
from keyturn.edge.vault import Shelf

if TYPE_CHECKING:
    from keyturn.client.lines import Talk

Consent = Callable[[Mapping[str, Any]], bool]
Progress = Callable[[str], None]
Connect = Callable[..., Any]  # As ``flows.exchange.Line``: a test's own way to the service.
_FLOOR = re.compile(r"([1-9][0-9]{0,2}):([A-Za-z0-9_-]{43})")


class Status(NamedTuple):
    """Where the product stands. ``reason``, ``remedy`` and ``days_left`` are ``None`` when there is nothing to do."""

    state: str
    usable: bool
    edition: str | None
    features: tuple[str, ...]
    days_left: int | None
    reason: str | None
    remedy: str | None
    warning: str | None
    details: Mapping[str, Any]


class NotLicensed(KeyturnError):
    """The product may not run, or not this feature: ``reason``, ``remedy`` and ``days_left`` tell the person why."""

    def __init__(self, code: str, detail: str, *, reason: str | None, remedy: str | None, days_left: int | None) -> None:
        super().__init__(code, detail, remedy=remedy)
        self.reason = reason
        self.days_left = days_left


class Client:
    """One product on this computer. Raises nothing until it is asked something."""

    def __init__(
        self,
        product: str | ProductName,
        *,
        test: bool = False,
        version: str | None = None,
        home: str | Path | None = None,
        scope: str | None = None,
        machine: Machine | None = None,
        connect: Connect | None = None,
        product_file: bytes | None = None,
        floor: str | Floor | None = None,
    ) -> None:
        """``product``: THUMBPRINT/SLUG, compiled into the application. ``test`` asks for the test product of that name.

        ``floor``: NUMBER:DIGEST of a trust bundle, as ``product export`` prints it, compiled in too. A publisher's history
        without that very bundle is not believed: a root that was retired before it can deceive nobody.
        ``version`` is the application's own, told at activation. ``home`` and ``scope`` choose the store. ``machine`` and
        ``connect`` are for tests (``keyturn.testing``): another computer and clock, another way to the service.
        """
        name = ProductName.parse(product) if isinstance(product, str) else product
        self.product = ProductName(name.thumbprint, name.slug, name.test or test)
        self._version = version
        self._machine = machine or Machine()
        self._home = None if home is None else str(home)
        self._scope = scope
        self._connect = connect
        self._opened: Homes | None = None
        self._seen: tuple[tuple[bytes | None, ...], Loaded] | None = None
        self._file = product_file
        self._floor = _floor(floor) if isinstance(floor, str) else floor

    @classmethod
    def from_file(cls, path: str | Path, *, test: bool = False, **options: Any) -> Client:
        """Pin the product whose file ships with the application, and the trust bundles that it was made under.

        Raises: KeyturnError ``file_malformed``, ``signature_invalid``, ``trust_invalid``; ``test_only`` if the file is
        a test product's and ``test`` was not asked for.
        """
        data = files.read(Path(path), containers.MAX_FILE)
        if data is None:
            raise KeyturnError("file_malformed", f"{path} does not exist")
        product = containers.open_product(containers.expect(data, "product")).product
        if product.name.test and not test:
            raise KeyturnError("test_only", f"{path} is a test product's: its licenses are worth nothing",
                               remedy="Ship the real product's file, or pass test=True in a test build.")
        return cls(product.name, product_file=data, **{"floor": product.floor, **options})

    def status(self) -> Status:
        """Where the product stands now: read, verified and decided anew. Raises: KeyturnError ``product_missing``."""
        return self._status(self._load())

    def require(self, feature: str | None = None) -> Status:
        """Return if the product may run (and has ``feature``); otherwise raise.

        In grace everything runs. In notification, and unlicensed, the publisher's mode decides: ``enforce`` raises;
        ``warn`` passes with ``Status.warning``, which the program must show; ``advise`` passes.
        Raises: NotLicensed.
        """
        try:
            loaded = self._load()
        except KeyturnError as error:
            raise NotLicensed("not_licensed", error.detail, reason=error.code, remedy=error.remedy, days_left=None) from error
        status = self._status(loaded)
        if not status.usable:
            detail = f"{loaded.opened.product.title} is not licensed: {status.reason}"
            raise NotLicensed("not_licensed", detail, reason=status.reason, remedy=status.remedy, days_left=status.days_left)
        licensed = loaded.certificate is not None and loaded.standing.state is State.LICENSED
        if feature is not None and licensed and feature not in status.features:
            raise NotLicensed(
                "feature_not_licensed", f"edition {status.edition} does not include {feature!r}", reason="feature_not_licensed",
                remedy="Ask the publisher for an edition that includes it.", days_left=status.days_left,
            )  # fmt: skip
        return status

    def activate(
        self,
        key: str | None = None,
        *,
        consent: bool | Consent = False,
        progress: Progress = lambda _text: None,
        allow_ephemeral: bool = False,
        ca_bundle: str | None = None,
    ) -> Status:
        """Add the product, install ``key``, and activate over HTTPS; what is done already is skipped.

        ``consent``: True if the person agreed, or a function that shows the request's claims and returns the answer.
        Raises: KeyturnError ``consent_required``, a refusal such as ``limit_reached``, or ``service_unreachable``.
        """
        from keyturn.core.errors import Refused

        shelf = self._added()
        if key is not None:
            progress("Checking the product key")
            actions.install_key(shelf, key, self._machine)
        loaded = self._load(behind=True)  # The answer brings the bundles that are missing.
        if not loading.needs_activation(loaded) and self._reached(loaded):
            return self._status(loaded)
        with Teller(shelf.vault, self._machine, "application").faults(loaded.name):
            token, loaded = actions.make_request(
                shelf, self._machine, allow_ephemeral=allow_ephemeral, product_version=self._version
            )
        if not shelf.consented():
            from keyturn.client.policies import policy_of

            if policy_of(shelf.vault.home, self._machine).consent == "organization":
                shelf.keep_consent(loaded.now, "organization")
            else:
                from keyturn.core.documents import read_request

                if not (consent(read_request(token)[0].claims()) if callable(consent) else consent):
                    raise KeyturnError("consent_required")
                shelf.keep_consent(loaded.now, "application")
        with self._talk(shelf, loaded, ca_bundle, progress) as talk:
            outcome = talk.activate(token)
        if isinstance(outcome, Refused):
            raise outcome.as_error()
        return self._status(self._load())

    def validate(self, *, progress: Progress = lambda _text: None, ca_bundle: str | None = None) -> Status:
        """Ask for the publisher's revocation list and judge the copy by it; nothing about this computer is sent.

        Raises: KeyturnError ``service_unreachable``, ``policy_forbids``, or why the list does not verify.
        """
        shelf = self._homes().find(self.product)
        with self._talk(shelf, self._load(behind=True), ca_bundle, progress) as talk:
            talk.validate()
        return self.status()

    def installation_id(self, key: str | None = None, *, words: bool = False) -> str:
        """What this computer says by telephone to be activated: 54 digits in groups, or 16 words. Nothing is sent.

        ``key`` is installed first, unless it is there. The ID stays the same until it is answered: :meth:`confirm`.
        Raises: KeyturnError ``key_missing``, ``key_mistyped``, ``policy_forbids``, ``host_required``, ``not_by_telephone``,
        ``permission_denied``.
        """
        from keyturn.client import telephone
        from keyturn.edge.words import english

        shelf = self._added()
        if key is not None:
            actions.install_key(shelf, key, self._machine)
        made, _ = telephone.make_id(shelf, self._machine)
        return " ".join(made.words(english())) if words else made.text

    def confirm(self, code: str) -> Status:
        """Take the confirmation ID that answers :meth:`installation_id`: digits or words, in any grouping.

        Raises: KeyturnError ``code_malformed``, ``code_mistyped`` (``data`` names the parts to look at), ``code_foreign``,
        ``document_foreign``, ``hardware_other``, ``extra_missing``, ``policy_forbids``.
        """
        from keyturn.client import telephone

        telephone.confirm(self._added(), self._machine, code)
        return self._status(self._load())

    def validation_id(self, *, words: bool = False) -> str:
        """What this computer says by telephone to hear whether its copy is genuine: 42 digits in groups, or 12 words.

        Raises: KeyturnError ``document_foreign``, ``policy_forbids``, ``not_by_telephone``, ``permission_denied``.
        """
        from keyturn.client import validating
        from keyturn.edge.words import english

        made, _ = validating.ask(self._added(), self._machine)
        return " ".join(made.words(english())) if words else made.text

    def hear_verdict(self, code: str) -> bool:
        """Whether the verdict code that answers :meth:`validation_id` says that the copy is genuine. No right changes.

        Raises: KeyturnError ``code_malformed``, ``code_mistyped``, ``code_foreign``, ``document_foreign``.
        """
        from keyturn.client import validating
        from keyturn.core.phone.validation import Finding

        return validating.hear(self._added(), self._machine, code)[0] is Finding.GENUINE

    def deactivate(self, *, progress: Progress = lambda _text: None, ca_bundle: str | None = None) -> Status:
        """Return the seat. Raises: KeyturnError ``release_unknown``, ``return_limit_reached``, ``service_unreachable``."""
        shelf = self._homes().find(self.product)
        loaded = self._load(behind=True)
        with self._talk(shelf, loaded, ca_bundle, progress) as talk:
            refused = talk.give_back()
        if refused is not None:
            raise refused.as_error()
        return self.status()

    def report_installation(self, ok: bool, code: str | None = None) -> None:
        """Note how the product's installation went; the next activation tells it (and ``disclose`` shows it)."""
        outcome = "succeeded" if ok else "failed"
        actions.report_installation(self._added(), self._machine, f"{outcome} {code}" if code else outcome)

    def _talk(self, shelf: Shelf, loaded: Loaded, ca_bundle: str | None, progress: Progress) -> Talk:
        from keyturn.client.lines import Talk

        return Talk(
            shelf, loaded, self._machine, ca_bundle=ca_bundle, say=progress, program="application", connect=self._connect
        )

    def _homes(self) -> Homes:
        if self._opened is None:
            self._opened = open_homes(self._home, self._scope, self._machine.environ)
        return self._opened

    def _added(self) -> Shelf:
        homes = self._homes()
        if self._file is not None:
            return actions.add_product(homes.find, self._file, self._machine, expected=self.product)
        return homes.find(self.product)

    def _load(self, *, behind: bool = False) -> Loaded:
        """The stored product; one that is not added yet, or damaged, begins with the file at hand.

        What was seen is noted where this account may write: a grace that nobody notes would never end, so it is over.
        ``behind`` takes bundles that end before the floor, for what will bring more. Raises: KeyturnError ``trust_invalid``.
        """
        shelf, stored = self._homes().find(self.product), True
        stamp = shelf.stamp()
        if self._seen is not None and self._seen[0] == stamp:
            loaded = again(self._seen[1], self._machine)
        else:
            shelf, loaded, stored = self._verified(shelf)
        loaded = remember(shelf, loaded, self._machine)
        if stored and shelf.stamp() == stamp:  # Nothing was written meanwhile, by us or by another process.
            self._seen = stamp, loaded
        if not self._reached(loaded) and not behind:
            raise KeyturnError(
                "trust_invalid", "the trust bundles stored here end before the one that this application asks for",
                remedy="Add the product file that came with this version: `keyturn product add FILE`, or activate again.",
            )  # fmt: skip
        return loaded

    def _reached(self, loaded: Loaded) -> bool:
        """Whether the publisher's history comes to the floor. Raises: KeyturnError ``trust_invalid`` if it is another one."""
        bundles, floor = loaded.opened.chain.bundles, self._floor
        if floor is None or len(bundles) < floor.number:
            return floor is None
        if bundles[floor.number - 1].digest != floor.digest:
            raise KeyturnError(
                "trust_invalid", "the trust bundles stored here are another history than the one that this application pins",
                remedy="Remove the product (`keyturn product remove SLUG`) and add the real publisher's file.",
            )  # fmt: skip
        return True

    def _verified(self, shelf: Shelf) -> tuple[Shelf, Loaded, bool]:
        """The product, and whether it is the store's: where that cannot be written, the file at hand has to do."""
        try:
            loaded = load(shelf, self._machine, pin=self.product)
            if self._file is None or self._reached(loaded):
                return shelf, loaded, True
        except KeyturnError as error:
            if self._file is None or error.code in ("test_only", "permission_denied", "storage_failed"):
                raise
        if not shelf.vault.writable:
            return shelf, load(shelf, self._machine, pin=self.product, at_hand=self._file), False
        shelf = self._added()
        return shelf, load(shelf, self._machine, pin=self.product), True

    def _status(self, loaded: Loaded) -> Status:
        details = status_of(loaded)
        standing, mode = loaded.standing, loaded.opened.product.mode
        warning = None
        if standing.state is State.NOTIFICATION and mode == "warn":
            warning = f"{loaded.opened.product.title} is not activated. {standing.remedy}"
        return Status(
            standing.state.word, standing.usable, details["edition"], tuple(details["features"]), details["days_left"],
            standing.reason, standing.remedy, warning, details,
        )  # fmt: skip


def _floor(text: str) -> Floor:
    """Read ``NUMBER:DIGEST``. Raises: KeyturnError ``usage``."""
    found = _FLOOR.fullmatch(text)
    if found is None:
        raise KeyturnError("usage", f"{text[:60]!r} is no floor: NUMBER:DIGEST, as `keyturn service product export` prints it")
    return Floor(int(found[1]), found[2])
