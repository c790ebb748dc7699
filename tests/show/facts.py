"""What leaves the computer: every declared field, read again independently; the bytes shown are the bytes sent."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import tomllib
from pathlib import Path
from typing import Any

import keyturn
from programs import Home
from show import readings, wire
from show.network import tapped
from show.stage import Stage, item

PRIVACY = tomllib.loads((Path(keyturn.__file__).parent / "privacy.toml").read_text())


def _request(home: Home, product: Path, key: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    home("product", "add", str(product)).ok()
    home("install-key", "-", input=key).ok()
    raw = home("disclose", "--raw")  # The one thing that --json does not wrap: it is the data.
    assert raw.exit == 0, raw
    return raw.out, *readings.decoded(raw.out)


def _check_declared(header: dict[str, Any], claims: dict[str, Any]) -> int:
    """Every declared field is there, and nothing that is not declared."""
    declared = set(PRIVACY["request"])
    assert declared == {*claims, "jwk"}, declared ^ {*claims, "jwk"}
    assert set(header) == {"alg", "kid", "typ", "jwk"}
    assert set(PRIVACY["facts"]) == set(claims["facts"]), set(PRIVACY["facts"]) ^ set(claims["facts"])
    return len(declared) + len(PRIVACY["facts"])


def _check_facts(claims: dict[str, Any], expected: dict[str, str | None]) -> tuple[int, int]:
    known = missing = 0
    assert set(expected) == set(claims["facts"])
    for name, value in expected.items():
        told = claims["facts"][name]
        if value is None:
            assert isinstance(told, dict), f"{name} is {told!r}, and independently nothing"
            assert list(told) == ["unavailable"], f"{name}: {told}"
            assert isinstance(told["unavailable"], str), f"{name}: {told}"
            assert told["unavailable"].strip(), f"{name}: no reason"
            missing += 1
        else:
            assert told == value, f"{name} is {told!r}, and independently {value!r}"
            known += 1
    return known, missing


def _check_mechanics(home: Home, key: dict[str, Any], header: dict[str, Any], claims: dict[str, Any]) -> None:
    """Everything beside facts and hardware, against the store's files, the key as minted, and the clock."""
    installation = json.loads((home.shelf / "installation.json").read_text())
    pending = json.loads((home.shelf / "pending.json").read_text())
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": readings.b64u(base64.b64decode(installation["public_key"]))}
    thumbprint = readings.b64u(hashlib.sha256(json.dumps(jwk, separators=(",", ":")).encode()).digest())
    salt = base64.b64decode(pending["salt"])
    vector = json.dumps(pending["vector"], sort_keys=True, separators=(",", ":")).encode()
    test = claims["product"].endswith("+test")
    expected = {
        "v": 1, "test": test, "scheme": 1, "state": 2, "previous": None, "activation": None, "bundle": 1,
        "allow_ephemeral": False,
        "installation": installation["guid"], "product_id": key["product_id"], "serial": key["serial"],
        "commitment": readings.b64u(hashlib.sha256(salt + vector).digest()),
        "key_proof": readings.key_proof(key["key"], claims["product"], key["serial"], thumbprint, claims["nonce"]),
    }  # fmt: skip
    for name, value in expected.items():
        assert claims[name] == value, f"{name} is {claims[name]!r}, and independently {value!r}"
    assert header["jwk"] == jwk
    assert header["kid"] == thumbprint
    assert len(readings.unb64u(claims["nonce"])) == 16
    assert abs(claims["iat"] - time.time()) < 120


@item("A real request, decoded: every declared field equals an independent reading, or says why it is unavailable")
def real_request(stage: Stage) -> str:
    key, home = stage.key("paintbox"), stage.home()
    token, header, claims = _request(home, stage.real, key["key"])
    fields = _check_declared(header, claims)
    known, missing = _check_facts(claims, readings.facts(Path("/"), "de_DE.UTF-8"))
    _check_mechanics(home, key, header, claims)
    assert (claims["vm"] is not None) == readings.virtual() or claims["container"], claims["vm"]
    for tags in claims["pairs"].values():
        assert all(len(tag) == 16 for tag in tags.values())
    assert all(len(tag) == (4 if name == "volume" else 3) for name, tag in claims["tags"].items())
    text, values = token + json.dumps(claims), {value for value in claims["facts"].values() if isinstance(value, str)}
    for name in ("/etc/hostname", "/etc/machine-id"):
        secret = readings.text(Path(name))
        # A host called "vm" or "debian" is not told by those words; whole values are compared, and long names anywhere.
        assert not secret or secret not in values, f"{name} is a value of the request"
        assert not secret or len(secret) < 12 or secret not in text, f"{name} is in the request"
    pairs = sum(len(tags) for tags in claims["pairs"].values())
    return (
        f"as {readings.account()}: {fields} declared fields, all present; {known} facts equal, "
        f"{missing} unavailable with a reason; "
        f"vm {claims['vm']}, container {claims['container']}, {pairs} pairs, {len(claims['tags'])} tags; {len(token)} bytes"
    )


@item("The same on a recorded computer with full DMI, pairs and key proof recomputed by hand")
def recorded_request(stage: Stage) -> str:
    sysroot, key = stage.pc("office-pc-a"), stage.key()
    home = stage.home(sysroot)
    token, header, claims = _request(home, stage.test, key["key"])
    fields = _check_declared(header, claims)
    known, missing = _check_facts(claims, readings.facts(sysroot, None))
    assert missing == 3, "only what nobody reported may be missing on this computer"
    _check_mechanics(home, key, header, claims)
    values = readings.anchors(sysroot)
    expected = readings.pairs(values, claims["product"])
    assert claims["pairs"] == {"1": expected}, (claims["pairs"], expected)
    assert (claims["vm"], claims["container"], claims["ephemeral"]) == (None, None, False)
    volume = "6a1f0d52-7f5c-4b7e-9b7e-2d1c0a9f8e77"
    assert claims["tags"]["volume"] == readings.component_tag("volume", volume, claims["product"], 4)
    assert claims["tags"]["disk"] == readings.component_tag("disk", values["disk"], claims["product"], 3)
    for value in (
        *values.values(),
        volume,
        text_of(sysroot / "etc/machine-id"),
        text_of(sysroot / "sys/class/dmi/id/product_serial"),
    ):
        assert value.lower() not in (token + json.dumps(claims)).lower(), "a raw identifier is in the request"
    figures = f"{known} facts equal, {missing} not reported; {len(expected)} pairs and 2 tags equal"
    return f"{fields} fields; {figures}; no raw identifier in it"


def text_of(path: Path) -> str:
    found = readings.text(path)
    assert found, path
    return found


@item("disclose --raw equals the bytes captured on the wire")
def raw_is_wire(stage: Stage) -> str:
    with tapped(stage) as line:
        home = stage.home(line.pc)
        raw, _, _ = _request(home, line.product, line.key["key"])
        again = home("disclose", "--raw").out
        events: list[wire.Event] = []
        with wire.ears(
            wire.Ear(
                "service", line.https, events, wire.forwarding(line.publisher.port), wire.tls(line.publisher.home)
            ),
            wire.Ear("probe", line.probe, events, wire.status(204)),
        ):
            home("activate", "--yes").ok()
    posts = [event for event in events if event.what == "request" and event.data.startswith(b"POST ")]
    assert len(posts) == 1, [event.data[:60] for event in posts]
    body = wire.body_of(posts[0])
    assert body == raw.encode() == again.encode(), "the bytes differ"
    head = posts[0].data.split(b"\r\n\r\n")[0].decode()
    assert "Content-Type: application/jose" in head
    return f"{len(body)} bytes, equal (SHA-256 {hashlib.sha256(body).hexdigest()[:16]}…)"


@item("An offline round trip by file ends in the same state (relay, and service answer)")
def by_file(stage: Stage) -> str:
    sysroot = stage.pc("office-pc-a")
    online = stage.home(sysroot)
    key = stage.key()["key"]
    reference = online.activate(stage.test, key).ok().product
    for way in ("relay", "answer"):
        folder = stage.place(way)
        offline, file = Home(folder / "client" / "home", sysroot=sysroot), str(folder / "r.ktx")
        offline("product", "add", str(stage.test)).ok()
        offline("install-key", "-", input=key).ok()
        offline("export", "request", "-o", file).ok()
        if way == "relay":
            Home(folder / "nothing")("relay", file).ok()
            assert not (folder / "nothing").exists(), "relay made a home"
        else:
            stage.publisher.service("answer", file).ok()
        entry = offline("import", file).ok().product
        assert not (offline.shelf / "sent").exists(), "the offline computer talked to somebody"
        own = ("installation_guid", "via")  # Another installation of the same seat, and how it came.
        assert {n: v for n, v in entry.items() if n not in own} == {
            n: v for n, v in reference.items() if n not in own
        }, (entry, reference)
        assert offline.status() == entry
    name = f"{reference['activation_id'][:13]}…"
    return f"both: {reference['state']}, same activation {name}, same status but for the installation's GUID"
