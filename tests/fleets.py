"""A fleet manager and its computers in one process: real HTTPS between them, the virtual clock and recorded hardware
of ``World``.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keyturn.client import managed
from keyturn.client.homes import Homes
from keyturn.client.loading import Loaded, load, status_of
from keyturn.client.machine import Machine
from keyturn.edge.listen import background
from keyturn.edge.serverlog import Log
from keyturn.edge.vault import Vault
from keyturn.fleet import home, keys, tasks, tokens
from keyturn.fleet.app import build
from keyturn.fleet.home import FleetHome
from keyturn.fleet.keys import Given
from keyturn.fleet.manager import FleetManager, Order
from keyturn.fleet.proxying import Forwarder
from keyturn.fleet.selecting import Selector
from keyturn.testing import World
from keyturn.testing.computers import RecordedComputer

EVERYBODY = Selector(everything=True)


def silent(_event: str, _fields: object) -> None:
    """A log that nobody reads."""


class Managed:
    """One computer of the fleet: its store, its hardware, and its agent's check-ins."""

    def __init__(self, site: Site, name: str, machine: Machine, folder: Path) -> None:
        self.site, self.name, self.machine = site, name, machine
        self.vault = Vault(str(folder), "user")
        self.homes = Homes((self.vault,), self.vault)

    def enroll(self, token: str) -> str:
        return managed.enroll(self.vault, self.machine, token, self.name)[0].computer

    def check_in(self) -> int | None:
        return managed.check_in(self.vault, self.machine, self.homes, connect=self.site.world.publisher.connect)

    def loaded(self) -> Loaded:
        (shelf,) = self.homes.shelves()
        return load(shelf, self.machine)

    def status(self) -> dict[str, Any]:
        return status_of(self.loaded())


class Site:
    """A fleet manager that runs, with the world's product; computers join with ``join``."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        home.initialise(folder / "fleet", world.clock(), None)
        home.change_setting(folder / "fleet", "gather", "0")
        self.home = FleetHome(folder / "fleet", {})
        self.database = self.home.open_database()
        self.fleet = FleetManager(self.home, self.database, clock=world.clock, chance=secrets.token_bytes)
        self.fleet.add_product(world.product, "tester")
        self.forwarder = Forwarder(self.fleet, silent, {}, connect=world.publisher.connect)
        self.url = ""
        self.log: Log = silent

    @contextlib.contextmanager
    def running(self) -> Iterator[Site]:
        cert, key = self.home.tls_files
        try:
            app = build(self.fleet, self.log, connect=self.world.publisher.connect)
            with background(app, tls_cert=cert, tls_key=key) as ready:
                self.url = f"https://127.0.0.1:{ready.port}"
                yield self
        finally:
            self.forwarder.close()
            self.database.close()

    def token(self, **values: Any) -> str:
        options = {"group": None, "uses": None, "expires_at": self.world.clock() + 86_400, **values}
        return self.database.write_now(
            lambda db: tokens.create(
                db,
                self.url,
                self.home.signer.kid,
                who="tester",
                now=self.world.clock(),
                chance=secrets.token_bytes,
                **options,
            )
        )[1].text

    def join(
        self, name: str, computer: RecordedComputer | None = None, *, token: str | None = None, store: str | None = None
    ) -> Managed:
        """A new computer that enrolled and checked in once."""
        made = Managed(self, name, self.world.machine(computer), self.folder / f"store-{store or name}")
        made.enroll(token or self.token())
        made.check_in()
        return made

    def key(self, **options: Any) -> str:
        """Mint a MAK (or another channel) and keep it here; its last five characters."""
        text = self.world.publisher.mint("sample", **{"channel": "mak", "limit": 5, **options})
        product = _name(self.world)
        row, _ = self.database.write_now(
            lambda db: keys.add(
                db,
                self.fleet.sealer,
                product,
                Given(text, None, None),
                who="tester",
                now=self.world.clock(),
                chance=secrets.token_bytes,
            )
        )
        return str(row["partial"])

    def order(self, action: str, selector: Selector = EVERYBODY, **values: Any) -> str:
        return self.fleet.order(Order(action, selector, **values), "tester")

    def work(self, computers: list[Managed], rounds: int = 4) -> None:
        """Let computers check in and the manager send, until nothing is left to do."""
        for _ in range(rounds):
            for computer in computers:
                computer.check_in()
            self.forwarder.turn()
            if not any(self.database.read(lambda db: tasks.busy(db, row["id"])) for row in self.computers()):  # noqa: B023
                return
            self.world.clock.advance(seconds=1)

    def computers(self) -> list[Any]:
        return self.database.read(lambda db: db.execute("SELECT * FROM computer ORDER BY name").fetchall())

    def outcomes(self, task: str) -> dict[str, tuple[str, str | None]]:
        """Each computer's outcome and code."""
        found = self.database.read(lambda db: tasks.items(db, task))
        return {one["name"]: (one["outcome"], one["code"]) for one in found}


def _name(world: World) -> Any:
    from keyturn.core import containers

    return containers.open_product(containers.expect(world.product, "product")).product.name
