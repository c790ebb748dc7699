"""One process of the load: recorded computers with real stores that ask the real service over HTTPS until it answers.

    python tests/solid/load.py SPEC.json

Says ``ready`` when everything that needs no service is done, begins at the first line of its input, and prints one JSON
line per answer it got: what was asked, when (monotonic seconds), and the answer. An answer that was lost is asked for
again with the same bytes. Two plans:

- ``once``: each computer asks once for the same key, all at the same time; at the next line, all of them ask again.
- ``churn``: each computer goes from key to key: activate, repeat, perhaps give the seat back, until its input ends.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from keyturn.client import accepting, actions
from keyturn.client.machine import Machine
from keyturn.core import containers, jws
from keyturn.core.documents import ProductFile
from keyturn.core.errors import KeyturnError, Refused
from keyturn.edge import probes
from keyturn.edge.probes import Computer
from keyturn.edge.vault import Vault
from keyturn.flows.exchange import Line
from keyturn.testing.computers import synthetic

AGAIN = {"service_unreachable", "service_unready"}  # The answer is not known: the same bytes are sent again.
PATIENCE = 90.0  # Seconds after which a service that does not answer is called dead.


class Spec(NamedTuple):
    """What one process does. ``computers`` are numbers of synthetic computers."""

    plan: str
    folder: str
    product: str
    computers: list[int]
    keys: list[str]
    seed: str
    returns: float = 0.5


class Pc:
    """A recorded computer with a store of its own and a line to the service."""

    def __init__(self, folder: Path, number: int, product: bytes) -> None:
        self.number = number
        place = str(synthetic(number).write(folder / f"pc-{number}"))

        def read(_sysroot: str | None = None, *, facts: bool = True) -> Computer:
            return probes.read(place, facts=facts)

        self.machine = Machine({"HOME": place}, read=read)
        self.shelf = actions.add_product(Vault(str(folder / f"home-{number}"), "user").shelf, product, self.machine)
        self.product: ProductFile = containers.open_product(containers.expect(product, "product")).product
        self.line = Line(self.product, {})

    def install(self, key: str) -> None:
        actions.install_key(self.shelf, key, self.machine)

    def request(self) -> str:
        return actions.make_request(self.shelf, self.machine)[0]

    def ask(self, op: str, token: str, say: Callable[[Mapping[str, Any]], None]) -> dict[str, Any] | Refused:
        """Send ``token`` until there is an answer, and say what it was."""
        began = time.monotonic()
        while True:
            try:
                answer = self.line.send(token)
                break
            except KeyturnError as error:
                if error.code not in AGAIN or time.monotonic() > began + PATIENCE:
                    raise
                time.sleep(0.02)
        claims = jws.loads(jws.payload_of(token))
        said: dict[str, Any] = {
            "pc": self.number, "op": op, "serial": claims["serial"], "digest": jws.digest(token), "began": began,
            "ended": time.monotonic(), "code": None, "certificate": None, "activation": claims.get("activation"),
        }  # fmt: skip
        if isinstance(answer, Refused):
            said["code"] = answer.code
        elif op != "release":
            said["certificate"] = answer["certificate"]
            said["activation"] = jws.loads(jws.payload_of(answer["certificate"]))["activation"]
        say(said)
        return answer


def once(spec: Spec, pcs: list[Pc], say: Callable[[Mapping[str, Any]], None], begin: Callable[[], bool]) -> None:
    tokens = {}
    for pc in pcs:
        pc.install(spec.keys[0])
        tokens[pc.number] = pc.request()
    say({"op": "ready"})
    if not begin():
        return

    def first(pc: Pc) -> None:
        answer = pc.ask("activate", tokens[pc.number], say)
        if isinstance(answer, dict):
            accepting.accept_answer(pc.shelf, pc.machine, answer)

    together(pcs, first)
    say({"op": "done"})
    if begin():
        together(pcs, lambda pc: pc.ask("repeat", tokens[pc.number], say))
        say({"op": "done"})


def churn(spec: Spec, pcs: list[Pc], say: Callable[[Mapping[str, Any]], None], begin: Callable[[], bool]) -> None:
    say({"op": "ready"})
    if not begin():
        return
    ending = threading.Event()

    def until_told() -> None:
        begin()
        ending.set()

    threading.Thread(target=until_told, daemon=True).start()

    def live(pc: Pc) -> None:
        chance = random.Random(f"{spec.seed} {pc.number}")
        for key in spec.keys:
            if ending.is_set():
                return
            pc.install(key)
            token = pc.request()
            answer = pc.ask("activate", token, say)
            if isinstance(answer, Refused):
                pc.shelf.remove_pending()
                continue
            accepting.accept_answer(pc.shelf, pc.machine, answer)
            pc.ask("repeat", token, say)
            if chance.random() < spec.returns:
                release = actions.make_release(pc.shelf, pc.machine)
                outcome = pc.ask("release", release, say)
                actions.finish_release(pc.shelf, outcome)

    together(pcs, live)
    say({"op": "done"})


def together(pcs: list[Pc], action: Callable[[Pc], object]) -> None:
    """Run ``action`` for all computers at the same time; what one of them raises is raised."""
    failed: list[BaseException] = []

    def run(pc: Pc) -> None:
        try:
            action(pc)
        except BaseException as error:  # noqa: BLE001 (raised again below, in the thread that waits)
            failed.append(error)

    threads = [threading.Thread(target=run, args=(pc,)) for pc in pcs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def main() -> int:
    spec = Spec(**json.loads(Path(sys.argv[1]).read_text()))
    lock = threading.Lock()

    def say(what: Mapping[str, Any]) -> None:
        line = json.dumps(what).encode() + b"\n"
        with lock:
            os.write(1, line)

    product = Path(spec.product).read_bytes()
    pcs = [Pc(Path(spec.folder), number, product) for number in spec.computers]
    {"once": once, "churn": churn}[spec.plan](spec, pcs, say, lambda: bool(sys.stdin.readline()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
