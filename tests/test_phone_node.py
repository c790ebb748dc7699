"""Somebody else's mathematics agrees: npm's ``@noble/curves`` judges the golden vectors of telephone activation."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.needs("node", "@noble/curves"), pytest.mark.system]
NODE = Path(__file__).parent / "node"
VECTORS = Path(__file__).parent / "vectors" / "phone.json"
Vectors = dict[str, Any]


def judge(vectors: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", str(NODE / "phone.mjs"), str(vectors)], capture_output=True, text=True, timeout=120, check=False
    )


def test_node_agrees_with_every_vector() -> None:
    """Points, keys, commitments, proofs, messages, signatures and refusals, from the digits on."""
    done = judge(VECTORS)
    assert done.returncode == 0, done.stderr
    looked_at = json.loads(done.stdout)
    vectors = json.loads(VECTORS.read_text())
    assert looked_at.pop("refused") >= 15
    assert looked_at.pop("refused_hosts") >= 20
    assert looked_at == {name: len(vectors[name]) for name in looked_at}


def _point(vectors: Vectors) -> None:
    vectors["hash_to_curve"][-1]["x"] = vectors["hash_to_curve"][-2]["x"]


def _key(vectors: Vectors) -> None:
    vectors["refused_keys"].append({"story": "a key", "public": vectors["keys"][0]["public"]})


def _proof(vectors: Vectors) -> None:
    vectors["installation_ids"][0]["k"] = vectors["installation_ids"][2]["k"]


def _commitment(vectors: Vectors) -> None:
    vectors["installation_ids"][0]["salt"] = vectors["installation_ids"][1]["salt"]


def _signer(vectors: Vectors) -> None:
    vectors["confirmation_ids"][0]["public"] = vectors["keys"][1]["public"]


def _verdict(vectors: Vectors) -> None:
    first, second = vectors["validations"][0]["answers"][:2]
    first["number"], first["digits"] = second["number"], second["digits"]


def _question(vectors: Vectors) -> None:
    vectors["validations"][0]["k"] = vectors["validations"][1]["k"]


def _answer(vectors: Vectors) -> None:
    vectors["confirmation_ids"][0]["installation_id"] = vectors["installation_ids"][1]["number"]


def _accepted(vectors: Vectors) -> None:
    good = vectors["confirmation_ids"][0]["digits"]
    vectors["refused"].append(
        {"story": "a good one", "form": "confirmation", "typed": good, "code": "code_foreign", "words": None}
    )


def _host_signer(vectors: Vectors) -> None:
    vectors["host_confirmations"][0]["public"] = vectors["host_confirmations"][1]["public"]


def _host_document(vectors: Vectors) -> None:
    vectors["host_confirmations"][0]["nbf"] += 86_400


def _host_key(vectors: Vectors) -> None:
    vectors["host_confirmations"][0]["host"] = "00" * 32


def _host_accepted(vectors: Vectors) -> None:
    good = vectors["host_confirmations"][0]
    vectors["refused_hosts"].append({"story": "a good one", "form": "host", "typed": good["digits"], "code": "code_foreign"})


def _host_believed(vectors: Vectors) -> None:
    good = vectors["host_confirmations"][0]
    vectors["refused_hosts"].append({"story": "a good one", "form": "certificate", "typed": good["certificate"], "code": "x"})


@pytest.mark.parametrize(
    "spoil",
    [
        _point, _key, _proof, _commitment, _signer, _answer, _verdict, _question, _accepted, _host_signer, _host_document,
        _host_key, _host_accepted, _host_believed,
    ],
)  # fmt: skip
def test_node_would_notice(spoil: Callable[[Vectors], None], tmp_path: Path) -> None:
    """One vector spoiled, and it says so: the agreement is not that of somebody who looks at nothing."""
    vectors = json.loads(VECTORS.read_text())
    spoil(vectors)
    spoiled = tmp_path / "phone.json"
    spoiled.write_text(json.dumps(vectors))
    done = judge(spoiled)
    assert done.returncode == 1
    assert done.stderr.startswith("does not hold: ")
