"""A stranger's program: buys a key, asks, activates, and meets a refusal, all through the client that was generated.

    python activate.py URL CA.pem SLUG <token        (PYTHONPATH: where `made`, the generated client, lies)

Prints what it got as JSON. It knows nothing of Keyturn's code, and says which modules of it were loaded: none.
"""

import hashlib
import io
import json
import secrets
import ssl
import sys
import time
import uuid

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from made import AuthenticatedClient, Client  # type: ignore[import-not-found]
from made.api.clients import ask, exchange  # type: ignore[import-not-found]
from made.api.staff import get_products_slug, post_keys  # type: ignore[import-not-found]
from made.models import Certified, Considered, NewKeys, Problem, RequestClaims  # type: ignore[import-not-found]
from made.types import File  # type: ignore[import-not-found]
from signing import b64u, signed  # type: ignore[import-not-found]


def main(url: str, ca: str, slug: str) -> None:
    trust = ssl.create_default_context(cafile=ca)
    staff = AuthenticatedClient(base_url=url, token=sys.stdin.read().strip(), verify_ssl=trust)
    public = Client(base_url=url, verify_ssl=trust)
    product = get_products_slug.sync(slug, client=staff)
    (key,) = post_keys.sync(client=staff, body=NewKeys(product=slug)).keys
    mine, salt = Ed25519PrivateKey.generate(), secrets.token_bytes(16)
    claims = RequestClaims.from_dict({
        "v": 1, "product": product.product, "test": product.test, "product_id": key.product_id, "serial": key.serial,
        "key_proof": "", "installation": str(uuid.uuid4()), "nonce": b64u(secrets.token_bytes(16)), "iat": int(time.time()),
        "scheme": 1, "pairs": {"1": {}}, "tags": {}, "commitment": b64u(hashlib.sha256(salt + b"{}").digest()), "facts": {},
        "state": 2, "bundle": 1,
    }).to_dict()  # fmt: skip
    request = signed(claims, key.key, mine)
    asked = ask.sync(client=public, body=File(io.BytesIO(request.encode())))
    answer = exchange.sync(client=public, body=File(io.BytesIO(request.encode())))
    wrong = signed({**claims, "serial": key.serial ^ 1}, key.key, mine)
    refused = exchange.sync(client=public, body=File(io.BytesIO(wrong.encode())))
    assert isinstance(asked, Considered) and isinstance(answer, Certified) and isinstance(refused, Problem), refused
    print(json.dumps({
        "request": request, "certificate": answer.certificate, "salt": salt.hex(), "asked": asked.to_dict(),
        "seat": answer.seat.to_dict(), "refused": refused.code, "remedy": refused.remedy,
        "keyturn": [name for name in sys.modules if name.partition(".")[0] == "keyturn"],
    }))  # fmt: skip


main(*sys.argv[1:])
