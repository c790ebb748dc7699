"""What a hostile client may send, by theme: bytes to write into a TLS connection, or straight into the socket.

Every case is to be answered 4xx or to be closed; none may get a 2xx out of the service, nor a second answer for a request
that was smuggled in (it asks for ``/healthz``, which would be 200).
"""

# ruff: noqa: E501 (tables: a case is a name and bytes)

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keyturn.core import jws
from keyturn.core.documents import Request
from keyturn.core.jws import Kind
from keyturn.core.model import b64u

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_PUBLIC = _KEY.public_key().public_bytes_raw()


class Case(NamedTuple):
    """``plain``: not inside of TLS. ``never``: the case itself never finishes; it is to be closed by a time-out."""

    name: str
    data: bytes
    plain: bool = False
    never: bool = False


def post(body: bytes, *headers: str, kind: str = "application/jose", length: int | None = None) -> bytes:
    lines = ["POST /v1/exchange HTTP/1.1", "Host: x", f"Content-Type: {kind}"]
    if not any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


def get(path: str | bytes, version: str = "HTTP/1.1", method: str = "GET", headers: str = "Host: x\r\n") -> bytes:
    place = path if isinstance(path, bytes) else path.encode("latin-1")
    return (
        method.encode("latin-1")
        + b" "
        + place
        + b" "
        + version.encode()
        + b"\r\n"
        + headers.encode("latin-1")
        + b"\r\n"
    )


def signed(payload: bytes, header: dict[str, object] | None = None) -> bytes:
    """A document with any content, signed by the key it carries: what is wrong is inside."""
    if header is None:
        text = jws.signing_input(Kind.REQUEST, jws.thumbprint(_PUBLIC), payload, public=_PUBLIC)
    else:
        text = f"{b64u(json.dumps(header).encode())}.{b64u(payload)}".encode()
    return jws.assemble(text, _KEY.sign(text)).encode()


def claims(request: Request, **changes: object) -> bytes:
    return jws.dumps({**request.claims(), **changes})


def request_lines() -> Iterator[Case]:
    for method in (
        "TRACE",
        "CONNECT",
        "PROPFIND",
        "BREW",
        "get",
        "P\xd6ST",
        "GET\0",
        "A" * 5000,
        "{}",
        "\r\nPRI",
        "M-SEARCH",
        "PURGE",
    ):
        yield Case(f"method {method[:12]!r}", get("/v1/exchange", method=method))
    for method in ("DELETE", "PUT", "PATCH"):
        yield Case(f"method {method}", get("/v1/exchange", method=method))
    versions = (
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/2.0",
        "HTTP/3.0",
        "HTTP/9.9",
        "http/1.1",
        "HTTP/1",
        "HTTP/11",
        "HTTP/1.1.1",
        "HTTPS/1.1",
        "ICY/1.1",
        "",
    )
    for version in versions:
        yield Case(f"version {version!r}", get("/nothing", version))
    yield Case("never: HTTP/0.9", b"GET /nothing\r\n", never=True)
    yield Case("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
    paths: tuple[str | bytes, ...] = (
        "/", "//", "/v1", "/v1/exchange/", "/v1//exchange", "/V1/EXCHANGE", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd", "/%00", "/v1/exchange%00", "/%zz", "/%", "/\\..\\..\\", "/?" + "a" * 1000, "/" + "a" * 3000,
        "/" + "a" * 60_000, "/?" + "a=b&" * 900, "http://x/nothing", "http://elsewhere.invalid/v1/none", "https://x:99999/none",
        "*", "x:443", "nothing", "", "/a b", b"/\xff\xfe", b"/\x01\x02", b"/a\0b", "/#x", "/;x", "/%c0%ae%c0%ae/", "/.git/config",
        "/.env", "/wp-login.php", "/admin", "/cgi-bin/%%32%65", "/%E2%80%8B", "/v1/exchange;jsessionid=1", "file:///etc/passwd",
        "/root/root-1.key", "/pepper/1",
    )  # fmt: skip
    for path in paths:
        shown = path if isinstance(path, str) else path.decode("latin-1")
        yield Case(f"path {shown[:24]!r} ({len(path)})", get(path))


def headers() -> Iterator[Case]:
    lines = (
        "NoColon", ": empty", "A B: c", "A : b", " folded", "\tfolded", "A: b\r\n  folded", "A: \0", "A\0: b", "\xc3\xa4: b",
        "A: b\rX: c", "(x): b", "A\x7f: b", "Host: y", "Host: y\r\nHost: z", "Expect: 200-maybe", "Upgrade: h2c\r\nConnection: Upgrade",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13",
        "Cookie: " + "a" * 20_000, "X: " + "y" * 70_000, "X" * 20_000 + ": y", "Content-Encoding: gzip", "Content-Encoding: br",
        "Content-Encoding: deflate, gzip", "Content-Encoding: x", "Content-Encoding: identity, identity",
    )  # fmt: skip
    for line in lines:
        yield Case(f"header {line[:24]!r} ({len(line)})", post(b"x", line))
    for count in (65, 500, 5_000):
        yield Case(f"{count} fields", post(b"x", *(f"X{number}: y" for number in range(count))))
    yield Case("5,000 fields, one name", post(b"x", *["X: y"] * 5_000))
    yield Case("no Host", b"POST /v1/exchange HTTP/1.1\r\nContent-Type: application/jose\r\nContent-Length: 1\r\n\r\nx")
    yield Case("no Host, otherwise good", HEALTH.replace(b"Host: x\r\n", b""))
    yield Case("two Hosts, otherwise good", HEALTH.replace(b"Host: x\r\n", b"Host: x\r\nHost: y\r\n"))
    for kind in (
        "",
        "text/plain",
        "application/json",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/jose+json",
        "jose",
        "application/jose, text/plain",
        "\xff",
        "application/octet-stream",
    ):
        yield Case(f"type {kind!r}", post(b"x", kind=kind))
    yield Case("line ends of LF", post(b"x").replace(b"\r\n", b"\n"))
    yield Case("line ends of CR", post(b"x").replace(b"\r\n", b"\r") + b"\r\n\r\n")


def lengths() -> Iterator[Case]:
    for value in (
        "-1",
        "+1",
        "0x1",
        "1e1",
        "1 1",
        "1,1",
        "1, 2",
        "１",
        "",
        " ",
        "1;",
        "9" * 20,
        "9" * 400,
        "18446744073709551617",
        "16385",
        "1000000000",
        "NaN",
    ):
        yield Case(f"length {value[:24]!r}", post(b"x" + HEALTH, f"Content-Length: {value}".encode().decode("latin-1")))
    yield Case("two lengths", post(b"xx" + HEALTH, "Content-Length: 1", "Content-Length: 2"))
    yield Case("two equal lengths", post(b"x", "Content-Length: 1", "Content-Length: 1"))
    encodings = (
        "chunked", "Chunked", "chunked, chunked", "identity", "gzip, chunked", "chunked, gzip", "xchunked", "chunked;q=1", "\x0bchunked",
        "chunked\0", '"chunked"', "c h u n k e d", "", "chunked\r\nTransfer-Encoding: identity", "chunked\r\nTransfer-Encoding: x",
    )  # fmt: skip
    for encoding in encodings:
        for both in (False, True):
            fields = ["Content-Length: 4"] if both else []
            body = b"1\r\nx\r\n0\r\n\r\n" + (
                HEALTH.replace(b"healthz", b"none") if encoding.strip().lower() == "chunked" and not both else HEALTH
            )
            yield Case(
                f"encoding {encoding[:20]!r}{' and length' if both else ''}",
                post(body, *fields, f"Transfer-Encoding: {encoding}"),
            )
    yield Case(
        "encoding with a space before the colon",
        post(b"0\r\n\r\n" + HEALTH, "Content-Length: 5", "Transfer-Encoding : chunked"),
    )
    yield Case(
        "encoding on a folded line", post(b"0\r\n\r\n" + HEALTH, "Content-Length: 5", "Transfer-Encoding:\r\n chunked")
    )
    yield Case(
        "chunked in HTTP/1.0",
        post(b"1\r\nx\r\n0\r\n\r\n", "Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0"),
    )


def chunks() -> Iterator[Case]:
    games = {
        "size is no number": b"zz\r\nx\r\n0\r\n\r\n", "size is negative": b"-1\r\nx\r\n0\r\n\r\n", "size is huge": b"f" * 17 + b"\r\nx",
        "size overflows": b"100000000000000001\r\nx\r\n0\r\n\r\n", "size with 0x": b"0x1\r\nx\r\n0\r\n\r\n", "size with a space": b"1 \r\nx\r\n0\r\n\r\n",
        "size is too small": b"1\r\nxyz\r\n0\r\n\r\n", "size is empty": b"\r\nx\r\n0\r\n\r\n", "no line end": b"1\r\nx0\r\n\r\n", "ends of LF": b"1\nx\n0\n\n",
        "a long extension": b"1;" + b"a" * 70_000 + b"\r\nx\r\n0\r\n\r\n", "extension with CR": b"1;a\rb\r\nx\r\n0\r\n\r\n", "one too large": b"4001\r\n" + b"x" * 0x4001 + b"\r\n0\r\n\r\n",
        "20,000 of one byte": b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n", "a trailer": b"1\r\nx\r\n0\r\nContent-Length: 5\r\n\r\n", "a smuggled trailer": b"1\r\nx\r\n0\r\nA: b\rGET /healthz HTTP/1.1\r\n\r\n",
        "1,000 trailers": b"1\r\nx\r\n0\r\n" + b"A: b\r\n" * 1_000 + b"\r\n", "a trailer of 70,000 bytes": b"1\r\nx\r\n0\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", "zeros before the size": b"0" * 40 + b"1\r\nx\r\n0\r\n\r\n",
        "NUL in the size": b"1\0\r\nx\r\n0\r\n\r\n", "nothing": b"0\r\n\r\n",
    }  # fmt: skip
    for name, body in games.items():
        yield Case(f"chunk: {name}", post(body, "Transfer-Encoding: chunked"))


def bodies(request: Request) -> Iterator[Case]:
    texts = {
        "empty": b"", "one byte": b"x", "spaces": b" " * 100, "NUL": b"\0" * 100, "not UTF-8": b"\xff\xfe" * 50, "over-long UTF-8": b"\xc0\xae.\xc0\xae.x",
        "BOM": b"\xef\xbb\xbfa.b.c", "16,385 bytes": b"x" * 16_385, "10 MB": b"x" * 10_000_000, "16,384 dots": b"." * 16_384, "two parts": b"a.b", "four parts": b"a.b.c.d",
        "a JWE": b"a.b.c.d.e", "line ends": b"a.b.c\r\n", "JSON": b'{"payload":""}', "depth 100,000": b"[" * 100_000, "gzip bomb, unsaid": gzip.compress(bytes(10_000_000))[:16_000],
        "XML bomb": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>', "pickle": b"\x80\x04\x95cos\nsystem\n", "a template": b"{{7*7}}${7*7}", "SQL": b"' OR 1=1; DROP TABLE product_key --",
    }  # fmt: skip
    for name, body in texts.items():
        yield Case(f"body: {name}", post(body))
    yield Case("body: gzip bomb", post(gzip.compress(bytes(10_000_000)), "Content-Encoding: gzip"))
    yield Case("body: deflate bomb", post(zlib.compress(bytes(10_000_000))[:16_000], "Content-Encoding: deflate"))
    text = claims(request).decode()
    inside: dict[str, bytes] = {
        "nothing": b"", "null": b"null", "a list": b"[]", "a text": b'"x"', "depth 10,000": b"[" * 10_000, "objects 2,000 deep": b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
        "closed lists 5,000 deep": b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "NaN": b'{"v":NaN}', "Infinity": b'{"v":-Infinity}', "a float": b'{"v":1.0}', "1e400": b'{"v":1e400}', "1e-400": b'{"v":1e-400}',
        "10,000 digits": b'{"v":' + b"9" * 10_000 + b"}", "18 digits": b'{"v":' + b"9" * 18 + b"}", "a name twice": (text[:-1] + ',"serial":1}').encode(), "a name twice, escaped": (text[:-1] + ',"s\\u0065rial":1}').encode(),
        "half a character": (text[:-1] + ',"x":"\\ud800"}').encode(), "half a character as name": (text[:-1] + ',"\\udfff":1}').encode(), "NUL in a text": claims(request, product_id="a\0b"), "look-alike product": claims(request, product=str(request.product).replace("a", "\u0430")),
        "zero-width serial": claims(request, serial="1\u200b"), "not UTF-8": text.encode()[:-1] + b',"x":"\xff"}', "a BOM": b"\xef\xbb\xbf" + text.encode(), "rubbish behind": text.encode() + b"x", "two objects": text.encode() * 2,
        "serial true": claims(request, serial=True), "serial negative": claims(request, serial=-1), "serial 2^53": claims(request, serial=2**53), "serial a text": claims(request, serial="1"), "no version": claims(request, v=None), "version 2": claims(request, v=2),
        "version true": claims(request, v=True), "scheme 99": claims(request, pairs={"99": {}}), "pairs a list": claims(request, pairs=[]), "a pair unknown": claims(request, pairs={"1": {"x+y": "0" * 16}}), "a tag too short": claims(request, pairs={"1": {"board+disk": "0"}}),
        "a tag of SQL": claims(request, pairs={"1": {"board+disk": "' OR 1=1 -- abcd"}}), "facts a list": claims(request, facts=[1]), "a fact of 5,000 signs": claims(request, facts={"os_name": "x" * 5_000}), "200 facts": claims(request, facts={f"f{n}": "x" for n in range(200)}),
        "product of 5,000 signs": claims(request, product="x" * 5_000), "product a path": claims(request, product="../../x"), "product null": claims(request, product=None), "key_proof null": claims(request, key_proof=None), "nonce of 5,000 signs": claims(request, nonce="x" * 5_000), "another publisher's": claims(request, product=f"{b64u(bytes(32))}/paintbox"),
        "proof of nothing": claims(request), "bundle true": claims(request, bundle=True), "bundle 2^53": claims(request, bundle=2**53), "state a text": claims(request, state="x"),
    }  # fmt: skip
    for name, payload in inside.items():
        yield Case(f"signed: {name}", post(signed(payload)))
    good: dict[str, object] = {
        "alg": "EdDSA",
        "kid": jws.thumbprint(_PUBLIC),
        "typ": Kind.REQUEST.typ,
        "jwk": jws.jwk(_PUBLIC),
    }
    heads: dict[str, dict[str, object]] = {
        "alg none": {"alg": "none"}, "alg HS256": {"alg": "HS256"}, "no typ": {"typ": None}, "typ certificate": {"typ": Kind.CERTIFICATE.typ}, "crit": {"crit": ["x"]}, "kid of another": {"kid": "x"},
        "kid of 5,000 signs": {"kid": "x" * 5_000}, "no jwk": {"jwk": None}, "jwk with d": {"jwk": {**jws.jwk(_PUBLIC), "d": "AA"}}, "jwk of 31 bytes": {"jwk": jws.jwk(bytes(31))}, "jwk of zeros": {"jwk": jws.jwk(bytes(32)), "kid": jws.thumbprint(bytes(32))},
        "jwk RSA": {"jwk": {"kty": "RSA", "n": "AA", "e": "AQAB"}}, "jwk deep": {"jwk": [[[[[[]]]]]]},
    }  # fmt: skip
    for name, change in heads.items():
        yield Case(f"header: {name}", post(signed(claims(request), {**good, **change})))


def streams(chance: random.Random) -> Iterator[Case]:
    for number in range(12):
        yield Case(f"noise {number}", chance.randbytes(chance.choice([1, 20, 500, 20_000])) + b"\r\n\r\n")
    yield Case("100 requests at once", post(b"x") * 100)
    yield Case("1,000 requests at once", get("/nothing") * 1_000)
    yield Case("a request behind a broken one", post(b"x", "Content-Length: zz") + HEALTH)
    yield Case("a request behind a refused body", post(b"x" * 20_000) + HEALTH)
    yield Case("line ends without end", b"\r\n" * 40_000)
    yield Case("one line of 200,000 bytes", b"G" * 200_000)
    yield Case("TLS inside of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32))


def without_tls(chance: random.Random) -> Iterator[Case]:
    plain = {
        "plain HTTP": HEALTH, "TLS alert": b"\x15\x03\x03\x00\x02\x02\x28", "a record of 65,535": b"\x16\x03\x01\xff\xff" + bytes(2_000), "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(40),
        "application data first": b"\x17\x03\x03\x00\x05hello", "SSH": b"SSH-2.0-x\r\n" * 3, "zeros": bytes(500), "0xff": b"\xff" * 500, "a hello of nonsense": b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c" + b"\xaa" * 60,
    }  # fmt: skip
    for name, data in plain.items():
        yield Case(f"without TLS: {name}", data, plain=True)
    for number in range(6):
        yield Case(f"without TLS: noise {number}", chance.randbytes(300), plain=True)


def endless() -> Iterator[Case]:
    yield Case("never: nothing after the handshake", b"", never=True)
    yield Case("never: half a request line", b"POST /v1/exch", never=True)
    yield Case("never: header without end", b"POST /v1/exchange HTTP/1.1\r\nHost: x\r\n", never=True)
    yield Case("never: half a body", post(b"x" * 10, length=100), never=True)
    yield Case("never: chunks without end", post(b"1\r\nx\r\n", "Transfer-Encoding: chunked"), never=True)
    yield Case("never: a body after 100-continue", post(b"", "Expect: 100-continue", length=10), never=True)


def every(request: Request, seed: str) -> list[Case]:
    """All cases; ``request`` is one that proves no key."""
    chance = random.Random(seed)
    return [
        *request_lines(), *headers(), *lengths(), *chunks(), *bodies(request), *streams(chance), *without_tls(chance), *endless(),
    ]  # fmt: skip
