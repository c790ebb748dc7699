"""A stranger's client: generated from the OpenAPI document by a tool that is not ours, with 20 lines of signing by hand.

The real service says what it does, the tool makes a client of that, a program in ``stranger/`` uses it in a process of its
own, and the certificate that it gets is verified by the real core.
"""

from __future__ import annotations

import ast
import json
import os
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keyturn.core import containers, jws, license
from keyturn.core.jws import Kind
from keyturn.core.license import Held
from programs import Publisher
from solid.storm import Outcome

STRANGER = Path(__file__).parent / "stranger"
MOST = 20  # Lines of signing.
PATIENCE = 120
# What the tool must be told: what `application/jose` is it cannot know, and it is not to format what it makes.
CONFIG = {"content_type_overrides": {"application/jose": "application/octet-stream"}, "post_hooks": []}


def lines_of(source: str) -> int:
    """Lines of a Python program that are neither blank, nor comment, nor part of the module's docstring."""
    tree = ast.parse(source)
    first = tree.body[0] if tree.body else None
    told = first.end_lineno if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) else 0
    rest = source.splitlines()[told or 0 :]
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in rest)


def imports_of(source: str) -> set[str]:
    """The top-level packages that a program imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def generate(described: bytes, folder: Path) -> str:
    """Make the client ``made`` below ``folder``; the result is what the tool said. Raises: AssertionError."""
    (folder / "openapi.json").write_bytes(described)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    tool = Path(sys.executable).parent / "openapi-python-client"
    done = subprocess.run(
        [tool, "generate", "--path", "openapi.json", "--config", "config.json", "--meta", "none", "--output-path", "made"],
        cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run(folder: Path) -> Outcome:
    """Generate, activate, verify.

    1. The real service, and its description as it gives it out.
    2. The client, generated without a warning; the hand-written part, counted.
    3. The stranger's program mints a key, asks, activates and is refused once.
    4. The core verifies the certificate against product, request and installation key; the service counts one seat.
    """
    # 1.
    publisher = Publisher(folder / "publisher", probe=False)
    product = publisher.product("paintest", "--test").read_bytes()
    token = publisher.service("token", "create", "--role", "admin").ok().json["token"]
    ca = str(publisher.home / "tls" / "ca.pem")
    with publisher.running("--probe-listen", "none"):
        with urllib.request.urlopen(
            f"{publisher.url}/v1/openapi.json", context=ssl.create_default_context(cafile=ca), timeout=PATIENCE
        ) as answer:
            described = answer.read()
        # 2.
        said = generate(described, folder)
        sources = {name: (STRANGER / name).read_text() for name in ("signing.py", "activate.py")}
        # 3.
        done = subprocess.run(
            [sys.executable, "-W", "error", str(STRANGER / "activate.py"), publisher.url, ca, "paintest"], input=token,
            env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{STRANGER}", "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        got = json.loads(done.stdout)
        # 4.
        problems = wrong(got, product)
        serial = jws.loads(jws.payload_of(got["request"]))["serial"]
        used = publisher.seats(serial)
    described_as = json.loads(described)
    figures = {
        "lines_of_signing": lines_of(sources["signing.py"]), "lines_of_calls": lines_of(sources["activate.py"]),
        "generated_lines": sum(len(path.read_text().splitlines()) for path in (folder / "made").rglob("*.py")),
        "operations": sum(map(len, described_as["paths"].values())), "seats": used,
    }  # fmt: skip
    if figures["lines_of_signing"] > MOST:
        problems.append(f"signing takes {figures['lines_of_signing']} lines, not {MOST}")
    if used != 1:
        problems.append(f"the service counts {used} seats")
    if "WARNING" in said.upper():
        problems.append(f"the tool is not content with the description: {said}")
    problems += [f"{name} imports keyturn" for name, source in sources.items() if "keyturn" in imports_of(source)]
    return Outcome(figures, problems)


def wrong(got: Mapping[str, Any], product: bytes) -> list[str]:
    """What is not as it must be in what the stranger got. Raises: KeyturnError if the certificate does not hold."""
    opened = containers.open_product(containers.expect(product, "product"))
    kid = jws.verify_own(got["request"], Kind.REQUEST).kid
    held = Held(got["certificate"], got["request"], {}, bytes.fromhex(got["salt"]))
    certificate = license.check_certificate(held, opened.product, opened.chain, kid)
    expected = {
        "evidence": (certificate.evidence, "weak"), "question": (got["asked"]["how"], "new"),
        "seat": (got["seat"], {"how": "new", "number": 1, "used": 1, "limit": 1}),
        "refusal of a wrong proof": (got["refused"], "key_unknown"), "modules of Keyturn": (got["keyturn"], []),
    }  # fmt: skip
    return [f"{what} is {is_!r}, not {should!r}" for what, (is_, should) in expected.items() if is_ != should]
