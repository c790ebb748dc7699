"""A shop sells a copy: `python mint.py ORDER-NUMBER PRODUCT` prints a product key. No shell on the service, no library."""

import json
import os
import ssl
import sys
import urllib.request


def mint(order: str, product: str) -> str:
    request = urllib.request.Request(
        f"{os.environ['KEYTURN_AT']}/v1/admin/keys",
        data=json.dumps({"product": product, "note": f"order {order}"}).encode(),
        headers={
            "Authorization": f"Bearer {os.environ['KEYTURN_TOKEN']}",  # keyturn service token create --role mint
            "Content-Type": "application/json",
            "Idempotency-Key": f"order-{order}",  # Sent twice, sold once.
        },
    )
    trust = ssl.create_default_context(cafile=os.environ.get("KEYTURN_CA"))  # Only for a private authority.
    with urllib.request.urlopen(request, context=trust, timeout=30) as answer:
        return str(json.load(answer)["keys"][0]["key"])


if __name__ == "__main__":
    print(mint(*sys.argv[1:]))
