"""The list of words in which keys on paper and telephone codes are written: BIP-39, English.

Keeps: where the list comes from, and nothing else: what is spelled with it is ``core.phone.words``'s and ``paper``'s.
"""

from __future__ import annotations

import functools

from keyturn.core.errors import KeyturnError
from keyturn.core.phone.words import Book


@functools.cache
def english() -> Book:
    """Raises: KeyturnError ``extra_missing``: a client without its extra reads and writes digits alone."""
    try:
        from mnemonic import Mnemonic
    except ImportError as error:
        raise KeyturnError("extra_missing", "words need the list of words: pip install 'keyturn[phone]'") from error
    return Book(Mnemonic("english").wordlist)
