"""The firmware's table: what it says, what is absent, and that no bytes break the reader."""

from __future__ import annotations

import struct
import time

from hypothesis import given
from hypothesis import strategies as st

from keyturn.edge.probes.smbios import MAX_STRUCTURES, parse, structures, uuid_text
from keyturn.testing.windows_parts import smbios

WORDS = {
    "bios_vendor": "Example Firmware", "bios_version": "1.14.2", "bios_date": "06/01/2022",
    "sys_vendor": "Example Computers", "product_name": "Office 7080", "product_serial": "C2VTC34",
    "product_uuid": "4c4c4544-004d-5a57-82d9-876849a57176", "board_vendor": "Example Computers", "board_name": "0KC9NP",
    "board_serial": "/C2VTC34/CNWS2000A57176/", "board_asset_tag": "Büro 7", "chassis_asset_tag": "No Asset Tag",
}  # fmt: skip


def test_every_word_is_read_as_it_was_written() -> None:
    """The words have the names that Linux gives them, and adapters on the board their place on the bus."""
    firmware = parse(smbios(WORDS, [(0, 0x1F, 6), (3, 0, 1)]))
    assert firmware.words == WORDS
    assert firmware.onboard == {(0, 0x1F, 6), (3, 0, 1)}


def test_what_is_not_there_is_absent() -> None:
    """A word without a text is no word; a table without structures says nothing but its empty UUID."""
    assert parse(smbios({"sys_vendor": "  ", "bios_vendor": "X"})).words == {
        "bios_vendor": "X", "product_uuid": "00000000-0000-0000-0000-000000000000",
    }  # fmt: skip
    for nothing in (b"", b"\0" * 7, struct.pack("<BBBBI", 0, 3, 2, 0, 0)):
        assert parse(nothing).words == {}


def test_the_uuids_first_fields_turned_with_version_2_6() -> None:
    """The bytes 33 22 11 00 55 44 77 66 … are one UUID before, and another since (DSP0134, 7.2.1)."""
    raw = bytes.fromhex("33221100554477668899aabbccddeeff")
    assert uuid_text(raw, little=True) == "00112233-4455-6677-8899-aabbccddeeff"
    assert uuid_text(raw, little=False) == "33221100-5544-7766-8899-aabbccddeeff"
    for version in ((2, 5), (2, 6), (3, 7)):
        assert parse(smbios(WORDS, version=version)).words["product_uuid"] == WORDS["product_uuid"]


def test_the_first_structure_of_a_type_speaks() -> None:
    """A second board does not take the first one's place, as in Linux."""
    one, two = smbios({"board_serial": "FIRST12345"})[8:-6], smbios({"board_serial": "SECOND2345"})[8:]
    assert parse(struct.pack("<BBBBI", 0, 3, 2, 0, len(one + two)) + one + two).words["board_serial"] == "FIRST12345"


def test_lengths_are_believed_only_within_bounds() -> None:
    """A length below four, a text that never ends, a number without a text, a table longer than it says: nothing more."""
    assert list(structures(b"\1\3\0\0\0\0")) == []
    assert list(structures(b"\1\4\0\0text without an end")) == []
    (only,) = structures(b"\2\x0f\0\0\1\2\3\xff\0\0\0\0\0\0\0one\0\0")
    assert (only.text(4), only.text(5), only.text(7), only.text(99)) == ("one", None, None, None)
    cut = struct.pack("<BBBBI", 0, 3, 2, 0, 30) + smbios(WORDS)[8:]
    assert parse(cut).words == {}


def test_a_table_of_nothing_but_structures_ends() -> None:
    """Ten times the bound takes no longer than the bound."""
    began = time.monotonic()
    assert len(list(structures(b"\x80\4\0\0\0\0" * (10 * MAX_STRUCTURES)))) == MAX_STRUCTURES
    assert time.monotonic() - began < 5


@given(st.binary(max_size=400))
def test_no_bytes_break_it(data: bytes) -> None:
    """Whatever stands in the table, words are texts and places are numbers."""
    for raw in (data, struct.pack("<BBBBI", 0, 3, 2, 0, len(data)) + data):
        assert all(parse(raw).words.values()), "a word that is there says something"


@given(st.data())
def test_a_damaged_table_gives_what_is_left(data: st.DataObject) -> None:
    """One byte changed, or the end cut off: still an answer."""
    table = bytearray(smbios(WORDS, [(0, 31, 6)]))
    at = data.draw(st.integers(0, len(table) - 1))
    table[at] ^= data.draw(st.integers(1, 255))
    assert isinstance(parse(bytes(table)).words, dict)
    assert isinstance(parse(bytes(table[:at])).words, dict)
