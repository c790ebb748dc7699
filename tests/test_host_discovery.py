"""Where a computer looks for activation hosts: in the domains that its organization's policy names, then in its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hosts import Organization
from keyturn.testing import World
from programs import PATIENCE, Home
from rooms import Room

pytestmark = [pytest.mark.system, pytest.mark.needs("root", "unshare", "mount", "ip", "dnsmasq")]
RECORDS = """
srv-host=_keyturn._tcp.corp.test,anna.corp.test,8444,0,1
srv-host=_keyturn._tcp.branch.test,bert.branch.test,8444,0,1
local=/test/
"""


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """A computer that searches in branch.test, with a name server that knows hosts in corp.test too; no way out."""
    with Room(tmp_path / "room", network=True) as made:
        (made.folder / "conf").write_text(RECORDS)
        resolver = made.folder / "resolv.conf"
        resolver.write_text("nameserver 127.0.0.1\nsearch branch.test\noptions timeout:1 attempts:1\n")
        made.sh(f"mount --bind {resolver} $(readlink -f /etc/resolv.conf)")
        command = ["/usr/sbin/dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--user=root", "--listen-address=127.0.0.1",
                   "--bind-interfaces", f"--conf-file={made.folder / 'conf'}", "--pid-file=", "--log-facility=-"]  # fmt: skip
        with subprocess.Popen([*made._enter, *command], stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            assert "started" in server.stderr.readline()
            try:
                yield made
            finally:
                server.terminate()
                server.wait(PATIENCE)


def asked(home: Home) -> str:
    """What ``doctor`` says of the hosts that were found."""
    checks = home("doctor").json["checks"]
    return next(str(check["found"]) for check in checks if check["name"] == "Discovery")


def test_domains_of_the_policy_come_before_the_computers_own(room: Room, tmp_path: Path) -> None:
    """With a line `domains` those are asked first; without one, the domains of resolv.conf alone."""
    world = World(tmp_path / "world", threshold=1)
    organization = Organization(world)
    (tmp_path / "sample.ktproduct").write_bytes(world.product)
    home = Home(tmp_path / "client", keyturn=room.keyturn)
    home("product", "add", str(tmp_path / "sample.ktproduct")).ok()
    home("install-key", "-", input=organization.client_key["key"] + "\n").ok()
    assert asked(home) == "asked in this order: bert.branch.test:8444"
    (tmp_path / "client" / "policy.toml").write_text('[policy]\ndomains = ["corp.test"]\n')
    assert asked(home) == "asked in this order: anna.corp.test:8444, bert.branch.test:8444"
    (tmp_path / "client" / "policy.toml").write_text('[policy]\ndomains = ["nothing.test", "Branch.test."]\n')
    assert asked(home) == "asked in this order: bert.branch.test:8444"
    world.close()
