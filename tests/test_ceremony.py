"""Drafts of trust bundles: what is signed is what everybody saw, and nothing that contradicts the chain is signed at all."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ceremonies
from ceremonies import T0, begun, bundle, issuing, keys, next_of, roots, signed
from keyturn.core import jws, trust
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import DAY
from keyturn.core.trust import MAX_BUNDLES, Chain, ConfirmationKey, Revocation
from keyturn.service import ceremony
from keyturn.service import home as homes
from keyturn.service.ceremony import Draft, Missing
from keyturn.service.transcript import transcript
from make_vectors import key

Change = Callable[[dict[str, Any]], Any]


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(KeyturnError) as caught:
        action()
    return caught.value.code


def shown(draft: Draft) -> str:
    return transcript(ceremony.check(draft), ceremony.missing(draft))


# --- making and signing -----------------------------------------------------------------------------------------------


def test_the_next_bundle_has_the_roots_and_the_keys_that_are_not_over() -> None:
    """Same roots and threshold, keys whose time is over left out, new ones in, dropped ones out, in order."""
    chain, now = begun(), T0 + 100 * DAY
    fresh = issuing("fresh", "issue", now)
    dropped = next(iter(chain.newest.keys.values())).kid
    draft = ceremony.draft(chain, now=now, add_keys=[fresh], drop_kids=[dropped])
    made = ceremony.check(draft).bundle
    assert (made.number, made.threshold, made.roots) == (2, 1, chain.newest.roots)
    assert dropped not in made.keys
    assert set(made.keys) == {k.kid for k in chain.newest.keys.values() if k.not_after > now} - {dropped} | {fresh.kid}
    assert list(made.keys.values()) == sorted(made.keys.values(), key=lambda k: (k.role, k.not_before, k.kid))
    assert ceremony.missing(draft) == Missing(1, 1)
    done = signed(draft, "a")
    assert not ceremony.missing(done)
    assert trust.verify_chain([*chain.texts, ceremony.finished(done)], chain.thumbprint).newest == made


def test_from_one_root_to_three_of_five_to_two_of_three() -> None:
    """Each hand-over needs old and new roots, counts them, and carries no more signatures than are needed."""
    chain = begun()
    draft = ceremony.draft(chain, now=T0, roots=[r.public for r in roots("bcdef")], threshold=3)
    counted = []
    for name in "abcd":
        counted.append(ceremony.missing(draft))
        assert code_of(lambda draft=draft: ceremony.finished(draft)) == "trust_invalid"  # type: ignore[misc]
        draft = signed(draft, name)
    assert counted == [(1, 3), (0, 3), (0, 2), (0, 1)]
    text = ceremony.finished(signed(draft, "ef"))
    assert text.count("~") == 3  # One old and three new, although five new ones signed.
    chain = trust.verify_chain([*chain.texts, text], chain.thumbprint)
    # Roots that stay sign once for both: b and c of the old, g and b of the new.
    chain = next_of(chain, "bgh", 2, "bcdg")
    assert chain.texts[-1].count("~") == 3
    chain = next_of(chain, "bgh", 2, "bh")
    assert [(b.number, b.threshold, len(b.roots)) for b in chain.bundles] == [
        (1, 1, 1),
        (2, 3, 5),
        (3, 2, 3),
        (4, 2, 3),
    ]


def test_a_root_signs_once_and_only_where_it_counts() -> None:
    """Signing again adds nothing; a stranger and a root that was retired are refused."""
    chain = next_of(begun(), "bcdef", 3, "abcd")
    draft = signed(ceremony.draft(chain, now=T0), "b")
    assert signed(draft, "b") == draft
    for name in ("a", "x"):
        assert code_of(lambda name=name: signed(draft, name)) == "trust_invalid"  # type: ignore[misc]
    assert len(draft.signatures) == 1


def test_copies_signed_apart_become_one() -> None:
    """Signatures of several copies are put together, each root once; copies of another draft are refused."""
    draft = ceremonies.hand_over()
    whole = ceremony.merged([signed(draft, "ab"), signed(draft, "ac"), signed(draft, "d")])
    assert len(whole.signatures) == 4
    assert not ceremony.missing(whole)
    other = ceremony.draft(begun(), now=T0 + 1)
    assert code_of(lambda: ceremony.merged([draft, other])) == "trust_invalid"


def test_a_draft_survives_its_file(tmp_path: Path) -> None:
    """What is written is what is read; what is no draft, or not there, is said."""
    draft = signed(ceremonies.hand_over(), "ac")
    ceremony.write(tmp_path / "d.ktdraft", draft)
    assert ceremony.read(tmp_path / "d.ktdraft") == draft
    assert code_of(lambda: ceremony.read(tmp_path / "none")) == "file_malformed"
    for data in (b"", b"[]", b"{}", b'{"keyturn":"draft","v":2}', b'{"keyturn":"draft","v":1,"claims":{}}', b"\xff"):
        assert code_of(lambda data=data: ceremony.parse(data)) == "file_malformed"  # type: ignore[misc]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4), st.booleans()), min_size=1, max_size=6), st.data())
def test_any_series_of_hand_overs_holds_and_every_sleeper_catches_up(
    steps: list[tuple[int, int, bool]], data: st.DataObject
) -> None:
    """Whoever knows the first so many bundles comes to the newest; one signature less, and nobody does."""
    chain, names, threshold = begun(1), "a", 1
    for number, (count, more, moved) in enumerate(steps):
        new = "".join(chr(ord("b") + (number % 3) * 5 + place) for place in range(count)) if moved else names
        needed = max(1, min(len(new), 1 + more))
        publics = [root.public for root in roots(new)]
        draft = ceremony.draft(chain, now=T0 + number, roots=publics, threshold=needed)
        old_signers, new_signers = names[:threshold], new[:needed]
        done = signed(draft, "".join(dict.fromkeys(old_signers + new_signers)))
        text = ceremony.finished(done)
        short = "~".join(text.split("~")[1:])
        if short:
            assert code_of(lambda c=chain, s=short: trust.longer(c.texts, [s], c.thumbprint)) == "trust_invalid"  # type: ignore[misc]
        chain, names, threshold = trust.verify_chain([*chain.texts, text], chain.thumbprint), new, needed
    slept = data.draw(st.integers(1, len(chain.texts)))
    assert trust.longer(chain.texts[:slept], chain.texts[slept:], chain.thumbprint) == chain
    assert trust.longer(chain.texts, chain.texts[:slept], chain.thumbprint) == chain


# --- what must not be signed ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain() -> Chain:
    """Three bundles: one root, three of five, and one with a stolen key."""
    handed = next_of(begun(4), "bcdef", 3, "abcd")
    stolen = next(iter(handed.newest.keys))
    return next_of(handed, "bcdef", 3, "bcd", revoked=[Revocation(stolen, 7, bytes(32))])


@pytest.fixture(scope="module")
def good(chain: Chain) -> Draft:
    return ceremony.draft(chain, now=T0 + DAY, add_keys=[issuing("new", "issue", T0)], add_phone=[confirming("good")])


def _set(*path: Any) -> Change:
    *way, last, value = path

    def change(claims: dict[str, Any]) -> None:
        place: Any = claims
        for step in way:
            place = place[step]
        place[last] = value(place[last]) if callable(value) else value

    return change


def _key(public: bytes, role: str = "issue", nbf: int = T0, exp: int = T0 + DAY) -> dict[str, Any]:
    return {"jwk": jws.jwk(public), "role": role, "nbf": nbf, "exp": exp}


STRANGER = key("ceremony stranger").public
IDENTITY = bytes([1]) + bytes(31)  # The point for which everybody can sign.
OUTSIDE = bytes([2]) + bytes(31)  # No point of the curve.
AFTER = 3  # Bundles of the chain above.
HOSTILE: dict[str, tuple[Change, str]] = {
    "the number of the bundle in force": (_set("number", AFTER), "trust_invalid"),
    "a lower number": (_set("number", 1), "trust_invalid"),
    "a number left out": (_set("number", AFTER + 2), "trust_invalid"),
    "a number as text": (_set("number", str(AFTER + 1)), "trust_invalid"),
    "another bundle before it": (_set("previous", "A" * 43), "trust_invalid"),
    "no bundle before it": (_set("previous", None), "trust_invalid"),
    "another publisher": (_set("publisher", "Somebody Else"), "trust_invalid"),
    "a publisher in other letters that look the same": (_set("publisher", "Exаmple Software"), "trust_invalid"),
    "made before the bundle that it follows": (_set("iat", T0 - 1), "trust_invalid"),
    "another version": (_set("v", 2), "trust_invalid"),
    "true as the version": (_set("v", True), "trust_invalid"),
    "something beside it": (lambda claims: claims.update(note="also sells the shop"), "trust_invalid"),
    "something beside a key": (lambda claims: claims["keys"][0].update(x=1), "trust_invalid"),
    "something beside the roots": (lambda claims: claims["roots"].update(x=1), "trust_invalid"),
    "fewer roots than must sign": (_set("roots", "keys", lambda found: found[:2]), "trust_invalid"),
    "a threshold of nothing": (_set("roots", "threshold", 0), "trust_invalid"),
    "a threshold of more than there are": (_set("roots", "threshold", 6), "trust_invalid"),
    "a threshold of true": (_set("roots", "threshold", True), "trust_invalid"),
    "a root twice": (lambda c: c["roots"]["keys"].append(c["roots"]["keys"][0]), "trust_invalid"),
    "too many roots": (lambda c: c["roots"]["keys"].extend(jws.jwk(key(f"r{n}").public) for n in range(5)), "trust_invalid"),
    "a root for which everybody can sign": (_set("roots", "keys", 0, jws.jwk(IDENTITY)), "trust_invalid"),
    "a root that is no point": (_set("roots", "keys", 0, jws.jwk(OUTSIDE)), "trust_invalid"),
    "a root that is short": (_set("roots", "keys", 0, {**jws.jwk(STRANGER), "x": "AAAA"}), "document_malformed"),
    "a root with its private half": (_set("roots", "keys", 0, {**jws.jwk(STRANGER), "d": "A" * 43}), "document_malformed"),
    "roots of no form": (_set("roots", "keys", "all of them"), "document_malformed"),
    "no roots": (lambda claims: claims.pop("roots"), "trust_invalid"),
    "a key twice": (lambda c: c["keys"].append(c["keys"][0]), "trust_invalid"),
    "a key of an unknown role": (lambda c: c["keys"].append(_key(STRANGER, "everything")), "trust_invalid"),
    "a key that lives for ever": (lambda c: c["keys"].append(_key(STRANGER, exp=T0 + 40_000 * DAY)), "trust_invalid"),
    "a key that ends before it begins": (lambda c: c["keys"].append(_key(STRANGER, exp=T0)), "trust_invalid"),
    "a key for which everybody can sign": (lambda c: c["keys"].append(_key(IDENTITY)), "trust_invalid"),
    "a root as an issuing key": (lambda c: c["keys"].append(_key(roots("b")[0].public)), "trust_invalid"),
    "a retired root as an issuing key": (lambda c: c["keys"].append(_key(roots("a")[0].public)), "trust_invalid"),
    "a known key with a later end": (_set("keys", 1, "exp", lambda end: end + DAY), "trust_invalid"),
    "a known key with a later beginning": (_set("keys", 1, "nbf", lambda begin: begin + DAY), "trust_invalid"),
    "a known key in another role": (_set("keys", 1, "role", "test"), "trust_invalid"),
    "keys of no form": (_set("keys", {"issue": []}), "trust_invalid"),
    "a stolen key again": (lambda c: c["keys"].append(_key(key("ceremony issue 0").public)), "trust_invalid"),
    "a revocation left out": (lambda claims: claims.pop("revoked"), "trust_invalid"),
    "a revocation of more": (_set("revoked", 0, "size", 8), "trust_invalid"),
    "a revocation under another root": (_set("revoked", 0, "root", "A" * 42 + "E"), "trust_invalid"),
    "a revocation of nobody's key": (lambda c: c["revoked"].append({**c["revoked"][0], "kid": "A" * 43}), "trust_invalid"),
    "a revocation of a key that stays": (
        lambda c: c["revoked"].append({**c["revoked"][0], "kid": key("ceremony issue new").kid}), "trust_invalid"),
    "more than a client reads": (lambda c: c["keys"].extend(_key(key(f"k{n}").public) for n in range(400)), "trust_invalid"),
}  # fmt: skip


@pytest.mark.parametrize("story", HOSTILE)
def test_a_draft_that_contradicts_its_chain_is_refused(story: str, good: Draft) -> None:
    """By everything that looks at it, before a root is asked; the same draft without the change is fine."""
    change, code = HOSTILE[story]
    claims = copy.deepcopy(dict(good.claims))
    change(claims)
    hostile = good._replace(claims=claims)
    assert code_of(lambda: ceremony.check(hostile)) == code
    assert code_of(lambda: signed(hostile, "b")) == code
    assert code_of(lambda: ceremony.finished(hostile)) == code
    assert ceremony.check(good)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, Mapping):
        for name in value:
            yield from _leaves(value[name], (*path, name))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _leaves(item, (*path, place))
    else:
        yield path


def _others(value: Any) -> Iterator[Any]:
    yield from (None, "", [], {}, True, -1, 2**53)
    if isinstance(value, int):
        yield from (value + DAY, value - DAY, value + 1)
    if isinstance(value, str):
        yield from (value[:-1], value + "A", "B" + value[1:])


def test_every_field_of_a_draft_is_shown_or_refused(good: Draft) -> None:
    """Change any leaf to any of ten other values: it is refused, or people read something else, below the digest too."""
    before = shown(good)
    refused = read = 0
    for path in _leaves(dict(good.claims)):
        value: Any = good.claims
        for step in path:
            value = value[step]
        for other in _others(value):
            if other == value and type(other) is type(value):
                continue
            claims = copy.deepcopy(dict(good.claims))
            _set(*path, other)(claims)
            try:
                text = shown(good._replace(claims=claims))
            except KeyturnError:
                refused += 1
                continue
            read += 1
            said, was = (shown_text.partition("DIGEST OF")[0] for shown_text in (text, before))
            # A key's time is told in days: less than one is no matter of ceremony.
            assert said != was or (path[-1] in ("nbf", "exp") and abs(other - value) < DAY), (path, other)
            assert text != before
    assert refused > 300
    assert read > 3


def test_every_field_of_a_signed_draft_is_held_by_its_signatures(good: Draft) -> None:
    """After one root has signed, no change of any leaf is accepted."""
    done = signed(good, "b")
    for path in _leaves(dict(good.claims)):
        value: Any = good.claims
        for step in path:
            value = value[step]
        claims = copy.deepcopy(dict(good.claims))
        _set(*path, value + 1 if isinstance(value, int) else f"{value}A")(claims)
        assert code_of(lambda claims=claims: ceremony.check(done._replace(claims=claims)))  # type: ignore[misc]


def confirming(name: str, key_index: int = 0, role: str = trust.ROLE_PHONE, begin: int = T0) -> ConfirmationKey:
    """A key by its looks: that its bytes are a point is no matter of ceremony."""
    return ConfirmationKey(4 * hashlib.sha256(name.encode()).digest(), key_index, role, begin, begin + 700 * DAY)


def test_confirmation_keys_come_stay_take_places_and_go() -> None:
    """A new one takes the place of its index; one whose time is over is not named again; the chain knows them all."""
    one, two, tested = confirming("one"), confirming("two", 1), confirming("tested", role=trust.ROLE_PHONE_TEST)
    chain = next_of(begun(), "a", 1, "a", add_phone=[two, tested, one])
    assert chain.newest.phone == (one, two, tested)
    later = confirming("later", begin=T0 + 600 * DAY)
    draft = ceremony.draft(
        chain, now=T0 + 600 * DAY, add_keys=[issuing("fresh", "issue", T0 + 600 * DAY)], add_phone=[later]
    )
    assert ceremony.check(draft).bundle.phone == (later, two, tested)
    text = shown(draft)
    assert "CONFIRMATION KEYS" in text
    assert "number 0 for products" in text
    assert "number 0 for test products" in text
    assert "is not used any more" in text
    chain = trust.verify_chain([*chain.texts, ceremony.finished(signed(draft, "a"))], chain.thumbprint)
    assert chain.confirming(False)[0] == later
    assert set(chain.confirming(False)) == {later, one, two}
    assert ceremony.check(ceremony.draft(chain, now=T0 + 701 * DAY)).bundle.phone == (later,)


def test_a_stolen_confirmation_key_is_revoked_and_never_named_again() -> None:
    one = confirming("one")
    chain = next_of(begun(), "a", 1, "a", add_phone=[one])
    draft = ceremony.draft(chain, now=T0 + DAY, revoked=[Revocation(one.kid, 0, bytes(32))])
    assert ceremony.check(draft).bundle.phone == ()
    assert "STOLEN" in shown(draft)
    chain = trust.verify_chain([*chain.texts, ceremony.finished(signed(draft, "a"))], chain.thumbprint)
    assert chain.revocation(one.kid) is not None
    assert code_of(lambda: ceremony.draft(chain, now=T0 + 2 * DAY, add_phone=[one])) == "trust_invalid"


PHONE_WRONGS: dict[str, Callable[[ConfirmationKey], ConfirmationKey]] = {
    "an issuing key's role": lambda key: key._replace(role="issue"),
    "for ever": lambda key: key._replace(not_after=key.not_before + 733 * DAY),
    "for no time": lambda key: key._replace(not_after=key.not_before),
    "another index than before": lambda key: key._replace(key_index=3),
    "another time than before": lambda key: key._replace(not_before=key.not_before + 1),
    "for test products now": lambda key: key._replace(role=trust.ROLE_PHONE_TEST),
    "a fifth index": lambda key: key._replace(key_index=4),
}


@pytest.mark.parametrize("story", PHONE_WRONGS)
def test_a_confirmation_key_that_contradicts_is_not_drafted(story: str) -> None:
    one = confirming("one")
    chain = next_of(begun(), "a", 1, "a", add_phone=[one])
    assert ceremony.check(ceremony.draft(chain, now=T0 + DAY)).bundle.phone == (one,)
    assert code_of(lambda: ceremony.draft(chain, now=T0 + DAY, add_phone=[PHONE_WRONGS[story](one)])) == "trust_invalid"


def _by(draft: Draft, name: str, **changes: Any) -> str:
    (root,) = roots(name)
    return jws.sign(Kind.BUNDLE, {**draft.claims, **changes}, root.public, root.sign)


FALSE_SIGNATURES: dict[str, tuple[Callable[[Draft], list[str]], str]] = {
    "the same root twice": (lambda d: [_by(d, "b"), _by(d, "b")], "trust_invalid"),
    "a stranger": (lambda d: [_by(d, "x")], "trust_invalid"),
    "a root that was retired": (lambda d: [_by(d, "a")], "trust_invalid"),
    "over something else": (lambda d: [_by(d, "b", iat=T0 + 2 * DAY)], "trust_invalid"),
    "another signature": (lambda d: [_by(d, "b").rpartition(".")[0] + "." + _by(d, "c").rpartition(".")[2]], "signature_invalid"),
    "of another kind": (
        lambda d: [jws.sign(Kind.PRODUCT, d.claims, roots("b")[0].public, roots("b")[0].sign)], "document_malformed"),
    "no signature at all": (lambda d: ["x"], "document_malformed"),
    "an empty one": (lambda d: [""], "document_malformed"),
    "a huge one": (lambda d: [_by(d, "b") + "A" * 70_000], "input_too_large"),
}  # fmt: skip


@pytest.mark.parametrize("story", FALSE_SIGNATURES)
def test_a_false_signature_is_refused(story: str, good: Draft) -> None:
    """Whatever stands where a signature should be, beside one that is good."""
    make, code = FALSE_SIGNATURES[story]
    hostile = good._replace(signatures=(_by(good, "c"), *make(good)))
    assert code_of(lambda: ceremony.check(hostile)) == code


def test_another_chain_is_refused(good: Draft, chain: Chain) -> None:
    """None, one that is cut, in another order, or another publisher's."""
    other = begun(3)
    for texts in (
        (),
        good.texts[:-1],
        good.texts[::-1],
        (*good.texts, good.texts[-1]),
        other.texts,
        ("x", *good.texts[1:]),
    ):
        hostile = good._replace(texts=tuple(texts))
        assert code_of(lambda hostile=hostile: ceremony.check(hostile)) in (  # type: ignore[misc]
            "trust_invalid", "publisher_mismatch", "document_malformed",
        )  # fmt: skip


FILES: dict[str, bytes] = {
    "deep": b'{"keyturn":"draft","v":1,"claims":'
    + b'{"a":' * 5000
    + b"1"
    + b"}" * 5000
    + b',"bundles":[],"signatures":[]}',
    "deep in lists": b'{"keyturn":"draft","v":1,"claims":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "a name twice": b'{"keyturn":"draft","v":1,"claims":{"v":1,"v":2},"bundles":[],"signatures":[]}',
    "a number too large": b'{"keyturn":"draft","v":1,"claims":{"v":' + b"9" * 5000 + b'},"bundles":[],"signatures":[]}',
    "no number": b'{"keyturn":"draft","v":1,"claims":{"v":NaN},"bundles":[],"signatures":[]}',
    "half a character": b'{"keyturn":"draft","v":1,"claims":{"v":"\\ud800"},"bundles":[],"signatures":[]}',
    "too many bundles": b'{"keyturn":"draft","v":1,"claims":{},"bundles":["x"' + b',"x"' * 256 + b'],"signatures":[]}',
    "too many signatures": b'{"keyturn":"draft","v":1,"claims":{},"bundles":[],"signatures":["x"'
    + b',"x"' * 18
    + b"]}",
    "bundles that are no texts": b'{"keyturn":"draft","v":1,"claims":{},"bundles":[1],"signatures":[]}',
    "signatures that are no list": b'{"keyturn":"draft","v":1,"claims":{},"bundles":[],"signatures":"x"}',
    "another kind": b'{"keyturn":"trust","v":1,"claims":{},"bundles":[],"signatures":[]}',
}


@pytest.mark.parametrize("story", FILES)
def test_a_hostile_file_is_refused(story: str) -> None:
    """By its form, at once."""
    assert code_of(lambda: ceremony.parse(FILES[story])) == "file_malformed"


def test_a_huge_file_is_not_even_read(tmp_path: Path) -> None:
    """More than eight MiB is refused by its size."""
    (tmp_path / "huge.ktdraft").write_bytes(b" " * (ceremony.MAX_DRAFT + 1))
    assert code_of(lambda: ceremony.read(tmp_path / "huge.ktdraft")) == "input_too_large"


def test_no_bundle_is_drafted_after_which_none_could_follow() -> None:
    """A chain has at most 256 bundles: the last but one is the last that a ceremony makes."""
    chain = begun(1)
    texts, newest = list(chain.texts), chain
    held = roots("a")
    for _ in range(MAX_BUNDLES - 2):
        texts.append(bundle(newest, held, 1, keys(1), signers=held))
        newest = Chain(
            chain.thumbprint, (*newest.bundles, trust._verify_bundle(texts[-1], newest.newest)), tuple(texts)
        )
    assert newest.newest.number == MAX_BUNDLES - 1
    assert code_of(lambda: ceremony.draft(newest, now=T0)) == "trust_invalid"


# --- into force -------------------------------------------------------------------------------------------------------


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """A folder with nothing but the bundles of :func:`begun`."""
    (tmp_path / "bundles.json").write_text(json.dumps({"v": 1, "bundles": list(begun().texts)}))
    return tmp_path


def stored(service: Path) -> list[str]:
    return list(json.loads((service / "bundles.json").read_text())["bundles"])


def test_what_is_adopted_is_kept_with_all_before_it(service: Path) -> None:
    """Each next bundle is appended; the one in force changes nothing."""
    chain = begun()
    for names, threshold, signers in (("bcdef", 3, "abcd"), ("bcdef", 3, "bcd"), ("bg", 1, "bcd")):
        chain = next_of(chain, names, threshold, signers)
        assert homes.adopt(service, chain.texts[-1]) == chain
        before = (service / "bundles.json").stat().st_mtime_ns
        assert homes.adopt(service, chain.texts[-1]) == chain
        assert (service / "bundles.json").stat().st_mtime_ns == before
    assert stored(service) == list(chain.texts)


def test_old_forked_and_unsigned_bundles_are_not_adopted(service: Path) -> None:
    """An older one, one left out, a fork of any length, one root too few: refused, and the file is as it was."""
    first = begun()
    second = next_of(first, "bcdef", 3, "abcd")
    third = next_of(second, "bcdef", 3, "bcd", now=T0 + DAY)
    homes.adopt(service, second.texts[-1])
    # The fork follows bundle 1, by the root that bundle 2 retired.
    forked, _ = ceremonies.fork(first.texts, roots("a"))
    longer = next_of(trust.verify_chain(forked, first.thumbprint), "a", 1, "a")
    refused = {
        "older": second.texts[0], "fork": forked[-1], "longer fork": longer.texts[-1],
        "one root too few": "~".join(third.texts[-1].split("~")[:2]),
        "left out": next_of(third, "bcdef", 3, "cde", now=T0 + DAY).texts[-1],
        "the same root three times": "~".join([third.texts[-1].split("~")[0]] * 3),
    }  # fmt: skip
    before = (service / "bundles.json").read_bytes()
    for story, text in refused.items():
        assert code_of(lambda text=text: homes.adopt(service, text)) == "trust_invalid", story  # type: ignore[misc]
        assert (service / "bundles.json").read_bytes() == before
    assert homes.adopt(service, third.texts[-1]) == third


def test_two_bundles_of_one_number_are_never_both_adopted(service: Path) -> None:
    """Whoever is second is refused, also when both come at once."""
    from concurrent.futures import ThreadPoolExecutor

    offered = [next_of(begun(), "bcdef", 3, "abcd", now=T0 + second).texts[-1] for second in range(6)]

    def adopt(text: str) -> str:
        try:
            homes.adopt(service, text)
        except KeyturnError as error:
            return error.code
        return "adopted"

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(adopt, offered)) == ["adopted", *["trust_invalid"] * 5]
    assert len(stored(service)) == 2
