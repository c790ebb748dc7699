"""Make the Debian package of client and agent: ``python tests/make_deb.py FOLDER`` (``make deb``), with dpkg-deb alone.

- It holds the wheel and its hash-pinned dependencies below ``/usr/lib/keyturn``, byte-compiled, and touches no Python package of
  the system (docs/decisions/0013-deb.md). So it is for one architecture and one minor version of Python, which it depends on.
- Everything else in it is a file of ``packaging/`` or made by the program itself: unit, completion, manual.
- The same tree gives the same bytes: times are those of SOURCE_DATE_EPOCH, owners are root, names are in order.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import make_man
from keyturn import __version__
from keyturn.client.agent_install import UNIT, unit

ROOT = Path(__file__).parents[1]
PACKAGING = ROOT / "packaging"
LIBRARY = "usr/lib/keyturn"
DOC = "usr/share/doc/keyturn"
# Where each file of packaging/ goes.
FILES = {
    "deb/launcher": "usr/bin/keyturn",
    "logon/keyturn.sh": "etc/profile.d/keyturn.sh",
    "logon/keyturn-remind.desktop": "etc/xdg/autostart/keyturn-remind.desktop",
    "logon/keyturn.fish": "usr/share/fish/vendor_conf.d/keyturn.fish",
    "logon/pam-config": "usr/share/pam-configs/keyturn",
    "logon/keyturn.zsh": f"{DOC}/examples/keyturn.zsh",
}
FOLDERS = ("etc/keyturn/provision.d", "etc/keyturn/policy.d")
COMPLETION = {
    "bash": "usr/share/bash-completion/completions/keyturn",
    "zsh": "usr/share/zsh/vendor-completions/_keyturn",
    "fish": "usr/share/fish/vendor_completions.d/keyturn.fish",
}
CONTROL = """\
Package: keyturn
Version: {version}
Architecture: {architecture}
Maintainer: The Keyturn developers
Installed-Size: {size}
Depends: python3 (>= {python}), python3 (<< {next}), libc6 (>= {libc})
Recommends: init-system-helpers
Suggests: libglib2.0-bin | libnotify-bin, xdg-utils, libpam-runtime
Section: admin
Priority: optional
Description: product activation: the client and its agent
 Activates products of publishers that run Keyturn, keeps their licenses, and says in time
 what needs to be done. The agent works without a network, and sends nothing that was not
 agreed to. Provisioning files in /etc/keyturn/provision.d need no further step.
"""


def build(folder: Path) -> Path:
    """Build into ``folder`` and return the package. Raises: RuntimeError with what a program said."""
    with tempfile.TemporaryDirectory(prefix="keyturn-deb-") as work:
        tree = Path(work, "tree")
        libc = fill(tree, Path(work))
        architecture = run("dpkg", "--print-architecture").strip()
        control(tree, architecture, libc)
        settle(tree)
        folder.mkdir(parents=True, exist_ok=True)
        package = folder / f"keyturn_{__version__}_{architecture}.deb"
        run("dpkg-deb", "--build", "--root-owner-group", "-Zxz", str(tree), str(package))
    return package


def fill(tree: Path, work: Path) -> str:
    """Lay out every file; the result is the version of the C library that they need."""
    library = tree / LIBRARY
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(work / "dist"), str(ROOT))
    (wheel,) = (work / "dist").glob("keyturn-*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    pip += ["--target", str(library)]
    run(*pip, "--only-binary", ":all:", "--require-hashes", "-r", str(ROOT / "requirements" / "base.txt"))
    run(*pip, "--no-deps", "--no-index", str(wheel))
    shutil.rmtree(library / "bin")
    wheels = [path.read_text("utf-8") for path in library.glob("*.dist-info/WHEEL")]
    tags = [tag for text in wheels for tag in re.findall(r"manylinux_2_(\d+)_", text)]
    # No check against the source, which never changes behind dpkg's back; and no path of this computer in it.
    compiler = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    run(*compiler, "-s", str(tree), "-p", "/", str(library))
    for name, place in FILES.items():
        put(tree / place, (PACKAGING / name).read_bytes(), 0o755 if place.startswith("usr/bin/") else 0o644)
    for name in FOLDERS:
        (tree / name).mkdir(parents=True)
    put(tree / "usr/lib/systemd/system" / UNIT, unit("/usr/bin/keyturn").encode())
    for shell, place in COMPLETION.items():
        put(tree / place, run(sys.executable, "-m", "keyturn", "completion", shell).encode())
    if make_man.main(work / "man"):
        raise RuntimeError("Sphinx made no manual (make man says why)")
    put(tree / "usr/share/man/man1/keyturn.1.gz", zipped((work / "man" / "keyturn.1").read_bytes()))
    put(tree / DOC / "copyright", (ROOT / "LICENSE").read_bytes())
    put(tree / DOC / "changelog.gz", zipped((ROOT / "CHANGELOG.md").read_bytes()))
    return f"2.{max(map(int, tags), default=17)}"


def control(tree: Path, architecture: str, libc: str) -> None:
    """What dpkg reads: control, conffiles, checksums, scripts."""
    paths = sorted(path for path in tree.rglob("*") if path.is_file())
    size = sum(-(-path.stat().st_size // 1024) for path in paths)
    minor = sys.version_info.minor
    text = CONTROL.format(
        version=__version__, architecture=architecture, size=size, python=f"3.{minor}", next=f"3.{minor + 1}~", libc=libc
    )
    names = {path: str(path.relative_to(tree)) for path in paths}
    sums = "".join(f"{hashlib.md5(path.read_bytes()).hexdigest()}  {name}\n" for path, name in names.items())
    put(tree / "DEBIAN/control", text.encode())
    put(tree / "DEBIAN/md5sums", sums.encode())
    put(tree / "DEBIAN/conffiles", "".join(f"/{name}\n" for name in names.values() if name.startswith("etc/")).encode())
    for name in ("postinst", "prerm", "postrm"):
        put(tree / "DEBIAN" / name, (PACKAGING / "deb" / name).read_bytes(), 0o755)


def settle(tree: Path) -> None:
    """Modes and times that do not depend on who builds, and when."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or (ROOT / "CHANGELOG.md").stat().st_mtime)
    for path in sorted(tree.rglob("*"), reverse=True):
        if path.is_dir():
            path.chmod(0o755)
        elif path.parent.name != "DEBIAN" and path.parent.name != "bin":
            path.chmod(0o644)
        os.utime(path, (epoch, epoch))


def put(path: Path, data: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def zipped(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)


def run(*command: str) -> str:
    """Run a program and return what it said. Raises: RuntimeError."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KEYTURN"))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {(done.stderr or done.stdout)[-1500:]}")
    return done.stdout


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: make_deb.py FOLDER", file=sys.stderr)
        return 2
    package = build(Path(sys.argv[1]).resolve())
    print(f"{package} ({package.stat().st_size / 2**20:.1f} MiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
