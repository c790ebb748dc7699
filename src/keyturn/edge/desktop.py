"""The desktop of whoever is logged on: one notification (freedesktop.org, Desktop Notifications 1.2), and showing a file.

Leaves to others: what is said, and when.

- The session's bus is asked through the system's own programs, by full path: nothing in a user's PATH is run.
- Bodies are plain text. A server that understands markup would take a ``<`` for its beginning, so there is none.
- Whoever chooses the action is shown more; a small process of its own waits for that, so that the caller need not.
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
LISTEN = 3600  # Seconds after which nobody waits for an answer any more: by then another reminder may be due.
_NAME = "org.freedesktop.Notifications"
_PLACE = ["--session", "--dest", _NAME, "--object-path", "/org/freedesktop/Notifications"]
_PLAIN = str.maketrans({"&": "+", "<": "‹", ">": "›"})


class Desktop:
    """The desktop that an environment leads to. ``programs`` is the folder of the system's programs."""

    def __init__(self, environ: Mapping[str, str], programs: str = PROGRAMS) -> None:
        self._environ = dict(environ)
        self._programs = programs

    def notify(
        self, summary: str, body: str, action: str, *, critical: bool, replaces: int = 0, chosen: Callable[[], object]
    ) -> int:
        """Show a notification, and call ``chosen()`` in a process of its own if the person chooses ``action``.

        ``replaces`` is the number of the one before, or 0. The result is its number; 0 if nobody knows it.
        Raises: KeyturnError ``desktop_unreachable``.
        """
        summary, body, action = (text.translate(_PLAIN) for text in (summary, body, action))
        gdbus, notify_send = (os.path.join(self._programs, name) for name in ("gdbus", "notify-send"))
        if os.path.exists(gdbus):
            said = self._run([
                gdbus, "call", *_PLACE, "--method", f"{_NAME}.Notify", _quoted("Keyturn"), str(replaces),
                _quoted("dialog-information"), _quoted(summary), _quoted(body),
                f"['default', {_quoted(action)}, 'show', {_quoted(action)}]",
                f"{{'urgency': <byte {2 if critical else 1}>}}", "-1",
            ])  # fmt: skip
            found = re.search(r"uint32 (\d+)", said)
            number = int(found[1]) if found else 0
            if number:
                _in_background(lambda: self._wait_for(gdbus, number) and chosen())
            return number
        if os.path.exists(notify_send):
            urgency = "critical" if critical else "normal"
            self._run([notify_send, "--app-name=Keyturn", f"--urgency={urgency}", "--", summary, body])
            return 0
        raise KeyturnError("desktop_unreachable", f"neither {gdbus} nor {notify_send} is on this computer")

    def show(self, path: str) -> None:
        """Open a file with the program that the person has chosen for such files. Raises: KeyturnError."""
        self._run([os.path.join(self._programs, "xdg-open"), path])

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

    def _wait_for(self, gdbus: str, number: int) -> bool:
        """Whether the person chose the action before the notification went, or nobody waited any more."""
        end = time.monotonic() + LISTEN
        with subprocess.Popen(
            [gdbus, "monitor", *_PLACE], env=self._environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
        ) as monitor:
            assert monitor.stdout is not None
            try:
                while (line := _line(monitor.stdout.fileno(), end)) is not None:
                    about = re.search(r"\.(ActionInvoked|NotificationClosed) \(uint32 (\d+)", line)
                    if about and int(about[2]) == number:
                        return about[1] == "ActionInvoked"
            finally:
                monitor.kill()
        return False


def _line(descriptor: int, end: float) -> str | None:
    """The next line of a pipe, or ``None`` at its end or once ``end`` (monotonic) has passed."""
    data = b""
    while not data.endswith(b"\n"):
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        byte = os.read(descriptor, 1) if ready else b""
        if not byte:
            return None
        data += byte
    return data.decode("utf-8", "replace")


def _in_background(action: Callable[[], object]) -> None:
    """Run ``action()`` in a process that nobody waits for (fork twice, so that init takes it), without our streams."""
    if sys.platform == "win32":
        return
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
    return json.dumps(text.replace("\0", ""), ensure_ascii=False)
