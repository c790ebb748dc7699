"""A fresh clone (only with ``--fresh-clone``, because it takes minutes): make demo and make test, nothing else typed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from show.stage import Stage, item

REPOSITORY = Path(__file__).parents[2]


def _clone(stage: Stage, account: str | None) -> str:
    folder = stage.place("clone")
    target = folder / "keyturn"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(REPOSITORY), str(target)], check=True)
    prefix: list[str] = []
    if account is not None:
        subprocess.run(["chown", "-R", account, str(folder)], check=True)
        prefix = ["setpriv", f"--reuid={account}", f"--regid={account}", "--clear-groups"]
    home = folder / "home"
    home.mkdir()
    if account is not None:
        shutil.chown(home, account, account)
    kept = ("PATH", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "https_proxy", "http_proxy",
            "no_proxy", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "npm_config_registry", "NODE_EXTRA_CA_CERTS")  # fmt: skip
    env = {name: os.environ[name] for name in kept if name in os.environ} | {"HOME": str(home), "LANG": "C.UTF-8"}
    figures = []
    for goal in ("demo", "test"):
        began = time.monotonic()
        done = subprocess.run(
            [*prefix, "make", goal],
            cwd=target,
            env=env,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"make {goal}: exit {done.returncode}: …{said[-2500:]}"
        counts = re.findall(r"=+ (.*(?:passed|failed).*?) =+", said)
        figures.append(f"make {goal}: {time.monotonic() - began:.0f} s{f' ({counts[-1]})' if counts else ''}")
    readme = (target / "README.md").read_text()
    assert readme.index("make demo") < readme.index("make test") < 1500, (
        "the README does not begin with the two commands"
    )
    return "; ".join(figures)


@item("A fresh clone: make demo and make test, nothing else typed")
def fresh_clone(stage: Stage) -> str:
    return _clone(stage, None)


@item("A fresh clone as an unprivileged user")
def fresh_clone_unprivileged(stage: Stage) -> str:
    if os.geteuid() != 0:
        return "this is one: see the line above"
    return _clone(stage, "nobody")
