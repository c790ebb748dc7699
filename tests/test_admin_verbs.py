"""The verbs of staff, near and far: the same words in the service's home and through its admin API; and the shop's example."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyturn.testing.computers import synthetic
from programs import Home, Publisher, computer

pytestmark = pytest.mark.system
SHOP = Path(__file__).parents[1] / "examples" / "shop" / "mint.py"


class Office:
    """A running service, and a token file for each role."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publisher = Publisher(folder / "publisher", probe=False)
        self.product = self.publisher.product("sample", "--test", "--edition", "pro", "--feature", "layers:pro")
        for role in ("mint", "support", "admin"):
            self.publisher.service("token", "create", "--role", role, "-o", str(folder / role)).ok()

    def far(self, role: str) -> tuple[str, ...]:
        ca = str(self.publisher.home / "tls" / "ca.pem")
        return ("--at", self.publisher.url, "--token-file", str(self.folder / role), "--ca-bundle", ca)

    def __call__(self, *arguments: str, role: str = "admin") -> Any:
        return self.publisher.service(*arguments, *self.far(role)).ok().json


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("office"))
    with made.publisher.running():
        yield made


def test_every_verb_says_the_same_near_and_far(office: Office) -> None:
    """What is created far away is there, and each list and each single thing reads the same through the API."""
    assert office("org", "create", "acme", "--title", "Acme & Sons") == {"organization": "acme"}
    assert office("product", "create", "far", "--test", "--grace", "7")["terms"]["grace_days"] == 7
    assert office("product", "set", "far", "--name", "Far", "--threshold", "2")["version"] == 2
    order = ("--product", "sample", "--channel", "mak", "--org", "acme", "--limit", "3", "--note", "n")
    minted = office("key", "mint", *order)["keys"]
    client = Home(office.folder / "client", sysroot=computer(office.folder / "pc", synthetic(1)))
    client.activate(office.product, minted[0]["key"]).ok()
    serial = str(minted[0]["serial"])
    activation = office("activation", "list", "--serial", serial)["activations"][0]["activation_id"]
    for line in (
        ("org", "list"), ("org", "show", "acme"), ("product", "list"), ("product", "show", "far"), ("key", "list"),
        ("key", "list", "--product", "sample"), ("key", "show", serial), ("activation", "list"),
        ("activation", "show", activation),
        ("find", serial), ("find", "acme"), ("find", activation),
    ):  # fmt: skip
        near = office.publisher.service(*line).ok()
        assert office(*line) == near.json, line
        assert near.json
    files = [office.folder / name for name in ("near.ktproduct", "far.ktproduct")]
    near = office.publisher.service("product", "export", "far", "-o", str(files[0])).ok().json
    assert {**office("product", "export", "far", "-o", str(files[1])), "file": None} == {**near, "file": None}
    assert office("key", "set", serial, "--limit", "4")["limit"] == 4
    assert office("key", "block", serial)["blocked"] is True
    assert office("key", "unblock", serial)["blocked"] is False
    assert office("activation", "reclaim", activation, "--yes", role="support")["ended_by"] == "reclaimed"


def test_a_large_mint_comes_in_several_requests(office: Office) -> None:
    """1100 keys are more than one request gives; all come, each once."""
    keys = office("key", "mint", "--product", "sample", "--count", "1100", role="mint")["keys"]
    assert len({key["serial"] for key in keys}) == 1100


def test_refusals_are_the_same_near_and_far(office: Office) -> None:
    """The same code and exit status; and what the token may not do is said."""
    for line, code in (
        (("org", "show", "nobody"), "not_found"), (("key", "show", "5"), "not_found"),
        (("key", "mint", "--product", "sample", "--limit", "2"), "usage"), (("product", "create", "sample"), "already_exists"),
    ):  # fmt: skip
        near, far = office.publisher.service(*line), office.publisher.service(*line, *office.far("admin"))
        assert (near.code, near.exit) == (far.code, far.exit) == (code, near.exit), (near, far)
    refused = office.publisher.service("key", "list", *office.far("mint"))
    assert (refused.code, refused.exit) == ("permission_denied", 5)


@pytest.mark.parametrize("line", ["status", "token list", "config show", "answer x.ktx", "issuing-key list", "run"])
def test_a_verb_that_needs_the_home_says_so(office: Office, line: str) -> None:
    """With --at, exit 2, and where to run it instead."""
    refused = office.publisher.service(*line.split(), *office.far("admin"))
    assert (refused.exit, refused.code) == (2, "usage")
    assert "own home only" in refused.json["error"]["detail"]


def test_without_a_token_or_with_a_wrong_address_nothing_is_sent(office: Office, tmp_path: Path) -> None:
    """The token comes from a file or the environment; http:// is refused."""
    at = ("--at", office.publisher.url)
    assert "--token-file" in office.publisher.service("org", "list", *at).json["error"]["detail"]
    assert office.publisher.service("org", "list", *at, "--token-file", str(tmp_path / "none")).exit == 2
    plain = office.publisher.service(
        "org", "list", "--at", "http://localhost", "--token-file", str(office.folder / "admin")
    )
    assert (plain.exit, plain.code) == (2, "usage")
    env = {
        "KEYTURN_TOKEN": (office.folder / "admin").read_text(),
        "SSL_CERT_FILE": str(office.publisher.home / "tls" / "ca.pem"),
    }
    assert office.publisher.service("org", "list", *at, env=env).exit == 0


def test_find_understands_what_a_caller_can_read_out(office: Office) -> None:
    """Reference number, product ID, last five symbols, installation GUID; a whole key is reduced to its serial."""
    minted = office("key", "mint", "--product", "sample", role="mint")["keys"][0]
    first = Home(office.folder / "first", sysroot=computer(office.folder / "pc-a", synthetic(11)))
    first.activate(office.product, minted["key"]).ok()
    second = Home(office.folder / "second", sysroot=computer(office.folder / "pc-b", synthetic(12)))
    refused = second.activate(office.product, minted["key"])
    assert refused.code == "limit_reached"
    reference = refused.json["error"]["reference"]
    for text in (reference, reference.lower(), reference.replace("-", " ")):
        incident, key = office("find", text, role="support")["found"]
        assert (incident["incident"]["code"], incident["incident"]["route"]) == ("limit_reached", "/v1/exchange")
        assert incident["incident"]["remedy"]
        assert incident["incident"]["product_id"] == key["key"]["product_id"] == minted["product_id"]
        assert incident["incident"]["request"] in office.publisher.log()
    for text in (
        minted["product_id"],
        str(minted["serial"]),
        minted["key"][-5:],
        minted["key"],
        minted["key"].replace("-", ""),
    ):
        found = office("find", text, role="support")["found"]
        assert [item["key"]["serial"] for item in found] == [minted["serial"]], text
        assert minted["key"] not in str(found)
    guid = first.status()["installation_guid"]
    (activation,) = office("find", guid, role="support")["found"]
    assert activation["activation"]["activation_id"] == first.status()["activation_id"]
    assert office("find", "KT-0000-0000", role="support") == {"found": []}
    told = office.publisher.service("find", "nothing of the kind", *office.far("support")).ok()
    assert told.json == {"found": []}


def test_the_shop_sells_without_a_shell(office: Office) -> None:
    """examples/shop/mint.py: the same order twice is one key, and that key activates a computer."""
    env = {
        **os.environ, "KEYTURN_AT": office.publisher.url, "KEYTURN_TOKEN": (office.folder / "mint").read_text().strip(),
        "KEYTURN_CA": str(office.publisher.home / "tls" / "ca.pem"),
    }  # fmt: skip

    def sell(order: str) -> str:
        command = [sys.executable, "-I", str(SHOP), order, "sample"]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    key = sell("4711")
    assert sell("4711") == key
    assert sell("4712") != key
    client = Home(office.folder / "buyer", sysroot=computer(office.folder / "pc-buyer", synthetic(21)))
    assert client.activate(office.product, key).ok().product["state"] == "licensed"


def test_the_shops_example_is_short() -> None:
    """Twenty lines, not counting what Python asks for around them; nothing but the standard library."""
    lines = [line for line in SHOP.read_text().splitlines() if line.strip() and not line.startswith(("import", '"""'))]
    assert len(lines) <= 20
