"""Links, as NetworkManager and ModemManager tell them on a private bus: up, paid by use, to be dialled, none."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from keyturn.core import containers
from keyturn.core.errors import KeyturnError
from keyturn.core.policy import Policy
from keyturn.edge import eventlog, links
from keyturn.flows.exchange import Line
from keyturn.testing import World
from programs import Home, Publisher, computer

pytestmark = [pytest.mark.system, pytest.mark.needs("dbus-daemon", "busctl", "dbusmock")]

NM, MM = "org.freedesktop.NetworkManager", "org.freedesktop.ModemManager1"
MANAGER, MODEMS = "/org/freedesktop/NetworkManager", "/org/freedesktop/ModemManager1"
MOCK = "org.freedesktop.DBus.Mock"
UP, AWAY = 70, 20  # NMState: connected to the world, disconnected.


class Bus:
    """A private bus with both managers on it, and a computer to their liking."""

    def __init__(self, folder: Path) -> None:
        self.daemon = subprocess.Popen(
            ["dbus-daemon", "--session", "--nofork", "--print-address"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self.daemon.stdout is not None
        self.environ: Mapping[str, str] = {"DBUS_SYSTEM_BUS_ADDRESS": self.daemon.stdout.readline().strip()}
        # Whoever owns the name says so as a signal: nothing is asked again and again.
        self._monitor = self._start("busctl", "--json=short", "--system", "monitor", "--match", "member='NameOwnerChanged'")
        self._mocks = [
            self._start("/usr/bin/python3", "-m", "dbusmock", "--system", "--template", "networkmanager"),
            self._start("/usr/bin/python3", "-m", "dbusmock", "--system", "-m", MM, MODEMS, MM),
        ]
        for name in (NM, MM):
            self._wait_for(name)
        self.call(NM, MANAGER, "AddProperties", "sa{sv}", NM, "2", "Metered", "u", "0", "PrimaryConnectionType", "s", "")

    def _start(self, *command: str) -> subprocess.Popen[str]:
        env = {"PATH": os.environ["PATH"], **self.environ}
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def _wait_for(self, name: str) -> None:
        """Until somebody owns ``name``: the bus itself answers, and its own patience ends a wait that is too long."""
        while "true" not in self._busctl("call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "NameHasOwner", "s", name):
            assert self._monitor.stdout is not None
            self._monitor.stdout.readline()

    def _busctl(self, *words: str) -> str:
        done = subprocess.run(
            ["busctl", "--system", "--timeout=10", "--", *words], env={"PATH": os.environ["PATH"], **self.environ},
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        return done.stdout

    def call(self, name: str, path: str, method: str, *words: str, interface: str = MOCK) -> str:
        return self._busctl("call", name, path, interface, method, *words)

    def connected(self, state: int, *, metered: int = 4, kind: str = "802-3-ethernet") -> None:
        self.call(
            NM, MANAGER, "UpdateProperties", "sa{sv}", NM, "3", "State", "u", str(state), "Metered", "u", str(metered),
            "PrimaryConnectionType", "s", kind if state >= 50 else "",
        )  # fmt: skip

    def modem(self, number: int, state: int, *, sim: bool = True) -> str:
        """Plug in a modem; the result is its path."""
        path = f"{MODEMS}/Modem/{number}"
        card = f"{MODEMS}/SIM/{number}" if sim else "/"
        values = ("2", "State", "i", str(state), "Sim", "o", card)
        self.call(MM, MODEMS, "AddObject", "ssa{sv}a(ssss)", path, f"{MM}.Modem", *values, "0")
        return path

    def close(self) -> None:
        for process in (self._monitor, *self._mocks, self.daemon):
            process.terminate()
            process.wait(20)
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    made = Bus(tmp_path)
    yield made
    made.close()


def look(bus: Bus, *, routed: bool = False) -> str:
    return links.look(bus.environ, routed=lambda: routed)[0]


def test_what_there_is(bus: Bus) -> None:
    """Each link as NetworkManager says it, from the cable to nothing."""
    found = []
    wireless = "802-11-wireless"
    for state, metered, kind in ((UP, 4, "802-3-ethernet"), (UP, 1, "gsm"), (UP, 3, wireless), (UP, 2, "gsm"), (AWAY, 0, "")):
        bus.connected(state, metered=metered, kind=kind)
        found.append(look(bus))
    assert found == ["up", "metered", "metered", "up", "none"]
    assert look(bus, routed=True) == "unknown"  # Something else manages this computer's links.


def test_modems(bus: Bus) -> None:
    """One that is registered or merely off can connect; one that is locked, failed, searching or without a SIM cannot."""
    bus.connected(AWAY)
    for number, (state, sim) in enumerate([(2, True), (-1, True), (7, True), (8, False)]):
        bus.modem(number, state, sim=sim)
    assert look(bus) == "none"
    ready = bus.modem(10, 8)
    assert look(bus) == "on_demand"
    off = bus.modem(11, 3)
    assert links.modems(bus.environ) == [ready, off]


@pytest.mark.parametrize("environ", [{}, {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere"}])
def test_who_cannot_be_asked_says_nothing(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No bus, or none that answers: unknown, and no exception."""
    monkeypatch.setattr(links, "BUS", "/nowhere")
    assert links.look(environ)[0] == "unknown"


def test_a_bus_without_networkmanager(bus: Bus) -> None:
    """A bus that knows nobody of that name: unknown, and nothing was started by asking."""
    bus._mocks[0].terminate()
    bus._mocks[0].wait(20)
    assert look(bus) == "unknown"


# --- what follows -----------------------------------------------------------------------------------------------------


def line(world: World, bus: Bus, **rules: str) -> Line:
    product = containers.open_product(containers.expect(world.product, "product")).product
    return Line(product, bus.environ, policy=Policy(**rules))  # type: ignore[arg-type]


@pytest.fixture
def nothing_is_probed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every probe that is made."""
    probed: list[str] = []
    monkeypatch.setattr("keyturn.flows.exchange.probe", lambda url, **_: probed.append(url))
    monkeypatch.setattr("keyturn.edge.links._routed", lambda: False)
    return probed


def test_a_link_that_costs_is_left_alone(bus: Bus, world: World, nothing_is_probed: list[str]) -> None:
    """Metered: `link_metered`, exit 3, with the remedy; with the policy's line it is used, and not probed."""
    bus.connected(UP, metered=1, kind="gsm")
    with pytest.raises(KeyturnError) as error:
        line(world, bus).probe()
    assert (error.value.code, error.value.exit) == ("link_metered", 3)
    assert "metered" in error.value.remedy
    line(world, bus, metered="allow").probe()
    assert nothing_is_probed == []


def test_a_modem_is_not_dialled_by_itself(bus: Bus, world: World, nothing_is_probed: list[str]) -> None:
    """On demand: `link_down`, and NetworkManager was asked to open nothing."""
    bus.connected(AWAY)
    bus.modem(1, 8)
    with pytest.raises(KeyturnError) as error:
        line(world, bus).probe()
    assert (error.value.code, error.value.exit) == ("link_down", 3)
    assert "ActivateConnection" not in bus.call(NM, MANAGER, "GetCalls")
    assert nothing_is_probed == []


def test_without_any_link_nothing_is_tried(bus: Bus, world: World, nothing_is_probed: list[str]) -> None:
    bus.connected(AWAY)
    bus.modem(1, 2)
    with pytest.raises(KeyturnError) as error:
        line(world, bus, dial="allow").probe()
    assert error.value.code == "link_down"
    assert nothing_is_probed == []


def test_a_policy_lets_it_dial_and_it_hangs_up(bus: Bus, world: World, nothing_is_probed: list[str]) -> None:
    """`dial = "allow"`: the modem is connected through NetworkManager, once, and disconnected with the line."""
    modem, device, active = _dialable(bus)
    with line(world, bus, dial="allow") as made:
        made.probe()
        made.probe()
        said = bus.call(NM, MANAGER, "GetCalls")
        assert said.count('"ActivateConnection"') == 1
        assert device in said
        assert "DeactivateConnection" not in said
    assert f'"DeactivateConnection" 1 o "{active}"' in bus.call(NM, MANAGER, "GetCalls")
    assert modem
    assert nothing_is_probed == []


def test_a_modem_that_does_not_connect_after_all(bus: Bus, world: World, nothing_is_probed: list[str]) -> None:
    """NetworkManager gives up: `link_down`, and what was begun is ended."""
    _dialable(bus, state=4)
    with pytest.raises(KeyturnError) as error, line(world, bus, dial="allow") as made:
        made.probe()
    assert error.value.code == "link_down"
    assert "DeactivateConnection" in bus.call(NM, MANAGER, "GetCalls")


def _dialable(bus: Bus, *, state: int = 2) -> tuple[str, str, str]:
    """A modem that NetworkManager knows as a device, and a connection that it makes of it."""
    bus.connected(AWAY)
    modem = bus.modem(1, 8)
    device, active = f"{MANAGER}/Devices/1", f"{MANAGER}/ActiveConnection/1"
    values = ("2", "DeviceType", "u", "8", "Udi", "s", modem)
    bus.call(NM, MANAGER, "AddObject", "ssa{sv}a(ssss)", device, f"{NM}.Device", *values, "0")
    bus.call(NM, MANAGER, "AddObject", "ssa{sv}a(ssss)", active, f"{NM}.Connection.Active", "1", "State", "u", str(state), "0")
    bus.call(NM, MANAGER, "UpdateProperties", "sa{sv}", NM, "1", "Devices", "ao", "1", device)
    bus.call(NM, MANAGER, "AddMethod", "sssss", NM, "ActivateConnection", "ooo", "o", f'ret = dbus.ObjectPath("{active}")')
    bus.call(NM, MANAGER, "AddMethod", "sssss", NM, "DeactivateConnection", "o", "", "")
    return modem, device, active


def test_activate_by_hand_asks_the_same(bus: Bus, tmp_path: Path) -> None:
    """`keyturn activate` on a metered link: exit 3, `link_metered`, and the log says that nothing was opened."""
    bus.connected(UP, metered=1, kind="gsm")
    publisher = Publisher(tmp_path / "publisher")
    publisher.home = tmp_path / "far"  # Another of them, at a name that is not this computer's: of loopback nobody pays.
    url = ("--url", "https://activate.example", "--probe-url", "http://activate.example/probe")
    publisher.service("init", "--publisher", "Far Ink", *url).ok()
    product = publisher.product("paintest", "--test")
    (key,) = publisher.mint("paintest")
    home = Home(tmp_path / "client" / "home", sysroot=computer(tmp_path / "pc", "office-pc-a"))
    home.env.update(bus.environ)
    done = home.activate(product, key["key"])
    assert (done.exit, done.code) == (3, "link_metered"), done
    assert [event["name"] for event in eventlog.read(str(home.path), None)][-1] == "link_waiting"
    assert home.status()["state"] == "initial_grace"
