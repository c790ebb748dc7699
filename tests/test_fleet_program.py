"""The programs themselves: `keyturn fleet`, agents that run, the publisher's service, and files between them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from keyturn.testing.computers import synthetic
from programs import KEYTURN, PATIENCE, Home, Publisher, Result, computer, environment, run

pytestmark = pytest.mark.system


class Organization:
    """A fleet manager and its computers, in folders of their own."""

    def __init__(self, folder: Path, product: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self("init", str(product)).ok()
        for name, value in (("check_in", "10"), ("again", "5"), ("gather", "0")):
            self("config", "set", name, value).ok()

    def __call__(self, *arguments: str, input: str | None = None, env: Mapping[str, str] | None = None) -> Result:  # noqa: A002
        return run(
            ["fleet", "--home", str(self.folder / "home"), "--json", *arguments], cwd=self.folder, input=input, env=env
        )

    @contextlib.contextmanager
    def running(self, listen: str = "127.0.0.1:0", end: signal.Signals = signal.SIGTERM) -> Iterator[str]:
        command = [
            str(KEYTURN),
            "fleet",
            "run",
            "--home",
            str(self.folder / "home"),
            "--json",
            "--listen",
            listen,
        ]
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment(self.folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=log, text=True,
            )  # fmt: skip
        try:
            assert process.stdout is not None
            there, _, _ = select.select([process.stdout], [], [], PATIENCE)
            line = process.stdout.readline() if there else ""
            assert line, (self.folder / "log").read_text()[-1500:]
            yield str(json.loads(line)["url"])
        finally:
            process.send_signal(end)
            status = process.wait(PATIENCE)
            assert process.stdout is not None
            process.stdout.close()
        assert status == (0 if end is signal.SIGTERM else -end)

    def computers(self, count: int) -> list[Home]:
        token = self.folder / "token"
        token.write_text(self("token", "create").ok().json["token"])
        made = []
        for number in range(count):
            place = self.folder / f"pc-{number}"
            place.mkdir()
            home = Home(place / "store", sysroot=computer(place / "sys", synthetic(number + 1)))
            home("agent", "enroll", "--token-file", str(token), "--name", f"pc-{number}").ok()
            made.append(home)
        return made


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    made = Publisher(tmp_path / "publisher")
    made.service("org", "create", "globex").ok()
    made.product("paintbox", "--test")
    yield made
    made.close()


@pytest.fixture
def organization(publisher: Publisher, tmp_path: Path) -> Organization:
    return Organization(tmp_path / "organization", publisher.folder / "paintbox.ktproduct")


def key_of(publisher: Publisher, organization: Organization, limit: int) -> str:
    (key,) = publisher.mint("paintbox", "--channel", "mak", "--org", "globex", "--limit", str(limit))
    organization("key", "add", "-", input=f"{key['key']}\n").ok()
    return str(key["key"])[-5:]


@contextlib.contextmanager
def agents(computers: list[Home]) -> Iterator[None]:
    running = [
        subprocess.Popen(
            [str(KEYTURN), "agent", "run", "--home", str(one.path)], env=environment(one.path.parent, one.env),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=one.path.parent,
        )
        for one in computers
    ]  # fmt: skip
    try:
        yield
    finally:
        for process in running:
            os.kill(process.pid, signal.SIGTERM)
        for process in running:
            process.wait(PATIENCE)


def listed(organization: Organization) -> list[dict[str, Any]]:
    found = organization("list").ok().json["computers"]
    assert isinstance(found, list)
    return found


@pytest.mark.skipif(os.name != "posix", reason="there is no agent elsewhere yet")
def test_agents_that_run_do_what_the_manager_orders(publisher: Publisher, organization: Organization) -> None:
    """Ordered with --wait: both agents come by themselves, and the keys' count is the publisher's."""
    with publisher.running(), organization.running():
        computers = organization.computers(2)
        key = key_of(publisher, organization, 5)
        with agents(computers):
            done = organization("activate", "--all", "--key", key, "--wait", "--yes").ok().json
        assert (done["task"]["done"], done["task"]["failed"]) == (2, 0)
        assert [one.status()["via"] for one in computers] == ["fleet", "fleet"]
        found = listed(organization)
        assert {one["last_action"]["outcome"] for one in found} == {"done"}
        assert {one["products"][0]["state"] for one in found} == {"licensed"}
        left = organization("key", "check", key).ok().json["keys"][0]
        assert (left["used"], left["seats"], left["remaining"], left["organization"]) == (2, 5, 3, "globex")


def test_a_file_goes_out_and_comes_back(publisher: Publisher, organization: Organization) -> None:
    """Ordered by file, relayed by the client's own verb without a home, imported; the whole key is in no file and no answer."""
    carried = organization.folder / "lab.ktx"
    (key,) = publisher.mint("paintbox", "--channel", "mak", "--org", "globex", "--limit", "5")
    organization("key", "add", "-", input=f"{key['key']}\n").ok()
    with organization.running():
        computers = organization.computers(2)
        organization("activate", "--all", "--key", key["key"][-5:], "--via", "file", "--yes").ok()
        for one in computers:
            one("agent", "check-in").ok()
        assert organization("export", "request", "-o", str(carried)).ok().json["requests"] == 2
        with publisher.running():
            run(["--json", "relay", str(carried)], cwd=organization.folder).ok()
        said = organization("import", str(carried)).ok().json
        assert (said["answered"], said["refused"], said["open"]) == (2, 0, 0)
        for one in computers:
            one("agent", "check-in").ok()
    assert [one.status()["state"] for one in computers] == ["licensed", "licensed"]
    secret = key["key"].encode()
    for path in (carried, organization.folder / "log", *(organization.folder / "home").glob("fleet.db*")):
        assert secret not in path.read_bytes(), path


def test_nobody_is_meant_without_a_word(publisher: Publisher, organization: Organization) -> None:
    """An action without a selector ends with 2 and changes nothing; off a terminal it needs --yes."""
    key = key_of(publisher, organization, 1)
    with organization.running():
        organization.computers(1)
        assert (organization("activate", "--key", key).exit, organization("activate", "--key", key).code) == (
            2,
            "usage",
        )
        asked = organization("activate", "--all", "--key", key)
        assert (asked.exit, asked.code) == (2, "confirmation_required")
        assert organization("task", "list").ok().json["tasks"] == []


def test_a_home_belongs_to_one_program(publisher: Publisher, organization: Organization) -> None:
    """Another program's verb in the manager's home ends with 2, and a token is no enrollment for a foreign manager."""
    found = run(
        ["service", "--home", str(organization.folder / "home"), "--json", "key", "list"], cwd=organization.folder
    )
    assert (found.exit, found.code) == (2, "home_foreign")
