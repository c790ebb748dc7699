"""Activation hosts: discovery and thresholds in a closed network, failover, clones, impostors, kills, virtual years."""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from keyturn.core.model import DAY
from keyturn.testing.computers import synthetic
from show.landscape import DOMAIN, Client, HostMachine, Landscape
from show.stage import Stage, item
from solid import crowd, fleet, host_storm, impostor

HONEST_DRAWS = 80  # Fresh computers whose first host is noted.
KILLS = 200
ANSWERS = 100_000
TOGETHER = ("volclients", "volservers")  # The profile of 25 and 5: one count for both products.


class Organization:
    """A network with a DNS server and two hosts, for products of some thresholds; keys by the product's slug."""

    def __init__(self, stage: Stage, thresholds: dict[str, int]) -> None:
        self.landscape = Landscape(stage)
        self.hosts: list[HostMachine] = []
        self._count = 0
        try:
            self._found(stage, thresholds)
        except BaseException:
            self.close()
            raise

    def _found(self, stage: Stage, thresholds: dict[str, int]) -> None:
        publisher = stage.publisher
        self.products: dict[str, Path] = {}
        self.keys: dict[str, str] = {}
        host_keys: dict[str, str] = {}
        for slug, threshold in thresholds.items():
            together = ("--count-group", "site") if slug in TOGETHER else ()
            self.products[slug] = publisher.product(slug, "--test", "--threshold", str(threshold), *together)
            (client,) = publisher.mint(slug, "--channel", "client", "--org", "globex")
            (of_host,) = publisher.mint(slug, "--channel", "host", "--org", "globex", "--limit", "6")
            self.keys[slug], host_keys[slug] = str(client["key"]), str(of_host["key"])
        first, *more = thresholds
        for name, number in (("anna", 11), ("bert", 12)):
            host = HostMachine(self.landscape, name, number, self.products[first], host_keys[first])
            self.hosts.append(host)
            for slug in more:
                host.add(self.products[slug], host_keys[slug])
        self.landscape.machine("clients", 100)

    def publish(self, *ranks: tuple[int, int]) -> None:
        """Let DNS name the hosts with these priorities and weights."""
        self.landscape.dnsmasq(
            [line for host, rank in zip(self.hosts, ranks, strict=True) for line in host.record(*rank)]
        )

    def client(self, slug: str, model: str = "office-pc") -> Client:
        self._count += 1
        return self.landscape.client(f"pc-{slug}", self.products[slug], synthetic(7_000 + self._count, model))

    def status(self, host: HostMachine, slug: str) -> dict[str, Any]:
        entries = host("status").ok().json["products"]
        return next(entry for entry in entries if f"/{slug}" in entry["product"])

    def close(self) -> None:
        for host in self.hosts:
            host.stop(signal.SIGKILL)
        self.landscape.close()


@contextlib.contextmanager
def organization(stage: Stage, **thresholds: int) -> Iterator[Organization]:
    made = Organization(stage, thresholds)
    try:
        yield made
    finally:
        made.close()


def _tipped(made: Organization, slug: str, clients: list[Client], *, there: int = 0) -> str:
    """All ask one after the other: the last but one is told "1 more", the last is licensed, and the others at one retry.

    ``there`` computers of another product count with them already.
    """
    host, wanted = made.hosts[0], there + len(clients)
    for number, client in enumerate(clients, there + 1):
        done = client.get(made.keys[slug])
        if number < wanted:
            assert (done.exit, done.code) == (1, "threshold_not_met"), done
            said = str(done.json["error"]["detail"])
            assert said.startswith(f"{wanted - number} more computer"), said
    assert said.startswith("1 more computer needed"), said
    assert done.ok().product["state"] == "licensed"
    for client in clients[:-1]:
        assert client.get().ok().product["state"] == "licensed"
    found = made.status(host, slug)
    assert (found["counted"], found["licensed"], found["needed"]) == (wanted, len(clients), 0), found
    return f"computer {wanted - 1} of {wanted} is told “{said}”, then all {len(clients)} licensed at one retry"


@item("No route outside, real DNS: 3 clients + 2 servers, the 4th is told “1 more”, the 5th tips it; the profile 25/5 likewise")
def threshold_by_discovery(stage: Stage) -> str:
    with organization(stage, volfive=5, volclients=25, volservers=5) as made:
        made.publish((0, 10), (1, 10))
        for host in made.hosts:
            host.start()
        outside = made.landscape.rooms["clients"].sh("ip route; ip -6 route | grep -v fe80 || true")
        assert "default" not in outside, outside
        five = [made.client("volfive") for _ in range(3)] + [made.client("volfive", "server") for _ in range(2)]
        told = [_tipped(made, "volfive", five)]
        told.append("5 servers: " + _tipped(made, "volservers", [made.client("volservers", "server") for _ in range(5)]))
        told.append("with 20 clients: " + _tipped(made, "volclients", [made.client("volclients") for _ in range(20)], there=5))
        return "3 + 2: " + "; ".join(told)


@item("SRV: priority is obeyed, weight as measured")
def priority_and_weight(stage: Stage) -> str:
    with organization(stage, volfree=1) as made:
        for host in made.hosts:
            host.start()

        def first_asked(_number: int) -> str:
            client = clients.pop()
            client.get(made.keys["volfree"]).ok()
            return client.remembered.partition(".")[0]

        def draw(count: int) -> Counter[str]:
            clients.extend(made.client("volfree") for _ in range(count))
            with ThreadPoolExecutor(2) as pool:
                return Counter(pool.map(first_asked, range(count)))

        clients: list[Client] = []
        made.publish((5, 0), (0, 100))
        ranked = draw(10)
        assert ranked == {"bert": 10}, ranked
        made.publish((0, 75), (0, 25))
        found = draw(HONEST_DRAWS)
    share, spread = found["anna"] / HONEST_DRAWS, math.sqrt(0.75 * 0.25 / HONEST_DRAWS)
    assert abs(share - 0.75) < 4 * spread, found
    return f"priority 0 before 5: 10 of 10; weights 75 and 25: {found['anna']} and {found['bert']} of {HONEST_DRAWS}" \
           f" ({share:.0%}, expected 75 % ± {4 * spread:.0%})"  # fmt: skip


@item("One host killed: every client renews at the other; both: the rest of 190 virtual days, then 30 days of grace")
def killed_hosts(stage: Stage) -> str:
    with organization(stage, volkill=5) as made:
        anna, bert = made.hosts
        made.publish((0, 10), (1, 10))
        anna.start()
        clients = [made.client("volkill") for _ in range(5)]
        for client in clients:
            client.get(made.keys["volkill"])
        for client in clients:
            assert client.get().ok().product["state"] == "licensed"
            assert client.remembered == f"anna.{DOMAIN}:8444", client.remembered
        anna.stop(signal.SIGKILL)
        # Half a year later, by everybody's clock: the leases are to be renewed, and the remembered host is dead.
        later = 165 * DAY
        bert.start(later=later)
        again = [client for client in clients if client.get(later=later).exit != 0]
        for client in again:
            client.get(later=later).ok()
        for client in clients:
            assert client.remembered == f"bert.{DOMAIN}:8444", client.remembered
        bert.stop(signal.SIGKILL)
        shown = []
        for days, state in ((165, "licensed"), (165 + 189, "licensed"), (165 + 191, "out_of_tolerance_grace"),
                            (165 + 219, "out_of_tolerance_grace"), (165 + 221, "notification")):  # fmt: skip
            found = {client.at(days * DAY)["state"] for client in clients}
            assert found == {state}, (days, found)
            shown.append(f"day {days - 165} {state}")
        dead = clients[0].get(later=later + 191 * DAY)
        assert (dead.exit, dead.code) == (3, "host_not_found"), dead
    return f"5 of 5 renewed at the other ({5 - len(again)} at the first try); then {', '.join(shown)}"


@item("BIND, signed updates: the host publishes itself, is found, lists a stale record, withdraws at SIGTERM")
def dynamic_update(stage: Stage) -> str:
    with organization(stage, volbind=1) as made:
        anna, bert = made.hosts
        key = made.landscape.bind({"anna": 11, "bert": 12})
        for host in made.hosts:
            for name, value in {"domains": DOMAIN, "update_server": "10.77.0.2", "update_key_file": str(key)}.items():
                host("config", "set", name, value).ok()
        service = f"_keyturn._tcp.{DOMAIN}"
        anna("publish").ok()
        assert made.landscape.ask("SRV", service) == [f"0 0 8444 anna.{DOMAIN}."]
        bert.start()
        names = _until(lambda: len(made.landscape.ask("SRV", service) or []) == 2, "the host did not publish itself")
        listed = {record["target"].partition(".")[0]: record["state"] for record in bert("publish").ok().json["records"]}
        assert listed == {"anna": "silent", "bert": "own"}, listed
        client = made.client("volbind")
        assert client.get(made.keys["volbind"]).ok().product["state"] == "licensed"
        assert client.remembered.startswith("bert."), client.remembered
        bert.stop()
        left = made.landscape.ask("SRV", service)
        assert left == [f"0 0 8444 anna.{DOMAIN}."], left
        key.write_text(key.read_text().replace("c2Vj", "AAAA"))
        wrong = anna("publish")
        assert wrong.code == "dns_refused", wrong
    return f"published at start (asked {names} times), stale record listed as silent, withdrawn; a wrong key: {wrong.code}"


def _until(holds: Any, why: str) -> int:
    """Ask again until it holds; each question takes its time, and the host's own log paces nothing here."""
    for number in range(1, 200):
        if holds():
            return number
    raise AssertionError(why)


@item("host status --json: its shape")
def status_shape(stage: Stage) -> str:
    with organization(stage, volshape=1) as made:
        host = made.hosts[0]
        made.publish((0, 1), (1, 1))
        host.start()
        made.client("volshape").get(made.keys["volshape"]).ok()
        found = host("status").ok().json
    assert found.keys() >= {"products", "hosts", "certificate"}, found
    (entry,) = found["products"]
    assert entry.keys() >= {"product", "threshold", "counted", "licensed", "needed", "forks"}, entry
    assert all(isinstance(entry[name], int) for name in ("threshold", "counted", "licensed", "needed", "forks")), entry
    assert (entry["threshold"], entry["counted"], entry["licensed"], entry["needed"]) == (1, 1, 1, 0), entry
    assert found["certificate"]["expires"].endswith("Z"), found
    print(f"        {json.dumps(found)[:600]}")
    return f"products: {', '.join(list(entry)[:6])}; hosts: {len(found['hosts'])}; expires {found['certificate']['expires']}"


@item("kill -9 of the host 200 times under load: no acknowledged lease lost, no count drift")
def kills(stage: Stage) -> str:
    outcome = host_storm.run(stage.place("storm") / "it", kills=KILLS, seed=secrets.token_hex(4))
    assert not outcome.problems, outcome.problems[:5]
    return outcome.text


@item("Contact on 1 January and 1 July only, for three virtual years: licensed on every single day")
def two_contacts_a_year(stage: Stage) -> str:
    return fleet.twice_a_year(stage.place("years"))


@item("Both hosts dead, virtual days: 190 licensed, 30 of grace, to the second")
def hosts_dead(stage: Stage) -> str:
    return fleet.both_dead(stage.place("dead"))


@item("Copies of one installed image on 10 recorded computers: the host shows 10 computers and 9 forks resolved, not 1")
def copies(stage: Stage) -> str:
    return f"activated image: {fleet.copied_image(stage.place('image'))}; never activated: " \
           f"{fleet.copied_image(stage.place('image'), activated=False)}"  # fmt: skip


@item("Lost and repeated replies in random lives: no false fork, no count drift")
def no_false_forks(stage: Stage) -> str:
    seed, done = secrets.token_hex(4), Counter[str]()
    for number in range(40):
        done += fleet.lost_and_repeated(stage.place("lives"), f"{seed} {number}", steps=100)
    return f"seed {seed}: 40 lives of 3 computers and 2 hosts, {done.total()} steps ({done['lose']} replies lost): 0 forks"


@item("An impostor that speaks the whole protocol: 0 of 100,000 answers accepted")
def impostors(stage: Stage) -> str:
    seed = secrets.token_hex(4)
    refused, problems = impostor.campaign(stage.place("impostor"), seed, ANSWERS)
    assert not problems, problems[:3]
    assert refused.total() >= ANSWERS, refused
    return f"seed {seed}: {refused.total()} refused, 0 accepted; " + ", ".join(f"{name} {n}" for name, n in refused.items())


@item("190 virtual days, 10,000 clients, 2 hosts, an outage of three weeks: arrivals after it peak at no more than 2 × the mean")
def after_an_outage(stage: Stage) -> str:
    found = crowd.run(stage.place("crowd"))
    assert found.after <= 2, found.text
    assert found.locked_out == 0, found.text
    return found.text
