"""Problem documents, the authorization table and health, through a real server."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator

import pytest
from starlette.requests import Request
from starlette.responses import Response

from keyturn.core.errors import CATALOGUE, KeyturnError, Refused
from keyturn.edge.limits import Limits
from keyturn.edge.listen import background
from keyturn.edge.web import PUBLIC, Route, application, health, json_response, new_reference, problem

Headers = dict[str, str]


def nothing(event: str, fields: object) -> None:
    """A log for servers whose log is not looked at."""


async def hello(request: Request) -> Response:
    return json_response({"hello": request.path_params.get("name", "world"), "ä": 1})


async def limit(request: Request) -> Refused:
    return Refused("limit_reached", "5 of 5 seats are taken", 60)


async def broken_proof(request: Request) -> Response:
    raise KeyturnError("signature_invalid", "it does not verify")


async def admin_only(request: Request) -> None:
    if request.headers.get("authorization") != "Bearer right":
        raise KeyturnError("permission_denied", "a token is needed")


ROUTES = [
    Route("/hello", "GET", hello, PUBLIC),
    Route("/hello/{name}", "GET", hello, PUBLIC),
    Route("/limit", "POST", limit, PUBLIC),
    Route("/broken", "POST", broken_proof, PUBLIC),
    Route("/admin", "GET", hello, "admin"),
    Route("/admin", "DELETE", hello, "admin"),
]


class Site:
    """Asks one server with the standard library's client."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, headers: Headers | None = None) -> tuple[int, Headers, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with background(Limits(application(ROUTES, guards={"admin": admin_only}), routes=ROUTES, log=nothing)) as ready:
        yield Site(ready.port)


def test_problem_document_holds_the_catalogue_line() -> None:
    """Every code of the catalogue becomes a problem document with its own status and all eight members."""
    for code, entry in CATALOGUE.items():
        response = problem(KeyturnError(code, "because", retry_after=7))
        members = json.loads(bytes(response.body))
        assert response.status_code == members["status"] == entry.status
        assert response.media_type == "application/problem+json"
        assert response.headers["retry-after"] == "7"
        assert members == {
            "type": f"urn:keyturn:error:{code}", "title": entry.title, "status": entry.status, "detail": "because",
            "code": code, "remedy": entry.remedy, "reference": members["reference"], "retry_after": 7,
        }  # fmt: skip


def test_problem_keeps_a_reference_that_is_there() -> None:
    """What was logged under a reference is answered under the same; otherwise one is made and left in the error."""
    error = KeyturnError("internal")
    response = problem(error, reference=lambda: "KT-AAAA-BBBB")
    assert error.reference == json.loads(bytes(response.body))["reference"] == "KT-AAAA-BBBB"
    again = problem(error, reference=lambda: "KT-CCCC-DDDD")
    assert json.loads(bytes(again.body))["reference"] == "KT-AAAA-BBBB"
    assert "retry-after" not in again.headers


def test_references_are_readable_and_differ() -> None:
    """A reference can be read out: no I, L, O or U, and no two alike."""
    references = {new_reference() for _ in range(1000)}
    assert len(references) == 1000
    assert all(re.fullmatch(r"KT-[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}", reference) for reference in references)


def test_answers_and_refusals(site: Site) -> None:
    """A response is sent as it is; a Refused and a KeyturnError become problems with their own status."""
    status, headers, body = site.ask("GET", "/hello/you")
    assert (status, headers["content-type"], json.loads(body)) == (200, "application/json", {"hello": "you", "ä": 1})
    status, headers, body = site.ask("POST", "/limit")
    assert (status, headers["content-type"], headers["retry-after"]) == (409, "application/problem+json", "60")
    assert (json.loads(body)["code"], json.loads(body)["retry_after"]) == ("limit_reached", 60)
    status, _, body = site.ask("POST", "/broken")
    assert (status, json.loads(body)["code"]) == (400, "signature_invalid")


def test_unknown_paths_and_methods_are_problems(site: Site) -> None:
    """404 and 405 are problem documents like any other, and 405 says what is allowed."""
    status, headers, body = site.ask("GET", "/nothing")
    assert (status, headers["content-type"], json.loads(body)["code"]) == (404, "application/problem+json", "not_found")
    for path in ("/hello/", "/hello/a/b", "/Hello", "/hello%2Fa/b"):
        assert site.ask("GET", path)[0] == 404  # No redirect to a path with or without a slash.
    status, headers, body = site.ask("DELETE", "/hello")
    assert (status, headers["allow"], headers["content-type"]) == (405, "GET, HEAD, OPTIONS", "application/problem+json")
    assert json.loads(body)["code"] == "request_unsupported"


def test_head_and_options(site: Site) -> None:
    """HEAD is GET without the body; OPTIONS says what a path takes and runs nothing."""
    get, head = site.ask("GET", "/hello"), site.ask("HEAD", "/hello")
    assert (head[0], head[2]) == (200, b"")
    assert head[1]["content-length"] == get[1]["content-length"] == str(len(get[2]))
    assert site.ask("HEAD", "/nothing")[::2] == (404, b"")
    status, headers, body = site.ask("OPTIONS", "/admin")
    assert (status, headers["allow"], body) == (204, "DELETE, GET, HEAD, OPTIONS", b"")


def test_every_answer_has_the_safe_headers(site: Site) -> None:
    """No caching, no sniffing, no referrer, no framing, and no word about the server's software."""
    for method, path in (("GET", "/hello"), ("GET", "/nothing"), ("POST", "/limit"), ("OPTIONS", "/hello")):
        headers = site.ask(method, path)[1]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers
        assert "date" in headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_guard_stands_before_its_handlers(site: Site, method: str) -> None:
    """Every method of a guarded route needs the guard's consent, HEAD too."""
    assert site.ask(method, "/admin")[0] == 403
    assert site.ask(method, "/admin", {"Authorization": "Bearer wrong"})[0] == 403
    assert site.ask(method, "/admin", {"Authorization": "Bearer right"})[0] == 200


def test_a_route_without_access_cannot_be_built() -> None:
    """Access has no default, and a word that nobody checks is refused when the table is built."""
    with pytest.raises(TypeError):
        Route("/a", "GET", hello)  # type: ignore[call-arg]
    for access in ("", "admin", "Public", None):
        with pytest.raises(ValueError, match="nobody checks"):
            application([Route("/a", "GET", hello, access)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="twice"):
        application([Route("/a", "GET", hello, PUBLIC), Route("/a", "GET", hello, PUBLIC)])


def test_health() -> None:
    """Alive is always yes; ready is what it is told, now or later."""
    state = {"ready": False}

    async def later() -> bool:
        return state["ready"]

    for ready in (lambda: state["ready"], later):
        state["ready"] = False
        with background(Limits(application(health(ready)), log=nothing)) as listening:
            site = Site(listening.port)
            assert site.ask("GET", "/healthz")[::2] == (200, b'{"status":"ok"}')
            status, headers, body = site.ask("GET", "/readyz")
            assert (status, headers["retry-after"], json.loads(body)["code"]) == (503, "5", "service_unready")
            state["ready"] = True
            assert site.ask("GET", "/readyz")[::2] == (200, b'{"status":"ready"}')
