"""Make the client as one folder that needs no Python: ``python tests/make_bundle.py build/client`` (``make client-bundle``).

The folder ``keyturn`` holds the program ``keyturn`` and, below ``lib``, Python and what the client reaches, and nothing else:
the layer rule's own walk says what that is, so a module that is imported by name alone is in it too. It runs on the system
and processor it was made on; make it on the oldest release that your product supports, because it takes that C library along.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from test_layers import SOURCE, client_reach, read

# What PyInstaller would find through the doors' lazy imports, or through packages that can use it, and the client does not.
LEFT_OUT = (
    "keyturn.service", "keyturn.testing", "keyturn.demo", "starlette", "uvicorn", "uvloop", "httptools", "msgspec",
    "prometheus_client", "structlog", "nacl", "joserfc", "sqlite3", "tkinter", "unittest", "pydoc", "doctest", "pytest",
    "setuptools", "asyncio", "multiprocessing", "xmlrpc", "lib2to3", "curses",
)  # fmt: skip


# PyInstaller's specification. Of its start-up hooks the one for ``inspect`` is left out: it lets programs show their own source,
# which this one never does, and it costs a quarter of the start of ``keyturn status``.
SPEC = """
plan = Analysis([{entry!r}], pathex=[{paths!r}],
  datas=[({privacy!r}, "keyturn"), ({locale!r}, "keyturn/locale"), ({units!r}, "keyturn/client/units")],
  hiddenimports={hidden!r}, excludes={excluded!r})
plan.scripts = [script for script in plan.scripts if script[0] != "pyi_rth_inspect"]
program = EXE(PYZ(plan.pure), plan.scripts, exclude_binaries=True, name="keyturn", upx=False, contents_directory="lib")
COLLECT(program, plan.binaries, plan.datas, name="keyturn", upx=False)
"""


def build(folder: Path) -> Path:
    """Build into ``folder`` and return the program. Raises: RuntimeError with what PyInstaller said."""
    package, reached = SOURCE / "keyturn", client_reach(read(SOURCE))
    spec = SPEC.format(
        entry=str(package / "__main__.py"), paths=str(SOURCE), privacy=str(package / "privacy.toml"),
        locale=str(package / "locale"), units=str(package / "client" / "units"),
        hidden=sorted(reached), excluded=[name for name in LEFT_OUT if name not in reached],
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="keyturn-bundle-") as work:
        place = Path(work, "keyturn.spec")
        place.write_text(spec, "utf-8")
        options = ["--noconfirm", "--distpath", str(folder), "--workpath", f"{work}/work", "--log-level", "WARN"]
        command = [sys.executable, "-m", "PyInstaller", *options, str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=work)
    if done.returncode:
        raise RuntimeError(f"PyInstaller: exit {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    return folder / "keyturn" / ("keyturn.exe" if sys.platform == "win32" else "keyturn")


def size(program: Path) -> int:
    """The folder's bytes."""
    return sum(path.stat().st_size for path in program.parent.rglob("*") if path.is_file() and not path.is_symlink())


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: make_bundle.py FOLDER", file=sys.stderr)
        return 2
    program = build(Path(sys.argv[1]).resolve())
    print(f"{program} ({size(program) / 2**20:.0f} MiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
