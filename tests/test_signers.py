"""Every kind of signer does the same, refuses the same, and what it cannot do now costs nobody a decision."""

from __future__ import annotations

import ast
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from keyturn.core import jws, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.edge import keystore, signer_files, sodium
from keyturn.edge.signer_program import FIRST_DELAY, Programs
from keyturn.edge.signers import Holder, demand
from keyturn.service import home as homes
from keyturn.service import signing, storing
from keyturn.service.activation import ActivationService, Proven
from keyturn.service.home import ServiceHome
from keyturn.service.seats import Intent
from keyturn.service.signing import COMMAND, ENCRYPTED, FILE, KINDS, TOKEN, IssuingSigner, Sheet
from keyturn.testing import World
from keyturn.testing.world import Chance
from softhsm import PIN, SoftHsm
from test_activation import _open_count, request_of

SOURCE = Path(__file__).parents[1] / "src" / "keyturn"
EXAMPLE = Path(__file__).parents[1] / "examples" / "signer" / "sign.py"
UNRULY = Path(__file__).with_name("unruly_signer.py")
PASSPHRASE = "correct horse battery staple"
needs_softhsm = pytest.mark.needs("softhsm2-util")
every_kind = pytest.mark.parametrize("kind", [FILE, ENCRYPTED, pytest.param(TOKEN, marks=needs_softhsm), COMMAND])


class Asked(NamedTuple):
    """Anything that looks like a document."""

    kind: Kind
    kid: str
    payload: bytes


class Clock:
    """Running time that can be skipped."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.skipped


class Kept:
    """A world whose issuing keys are kept by a signer of some kind, and what opens it."""

    def __init__(self, world: World, env: Mapping[str, str], hsm: SoftHsm | None = None) -> None:
        self.world, self.env, self.hsm = world, env, hsm
        self.path = world.publisher.folder
        self.home = ServiceHome(self.path, env)

    def service(self) -> ActivationService:
        """The service as it runs with this signer."""
        world = self.world
        return ActivationService(self.home, world.publisher.database, clock=world.clock, chance=Chance("signers"))

    def signer(self) -> IssuingSigner:
        return self.home.signer(trust.ROLE_ISSUE, self.world.clock())[1]


@pytest.fixture
def keep(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Kept]]:
    """Move the world's keys to a signer of a kind, as an operator does it."""
    made: list[Kept] = []

    def move(kind: str) -> Kept:
        path = world.publisher.folder
        (tmp_path / "pass").write_text(PASSPHRASE + "\n")
        (tmp_path / "pass").chmod(0o600)
        env = {"KEYTURN_SERVICE_PASSPHRASE_FILE": str(tmp_path / "pass")}
        hsm = None
        if kind == TOKEN:
            hsm = SoftHsm(tmp_path / "hsm")
            env |= hsm.env
            monkeypatch.setenv("SOFTHSM2_CONF", hsm.env["SOFTHSM2_CONF"])  # The module reads it, in the program beside us.
            homes.change_setting(path, "pkcs11_module", hsm.module)
        if kind == COMMAND:
            shutil.copytree(path / "keys", tmp_path / "theirs")
            homes.change_setting(path, "signer_command", shlex.join([sys.executable, str(EXAMPLE), str(tmp_path / "theirs")]))
        if kind != FILE:
            storing.store(ServiceHome(path, env), kind)
        made.append(Kept(world, env, hsm))
        return made[-1]

    yield move
    for kept in made:
        kept.home.close()


def an_intent(kid: str, payload: bytes = b'{"v":1}') -> Intent:
    return Intent(1, "request", "activation", "new", kid, payload, None, 1, 1, 1)


# The same from every kind.


@every_kind
def test_a_certificate_is_the_same_from_every_signer(keep: Callable[[str], Kept], kind: str) -> None:
    """A real request is recorded, signed and answered; a client verifies it; the same request gets the same bytes."""
    plain = {signer.kid: signer for signer in keystore.load_all(keep(FILE).path / "keys").values()}
    kept = keep(kind)
    kept.home.open_signer()
    assert set(kept.home.signers) == set(plain)
    service, world = kept.service(), kept.world
    token = request_of(world, world.publisher.mint())
    first, second = service.exchange(token), service.exchange(token)
    assert isinstance(first, dict) and isinstance(second, dict)
    assert first["certificate"] == second["certificate"]
    kept.home.chain.verify(first["certificate"], Kind.CERTIFICATE, trust.ROLE_ISSUE)
    kid = jws.read_header(first["certificate"], Kind.CERTIFICATE).kid
    payload = jws.payload_of(first["certificate"])
    message = jws.signing_input(Kind.CERTIFICATE, kid, payload)
    assert first["certificate"] == jws.assemble(message, plain[kid].sign(message))  # Ed25519 leaves nothing to chance.
    kept.home.chain.verify(service.product_file("sample")["product"], Kind.PRODUCT, trust.ROLE_ISSUE)


@every_kind
def test_only_recorded_decisions_and_product_files_are_signed(keep: Callable[[str], Kept], kind: str) -> None:
    """Bytes, look-alikes, other keys' documents, and kinds that belong to roots and installations: all refused."""
    kept = keep(kind)
    kept.home.open_signer()
    signer = kept.signer()
    other = next(kid for kid in kept.home.signers if kid != signer.kid)
    wrong: list[Any] = [
        b"bytes", "text", None, Asked(Kind.CERTIFICATE, signer.kid, b"{}"), an_intent(other), Sheet(other, b"{}")
    ]  # fmt: skip
    for what in wrong:
        for act in (signer.sign, signer.submit):
            with pytest.raises(KeyturnError) as refused:
                act(what)
            assert refused.value.code == "internal"
    for forbidden in set(Kind) - trust.ISSUED:
        future = kept.home.holder.submit(Asked(forbidden, signer.kid, b"{}"))
        failure = future.exception()
        assert isinstance(failure, KeyturnError) and failure.code == "internal", forbidden
    assert jws.verify(signer.sign(an_intent(signer.kid)).token, Kind.CERTIFICATE, {signer.kid: signer.public}.get)
    assert jws.verify(signer.sign(Sheet(signer.kid, b"{}")).token, Kind.PRODUCT, {signer.kid: signer.public}.get)


@every_kind
def test_many_at_once_and_each_its_own(keep: Callable[[str], Kept], kind: str) -> None:
    """Two hundred documents are asked for before the first is waited for, and no answer is another's."""
    kept = keep(kind)
    kept.home.open_signer()
    signer = kept.signer()
    futures = [signer.submit(an_intent(signer.kid, jws.dumps({"number": number}))) for number in range(200)]
    for number, future in enumerate(futures):
        verified = jws.verify(future.result(30).token, Kind.CERTIFICATE, {signer.kid: signer.public}.get)
        assert verified.claims() == {"number": number}


@every_kind
def test_which_keys_are_here_is_known_without_opening_anything(keep: Callable[[str], Kept], kind: str) -> None:
    """Status, lists and checks need no PIN: they look at the home."""
    kept = keep(kind)
    closed = ServiceHome(kept.path, {})
    assert set(closed.signers) == signing.here(kept.path) == set(kept.home.signers)
    assert len(closed.signers) == 4
    assert closed.holder.sealed == (kind != FILE)


@every_kind
def test_what_cannot_be_signed_now_is_signed_later(keep: Callable[[str], Kept], kind: str) -> None:
    """A decision is recorded without the signer; `recover` signs it, and says how many."""
    kept = keep(kind)
    service = kept.service()
    proven = service.prove(request_of(kept.world, kept.world.publisher.mint()))
    assert isinstance(proven, Proven)
    service.record(proven, service.database.write).result()
    assert service.database.read(_open_count) == 1
    assert service.recover() == 1
    assert service.database.read(_open_count) == 0


def test_nobody_but_the_recorder_makes_an_intent() -> None:
    """The type is the proof: `Intent` is built in `seats` alone, `Sheet` in `activation` alone."""
    makers: dict[str, set[str]] = {"Intent": set(), "Sheet": set()}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and (name := ast.unparse(node.func).rpartition(".")[2]) in makers:
                makers[name].add(path.stem)
    assert makers == {"Intent": {"seats"}, "Sheet": {"activation"}}


def test_a_holder_asks_what_it_is_before_it_signs() -> None:
    """The last door in front of every key: the kind, then the key."""
    with pytest.raises(KeyturnError) as forbidden:
        demand(Asked(Kind.BUNDLE, "k", b"{}"), {"k": bytes(32)})
    with pytest.raises(KeyturnError) as missing:
        demand(Asked(Kind.CERTIFICATE, "k", b"{}"), {})
    assert (forbidden.value.code, missing.value.code) == ("internal", "signer_unavailable")


# Files with a passphrase.


@pytest.mark.needs("openssl")
def test_an_encrypted_file_is_standard_and_says_its_public_key(tmp_path: Path) -> None:
    """OpenSSL reads it with the passphrase; without it only the public key is to be had."""
    key = keystore.create(tmp_path / "a.key")
    seed = signer_files.seed_of(tmp_path / "a.key", lambda: "")
    assert signer_files.plain(seed) == (tmp_path / "a.key").read_bytes()
    data = signer_files.encrypted(seed, PASSPHRASE)
    assert data != signer_files.encrypted(seed, PASSPHRASE)  # Another salt each time.
    assert signer_files.public_of(data, "a") == key.public
    assert seed not in data
    assert signer_files.decrypted(data, PASSPHRASE, "a") == seed
    with pytest.raises(KeyturnError) as wrong:
        signer_files.decrypted(data, PASSPHRASE + " ", "a")
    assert wrong.value.code == "signer_locked"
    (tmp_path / "b.key").write_bytes(data)
    command = ["openssl", "pkey", "-in", str(tmp_path / "b.key"), "-passin", f"pass:{PASSPHRASE}", "-outform", "DER"]
    assert subprocess.run(command, capture_output=True, check=True).stdout.endswith(seed)


def test_a_public_key_that_is_not_its_own_is_found(keep: Callable[[str], Kept]) -> None:
    """Whoever exchanges the open part of an encrypted file gets no signature under a wrong name."""
    kept = keep(ENCRYPTED)
    first = signer_files.key_files(kept.path / "keys")[0]
    theirs = signer_files.encrypted(bytes(32), PASSPHRASE).partition(b"-----BEGIN ENCRYPTED")[0]
    own = first.read_bytes().partition(b"-----BEGIN ENCRYPTED")
    first.write_bytes(theirs + own[1] + own[2])
    with pytest.raises(KeyturnError) as damaged:
        ServiceHome(kept.path, kept.env).open_signer()
    assert damaged.value.code == "store_damaged"


def test_without_the_passphrase_nothing_is_signed(keep: Callable[[str], Kept], tmp_path: Path) -> None:
    """Missing or wrong: `signer_locked`, and the right one opens it, from a file or from systemd's credentials."""
    kept = keep(ENCRYPTED)
    (tmp_path / "wrong").write_text("wrong horse battery staple")
    (tmp_path / "wrong").chmod(0o600)
    for env in ({}, {"KEYTURN_SERVICE_PASSPHRASE_FILE": str(tmp_path / "wrong")}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}):
        with pytest.raises(KeyturnError) as locked:
            ServiceHome(kept.path, env).open_signer()
        assert locked.value.code == "signer_locked"
    (tmp_path / "wrong").chmod(0o644)
    with pytest.raises(KeyturnError) as open_to_all:
        ServiceHome(kept.path, {"KEYTURN_SERVICE_PASSPHRASE_FILE": str(tmp_path / "wrong")}).open_signer()
    assert open_to_all.value.code == "permission_denied"
    (tmp_path / "keyturn-passphrase").write_text(PASSPHRASE)
    ServiceHome(kept.path, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).open_signer()
    ServiceHome(kept.path, {}, lambda _question: PASSPHRASE).open_signer()


def test_a_new_passphrase_is_asked_for_twice_and_is_no_word(world: World) -> None:
    """A slip of the finger must not lock the keys for ever."""
    path = world.publisher.folder
    for answers in (["a long passphrase", "a long passphrose"], ["short", "short"]):
        said = iter(answers)
        with pytest.raises(KeyturnError) as refused:
            storing.store(ServiceHome(path, {}, lambda _question, said=said: next(said)), ENCRYPTED)  # type: ignore[misc]
        assert refused.value.code == "usage"
        assert not any(signer_files.is_encrypted(place.read_bytes()) for place in signer_files.key_files(path / "keys"))


# Moving keys.


def test_keys_go_there_and_back_between_files(keep: Callable[[str], Kept]) -> None:
    """Encrypted and back: byte for byte the same files, and the question what cannot be undone is asked for one way only."""
    before = {place.name: place.read_bytes() for place in signer_files.key_files(keep(FILE).path / "keys")}
    kept = keep(ENCRYPTED)
    assert kept.home.settings.signer == ENCRYPTED
    assert storing.consequence(kept.home, ENCRYPTED) is None
    assert "without a passphrase" in (storing.consequence(kept.home, FILE) or "")
    assert storing.store(kept.home, FILE).keys == 4
    assert {place.name: place.read_bytes() for place in signer_files.key_files(kept.path / "keys")} == before


@pytest.mark.parametrize("kind", [pytest.param(TOKEN, marks=needs_softhsm), COMMAND])
def test_what_went_elsewhere_is_here_no_more(keep: Callable[[str], Kept], kind: str) -> None:
    """The files are gone; nothing comes back from there but by the root folder, which rotation brings."""
    kept = keep(kind)
    assert signer_files.key_files(kept.path / "keys") == []
    with pytest.raises(KeyturnError) as refused:
        storing.store(kept.home, FILE)
    assert refused.value.code == "usage" and "rotate" in refused.value.remedy
    homes.change_setting(kept.path, "signer", FILE)
    (kept.path / signing.PUBLIC).unlink()
    brought = storing.bring(ServiceHome(kept.path, {}), kept.world.clock())
    assert len(brought) == 4


@pytest.mark.parametrize("kind", [ENCRYPTED, pytest.param(TOKEN, marks=needs_softhsm)])
def test_rotation_brings_the_next_keys_to_where_the_others_are(keep: Callable[[str], Kept], kind: str) -> None:
    """The keys of the next period come from the root folder, and none of them stays in a file that can be read."""
    kept = keep(kind)
    kept.world.clock.advance(days=80)
    home = ServiceHome(kept.path, kept.env)
    brought = storing.bring(home, kept.world.clock())
    assert brought
    after = ServiceHome(kept.path, kept.env)
    after.open_signer()
    assert {key.kid for key in brought} <= set(after.signers)
    signer = after.signers[brought[0].kid]
    assert jws.verify(signer.sign(an_intent(signer.kid)).token, Kind.CERTIFICATE, {signer.kid: signer.public}.get)
    assert all(signer_files.is_encrypted(place.read_bytes()) for place in signer_files.key_files(kept.path / "keys"))
    after.close()
    home.close()


def test_a_program_without_the_keys_is_not_trusted_with_them(world: World, tmp_path: Path) -> None:
    """Keys that only lie here are not removed for a program that does not have them."""
    (tmp_path / "empty").mkdir()
    path = world.publisher.folder
    homes.change_setting(path, "signer_command", shlex.join([sys.executable, str(EXAMPLE), str(tmp_path / "empty")]))
    with pytest.raises(KeyturnError) as refused:
        storing.store(ServiceHome(path, {}), COMMAND)
    assert refused.value.code == "signer_unavailable"
    assert len(signer_files.key_files(path / "keys")) == 4
    assert ServiceHome(path, {}).settings.signer == FILE


@needs_softhsm
def test_keys_are_born_on_the_token(keep: Callable[[str], Kept]) -> None:
    """What `create` lists is what a bundle's draft takes; the token signs with it once a bundle names it, and not before."""
    kept = keep(TOKEN)
    made = storing.create(kept.home, trust.ROLE_ISSUE, 2)
    assert [entry["role"] for entry in made] == [trust.ROLE_ISSUE] * 2
    publics = [jws.public_from_jwk(entry["jwk"]) for entry in made]
    held = kept.home.holder.keys()
    assert {jws.thumbprint(public) for public in publics} <= set(held)
    kept.home.open_signer()
    assert not {jws.thumbprint(public) for public in publics} & set(kept.home.signers)


@pytest.mark.parametrize(
    ("name", "value"), [("signer", "abacus"), ("signer_processes", "0"), ("signer_processes", "many"), ("signer_command", "'")]
)
def test_a_setting_that_means_nothing_is_refused(world: World, name: str, value: str) -> None:
    """Before it is written, and not at the next start."""
    with pytest.raises(KeyturnError) as refused:
        homes.change_setting(world.publisher.folder, name, value)
    assert refused.value.code == "usage"


def test_a_signer_that_is_not_described_is_not_started(world: World) -> None:
    """A kind without what it needs says which setting is missing."""
    path = world.publisher.folder
    for kind in (COMMAND, TOKEN):
        homes.change_setting(path, "signer", kind)
        with pytest.raises(KeyturnError) as refused:
            ServiceHome(path, {})
        assert refused.value.code == "usage"
        assert "config set" in refused.value.remedy


# Tokens.


def token_of(world: World, env: Mapping[str, str], **settings: str) -> Holder:
    path = world.publisher.folder
    for name, value in {"signer": TOKEN, "signer_processes": "1", **settings}.items():
        homes.change_setting(path, name, value)
    return ServiceHome(path, env).holder


@needs_softhsm
def test_a_token_that_is_not_as_the_settings_say(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each mistake says what is missing: the module, the token, the PIN, the keys."""
    hsm = SoftHsm(tmp_path / "hsm")
    monkeypatch.setenv("SOFTHSM2_CONF", hsm.env["SOFTHSM2_CONF"])
    (tmp_path / "wrong").write_text("0000")
    (tmp_path / "wrong").chmod(0o600)
    right, wrong = hsm.env, {"KEYTURN_SERVICE_PIN_FILE": str(tmp_path / "wrong")}
    cases: list[tuple[Mapping[str, str], dict[str, str], str, str]] = [
        (right, {"pkcs11_module": str(tmp_path / "none.so")}, "signer_unavailable", "none.so"),
        (right, {"pkcs11_module": hsm.module, "pkcs11_token": "other"}, "signer_unavailable", "'other'"),
        (wrong, {"pkcs11_module": hsm.module, "pkcs11_token": "keyturn"}, "signer_locked", "PIN"),
        ({}, {}, "signer_locked", "PIN"),
    ]
    for env, settings, code, said in cases:
        holder = token_of(world, env, **settings)
        with pytest.raises(KeyturnError) as refused:
            holder.keys()
        assert (refused.value.code, said in refused.value.detail) == (code, True), refused.value.detail
        holder.close()
    home = ServiceHome(world.publisher.folder, right)
    with pytest.raises(KeyturnError) as empty:
        home.open_signer()
    assert "no issuing key" in empty.value.detail
    home.close()


@needs_softhsm
def test_a_wrong_pin_is_tried_once(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens lock themselves: however often a signature is asked for, and by however many programs, there is one login."""
    hsm = SoftHsm(tmp_path / "hsm")
    monkeypatch.setenv("SOFTHSM2_CONF", hsm.env["SOFTHSM2_CONF"])
    clock, public = Clock(), bytes(32)
    kid = jws.thumbprint(public)
    greeting = {"module": hsm.module, "token": "keyturn", "pin": "0000"}
    count = tmp_path / "logins"
    command = ["sh", "-c", f"echo >>{count}; exec {sys.executable} -I -m keyturn.edge.token_program"]
    holder = Programs(command, {kid: public}, greeting=lambda: greeting, count=4, ticks=clock)
    for _ in range(3):
        futures = [holder.submit(Asked(Kind.CERTIFICATE, kid, b"{}")) for _ in range(8)]
        assert {getattr(future.exception(), "code", None) for future in futures} == {"signer_locked"}
        clock.skipped += 1_000
    assert len(count.read_text().splitlines()) == 1
    holder.close()


@needs_softhsm
def test_a_token_that_was_away_is_found_again(keep: Callable[[str], Kept]) -> None:
    """Every handle of it is dead; the same program opens it anew, and meanwhile says when to come back."""
    kept = keep(TOKEN)
    assert kept.hsm is not None
    clock = Clock()
    greeting = {"module": kept.hsm.module, "token": "keyturn", "pin": PIN}
    holder = Programs([*signing.TOKEN_PROGRAM], signing.elsewhere(kept.path), greeting=lambda: greeting, ticks=clock)
    document = Asked(Kind.CERTIFICATE, kept.signer().kid, b"{}")
    before = holder.sign(document)
    kept.hsm.take_away()
    waits = []
    for _ in range(3):
        with pytest.raises(KeyturnError) as away:
            holder.sign(document)
        assert away.value.code == "signer_unavailable"
        waits.append(away.value.retry_after)
        clock.skipped += holder.pause
    assert waits == [1, 2, 4]
    assert "GeneralError" in str(holder.away)
    kept.hsm.put_back()
    assert holder.sign(document) == before
    assert holder.away is None
    holder.close()


# Programs that misbehave.


class Unruly:
    """A holder over a program whose mood the test sets."""

    def __init__(self, folder: Path, count: int = 1) -> None:
        folder.mkdir()
        (folder / "keys").mkdir()
        self.key = keystore.create(folder / "keys" / "issue-01.key")
        self.mood = folder / "mood"
        self.mood.write_text("")
        self.clock = Clock()
        self.told: list[float | None] = []
        command = [sys.executable, str(UNRULY), str(folder / "keys"), str(self.mood)]
        self.holder = Programs(command, {self.key.kid: self.key.public}, count=count, patience=3, ticks=self.clock)
        self.holder.watchers.append(self.told.append)

    def sign(self, number: int = 0) -> bool:
        """Sign a document; whether what came is a signature of it. Raises as ``Holder.sign``."""
        signed = self.holder.sign(self.document(number))
        return sodium.holds(self.key.public, signed.signature, signed.signing_input)

    def document(self, number: int = 0) -> Asked:
        return Asked(Kind.CERTIFICATE, self.key.kid, jws.dumps({"number": number}))

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self.mood.with_suffix(".pids").read_text().split()]


@pytest.fixture
def unruly(tmp_path: Path) -> Iterator[Unruly]:
    made = Unruly(tmp_path / "unruly")
    yield made
    made.mood.write_text("")
    made.holder.close()


BROKEN = ["die", "hang", "nonsense", "no object", "no signature", "endless", "another key"]


@pytest.mark.parametrize("mood", BROKEN)
def test_a_program_that_breaks_once_costs_nobody_anything(unruly: Unruly, mood: str) -> None:
    """It is replaced, and the new one is asked the same: no caller sees it."""
    assert unruly.sign(1)
    unruly.mood.write_text(f"{mood} once")
    assert unruly.sign(2)
    assert len(unruly.pids) == 2
    assert unruly.holder.away is None
    assert None not in unruly.told


@pytest.mark.parametrize("mood", BROKEN)
def test_a_program_that_stays_broken_is_away_and_comes_back(unruly: Unruly, mood: str) -> None:
    """Nothing false is handed out. Who asks is told at once when to come back, and by then it is tried again."""
    assert unruly.sign(1)
    unruly.mood.write_text(mood)
    with pytest.raises(KeyturnError) as broken:
        unruly.sign(2)
    started = len(unruly.pids)
    with pytest.raises(KeyturnError) as again:
        unruly.sign(3)
    assert (broken.value.code, again.value.code) == ("signer_unavailable", "signer_unavailable")
    assert broken.value.retry_after == int(FIRST_DELAY)
    assert len(unruly.pids) == started  # The second was not even asked.
    assert unruly.told.count(None) == 2
    unruly.mood.write_text("")
    unruly.clock.skipped += unruly.holder.pause
    assert unruly.sign(4)
    assert unruly.holder.away is None


def test_a_program_that_says_more_than_asked_is_replaced(unruly: Unruly) -> None:
    """Answers are matched by order; a line too many would shift them."""
    unruly.mood.write_text("chatty")
    for number in range(3):
        assert unruly.sign(number)
    unruly.mood.write_text("")
    assert unruly.sign(4)
    assert len(unruly.pids) > 1


def test_killed_in_the_middle(tmp_path: Path) -> None:
    """Two programs, of which one is killed while both work, again and again: every document gets its signature."""
    unruly = Unruly(tmp_path / "killed", count=2)
    assert unruly.sign()
    for _ in range(4):
        futures = [unruly.holder.submit(unruly.document(number)) for number in range(150)]
        assert futures[20].result(30)
        os.kill(next(pid for pid in reversed(unruly.pids) if _runs(pid)), signal.SIGKILL)
        for number, future in enumerate(futures):
            verified = jws.verify(future.result(30).token, Kind.CERTIFICATE, {unruly.key.kid: unruly.key.public}.get)
            assert verified.claims() == {"number": number}
    assert len(unruly.pids) >= 4
    assert None not in unruly.told
    unruly.holder.close()


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_refusal_is_not_an_outage(unruly: Unruly) -> None:
    """`error` is about one document: the next is asked. `away` is about all; `locked` for good."""
    unruly.mood.write_text("error once")
    with pytest.raises(KeyturnError) as refused:
        unruly.sign(1)
    assert refused.value.code == "signer_unavailable"
    assert "not this one" in refused.value.detail
    assert str(unruly.holder.away) == "None"
    assert unruly.sign(2)
    unruly.mood.write_text("away once")
    for _ in range(2):
        with pytest.raises(KeyturnError) as away:
            unruly.sign(3)
        assert (away.value.code, unruly.holder.away) == ("signer_unavailable", "the key service is away")
    unruly.clock.skipped += unruly.holder.pause
    assert unruly.sign(4)
    unruly.mood.write_text("locked once")
    for _ in range(3):
        with pytest.raises(KeyturnError) as locked:
            unruly.sign(5)
        assert locked.value.code == "signer_locked"
        unruly.clock.skipped += 1_000
    assert len(unruly.pids) == 1


@pytest.mark.parametrize("mood", ["early die", "early nonsense", "early no object", "early away", "early hang"])
def test_a_program_that_cannot_even_say_what_it_holds(unruly: Unruly, mood: str) -> None:
    """The first question is which keys there are; who does not answer it is asked for no signature."""
    unruly.mood.write_text(mood)
    with pytest.raises(KeyturnError) as refused:
        unruly.holder.keys()
    assert refused.value.code == "signer_unavailable"
    unruly.mood.write_text("")
    unruly.clock.skipped += unruly.holder.pause
    assert unruly.holder.keys() == {unruly.key.kid: unruly.key.public}


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """What cannot be started is told by its name."""
    holder = Programs([str(tmp_path / "none")], {})
    with pytest.raises(KeyturnError) as missing:
        holder.keys()
    assert (missing.value.code, str(tmp_path / "none") in missing.value.detail) == ("signer_unavailable", True)
    holder.close()
    with pytest.raises(KeyturnError):
        holder.keys()


def test_the_kinds_are_these() -> None:
    assert KINDS == (FILE, ENCRYPTED, TOKEN, COMMAND)
