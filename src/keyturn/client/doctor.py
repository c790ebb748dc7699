"""Why does it not work? The whole way from this store to the publisher's service, hop by hop, and one sentence at the end.

Keeps: the order of the hops, and what each needs to be right. Leaves to others: how each is done (``loading``,
``edge.transport``). Nothing that identifies a computer is sent: a probe, and a question for the service's directory.

- A hop after a failed one is looked at if it can be: a broken store does not hide a dead service.
- The first hop that failed is the verdict: hop, cause, remedy.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import click

from keyturn import __version__
from keyturn.client import hosts, loading
from keyturn.client.cli import scope_option
from keyturn.client.context import choose, homes_of, machine_of
from keyturn.client.lines import asks_a_host
from keyturn.client.loading import Loaded
from keyturn.client.machine import Machine
from keyturn.client.policies import minute_of_day, policy_of
from keyturn.client.views import row
from keyturn.core import hardware, license, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, State, rfc3339
from keyturn.core.policy import Policy
from keyturn.core.srv import Place
from keyturn.edge import files
from keyturn.edge.proxies import Proxies
from keyturn.edge.terminal import Call, Verb, pass_call
from keyturn.edge.transport import Transport, probe
from keyturn.edge.voice import style
from keyturn.edge.wire import Target
from keyturn.flows.exchange import proxied
from keyturn.flows.hosting import HostLine

SKEW = DAY  # Seconds between this clock and the service's that are worth a word.


class Hop(NamedTuple):
    """One step of the way: whether it holds (``None``: it does not matter here), what was found, and what mends it."""

    name: str
    ok: bool | None
    found: str
    remedy: str | None = None
    exit: int = 0


@click.command(cls=Verb)
@scope_option
@click.option("--ca-bundle", metavar="FILE", help="Trust these certificate authorities instead of the system's.")
@click.option("--bundle", metavar="F", help="Write what was found to a file that support can read; it holds no secret.")
@pass_call
def doctor(call: Call, scope: str | None, ca_bundle: str | None, bundle: str | None) -> int:
    """Look at every step from this store to the publisher's service, and say what is wrong.

    Sends nothing that identifies this computer.
    """
    machine = machine_of(call)
    hops = list(walk(call, machine, scope, ca_bundle))
    failed = next((hop for hop in hops if hop.ok is False), None)
    sentence = "Everything on the way is in order."
    if failed is not None:
        sentence = f"{failed.name}: {failed.found}. {failed.remedy or ''}".strip()
    found = {"ok": failed is None, "sentence": sentence, "checks": [hop._asdict() for hop in hops]}
    if bundle is not None:
        files.write_json(bundle, {"keyturn": "doctor", "v": 1, "version": __version__, **found})
    marks = {True: style("ok  ", fg="green"), False: style("FAIL", fg="red", bold=True), None: "–   "}
    text = "\n".join(f"{marks[hop.ok]} {row(hop.name, hop.found).lstrip()}" for hop in hops)
    call.emit(found, f"{text}\n\n{style(sentence, bold=True)}")
    return 0 if failed is None else failed.exit


def walk(call: Call, machine: Machine, scope: str | None, ca_bundle: str | None) -> Iterator[Hop]:
    """The hops, in order.

    1. The store and its product. 2. The license. 3. The product key and the installation's key. 4. The hardware.
    5. The clock. 6. The organization's policy, and proxies. 7. The probe. 8. Name, connection, TLS and answer of the
    service. 9. Whose service it is. 10. Its clock against this one. With a ``client`` key, instead of 7 to 10: what DNS says of
    activation hosts, and what is wrong with each of them.
    """
    # 1.
    loaded: Loaded | None = None
    try:
        shelf = choose(call, homes_of(call, scope))
        loaded = loading.load(shelf, machine)
        where = f"{loaded.opened.product.title} in {shelf.vault.home}"
        if files.of_another(shelf.vault.home):
            yield Hop("Store", True, where if shelf.vault.writable else f"{where}, which this account can only read")
        else:
            _try_to_write(shelf.vault.home)
            yield Hop("Store", True, where)
    except KeyturnError as error:
        yield _failed("Store", error)
    if loaded is None:
        return
    # 2. to 5.
    yield _license(loaded)
    yield _key(loaded)
    yield _hardware(loaded, machine)
    yield _clock(loaded)
    # 6.
    product = loaded.opened.product
    if asks_a_host(loaded):
        yield from _host(loaded, machine, call)
        return
    service = Target.parse(product.service_url, "https")
    try:
        policy = policy_of(shelf.vault.home, machine)
        yield from _rules(policy, service, machine)
        policy.demand("online")
        policy.demand_name(service.host, service.port)
    except KeyturnError as error:
        yield _failed("Policy", error)
        return  # What the policy forbids, a diagnosis does not do either.
    environ = proxied(call.environ, policy)
    proxies = Proxies.from_environment(environ)
    try:
        proxy = proxies.find(service.scheme, service.host, service.port)
        yield Hop("Proxy", True, f"{service.place} is reached through {proxy.place}" if proxy else f"none for {service.place}")
    except KeyturnError as error:
        yield _failed("Proxy", error)
        return
    # 7. to 10.
    yield _probe(None if policy.probe == "none" else product.probe_url, proxies, required=policy.probe == "required")
    yield from _service(loaded, environ, ca_bundle)


def _host(loaded: Loaded, machine: Machine, call: Call) -> Iterator[Hop]:
    """The way to an activation host: discovery, then the first host that may be believed. Nothing is sent to it."""
    shelf, product = loaded.shelf, loaded.opened.product
    said: list[str] = []
    try:
        policy = policy_of(shelf.vault.home, machine)
        policy.demand("host")
        found = hosts.places(shelf, machine.chance, said.append, None, policy.domains)
    except KeyturnError as error:
        yield _failed("Policy" if error.code.startswith("policy") else "Discovery", error)
        return
    none = "; ".join(said) or "this computer searches in no domain"
    told = f"asked in this order: {', '.join(map(str, found))}" if found else none
    yield Hop("Discovery", bool(found), told, "Name the host: `keyturn activate --host NAME`, or publish it in DNS.", 3)
    if not found:
        return
    answered: list[Place] = []
    line = HostLine(
        product, loaded.opened.chain, lambda: found, call.environ, now=lambda: machine.now(product), policy=policy,
        chosen=answered.append,
    )  # fmt: skip
    try:
        with line:
            line.reach()
        yield Hop("Activation host", True, f"{answered[0]} is one of this organization's, and answers over TLS")
    except KeyturnError as error:
        yield _failed("Activation host", error)


def _try_to_write(home: str) -> None:
    """A full or read-only disk shows only when it is written to.

    Raises: KeyturnError ``storage_failed``, ``permission_denied``.
    """
    trial = os.path.join(home, ".doctor")
    files.write(trial, b"A store that cannot be written keeps no activation.\n")
    files.remove(trial)


def _rules(policy: Policy, service: Target, machine: Machine) -> Iterator[Hop]:
    """What the policy's lines mean here: which are obeyed, and which of a home's are too loose to count."""
    for line in policy.ignored:
        yield Hop("Policy", None, f"this line would loosen what holds, and is ignored: {line}", "Take it out.")
    if not policy.open_at(minute_of_day(machine.clock())):
        yield Hop("Policy", None, f"contact is allowed at other hours ({policy.line('hours')})")
    elif policy.lines:
        yield Hop("Policy", True, f"allows {service.place}; what holds: {'; '.join(policy.lines.values())}")


def _license(loaded: Loaded) -> Hop:
    standing = loaded.standing
    if standing.state is State.LICENSED and standing.reason is None:
        return Hop("License", True, "licensed")
    why = standing.reason or standing.state.word
    if standing.state is State.LICENSED or standing.usable:
        return Hop("License", None, f"{standing.state.word}: {why.replace('_', ' ')}", standing.remedy)
    return Hop("License", False, f"{standing.state.word}: {why.replace('_', ' ')}", standing.remedy, 1)


def _key(loaded: Loaded) -> Hop:
    if loaded.key is None:
        return Hop("Product key", False, "none is installed", "Install it: `keyturn install-key`.", 1)
    known = f"{loaded.key.product_id}, …{loaded.key.partial}"
    if loaded.possession != "proven":
        found = f"{known}; this account cannot read the installation's key"
        return Hop("Product key", None, found, "Activate as the store's owner.")
    return Hop("Product key", True, known)


def _hardware(loaded: Loaded, machine: Machine) -> Hop:
    computer = machine.computer(loaded.opened.product)
    known = sorted(computer.reading.anchors)
    if loaded.tolerance is not None and not loaded.tolerance.same:
        why = loaded.tolerance.reason or "hardware_changed"
        changed = f": {hardware.describe(loaded.tolerance.changed)}" if loaded.tolerance.changed else ""
        return Hop("Hardware", False, why.replace("_", " ") + changed, "Activate again: `keyturn activate`.", 1)
    if known:
        return Hop("Hardware", True, f"known: {', '.join(known)}")
    return Hop("Hardware", None, "nothing that tells this computer from others", "Run it once as root, so that it can be read.")


def _clock(loaded: Loaded) -> Hop:
    seen = 0 if loaded.record is None else loaded.record.high_water
    if loaded.now < seen - license.CLOCK_TOLERANCE:
        found = f"it says {rfc3339(loaded.now)}, and {rfc3339(seen)} was seen before"
        return Hop("Clock", False, found, "Set this computer's clock.", 1)
    return Hop("Clock", True, str(rfc3339(loaded.now)))


def _probe(url: str | None, proxies: Proxies, *, required: bool) -> Hop:
    """A plain question that every portal of a hotel answers in the service's place: only the service's own 204 is its answer."""
    if url is None:
        return Hop("Probe", None, "none is sent")
    result = probe(url, proxies=proxies)
    if result.outcome == "silent" and required:
        found = f"no answer ({result.detail}), and the organization's policy wants one"
        return Hop("Probe", False, found, "Let plain HTTP to that port pass.", 3)
    if result.outcome == "silent":
        found = f"no answer ({result.detail}); HTTPS is tried all the same"
        return Hop("Probe", None, found, "Let plain HTTP to that port pass.")
    if result.outcome == "unready":
        return Hop("Probe", False, f"{result.detail}: the service is not ready", "Try again later.", 3)
    if result.status != 204:
        found = f"{result.detail} where 204 is expected: something in between answers, such as a portal that wants a sign-in"
        return Hop("Probe", None, found, "Open a page in a browser and sign in, or ask who runs this network.")
    return Hop("Probe", True, result.detail)


def _service(loaded: Loaded, environ: Mapping[str, str], ca_bundle: str | None) -> Iterator[Hop]:
    product, chain = loaded.opened.product, loaded.opened.chain
    url = f"{product.service_url}/.well-known/keyturn"
    try:
        with Transport(ca_pem=product.ca, ca_bundle=ca_bundle, environ=environ) as transport:
            directory = transport.get_json(url)
        yield Hop("Service", True, f"{product.service_url} answers over TLS")
    except KeyturnError as error:
        yield _failed(_STEPS.get(str(error.data.get("step")), "Service"), error)
        return
    texts = directory.get("bundles")
    bundles = [str(text) for text in texts] if isinstance(texts, list) else []
    try:
        longer = trust.longer(chain.texts, bundles, loaded.name.thumbprint)
        trust.verify_chain(bundles, loaded.name.thumbprint)
        newer = longer.newest.number - chain.newest.number
        told = f", {newer} newer than here" if newer else ""
        yield Hop("Publisher", True, f"{product.publisher}, trust bundle {longer.newest.number}{told}")
    except KeyturnError as error:
        yield _failed("Publisher", error)
    there = directory.get("server_time")
    if isinstance(there, int):
        found = f"the service's says {rfc3339(there)}, this one {rfc3339(loaded.now)}"
        if abs(there - loaded.now) > SKEW:
            yield Hop("Clocks", False, found, "Set this computer's clock.", 1)
        else:
            yield Hop("Clocks", True, found)


_STEPS = {"name": "Name", "connect": "Connection", "proxy": "Proxy", "tls": "TLS", "answer": "Answer"}
_MORE = {
    "name": "Look whether the name is right and this computer's DNS works.",
    "connect": "A firewall may be in between, or the service is down: ask for the port named here.",
    "proxy": "Look at HTTPS_PROXY and NO_PROXY.",
}


def _failed(name: str, error: KeyturnError) -> Hop:
    remedy = _MORE.get(str(error.data.get("step")), error.remedy)
    return Hop(name, False, error.detail.rstrip("."), remedy, error.exit)


