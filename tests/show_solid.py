"""Walk the list "solid" against the real programs: ``make show-solid``.

A line per item: ``ok`` or ``FAIL``, the item, its figure. Exits 1 on any FAIL. Counts are options, so that the whole list
fits into some minutes here and the long campaigns (``make chaos``, ``faults``, ``forge``, ``hostile``) go further.

    python tests/show_solid.py [--only WORD] [--seed SEED] [--cycles 200] [--faults 200] [--step 25] [--forgeries 1000000]
"""

from __future__ import annotations

import argparse
import secrets
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import faults
import forge
from keyturn.testing import World
from programs import files_below
from solid import canary, generated, hostile, ledger, storm, timing
from solid.storm import Outcome


class Options(NamedTuple):
    """How much of everything."""

    seed: str
    cycles: int
    faults: int
    step: int
    forgeries: int


Item = Callable[[Path, Options], Outcome]


def last_seats(folder: Path, options: Options) -> Outcome:
    return storm.last_seats(folder, seed=options.seed)


def planted(folder: Path, options: Options) -> Outcome:
    """The check of the item before, against services with a bug: it must fail."""
    figures, problems = {}, []
    for bug in ("no-guard", "early-answer"):
        found = storm.last_seats(
            folder / bug, seed=options.seed, limit=10, computers=40, processes=2, kills=5, bug=bug
        ).problems
        figures[f"disagreements_with_{bug}"] = len(found)
        if not found:
            problems.append(f"the check passes a service with {bug}")
    return Outcome(figures, problems)


def cycles(folder: Path, options: Options) -> Outcome:
    return storm.kill_cycles(folder, seed=options.seed, cycles=options.cycles)


def failing_calls(folder: Path, options: Options) -> Outcome:
    numbers = list(range(1, options.faults + 1, options.step))
    total, problems = faults.sweep(folder, options.seed, numbers)
    return Outcome({name.replace(" ", "_"): count for name, count in total.items()}, problems)


def forgeries(folder: Path, options: Options) -> Outcome:
    refused, problems = forge.spread(folder, options.seed, options.forgeries, 2)
    figures = {f"refused_as_{name.replace(' ', '_')}": count for name, count in refused.items()}
    return Outcome({"in_all": refused.total(), "accepted": len(problems), **figures}, problems)


def canaries(folder: Path, _options: Options) -> Outcome:
    return canary.run(folder)


def no_pepper(folder: Path, _options: Options) -> Outcome:
    """A stolen database or backup without the pepper: nothing in it opens, and no key's text and no secret is in it."""
    from keyturn.service import backup
    from keyturn.service.sealing import Sealer

    world = World(folder / "world")
    try:
        keys = world.publisher.mint_all(count=100)
        sealed = world.publisher.database.read(
            lambda db: db.execute("SELECT serial, sealed FROM product_key").fetchall()
        )
        stored = b"".join(data for name, data in files_below(world.publisher.folder).items() if "service.db" in name)
        apart = backup.secrets_of(world.publisher.folder)
        backup.back_up(world.publisher.home, folder / "b.ktbackup", now=world.clock())
        taken = (folder / "b.ktbackup").read_bytes()
    finally:
        world.close()
    problems = [f"key {key['serial']} is readable" for key in keys if key["key"].encode() in stored + taken]
    problems += [f"{name} is in a backup" for name, data in apart.items() if data in taken]
    problems += [f"the backup lacks key {row['serial']}" for row in sealed if row["sealed"] not in taken]
    opened = 0
    for row in sealed:
        for guess in (b"", bytes(32), secrets.token_bytes(32)):
            try:
                Sealer(guess).open(row["sealed"], row["serial"])
            except Exception:  # noqa: BLE001 (whatever stops the thief)
                continue
            opened += 1
    figures = {
        "keys": len(sealed),
        "opened": opened,
        "secrets_in_a_backup": sum(data in taken for data in apart.values()),
    }
    return Outcome(figures, problems + (["a sealed key opened"] if opened else []))


def hostility(folder: Path, options: Options) -> Outcome:
    return hostile.run(folder, options.seed)


def strangers_client(folder: Path, _options: Options) -> Outcome:
    return generated.run(folder)


def equal_answers(folder: Path, options: Options) -> Outcome:
    return timing.run(folder, options.seed)


ITEMS: dict[str, Item] = {
    "50 seats, 400 computers in 8 processes, killed ten times: exact, nothing lost, nothing open": last_seats,
    "Without the guard, and with the answer before the commit, that check fails": planted,
    "kill -9 again and again under load: nothing acknowledged is lost": cycles,
    "EIO and ENOSPC at the service's writes and fsyncs, then power loss: no false acknowledgement": failing_calls,
    "Forged answers against the client's verifier: none accepted": forgeries,
    "No canary on the wire, in the database, the logs, a copy or a crash report": canaries,
    "A database or a backup without the pepper yields no usable key": no_pepper,
    "Hostile HTTP: 4xx or closed within 100 ms, no 5xx, memory bounded, honest clients served": hostility,
    "Unknown, blocked and foreign keys: equal answers in equal time": equal_answers,
    "A client generated from the OpenAPI document activates with at most 20 lines of signing": strangers_client,
}


def shown(title: str, item: Item, options: Options, trace: bool) -> bool:
    """Show one item and print its line."""
    began = time.monotonic()
    try:
        with ledger.scratch() as folder:
            outcome = item(folder, options)
        figure, failed = outcome.text, outcome.problems
    except Exception as error:  # noqa: BLE001 (whatever goes wrong in an item is that item's FAIL)
        figure, failed = f"{type(error).__name__}: {error}", ["-"]
        if trace:
            traceback.print_exc()
    print(f"{'FAIL' if failed else 'ok':<5} {title}  [{time.monotonic() - began:.1f} s]")
    for text in [figure, *failed[:10]]:
        print(textwrap.indent("\n".join(textwrap.wrap(text, 110, break_on_hyphens=False)), " " * 8), flush=True)
    return not failed


def main() -> int:
    parser = argparse.ArgumentParser(description="Walk the list against the real programs.")
    parser.add_argument("--only", default="", metavar="WORD", help="only items whose title holds WORD")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="repeat a run (default: a new one)")
    parser.add_argument("--cycles", type=int, default=200, help="cycles of kill -9 (default: 200)")
    parser.add_argument("--faults", type=int, default=200, help="the first so many writes and fsyncs (default: 200)")
    parser.add_argument("--step", type=int, default=25, help="every how many-th of them fails (default: 25; all: 1)")
    parser.add_argument("--forgeries", type=int, default=1_000_000, help="forged answers (default: 1000000)")
    parser.add_argument("--traceback", action="store_true", help="show where an item failed")
    given = parser.parse_args()
    options = Options(given.seed, given.cycles, given.faults, given.step, given.forgeries)
    chosen = {title: item for title, item in ITEMS.items() if given.only.lower() in title.lower()}
    print(f"seed {options.seed}, commit {ledger.commit()}", flush=True)
    began = time.monotonic()
    ok = [shown(title, item, options, given.traceback) for title, item in chosen.items()]
    print(f"\n{sum(ok)} of {len(ok)} shown in {time.monotonic() - began:.0f} s")
    return 0 if ok and all(ok) else 1


if __name__ == "__main__":
    sys.exit(main())
