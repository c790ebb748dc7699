"""`keyturn agent run`, the real program: it activates, renews, notices and answers by itself, and ends when it is told to."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents import Agent
from keyturn.core import capability
from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, ProductName
from keyturn.edge.vault import Shelf, Vault
from keyturn.testing.computers import synthetic
from programs import Home, Publisher, computer, run

pytestmark = pytest.mark.system


class Scene:
    """A publisher with a test product, and one client's store on a recorded computer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publisher = Publisher(folder / "publisher")
        self.product = self.publisher.product("paintest", "--test", "--edition", "pro", "--feature", "layers:pro")
        self.made = 0

    def client(self) -> tuple[Home, Agent]:
        self.made += 1
        place = self.folder / f"client-{self.made}"
        home = Home(place / "home", sysroot=computer(place / "pc", synthetic(self.made)))
        return home, Agent(home.path, env=home.env)

    def key(self, *options: str) -> str:
        return str(self.publisher.mint("paintest", "--edition", "pro", *options)[0]["key"])

    def installed(self, *options: str, consent: bool = True) -> tuple[Home, Agent]:
        """A product with its key, not activated; the organization has agreed."""
        home, agent = self.client()
        home("product", "add", str(self.product)).ok()
        home("install-key", "-", input=self.key(*options) + "\n").ok()
        if consent:
            shelf_of(home).keep_consent(1, "person")
        return home, agent


def shelf_of(home: Home) -> Shelf:
    (shelf,) = Vault(str(home.path), "user").shelves()
    return shelf


def name_of(home: Home) -> ProductName:
    return ProductName.parse(home.status()["product"])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("agent"))
    made.publisher.start()
    yield made
    made.publisher.close()


def one(found: dict[str, Any]) -> dict[str, Any]:
    (row,) = found["products"]
    assert isinstance(row, dict)
    return row


# --- by itself --------------------------------------------------------------------------------------------------------


def test_it_activates_by_itself_after_consent(scene: Scene) -> None:
    """The first turn asks the service; the log tells it in order; a second turn has nothing to ask."""
    home, agent = scene.installed()
    with agent.running():
        row = one(agent.turn())
        assert (row["tried"], row["code"], row["wants"]) == (True, None, None)
        assert home.status()["state"] == "licensed"
        agent.signal(signal.SIGHUP)
        assert one(agent.turn())["tried"] is False
    names = [event["name"] for event in agent.events() if event["data"].get("program") == "agent"]
    assert names == ["agent_started", "request_sent", "answer_received", "activated", "agent_stopped"]
    asked, answered = agent.told("request_sent")[0], agent.told("answer_received")[0]
    assert asked["correlation"] == answered["correlation"]


def test_without_consent_nothing_is_sent(scene: Scene) -> None:
    """`consent_required`, no request in the log, and a warning with an action."""
    home, agent = scene.installed(consent=False)
    with agent.running():
        assert one(agent.turn())["code"] == "consent_required"
    assert agent.told("request_sent") == []
    assert agent.told("consent_missing")[0]["remedy"]
    assert home.status()["state"] == "initial_grace"


def test_a_copy_without_a_key_asks_nothing(scene: Scene) -> None:
    home, agent = scene.client()
    home("product", "add", str(scene.product)).ok()
    with agent.running():
        row = one(agent.turn())
    assert (row["wants"], row["tried"]) == (None, False)


def test_a_dead_service_changes_nothing_and_is_tried_again(scene: Scene) -> None:
    """The failure is told, the copy stays in grace, programs are answered; when the service is back, one look is enough."""
    home, agent = scene.installed()
    scene.publisher.stop()
    try:
        with agent.running():
            found = agent.turn()
            assert one(found)["code"] == "service_unreachable"
            assert 0.89 * 2 * 3600 <= found["next_in"] <= 1.11 * 2 * 3600
            _, answer = agent.ask(name_of(home))
            assert answer["certificate"] is None
            assert agent.told("request_failed")[0]["code"] == "service_unreachable"
    finally:
        scene.publisher.start()
    with agent.running():
        assert one(agent.turn())["code"] is None
    assert home.status()["state"] == "licensed"


def test_a_dated_license_is_renewed_when_its_time_has_come(scene: Scene) -> None:
    """Nothing within the interval; after it the same seat gets a later end."""
    home, _ = scene.client()
    weak = computer(home.path.parent / "bare", "sandbox")
    home.env = {"KEYTURN_SYSROOT": str(weak)}
    home.activate(scene.product, scene.key(), "--allow-ephemeral").ok()
    before = home.status()
    assert before["valid_until"] is not None
    assert one(home("agent", "run", "--once").ok().json)["tried"] is False
    row = one(home("agent", "run", "--once", env={"KEYTURN_NOW": f"+{8 * DAY}"}).ok().json)
    assert (row["tried"], row["code"]) == (True, None)
    after = home.status()
    assert after["activation_id"] == before["activation_id"]
    assert after["valid_until"] >= before["valid_until"]


def test_changed_hardware_is_noticed_told_and_asked_for(scene: Scene) -> None:
    """Another computer's hardware: grace begins, the components are named, and the activation is asked for again."""
    home, _ = scene.client()
    home.activate(scene.product, scene.key("--limit", "1")).ok()
    scene.publisher.stop()
    try:
        other = Agent(home.path, env={"KEYTURN_SYSROOT": str(computer(home.path.parent / "other", synthetic(90)))})
        with other.running():
            row = one(other.turn())
        assert (row["wants"], row["code"]) == ("activation", "service_unreachable")
        (told,) = other.told("hardware_changed")
        assert "disk" in told["message"]
        assert other.told("grace_started")[-1]["data"]["until"]
        assert shelf_of(home).records()
    finally:
        scene.publisher.start()


def test_a_waiting_release_is_finished(scene: Scene) -> None:
    """A return that was signed while nobody could carry it is sent; the seat is free again."""
    home, agent = scene.client()
    home.activate(scene.product, scene.key()).ok()
    home("deactivate", "--yes", "--via", "file").ok()
    with agent.running():
        row = one(agent.turn())
        assert (row["tried"], row["code"], row["wants"]) == (True, None, None)
    assert agent.told("released")
    assert not (home.shelf / "license.json").exists()


# --- mishap -----------------------------------------------------------------------------------------------------------


@pytest.mark.needs("root", "unshare")
def test_a_store_that_cannot_be_written_is_kept_all_the_same(scene: Scene, tmp_path: Path) -> None:
    """Read-only: it starts, answers, says that nothing can be noted, and ends cleanly. One agent there too."""
    home, agent = scene.client()
    home.activate(scene.product, scene.key()).ok()
    script = f"mount --bind {home.path} {home.path} && mount -o remount,bind,ro {home.path} && exec \"$@\""
    agent.start(wrapper=("unshare", "--mount", "sh", "-c", script, "sh"))
    agent.turn()
    _, answer = agent.ask(name_of(home))
    assert answer["certificate"]
    assert agent.stop() == 0


@pytest.mark.needs("root", "unshare")
def test_a_full_disk_costs_nothing(scene: Scene) -> None:
    """No space: the request cannot be kept, so nothing is sent; with space again the next turn activates."""
    home, agent = scene.installed()
    place = home.path.parent / "full"
    script = (
        f"mkdir -p {place} && mount -t tmpfs -o size=256k none {place} && cp -a {home.path}/. {place} && "
        f"mount --bind {place} {home.path} && (dd if=/dev/zero of={home.path}/filler bs=1k 2>/dev/null || true) && exec \"$@\""
    )
    agent.start(wrapper=("unshare", "--mount", "sh", "-c", script, "sh"))
    assert one(agent.turn())["code"] == "storage_failed"
    inside = Path(f"/proc/{agent.ready['pid']}/root{home.path}")
    (inside / "filler").unlink()
    agent.signal(signal.SIGHUP)
    found = agent.turn()
    assert agent.stop() == 0
    assert (one(found)["tried"], one(found)["code"], one(found)["wants"]) == (True, None, None)


def test_there_is_one_agent_for_a_store(scene: Scene, tmp_path: Path) -> None:
    """A second one ends with `agent_running`, whatever its socket is; the first one's socket stays."""
    home, agent = scene.installed(consent=False)
    with agent.running():
        agent.turn()
        again = run(["--home", str(home.path), "--json", "agent", "run", "--socket", str(tmp_path / "s")], cwd=tmp_path)
        assert (again.exit, again.code) == (2, "agent_running")
        agent.ask(name_of(home), ask="prove")


def test_a_killed_agent_leaves_nothing_that_stops_the_next(scene: Scene) -> None:
    """SIGKILL in the middle: lock and socket are free again."""
    home, agent = scene.installed(consent=False)
    agent.start()
    agent.stop(signal.SIGKILL)
    assert agent.socket.exists()
    with agent.running():
        agent.turn()
        agent.ask(name_of(home), ask="prove")
    assert not agent.socket.exists()


def test_a_turn_that_hangs_keeps_nobody_waiting(scene: Scene) -> None:
    """The service takes the connection and says nothing: programs are answered, and SIGTERM ends both at once."""
    import socket

    home, agent = scene.installed()
    scene.publisher.stop()
    try:
        with (
            socket.create_server(("127.0.0.1", scene.publisher.probe_port)) as silent,
            socket.create_server(("127.0.0.1", scene.publisher.port)),
        ):
            with agent.running():
                silent.settimeout(30)
                asking, _ = silent.accept()  # The turn is in the middle of its probe now.
                agent.ask(name_of(home), ask="prove")
                began = time.monotonic()
            assert time.monotonic() - began < 5
            asking.close()
    finally:
        scene.publisher.start()


def test_an_idle_agent_sleeps(scene: Scene) -> None:
    """After its turn it is in one call: no processor time goes by, and no network library is in its memory."""
    home, agent = scene.client()
    home.activate(scene.product, scene.key()).ok()
    with agent.running():
        agent.turn()
        agent.ask(name_of(home))
        process = agent.ready["pid"]
        before = switches(process)
        agent.ask(name_of(home), ask="prove")
        assert switches(process) - before < 50
        maps = Path(f"/proc/{process}/maps").read_text()
        assert "_ssl." not in maps
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        assert int(status["VmRSS"].split()[0]) < 40 * 1024


def switches(process: int) -> int:
    """How often a process went to sleep by itself: a loop that turns does so without end."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("voluntary_ctxt_switches")).split()[1])


# --- answers ----------------------------------------------------------------------------------------------------------


def test_a_capability_is_verified_from_the_pinned_product_down(scene: Scene) -> None:
    """Licensed, with edition and feature; another nonce, account, minute or product is refused."""
    home, agent = scene.client()
    home.activate(scene.product, scene.key()).ok()
    name = name_of(home)
    with agent.running():
        agent.turn()
        question, answer = agent.ask(name, feature="layers")
        now = int(time.time())
        found, certificate = capability.check_answer(answer, question, uid=os.geteuid(), now=now)
        assert (found.state, found.edition, certificate.edition) == ("licensed", "pro", "pro")
        for changed, uid, at, code in (
            (question._replace(nonce="A" * 22), os.geteuid(), now, "document_foreign"),
            (question, os.geteuid() + 1, now, "document_foreign"),
            (question, os.geteuid(), now + 61, "document_expired"),
            (question, os.geteuid(), now - 60, "document_expired"),
            (question._replace(product=name._replace(test=False)), os.geteuid(), now, "trust_invalid"),
        ):
            with pytest.raises(KeyturnError) as error:
                capability.check_answer(answer, changed, uid=uid, now=at)
            assert error.value.code == code
        with pytest.raises(KeyturnError) as error:
            agent.ask(name._replace(slug="other"))
        assert error.value.code == "product_missing"


def test_what_is_new_in_the_store_is_in_the_next_answer(scene: Scene) -> None:
    """A seat that is returned meanwhile is not licensed in the next answer."""
    home, agent = scene.client()
    home.activate(scene.product, scene.key()).ok()
    with agent.running():
        agent.turn()
        question, answer = agent.ask(name_of(home))
        capability.check_answer(answer, question, uid=os.geteuid(), now=int(time.time()))
        home("deactivate", "--yes").ok()
        question, answer = agent.ask(name_of(home))
        with pytest.raises(KeyturnError) as error:
            capability.check_answer(answer, question, uid=os.geteuid(), now=int(time.time()))
        assert error.value.code == "not_licensed"


def test_a_copied_store_has_no_key_to_answer_with(scene: Scene, tmp_path: Path) -> None:
    """Without the installation's key the agent says so instead of answering."""
    home, _ = scene.client()
    home.activate(scene.product, scene.key()).ok()
    shutil.copytree(home.path, tmp_path / "copy")
    (next((tmp_path / "copy" / "products").iterdir()) / "installation.key").unlink()
    agent = Agent(tmp_path / "copy", env=home.env)
    with agent.running():
        agent.turn()
        with pytest.raises(KeyturnError) as error:
            agent.ask(name_of(home))
        assert error.value.code == "permission_denied"
