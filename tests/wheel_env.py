"""The wheel in an empty environment: built as it is released, installed as a customer installs it, without extras."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[1]


class WheelEnvironment(NamedTuple):
    """Where the wheel is, and the environment it was installed into."""

    wheel: Path
    python: Path

    @property
    def keyturn(self) -> Path:
        return self.python.with_name("keyturn")

    def pip(self, *arguments: str) -> str:
        return _call([str(self.python), "-m", "pip", "--disable-pip-version-check", *arguments])


def make(folder: Path) -> WheelEnvironment:
    """Build the wheel and install it, with nothing but the hash-pinned dependencies of the client."""
    _call([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)])
    (wheel,) = folder.glob("keyturn-*.whl")
    venv.create(folder / "venv", with_pip=True)
    made = WheelEnvironment(wheel, folder / "venv" / "bin" / "python")
    made.pip("install", "--quiet", "--require-hashes", "-r", str(REPOSITORY / "requirements" / "base.txt"))
    made.pip("install", "--quiet", "--no-deps", "--no-index", str(wheel))
    return made


def _call(command: list[str]) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KEYTURN"))}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, cwd=REPOSITORY, env=environment
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    return done.stdout
