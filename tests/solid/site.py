"""An organization under one clock: its publisher's real service, its activation hosts, its computers, all in one process.

Keeps: the real pieces put together (service, ``host.leasing`` over its own home and SQLite, the client's store and actions).
Stands in for nothing but the network: a :class:`Host` that is not ``alive`` does not answer, and a reply can be lost.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keyturn.client import actions
from keyturn.client.lines import held_lease
from keyturn.client.loading import Loaded, load
from keyturn.client.machine import Machine
from keyturn.client.record import remember
from keyturn.core.documents import ProductFile
from keyturn.core.errors import EXIT_FORBIDDEN, EXIT_REFUSED, KeyturnError, Refused
from keyturn.core.model import DAY, ProductName
from keyturn.edge import probes
from keyturn.edge.endorsing import Endorser
from keyturn.edge.probes import Computer
from keyturn.edge.vault import Vault
from keyturn.flows.hosting import HostLine, insisting
from keyturn.host import enrolling, figures, home
from keyturn.host.home import HostHome, Permit
from keyturn.host.leasing import LeasingHost
from keyturn.service import catalog, rotation
from keyturn.service import home as publisher_home
from keyturn.service.home import ServiceHome
from keyturn.testing import Clock, World
from keyturn.testing.computers import RecordedComputer, synthetic
from keyturn.testing.world import Chance

ORGANIZATION = "testers"


class Site:
    """A publisher with a product that hosts may lease, and the organization that has them. ``terms`` as in ``core.terms``."""

    def __init__(self, folder: Path, *, hosts: int = 1, clock: Clock | None = None, seed: str = "", **terms: Any) -> None:
        self.folder, self.seed = folder, seed
        self.world = World(folder / "world", clock=clock, features=["layers"], **terms)
        self.clock, publisher = self.world.clock, self.world.publisher
        publisher.database.write_now(
            lambda db: catalog.create_organization(db, ORGANIZATION, "Testers", publisher.service.ids, self.clock())
        )
        self.key = publisher.mint(channel="client", organization=ORGANIZATION)
        self.host_key = publisher.mint(channel="host", limit=6, organization=ORGANIZATION)
        self._made, self._rotated = 0, self.clock()
        self.hosts = [self.host() for _ in range(hosts)]

    def close(self) -> None:
        for host in self.hosts:
            host.database.close()
        self.world.close()

    def host(self, *, product: bytes | None = None, key: str | None = None, by_file: bool = False) -> Host:
        """A new activation host with its certificate."""
        self._made += 1
        return Host(self, self._made, product or self.world.product, key or self.host_key, by_file=by_file)

    def pc(self, computer: RecordedComputer | None = None, *, store: Path | None = None) -> Pc:
        """A new computer of the organization, with the ``client`` key; ``store`` is the image that it was installed from."""
        self._made += 1
        return Pc(self, self._made, computer or synthetic(self._made), store)

    def tend(self) -> None:
        """What publisher and hosts do by themselves: bring the next issuing key, renew host certificates when it is time."""
        if self.clock() - self._rotated >= 30 * DAY:
            self._rotated = self.clock()
            folder = self.world.publisher.folder
            done = rotation.extend(ServiceHome(folder, {}), self.clock())  # As `issuing-key rotate`: a bundle a year.
            publisher_home.rotate(folder, done.chain, self.clock())
            self.world.publisher.home.refresh()
        for host in self.hosts:
            if host.alive:
                host.tend()


class Host:
    """One activation host: its folder, its ledger, its certificate."""

    def __init__(self, site: Site, number: int, product: bytes, key: str, *, by_file: bool = False) -> None:
        self.site, self.alive, self.by_file = site, True, by_file
        chance = Chance(f"{site.seed} host {number}")
        folder = site.folder / f"host-{number}"
        home.initialise(folder, f"00000000-0000-4000-8000-{number:012d}", site.clock())
        home.add_product(folder, product)
        self.home = HostHome(folder, {})
        here = synthetic(1_000_000 + number, "server").write(site.folder / f"host-{number}-computer")
        self._machine = enrolling.Machine(site.clock, chance, lambda: probes.read(str(here), facts=True))
        enrolling.install_key(self.permit, key)
        self.home.refresh()
        home.note_change(folder)
        self.database = self.home.open_database()
        self.leasing = LeasingHost(self.home, self.database, clock=site.clock, chance=chance)
        self._endorser = Endorser(self.home.signer, self.home.tls_files[0])
        self.certify()

    @property
    def permit(self) -> Permit:
        (permit,) = self.home.permits.values()
        return permit

    def certify(self) -> None:
        """Get a certificate from the publisher's service, as ``host activate`` does."""
        service = self.site.world.publisher.service
        outcome = enrolling.exchange(
            self.home, self.permit, self._machine, lambda token: service.exchange(token, by_file=self.by_file)
        )
        assert not isinstance(outcome, Refused), outcome

    def tend(self) -> None:
        due = enrolling.due_at(self.permit)
        if due is not None and due <= self.site.clock():
            self.certify()

    def reached(self) -> None:
        """Raises: KeyturnError ``service_unreachable``."""
        if not self.alive:
            raise KeyturnError("service_unreachable", "nobody is there")

    def directory(self) -> dict[str, Any]:
        """What the host tells everybody who connects."""
        permit, now = self.permit, self.site.clock()
        return {
            "v": 1, "hosts": [permit.tokens[0][1]], "endorsement": self._endorser.token(now),
            "bundles": {permit.name.thumbprint: list(permit.opened.chain.texts)}, "server_time": now,
        }  # fmt: skip

    def ask(self, token: str) -> dict[str, Any] | Refused:
        """Answer a request as the network would bring it. Raises: KeyturnError ``service_unreachable``, or the host's fault."""
        self.reached()
        try:
            return self.leasing.exchange(token)
        except KeyturnError as error:
            if error.exit in (EXIT_REFUSED, EXIT_FORBIDDEN):
                return Refused(error.code, error.detail, error.retry_after)
            raise

    def figures(self) -> dict[str, Any]:
        """The product's entry of ``host status --json``."""
        return self.database.read(lambda db: dict(figures.product(db, self.permit, self.site.clock())))


class NearLine(HostLine):
    """The client's line to hosts of this process: what a directory says is judged by the client's own code."""

    def __init__(self, pc: Pc, product: ProductFile, chain: Any) -> None:
        key = pc.shelf.key()
        super().__init__(product, chain, list, {}, now=pc.site.clock, serial=None if key is None else key.serial)
        self._pc = pc

    def send(self, document: str, *, ask: bool = False) -> dict[str, Any] | Refused:
        pc, why = self._pc, []
        for host in sorted(pc.site.hosts, key=lambda host: (host is not pc.last, pc.chance.random())):
            try:
                host.reached()
                self._certified(host.directory())
                outcome = insisting(host.ask, document, held_lease(pc.shelf))
            except KeyturnError as error:
                why.append(f"{error.detail} ({error.code})")
                continue
            pc.last = host
            if pc.lose_reply:
                pc.lose_reply -= 1
                raise KeyturnError("service_unreachable", "the reply was lost")
            return outcome if isinstance(outcome, Refused) else {**self._beside, **outcome}
        raise KeyturnError("host_not_found", "; ".join(why))


class Pc:
    """One computer with a store of its own: the client's real actions, as the agent takes them."""

    def __init__(self, site: Site, number: int, computer: RecordedComputer, image: Path | None) -> None:
        self.site, self.chance = site, random.Random(f"{site.seed} pc {number}")
        self.last: Host | None = None
        self.lose_reply = 0
        place = site.folder / f"pc-{number}"
        self.hardware: Computer = probes.read(str(computer.write(place / "computer")), facts=True)
        self.store = place / "home"
        if image is not None:
            shutil.copytree(image, self.store)
        draw = Chance(f"{site.seed} pc {number}")
        self.machine = Machine({"HOME": str(place)}, now=site.clock, chance=draw, read=lambda *_, **__: self.hardware,
                               rules=str(place / "rules"))  # fmt: skip
        vault = Vault(str(self.store), "user")
        self.shelf = actions.add_product(vault.shelf, site.world.product, self.machine)
        if image is None:
            actions.install_key(self.shelf, site.key, self.machine)

    @property
    def name(self) -> ProductName:
        return self.load().name

    def load(self) -> Loaded:
        """Where the copy stands, noted as the agent notes it once a day."""
        return remember(self.shelf, load(self.shelf, self.machine), self.machine)

    @property
    def state(self) -> str:
        return self.load().standing.state.word

    def ask(self) -> Loaded | Refused:
        """Ask for a lease, or for the next one. Raises: KeyturnError as the client's line does."""
        token, loaded = actions.make_request(self.shelf, self.machine)
        line = NearLine(self, loaded.opened.product, loaded.opened.chain)
        return actions.activate(self.shelf, self.machine, token, line.send)

    def attempt(self) -> str:
        """Ask, and say in a word how it ended: the state, or the code of the refusal or fault."""
        try:
            outcome = self.ask()
        except KeyturnError as error:
            return error.code
        return outcome.code if isinstance(outcome, Refused) else outcome.standing.state.word

    def licensed(self) -> Loaded:
        """Ask, and be licensed."""
        outcome = self.ask()
        assert not isinstance(outcome, Refused), outcome
        assert outcome.standing.state.word == "licensed", outcome.standing
        return outcome


def pass_days(site: Site, days: int) -> None:
    """Let days pass, one after the other; the hosts tend to themselves."""
    for _ in range(days):
        site.clock.advance(days=1)
        site.tend()


def states(pcs: Sequence[Pc]) -> list[str]:
    return [pc.state for pc in pcs]


__all__ = ["DAY", "Host", "NearLine", "Pc", "Site", "pass_days", "states"]
