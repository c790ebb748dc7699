"""The firmware's table (SMBIOS, DMTF DSP0134), taken apart: the words that Linux shows below ``/sys/class/dmi/id``.

Keeps the format and its bounds. Leaves to others: where the table is read, and what is an individual value.

Rules:

- The first structure of a type speaks, as in Linux; a word that a structure is too short for, or that names a text it does
  not have, is absent. A table that is cut off or nonsense gives what came before; nothing raises.
- A UUID's first three fields are little-endian since version 2.6, as Linux writes them too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

MAX_TABLE = 1 << 20  # Bytes. Version 2 has at most 64 KiB, real tables some KiB.
MAX_STRUCTURES = 4096
_END = 127
_ONBOARD = 41
_NETWORK = (0x05, 0x0B)  # Ethernet, wireless LAN (DSP0134, 7.42.2)
# Structure type: word and the offset of its text's number (DSP0134, 7.1 to 7.4).
_WORDS = {
    0: {"bios_vendor": 4, "bios_version": 5, "bios_date": 8},
    1: {"sys_vendor": 4, "product_name": 5, "product_serial": 7},
    2: {"board_vendor": 4, "board_name": 5, "board_serial": 7, "board_asset_tag": 8},
    3: {"chassis_asset_tag": 8},
}


class Structure(NamedTuple):
    """One entry: its type, the formatted part with its header, and the texts that it names by number from 1."""

    kind: int
    data: bytes
    texts: tuple[str, ...]

    def text(self, offset: int) -> str | None:
        number = self.data[offset] if offset < len(self.data) else 0
        return (self.texts[number - 1].strip(" \t\r\n\0") or None) if 0 < number <= len(self.texts) else None


class Firmware(NamedTuple):
    """What a table says: ``words`` by their names in sysfs, and where on the PCI bus built-in adapters are."""

    words: dict[str, str]
    onboard: frozenset[tuple[int, int, int]]  # bus, device, function


def parse(raw: bytes) -> Firmware:
    """Take apart what Windows returns for the provider ``RSMB``: calling method, version, length (8 bytes), the table."""
    if len(raw) < 8:
        return Firmware({}, frozenset())
    _, major, minor, _, length = struct.unpack_from("<BBBBI", raw)
    words: dict[str, str] = {}
    onboard = set()
    seen = set()
    for item in structures(raw[8 : 8 + min(length, MAX_TABLE)]):
        if item.kind == _ONBOARD and len(item.data) >= 11 and item.data[5] & 0x7F in _NETWORK:
            onboard.add((item.data[9], item.data[10] >> 3, item.data[10] & 7))
        if item.kind in seen or item.kind not in _WORDS:
            continue
        seen.add(item.kind)
        words |= {word: text for word, offset in _WORDS[item.kind].items() if (text := item.text(offset))}
        if item.kind == 1 and len(item.data) >= 24:
            words["product_uuid"] = uuid_text(item.data[8:24], little=(major, minor) >= (2, 6))
    return Firmware(words, frozenset(onboard))


def structures(table: bytes) -> Iterator[Structure]:
    """Yield a table's structures up to its end mark, its end, or the first that is not one."""
    at = 0
    for _ in range(MAX_STRUCTURES):
        if at + 4 > len(table):
            return
        kind, length = table[at], table[at + 1]
        end = table.find(b"\0\0", at + length)
        if length < 4 or end < 0:
            return
        texts = table[at + length : end].split(b"\0") if end > at + length else []
        yield Structure(kind, table[at : at + length], tuple(text.decode("utf-8", "replace") for text in texts))
        if kind == _END:
            return
        at = end + 2


def uuid_text(data: bytes, *, little: bool) -> str:
    """Write 16 bytes as a UUID (DSP0134, 7.2.1)."""
    parts = (data[3::-1], data[5:3:-1], data[7:5:-1]) if little else (data[:4], data[4:6], data[6:8])
    return "-".join(part.hex() for part in (*parts, data[8:10], data[10:16]))
