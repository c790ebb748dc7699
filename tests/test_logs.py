"""What the service writes down: every request with its identifier, every figure, and never a secret."""

from __future__ import annotations

import base64
import functools
import io
import json
import re
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response

from admin_world import ADMIN, Served, served
from keyturn.core import productkey
from keyturn.core.errors import KeyturnError
from keyturn.core.model import ProductName
from keyturn.edge import serverlog
from keyturn.edge.limits import Limits
from keyturn.edge.metrics import Metrics
from keyturn.edge.web import PUBLIC, Route, application
from keyturn.service import incidents
from keyturn.service.incidents import Gate, Incident
from keyturn.service.observing import Observed
from test_activation import request_of

EXCHANGE = {"Content-Type": "application/jose"}


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as made:
        yield made


def exchange(there: Served, document: str) -> httpx2.Response:
    return there.client().post("/v1/exchange", content=document.encode(), headers=EXCHANGE)


def figures(there: Served) -> dict[str, float]:
    text = there.client("read").get("/metrics").text
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if not line.startswith("#")
    }


def test_every_line_is_json_with_declared_fields_and_an_identifier_of_its_own(there: Served) -> None:
    """A line per request; what is in it is in privacy.toml; two requests never share an identifier."""
    minted = there.client("mint").post(f"{ADMIN}/keys", json={"product": "sample"}).json()["keys"][0]
    exchange(there, request_of(there.world, minted["key"]))
    exchange(there, "x.y.z")
    there.client().get("/nothing/here?key=secret")
    there.client().get("/healthz")
    declared = set(tomllib.loads((resources.files("keyturn") / "privacy.toml").read_text("utf-8"))["log"])
    lines = there.lines
    assert [line["route"] for line in lines] == [f"{ADMIN}/keys", "/v1/exchange", "/v1/exchange", "other"]
    assert {field for line in lines for field in line} <= declared
    assert len({line["request"] for line in lines}) == len(lines)
    assert (lines[1]["outcome"], lines[1]["product_id"], lines[2].get("product_id")) == (
        "new",
        minted["product_id"],
        None,
    )
    assert lines[2]["code"] == "document_malformed" and re.fullmatch(r"KT-\w{4}-\w{4}", lines[2]["reference"])


def test_no_canary_is_in_the_log(there: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, tokens, K and the pepper, sent in every place of a request and thrown in exceptions, are not in the log."""
    minted = there.client("mint").post(f"{ADMIN}/keys", json={"product": "sample"}).json()["keys"][0]
    name = ProductName.parse(there.service.directory()["thumbprint"] + "/sample")
    secret = productkey.derive(productkey.parse(minted["key"]), name)
    pepper = there.service.home.pepper()
    document = request_of(there.world, minted["key"])
    texts = [
        minted["key"], minted["key"].replace("-", ""), *there.tokens.values(), secret.hex(), base64.b64encode(secret).decode(),
        pepper.hex(), base64.b64encode(pepper).decode(), repr(pepper), document,
    ]  # fmt: skip
    for text in texts:
        there.client("admin").get(f"{ADMIN}/keys/{text[:500]}", params={"after": text[:500]})
        there.client("admin").post(f"{ADMIN}/keys", json={"product": text, text[:100]: text})
        there.client("admin").post(f"{ADMIN}/find", json={"text": text[:200]})
        named = {"Idempotency-Key": text[:255].replace(" ", "")}
        there.client("admin").post(f"{ADMIN}/organizations", json={"name": "x", "title": text[:200]}, headers=named)
        there.client(token=text[:200].replace(" ", "")).get(f"{ADMIN}/products", headers={"X-Secret": text[:300]})
        exchange(there, f"{text}.{text}.{text}"[:9000])

        def thrown(_token: str, _look: object, text: str = text) -> None:
            raise RuntimeError(text)

        with monkeypatch.context() as patch:
            patch.setattr(there.service, "prove", thrown)
            assert exchange(there, document).status_code == 500
    log = there.log.getvalue().decode()
    assert log.count('"request_failed"') == len(texts)
    assert log.count('"RuntimeError"') == len(texts)
    assert [text for text in texts if text in log] == []


def test_the_last_sieve_holds_back_what_looks_like_a_secret() -> None:
    """Even a line that was given a key, a token or a document is written without it; ordinary words stay."""
    out = io.BytesIO()
    log = serverlog.open_log(lambda: 0, out)
    key, token = "Q6TNF-433XD-2KM9D-EQENH-3XVE1", "ktt_vhkdrsj5_p5vg7t4crsc3sr8x18a5stbj6rd24jjv"
    fields = {
        "detail": f"key {key}, {key.replace('-', '')}; {token}", "places": [f"at {token}"],
        "more": {"a": b"x" * 9, "b": key.lower()}, "document": f"{'e' * 30}.{'y' * 30}.{'J' * 30}",
        "reference": "KT-7Q2F-91XM", "product_id": "sample-retail-268090770",
    }  # fmt: skip
    log("trial", fields)
    written = out.getvalue().decode()
    assert not [word for word in (key, key.lower(), key.replace("-", ""), token, "eeee") if word in written]
    assert json.loads(written)["reference"] == "KT-7Q2F-91XM"
    assert json.loads(written)["product_id"] == "sample-retail-268090770"


def test_a_log_that_nobody_reads_stops_nothing() -> None:
    """A closed stream is no reason to end."""
    out = io.BytesIO()
    out.close()
    serverlog.open_log(lambda: 0, out)("trial", {})


def test_the_figures_count_what_happened(there: Served) -> None:
    """Outcomes, codes, requests, open intents and the days that issuing keys last; to a token with the right only."""
    minted = there.client("mint").post(f"{ADMIN}/keys", json={"product": "sample"}).json()["keys"][0]
    document = request_of(there.world, minted["key"])
    for sent in (document, document, request_of(there.world, minted["key"])):
        exchange(there, sent)
    found = figures(there)
    assert found['keyturn_exchanges_total{outcome="new"}'] == 2  # The same request again gets the same answer.
    assert found['keyturn_exchanges_total{outcome="refused"}'] == 1
    assert found['keyturn_problems_total{code="limit_reached",route="/v1/exchange"}'] == 1
    assert found['keyturn_requests_total{method="POST",route="/v1/exchange",status="200"}'] == 2
    assert found['keyturn_request_seconds_count{route="/v1/exchange"}'] == 3
    assert found["keyturn_open_intents"] == 0
    assert 100 < found['keyturn_issuing_key_days_left{of="issue"}'] < 200
    assert there.client("mint").get("/metrics").status_code == 403
    assert there.client().get("/metrics").status_code == 401


def test_strangers_cannot_widen_the_figures(there: Served) -> None:
    """A hundred paths and methods that do not exist are one label."""
    for number in range(100):
        there.client().get(f"/{number}")
    found = figures(there)
    assert found['keyturn_requests_total{method="GET",route="other",status="404"}'] == 100
    assert not [name for name in found if 'route="/1"' in name]


def test_a_fault_is_one_line_with_its_reference_and_can_be_found(
    there: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference a caller reads out leads to the incident, and the incident's identifier to the lines of the log."""

    def thrown() -> None:
        raise KeyturnError("storage_failed", "no space") from OSError(28, "No space left")

    monkeypatch.setattr(there.service, "directory", thrown)
    reference = there.client().get("/.well-known/keyturn").json()["reference"]
    (found,) = there.client("support").post(f"{ADMIN}/find", json={"text": reference}).json()["found"]
    assert (found["incident"]["code"], found["incident"]["status"]) == ("storage_failed", 503)
    mine = [line for line in there.lines if line["request"] == found["incident"]["request"]]
    assert [line["event"] for line in mine] == ["request_failed", "answered"]
    assert {line["reference"] for line in mine} == {reference}


# --- incidents ----------------------------------------------------------------------------------------------------------


def an_incident(number: int, at: int) -> Incident:
    return Incident(f"KT-{number:08d}", at, "not_found", 404, "other", "0" * 16, None)


def keep(there: Served, *made: Incident) -> None:
    for incident in made:
        there.service.database.write_now(functools.partial(incidents.keep, incident=incident))


def test_incidents_go_after_thirty_days(there: Served) -> None:
    """Old ones leave as new ones come, also if none came for long."""
    keep(there, *(an_incident(number, 0) for number in range(10)))
    keep(there, *(an_incident(number, incidents.RETENTION + 1) for number in range(10, 16)))
    kept = there.service.database.read(lambda db: [row["at"] for row in db.execute("SELECT at FROM incident")])
    assert len(kept) == 6 and set(kept) == {incidents.RETENTION + 1}


def test_there_are_never_too_many_incidents(there: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the oldest go."""
    monkeypatch.setattr(incidents, "MAX_ROWS", 5)
    keep(there, *(an_incident(number, number) for number in range(100)), an_incident(2000, 2000))
    kept = there.service.database.read(
        lambda db: [row["at"] for row in db.execute("SELECT at FROM incident ORDER BY at")]
    )
    assert kept == [96, 97, 98, 99, 2000]


def test_strangers_cannot_fill_the_disk_with_incidents(there: Served) -> None:
    """A flood of nonsense is kept up to the burst; what is not kept is counted; a fault of ours is kept all the same."""

    async def fails(_request: Request) -> Response:
        raise RuntimeError

    metrics = Metrics()
    table = [Route("/fails", "GET", fails, PUBLIC)]
    log = serverlog.open_log(lambda: 0, io.BytesIO())
    limited = Limits(application(table), routes=table, log=log)
    ring = Observed(limited, there.service, routes=table, log=log, metrics=metrics, ticks=lambda: 0.0)
    there.service.database.write_now(lambda db: db.execute("DELETE FROM incident"))
    from keyturn.edge import listen

    with (
        listen.background(ring) as ready,
        httpx2.Client(base_url=f"http://127.0.0.1:{ready.port}", trust_env=False) as client,
    ):
        for _ in range(int(incidents.BURST) + 50):
            client.get("/nothing")
        client.get("/fails")
    there.service.database.write_now(lambda db: None)
    kept = there.service.database.read(lambda db: [row["status"] for row in db.execute("SELECT status FROM incident")])
    assert (kept.count(404), kept.count(500)) == (incidents.BURST, 1)
    assert b"keyturn_incidents_unkept_total 50.0" in metrics.render({})


def test_the_gate_fills_again() -> None:
    """A burst, then so many a second."""
    gate = Gate(per_second=2, burst=3)
    assert [gate.admits(0) for _ in range(4)] == [True, True, True, False]
    assert [gate.admits(1) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "found"),
    [("KT-7Q2F-91XM", "KT-7Q2F-91XM"), ("kt 7q2f 91xm", "KT-7Q2F-91XM"), (" kt7q2f91xm ", "KT-7Q2F-91XM"),
     ("KT-7QOF-9IXM", "KT-7Q0F-91XM"),
     ("KT–7Q2F–91XM", "KT-7Q2F-91XM"), ("KT-7Q2F-91X", None), ("7Q2F-91XM", None), ("", None)],
)  # fmt: skip
def test_a_reference_is_understood_as_people_write_it(text: str, found: str | None) -> None:
    """Spaces, small letters, an O for a zero."""
    assert incidents.reference_in(text) == found
