"""A fresh clone (only with ``--fresh-clone``, because it takes minutes): make demo and make test, nothing else typed."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import time
from pathlib import Path

from show.stage import Stage, item

REPOSITORY = Path(__file__).parents[2]


def _clone(stage: Stage, account: str | None) -> str:
    folder = stage.place("clone")
    target, home = folder / "keyturn", folder / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(REPOSITORY), str(target)], check=True)
    prefix: list[str] = []
    if account is not None:
        owner = pwd.getpwnam(account)
        subprocess.run(["chown", "-R", f"{owner.pw_uid}:{owner.pw_gid}", str(folder)], check=True)
        prefix = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    # What this computer needs to reach its package registry, and nothing else of this account.
    kept = (
        "PATH",
        "PIP_",
        "SSL_CERT_",
        "NODE_EXTRA_",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "REQUESTS_CA_",
        "NPM_CONFIG_",
    )
    env = {name: value for name, value in os.environ.items() if name.upper().startswith(kept)}
    env |= {"HOME": str(home), "LANG": "C.UTF-8"}
    figures: list[str] = []
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
        assert done.returncode == 0, "; ".join([*figures, f"make {goal}: exit {done.returncode}: …{said[-1500:]}"])
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
