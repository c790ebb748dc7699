"""Whom a Windows access list lets in: its text form (SDDL, MS-DTYP 2.5.1) judged as mode 0600 is judged elsewhere.

Keeps the lists that Keyturn gives its own files and folders. Leaves to others: setting and reading them (``windows``).

- ``PRIVATE``, where other systems have mode 0600: owner, system and administrators; nothing is inherited.
- ``OPEN_FOLDER``, for the system's store, where they have 0755: everybody may read what is in it, administrators own and
  change it. ``ProgramData`` lets any user make folders, so one that is found there gets this list and this owner first.
"""

from __future__ import annotations

import re

PRIVATE = "D:P(A;;FA;;;OW)(A;;FA;;;SY)(A;;FA;;;BA)"
OPEN_FOLDER = "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FRFX;;;BU)"
# Owner rights, the local system, administrators: who may read everything on a computer anyway.
_TRUSTED = frozenset({"OW", "SY", "BA", "S-1-3-4", "S-1-5-18", "S-1-5-32-544"})
_ENTRY = re.compile(r"\(([^()]*)\)")
_ALLOWS = ("A", "OA", "XA", "ZA")


def lets_others_in(text: str) -> bool:
    """Whether somebody else than owner, system and administrators is allowed anything.

    No list at all (``D:NO_ACCESS_CONTROL``, or none) allows everybody everything; an empty one nobody anything.
    """
    owner = re.match(r"O:(S-[0-9-]+|[A-Z]{2})", text)
    _, found, entries = text.partition("D:")
    entries = entries.partition("S:")[0] if "S:(" in entries else entries
    if not found or entries.startswith("NO_ACCESS_CONTROL"):
        return True
    trusted = _TRUSTED | ({owner[1]} if owner else set())
    for entry in _ENTRY.findall(entries):
        fields = entry.split(";")
        if len(fields) < 6:
            return True
        if fields[0] in _ALLOWS and fields[5] not in trusted and "IO" not in re.findall("..", fields[1]):
            return True
    return False
