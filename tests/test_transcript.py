"""The words of a ceremony: they fit a page, say all of it, and nothing foreign can look like something else."""

from __future__ import annotations

import base64
import hashlib

import ceremonies
from ceremonies import T0, begun, keys, next_of, roots, signed
from keyturn.core import trust
from keyturn.core.trust import Chain, Revocation
from keyturn.service import ceremony
from keyturn.service.transcript import changes, groups, plain, spoken, transcript


def lines_of(chain: Chain, **more: object) -> str:
    draft = ceremony.draft(chain, now=T0, **more)  # type: ignore[arg-type]
    return transcript(ceremony.check(draft), ceremony.missing(draft))


def test_a_digest_is_read_in_sixteen_groups_of_four() -> None:
    """They are the bytes of the digest and nothing else; a key is the first six."""
    digest = hashlib.sha256(b"x").digest()
    name = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert "".join(groups(name)) == digest.hex().upper()
    assert [len(group) for group in groups(name)] == [4] * 16
    assert spoken(name).split() == groups(name)[:6]


def test_the_transcript_says_all_of_it() -> None:
    """Publisher, number, who decides, every root, every new key with its dates, who has signed, the whole digest."""
    draft = signed(ceremonies.hand_over(), "ab")
    checked = ceremony.check(draft)
    text = ceremonies.on_page()
    assert "Publisher    Example Software" in text
    assert "Bundle       2, after bundle 1 of 2027-01-15" in text
    assert "Until now    1 of 1 roots must sign" in text
    assert "From now on  3 of 5 roots must sign" in text
    for root in roots("bcdef"):
        assert f"root in      {spoken(root.kid)}" in text
    assert f"root out     {spoken(roots('a')[0].kid)}" in text
    new = [key for kid, key in checked.bundle.keys.items() if kid not in checked.before.keys]
    assert len(new) == 4
    assert all(spoken(key.kid) in text for key in new)
    assert text.count("[x]") == 2
    assert f"[ ] {spoken(roots('c')[0].kid)}  (this root)" in text
    assert "Missing  2 of the roots of bundle 2" in text
    assert text.split("DIGEST OF BUNDLE 2")[1].split() == groups(checked.bundle.digest)


def test_it_fits_a_page_and_a_terminal() -> None:
    """Plain ASCII, at most 80 columns."""
    text = ceremonies.on_page()
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80


def test_a_foreign_name_cannot_look_like_another_line() -> None:
    """Line ends, other directions and letters that look the same are written as numbers, and cut."""
    assert plain("Acme\nThumbprint   0000") == "Acme\\u000aThumbprint   0000"
    assert plain("\u202eemcA") == "\\u202eemcA"
    assert plain("Аcme") == "\\u0410cme"
    assert len(plain("\u202e" * 500)) == 60


def test_stolen_keys_and_dangers_are_said() -> None:
    """A stolen key by name, one root alone, no root to spare, nobody who can sign."""
    chain = begun(2)
    stolen = next(key for key in chain.newest.keys.values() if key.role == "test")
    text = lines_of(chain, revoked=[Revocation(stolen.kid, 12, bytes(32))])
    assert f"stolen       {spoken(stolen.kid)}" in text
    assert "12 certificates of it are honest" in text
    assert "STOLEN\n" in text.split("STOLEN KEYS")[0]
    assert "One root alone decides everything" in text
    publics = [root.public for root in roots("bcd")]
    assert "No root can be spared" in lines_of(chain, roots=publics, threshold=3)
    every = [key.kid for key in chain.newest.keys.values() if key.role == "issue"]
    assert "Certificates for products can be signed by nobody." in lines_of(chain, drop_kids=every)


def test_bundles_in_force_are_told_in_the_same_words() -> None:
    """Bundle 1 brings everything in; each next one says what it changed."""
    chain = next_of(begun(1), "bcdef", 3, "abcd", add_keys=keys(3)[1:2])
    first, second = ("\n".join(changes(chain, bundle)) for bundle in chain.bundles)
    assert first.count("key  in") == 2
    assert f"root in      {spoken(roots('a')[0].kid)}" in first
    assert second.count("key  in") == 1
    assert "key  stay    2, of 1 for products, 1 for test products" in second
    assert f"root out     {spoken(roots('a')[0].kid)}" in second


def test_the_page_shows_what_the_program_makes() -> None:
    """docs/root-ceremony.md has the transcript of this very ceremony: python tests/ceremonies.py --update."""
    page = ceremonies.PAGE.read_text("utf-8")
    assert ceremonies.update(page) == page
    assert trust.MAX_ROOTS == 9
    assert "nine roots" in page
