"""The line: the probe first and empty, then TLS; nothing is sent to who is not ready or not trusted; silence afterwards."""

from __future__ import annotations

import contextlib
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator

from keyturn.testing.computers import synthetic
from programs import Home, Publisher, Result, free_port
from show import wire
from show.stage import Stage, item
from show.wire import Ear, Event


class Tapped:
    """A publisher whose two public ports are ours; the real service listens elsewhere and is reached through us."""

    def __init__(self, stage: Stage) -> None:
        self.folder = stage.place("tapped")
        self.publisher = Publisher(self.folder / "publisher", "Tapped Ink")
        self.product = self.publisher.product("paintest", "--test")
        (self.key,) = self.publisher.mint("paintest")
        self.https, self.probe = self.publisher.port, self.publisher.probe_port
        self.publisher.port, self.publisher.probe_port = free_port(), free_port()
        self.pc = stage.pc(synthetic(200))
        self.stage = stage
        self.publisher.start()

    def close(self) -> None:
        self.publisher.close()

    def activate(
        self,
        probe: Callable[[bytes], bytes] | int | None,
        *,
        context: ssl.SSLContext | None = None,
        options: tuple[str, ...] = (),
    ) -> tuple[Result, list[Event], Home]:
        """Activate a new store; ``probe`` is how the probe's port behaves (0: nobody listens there)."""
        events: list[Event] = []
        home = self.stage.home(self.pc)
        listeners = [
            Ear(
                "service",
                self.https,
                events,
                wire.forwarding(self.publisher.port),
                context or wire.tls(self.publisher.home),
            )
        ]
        if not isinstance(probe, int):
            listeners.append(Ear("probe", self.probe, events, probe))
        with wire.ears(*listeners):
            result = home.activate(self.product, self.key["key"], *options)
        return result, events, home


@contextlib.contextmanager
def tapped(stage: Stage) -> Iterator[Tapped]:
    with contextlib.closing(Tapped(stage)) as made:
        yield made


@item("The probe: 200, 302, 404, 499 go on; 500, 503 send nothing (exit 3)")
def probe_statuses(stage: Stage) -> str:
    with tapped(stage) as line:
        for code in (200, 302, 404, 499):
            result, events, _ = line.activate(wire.status(code))
            assert result.exit == 0, (code, result)
            assert result.product["state"] == "licensed"
            assert next(event.port for event in events if event.what == "connected") == "probe"
        for code in (500, 503):
            result, events, _ = line.activate(wire.status(code))
            assert (result.exit, result.code) == (3, "service_unready"), (code, result)
            assert "nothing was sent" in result.json["error"]["detail"]
            assert not [event for event in events if event.port == "service"], "the service's port saw a connection"
            assert len([event for event in events if event.port == "probe"]) == 2  # One connection, one request.
    return "4 × licensed; 2 × exit 3 with 0 connections to the service's port"


@item("The probe carries nothing that identifies, and its redirect is not followed")
def probe_is_empty(stage: Stage) -> str:
    with tapped(stage) as line:
        result, events, home = line.activate(wire.status(302))
    probes = [event for event in events if (event.port, event.what) == ("probe", "request")]
    assert len(probes) == 1
    head = probes[0].data.decode()
    assert head.startswith("GET /probe HTTP/1."), head
    names = sorted(line.partition(":")[0].lower() for line in head.split("\r\n")[1:] if line)
    assert set(names) <= {"host", "user-agent", "accept", "accept-encoding", "connection"}, names
    for secret in (result.product["installation_guid"], result.product["product_id"], line.key["key"], "paintest"):
        assert secret not in head
    assert home.status()["state"] == "licensed"
    return f"{len(head)} bytes: {head.splitlines()[0]}; headers {', '.join(names)}"


@item("Silence on the probe's port: HTTPS is tried, and that is said")
def silence(stage: Stage) -> str:
    with tapped(stage) as line:
        for probe in (0, None):  # Nobody listens; somebody listens and never answers.
            result, events, _ = line.activate(probe)
            assert result.ok().product["state"] == "licensed"
            assert "not answered" in result.err, result.err
            assert "HTTPS" in result.err, result.err
            assert [event for event in events if (event.port, event.what) == ("service", "request")]
    said = next(text for text in result.err.splitlines() if "not answered" in text)
    return f"licensed both times; it says: {said}"


@item("First packet to the probe's port, all data on the service's port under TLS >= 1.2")
def order_and_tls(stage: Stage) -> str:
    with tapped(stage) as line:
        result, events, home = line.activate(wire.status(204))
        result.ok()
        raw = home("disclose", "--sent").ok().json["exchanges"]
    assert (events[0].port, events[0].what) == ("probe", "connected")
    assert [e.what for e in events if e.port == "probe"] == ["connected", "request"]
    assert events.index(next(e for e in events if e.port == "service")) > events.index(
        next(e for e in events if e.what == "request")
    )
    probe = next(e for e in events if (e.port, e.what) == ("probe", "request"))
    assert wire.body_of(probe) == b""
    versions = {event.data.decode() for event in events if event.what == "tls"}
    assert versions <= {"TLSv1.2", "TLSv1.3"}, versions
    posts = [event for event in events if (event.port, event.what) == ("service", "request")]
    assert sum(len(wire.body_of(event)) for event in posts) > 500
    assert [entry["sent"].encode() for entry in raw] == [probe.data, *(event.data for event in posts)], (
        "disclose --sent differs from the wire"
    )
    data = f"{sum(len(event.data) for event in posts)} bytes under {', '.join(versions)}"
    return f"{len(probe.data)} bytes to the probe, then {data}; disclose --sent shows both as captured"


@item("A server that speaks TLS 1.1 at most is refused (exit 3)")
def old_tls(stage: Stage) -> str:
    with warnings.catch_warnings(), tapped(stage) as line:
        warnings.simplefilter("ignore", DeprecationWarning)
        context = wire.tls(line.publisher.home)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        able = _speaks_1_1(context)
        result, events, _ = line.activate(wire.status(204), context=context)
        assert result.exit == 3, result
        assert not [event for event in events if event.port == "service" and event.what in ("request", "tls")]
        middle = wire.tls(line.publisher.home)
        middle.maximum_version = ssl.TLSVersion.TLSv1_2
        modern, seen, _ = line.activate(wire.status(204), context=middle)
        assert modern.exit == 0, modern
        assert {event.data for event in seen if event.what == "tls"} == {b"TLSv1.2"}
    assert able, "the local OpenSSL cannot speak TLS 1.1 even to itself, so this shows nothing"
    return f"exit 3, {result.code}, 0 requests ({result.json['error']['detail'][-60:]}); TLS 1.2 at most: licensed"


def _speaks_1_1(context: ssl.SSLContext) -> bool:
    """Whether this server would talk to a client that does accept TLS 1.1."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    events: list[Event] = []
    try:
        with contextlib.ExitStack() as stack:
            ear = stack.enter_context(Ear("old", free_port(), events, None, context))
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", ear.port), 10))
            return stack.enter_context(client.wrap_socket(plain)).version() == "TLSv1.1"
    except OSError:
        return False


@item("An untrusted certificate is refused (exit 3), and nothing is sent")
def untrusted(stage: Stage) -> str:
    other = Publisher(stage.place("other") / "publisher", "Somebody Else")
    with tapped(stage) as line:
        result, events, home = line.activate(wire.status(204), context=wire.tls(other.home))
        assert (result.exit, result.code) == (3, "tls_untrusted"), result
        bundle, _, _ = line.activate(wire.status(204), options=("--ca-bundle", str(other.home / "tls" / "ca.pem")))
        assert (bundle.exit, bundle.code) == (3, "tls_untrusted"), bundle
    assert not [event for event in events if (event.port, event.what) == ("service", "request")]
    assert home.status()["state"] == "initial_grace"
    return f"exit 3, tls_untrusted: {result.json['error']['detail']}"


@item("With the service stopped after activation, status stays licensed")
def stopped(stage: Stage) -> str:
    folder = stage.place("stopped")
    publisher = Publisher(folder / "publisher")
    product = publisher.product("paintest", "--test", "--edition", "pro")
    (key,) = publisher.mint("paintest")
    home = Home(folder / "client" / "home", sysroot=stage.pc(synthetic(201)))
    with publisher.running():
        home.activate(product, key["key"]).ok()
    today = home("status", "--check", "licensed")
    in_ten_years = home("status", "--check", "licensed", env={"KEYTURN_NOW": f"+{10 * 365 * 86_400}"})
    assert (today.exit, in_ten_years.exit) == (0, 0), (today, in_ten_years)
    return f"licensed today and in ten years ({in_ten_years.product['state']}, valid until {in_ten_years.product['valid_until']})"


@item("A test product accepts KEYTURN_SYSROOT and KEYTURN_NOW, a real one exits 5")
def pretended(stage: Stage) -> str:
    pc = stage.pc("office-pc-a")
    test, real = stage.home(), stage.home()
    test("product", "add", str(stage.test)).ok()
    real("product", "add", str(stage.real)).ok()
    later = test("status", env={"KEYTURN_NOW": "+864000"}).ok().product
    assert later["days_left"] == 20, later
    for env in ({"KEYTURN_SYSROOT": str(pc)}, {"KEYTURN_NOW": "+950000"}, {"KEYTURN_NOW": "2031-05-06T07:08:09Z"}):
        assert test("status", env=env).exit == 0
        for verb in (("status",), ("activate", "-", "--yes"), ("product", "add", str(stage.real)), ("disclose",)):
            refused = real(*verb, env=env, input=stage.key("paintbox")["key"] if verb[0] == "activate" else None)
            assert refused.exit == 5, (verb, env, refused)
            assert refused.code == "test_only", (verb, env, refused)
    known = test("activate", "-", "--dry-run", env={"KEYTURN_SYSROOT": str(pc)}, input=stage.key()["key"]).ok().json
    assert known["known_slots"] == ["board", "disk", "nic", "uuid"]
    return (
        "the recorded computer's 4 anchors and ten days later on a test product; 12 refusals with exit 5 on a real one"
    )
