"""Anybody can check a certificate: Node with npm's ``jose``, from the exported trust bundles alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from programs import Home, Publisher

pytestmark = [pytest.mark.needs("node", "jose"), pytest.mark.system]
NODE = Path(__file__).parent / "node"
VECTORS = json.loads((Path(__file__).parent / "vectors" / "documents.json").read_text())
TOKENS = {item["name"]: item["token"] for item in VECTORS["documents"]}


def verify(certificate: Path, trust: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", str(NODE / "verify.mjs"), str(certificate), str(trust), *more],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A real computer's certificate and trust bundles, exported by the real program, and its status."""
    folder = tmp_path_factory.mktemp("node")
    publisher = Publisher(folder / "publisher")
    product = publisher.product("paintbox", "--edition", "pro", "--feature", "layers")
    (key,) = publisher.mint("paintbox")
    home = Home(folder / "client" / "home")
    with publisher.running():
        entry = home.activate(product, key["key"], "--allow-ephemeral").ok().product
    certificate, trust = folder / "c.ktcert", folder / "t.kttrust"
    home("export", "certificate", "-o", str(certificate)).ok()
    home("export", "trust", "-o", str(trust)).ok()
    return certificate, trust, entry


def test_node_verifies_an_exported_certificate(exported: tuple[Path, Path, dict[str, Any]]) -> None:
    """Jose accepts the certificate and reads in it what ``status`` says."""
    certificate, trust, entry = exported
    done = verify(certificate, trust, entry["product"].partition("/")[0])
    assert done.returncode == 0, done.stderr
    claims = json.loads(done.stdout)["claims"]
    assert (claims["activation"], claims["sub"], claims["product"]) == (
        entry["activation_id"], entry["installation_guid"], entry["product"],
    )  # fmt: skip


def test_node_verifies_the_golden_chain(tmp_path: Path) -> None:
    """Jose follows the recorded chain from one root to two of three, and accepts a later issuing key."""
    trust = _write_trust(tmp_path, VECTORS["chain"]["bundles"])
    certificate = tmp_path / "c.ktcert"
    for name in ("certificate", "certificate-next-key", "test-certificate"):
        certificate.write_text(TOKENS[name])
        assert verify(certificate, trust).returncode == 0, name


def _write_trust(folder: Path, bundles: list[str]) -> Path:
    path = folder / "t.kttrust"
    path.write_text(
        json.dumps({"keyturn": "trust", "v": 1, "thumbprint": VECTORS["chain"]["thumbprint"], "bundles": bundles})
    )
    return path


def test_node_refuses_a_tampered_certificate(exported: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    """One changed character of payload or signature, or another document's type, and jose says no."""
    certificate, trust, _ = exported
    head, body, tail = certificate.read_text().strip().split(".")
    tampered = tmp_path / "c.ktcert"
    for text in (
        f"{head}.{body[:40]}{'A' if body[40] != 'A' else 'B'}{body[41:]}.{tail}",
        f"{head}.{body}.{'A' if tail[0] != 'A' else 'B'}{tail[1:]}",
        TOKENS["certificate"],
        TOKENS["product"],
    ):
        tampered.write_text(text)
        done = verify(tampered, trust)
        assert done.returncode == 1, text
        assert done.stderr.startswith("not verified: ")


@pytest.mark.parametrize(
    "name",
    ["other-publisher", "one-too-few", "root-twice", "old-root-missing", "retired-root", "gap", "bundle-signature"],
)
def test_node_refuses_a_chain_that_we_refuse(name: str, tmp_path: Path) -> None:
    """The oracle and our reader agree on what no chain is."""
    cases = json.loads((Path(__file__).parent / "vectors" / "refused.json").read_text())["refused"]
    case = next(item for item in cases if item["name"] == name)
    numbered = {f"@bundle {number}": text for number, text in enumerate(VECTORS["chain"]["bundles"], 1)}
    trust = _write_trust(tmp_path, [numbered.get(text, text) for text in case["input"]["bundles"]])
    certificate = tmp_path / "c.ktcert"
    certificate.write_text(TOKENS["certificate"])
    assert verify(certificate, trust).returncode == 1


def test_the_trust_bundle_alone_must_be_the_expected_publishers(exported: tuple[Path, Path, dict[str, Any]]) -> None:
    """A certificate and bundle of the same false publisher do not pass for another's."""
    certificate, trust, _ = exported
    assert verify(certificate, trust, "A" * 43).returncode == 1
