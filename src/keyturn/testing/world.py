"""A publisher with its real service, and computers that ask it, without network, root or waiting."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keyturn.client.machine import Machine
from keyturn.client.sdk import Client
from keyturn.core import trust
from keyturn.core.documents import ProductFile
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.model import DAY, Channel, ProductName
from keyturn.core.terms import Terms
from keyturn.edge import probes
from keyturn.edge.probes import Computer
from keyturn.flows.exchange import Batch, Line
from keyturn.service import catalog, home
from keyturn.service.activation import ActivationService
from keyturn.service.home import ServiceHome
from keyturn.testing.computers import RecordedComputer, synthetic

START = 1_800_000_000  # 2027-01-15: any day will do, and the same one in every run.


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, start: int = START) -> None:
        self.time = start

    def __call__(self) -> int:
        return self.time

    def advance(self, *, days: float = 0, seconds: int = 0) -> None:
        self.time += int(days * DAY) + seconds


class Publisher:
    """A publisher's real activation service in a folder, asked directly instead of over HTTPS."""

    def __init__(self, folder: Path, clock: Clock, *, name: str = "Test Publisher") -> None:
        self.folder = folder
        self.clock = clock
        home.initialise(
            folder, publisher=name, url="https://service.invalid", probe_url=None, database="service.db", now=clock()
        )
        self.home = ServiceHome(folder, {})
        self.database = self.home.open_database()
        self.service = ActivationService(self.home, self.database, clock=clock, chance=Chance(name))

    def close(self) -> None:
        self.database.close()

    def rotate(self) -> None:
        """Bring the issuing keys of the clock's time, as the publisher does every few months."""
        home.rotate(self.folder, self.home.chain, self.clock())
        self.home.load_signers()

    def product(
        self, slug: str = "sample", *, editions: Mapping[str, Sequence[str]] | None = None, mode: str = "warn",
        test: bool = False, **terms: Any,
    ) -> bytes:  # fmt: skip
        """Create a product and return its file, as it ships. ``terms`` are those of ``core.terms``."""
        name = ProductName(trust.pin_of(self.home.chain.texts[0]), slug, test)
        table = (
            {"standard": []}
            if editions is None
            else {edition: list(features) for edition, features in editions.items()}
        )
        self.database.write_now(
            lambda db: catalog.create_product(
                db,
                name,
                slug.title(),
                table,
                Terms(**terms),
                mode=mode,
                terms_url=None,
                ids=self.service.ids,
                now=self.clock(),
            )
        )
        return self.export(slug)

    def export(self, slug: str) -> bytes:
        return json.dumps(self.service.product_file(slug)).encode()

    def mint(self, slug: str = "sample", *, channel: str = "retail", limit: int = 1, **values: Any) -> str:
        """Mint one key and return its text."""
        return str(self.mint_all(slug, channel=channel, limit=limit, **values)[0]["key"])

    def mint_all(
        self, slug: str = "sample", *, channel: str = "retail", limit: int = 1, count: int = 1, **values: Any
    ) -> list[dict[str, Any]]:
        if channel == "mak" and "organization" not in values:
            values["organization"] = "testers"
            if not self.database.read(catalog.organizations):
                self.database.write_now(
                    lambda db: catalog.create_organization(db, "testers", "Testers", self.service.ids, self.clock())
                )
        return self.service.mint(slug, Channel(channel), count, limit, **values)

    def connect(self, product: ProductFile, _environ: Mapping[str, str], **options: Any) -> DirectLine:
        """What ``Client(connect=…)`` takes."""
        return DirectLine(self.service, product, options.get("recorder"))


class DirectLine(Line):
    """A line to the service without a network in between; the same steps, the same answers and refusals."""

    def __init__(
        self, service: ActivationService, product: ProductFile, recorder: Callable[[str, bytes, bytes], None] | None
    ) -> None:
        super().__init__(product, {})
        self._service = service
        self._keep = recorder

    def probe(self) -> None:
        """Nothing to probe."""

    def reach(self) -> None:
        """Always there."""

    def revocations(self) -> dict[str, object]:
        return self._service.revocations(self.product.name.slug)

    def send(self, document: str, *, ask: bool = False, by_file: bool = False) -> dict[str, Any] | Refused:
        outcome = self._service.ask(document) if ask else self._service.exchange(document, by_file=by_file)
        if self._keep is not None:
            received = outcome.as_error().as_json() if isinstance(outcome, Refused) else outcome
            self._keep("POST", document.encode(), json.dumps(received).encode())
        return outcome


    def send_all(self, documents: Sequence[str], *, by_file: bool = False) -> Batch:
        found = [self._one(document, by_file) for document in documents]
        products = {str(self.product.name): file for one in found if isinstance(one, dict) and (file := one.pop("product", None))}
        for one in found:
            if isinstance(one, dict):
                one.pop("bundles", None)
        return Batch(found, list(self._service.home.chain.texts), products)

    def inquire(self, document: str) -> dict[str, Any] | Refused:
        from keyturn.service import inquiring

        return inquiring.answer(self._service, document)

    def _one(self, document: str, by_file: bool) -> dict[str, Any] | Refused:
        try:
            return self.send(document, by_file=by_file)
        except KeyturnError as error:
            return Refused(error.code, error.detail, error.retry_after)


class Chance:
    """Random-looking bytes that are the same in every run."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._count = 0

    def __call__(self, length: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"{self._seed} {self._count}".encode()).digest(length)


class World:
    """A publisher, a product and as many computers as you like, at a time of your choice."""

    def __init__(
        self, folder: Path, *, clock: Clock | None = None, publisher: str = "Test Publisher", features: Sequence[str] = (),
        mode: str = "warn", **terms: Any,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.clock = clock or Clock()
        self.publisher = Publisher(folder / "publisher", self.clock, name=publisher)
        self.product = self.publisher.product("sample", editions={"standard": list(features)}, mode=mode, **terms)
        self._made = 0

    def close(self) -> None:
        self.publisher.close()

    def machine(self, computer: RecordedComputer | None = None, *, as_user: bool = False, seed: str = "") -> Machine:
        """A machine with this hardware; without one, a new office computer."""
        self._made += 1
        place = self.folder / f"computer-{self._made}"
        (computer or synthetic(self._made)).write(place, as_user=as_user)

        def read(_sysroot: str | None = None, *, facts: bool = True) -> Computer:
            return probes.read(str(place), facts=facts)

        return Machine(
            {"HOME": str(place)}, now=self.clock, chance=Chance(f"{seed} machine {self._made}"), read=read,
            rules=str(place / "etc/keyturn"),
        )  # fmt: skip

    def client(
        self, computer: RecordedComputer | None = None, *, home: Path | None = None, machine: Machine | None = None,
        product: bytes | None = None, connect: Callable[..., Line] | None = None,
    ) -> Client:  # fmt: skip
        """The SDK on a computer, with a store of its own unless ``home`` says otherwise."""
        from keyturn.core import containers

        data = product or self.product
        machine = machine or self.machine(computer)
        name = containers.open_product(containers.expect(data, "product")).product.name
        return Client(
            name, home=home or self.folder / f"home-{self._made}", machine=machine, product_file=data,
            connect=connect or self.publisher.connect,
        )  # fmt: skip

    def licensed(self, *, features: Sequence[str] = (), **options: Any) -> Client:
        """A client that is licensed, with ``features`` beyond the edition's."""
        client = self.client(**options)
        client.activate(self.publisher.mint("sample", features=list(features)), consent=True)
        return client

    def grace(self, *, days_left: int = 30, **options: Any) -> Client:
        """A client that is not activated and has so many days left. Moves the clock."""
        client = self.client(**options)
        left = client.status().days_left or 0
        self.clock.advance(days=left - days_left)
        return client

    def expired(self, *, mode: str = "warn", **options: Any) -> Client:
        """A client whose grace is over, of a product with this mode. Moves the clock."""
        slug = f"expired-{mode}"
        client = self.client(product=self.publisher.product(slug, mode=mode), **options)
        client.status()
        self.clock.advance(days=31)
        return client

    def refused(self, code: str = "limit_reached", **options: Any) -> Client:
        """A client whose next activation is refused with ``code`` of the catalogue, or fails with it."""

        def connect(product: ProductFile, environ: Mapping[str, str], **_: Any) -> Line:
            return _RefusingLine(product, environ, code)

        client = self.client(connect=connect, **options)
        client.status()
        return client


class _RefusingLine(Line):
    def __init__(self, product: ProductFile, environ: Mapping[str, str], code: str) -> None:
        super().__init__(product, environ)
        self._code = code

    def probe(self) -> None:
        """Nothing to probe."""

    def send(self, document: str, *, ask: bool = False, by_file: bool = False) -> dict[str, Any] | Refused:
        error = KeyturnError(self._code)
        if error.exit != 1:
            raise error
        return Refused(self._code, error.detail)
