"""Which connection to the world this computer has, and opening one where an organization allows it.

Keeps: asking NetworkManager and ModemManager over D-Bus. Leaves to others: which link may be used (``core.schedule``), and
when somebody asks (``flows.exchange``).

- D-Bus is spoken by systemd's own ``busctl``, by its full path (docs/decisions/0012). Nothing is started by asking.
- Whatever cannot be asked is ``unknown``: then a computer is treated as one that manages its links otherwise.
- Asking opens nothing. :func:`dial` does, and what it opened it closes again.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from keyturn.core.errors import KeyturnError

BUSCTL = "/usr/bin/busctl"
BUS = "/run/dbus/system_bus_socket"
PATIENCE = 3  # Seconds for one question.
DIAL_PATIENCE = 90  # Seconds for a modem to connect: registration and context take a minute in the country.
_NM = "org.freedesktop.NetworkManager"
_MM = "org.freedesktop.ModemManager1"
_PROPERTIES = "org.freedesktop.DBus.Properties"
# NMState (nm-dbus-types): connected locally, to a site, globally; and the ones that say there is nothing.
_CONNECTED, _ASLEEP, _DISCONNECTED = (50, 60, 70), 10, (10, 20, 30, 40)
_METERED = (1, 3)  # NMMetered: yes, and probably.
_MODEM = 8  # NMDeviceType
_ACTIVATED, _DEACTIVATED = 2, 4  # NMActiveConnectionState
# MMModemState: off until somebody connects, or registered with a network. Not: locked, failed, searching for one.
_CAN_CONNECT = (3, 6, 8, 9, 10, 11)

Seen = tuple[str, str]  # ``up``, ``metered``, ``on_demand``, ``none`` or ``unknown``; and in words.


def look(environ: Mapping[str, str], *, routed: Callable[[], bool] | None = None) -> Seen:
    """Say which link there is. Raises nothing.

    1. NetworkManager is asked; if it cannot be, the link is unknown.
    2. Connected: ``up``, or ``metered`` if it says so or guesses so.
    3. Not connected, and the kernel has a way out all the same: the links are managed by something else, so unknown.
    4. Otherwise a modem that could connect makes it ``on_demand``; without one there is ``none``.
    """
    # 1.
    said = _all(environ, f"/{_NM.replace('.', '/')}", _NM)
    state = said.get("State")
    if not isinstance(state, int) or state not in (*_CONNECTED, *_DISCONNECTED):
        return "unknown", "NetworkManager does not say"
    # 2.
    if state in _CONNECTED:
        name = said.get("PrimaryConnectionType") or "a connection"
        if said.get("Metered") in _METERED:
            return "metered", f"{name} is paid by use, NetworkManager says"
        return "up", f"{name} is up"
    # 3.
    if (routed or _routed)():
        return "unknown", "NetworkManager has no connection, and the kernel has a route"
    # 4.
    if state != _ASLEEP and modems(environ):
        return "on_demand", "a modem could connect"
    return "none", "no connection is up, and no modem could connect"


def modems(environ: Mapping[str, str]) -> list[str]:
    """The modems, by their paths in ModemManager, that have a SIM and could connect now."""
    answer = _call(environ, _MM, f"/{_MM.replace('.', '/')}", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
    found = []
    for path, interfaces in (answer or {}).items():
        values = _plain(interfaces.get(f"{_MM}.Modem", {}))
        if values.get("State") in _CAN_CONNECT and values.get("Sim", "/") != "/":
            found.append(str(path))
    return sorted(found)


@contextlib.contextmanager
def dial(environ: Mapping[str, str], *, patience: float = DIAL_PATIENCE) -> Iterator[None]:
    """Have NetworkManager connect a modem, and disconnect it afterwards. Raises: KeyturnError ``link_down``."""
    manager = f"/{_NM.replace('.', '/')}"
    device = _device(environ)
    if device is None:
        raise KeyturnError("link_down", "no modem that could connect is known to NetworkManager")
    active = _call(environ, _NM, manager, _NM, "ActivateConnection", "ooo", "/", device, "/")
    if not isinstance(active, str):
        raise KeyturnError("link_down", "NetworkManager does not connect the modem")
    try:
        until = time.monotonic() + patience
        state = None
        while state != _ACTIVATED:
            state = _all(environ, active, f"{_NM}.Connection.Active").get("State")
            if state in (None, _DEACTIVATED) or time.monotonic() > until:
                raise KeyturnError("link_down", "the modem did not connect")
            if state != _ACTIVATED:
                time.sleep(1)  # NetworkManager is asked again; a connection takes seconds.
        yield
    finally:
        _call(environ, _NM, manager, _NM, "DeactivateConnection", "o", active)


def _device(environ: Mapping[str, str]) -> str | None:
    """NetworkManager's device of a modem that could connect."""
    able = modems(environ)
    for path in _all(environ, f"/{_NM.replace('.', '/')}", _NM).get("Devices") or []:
        values = _all(environ, str(path), f"{_NM}.Device")
        if values.get("DeviceType") == _MODEM and values.get("Udi") in able:
            return str(path)
    return None


def _all(environ: Mapping[str, str], path: str, interface: str) -> dict[str, Any]:
    """An object's properties; none if it cannot be asked."""
    found = _call(environ, _NM, path, _PROPERTIES, "GetAll", "s", interface)
    return _plain(found) if isinstance(found, dict) else {}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Properties without the types that busctl writes beside them."""
    return {name: value.get("data") if isinstance(value, dict) else value for name, value in values.items()}


def _call(environ: Mapping[str, str], service: str, *words: str) -> Any:
    """Call a method and return its one result, or ``None`` for anything that does not work."""
    address = environ.get("DBUS_SYSTEM_BUS_ADDRESS")
    if not os.path.exists(BUSCTL) or not (address or os.path.exists(BUS)):
        return None
    command = [BUSCTL, "--system", "--json=short", "--auto-start=no", f"--timeout={PATIENCE}", "call", service, *words]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE + 2, check=False,
            env={"LC_ALL": "C", **({"DBUS_SYSTEM_BUS_ADDRESS": address} if address else {})},
        )  # fmt: skip
        answer = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    results = answer.get("data") if isinstance(answer, dict) else None
    return results[0] if isinstance(results, list) and results else None


def _routed() -> bool:
    """Whether the kernel has a default route, whoever made it (proc_net_route: destination and mask are zero)."""
    with contextlib.suppress(OSError), open("/proc/net/route", encoding="ascii") as stream:
        if any(fields[1] == fields[7] == "00000000" for line in stream if len(fields := line.split()) > 7):
            return True
    with contextlib.suppress(OSError), open("/proc/net/ipv6_route", encoding="ascii") as stream:
        for line in stream:
            fields = line.split()
            if fields[1] == "00" and fields[9] != "lo" and int(fields[8], 16) & 0x200 == 0:  # RTF_REJECT
                return True
    return False
