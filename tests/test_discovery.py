"""Finding hosts by DNS, and publishing one: against a real resolver (dnsmasq) and a real server that takes updates (BIND)."""

from __future__ import annotations

import collections
import contextlib
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from keyturn import KeyturnError
from keyturn.core.srv import Place, order
from keyturn.edge import discovery
from keyturn.edge.discovery import Update
from programs import free_port

SECRET = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"
ANNA, BERT, CARL = (Place(f"{name}.example.test", 8444, priority, weight) for name, priority, weight in
                    (("anna", 0, 75), ("bert", 0, 25), ("carl", 10, 0)))  # fmt: skip


# --- the order ---


def test_priority_first_then_weight_as_measured() -> None:
    """RFC 2782: three quarters go to the heavier one; the lower priority is asked only after both."""
    chance = random.Random(1)
    first = collections.Counter(order([CARL, BERT, ANNA], lambda n: chance.randint(0, n))[0].target for _ in range(10_000))
    assert set(first) == {ANNA.target, BERT.target}
    assert 0.73 < first[ANNA.target] / 10_000 < 0.78
    assert {order([CARL, BERT, ANNA], lambda n: chance.randint(0, n))[2] for _ in range(100)} == {CARL}


def test_every_host_is_asked_once_and_weight_zero_has_a_chance() -> None:
    chance = random.Random(2)
    light, heavy = Place("light", 1, 0, 0), Place("heavy", 1, 0, 9)
    seen = collections.Counter(order([heavy, light], lambda n: chance.randint(0, n))[0].target for _ in range(5_000))
    assert 300 < seen["light"] < 700
    for count in range(5):
        places = [Place(f"host-{number}", 1, number % 2, number) for number in range(count)]
        assert sorted(order(places, lambda n: chance.randint(0, n))) == sorted(places)
    assert order([], lambda n: n) == []


# --- a resolver ---


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)


def answers(port: int, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server answers a question: each is asked with a time limit of its own."""
    import dns.exception
    import dns.message
    import dns.query

    for _ in range(100):
        assert process.poll() is None, log.read_text()
        try:
            dns.query.tcp(dns.message.make_query(name, "SOA"), "127.0.0.1", timeout=1, port=port)
        except (OSError, dns.exception.Timeout, EOFError):
            with contextlib.suppress(subprocess.TimeoutExpired):  # Its end is waited for, and it should not come.
                process.wait(0.1)
            continue
        return
    raise AssertionError(f"no answer on port {port}: {log.read_text()}")


@pytest.fixture(scope="module")
def resolver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if shutil.which("dnsmasq", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("needs dnsmasq (install it)")
    folder, port = tmp_path_factory.mktemp("dnsmasq"), free_port()
    records = [discovery.lines(place, "example.test", "dnsmasq") for place in (ANNA, BERT, CARL)]
    (folder / "conf").write_text("\n".join([*records, "srv-host=_keyturn._tcp.nothing.test,.,0", "local=/test/"]))
    command = ["/usr/sbin/dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--user=root", "--listen-address=127.0.0.1",
               "--bind-interfaces", f"--port={port}", f"--conf-file={folder / 'conf'}"]  # fmt: skip
    process = start(command, folder / "log")
    try:
        answers(port, "example.test", process, folder / "log")
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.system
@pytest.mark.needs("root", "dnsmasq")
def test_what_a_domain_says(resolver: int) -> None:
    """Records with their priority and weight; no record; a domain that says it has none; each in its own words."""
    found, none, no = discovery.look_up(["example.test", "other.test", "nothing.test"], servers=["127.0.0.1"], port=resolver)
    assert sorted(found.places) == sorted(place._replace(origin="example.test") for place in (ANNA, BERT, CARL))
    assert found.fault is None
    assert (none.places, none.fault) == ((), "DNS names no activation host in other.test")
    assert no.places == ()
    assert no.fault is not None


@pytest.mark.system
def test_a_dead_resolver_is_another_cause() -> None:
    (dead,) = discovery.look_up(["example.test"], servers=["127.0.0.1"], port=free_port(), timeout=1)
    assert dead.places == ()
    assert dead.fault in ("no name server answered within 1 s", "the name servers cannot answer for example.test")


# --- a server that takes updates ---

CONF = """
options {{ directory "{folder}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; pid-file none;
  recursion no; session-keyfile none; dnssec-validation no; }};
controls {{ }};
key "keyturn" {{ algorithm hmac-sha256; secret "{secret}"; }};
zone "example.test" {{ type primary; file "zone"; allow-update {{ key "keyturn"; }}; }};
"""
ZONE = "$TTL 60\n@ IN SOA ns hostmaster 1 60 60 60 60\n@ IN NS ns\nns IN A 127.0.0.1\nanna IN A 127.0.0.1\n"


@pytest.fixture(scope="module")
def zone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Update]:
    if shutil.which("named", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("needs named (install it)")
    folder, port = tmp_path_factory.mktemp("bind"), free_port()
    (folder / "zone").write_text(ZONE)
    (folder / "conf").write_text(CONF.format(folder=folder, port=port, secret=SECRET))
    process = start(["/usr/sbin/named", "-g", "-c", str(folder / "conf"), "-u", "root"], folder / "log")
    try:
        answers(port, "example.test", process, folder / "log")
        yield Update("127.0.0.1", "example.test", "keyturn", SECRET, port=port)
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.system
@pytest.mark.needs("root", "named")
def test_a_host_publishes_changes_and_withdraws_itself_and_touches_no_other(zone: Update) -> None:
    discovery.publish(zone, ANNA)
    discovery.publish(zone, BERT)
    assert sorted(place.target for place in discovery.published(zone)) == [ANNA.target, BERT.target]
    discovery.publish(zone, ANNA._replace(port=9444, weight=1))
    found = {place.target: (place.port, place.weight) for place in discovery.published(zone)}
    assert found == {ANNA.target: (9444, 1), BERT.target: (8444, 25)}
    discovery.withdraw(zone, ANNA)
    discovery.withdraw(zone, ANNA)
    assert [place.target for place in discovery.published(zone)] == [BERT.target]
    discovery.withdraw(zone, BERT)
    (answer,) = discovery.look_up(["example.test"], servers=["127.0.0.1"], port=zone.port)
    assert answer.fault == "DNS names no activation host in example.test"


@pytest.mark.system
@pytest.mark.needs("root", "named")
def test_without_the_right_key_nothing_changes(zone: Update) -> None:
    before = discovery.published(zone)
    for wrong in (
        zone._replace(secret=None), zone._replace(secret="d3Jvbmc="), zone._replace(key_name="other"),
        zone._replace(secret="not base64!"), zone._replace(zone="other.test"),
    ):  # fmt: skip
        with pytest.raises(KeyturnError) as error:
            discovery.publish(wrong, ANNA)
        assert error.value.code == "dns_refused", wrong
    with pytest.raises(KeyturnError) as error:
        discovery.publish(zone._replace(port=free_port()), ANNA)
    assert error.value.code == "dns_unreachable"
    assert discovery.published(zone) == before
    assert SECRET not in repr(zone)


def test_lines_to_copy() -> None:
    """For zones that take no update; the one for dnsmasq is what the resolver above runs on."""
    assert discovery.lines(ANNA, "example.test", "bind") == (
        "_keyturn._tcp.example.test. 3600 IN SRV 0 75 8444 anna.example.test."
    )
    assert '-Name "_keyturn._tcp"' in discovery.lines(ANNA, "example.test", "powershell")
