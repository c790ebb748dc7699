"""The desktop of whoever is logged on: one notification (freedesktop.org, Desktop Notifications 1.2), and showing a file.

Leaves to others: what is said, and when.

- The session's bus is asked through the system's own programs, by full path: nothing in a user's PATH is run.
- Bodies are plain text. A server that understands markup would take a ``<`` for its beginning, so there is none.
- Whoever chooses the action is shown more. Some servers tell that only to the connection that notified, so a small process of
  its own shows the notification and waits, and the caller need not.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from keyturn.core.errors import KeyturnError

PROGRAMS = "/usr/bin"
PATIENCE = 10  # Seconds for a program to answer.
LISTEN = 3600  # Seconds after which nobody waits for a choice any more: by then another reminder may be due.
_NAME = "org.freedesktop.Notifications"
_PLACE = ["--session", "--dest", _NAME, "--object-path", "/org/freedesktop/Notifications"]
_PLAIN = str.maketrans({"&": "+", "<": "‹", ">": "›"})


class Notification:
    """What is shown, made plain. ``replaces`` is the number of the notification in whose place it comes, or 0."""

    def __init__(self, summary: str, body: str, action: str, *, critical: bool, replaces: int = 0) -> None:
        self.summary, self.body, self.action = (text.translate(_PLAIN).replace("\0", "") for text in (summary, body, action))
        self.critical = critical
        self.replaces = replaces


class Desktop:
    """The desktop that an environment leads to. ``programs`` is the folder of the system's programs."""

    def __init__(self, environ: Mapping[str, str], programs: str = PROGRAMS) -> None:
        self._environ = dict(environ)
        self._programs = programs

    def notify(self, shown: Notification, chosen: Callable[[], object]) -> int:
        """Show it and return its number; ``chosen()`` runs in a process of its own if the person chooses the action.

        Raises: KeyturnError ``desktop_unreachable``.
        """
        reading, writing = os.pipe()
        _in_background(lambda: self._show(shown, writing) and chosen())
        os.close(writing)
        try:
            said = _line(reading, time.monotonic() + PATIENCE)
        finally:
            os.close(reading)
        if said is None or not said.strip().isdigit():
            raise KeyturnError("desktop_unreachable", (said or f"nothing answered within {PATIENCE} seconds").strip()[:300])
        return int(said)

    def show(self, path: str) -> None:
        """Open a file with the program that the person has chosen for such files. Raises: KeyturnError."""
        self._run([os.path.join(self._programs, "xdg-open"), path])

    def _show(self, shown: Notification, writing: int) -> bool:
        """Show it, write its number (or what is wrong) to a pipe, and say whether the person chose the action."""
        notify_send, gdbus = (os.path.join(self._programs, name) for name in ("notify-send", "gdbus"))
        try:
            if os.path.exists(notify_send):
                return self._by_notify_send(notify_send, shown, writing)
            if os.path.exists(gdbus):
                return self._by_gdbus(gdbus, shown, writing)
            os.write(writing, f"neither {notify_send} nor {gdbus} is on this computer\n".encode())
        except (KeyturnError, OSError) as error:
            os.write(writing, f"{error}\n".encode())
        return False

    def _by_notify_send(self, program: str, shown: Notification, writing: int) -> bool:
        if sys.platform == "win32":
            return False  # Nothing gets here: there is no process to wait in.
        command = [
            program, "--app-name=Keyturn", f"--urgency={'critical' if shown.critical else 'normal'}", "--print-id",
            *([f"--replace-id={shown.replaces}"] if shown.replaces else []),
            f"--action=default={shown.action}", f"--action=show={shown.action}", "--", shown.summary, shown.body,
        ]  # fmt: skip
        # On a pipe it would keep its number to itself until it ends, so it writes to a terminal of its own.
        ours, its = os.openpty()
        with self._started(command, its) as process:
            os.close(its)
            try:
                end, said = time.monotonic() + PATIENCE, f"{program} says nothing\n"
                while (line := _line(ours, end)) is not None and not line.strip().strip("0").isdigit():
                    # A fault (and number 0), or that this server knows no actions: then its number follows.
                    said = said if line.strip() == "0" else line
                os.write(writing, (line or said).encode())
                os.close(writing)
                choice = _line(ours, time.monotonic() + LISTEN)  # Its end, without a word: it was closed.
            finally:
                process.kill()
        return choice is not None and choice.strip() in ("default", "show")

    def _by_gdbus(self, program: str, shown: Notification, writing: int) -> bool:
        action = _quoted(shown.action)
        said = self._run([
            program, "call", *_PLACE, "--method", f"{_NAME}.Notify", _quoted("Keyturn"), str(shown.replaces),
            _quoted("dialog-information"), _quoted(shown.summary), _quoted(shown.body),
            f"['default', {action}, 'show', {action}]", f"{{'urgency': <byte {2 if shown.critical else 1}>}}",
            "int32 -1",  # A bare -1 would be an option.
        ])  # fmt: skip
        found = re.search(r"uint32 (\d+)", said)
        os.write(writing, f"{found[1] if found else said}\n".encode())
        os.close(writing)
        end = time.monotonic() + LISTEN
        with self._started([program, "monitor", *_PLACE]) as monitor:
            assert monitor.stdout is not None
            try:
                while found and (line := _line(monitor.stdout.fileno(), end)) is not None:
                    about = re.search(r"\.(ActionInvoked|NotificationClosed) \(uint32 (\d+)", line)
                    if about and about[2] == found[1]:
                        return about[1] == "ActionInvoked"
            finally:
                monitor.kill()
        return False

    def _started(self, command: Sequence[str], out: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, env=self._environ, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, bufsize=0
        )

    def _run(self, command: Sequence[str]) -> str:
        try:
            done = subprocess.run(
                command, env=self._environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KeyturnError("desktop_unreachable", f"{command[0]}: {error}"[:300]) from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
            raise KeyturnError("desktop_unreachable", f"{os.path.basename(command[0])}: {said or done.returncode}"[:300])
        return done.stdout.decode("utf-8", "replace")


def _line(descriptor: int, end: float) -> str | None:
    """The next line of a pipe or terminal, or ``None`` at its end or once ``end`` (monotonic) has passed."""
    data = b""
    while not data.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        try:
            byte = os.read(descriptor, 1) if ready else b""
        except OSError:
            byte = b""  # The end of a terminal is EIO.
        if not byte:
            return None
        data += byte
    return data.decode("utf-8", "replace")


def _in_background(action: Callable[[], object]) -> None:
    """Run ``action()`` in a process that nobody waits for (fork twice, so that init takes it), without our streams."""
    if sys.platform == "win32":
        raise KeyturnError("desktop_unreachable", "Windows has no notifications of this kind")
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nothing, stream)
            action()
    finally:
        os._exit(0)  # Whatever it raised: the notification was shown, and nobody is left to tell.


def _quoted(text: str) -> str:
    """A text in GVariant's notation, whose double-quoted form reads JSON's escapes."""
    return json.dumps(text, ensure_ascii=False)
