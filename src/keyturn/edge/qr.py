"""QR codes by the library segno.

Keeps: how they are drawn. The library is imported when one is drawn: a client without the extra ``phone`` never comes here.
"""

from __future__ import annotations

import io

from keyturn.core.errors import KeyturnError


def drawn(text: str) -> str:
    """A code for a terminal, two modules a character. Raises: KeyturnError ``extra_missing``."""
    try:
        import segno
    except ImportError as error:
        raise KeyturnError("extra_missing", "a QR code needs a part: pip install 'keyturn[phone]'") from error
    out = io.StringIO()
    segno.make_qr(text, error="m").terminal(out, compact=True, border=2)
    return out.getvalue()
