"""Activation hosts by telephone: two codes make a host, its computers verify it as any other, and nothing else passes for it."""
from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from calling_hosts import THIEF, Caller, code_of, said, used
from hosts import ORGANIZATION, Organization, filled, refusal
from keyturn.core import hardware, hosting, jws
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, Channel, b64u
from keyturn.core.phone import hosted, installation
from keyturn.edge import files
from keyturn.edge.words import english
from keyturn.host import backup, enrolling
from keyturn.service import telephone_hosts
from keyturn.service.signing import Call
from keyturn.testing import World
from keyturn.testing.computers import synthetic
from keyturn.testing.world import Chance


@pytest.fixture
def world(tmp_path: Any) -> Iterator[World]:
    made = World(tmp_path / "world", threshold=3)
    yield made
    made.close()


@pytest.fixture
def caller(organization: Organization) -> Caller:
    return Caller(organization, 1)


@pytest.mark.parametrize("in_words", [False, True])
def test_two_codes_make_a_host_that_licenses_five_computers(caller: Caller, organization: Organization, in_words: bool) -> None:
    """It serves the organization's client key for a year; started again, it goes on, and renews them."""
    now = organization.world.clock()
    found = caller.activate(in_words=in_words)
    assert (found.how, found.used, found.limit, found.serves) == ("new", 1, 6, organization.client_key["serial"])
    assert (len(found.code.text.split()), len(found.code.words(english()))) == (35, 54)
    permit = caller.permit
    assert permit.certificate is not None and permit.via == "telephone"
    assert permit.certificate.serves == {organization.client_key["serial"]: hosting.Served("standard", ())}
    assert found.until == permit.certificate.expires_at
    assert now + 364 * DAY < permit.certificate.expires_at <= now + 365 * DAY
    assert (permit.certificate.threshold, permit.certificate.lease_days) == (3, 190)
    host = caller.running()
    computers = filled(organization, host, 5)
    host.database.close()
    host = caller.running()
    for computer in computers:
        installation.commitment.cache_clear()  # As in a process of its own.
        assert "lease" in computer.ask(host)
    host.database.close()


def test_the_same_id_until_something_differs(caller: Caller, organization: Organization) -> None:
    """Before and after its answer, on other days: one ID, one seat, another day's certificate. Other hardware makes another."""
    first = caller.asks()
    one = caller.activate()
    organization.world.clock.advance(days=40)
    assert caller.asks() == first
    two = caller.activate()
    assert (two.how, two.used, two.activation) == ("same", 1, one.activation)
    assert code_of(two).head.day == code_of(one).head.day + 40
    caller.machine = organization.machine(synthetic(951).new_disk(), Chance("another disk"))
    second = caller.asks()
    assert second.commitment != first.commitment
    assert said(organization, second).how == "same"
    place = caller.permit.folder / "telephone.json"
    kept = files.read_json(place) or {}
    _, k = organization.world.publisher.service.key_of(second.serial)
    jkt, salt = caller.home.signer.kid, base64.b64decode(kept["salt"])
    bare = installation.make(caller.permit.name, Channel.HOST, second.serial, k, {}, jkt, kept["vector"], salt)
    for damaged in ({**kept, "installation_id": bare.text}, {**kept, "salt": "?"}, {**kept, "installation_id": "0"}, {}):
        files.write_json(place, damaged)
        assert caller.asks().seat == second.seat and not caller.asks().weak


def test_online_takes_its_place_and_costs_nothing(caller: Caller, organization: Organization) -> None:
    """The seat is found by what the call said of it; what the code had no room for comes with it. Later by telephone again."""
    call = caller.activate()
    permit = caller.online()
    assert permit.certificate is not None
    found = permit.certificate
    assert (permit.via, found.organization, found.activation) == ("online", ORGANIZATION, call.activation)
    assert used(organization) == 1 and len(permit.tokens) == 2
    organization.world.clock.advance(days=1)
    assert caller.activate().how == "same"
    assert caller.permit.via == "telephone" and used(organization) == 1


def test_a_warning_names_the_way_that_it_came(caller: Caller, organization: Organization) -> None:
    caller.activate()
    ends = caller.permit.certificate.expires_at  # type: ignore[union-attr]
    warned = enrolling.warning(caller.permit, ends - 10 * DAY)
    assert warned is not None and "keyturn host installation-id" in warned and "10 days" in warned
    caller.online()
    warned = enrolling.warning(caller.permit, caller.permit.certificate.expires_at)  # type: ignore[union-attr]
    assert warned is not None and "installation-id" not in warned


def test_leases_of_two_hosts_by_telephone_know_each_other(organization: Organization) -> None:
    """One host key: one organization, though its certificates name none. A lease of the first is shown to the second."""
    one, two = Caller(organization, 1), Caller(organization, 2)
    one.activate()
    assert (two.activate().how, used(organization)) == ("new", 2)
    first, second = one.running(), two.running()
    holder = filled(organization, first, 3)[0]
    assert "lease" in holder.ask(second, shows=True)
    for host in (first, second):
        host.database.close()


def test_a_backup_takes_the_id_along(caller: Caller) -> None:
    """So that a restored host reads out the same one at its renewal."""
    caller.activate()
    kept = [str(place.relative_to(caller.folder)) for place in caller.folder.glob("products/*/*.json")]
    assert any(name.endswith("/telephone.json") for name in kept)
    assert all(backup.is_member(name) for name in kept)


# --- what is refused ---


def test_each_of_the_572_bits_counts(caller: Caller, organization: Organization) -> None:
    given = caller.asks()
    code, chain, product = code_of(said(organization, given)), caller.permit.opened.chain, caller.permit.name
    assert hosted.of(code.number) == code and hosted.taken(code, product, given, chain)
    for bit in range(572):
        with pytest.raises(KeyturnError) as error:
            hosted.taken(hosted.of(code.number ^ 1 << bit), product, given, chain)
        assert error.value.code == "code_foreign", bit


def test_a_code_is_for_one_host(organization: Organization) -> None:
    """Another host of the organization, the same one with another key file, another product: foreign, and nothing is kept."""
    one, two = Caller(organization, 1), Caller(organization, 2)
    code = code_of(said(organization, one.asks()))
    two.asks()
    assert refusal(lambda: two.confirm(code.text)) == "code_foreign"
    assert two.permit.certificate is None
    other = Caller(organization, 3)
    assert refusal(lambda: other.confirm(code.text)) == "document_foreign"  # It never asked.
    (one.folder / "host.key").write_bytes((two.folder / "host.key").read_bytes())
    assert refusal(lambda: one.confirm(code.text)) == "document_foreign"
    assert one.permit.certificate is None


def test_a_confirmation_id_of_a_computer_is_none_of_a_host(caller: Caller, organization: Organization) -> None:
    given = caller.asks()
    words = code_of(said(organization, given)).words(english())
    assert refusal(lambda: caller.confirm(" ".join(words[:26]))) == "code_malformed"
    slip = refusal(lambda: caller.confirm(" ".join([*words[:20], "zoo" if words[20] != "zoo" else "zebra", *words[21:]])))
    assert slip == "code_mistyped"


Token = tuple[str, str, dict[str, Any]]


def parted(token: str) -> Token:
    document, _, beside = token.partition("~")
    return document, beside, jws.loads(base64.urlsafe_b64decode(beside + "=" * (-len(beside) % 4)))


def with_beside(token: str, **changes: Any) -> str:
    document, _, value = parted(token)
    return f"{document}~{b64u(jws.dumps({**value, **changes}))}"




def signed_by_thief(token: str, **changes: Any) -> str:
    document, beside, _ = parted(token)
    claims = {**jws.loads(jws.payload_of(document)), **changes}
    return f"{jws.sign(Kind.HOST_PHONE, claims, THIEF.public, THIEF.sign)}~{beside}"


def with_claims(token: str, **changes: Any) -> str:
    """Other claims under the signature as it was."""
    document, beside, _ = parted(token)
    head, _, signature = document.split(".")
    claims = {**jws.loads(jws.payload_of(document)), **changes}
    return f"{head}.{b64u(jws.dumps(claims))}.{signature}~{beside}"


def spelled(token: str, how: Callable[[dict[str, Any]], str]) -> str:
    document, _, value = parted(token)
    return f"{document}~{b64u(how(value).encode())}"


TAMPERED: dict[str, Callable[[str], str]] = {
    "another key": lambda t: with_beside(t, jwk=jws.jwk(THIEF.public)),
    "another salt": lambda t: with_beside(t, salt=b64u(bytes(16))),
    "a short salt": lambda t: with_beside(t, salt=b64u(bytes(8))),
    "another hardware": lambda t: with_beside(t, commitment=b64u(hashlib.sha256(b"x").digest())),
    "something more": lambda t: with_beside(t, more=1),
    "without a key": lambda t: spelled(t, lambda v: json.dumps({n: v[n] for n in ("commitment", "salt")})),
    "with spaces": lambda t: spelled(t, lambda v: json.dumps(v, sort_keys=True)),
    "in another order": lambda t: spelled(t, lambda v: json.dumps(dict(reversed(v.items())), separators=(",", ":"))),
    "a list": lambda t: spelled(t, lambda _v: "[]"),
    "nothing beside it": lambda t: t.partition("~")[0],
    "an empty part beside it": lambda t: t.partition("~")[0] + "~",
    "two parts beside it": lambda t: f"{t}~{t.partition('~')[2]}",
    "padding": lambda t: f"{t}=",
    "serves another key": lambda t: with_claims(t, serves=7),
    "for longer": lambda t: with_claims(t, exp=4_000_000_000),
    "by a thief": lambda t: signed_by_thief(t),
    "as an ordinary one": lambda t: t.replace(t.split(".")[0], b64u(jws.dumps(
        {**jws.loads(base64.urlsafe_b64decode(t.split(".")[0] + "==")), "typ": Kind.HOST.typ}))),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERED)
def test_a_computer_believes_nothing_else(caller: Caller, organization: Organization, how: str) -> None:
    """What a host would have to show to be another one, or to do more; and it is believed as it is."""
    caller.activate()
    (_, token), *_ = caller.permit.tokens
    computer = organization.computer(1)
    assert computer.believes(token).public == caller.home.signer.public
    other, refused = TAMPERED[how](token), set()
    assert other != token
    for _ in range(2):  # Where the real one was seen before, and where it was not.
        refused.add(refusal(computer.believes, other))
        hosted._fitted.cache_clear()
    assert refused < {"document_malformed", "document_foreign", "signature_invalid", "trust_invalid", "document_expired"}


def test_one_certificate_in_a_thousand_ways_costs_one_look(caller: Caller, organization: Organization) -> None:
    """Once the real one was seen nothing else beside its document is tried: no scrypt for whoever makes up salts."""
    caller.activate()
    (_, token), *_ = caller.permit.tokens
    runs = installation.commitment.cache_info().misses
    for number in range(50):
        other = with_beside(token, salt=b64u(bytes([number] * 16)))
        assert refusal(organization.computer(1).believes, other) == "document_foreign"
    assert installation.commitment.cache_info().misses == runs
    assert organization.computer(1).believes(token)


def test_weak_evidence_binds_the_key_twice(organization: Organization) -> None:
    """Where nothing but the key tells a host from others, its thumbprint's 44 bits are in the ID too; they are compared."""
    chain, product = organization.computer(1).chain, organization.computer(1).product
    service = organization.world.publisher.service
    _, k = service.key_of(organization.host_key["serial"])
    public, salt, name = THIEF.public, bytes(range(16)), product.name
    jkt, committed = jws.thumbprint(public), hardware.commitment({}, salt)
    made = installation.make(name, Channel.HOST, organization.host_key["serial"], k, {}, jkt, {}, salt)
    assert made.weak
    token = hosted.shown(hosted.taken(code_of(said(organization, made)), name, made, chain), public, committed, salt)
    assert hosting.read_host(token, product, chain).public == public
    other = made._replace(seat="0" * 11)
    proven = other._replace(proof=installation._proof(other, k, name))
    forged = hosted.shown(hosted.taken(code_of(said(organization, proven)), name, proven, chain), public, committed, salt)
    assert refusal(hosting.read_host, forged, product, chain) == "document_foreign"


def test_a_hosts_document_is_for_hosts(organization: Organization) -> None:
    """The service signs one for the ID of a host key only; were another one signed, no computer would take it."""
    world = organization.world
    key, signer = telephone_hosts.signer(world.publisher.service, test=False, now=world.clock())
    caller = Caller(organization, 1)
    given = caller.asks()
    head = code_of(said(organization, given)).head
    mak = given._replace(channel=Channel.MAK)
    signed = signer.sign(Call(key.kid, hosted.payload(caller.permit.name, mak, head, key.not_before))).token
    found = files.read_json(caller.permit.folder / "telephone.json") or {}
    salt = base64.b64decode(found["salt"])
    token = hosted.shown(signed, caller.home.signer.public, hardware.commitment(found["vector"], salt), salt)
    assert refusal(organization.computer(1).believes, token) == "document_foreign"
