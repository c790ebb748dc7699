"""The service's side of hosts by telephone: whom a host serves, what fits, limits, signers, and time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from calling_hosts import THIEF, Caller, ask, change, code_of, no, said, used
from hosts import ORGANIZATION, Organization, refusal
from keyturn.core import hosting, jws, license, productkey
from keyturn.core.errors import KeyturnError, Refused
from keyturn.core.jws import Kind
from keyturn.core.model import DAY, Channel
from keyturn.core.phone import hosted
from keyturn.core.phone.hosted import HostConfirmation
from keyturn.host import enrolling, home
from keyturn.service import call_pages, calls
from keyturn.service import telephone as desk
from keyturn.service.recording import HOST_ACTIVATIONS
from keyturn.service.signing import COMMAND, ENCRYPTED, TOKEN
from keyturn.service.telephone import Answer
from keyturn.testing import World
from signer_world import Keep, needs_softhsm
from test_theft import replace, thief


@pytest.fixture
def world(tmp_path: Any) -> Iterator[World]:
    made = World(tmp_path / "world", threshold=3)
    yield made
    made.close()


@pytest.fixture
def caller(organization: Organization) -> Caller:
    return Caller(organization, 1)


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
