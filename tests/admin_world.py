"""A service in this process, served over HTTP, with a token of every role; and what it wrote to its log."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from starlette.types import ASGIApp

from keyturn.edge import listen, serverlog
from keyturn.service import app, tokens
from keyturn.service.sealing import Vault
from keyturn.testing import World

ADMIN = "/v1/admin"


class Served:
    """What a test needs of a served world."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder / "world", features=["layers"])
        self.service = self.world.publisher.service
        self.log = io.BytesIO()
        self.app: ASGIApp = app.build(self.service, serverlog.open_log(self.world.clock, self.log))
        self.base = ""
        self._clients: dict[str | None, httpx2.Client] = {}
        self.tokens = {role: self.token(role) for role in tokens.ROLES}

    def token(self, role: str, days: int | None = None) -> str:
        making = tokens.Tokens(Vault(self.service.home.pepper()), self.service.ids.chance)
        made = self.service.database.write_now(
            lambda db: tokens.create(
                db, making, self.service.ids, role=role, name="test", days=days, now=self.world.clock()
            )
        )
        return str(made["token"])

    def client(self, role: str | None = None, *, token: str | None = None) -> httpx2.Client:
        """A client with the token of a role, with another token, or with none; closed with the world."""
        bearer = token or (self.tokens[role] if role else None)
        if bearer not in self._clients:
            headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
            self._clients[bearer] = httpx2.Client(base_url=self.base, headers=headers, trust_env=False)
        return self._clients[bearer]

    @contextlib.contextmanager
    def running(self) -> Iterator[Served]:
        with listen.background(self.app) as ready:
            self.base = f"http://127.0.0.1:{ready.port}"
            try:
                yield self
            finally:
                for client in self._clients.values():
                    client.close()
                self._clients.clear()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Served]:
    """A world, served while the block lasts."""
    made = Served(folder)
    try:
        with made.running():
            yield made
    finally:
        made.world.close()
