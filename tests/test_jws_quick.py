"""Where ``core.jws`` is quick, it says what it says when it is slow."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyturn.core import jws
from keyturn.core.errors import KeyturnError
from keyturn.core.jws import Kind
from keyturn.core.model import b64u

KINDS = (Kind.REQUEST, Kind.RELEASE)
USUAL = jws.payload_of(f".{jws.signing_input(Kind.REQUEST, 'k' * 43, b'', public=bytes(range(32))).split(b'.')[0].decode()}.")
KID = USUAL.index(b'"kid":"') + 7
places = st.integers(0, len(USUAL) - 1)


def test_a_header_that_is_written_here_is_read_quickly() -> None:
    """The same by both readers; of a kind that is not asked for, by none."""
    assert jws._usual_header(USUAL, KINDS) == jws._read_header(json.loads(USUAL), KINDS)
    assert jws._usual_header(USUAL, (Kind.RELEASE,)) is None


@given(places, places, st.binary(max_size=3))
@example(0, 0, b" ")
@example(KID, KID + 6, b"\\u0041")
@example(len(USUAL) - 1, len(USUAL) - 1, b',"crit":["x"]')
@example(len(USUAL) - 1, len(USUAL) - 1, b',"alg":"none"')
def test_a_changed_header_is_never_read_otherwise(begin: int, end: int, put: bytes) -> None:
    """What the quick reader takes, the strict one takes, and finds the same in it."""
    changed = USUAL[:begin] + put + USUAL[end:]
    try:
        found = jws._usual_header(changed, KINDS)
    except KeyturnError:
        with pytest.raises(KeyturnError):
            jws._read_header(jws.loads(changed), KINDS)
        return
    assert found is None or found == jws._read_header(jws.loads(changed), KINDS)


@example("AA+A")
@example("AA/A")
@example("AA==")
@example("AA\nAA")
@given(st.text(st.sampled_from("AQgwYz09-_+/= \n\0é"), max_size=12))
def test_a_text_is_read_if_its_bytes_are_written_so(text: str) -> None:
    """One spelling for each content: no padding, no other alphabet, no spare bits."""
    try:
        data = jws._decode(text)
    except KeyturnError:
        return
    assert b64u(data) == text


@given(st.binary(max_size=100))
def test_what_is_written_is_read(data: bytes) -> None:
    assert jws._decode(b64u(data)) == data


@given(st.integers(-(10**20), 10**20))
def test_numbers_have_a_bound(number: int) -> None:
    data = b'{"n":%d}' % number
    if abs(number) <= 2**53:
        assert jws.loads(data) == {"n": number}
    else:
        with pytest.raises(KeyturnError, match="too large"):
            jws.loads(data)
