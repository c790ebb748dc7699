"""An organization's network without a way out: a namespace for each machine, a switch, a DNS server, real activation hosts."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from programs import PATIENCE, Home, Result, environment, run
from rooms import Room, sweep
from show.stage import Stage

DOMAIN = "example.test"
PORT = 8444
SECRET = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"
NAMED = """
options {{ directory "{folder}"; listen-on port 53 {{ {address}; }}; listen-on-v6 {{ none; }}; pid-file none; recursion no;
  session-keyfile none; dnssec-validation no; }};
controls {{ }};
key "keyturn" {{ algorithm hmac-sha256; secret "{secret}"; }};
zone "{domain}" {{ type primary; file "zone"; allow-update {{ key "keyturn"; }}; }};
"""


class Landscape:
    """Machines by name, each with an address in 10.77.0.0/24 and with the DNS server 10.77.0.2; there is no default route."""

    def __init__(self, stage: Stage) -> None:
        sweep()  # What a run that was killed left: its machines would hold on to their programs for ever.
        self.stage, self.folder = stage, stage.place("network")
        self._open = contextlib.ExitStack()
        self.switch = self._room("switch")
        self.switch.sh("ip link add br0 type bridge && ip link set br0 up")
        self.rooms: dict[str, Room] = {}
        self.dns = self.machine("dns", 2)
        self._server: subprocess.Popen[bytes] | None = None

    def _room(self, name: str) -> Room:
        room = Room(self.folder / name, network=True)
        self._open.callback(room.__exit__, None, None, None)
        return room

    def machine(self, name: str, number: int) -> Room:
        """Another machine, with the address 10.77.0.``number``."""
        room = self._room(name)
        self.switch.sh(
            f"ip link add to{number} type veth peer name eth0 netns {room._holder.pid}"
            f" && ip link set to{number} master br0 && ip link set to{number} up"
        )
        resolver = room.folder / "resolv.conf"
        resolver.write_text(f"nameserver 10.77.0.2\nsearch {DOMAIN}\noptions timeout:1 attempts:1\n")
        room.sh(
            f"ip addr add 10.77.0.{number}/24 dev eth0 && ip link set eth0 up"
            f" && mount --bind {resolver} $(readlink -f /etc/resolv.conf)"
        )
        self.rooms[name] = room
        return room

    def dnsmasq(self, records: Sequence[str]) -> None:
        """Serve these lines, in the place of what was served before."""
        folder = self.folder / "dns"
        (folder / "conf").write_text("\n".join([*records, f"local=/{DOMAIN}/"]))
        self._serve(["/usr/sbin/dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--user=root", "--listen-address=10.77.0.2",
                     "--bind-interfaces", f"--conf-file={folder / 'conf'}", "--pid-file="])  # fmt: skip

    def bind(self, addresses: Mapping[str, int]) -> Path:
        """A primary of the domain that takes updates with a key; the result is the key's file, for a host."""
        folder = self.folder / "dns"
        lines = "".join(f"{name} IN A 10.77.0.{number}\n" for name, number in addresses.items())
        (folder / "zone").write_text(f"$TTL 60\n@ IN SOA ns hostmaster 1 60 60 60 60\n@ IN NS ns\nns IN A 10.77.0.2\n{lines}")
        (folder / "conf").write_text(NAMED.format(folder=folder, address="10.77.0.2", secret=SECRET, domain=DOMAIN))
        self._serve(["/usr/sbin/named", "-g", "-c", str(folder / "conf"), "-u", "root"])
        key = folder / "tsig.key"
        key.write_text(f'key "keyturn" {{ algorithm hmac-sha256; secret "{SECRET}"; }};\n')
        key.chmod(0o600)
        return key

    def _serve(self, command: Sequence[str]) -> None:
        """Run a DNS server in its room, and wait until it answers."""
        self._end_dns()
        with (self.folder / "dns.log").open("ab") as log:
            self._server = subprocess.Popen(
                [*self.dns._enter, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        for _ in range(100):
            assert self._server.poll() is None, (self.folder / "dns.log").read_text()
            if self.ask("SOA", DOMAIN) is not None:
                return
        raise AssertionError("the DNS server does not answer")

    def _end_dns(self) -> None:
        if self._server is not None:
            self._server.terminate()
            self._server.wait(PATIENCE)

    def ask(self, kind: str, name: str) -> list[str] | None:
        """What the DNS server says, asked in its own room; ``None`` if it does not answer."""
        script = (
            "import sys, dns.resolver, dns.exception\n"
            "r = dns.resolver.Resolver(configure=False); r.nameservers = ['10.77.0.2']\n"
            "try: found = [str(one) for one in r.resolve(sys.argv[2], sys.argv[1], lifetime=1, search=False)]\n"
            "except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer): found = []\n"
            "except (dns.exception.DNSException, OSError): sys.exit(1)\n"
            "print('\\n'.join(found))\n"
        )
        done = subprocess.run([*self.dns._enter, sys.executable, "-c", script, kind, name], capture_output=True, text=True,
                              check=False, timeout=PATIENCE)  # fmt: skip
        return None if done.returncode else done.stdout.split("\n")[:-1] if done.stdout.strip() else []

    def client(self, name: str, product: Path, recorded: Any, room: str = "clients") -> Client:
        return Client(self, name, product, self.stage.pc(recorded), self.rooms[room])

    def close(self) -> None:
        self._end_dns()
        self._open.close()


class HostMachine:
    """A server of the organization with the program ``keyturn host``: certified by file, so for a year."""

    def __init__(self, landscape: Landscape, name: str, number: int, product: Path, key: str) -> None:
        self.landscape, self.name, self.room = landscape, name, landscape.machine(name, number)
        self.address, self.folder = f"10.77.0.{number}", landscape.stage.place(name)
        self.home = self.folder / "home"
        self.env = {"KEYTURN_SYSROOT": str(landscape.stage.pc("server-a" if number % 2 else "server-b"))}
        self.process: subprocess.Popen[str] | None = None
        self("init", str(product)).ok()
        self("config", "set", "name", f"{name}.{DOMAIN}").ok()
        self.add(product, key)

    def add(self, product: Path, key: str) -> None:
        """Certify this host for a product: the request is carried to the service, and its answer back."""
        slug, carried = product.stem, self.folder / f"{product.stem}.ktx"
        self("init", str(product)).ok()
        self("--product", slug, "activate", "-", "--dry-run", input=f"{key}\n").ok()
        self("--product", slug, "export", "request", "-o", str(carried)).ok()
        run(["--json", "relay", str(carried)], cwd=self.folder).ok()  # A connected computer.
        self("--product", slug, "import", str(carried)).ok()

    def __call__(self, *arguments: str, input: str | None = None) -> Result:  # noqa: A002
        return run(["host", "--home", str(self.home), "--json", *arguments], cwd=self.folder, env=self.env, input=input,
                   keyturn=self.room.keyturn)  # fmt: skip

    def start(self, *, later: int = 0) -> None:
        """Run it, ``later`` seconds from now by its clock, and wait until it says that it is ready."""
        env = {**self.env, **({"KEYTURN_NOW": f"+{later}"} if later else {})}
        command = [str(self.room.keyturn), "host", "run", "--home", str(self.home), "--json",
                   "--listen", f"{self.address}:{PORT}", "--allow-root"]  # fmt: skip
        with (self.folder / "host.log").open("a") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, env=environment(self.folder, env),
                                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)  # fmt: skip
        assert self.process.stdout is not None
        there, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if there else ""
        assert line, (self.folder / "host.log").read_text()[-1500:]
        self.pid = int(json.loads(line)["pid"])

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            os.kill(self.pid, number)
            self.process.wait(PATIENCE)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def record(self, priority: int, weight: int) -> list[str]:
        """The lines for dnsmasq: the service record as the program itself prints it, and the address."""
        self("config", "set", "priority", str(priority)).ok()
        self("config", "set", "weight", str(weight)).ok()
        line = str(self("publish", "--print", "dnsmasq", "--domain", DOMAIN).ok().json["line"])
        return [line, f"address=/{self.name}.{DOMAIN}/{self.address}"]


class Client(Home):
    """One computer of the organization, in a room of the network."""

    def __init__(self, landscape: Landscape, name: str, product: Path, sysroot: Path, room: Room) -> None:
        super().__init__(landscape.stage.place(name) / "home", sysroot=sysroot, keyturn=room.keyturn)
        self.product = product

    def get(self, key: str | None = None, *, later: int = 0) -> Result:
        """``keyturn activate``, without a word about where a host is."""
        env = {"KEYTURN_NOW": f"+{later}"} if later else {}
        if key is None:
            return self("activate", "--yes", env=env)
        return self("activate", "-", "--product-file", str(self.product), "--yes", input=key + "\n", env=env)

    def at(self, later: int) -> dict[str, Any]:
        return self("status", env={"KEYTURN_NOW": f"+{later}"}).ok().product

    @property
    def remembered(self) -> str:
        """The host that answered last."""
        return str(json.loads((self.shelf / "host.json").read_text())["place"])


