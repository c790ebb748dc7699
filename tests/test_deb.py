"""The Debian package: what is in it, and what it does on a computer of its own, from silent installation to purge.

The computer is this one's file system under an overlay that is thrown away, in a namespace of its own (unshare).
"""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

import make_deb
from keyturn.client.agent_install import UNIT, unit
from keyturn.testing import World
from programs import KEYTURN, environment

LOGON = make_deb.PACKAGING / "logon"
SCRIPTS = [LOGON / "keyturn.sh", *(make_deb.PACKAGING / "deb" / name for name in ("postinst", "prerm", "postrm"))]


@pytest.mark.needs("dash")
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_posix_shell(path: Path) -> None:
    """Dash reads them, and maintainer scripts end at the first fault."""
    subprocess.run(["dash", "-n", str(path)], check=True)
    assert path.name == "keyturn.sh" or "\nset -e\n" in path.read_text("utf-8")


def sourced(tmp_path: Path, program: str, options: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Read keyturn.sh in a shell, with ``program`` as what stands in /usr/bin."""
    fake = tmp_path / "keyturn"
    fake.write_text(program)
    fake.chmod(0o755)
    text = (LOGON / "keyturn.sh").read_text("utf-8").replace("/usr/bin/keyturn", str(fake))
    snippet = tmp_path / "keyturn.sh"
    snippet.write_text(text.replace("/etc/pam.d/common-session", str(tmp_path / "common-session")))
    script = f"{before}\n. {snippet}\necho went on"
    return subprocess.run(["dash", *options.split(), "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)


@pytest.mark.needs("dash")
@pytest.mark.parametrize("program", ["#!/bin/sh\nexit 6\n", "#!/bin/sh\necho broken >&2; kill -9 $$\n", "#!/nowhere\n"])
def test_a_program_that_fails_breaks_no_logon(tmp_path: Path, program: str) -> None:
    """Also in a shell that ends at faults and at unset names; and nothing of it is seen."""
    done = sourced(tmp_path, program, "-i", "set -eu")
    assert done.returncode == 0
    assert done.stdout == "went on\n"
    assert "broken" not in done.stderr


@pytest.mark.needs("dash")
def test_the_snippet_speaks_once_and_only_to_people(tmp_path: Path) -> None:
    """Interactive shells; not scripts, and not where PAM says it already."""
    program = "#!/bin/sh\necho \"$@\"\n"
    assert sourced(tmp_path, program, "-i").stdout == "remind --logon\nwent on\n"
    assert sourced(tmp_path, program, "").stdout == "went on\n"
    line = (LOGON / "pam-config").read_text("utf-8").splitlines()[-1]
    (tmp_path / "common-session").write_text(f"session {line}\n")
    assert sourced(tmp_path, program, "-i").stdout == "went on\n"
    (tmp_path / "common-session").write_text(f"# session {line}\n")
    assert sourced(tmp_path, program, "-i").stdout == "remind --logon\nwent on\n"


def test_the_autostart_entry_starts_the_watch() -> None:
    """The line is one that the program understands, and the entry has what the specification asks for."""
    text = (LOGON / "keyturn-remind.desktop").read_text("utf-8")
    entry = dict(line.split("=", 1) for line in text.splitlines()[1:])
    assert text.startswith("[Desktop Entry]\n")
    assert {"Type", "Name", "Exec", "Name[de]"} <= set(entry)
    words = entry["Exec"].split()[1:]
    done = subprocess.run([str(KEYTURN), *words, "--help"], capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in words)


# The package.


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_deb.build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(folder)], check=True)
    return folder


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.needs("dpkg-deb", "dpkg")
def test_the_package_holds_client_and_agent_and_nothing_strange(tree: Path) -> None:
    """Every file has its place and mode, everything below /etc is a conffile, the checksums are true."""
    files = {str(path.relative_to(tree)): path for path in tree.rglob("*") if path.is_file() and "DEBIAN" not in path.parts}
    outside = {name for name in files if not name.startswith(f"{make_deb.LIBRARY}/")}
    expected = {*make_deb.FILES.values(), *make_deb.COMPLETION.values(), f"usr/lib/systemd/system/{UNIT}"}
    expected |= {"usr/share/man/man1/keyturn.1.gz", *(f"{make_deb.DOC}/{name}" for name in ("copyright", "changelog.gz"))}
    assert outside == expected
    assert (tree / "usr/lib/systemd/system" / UNIT).read_text("utf-8") == unit("/usr/bin/keyturn")
    for folder in make_deb.FOLDERS:
        assert list((tree / folder).iterdir()) == []
    assert {name for name, path in files.items() if path.stat().st_mode & 0o111} == {"usr/bin/keyturn"}
    assert not [path for path in tree.rglob("*") if path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID | 0o022)]
    conffiles = (tree / "DEBIAN/conffiles").read_text().split()
    assert conffiles == sorted(f"/{name}" for name in files if name.startswith("etc/"))
    subprocess.run(["md5sum", "--quiet", "--check", "DEBIAN/md5sums"], cwd=tree, check=True)
    library = tree / make_deb.LIBRARY
    assert {"keyturn", "click", "cryptography", "cffi"} <= {path.name for path in library.iterdir()}
    assert (library / "keyturn/locale/de/LC_MESSAGES/keyturn.mo").exists()
    assert list(library.glob("keyturn/client/__pycache__/reminding.*.pyc"))
    place = str(make_deb.ROOT).encode()
    assert [name for name, path in files.items() if place in path.read_bytes()] == []


STORY = r"""
set -eux
export DEBIAN_FRONTEND=noninteractive HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
say() { set +x; echo "== $1"; set -x; }
dpkg --install /keyturn.deb < /dev/null
test -L /etc/systemd/system/multi-user.target.wants/keyturn-agent.service
dpkg --verify keyturn
say status
keyturn status
export KEYTURN_NOW=2027-02-01T10:00:00Z
printf 'product_file = "/product.ktproduct"\nvia = "file"\n' > /etc/keyturn/provision.d/inkwell.toml
say apply
for time in 1 2; do keyturn apply --json | grep -m 1 changed; done
say agent
keyturn agent run --once --json > /dev/null
useradd --create-home --shell /bin/bash anna
useradd --create-home --shell /bin/dash bert
later() { runuser --login $1 --shell $2 --command "$3"; }
for who in anna bert; do
    for shell in bash dash; do
        say "$who login $shell"
        later $who /bin/sh "KEYTURN_NOW=2027-02-11T10:00:00Z $shell -l -i -c true"
        later $who /bin/sh "KEYTURN_NOW=2027-02-11T10:00:00Z keyturn remind --snooze" > /dev/null
    done
    say "$who terminal"
    later $who /bin/sh "KEYTURN_NOW=2027-02-11T10:00:01Z keyturn remind"
    later $who /bin/sh "KEYTURN_NOW=2027-02-12T10:00:01Z keyturn remind"
done
say script
later anna /bin/sh "KEYTURN_NOW=2027-02-11T10:00:00Z bash -l -c true"
say unreadable
chmod 0 /var/lib/keyturn
later anna /bin/sh "bash -l -i -c 'echo went on'"
chmod 755 /var/lib/keyturn
say pam
pam-auth-update --enable keyturn
unset KEYTURN_NOW
echo exit | su --login bert
say python
later anna /bin/sh "PYTHONPATH=/nowhere PYTHONHOME=/nowhere keyturn --version"
bash -c '. /usr/share/bash-completion/completions/keyturn; complete -p keyturn'
man -l /usr/share/man/man1/keyturn.1.gz > /dev/null
say removed
dpkg --remove keyturn
test -d /var/lib/keyturn/products
test ! -e /usr/lib/keyturn -a ! -e /usr/bin/keyturn
! grep keyturn /etc/pam.d/common-session
echo exit | su --login bert
dpkg --purge keyturn < /dev/null
test ! -e /var/lib/keyturn -a ! -e /etc/profile.d/keyturn.sh
say end
"""


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.needs("root", "unshare", "mount", "chroot", "dpkg", "man")
def test_a_computer_from_silent_installation_to_purge(package: Path, world: World, tmp_path: Path) -> None:
    """Installed without a question; both users are reminded in both shells, at each logon; removed, the license stays."""
    product = tmp_path / "product.ktproduct"
    product.write_bytes(world.publisher.product("inkwell", test=True))
    said = on_a_throw_away_computer(tmp_path, STORY, {package: "keyturn.deb", product: "product.ktproduct"})
    told = dict(re.findall(r"^== (.*)\n((?:(?!== ).*\n)*)", said, re.MULTILINE))
    reminder = "Inkwell (test product) is not activated yet."
    assert told["status"] == "No product is added on this computer.\nBegin with: keyturn activate --product-file FILE\n"
    assert told["apply"].split() == ['"changed":', "true,", '"changed":', "false,"]
    for who in ("anna", "bert"):
        for shell in ("bash", "dash"):
            assert told[f"{who} login {shell}"].count(f"Reminder: {reminder}") == 1
            assert "full function until 2027-03-03, 20 days left" in " ".join(told[f"{who} login {shell}"].split())
        assert told[f"{who} terminal"].count("Reminder:") == 1, "snoozed, then due a day later"
    assert told["script"] == ""
    assert told["unreadable"] == "went on\n"
    assert told["pam"].count("Reminder:") == 1, "once by PAM: not at the end of the session, nor by the shell too"
    assert "keyturn 0" in told["python"]
    assert "complete" in told["python"]
    assert "Reminder" not in told["removed"]
    assert said.endswith("== end\n")


def on_a_throw_away_computer(folder: Path, story: str, files: Mapping[Path, str]) -> str:
    """Run a shell story as root in a copy of this computer that is gone afterwards; the result is its stdout."""
    copies = "\n".join(f"cp {source} root/{name}" for source, name in files.items())
    (folder / "story.sh").write_text(story)
    outer = f"""
        set -eu
        mount -t tmpfs none {folder}/over
        cd {folder}/over
        mkdir upper work root
        mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work none root
        {copies}
        cp {folder}/story.sh root/story.sh
        for place in proc dev sys; do mount --rbind /$place root/$place; done
        mount -t tmpfs none root/run
        exec chroot root sh /story.sh
    """
    (folder / "over").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", outer], env=environment(folder), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
