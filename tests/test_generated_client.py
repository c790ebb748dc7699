"""A client that a foreign tool makes of the OpenAPI document activates; and the check of that can fail."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.service import openapi, shapes
from keyturn.testing import World
from keyturn.testing.computers import synthetic
from solid import generated
from solid.asking import Asker


@pytest.mark.system
def test_a_generated_client_activates_with_20_lines_of_signing(tmp_path: Path) -> None:
    """Generated without a warning from what the running service describes; its certificate verifies, its refusal is a Problem."""
    outcome = generated.run(tmp_path)
    print(outcome.text)
    assert outcome.problems == []
    assert 15 < outcome.figures["lines_of_signing"] <= generated.MOST
    assert outcome.figures["operations"] > 20


def test_lines_and_imports_are_counted() -> None:
    """Neither docstring, nor comment, nor blank line is a line; every way to import is one."""
    source = '"""Two\nlines."""\n\nimport os, keyturn.core\n# no\nx = (\n    1,\n)\n\ndef f():\n    from nacl.x import y\n'
    assert generated.lines_of(source) == 6
    assert generated.lines_of("x = 1\ny = 2\n") == 2
    assert generated.imports_of(source) == {"os", "keyturn", "nacl"}


def test_the_tool_is_heard_when_it_cannot_read_the_description(tmp_path: Path) -> None:
    """A body of a kind that it does not know is an endpoint that it leaves out, with a warning."""
    document = openapi.document("Acme", "https://localhost:8443")
    body = document["paths"]["/v1/exchange"]["post"]["requestBody"]["content"]
    body["application/x-unknown"] = body.pop("application/jose")
    assert "WARNING" in generated.generate(msgspec.json.encode(document), tmp_path)


def test_a_certificate_that_does_not_hold_is_not_accepted(world: World) -> None:
    """The same check refuses another request's certificate."""
    asker = Asker(world.product, world.publisher.mint(channel="mak", limit=2), random.Random(1))
    tokens = [asker.request().token for _ in range(2)]
    answers = [world.publisher.service.exchange(token) for token in tokens]
    assert isinstance(answers[0], dict)
    got: dict[str, Any] = {"request": tokens[1], "certificate": answers[0]["certificate"], "salt": "00" * 16}
    with pytest.raises(KeyturnError) as refused:
        generated.wrong(got, world.product)
    assert refused.value.code == "document_foreign"


def test_described_claims_are_those_of_the_documents(world: World) -> None:
    """What the description says of requests and releases is what clients really sign, name for name."""
    client = world.client(synthetic(1))
    client.activate(world.publisher.mint(), consent=True)
    client.deactivate()
    shelf = client._homes().find(client.product)
    sent = [jws.loads(jws.payload_of(entry["sent"])) for entry in shelf.sent()]
    by_kind = {"released" if "certificate" in claims else "request": claims for claims in sent}
    kinds: dict[str, Any] = {"request": shapes.RequestClaims, "released": shapes.ReleaseClaims}
    for kind, shape in kinds.items():
        assert set(by_kind[kind]) == set(shape.__struct_fields__), kind
        msgspec.convert(by_kind[kind], shape)
