"""Signers: a PKCS#11 token under load, whose program is killed and which is pulled out and put back."""

from __future__ import annotations

import collections
import http.client
import json
import os
import random
import signal
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

from keyturn.core import containers, jws, trust
from keyturn.core.documents import Certificate
from keyturn.core.jws import Kind
from keyturn.service.signing import PUBLIC
from programs import PATIENCE, Publisher
from show.stage import Stage, item
from softhsm import SoftHsm
from solid.asking import Asker

CLIENTS = 16
MANY = "1000000/1000000"  # A rate that one address making all the load does not reach.
Answer = tuple[int, str]  # Status and certificate, or the code of a problem.


class Crowd:
    """Clients that send requests at the same time, each on one kept connection, and what they were answered."""

    def __init__(self, publisher: Publisher) -> None:
        self._context = ssl.create_default_context(cafile=str(publisher.home / "tls" / "ca.pem"))
        self._port = publisher.port
        self.answers: dict[str, list[Answer]] = collections.defaultdict(list)

    def send(self, tokens: list[str], at: dict[int, Callable[[], None]] | None = None) -> collections.Counter[str]:
        """Send each token once; ``at``: what happens when so many answers are here. The result counts outcomes."""
        waiting, counted, gate = collections.deque(tokens), collections.Counter[str](), threading.Lock()
        failed: list[BaseException] = []

        def work() -> None:
            line = http.client.HTTPSConnection("localhost", self._port, context=self._context, timeout=PATIENCE)
            try:
                while True:
                    with gate:
                        if not waiting:
                            return
                        token = waiting.popleft()
                    status, said = self._ask(line, token)
                    with gate:
                        self.answers[token].append((status, said))
                        counted["certificate" if status == 200 else f"{status} {said}"] += 1
                        event = (at or {}).pop(counted.total(), None)
                    if event is not None:
                        event()
            except BaseException as error:  # noqa: BLE001 (raised again below)
                failed.append(error)
            finally:
                line.close()

        threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        return counted

    def _ask(self, line: http.client.HTTPSConnection, token: str) -> Answer:
        line.request("POST", "/v1/exchange", token, {"Content-Type": "application/jose"})
        answer = line.getresponse()
        body = json.loads(answer.read())
        if answer.status == 503:
            assert int(answer.headers["Retry-After"]) >= 1
        return answer.status, str(body["certificate"] if answer.status == 200 else body["code"])

    def ready(self) -> bool:
        line = http.client.HTTPSConnection("localhost", self._port, context=self._context, timeout=PATIENCE)
        line.request("GET", "/readyz")
        status = line.getresponse().status
        line.close()
        return status == 200


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    """The programs that a process has started, whichever of its threads did."""
    found = (Path(f"/proc/{pid}/task/{thread}/children").read_text() for thread in os.listdir(f"/proc/{pid}/task"))
    return [int(number) for line in found for number in line.split()]


@item("Signing through SoftHSM in the service under load; the session lost and found again")
def token_under_load(stage: Stage, count: int = 600) -> str:
    place = stage.place("signers")
    publisher, hsm = Publisher(place / "publisher", "Token Ink"), SoftHsm(place / "hsm")
    product = publisher.product("writer").read_bytes()
    publisher.service("org", "create", "initech").ok()
    for name, value in {"pkcs11_module": hsm.module, **dict.fromkeys(("rate_address", "rate_prefix", "rate_key"), MANY)}.items():
        publisher.service("config", "set", name, value).ok()
    publisher.service("issuing-key", "store", "--signer", "pkcs11", "--yes", env=hsm.env).ok()
    assert not list((publisher.home / "keys").glob("*.key"))
    held = {jws.thumbprint(jws.public_from_jwk(key)) for key in json.loads((publisher.home / PUBLIC).read_bytes())["keys"]}
    (key,) = publisher.mint("writer", "--channel", "mak", "--org", "initech", "--limit", str(3 * count))
    asker = Asker(product, key["key"], random.Random("signers"))
    first, second, third = ([asker.request().token for _ in range(count)] for _ in range(3))
    publisher.start(wrapper=hsm.wrapper)
    try:
        crowd, pid = Crowd(publisher), int(publisher.ready["pid"])
        # 1. Under load.
        began = time.monotonic()
        assert crowd.send(first) == {"certificate": count}
        rate = count / (time.monotonic() - began)
        # 2. Each program that has the token open is killed in the middle: its session is lost, and nobody sees it.
        killed = children(pid)
        assert killed
        assert crowd.send(second, at={count // 3 + n: _killer(p) for n, p in enumerate(killed)}) == {"certificate": count}
        # 3. The token is pulled out in the middle: every handle of every session is dead.
        lost = crowd.send(third, at={count // 3: hsm.take_away})
        refused = lost.pop("503 signer_unavailable")
        assert lost == {"certificate": count - refused}, lost
        assert not crowd.ready()
        open_then = int(publisher.service("status").ok().json["open_intents"])
        assert refused == open_then > 0  # Each was recorded before it was refused.
        # 4. It is put back: what was recorded is signed, and nobody had to ask for it.
        hsm.put_back()
        wait(lambda: int(publisher.service("status").ok().json["open_intents"]) == 0)
        wait(crowd.ready)
        # 5. Whoever was refused asks again with the same bytes; and so do all the others.
        assert crowd.send([*first, *second, *third]) == {"certificate": 3 * count}
        used = publisher.seats(key["serial"])
    finally:
        publisher.close()
    _check(product, crowd, held)
    assert used == 3 * count, used
    publisher.service("verify", env=hsm.env).ok()
    return (
        f"{rate:.0f} activations/s through SoftHSM; {len(killed)} sessions killed: 0 of {count} failed; token out:"
        f" {refused} of {count} answered 503 with Retry-After, all {open_then} recorded and signed when it was back;"
        f" {3 * count} certificates, each asked for again the same bytes; 0 lost, 0 false, {used} seats for {3 * count} computers"
    )


def _killer(pid: int) -> Callable[[], None]:
    return lambda: os.kill(pid, signal.SIGKILL)


def _check(product: bytes, crowd: Crowd, held: set[str]) -> None:
    """Each answered certificate verifies, is for its own request, by a key of the token, and never differs."""
    opened = containers.open_product(containers.expect(product, "product"))
    for token, answers in crowd.answers.items():
        (text,) = {said for status, said in answers if status == 200}
        certificate = Certificate.read(opened.chain.verify(text, Kind.CERTIFICATE, trust.role_for(test=False)))
        assert certificate.request == jws.digest(token)
        assert jws.read_header(text, Kind.CERTIFICATE).kid in held
