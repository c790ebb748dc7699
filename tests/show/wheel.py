"""The wheel without extras: the client works, servers say what they need, and ``status`` starts fast."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path

import wheel_env
from programs import Home, environment, run
from show.stage import Stage, item

RUNS = 21
YARDSTICK = "import cryptography.hazmat.primitives.asymmetric.ed25519, ssl, json"
_made: list[wheel_env.WheelEnvironment] = []


def _alone(stage: Stage) -> wheel_env.WheelEnvironment:
    if not _made:
        _made.append(wheel_env.make(stage.place("wheel")))
    return _made[0]


@item("The wheel in an empty environment without extras: the client works, server verbs say what to install")
def without_extras(stage: Stage) -> str:
    alone = _alone(stage)
    home = Home(stage.place("client") / "home", sysroot=stage.pc("office-pc-a"), keyturn=alone.keyturn)
    home("status").ok()
    entry = home.activate(stage.test, stage.key()["key"]).ok().product
    assert entry["state"] == home.status()["state"] == "licensed"
    verbs = [
        "service run",
        "service init --publisher X",
        "service key mint --product x",
        "service activation list",
        "service answer f",
        "demo",
    ]
    for line in verbs:
        for more in ([], ["--json"]):
            result = run([*line.split(), *more], cwd=stage.folder, keyturn=alone.keyturn)
            said = result.out + result.err
            assert result.exit == 2, result
            assert f"pip install 'keyturn[{line.split()[0]}]'" in said, result
            assert "Traceback" not in said, result
    size = alone.wheel.stat().st_size // 1024
    return f"{alone.wheel.name} ({size} KiB): activated, licensed; {len(verbs)} server verbs: exit 2 with the pip line"


def _seconds(command: list[str], cwd: Path) -> float:
    began = time.perf_counter()
    subprocess.run(
        command, cwd=cwd, env=environment(cwd), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - began


@item("keyturn status as a process takes at most 1.5 × python with cryptography's Ed25519, ssl and json")
def cold_start(stage: Stage) -> str:
    alone, folder = _alone(stage), stage.place("cold")
    home = Home(folder / "home", keyturn=alone.keyturn)
    home.activate(stage.real, stage.key("paintbox")["key"], "--allow-ephemeral").ok()
    ours = [str(alone.keyturn), "--home", str(home.path), "status"]
    script = [str(alone.python), "-c", YARDSTICK]
    _seconds(ours, folder), _seconds(script, folder)  # Both byte-compiled and in the page cache.
    pairs = [(_seconds(ours, folder), _seconds(script, folder)) for _ in range(RUNS)]
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = mine / theirs
    how = f"medians of {RUNS} interleaved runs, one licensed product"
    figure = f"{mine * 1000:.0f} ms / {theirs * 1000:.0f} ms = {ratio:.2f} × ({how})"
    assert ratio <= 1.5, figure
    return figure + f", load {os.getloadavg()[0]:.1f}"
