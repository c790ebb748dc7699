"""Notifications: what reaches the session's bus, and that the chosen action shows the page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keyturn.core.errors import KeyturnError
from keyturn.edge.desktop import Desktop, Notification
from keyturn.testing import World

# Stands in for the system's programs: notes what it was called with, and answers as the real one does.
GDBUS = """#!/bin/sh
case $1 in
call) for word in "$@"; do printf '%s\\n' "$word" >> "$NOTES/call"; done; echo "(uint32 7,)" ;;
monitor) printf '%s\\n' "$ANSWER"; exec sleep 60 ;;
esac
"""
NOTIFY_SEND = """#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word" >> "$NOTES/call"; done
echo 7
test -z "$ANSWER" || printf '%s\\n' "$ANSWER"
"""


def programs(folder: Path, **scripts: str) -> str:
    for name, text in scripts.items():
        path = folder / name.replace("_", "-")
        path.write_text(text)
        path.chmod(0o755)
    return str(folder)


def signals(*lines: str) -> str:
    return "\n".join(f"/org/freedesktop/Notifications: org.freedesktop.Notifications.{line}" for line in lines)


def notify(
    tmp_path: Path, answer: str = "", *, critical: bool = False, replaces: int = 0, **scripts: str
) -> tuple[list[str], str]:
    """Notify through the stand-ins; the result is the command line, and what ``chosen`` wrote (empty: it was not called)."""
    desktop = Desktop({"PATH": "/usr/bin:/bin", "NOTES": str(tmp_path), "ANSWER": answer}, programs(tmp_path, **scripts))
    shown = Notification('Paint & "box"', "It's <due>", "What to do", critical=critical, replaces=replaces)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        number = desktop.notify(shown, lambda: os.write(writing, b"chosen"))
        os.close(writing)
        assert number == 7
        called = stream.read().decode()  # Ends when the process that waits has ended.
    return (tmp_path / "call").read_text().splitlines(), called


@pytest.mark.parametrize(("critical", "replaces"), [(False, 0), (True, 6)])
def test_what_is_sent(tmp_path: Path, critical: bool, replaces: int) -> None:
    """Plain text without markup, an action with its words, the urgency, and the number of the one before."""
    words, _ = notify(tmp_path, critical=critical, replaces=replaces, notify_send=NOTIFY_SEND)
    assert words == [
        "--app-name=Keyturn", f"--urgency={'critical' if critical else 'normal'}", "--print-id",
        *([f"--replace-id={replaces}"] if replaces else []),
        "--action=default=What to do", "--action=show=What to do", "--", 'Paint + "box"', "It's ‹due›",
    ]  # fmt: skip


@pytest.mark.parametrize(("critical", "urgency"), [(False, "1"), (True, "2")])
def test_what_is_sent_without_notify_send(tmp_path: Path, critical: bool, urgency: str) -> None:
    """The same, quoted for GVariant."""
    answer = signals("NotificationClosed (uint32 7, uint32 2)")
    words, _ = notify(tmp_path, answer, critical=critical, replaces=6, gdbus=GDBUS)
    assert words[-8:] == [
        '"Keyturn"', "6", '"dialog-information"', '"Paint + \\"box\\""', '"It\'s ‹due›"',
        "['default', \"What to do\", 'show', \"What to do\"]", f"{{'urgency': <byte {urgency}>}}", "int32 -1",
    ]  # fmt: skip


@pytest.mark.parametrize(("answer", "called"), [("show", "chosen"), ("default", "chosen"), ("other", ""), ("", "")])
def test_the_choice_shows_more(tmp_path: Path, answer: str, called: str) -> None:
    assert notify(tmp_path, answer, notify_send=NOTIFY_SEND)[1] == called


@pytest.mark.parametrize(
    ("said", "called"),
    [
        (["ActionInvoked (uint32 7, 'show')"], "chosen"),
        (["ActionInvoked (uint32 8, 'show')", "ActionInvoked (uint32 7, 'default')"], "chosen"),
        (["NotificationClosed (uint32 8, uint32 1)", "NotificationClosed (uint32 7, uint32 2)"], ""),
        (["NotificationClosed (uint32 7, uint32 2)", "ActionInvoked (uint32 7, 'show')"], ""),
        (["ActionInvoked (uint32 8, 'show')", "NotificationClosed (uint32 7, uint32 2)"], ""),
        (["NotificationClosed (uint32 8, uint32 1)", "ActionInvoked (uint32 7, 'show')"], "chosen"),
    ],
)
def test_only_the_choice_of_this_notification_counts(tmp_path: Path, said: list[str], called: str) -> None:
    assert notify(tmp_path, signals(*said), gdbus=GDBUS)[1] == called


@pytest.mark.parametrize("name", ["notify_send", "gdbus", None])
@pytest.mark.parametrize("script", ["#!/bin/sh\necho 'no bus' >&2; exit 1\n", "#!/nowhere\n"])
def test_a_desktop_that_is_not_there_is_one_error(tmp_path: Path, name: str | None, script: str) -> None:
    folder = programs(tmp_path, **({} if name is None else {name: script}))
    with pytest.raises(KeyturnError) as error:
        Desktop({}, folder).notify(Notification("s", "b", "a", critical=False), lambda: None)
    assert (error.value.code, error.value.exit, bool(error.value.remedy)) == ("desktop_unreachable", 3, True)
    if name is not None and "no bus" in script:
        assert "no bus" in error.value.detail


@pytest.mark.system
@pytest.mark.needs("dbus-run-session", "gdbus")
def test_on_a_bus_without_a_server_it_says_so(world: World) -> None:
    """The real programs: no server of notifications, so the verb ends with the code, and nothing counts as shown."""
    client = world.client(home=world.folder / "real")
    client.status()
    keyturn = [sys.executable, "-m", "keyturn", "--home", str(world.folder / "real"), "remind"]
    environment = {"HOME": str(world.folder), "PATH": "/usr/bin:/bin", "LANG": "C"}
    line = ["dbus-run-session", "--", *keyturn, "--desktop"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == 3, done.stderr
    assert "desktop_unreachable" in done.stderr
    assert "Reminder:" in subprocess.run(keyturn, capture_output=True, text=True, check=True, env=environment).stdout


STORY = """
/usr/bin/python3 -m dbusmock --session --template notification_daemon --parameters "$1" > server.log &
shift
server=$!
gdbus wait --session --timeout 20 org.freedesktop.Notifications
"$@"
status=$?
kill $server
wait $server
exit $status
"""


@pytest.mark.system
@pytest.mark.needs("dbus-run-session", "gdbus", "notify-send")
@pytest.mark.parametrize("capabilities", ["body actions", "body"])
@pytest.mark.skipif(not Path("/usr/lib/python3/dist-packages/dbusmock").exists(), reason="needs python3-dbusmock")
def test_a_server_of_notifications_is_told_all_of_it(world: World, capabilities: str) -> None:
    """The real programs on a real bus: headline, terms, date, what to do; and an action, if the server knows actions."""
    client = world.client(home=world.folder / "real")
    client.status()
    (world.folder / "story.sh").write_text(STORY)
    keyturn = [sys.executable, "-m", "keyturn", "--home", str(world.folder / "real"), "remind", "--desktop"]
    environment = {"HOME": str(world.folder), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    line = ["dbus-run-session", "--", "sh", "story.sh", json.dumps({"capabilities": capabilities}), *keyturn]
    done = subprocess.run(
        line, cwd=world.folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )  # fmt: skip
    log = (world.folder / "server.log").read_text()
    assert done.returncode == 0, done.stderr + log
    (call,) = [line for line in log.splitlines() if " Notify " in line]
    for said in ("Keyturn", "Sample is not activated yet", "30 days of grace", "2027-02-14", "keyturn activate", "What to do: "):
        assert said in call
    assert ('"show", "What to do"' in call) is ("actions" in capabilities)
