"""A signer that goes away while the service runs: who asks is told when to come back, and what was decided is signed later."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import httpx2
import pytest

import programs
from admin_world import served
from keyturn.core import jws, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.edge import keystore
from keyturn.service import app, minding, signing
from keyturn.service import home as homes
from keyturn.service.activation import ActivationService, Proven
from keyturn.service.home import ServiceHome
from keyturn.testing import World
from keyturn.testing.world import Chance
from signer_world import UNRULY
from softhsm import SoftHsm
from test_activation import _open_count, request_of

HEADERS = {"Content-Type": "application/jose"}


class Minded:
    """A service with a program for a signer, whose mood the test sets, served inside the test's own event loop."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.path = world.publisher.folder
        self.mood = folder / "mood"
        self.mood.write_text("")
        command = [sys.executable, str(UNRULY), str(self.path / "keys"), str(self.mood)]
        homes.change_setting(self.path, "signer_command", shlex.join(command))
        homes.change_setting(self.path, "signer_processes", "1")
        homes.change_setting(self.path, "signer", signing.COMMAND)
        publics = {signer.kid: signer.public for signer in keystore.load_all(self.path / "keys").values()}
        signing.remember(self.path, publics)
        self.home = ServiceHome(self.path, {})
        self.service = ActivationService(
            self.home, world.publisher.database, clock=world.clock, chance=Chance("minding")
        )
        self.lines: list[dict[str, Any]] = []
        self._said: dict[str, asyncio.Event] = {}

    def log(self, event: str, fields: Mapping[str, object]) -> None:
        self.lines.append({"event": event, **fields})
        self._said.setdefault(event, asyncio.Event()).set()

    async def said(self, event: str) -> dict[str, Any]:
        """Wait for a line of the log, and give it."""
        await asyncio.wait_for(self._said.setdefault(event, asyncio.Event()).wait(), 30)
        return next(line for line in reversed(self.lines) if line["event"] == event)

    def request(self) -> str:
        return request_of(self.world, self.world.publisher.mint(), home=f"minded-{self.world._made}")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[httpx2.AsyncClient]:
        transport = httpx2.ASGITransport(app.build(self.service, self.log))
        async with (
            minding.minded(self.service, self.log),
            httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            yield client


@pytest.fixture
def minded(world: World, tmp_path: Path) -> Iterator[Minded]:
    made = Minded(world, tmp_path)
    yield made
    made.home.close()


def test_a_signer_goes_and_comes_back(minded: Minded) -> None:
    """503 with Retry-After and no reason for strangers; not ready; and signed without being asked again when it is back."""

    async def story() -> None:
        async with minded.running() as client:
            well = await client.post("/v1/exchange", content=minded.request(), headers=HEADERS)
            assert well.status_code == 200
            assert (await client.get("/readyz")).status_code == 200
            minded.mood.write_text("away")
            token = minded.request()
            refused = await client.post("/v1/exchange", content=token, headers=HEADERS)
            problem = refused.json()
            assert (refused.status_code, problem["code"]) == (503, "signer_unavailable")
            assert int(refused.headers["Retry-After"]) >= 1
            assert "key service" not in refused.text  # What the program said is for the operator.
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/healthz")).status_code == 200
            assert minded.service.database.read(_open_count) == 1
            assert (await minded.said("signer_lost"))["why"] == "the key service is away"
            minded.mood.write_text("")
            assert (await minded.said("signer_back"))["intents"] == 1
            assert minded.service.database.read(_open_count) == 0
            assert (await client.get("/readyz")).status_code == 200
            answer = (await client.post("/v1/exchange", content=token, headers=HEADERS)).json()
            minded.home.chain.verify(answer["certificate"], Kind.CERTIFICATE, trust.ROLE_ISSUE)

    asyncio.run(story())
    declared = tomllib.loads((resources.files("keyturn") / "privacy.toml").read_text("utf-8"))["log"]
    assert {name for line in minded.lines for name in line} <= set(declared)


def test_nobody_waits_for_a_slow_signer_but_who_needs_it(minded: Minded) -> None:
    """While the program hangs over one signature, health, refusals and releases are answered."""

    async def story() -> None:
        async with minded.running() as client:
            first = minded.request()
            assert (await client.post("/v1/exchange", content=first, headers=HEADERS)).status_code == 200
            minded.mood.write_text("hang once")
            slow = asyncio.create_task(client.post("/v1/exchange", content=minded.request(), headers=HEADERS))
            while minded.mood.read_text():  # It has been asked, and hangs.
                assert (await client.get("/healthz")).status_code == 200
                await asyncio.sleep(0)  # In this transport nothing else lets the other task run.
            again = await client.post("/v1/exchange", content=first, headers=HEADERS)
            assert again.status_code == 200  # Signed before: no signer is needed to repeat it.
            assert not slow.done()
            slow.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await slow

    minded.home.holder._patience = 1  # type: ignore[attr-defined]
    asyncio.run(story())


def test_a_signer_that_is_away_at_the_start(minded: Minded) -> None:
    """What it holds is known from the last time, so the service starts, is not ready, and signs when the signer is there."""
    proven = minded.service.prove(minded.request())
    assert isinstance(proven, Proven)
    minded.service.record(proven, minded.service.database.write).result()
    minded.mood.write_text("early away")
    assert minding.begin(minded.service) == 0
    assert minded.home.holder.away is not None

    async def story() -> None:
        async with minded.running() as client:
            assert (await client.get("/readyz")).status_code == 503
            await minded.said("signer_lost")
            minded.mood.write_text("")
            assert (await minded.said("signer_back"))["intents"] == 1
            assert (await client.get("/readyz")).status_code == 200

    asyncio.run(story())


def test_what_time_does_not_mend_ends_the_start(minded: Minded) -> None:
    """A wrong PIN, and a signer that was never here: the service does not start, and says which."""
    minded.mood.write_text("early locked")
    with pytest.raises(KeyturnError) as locked:
        minding.begin(minded.service)
    assert locked.value.code == "signer_locked"
    minded.home.close()
    (minded.path / signing.PUBLIC).unlink()
    minded.mood.write_text("early away")
    minded.home = ServiceHome(minded.path, {})
    service = ActivationService(
        minded.home, minded.world.publisher.database, clock=minded.world.clock, chance=Chance("x")
    )
    with pytest.raises(KeyturnError) as unknown:
        minding.begin(service)
    assert unknown.value.code == "signer_unavailable"


def test_a_key_that_is_gone_holds_up_no_other(minded: Minded) -> None:
    """Recovery signs what can be signed, keeps it, and then says what failed."""
    for _ in range(3):
        proven = minded.service.prove(minded.request())
        assert isinstance(proven, Proven)
        minded.service.record(proven, minded.service.database.write).result()
    minded.mood.write_text("error once")
    with pytest.raises(KeyturnError) as failed:
        minded.service.recover()
    assert failed.value.code == "signer_unavailable"
    assert minded.service.database.read(_open_count) == 1
    assert minded.service.recover() == 1


@pytest.mark.system
@pytest.mark.needs("softhsm2-util")
def test_the_real_program_with_a_token(tmp_path: Path) -> None:
    """Moved by the verbs, started, asked, checked; with a wrong PIN it does not start, and ends with 5 for systemd."""
    publisher = programs.Publisher(tmp_path / "publisher")
    hsm = SoftHsm(tmp_path / "hsm")
    publisher.product("paintbox", "--test")
    (key,) = publisher.mint("paintbox")
    publisher.service("config", "set", "pkcs11_module", hsm.module).ok()
    refused = publisher.service("issuing-key", "store", "--signer", "pkcs11", env=hsm.env)
    assert (refused.exit, refused.code) == (2, "confirmation_required")
    publisher.service("issuing-key", "store", "--signer", "pkcs11", "--yes", env=hsm.env).ok()
    pc = programs.computer(tmp_path / "pc", "office-pc-a")
    with run(publisher, hsm.wrapper):
        home = programs.Home(tmp_path / "home", sysroot=pc)
        assert home.activate(publisher.folder / "paintbox.ktproduct", key["key"]).ok().product["state"] == "licensed"
    listed = publisher.service("issuing-key", "create", "--count", "1", env=hsm.env).ok().json
    assert (listed["keyturn"], listed["v"], len(listed["keys"])) == ("issuing-keys", 1, 2)
    checks = publisher.service("verify", env=hsm.env).ok().json["checks"]
    assert next(check["figure"] for check in checks if check["name"] == "signer") == "pkcs11: holds 6 keys"
    assert jws.public_from_jwk(listed["keys"][0]["jwk"])
    hsm.pin_file.write_text("0000")
    started = programs.run(
        ["service", "run", "--home", str(publisher.home), "--json", "--listen", "127.0.0.1:0", "--probe-listen", "none"],
        cwd=tmp_path, env=hsm.env,
    )  # fmt: skip
    assert (started.exit, started.code) == (5, "signer_locked")


@contextlib.contextmanager
def run(publisher: programs.Publisher, wrapper: tuple[str, ...]) -> Iterator[None]:
    publisher.start(wrapper=wrapper)
    try:
        yield
    finally:
        assert publisher.stop() == 0


def test_the_figures_count_signatures_and_failures(tmp_path: Path) -> None:
    """One activation is one signature; a failure is counted beside; the kind of signer is a label."""
    with served(tmp_path) as there:
        key = there.world.publisher.mint()
        answer = there.client().post("/v1/exchange", content=request_of(there.world, key), headers=HEADERS)
        assert answer.status_code == 200
        there.service.home.holder.told(None)
        lines = there.client("read").get("/metrics").text.splitlines()
    assert {"keyturn_signer_seconds_count 1.0", "keyturn_signer_failures_total 1.0", 'keyturn_signer_ready{of="file"} 1.0'} <= {
        *lines
    }
