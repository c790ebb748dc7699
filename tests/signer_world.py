"""Signers for tests: documents, a world whose issuing keys are kept by one of them, a program that misbehaves on demand."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from keyturn.core import jws, trust
from keyturn.core.jws import Kind
from keyturn.edge import keystore, sodium
from keyturn.edge.signer_program import Programs
from keyturn.service import home as homes
from keyturn.service import storing
from keyturn.service.activation import ActivationService
from keyturn.service.home import ServiceHome
from keyturn.service.seats import Intent
from keyturn.service.signing import COMMAND, FILE, TOKEN, IssuingSigner
from keyturn.testing import World
from keyturn.testing.world import Chance
from softhsm import SoftHsm

EXAMPLE = Path(__file__).parents[1] / "examples" / "signer" / "sign.py"
UNRULY = Path(__file__).with_name("unruly_signer.py")
PASSPHRASE = "correct horse battery staple"
Keep = Callable[[str], "Kept"]
needs_softhsm = pytest.mark.needs("softhsm2-util")


class Asked(NamedTuple):
    """Anything that looks like a document."""

    kind: Kind
    kid: str
    payload: bytes


class Clock:
    """Running time that can be skipped."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.skipped


class Kept:
    """A world whose issuing keys are kept by a signer of some kind, and what opens it."""

    def __init__(self, world: World, env: Mapping[str, str], hsm: SoftHsm | None = None) -> None:
        self.world, self.env, self.hsm = world, env, hsm
        self.path = world.publisher.folder
        self.home = ServiceHome(self.path, env)

    def service(self) -> ActivationService:
        """The service as it runs with this signer."""
        world = self.world
        return ActivationService(self.home, world.publisher.database, clock=world.clock, chance=Chance("signers"))

    def signer(self) -> IssuingSigner:
        return self.home.signer(trust.ROLE_ISSUE, self.world.clock())[1]


def mover(world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, made: list[Kept]) -> Keep:
    """Moves the world's keys to a signer of a kind, as an operator does it; ``made`` takes what is to be closed."""

    def move(kind: str) -> Kept:
        path = world.publisher.folder
        (folder / "pass").write_text(PASSPHRASE + "\n")
        (folder / "pass").chmod(0o600)
        env = {"KEYTURN_SERVICE_PASSPHRASE_FILE": str(folder / "pass")}
        hsm = None
        if kind == TOKEN:
            hsm = SoftHsm(folder / "hsm")
            env |= hsm.env
            monkeypatch.setenv("SOFTHSM2_CONF", hsm.env["SOFTHSM2_CONF"])  # The module reads it, in the program beside us.
            homes.change_setting(path, "pkcs11_module", hsm.module)
        if kind == COMMAND:
            shutil.copytree(path / "keys", folder / "theirs")
            homes.change_setting(path, "signer_command", shlex.join([sys.executable, str(EXAMPLE), str(folder / "theirs")]))
        if kind != FILE:
            storing.store(ServiceHome(path, env), kind)
        made.append(Kept(world, env, hsm))
        return made[-1]

    return move


def an_intent(kid: str, payload: bytes = b'{"v":1}') -> Intent:
    return Intent(1, "request", "activation", "new", kid, payload, None, 1, 1, 1)


class Unruly:
    """A holder over a program whose mood the test sets."""

    def __init__(self, folder: Path, count: int = 1) -> None:
        folder.mkdir()
        (folder / "keys").mkdir()
        self.key = keystore.create(folder / "keys" / "issue-01.key")
        self.mood = folder / "mood"
        self.mood.write_text("")
        self.clock = Clock()
        self.told: list[float | None] = []
        command = [sys.executable, str(UNRULY), str(folder / "keys"), str(self.mood)]
        self.holder = Programs(command, {self.key.kid: self.key.public}, count=count, patience=3, ticks=self.clock)
        self.holder.watchers.append(self.told.append)

    def sign(self, number: int = 0) -> bool:
        """Sign a document; whether what came is a signature of it. Raises as ``Holder.sign``."""
        signed = self.holder.sign(self.document(number))
        return sodium.holds(self.key.public, signed.signature, signed.signing_input)

    def document(self, number: int = 0) -> Asked:
        return Asked(Kind.CERTIFICATE, self.key.kid, jws.dumps({"number": number}))

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self.mood.with_suffix(".pids").read_text().split()]
