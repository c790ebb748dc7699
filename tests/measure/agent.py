"""The agent at rest: memory, processor, and what a turn and an answer cost."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from agents import Agent
from keyturn.core.model import DAY, ProductName
from keyturn.testing.computers import synthetic
from measure.rows import Row
from programs import Home, Publisher, computer

REST = 60  # Seconds of doing nothing.
TICK = os.sysconf("SC_CLK_TCK")


def idle(folder: Path) -> list[Row]:
    """A licensed computer's agent, watched for a minute in which nobody wants anything of it."""
    publisher = Publisher(folder / "publisher")
    product = publisher.product("paintest", "--test")
    (key,) = publisher.mint("paintest")
    home = Home(folder / "client" / "home", sysroot=computer(folder / "pc", synthetic(1)))
    with publisher.running():
        home.activate(product, key["key"]).ok()
    name = ProductName.parse(home.status()["product"])
    agent = Agent(home.path, env=home.env)
    with agent.running():
        agent.turn()
        process = int(agent.ready["pid"])
        answers = []
        for _ in range(50):
            began = time.perf_counter()
            agent.ask(name)
            answers.append(time.perf_counter() - began)
        memory = resident(process)
        own, children = processor(process)
        wakes = switches(process)
        time.sleep(REST)  # The measurement itself: rest, by the clock.
        after, _ = processor(process)
        woken = switches(process) - wakes
    rest = (after - own) / REST * 100
    answer = statistics.median(answers)
    part = "Agent"
    return [
        Row(part, "the agent at rest, after 50 answers: memory, MB (RSS)", memory, f"{memory:.1f} MB", most=40),
        Row(part, f"the agent at rest for {REST} s: processor, %", rest, f"{after - own:.2f} s, woken {woken} times", most=0.1),
        Row(part, "a day of it, its look included: processor, %", children / DAY * 100, f"{children:.2f} s a turn", most=0.1),
        Row(part, "an answer over the socket, ms", answer * 1e3, f"{answer * 1e3:.2f} ms"),
    ]


def resident(process: int) -> float:
    """Memory in MB."""
    return int(field(process, "VmRSS").split()[0]) / 1024


def processor(process: int) -> tuple[float, float]:
    """Seconds of processor time: its own, and of its children that have ended (proc(5), fields 14 to 17)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    user, system, child_user, child_system = (int(value) / TICK for value in fields[11:15])
    return user + system, child_user + child_system


def switches(process: int) -> int:
    return int(field(process, "voluntary_ctxt_switches"))


def field(process: int, name: str) -> str:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))
