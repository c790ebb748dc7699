"""Activation hosts by telephone with the real programs: two codes by hand, leases over TLS, the page, the menu, and slips."""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keyturn.core.errors import KeyturnError
from keyturn.core.phone import menu
from keyturn.service import voice
from keyturn.testing.computers import synthetic
from programs import KEYTURN, PATIENCE, Home, Publisher, Result, computer, environment, run, typed
from test_phone_programs import menu_run

pytestmark = pytest.mark.system


class Server:
    """An organization's server with ``keyturn host``, and the organization's client key."""

    def __init__(self, publisher: Publisher, folder: Path, number: int) -> None:
        self.folder, self.home = folder, folder / "host"
        self.env = {"KEYTURN_SYSROOT": str(computer(folder / "pc", synthetic(number)))}
        options = ("--org", "globex")
        (self.client,) = publisher.mint("paint", "--channel", "client", *options)
        (self.key,) = publisher.mint("paint", "--channel", "host", "--limit", "6", *options)
        self.product = publisher.folder / "paint.ktproduct"
        self("init", str(self.product)).ok()

    def __call__(self, *arguments: str, **options: Any) -> Result:
        return run(["host", "--home", str(self.home), "--json", *arguments], cwd=self.folder, env=self.env, **options)

    def asked(self, *options: str) -> Any:
        return self("installation-id", "-", *options, input=str(self.key["key"])).ok().json

    def start(self) -> tuple[subprocess.Popen[str], str]:
        """Run it, as a process of its own; the result has its place, HOST:PORT."""
        with (self.folder / "host.log").open("a") as log:
            process = subprocess.Popen(
                [str(KEYTURN), "host", "run", "--home", str(self.home), "--json", "--listen", "127.0.0.1:0"], cwd=self.folder,
                env=environment(self.folder, self.env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert process.stdout is not None
        there, _, _ = select.select([process.stdout], [], [], PATIENCE)
        line = process.stdout.readline() if there else ""
        assert line, (self.folder / "host.log").read_text()
        return process, str(json.loads(line)["url"]).removeprefix("https://")


def ended(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    status = process.wait(PATIENCE)
    assert process.stdout is not None
    process.stdout.close()
    return status


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    made = Publisher(tmp_path_factory.mktemp("acme"))
    made.service("org", "create", "globex").ok()
    made.product("paint", "--test", "--edition", "basic", "--feature", "layers", "--threshold", "5")
    yield made
    made.close()


@pytest.fixture
def server(publisher: Publisher, tmp_path: Path) -> Server:
    return Server(publisher, tmp_path, 70_000 + sum(tmp_path.name.encode()))


def test_two_codes_then_five_computers_over_tls(publisher: Publisher, server: Server, tmp_path: Path) -> None:
    """No service runs, and no computer has the extra; the host starts again; every load verifies the certificate anew."""
    told = server.asked("--words")
    assert len(told["words"]) == 16
    found = publisher.service("answer", " ".join(told["words"])).ok().json
    assert (found["how"], len(found["words"]), found["serves"]) == ("new", 54, server.client["serial"])
    assert server("confirm", *found["words"][:-1]).code == "code_malformed"
    assert server("confirm", *found["words"], "--dry-run").ok().json == {"holds": True}
    assert server("status").ok().json["certificate"]["expires"] is None
    done = server("confirm", *(word[:4] for word in found["words"])).ok().json
    assert (done["serves"], done["expires"]) == ([server.client["serial"]], found["valid_until"])
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in ("py_ecc", "mnemonic", "segno"):
        (blocked / f"{name}.py").write_text(f"raise ImportError({name!r})\n")
    homes = []
    for number in range(5):
        pc = computer(tmp_path / f"pc-{number}", synthetic(71_000 + number))
        home = Home(tmp_path / f"client-{number}" / "home", sysroot=pc)
        home.env["PYTHONPATH"] = str(blocked)
        home("product", "add", str(server.product)).ok()
        home("install-key", "-", input=str(server.client["key"])).ok()
        homes.append(home)
    process, place = server.start()
    try:
        for home in homes[:4]:
            assert home("activate", "--host", place, "--yes").code == "threshold_not_met"
        for home in reversed(homes):
            assert home("activate", "--host", place, "--yes").ok().product["features"] == ["layers"]
        assert ended(process) == 0
        process, place = server.start()
        assert homes[0]("activate", "--host", place, "--yes").ok().product["state"] == "licensed"
    finally:
        assert ended(process) == 0
    for home in homes:
        assert home("status", "--check").ok().product["state"] == "licensed"
    held = json.loads((homes[1].shelf / "license.json").read_text())
    assert "~" in held["host"]
    held["host"] = held["host"][:-6] + ("A" if held["host"][-6] != "A" else "B") + held["host"][-5:]
    (homes[1].shelf / "license.json").write_text(json.dumps(held))
    assert homes[1].status()["state"] != "licensed"
    server("backup", "-o", str(tmp_path / "host.ktbackup")).ok()
    assert server("verify", str(tmp_path / "host.ktbackup")).ok()


def test_asked_part_by_part_on_a_terminal(publisher: Publisher, server: Server) -> None:
    """35 groups: a wrong one is said at once and asked for again; the same sentences as on every computer."""
    groups = publisher.service("answer", server.asked()["installation_id"]).ok().json["confirmation_id"].split()
    said = typing(server, groups[0], "999999", groups[1], " ".join(groups[2:34]), "1" * 6, groups[34])
    assert "35 groups of digits, or 54 words" in said and "group 2 is wrong" in said and "group 35 is wrong" in said
    assert server("status").ok().json["certificate"]["expires"] is not None


def typing(server: Server, *lines: str) -> str:
    return typed(["host", "--home", str(server.home), "confirm"], lines, cwd=server.folder, env=server.env)


def test_the_menu_reads_out_35_groups(publisher: Publisher, server: Server) -> None:
    groups = server.asked()["installation_id"].split()
    told = menu_run(publisher, "1", "1", *groups, "1", *["1"] * 35)
    assert "To hear it in 35 groups of digits, press 1. In 54 English words, press 2." in told
    read = re.findall(r"^Group \d+: ((?:[0-9] ?){6})\.$", told, re.MULTILINE)
    assert len(read) == 35
    assert server("confirm", "-", input=" ".join(read)).ok().json["serves"] == [server.client["serial"]]


@pytest.mark.parametrize("lengths", [(0, 0), (16, 26), (35, 54)])
def test_a_place_in_a_call_holds_either_answer(lengths: tuple[int, int]) -> None:
    """And no other: the address of a provider's next question is somebody else's input."""
    groups, words = lengths
    call = menu.Call(stage="start", digits=("000000",) * groups, words=("abandon",) * words)
    assert voice.unpacked(voice.packed(call)) == call
    with pytest.raises(KeyturnError):
        voice.unpacked(voice.packed(call._replace(words=(*call.words, "zoo"))))


def test_which_key_is_served_and_what_is_no_question(publisher: Publisher, server: Server, tmp_path: Path) -> None:
    """Staff names another client key of the organization; a file or a computer has no such choice."""
    (newer,) = publisher.mint("paint", "--channel", "client", "--org", "globex")
    said = server.asked()["installation_id"]
    both = (server.client["serial"], newer["serial"])  # Minted within one second, perhaps: then either is the newest.
    assert publisher.service("answer", said).ok().json["serves"] in both
    older = publisher.service("answer", said, "--serves", str(server.client["serial"])).ok().json
    assert older["serves"] == server.client["serial"]
    text = run(
        ["service", "--home", str(publisher.home), "answer", said, "--serves", str(server.client["serial"])], cwd=publisher.folder
    ).ok().out
    assert f"this host is for the client key {server.client['product_id']}" in text
    assert publisher.service("answer", said, "--serves", "7").code == "nothing_to_serve"
    (tmp_path / "f.ktx").write_text("{}")
    assert publisher.service("answer", str(tmp_path / "f.ktx"), "--serves", "7").code == "usage"


def test_without_the_extra_digits_are_enough(publisher: Publisher, server: Server, tmp_path: Path) -> None:
    """A host verifies an ordinary signature: what confirms computers by telephone is not installed, and not needed."""
    found = publisher.service("answer", server.asked()["installation_id"]).ok().json
    for name in ("py_ecc", "mnemonic", "segno"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError({name!r})\n")
    server.env["PYTHONPATH"] = str(tmp_path)
    assert server("confirm", *found["words"]).code == "extra_missing"
    assert server("confirm", found["confirmation_id"]).ok().json["expires"] == found["valid_until"]
