"""Where events are written: journald with its fields, syslog, the Windows Application log, and a file of JSON lines.

Keeps: the forms of an event on each of them, and the file's rotation. Leaves to others: which events there are
(``core.events``), what happened (``client.telling``).

- An event log that cannot be written stops nobody: each sink that fails is skipped, and :meth:`EventLog.write` says which.
- The file is the one that ``keyturn events`` reads: one object a line, flushed whole, never half a line after a crash
  that a reader does not skip. It is 1 MiB at most, and four older ones are kept. Where the home cannot be written (a full
  disk, another account's store) a file of the running system takes its place, until the next start.
- Sources: the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), RFC 5424 over ``/dev/log``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from keyturn.core.events import ERROR, INFO, SOURCE, WARNING
from keyturn.edge import files

JOURNAL = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
FILE = "events.jsonl"
MAX_FILE = 1024 * 1024
KEPT = 4
MAX_LINE = 16_384
_PRIORITIES = {INFO: 6, WARNING: 4, ERROR: 3}  # RFC 5424, section 6.2.1
_FACILITY = 1  # user-level messages
_EVENTLOG_TYPES = {INFO: 4, WARNING: 2, ERROR: 1}  # winnt.h: EVENTLOG_INFORMATION_TYPE …

Entry = Mapping[str, Any]
Sink = Callable[[Entry], None]


class EventLog:
    """All the places of one computer where an event goes; ``folder`` is the home whose file takes it, or ``spare``'s."""

    def __init__(self, folder: str, spare: str | None, *, journal: str = JOURNAL, syslog: str = SYSLOG) -> None:
        self._folder, self._spare = folder, spare
        self._journal, self._syslog = journal, syslog

    def write(self, entry: Entry) -> list[str]:
        """Write one event everywhere; the result names the places that did not take it. Raises nothing."""
        failed = []
        for name, sink in self._sinks():
            try:
                sink(entry)
            except (OSError, ValueError) as error:  # Whoever is activating goes on; the caller may say it.
                failed.append(f"{name}: {getattr(error, 'strerror', None) or error}")
        return failed

    def _sinks(self) -> Iterator[tuple[str, Sink]]:
        if os.path.isdir(self._folder):
            yield os.path.join(self._folder, FILE), self._to_file
        if sys.platform == "win32":
            yield "the Application log", _to_windows
        elif os.path.exists(self._journal):
            yield self._journal, self._to_journal
        elif os.path.exists(self._syslog):
            yield self._syslog, self._to_syslog

    def _to_file(self, entry: Entry) -> None:
        line = json.dumps(dict(entry), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            _append(os.path.join(self._folder, FILE), line[:MAX_LINE])
        except OSError:
            if self._spare is None:
                raise
            os.makedirs(os.path.dirname(self._spare), exist_ok=True)
            _append(self._spare, line[:MAX_LINE])

    def _to_journal(self, entry: Entry) -> None:
        fields = {
            "MESSAGE": entry["message"], "PRIORITY": str(_PRIORITIES[entry["severity"]]), "SYSLOG_IDENTIFIER": SOURCE,
            "SYSLOG_FACILITY": str(_FACILITY),
            **{f"KEYTURN_{name.upper()}": _text(value) for name, value in entry.items() if name not in ("message", "time")},
        }  # fmt: skip
        _datagram(self._journal, b"".join(_field(name, text) for name, text in fields.items() if text))

    def _to_syslog(self, entry: Entry) -> None:
        data = " ".join(f'{name}="{_quoted(_text(entry[name]))}"' for name in _STRUCTURED if entry.get(name) is not None)
        head = f"<{_FACILITY * 8 + _PRIORITIES[entry['severity']]}>1 {entry['time']} - {SOURCE} {os.getpid()} {entry['name']}"
        # The structured data's name needs an enterprise number to be ours alone; 32473 is the one for examples (RFC 5612).
        _datagram(self._syslog, f"{head} [keyturn@32473 {data}] {_text(entry['message'])}".encode()[:MAX_LINE])


def read(folder: str, spare: str | None) -> list[dict[str, Any]]:
    """The events of a home's files and of the file that took their place, oldest first; a line that is not whole is passed over.

    Raises: KeyturnError ``permission_denied``, ``storage_failed``.
    """
    found = []
    for path in (os.path.join(folder, FILE), spare):
        for place in () if path is None else (*(f"{path}.{number}" for number in range(KEPT, 0, -1)), path):
            found += [value for line in (files.read(place, 2 * MAX_FILE) or b"").splitlines() if (value := _whole(line))]
    return sorted(found, key=lambda value: str(value["time"]))  # Stable: what one second brought stays in its order.


def spare_file(home: str, environ: Mapping[str, str]) -> str | None:
    """The file of the running system for a home that cannot be written; ``None`` where there is no such place."""
    runtime = "/run" if files.privileged() else environ.get("XDG_RUNTIME_DIR")
    if sys.platform == "win32" or not runtime:
        return None
    return os.path.join(runtime, "keyturn", f"events-{hashlib.sha256(os.path.abspath(home).encode()).hexdigest()[:12]}.jsonl")


def _append(path: str, line: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_size > MAX_FILE:
            _rotate(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), files.PUBLIC)
    try:
        if sys.platform != "win32" and os.fstat(descriptor).st_size == 0:
            os.fchmod(descriptor, files.PUBLIC)
        # One write: two programs at once never mix their lines (open(2), O_APPEND).
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


def _whole(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None  # A crash, or a full disk, cut it short.
    return value if isinstance(value, dict) and {"time", "event_id", "name", "severity"} <= set(value) else None


def _rotate(path: str) -> None:
    for number in range(KEPT, 0, -1):
        with contextlib.suppress(FileNotFoundError):  # Another program may have turned it a moment ago.
            os.replace(path if number == 1 else f"{path}.{number - 1}", f"{path}.{number}")


_STRUCTURED = ("event_id", "code", "return_code", "correlation", "product", "remedy", "data")


def _text(value: object) -> str:
    if value is None or value == {}:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _field(name: str, text: str) -> bytes:
    data = text.encode()
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


def _datagram(path: str, data: bytes) -> None:
    import socket  # Only where an event is written: a program that asks for its license needs no sockets.

    if sys.platform != "win32":  # There the Application log takes them.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # A journal that takes nothing must not hold up a logon.
            sender.sendto(data, path)


def _quoted(text: str) -> str:
    """A value of structured data (RFC 5424, section 6.3.3)."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _to_windows(entry: Entry) -> None:
    lines = [entry["message"], *(f"{name}: {_text(entry[name])}" for name in _STRUCTURED if _text(entry.get(name)))]
    if sys.platform == "win32":
        from keyturn.edge import windows

        windows.report_event(SOURCE, _EVENTLOG_TYPES[entry["severity"]], int(entry["event_id"]), "\r\n".join(lines))
