"""Whether the time of a "no" tells an unknown key from one that exists: Welch's t-test over interleaved calls of ``prove``."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keyturn.core import productkey
from keyturn.core.errors import Refused
from keyturn.edge.web import problem
from keyturn.service import catalog
from keyturn.testing import Publisher, World
from solid.asking import Asker
from solid.storm import Outcome

BOUND = 4.5


def welch(a: Sequence[float], b: Sequence[float]) -> float:
    """The t of two samples of unequal variance."""
    spread = statistics.variance(a) / len(a) + statistics.variance(b) / len(b)
    return (statistics.fmean(a) - statistics.fmean(b)) / math.sqrt(spread)


def cropped(samples: Sequence[list[float]], share: float = 0.9) -> list[list[float]]:
    """Without what an interruption made slow: above the ``share`` quantile of all of them together."""
    bound = sorted(value for sample in samples for value in sample)[int(share * sum(map(len, samples))) - 1]
    return [[value for value in sample if value <= bound] for sample in samples]


def run(folder: Path, seed: str, calls: int = 16_000) -> Outcome:
    """Unknown, blocked and foreign keys, and a proof that does not hold: equal bytes, and equal time.

    ``calls`` of each kind, in random order; if the time differs, once more with four times as many. In a quiet minute so many
    find 0.4 µs of 150, as much as it takes to read a row or not (`seats.look_up`); a machine that is busy hides it.
    """
    chance = random.Random(seed)
    world = World(folder / "world")
    try:
        publisher = world.publisher
        # Requests of one shape: what a sender writes himself takes its own time, and tells him nothing.
        publisher.product("second")
        good, blocked, foreign = (_key(publisher, slug) for slug in ("sample", "sample", "second"))
        ids, now = publisher.service.ids, world.clock()
        publisher.database.write_now(lambda db: catalog.set_key(db, blocked["serial"], {"blocked": True}, ids, now))
        unknown = productkey.make(productkey.parse(good["key"]).channel, 268_000_001, chance.randbytes(10))
        askers = {
            "unknown": (Asker(world.product, unknown.text, chance), {"key_proof": "A" * 43}),
            "unproven": (Asker(world.product, good["key"], chance), {"key_proof": "A" * 43}),
            "blocked": (Asker(world.product, blocked["key"], chance), {"key_proof": "A" * 43}),
            "foreign": (Asker(world.product, foreign["key"], chance), {"key_proof": "A" * 43}),
        }  # fmt: skip
        problems, answers = [], {}
        for name, (asker, changes) in askers.items():
            asked = asker.request(**changes)
            refused = publisher.service.prove(asked.token)
            assert isinstance(refused, Refused), f"{name} was accepted"
            response = problem(refused, reference=lambda: "KT-0000-0000")
            answers[name] = (
                bytes(response.body).replace(asked.request.product_id.encode(), b"ID"),
                response.status_code,
            )
        if len(set(answers.values())) != 1:
            problems.append(f"the answers differ: {answers}")
        ts = {"": BOUND + 1.0}
        for size in (calls, 4 * calls):
            times = _times(world, askers, size, chance)
            ts = {name: welch(times[name], times["unknown"]) for name in askers if name != "unknown"}
            if max(map(abs, ts.values())) < BOUND:
                break
        worst = max(ts, key=lambda name: abs(ts[name]))
        if abs(ts[worst]) >= BOUND:
            problems.append(f"the time tells {worst} from unknown keys: t = {ts[worst]:.1f}")
    finally:
        world.close()
    return Outcome({"calls_of_each_of_4_kinds": size, "is_the_greatest_|t|": round(abs(ts[worst]), 2)}, problems)


def _key(publisher: Publisher, slug: str) -> dict[str, Any]:
    """A key whose serial has nine digits, as the unknown one: a shorter request is a shorter time."""
    return next(key for key in publisher.mint_all(slug, channel="mak", limit=10, count=32) if key["serial"] >= 10**8)


def _times(
    world: World, askers: dict[str, tuple[Asker, dict[str, str]]], size: int, chance: random.Random
) -> dict[str, list[float]]:
    prove, clock = world.publisher.service.prove, time.perf_counter
    names = [name for name in askers for _ in range(size)]
    chance.shuffle(names)
    # Made in the order in which they are sent: a kind that has its own region of memory has its own time to be read.
    calls = [(name, askers[name][0].request(**askers[name][1]).token) for name in names]
    found: dict[str, list[float]] = {name: [] for name in askers}
    gc.disable()
    try:
        for name, token in calls:
            began = clock()
            prove(token)
            found[name].append(clock() - began)
    finally:
        gc.enable()
    return dict(zip(found, cropped(list(found.values())), strict=True))
