"""An organization with activation hosts, and computers that ask them: in one process, or over TLS.

Keeps: a host that its publisher really certified, and a computer as small as it can be: a key, hardware pairs, and the chain
of its leases. Leaves to others: the client (``keyturn.client``), the programs (``programs``).
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import select
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from keyturn.core import containers, hardware, hosting, jws
from keyturn.core.documents import FACTS, UNAVAILABLE, ProductFile, Request
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.hosting import HostCertificate, Lease
from keyturn.core.jws import Kind
from keyturn.core.model import Channel, b64u, product_id
from keyturn.core.trust import Chain
from keyturn.edge import probes, sodium
from keyturn.edge.transport import Transport
from keyturn.host import enrolling, figures, home
from keyturn.host.enrolling import Machine
from keyturn.host.home import HostHome
from keyturn.host.leasing import LeasingHost
from keyturn.service import catalog
from keyturn.testing import Clock, World
from keyturn.testing.computers import RecordedComputer, synthetic
from keyturn.testing.world import Chance, DirectLine
from programs import KEYTURN, PATIENCE, Result, environment, run

ORGANIZATION = "acme"


class Organization:
    """An organization with a ``host`` and a ``client`` key of the world's product."""

    def __init__(self, world: World, name: str = ORGANIZATION) -> None:
        self.world, self.name, self.product = world, name, world.product
        publisher = world.publisher
        publisher.database.write_now(
            lambda db: catalog.create_organization(db, name, name.title(), publisher.service.ids, world.clock())
        )
        self._mint("sample")
        self._hosts = 0

    def _mint(self, slug: str) -> None:
        publisher, name = self.world.publisher, self.name
        (self.client_key,) = publisher.mint_all(slug, channel="client", limit=1, organization=name)
        (self.host_key,) = publisher.mint_all(slug, channel="host", limit=6, organization=name)

    def also(self, slug: str, host: LeasingHost, **terms: Any) -> Organization:
        """The same organization with keys of another product, which ``host`` leases too from now on."""
        made = copy.copy(self)
        made.product = self.world.publisher.product(slug, **terms)
        made._mint(slug)
        home.add_product(host.home.path, made.product)
        made._certify(host.home.path, slug)
        host.home.refresh()
        return made

    def host(self, folder: Path | None = None, *, clock: Clock | None = None) -> LeasingHost:
        """A host that the publisher certified just now. Close its database in the end."""
        self._hosts += 1
        world = self.world
        place = folder or world.folder / f"host-{self._hosts}-{self.host_key['serial']}"
        chance = Chance(f"host {self._hosts} {self.host_key['serial']}")
        home.initialise(place, f"00000000-0000-4000-8000-{self._hosts:012d}", world.clock())
        home.add_product(place, world.product)
        opened = self._certify(place, None)
        return LeasingHost(opened, opened.open_database(), clock=clock or world.clock, chance=chance)

    def _certify(self, place: Path, slug: str | None) -> HostHome:
        opened = HostHome(place, {})
        permit = opened.permit(slug)
        enrolling.install_key(permit, self.host_key["key"])
        machine = self.machine(synthetic(900 + self._hosts), Chance(f"certified {place}"))
        line = DirectLine(self.world.publisher.service, permit.opened.product, None)
        done = enrolling.exchange(opened, permit, machine, line.send)
        assert not isinstance(done, Refused), done
        return opened

    def machine(self, computer: RecordedComputer, chance: Chance) -> Machine:
        place = self.world.folder / f"hardware-{hashlib.sha256(repr(computer).encode()).hexdigest()[:12]}"
        if not place.exists():
            computer.write(place)
        return Machine(self.world.clock, chance, lambda: probes.read(str(place), facts=True))

    def computer(self, number: int, **options: Any) -> Computer:
        return Computer(self, number, **options)


class Computer:
    """A computer with one installation: it asks, keeps the newest lease that reached it, and presents it when it asks again."""

    def __init__(
        self, organization: Organization, number: int, *, hardware_of: int | None = None,
        anchors: Mapping[str, str] | None = None, ephemeral: bool = False,
    ) -> None:  # fmt: skip
        self.organization, self.number, self.ephemeral = organization, number, ephemeral
        opened = containers.open_product(jws.loads(organization.product))
        self.product: ProductFile = opened.product
        self.chain: Chain = opened.chain
        self.generation = 0
        self.guid = f"11111111-0000-4000-8000-{number:012d}"
        seed = number if hardware_of is None else hardware_of
        self.anchors = anchors if anchors is not None else {
            "uuid": f"uuid-{seed}-of-a-computer", "board": f"board-{seed}-serial", "disk": f"disk-{seed}-serial",
            "nic": f"nic-{seed}-address",
        }  # fmt: skip
        self.lease: str | None = None
        self.held: Lease | None = None
        self.host: str | None = None  # The certificate of the host that gave it.
        self.ahead = 0  # Seconds that its clock is ahead.

    @property
    def signer(self) -> Any:
        return sodium.signer(hashlib.sha256(f"installation {self.number} {self.generation}".encode()).digest())

    def copy(self, *, hardware_of: int | None = None) -> Computer:
        """A copy of its disk, on the same hardware or another's."""
        twin = Computer(self.organization, self.number, ephemeral=self.ephemeral)
        anchors = self.anchors if hardware_of is None else Computer(self.organization, hardware_of).anchors
        twin.guid, twin.generation, twin.anchors = self.guid, self.generation, anchors
        twin.lease, twin.held, twin.host = self.lease, self.held, self.host
        return twin

    def reinstall(self) -> None:
        """A new installation on the same hardware: nothing is left of the old one."""
        self.generation += 1
        self.lease = self.held = None

    def request(self, **other: Any) -> str:
        """A new request, signed."""
        world, key = self.organization.world, self.organization.client_key
        pairs = hardware.pairs(self.anchors, self.product.name)
        nonce = b64u(world.publisher.service.ids.chance(16))
        values: dict[str, Any] = {
            "product": self.product.name, "product_id": product_id(self.product.name.slug, Channel.CLIENT, key["serial"]),
            "serial": key["serial"], "key_proof": "x" * 43, "installation": self.guid, "nonce": nonce,
            "made_at": world.clock() + self.ahead, "scheme": hardware.SCHEME, "pairs": pairs, "tags": {}, "commitment": "c" * 43,
            "facts": {name: {UNAVAILABLE: "a test"} for name in FACTS}, "state": 2,
            "previous": None if self.lease is None else jws.digest(self.lease),
            "activation": None if self.held is None else self.held.certificate.activation, "vm": None, "container": None,
            "ephemeral": self.ephemeral, "allow_ephemeral": False, "bundle": self.chain.newest.number,
        }  # fmt: skip
        signer = self.signer
        return jws.sign(Kind.REQUEST, Request(**{**values, **other}).claims(), signer.public, signer.sign, own=True)

    def take(self, token: str, answer: Mapping[str, Any]) -> None:
        """Verify and keep the answer to a request: a lease, or an identity of its own."""
        now = self.organization.world.clock()
        if "identity" in answer:
            self.guid = str(jws.loads(jws.payload_of(answer["identity"]))["installation"])
            self.generation = int(self.guid[:8], 16)  # Each copy makes a key of its own.
            self.lease = self.held = None
            return
        host = self.believes(answer["host"])
        lease = hosting.verify_lease(answer["lease"], host)
        assert lease.certificate.request == jws.digest(token)
        assert lease.certificate.holder == self.signer.kid
        assert lease.certificate.issued_at <= now + 86_400
        self.lease, self.held, self.host = answer["lease"], lease, answer["host"]

    def believes(self, token: str) -> HostCertificate:
        return hosting.read_host(token, self.product, self.chain)

    def shown(self, token: str) -> str:
        """A request with the lease that it names and the certificate of that lease's host, as it is sent when they are wanted."""
        return f"{token}\n{self.lease}\n{self.host}"

    def ask(self, host: LeasingHost, *, lost: bool = False, shows: bool = False) -> dict[str, Any] | Refused:
        """Ask, and keep the answer unless it is ``lost``. Raises: KeyturnError as ``LeasingHost.exchange``."""
        token = self.request()
        answer = host.exchange(self.shown(token) if shows else token)
        if not lost and not isinstance(answer, Refused):
            self.take(token, answer)
        return answer


@pytest.fixture
def organization(world: World) -> Organization:
    return Organization(world)


@pytest.fixture
def host(organization: Organization) -> Iterator[LeasingHost]:
    made = organization.host()
    yield made
    made.database.close()


def filled(organization: Organization, host: LeasingHost, count: int = 3) -> list[Computer]:
    """So many computers, all licensed."""
    computers = [organization.computer(number) for number in range(count)]
    for computer in computers * 2:
        try:
            computer.ask(host)
        except KeyturnError as error:
            assert error.code == "threshold_not_met"  # noqa: PT017 - the others are licensed
    assert all(computer.held for computer in computers)
    return computers


def renew(organization: Organization, host: LeasingHost) -> None:
    """A new certificate from the publisher, at the clock's time."""
    publisher = organization.world.publisher
    publisher.rotate()
    (permit,) = host.home.permits.values()
    machine = organization.machine(synthetic(901), Chance(str(organization.world.clock())))
    line = DirectLine(publisher.service, permit.opened.product, None)
    assert not isinstance(enrolling.exchange(host.home, permit, machine, line.send), Refused)


def product(host: LeasingHost) -> dict[str, Any]:
    (permit,) = host.home.permits.values()
    return host.database.read(lambda db: figures.product(db, permit, host.clock()))


def forks(host: LeasingHost) -> list[dict[str, Any]]:
    (permit,) = host.home.permits.values()
    return host.database.read(lambda db: figures.forks(db, permit))


def refusal(act: Callable[..., object], *arguments: Any, **named: Any) -> str:
    try:
        found = act(*arguments, **named)
    except KeyturnError as error:
        return error.code
    return found.code if isinstance(found, Refused) else "taken"


class Program:
    """``keyturn host run`` on the home of a certified host, as a process of its own."""

    def __init__(self, organization: Organization, folder: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.home, self.folder, self.options, self.env = folder / "home", folder, options, env
        self.organization = organization
        organization.host(self.home).database.close()
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Program:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop()

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        command = [str(KEYTURN), "host", "run", "--home", str(self.home), "--json", "--listen", "127.0.0.1:0", *self.options]
        with (self.folder / "host.log").open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment(self.folder, self.env), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        there, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if there else ""
        assert line, (self.folder / "host.log").read_text()
        self.url = str(json.loads(line)["url"])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal to its own process; the result is its exit status."""
        assert self.process is not None and self.process.stdout is not None
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self.process.stdout.close()
        self.process = None
        return status

    def __call__(self, *arguments: str, **options: Any) -> Result:
        """``keyturn host … --json`` on the same home."""
        return run(["host", "--home", str(self.home), "--json", *arguments], cwd=self.folder, env=self.env, **options)

    @contextlib.contextmanager
    def line(self) -> Iterator[Transport]:
        with Transport(environ={}, judge=lambda _der: None, connect_timeout=5, read_timeout=10) as transport:
            yield transport

    def post(self, line: Transport, token: str) -> dict[str, Any] | KeyturnError:
        reply = line.post(f"{self.url}/v1/lease", token.encode(), "application/jose")
        return reply.problem() or reply.json()
