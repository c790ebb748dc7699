"""A real PKCS#11 token without hardware: SoftHSM 2, in a folder of its own, so that tests share nothing and leave nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

LABEL, PIN = "keyturn", "1234-5678"
MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)


def module() -> str | None:
    """The shared library, where the system has put it."""
    return next((path for path in MODULES if os.path.exists(path)), None)


class SoftHsm:
    """One token. ``env`` is what its users need in their environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens = folder / "tokens"
        self.tokens.mkdir(parents=True)
        found = module()
        assert found is not None, "SoftHSM 2 is not installed"
        self.module = found
        (folder / "softhsm2.conf").write_text(
            f"directories.tokendir = {self.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        self.pin_file = folder / "pin"
        self.pin_file.write_text(PIN + "\n")
        self.pin_file.chmod(0o600)
        self.env: Mapping[str, str] = {
            "SOFTHSM2_CONF": str(folder / "softhsm2.conf"), "KEYTURN_SERVICE_PIN_FILE": str(self.pin_file),
        }  # fmt: skip
        self.util("--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", "87654321")

    @property
    def wrapper(self) -> tuple[str, ...]:
        """What a program's command begins with, to be in that environment."""
        return ("env", *(f"{name}={value}" for name, value in self.env.items()))

    def util(self, *arguments: str) -> str:
        program = shutil.which("softhsm2-util")
        assert program is not None, "softhsm2-util is not installed"
        done = subprocess.run(
            [program, *arguments], env={**os.environ, **self.env}, capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout

    def take_away(self) -> None:
        """Pull the token out: whoever uses it finds every handle of it dead."""
        self.tokens.rename(self.folder / "away")

    def put_back(self) -> None:
        (self.folder / "away").rename(self.tokens)
