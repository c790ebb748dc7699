"""Anybody can check a certificate, with a library that is not ours."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from show.stage import Stage, item

NODE = Path(__file__).parents[1] / "node"


@item("The certificate verifies in Node with jose from the exported trust bundle alone")
def node(stage: Stage) -> str:
    assert shutil.which("node"), "node is not installed"
    assert (NODE / "node_modules" / "jose").is_dir(), "jose is not installed: make node"
    home, alone = stage.home(stage.pc("laptop-a")), stage.place("node")
    entry = home.activate(stage.test, stage.key()["key"]).ok().product
    certificate, trust = alone / "c.ktcert", alone / "t.kttrust"
    home("export", "certificate", "-o", str(certificate)).ok()
    home("export", "trust", "-o", str(trust)).ok()
    assert sorted(json.loads(trust.read_text())) == ["bundles", "keyturn", "thumbprint", "v"]
    done = _verify(certificate, trust, entry["product"].partition("/")[0])
    assert done.returncode == 0, done.stderr
    claims = json.loads(done.stdout)["claims"]
    assert claims["activation"] == entry["activation_id"]
    assert claims["sub"] == entry["installation_guid"]
    text = certificate.read_text().strip()
    at = len(text) // 2
    certificate.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    tampered = _verify(certificate, trust)
    assert tampered.returncode == 1, "a tampered certificate was accepted"
    version = json.loads((NODE / "node_modules" / "jose" / "package.json").read_text())["version"]
    return f"jose {version}: verified; one character changed: {tampered.stderr.strip()}"


def _verify(certificate: Path, trust: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = ["node", str(NODE / "verify.mjs"), str(certificate), str(trust), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
