"""Installation and confirmation IDs: what each field is for, and which key's word counts."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable

import pytest

from keyturn.core import hardware, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.model import DAY, Channel, ProductName, b64u
from keyturn.core.phone import confirmation, curve, installation, spelling
from keyturn.core.phone.confirmation import QUARTER, ConfirmationID
from keyturn.core.phone.installation import InstallationID
from keyturn.core.phone.spelling import INSTALLATION
from keyturn.core.trust import ROLE_PHONE, ROLE_PHONE_TEST, Chain, ConfirmationKey
from keyturn.edge import bls
from keyturn.edge.words import english
from make_vectors import READING, T0, Key, World

PRODUCT = ProductName("A" * 43, "writer")
K = hashlib.sha256(b"K").digest()
JKT = b64u(hashlib.sha256(b"an installation key").digest())
PAIRS = hardware.pairs(READING.anchors, PRODUCT)
VECTOR = hardware.vector(READING, PRODUCT)
SALT = bytes(range(16))


def installed(pairs: dict[str, str] | None = None, serial: int = 7, salt: bytes = SALT) -> InstallationID:
    return installation.make(PRODUCT, Channel.MAK, serial, K, PAIRS if pairs is None else pairs, JKT, VECTOR, salt)


def secret(name: str) -> bytes:
    return bls.secret_of(hashlib.sha384(name.encode()).digest())


def key(name: str, key_index: int = 0, role: str = ROLE_PHONE, start: int = T0) -> ConfirmationKey:
    return ConfirmationKey(bls.signer(secret(name)).public, key_index, role, start, start + 730 * DAY)


def answer(to: InstallationID, name: str = "one", key_index: int = 0, **fields: int) -> ConfirmationID:
    sign = bls.signer(secret(name)).sign
    return confirmation.issue(PRODUCT, to, fields.get("edition", 0), fields.get("term", 0), key_index, sign)


# Installation IDs.


def test_149_bits_are_45_digits() -> None:
    """And 264 are 80, 572 are 175: the forms hold what they promise, with no word or group to spare."""
    assert 10**40 < 1 << 149 < 10**45
    assert 1 << 11 * 13 < 1 << 149 <= 1 << 11 * 14
    assert 10**75 < 1 << 264 < 10**80
    assert 264 == 11 * 24
    assert 10**170 < 1 << 572 < 10**175
    assert 572 == 11 * 52


def test_the_seat_is_the_top_of_the_first_known_pair() -> None:
    """In the order that is written, whatever else is known; a virtual machine's own name comes first of all."""
    assert set(PAIRS) < set(installation.PAIRS)
    assert set(installation.PAIRS) == hardware._PAIR_NAMES
    for place, name in enumerate(installation.PAIRS[1:], 1):
        left = {pair: tag for pair, tag in PAIRS.items() if pair in installation.PAIRS[place:]}
        assert installed(left).seat == PAIRS[name][:11]
        assert not installed(left).weak
    assert installed({**PAIRS, "vm": "f" * 16}).seat == "f" * 11


def test_weak_evidence_is_the_installation_key_and_says_so() -> None:
    made = installed({})
    assert made.weak
    assert made.seat == hashlib.sha256(b"an installation key").hexdigest()[:11] == installation.prefix_of(JKT)
    assert installation.read(made.text).weak
    assert made._replace(weak=False).proof == made.proof, "the proof was made for weak evidence"
    assert not installation.proof_holds(made._replace(weak=False), K, PRODUCT)


@pytest.mark.parametrize("bit", range(149))
def test_the_proof_covers_every_bit(bit: int) -> None:
    """One changed bit, and it is no ID or the proof fails: the caller cannot ask for another serial, seat or computer."""
    made = installed()
    assert installation.proof_holds(made, K, PRODUCT)
    try:
        changed = installation.of(made.number ^ 1 << bit)
    except KeyturnError:
        assert bit in (116, 145, 146, 147, 148), "the channel's highest bit, and the version's"
    else:
        assert not installation.proof_holds(changed, K, PRODUCT)


def test_the_key_is_known_after_three_groups_or_four_words() -> None:
    """Before, nobody can say which key it is; from then on it is the right one."""
    for serial in (0, 1, 7, 123_456_789, 2**28 - 1):
        made = installed(serial=serial)
        for parts, enough in ((made.text.split(), 3), (made.words(english()), 4)):
            known = [
                installation.key_so_far(spelling.typed(" ".join(parts[:end]) + " ", INSTALLATION, english()))
                for end in range(len(parts) + 1)
            ]
            assert known[0] is known[1] is None
            assert set(known[enough:]) == {(Channel.MAK, serial)}


def test_the_key_is_not_known_before_the_digits_leave_no_other() -> None:
    """Where a group's end lies between two serials, a group more decides."""
    low = installed(serial=8).number >> 114 << 114
    digits = f"{low:045d}"[:15]
    first, second = int(digits + "0" * 30), int(digits + "9" * 30)
    assert first >> 114 != second >> 114
    said = " ".join(spelling.spell(low, INSTALLATION).split()[:3])
    assert installation.key_so_far(spelling.typed(said, INSTALLATION)) is None


def test_an_id_of_a_channel_that_does_not_exist_ends_early() -> None:
    text = spelling.spell(installed().number | 7 << 114, INSTALLATION)
    with pytest.raises(KeyturnError) as error:
        installation.key_so_far(spelling.typed(text[:27], INSTALLATION))
    assert error.value.code == "code_malformed"


def test_a_short_salt_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        installed(salt=b"short")


# Confirmation IDs.


def test_a_code_answers_one_installation_id_alone() -> None:
    """Not another salt's, seat's, serial's or product's, although the same key signed for the same computer."""
    to = installed()
    code, keys = answer(to), [key("one")]
    assert confirmation.confirmed(code, PRODUCT, to, keys, bls.holds) == keys[0]
    others = [installed(salt=bytes(16)), installed({}), installed(serial=8), to._replace(proof=to.proof ^ 1)]
    for product, other in [*((PRODUCT, other) for other in others), (PRODUCT._replace(test=True), to)]:
        with pytest.raises(KeyturnError) as error:
            confirmation.confirmed(code, product, other, keys, bls.holds)
        assert error.value.code == "code_foreign"


def test_the_newest_key_of_an_index_is_asked_first_and_older_ones_too() -> None:
    """An index comes round again: what the key before it signed still holds."""
    to, asked = installed(), list[bytes]()
    old, new, other = key("old"), key("new", start=T0 + 900 * DAY), key("other", 1)

    def holds(public: bytes, signature: bytes, message: bytes) -> bool:
        asked.append(public)
        return bls.holds(public, signature, message)

    assert confirmation.confirmed(answer(to, "old"), PRODUCT, to, [new, other, old], holds) == old
    assert asked == [new.public, old.public], "the key of another index is never asked"
    with pytest.raises(KeyturnError):
        confirmation.confirmed(answer(to, "other", 0), PRODUCT, to, [new, other, old], holds)


@pytest.mark.parametrize(
    ("field", "value"),
    [("key_index", 4), ("key_index", -1), ("edition", 8), ("edition", -1), ("term", 16), ("term", -1)],
)
def test_a_number_that_does_not_fit_is_not_signed(field: str, value: int) -> None:
    to = installed()
    with pytest.raises(ValueError, match="2, 3 and 4 bits"):
        confirmation.issue(
            PRODUCT, to, **{"edition": 0, "term": 0, "key_index": 0, field: value}, sign=lambda _: bytes(32)
        )


def test_terms_are_quarters_since_the_key_s_start() -> None:
    """A term lasts at least as long as was decided, and less than a quarter longer."""
    signer = key("one")
    assert confirmation.term_for(signer, None) == 0
    assert confirmation.ends_at(answer(installed()), signer) is None
    for until in (T0 + 1, T0 + QUARTER, T0 + QUARTER + 1, T0 + 190 * DAY, T0 + 15 * QUARTER):
        term = confirmation.term_for(signer, until)
        end = confirmation.ends_at(ConfirmationID(0, 0, term, bytes(32)), signer)
        assert end is not None
        assert until <= end < until + QUARTER
    with pytest.raises(ValueError, match="so far ahead"):
        confirmation.term_for(signer, T0 + 15 * QUARTER + 1)
    assert confirmation.term_for(signer, T0 - 1) == 1, "a term that is over is still a term"


# Keys.


@pytest.mark.parametrize(
    "bad", [bytes(32), curve.R.to_bytes(32, "big"), b"\xff" * 32, b"\x01", bytes(31) + b"\x01\x01"]
)
def test_what_is_no_secret_signs_nothing(bad: bytes) -> None:
    with pytest.raises(ValueError, match="from 1 to R - 1"):
        bls.signer(bad)


def test_a_secret_is_made_of_48_bytes() -> None:
    """The ends too: no chance makes zero or the order."""
    for chance in (bytes(48), b"\xff" * 48, (curve.R - 1).to_bytes(48, "big"), (curve.R - 2).to_bytes(48, "big")):
        assert 0 < int.from_bytes(bls.secret_of(chance), "big") < curve.R
    with pytest.raises(ValueError, match="48 bytes"):
        bls.secret_of(bytes(47))


def test_a_signature_that_is_no_point_does_not_hold() -> None:
    public, to = key("one").public, installed()
    message = confirmation.message(PRODUCT, to, 0)
    good = answer(to).signature
    assert bls.holds(public, good, message)
    for bad in (bytes(32), b"\xff" * 32, (curve.P << 1).to_bytes(32, "big"), good[:-1] + bytes([good[-1] ^ 1]), b""):
        assert not bls.holds(public, bad, message)


@pytest.mark.parametrize(
    ("hidden", "call"),
    [
        ("py_ecc", "from keyturn.edge import bls; bls.is_key(bytes(128))"),
        ("mnemonic", "from keyturn.edge import words; words.english()"),
    ],
)
def test_without_the_extra_it_says_which_line_installs_it(hidden: str, call: str) -> None:
    """A client alone: the modules are there, their libraries are not."""
    program = (
        f"import sys; sys.modules[{hidden!r}] = None\nfrom keyturn.core.errors import KeyturnError\n"
        f"try:\n    {call}\nexcept KeyturnError as error:\n    print(error.code, error.detail)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("extra_missing ")
    assert "pip install 'keyturn[phone]'" in done.stdout


def test_the_library_leaves_the_depth_of_calls_as_it_was() -> None:
    """It raises Python's limit when it is imported; ours is what ends a document that is nested too deeply."""
    program = (
        "import sys; limit = sys.getrecursionlimit()\nfrom keyturn.edge import bls; bls.is_key(bytes(128))\n"
        "assert 'py_ecc' in sys.modules; print(sys.getrecursionlimit() == limit)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True\n"


# The trust bundles.


def bundle(world: World, number: int, before: str | None, phone: list[ConfirmationKey], *stolen: str) -> str:
    root: Key = world.roots[0]
    claims = trust.bundle_claims(
        publisher="Vector Ink", number=number, previous=None if before is None else trust.pin_of(before), issued_at=T0 + number,
        threshold=1, roots=[root.public], keys=[world._issuing(world.issuer, "issue", T0)], phone=phone,
        revoked=[trust.Revocation(kid, 0, bytes(32)) for kid in stolen],
    )  # fmt: skip
    return trust.sign_bundle(claims, [root.pair])


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def chain_of(*texts: str) -> Chain:
    return trust.verify_chain(texts, trust.pin_of(texts[0]))


def test_bundles_without_confirmation_keys_are_what_they_were(world: World) -> None:
    """The golden chain's digests do not change, and nobody can confirm by telephone under it."""
    assert trust.bundle_claims(
        publisher="P", number=1, previous=None, issued_at=T0, threshold=1, roots=[world.roots[0].public], keys=[]
    ).keys() == {"v", "publisher", "number", "previous", "iat", "roots", "keys"}  # fmt: skip
    assert world.chain.confirming(False) == world.chain.confirming(True) == ()


def test_a_chain_names_the_confirmation_keys_of_its_products(world: World) -> None:
    """Every key that was ever named, the newest first; those of test products apart."""
    old, new = key("old"), key("new", start=T0 + DAY)
    tested = key("tested", role=ROLE_PHONE_TEST)
    first = bundle(world, 1, None, [old, tested])
    second = bundle(world, 2, first, [new._replace(key_index=1)])
    third = bundle(world, 3, second, [new])
    chain = chain_of(first, second, third)
    assert chain.confirming(False) == (new, old), "as the newest bundle that names it says"
    assert chain.confirming(True) == (tested,)
    assert chain.newest.keys.keys() == {world.issuer.kid}, "it is no issuing key"
    with pytest.raises(KeyturnError):
        chain.key(new.kid)


def test_a_confirmation_key_is_revoked_as_every_other(world: World) -> None:
    old, new = key("old"), key("new", 1, start=T0 + DAY)
    first = bundle(world, 1, None, [old])
    chain = chain_of(first, bundle(world, 2, first, [new], old.kid))
    revocation = chain.revocation(old.kid)
    assert revocation is not None
    assert revocation.at == T0 + 2
    assert chain.revocation(new.kid) is None


SPOILED: dict[str, Callable[[list[ConfirmationKey]], list[ConfirmationKey]]] = {
    "two keys with one index": lambda keys: [keys[0], keys[1]._replace(key_index=0)],
    "a fifth index": lambda keys: [keys[0]._replace(key_index=4)],
    "an index below zero": lambda keys: [keys[0]._replace(key_index=-1)],
    "a key of 127 bytes": lambda keys: [keys[0]._replace(public=keys[0].public[:-1])],
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_are_no_confirmation_keys_is_refused(world: World, what: str) -> None:
    keys = [key("old"), key("new", 1)]
    assert chain_of(bundle(world, 1, None, keys)).confirming(False)
    with pytest.raises(KeyturnError) as error:
        chain_of(bundle(world, 1, None, SPOILED[what](keys)))
    assert error.value.code in {"trust_invalid", "document_malformed"}


def test_a_test_product_s_key_confirms_no_other(world: World) -> None:
    """The caller asks the chain for the keys of its product: a test key's signature of an ordinary product's ID is nobody's."""
    tested, to = key("one", role=ROLE_PHONE_TEST), installed()
    chain = chain_of(bundle(world, 1, None, [tested]))
    with pytest.raises(KeyturnError) as error:
        confirmation.confirmed(answer(to), PRODUCT, to, chain.confirming(PRODUCT.test), bls.holds)
    assert error.value.code == "code_foreign"
