"""Random lives of one copy, played with the real client and service, and told beforehand by a small model.

The model knows nothing of certificates, files or signatures: a few numbers and the rules of the documentation
(docs/lifecycle.md). Where it and the client disagree about state, reason, use or dates, one of them is wrong.
"""

from __future__ import annotations

import functools
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from keyturn.client import actions, loading
from keyturn.client.machine import Machine
from keyturn.client.sdk import Client
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.model import DAY, parse_rfc3339
from keyturn.core.terms import Terms
from keyturn.edge import probes
from keyturn.edge.probes import Computer
from keyturn.service.home import rotate
from keyturn.testing import World
from keyturn.testing.computers import synthetic
from keyturn.testing.world import START, Chance

HOUR = 3600
TERMS: dict[str, Any] = {"grace_days": 10, "rearms": 2, "extended_days": 5}
TERM_DAYS = 60
LIFE = 700 * DAY  # The publisher's keys are authorised two years ahead.
# The same computer, the same after a new disk, another one, and one whose hardware nobody can read.
SAME, DISK, OTHER, HIDDEN = "same", "new disk", "other", "hidden"


class Found(NamedTuple):
    """What a look shows: what the model foretells and the client says."""

    state: str
    usable: bool
    reason: str | None
    ends: int | None


@dataclass
class Model:
    """A copy's life in numbers: seconds, the publisher's time and how far this clock is from it."""

    time: int
    dated: bool
    mode: str
    extended: bool
    skew: int = 0
    begun: int | None = None
    high: int = 0
    seen: int = 0
    unsure: bool = False
    made_at: int = 0
    hardware: str = SAME
    bound: str | None = None
    bound_since: int | None = None
    bound_until: int | None = None
    changed_at: int | None = None
    rearms: int = 0
    released: bool = False
    moves: list[int] = field(default_factory=list)

    @property
    def clock(self) -> int:
        return self.time + self.skew

    @property
    def now(self) -> int:
        if self.seen > self.high + DAY and self.clock >= self.seen:
            return self.high + self.clock - self.seen
        return self.clock if self.clock >= self.high else self.high + max(0, self.clock - self.seen)

    def look(self) -> Found:
        """What is shown; what is new is noted."""
        if self.begun is None:
            self.begun = self.high = self.seen = self.clock
            self.unsure = self.clock < self.made_at - DAY
        found = self._shown()
        now = self.now
        if not 0 <= self.clock - self.seen <= HOUR or now - self.high > HOUR:
            self.high, self.seen = now, self.clock
        if self.unsure and now >= self.made_at - DAY:
            self.begun, self.unsure = now, False
        self.changed_at = (self.changed_at or now) if self._strange() else None
        return found

    def _strange(self) -> bool:
        return self.bound is not None and (self.hardware in (OTHER, HIDDEN)) != (self.bound == OTHER) or (
            self.bound == OTHER and self.hardware == HIDDEN
        )

    def _shown(self) -> Found:
        now = self.now
        if self.bound is None:
            start = now if self.unsure and now >= self.made_at - DAY else self.begun
            return self._grace("initial_grace", "released" if self.released else "not_activated", start or 0)
        lost = []
        if self.bound_until is not None and now >= self.bound_until:
            lost.append((self.bound_until, "term_ended"))
        if self._strange():
            why = "hardware_unreadable" if self.hardware == HIDDEN else "hardware_changed"
            lost.append((self.changed_at or now, why))
        if lost:
            start, why = min(lost)
            return self._grace("out_of_tolerance_grace", why, max(start, self.begun or 0) if self.rearms else start)
        behind = self.clock < self.high - DAY
        if behind and self.bound_until is not None:
            return self._grace("out_of_tolerance_grace", "clock_behind", now)
        return Found("licensed", True, "clock_behind" if behind else None, self.bound_until)

    def _grace(self, state: str, why: str, start: int) -> Found:
        until = min(start, self.now) + TERMS["grace_days"] * DAY
        if self.now < until:
            return Found(state, True, why, until)
        more = TERMS["extended_days"] * DAY if self.extended else 0
        if self.now < until + more:
            return Found("extended_grace", True, why, until + more)
        return Found("notification", self.mode != "enforce", why, until)

    def activate(self) -> str:
        """What comes of an activation: ``ok``, ``nothing`` or the code of the refusal."""
        shown = self.look()
        due = self.bound_until is not None and self.now >= self.bound_until - 30 * DAY
        if shown.state == "licensed" and not due:
            return "nothing"
        self.bound, self.released = OTHER if self.hardware == OTHER else SAME, False
        self.bound_since = self.time if self.bound_since is None else self.bound_since
        self.bound_until = self.bound_since + TERM_DAYS * DAY if self.dated else None
        self.high, self.seen, self.changed_at = self.time, self.clock, None
        return "ok"

    def deactivate(self) -> str:
        self.look()
        if self.bound is None:
            return "ok" if self.released else "release_unknown"  # Said twice, it is done once.
        self.bound, self.bound_since, self.bound_until, self.released = None, None, None, True
        return "ok"

    def rearm(self) -> str:
        if self.look().state == "licensed":
            return "usage"
        if self.rearms >= TERMS["rearms"]:
            return "rearm_limit_reached"
        now = self.now
        self.begun = self.high = now
        self.seen, self.changed_at, self.rearms = self.clock, None, self.rearms + 1
        return "ok"

    def forget(self) -> None:
        """The record is deleted, with its mirror: its count of rearms and its dates are gone."""
        self.begun, self.changed_at, self.rearms, self.unsure = None, None, 0, False
        self.high = self.seen = self.clock


class Copy:
    """The real thing: a client of the project with a store on disk, asked through the SDK."""

    def __init__(self, stage: Stage, model: Model, home: Path) -> None:
        self._stage, self._model, self._home = stage, model, home
        self._key: str | None = stage.key(dated=model.dated)
        self._machine_rules = stage.rules(extended=model.extended)

    def _client(self) -> Client:
        """A new process: everything is read anew."""
        model, stage = self._model, self._stage
        machine = Machine(
            {"HOME": str(self._home)}, now=lambda: model.clock, chance=stage.chance,
            read=lambda *_, **__: stage.computers[model.hardware], rules=self._machine_rules,
        )  # fmt: skip
        world = stage.world
        return world.client(home=self._home, machine=machine, product=stage.products[model.mode])

    def look(self) -> Found:
        status = self._client().status()
        details = status.details
        ends = details["valid_until"] if status.state == "licensed" else details["grace_until"]
        if status.state not in ("licensed",) or status.reason is not None:
            assert status.remedy, f"{status.state} ({status.reason}) names nothing to do"
        return Found(status.state, status.usable, status.reason, None if ends is None else parse_rfc3339(ends))

    def activate(self) -> str:
        self._stage.world.clock.time = self._model.time
        client = self._client()
        loaded = client._load()
        if loaded.key is not None and not loading.needs_activation(loaded):
            return "nothing"
        try:
            client.activate(self._key, consent=True)
        except KeyturnError as error:
            return error.code
        return "ok"

    def deactivate(self) -> str:
        self._stage.world.clock.time = self._model.time
        try:
            self._client().deactivate()
        except KeyturnError as error:
            return error.code
        return "ok"

    def rearm(self) -> str:
        client = self._client()
        try:
            client.status()
            outcome = actions.rearm(client._homes().find(client.product), client._machine)
        except KeyturnError as error:
            return error.code
        return outcome.code if isinstance(outcome, Refused) else "ok"

    def forget(self) -> None:
        shelf = self._client()._homes().find(self._client().product)
        for path in shelf._record_paths():
            Path(path).unlink(missing_ok=True)


class Stage:
    """One publisher for many lives."""

    def __init__(self, folder: Path, seed: str) -> None:
        self.folder = folder
        self.world = World(folder / "world")
        self.chance = Chance(seed)
        self.computers = self._computers()
        self.products = {
            mode: self.world.publisher.product(f"life-{mode}", mode=mode, test=False, **TERMS)
            for mode in ("enforce", "warn", "advise")
        }
        self._mode, self.steps = "warn", 0
        publisher = self.world.publisher
        rotate(publisher.folder, publisher.home.chain, START, ahead=99)  # All keys that are authorised.
        publisher.home.load_signers()

    def _computers(self) -> dict[str, Computer]:
        here = synthetic(1)
        recorded = {SAME: here, DISK: here.new_disk(), OTHER: synthetic(2), HIDDEN: here.hidden()}
        return {
            name: probes.read(str(computer.write(self.folder / name.replace(" ", "-"))), facts=True)
            for name, computer in recorded.items()
        }

    def key(self, *, dated: bool) -> str:
        minted = self.world.publisher.mint_all(f"life-{self._mode}", term_days=TERM_DAYS if dated else None)
        return str(minted[0]["key"])

    @functools.cache  # noqa: B019 (a stage lives as long as its campaign)
    def rules(self, *, extended: bool) -> str:
        folder = self.folder / f"rules-{extended}"
        folder.mkdir()
        if extended:
            (folder / "policy.toml").write_text('[policy]\nextended_grace = "use"\n')
        return str(folder)

    def live(self, seed: str, *, model: Callable[..., Model] = Model) -> list[str]:
        """Play one random life; the result is where model and client disagree."""
        chance = random.Random(seed)
        self.world.clock.time = START + chance.randrange(DAY)
        self._mode = chance.choice(("enforce", "warn", "advise"))
        told = model(
            time=self.world.clock.time, dated=chance.random() < 0.5, mode=self._mode, extended=chance.random() < 0.3,
            made_at=START,
        )  # fmt: skip
        home = self.folder / "homes" / seed.replace("/", "-")
        copy = Copy(self, told, home)
        story: list[str] = []
        try:
            for _ in range(chance.randint(4, 12)):
                self.steps += 1
                name = chance.choices(list(_DEEDS), weights=[weight for weight, _ in _DEEDS.values()])[0]
                said = _DEEDS[name][1](told, copy, chance)
                story.append(f"{name}{'' if said is None else f' {said[0]}'}")
                if said is not None and said[0] != said[1]:
                    return [f"{seed}: {'; '.join(story)}: the model says {said[0]!r}, the client {said[1]!r}"]
                foretold, shown = told.look(), copy.look()
                if foretold != shown:
                    return [f"{seed}: {'; '.join(story)}: the model says {foretold}, the client {shown}"]
        finally:
            shutil.rmtree(home, ignore_errors=True)
        return []


Deed = Callable[[Model, Copy, random.Random], "tuple[Any, Any] | None"]


def _wait(told: Model, _copy: Copy, chance: random.Random) -> None:
    told.time = min(told.time + chance.choice((HOUR * 2, DAY, 3 * DAY, 9 * DAY, 10 * DAY, 31 * DAY, 200 * DAY)), START + LIFE)


def _set_clock(told: Model, _copy: Copy, chance: random.Random) -> None:
    told.skew = chance.choice((0, 0, -2 * DAY, -400 * DAY, 2_000 * DAY, 30 * DAY, -HOUR, 1_000 - told.time))


def _change(told: Model, _copy: Copy, chance: random.Random) -> None:
    told.hardware = chance.choice((SAME, SAME, DISK, OTHER, HIDDEN))


def _activate(told: Model, copy: Copy, _chance: random.Random) -> tuple[str, str] | None:
    if told.hardware == HIDDEN:
        return None  # Weak evidence has rules of its own (tests/test_activation.py).
    said = copy.activate()
    if said in ("move_limit_reached", "return_limit_reached"):
        return None  # The service's allowances are its own story; nothing changed here.
    return told.activate(), said


def _deactivate(told: Model, copy: Copy, _chance: random.Random) -> tuple[str, str]:
    said = copy.deactivate()
    return told.deactivate(), said


def _rearm(told: Model, copy: Copy, _chance: random.Random) -> tuple[str, str]:
    said = copy.rearm()
    return told.rearm(), said


def _forget(told: Model, copy: Copy, _chance: random.Random) -> None:
    copy.forget()
    told.forget()


_DEEDS: dict[str, tuple[int, Deed]] = {
    "wait": (8, _wait), "set the clock": (3, _set_clock), "change hardware": (3, _change), "activate": (4, _activate),
    "deactivate": (1, _deactivate), "rearm": (2, _rearm), "delete the record": (1, _forget),
}  # fmt: skip


assert set(TERMS) <= set(Terms()._asdict())
