"""The C++ example: built with CMake and the system's OpenSSL, held to the golden answers, and asked about a real agent."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents import Agent
from keyturn.core.model import ProductName
from keyturn.testing.computers import synthetic
from namespaces import laid_open
from programs import Home, Publisher, computer

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.needs("cmake", "g++", "openssl-headers")]

CPP = Path(__file__).parents[1] / "examples" / "cpp"
VECTORS = Path(__file__).parent / "vectors" / "agent.json"
OWNER, STRANGER = 23_451, 23_452  # Accounts that nobody has.


def build(folder: Path, source: Path = CPP, product: str = "") -> Path:
    """Configure and build; the result is where the programs are."""
    made = folder / "build"
    for line in (
        ["cmake", "-S", str(source), "-B", str(made), f"-DKEYTURN_PRODUCT={product}", "-DCMAKE_BUILD_TYPE=Debug"],
        ["cmake", "--build", str(made)],
    ):
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    return made


def say(program: Path, *words: str, wrapper: tuple[str, ...] = ()) -> tuple[int, str]:
    done = subprocess.run([*wrapper, str(program), *words], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that every account may enter, as pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="keyturn-cpp-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def publisher(folder: Path) -> Iterator[Publisher]:
    made = Publisher(folder / "publisher")
    made.product("paintest", "--test", "--edition", "pro", "--feature", "layers:pro")
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def home(folder: Path, publisher: Publisher) -> Home:
    """A licensed store."""
    made = Home(folder / "client" / "home", sysroot=computer(folder / "client" / "pc", synthetic(1)))
    key = publisher.mint("paintest", "--edition", "pro")[0]["key"]
    made.activate(publisher.folder / "paintest.ktproduct", key).ok()
    return made


@pytest.fixture(scope="module")
def programs(folder: Path, home: Home) -> Path:
    return build(folder, product=home.status()["product"])


def test_it_agrees_on_every_golden_answer(programs: Path) -> None:
    """Other key, other nonce, expired, another product's certificate and all the others: the same codes as in Python."""
    status, said = say(programs / "check_vectors", str(VECTORS))
    assert status == 0, said
    assert "0 wrong" in said


@pytest.mark.parametrize(
    ("check", "instead", "case"),
    [
        ("said.str(\"nonce\") != asked.nonce", "false", "other-nonce"),
        ("token.kid != certificate[\"cnf\"].str(\"jkt\")", "false", "other-key"),
        ("|| now >= ends)", ")", "just-expired"),
        ("certificate.str(\"product\") != asked.product", "false", "certificate-of-another-product"),
    ],
)  # fmt: skip
def test_a_check_that_is_missing_is_noticed(tmp_path: Path, check: str, instead: str, case: str) -> None:
    """Each of these checks taken out lets its golden case through, and no other notices."""
    source = tmp_path / "cpp"
    shutil.copytree(CPP, source)
    text = (source / "keyturn.hpp").read_text()
    assert text.count(check) == 1
    (source / "keyturn.hpp").write_text(text.replace(check, instead))
    status, said = say(build(tmp_path, source) / "check_vectors", str(VECTORS))
    assert status == 1, said
    assert f"{case}: licensed, and not" in said


def test_licensed_through_the_socket(programs: Path, home: Home) -> None:
    """Licensed with edition and feature; a feature that it has not, no agent, and a seat given back are refused."""
    example = programs / "example"
    agent = Agent(home.path, env=home.env)
    at = ("--socket", str(agent.socket))
    assert say(example, *at) == (3, f"refused: agent_unreachable: {agent.socket}: No such file or directory\n")
    with agent.running():
        agent.turn()
        status, said = say(example, *at)
        assert (status, said.split(" (")[0]) == (0, "licensed: pro")
        assert say(example, *at, "--feature", "layers")[0] == 0
        assert say(example, *at, "--feature", "moon")[1].startswith("refused: feature_not_licensed")


def test_the_pinned_product_decides(folder: Path, home: Home) -> None:
    """The same store, and a program of another publisher's product of the same name: refused."""
    name = ProductName.parse(home.status()["product"])
    other = ("B" if name.thumbprint[0] == "A" else "A") + name.thumbprint[1:]
    place = folder / "other"
    place.mkdir()
    agent = Agent(home.path, env=home.env)
    with agent.running():
        agent.turn()
        example = build(place, product=str(name._replace(thumbprint=other))) / "example"
        status, said = say(example, "--socket", str(agent.socket))
        assert (status, said.split(":")[1].strip()) in ((1, "product_missing"), (1, "publisher_mismatch"))


@pytest.mark.needs("root", "unshare", "setpriv")
def test_a_foreign_users_store_is_refused(programs: Path, home: Home, folder: Path) -> None:
    """A user's agent answers that user; another is told no before a word of theirs is read, and asks no user's agent."""
    place = folder / "owner"
    place.mkdir()
    shutil.copytree(home.path, place / "home")
    for path in (place, *place.rglob("*")):
        os.chown(path, OWNER, OWNER)
    script = f"{laid_open(folder / 'open')}\nexec setpriv --reuid {OWNER} --regid {OWNER} --clear-groups -- \"$@\""
    agent = Agent(place / "home", env=home.env)
    agent.start(wrapper=("unshare", "--mount", "sh", "-c", script, "sh"))
    try:
        agent.turn()
        asked = (programs / "example", "--socket", str(agent.socket))

        def as_account(number: int) -> tuple[int, str]:
            return say(*asked, wrapper=("setpriv", "--reuid", str(number), "--regid", str(number), "--clear-groups", "--"))

        assert as_account(OWNER)[0] == 0
        status, said = as_account(STRANGER)
        assert (status, said) == (1, f"refused: permission_denied: {agent.socket}: what listens there is another account's\n")
        # A program that does not look who listens is told no by the agent itself.
        stranger = ("setpriv", "--reuid", str(STRANGER), "--clear-groups", "--")
        status, said = say(Path("/usr/bin/python3"), "-c", _ASK, str(agent.socket), wrapper=stranger)
        assert '"code":"permission_denied"' in said, said
        assert agent.told("stranger_refused")
    finally:
        assert agent.stop() == 0


_ASK = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(9999).decode())"
