"""Activation hosts by telephone: two codes make a host, its computers verify it as any other, and nothing else passes for it."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hosts import ORGANIZATION, Organization, filled, refusal
from keyturn.core import hardware, hosting, jws, license, productkey
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.hosting import HostCertificate
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, Channel, b64u
from keyturn.core.phone import hosted, installation
from keyturn.core.phone.hosted import HostConfirmation
from keyturn.core.phone.installation import InstallationID
from keyturn.edge import files, sodium
from keyturn.edge.words import english
from keyturn.host import backup, enrolling, home, telephone
from keyturn.host.home import HostHome, Permit
from keyturn.host.leasing import LeasingHost
from keyturn.service import call_pages, calls, catalog, telephone_hosts
from keyturn.service import telephone as desk
from keyturn.service.recording import HOST_ACTIVATIONS
from keyturn.service.signing import COMMAND, ENCRYPTED, TOKEN, Call
from keyturn.service.telephone import Answer
from keyturn.testing import World
from keyturn.testing.computers import synthetic
from keyturn.testing.world import Chance, DirectLine
from signer_world import Keep, needs_softhsm
from test_theft import replace, thief


@pytest.fixture
def world(tmp_path: Any) -> Iterator[World]:
    made = World(tmp_path / "world", threshold=3)
    yield made
    made.close()


class Caller:
    """A server with an installed host key, and somebody with a telephone beside it."""

    def __init__(self, organization: Organization, number: int, *, pc: int | None = None, product: bytes | None = None) -> None:
        world = organization.world
        self.organization, self.number = organization, number
        self.folder = world.folder / f"calls-{number}-{organization.name}"
        self.machine = organization.machine(synthetic(950 + (number if pc is None else pc)), Chance(f"{self.folder}"))
        home.initialise(self.folder, f"22222222-0000-4000-8000-{number:012d}", world.clock())
        home.add_product(self.folder, product or world.product)
        enrolling.install_key(self.permit, organization.host_key["key"])

    @property
    def home(self) -> HostHome:
        """As the next start of the program finds it."""
        return HostHome(self.folder, {})

    @property
    def permit(self) -> Permit:
        (permit,) = self.home.permits.values()
        return permit

    def asks(self) -> InstallationID:
        """What is read out: shown here, understood there."""
        return installation.read(telephone.make_id(self.home, self.permit, self.machine).text)

    def confirm(self, text: str) -> HostCertificate:
        found = telephone.confirm(self.home, self.permit, self.machine, text).certificate
        assert found is not None
        return found

    def activate(self, *, in_words: bool = False) -> Answer:
        found = said(self.organization, self.asks())
        self.confirm(" ".join(found.code.words(english())) if in_words else found.code.text)
        return found

    def line(self) -> DirectLine:
        return DirectLine(self.organization.world.publisher.service, self.permit.opened.product, None)

    def online(self) -> Permit:
        done = enrolling.exchange(self.home, self.permit, self.machine, self.line().send)
        assert not isinstance(done, Refused), done
        return done

    def running(self) -> LeasingHost:
        world = self.organization.world
        opened = self.home
        return LeasingHost(opened, opened.open_database(), clock=world.clock, chance=Chance(f"run {self.folder}"))


def ask(organization: Organization, given: InstallationID, **options: Any) -> Answer | Refused:
    service = organization.world.publisher.service
    return desk.answer(service, given, **{"actor": "staff", "alone": False, **options})


def said(organization: Organization, given: InstallationID, **options: Any) -> Answer:
    found = ask(organization, given, **options)
    assert isinstance(found, Answer), found
    return found


def code_of(found: Answer) -> HostConfirmation:
    assert isinstance(found.code, HostConfirmation)
    return found.code


def no(organization: Organization, given: InstallationID, **options: Any) -> str:
    found = ask(organization, given, **options)
    assert isinstance(found, Refused), found
    return found.code


def used(organization: Organization) -> int:
    serial = organization.host_key["serial"]
    return int(organization.world.publisher.database.read(lambda db: catalog.key(db, serial))["used"])


def change(organization: Organization, key: dict[str, Any], **changes: Any) -> None:
    publisher = organization.world.publisher
    publisher.database.write_now(
        lambda db: catalog.set_key(db, key["serial"], changes, publisher.service.ids, publisher.clock(), "staff")
    )


@pytest.fixture
def caller(organization: Organization) -> Caller:
    return Caller(organization, 1)


# --- the way ---


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


THIEF = sodium.signer(bytes(range(32)))


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


# --- whose, how many, and what does not fit ---


def test_a_day_after_its_keys_end_and_another_product(caller: Caller, organization: Organization) -> None:
    """Neither is signed; were it, the host would not take it, and a computer says for which product it is."""
    world, given = organization.world, caller.asks()
    key, signer = telephone_hosts.signer(world.publisher.service, test=False, now=world.clock())
    permit, head = caller.permit, code_of(said(organization, given)).head._replace(day=91)
    paper = Call(key.kid, hosted.payload(permit.name, given, head, key.not_before))
    late = HostConfirmation(head, signer.sign(paper).signature)
    assert refusal(hosted.taken, late, permit.name, given, permit.opened.chain) == "code_foreign"
    theirs = copy.copy(organization)
    theirs.product = world.publisher.product("other")
    theirs._mint("other")
    also = Caller(theirs, 2, product=theirs.product)
    also.activate()
    with pytest.raises(KeyturnError, match=r"/other, not for .*/sample"):
        organization.computer(1).believes(also.permit.tokens[0][1])


def test_a_host_serves_its_own_organization_alone(organization: Organization) -> None:
    """Not by staff's wish, not by a changed code, and not by a computer that asks."""
    other = Organization(organization.world, "globex")
    caller = Caller(organization, 1)
    given, foreign = caller.asks(), other.client_key["serial"]
    assert no(organization, given, serves=foreign) == "nothing_to_serve"
    assert used(organization) == 0
    code = code_of(said(organization, given))
    changed = code._replace(head=code.head._replace(serial=foreign))
    assert refusal(lambda: caller.confirm(changed.text)) == "code_foreign"
    caller.confirm(code.text)
    host = caller.running()
    assert refusal(other.computer(9).ask, host) == "key_unknown"
    host.database.close()


def test_the_newest_client_key_or_the_one_that_staff_names(organization: Organization) -> None:
    world, old = organization.world, organization.client_key["serial"]
    world.clock.advance(days=1)
    (new,) = world.publisher.mint_all("sample", channel="client", organization=ORGANIZATION)
    given = Caller(organization, 1).asks()
    assert said(organization, given).serves == new["serial"]
    assert said(organization, given, serves=old).serves == old
    change(organization, new, blocked=True)
    assert said(organization, given).serves == old
    assert no(organization, given, serves=new["serial"]) == "nothing_to_serve"
    assert refusal(ask, organization, given._replace(channel=Channel.MAK), serves=old) == "usage"


def test_no_client_key_and_a_blocked_host_key(organization: Organization) -> None:
    given = Caller(organization, 1).asks()
    change(organization, organization.client_key, blocked=True)
    found = ask(organization, given)
    assert isinstance(found, Refused) and found.code == "nothing_to_serve"
    assert "of acme for sample" in found.why and "key mint" in found.as_error().remedy
    look = calls.look(organization.world.publisher.service, " ".join(given.text.split()[:4]))
    assert look.mood == "bad" and "no client key of acme" in look.say
    change(organization, organization.host_key, blocked=True)
    assert no(organization, given) == "key_blocked"
    assert (no(organization, given._replace(proof=given.proof ^ 1)), used(organization)) == ("not_accepted", 0)


@pytest.mark.parametrize(
    ("terms", "client", "host", "fits"),
    [
        ({"lease_days": 1023, "threshold": 1023}, {}, {}, True), ({"lease_days": 1024}, {}, {}, False),
        ({"threshold": 1024}, {}, {}, False), ({}, {"features": ["extra"]}, {}, False), ({}, {"edition": "e7"}, {}, True),
        ({}, {"edition": "e8"}, {}, False), ({}, {}, {"days": 364}, False), ({}, {}, {"days": 366}, True),
    ],
)  # fmt: skip
def test_what_a_code_has_no_room_for(
    organization: Organization, terms: dict[str, int], client: dict[str, Any], host: dict[str, int], fits: bool
) -> None:
    """Refused before a seat is taken; what just fits is answered."""
    world, publisher = organization.world, organization.world.publisher
    until = {"until": world.clock() + host["days"] * DAY} if host else {}
    product = publisher.product("roomy", editions={f"e{n}": ["x"] if n == 1 else [] for n in range(9)}, **terms)  # type: ignore[arg-type]
    publisher.mint_all("roomy", channel="client", organization=ORGANIZATION, **client)
    (organization.host_key,) = publisher.mint_all("roomy", channel="host", limit=6, organization=ORGANIZATION, **until)
    caller = Caller(organization, 1, product=product)
    if fits:
        found = caller.activate()
        assert found.edition == client.get("edition", "e0") and caller.permit.certificate is not None
    else:
        assert (no(organization, caller.asks()), used(organization)) == ("not_by_telephone", 0)


def test_the_limit_of_a_host_key_is_exact(organization: Organization) -> None:
    """Six hosts by telephone and online together; a seventh is refused, those that are known are answered."""
    callers = [Caller(organization, number) for number in range(7)]
    for caller in callers[:3]:
        caller.activate()
    for caller in callers[3:6]:
        caller.online()
    assert used(organization) == 6
    assert no(organization, callers[6].asks()) == "limit_reached"
    for caller in callers[:6]:
        assert said(organization, caller.asks()).how == "same"
    assert used(organization) == 6


def test_the_limit_is_exact_at_the_same_time(organization: Organization) -> None:
    """Sixteen hosts ask at once, half of them online, for six seats."""
    callers = [Caller(organization, number) for number in range(16)]
    asked = [caller.asks() for caller in callers]
    requests = [enrolling.make_request(caller.home, caller.permit, caller.machine) for caller in callers]
    service = organization.world.publisher.service

    def one(number: int) -> bool:
        found = ask(organization, asked[number]) if number % 2 else service.exchange(requests[number])
        return not isinstance(found, Refused)

    with ThreadPoolExecutor(8) as pool:
        answered = list(pool.map(one, range(16)))
    assert (sum(answered), used(organization)) == (6, 6)


def test_the_page_says_how_much_to_write_down(caller: Caller, organization: Organization) -> None:
    text = call_pages.answered(said(organization, caller.asks()))
    assert "In 54 words" in text and "Or in 35 groups of digits" in text and "keyturn host confirm" in text
    assert text.count("<li>") == 54 + 35


def test_a_host_is_activated_ten_times_whichever_way(organization: Organization) -> None:
    """Reinstalled on one computer: five times by telephone and five online, then no more by either; a known ID stays good."""
    installed = [Caller(organization, number, pc=1) for number in range(HOST_ACTIVATIONS + 2)]
    for number, caller in enumerate(installed[:HOST_ACTIVATIONS]):
        _ = caller.activate() if number % 2 == 0 else caller.online()
    late, later = installed[HOST_ACTIVATIONS:]
    assert no(organization, late.asks()) == "limit_reached"
    outcome = later.line().send(enrolling.make_request(later.home, later.permit, later.machine))
    assert isinstance(outcome, Refused) and outcome.code == "limit_reached"
    assert said(organization, installed[0].asks()).how == "same"
    assert used(organization) == 1


def test_where_nobody_listens_the_same_limits_hold(caller: Caller, organization: Organization) -> None:
    given = caller.asks()
    wrong = given._replace(proof=given.proof ^ 1)
    for _ in range(desk.WRONG_KEY):
        assert no(organization, wrong, alone=True) == "not_accepted"
    assert no(organization, given, alone=True) == "staff_required"
    assert said(organization, given).how == "new"


# --- keys ---


@pytest.mark.parametrize("kind", [ENCRYPTED, pytest.param(TOKEN, marks=needs_softhsm), COMMAND])
def test_every_signer_answers_hosts(organization: Organization, keep: Keep, kind: str) -> None:
    """Keys in a token, with a program of one's own, or behind a passphrase: the host gets the same bytes as from a file."""
    caller = Caller(organization, 1)
    plain = said(organization, caller.asks()).code
    kept = keep(kind)
    kept.home.open_signer()
    found = desk.answer(kept.service(), caller.asks(), actor="staff", alone=False)
    assert isinstance(found, Answer) and found.code == plain
    assert caller.confirm(found.code.text).public == caller.home.signer.public




def test_another_issuing_key_signs_the_next_answer(caller: Caller, organization: Organization) -> None:
    """After a change of keys the same ID is answered by the new one, which the host knows already."""
    world = organization.world
    first = code_of(caller.activate())
    world.clock.advance(days=80)
    world.publisher.rotate()
    second = code_of(said(organization, caller.asks()))
    assert second.head.day != first.head.day + 80
    assert caller.confirm(second.text).issued_at > world.clock() - DAY


def test_a_code_of_yesterday_is_in_force_and_one_of_last_year_is_not(caller: Caller, organization: Organization) -> None:
    code = said(organization, caller.asks()).code.text
    organization.world.clock.advance(days=366)
    assert refusal(lambda: caller.confirm(code)) == "document_expired"
    organization.world.clock.advance(days=-3)
    assert caller.confirm(code).expires_at > organization.world.clock()


def test_k_alone_makes_no_answer(caller: Caller, organization: Organization) -> None:
    """Whoever holds the host key has K, and signs with any key but the publisher's."""
    given, chain = caller.asks(), caller.permit.opened.chain
    assert productkey.parse(organization.host_key["key"]).serial == given.serial
    head = code_of(said(organization, given)).head
    (start, *_) = [key.not_before for key in chain.newest.keys.values()]
    kid = jws.thumbprint(THIEF.public)
    signed = jws.signing_input(Kind.HOST_PHONE, kid, hosted.payload(caller.permit.name, given, head, start))
    forged = HostConfirmation(head, THIEF.sign(signed))
    assert refusal(lambda: caller.confirm(forged.text)) == "code_foreign"


def test_a_stolen_issuing_key(caller: Caller, organization: Organization) -> None:
    """What it signed is not believed any more; what the host gave holds for a while; the same ID is answered again."""
    world = organization.world
    caller.activate()
    given, (_, old), before = caller.asks(), caller.permit.tokens[0], caller.permit.opened
    assert license.doubt(license.Held("lease", "request", {}, b"", host=old), before.document, before.chain) is None
    replace(world, thief(world).kid)
    early = said(organization, given).code.text
    with pytest.raises(KeyturnError) as error:
        caller.confirm(early)
    assert error.value.code == "code_foreign" and "keyturn host init FILE" in error.value.remedy
    home.add_product(caller.folder, world.publisher.export("sample"))
    permit = caller.permit
    assert (permit.certificate, permit.why_not) == (None, "issuer_revoked")
    opened = permit.opened
    assert refusal(hosting.read_host, old, opened.product, opened.chain) == "issuer_revoked"
    assert hosting.read_host(old, opened.product, opened.chain, doubtful=True).public == caller.home.signer.public
    lease = license.Held("lease", "request", {}, b"", host=old)
    assert license.doubt(lease, opened.document, opened.chain) is not None
    assert caller.asks() == given
    assert caller.activate().how == "same"
    assert caller.permit.certificate is not None and caller.permit.tokens[0][1] != old
