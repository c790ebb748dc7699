"""The license lifecycle on the computer: a virtual year, the seven states, faults and their recovery, random lives."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lifecycles
from keyturn.core.model import DAY
from keyturn.testing.computers import synthetic
from programs import Home, Publisher, Result, run
from rooms import Capture, Room
from show.stage import Stage, item
from solid.year import HOUR, Told, Year, lines

LIVES = 10_000


def reminders(told: list[Told], state: str) -> list[int]:
    """When there were reminders while a copy was in ``state``."""
    return [entry.time for entry in told if entry.what == "reminder" and entry.state == state]


def foretold(begin: int, grace: int) -> list[int]:
    """The reminders of a grace as promised: daily, every 4 hours in the last 3 days, hourly on the last."""
    end = begin + grace * DAY
    daily = range(begin, end - 3 * DAY + 1, DAY)
    often = range(end - 3 * DAY + 4 * HOUR, end - DAY + 1, 4 * HOUR)
    hourly = range(end - DAY + HOUR, end, HOUR)
    return [*daily, *often, *hourly]


@item("A virtual year of one computer: its timeline with the exact reminders, for 30 days of grace and for 10")
def virtual_year(stage: Stage) -> str:
    figures = []
    for grace in (30, 10):
        year = Year(stage.place("year"), grace=grace)
        told = year.play()
        year.world.close()
        print("\n".join(f"        {line}" for line in lines(told)))
        wanted = foretold(year.begin, grace)
        assert reminders(told, "initial_grace") == wanted, "other reminders than foretold"
        states = [entry.state.partition(" ")[0] for entry in told if entry.what != "reminder"]
        assert states[:8] == [
            "initial_grace", "notification", "licensed", "out_of_tolerance_grace", "licensed", "out_of_tolerance_grace",
            "licensed", "out_of_tolerance_grace",
        ], states  # fmt: skip
        figures.append(f"--grace {grace}: {len(wanted)} reminders in the grace, each at its time; {len(told)} entries in all")
    return "; ".join(figures)


@item("Policy online = never: no packet leaves, the line is named, exit 5; without the line packets are seen")
def no_packet_leaves(stage: Stage) -> str:
    with Room(stage.place("room"), network=True) as room:
        seen: dict[str, int] = {}
        never = 'online = "never"'
        for rule in ("", never):
            home = Home(stage.place("silent") / "home", sysroot=stage.pc(synthetic(300)), keyturn=room.keyturn)
            home.path.mkdir(parents=True)
            (home.path / "policy.toml").write_text(f"[policy]\n{rule}\n")
            with Capture(room) as capture:
                done = home.activate(stage.test, stage.key()["key"])
                doctor = home("doctor")
                home("status").ok()
            seen[rule] = len(capture.spoken)
            if rule:
                line = f"{home.path}/policy.toml:2: {rule}"
                assert (done.exit, done.code) == (5, "policy_forbids"), done
                assert line in done.json["error"]["detail"], done.json
                assert any(line in check["found"] for check in doctor.json["checks"]), doctor.json
            else:
                assert done.exit == 3, done
    assert seen[""] > 0, "the capture sees nothing at all"
    assert seen[never] == 0, f"{seen[never]} packets"
    return f"packets without the line: {seen['']}, with it: 0; exit 5, policy_forbids, file and line named by activate and doctor"


@item("status in each of the seven states, for people in 80 columns and as JSON")
def seven_states(stage: Stage) -> str:
    found: dict[int, tuple[str, str]] = {}
    for code, reach in _REACHED.items():
        home, env = reach(stage)
        entry = home("status", env=env).ok().product
        said = run(["--home", str(home.path), "status"], cwd=home.path.parent, env={**home.env, **env}, keyturn=home.keyturn)
        text = said.ok().out
        assert entry["state_code"] == code, (code, entry)
        assert max(map(len, text.splitlines())) <= 80, text
        assert code == 1 or entry["remedy"], entry
        found[code] = entry["state"], text
        print("\n".join(f"        {line}" for line in text.splitlines()))
    return ", ".join(f"{code} {state}" for code, (state, _) in sorted(found.items()))


def _later(days: float) -> dict[str, str]:
    return {"KEYTURN_NOW": f"+{int(days * DAY)}"}


def _added(stage: Stage, product: Path | None = None) -> Home:
    home = stage.home(stage.pc(synthetic(310)))
    home("product", "add", str(product or stage.test)).ok()
    return home


def _unlicensed(stage: Stage) -> tuple[Home, dict[str, str]]:
    home = _added(stage)
    (home.shelf / "product.json").write_text("{}")
    return home, {}


def _licensed(stage: Stage) -> tuple[Home, dict[str, str]]:
    home = _added(stage)
    home.activate(stage.test, stage.key()["key"]).ok()
    return home, {}


def _moved(stage: Stage) -> tuple[Home, dict[str, str]]:
    home, _ = _licensed(stage)
    home.env["KEYTURN_SYSROOT"] = str(stage.pc(synthetic(311)))
    return home, {}


def _withdrawn(stage: Stage) -> tuple[Home, dict[str, str]]:
    home = _added(stage)
    key = stage.key()
    home.activate(stage.test, key["key"]).ok()
    stage.publisher.service("key", "block", str(key["serial"]), "--withdraw", "--yes").ok()
    assert home("validate").exit == 1
    return home, {}


def _extended(stage: Stage) -> tuple[Home, dict[str, str]]:
    stage.publisher.service("product", "set", "paintest", "--extended", "10").ok()
    home = _added(stage, stage.publisher.export("paintest"))
    stage.publisher.service("product", "set", "paintest", "--extended", "0").ok()
    # Only the system's own policy may ask for more; a home's restricts.
    rules = stage.place("rules")
    (rules / "policy.toml").write_text('[policy]\nextended_grace = "use"\n')
    room = Room(stage.place("room"))
    stage.closing.callback(room.__exit__, None, None, None)
    room.sh(f"mkdir -p {rules}/etc && cp -a /etc/. {rules}/etc/ && mkdir -p {rules}/etc/keyturn && cp {rules}/policy.toml"
            f" {rules}/etc/keyturn/ && mount --bind {rules}/etc /etc")  # fmt: skip
    home.keyturn = room.keyturn
    return home, _later(31)


_REACHED: dict[int, Callable[[Stage], tuple[Home, dict[str, str]]]] = {
    0: _unlicensed, 1: _licensed, 2: lambda stage: (_added(stage), {}), 3: _moved, 4: _withdrawn,
    5: lambda stage: (_added(stage), _later(31)), 6: _extended,
}  # fmt: skip


class Faulty:
    """A publisher with a name of its own, and a client in a room where its hosts file, disk and clock can be made wrong."""

    NAME = "activation.keyturn.test"

    def __init__(self, stage: Stage) -> None:
        self.folder = stage.place("faulty")
        self.publisher = Publisher(self.folder / "publisher", "Faulty Ink", host=self.NAME)
        self.product = self.publisher.product("paintest", "--test")
        (key,) = self.publisher.mint("paintest", "--term", "100")
        self.key = str(key["key"])
        self.room = Room(self.folder / "room")
        self.hosts = self.folder / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n")
        self.room.sh(f"mount --bind {self.hosts} /etc/hosts")
        self.disk = self.folder / "disk"
        self.room.disk(self.disk, 2048)
        self.home = Home(self.disk / "client" / "home", sysroot=stage.pc(synthetic(320)), keyturn=self.room.keyturn)
        self.home.path.parent.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        self.room.__exit__(None, None, None)
        self.publisher.close()

    def named(self, there: bool) -> None:
        self.hosts.write_text(f"127.0.0.1 localhost\n{f'127.0.0.1 {self.NAME}' if there else ''}\n")


def _sentence(done: Result) -> str:
    sentence = done.json["sentence"]
    assert isinstance(sentence, str)
    return sentence


@item("Service dead, DNS dead, clock wrong, disk full, store read-only: a state, one sentence, nothing lost, recovery by itself")
def faults_and_recovery(stage: Stage) -> str:
    made = Faulty(stage)
    try:
        return "; ".join(_walk(made))
    finally:
        made.close()


def _walk(made: Faulty) -> list[str]:
    home, told = made.home, []
    home("product", "add", str(made.product)).ok()

    def look(name: str, attempt: Result, *, code: str, hop: str, event: str, step: str | None = None) -> None:
        """The command's end, the event log alone, and doctor: each names the cause."""
        assert attempt.code == code, (name, attempt)
        entry = newest(home, event)
        assert (entry["code"], entry["return_code"]) == (code, attempt.exit), (name, entry)
        assert step is None or entry["data"]["step"] == step, entry
        sentence = _sentence(home("doctor"))
        assert sentence.startswith(f"{hop}:"), (name, sentence)
        assert home("status").ok().product["state"] == "initial_grace"
        told.append(f"{name}: {sentence}")

    # DNS dead, then there; the service dead, then there.
    attempt = home.activate(made.product, made.key)
    request = pending(made)
    look("DNS dead", attempt, code="service_unreachable", hop="Name", event="request_failed", step="name")
    made.named(True)
    attempt = home("activate", "--yes")
    assert pending(made) == request, "another request was made"
    look("service dead", attempt, code="service_unreachable", hop="Connection", event="request_failed", step="connect")
    # The disk is full: the request cannot be kept, so nothing is sent.
    made.publisher.start()
    made.room.sh(f"rm {home_of(made)}/pending.json; dd if=/dev/zero of={made.disk}/full bs=1k 2>/dev/null || true")
    attempt = home("activate", "--yes")
    assert (attempt.exit, attempt.code) == (6, "storage_failed"), attempt
    assert newest(home, "store_unwritable")["code"] == "storage_failed"
    told.append(f"disk full: {attempt.json['error']['detail']}")
    sentence = _sentence(home("doctor"))
    assert sentence.startswith("Store:"), sentence
    made.room.sh(f"rm {made.disk}/full")
    # The store is read-only.
    made.room.sh(f"mount -o remount,ro {made.disk}")
    attempt = home("activate", "--yes")
    assert attempt.exit in (5, 6), attempt
    assert newest(home, "store_unwritable")["code"] == attempt.code
    sentence = _sentence(home("doctor"))
    assert sentence.startswith("Store:"), sentence
    told.append(f"read-only: {sentence}")
    made.room.sh(f"mount -o remount,rw {made.disk}")
    # All is well again: the same command, nothing else.
    done = home("activate", "--yes").ok()
    assert done.product["state"] == "licensed"
    assert made.publisher.seats(int(done.product["product_id"].rpartition("-")[2])) == 1
    # The clock is wrong, and right again.
    wrong = {"KEYTURN_NOW": f"-{400 * DAY}"}
    entry = home("status", env=wrong).ok().product
    assert (entry["state"], entry["reason"], entry["usable"]) == ("out_of_tolerance_grace", "clock_behind", True), entry
    sentence = _sentence(home("doctor", env=wrong))
    assert sentence.startswith("Clock:"), sentence
    made.publisher.stop()
    home("agent", "run", "--once", env=wrong).ok()  # It looks daily, and tells the log; nobody answers it.
    assert newest(home, "clock_behind")["remedy"].startswith("Set this computer's clock")
    told.append(f"clock wrong: {sentence}")
    assert home.status()["state"] == "licensed"  # Without the service, and with the clock right again.
    return told


def newest(home: Home, name: str) -> dict[str, Any]:
    """The newest event of this name; it says what to do."""
    (entry,) = [e for e in home("events").ok().json["events"] if e["name"] == name][-1:]
    assert entry["remedy"], entry
    assert isinstance(entry, dict)
    return entry


def home_of(made: Faulty) -> Path:
    """The product's folder; it is there in the room only."""
    (name,) = made.room.sh(f"ls {made.home.path}/products").split()
    return made.home.path / "products" / name


def pending(made: Faulty) -> str:
    """The request that waits for its answer."""
    return str(json.loads(made.room.sh(f"cat {home_of(made)}/pending.json"))["request"])


@item("10,000 random lives against a small reference model: no disagreement")
def random_lives(stage: Stage) -> str:
    seed = datetime.now(UTC).strftime("%Y%m%d")
    steps, problems = lifecycles.campaign(LIVES, seed)
    assert not problems, problems[:3]
    return f"{LIVES} lives, {steps} steps, 0 disagreements (seed {seed})"

