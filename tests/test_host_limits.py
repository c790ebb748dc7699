"""Limits on how much a host is asked: new load is shed before renewals, and a whole site may sit behind one address."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hosts import Computer, Organization
from keyturn.edge.listen import background
from keyturn.edge.ratelimit import Rate, Rates
from keyturn.host import home
from keyturn.host.app import build
from keyturn.host.leasing import LeasingHost
from keyturn.testing import World
from peers import refused


@pytest.fixture
def organization(tmp_path: Path) -> Iterator[Organization]:
    world = World(tmp_path / "world", threshold=1)
    yield Organization(world)
    world.close()


@pytest.fixture
def host(organization: Organization) -> Iterator[LeasingHost]:
    made = organization.host()
    yield made
    made.database.close()


def asked(port: int, method: str, path: str, token: str = "") -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, token.encode(), {"Content-Type": "application/jose"} if token else {})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(answer.read())
    finally:
        connection.close()


def post(port: int, computer: Computer, **other: Any) -> tuple[int, dict[str, str], Any]:
    return asked(port, "POST", "/v1/lease", computer.request(**other))


def test_renewals_are_served_while_new_load_is_shed(organization: Organization, host: LeasingHost) -> None:
    """An address that used its share up hears 429 and when to come back; whoever holds a lease there is renewed all the same."""
    known = organization.computer(1)
    known.ask(host)
    logged: list[object] = []
    rates = Rates(address=Rate(0.01, 20), prefix=Rate(0.01, 100))
    app = build(host, lambda event, fields: logged.append((event, dict(fields))), place="here", rates=rates)
    with background(app) as ready:
        flood = [post(ready.port, organization.computer(number)) for number in range(100, 140)]
        assert [status for status, _, _ in flood] == [200] * 20 + [429] * 20
        _, headers, problem = flood[-1]
        assert problem["code"] == "too_many_requests"
        assert 0 < problem["retry_after"] == int(headers["retry-after"]) <= 100
        # The way of a renewal: the directory, then the request.
        assert asked(ready.port, "GET", "/.well-known/keyturn-host")[0] == 200
        token = known.request()
        status, _, answer = asked(ready.port, "POST", "/v1/lease", token)
        assert status == 200
        known.take(token, answer)
        # Naming an activation is not having one.
        assert known.held is not None
        liar = organization.computer(200)
        assert post(ready.port, liar, activation=known.held.certificate.activation)[0] == 429
        # The reserve has an end too; health is never counted.
        statuses = [asked(ready.port, "POST", "/v1/lease", token)[0] for _ in range(40)]
        assert statuses == sorted(statuses) and set(statuses) == {200, 429}
        assert asked(ready.port, "GET", "/readyz")[0] == 200
        assert asked(ready.port, "GET", "/metrics")[0] == 429
    assert "127.0.0.1" not in json.dumps(logged)


def test_rates_are_settings(organization: Organization, host: LeasingHost) -> None:
    """The defaults let ten thousand computers behind one address switch on at once: directory free, two requests each."""
    path = host.home.path
    assert host.home.settings.rates() == Rates(Rate(200, 20_000), Rate(400, 40_000))
    home.change_setting(path, "rate_address", "off")
    settings, _ = home.read_settings(path, {"KEYTURN_HOST_RATE_PREFIX": "0.5/7"})
    assert settings.rates() == Rates(None, Rate(0.5, 7))
    assert refused(lambda: home.change_setting(path, "rate_address", "many")).code == "usage"
