"""The program that holds a PKCS#11 token for the service: ``python -m keyturn.edge.token_program``, asked in JSON lines.

It is a process of its own because a module is foreign machine code: one that crashes or hangs takes nothing with it, and
several work at once. It speaks the protocol of docs/signers.md; module, token and PIN come with the first line. It ends
with its input.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping
from typing import Any

from keyturn.core import jws, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import b64u
from keyturn.edge.token import Token, Unusable


class Desk:
    """One token, and the answers to what is asked of it."""

    def __init__(self) -> None:
        self._token: Token | None = None

    def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one line. A token that is away is told as ``away``, a PIN that is wrong as ``locked``."""
        if "pin" in asked:
            self._token = Token(str(asked["module"]), str(asked["token"]), str(asked["pin"]))
        if self._token is None:
            return {"error": "no token was named"}
        try:
            if asked.get("list"):
                return {"keys": [jws.jwk(public) for public in self._token.keys().values()]}
            return {"signature": b64u(self._sign(self._token, asked))}
        except Unusable as error:
            if error.away:
                self._token.close()
            return {"error": str(error), "away": error.away, "locked": error.locked}
        except KeyturnError as error:
            return {"error": error.detail}

    def _sign(self, token: Token, asked: Mapping[str, Any]) -> bytes:
        kind, kid = Kind(asked["kind"]), str(asked["kid"])
        if kind not in trust.ISSUED:
            raise KeyturnError("internal", f"an issuing key signs no {kind.value}")
        payload = base64.urlsafe_b64decode(asked["payload"] + "=" * (-len(asked["payload"]) % 4))
        return token.sign(kid, jws.signing_input(kind, kid, payload))


def main() -> None:
    desk = Desk()
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(json.dumps(desk.answer(json.loads(line))).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
