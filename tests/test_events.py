"""The event log: what each place gets, that nothing stops for it, and that request and answer share a mark."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from keyturn import KeyturnError
from keyturn.client.telling import Teller
from keyturn.core.events import ERROR, EVENTS, INFO, WARNING
from keyturn.edge import eventlog
from keyturn.edge.eventlog import EventLog
from keyturn.edge.vault import Vault
from keyturn.testing import World

MEMBERS = [
    "time", "event_id", "name", "severity", "code", "return_code", "correlation", "product", "message", "remedy", "data",
]  # fmt: skip


def entry(**values: Any) -> dict[str, Any]:
    made = {
        "time": "2027-01-15T08:00:00Z", "event_id": 306, "name": "grace_started", "severity": WARNING, "code": "not_activated",
        "return_code": 0, "correlation": None, "product": "x/sample", "message": 'It "runs"]\nfor 30 days', "remedy": "Activate.",
        "data": {"until": "2027-02-14"},
    }  # fmt: skip
    return {**made, **values}


def names(world: World, home: Path) -> list[str]:
    return [str(e["name"]) for e in eventlog.read(str(home), None)]


def test_the_catalogue_is_in_order() -> None:
    """Numbers are unique, and whatever is graver than a piece of news has an action."""
    assert len({event.id for event in EVENTS.values()}) == len(EVENTS)
    for event in EVENTS.values():
        assert event.severity in (INFO, WARNING, ERROR)
        assert re.fullmatch(r"[a-z_]{5,24}", event.name)
        assert (event.action is not None) is (event.severity != INFO), event.name


def test_the_file_has_the_members_of_the_contract(tmp_path: Path) -> None:
    assert EventLog(str(tmp_path), None, journal="/none", syslog="/none").write(entry()) == []
    (line,) = (tmp_path / eventlog.FILE).read_text().splitlines()
    assert list(json.loads(line)) == MEMBERS
    assert stat.S_IMODE((tmp_path / eventlog.FILE).stat().st_mode) == 0o644


def test_journald_gets_fields(tmp_path: Path) -> None:
    """Its native protocol: a value with a line break is sent with its length."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        EventLog(str(tmp_path), None, journal=str(tmp_path / "journal")).write(entry())
        data = journal.recv(65_536)
    text = b'It "runs"]\nfor 30 days'
    assert b"MESSAGE\n" + len(text).to_bytes(8, "little") + text + b"\n" in data
    for field in (b"PRIORITY=4", b"SYSLOG_IDENTIFIER=keyturn", b"KEYTURN_EVENT_ID=306", b"KEYTURN_CODE=not_activated"):
        assert field + b"\n" in data
    assert b"KEYTURN_CORRELATION" not in data


def test_syslog_gets_structured_data(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        EventLog(str(tmp_path), None, journal="/none", syslog=str(tmp_path / "log")).write(entry(remedy='a"b]c\\d'))
        text = log.recv(65_536).decode()
    assert text.startswith("<12>1 2027-01-15T08:00:00Z - keyturn ")
    assert ' grace_started [keyturn@32473 event_id="306" code="not_activated"' in text
    assert 'remedy="a\\"b\\]c\\\\d"' in text


def test_a_full_file_is_turned_and_four_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventlog, "MAX_FILE", 2_000)
    log = EventLog(str(tmp_path), None, journal="/none", syslog="/none")
    for number in range(60):
        log.write(entry(data={"number": number}))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["events.jsonl", *(f"events.jsonl.{number}" for number in range(1, 5))]
    numbers = [e["data"]["number"] for e in eventlog.read(str(tmp_path), None)]
    assert numbers == list(range(numbers[0], 60))


def test_half_a_line_is_passed_over(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path), None, journal="/none", syslog="/none")
    log.write(entry(data={"number": 1}))
    path = tmp_path / eventlog.FILE
    path.write_bytes(path.read_bytes() + b'{"time": "2027-01-15T08:0\n[1]\n\xff\n')
    log.write(entry(data={"number": 2}))
    assert [e["data"]["number"] for e in eventlog.read(str(tmp_path), None)] == [1, 2]


def test_two_at_once_never_mix_their_lines(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path), None, journal="/none", syslog="/none")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: log.write(entry(data={"number": number, "text": "x" * 3000})), range(200)))
    assert sorted(e["data"]["number"] for e in eventlog.read(str(tmp_path), None)) == list(range(200))


def test_a_home_that_cannot_be_written_has_a_place_of_the_running_system(tmp_path: Path) -> None:
    """The device that is always full: the event is in the spare file, and is read from there."""
    home, spare = tmp_path / "home", tmp_path / "run" / "events.jsonl"
    home.mkdir()
    (home / eventlog.FILE).symlink_to("/dev/full")
    assert EventLog(str(home), str(spare), journal="/none", syslog="/none").write(entry()) == []
    assert len(spare.read_text().splitlines()) == 1
    (failed,) = EventLog(str(home), None, journal="/none", syslog="/none").write(entry())
    assert "No space left" in failed


def test_a_log_that_takes_nothing_stops_nobody(world: World, tmp_path: Path) -> None:
    """The store's log is a folder: the activation goes on."""
    client = world.client()
    client.status()
    home = Path(str(client._home))
    os.replace(home / eventlog.FILE, tmp_path / "moved")
    (home / eventlog.FILE).mkdir()
    assert client.activate(world.publisher.mint("sample"), consent=True).state == "licensed"


def test_an_activation_from_first_to_last(world: World) -> None:
    """What an administrator reads of an ordinary life, and that question and answer share a mark."""
    client = world.client()
    home = Path(str(client._home))
    client.activate(world.publisher.mint("sample"), consent=True)
    client.deactivate()
    assert names(world, home) == [
        "product_added", "grace_started", "key_installed", "request_sent", "answer_received", "licensed", "activated",
        "request_sent", "answer_received", "released", "grace_started",
    ]  # fmt: skip
    entries = eventlog.read(str(home), None)
    marks = [e["correlation"] for e in entries if e["name"] in ("request_sent", "answer_received")]
    assert (marks[0], marks[2]) == (marks[1], marks[3])
    assert marks[0] != marks[2]
    for e in entries:
        assert list(e) == MEMBERS
        assert e["severity"] == INFO or e["remedy"]


def test_a_refusal_and_a_dead_service_are_told(world: World) -> None:
    for code, name in (("limit_reached", "request_refused"), ("service_unreachable", "request_failed")):
        client = world.refused(code)
        with pytest.raises(KeyturnError):
            client.activate(world.publisher.mint("sample"), consent=True)
        told = eventlog.read(str(client._home), None)[-1]
        assert (told["name"], told["code"]) == (name, code)
        assert told["return_code"] in (1, 3)
        assert told["remedy"]


def test_a_state_is_told_once(world: World) -> None:
    client = world.licensed()
    home = Path(str(client._home))
    loaded = client._load()
    teller = Teller(Vault(str(home), "user"), client._machine)
    before = len(eventlog.read(str(home), None))
    teller.tell_state(loaded)
    assert len(eventlog.read(str(home), None)) == before


def test_no_secret_and_no_raw_hardware_is_told(world: World) -> None:
    """The key, its K, and what the hardware says of itself are in no event."""
    client = world.client()
    key = world.publisher.mint("sample")
    client.activate(key, consent=True)
    text = (Path(str(client._home)) / eventlog.FILE).read_text()
    computer = client._machine.computer(client._load().opened.product)
    for secret in (key, key.replace("-", ""), *computer.reading.anchors.values()):
        assert secret not in text
