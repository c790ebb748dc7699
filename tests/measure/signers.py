"""Signatures per second by kind of signer, against one core's Ed25519 by OpenSSL in the same run.

Keeps: the holders as the service uses them, 64 documents of a certificate's size at a time; a token of SoftHSM, and the
example of an external signer. A real hardware module has figures of its own: SoftHSM shows what the way there costs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from keyturn.core import trust
from keyturn.core.jws import Kind
from keyturn.edge import sodium
from keyturn.edge.signers import Holder
from keyturn.service import home as homes
from keyturn.service import signing, storing
from keyturn.service.home import ServiceHome
from keyturn.testing import World
from measure.rows import Row
from measure.service import Bench, ceiling
from softhsm import SoftHsm

AT_ONCE = 64  # As many as the load of `activations` has connections.
SIZE = 1_300  # Bytes of a certificate's content.
PASSPHRASE = "correct horse battery staple"
EXAMPLE = Path(__file__).parents[2] / "examples" / "signer" / "sign.py"


class Asked(NamedTuple):
    """A certificate's content, as large as one is."""

    kind: Kind
    kid: str
    payload: bytes


def signatures(folder: Path, count: int = 2_000, rounds: int = 5) -> list[Row]:
    """Each kind of signer in turn, round after round; the median round counts."""
    made = World(folder / "world")
    os.environ |= {"SOFTHSM2_CONF": str(folder / "hsm" / "softhsm2.conf")}
    hsm = SoftHsm(folder / "hsm")
    homes_of = {name: _home(folder / name.replace(" ", "-"), made, name, hsm) for name in KINDS}
    ratios: dict[str, list[float]] = {name: [] for name in (*KINDS, VERIFIED)}
    rates: dict[str, list[float]] = {name: [] for name in ratios}
    for number in range(rounds + 1):
        limit = ceiling(1)
        for name, home in homes_of.items():
            kid = home.signer(trust.ROLE_ISSUE, made.clock())[0].kid
            documents = [Asked(Kind.CERTIFICATE, kid, os.urandom(SIZE)) for _ in range(count)]
            found = _rate(home.holder, documents)
            if number:  # The first round warms: programs start, pages come into memory.
                rates[name].append(found)
                ratios[name].append(found / limit.sign)
            if name == "file" and number:
                found = _verified_rate(home.holder, home.signers[kid].public, documents)
                rates[VERIFIED].append(found)
                ratios[VERIFIED].append(found / limit.sign)
    for home in homes_of.values():
        home.close()
    made.close()
    part = "Signers"
    return [
        Row(part, f"signatures per second by signer `{name}`, against one core's by OpenSSL", statistics.median(ratios[name]),
            f"{statistics.median(rates[name]):,.0f}/s")
        for name in ratios
    ]  # fmt: skip


def activations(folder: Path, count: int = 4_000, rounds: int = 3) -> list[Row]:
    """Durable online activations with a token, against the same with key files, in turn."""
    hsm = SoftHsm(folder / "hsm")
    benches = {name: Bench(folder / name, f"signers {name}") for name in ("file", "pkcs11")}
    token = benches["pkcs11"].publisher
    token.service("config", "set", "pkcs11_module", hsm.module).ok()
    token.service("issuing-key", "store", "--signer", "pkcs11", "--yes", env=hsm.env).ok()
    rates: dict[str, list[float]] = {name: [] for name in benches}
    for name, bench in benches.items():
        bench.publisher.start(wrapper=hsm.wrapper if name == "pkcs11" else ())
        bench.load(count // 4)
    for _ in range(rounds):
        for name, bench in benches.items():
            rates[name].append(bench.load(count).rate)
    for bench in benches.values():
        bench.publisher.close()
    ratio = statistics.median(slow / fast for slow, fast in zip(rates["pkcs11"], rates["file"], strict=True))
    told = ", ".join(f"{name} {statistics.median(found):,.0f}/s" for name, found in rates.items())
    return [Row("Signers", "durable activations over HTTPS through SoftHSM, against key files", ratio, told)]


def everything(folder: Path) -> list[Row]:
    (folder / "signatures").mkdir()
    (folder / "activations").mkdir()
    return [*signatures(folder / "signatures"), *activations(folder / "activations")]


def _rate(holder: Holder, documents: list[Asked]) -> float:
    began = time.perf_counter()
    for at in range(0, len(documents), AT_ONCE):
        for future in [holder.submit(document) for document in documents[at : at + AT_ONCE]]:
            future.result()
    return len(documents) / (time.perf_counter() - began)


def _verified_rate(holder: Holder, public: bytes, documents: list[Asked]) -> float:
    began = time.perf_counter()
    for document in documents:
        signed = holder.sign(document)
        assert sodium.holds(public, signed.signature, signed.signing_input)
    return len(documents) / (time.perf_counter() - began)


VERIFIED = "file, each verified"


def _settings(kind: str, processes: int = 1) -> Callable[[Path, SoftHsm], Mapping[str, str]]:
    def make(folder: Path, hsm: SoftHsm) -> Mapping[str, str]:
        command = [sys.executable, str(EXAMPLE), str(folder / "theirs")]
        return {
            "signer": kind, "signer_processes": str(processes), "signer_command": shlex.join(command),
            "pkcs11_module": hsm.module,
        }  # fmt: skip

    return make


KINDS: Mapping[str, Callable[[Path, SoftHsm], Mapping[str, str]]] = {
    "file": _settings(signing.FILE),
    "encrypted-file": _settings(signing.ENCRYPTED),
    "pkcs11 (SoftHSM), 1 process": _settings(signing.TOKEN),
    "pkcs11 (SoftHSM), 2 processes": _settings(signing.TOKEN, 2),
    "command (the example), 1 process": _settings(signing.COMMAND),
    "command (the example), 2 processes": _settings(signing.COMMAND, 2),
}


def _home(folder: Path, world: World, name: str, hsm: SoftHsm) -> ServiceHome:
    """The world's home once more, with its keys at a signer of this kind, opened."""
    shutil.copytree(world.publisher.folder, folder)
    shutil.copytree(folder / "keys", folder / "theirs")
    secret = folder / "passphrase"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o600)
    env = {**hsm.env, "KEYTURN_SERVICE_PASSPHRASE_FILE": str(secret)}
    wanted = dict(KINDS[name](folder, hsm))
    kind = wanted.pop("signer")
    for setting, value in wanted.items():
        homes.change_setting(folder, setting, value)
    if kind != signing.FILE:
        storing.store(ServiceHome(folder, env), kind)
    home = ServiceHome(folder, env)
    home.open_signer()
    return home
