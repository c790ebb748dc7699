"""Limits on how much is asked: arithmetic under a clock of our own, and new load shed before renewals over HTTP."""

from __future__ import annotations

import http.client
import json
import random
from pathlib import Path
from typing import Any

import pytest

from keyturn.client import accepting, actions
from keyturn.core import containers
from keyturn.core.errors import KeyturnError
from keyturn.edge.listen import background
from keyturn.edge.ratelimit import Buckets, Limiter, Rate, Rates, places
from keyturn.edge.shedding import Admission
from keyturn.edge.vault import Shelf, Vault
from keyturn.flows.exchange import Line
from keyturn.service.app import build
from keyturn.service.home import RATES, change_setting, read_settings
from keyturn.service.shedding import pass_on
from keyturn.testing import World
from peers import Authority, Peer, answering, refused
from solid.asking import Asker


def test_a_bucket_empties_and_fills() -> None:
    """A burst at once, then the rate; the wait is exact, and a bucket never holds more than its burst."""
    buckets = Buckets(Rate(2, 5))
    assert [buckets.take("a", 0) for _ in range(5)] == [0] * 5
    assert buckets.take("a", 0) == 0.5
    assert buckets.take("b", 0) == 0
    assert buckets.take("a", 0.5) == 0
    assert buckets.take("a", 0.75) == 0.25
    assert [buckets.take("a", 1000) for _ in range(6)] == [0] * 5 + [0.5]
    assert buckets.take("a", 990) == 0.5  # A clock that goes back gives nothing and takes nothing.


def test_memory_is_bounded() -> None:
    """However many names come, so many are remembered, and the last ones used are."""
    buckets = Buckets(Rate(1, 1), most=100)
    for number in range(10_000):
        buckets.take(number, 0)
    assert len(buckets) == 100
    assert buckets.take(9_999, 0) == 1


@pytest.mark.parametrize(
    ("address", "one", "wide"),
    [
        ("192.0.2.77", "192.0.2.77", "c00002/24"),
        ("::ffff:192.0.2.77", "192.0.2.77", "c00002/24"),
        ("2001:db8:1:2:3:4:5:6", "20010db800010002/64", "20010db80001/48"),
        ("fe80::1%eth0", "fe80000000000000/64", "fe8000000000/48"),
        ("testclient", "", ""),
    ],
)
def test_where_an_address_is_counted(address: str, one: str, wide: str) -> None:
    """IPv4 alone and in its /24; IPv6 by /64 and /48; what is no address is one place."""
    assert places(address) == (one, wide)


def test_a_whole_prefix_is_limited() -> None:
    """Two hundred addresses of one /24 have what the prefix has; another prefix is not touched."""
    limiter = Limiter(Rates(address=Rate(1, 10), prefix=Rate(1, 50)))
    served = sum(limiter.arrive(f"198.51.100.{number}", 0) == 0 for number in range(200))
    assert served == 50
    assert limiter.arrive("203.0.113.1", 0) == 0


def test_rates_are_settings(tmp_path: Path, world: World) -> None:
    """The defaults parse, `config set` takes a rate or off, and refuses what is neither."""
    home = world.publisher.folder
    assert world.publisher.home.settings.rates() == Rates(Rate(100, 2000), Rate(400, 8000), Rate(50, 5000))
    change_setting(home, "rate_key", "off")
    settings, origins = read_settings(home, {"KEYTURN_SERVICE_RATE_ADDRESS": "0.5/7"})
    assert settings.rates() == Rates(Rate(0.5, 7), Rate(400, 8000), None)
    assert origins["rate_address"] == "environment KEYTURN_SERVICE_RATE_ADDRESS"
    for wrong in ("", "5", "0/5", "5/0", "-1/5", "1/5x", "١/٥"):
        assert refused(lambda wrong=wrong: change_setting(home, "rate_prefix", wrong)).code == "usage"  # type: ignore[misc]
    assert set(RATES) <= set(settings._fields)


def holder(world: World, key: str, place: str) -> tuple[Shelf, str]:
    """A computer that holds a seat, and the request with which it renews."""
    machine = world.machine()
    shelf = actions.add_product(Vault(str(world.folder / place), "user").shelf, world.product, machine)
    actions.install_key(shelf, key, machine)
    answer = world.publisher.service.exchange(actions.make_request(shelf, machine)[0])
    assert isinstance(answer, dict)
    accepting.accept_answer(shelf, machine, answer)
    return shelf, actions.make_request(shelf, machine)[0]


def test_one_keys_flood_leaves_its_computers_alone(world: World) -> None:
    """With a key's bucket empty, its new computers wait and those that hold a seat are served; other keys do not notice."""
    key, other = world.publisher.mint(channel="mak", limit=1000), world.publisher.mint(channel="mak", limit=10)
    _, renewal = holder(world, key, "holder")
    asker, elsewhere = (Asker(world.product, text, random.Random(1)) for text in (key, other))
    service, now = world.publisher.service, [0.0]
    limiter = Limiter(Rates(key=Rate(1, 10)))

    def admit(token: str) -> KeyturnError | None:
        admission = Admission(limiter, "192.0.2.1", lambda: now[0], 0.0)
        try:
            admission.look(token)
            pass_on(admission, service, service.prove(token))
        except KeyturnError as error:
            return error
        return None

    flood = [admit(asker.request().token) for _ in range(30)]
    assert [error is None for error in flood] == [True] * 10 + [False] * 20
    assert {(error.code, error.exit, error.retry_after) for error in flood if error} == {("too_many_requests", 3, 1)}
    assert admit(renewal) is None
    assert admit(elsewhere.request().token) is None
    named = asker.request(activation="01890000-0000-7000-8000-000000000000").token
    assert admit(named) is not None  # Naming an activation is not having one.
    now[0] += 5
    assert sum(admit(asker.request().token) is None for _ in range(30)) == 5


def test_guesses_cost_more(world: World) -> None:
    """Who proves no key uses his address up ten times as fast."""
    asker = Asker(world.product, world.publisher.mint(), random.Random(2))
    limiter = Limiter(Rates(address=Rate(0.001, 100)))
    served = 0
    for _ in range(50):
        wait = limiter.arrive("192.0.2.9", 0)
        served += not wait
        if not wait:
            token = asker.request(key_proof="x").token
            service = world.publisher.service
            pass_on(Admission(limiter, "192.0.2.9", lambda: 0.0, 0.0), service, service.prove(token))
    assert served == 10


def post(port: int, token: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/v1/exchange", token.encode(), {"Content-Type": "application/jose"})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(answer.read())
    finally:
        connection.close()


def test_renewals_are_served_while_new_load_is_shed(world: World) -> None:
    """Over HTTP: an address that used its share up hears 429 and when to come back; its renewals still get certificates."""
    key = world.publisher.mint(channel="mak", limit=1000)
    shelf, renewal = holder(world, key, "holder")
    asker = Asker(world.product, key, random.Random(3))
    logged: list[object] = []
    rates = Rates(address=Rate(0.01, 20), prefix=Rate(0.01, 100))
    app = build(world.publisher.service, lambda event, fields: logged.append((event, dict(fields))), rates=rates)
    with background(app) as ready:
        answers = [post(ready.port, asker.request().token) for _ in range(40)]
        assert [status for status, _, _ in answers] == [200] * 20 + [429] * 20
        _, headers, problem = answers[-1]
        assert problem["code"] == "too_many_requests"
        assert 0 < int(headers["retry-after"]) <= 100
        assert problem["retry_after"] == int(headers["retry-after"])
        status, _, answer = post(ready.port, renewal)
        assert status == 200
        assert answer["seat"]["how"] == "same"
        liar = asker.request(activation=answer["certificate"][:40]).token
        assert post(ready.port, liar)[0] == 429
        statuses = [post(ready.port, renewal)[0] for _ in range(40)]
        assert statuses == sorted(statuses) and set(statuses) == {200, 429}  # The reserve is bounded too.
        connection = http.client.HTTPConnection("127.0.0.1", ready.port, timeout=10)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200  # Health is not counted.
        connection.close()
    assert "127.0.0.1" not in json.dumps(logged)
    assert shelf.pending() is not None


def test_the_client_hears_when_to_come_back(world: World) -> None:
    """A 429 with a problem document is no refusal: the client says that the service is not ready, and until when."""
    body = json.dumps({"code": "too_many_requests", "title": "t", "detail": "Too many requests from this address."})
    head = "HTTP/1.1 429 X\r\nContent-Type: application/problem+json\r\nRetry-After: 17\r\nContent-Length: "
    authority = Authority()
    product = containers.open_product(containers.expect(world.product, "product")).product
    with Peer(answering(f"{head}{len(body)}\r\n\r\n{body}".encode()), authority.context()) as peer:
        there = product._replace(service_url=f"https://127.0.0.1:{peer.port}", ca=authority.pem, probe_url=None)
        with Line(there, {}) as line:
            error = refused(lambda: line.send("x"))
    assert (error.code, error.exit, error.retry_after) == ("service_unready", 3, 17)
