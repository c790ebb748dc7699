"""The description of the interface: it says what the service does, the service does what it says, and people can read it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from admin_world import ADMIN, Served, served
from keyturn.edge.metrics import Metrics
from keyturn.service import app, openapi
from keyturn.service.admin import ENDPOINTS, Gatekeeper
from keyturn.service.tokens import RIGHTS
from programs import Publisher

UNDESCRIBED = {
    "/v1/openapi.json",
    "/docs", "/phone", "/phone.js", "/phone/validate", "/phone/voice",
    "/metrics",
}  # The description itself, for programs and people; figures, no JSON.


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as made:
        yield made


def test_every_route_is_described_and_every_description_has_its_route(there: Served) -> None:
    """The authorization table and the OpenAPI document name the same addresses, with the same access."""
    table = app.routes(there.service, Gatekeeper(there.service), Metrics())
    described = there.client().get("/v1/openapi.json").json()
    routes = {(r.path, r.method.lower()): r.access for r in table if r.path not in UNDESCRIBED}
    operations = {
        (path, method): about for path, methods in described["paths"].items() for method, about in methods.items()
    }
    assert routes.keys() == operations.keys()
    for place, access in routes.items():
        about = operations[place]
        assert (about["security"] == []) == (access == "public"), place
        if access != "public":
            assert set(about["x-keyturn-roles"]) == set(RIGHTS[access]), place
    assert len({about["operationId"] for about in operations.values()}) == len(operations)


def test_every_reference_in_the_description_leads_somewhere(there: Served) -> None:
    """No type is named that is not there, and every parameter of a path is declared."""
    described = there.client().get("/v1/openapi.json")
    schemas = described.json()["components"]["schemas"]
    assert set(re.findall(r"#/components/schemas/(\w+)", described.text)) <= set(schemas)
    assert described.json()["openapi"] == "3.1.0"
    for path, methods in described.json()["paths"].items():
        for about in methods.values():
            declared = {p["name"] for p in about.get("parameters", []) if p["in"] == "path"}
            assert declared == set(re.findall(r"\{(\w+)\}", path)), path


class Page(HTMLParser):
    """What a page loads, links to and names."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.styles = ""
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self._style = tag == "style"
        self.ids |= {found["id"]} if "id" in found else set()
        self.links |= {found["href"]} if "href" in found else set()
        self.loads += [found[name] for name in ("src", "style", "onclick") if name in found]

    def handle_data(self, data: str) -> None:
        self.styles += data if self._style else ""
        self._style = False


def test_the_page_stands_alone(there: Served) -> None:
    """No script, nothing loaded, every link leads to a place on it, and its policy allows its own style and nothing more."""
    answer = there.client().get("/docs")
    page = Page()
    page.feed(answer.text)
    policy = answer.headers["content-security-policy"]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert page.loads == [] and not page.tags & {"script", "link", "img", "iframe", "form", "object"}
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= page.ids
    assert {link for link in page.links if not link.startswith("#")} == {"/v1/openapi.json"}
    assert {endpoint.name for endpoint in ENDPOINTS} <= page.ids
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    assert b64encode(hashlib.sha256(page.styles.encode()).digest()).decode() in policy
    assert "prefers-color-scheme: dark" in page.styles


def test_what_a_publisher_is_called_is_text_on_the_page() -> None:
    """A publisher's name with markup in it stays a name."""
    from keyturn.service import docpage

    shown = docpage.page(openapi.document("<script>alert(1)</script> & Sons", "https://service.invalid"))
    assert "<script" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; Sons" in shown


@pytest.mark.system
@pytest.mark.slow
def test_the_service_does_what_its_description_says(tmp_path: Path) -> None:
    """The real program, over TLS, asked by schemathesis for what is described and what is not: no 5xx, no other shape."""
    publisher = Publisher(tmp_path / "publisher", probe=False)
    publisher.product("sample", "--test")
    publisher.mint("sample")
    token = publisher.service("token", "create", "--role", "admin").ok().json["token"]
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    assert program is not None
    env = {**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(Path(__file__).parent)}
    with publisher.running():
        done = subprocess.run(
            [program, "run", f"{publisher.url}/v1/openapi.json", "--tls-verify", str(publisher.home / "tls" / "ca.pem"),
             "--header", f"Authorization: Bearer {token}", "--max-examples", "8", "--max-time", "25", "--seed", "7", "--no-color",
             "--phases", "examples,coverage,fuzzing", "--checks", "all", "--continue-on-failure", "--request-timeout", "10",
             # Ours: a client key needs an organization, a slug must be free: refusals of sense, not of form.
             "--exclude-checks", "positive_data_acceptance,ignored_auth"],
            cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-60000:] + done.stderr[-2000:]
    found = re.search(r"(\d+) generated", done.stdout)
    assert found and int(found[1]) > 200, done.stdout[-3000:]
    assert '"status":5' not in publisher.log()
    assert f"{ADMIN}/keys" in publisher.log()
