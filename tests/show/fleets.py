"""The fleet manager: many agents through one connection or a file, re-imaging, limits, kills, silent years."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fleets import Site
from keyturn.client.reminding import Shown, look
from keyturn.core import jws
from keyturn.core.model import DAY
from keyturn.edge.voice import Call
from keyturn.testing import World
from keyturn.testing.computers import synthetic
from programs import PATIENCE, Home, Publisher, Result, environment, free_port, run
from rooms import Capture, Room
from show.landscape import Landscape
from show.stage import Stage, item

AGENTS = 50
YEARS = 5
LISTED = {"id", "name", "products", "last_seen", "last_action"}
CANARIES = ("canary-pc", "canary-user", "canary-group", "10.77.0.")


class Centre:
    """A fleet manager in a room that reaches its computers, and, on its own loopback alone, the publisher's service."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.landscape = stage, Landscape(stage)
        self.room: Room = self.landscape.machine("centre", 1)
        self.landscape.machine("clients", 100)
        self.publisher = Publisher(stage.place("publisher"), keyturn=self.room.keyturn)
        self.publisher.service("org", "create", "globex").ok()
        self.product = self.publisher.product("paintbox", "--test")
        self.folder, self.port = stage.place("fleet"), free_port()
        self.process: subprocess.Popen[str] | None = None
        self("init", str(self.product), "--url", f"https://10.77.0.1:{self.port}").ok()
        for name, value in (("check_in", "10"), ("again", "5"), ("gather", "2")):
            self("config", "set", name, value).ok()

    def __call__(self, *arguments: str, input: str | None = None, patience: float = PATIENCE) -> Result:  # noqa: A002
        return run(
            ["fleet", "--home", str(self.folder / "home"), "--json", "--yes", *arguments], cwd=self.folder, input=input,
            keyturn=self.room.keyturn, patience=patience,
        )  # fmt: skip

    def start(self) -> None:
        """Run it and wait until it says that it is ready."""
        command = [str(self.room.keyturn), "fleet", "run", "--home", str(self.folder / "home"), "--json",
                   "--listen", f"10.77.0.1:{self.port}", "--allow-root"]  # fmt: skip
        with (self.folder / "fleet.log").open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment(self.folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        there, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if there else ""
        assert line.startswith('{"event"'), line + self.process.stdout.read() + (self.folder / "fleet.log").read_text()[-1500:]
        self.pid = int(json.loads(line)["pid"])

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            os.kill(self.pid, number)
            self.process.wait(PATIENCE)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def key(self, limit: int) -> tuple[str, int]:
        """A MAK that the manager keeps: its last five characters and its serial."""
        (key,) = self.publisher.mint("paintbox", "--channel", "mak", "--org", "globex", "--limit", str(limit))
        self("key", "add", "-", input=f"{key['key']}\n").ok()
        return str(key["key"])[-5:], int(key["serial"])

    def computers(self, count: int, first: int = 0) -> list[Home]:
        """So many computers that enrolled, in the room of the clients."""
        token = self.folder / "token"
        token.write_text(str(self("token", "create", "--group", "canary-group").ok().json["token"]))
        room = self.landscape.rooms["clients"]
        made = [
            Home(
                self.stage.place("pc") / "home",
                sysroot=self.stage.pc(synthetic(9_000 + first + n)),
                keyturn=room.keyturn,
            )
            for n in range(count)
        ]
        names = [f"canary-pc-{first + n}" for n in range(count)]

        def joined(pair: tuple[Home, str]) -> None:
            pair[0]("agent", "enroll", "--token-file", str(token), "--name", pair[1]).ok()
            pair[0]("agent", "check-in").ok()

        at_once(joined, list(zip(made, names, strict=True)))
        return made

    def outcomes(self, task: str) -> Counter[tuple[str, str | None]]:
        found = self("task", "show", task).ok().json
        return Counter((one["outcome"], one["code"]) for one in found["computers"])

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        self.publisher.close()
        self.landscape.close()


@contextlib.contextmanager
def centre(stage: Stage) -> Iterator[Centre]:
    made = Centre(stage)
    try:
        yield made
    finally:
        made.close()


def at_once(do: Any, on: Sequence[Any], width: int = 4) -> list[Any]:
    with ThreadPoolExecutor(width) as pool:
        return list(pool.map(do, on))


def checked_in(computers: Sequence[Home]) -> None:
    """Each computer checks in once; whoever finds the manager away comes again."""
    at_once(lambda one: one("agent", "check-in"), computers)


@contextlib.contextmanager
def agents(computers: Sequence[Home]) -> Iterator[None]:
    """Real agents, one for each computer, until the block ends."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for one in computers:
            command = [str(one.keyturn), "agent", "run", "--home", str(one.path)]
            running.append(subprocess.Popen(
                command, env=environment(one.path.parent, one.env), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, cwd=one.path.parent,
            ))  # fmt: skip
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(PATIENCE)


def connections(packets: Sequence[bytes], port: int) -> int:
    """How many TCP connections to ``port`` were begun, by their first packets (RFC 9293: SYN without ACK)."""
    begun = set()
    for packet in packets:
        if packet[12:14] != b"\x08\x00" or packet[23] != 6:
            continue
        tcp = packet[14 + (packet[14] & 15) * 4 :]
        if int.from_bytes(tcp[2:4], "big") == port and tcp[13] & 0x12 == 0x02:
            begun.add((packet[26:30], tcp[:2], tcp[4:8]))
    return len(begun)


@item(f"{AGENTS} real agents without a route to the service: the manager activates all, over one connection")
def by_proxy(stage: Stage) -> str:
    with centre(stage) as made, made.publisher.running():
        made.start()
        computers = made.computers(AGENTS)
        room = made.landscape.rooms["clients"]
        outside = room.sh("ip route; ip -6 route | grep -v fe80 || true")
        assert "default" not in outside, outside
        reached = subprocess.run(
            [*room._enter, "sh", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{made.publisher.port}"],
            capture_output=True,
            check=False,
        )
        assert reached.returncode != 0, "a computer reaches the service"
        key, serial = made.key(AGENTS)
        began = time.monotonic()
        with Capture(made.room) as capture, agents(computers):
            done = made("activate", "--all", "--key", key, "--wait", patience=300).ok().json
        took = time.monotonic() - began
        assert done["task"]["done"] == AGENTS, done["task"]
        assert made.publisher.seats(serial) == AGENTS
        states = at_once(lambda one: one.status(), computers)
        assert {(one["state"], one["via"]) for one in states} == {("licensed", "fleet")}
        seen = connections(capture.packets, made.publisher.port)
        probes = connections(capture.packets, made.publisher.probe_port)
        assert seen == 1, f"the service saw {seen} connections"
        return f"{AGENTS} licensed in {took:.0f} s; the service saw {seen} HTTPS connection and {probes} probe"


@item(f"The same {AGENTS} with no connection at all, by file; nothing of the site is in it")
def by_file(stage: Stage) -> str:
    with centre(stage) as made:
        made.start()
        computers = made.computers(AGENTS, 100)
        key, serial = made.key(AGENTS)
        task = made("activate", "--group", "canary-group", "--key", key, "--via", "file").ok().json["task"]
        checked_in(computers)
        carried = made.folder / "lab.ktx"
        assert made("export", "request", "-o", str(carried)).ok().json["requests"] == AGENTS
        leaked = leaks(carried)
        assert not leaked, leaked
        with Capture(made.room) as capture:
            assert made("inspect", str(carried)).ok().json["open"] == AGENTS
        assert connections(capture.packets, made.publisher.port) == 0
        with made.publisher.running():
            answered = run(["--json", "relay", str(carried)], cwd=made.folder, keyturn=made.room.keyturn).ok().json
        assert answered["answered"] == AGENTS, answered
        taken = made("import", str(carried)).ok().json
        again = made("import", str(carried)).ok().json
        assert taken["answered"] == AGENTS and not taken["before"] and again["before"] and again["late"] == AGENTS
        checked_in(computers)
        assert made.outcomes(task) == {("done", None): AGENTS}, made.outcomes(task)
        assert {one["state"] for one in at_once(lambda one: one.status(), computers)} == {"licensed"}
        assert made.publisher.seats(serial) == AGENTS
        size = carried.stat().st_size
        told = f"the file has {size // 1024} KiB, {len(CANARIES)} canaries, 0 found; a second import changes nothing"
        return f"{AGENTS} licensed; {told}"


def leaks(path: Path) -> list[str]:
    """The canaries, and the members that nobody declared, in a file and in every document inside."""
    value = json.loads(path.read_bytes())
    documents = [*(one["document"] for one in value["items"]), value["manifest"]]
    text = path.read_text() + "".join(jws.payload_of(token).decode() for token in documents)
    undeclared = set(value) - {"keyturn", "v", "bundles", "product", "items", "manifest"}
    return [canary for canary in CANARIES if canary in text] + sorted(undeclared)


@item("Re-image one computer (new store, same hardware, new name): licensed with the service down, the count unchanged")
def reimaged(stage: Stage) -> str:
    with centre(stage) as made:
        made.start()
        key, serial = made.key(3)
        with made.publisher.running():
            (old,) = made.computers(1, 200)
            task = made("activate", "--computer", "canary-pc-200", "--key", key).ok().json["task"]
            for _ in range(20):
                checked_in([old])
                if made.outcomes(task) == {("done", None): 1}:
                    break
            assert old.status()["state"] == "licensed"
        before = made.publisher.seats(serial)
        token = str(made.folder / "token")
        new = Home(stage.place("pc") / "home", sysroot=Path(old.env["KEYTURN_SYSROOT"]), keyturn=old.keyturn)
        other = Home(stage.place("pc") / "home", sysroot=stage.pc(synthetic(9_999)), keyturn=old.keyturn)
        for one, name in ((new, "set-up-anew"), (other, "somebody-else")):
            one("agent", "enroll", "--token-file", token, "--name", name).ok()
            made("rebind", "--computer", name, "--key", key).ok()
            for _ in range(2):
                one("agent", "check-in").ok()
        states = [one.status() for one in (new, other)]
        assert [one["state"] for one in states] == ["licensed", "initial_grace"], states
        # The other computer's owner puts the licensed store's files into its own.
        (other.shelf / "license.json").write_bytes((new.shelf / "license.json").read_bytes())
        stolen = other.status()
        assert stolen["state"] != "licensed", stolen
        assert made.publisher.seats(serial) == before == 1
        audit = made("show", "somebody-else").ok().json["last_action"]
        assert audit["code"] == "rebind_unknown", audit
        elsewhere = f"on other hardware {audit['code']}, copied files: {stolen['reason']}"
        return f"licensed again as set-up-anew, {before} seat before and after; {elsewhere}"


@item(
    "A MAK with 40 left for 50 computers: 40 licensed, 10 with the limit's code; kill -9 of the manager at any step, same end"
)
def limit_and_kills(stage: Stage) -> str:
    chance = random.Random(7)
    with centre(stage) as made, made.publisher.running():
        made.start()
        computers = made.computers(AGENTS, 300)
        key, serial = made.key(40)
        task = made("activate", "--all", "--key", key).ok().json["task"]
        kills = 0
        with agents(computers):
            for _ in range(60):
                # A moment that nobody chose: the kill is the thing that is tested.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    assert made.process is not None
                    made.process.wait(chance.uniform(0.3, 4.0))
                made.stop(signal.SIGKILL)
                kills += 1
                made.start()
                found = made("task", "show", task).ok().json["task"]
                if not found["open"]:
                    break
            else:
                found = made("task", "show", task, "--wait", patience=300).ok().json["task"]
        outcomes = made.outcomes(task)
        assert outcomes == {("done", None): 40, ("failed", "limit_reached"): 10}, outcomes
        remedies = {one["remedy"] for one in made("task", "show", task).json["computers"] if one["code"]}
        assert remedies and all(remedies)
        assert made.publisher.seats(serial) == 40
        states = Counter(one["state"] for one in at_once(lambda one: one.status(), computers))
        assert states == {"licensed": 40, "initial_grace": 10}, states
        return f"{kills} kills: 40 licensed, 10 limit_reached, 40 seats taken, none half done"


@item(f"MAK-activated, then {YEARS} silent virtual years: licensed on every day, no reminder")
def silent_years(stage: Stage) -> str:
    world = World(stage.place("years") / "world", features=["layers"])
    with contextlib.closing(world), Site(world, stage.place("years-fleet")).running() as site:
        computer = site.join("pc")
        site.order("activate", key=site.key(limit=1))
        site.work([computer])
        call = Call(computer.machine.environ)
        call.home = computer.vault.home
        days, reminders = 0, 0
        for _ in range(YEARS * 365):
            world.clock.advance(seconds=DAY)
            loaded = computer.loaded()
            assert loaded.standing.state.word == "licensed", (days, loaded.standing)
            reminders += sum(notice.due.now for notice in look(call, Shown(call.environ), machine=computer.machine))
            days += 1
        assert reminders == 0
        return f"{days} days, licensed on each, {reminders} reminders, nobody contacted"


@item("`fleet list --json` has the members that are promised")
def listed(stage: Stage) -> str:
    with centre(stage) as made:
        made.start()
        made.computers(2, 400)
        found = made("list").ok().json["computers"]
        assert len(found) == 2 and all(set(one) >= LISTED for one in found), found
        made("refresh", "--all").ok()
        action = made("list").ok().json["computers"][0]["last_action"]
        assert set(action) == {"action", "outcome", "code"}, action
        return f"{sorted(LISTED)}; last_action {action}"
